//! The segmenter: boundaries of the segment clock and access units of all
//! tracks go in, CMAF parts and segments come out, with the same media
//! sequence numbers and the same boundaries for every track. Pure; it knows
//! neither GStreamer nor storage.
//!
//! Video cuts at its first keyframe at or behind a boundary. Audio has no
//! keyframes to say where segments begin, so its frames wait until the video
//! watermark has passed them and every boundary before them is known; the wait
//! is bounded by [`MAX_HOLD`]. Holes in the sound are filled with silence, so
//! that every segment of the video has its counterpart.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use castlog_cmaf as cmaf;
use castlog_playlist::low_latency::{self, AAC_FRAME};

pub use crate::packager::PartInfo;
use crate::{
    media::{AccessUnit, Micros, SECOND},
    packager::{AUDIO_TOLERANCE, Packager},
};

/// Longest stretch of sound that waits for video: a stalled picture must not
/// hold back the sound for ever, nor fill the memory. Above what the encoders
/// hold while they catch up after the probe.
pub const MAX_HOLD: Micros = 20 * SECOND;

/// Longest hole that is filled: longer ones are breaks of the time line.
const MAX_FILL: Micros = 10 * SECOND;

/// What the times of frames, which are counted in samples, may be off by.
const ROUNDING: Micros = SECOND / 1000;

/// Boundaries remembered for tracks that lag: minutes, when the chains hold
/// seconds.
const MAX_BOUNDARIES: usize = 128;

/// What kind of track a packager cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Video, in 90 kHz ticks.
    Video {
        /// Thousandths of frames per second, 0 = unknown.
        frame_rate_milli: u32,
    },
    /// AAC-LC, in samples.
    Audio {
        /// Samples per second.
        rate: u32,
        /// One or two.
        channels: u8,
    },
}

impl Kind {
    /// How long one of its frames lasts, zero = unknown.
    pub(crate) fn frame(self) -> Duration {
        match self {
            Self::Video { frame_rate_milli } => low_latency::video_frame(frame_rate_milli),
            Self::Audio { rate, .. } => low_latency::aac_frame(rate),
        }
    }

    /// How far before a boundary a unit may begin and still open the segment:
    /// a frame of sound belongs to the segment that most of it lies in;
    /// pictures sit on boundaries up to rounding.
    fn tolerance(self) -> Micros {
        match self {
            Self::Video { .. } => 1500,
            Self::Audio { rate, .. } => SECOND * Micros::from(AAC_FRAME / 2) / Micros::from(rate.max(1)),
        }
    }
}

/// What the segmenter is told at the start of an epoch.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Parts are cut so that none is longer than this, see
    /// [`part_target`](castlog_playlist::low_latency::part_target).
    pub part_target: Micros,
    /// No segment is longer than this: what would make it longer is left out.
    pub longest: Micros,
    /// Media sequence number of the first segment.
    pub first_media_sequence: u64,
    /// The tracks, by index.
    pub tracks: Vec<Kind>,
}

/// A finished piece of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A part was cut.
    Part {
        /// Index of the track.
        track: usize,
        /// Segment that the part belongs to.
        media_sequence: u64,
        /// Presentation time of the segment's first access unit.
        start: Micros,
        /// Place within the segment, from 0.
        index: u32,
        /// What is known of it.
        info: PartInfo,
        /// One CMAF chunk.
        bytes: Bytes,
    },
    /// A segment is complete: the concatenation of its parts.
    Segment {
        /// Index of the track.
        track: usize,
        /// Its number.
        media_sequence: u64,
        /// Presentation time of its first access unit.
        start: Micros,
        /// Its parts in order.
        parts: Vec<PartInfo>,
        /// The parts' bytes.
        bytes: Bytes,
    },
}

struct TrackState {
    kind: Kind,
    packager: Packager,
    /// Audio frames ahead of the watermark.
    held: VecDeque<AccessUnit>,
    /// Number of the segment being filled, relative to the first.
    segment: Option<u64>,
}

/// The state of one epoch: from one discontinuity to the next.
pub struct Segmenter {
    first: u64,
    tracks: Vec<TrackState>,
    /// Boundaries that some track has still to reach; `passed` came before.
    boundaries: VecDeque<Micros>,
    passed: u64,
    watermark: Option<Micros>,
    /// Sound from here on belongs to the next epoch.
    end: Option<Micros>,
}

