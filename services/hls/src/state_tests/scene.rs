//! A broadcast that writes its own log.

use castlog_log::{BroadcastId, Entry, Event, Part, PartHeader, Position, SessionId, pb};
use chrono::{DateTime, Utc};

use crate::state::State;

/// Parts of a segment.
pub(super) const PARTS: u32 = 8;
pub(super) const RENDITIONS: [&str; 3] = ["source", "480p", "audio"];

pub(super) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

pub(super) fn stamp(time: DateTime<Utc>) -> Option<pb::Timestamp> {
    Some(pb::Timestamp {
        seconds: time.timestamp(),
        nanos: 0,
    })
}

/// A broadcast that writes its own log.
pub(super) struct Scene {
    pub(super) broadcast: BroadcastId,
    pub(super) session: SessionId,
    pub(super) sequence: u64,
}

impl Scene {
    pub(super) fn new() -> Self {
        let (broadcast, session) = ("01arz3ndektsv4rrffq69g5fav", "01brz3ndektsv4rrffq69g5fav");
        Self {
            broadcast: broadcast.parse().unwrap(),
            session: session.parse().unwrap(),
            sequence: 0,
        }
    }

    pub(super) fn entry(&mut self, time: DateTime<Utc>, event: impl Into<Event>) -> Entry {
        let event = event.into();
        self.sequence += 1;
        Entry {
            id: self.sequence.to_string(),
            source: "castlog/test".to_owned(),
            time,
            subject: event.kind().of(self.broadcast),
            position: Position {
                stream: event.kind().stream().to_owned(),
                sequence: self.sequence,
            },
            event,
            traceparent: None,
            payload: Default::default(),
        }
    }

    pub(super) fn status(
        &mut self,
        second: i64,
        event: fn(pb::status::Session, DateTime<Utc>) -> pb::status::Event,
    ) -> Entry {
        let session = pb::status::Session {
            session_id: self.session.to_string(),
            started_at: stamp(at(0)),
            ..Default::default()
        };
        self.entry(
            at(second),
            pb::Status {
                event: Some(event(session, at(second))),
            },
        )
    }

    pub(super) fn started(&mut self, second: i64) -> Entry {
        self.status(second, |s, _| {
            pb::status::Event::Started(pb::status::Started { session: Some(s) })
        })
    }

    pub(super) fn title(&mut self, second: i64, title: &str) -> Entry {
        let changed = pb::title::Changed {
            title: title.to_owned(),
        };
        let event = Some(pb::title::Event::Changed(changed));
        self.entry(at(second), pb::Title { event })
    }

    pub(super) fn interrupted(&mut self, second: i64) -> Entry {
        self.status(second, |session, _| {
            pb::status::Event::Interrupted(pb::status::Interrupted {
                session: Some(session),
                ..Default::default()
            })
        })
    }

    pub(super) fn resumed(&mut self, second: i64) -> Entry {
        self.status(second, |session, _| {
            pb::status::Event::Resumed(pb::status::Resumed { session: Some(session) })
        })
    }

    pub(super) fn ended(&mut self, second: i64) -> Entry {
        self.status(second, |s, t| {
            pb::status::Event::Ended(pb::status::Ended {
                session: Some(s),
                ended_at: stamp(t),
                reason: String::new(),
            })
        })
    }

    pub(super) fn options(&mut self, visibility: pb::Visibility, dvr_window_s: u32) -> Entry {
        let changed = pb::options::Changed {
            visibility: visibility as i32,
            dvr_window_s,
            ..Default::default()
        };
        self.entry(
            at(0),
            pb::Options {
                event: Some(pb::options::Event::Changed(changed)),
            },
        )
    }

    pub(super) fn produced(&mut self) -> Entry {
        let rendition = |name: &str, height: u32, peak_bitrate: u64| pb::Rendition {
            name: name.to_owned(),
            kind: if height > 0 {
                pb::RenditionKind::Video
            } else {
                pb::RenditionKind::Audio
            } as i32,
            codec: if height > 0 { "avc1.64001f" } else { "mp4a.40.2" }.to_owned(),
            width: height * 16 / 9,
            height,
            frame_rate_milli: if height > 0 { 30_000 } else { 0 },
            peak_bitrate,
            average_bitrate: peak_bitrate * 9 / 10,
            channels: if height > 0 { 0 } else { 2 },
            ..Default::default()
        };
        let produced = pb::metadata::Produced {
            session_id: self.session.to_string(),
            renditions: vec![
                rendition("source", 720, 3_000_000),
                rendition("480p", 480, 1_000_000),
                rendition("audio", 0, 128_000),
            ],
            segment_target_ms: 2000,
            part_target_ms: 250,
            ..Default::default()
        };
        self.entry(
            at(1),
            pb::Metadata {
                event: Some(pb::metadata::Event::Produced(produced)),
            },
        )
    }

