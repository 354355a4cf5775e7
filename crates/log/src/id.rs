//! Identifiers: lower-case ULIDs, so that they sort by time and are safe as one
//! token of a NATS subject, one segment of a URL and one folder of an object key.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// Text that is not a lower-case ULID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an id: an id is a lower-case ULID of 26 characters")]
pub struct InvalidId(String);

/// Longest piece of a wrong id that an error message repeats.
const QUOTED: usize = 40;

fn parse(text: &str) -> Result<Ulid, InvalidId> {
    let invalid = || InvalidId(text.chars().take(QUOTED).collect());
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(invalid());
    }
    Ulid::from_string(text).map_err(|_| invalid())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(into = "String", try_from = "String")]
        pub struct $name(Ulid);

        impl $name {
            /// A new id, unique and later than all earlier ones of this machine
            /// to the millisecond.
            #[must_use]
            pub fn generate() -> Self {
                Self(Ulid::generate())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0.to_string().to_ascii_lowercase())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                parse(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }
    };
}

id!(
    /// Names a broadcast for all its life, over any number of sessions.
    BroadcastId
);
id!(
    /// Names one live session of a broadcast: from `Started` to `Ended`.
    SessionId
);
id!(
    /// Names an entry: the CloudEvents id and JetStream's `Nats-Msg-Id`.
    EntryId
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        let id = BroadcastId::generate();
        let text = id.to_string();
        assert_eq!(text, text.to_ascii_lowercase());
        assert_eq!(text.parse::<BroadcastId>().unwrap(), id);
    }

    #[test]
    fn other_text_is_refused() {
        for text in [
            "",
            "unknown",
            "01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "01arz3ndektsv4rrffq69g5fa",
            "../../../etc/passwd",
        ] {
            assert!(text.parse::<BroadcastId>().is_err(), "{text:?}");
        }
    }
}
