//! Live statistics, as a reader of LiveInfo's change feed keeps them: what is on
//! air by tag, and how many people watch.
//!
//! In: the change feed, of which the last change of each broadcast is enough to
//! begin with, and the `viewers` entries of the edges. Out: [`Statistics`]. They
//! are in memory and come back equal with a restart; changes that come twice
//! change nothing.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use castlog_log::{BroadcastId, Follow, Followed, From, Log, audience::Audience, change::Change};
use castlog_service::Shutdown;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    model::{Broadcast, State},
    problem::{Code, Problem},
};

/// Most tags of an answer.
const MAX_TAGS: usize = 100;

/// What is on air at this moment. Private broadcasts are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Statistics {
    /// Broadcasts on air, with those whose encoder is gone for the moment.
    live: usize,
    /// Of these, those whose encoder is gone for the moment.
    interrupted: usize,
    /// People who watch, over all broadcasts on air.
    viewers: u64,
    /// By tag, those with the most broadcasts first; at most 100.
    tags: Vec<Tag>,
    /// Sequence of the newest change of LiveInfo that is counted in.
    version: u64,
}

/// What is on air under a tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = TagStatistics)]
pub(crate) struct Tag {
    tag: String,
    live: usize,
    viewers: u64,
}

/// The fold. Pure: time comes in as a value.
#[derive(Debug, Default)]
struct Counts {
    on_air: HashMap<BroadcastId, OnAir>,
    audience: Audience,
    /// Sequence of the newest change that is counted in.
    version: u64,
}

#[derive(Debug)]
struct OnAir {
    tags: Vec<String>,
    interrupted: bool,
    pictured_session: Option<String>,
}

/// What is counted of a broadcast that is on air.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) viewers: u64,
    pub(crate) interrupted: bool,
    /// See [`Broadcast::pictured_session`].
    pub(crate) pictured_session: Option<String>,
}

impl Counts {
    fn change(&mut self, change: &Change) {
        if change.position.sequence <= self.version {
            return;
        }
        self.version = change.position.sequence;
        let newest = change
            .state()
            .into_iter()
            .map(|(kind, (event, sequence, _))| (kind, (event, sequence)))
            .collect();
        let on_air = Broadcast::of(change.broadcast, &newest, "")
            .filter(|broadcast| broadcast.is_public() && broadcast.status.state.on_air());
        match on_air {
            Some(broadcast) => {
                let on_air = OnAir {
                    pictured_session: broadcast.pictured_session().map(str::to_owned),
                    interrupted: broadcast.status.state == State::Interrupted,
                    tags: broadcast.tags,
                };
                self.on_air.insert(change.broadcast, on_air);
            }
            None => {
                self.on_air.remove(&change.broadcast);
            }
        }
    }

    fn statistics(&mut self, now: Instant) -> Statistics {
        self.audience.forget(now);
        let mut tags = BTreeMap::<&str, (usize, u64)>::new();
        let mut total = 0;
        for (id, on_air) in &self.on_air {
            let viewers = self.audience.of(*id);
            total += viewers;
            for tag in &on_air.tags {
                let of = tags.entry(tag).or_default();
                of.0 += 1;
                of.1 += viewers;
            }
        }
        let tag = |(tag, (live, viewers)): (&str, _)| Tag {
            tag: tag.to_owned(),
            live,
            viewers,
        };
        let mut tags: Vec<Tag> = tags.into_iter().map(tag).collect();
        tags.sort_by(|a, b| b.live.cmp(&a.live).then_with(|| a.tag.cmp(&b.tag)));
        tags.truncate(MAX_TAGS);
        Statistics {
            live: self.on_air.len(),
            interrupted: self.on_air.values().filter(|on_air| on_air.interrupted).count(),
            viewers: total,
            tags,
            version: self.version,
        }
    }
}

/// The statistics of this process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct LiveStatistics(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    counts: Counts,
    /// Every broadcast is counted in.
    complete: bool,
}

impl LiveStatistics {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on air at this moment.
    pub(crate) fn read(&self) -> Result<Statistics, Problem> {
        let mut shared = self.lock();
        if !shared.complete {
            return Err(Problem::new(
                Code::StatisticsUnavailable,
                "the change feed has not been read to its end since the server started",
            ));
        }
        Ok(shared.counts.statistics(Instant::now()))
    }

    /// What is counted of these broadcasts; those that are not on air, or private, are left out.
    pub(crate) fn of<'a>(&self, ids: impl Iterator<Item = &'a str>) -> HashMap<&'a str, Seen> {
        let mut shared = self.lock();
        let counts = &mut shared.counts;
        counts.audience.forget(Instant::now());
        ids.filter_map(|text| {
            let id = text.parse().ok()?;
            let on_air = counts.on_air.get(&id)?;
            let seen = Seen {
                viewers: counts.audience.of(id),
                interrupted: on_air.interrupted,
                pictured_session: on_air.pictured_session.clone(),
            };
            Some((text, seen))
        })
        .collect()
    }

    /// Writes down how many watch each of these that is on air. Who is shown a private
    /// broadcast is shown that too.
    pub(crate) fn count<'a>(&self, broadcasts: impl IntoIterator<Item = &'a mut Broadcast>) {
        let mut shared = self.lock();
        let audience = &mut shared.counts.audience;
        audience.forget(Instant::now());
        for broadcast in broadcasts {
            if broadcast.status.state.on_air()
                && let Ok(id) = broadcast.id.parse()
            {
                broadcast.viewers = audience.of(id);
            }
        }
    }

    /// Follows the change feed and the counts of viewers until the shutdown.
    pub(crate) async fn follow(self, log: Log, shutdown: Shutdown) -> anyhow::Result<()> {
        let mut changes = log.follow_changes(From::LastPerSubject);
        let mut viewers = log.follow_audience();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                change = next(&mut changes) => match change {
                    Some(change) => self.lock().counts.change(&change),
                    None => self.lock().complete = true,
                },
                Some(entry) = next(&mut viewers) => self.lock().counts.audience.count(&entry, Instant::now()),
            }
        }
    }
}

/// What is read next; `None` when all that was there has been.
async fn next<T: castlog_log::Readable>(reader: &mut Follow<T>) -> Option<Box<T>> {
    loop {
        match reader.next().await {
            Ok(Followed::Entry(read)) => return Some(read),
            Ok(Followed::CaughtUp) => return None,
            Ok(Followed::Undecodable(other)) => {
                tracing::warn!(subject = other.subject, seq = other.position.sequence, error = %other.error, "left out of the statistics");
            }
            Err(error) => tracing::warn!(error = %error, "statistics wait for the log"),
        }
    }
}

#[cfg(test)]
#[path = "statistics_tests.rs"]
mod tests;
