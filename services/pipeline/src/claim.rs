//! Whose a session is. The queue gives a job to one worker at a time, but one that it
//! believes dead may only have been asleep. So a worker says in the log that it makes
//! the session's renditions, each time behind what it said before: the session is in
//! the hands of whoever said so last, and one that learns of another stops.

use std::time::Duration;

use castlog_log::{
    BroadcastId, Draft, Entry, EntryId, Event, Kind, Log, PublishError, Publisher, ReadError, SessionId,
    pb::{Metadata, metadata},
};

use tokio::time::sleep;

use crate::store::publish;

/// Before the log is read again for what came in between.
const REREAD_DELAY: Duration = Duration::from_millis(50);

/// The session is another worker's.
#[derive(Debug, thiserror::Error)]
#[error("the session is another worker's")]
pub struct Lost;

/// What a worker says of a session, as long as nobody else does.
#[derive(Debug, Clone)]
pub struct Claim {
    log: Log,
    publisher: Publisher,
    broadcast: BroadcastId,
    session: SessionId,
    worker: String,
    /// Sequence of the metadata entry that the next one comes behind; 0 = none.
    last: u64,
}

impl Claim {
    /// Takes a session over: from here on its former worker cannot say anything of it.
    /// Answers what that one has said.
    ///
    /// # Errors
    /// The log cannot be read or written.
    pub async fn take(
        log: &Log,
        broadcast: BroadcastId,
        session: SessionId,
    ) -> anyhow::Result<(Self, Option<metadata::Produced>)> {
        let newest = log.last(Kind::Metadata, broadcast).await?;
        let mut claim = Self {
            log: log.clone(),
            publisher: Publisher::new(log, "pipeline"),
            broadcast,
            session,
            worker: EntryId::generate().to_string(),
            last: newest.as_ref().map_or(0, Entry::sequence),
        };
        let said = newest.as_ref().and_then(produced);
        let said = said.filter(|said| said.session_id == session.to_string()).cloned();
        if let Some(said) = &said {
            claim.say(said.clone()).await?;
        }
        Ok((claim, said))
    }

    /// Says what is made of the session, unless a later one has begun.
    ///
    /// # Errors
    /// [`Lost`], or the log cannot be used.
    pub async fn say(&mut self, said: metadata::Produced) -> anyhow::Result<()> {
        let said = metadata::Produced {
            worker: self.worker.clone(),
            ..said
        };
        loop {
            let metadata = Metadata {
                event: Some(metadata::Event::Produced(said.clone())),
            };
            let draft = Draft::new(self.broadcast, metadata).expect_last(self.last);
            match publish(&self.publisher, draft).await {
                Ok(receipt) => {
                    self.last = receipt.sequence;
                    return Ok(());
                }
                Err(PublishError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            // A replica may answer that does not have it yet.
            sleep(REREAD_DELAY).await;
            let Some(newest) = self.newest().await? else {
                continue;
            };
            if self.is_lost_by(&newest) {
                return Err(Lost.into());
            }
            // Ids of sessions sort by time.
            if produced(&newest).is_some_and(|other| other.session_id > said.session_id) {
                return Ok(());
            }
            self.last = newest.sequence();
        }
    }

    /// Whether the session is another worker's.
    ///
    /// # Errors
    /// The log cannot be read.
    pub async fn is_lost(&self) -> Result<bool, ReadError> {
        Ok(self.newest().await?.is_some_and(|newest| self.is_lost_by(&newest)))
    }

    /// Whether the session is another worker's by this entry.
    #[must_use]
    pub fn is_lost_by(&self, entry: &Entry) -> bool {
        let other =
            |said: &metadata::Produced| said.session_id == self.session.to_string() && said.worker != self.worker;
        entry.sequence() > self.last && produced(entry).is_some_and(other)
    }

    async fn newest(&self) -> Result<Option<Entry>, ReadError> {
        self.log.last(Kind::Metadata, self.broadcast).await
    }
}

fn produced(entry: &Entry) -> Option<&metadata::Produced> {
    match &entry.event {
        Event::Metadata(Metadata {
            event: Some(metadata::Event::Produced(produced)),
        }) => Some(produced),
        _ => None,
    }
}
