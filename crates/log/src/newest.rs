//! The newest entries of many subjects in few requests: batched direct gets
//! with `multi_last` (NATS ADR-31), for which the client has no call.

use std::{collections::BTreeMap, time::Duration};

use async_nats::{Message, header};
use futures::{StreamExt, TryStreamExt as _, future::try_join_all, stream};
use serde::Serialize;

use crate::{Entry, Log, Position, ReadError, Subject, Undecodable, read::unavailable};

/// Subjects in one request. The server takes 1024, and cuts an answer short at a
/// third of its `max_pending` (64 MB by default): entries are 64 KiB at most.
const SUBJECTS: usize = 250;
/// Requests under way at once.
const REQUESTS: usize = 4;
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

#[derive(Serialize)]
struct MultiLast<'a> {
    multi_last: &'a [String],
    /// Only what stands there or before.
    #[serde(skip_serializing_if = "Option::is_none")]
    up_to_seq: Option<u64>,
}

/// An entry, or why it is none.
type Found = Result<Entry, Undecodable>;

/// Whether it is an entry whose event this version knows.
fn is_readable(found: &Found) -> bool {
    found.as_ref().is_ok_and(|entry| entry.event.name().is_some())
}

impl Log {
    /// The newest entry on each subject that can be read, in no particular order:
    /// what cannot be decoded, and an event of a newer schema, leave what was said
    /// before. A subject on which nothing can be read is there with the newest of it.
    ///
    /// # Errors
    /// A stream cannot be read.
    pub async fn newest(&self, subjects: &[Subject]) -> Result<Vec<Result<Entry, Undecodable>>, ReadError> {
        let mut by_stream = BTreeMap::<&str, Vec<String>>::new();
        for subject in subjects {
            by_stream
                .entry(subject.kind.stream())
                .or_default()
                .push(subject.to_string());
        }
        let mut requests = Vec::new();
        for (stream, subjects) in &by_stream {
            requests.extend(subjects.chunks(SUBJECTS).map(|chunk| (*stream, chunk)));
        }
        let mut newest = Vec::new();
        for requests in requests.chunks(REQUESTS) {
            let mut answers = Vec::new();
            for (stream, chunk) in requests {
                answers.push(self.newest_of(stream, chunk, None));
            }
            newest.extend(try_join_all(answers).await?.into_iter().flatten());
        }
        let (mut newest, unreadable): (Vec<Found>, Vec<Found>) = newest.into_iter().partition(is_readable);
        let before: Vec<Found> = stream::iter(unreadable)
            .map(|found| self.readable_before(found))
            .buffer_unordered(REQUESTS)
            .try_collect()
            .await?;
        newest.extend(before);
        Ok(newest)
    }

    /// The newest that can be read before `found`, on its subject; `found` itself
    /// when there is none. Takes a request for each that cannot be read.
    async fn readable_before(&self, found: Found) -> Result<Found, ReadError> {
        let (subject, position) = match &found {
            Ok(entry) => (entry.subject.to_string(), &entry.position),
            Err(undecodable) => (undecodable.subject.clone(), &undecodable.position),
        };
        let (stream, mut sequence) = (position.stream.clone(), position.sequence);
        let subjects = [subject];
        while sequence > 1 {
            let before = self.newest_of(&stream, &subjects, Some(sequence - 1)).await?.pop();
            match before {
                None => break,
                Some(before) if is_readable(&before) => return Ok(before),
                Some(Ok(entry)) => sequence = entry.position.sequence,
                Some(Err(undecodable)) => sequence = undecodable.position.sequence,
            }
        }
        Ok(found)
    }

    async fn newest_of(
        &self,
        stream: &str,
        subjects: &[String],
        up_to_seq: Option<u64>,
    ) -> Result<Vec<Found>, ReadError> {
        let client = self.jetstream.client();
        let inbox = client.new_inbox();
        let mut answers = client
            .subscribe(inbox.clone())
            .await
            .map_err(|e| unavailable(stream, e))?;
        let request = MultiLast {
            multi_last: subjects,
            up_to_seq,
        };
        let request = serde_json::to_vec(&request).map_err(|e| unavailable(stream, e))?;
        // A request with many answers, which `Client::request` cannot make.
        client
            .publish_with_reply(format!("$JS.API.DIRECT.GET.{stream}"), inbox, request.into())
            .await
            .map_err(|e| unavailable(stream, e))?;
        let mut newest = Vec::new();
        loop {
            let answer = tokio::time::timeout(ANSWER_TIMEOUT, answers.next())
                .await
                .map_err(|_| unavailable(stream, "no answer in time"))?
                .ok_or_else(|| unavailable(stream, "the connection is closed"))?;
            match answer.status.map_or(OK, |status| status.as_u16()) {
                OK => newest.push(decode(stream, &answer)?),
                END if pending(&answer) == 0 => return Ok(newest),
                END => {
                    return Err(unavailable(
                        stream,
                        "the server cut its answer short: its max_pending is too small",
                    ));
                }
                NOTHING => return Ok(newest),
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