impl Segmenter {
    /// An empty epoch.
    pub fn new(settings: &Settings) -> Self {
        let tracks = settings
            .tracks
            .iter()
            .map(|&kind| TrackState {
                kind,
                packager: Packager::new(kind, settings.part_target, settings.longest),
                held: VecDeque::new(),
                segment: None,
            })
            .collect();
        Self {
            first: settings.first_media_sequence,
            tracks,
            boundaries: VecDeque::new(),
            passed: 0,
            watermark: None,
            end: None,
        }
    }

    /// A segment begins at this presentation time. Boundaries grow, and each
    /// is told before the watermark or a picture passes it.
    pub fn boundary(&mut self, pts: Micros) {
        debug_assert!(self.boundaries.back().is_none_or(|&last| last < pts));
        self.boundaries.push_back(pts);
    }

    /// All boundaries up to this time are known.
    pub fn advance(&mut self, watermark: Micros) -> cmaf::Result<Vec<Output>> {
        self.watermark = self.watermark.max(Some(watermark));
        let mut out = Vec::new();
        for track in 0..self.tracks.len() {
            self.release(track, &mut out)?;
        }
        self.forget_boundaries();
        Ok(out)
    }

    /// The epoch ends here, and another goes on without a hole: sound from this
    /// time on is left to it.
    pub fn end_at(&mut self, time: Micros) {
        self.end = Some(time);
    }

    /// An access unit of a track, in decoding order.
    pub fn push(&mut self, track: usize, unit: AccessUnit) -> cmaf::Result<Vec<Output>> {
        let mut out = Vec::new();
        match self.tracks[track].kind {
            Kind::Video { .. } => self.place(track, unit, &mut out)?,
            Kind::Audio { .. } => {
                self.tracks[track].held.push_back(unit);
                self.release(track, &mut out)?;
            }
        }
        Ok(out)
    }

    /// The sound has stopped coming in: fills it up to `time` with silence, as
    /// far as the boundaries are known.
    pub fn silence(&mut self, track: usize, time: Micros) -> cmaf::Result<Vec<Output>> {
        let mut out = Vec::new();
        let state = &self.tracks[track];
        if let (true, Some(watermark)) = (state.held.is_empty(), self.watermark) {
            let until = time.min(watermark - state.kind.tolerance());
            self.fill(track, until, &mut out)?;
            self.forget_boundaries();
        }
        Ok(out)
    }

    /// The end of the epoch: everything held is cut, and sound that ends before
    /// the picture does is filled up to it, lest players wait for it, unless another
    /// epoch goes on without a hole. Answers the number that the next epoch's
    /// first segment takes. A last segment that not every track reached all the
    /// same is left out: its number is used again by the next epoch.
    pub fn finish(&mut self) -> cmaf::Result<(Vec<Output>, u64)> {
        let mut out = Vec::new();
        for track in 0..self.tracks.len() {
            while let Some(unit) = self.tracks[track].held.pop_front() {
                self.fill(track, unit.pts - AUDIO_TOLERANCE, &mut out)?;
                self.place(track, unit, &mut out)?;
            }
            if let Some(until) = self.sound_lasts(self.tracks[track].kind.tolerance()) {
                self.fill(track, until, &mut out)?;
            }
        }
        let last = self.tracks.iter().filter_map(|state| state.segment).max();
        let Some(last) = last else {
            return Ok((out, self.first));
        };
        let complete = self
            .tracks
            .iter()
            .all(|state| state.segment.is_none_or(|segment| segment == last));
        for (track, state) in self.tracks.iter_mut().enumerate() {
            let Some(segment) = state.segment.take() else {
                continue;
            };
            let mut closed = Vec::new();
            state.packager.close(track, self.first + segment, None, &mut closed)?;
            if !complete && segment == last {
                closed.retain(|output| matches!(output, Output::Part { .. }));
            }
            out.append(&mut closed);
        }
        Ok((out, self.first + last + u64::from(complete)))
    }

    /// Until when there is sound at the end of the epoch; `tolerance` is that of the sound.
    fn sound_lasts(&self, tolerance: Micros) -> Option<Micros> {
        let watermark = self.watermark?;
        // Sound that lags or has stopped must not cost the last segment of the picture, whose
        // parts are told. A frame opens the segment that most of it lies in: there is one for
        // a segment that begins with the last picture as well.
        let least = tolerance + ROUNDING;
        // Players lay the next epoch's sound at its picture, behind this one's. Where they have
        // a little less of the sound than that, they may look for the rest of it for seconds,
        // and not play what there is.
        let picture = self.tracks.iter().filter_map(|state| state.packager.picture_lasts());
        let picture = picture.max().map_or(0, |picture| picture + ROUNDING);
        // No picture has reached that boundary, and none will.
        let ahead = self.boundaries.iter().find(|&&boundary| boundary > watermark);
        let room = ahead.map_or(Micros::MAX, |boundary| boundary - watermark - tolerance);
        Some(watermark + least.max(picture.min(room)))
    }

