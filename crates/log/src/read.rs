//! Reading without a durable consumer: the current value of a kind, and ordered
//! readers for services of which every instance needs everything.

use std::{collections::VecDeque, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{
        consumer::{DeliverPolicy, pull},
        message::StreamMessage,
        stream::{DirectGetErrorKind, LastRawMessageErrorKind, StorageType},
    },
};
use chrono::{DateTime, Utc};
use futures::StreamExt;

use crate::{BroadcastId, DecodeError, Entry, EntryId, Kind, Log, Position, Subject, Undecodable};

/// Why the log cannot be read. All of these pass when the server is back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// JetStream does not answer, or the stream is not there.
    #[error("cannot read stream {stream}: {reason}")]
    Unavailable {
        /// The stream.
        stream: String,
        /// What the client says.
        reason: String,
    },
    /// What stands there is not an entry.
    #[error("the entry at {stream} {sequence} cannot be decoded")]
    Undecodable {
        /// The stream.
        stream: String,
        /// Its sequence.
        sequence: u64,
        /// What is wrong.
        source: DecodeError,
    },
}

pub(crate) fn unavailable(stream: &str, reason: impl ToString) -> ReadError {
    ReadError::Unavailable {
        stream: stream.to_owned(),
        reason: reason.to_string(),
    }
}

impl Log {
    /// The last entry of `kind` of a broadcast: the current value of that kind.
    ///
    /// # Errors
    /// The log cannot be reached, or the entry cannot be decoded.
    pub async fn last(&self, kind: Kind, broadcast: BroadcastId) -> Result<Option<Entry>, ReadError> {
        let subject = kind.of(broadcast).to_string();
        let Some(message) = self.last_message(kind, &subject).await? else {
            return Ok(None);
        };
        let position = Position {
            stream: kind.stream().to_owned(),
            sequence: message.sequence,
        };
        Entry::decode(&subject, Some(&message.headers), &message.payload, position)
            .map(Some)
            .map_err(|source| ReadError::Undecodable {
                stream: kind.stream().to_owned(),
                sequence: message.sequence,
                source,
            })
    }

    /// The sequence of the newest message of a stream; 0 when it has never had one.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub async fn last_sequence(&self, stream: &str) -> Result<u64, ReadError> {
        let handle = self.jetstream.get_stream(stream).await;
        let handle = handle.map_err(|e| unavailable(stream, e))?;
        Ok(handle.cached_info().state.last_sequence)
    }

    /// The sequences of the oldest and of the newest message of a stream. The first is
    /// one more than the last while there is none.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub async fn extent(&self, stream: &str) -> Result<(u64, u64), ReadError> {
        let handle = self.jetstream.get_stream(stream).await;
        let handle = handle.map_err(|e| unavailable(stream, e))?;
        let state = &handle.cached_info().state;
        let first = match state.messages {
            0 => state.last_sequence + 1,
            _ => state.first_sequence,
        };
        Ok((first, state.last_sequence))
    }

    /// The entry that stands at a sequence of the stream of `subject`; `None` when
    /// it is past the retention, or is not an entry on that subject.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub async fn stored(&self, subject: Subject, sequence: u64) -> Result<Option<Entry>, ReadError> {
        let stream = subject.kind.stream();
        let handle = self
            .jetstream
            .get_stream_no_info(stream)
            .await
            .map_err(|e| unavailable(stream, e))?;
        // Not by direct get, which a replica that is behind may answer.
        let message = match handle.get_raw_message(sequence).await {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
            Err(error) => return Err(unavailable(stream, error)),
        };
        let position = Position {
            stream: stream.to_owned(),
            sequence,
        };
        let entry = Entry::decode(&message.subject, Some(&message.headers), &message.payload, position);
        Ok(entry.ok().filter(|entry| entry.subject == subject))
    }

    /// The last message on a subject, by direct get.
    pub(crate) async fn last_message(&self, kind: Kind, subject: &str) -> Result<Option<StreamMessage>, ReadError> {
        let stream = kind.stream();
        let handle = self
            .jetstream
            .get_stream_no_info(stream)
            .await
            .map_err(|e| unavailable(stream, e))?;
        match handle.direct_get_last_for_subject(subject).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => Ok(None),
            Err(error) => Err(unavailable(stream, error)),
        }
    }

    /// Reads entries of a stream in order: first what is there, then
    /// [`Followed::CaughtUp`] once, then what comes. The server keeps a consumer for it,
    /// until half a minute after its last use, and takes only so many: what is read once
    /// and to its end is read by [`Self::scan`].
    ///
    /// Nothing is read before the first call of [`Follow::next`].
    #[must_use]
    pub fn follow(&self, stream: &str, filters: &[&str], from: From) -> Follow {
        self.follow_as(stream, filters, from)
    }

    pub(crate) fn follow_as<T: Readable>(&self, stream: &str, filters: &[&str], from: From) -> Follow<T> {
        Follow {
            log: self.clone(),
            stream: stream.to_owned(),
            filters: filters.iter().map(|&f| f.to_owned()).collect(),
            from,
            last: 0,
            made: None,
            pending: 0,
            caught_up: false,
            connections: self.connections.clone(),
            reader: None,
            ready: VecDeque::new(),
        }
    }
}

