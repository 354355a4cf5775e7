//! Subjects: `media.<class>.<kind>.<broadcast_id>`, built and parsed only here.

use std::{fmt, str::FromStr};

use crate::BroadcastId;

/// What an entry is about. Each kind has its own protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Kind {
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
    Viewers,
    Part,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Registration,
        Self::PublishKey,
        Self::Title,
        Self::Tags,
        Self::Options,
        Self::Auth,
        Self::Status,
        Self::Metadata,
        Self::Segment,
        Self::Health,
        Self::Viewers,
        Self::Part,
    ];

    /// The class: `broad_info` is what is set on a broadcast, `live_stream`
    /// what happens while it is live.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Self::Registration | Self::PublishKey | Self::Title | Self::Tags | Self::Options => "broad_info",
            _ => "live_stream",
        }
    }

    /// The kind's token in a subject.
    #[must_use]
    pub const fn token(self) -> &'static str {
        match self {
            Self::Registration => "registration",
            Self::PublishKey => "publish_key",
            Self::Title => "title",
            Self::Tags => "tags",
            Self::Options => "options",
            Self::Auth => "auth",
            Self::Status => "status",
            Self::Metadata => "metadata",
            Self::Segment => "segment",
            Self::Health => "health",
            Self::Viewers => "viewers",
            Self::Part => "part",
        }
    }

    /// The JetStream stream that keeps entries of this kind.
    #[must_use]
    pub const fn stream(self) -> &'static str {
        match self {
            Self::Registration | Self::PublishKey | Self::Title | Self::Tags | Self::Options => "BROAD_INFO",
            Self::Auth | Self::Status | Self::Metadata => "LIVE_STREAM",
            Self::Segment => "LIVE_SEGMENT",
            Self::Health | Self::Viewers => "LIVE_TELEMETRY",
            Self::Part => "LIVE_PART",
        }
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
#[error("{subject:?} is not a subject of the log: {reason}")]
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
