//! The parts of a session that are in memory: those of the segments in the making,
//! and those of the newest complete ones until players have moved on. Parts may
//! come twice, out of order, and before or after the entry of their segment.
//!
//! A worker that takes a job over closes the segment that its predecessor did not
//! finish. Where it cannot, it makes it anew, under the same number and a higher
//! discontinuity sequence number: the newest row of parts stands, those before it are
//! let go.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use castlog_log::Part;
use castlog_playlist::low_latency::SHORTEST_PART;
use chrono::{DateTime, Utc};

use crate::{
    key::{File, MediaKey, is_rendition},
    state::Outcome,
};

/// Most parts of a session: 40 s of a full ladder with the shortest segments and
/// parts that the pipeline makes of it.
const MAX_PARTS: usize = 4096;
/// Most bytes of parts of a session: 40 s of a ladder of 12 Mbit/s.
const MAX_BYTES: usize = 64 << 20;
/// Largest initialization section in bytes: most have less than a thousand.
const MAX_SECTION: usize = 64 << 10;
/// Most parts of a segment: a minute of the shortest ones.
const MAX_INDEX: u32 = 1024;

/// What tells rows of one number apart: a later one has a higher discontinuity
/// sequence number, or began later.
pub(crate) type Line = (u64, DateTime<Utc>);

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) duration: Duration,
    pub(crate) independent: bool,
    pub(crate) bytes: Bytes,
}

/// The parts of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) line: Line,
    pub(crate) map: Arc<str>,
    pieces: BTreeMap<u32, Piece>,
}

/// The parts of a session.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parts {
    rows: BTreeMap<(u64, String), Row>,
    bytes: usize,
    count: usize,
}

/// What is wrong with a part.
pub(crate) fn check(part: &Part, longest: Duration) -> Result<(), &'static str> {
    let header = &part.header;
    if !is_rendition(&header.rendition) {
        return Err("part is of a rendition that is not a name");
    }
    if header.part >= MAX_INDEX {
        return Err("part has an index of 1024 or more");
    }
    if header.duration_us == 0 || Duration::from_micros(header.duration_us) > longest {
        return Err("part has a duration of 0 or over 60 s");
    }
    if part.payload.is_empty() {
        return Err("part is empty");
    }
    if header.init_section.len() > MAX_SECTION {
        return Err("part has an initialization section of more than 64 KiB");
    }
    let init: Option<MediaKey> = header.init_object_key.parse().ok();
    let own = init.is_some_and(|k| {
        let of = (k.broadcast, k.session, k.rendition.as_str());
        of == (header.broadcast, header.session, header.rendition.as_str()) && matches!(k.file, File::Init(_))
    });
    if own {
        Ok(())
    } else {
        Err("part has a foreign initialization section")
    }
}

impl Row {
    /// The parts from the first on, as far as none is missing.
    pub(crate) fn contiguous(&self) -> impl Iterator<Item = &Piece> {
        (0..).map_while(|index| self.pieces.get(&index))
    }

    /// The bytes of all parts, if those are all and each is as large as is said.
    pub(crate) fn whole(&self, sizes: impl ExactSizeIterator<Item = u64>) -> Option<Vec<Bytes>> {
        if sizes.len() != self.pieces.len() {
            return None;
        }
        let mut pieces = self.contiguous();
        let fits = |size: u64| {
            let piece = pieces.next()?;
            (piece.bytes.len() as u64 == size).then(|| piece.bytes.clone())
        };
        sizes.map(fits).collect()
    }

    fn bytes(&self) -> usize {
        self.pieces.values().map(|piece| piece.bytes.len()).sum()
    }
}

impl Parts {
    /// Number and bytes of the parts.
    #[cfg(test)]
    pub(crate) fn held(&self) -> (usize, usize) {
        (self.count, self.bytes)
    }

    pub(crate) fn row(&self, rendition: &str, sequence: u64) -> Option<&Row> {
        self.rows.get(&(sequence, rendition.to_owned()))
    }