    /// The same with another ladder; what the first one lacks is like its source.
    pub(super) fn producing(&mut self, names: &[&str]) -> Entry {
        let mut entry = self.produced();
        if let Event::Metadata(pb::Metadata {
            event: Some(pb::metadata::Event::Produced(produced)),
        }) = &mut entry.event
        {
            let known = std::mem::take(&mut produced.renditions);
            let of = |name: &&str| pb::Rendition {
                name: (*name).to_owned(),
                ..known.iter().find(|r| r.name == **name).unwrap_or(&known[0]).clone()
            };
            produced.renditions = names.iter().map(of).collect();
        }
        entry
    }

    pub(super) fn segment(&mut self, rendition: &str, n: u64, discontinuity: u64) -> Entry {
        let folder = format!("{}/{}/{rendition}", self.broadcast, self.session);
        let start = 2 * i64::try_from(n).unwrap();
        let stored = pb::segment::Stored {
            session_id: self.session.to_string(),
            rendition: rendition.to_owned(),
            media_sequence: n,
            discontinuity_sequence: discontinuity,
            duration_us: 2_000_000,
            program_date_time: stamp(at(start)),
            object_key: format!("{folder}/{n}.m4s"),
            init_object_key: format!("{folder}/init-{discontinuity}.mp4"),
            size_bytes: 100_000,
            parts: Vec::new(),
            next_media_sequence: n + 1,
            object_lost: false,
        };
        self.entry(
            at(start + 2),
            pb::Segment {
                event: Some(pb::segment::Event::Stored(stored)),
            },
        )
    }

    /// The same segment, of eight parts.
    pub(super) fn whole(&mut self, rendition: &str, n: u64, discontinuity: u64) -> Entry {
        self.left(rendition, n, discontinuity, PARTS)
    }

    /// What is left of it when its worker has died behind so many parts; behind none,
    /// others have three.
    pub(super) fn left(&mut self, rendition: &str, n: u64, discontinuity: u64, parts: u32) -> Entry {
        let mut entry = self.segment(rendition, n, discontinuity);
        if let Event::Segment(pb::Segment {
            event: Some(pb::segment::Event::Stored(stored)),
        }) = &mut entry.event
        {
            let part = |index| pb::segment::Part {
                duration_us: 250_000,
                size_bytes: 12_500,
                independent: index == 0,
            };
            stored.parts = (0..parts).map(part).collect();
            stored.size_bytes = u64::from(parts) * 12_500;
            stored.duration_us = u64::from(if parts == 0 { 3 } else { parts }) * 250_000;
        }
        entry
    }

    /// A part of such a segment.
    pub(super) fn part(&mut self, rendition: &str, n: u64, discontinuity: u64, part: u32) -> Part {
        self.sequence += 1;
        let seed = u8::try_from((n + discontinuity * 100) % 251).unwrap();
        Part {
            header: PartHeader {
                broadcast: self.broadcast,
                session: self.session,
                rendition: rendition.to_owned(),
                media_sequence: n,
                part,
                duration_us: 250_000,
                independent: part == 0,
                discontinuity_sequence: discontinuity,
                segment_time: at(2 * i64::try_from(n).unwrap()),
                init_object_key: format!(
                    "{}/{}/{rendition}/init-{discontinuity}.mp4",
                    self.broadcast, self.session
                ),
                init_section: bytes::Bytes::new(),
            },
            payload: vec![seed; 12_500].into(),
            position: Position {
                stream: "LIVE_PART".to_owned(),
                sequence: self.sequence,
            },
        }
    }

    /// Segments `numbers` of all renditions, in order.
    pub(super) fn segments(&mut self, numbers: std::ops::Range<u64>, discontinuity: u64) -> Vec<Entry> {
        numbers
            .flat_map(|n| RENDITIONS.map(|r| (r, n)))
            .map(|(r, n)| self.segment(r, n, discontinuity))
            .collect()
    }

    pub(super) fn opening(&mut self) -> Vec<Entry> {
        vec![
            self.options(pb::Visibility::Public, 0),
            self.started(0),
            self.produced(),
        ]
    }

    pub(super) fn media(&self, state: &State, rendition: &str, now: DateTime<Utc>) -> String {
        state.media(self.broadcast, None, rendition, now).unwrap().render()
    }
}
