//! What a worker that died has left: parts of segments that no entry names. Players
//! hold them, so whoever takes the job over makes short segments of them, and goes on
//! behind those. Pure.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use castlog_log::{
    Part, SessionId,
    pb::{Timestamp, metadata, segment},
};
use chrono::{DateTime, TimeDelta, Utc};

use crate::{media::Micros, probe::Known, target::Target};

/// The parts of one media sequence number.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    media_sequence: u64,
    discontinuity_sequence: u64,
    /// By rendition, from the first part on.
    renditions: BTreeMap<String, Vec<Part>>,
}

/// What a former worker has said of the source, which need not be waited for again.
/// `longest` is the longest distance of keyframes that is passed through.
#[must_use]
pub fn known(said: &metadata::Produced, longest: Micros) -> Option<Known> {
    let video = said.video.as_ref()?;
    // A source that was passed through keeps to what its target was chosen for; one that
    // does not any more is noticed.
    let interval = longest.min(Target::from_millis(said.segment_target_ms).longest_interval());
    let passthrough = said
        .renditions
        .iter()
        .any(|rendition| rendition.passthrough && rendition.width > 0);
    Some(Known {
        size: (video.width, video.height),
        frame_rate_milli: video.frame_rate_milli,
        keyframe_interval: passthrough.then_some(interval),
        bitrate: video.bitrate,
        audio_bitrate: said.audio.as_ref().map(|audio| audio.bitrate),
    })
}

/// The rows of a session from the number `next` on, as far as none is missing.
#[must_use]
pub fn rows(mut parts: Vec<Part>, session: SessionId, next: u64) -> Vec<Row> {
    // Several workers may have made parts of one number: those of the last one stand,
    // at the edges as well.
    let mut found: BTreeMap<u64, BTreeMap<u64, BTreeMap<String, Vec<Part>>>> = BTreeMap::new();
    // One that was sent again comes behind those that follow it.
    parts.sort_by_key(|part| part.header.part);
    for part in parts.into_iter().filter(|part| part.header.session == session) {
        let header = &part.header;
        let lines = found.entry(header.media_sequence).or_default();
        let renditions = lines.entry(header.discontinuity_sequence).or_default();
        let row = renditions.entry(header.rendition.clone()).or_default();
        if header.part as usize == row.len() {
            row.push(part);
        }
    }
    let last = |media_sequence| {
        let (discontinuity_sequence, mut renditions) = found.remove(&media_sequence)?.pop_last()?;
        renditions.retain(|_, parts| !parts.is_empty());
        (!renditions.is_empty()).then_some(Row {
            media_sequence,
            discontinuity_sequence,
            renditions,
        })
    };
    (next..).map_while(last).collect()
}

impl Row {
    /// The media sequence number of its segments.
    #[must_use]
    pub const fn media_sequence(&self) -> u64 {
        self.media_sequence
    }

    /// The discontinuity sequence number of its segments.
    #[must_use]
    pub const fn discontinuity_sequence(&self) -> u64 {
        self.discontinuity_sequence
    }

    /// Until when its media was.
    #[must_use]
    pub fn end(&self) -> Option<DateTime<Utc>> {
        let ends = self.renditions.values().filter_map(|parts| {
            let begun = parts.first()?.header.segment_time;
            Some(begun + microseconds(duration_us(parts)))
        });
        ends.max()
    }