    /// The bytes of a part of the row that stands.
    pub(crate) fn bytes(&self, rendition: &str, sequence: u64, line: u64, index: u32) -> Option<Bytes> {
        let row = self.row(rendition, sequence).filter(|row| row.line.0 == line)?;
        row.pieces.get(&index).map(|piece| piece.bytes.clone())
    }

    /// Takes a part in, which has passed [`check`].
    pub(crate) fn insert(&mut self, part: &Part) -> Outcome {
        let header = &part.header;
        let (sequence, line) = (
            header.media_sequence,
            (header.discontinuity_sequence, header.segment_time),
        );
        let of = |key: &(u64, String)| key.1 == header.rendition;
        let newer = |(key, row): (&(u64, String), &Row)| of(key) && key.0 <= sequence && row.line > line;
        if self.rows.iter().any(newer) {
            return Outcome::Ignored;
        }
        self.retain(|key, row| !of(key) || key.0 < sequence || row.line >= line);
        let key = (sequence, header.rendition.clone());
        if self
            .rows
            .get(&key)
            .is_some_and(|row| row.pieces.contains_key(&header.part))
        {
            return Outcome::Ignored;
        }
        if !self.make_room(part.payload.len(), sequence) {
            return Outcome::FullOfParts;
        }
        let row = self.rows.entry(key).or_insert_with(|| Row {
            line,
            map: header.init_object_key.as_str().into(),
            pieces: BTreeMap::new(),
        });
        let piece = Piece {
            duration: Duration::from_micros(header.duration_us),
            independent: header.independent,
            bytes: part.payload.clone(),
        };
        row.pieces.insert(header.part, piece);
        self.bytes += part.payload.len();
        self.count += 1;
        Outcome::Applied
    }

    /// Lets go of rows that are two segments behind, the oldest first. What was made
    /// of them is in the store; the newest rows are what players wait for.
    fn make_room(&mut self, bytes: usize, sequence: u64) -> bool {
        while self.count >= MAX_PARTS || self.bytes + bytes > MAX_BYTES {
            match self.rows.first_key_value() {
                Some((key, _)) if key.0 + 1 < sequence => {
                    let oldest = key.0;
                    self.retain(|key, _| key.0 != oldest);
                }
                _ => return false,
            }
        }
        true
    }

    /// Keeps the rows of a rendition that satisfy `keep`.
    pub(crate) fn prune(&mut self, rendition: &str, keep: impl Fn(u64, &Row) -> bool) {
        self.retain(|key, row| key.1 != rendition || keep(key.0, row));
    }

    fn retain(&mut self, keep: impl Fn(&(u64, String), &Row) -> bool) {
        let (mut bytes, mut count) = (0, 0);
        self.rows.retain(|key, row| {
            let kept = keep(key, row);
            if !kept {
                bytes += row.bytes();
                count += row.pieces.len();
            }
            kept
        });
        self.bytes -= bytes;
        self.count -= count;
    }
}

/// How many of the parts may be told: none is longer than the target, and all but
/// the last come near to it.
pub(crate) fn legal(parts: impl Iterator<Item = (Duration, bool)>, target: Duration) -> usize {
    let mut short = false;
    let told = parts.take_while(|(duration, independent)| {
        let fits = !short && *duration <= target;
        short = *duration * 100 < target * SHORTEST_PART && !independent;
        fits
    });
    told.count()
}

#[cfg(test)]
mod tests {
    use super::{Duration, legal};

    #[test]
    fn what_is_told_of_parts_is_legal() {
        let told = |parts: &[(u64, bool)]| {
            let parts = parts
                .iter()
                .map(|(ms, independent)| (Duration::from_millis(*ms), *independent));
            legal(parts, Duration::from_millis(250))
        };
        assert_eq!(told(&[]), 0);
        assert_eq!(told(&[(240, true), (240, false), (100, false)]), 3);
        assert_eq!(told(&[(240, true), (100, false), (240, false)]), 2);
        assert_eq!(told(&[(100, true), (240, false)]), 2);
        assert_eq!(told(&[(240, true), (251, false), (240, false)]), 1);
    }
}
