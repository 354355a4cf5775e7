//! From the outbox in Redis to the change feed in the log.
//!
//! The script that writes the state puts each commit into the outbox in the same
//! step. The relay reads the oldest, appends them to the feed, and only then
//! removes them. Killed in between, it appends them again, which the feed
//! recognises: several relays at once, and none for a while, change nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::Context as _;
use backon::{BackoffBuilder, ExponentialBuilder};
use castlog_log::{
    BroadcastId, Followed, From, Kind, Log,
    change::{Commit, Feed},
};
use castlog_service::{Health, Shutdown};
use chrono::{DateTime, Utc};
use redis::{AsyncCommands as _, Pipeline, aio::ConnectionManager, streams::StreamRangeReply};
use tokio::sync::Notify;

use crate::{
    Config, RedisConfig, Store,
    keys::{self, OUTBOX},
    store::TIMEOUT,
};

/// Most commits of one round: a batch of the feed.
const ROUND: usize = 500;
/// How often the outbox is looked at without being told of a commit: what
/// another instance left behind is relayed this late.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Failures in a row after which draining is given up, and the wait between two.
const DRAIN_FAILURES: u32 = 50;
const DRAIN_DELAY: Duration = Duration::from_millis(50);
/// Broadcasts read from Redis in one round trip.
const PAGE: usize = 500;

/// What moves commits from the outbox to the feed.
pub(crate) struct Relay {
    redis: ConnectionManager,
    feed: Feed,
}

impl Relay {
    pub(crate) fn new(config: &RedisConfig, log: &Log) -> anyhow::Result<Self> {
        Ok(Self {
            redis: keys::connect(config, TIMEOUT).context("live_info.redis.url cannot be used")?,
            feed: Feed::new(log),
        })
    }

    /// Relays the oldest commits; returns how many have left the outbox.
    pub(crate) async fn round(&mut self) -> anyhow::Result<usize> {
        let waiting: StreamRangeReply = self
            .redis
            .xrange_count(OUTBOX, "-", "+", ROUND)
            .await
            .context("cannot read the outbox")?;
        let mut ids = Vec::with_capacity(waiting.ids.len());
        let mut commits = Vec::with_capacity(waiting.ids.len());
        for item in waiting.ids {
            match commit(&item.map) {
                Some(commit) => commits.push(commit),
                // LiveInfo writes none such; behind it, the feed would stand still.
                None => tracing::error!(outbox_id = item.id, "what is no commit is left out of the change feed"),
            }
            ids.push(item.id);
        }
        if ids.is_empty() {
            return Ok(0);
        }
        self.feed.append(&commits).await?;
        let _: usize = self.redis.xdel(OUTBOX, &ids).await.context("cannot clear the outbox")?;
        Ok(ids.len())
    }

    /// Relays what waits at this moment. Relays of running instances may come first
    /// many times, and what comes meanwhile is theirs: under load the outbox is
    /// never empty.
    pub(crate) async fn drain(&mut self) -> anyhow::Result<()> {
        let newest: StreamRangeReply = self
            .redis
            .xrevrange_count(OUTBOX, "+", "-", 1)
            .await
            .context("cannot read the outbox")?;
        let Some(end) = newest.ids.into_iter().next().map(|item| item.id) else {
            return Ok(());
        };
        let mut failures = DRAIN_FAILURES;
        loop {
            let left: StreamRangeReply = self
                .redis
                .xrange_count(OUTBOX, "-", &end, 1)
                .await
                .context("cannot read the outbox")?;
            if left.ids.is_empty() {
                return Ok(());
            }
            match self.round().await {
                Ok(_) => failures = DRAIN_FAILURES,
                Err(error) if failures == 0 => return Err(error),
                Err(_) => {
                    failures -= 1;
                    tokio::time::sleep(DRAIN_DELAY).await;
                }
            }
        }
    }