    /// The entries of its segments without object keys, and their bytes. A rendition of
    /// which there is nothing gets a gap, so that its players wait for nothing.
    #[must_use]
    pub fn segments(&self, names: &[String]) -> Vec<(segment::Stored, Bytes)> {
        let durations = self.renditions.values().map(|parts| duration_us(parts));
        let longest = durations.max().unwrap_or_default();
        let times = self.renditions.values().flatten().map(|part| part.header.segment_time);
        let first: Option<Timestamp> = times.min().map(Into::into);
        let missing = names.iter().filter(|name| !self.renditions.contains_key(*name));
        let gap = |name: &String| segment::Stored {
            rendition: name.clone(),
            media_sequence: self.media_sequence,
            discontinuity_sequence: self.discontinuity_sequence,
            duration_us: longest,
            program_date_time: first,
            next_media_sequence: self.media_sequence + 1,
            ..segment::Stored::default()
        };
        let held = self.renditions.iter().map(|(name, parts)| self.segment(name, parts));
        missing.map(|name| (gap(name), Bytes::new())).chain(held).collect()
    }

    fn segment(&self, name: &str, parts: &[Part]) -> (segment::Stored, Bytes) {
        let mut bytes = BytesMut::new();
        for part in parts {
            bytes.extend_from_slice(&part.payload);
        }
        let first = parts.first().map(|part| &part.header);
        let stored = segment::Stored {
            rendition: name.to_owned(),
            media_sequence: self.media_sequence,
            discontinuity_sequence: self.discontinuity_sequence,
            duration_us: duration_us(parts),
            program_date_time: first.map(|header| header.segment_time.into()),
            init_object_key: first.map(|header| header.init_object_key.clone()).unwrap_or_default(),
            size_bytes: bytes.len() as u64,
            parts: parts.iter().map(described).collect(),
            next_media_sequence: self.media_sequence + 1,
            ..segment::Stored::default()
        };
        (stored, bytes.freeze())
    }
}

/// Until when the media of a segment was.
#[must_use]
pub fn end(stored: &segment::Stored) -> Option<DateTime<Utc>> {
    let begun = DateTime::try_from(stored.program_date_time?).ok()?;
    Some(begun + microseconds(stored.duration_us))
}

/// A day is longer than any segment.
fn microseconds(count: u64) -> TimeDelta {
    TimeDelta::microseconds(count.min(86_400_000_000).cast_signed())
}

fn duration_us(parts: &[Part]) -> u64 {
    parts.iter().map(|part| part.header.duration_us).sum()
}

fn described(part: &Part) -> segment::Part {
    segment::Part {
        duration_us: part.header.duration_us,
        size_bytes: part.payload.len() as u64,
        independent: part.header.independent,
    }
}

#[cfg(test)]
mod tests {
    use castlog_log::{BroadcastId, PartHeader, Position};

    use super::*;

