//! What happened: one variant per kind, each holding the kind's protobuf message.

use bytes::Bytes;
use prost::Message;

use crate::{Kind, pb};

macro_rules! events {
    ($($kind:ident),*) => {
        /// The payload of an entry. Media parts are not events: their payload is bytes.
        #[derive(Debug, Clone, PartialEq)]
        #[allow(missing_docs)]
        pub enum Event { $($kind(pb::$kind)),* }

        impl Event {
            /// The kind, which names the subject and the stream.
            #[must_use]
            pub const fn kind(&self) -> Kind {
                match self { $(Self::$kind(_) => Kind::$kind),* }
            }

            /// The protobuf payload.
            #[must_use]
            pub fn encode(&self) -> Bytes {
                match self { $(Self::$kind(m) => m.encode_to_vec().into()),* }
            }

            /// Reads the payload of an entry of `kind`. `None` for [`Kind::Part`].
            pub(crate) fn decode(kind: Kind, payload: &[u8]) -> Option<Result<Self, prost::DecodeError>> {
                match kind {
                    $(Kind::$kind => Some(pb::$kind::decode(payload).map(Self::$kind)),)*
                    Kind::Part => None,
                }
            }

            /// The canonical protobuf JSON of the payload.
            #[must_use]
            pub fn to_json(&self) -> serde_json::Value {
                let json = match self { $(Self::$kind(m) => serde_json::to_value(m)),* };
                // A proto message has string keys and finite numbers only; an enum
                // number that this schema does not know is what is left to fail.
                json.unwrap_or_else(|error| serde_json::json!({ "unreadable": error.to_string() }))
            }

            /// Reads what [`Self::to_json`] writes.
            ///
            /// # Errors
            /// The JSON is not that of a `kind` message, or the kind is [`Kind::Part`].
            pub fn from_json(kind: Kind, json: serde_json::Value) -> Result<Self, serde_json::Error> {
                match kind {
                    $(Kind::$kind => serde_json::from_value(json).map(Self::$kind),)*
                    Kind::Part => Err(serde::de::Error::custom("a media part has no JSON form")),
                }
            }
        }

        $(impl From<pb::$kind> for Event {
            fn from(message: pb::$kind) -> Self { Self::$kind(message) }
        })*
    };
}

events!(
    Registration,
    PublishKey,
    Title,
    Tags,
    Options,
    Auth,
    Status,
    Metadata,
    Segment,
    Health,
    Viewers
);

impl Event {
    /// The name of what happened, e.g. `started`; `None` when the producer used
    /// a newer schema than this reader's.
    #[must_use]
    pub const fn name(&self) -> Option<&'static str> {
        use pb::{auth, health, metadata, options, publish_key, registration, segment, status, tags, title, viewers};
        Some(match self {
            Self::Registration(pb::Registration { event: Some(e) }) => match e {
                registration::Event::Created(_) => "created",
                registration::Event::Deleted(_) => "deleted",
            },
            Self::PublishKey(pb::PublishKey { event: Some(e) }) => match e {
                publish_key::Event::Issued(_) => "issued",
                publish_key::Event::Rotated(_) => "rotated",
                publish_key::Event::Revoked(_) => "revoked",
            },
            Self::Title(pb::Title {
                event: Some(title::Event::Changed(_)),
            })
            | Self::Tags(pb::Tags {
                event: Some(tags::Event::Changed(_)),
            })
            | Self::Options(pb::Options {
                event: Some(options::Event::Changed(_)),
            }) => "changed",
            Self::Auth(pb::Auth { event: Some(e) }) => match e {
                auth::Event::Accepted(_) => "accepted",
                auth::Event::Rejected(_) => "rejected",
            },
            Self::Status(pb::Status { event: Some(e) }) => match e {
                status::Event::Started(_) => "started",
                status::Event::Interrupted(_) => "interrupted",
                status::Event::Resumed(_) => "resumed",
                status::Event::Ended(_) => "ended",
            },
            Self::Metadata(pb::Metadata {
                event: Some(metadata::Event::Produced(_)),
            }) => "produced",
            Self::Segment(pb::Segment {
                event: Some(segment::Event::Stored(_)),
            }) => "stored",
            Self::Health(pb::Health {
                event: Some(health::Event::Sampled(_)),
            }) => "sampled",
            Self::Viewers(pb::Viewers {
                event: Some(viewers::Event::Counted(_)),
            }) => "counted",
            _ => return None,
        })
    }
}
