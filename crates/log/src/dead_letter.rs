//! Dead letters: entries that a consumer could not decode or apply. They are
//! kept, with the reason, on `castlog.dead_letter.<stream>.<consumer>`, and
//! nothing stalls behind them. They can be listed, looked at, handed to their
//! consumer again, and removed; who does that is on record beside them.

mod attempts;
mod letters;
mod redrive;

use async_nats::{HeaderMap, header::NATS_MESSAGE_ID};

use crate::{ConsumeError, Delivery, Log};

pub use attempts::{Attempt, Deed, Outcome, attempts};
pub use letters::{Filter, Letter, LetterError, count, discard, get, list};
pub use redrive::{Redrive, RedriveError, Redrives, redrive};

/// The stream that keeps dead letters.
pub const STREAM: &str = "DEAD_LETTER";

/// Headers of a dead letter, beside those of the entry itself.
pub mod header {
    /// What they all begin with.
    pub(crate) const PREFIX: &str = "Castlog-Dead-Letter-";
    /// Stream of the entry.
    pub const STREAM: &str = "Castlog-Dead-Letter-Stream";
    /// Sequence of the entry.
    pub const SEQUENCE: &str = "Castlog-Dead-Letter-Sequence";
    /// Subject of the entry.
    pub const SUBJECT: &str = "Castlog-Dead-Letter-Subject";
    /// Durable consumer that gave it up.
    pub const CONSUMER: &str = "Castlog-Dead-Letter-Consumer";
    /// Why: a code of docs/error-codes.md (L05 to L08) and what is wrong.
    pub const REASON: &str = "Castlog-Dead-Letter-Reason";
}

/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 500;

/// The subject that keeps the dead letters of a consumer of a stream.
#[must_use]
pub fn subject(stream: &str, consumer: &str) -> String {
    format!("castlog.dead_letter.{stream}.{consumer}")
}

/// Keeps an entry as a dead letter of `consumer`, then ends its delivery.
///
/// # Errors
/// The log does not acknowledge the dead letter; the entry comes again.
pub async fn bury(log: &Log, consumer: &str, delivery: &Delivery, reason: &str) -> Result<(), ConsumeError> {
    let reason: String = reason.replace(['\r', '\n'], " ").chars().take(MAX_REASON).collect();
    let position = delivery.position();
    let message = &delivery.message;
    let mut headers = HeaderMap::new();
    for (name, values) in message.headers.iter().flat_map(HeaderMap::iter) {
        // Headers that steer JetStream belong to the first publish only.
        if !name.to_string().starts_with("Nats-") {
            for value in values {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    let sequence = position.sequence.to_string();
    let id = format!("{}-{}-{consumer}", position.stream, sequence);
    headers.insert(NATS_MESSAGE_ID, id.as_str());
    headers.insert(header::STREAM, position.stream.as_str());
    headers.insert(header::SEQUENCE, sequence.as_str());
    headers.insert(header::SUBJECT, message.subject.as_str());
    headers.insert(header::CONSUMER, consumer);
    headers.insert(header::REASON, reason.as_str());
    let subject = subject(&position.stream, consumer);
    let not_kept = |reason: String| ConsumeError::Ack {
        stream: position.stream.clone(),
        sequence: position.sequence,
        reason: format!("the dead letter was not stored: {reason}"),
    };
    log.jetstream
        .publish_with_headers(subject, headers, message.payload.clone())
        .await
        .map_err(|e| not_kept(e.to_string()))?
        .await
        .map_err(|e| not_kept(e.to_string()))?;
    tracing::error!(
        stream = position.stream,
        seq = position.sequence,
        consumer,
        reason,
        "entry became a dead letter"
    );
    delivery.term(&reason).await
}
