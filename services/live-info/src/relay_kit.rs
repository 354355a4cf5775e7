//! The change feed in the compliance kit: as a view of what LiveInfo has committed.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use castlog_log::{Draft, Entry, EntryId, change, change::Change};
use castlog_projector::{
    Progress, Projection as _,
    compliance::{Harness, explore},
};
use castlog_testkit::{NatsOptions, RedisServer, TestLog, changes};
use redis::AsyncCommands as _;
use serde_json::{Value, json};

use super::*;
use crate::{LiveInfo, rebuild, verify::told};

/// What is wrong with a relay.
#[derive(PartialEq)]
enum Fault {
    None,
    /// What is in the outbox when it dies is gone.
    Drops,
    /// What it relayed last before it died is relayed again.
    Repeats,
}

struct View {
    fault: Fault,
    log: TestLog,
    redis: RedisServer,
    live_info: LiveInfo,
    relay: Relay,
    /// The broadcasts of the history that was published last, and its entries that say
    /// something: each of them is to be committed.
    broadcasts: BTreeSet<BroadcastId>,
    said: BTreeSet<String>,
}

impl View {
    async fn start(fault: Fault) -> anyhow::Result<Self> {
        let log = TestLog::start(NatsOptions::default().lazy_sync()).await?;
        let redis = RedisServer::start().await?;
        let config = RedisConfig::new(redis.url());
        Ok(Self {
            fault,
            live_info: LiveInfo::new(Store::new(&config)?),
            relay: Relay::new(&config, &log.log)?,
            log,
            redis,
            broadcasts: BTreeSet::new(),
            said: BTreeSet::new(),
        })
    }

    fn config(&self) -> Config {
        Config {
            redis: RedisConfig::new(self.redis.url()),
            ..Config::default()
        }
    }

    async fn flush(&mut self) -> anyhow::Result<()> {
        redis::cmd("FLUSHALL").query_async::<()>(&mut self.relay.redis).await?;
        Ok(())
    }

    /// The feed of this history: every commit once, in order, each with the whole state
    /// after it.
    async fn sound(&self) -> anyhow::Result<Vec<Change>> {
        let mut changes = changes(&self.log.log).await?;
        changes.retain(|change| self.broadcasts.contains(&change.broadcast));
        let mut states = BTreeMap::<BroadcastId, BTreeMap<String, u64>>::new();
        for Change {
            id, broadcast, message, ..
        } in &changes
        {
            let state = states.entry(*broadcast).or_default();
            let before = state.insert(message.kind.clone(), message.sequence);
            anyhow::ensure!(before < Some(message.sequence), "C1: {id} is behind {before:?}");
            let told = message.state.clone().unwrap_or_default().versions;
            let told: BTreeMap<String, u64> = told.into_iter().map(|(kind, of)| (kind, of.sequence)).collect();
            anyhow::ensure!(told == *state, "C1: {id} tells {told:?} and not {state:?}");
        }
        let relayed: BTreeSet<String> = changes.iter().map(|change| change.id.clone()).collect();
        anyhow::ensure!(relayed == self.said, "C1: {relayed:?} and not {:?}", self.said);
        Ok(changes)
    }
}

#[async_trait]
impl Harness for View {
    async fn apply(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        self.live_info.apply(entries).await?;
        // Some commits wait for the next relay.
        if entries.len() % 2 == 1 {
            self.relay.drain().await?;
        }
        Ok(())
    }

    async fn crash(&mut self) -> anyhow::Result<()> {
        let config = self.config();
        self.live_info = LiveInfo::new(Store::new(&config.redis)?);
        self.relay = Relay::new(&config.redis, &self.log.log)?;
        match self.fault {
            Fault::None => {}
            Fault::Drops => self.relay.redis.del(OUTBOX).await?,
            Fault::Repeats => {
                let jetstream = self.log.log.jetstream();
                let feed = jetstream.get_stream(change::STREAM).await?;
                let last = feed.cached_info().state.last_sequence;
                if last > 0 {
                    let message = feed.get_raw_message(last).await?;
                    let mut headers = message.headers;
                    headers.insert("Nats-Msg-Id", EntryId::generate().to_string());
                    let again = jetstream.publish_with_headers(message.subject, headers, message.payload);
                    again.await?.await?;
                }
            }
        }
        Ok(())
    }

    /// Nothing is left of either.
    async fn wipe(&mut self) -> anyhow::Result<()> {
        self.flush().await?;
        let jetstream = self.log.log.jetstream();
        let config = jetstream.get_stream(change::STREAM).await?.cached_info().config.clone();
        jetstream.delete_stream(change::STREAM).await?;
        jetstream.create_stream(config).await?;
        self.relay = Relay::new(&self.config().redis, &self.log.log)?;
        Ok(())
    }

    /// Redis is lost, and the feed is there.
    async fn rebuild(&mut self, _log: &[Entry]) -> anyhow::Result<()> {
        self.flush().await?;
        rebuild(&self.config(), &self.log.log, &Progress::none()).await?;
        Ok(())
    }

    async fn snapshot(&mut self) -> anyhow::Result<Value> {
        self.relay.drain().await?;
        let mut folded = BTreeMap::new();
        for change in self.sound().await? {
            folded.insert(change.broadcast.to_string(), told(&change));
        }
        let mut view = Store::new(&self.config().redis)?.snapshot().await?;
        let mut committed = view["broadcasts"].take();
        if let Some(committed) = committed.as_object_mut() {
            committed.retain(|id, _| id.parse().is_ok_and(|id| self.broadcasts.contains(&id)));
        }
        let folded = json!(folded);
        anyhow::ensure!(
            folded == committed,
            "the feed says\n{folded:#}\nand LiveInfo\n{committed:#}"
        );
        Ok(folded)
    }

    async fn publish(&mut self, history: Vec<Entry>) -> anyhow::Result<Vec<Entry>> {
        self.broadcasts.clear();
        self.said.clear();
        let mut published = Vec::with_capacity(history.len());
        for mut entry in history {
            let Some(broadcast) = entry.subject.broadcast else {
                continue;
            };
            let draft = Draft::new(broadcast, entry.event.clone()).time(entry.time);
            entry.position.sequence = self.log.publisher.publish(draft).await?.sequence;
            self.broadcasts.insert(broadcast);
            if entry.event.name().is_some() {
                self.said
                    .insert(format!("{}-{}", entry.position.stream, entry.position.sequence));
            }
            published.push(entry);
        }
        Ok(published)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_withstands_any_history_and_any_delivery() -> anyhow::Result<()> {
    explore(&mut View::start(Fault::None).await?, 40).await
}

#[tokio::test(flavor = "multi_thread")]
async fn feeds_that_are_wrong_are_caught() -> anyhow::Result<()> {
    for fault in [Fault::Drops, Fault::Repeats] {
        assert!(explore(&mut View::start(fault).await?, 40).await.is_err());
    }
    Ok(())
}
