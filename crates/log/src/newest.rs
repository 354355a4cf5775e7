//! The newest entries of many subjects in few requests: batched direct gets
//! with `multi_last`.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt as _, future::try_join_all, stream};
use serde::Serialize;

use crate::{Entry, Log, ReadError, Subject, Undecodable, direct::Found, read::unavailable};

/// Subjects in one request. The server takes 1024, and cuts an answer short at a
/// third of its `max_pending` (64 MB by default): entries are 64 KiB at most.
const SUBJECTS: usize = 250;
/// Requests under way at once.
const REQUESTS: usize = 4;

#[derive(Serialize)]
struct MultiLast<'a> {
    multi_last: &'a [String],
    /// Only what stands there or before.
    #[serde(skip_serializing_if = "Option::is_none")]
    up_to_seq: Option<u64>,
}

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
        let request = MultiLast {
            multi_last: subjects,
            up_to_seq,
        };
        let answer = self.direct_get(stream, &request).await?;
        if answer.pending > 0 {
            let reason = "the server cut its answer short: its max_pending is too small";
            return Err(unavailable(stream, reason));
        }
        Ok(answer.found)
    }
}
