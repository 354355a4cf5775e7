//! Writing the change feed: exactly once in effect, whatever is killed when.
//!
//! A writer publishes a batch only behind the sequence of the feed that it has
//! seen, so that several writers, and attempts whose outcome is unknown, cannot
//! both succeed. What has been published is read from the feed itself: the last
//! change of a broadcast names the newest entry of each kind, and a commit that
//! is not newer is there already, however long ago. The server's duplicate
//! window plays no part.

use std::collections::{BTreeSet, HashMap};

use async_nats::{
    HeaderMap,
    header::{NATS_EXPECTED_LAST_SEQUENCE, NATS_MESSAGE_ID},
    jetstream::stream::LastRawMessageErrorKind,
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use prost::Message as _;

use super::{Raw, RawState, SOURCE, STREAM, TYPE, timestamp};
use crate::{
    BroadcastId, DecodeError, Kind, Log,
    batch::{self, Outgoing},
    entry::{PROTOBUF, header, rfc3339},
    subject,
};

/// Most changes of one batch; JetStream takes 1000.
const MAX_BATCH: usize = 500;
/// States read from the feed at the same time.
const READS: usize = 32;
/// Broadcasts whose state is remembered between batches: some kilobytes each.
const MAX_REMEMBERED: usize = 2000;

/// A commit of LiveInfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// Kind of the entry.
    pub kind: Kind,
    /// Sequence of the entry in the stream of its kind.
    pub sequence: u64,
    /// When it happened, by the clock of its publisher.
    pub time: DateTime<Utc>,
    /// Payload of the entry, as it was published.
    pub payload: Bytes,
    /// What LiveInfo held before, by kind: the sequences of the entries.
    pub before: Vec<(Kind, u64)>,
    /// W3C trace context of the entry.
    pub traceparent: Option<String>,
}

/// Why commits are not known to be in the feed. Appending them again is safe.
#[derive(Debug, thiserror::Error)]
#[error("cannot append to stream {STREAM}: {reason}")]
pub struct FeedError {
    reason: String,
}

fn failed(reason: impl ToString) -> FeedError {
    FeedError {
        reason: reason.to_string(),
    }
}

/// A writer of the change feed.
#[derive(Debug)]
pub struct Feed {
    log: Log,
    /// The last sequence of the feed, as far as this writer knows.
    last: Option<u64>,
    /// The last state of broadcasts in the feed, up to `last`.
    states: HashMap<BroadcastId, RawState>,
}

impl Feed {
    /// A writer that reads where the feed ends with its first append.
    #[must_use]
    pub fn new(log: &Log) -> Self {
        Self {
            log: log.clone(),
            last: None,
            states: HashMap::new(),
        }
    }

    /// Appends what is not in the feed yet, in this order; returns how many.
    /// After `Ok`, all of it is in the feed and on disk.
    ///
    /// # Errors
    /// The log cannot be reached, or another writer came first. Some of the
    /// commits may be in the feed; the next call finds out.
    pub async fn append(&mut self, commits: &[Commit]) -> Result<usize, FeedError> {
        let mut appended = 0;
        for commits in commits.chunks(MAX_BATCH) {
            match self.append_batch(commits).await {
                Ok(count) => appended += count,
                Err(error) => {
                    self.last = None;
                    self.states.clear();
                    return Err(error);
                }
            }
        }
        Ok(appended)
    }

