//! Events for tests: those that many need, and one of each name of each kind.

// Some events have no more fields than are set.
#![allow(clippy::needless_update)]

use castlog_log::{BroadcastId, Entry, Event, Position, SessionId, pb};
use chrono::Utc;
use pb::{auth, health, metadata, options, publish_key, registration, segment, status, tags, title, viewers};

macro_rules! event {
    ($message:ident, $module:ident :: $name:ident { $($field:ident: $value:expr),* $(,)? }) => {
        Event::from(pb::$message {
            event: Some($module::Event::$name($module::$name { $($field: $value,)* ..Default::default() })),
        })
    };
}

/// A new title.
#[must_use]
pub fn title(text: &str) -> Event {
    event!(Title, title::Changed { title: text.into() })
}

/// New tags.
#[must_use]
pub fn tags(tags: &[&str]) -> Event {
    let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
    event!(Tags, tags::Changed { tags: tags })
}

/// A broadcast of `owner` is there.
#[must_use]
pub fn created(owner: &str) -> Event {
    event!(Registration, registration::Created { owner: owner.into() })
}

/// A session begins.
#[must_use]
pub fn started(session_id: &str) -> Event {
    let session = status::Session {
        session_id: session_id.into(),
        started_at: Some(pb::Timestamp {
            seconds: 1_800_000_000,
            nanos: 0,
        }),
        ..Default::default()
    };
    event!(Status, status::Started { session: Some(session) })
}

/// So many people watch at an edge.
#[must_use]
pub fn counted(edge: &str, concurrent: u32) -> Event {
    event!(
        Viewers,
        viewers::Counted {
            edge: edge.into(),
            concurrent: concurrent,
        }
    )
}

/// An entry as it comes from the log.
#[must_use]
pub fn entry(broadcast: BroadcastId, event: impl Into<Event>, sequence: u64) -> Entry {
    let event = event.into();
    let kind = event.kind();
    Entry {
        id: format!("e{sequence}"),
        source: "castlog/test".to_owned(),
        time: Utc::now(),
        subject: kind.of(broadcast),
        event,
        position: Position {
            stream: kind.stream().to_owned(),
            sequence,
        },
        traceparent: None,
        payload: Default::default(),
    }
}

/// Every event that the schema knows, filled enough to be told apart.
#[must_use]
pub fn every_event() -> Vec<Event> {
    let session = Some(status::Session {
        session_id: SessionId::generate().to_string(),
        started_at: Some(pb::Timestamp {
            seconds: 1_800_000_000,
            nanos: 0,
        }),
        server: "rtmp-1".into(),
        ..Default::default()
    });
    let hash = || "0".repeat(64);
    vec![
        event!(Registration, registration::Created { owner: "ann".into() }),
        event!(Registration, registration::Deleted { owner: "ann".into() }),
        event!(PublishKey, publish_key::Issued { key_hash: hash() }),
        event!(PublishKey, publish_key::Rotated { key_hash: hash() }),
        event!(PublishKey, publish_key::Revoked {}),
        event!(
            Title,
            title::Changed {
                title: "롤 랭크".into()
            }
        ),
        event!(
            Tags,
            tags::Changed {
                tags: vec!["lol".into()]
            }
        ),
        event!(
            Options,
            options::Changed {
                language: "ko".into(),
                visibility: pb::Visibility::Public.into()
            }
        ),
        event!(Auth, auth::Accepted { encoder: "OBS".into() }),
        event!(Auth, auth::Rejected { code: "R01".into() }),
        event!(
            Status,
            status::Started {
                session: session.clone()
            }
        ),
        event!(
            Status,
            status::Interrupted {
                session: session.clone()
            }
        ),
        event!(
            Status,
            status::Resumed {
                session: session.clone()
            }
        ),
        event!(
            Status,
            status::Ended {
                session: session,
                reason: "encoder stopped".into()
            }
        ),
        event!(
            Metadata,
            metadata::Produced {
                segment_target_ms: 2000
            }
        ),
        event!(
            Segment,
            segment::Stored {
                rendition: "720p".into(),
                media_sequence: 7
            }
        ),
        event!(Health, health::Sampled { av_drift_ms: -3 }),
        event!(
            Viewers,
            viewers::Counted {
                edge: "hls-1".into(),
                concurrent: 5
            }
        ),
    ]
}
