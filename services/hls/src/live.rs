//! The live end of a session: which parts its playlists tell, what comes next, and
//! how far each rendition is (§4.4.4.9, §6.2.5.2). A pure view over [`Session`].
//!
//! Parts of complete segments are told from the entries of the segments, so that
//! every edge tells the same; only those of the segment in the making come from
//! the stream of parts, which holds seconds. Nothing behind that segment is told
//! before its entry is here: only that says how many parts it has. Should its worker die,
//! the next one closes it where the parts end, or, without them, uses its number again.

use std::{ops::Range, time::Duration};

use bytes::Bytes;
use castlog_log::pb::{Rendition, RenditionKind};
use castlog_playlist::{
    low_latency::{HOLD_BACK, LowLatency, Open, Part, Report, aac_frame, part_target, video_frame},
    media,
};

use crate::{
    key::{File, MediaKey},
    parts::{self, Piece, Row},
    session::{Session, Stored, Track},
    view,
};

/// Part targets that players stay behind the end, as they should at least (§4.4.3.8).
/// The first part of a segment waits for the entry of the one before, which comes within
/// the duration of a part, since no pipeline waits longer for its store.
const PART_HOLD_BACK: u32 = 3;

/// Whether a playlist tells what a viewer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// It does, or it tells what comes later.
    Told,
    /// Not yet.
    Awaited,
    /// It is further away than a viewer may ask for.
    TooFar,
}

/// Where a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piecewise {
    /// In memory.
    Bytes(Bytes),
    /// In its segment.
    In(MediaKey, Range<u64>),
    /// It is the next one.
    Awaited,
    /// Nowhere.
    Absent,
}

/// How long a frame of a rendition lasts, zero = unknown.
fn frame(rendition: &Rendition) -> Duration {
    match rendition.kind.try_into() {
        Ok(RenditionKind::Audio) => aac_frame(rendition.sample_rate),
        _ => video_frame(rendition.frame_rate_milli),
    }
}

impl Session {
    /// The part target of a rendition; `None` when the pipeline makes no parts.
    fn part_target(&self, rendition: &str) -> Option<Duration> {
        let produced = self.produced.as_ref().filter(|produced| produced.part_target_ms > 0)?;
        let rendition = produced.renditions.iter().find(|r| r.name == rendition)?;
        let announced = Duration::from_millis(produced.part_target_ms.into());
        Some(part_target(announced, frame(rendition)))
    }

    /// What the playlist of a rendition tells beside its segments.
    pub(crate) fn low_latency(&self, rendition: &str, over: bool, media_base: &str) -> Option<LowLatency> {
        let part_target = self.part_target(rendition)?;
        let names = self.produced.iter().flat_map(|produced| &produced.renditions);
        let longest = names.filter_map(|r| self.part_target(&r.name)).max();
        let mut low_latency = LowLatency {
            part_target,
            part_hold_back: longest.unwrap_or(part_target) * PART_HOLD_BACK,
            open: None,
            hint: None,
            reports: Vec::new(),
        };
        let (Some(track), false) = (self.track(rendition), over) else {
            return Some(low_latency);
        };
        let row = self.open_row(rendition, track);
        let folder = track.segments.back().and_then(|s| s.key.rsplit_once('/'))?.0;
        let next = track.next();
        let name = |line: u64, index: usize| format!("{media_base}/{folder}/{next}-{line}-{index}.m4s");
        let told = row.map(|row| (row, legal_pieces(row, part_target)));
        if let Some((row, pieces)) = &told
            && !pieces.is_empty()
        {
            let of = |(index, piece): (usize, &&Piece)| Part {
                uri: name(row.line.0, index),
                duration: piece.duration,
                independent: piece.independent,
                gap: false,
            };
            low_latency.open = Some(Open {
                map: Some(format!("{media_base}/{}", row.map).into()),
                discontinuity_sequence: row.line.0,
                program_date_time: Some(row.line.1),
                parts: pieces.iter().enumerate().map(of).collect(),
            });
        }
        let line = row.map_or_else(|| last_line(track), |row| row.line.0);
        let count = told.as_ref().map_or(0, |(_, pieces)| pieces.len());
        // A part that may not be told is followed by none that may.
        if told.is_none_or(|(row, pieces)| row.contiguous().count() == pieces.len()) {
            low_latency.hint = Some(name(line, count));
        }
        low_latency.reports = self.reports(rendition);
        Some(low_latency)
    }