    async fn append_batch(&mut self, commits: &[Commit]) -> Result<usize, FeedError> {
        // Until the batch is acknowledged, what is remembered is ahead of the feed.
        let last = match self.last.take() {
            Some(last) => last,
            None => {
                self.states.clear();
                self.log.last_sequence(STREAM).await.map_err(failed)?
            }
        };
        if self.states.len() > MAX_REMEMBERED {
            self.states.clear();
        }
        let unknown: BTreeSet<BroadcastId> = commits
            .iter()
            .map(|commit| commit.broadcast)
            .filter(|broadcast| !self.states.contains_key(broadcast))
            .collect();
        let reads = unknown
            .into_iter()
            .map(async |broadcast| self.newest(broadcast).await.map(|state| (broadcast, state)));
        let read: Vec<_> = stream::iter(reads).buffer_unordered(READS).try_collect().await?;
        self.states.extend(read);
        let mut messages = Vec::with_capacity(commits.len());
        for commit in commits {
            let mut state = self.states.remove(&commit.broadcast).unwrap_or_default();
            if commit.sequence > state.sequence(commit.kind) {
                self.complete(&mut state, commit).await?;
                messages.extend(message(&mut state, commit));
            }
            self.states.insert(commit.broadcast, state);
        }
        let count = messages.len();
        self.last = Some(self.publish(messages, last).await?);
        Ok(count)
    }

    /// The state of a broadcast that its last change in the feed carries.
    async fn newest(&self, broadcast: BroadcastId) -> Result<RawState, FeedError> {
        let stream = self.log.jetstream.get_stream_no_info(STREAM).await.map_err(failed)?;
        // Not by direct get, which a replica that is behind may answer.
        match stream
            .get_last_raw_message_by_subject(&subject::changed(broadcast))
            .await
        {
            Ok(message) => {
                let raw = Raw::decode(&message.payload[..]).map_err(|error| failed(DecodeError::Change(error)))?;
                Ok(raw.state.unwrap_or_default())
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(RawState::default()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Puts in what LiveInfo held before the commit and the feed does not know:
    /// changes that are past the retention of the feed.
    async fn complete(&self, state: &mut RawState, commit: &Commit) -> Result<(), FeedError> {
        for &(kind, sequence) in &commit.before {
            if kind == commit.kind || sequence <= state.sequence(kind) {
                continue;
            }
            // Without one it is past the retention of the log, too.
            let subject = kind.of(commit.broadcast);
            if let Some(entry) = self.log.stored(subject, sequence).await.map_err(failed)? {
                state.take(kind, sequence, entry.time, entry.payload);
            }
        }
        Ok(())
    }

    /// Publishes all or nothing directly behind `last`; returns the sequence of
    /// the last message.
    async fn publish(&self, mut messages: Vec<Outgoing>, last: u64) -> Result<u64, FeedError> {
        let Some(first) = messages.first_mut() else {
            return Ok(last);
        };
        let headers = &mut first.headers;
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, last.to_string().as_str());
        let ack = batch::send(&self.log.jetstream, messages).await.map_err(failed)?;
        // A duplicate is another's attempt, and what stands between is not known.
        if ack.duplicate {
            return Err(failed("another writer came first"));
        }
        Ok(ack.sequence)
    }
}

/// The message of a commit to `state`, which it changes; `None` for kinds that
/// LiveInfo does not keep.
fn message(state: &mut RawState, commit: &Commit) -> Option<Outgoing> {
    if !state.take(commit.kind, commit.sequence, commit.time, commit.payload.clone()) {
        return None;
    }
    let stream = commit.kind.stream();
    let raw = Raw {
        kind: commit.kind.to_string(),
        stream: stream.to_owned(),
        sequence: commit.sequence,
        time: Some(timestamp(commit.time)),
        state: Some(state.clone()),
    };
    let id = format!("{stream}-{}", commit.sequence);
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id.as_str());
    headers.insert(header::SPEC_VERSION, "1.0");
    headers.insert(header::ID, id.as_str());
    headers.insert(header::TYPE, TYPE);
    headers.insert(header::SOURCE, SOURCE);
    headers.insert(header::TIME, rfc3339(commit.time).as_str());
    headers.insert(header::SUBJECT, commit.broadcast.to_string().as_str());
    headers.insert(header::CONTENT_TYPE, PROTOBUF);
    if let Some(traceparent) = &commit.traceparent {
        headers.insert(header::TRACEPARENT, traceparent.as_str());
    }
    Some(Outgoing {
        subject: subject::changed(commit.broadcast),
        headers,
        payload: raw.encode_to_vec().into(),
    })
}
