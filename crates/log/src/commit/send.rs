//! The wire: sends entries plainly or as an atomic batch, and finds an entry in
//! the log by its id.

use std::{sync::Arc, time::Duration};

use async_nats::{
    connection::State,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self, ErrorCode,
        context::{PublishError, PublishErrorKind},
        message::StreamMessage,
        stream::{RawMessageError, RawMessageErrorKind},
    },
};
use tokio::sync::watch;

use super::{
    Message,
    core::{Place, Sent, Trouble},
};
use crate::{batch, connect::Refusals};

/// How long the connection or an answer is waited for.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Entries of one subject that a search reads at most before it gives up.
const MAX_SEARCHED: u32 = 10_000;

/// A connection to JetStream, and whether it stands.
#[derive(Debug, Clone)]
pub(crate) struct Wire {
    pub(crate) jetstream: jetstream::Context,
    /// Whether the connection stands; changes with each connection and each loss of one.
    pub(crate) link: watch::Receiver<bool>,
    pub(crate) refusals: Refusals,
}

impl Wire {
    /// Sends one message plainly, several as one batch.
    pub(super) async fn send(self, messages: Vec<Message>) -> Sent {
        let mut link = self.link.clone();
        // The client would keep what it is given while it is not connected, and
        // send it whenever the server is back.
        if tokio::time::timeout(TIMEOUT, link.wait_for(|up| *up)).await.is_err()
            && self.jetstream.client().connection_state() != State::Connected
        {
            return Sent::Busy(trouble(PublishErrorKind::TimedOut, "not connected to NATS"));
        }
        link.mark_unchanged();
        let subjects: Vec<String> = messages
            .iter()
            .map(|message| message.outgoing.subject.clone())
            .collect();
        tokio::select! {
            sent = tokio::time::timeout(TIMEOUT, self.refusals.unless(&subjects, self.exchange(messages))) => match sent {
                Ok(Ok(sent)) => sent,
                Ok(Err(refused)) => Sent::NotPermitted(refused),
                Err(_) => Sent::Unknown(trouble(PublishErrorKind::TimedOut, "no answer in time")),
            },
            // A lost connection takes the answer with it.
            _ = link.changed() => Sent::Unknown(trouble(PublishErrorKind::BrokenPipe, "the connection was lost")),
        }
    }

    async fn exchange(&self, messages: Vec<Message>) -> Sent {
        let count = messages.len() as u64;
        let messages = messages.into_iter().map(|message| message.outgoing).collect();
        match batch::send(&self.jetstream, messages).await {
            Ok(ack) if count == 1 => Sent::Stored {
                sequence: ack.sequence,
                duplicate: ack.duplicate,
            },
            Ok(ack) if ack.batch_size == Some(count) && ack.sequence >= count => Sent::Stored {
                sequence: ack.sequence - count + 1,
                duplicate: false,
            },
            Ok(_) => Sent::Unknown(trouble(PublishErrorKind::Other, "not the acknowledgement of the batch")),
            Err(error) => meaning(error),
        }
    }

    /// Looks for a message at a place by its id.
    pub(super) async fn find(self, stream: &str, message: &Message, place: Place) -> Result<Option<u64>, Trouble> {
        let failed = |reason: String| trouble(PublishErrorKind::Other, reason);
        let stream = self
            .jetstream
            .get_stream_no_info(stream)
            .await
            .map_err(|e| failed(e.to_string()))?;
        // By the stream's leader: another replica may not have the newest entries yet.
        let found = |answer: Result<StreamMessage, RawMessageError>| match answer {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        };
        let is_it = |stored: &StreamMessage| {
            let id = stored.headers.get(NATS_MESSAGE_ID);
            id.is_some_and(|id| id.as_str() == message.id)
        };
        let mut after = match place {
            Place::At(sequence) => {
                let stored = found(stream.get_raw_message(sequence).await)?;
                return Ok(stored.filter(is_it).map(|stored| stored.sequence));
            }
            Place::FirstAfter(sequence) | Place::After(sequence) => sequence,
        };
        for _ in 0..MAX_SEARCHED {
            let answer = stream
                .get_first_raw_message_by_subject(&message.outgoing.subject, after + 1)
                .await;
            let Some(stored) = found(answer)? else {
                return Ok(None);
            };
            if is_it(&stored) {
                return Ok(Some(stored.sequence));
            }
            if let Place::FirstAfter(_) = place {
                return Ok(None);
            }
            after = stored.sequence;
        }
        Err(failed(format!(
            "not found among {MAX_SEARCHED} entries on {}",
            message.outgoing.subject
        )))
    }
}

fn trouble(kind: PublishErrorKind, source: impl Into<async_nats::Error>) -> Trouble {
    Arc::new(PublishError::with_source(kind, source))
}

/// What a failed acknowledgement says of the entries.
fn meaning(error: PublishError) -> Sent {
    let kind = error.kind();
    let code = std::error::Error::source(&error)
        .and_then(|source| source.downcast_ref::<jetstream::Error>())
        .map(jetstream::Error::error_code);
    let trouble = Arc::new(error);
    match (kind, code) {
        (PublishErrorKind::WrongLastSequence, _) => Sent::WrongSequence,
        (PublishErrorKind::MaxPayloadExceeded, _) => Sent::Refused(trouble),
        // Nobody serves the stream at the moment.
        (PublishErrorKind::StreamNotFound | PublishErrorKind::MaxAckPending, _) => Sent::Busy(trouble),
        (_, Some(ErrorCode::ATOMIC_PUBLISH_DISABLED)) => Sent::NoBatches(trouble),
        (
            _,
            Some(
                ErrorCode::ATOMIC_PUBLISH_TOO_MANY_INFLIGHT
                | ErrorCode::CLUSTER_NOT_AVAILABLE
                | ErrorCode::CLUSTER_NOT_LEADER
                | ErrorCode::INSUFFICIENT_RESOURCES
                | ErrorCode::STORAGE_RESOURCES_EXCEEDED,
            ),
        ) => Sent::Busy(trouble),
        (_, Some(_)) => Sent::Refused(trouble),
        (_, None) => Sent::Unknown(trouble),
    }
}