    /// How far the other renditions are.
    fn reports(&self, but: &str) -> Vec<Report> {
        let reports = self.others(but).filter_map(|(name, track)| {
            let target = self.part_target(name)?;
            let folder = track.segments.back().map(|s| s.key.as_str())?;
            let session = folder.parse::<MediaKey>().ok()?.session;
            let open = self
                .open_row(name, track)
                .map_or(0, |row| legal_pieces(row, target).len());
            let (last_msn, parts) = match open {
                0 => (
                    track.next() - 1,
                    track.segments.back().map_or(0, |s| self.told_parts(s, target)),
                ),
                parts => (track.next(), parts),
            };
            Some(Report {
                uri: format!("../{}", view::uri(session, name)),
                last_msn,
                last_part: (parts as u64).checked_sub(1),
            })
        });
        reports.collect()
    }

    /// Adds to the segments of a playlist the parts that it tells of them.
    pub(crate) fn tell_parts(&self, rendition: &str, media_base: &str, segments: &mut [media::Segment]) {
        let (Some(track), Some(target)) = (self.track(rendition), self.part_target(rendition)) else {
            return;
        };
        let from = self.parts_from(track);
        let stored = track.segments.iter().zip(segments).zip(track.head..);
        for ((stored, shown), sequence) in stored.filter(|(_, sequence)| *sequence >= from) {
            if self.told_parts(stored, target) == 0 {
                continue;
            }
            let folder = stored.key.rsplit_once('/').map_or("", |(folder, _)| folder);
            let line = stored.discontinuity_sequence;
            let parts = stored.parts.iter().enumerate().map(|(index, part)| Part {
                uri: format!("{media_base}/{folder}/{sequence}-{line}-{index}.m4s"),
                duration: part.duration,
                independent: part.independent,
                gap: false,
            });
            shown.parts = parts.collect();
        }
    }

    /// Media sequence number of the first segment whose parts are told: it is less
    /// than three target durations from the end (§6.2.2).
    fn parts_from(&self, track: &Track) -> u64 {
        let reach = Duration::from_secs(u64::from(self.target_duration()) * u64::from(HOLD_BACK));
        let mut behind = Duration::ZERO;
        let near = track.segments.iter().rev().take_while(|segment| {
            let told = behind < reach;
            behind += segment.duration;
            told
        });
        track.next() - near.count() as u64
    }

    /// How many parts of a complete segment are told: all, or none.
    fn told_parts(&self, stored: &Stored, target: Duration) -> usize {
        let parts = stored.parts.iter().map(|part| (part.duration, part.independent));
        let legal = parts::legal(parts, target) == stored.parts.len();
        match legal && !stored.gap && !self.is_too_long(stored.duration) {
            true => stored.parts.len(),
            false => 0,
        }
    }

    /// The parts of the segment in the making.
    fn open_row(&self, rendition: &str, track: &Track) -> Option<&Row> {
        self.parts.row(rendition, track.next())
    }

    /// Whether parts of a segment are still of use.
    pub(crate) fn wants_parts(&self, rendition: &str, sequence: u64, line: u64) -> bool {
        let Some(track) = self.track(rendition).filter(|track| !track.is_empty()) else {
            return true;
        };
        if sequence >= track.next() {
            return line >= last_line(track);
        }
        let stored = track.get(sequence).filter(|_| sequence >= self.parts_from(track));
        stored.is_some_and(|stored| !stored.gap && stored.discontinuity_sequence == line)
    }

    /// Lets go of the parts that are of no use any more.
    pub(crate) fn prune_parts(&mut self, rendition: &str) {
        let mut parts = std::mem::take(&mut self.parts);
        parts.prune(rendition, |sequence, row| {
            self.wants_parts(rendition, sequence, row.line.0)
        });
        self.parts = parts;
    }

