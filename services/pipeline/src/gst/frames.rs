//! Decoded frames on their way to the encoders: keyframes are forced where
//! segments begin, and a picture that pauses is repeated.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use gstreamer::{self as gst, prelude::*};
use gstreamer_video::DownstreamForceKeyUnitEvent;

use super::{Boundaries, Encoded, Outlet, VideoSettings, lock, samples::from_clock, to_clock};
use crate::{clock::SegmentClock, media::Micros, transcode::skipped};

/// On the fixed clock a frame lasts no longer than this: segments end where a
/// frame does, and must not be longer than was announced.
const PAUSE: Micros = 250_000;

/// Most repetitions of a frame: more than the longest step of the time line
/// has; a decoder that found nothing to show for longer has lost its source.
const REPEATS: usize = 80;

/// What is known of the frames that have passed.
struct Passed {
    clock: Option<SegmentClock>,
    /// Segments begun.
    begun: u32,
    /// The last frame, on the fixed clock.
    last: Option<(Micros, gst::Buffer)>,
}

/// Access units that a decoder may hold, and more: those before them are not waited for.
const HELD: usize = 256;

/// Counts the access units that a decoder takes and makes nothing of: frames come out in
/// the order of their times, so that what one of them has passed does not come any more.
pub(super) fn count_undecodable(taken: &gst::Pad, decoded: &gst::Pad) {
    let times = Arc::new(Mutex::new(BTreeSet::new()));
    let waiting = Arc::clone(&times);
    taken.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(pts) = info.buffer().and_then(|buffer| buffer.pts()) {
            let mut waiting = lock(&waiting);
            waiting.insert(pts);
            if waiting.len() > HELD {
                waiting.pop_first();
            }
        }
        gst::PadProbeReturn::Ok
    });
    decoded.add_probe(gst::PadProbeType::BUFFER, move |_, info| {
        if let Some(pts) = info.buffer().and_then(|buffer| buffer.pts()) {
            let mut times = lock(&times);
            let later = times.split_off(&pts);
            let passed = std::mem::replace(&mut *times, later);
            times.remove(&pts);
            if !passed.is_empty() {
                skipped("undecodable", passed.len() as u64);
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Watches the pad that decoded frames leave from.
pub(super) fn watch(pad: &gst::Pad, boundaries: &Boundaries, settings: &VideoSettings<'_>, out: &Outlet) {
    let boundaries = Arc::clone(boundaries);
    let out = out.clone();
    let after = settings.after;
    let passed = Mutex::new(Passed {
        clock: settings
            .fixed_clock
            .map(|(aim, longest)| SegmentClock::new(aim, longest)),
        begun: 0,
        last: None,
    });
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some((pts, buffer)) = info.buffer().and_then(|buffer| Some((buffer.pts()?, buffer))) else {
            return gst::PadProbeReturn::Ok;
        };
        let time = from_clock(pts.nseconds());
        if after.is_some_and(|after| time <= after) {
            return gst::PadProbeReturn::Drop;
        }
        for repeat in repeats(&passed, time) {
            // Each comes through here by itself; an error meets this frame too.
            if pad.push(repeat).is_err() {
                break;
            }
        }
        let passed = &mut *lock(&passed);
        let begins = match &mut passed.clock {
            Some(clock) => {
                passed.last = Some((time, buffer.copy()));
                let begins = clock.frame(time);
                // Closed: the chain is being taken down.
                if begins && out.encoded.blocking_send(Encoded::Boundary(time)).is_err() {
                    return gst::PadProbeReturn::Ok;
                }
                begins
            }
            None => reached(&boundaries, time),
        };
        if begins {
            passed.begun += 1;
            // An encoder's first frame is a keyframe anyway, and x264enc 1.22
            // stays blind to later events when one is pending then.
            if passed.begun > 1 {
                force_keyframe(pad, pts, passed.begun);
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Whether a boundary has been reached. A keyframe that could not be decoded
/// is made up for by the next frame that could.
fn reached(boundaries: &Boundaries, time: Micros) -> bool {
    let mut boundaries = lock(boundaries);
    let mut reached = false;
    while boundaries.front().is_some_and(|&first| first <= time + 1000) {
        boundaries.pop_front();
        reached = true;
    }
    reached
}

/// The last frame, as often as the pause until `time` wants it.
fn repeats(passed: &Mutex<Passed>, time: Micros) -> Vec<gst::Buffer> {
    let passed = lock(passed);
    let Some((last, frame)) = &passed.last else {
        return Vec::new();
    };
    let times = (1..).map(|n| last + n * PAUSE).take_while(|at| at + PAUSE / 4 < time);
    times
        .take(REPEATS)
        .map(|at| {
            let mut repeat = frame.copy();
            // A buffer just made has one owner.
            if let Some(repeat) = repeat.get_mut() {
                repeat.set_pts(to_clock(at));
                repeat.set_dts(None);
            }
            repeat
        })
        .collect()
}

fn force_keyframe(pad: &gst::Pad, pts: gst::ClockTime, count: u32) {
    let event = DownstreamForceKeyUnitEvent::builder()
        .timestamp(pts)
        .stream_time(pts)
        .running_time(pts)
        .all_headers(true)
        .count(count)
        .build();
    if !pad.push_event(event) {
        tracing::debug!("a keyframe could not be forced");
    }
}
