//! The segmenter, told of pictures and sound by hand.

use super::*;
use crate::{
    media::Track,
    timeline::{Placed, Timeline},
};
use castlog_cmaf::read;
use castlog_playlist::low_latency;
use proptest::prelude::*;
use std::time::Duration;

const RATE: u32 = 48_000;

fn unit(ms: i64, sync: bool) -> AccessUnit {
    AccessUnit {
        dts: ms * 1000,
        pts: ms * 1000,
        sync,
        data: Bytes::from_static(b"unit"),
    }
}

fn segmenter(tracks: Vec<Kind>) -> Segmenter {
    Segmenter::new(&Settings {
        part_target: 250_000,
        longest: 2_400_000,
        first_media_sequence: 7,
        tracks,
    })
}

const PICTURE: Kind = Kind::Video {
    frame_rate_milli: 25_000,
};

const SOUND: Kind = Kind::Audio {
    rate: RATE,
    channels: 2,
};

/// (track, media sequence, start in ms) of each segment.
fn segments(outputs: &[Output]) -> Vec<(usize, u64, i64)> {
    let of = |output: &Output| match output {
        Output::Segment {
            track,
            media_sequence,
            start,
            ..
        } => Some((*track, *media_sequence, start / 1000)),
        Output::Part { .. } => None,
    };
    outputs.iter().filter_map(of).collect()
}

/// Six seconds at 25 fps with keyframes and boundaries every two, and sound
/// where `audible` says so.
fn run(audible: impl Fn(i64) -> bool) -> Vec<Output> {
    let mut segmenter = segmenter(vec![PICTURE, PICTURE, SOUND]);
    let mut out = Vec::new();
    let mut frame = 0;
    for picture in 0..150 {
        let ms = picture * 40;
        if picture % 50 == 0 {
            segmenter.boundary(ms * 1000);
        }
        out.extend(segmenter.push(0, unit(ms, picture % 50 == 0)).unwrap());
        out.extend(segmenter.advance(ms * 1000).unwrap());
        // The second rendition lags by five pictures.
        if picture >= 5 {
            let lagging = (picture - 5) * 40;
            out.extend(segmenter.push(1, unit(lagging, (picture - 5) % 50 == 0)).unwrap());
        }
        while frame * 1024 * 1000 / i64::from(RATE) <= ms {
            let pts = frame * 1024 * 1000 / i64::from(RATE);
            if audible(pts) {
                out.extend(segmenter.push(2, unit(pts, true)).unwrap());
            }
            frame += 1;
        }
    }
    for picture in 145..150 {
        out.extend(segmenter.push(1, unit(picture * 40, false)).unwrap());
    }
    let (last, next) = segmenter.finish().unwrap();
    assert_eq!(next, 10);
    out.extend(last);
    out
}

#[test]
fn all_tracks_share_numbers_and_starts() {
    let out = run(|_| true);
    for track in 0..3 {
        let of: Vec<_> = segments(&out).into_iter().filter(|(of, ..)| *of == track).collect();
        let numbers: Vec<u64> = of.iter().map(|(_, number, _)| *number).collect();
        assert_eq!(numbers, [7, 8, 9]);
        for (index, (_, _, start)) in of.iter().enumerate() {
            let boundary = index as i64 * 2000;
            assert!((start - boundary).abs() <= 11, "track {track} at {start}");
        }
    }
}

#[test]
fn parts_keep_to_the_target_and_make_up_the_segment() {
    let out = run(|_| true);
    let mut joined = Vec::new();
    for output in out {
        match output {
            Output::Part {
                track: 0,
                info,
                bytes,
                index,
                ..
            } => {
                assert_eq!(info.duration, if index == 8 { 80_000 } else { 240_000 });
                assert_eq!(info.independent, index == 0);
                joined.extend_from_slice(&bytes);
            }
            Output::Segment {
                track: 0, bytes, parts, ..
            } => {
                assert_eq!(parts.len(), 9);
                assert_eq!(joined, bytes);
                joined.clear();
            }
            _ => {}
        }
    }
}

