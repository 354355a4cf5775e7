//! Publishing: an entry is published when JetStream has acknowledged it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{
    HeaderMap,
    header::{NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, NATS_MESSAGE_ID},
    jetstream::context::PublishErrorKind,
};
use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use castlog_metrics::{Publish, Stream, metrics};
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use tracing::Instrument as _;

use crate::{
    BroadcastId, EntryId, Event, Kind, Log, PartHeader, Subject,
    batch::Outgoing,
    commit::{Fate, Message},
    entry, trace,
};

/// Largest payload of an entry in bytes; all kinds but parts are far smaller.
const MAX_ENTRY: usize = 64 * 1024;
/// Largest media part in bytes: what `max_payload` of the server allows, less the headers.
const MAX_PART: usize = 8 * 1024 * 1024 - 4096;
/// Attempts to publish a part before the caller hears of it: with the delays
/// below and the ack timeout this rides out a restart of the server.
const PART_ATTEMPTS: usize = 6;

/// An entry to publish.
#[derive(Debug, Clone)]
pub struct Draft {
    subject: Subject,
    event: Event,
    id: String,
    time: Option<DateTime<Utc>>,
    traceparent: Option<String>,
    expected: Option<u64>,
}

impl Draft {
    /// An event of a broadcast.
    pub fn new(broadcast: BroadcastId, event: impl Into<Event>) -> Self {
        let event = event.into();
        Self::on(event.kind().of(broadcast), event)
    }

    /// A refused attempt to publish that belongs to no broadcast.
    #[must_use]
    pub fn unknown_auth(event: crate::pb::Auth) -> Self {
        Self::on(Subject::UNKNOWN_AUTH, event.into())
    }

    fn on(subject: Subject, event: Event) -> Self {
        Self {
            subject,
            event,
            id: EntryId::generate().to_string(),
            time: None,
            traceparent: None,
            expected: None,
        }
    }

    /// Sets the entry id, which is what duplicates are recognised by. Without
    /// it, each draft has an id of its own, which its clones share.
    #[must_use]
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.id = id.into();
        self
    }

    /// Sets when it happened; the default is the moment of publishing.
    #[must_use]
    pub const fn time(mut self, time: DateTime<Utc>) -> Self {
        self.time = Some(time);
        self
    }

    /// Sets the W3C trace context of what caused the entry. Where traces are
    /// exported, the entry carries that of its own publishing instead, which goes
    /// on from the span that is open, and from this one where none is.
    #[must_use]
    pub fn traceparent(mut self, traceparent: Option<String>) -> Self {
        self.traceparent = traceparent;
        self
    }

    /// Publishes only when the last entry on the subject has this sequence;
    /// 0 = the subject is empty.
    #[must_use]
    pub const fn expect_last(mut self, sequence: u64) -> Self {
        self.expected = Some(sequence);
        self
    }
}

/// Where an entry has been stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// JetStream stream.
    pub stream: String,
    /// Sequence in the stream.
    pub sequence: u64,
    /// The entry's id was there already; `sequence` is that of the first.
    pub duplicate: bool,
}

/// Why an entry is not in the log, or may not be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Another entry came first.
    #[error("L02: the last entry on {subject} is not the expected sequence {expected}")]
    Conflict {
        /// Subject of the entry.
        subject: String,
        /// The sequence that was expected.
        expected: u64,
    },
    /// The payload is over the limit.
    #[error("L03: payload of {actual} bytes on {subject} is over the limit of {limit}")]
    TooLarge {
        /// Subject of the entry.
        subject: String,
        /// Size in bytes.
        actual: usize,
        /// Limit in bytes.
        limit: usize,
    },
    /// The server does not let this user publish there. It is settled: see
    /// [`crate::access`] for who publishes what.
    #[error(transparent)]
    NotPermitted(#[from] crate::NotPermitted),
    /// The log did not acknowledge the entry in time. It may be stored or not;
    /// publishing again with the same id is safe.
    #[error("L04: the log did not acknowledge an entry on {subject}")]
    Unavailable {
        /// Subject of the entry.
        subject: String,
        /// What the client says.
        source: Arc<async_nats::jetstream::context::PublishError>,
    },
}

impl PublishError {
    /// Whether publishing the same draft again, with the same id, can succeed.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

/// Publishes entries in the name of one service.
#[derive(Debug, Clone)]
pub struct Publisher {
    log: Log,
    source: String,
}

impl Publisher {
    /// A publisher whose entries carry `castlog/<service>` as their source.
    #[must_use]
    pub fn new(log: &Log, service: &str) -> Self {
        Self {
            log: log.clone(),
            source: format!("castlog/{service}"),
        }
    }