    /// Whether the playlist of a rendition tells segment `sequence`, or that part of it.
    pub(crate) fn reach(&self, rendition: &str, (sequence, part): (u64, Option<u64>)) -> Reach {
        let Some(track) = self.track(rendition).filter(|track| !track.is_empty()) else {
            return Reach::Told;
        };
        let next = track.next();
        let target = self.part_target(rendition).unwrap_or_default();
        let open = self
            .open_row(rendition, track)
            .map_or(0, |row| legal_pieces(row, target).len()) as u64;
        // §6.2.5.2: the Advance Part Limit.
        let ahead = match target {
            Duration::ZERO => u64::MAX,
            target => 3_000_000_u64
                .div_ceil(u64::try_from(target.as_micros()).unwrap_or(u64::MAX))
                .max(3),
        };
        let Some(part) = part else {
            return match sequence {
                _ if sequence < next => Reach::Told,
                _ if sequence > next + 1 => Reach::TooFar,
                _ => Reach::Awaited,
            };
        };
        // Behind the last part of a complete segment comes the next segment, as behind one whose
        // parts are not told: players of parts count from those that they see.
        let (mut sequence, mut part) = (sequence, part);
        while sequence < next
            && !target.is_zero()
            && track
                .get(sequence)
                .is_some_and(|stored| part >= self.told_parts(stored, target) as u64)
        {
            (sequence, part) = (sequence + 1, 0);
        }
        match sequence.checked_sub(next) {
            None => Reach::Told,
            Some(0) if part < open => Reach::Told,
            Some(0) if part < open.saturating_add(ahead) => Reach::Awaited,
            Some(1) if part < ahead => Reach::Awaited,
            Some(_) => Reach::TooFar,
        }
    }

    /// The key and the bytes of a segment all of whose parts are in memory.
    pub(crate) fn whole(&self, rendition: &str, sequence: u64) -> Option<(&str, Vec<Bytes>)> {
        let stored = self.track(rendition)?.get(sequence).filter(|stored| !stored.gap)?;
        let row = self.parts.row(rendition, sequence)?;
        if stored.parts.is_empty() || row.line.0 != stored.discontinuity_sequence {
            return None;
        }
        let pieces = row.whole(stored.parts.iter().map(|part| part.bytes))?;
        let size: u64 = stored.parts.iter().map(|part| part.bytes).sum();
        (size == stored.bytes).then_some((&stored.key, pieces))
    }

    /// Whether a playlist names an object, which then is in the store or on its way.
    pub(crate) fn names(&self, key: &MediaKey) -> bool {
        let Some(track) = self.track(&key.rendition) else {
            return false;
        };
        let text = key.to_string();
        match key.file {
            File::Segment { number, .. } => track.get(number).is_some_and(|s| !s.gap && s.key == text),
            File::Init(_) => {
                let mut maps = track.segments.iter().filter_map(|s| s.map.as_deref());
                maps.any(|map| map == text)
            }
            File::Transport { .. } | File::Part { .. } | File::Thumbnail | File::Sheet(_) => false,
        }
    }

    /// Where a part is.
    pub(crate) fn piece(&self, key: &MediaKey) -> Piecewise {
        let File::Part { segment, line, index } = key.file else {
            return Piecewise::Absent;
        };
        let rendition = &key.rendition;
        if let Some(bytes) = self.parts.bytes(rendition, segment, line, index) {
            return Piecewise::Bytes(bytes);
        }
        let Some(track) = self.track(rendition).filter(|track| !track.is_empty()) else {
            return Piecewise::Absent;
        };
        if segment == track.next() {
            let row = self.open_row(rendition, track);
            let due = row.map_or((last_line(track), 0), |row| (row.line.0, row.contiguous().count()));
            return match due == (line, index as usize) {
                true => Piecewise::Awaited,
                false => Piecewise::Absent,
            };
        }
        let stored = track
            .get(segment)
            .filter(|s| !s.gap && s.discontinuity_sequence == line);
        let Some((whole, before, part)) = stored.and_then(|s| {
            let (before, rest) = s.parts.split_at_checked(index as usize)?;
            Some((s.key.parse().ok()?, before, rest.first()?))
        }) else {
            return Piecewise::Absent;
        };
        let start: u64 = before.iter().map(|part| part.bytes).sum();
        Piecewise::In(whole, start..start + part.bytes)
    }
}

fn last_line(track: &Track) -> u64 {
    track.segments.back().map_or(0, |s| s.discontinuity_sequence)
}

/// The parts of a segment in the making that may be told.
fn legal_pieces(row: &Row, target: Duration) -> Vec<&Piece> {
    let pieces = row.contiguous().map(|piece| (piece.duration, piece.independent));
    row.contiguous().take(parts::legal(pieces, target)).collect()
}
