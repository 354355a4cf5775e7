//! Why an encoder is refused or cut: a stable code and a sentence, the same in the
//! RTMP status, in the log's entries and in the trace.

use std::fmt;

use castlog_metrics::{Refusal, metrics};

/// The stable part; `docs/error-codes.md` says what to do about each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// R01: no broadcast has this publish key.
    UnknownKey,
    /// R02: the URL or the key is malformed.
    Malformed,
    /// R03: the broadcast is live already.
    AlreadyLive,
    /// R04: the key was revoked or rotated, or the broadcast deleted.
    KeyRevoked,
    /// R05: a codec that the platform does not take.
    UnsupportedCodec,
    /// R06: a limit is broken.
    LimitExceeded,
    /// R07: the peer was too slow.
    TimedOut,
    /// R08: the log cannot be reached or is not read yet.
    LogUnavailable,
}

impl Code {
    const ALL: [Self; 8] = [
        Self::UnknownKey,
        Self::Malformed,
        Self::AlreadyLive,
        Self::KeyRevoked,
        Self::UnsupportedCodec,
        Self::LimitExceeded,
        Self::TimedOut,
        Self::LogUnavailable,
    ];
}

/// Shows every code in the metrics from the start: a rate needs a zero to begin with.
pub(crate) fn announce() {
    for code in Code::ALL.map(|code| code.to_string()) {
        metrics().rtmp_refusals.get_or_create(&Refusal { code }).inc_by(0);
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownKey => "R01",
            Self::Malformed => "R02",
            Self::AlreadyLive => "R03",
            Self::KeyRevoked => "R04",
            Self::UnsupportedCodec => "R05",
            Self::LimitExceeded => "R06",
            Self::TimedOut => "R07",
            Self::LogUnavailable => "R08",
        })
    }
}

/// A refusal with its reason; prints as `R01: unknown publish key`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {reason}")]
pub struct Refused {
    /// The code.
    pub code: Code,
    /// The sentence, lower case, without the key.
    pub reason: String,
}

impl Refused {
    /// A refusal.
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    /// Counts it in the metrics.
    pub(crate) fn count(&self) {
        let code = self.code.to_string();
        metrics().rtmp_refusals.get_or_create(&Refusal { code }).inc();
    }

    /// As the encoder is told.
    pub(crate) fn to_rtmp(&self) -> castlog_rtmp_core::Refusal {
        castlog_rtmp_core::Refusal::new(self.to_string())
    }
}
