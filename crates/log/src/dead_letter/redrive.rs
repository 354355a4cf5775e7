//! Redriving: an entry that was given up is handed again to the consumer that
//! gave it up, and to no other.
//!
//! Publishing it again would change the log and reach everybody. Hence the entry
//! goes as a request to `castlog.redrive.<consumer>`, on which every instance of
//! that consumer listens as one queue group. The instance that gets it applies it
//! as any other entry, under the position that it has in the log, so that the
//! guards of the view hold: what has become newer meanwhile stays. The answer says
//! whether its effect is durable, and only then the letter is removed. A request
//! that is lost on the way therefore costs nothing but another try.

use std::time::Duration;

use async_nats::{HeaderMap, Request, client::RequestErrorKind};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::{
    Letter, LetterError,
    attempts::{Deed, Outcome, begin},
    header,
    letters::remove,
};
use crate::{ConsumeError, Entry, Log, Position, Undecodable};

/// How long a consumer may take: it finishes the batch that it is at first.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

fn subject(consumer: &str) -> String {
    format!("castlog.redrive.{consumer}")
}

/// Why an entry has not been redriven; its letter stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RedriveError {
    /// No instance of the consumer runs.
    #[error("no instance of {0} runs: start it and redrive again")]
    NobodyThere(String),
    /// There was no answer; it may or may not have been applied.
    #[error("{consumer} has not answered within {} s: see `castlog status`, and redrive again", ANSWER_TIMEOUT.as_secs())]
    NoAnswer {
        /// The consumer.
        consumer: String,
    },
    /// The view cannot be written at the moment.
    #[error("{consumer} cannot write its view at the moment: {reason}")]
    Unwritable {
        /// The consumer.
        consumer: String,
        /// What it says.
        reason: String,
    },
    /// The consumer still cannot apply it.
    #[error("{consumer} still cannot apply it: {reason}")]
    Refused {
        /// The consumer.
        consumer: String,
        /// What it says.
        reason: String,
    },
    /// It was applied, and the letter is still there: redriving again is safe.
    #[error("the entry was applied, and its letter is still there")]
    NotRemoved(#[from] LetterError),
    /// The connection is gone.
    #[error("the request cannot be sent: {0}")]
    Unavailable(String),
    /// It cannot be put on record who redrives, so nothing was done.
    #[error("nothing was done, for it cannot be put on record: {0}")]
    Unrecorded(LetterError),
}

/// What a consumer says of an entry that was handed to it again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
enum Answer {
    Applied,
    Refused { reason: String },
    Unwritable { reason: String },
}

/// Hands the entry of a letter to its consumer again, and removes the letter once
/// the entry is applied. That `by` does so, and what comes of it, is put on record.
///
/// # Errors
/// See [`RedriveError`].
pub async fn redrive(log: &Log, letter: &Letter, by: &str) -> Result<(), RedriveError> {
    let attempt = begin(log, letter, Deed::Redrive, by).await;
    let attempt = attempt.map_err(RedriveError::Unrecorded)?;
    let handed = hand(log, letter).await;
    let outcome = match &handed {
        Ok(()) => Outcome::Applied,
        Err(error) => Outcome::Kept {
            reason: error.to_string(),
        },
    };
    attempt.end(log, outcome).await;
    handed
}

async fn hand(log: &Log, letter: &Letter) -> Result<(), RedriveError> {
    let consumer = || letter.consumer.clone();
    let mut headers = HeaderMap::new();
    for (name, value) in &letter.headers {
        headers.append(name.as_str(), value.as_str());
    }
    headers.insert(header::STREAM, letter.position.stream.as_str());
    headers.insert(header::SEQUENCE, letter.position.sequence.to_string().as_str());
    headers.insert(header::SUBJECT, letter.subject.as_str());
    let request = Request::new()
        .headers(headers)
        .payload(letter.payload.clone())
        .timeout(Some(ANSWER_TIMEOUT));
    let client = log.jetstream.client();
    let answered = client.send_request(subject(&letter.consumer), request).await;
    let message = answered.map_err(|error| match error.kind() {
        RequestErrorKind::NoResponders => RedriveError::NobodyThere(consumer()),
        RequestErrorKind::TimedOut => RedriveError::NoAnswer { consumer: consumer() },
        _ => RedriveError::Unavailable(error.to_string()),
    })?;
    match serde_json::from_slice(&message.payload) {
        Ok(Answer::Applied) => Ok(remove(log, letter.id).await?),
        Ok(Answer::Refused { reason }) => Err(RedriveError::Refused {
            consumer: consumer(),
            reason,
        }),
        Ok(Answer::Unwritable { reason }) => Err(RedriveError::Unwritable {
            consumer: consumer(),
            reason,
        }),
        Err(error) => Err(RedriveError::Unavailable(format!("the answer cannot be read: {error}"))),
    }
}

/// What is handed again to the consumer of a service.
pub struct Redrives {
    requests: async_nats::Subscriber,
    client: async_nats::Client,
}

/// An entry that is handed to a consumer again, to be answered.
pub struct Redrive {
    /// The entry as it stands in the log, or why it is none.
    pub entry: Result<Entry, Undecodable>,
    reply: async_nats::Subject,
    client: async_nats::Client,
}

impl Log {
    /// Listens for entries that are handed to `consumer` again. Of the instances
    /// that listen, one gets each.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn redrives(&self, consumer: &str) -> Result<Redrives, ConsumeError> {
        let client = self.jetstream.client();
        let requests = client
            .queue_subscribe(subject(consumer), consumer.to_owned())
            .await
            .map_err(|error| ConsumeError::Unavailable {
                stream: super::STREAM.to_owned(),
                consumer: consumer.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(Redrives {
            requests,
            client: client.clone(),
        })
    }
}

impl Redrives {
    /// The next one; `None` when the connection is closed for good.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Redrive> {
        loop {
            let message = self.requests.next().await?;
            let text = |name| message.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str);
            let (Some(reply), Some(stream), Some(subject), Some(Ok(sequence))) = (
                message.reply.clone(),
                text(header::STREAM),
                text(header::SUBJECT),
                text(header::SEQUENCE).map(str::parse),
            ) else {
                tracing::warn!(subject = %message.subject, "redrive without the place of its entry");
                continue;
            };
            let position = Position {
                stream: stream.to_owned(),
                sequence,
            };
            let decoded = Entry::decode(subject, message.headers.as_ref(), &message.payload, position.clone());
            let entry = decoded.map_err(|error| Undecodable {
                subject: subject.to_owned(),
                position,
                error,
            });
            return Some(Redrive {
                entry,
                reply,
                client: self.client.clone(),
            });
        }
    }
}

impl Redrive {
    /// Its effect is durable.
    pub async fn applied(self) {
        self.answer(Answer::Applied).await;
    }

    /// It can still never be applied.
    pub async fn refused(self, reason: String) {
        self.answer(Answer::Refused { reason }).await;
    }

    /// The view cannot be written at the moment.
    pub async fn unwritable(self, reason: String) {
        self.answer(Answer::Unwritable { reason }).await;
    }

    async fn answer(self, answer: Answer) {
        let Ok(payload) = serde_json::to_vec(&answer) else {
            return;
        };
        // An answer to a request, not an entry: who asked asks again when it is lost.
        #[allow(clippy::disallowed_methods)]
        let sent = self.client.publish(self.reply, payload.into()).await;
        if let Err(error) = sent {
            tracing::debug!(error = %error, "answer to a redrive not sent");
        }
    }
}
