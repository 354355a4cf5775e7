//! Packs the access units of one track into parts and segments. It is told
//! where segments end; parts it cuts itself, by decoding time: presentation
//! times of streams with B-frames jump back and forth. Pure.
//!
//! No part may be longer than the part target, and none but the last of a segment much
//! shorter (RFC 8216bis §4.4.4.9), or edges may not tell it, nor those behind it. Where an
//! encoder leaves pictures out, no whole number of them may make such a part. Then the next
//! picture is decoded a little before its time, which is when the part ends; when it is
//! shown stays as it was.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use castlog_cmaf as cmaf;
use castlog_playlist::low_latency::{self, AAC_FRAME, SHORTEST_PART};

use crate::{
    media::{AccessUnit, Micros, SECOND},
    segmenter::{Kind, Output},
};

/// Sound whose timestamps stray no further than this from the count of its
/// samples is laid end to end: FLV rounds to milliseconds, encoders jitter.
pub(crate) const AUDIO_TOLERANCE: Micros = SECOND / 20;

/// A frame's duration when nothing tells it: the only frame of an epoch.
const DEFAULT_FRAME: u64 = 3000;

/// What is known of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartInfo {
    /// Duration in microseconds.
    pub duration: Micros,
    /// Bytes.
    pub size: u64,
    /// Whether decoding can start with it.
    pub independent: bool,
}

/// The state of one track.
pub(crate) struct Packager {
    kind: Kind,
    timescale: u32,
    part_target: u64,
    /// What a part that is not the last one of its segment lasts at least.
    part_least: u64,
    longest: u64,
    /// The newest video unit and when it is decoded; how long it lasts the next one tells.
    pending: Option<(u64, AccessUnit)>,
    /// How long before its time the next video unit is decoded.
    early: u64,
    /// From a video unit to the next one, by their own times.
    last_distance: Option<u64>,
    /// Where the next frame of sound goes, in samples.
    audio_next: Option<u64>,
    part: Vec<cmaf::Sample>,
    part_start: u64,
    part_duration: u64,
    segment: BytesMut,
    segment_start: Option<Micros>,
    /// Where the segment begins in decoding time.
    segment_begin: Option<u64>,
    parts: Vec<PartInfo>,
    chunks: u32,
}

impl Packager {
    pub(crate) fn new(kind: Kind, part_target: Micros, longest: Micros) -> Self {
        let timescale = match kind {
            Kind::Video { .. } => cmaf::VIDEO_TIMESCALE,
            Kind::Audio { rate, .. } => rate.max(1),
        };
        let announced = Duration::from_micros(part_target.max(0).cast_unsigned());
        let target = low_latency::part_target(announced, kind.frame());
        let ticks_of = |time: Duration| ticks(time.as_micros().try_into().unwrap_or(Micros::MAX), timescale);
        Self {
            kind,
            timescale,
            part_target: ticks_of(target),
            // One more, since ticks are rounded.
            part_least: ticks_of(target * SHORTEST_PART / 100) + 1,
            longest: ticks(longest, timescale),
            pending: None,
            early: 0,
            last_distance: None,
            audio_next: None,
            part: Vec::new(),
            part_start: 0,
            part_duration: 0,
            segment: BytesMut::new(),
            segment_start: None,
            segment_begin: None,
            parts: Vec::new(),
            chunks: 0,
        }
    }

    /// Where the next frame of sound is expected, once there was one.
    pub(crate) fn audio_end(&self) -> Option<Micros> {
        self.audio_next.map(|next| micros(next, self.timescale))
    }

    /// How long the newest picture lasts as far as can be told; `None` for sound.
    pub(crate) fn picture_lasts(&self) -> Option<Micros> {
        matches!(self.kind, Kind::Video { .. }).then(|| micros(self.newest_lasts(), self.timescale))
    }

    /// The same in ticks: as long as the one before it.
    fn newest_lasts(&self) -> u64 {
        self.last_distance.unwrap_or(DEFAULT_FRAME)
    }