    struct Scene {
        broadcast: BroadcastId,
        session: SessionId,
        parts: Vec<Part>,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                broadcast: BroadcastId::generate(),
                session: SessionId::generate(),
                parts: Vec::new(),
            }
        }

        fn add(&mut self, rendition: &str, (media_sequence, line, part): (u64, u64, u32)) {
            self.parts.push(Part {
                header: PartHeader {
                    broadcast: self.broadcast,
                    session: self.session,
                    rendition: rendition.to_owned(),
                    media_sequence,
                    part,
                    duration_us: 250_000,
                    independent: part == 0,
                    discontinuity_sequence: line,
                    segment_time: DateTime::from_timestamp(1_800_000_000, 0).unwrap(),
                    init_object_key: format!("{rendition}/init-{line}.mp4"),
                    init_section: Bytes::new(),
                },
                payload: format!("{rendition}{media_sequence}.{line}.{part} ").into(),
                position: Position {
                    stream: "LIVE_PART".into(),
                    sequence: self.parts.len() as u64 + 1,
                },
            });
        }

        fn rows(&self, next: u64) -> Vec<Row> {
            rows(self.parts.clone(), self.session, next)
        }
    }

    #[test]
    fn what_was_said_of_a_source_is_known() {
        use castlog_log::pb::Rendition;

        let mut said = metadata::Produced {
            segment_target_ms: 2000,
            ..metadata::Produced::default()
        };
        assert_eq!(known(&said, 4_400_000), None, "of sound alone");
        said.video = Some(metadata::SourceVideo {
            width: 1280,
            height: 720,
            frame_rate_milli: 30_000,
            ..metadata::SourceVideo::default()
        });
        said.renditions = ["audio", "source"]
            .map(|name| Rendition {
                name: name.to_owned(),
                passthrough: true,
                ..Rendition::default()
            })
            .into();
        let interval = |said: &metadata::Produced, longest| known(said, longest).unwrap().keyframe_interval;
        assert_eq!(interval(&said, 4_400_000), None, "the sound alone is passed through");
        said.renditions[1].width = 1280;
        assert_eq!(interval(&said, 4_400_000), Some(2_100_000));
        said.segment_target_ms = 5000;
        assert_eq!(interval(&said, 4_400_000), Some(4_400_000));
        assert_eq!(known(&said, 4_400_000).unwrap().audio_bitrate, None);
    }

    #[test]
    fn parts_that_no_entry_names_become_segments() {
        let mut scene = Scene::new();
        for part in 0..2 {
            scene.add("source", (6, 1, part));
        }
        for part in [1, 0, 3] {
            scene.add("source", (7, 1, part));
        }
        scene.add("audio", (7, 1, 0));
        let mut other = Scene::new();
        other.add("source", (7, 1, 0));
        scene.parts.append(&mut other.parts);

        let rows = scene.rows(7);
        assert_eq!(rows.len(), 1, "6 is named, 8 is not begun");
        assert_eq!((rows[0].media_sequence(), rows[0].discontinuity_sequence()), (7, 1));
        let begun = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let lasted = |ms| Some(begun + TimeDelta::milliseconds(ms));
        assert_eq!(rows[0].end(), lasted(500), "the longest of them");
        let names = ["source", "480p", "audio"].map(str::to_owned);
        let segments = rows[0].segments(&names);
        let told: Vec<_> = segments
            .iter()
            .map(|(stored, bytes)| (stored.rendition.as_str(), stored.duration_us, bytes.as_ref()))
            .collect();
        assert_eq!(
            told,
            [
                ("480p", 500_000, &b""[..]),
                ("audio", 250_000, b"audio7.1.0 "),
                // Behind a part that is missing no player could go on.
                ("source", 500_000, b"source7.1.0 source7.1.1 "),
            ]
        );
        for (stored, bytes) in &segments {
            let sum = |of: fn(&segment::Part) -> u64| stored.parts.iter().map(of).sum::<u64>();
            assert_eq!(stored.size_bytes, bytes.len() as u64);
            assert_eq!(sum(|part| part.size_bytes), stored.size_bytes);
            if stored.size_bytes > 0 {
                assert_eq!(sum(|part| part.duration_us), stored.duration_us);
                assert_eq!(stored.init_object_key, format!("{}/init-1.mp4", stored.rendition));
            }
            assert_eq!((stored.media_sequence, stored.next_media_sequence), (7, 8));
            assert_eq!(end(stored), lasted(if stored.rendition == "audio" { 250 } else { 500 }));
        }
    }

    #[test]
    fn of_two_workers_that_died_the_last_one_counts() {
        let mut scene = Scene::new();
        for part in 0..3 {
            scene.add("source", (7, 0, part));
        }
        scene.add("audio", (7, 0, 0));
        scene.add("source", (7, 1, 0));
        scene.add("source", (8, 1, 0));
        // A number without a first part is no row, and nothing behind it is.
        scene.add("source", (9, 1, 1));
        scene.add("source", (10, 1, 0));
        let rows = scene.rows(7);
        let told: Vec<_> = rows
            .iter()
            .map(|row| {
                (
                    row.media_sequence(),
                    row.discontinuity_sequence(),
                    row.segments(&[]).len(),
                )
            })
            .collect();
        assert_eq!(told, [(7, 1, 1), (8, 1, 1)]);
        assert_eq!(scene.rows(8).len(), 1);
        assert_eq!(scene.rows(11), []);
    }
}
