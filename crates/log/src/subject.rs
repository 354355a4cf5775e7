//! Subjects: `media.<class>.<kind>.<broadcast_id>` of entries, and
//! `castlog.live_info.changed.<broadcast_id>` of the change feed; built and
//! parsed only here.

use std::{fmt, str::FromStr};

use crate::BroadcastId;

/// The kinds of entries: the one place that a new kind is added to, and a message
/// of the same name to the schema. Per kind: its class and token in a subject, the
/// stream that keeps it, and the names of its events. Media parts stand apart,
/// since their payload is bytes.
macro_rules! with_kinds {
    ($then:ident) => {
        $then! {
            events {
                Registration: "broad_info", "registration", "BROAD_INFO",
                    registration { Created "created", Deleted "deleted" };
                PublishKey: "broad_info", "publish_key", "BROAD_INFO",
                    publish_key { Issued "issued", Rotated "rotated", Revoked "revoked" };
                Title: "broad_info", "title", "BROAD_INFO", title { Changed "changed" };
                Tags: "broad_info", "tags", "BROAD_INFO", tags { Changed "changed" };
                Options: "broad_info", "options", "BROAD_INFO", options { Changed "changed" };
                Auth: "live_stream", "auth", "LIVE_STREAM", auth { Accepted "accepted", Rejected "rejected" };
                Status: "live_stream", "status", "LIVE_STREAM",
                    status { Started "started", Interrupted "interrupted", Resumed "resumed", Ended "ended" };
                Metadata: "live_stream", "metadata", "LIVE_STREAM", metadata { Produced "produced" };
                Segment: "live_stream", "segment", "LIVE_SEGMENT", segment { Stored "stored" };
                Health: "live_stream", "health", "LIVE_TELEMETRY", health { Sampled "sampled" };
                Viewers: "live_stream", "viewers", "LIVE_TELEMETRY", viewers { Counted "counted" };
            }
            bytes {
                Part: "live_stream", "part", "LIVE_PART";
            }
        }
    };
}
pub(crate) use with_kinds;

macro_rules! kinds {
    (
        events { $($event:ident: $event_class:literal, $event_token:literal, $event_stream:literal,
            $module:ident { $($name:ident $text:literal),* };)* }
        bytes { $($bytes:ident: $bytes_class:literal, $bytes_token:literal, $bytes_stream:literal;)* }
    ) => {
        /// What an entry is about. Each kind but that of media parts has its own protobuf message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs)]
        pub enum Kind { $($event,)* $($bytes,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: [Self; [$($event_token,)* $($bytes_token,)*].len()] =
                [$(Self::$event,)* $(Self::$bytes,)*];

            /// Class, token and stream.
            const fn names(self) -> (&'static str, &'static str, &'static str) {
                match self {
                    $(Self::$event => ($event_class, $event_token, $event_stream),)*
                    $(Self::$bytes => ($bytes_class, $bytes_token, $bytes_stream),)*
                }
            }
        }
    };
}

with_kinds!(kinds);

impl Kind {
    /// The kinds whose newest entries are the state of a broadcast; those of the
    /// others are what happened to it.
    pub const STATE: [Self; 7] = [
        Self::Registration,
        Self::PublishKey,
        Self::Title,
        Self::Tags,
        Self::Options,
        Self::Status,
        Self::Metadata,
    ];

    /// The class: `broad_info` is what is set on a broadcast, `live_stream`
    /// what happens while it is live.
    #[must_use]
    pub const fn class(self) -> &'static str {
        self.names().0
    }

    /// The kind's token in a subject.
    #[must_use]
    pub const fn token(self) -> &'static str {
        self.names().1
    }

    /// The JetStream stream that keeps entries of this kind.
    #[must_use]
    pub const fn stream(self) -> &'static str {
        self.names().2
    }

    /// The subject filter that matches this kind for every broadcast.
    #[must_use]
    pub fn filter(self) -> String {
        format!("media.{}.{}.*", self.class(), self.token())
    }

    /// The subject of this kind for one broadcast.
    #[must_use]
    pub const fn of(self, broadcast: BroadcastId) -> Subject {
        Subject {
            kind: self,
            broadcast: Some(broadcast),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

impl FromStr for Kind {
    type Err = InvalidSubject;
    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        Self::ALL
            .into_iter()
            .find(|k| k.token() == text)
            .ok_or_else(|| InvalidSubject::new(text, "its kind is unknown"))
    }
}

/// A subject of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// What the entry is about.
    pub kind: Kind,
    /// The broadcast; `None` only on `media.live_stream.auth.unknown`, for
    /// attempts to publish with a key that belongs to no broadcast.
    pub broadcast: Option<BroadcastId>,
}