    /// Adds a unit to segment `media_sequence`, unless it would make it too long.
    pub(crate) fn push(
        &mut self,
        track: usize,
        media_sequence: u64,
        unit: AccessUnit,
        out: &mut Vec<Output>,
    ) -> cmaf::Result<()> {
        match self.kind {
            Kind::Video { .. } => {
                let time = ticks(unit.dts, self.timescale);
                if self.room(time) == 0 {
                    return Ok(());
                }
                self.settle(track, media_sequence, Some(time), false, out)?;
                let time = time.saturating_sub(std::mem::take(&mut self.early));
                self.segment_start.get_or_insert(unit.pts);
                self.segment_begin.get_or_insert(time);
                self.pending = Some((time, unit));
            }
            Kind::Audio { .. } => {
                let time = ticks(unit.pts, self.timescale);
                let tolerance = ticks(AUDIO_TOLERANCE, self.timescale);
                let place = match self.audio_next {
                    Some(next) if time.abs_diff(next) <= tolerance => next,
                    // Heard already: a repeated or late frame.
                    Some(next) if time < next => return Ok(()),
                    Some(_) => {
                        // A hole: samples of a chunk lie end to end.
                        self.cut(track, media_sequence, out)?;
                        time
                    }
                    None => time,
                };
                self.audio_next = Some(place + u64::from(AAC_FRAME));
                if self.room(place) < u64::from(AAC_FRAME) {
                    return Ok(());
                }
                self.segment_begin.get_or_insert(place);
                self.segment_start.get_or_insert(micros(place, self.timescale));
                let sample = cmaf::Sample {
                    duration: AAC_FRAME,
                    composition_offset: 0,
                    sync: true,
                    data: unit.data,
                };
                self.add(track, media_sequence, place, sample, out)?;
            }
        }
        Ok(())
    }

    /// Ends segment `media_sequence`; the next one begins at `next`.
    pub(crate) fn close(
        &mut self,
        track: usize,
        media_sequence: u64,
        next: Option<Micros>,
        out: &mut Vec<Output>,
    ) -> cmaf::Result<()> {
        let next = next.map(|next| ticks(next, self.timescale));
        self.settle(track, media_sequence, next, true, out)?;
        self.cut(track, media_sequence, out)?;
        self.segment_begin = None;
        if let Some(start) = self.segment_start.take() {
            out.push(Output::Segment {
                track,
                media_sequence,
                start,
                parts: std::mem::take(&mut self.parts),
                bytes: self.segment.split().freeze(),
            });
        }
        Ok(())
    }

    /// What is left of the segment at a time.
    fn room(&self, time: u64) -> u64 {
        match self.segment_begin {
            Some(begin) => (begin + self.longest).saturating_sub(time),
            None => self.longest,
        }
    }

    /// Gives the pending video unit, which may be the `last` one of its segment, its duration
    /// and adds it.
    fn settle(
        &mut self,
        track: usize,
        media_sequence: u64,
        next: Option<u64>,
        last: bool,
        out: &mut Vec<Output>,
    ) -> cmaf::Result<()> {
        let Some((time, unit)) = self.pending.take() else {
            return Ok(());
        };
        let own = ticks(unit.dts, self.timescale);
        let distance = match next {
            Some(next) => next.saturating_sub(own).max(1),
            None => self.newest_lasts(),
        };
        self.last_distance = Some(distance);
        let lasts = (own + distance).saturating_sub(time);
        let room = self.room(time);
        // A segment as long as this one must have room for what the next one is early by.
        let earliest = match next {
            Some(next) if last => self.room(next),
            Some(_) => u64::MAX,
            None => 0,
        };
        let duration = match lasts > room {
            true => room,
            false => self.fit(track, media_sequence, lasts, earliest, out)?,
        };
        self.early = lasts.min(room) - duration;
        let offset = i64::try_from(ticks(unit.pts, self.timescale)).unwrap_or(i64::MAX)
            - i64::try_from(time).unwrap_or(i64::MAX);
        let sample = cmaf::Sample {
            // Bounded by the largest step of the time line: 5 s are 450,000.
            duration: u32::try_from(duration).unwrap_or(u32::MAX),
            composition_offset: i32::try_from(offset).unwrap_or(0),
            sync: unit.sync,
            data: unit.data,
        };
        self.add(track, media_sequence, time, sample, out)
    }

