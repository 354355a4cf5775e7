//! Made-up histories: what a few broadcasts may write to the log.

use castlog_log::{BroadcastId, Entry, Event, Kind, Position, PublishKey, SessionId, pb};
use chrono::{TimeDelta, Utc};
use proptest::prelude::*;

/// Broadcasts of one history.
const BROADCASTS: usize = 3;

/// What somebody says of one of the broadcasts.
#[derive(Debug, Clone)]
pub(super) struct Said {
    broadcast: usize,
    kind: Kind,
    /// Which of the kind's events.
    choice: u8,
    /// What is in it.
    value: u8,
}

/// A history over some kinds, of at most `length` entries.
pub(super) fn sayings(kinds: &'static [Kind], length: usize) -> impl Strategy<Value = Vec<Said>> {
    let said = (0..BROADCASTS, prop::sample::select(kinds), 0..12_u8, 0..4_u8);
    let said = said.prop_map(|(broadcast, kind, choice, value)| Said {
        broadcast,
        kind,
        choice,
        value,
    });
    prop::collection::vec(said, 1..=length)
}

/// The entries of a history, of broadcasts that nobody has heard of before.
pub(super) fn entries(history: &[Said]) -> Vec<Entry> {
    let broadcasts: [_; BROADCASTS] = std::array::from_fn(|_| (BroadcastId::generate(), SessionId::generate()));
    let begun = Utc::now() - TimeDelta::milliseconds(i64::try_from(history.len()).unwrap_or_default());
    let mut sequences = std::collections::BTreeMap::<&str, u64>::new();
    let mut time = begun;
    let make = |said: &Said| {
        time += TimeDelta::milliseconds(1);
        let stream = said.kind.stream();
        let sequence = sequences.entry(stream).or_default();
        *sequence += 1;
        let (broadcast, session) = broadcasts[said.broadcast];
        let event = event(said, broadcast, session);
        Entry {
            id: format!("{stream}-{sequence}-{broadcast}"),
            source: "castlog/test".to_owned(),
            time,
            subject: said.kind.of(broadcast),
            payload: event.encode(),
            event,
            position: Position {
                stream: stream.to_owned(),
                sequence: *sequence,
            },
            traceparent: None,
        }
    };
    history.iter().map(make).collect()
}

/// One choice of twelve is an event of a newer schema, which says nothing that is known.
fn event(said: &Said, broadcast: BroadcastId, session_id: SessionId) -> Event {
    use pb::status::Event as Status;
    let known = said.choice != 0;
    let text = format!("value {}", said.value);
    match said.kind {
        Kind::Registration => {
            use pb::registration::{Created, Deleted, Event};
            let event = if said.choice < 10 {
                Event::Created(Created {
                    owner: text,
                    created_at: None,
                })
            } else {
                Event::Deleted(Deleted {
                    owner: text,
                    ..Default::default()
                })
            };
            pb::Registration {
                event: known.then_some(event),
            }
            .into()
        }
        Kind::PublishKey => {
            use pb::publish_key::{Event, Issued, Revoked, Rotated};
            let key_hash = PublishKey::generate().hash().to_string();
            let event = match said.choice {
                ..6 => Event::Issued(Issued { key_hash }),
                6..10 => Event::Rotated(Rotated { key_hash }),
                _ => Event::Revoked(Revoked {}),
            };
            pb::PublishKey {
                event: known.then_some(event),
            }
            .into()
        }
        Kind::Tags => {
            let changed = pb::tags::Changed { tags: vec![text] };
            let event = known.then_some(pb::tags::Event::Changed(changed));
            pb::Tags { event }.into()
        }
        Kind::Options => {
            let visibility = if said.value == 0 {
                pb::Visibility::Private
            } else {
                pb::Visibility::Public
            };
            let changed = pb::options::Changed {
                category: text,
                visibility: visibility.into(),
                reconnect_window_s: u32::from(said.value),
                ..Default::default()
            };
            let event = known.then_some(pb::options::Event::Changed(changed));
            pb::Options { event }.into()
        }
        Kind::Status => {
            let session = Some(pb::status::Session {
                session_id: session_id.to_string(),
                started_at: Some(pb::Timestamp {
                    seconds: 1_800_000_000 + i64::from(said.value),
                    nanos: 0,
                }),
                ..Default::default()
            });
            let event = match said.choice {
                ..6 => Status::Started(pb::status::Started { session }),
                6..8 => Status::Interrupted(pb::status::Interrupted {
                    session,
                    ..Default::default()
                }),
                8 => Status::Resumed(pb::status::Resumed { session }),
                _ => Status::Ended(pb::status::Ended {
                    session,
                    ..Default::default()
                }),
            };
            pb::Status {
                event: known.then_some(event),
            }
            .into()
        }
        Kind::Metadata => {
            let produced = pb::metadata::Produced {
                session_id: session_id.to_string(),
                renditions: vec![pb::Rendition {
                    name: "source".to_owned(),
                    kind: pb::RenditionKind::Video.into(),
                    height: 360 * (1 + u32::from(said.value)),
                    ..Default::default()
                }],
                segment_target_ms: 2000,
                ..Default::default()
            };
            let event = known.then_some(pb::metadata::Event::Produced(produced));
            pb::Metadata { event }.into()
        }
        Kind::Segment => {
            let stored = pb::segment::Stored {
                session_id: session_id.to_string(),
                rendition: "source".to_owned(),
                media_sequence: u64::from(said.choice),
                duration_us: 2_000_000,
                object_key: format!("{broadcast}/{session_id}/source/{}.m4s", said.choice),
                ..Default::default()
            };
            let event = known.then_some(pb::segment::Event::Stored(stored));
            pb::Segment { event }.into()
        }
        // The kinds that are left out have no view but the log itself.
        _ => {
            let changed = pb::title::Changed { title: text };
            let event = known.then_some(pb::title::Event::Changed(changed));
            pb::Title { event }.into()
        }
    }
}
