//! What happened: one variant per kind, each holding the kind's protobuf message.

use bytes::Bytes;
use prost::Message;

use crate::{Kind, pb, subject::with_kinds};

macro_rules! events {
    (
        events { $($kind:ident: $class:literal, $token:literal, $stream:literal,
            $module:ident { $($name:ident $text:literal),* };)* }
        bytes { $($bytes:ident: $($names:literal),*;)* }
    ) => {
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
                    $(Kind::$bytes => None,)*
                }
            }

            /// The canonical protobuf JSON of the payload.
            #[must_use]
            pub fn to_json(&self) -> serde_json::Value {
                match self { $(Self::$kind(m) => json(m)),* }
            }

            /// Reads what [`Self::to_json`] writes.
            ///
            /// # Errors
            /// The JSON is not that of a `kind` message, or the kind is [`Kind::Part`].
            pub fn from_json(kind: Kind, json: serde_json::Value) -> Result<Self, serde_json::Error> {
                match kind {
                    $(Kind::$kind => serde_json::from_value(json).map(Self::$kind),)*
                    $(Kind::$bytes => Err(serde::de::Error::custom("a media part has no JSON form")),)*
                }
            }

            /// The names of the events of a kind; none for [`Kind::Part`].
            #[must_use]
            pub const fn names(kind: Kind) -> &'static [&'static str] {
                match kind {
                    $(Kind::$kind => &[$($text),*],)*
                    $(Kind::$bytes => &[],)*
                }
            }

            /// The name of what happened, e.g. `started`; `None` when the producer used
            /// a newer schema than this reader's.
            #[must_use]
            pub const fn name(&self) -> Option<&'static str> {
                match self {
                    $(Self::$kind(pb::$kind { event: Some(event) }) => Some(match event {
                        $(pb::$module::Event::$name(_) => $text,)*
                    }),)*
                    $(Self::$kind(pb::$kind { event: None }) => None,)*
                }
            }
        }

        $(impl From<pb::$kind> for Event {
            fn from(message: pb::$kind) -> Self { Self::$kind(message) }
        })*
    };
}

with_kinds!(events);

/// The canonical protobuf JSON of a message.
pub(crate) fn json(message: &impl serde::Serialize) -> serde_json::Value {
    // A proto message has string keys and finite numbers only; an enum number
    // that this schema does not know is what is left to fail.
    serde_json::to_value(message).unwrap_or_else(|error| serde_json::json!({ "unreadable": error.to_string() }))
}