    /// How much of the time up to the next video unit one gets, so that its part is as long as
    /// it should be; by the rest, which may be `earliest`, the next one is early. Ends the part
    /// before it that is long enough without it.
    fn fit(
        &mut self,
        track: usize,
        media_sequence: u64,
        lasts: u64,
        earliest: u64,
        out: &mut Vec<Output>,
    ) -> cmaf::Result<u64> {
        if self.part_duration + lasts > self.part_target && self.is_long_enough() {
            self.cut(track, media_sequence, out)?;
        }
        let fits = self.part_target.saturating_sub(self.part_duration).min(lasts);
        // Else the part is too long.
        Ok(if lasts - fits > earliest { lasts } else { fits })
    }

    /// Whether the part may end here although its segment goes on.
    fn is_long_enough(&self) -> bool {
        let first = self.part.first();
        first.is_some_and(|first| first.sync || self.part_duration >= self.part_least)
    }

    /// Adds a sample to the current part and cuts parts so that none is
    /// longer than the target unless it is a single sample.
    fn add(
        &mut self,
        track: usize,
        media_sequence: u64,
        time: u64,
        sample: cmaf::Sample,
        out: &mut Vec<Output>,
    ) -> cmaf::Result<()> {
        let duration = u64::from(sample.duration);
        if !self.part.is_empty() && self.part_duration + duration > self.part_target {
            self.cut(track, media_sequence, out)?;
        }
        if self.part.is_empty() {
            self.part_start = time;
        }
        self.part_duration += duration;
        self.part.push(sample);
        // No need to wait for a next sample as far away as this one to see that it would not
        // fit.
        let next = match self.kind {
            Kind::Video { .. } => self.last_distance.unwrap_or(duration),
            Kind::Audio { .. } => duration,
        };
        let full = self.part_duration + next > self.part_target && self.is_long_enough();
        if full || self.part_duration >= self.part_target || self.part.len() == cmaf::MAX_CHUNK_SAMPLES {
            self.cut(track, media_sequence, out)?;
        }
        Ok(())
    }

    /// Ends the current part, if it holds anything.
    fn cut(&mut self, track: usize, media_sequence: u64, out: &mut Vec<Output>) -> cmaf::Result<()> {
        if self.part.is_empty() {
            return Ok(());
        }
        self.chunks = self.chunks.wrapping_add(1);
        let bytes = cmaf::chunk(self.chunks, self.part_start, &self.part)?;
        let info = PartInfo {
            duration: micros(self.part_duration, self.timescale),
            size: bytes.len() as u64,
            independent: self.part[0].sync,
        };
        self.part.clear();
        self.part_duration = 0;
        self.segment.extend_from_slice(&bytes);
        let index = self.parts.len() as u32;
        self.parts.push(info);
        out.push(Output::Part {
            track,
            media_sequence,
            start: self.segment_start.unwrap_or_default(),
            index,
            info,
            bytes: Bytes::clone(&bytes),
        });
        Ok(())
    }
}

/// Microseconds as ticks, rounded to the nearest; times are never negative.
fn ticks(time: Micros, timescale: u32) -> u64 {
    let time = u128::from(time.max(0).cast_unsigned());
    let second = SECOND.cast_unsigned() as u128;
    u64::try_from((time * u128::from(timescale) + second / 2) / second).unwrap_or(u64::MAX)
}

/// Ticks as microseconds, rounded to the nearest.
fn micros(ticks: u64, timescale: u32) -> Micros {
    let scale = u128::from(timescale.max(1));
    let second = SECOND.cast_unsigned() as u128;
    Micros::try_from((u128::from(ticks) * second + scale / 2) / scale).unwrap_or(Micros::MAX)
}
