//! The record of what people did with dead letters: who, when, with which letter,
//! and what came of it.
//!
//! It stands beside the letters, on `castlog.dead_letter.attempt.<stream>.<consumer>`,
//! two messages to an attempt: one before anything is done, without which nothing
//! is, and one that says how it ended. An attempt that has only the first broke off,
//! or its outcome could not be stored.

use std::collections::VecDeque;

use async_nats::{
    HeaderMap,
    header::NATS_MESSAGE_ID,
    jetstream::consumer::{DeliverPolicy, pull},
};
use chrono::{DateTime, Utc};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::{
    Letter, STREAM,
    letters::{LetterError, unavailable},
};
use crate::{EntryId, Log, Position};

/// What they all begin with; letters have two tokens behind `castlog.dead_letter`.
const SUBJECTS: &str = "castlog.dead_letter.attempt";

/// Longest name of who did it, in characters.
const MAX_BY: usize = 100;

/// What is done with a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Deed {
    /// Its entry is handed to the consumer again.
    Redrive,
    /// It is removed for good.
    Discard,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The consumer has applied the entry; the letter is gone.
    Applied,
    /// The letter is gone, and its entry was not applied.
    Discarded,
    /// The letter stays.
    Kept {
        /// Why.
        reason: String,
    },
}

/// Something that was done with a letter, or tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its id, which both of its messages have.
    pub id: String,
    /// When it began, by the log's clock.
    pub time: DateTime<Utc>,
    /// Who did it.
    pub by: String,
    /// What was done.
    pub deed: Deed,
    /// The letter.
    pub letter: u64,
    /// Where the entry stands in the log.
    pub position: Position,
    /// The entry's subject.
    pub subject: String,
    /// The durable consumer that had given it up.
    pub consumer: String,
    /// How it ended; `None` while it goes on, and when it broke off.
    pub outcome: Option<Outcome>,
}

/// One of the messages, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
enum Record {
    Begun {
        attempt: String,
        deed: Deed,
        by: String,
        letter: u64,
        stream: String,
        seq: u64,
        subject: String,
        consumer: String,
    },
    Ended {
        attempt: String,
        #[serde(flatten)]
        outcome: Outcome,
    },
}

/// An attempt whose beginning is on record.
pub(super) struct Begun {
    id: String,
    subject: String,
}

/// Puts on record that `by` is about to do something with a letter.
pub(super) async fn begin(log: &Log, letter: &Letter, deed: Deed, by: &str) -> Result<Begun, LetterError> {
    let begun = Begun {
        id: EntryId::generate().to_string(),
        subject: format!("{SUBJECTS}.{}.{}", letter.position.stream, letter.consumer),
    };
    let record = Record::Begun {
        attempt: begun.id.clone(),
        deed,
        by: by.chars().filter(|c| !c.is_control()).take(MAX_BY).collect(),
        letter: letter.id,
        stream: letter.position.stream.clone(),
        seq: letter.position.sequence,
        subject: letter.subject.clone(),
        consumer: letter.consumer.clone(),
    };
    write(log, &begun, "begun", &record).await?;
    Ok(begun)
}

impl Begun {
    /// Puts on record how it ended. What was done stays done when that cannot be stored.
    pub(super) async fn end(self, log: &Log, outcome: Outcome) {
        let record = Record::Ended {
            attempt: self.id.clone(),
            outcome,
        };
        if let Err(error) = write(log, &self, "ended", &record).await {
            tracing::error!(attempt = self.id, record = ?record, error = %error, "outcome of an attempt is not on record");
        }
    }
}

async fn write(log: &Log, attempt: &Begun, part: &str, record: &Record) -> Result<(), LetterError> {
    let payload = serde_json::to_vec(record).map_err(unavailable)?;
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, format!("{}-{part}", attempt.id).as_str());
    log.jetstream
        .publish_with_headers(attempt.subject.clone(), headers, payload.into())
        .await
        .map_err(unavailable)?
        .await
        .map_err(unavailable)?;
    Ok(())
}