    /// Relays until the shutdown. `wake` tells of a commit.
    pub(crate) async fn run(mut self, wake: Arc<Notify>, shutdown: Shutdown, health: Health) -> anyhow::Result<()> {
        const PART: &str = "change_feed";
        health.set(PART, false);
        let delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_delay(Duration::from_secs(5))
            .without_max_times()
            .with_jitter();
        let mut backoff = delays.build();
        loop {
            // Cut off anywhere, a round is made again.
            let round = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                round = self.round() => round,
            };
            let pause = match round {
                Ok(relayed) => {
                    health.set(PART, true);
                    backoff = delays.build();
                    if relayed > 0 {
                        continue;
                    }
                    LOOK_INTERVAL
                }
                Err(error) => {
                    health.set(PART, false);
                    tracing::warn!(error = format!("{error:#}"), "change feed waits");
                    backoff.next().unwrap_or(LOOK_INTERVAL)
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

/// What waits to be put into the change feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outbox {
    /// How many commits.
    pub waiting: usize,
    /// When the oldest of them was made, by the clock of Redis.
    pub oldest: Option<DateTime<Utc>>,
}

/// What waits to be put into the change feed.
///
/// # Errors
/// Redis cannot be reached.
pub async fn outbox(config: &Config) -> anyhow::Result<Outbox> {
    let mut redis = keys::connect(&config.redis, TIMEOUT).context("live_info.redis.url cannot be used")?;
    let mut pipeline = Pipeline::new();
    pipeline.xlen(OUTBOX).xrange_count(OUTBOX, "-", "+", 1);
    let (waiting, oldest): (usize, StreamRangeReply) = pipeline
        .query_async(&mut redis)
        .await
        .context("cannot read the outbox")?;
    // An id begins with the milliseconds since 1970.
    let made = |id: &str| DateTime::from_timestamp_millis(id.split('-').next()?.parse().ok()?);
    Ok(Outbox {
        waiting,
        oldest: oldest.ids.first().and_then(|item| made(&item.id)),
    })
}

/// Brings the feed to what LiveInfo holds, and relays what waits. It adds nothing
/// where both agree; after a loss of Redis, which takes its outbox along, it adds
/// the newest entry of each kind that the feed lacks. Returns how many it found.
pub(crate) async fn reconcile(config: &RedisConfig, log: &Log) -> anyhow::Result<usize> {
    let mut relay = Relay::new(config, log)?;
    relay.drain().await?;
    let published = published(log).await?;
    let store = Store::new(config)?;
    let mut found = 0;
    for page in store.ids().await?.chunks(PAGE) {
        let mut pipeline = Pipeline::new();
        let mut missing = 0;
        for (id, sequences) in store.sequences(page).await? {
            for (kind, sequence) in sequences {
                let there = published.get(&(id, kind)).copied().unwrap_or_default();
                if sequence <= there {
                    continue;
                }
                // Without an entry there, somebody has tampered with the state.
                let Some(entry) = log.stored(kind.of(id), sequence).await? else {
                    continue;
                };
                // At the end of the outbox, so that no commit that waits is overtaken.
                pipeline.cmd("XADD").arg(OUTBOX).arg("*");
                pipeline.arg("broadcast").arg(id.to_string());
                pipeline.arg("kind").arg(kind.token());
                pipeline.arg("sequence").arg(sequence);
                pipeline.arg("time").arg(entry.time.to_rfc3339());
                pipeline.arg("payload").arg(&entry.payload[..]);
                if let Some(traceparent) = &entry.traceparent {
                    pipeline.arg("traceparent").arg(traceparent);
                }
                pipeline.ignore();
                missing += 1;
            }
        }
        if missing > 0 {
            pipeline
                .query_async::<()>(&mut relay.redis)
                .await
                .context("Redis did not take the commits")?;
            relay.drain().await?;
            found += missing;
        }
    }
    Ok(found)
}

/// The newest sequence in the feed of each kind of each broadcast.
async fn published(log: &Log) -> anyhow::Result<HashMap<(BroadcastId, Kind), u64>> {
    let mut published = HashMap::new();
    let mut reader = log.follow_changes(From::LastPerSubject);
    loop {
        match reader.next().await? {
            Followed::Entry(change) => {
                let versions = change.message.state.unwrap_or_default().versions;
                let known = versions
                    .iter()
                    .filter_map(|(kind, version)| Some((kind.parse().ok()?, version.sequence)));
                published.extend(known.map(|(kind, sequence)| ((change.broadcast, kind), sequence)));
            }
            Followed::Undecodable(other) => anyhow::bail!(
                "the change at sequence {} cannot be read: {}",
                other.position.sequence,
                other.error
            ),
            Followed::CaughtUp => return Ok(published),
        }
    }
}

/// The commit that the fields of the outbox say.
fn commit(fields: &HashMap<String, redis::Value>) -> Option<Commit> {
    let text = |name: &str| redis::from_redis_value_ref::<String>(fields.get(name)?).ok();
    let kind: Kind = text("kind")?.parse().ok()?;
    let before = Kind::STATE.into_iter().filter_map(|kind| {
        let sequence = text(&keys::sequence_field(kind))?;
        Some((kind, sequence.parse().ok()?))
    });
    Some(Commit {
        broadcast: text("broadcast")?.parse().ok()?,
        kind,
        sequence: text("sequence")?.parse().ok()?,
        time: DateTime::parse_from_rfc3339(&text("time")?).ok()?.with_timezone(&Utc),
        payload: redis::from_redis_value_ref::<Vec<u8>>(fields.get("payload")?)
            .ok()?
            .into(),
        before: before.collect(),
        traceparent: text("traceparent"),
    })
}

#[cfg(test)]
#[path = "relay_kit.rs"]
mod kit;
#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