    /// Lets go of the audio frames whose segment is certain.
    fn release(&mut self, track: usize, out: &mut Vec<Output>) -> cmaf::Result<()> {
        loop {
            let state = &mut self.tracks[track];
            let (Some(front), Some(back)) = (state.held.front(), state.held.back()) else {
                return Ok(());
            };
            let tolerance = state.kind.tolerance();
            let known = self
                .watermark
                .is_some_and(|watermark| front.pts + tolerance <= watermark);
            if !known && back.pts - front.pts <= MAX_HOLD {
                return Ok(());
            }
            if let Some(unit) = state.held.pop_front() {
                self.fill(track, unit.pts - AUDIO_TOLERANCE, out)?;
                self.place(track, unit, out)?;
            }
        }
    }

    /// Places silent frames from the end of the sound up to a time.
    fn fill(&mut self, track: usize, until: Micros, out: &mut Vec<Output>) -> cmaf::Result<()> {
        let Kind::Audio { channels, .. } = self.tracks[track].kind else {
            return Ok(());
        };
        let Some(start) = self.tracks[track].packager.audio_end() else {
            return Ok(());
        };
        if until - start > MAX_FILL {
            return Ok(());
        }
        // A frame of which most lies behind the end is the next epoch's: it would not be placed.
        let tolerance = self.tracks[track].kind.tolerance();
        let until = self.end.map_or(until, |end| until.min(end - tolerance));
        while let Some(end) = self.tracks[track].packager.audio_end() {
            if end >= until {
                break;
            }
            let unit = AccessUnit {
                dts: end,
                pts: end,
                sync: true,
                data: silent_frame(channels),
            };
            self.place(track, unit, out)?;
        }
        Ok(())
    }

    /// Files a unit under its segment.
    fn place(&mut self, track: usize, unit: AccessUnit, out: &mut Vec<Output>) -> cmaf::Result<()> {
        let state = &mut self.tracks[track];
        let tolerance = state.kind.tolerance();
        if matches!(state.kind, Kind::Audio { .. }) && self.end.is_some_and(|end| end <= unit.pts + tolerance) {
            return Ok(());
        }
        let next = state.segment.map_or(0, |segment| segment + 1);
        // Of the forgotten ones the newest is as good as all.
        let next = next.max(self.passed.saturating_sub(1));
        // The newest boundary reached, so that a track that lost pictures
        // stays on the common numbers.
        let reached = (next..self.passed + self.boundaries.len() as u64)
            .take_while(|&number| {
                number < self.passed || self.boundaries[(number - self.passed) as usize] <= unit.pts + tolerance
            })
            .last();
        match (reached, state.segment) {
            (Some(number), current) if unit.sync => {
                if let Some(current) = current {
                    state.packager.close(track, self.first + current, Some(unit.dts), out)?;
                }
                state.segment = Some(number);
            }
            // Nothing can be shown of what precedes the first boundary.
            (_, None) => return Ok(()),
            _ => {}
        }
        let segment = state.segment.unwrap_or_default();
        state.packager.push(track, self.first + segment, unit, out)?;
        Ok(())
    }

    /// Drops the boundaries that all tracks are past, and the oldest when a
    /// track stays behind or does not begin.
    fn forget_boundaries(&mut self) {
        let reached = self
            .tracks
            .iter()
            .map(|state| state.segment.unwrap_or(0))
            .min()
            .unwrap_or(0);
        while self.passed < reached || self.boundaries.len() > MAX_BOUNDARIES {
            self.boundaries.pop_front();
            self.passed += 1;
        }
    }
}

/// A raw AAC-LC frame without sound (ISO/IEC 14496-3 §4.4.2): one element with
/// no scale factor bands, then the end element.
fn silent_frame(channels: u8) -> Bytes {
    Bytes::from_static(match channels {
        // single_channel_element
        1 => &[0x00, 0x00, 0x00, 0x07],
        // channel_pair_element, without a common window
        _ => &[0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x0e],
    })
}

#[cfg(test)]
mod tests;
