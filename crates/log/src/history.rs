//! What stands on one subject, read to its end by pages. Unlike a [`Follow`](crate::Follow),
//! of which the server keeps a consumer for half a minute, it leaves nothing behind: this is
//! what answers to viewers are made from, however many ask.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use futures::{Stream, TryStreamExt as _, stream};
use serde::Serialize;

use crate::{Entry, Log, ReadError, Subject, direct::Found};

/// Most messages of a page.
const PAGE: u16 = 500;
/// Most bytes of a page; the first message comes whatever it has.
const PAGE_BYTES: u32 = 4 << 20;
/// Wait before what cannot be read is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(250);

#[derive(Serialize)]
struct Page<'a> {
    next_by_subj: &'a str,
    batch: u16,
    max_bytes: u32,
    #[serde(flatten)]
    start: Start,
}

/// Where a page begins.
#[derive(Clone, Serialize)]
enum Start {
    #[serde(rename = "seq")]
    Sequence(u64),
    /// RFC 3339.
    #[serde(rename = "start_time")]
    Time(String),
}

impl Log {
    /// Every entry on a subject that can be read, the oldest first; with `since`, those
    /// stored at that time and later. Ends behind what is there when it gets that far.
    ///
    /// # Errors
    /// The log cannot be reached. That ends the stream.
    pub fn scan(
        &self,
        subject: Subject,
        since: Option<DateTime<Utc>>,
    ) -> impl Stream<Item = Result<Entry, ReadError>> + Send + use<> {
        let start = match since {
            None => Start::Sequence(1),
            Some(time) => Start::Time(time.to_rfc3339_opts(SecondsFormat::Micros, true)),
        };
        let log = self.clone();
        let pages = stream::try_unfold(Some(start), move |start| {
            let log = log.clone();
            async move {
                let Some(start) = start else { return Ok(None) };
                log.page(subject, start).await.map(Some)
            }
        });
        pages
            .map_ok(|found| stream::iter(found.into_iter().flatten().map(Ok)))
            .try_flatten()
    }

    /// A page, and where the next one begins.
    async fn page(&self, subject: Subject, start: Start) -> Result<(Vec<Found>, Option<Start>), ReadError> {
        let request = Page {
            next_by_subj: &subject.to_string(),
            batch: PAGE,
            max_bytes: PAGE_BYTES,
            start,
        };
        let answer = self.direct_get(subject.kind.stream(), &request).await?;
        let last = answer.found.last().map(|found| match found {
            Ok(entry) => entry.sequence(),
            Err(undecodable) => undecodable.position.sequence,
        });
        let next = last.filter(|_| answer.pending > 0);
        Ok((answer.found, next.map(|last| Start::Sequence(last + 1))))
    }

    /// Every entry on a subject that can be read, the oldest first. For subjects with
    /// few entries: all of them are in memory at once.
    ///
    /// A view that starts from the last entry of each subject reads it where that one
    /// says nothing that is known: what was said before stands.
    ///
    /// # Errors
    /// The log cannot be reached.
    pub async fn history(&self, subject: Subject) -> Result<Vec<Entry>, ReadError> {
        self.scan(subject, None).try_collect().await
    }

    /// As [`Self::history`], however long the log cannot be read.
    pub async fn history_at_last(&self, subject: Subject) -> Vec<Entry> {
        loop {
            match self.history(subject).await {
                Ok(entries) => return entries,
                Err(error) => tracing::warn!(subject = %subject, error = %error, "log cannot be read, trying again"),
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }
}
