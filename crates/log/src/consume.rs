//! Durable pull consumption: several instances of a service share the work of
//! one consumer, and an entry comes again until it is acknowledged.

use std::time::Duration;

use async_nats::jetstream::{
    self, AckKind,
    consumer::{PullConsumer, pull},
};
use futures::{FutureExt, StreamExt};
use tokio::time::timeout;

use crate::{Entry, Log, Position, Undecodable};

/// Why a consumer yields nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// JetStream does not answer, or the consumer is not there: services bind to
    /// what `castlog apply` has made.
    #[error("cannot bind to consumer {consumer} of stream {stream}: {reason}")]
    Unavailable {
        /// The stream.
        stream: String,
        /// The durable name.
        consumer: String,
        /// What the client says.
        reason: String,
    },
    /// The acknowledgement could not be sent; the entry comes again.
    #[error("cannot acknowledge {stream} {sequence}: {reason}")]
    Ack {
        /// The stream.
        stream: String,
        /// The sequence.
        sequence: u64,
        /// What the client says.
        reason: String,
    },
}

/// An entry handed out by a durable consumer, to be acknowledged.
pub struct Delivery {
    /// The entry, or why it is none.
    pub entry: Result<Entry, Undecodable>,
    /// How often it has been delivered, this time included.
    pub delivered: i64,
    pub(crate) message: jetstream::Message,
}

impl Delivery {
    /// Where it stands in the log.
    #[must_use]
    pub const fn position(&self) -> &Position {
        match &self.entry {
            Ok(entry) => &entry.position,
            Err(undecodable) => &undecodable.position,
        }
    }

    /// It is done with: never delivered again.
    ///
    /// # Errors
    /// The connection is gone; the entry comes again.
    pub async fn ack(&self) -> Result<(), ConsumeError> {
        self.ack_with(AckKind::Ack).await
    }

    /// Work goes on: the ack wait starts anew.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn progress(&self) -> Result<(), ConsumeError> {
        self.ack_with(AckKind::Progress).await
    }

    /// It could not be done; deliver it again after `delay`.
    ///
    /// # Errors
    /// The connection is gone; the entry comes again after the ack wait.
    pub async fn nak(&self, delay: Duration) -> Result<(), ConsumeError> {
        self.ack_with(AckKind::Nak(Some(delay))).await
    }

    /// It can never be done: the server stops delivering it, and shows the
    /// reason in its advisory. See [`crate::dead_letter`] for keeping it.
    ///
    /// # Errors
    /// The connection is gone; the entry comes again.
    pub async fn term(&self, reason: &str) -> Result<(), ConsumeError> {
        let Some(reply) = self.message.reply.clone() else {
            return Ok(());
        };
        // One line, as the server's advisory shows it.
        let body = format!("+TERM {}", reason.replace(['\r', '\n'], " "));
        // `AckKind::Term` carries no reason, so the acknowledgement is written by hand.
        #[allow(clippy::disallowed_methods)]
        self.message
            .context
            .client()
            .publish(reply, body.into())
            .await
            .map_err(|error| self.ack_failed(&error))
    }

    async fn ack_with(&self, kind: AckKind) -> Result<(), ConsumeError> {
        self.message
            .ack_with(kind)
            .await
            .map_err(|error| self.ack_failed(&error))
    }

    fn ack_failed(&self, error: &impl ToString) -> ConsumeError {
        let position = self.position();
        ConsumeError::Ack {
            stream: position.stream.clone(),
            sequence: position.sequence,
            reason: error.to_string(),
        }
    }
}

/// A bound durable consumer.
pub struct Durable {
    log: Log,
    stream: String,
    consumer: String,
    prefetch: usize,
    messages: Option<pull::Stream>,
}

/// Pulls expire after this, so that a request lost with its server is made again.
const PULL_EXPIRES: Duration = Duration::from_secs(10);
const PULL_HEARTBEAT: Duration = Duration::from_secs(3);
/// Wait before a consumer is bound again.
const REBIND_DELAY: Duration = Duration::from_millis(250);
/// A consumer that is closed has been handed all that was on its way when nothing has
/// come for so long, and the longest that this is waited for.
const QUIET: Duration = Duration::from_millis(100);
const CLOSE: Duration = Duration::from_secs(2);

impl Log {
    /// Binds to a durable consumer that exists. At most `prefetch` entries wait
    /// in this process; they burn their ack wait while they do, so it is 1 where
    /// an entry takes long.
    ///
    /// Nothing is asked of the server before the first call of [`Durable::next`].
    #[must_use]
    pub fn durable(&self, stream: &str, consumer: &str, prefetch: usize) -> Durable {
        Durable {
            log: self.clone(),
            stream: stream.to_owned(),
            consumer: consumer.to_owned(),
            prefetch: prefetch.max(1),
            messages: None,
        }
    }
}

