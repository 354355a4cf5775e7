//! One event of each name of each kind, filled enough to be told apart.

use castlog_log::{Event, SessionId, pb};
use pb::{auth, health, metadata, options, publish_key, registration, segment, status, tags, title, viewers};

macro_rules! event {
    ($message:ident, $module:ident :: $name:ident { $($field:ident: $value:expr),* $(,)? }) => {
        Event::from(pb::$message {
            event: Some($module::Event::$name($module::$name { $($field: $value,)* ..Default::default() })),
        })
    };
}

/// Every event that the schema knows.
#[must_use]
// Some events have no more fields than are set.
#[allow(clippy::needless_update)]
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
