//! Looking at what is stored: single messages as they are, and how many there
//! are on which subject. For people who look, not for views: nothing here is in
//! the order of the log.

use async_nats::{
    HeaderMap,
    jetstream::{message::StreamMessage, stream::DirectGetErrorKind},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt as _;

use crate::{
    DecodeError, Entry, Log, Position, ReadError,
    read::unavailable,
    status::{StreamStatus, from_nats_time},
};

/// A message as it stands in a stream.
#[derive(Debug)]
pub struct Raw {
    /// Where it stands.
    pub position: Position,
    /// Its subject.
    pub subject: String,
    /// When it was stored.
    pub stored: DateTime<Utc>,
    /// Its payload.
    pub payload: Bytes,
    headers: HeaderMap,
}

impl Raw {
    fn new(stream: &str, message: StreamMessage) -> Self {
        Self {
            position: Position {
                stream: stream.to_owned(),
                sequence: message.sequence,
            },
            subject: message.subject.to_string(),
            stored: from_nats_time(message.time),
            payload: message.payload,
            headers: message.headers,
        }
    }

    /// Its headers, without those that say where it stands, by name.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        /// What a direct get adds.
        const PLACE: [&str; 5] = [
            "Nats-Stream",
            "Nats-Subject",
            "Nats-Sequence",
            "Nats-Time-Stamp",
            "Nats-Last-Sequence",
        ];
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| !PLACE.contains(&AsRef::<str>::as_ref(*name)))
            .flat_map(|(name, values)| values.iter().map(|value| (name.to_string(), value.as_str().to_owned())))
            .collect();
        headers.sort();
        headers
    }

    /// The entry that it is.
    ///
    /// # Errors
    /// It is none.
    pub fn entry(&self) -> Result<Entry, DecodeError> {
        Entry::decode(&self.subject, Some(&self.headers), &self.payload, self.position.clone())
    }
}

impl Log {
    /// The message at a sequence of a stream; `None` when there is none, or none any more.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub async fn raw(&self, stream: &str, sequence: u64) -> Result<Option<Raw>, ReadError> {
        let handle = self.jetstream.get_stream_no_info(stream).await;
        let handle = handle.map_err(|e| unavailable(stream, e))?;
        match handle.direct_get(sequence).await {
            Ok(message) => Ok(Some(Raw::new(stream, message))),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(stream, error)),
        }
    }

    /// What a stream holds, and the number of entries on each of its subjects that
    /// `filter` matches, at most `limit` subjects, in no order.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub async fn subject_counts(
        &self,
        stream: &str,
        filter: &str,
        limit: usize,
    ) -> Result<(StreamStatus, Vec<(String, u64)>), ReadError> {
        let handle = self.jetstream.get_stream(stream).await;
        let handle = handle.map_err(|e| unavailable(stream, e))?;
        let state = &handle.cached_info().state;
        let status = StreamStatus {
            name: stream.to_owned(),
            entries: state.messages,
            bytes: state.bytes,
            first: state.first_sequence,
            last: state.last_sequence,
        };
        let mut counts = Vec::new();
        let subjects = handle.info_with_subjects(filter).await;
        let mut subjects = subjects.map_err(|e| unavailable(stream, e))?;
        while counts.len() < limit
            && let Some(subject) = subjects.next().await
        {
            let (subject, count) = subject.map_err(|e| unavailable(stream, e))?;
            counts.push((subject, u64::try_from(count).unwrap_or(u64::MAX)));
        }
        Ok((status, counts))
    }
}
