//! How far the log's readers are: streams, durable consumers, and what waits.

use async_nats::jetstream::stream::DirectGetErrorKind;
use chrono::{DateTime, Utc};
use futures::TryStreamExt as _;

use crate::{Log, provision};

/// JetStream does not answer, or what was asked for is not there.
#[derive(Debug, thiserror::Error)]
#[error("JetStream does not tell about {what}: {reason}")]
pub struct StatusError {
    what: String,
    reason: String,
}

fn failed(what: impl Into<String>) -> impl FnOnce(String) -> StatusError {
    let what = what.into();
    move |reason| StatusError { what, reason }
}

/// What a durable consumer has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// Entries that have not been delivered yet.
    pub pending: u64,
    /// Entries that have been delivered and not acknowledged.
    pub unacked: u64,
    /// Entries of those that have been delivered more than once.
    pub redelivered: u64,
    /// All entries up to this sequence are acknowledged.
    pub acked: u64,
}

/// A stream.
#[derive(Debug, Clone)]
pub struct StreamStatus {
    /// Its name.
    pub name: String,
    /// How many entries it holds.
    pub entries: u64,
    /// Their size.
    pub bytes: u64,
    /// Sequence of the oldest.
    pub first: u64,
    /// Sequence of the newest.
    pub last: u64,
}

/// A durable consumer of a stream.
#[derive(Debug, Clone)]
pub struct ConsumerStatus {
    /// Its durable name.
    pub name: String,
    /// The stream.
    pub stream: String,
    /// What it has before it.
    pub backlog: Backlog,
    /// When the oldest entry was stored that is not acknowledged.
    pub oldest_unacked: Option<DateTime<Utc>>,
    /// When the oldest entry was stored that has not been delivered.
    pub oldest_pending: Option<DateTime<Utc>>,
}

impl Log {
    /// What a durable consumer has before it.
    ///
    /// # Errors
    /// The server does not answer, or there is no such consumer.
    pub async fn backlog(&self, stream: &str, consumer: &str) -> Result<Backlog, StatusError> {
        let what = format!("consumer {consumer} of {stream}");
        let handle = self.jetstream.get_stream_no_info(stream).await;
        let handle = handle.map_err(|e| failed(&what)(e.to_string()))?;
        let info = handle.consumer_info(consumer).await;
        Ok(backlog(&info.map_err(|e| failed(&what)(e.to_string()))?))
    }

    /// Every stream and every durable consumer, by name.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn status(&self) -> Result<(Vec<StreamStatus>, Vec<ConsumerStatus>), StatusError> {
        let infos: Vec<_> = self
            .jetstream
            .streams()
            .try_collect()
            .await
            .map_err(|e| failed("its streams")(e.to_string()))?;
        let (mut streams, mut consumers) = (Vec::new(), Vec::new());
        for info in infos {
            let (name, state) = (info.config.name, info.state);
            consumers.extend(self.consumers(&name).await?);
            streams.push(StreamStatus {
                name,
                entries: state.messages,
                bytes: state.bytes,
                first: state.first_sequence,
                last: state.last_sequence,
            });
        }
        streams.sort_by(|a, b| a.name.cmp(&b.name));
        consumers.sort_by(|a, b| (&a.name, &a.stream).cmp(&(&b.name, &b.stream)));
        Ok((streams, consumers))
    }

    /// When the oldest entry behind a sequence was stored; `None` when there is none.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn oldest_behind(&self, stream: &str, sequence: u64) -> Result<Option<DateTime<Utc>>, StatusError> {
        self.oldest(stream, &[">".to_owned()], sequence).await
    }

    async fn consumers(&self, stream: &str) -> Result<Vec<ConsumerStatus>, StatusError> {
        let what = format!("the consumers of {stream}");
        let handle = self.jetstream.get_stream(stream).await;
        let handle = handle.map_err(|e| failed(&what)(e.to_string()))?;
        // Streams of others in the account may not allow it.
        let readable = handle.cached_info().config.allow_direct;
        let infos: Vec<_> = handle
            .consumers()
            .try_collect()
            .await
            .map_err(|e| failed(&what)(e.to_string()))?;
        let mut consumers = Vec::new();
        // Readers without a durable name come and go with the processes that read.
        for info in infos.into_iter().filter(|info| info.config.durable_name.is_some()) {
            consumers.push(self.consumer(stream, readable, info).await?);
        }
        Ok(consumers)
    }

    /// The durable consumers that are defined, by name. Unlike [`Self::status`], it
    /// asks for nothing but them.
    ///
    /// # Errors
    /// The server does not answer, or lacks one.
    pub async fn durables(&self) -> Result<Vec<ConsumerStatus>, StatusError> {
        let mut consumers = Vec::new();
        for (stream, name) in provision::durables() {
            let what = format!("consumer {name} of {stream}");
            let handle = self.jetstream.get_stream_no_info(&stream).await;
            let handle = handle.map_err(|e| failed(&what)(e.to_string()))?;
            let info = handle.consumer_info(&name).await;
            let info = info.map_err(|e| failed(&what)(e.to_string()))?;
            consumers.push(self.consumer(&stream, true, info).await?);
        }
        consumers.sort_by(|a, b| (&a.name, &a.stream).cmp(&(&b.name, &b.stream)));
        Ok(consumers)
    }

    async fn consumer(
        &self,
        stream: &str,
        readable: bool,
        info: async_nats::jetstream::consumer::Info,
    ) -> Result<ConsumerStatus, StatusError> {
        let backlog = backlog(&info);
        let mut filters = info.config.filter_subjects;
        filters.push(info.config.filter_subject);
        filters.retain(|filter| !filter.is_empty());
        if filters.is_empty() {
            filters.push(">".to_owned());
        }
        let oldest_pending = match backlog.pending {
            1.. if readable => self.oldest(stream, &filters, info.delivered.stream_sequence).await?,
            _ => None,
        };
        let oldest_unacked = match backlog.unacked {
            1.. if readable => self.oldest(stream, &filters, info.ack_floor.stream_sequence).await?,
            _ => oldest_pending,
        };
        Ok(ConsumerStatus {
            name: info.name,
            stream: stream.to_owned(),
            backlog,
            oldest_unacked,
            oldest_pending,
        })
    }

    /// When the first entry behind `sequence` was stored that a filter matches.
    async fn oldest(
        &self,
        stream: &str,
        filters: &[String],
        sequence: u64,
    ) -> Result<Option<DateTime<Utc>>, StatusError> {
        let what = format!("the entries of {stream}");
        let handle = self.jetstream.get_stream_no_info(stream).await;
        let handle = handle.map_err(|e| failed(&what)(e.to_string()))?;
        let mut oldest = None;
        for filter in filters {
            match handle.direct_get_next_for_subject(filter, Some(sequence + 1)).await {
                Ok(message) if oldest.is_none_or(|(found, _)| message.sequence < found) => {
                    oldest = Some((message.sequence, message.time));
                }
                Ok(_) => {}
                Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
                Err(error) => return Err(failed(&what)(error.to_string())),
            }
        }
        Ok(oldest.map(|(_, time)| from_nats_time(time)))
    }
}

fn backlog(info: &async_nats::jetstream::consumer::Info) -> Backlog {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    Backlog {
        pending: info.num_pending,
        unacked: number(info.num_ack_pending),
        redelivered: number(info.num_redelivered),
        acked: info.ack_floor.stream_sequence,
    }
}

pub(crate) fn from_nats_time(time: async_nats::datetime::DateTime) -> DateTime<Utc> {
    let micros = i64::try_from(time.unix_timestamp_nanos() / 1000).unwrap_or_default();
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}