/// The id token of an [`Kind::Auth`] entry that belongs to no broadcast.
const UNKNOWN: &str = "unknown";

impl Subject {
    /// Where attempts to publish with an unknown key are logged.
    pub const UNKNOWN_AUTH: Self = Self {
        kind: Kind::Auth,
        broadcast: None,
    };
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "media.{}.{}.", self.kind.class(), self.kind.token())?;
        match self.broadcast {
            Some(id) => write!(f, "{id}"),
            None => f.write_str(UNKNOWN),
        }
    }
}

/// A subject that is not one of the log's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("L05: {subject:?} is not a subject of the log: {reason}")]
pub struct InvalidSubject {
    subject: String,
    reason: &'static str,
}

impl InvalidSubject {
    fn new(subject: &str, reason: &'static str) -> Self {
        /// Longest piece of a wrong subject that the message repeats.
        const QUOTED: usize = 100;
        Self {
            subject: subject.chars().take(QUOTED).collect(),
            reason,
        }
    }
}

impl InvalidSubject {
    /// Of what should be a subject of the change feed.
    pub(crate) fn no_change(subject: &str) -> Self {
        Self::new(subject, "the form is castlog.live_info.changed.<broadcast_id>")
    }
}

impl FromStr for Subject {
    type Err = InvalidSubject;

    fn from_str(text: &str) -> Result<Self, InvalidSubject> {
        let mut tokens = text.split('.');
        let (Some("media"), Some(class), Some(kind), Some(id), None) = (
            tokens.next(),
            tokens.next(),
            tokens.next(),
            tokens.next(),
            tokens.next(),
        ) else {
            return Err(InvalidSubject::new(
                text,
                "the form is media.<class>.<kind>.<broadcast_id>",
            ));
        };
        let kind = Kind::ALL
            .into_iter()
            .find(|k| k.token() == kind && k.class() == class)
            .ok_or_else(|| InvalidSubject::new(text, "its class or kind is unknown"))?;
        let broadcast = match id {
            UNKNOWN if kind == Kind::Auth => None,
            id => Some(
                id.parse()
                    .map_err(|_| InvalidSubject::new(text, "its last token is not a broadcast id"))?,
            ),
        };
        Ok(Self { kind, broadcast })
    }
}

/// What subjects of the change feed begin with.
const CHANGED: &str = "castlog.live_info.changed.";

/// The subject of the changes of a broadcast.
pub(crate) fn changed(broadcast: BroadcastId) -> String {
    format!("{CHANGED}{broadcast}")
}

/// The broadcast that a subject of the change feed names; `None` for any other subject.
pub(crate) fn parse_changed(text: &str) -> Option<Result<BroadcastId, InvalidSubject>> {
    let id = text.strip_prefix(CHANGED)?;
    Some(
        id.parse()
            .map_err(|_| InvalidSubject::new(text, "its last token is not a broadcast id")),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_survives_its_text() {
        let id = BroadcastId::generate();
        for subject in Kind::ALL.map(|k| k.of(id)).into_iter().chain([Subject::UNKNOWN_AUTH]) {
            assert_eq!(subject.to_string().parse::<Subject>().unwrap(), subject);
        }
        assert_eq!(Subject::UNKNOWN_AUTH.to_string(), "media.live_stream.auth.unknown");
    }

    #[test]
    fn a_subject_of_the_change_feed_survives_its_text() {
        let id = BroadcastId::generate();
        assert_eq!(parse_changed(&changed(id)), Some(Ok(id)));
        assert!(matches!(parse_changed("castlog.live_info.changed.x"), Some(Err(_))));
        assert_eq!(parse_changed(&Kind::Title.of(id).to_string()), None);
    }

    #[test]
    fn other_subjects_are_refused() {
        let id = BroadcastId::generate();
        for text in [
            String::new(),
            "media.broad_info.title".into(),
            format!("media.live_stream.title.{id}"),
            format!("media.broad_info.title.{id}.x"),
            format!("Media.broad_info.title.{id}"),
            "media.broad_info.title.unknown".into(),
            "media.broad_info.title.*".into(),
        ] {
            assert!(text.parse::<Subject>().is_err(), "{text}");
        }
    }
}