#[test]
fn a_hole_in_the_sound_is_filled() {
    let out = run(|ms| !(1500..4500).contains(&ms));
    let sound: Vec<_> = segments(&out).into_iter().filter(|(track, ..)| *track == 2).collect();
    assert_eq!(sound.len(), 3);
    let mut next = None;
    for output in &out {
        let Output::Segment { track: 2, bytes, .. } = output else {
            continue;
        };
        for chunk in read::segment(bytes).unwrap() {
            assert!(next.is_none_or(|next| next == chunk.decode_time), "a hole");
            next = Some(chunk.decode_time + chunk.duration());
        }
    }
}

#[test]
fn sound_that_stopped_goes_on_silently() {
    let mut segmenter = segmenter(vec![PICTURE, SOUND]);
    segmenter.boundary(0);
    segmenter.push(0, unit(0, true)).unwrap();
    segmenter.push(1, unit(0, true)).unwrap();
    segmenter.boundary(2_000_000);
    segmenter.advance(3_000_000).unwrap();
    let out = segmenter.silence(1, 2_500_000).unwrap();
    assert_eq!(segments(&out), [(1, 7, 0)]);
    // A frame that comes late after all is not heard twice.
    assert!(segmenter.push(1, unit(1000, true)).unwrap().is_empty());
}

/// How long the segments of a track are together.
fn duration(outputs: &[Output], wanted: usize) -> Micros {
    let of = |output: &Output| -> Micros {
        match output {
            Output::Segment { track, parts, .. } if *track == wanted => parts.iter().map(|part| part.duration).sum(),
            _ => 0,
        }
    };
    outputs.iter().map(of).sum()
}

#[test]
fn sound_that_ends_early_costs_no_segment_of_the_picture() {
    let out = run(|ms| ms < 3000);
    for track in 0..3 {
        let of = segments(&out).into_iter().filter(|(of, ..)| *of == track);
        let numbers: Vec<u64> = of.map(|(_, number, _)| number).collect();
        assert_eq!(numbers, [7, 8, 9], "track {track}");
    }
    let [picture, sound] = [0, 2].map(|track| duration(&out, track));
    assert!((picture - sound).abs() <= 40_000, "{picture} and {sound} us");
}

#[test]
fn sound_ends_no_earlier_than_the_picture() {
    // The end of a picture lies anywhere within a frame of sound.
    for count in 30..46 {
        for audible in [700, 5000] {
            let mut segmenter = segmenter(vec![PICTURE, SOUND]);
            segmenter.boundary(0);
            let mut out = Vec::new();
            for frame in 0..count {
                out.extend(segmenter.push(0, unit(frame * 40, frame == 0)).unwrap());
                out.extend(segmenter.advance(frame * 40_000).unwrap());
            }
            for frame in 0_i64.. {
                let ms = frame * 1024 * 1000 / i64::from(RATE);
                // What has not come in when the encoder drops is mostly less than a picture.
                if ms >= audible.min(count * 40 - 30) {
                    break;
                }
                out.extend(segmenter.push(1, unit(ms, true)).unwrap());
            }
            let (last, next) = segmenter.finish().unwrap();
            out.extend(last);
            let [picture, sound] = [0, 1].map(|track| duration(&out, track));
            assert_eq!(picture, count * 40_000);
            let ahead = sound - picture;
            assert!((0..24_000).contains(&ahead), "{count} pictures: {ahead} us ahead");
            assert_eq!(next, 8);
        }
    }
}

#[test]
fn sound_goes_no_further_than_a_boundary_that_no_picture_reaches() {
    let mut segmenter = segmenter(vec![PICTURE, SOUND]);
    let mut out = Vec::new();
    segmenter.boundary(0);
    for ms in (0..2000).step_by(40) {
        out.extend(segmenter.push(0, unit(ms, ms == 0)).unwrap());
        out.extend(segmenter.advance(ms * 1000).unwrap());
    }
    // From here on a frame of sound begins 8 ms before the boundary, so that it would open the
    // next segment.
    out.extend(segmenter.push(1, unit(8, true)).unwrap());
    segmenter.boundary(2_000_000);
    let (last, next) = segmenter.finish().unwrap();
    out.extend(last);
    let parts = out.iter().filter_map(|output| match output {
        Output::Part { media_sequence, .. } => Some(*media_sequence),
        Output::Segment { .. } => None,
    });
    assert_eq!(parts.max(), Some(7), "a part that no segment is made of");
    assert_eq!(segments(&out), [(0, 7, 0), (1, 7, 8)]);
    assert_eq!(next, 8);
}

