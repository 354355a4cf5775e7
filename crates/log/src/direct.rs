//! Batched direct gets (NATS ADR-31), for which the client has no call: many messages
//! for one request, and nothing of it stays on the server.

use std::time::Duration;

use async_nats::{Message, header};
use futures::StreamExt as _;
use serde::Serialize;

use crate::{Entry, Log, Position, ReadError, Undecodable, read::unavailable};

/// How long the next message of an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Status of a message; one without a status has it, too.
const OK: u16 = 200;
/// Status of the message that ends an answer, and of the one that is the answer
/// when there is nothing.
const END: u16 = 204;
const NOTHING: u16 = 404;
/// Header of the message that ends an answer: how many messages the answer did not bring. The client has no name for it.
const NUM_PENDING: &str = "Nats-Num-Pending";

/// An entry, or why it is none.
pub(crate) type Found = Result<Entry, Undecodable>;

/// What a request has brought.
pub(crate) struct Answer {
    pub(crate) found: Vec<Found>,
    /// Messages that are there as well, but were too many for one answer.
    pub(crate) pending: u64,
}

impl Log {
    /// Asks for what `request` describes. A replica answers, which may be a moment behind.
    pub(crate) async fn direct_get(&self, stream: &str, request: &impl Serialize) -> Result<Answer, ReadError> {
        let client = self.jetstream.client();
        let inbox = client.new_inbox();
        let mut answers = client
            .subscribe(inbox.clone())
            .await
            .map_err(|e| unavailable(stream, e))?;
        let request = serde_json::to_vec(request).map_err(|e| unavailable(stream, e))?;
        // A request with many answers, which `Client::request` cannot make.
        client
            .publish_with_reply(format!("$JS.API.DIRECT.GET.{stream}"), inbox, request.into())
            .await
            .map_err(|e| unavailable(stream, e))?;
        let mut found = Vec::new();
        loop {
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, answers.next())
                .await
                .map_err(|_| unavailable(stream, "no answer in time"))?
                .ok_or_else(|| unavailable(stream, "the connection is closed"))?;
            match answer.status.map_or(OK, |status| status.as_u16()) {
                OK => found.push(decode(stream, &answer)?),
                END => {
                    let pending = pending(&answer);
                    return Ok(Answer { found, pending });
                }
                NOTHING => return Ok(Answer { found, pending: 0 }),
                status => {
                    let said = answer.description.as_deref().unwrap_or_default();
                    return Err(unavailable(stream, format!("{status} {said}")));
                }
            }
        }
    }
}

/// How many messages an answer that has ended did not bring.
fn pending(end: &Message) -> u64 {
    let headers = end.headers.as_ref();
    headers
        .and_then(|headers| headers.get_last(NUM_PENDING)?.as_str().parse().ok())
        .unwrap_or(0)
}

fn decode(stream: &str, answer: &Message) -> Result<Found, ReadError> {
    let named = |name| {
        let headers = answer.headers.as_ref()?;
        Some(headers.get_last(name)?.as_str())
    };
    let (Some(subject), Some(sequence)) = (
        named(header::NATS_SUBJECT),
        named(header::NATS_SEQUENCE).and_then(|text| text.parse().ok()),
    ) else {
        return Err(unavailable(stream, "an answer without subject or sequence"));
    };
    let position = Position {
        stream: stream.to_owned(),
        sequence,
    };
    let entry = Entry::decode(subject, answer.headers.as_ref(), &answer.payload, position.clone());
    Ok(entry.map_err(|error| Undecodable {
        subject: subject.to_owned(),
        position,
        error,
    }))
}