/// Where a [`Follow`] starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// At the oldest entry.
    Beginning,
    /// With the last entry of each subject.
    LastPerSubject,
    /// With what comes after this moment.
    New,
    /// At a sequence.
    Sequence(u64),
    /// At the first entry stored at or after a time.
    Time(DateTime<Utc>),
}

/// What a [`Follow`] reads.
pub trait Readable: Sized {
    /// Reads it from a message.
    ///
    /// # Errors
    /// The subject, a header or the payload is not one's.
    fn read(
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &[u8],
        position: Position,
    ) -> Result<Self, DecodeError>;
}

impl Readable for Entry {
    fn read(
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &[u8],
        position: Position,
    ) -> Result<Self, DecodeError> {
        Self::decode(subject, headers, payload, position)
    }
}

/// What a [`Follow`] yields.
#[derive(Debug)]
pub enum Followed<T = Entry> {
    /// The next entry.
    Entry(Box<T>),
    /// A message that is not an entry; reading goes on behind it.
    Undecodable(Box<Undecodable>),
    /// All that was in the stream when reading began has been yielded. Comes once.
    CaughtUp,
}

/// An ordered reader of a stream. It survives restarts of the server: each
/// entry comes once and in order.
pub struct Follow<T = Entry> {
    log: Log,
    stream: String,
    filters: Vec<String>,
    from: From,
    last: u64,
    /// When the stream was made, while it is one in memory.
    made: Option<async_nats::datetime::DateTime>,
    /// Entries behind the newest that was received.
    pending: u64,
    caught_up: bool,
    connections: tokio::sync::watch::Receiver<u64>,
    reader: Option<pull::Ordered>,
    ready: VecDeque<Followed<T>>,
}

/// Wait before a reader is opened again.
const REOPEN_DELAY: Duration = Duration::from_millis(250);

impl<T: Readable> Follow<T> {
    /// The next entry, in stream order. Waits for ever when nothing comes.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// The reader cannot be opened. The next call tries again, so a caller that
    /// wants to go on logs the error and calls again; each failure takes a short
    /// delay, so that such a loop does not spin.
    pub async fn next(&mut self) -> Result<Followed<T>, ReadError> {
        loop {
            if let Some(followed) = self.ready.pop_front() {
                return Ok(followed);
            }
            if self.reader.is_none() {
                match self.open().await {
                    Ok(()) => continue,
                    Err(error) => {
                        tokio::time::sleep(REOPEN_DELAY).await;
                        return Err(error);
                    }
                }
            }
            let Some(reader) = self.reader.as_mut() else { continue };
            let message = tokio::select! {
                message = reader.next() => message,
                // The server that held this reader's consumer is gone.
                Ok(()) = self.connections.changed() => None,
            };
            match message {
                Some(Ok(message)) => self.take(&message),
                Some(Err(error)) => {
                    tracing::debug!(stream = self.stream, error = %error, "reader of the log opens again");
                    self.reader = None;
                }
                None => self.reader = None,
            }
        }
    }