#[test]
fn a_segment_that_begins_with_the_last_picture_has_sound() {
    let mut segmenter = segmenter(vec![PICTURE, SOUND]);
    let mut out = Vec::new();
    for ms in (0..=4000).step_by(40) {
        if ms % 4000 == 0 {
            segmenter.boundary(ms * 1000);
        }
        out.extend(segmenter.push(0, unit(ms, ms % 4000 == 0)).unwrap());
        out.extend(segmenter.advance(ms * 1000).unwrap());
        if ms == 0 {
            out.extend(segmenter.push(1, unit(ms, true)).unwrap());
        }
    }
    let (last, next) = segmenter.finish().unwrap();
    out.extend(last);
    // A frame of sound ends half behind the boundary, and the next one opens the segment.
    assert_eq!(segments(&out).len(), 4);
    assert_eq!(next, 9);
}

#[test]
fn silence_ends_where_the_next_epoch_begins() {
    let mut segmenter = segmenter(vec![PICTURE, SOUND]);
    segmenter.boundary(0);
    let mut out = segmenter.push(1, unit(0, true)).unwrap();
    for ms in (0..1990).step_by(8) {
        out.extend(segmenter.push(0, unit(ms, ms == 0)).unwrap());
        out.extend(segmenter.advance(ms * 1000).unwrap());
    }
    // A quarter of a frame of sound behind the end of one.
    segmenter.end_at(1_990_000);
    let (last, next) = segmenter.finish().unwrap();
    out.extend(last);
    assert_eq!(next, 8);
    let sound = duration(&out, 1);
    assert!((sound - 1_990_000).abs() <= 10_700, "{sound} us");
}

#[test]
fn a_last_segment_that_a_track_lacks_is_left_out() {
    let mut segmenter = segmenter(vec![PICTURE, SOUND]);
    let mut out = Vec::new();
    segmenter.boundary(0);
    for ms in (0..2000).step_by(40) {
        out.extend(segmenter.push(0, unit(ms, ms == 0)).unwrap());
        out.extend(segmenter.push(1, unit(ms, true)).unwrap());
    }
    segmenter.boundary(2_000_000);
    out.extend(segmenter.push(0, unit(2000, true)).unwrap());
    let (last, next) = segmenter.finish().unwrap();
    out.extend(last);
    assert_eq!(segments(&out).len(), 2);
    assert_eq!(next, 8);
}

#[test]
fn a_track_that_lost_its_keyframe_stays_on_the_common_numbers() {
    let mut segmenter = segmenter(vec![PICTURE]);
    for boundary in [0, 2000, 4000] {
        segmenter.boundary(boundary * 1000);
    }
    let mut out = segmenter.push(0, unit(0, true)).unwrap();
    // The keyframe of the second segment is missing.
    out.extend(segmenter.push(0, unit(2040, false)).unwrap());
    out.extend(segmenter.push(0, unit(4000, true)).unwrap());
    let (last, next) = segmenter.finish().unwrap();
    out.extend(last);
    assert_eq!(segments(&out), [(0, 7, 0), (0, 9, 4000)]);
    assert_eq!(next, 10);
}

#[test]
fn sound_does_not_wait_for_ever() {
    let mut segmenter = segmenter(vec![PICTURE, SOUND]);
    segmenter.boundary(0);
    segmenter.push(0, unit(0, true)).unwrap();
    let mut parts = 0;
    for ms in (0..MAX_HOLD / 1000 + 2000).step_by(20) {
        parts += segmenter.push(1, unit(ms, true)).unwrap().len();
    }
    assert!(parts > 0);
}