    /// Publishes an entry and waits until it is on disk.
    ///
    /// Entries that are published at the same time share a commit; a lone one
    /// waits for nobody. Entries of one subject are stored in the order in which
    /// they were given. An outcome that is not known (time-out, lost connection)
    /// is resolved by the entry's id. Dropping the future does not withdraw the
    /// entry.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub async fn publish(&self, mut draft: Draft) -> Result<Receipt, PublishError> {
        let (stream, begun) = (draft.subject.kind.stream(), Instant::now());
        let span = trace::publish(draft.subject, &draft.id, &self.source, draft.traceparent.as_deref());
        if let Some(own) = trace::traceparent(&span) {
            draft.traceparent = Some(own);
        }
        let outcome = self.store(draft).instrument(span.clone()).await;
        let name = count(stream, &outcome, begun.elapsed());
        trace::published(&span, &outcome, name);
        outcome
    }

    async fn store(&self, draft: Draft) -> Result<Receipt, PublishError> {
        let subject = draft.subject.to_string();
        let time = draft.time.unwrap_or_else(Utc::now);
        let (mut headers, payload) = entry::encode(
            draft.subject,
            &draft.event,
            &draft.id,
            &self.source,
            time,
            draft.traceparent.as_deref(),
        );
        check_size(&subject, payload.len(), MAX_ENTRY)?;
        if let Some(expected) = draft.expected {
            headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string().as_str());
        }
        let stream = draft.subject.kind.stream();
        let message = Message {
            outgoing: Outgoing {
                subject: subject.clone(),
                headers,
                payload,
            },
            id: draft.id,
            expected: draft.expected,
        };
        let wire = || self.log.wire();
        match self.log.committers.commit(wire, stream, message).await {
            Fate::Stored { sequence, duplicate } => Ok(Receipt {
                stream: stream.to_owned(),
                sequence,
                duplicate,
            }),
            Fate::Conflict => Err(PublishError::Conflict {
                subject,
                expected: draft.expected.unwrap_or_default(),
            }),
            Fate::NotPermitted(refused) => Err(refused.into()),
            Fate::Unavailable(source) => Err(PublishError::Unavailable { subject, source }),
        }
    }

    /// Publishes one media part and waits until the server has it.
    ///
    /// # Errors
    /// See [`PublishError`]; there is no conflict.
    pub async fn publish_part(&self, part: &PartHeader, payload: Bytes) -> Result<Receipt, PublishError> {
        let subject = Kind::Part.of(part.broadcast).to_string();
        check_size(&subject, payload.len(), MAX_PART)?;
        // A worker that takes a job over makes the parts of the unfinished segment
        // anew under the same numbers: other bytes are another part.
        let digest = hex::encode(&Sha256::digest(&payload)[..8]);
        let id = format!(
            "{}-{}-{}-{}-{digest}",
            part.session, part.rendition, part.media_sequence, part.part
        );
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id.as_str());
        part.write(&mut headers);
        let begun = Instant::now();
        let send = self.send_until_known(&subject, headers, payload);
        let outcome = match self.log.unless_refused(&subject, send).await {
            Ok(stored) => stored.map_err(|source| PublishError::Unavailable {
                subject,
                source: Arc::new(source),
            }),
            Err(refused) => Err(refused.into()),
        };
        count(Kind::Part.stream(), &outcome, begun.elapsed());
        outcome
    }

    async fn send_until_known(
        &self,
        subject: &str,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Receipt, async_nats::jetstream::context::PublishError> {
        let attempt = || async {
            let ack = self
                .log
                .jetstream
                .publish_with_headers(subject.to_owned(), headers.clone(), payload.clone())
                .await?
                .await?;
            Ok(Receipt {
                stream: ack.stream,
                sequence: ack.sequence,
                duplicate: ack.duplicate,
            })
        };
        let backoff = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(2))
            .with_max_times(PART_ATTEMPTS - 1)
            .with_jitter();
        attempt
            .retry(backoff)
            .when(|error: &async_nats::jetstream::context::PublishError| {
                !matches!(
                    error.kind(),
                    PublishErrorKind::WrongLastSequence | PublishErrorKind::MaxPayloadExceeded
                )
            })
            .notify(|error, delay| tracing::warn!(subject, error = %error, ?delay, "publishing a part again"))
            .await
    }
}

/// Counts a publish in the metrics, under the name of its outcome that it returns.
fn count(stream: &'static str, outcome: &Result<Receipt, PublishError>, took: Duration) -> &'static str {
    let outcome = match outcome {
        Ok(receipt) if receipt.duplicate => "duplicate",
        Ok(_) => "stored",
        Err(PublishError::Conflict { .. }) => "conflict",
        Err(PublishError::TooLarge { .. }) => "too_large",
        Err(PublishError::NotPermitted(_)) => "not_permitted",
        Err(_) => "unknown",
    };
    metrics().publishes.get_or_create(&Publish { stream, outcome }).inc();
    let seconds = metrics().publish_seconds.get_or_create(&Stream { stream });
    seconds.observe(took.as_secs_f64());
    outcome
}

fn check_size(subject: &str, actual: usize, limit: usize) -> Result<(), PublishError> {
    if actual > limit {
        return Err(PublishError::TooLarge {
            subject: subject.to_owned(),
            actual,
            limit,
        });
    }
    Ok(())
}