    /// How many entries are there behind the one that [`Self::next`] yielded last.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.pending
    }

    fn take(&mut self, message: &async_nats::jetstream::Message) {
        let Ok(info) = message.info() else { return };
        let (sequence, pending) = (info.stream_sequence, info.pending);
        if sequence <= self.last {
            return;
        }
        self.last = sequence;
        self.pending = pending;
        let position = Position {
            stream: self.stream.clone(),
            sequence,
        };
        let subject = message.subject.as_str();
        let decoded = T::read(subject, message.headers.as_ref(), &message.payload, position.clone());
        self.ready.push_back(match decoded {
            Ok(entry) => Followed::Entry(Box::new(entry)),
            Err(error) => Followed::Undecodable(Box::new(Undecodable {
                subject: subject.to_owned(),
                position,
                error,
            })),
        });
        if pending == 0 {
            self.catch_up();
        }
    }

    fn catch_up(&mut self) {
        if !self.caught_up {
            self.caught_up = true;
            self.ready.push_back(Followed::CaughtUp);
        }
    }

    async fn open(&mut self) -> Result<(), ReadError> {
        self.connections.mark_unchanged();
        let stream = &self.stream;
        let handle = self
            .log
            .jetstream
            .get_stream(stream)
            .await
            .map_err(|e| unavailable(stream, e))?;
        let info = handle.cached_info();
        if info.config.storage == StorageType::Memory && self.made != Some(info.created) {
            // Gone with its server and made anew: its sequences begin anew, too.
            if self.made.replace(info.created).is_some() {
                self.last = 0;
            }
        }
        let deliver_policy = match (self.last, self.from) {
            (0, From::Beginning) => DeliverPolicy::All,
            (0, From::LastPerSubject) => DeliverPolicy::LastPerSubject,
            (0, From::New) => DeliverPolicy::New,
            (0, From::Sequence(start_sequence)) => DeliverPolicy::ByStartSequence { start_sequence },
            (0, From::Time(time)) => DeliverPolicy::ByStartTime {
                start_time: to_nats_time(time),
            },
            (last, _) => DeliverPolicy::ByStartSequence {
                start_sequence: last + 1,
            },
        };
        let config = pull::OrderedConfig {
            // Without a name of its own a reader could be given that of a durable
            // consumer, so users may not create one without.
            name: Some(format!("reader-{}", EntryId::generate())),
            description: Some(self.log.name().to_owned()),
            filter_subjects: self.filters.clone(),
            deliver_policy,
            ..Default::default()
        };
        // An entry that comes between this look and the creation of the consumer
        // is delivered like any other; it only comes after `CaughtUp`.
        let empty = handle.cached_info().state.messages == 0;
        let consumer = handle
            .create_consumer(config)
            .await
            .map_err(|e| unavailable(stream, e))?;
        let nothing_pending = consumer.cached_info().num_pending == 0;
        self.reader = Some(consumer.messages().await.map_err(|e| unavailable(stream, e))?);
        if empty || nothing_pending {
            self.catch_up();
        }
        Ok(())
    }
}

fn to_nats_time(time: DateTime<Utc>) -> async_nats::datetime::DateTime {
    // A chrono time is inside the range of the other type: years ±262,000 and ±9,999
    // differ, and a start time outside of the latter means the beginning.
    async_nats::datetime::from_nanos(i128::from(time.timestamp_micros()) * 1000)
        .unwrap_or(async_nats::datetime::DateTime::UNIX_EPOCH)
}