#[test]
fn no_segment_is_longer_than_the_longest() {
    // A keyframe and boundary every 4.4 s, more than twice what is aimed at,
    // with sound and without.
    for tracks in [vec![PICTURE], vec![PICTURE, SOUND]] {
        let with_sound = tracks.len() > 1;
        let mut segmenter = segmenter(tracks);
        let mut out = Vec::new();
        let mut frame = 0;
        for picture in 0..330 {
            let ms = picture * 40;
            let sync = picture % 110 == 0;
            if sync {
                segmenter.boundary(ms * 1000);
            }
            out.extend(segmenter.push(0, unit(ms, sync)).unwrap());
            out.extend(segmenter.advance(ms * 1000).unwrap());
            while with_sound && frame * 1024 * 1000 / i64::from(RATE) <= ms {
                out.extend(
                    segmenter
                        .push(1, unit(frame * 1024 * 1000 / i64::from(RATE), true))
                        .unwrap(),
                );
                frame += 1;
            }
        }
        out.extend(segmenter.finish().unwrap().0);
        let durations: Vec<Micros> = out
            .iter()
            .filter_map(|output| match output {
                Output::Segment { parts, .. } => Some(parts.iter().map(|part| part.duration).sum()),
                Output::Part { .. } => None,
            })
            .collect();
        assert_eq!(durations.len(), if with_sound { 6 } else { 3 });
        for duration in durations {
            assert!((2_000_000..=2_400_000).contains(&duration), "{duration}");
        }
    }
}

/// What a picture encoder of so many frames a second makes that leaves pictures out: how many
/// before each one. Its times are rounded to milliseconds, as FLV's, and pictures are shown
/// 80 ms after they are decoded.
fn pictures(frame_rate: i64, left_out: &[i64]) -> Vec<AccessUnit> {
    let places = left_out.iter().scan(0, |place, left_out| {
        *place += left_out + 1;
        Some(*place - 1)
    });
    let mut gop = None;
    let of = |place: i64| {
        let ms = (place * 2000 + frame_rate) / (2 * frame_rate);
        // The first one of every two seconds.
        let sync = gop.replace(ms / 2000) != Some(ms / 2000);
        AccessUnit {
            pts: (ms + 80) * 1000,
            ..unit(ms, sync)
        }
    };
    places.map(of).collect()
}

/// What becomes of it.
fn packaged(frame_rate: i64, part_target: Micros, longest: Micros, sent: &[AccessUnit]) -> Vec<Output> {
    let mut segmenter = Segmenter::new(&Settings {
        part_target,
        longest,
        first_media_sequence: 0,
        tracks: vec![Kind::Video {
            frame_rate_milli: (frame_rate * 1000) as u32,
        }],
    });
    let mut out = Vec::new();
    for unit in sent {
        if unit.sync {
            segmenter.boundary(unit.pts);
        }
        out.extend(segmenter.push(0, unit.clone()).unwrap());
    }
    out.extend(segmenter.finish().unwrap().0);
    out
}