/// The newest attempts, the newest first, at most `limit`.
///
/// # Errors
/// See [`LetterError`]. What is no record is left out.
pub async fn attempts(log: &Log, limit: usize) -> Result<Vec<Attempt>, LetterError> {
    let stream = log.jetstream.get_stream(STREAM).await.map_err(unavailable)?;
    let config = pull::OrderedConfig {
        name: Some(format!("reader-{}", EntryId::generate())),
        filter_subjects: vec![format!("{SUBJECTS}.>")],
        deliver_policy: DeliverPolicy::All,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(unavailable)?;
    let mut left = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await.map_err(unavailable)?;
    let mut newest = Newest::of(limit);
    while left > 0 {
        let Some(message) = messages.next().await else { break };
        let message = message.map_err(unavailable)?;
        let info = message.info().map_err(unavailable)?;
        left = info.pending;
        match serde_json::from_slice(&message.payload) {
            Ok(record) => newest.apply(crate::status::from_nats_time(info.published), record),
            Err(error) => tracing::warn!(seq = info.stream_sequence, error = %error, "not a record of an attempt"),
        }
    }
    Ok(newest.attempts.into_iter().rev().collect())
}

/// The fold of the records: the last attempts, the oldest of them first.
struct Newest {
    attempts: VecDeque<Attempt>,
    most: usize,
}

impl Newest {
    fn of(most: usize) -> Self {
        Self {
            attempts: VecDeque::new(),
            most,
        }
    }

    fn apply(&mut self, time: DateTime<Utc>, record: Record) {
        match record {
            Record::Begun {
                attempt,
                deed,
                by,
                letter,
                stream,
                seq,
                subject,
                consumer,
            } => {
                self.attempts.push_back(Attempt {
                    id: attempt,
                    time,
                    by,
                    deed,
                    letter,
                    position: Position { stream, sequence: seq },
                    subject,
                    consumer,
                    outcome: None,
                });
                if self.attempts.len() > self.most {
                    self.attempts.pop_front();
                }
            }
            Record::Ended { attempt, outcome } => {
                // It is one of the last, if it is still among them.
                if let Some(of) = self.attempts.iter_mut().rev().find(|of| of.id == attempt) {
                    of.outcome = Some(outcome);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Record {
        serde_json::from_str(json).unwrap()
    }

    fn begun(id: &str, letter: u64) -> Record {
        read(&format!(
            r#"{{"record":"begun","attempt":"{id}","deed":"redrive","by":"admin","letter":{letter},"stream":"BROAD_INFO",
                "seq":7,"subject":"media.broad_info.title.x","consumer":"indexer","of a newer version":1}}"#
        ))
    }

    #[test]
    fn attempts_are_folded_from_what_is_on_record() {
        let mut newest = Newest::of(2);
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        newest.apply(at(1), begun("a", 1));
        newest.apply(at(2), begun("b", 2));
        newest.apply(
            at(3),
            read(r#"{"record":"ended","attempt":"a","outcome":"kept","reason":"L08"}"#),
        );
        newest.apply(at(4), begun("c", 1));
        newest.apply(at(5), read(r#"{"record":"ended","attempt":"c","outcome":"applied"}"#));
        // That one is past the limit.
        newest.apply(at(6), read(r#"{"record":"ended","attempt":"a","outcome":"applied"}"#));
        let found: Vec<_> = newest
            .attempts
            .iter()
            .map(|a| (&*a.id, a.letter, a.time, a.outcome.clone()))
            .collect();
        assert_eq!(found, [("b", 2, at(2), None), ("c", 1, at(4), Some(Outcome::Applied))]);
    }

    #[test]
    fn a_record_survives_its_text() {
        let record = Record::Ended {
            attempt: "a".to_owned(),
            outcome: Outcome::Kept {
                reason: "nobody there".to_owned(),
            },
        };
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(
            text,
            r#"{"record":"ended","attempt":"a","outcome":"kept","reason":"nobody there"}"#
        );
    }
}