impl Durable {
    /// The stream.
    #[must_use]
    pub fn stream(&self) -> &str {
        &self.stream
    }

    /// The durable name.
    #[must_use]
    pub fn consumer(&self) -> &str {
        &self.consumer
    }

    /// Binds the consumer, unless it is bound.
    ///
    /// # Errors
    /// The consumer cannot be bound; a failure takes a short delay.
    pub async fn bound(&mut self) -> Result<(), ConsumeError> {
        if self.messages.is_none()
            && let Err(error) = self.bind().await
        {
            tokio::time::sleep(REBIND_DELAY).await;
            return Err(error);
        }
        Ok(())
    }

    /// The next entry. Waits for ever when nothing comes.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// The consumer cannot be bound. The next call tries again; each failure
    /// takes a short delay, so that such a loop does not spin.
    pub async fn next(&mut self) -> Result<Delivery, ConsumeError> {
        loop {
            self.bound().await?;
            let Some(messages) = self.messages.as_mut() else {
                continue;
            };
            // The client pulls again by itself after it has connected again. Binding
            // anew instead would drop what has been delivered to the old binding
            // meanwhile, which comes again only after the ack wait.
            match messages.next().await {
                Some(Ok(message)) => {
                    if let Some(delivery) = self.read(message) {
                        return Ok(delivery);
                    }
                }
                Some(Err(error)) => {
                    tracing::debug!(stream = self.stream, consumer = self.consumer, error = %error, "consumer is bound again");
                    self.messages = None;
                    tokio::time::sleep(REBIND_DELAY).await;
                }
                None => self.messages = None,
            }
        }
    }

    /// The next entry and all that wait behind it in this process, at most
    /// `limit`: one at a time when traffic is slow, batches when it is fast.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    /// As [`Self::next`].
    pub async fn next_batch(&mut self, limit: usize) -> Result<Vec<Delivery>, ConsumeError> {
        let mut batch = vec![self.next().await?];
        while batch.len() < limit {
            let Some(messages) = self.messages.as_mut() else { break };
            let Some(Some(Ok(message))) = messages.next().now_or_never() else {
                break;
            };
            batch.extend(self.read(message));
        }
        Ok(batch)
    }

    /// Takes nothing more, and returns what this process was handed and has not yielded:
    /// to be given back with [`Delivery::nak`], or else it comes again after the ack wait.
    /// Takes 100 ms when nothing comes any more, and 2 s at most.
    ///
    /// Reading asks the server for more, so behind a backlog these may be as many as the
    /// consumer's `max_ack_pending`.
    pub async fn close(mut self) -> Vec<Delivery> {
        let Some(mut messages) = self.messages.take() else {
            return Vec::new();
        };
        let mut handed = Vec::new();
        let rest = async {
            while let Ok(Some(Ok(message))) = timeout(QUIET, messages.next()).await {
                handed.push(message);
            }
        };
        if timeout(CLOSE, rest).await.is_err() {
            tracing::debug!(
                stream = self.stream,
                consumer = self.consumer,
                "some of what is on its way comes again after the ack wait"
            );
        }
        // Before anything is given back, which would come here again.
        drop(messages);
        handed.into_iter().filter_map(|message| self.read(message)).collect()
    }

    fn read(&self, message: jetstream::Message) -> Option<Delivery> {
        let info = message.info().ok()?;
        let (sequence, delivered) = (info.stream_sequence, info.delivered);
        let position = Position {
            stream: self.stream.clone(),
            sequence,
        };
        let subject = message.subject.as_str();
        let entry =
            Entry::decode(subject, message.headers.as_ref(), &message.payload, position.clone()).map_err(|error| {
                Undecodable {
                    subject: subject.to_owned(),
                    position,
                    error,
                }
            });
        Some(Delivery {
            entry,
            delivered,
            message,
        })
    }

    async fn bind(&mut self) -> Result<(), ConsumeError> {
        let failed = |reason: String| ConsumeError::Unavailable {
            stream: self.stream.clone(),
            consumer: self.consumer.clone(),
            reason,
        };
        let stream = self
            .log
            .jetstream
            .get_stream_no_info(&self.stream)
            .await
            .map_err(|e| failed(e.to_string()))?;
        let consumer: PullConsumer = stream
            .get_consumer(&self.consumer)
            .await
            .map_err(|e| failed(e.to_string()))?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(self.prefetch)
            .expires(PULL_EXPIRES)
            .heartbeat(PULL_HEARTBEAT)
            .messages()
            .await
            .map_err(|e| failed(e.to_string()))?;
        self.messages = Some(messages);
        Ok(())
    }
}