/// Holds the parts of what an encoder has sent against RFC 8216bis §4.4.4.9, and its pictures
/// against what they were.
fn check_pictures(frame_rate: i64, part_target: Micros, sent: &[AccessUnit]) {
    let out = packaged(frame_rate, part_target, 10 * SECOND, sent);
    let announced = Duration::from_micros(part_target as u64);
    let frame = Duration::from_micros(1_000_000 / frame_rate as u64);
    let target = low_latency::part_target(announced, frame).as_micros() as i64;
    let (mut times, mut next) = (Vec::new(), None);
    let segments = out.iter().filter_map(|output| match output {
        Output::Segment { parts, bytes, .. } => Some((parts, bytes)),
        Output::Part { .. } => None,
    });
    let number = segments.clone().count();
    for (segment, (parts, bytes)) in segments.enumerate() {
        for (index, part) in parts.iter().enumerate() {
            // What follows the last picture of all is not known.
            if segment + 1 == number {
                break;
            }
            assert!(part.duration <= target, "{part:?} of {target}");
            let may_be_short = part.independent || index + 1 == parts.len();
            assert!(
                part.duration * 100 >= target * 85 || may_be_short,
                "{part:?} of {target}"
            );
        }
        for chunk in read::segment(bytes).unwrap() {
            assert!(next.is_none_or(|next| next == chunk.decode_time), "a hole");
            let mut decoded = chunk.decode_time;
            for sample in &chunk.samples {
                assert!(sample.composition_offset >= 0, "shown before it is decoded");
                times.push(decoded as i64 + i64::from(sample.composition_offset));
                decoded += u64::from(sample.duration);
            }
            next = Some(decoded);
        }
    }
    let shown: Vec<i64> = sent.iter().map(|unit| unit.pts * 9 / 100).collect();
    assert_eq!(times, shown, "every picture is shown when it was to be");
    // No time is lost either: the last picture lasts as long as the one before it.
    let over = next.unwrap() as i64 - sent.last().unwrap().dts * 9 / 100;
    let before = match sent {
        [.., one, other] => (other.dts - one.dts) * 9 / 100,
        _ => 3000,
    };
    assert_eq!(over, before, "ticks behind the last picture");
}

#[test]
fn a_picture_that_is_left_out_breaks_no_part() {
    // Four pictures are less than a part should be, and with the next one more.
    let left_out: Vec<i64> = (0..100).map(|n| i64::from(n % 10 == 9)).collect();
    check_pictures(25, 200_000, &pictures(25, &left_out));
    // And where it is the last one of a segment.
    let mut left_out = vec![0; 150];
    left_out[49] = 1;
    left_out[98] = 3;
    check_pictures(25, 200_000, &pictures(25, &left_out));
    // A picture stands for a second.
    left_out[20] = 25;
    check_pictures(25, 200_000, &pictures(25, &left_out));
}

#[test]
fn a_picture_that_stands_for_long_moves_no_segment() {
    // The last one of a segment, which has no room for a second more.
    let mut left_out = vec![0; 150];
    left_out[30] = 20;
    let sent = pictures(25, &left_out);
    let out = packaged(25, 200_000, 2_400_000, &sent);
    let lasts: Vec<Vec<Micros>> = out
        .iter()
        .filter_map(|output| match output {
            Output::Segment { parts, .. } => Some(parts.iter().map(|part| part.duration).collect()),
            Output::Part { .. } => None,
        })
        .collect();
    for segment in &lasts[..2] {
        assert_eq!(segment.iter().sum::<Micros>(), 2_000_000, "{segment:?}");
    }
    assert_eq!(lasts[0].last(), Some(&840_000), "{lasts:?}");
    assert!(lasts[1].iter().all(|lasts| *lasts == 200_000), "{lasts:?}");
}

proptest! {
    #[test]
    fn pictures_that_are_left_out_break_no_part(
        frame_rate in prop::sample::select(vec![10_i64, 12, 15, 24, 25, 30, 48, 50, 60, 120]),
        part_target in prop::sample::select(vec![100_000, 200_000, 250_000, 333_000, 500_000, 1_000_000]),
        left_out in prop::collection::vec(prop_oneof![6 => Just(0_i64), 1 => 1_i64..12], 1..400),
        stands in any::<prop::sample::Index>(),
    ) {
        // No picture stands for longer than a part, but one for a second.
        let most = (part_target * frame_rate / SECOND - 1).max(0);
        let mut left_out: Vec<i64> = left_out.into_iter().map(|n| n.min(most)).collect();
        *stands.get_mut(&mut left_out) = frame_rate;
        check_pictures(frame_rate, part_target, &pictures(frame_rate, &left_out));
    }
}

/// What is seen of a track, segment by segment.
#[derive(Default)]
struct Seen {
    next_number: Option<u64>,
    next_part: u32,
    /// Where the next chunk begins in decoding time.
    next_time: Option<u64>,
    /// Of the newest segment, in seconds.
    start: f64,
}

