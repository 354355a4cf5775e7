//! The letters themselves: what is kept, read and removed.

use std::collections::BTreeMap;

use async_nats::{
    HeaderMap,
    jetstream::{
        consumer::{DeliverPolicy, pull},
        stream::{DeleteMessageErrorKind, DirectGetErrorKind},
    },
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _};

use super::{
    STREAM,
    attempts::{Deed, Outcome, begin},
    header,
};
use crate::{EntryId, Log, Position};

/// Tokens of the subject of a letter.
const LETTER_TOKENS: usize = 4;

/// Why the letters cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LetterError {
    /// JetStream does not answer, or the stream is not there.
    #[error("cannot read stream {STREAM}: {0}")]
    Unavailable(String),
    /// There is no letter with this id.
    #[error("there is no dead letter {0}")]
    Missing(u64),
    /// What stands there is not a letter.
    #[error("dead letter {id} has no header {name}")]
    Malformed {
        /// Its id.
        id: u64,
        /// The header.
        name: &'static str,
    },
}

pub(super) fn unavailable(error: impl ToString) -> LetterError {
    LetterError::Unavailable(error.to_string())
}

/// An entry that a consumer gave up.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Sequence in [`STREAM`], by which it is named.
    pub id: u64,
    /// When the consumer gave it up.
    pub time: DateTime<Utc>,
    /// Where the entry stands in the log.
    pub position: Position,
    /// The entry's subject.
    pub subject: String,
    /// The durable consumer.
    pub consumer: String,
    /// Why.
    pub reason: String,
    /// The entry's headers, without those of JetStream.
    pub headers: Vec<(String, String)>,
    /// The entry's payload; empty in a list.
    pub payload: Bytes,
}

impl Letter {
    pub(super) fn read(
        id: u64,
        time: async_nats::datetime::DateTime,
        headers: Option<&HeaderMap>,
        payload: Bytes,
    ) -> Result<Self, LetterError> {
        let text = |name: &'static str| {
            headers
                .and_then(|headers| headers.get(name))
                .map(|value| value.as_str().to_owned())
                .ok_or(LetterError::Malformed { id, name })
        };
        let sequence = text(header::SEQUENCE)?.parse().map_err(|_| LetterError::Malformed {
            id,
            name: header::SEQUENCE,
        })?;
        let own = |name: &str| name.starts_with("Nats-") || name.starts_with(header::PREFIX);
        Ok(Self {
            id,
            time: crate::status::from_nats_time(time),
            position: Position {
                stream: text(header::STREAM)?,
                sequence,
            },
            subject: text(header::SUBJECT)?,
            consumer: text(header::CONSUMER)?,
            reason: text(header::REASON)?,
            headers: headers
                .iter()
                .flat_map(|headers| headers.iter())
                .filter(|(name, _)| !own(name.as_ref()))
                .flat_map(|(name, values)| {
                    let name = name.to_string();
                    values
                        .iter()
                        .map(move |value| (name.clone(), value.as_str().to_owned()))
                })
                .collect(),
            payload,
        })
    }
}

/// Which letters are listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those of this consumer.
    pub consumer: Option<String>,
    /// Only those of entries of this stream.
    pub stream: Option<String>,
}

impl Filter {
    fn subject(&self) -> String {
        let token = |token: &Option<String>| token.clone().unwrap_or_else(|| "*".to_owned());
        super::subject(&token(&self.stream), &token(&self.consumer))
    }
}

/// How many letters there are, by stream and consumer.
///
/// # Errors
/// See [`LetterError`].
pub async fn count(log: &Log) -> Result<BTreeMap<(String, String), usize>, LetterError> {
    let stream = log.jetstream.get_stream(STREAM).await.map_err(unavailable)?;
    let subjects = stream.info_with_subjects(super::subject("*", "*")).await;
    let counts: Vec<(String, usize)> = subjects
        .map_err(unavailable)?
        .try_collect()
        .await
        .map_err(unavailable)?;
    let of = |(subject, count): (String, usize)| {
        let mut tokens = subject.rsplit('.');
        let (consumer, stream) = (tokens.next()?.to_owned(), tokens.next()?.to_owned());
        Some(((stream, consumer), count))
    };
    Ok(counts.into_iter().filter_map(of).collect())
}

/// The oldest letters, at most `limit`, without their payloads, and how many
/// there are beyond.
///
/// # Errors
/// See [`LetterError`]. What is not a letter is left out.
pub async fn list(log: &Log, filter: &Filter, limit: usize) -> Result<(Vec<Letter>, u64), LetterError> {
    let stream = log.jetstream.get_stream(STREAM).await.map_err(unavailable)?;
    let config = pull::OrderedConfig {
        // A name, and no filter beside it in the request: who lists may create readers, not durables.
        name: Some(format!("reader-{}", EntryId::generate())),
        filter_subjects: vec![filter.subject()],
        headers_only: true,
        deliver_policy: DeliverPolicy::All,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(unavailable)?;
    let mut left = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await.map_err(unavailable)?;
    let mut letters = Vec::new();
    while left > 0 && letters.len() < limit {
        let Some(message) = messages.next().await else { break };
        let message = message.map_err(unavailable)?;
        let info = message.info().map_err(unavailable)?;
        left = info.pending;
        match Letter::read(
            info.stream_sequence,
            info.published,
            message.headers.as_ref(),
            Bytes::new(),
        ) {
            Ok(letter) => letters.push(letter),
            Err(error) => tracing::warn!(error = %error, "left out of the list"),
        }
    }
    Ok((letters, left))
}

/// One letter, with its payload.
///
/// # Errors
/// See [`LetterError`].
pub async fn get(log: &Log, id: u64) -> Result<Letter, LetterError> {
    let stream = log.jetstream.get_stream_no_info(STREAM).await.map_err(unavailable)?;
    match stream.direct_get(id).await {
        // The record of what was done with letters stands in the same stream.
        Ok(message) if message.subject.split('.').count() != LETTER_TOKENS => Err(LetterError::Missing(id)),
        Ok(message) => Letter::read(id, message.time, Some(&message.headers), message.payload),
        Err(error) if error.kind() == DirectGetErrorKind::NotFound => Err(LetterError::Missing(id)),
        Err(error) => Err(unavailable(error)),
    }
}

/// Removes a letter for good, and puts on record that `by` did.
///
/// # Errors
/// See [`LetterError`]. The letter stays when that cannot be put on record.
pub async fn discard(log: &Log, letter: &Letter, by: &str) -> Result<(), LetterError> {
    let attempt = begin(log, letter, Deed::Discard, by).await?;
    let removed = remove(log, letter.id).await;
    let outcome = match &removed {
        Ok(()) => Outcome::Discarded,
        Err(error) => Outcome::Kept {
            reason: error.to_string(),
        },
    };
    attempt.end(log, outcome).await;
    removed
}

/// Removes a letter. One that is gone already is no error.
pub(super) async fn remove(log: &Log, id: u64) -> Result<(), LetterError> {
    /// JetStream: no message has this sequence; it was deleted.
    const GONE: [u64; 2] = [10037, 10057];
    let stream = log.jetstream.get_stream_no_info(STREAM).await.map_err(unavailable)?;
    match stream.delete_message(id).await {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            DeleteMessageErrorKind::JetStream(refused) if GONE.contains(&refused.error_code().0) => Ok(()),
            _ => Err(unavailable(error)),
        },
    }
}