impl Seen {
    fn part(&mut self, media_sequence: u64, index: u32) {
        assert_eq!(media_sequence, *self.next_number.get_or_insert(media_sequence));
        assert_eq!(index, self.next_part, "in {media_sequence}");
        self.next_part += 1;
    }

    fn segment(&mut self, media_sequence: u64, timescale: u32, bytes: &[u8]) {
        assert_eq!(Some(media_sequence), self.next_number);
        let chunks = read::segment(bytes).unwrap();
        assert_eq!(chunks.len() as u32, self.next_part);
        self.start = chunks[0].first_presentation_time().unwrap() as f64 / f64::from(timescale);
        for chunk in chunks {
            let expected = *self.next_time.get_or_insert(chunk.decode_time);
            assert_eq!(chunk.decode_time, expected, "a hole in {media_sequence}");
            self.next_time = Some(chunk.decode_time + chunk.duration());
        }
        (self.next_number, self.next_part) = (Some(media_sequence + 1), 0);
    }
}

/// Twenty-five hours, for the decoding time of the picture outgrows 32 bits after 13.3,
/// and that of the sound after 24.9. The times of the encoder begin anew in between.
#[test]
fn a_day_keeps_its_numbers_and_its_clock() {
    const SECONDS: i64 = 25 * 3600;
    let first = u32::MAX - 5 * 3600 * 1000;
    let mut timeline = Timeline::default();
    let mut place = |track, ms: i64| match timeline.place(track, first.wrapping_add(ms as u32)) {
        Placed::At(time) => AccessUnit {
            dts: time,
            pts: time,
            ..unit(0, true)
        },
        placed => panic!("{placed:?} at {ms} ms"),
    };
    let picture = Kind::Video { frame_rate_milli: 1000 };
    let mut segmenter = segmenter(vec![picture, SOUND]);
    let mut seen = [Seen::default(), Seen::default()];
    let mut starts: [VecDeque<f64>; 2] = Default::default();
    let mut see = |outputs: Vec<Output>| {
        for output in outputs {
            match output {
                Output::Part {
                    track,
                    media_sequence,
                    index,
                    ..
                } => seen[track].part(media_sequence, index),
                Output::Segment {
                    track,
                    media_sequence,
                    bytes,
                    ..
                } => {
                    let timescale = [cmaf::VIDEO_TIMESCALE, RATE][track];
                    seen[track].segment(media_sequence, timescale, &bytes);
                    starts[track].push_back(seen[track].start);
                }
            }
        }
        while let [Some(picture), Some(sound)] = [0, 1].map(|track| starts[track].front().copied()) {
            let frame = 1024.0 / f64::from(RATE);
            assert!(
                (picture - sound).abs() <= frame,
                "picture at {picture} s, sound at {sound} s"
            );
            for starts in &mut starts {
                starts.pop_front();
            }
        }
    };
    let mut frame = 0;
    // One picture a second, and a segment of two.
    for second in 0..SECONDS {
        let sync = second % 2 == 0;
        let picture = AccessUnit {
            sync,
            ..place(Track::Video, second * 1000)
        };
        let dts = picture.dts;
        if sync {
            segmenter.boundary(dts);
        }
        see(segmenter.push(0, picture).unwrap());
        see(segmenter.advance(dts).unwrap());
        while frame * 1024 < second * i64::from(RATE) {
            let ms = (frame * 1024 * 1000 + i64::from(RATE) / 2) / i64::from(RATE);
            see(segmenter.push(1, place(Track::Audio, ms)).unwrap());
            frame += 1;
        }
    }
    let (last, next) = segmenter.finish().unwrap();
    see(last);
    assert_eq!(next, 7 + SECONDS as u64 / 2);
    for (seen, timescale) in seen.iter().zip([cmaf::VIDEO_TIMESCALE, RATE]) {
        assert_eq!(seen.next_number, Some(next));
        let end = seen.next_time.unwrap();
        assert!(end > u64::from(u32::MAX));
        let seconds = end as f64 / f64::from(timescale);
        assert!((seconds - SECONDS as f64).abs() < 1.1, "it ends at {seconds} s");
    }
}
