//! LiveInfo against a real nats-server and a real Redis.

mod support;

use std::time::Duration;

use async_trait::async_trait;
use castlog_live_info::{LiveInfo, Reader, RedisConfig, Store, rebuild, run, verify};
use castlog_log::{BroadcastId, Entry, Event, Kind, Secret};
use castlog_projector::{Progress, Projection as _, compliance};
use castlog_testkit::{RedisServer, Service, redis_connection, until};
use serde_json::Value;
use support::{WITHIN, World, flush};

struct Kit {
    store: Store,
    view: LiveInfo,
    url: String,
}

#[async_trait]
impl compliance::Harness for Kit {
    async fn apply(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        Ok(self.view.apply(entries).await?)
    }

    async fn crash(&mut self) -> anyhow::Result<()> {
        self.store = Store::new(&RedisConfig {
            url: Secret::new(self.url.clone()),
        })?;
        self.view = LiveInfo::new(self.store.clone());
        Ok(())
    }

    async fn wipe(&mut self) -> anyhow::Result<()> {
        flush(&self.url).await
    }

    async fn snapshot(&mut self) -> anyhow::Result<Value> {
        self.store.snapshot().await
    }
}

#[tokio::test]
async fn the_view_passes_the_compliance_kit() -> anyhow::Result<()> {
    let world = World::start().await?;
    let [_, live] = world.play().await?;
    let entries = world.entries().await?;
    assert_eq!(entries.len(), 7);
    let store = Store::new(&world.config().redis)?;
    let mut kit = Kit {
        view: LiveInfo::new(store.clone()),
        store: store.clone(),
        url: world.redis.url(),
    };
    compliance::check(&mut kit, &entries).await?;
    let snapshot = store.snapshot().await?;
    let on_air: Vec<&String> = snapshot["live"].as_object().unwrap().keys().collect();
    assert_eq!(on_air, [&live.to_string()]);
    // Negative control: the kit is not blind to a lost entry.
    assert!(verify(&world.config(), &world.log, &Progress::none()).await?.is_empty());
    world.title(live, "not applied").await?;
    assert_eq!(verify(&world.config(), &world.log, &Progress::none()).await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_view_withstands_any_history_and_any_delivery() -> anyhow::Result<()> {
    let redis = RedisServer::start().await?;
    let store = Store::new(&RedisConfig::new(redis.url()))?;
    let mut kit = Kit {
        view: LiveInfo::new(store.clone()),
        store,
        url: redis.url(),
    };
    compliance::explore(&mut kit, 100).await
}

#[tokio::test]
async fn the_service_follows_and_a_flushed_redis_is_rebuilt() -> anyhow::Result<()> {
    let world = World::start().await?;
    let service = Service::start(&world.own, |context| run(world.config(), context))?;
    let [ended, live] = world.play().await?;
    let settled = || async {
        let differences = verify(&world.config(), &world.log, &Progress::none()).await.ok()?;
        differences.is_empty().then_some(())
    };
    until("the view is equal to the log", WITHIN, settled).await?;
    assert!(service.health.is_ready());

    flush(&world.redis.url()).await?;
    assert_eq!(
        verify(&world.config(), &world.log, &Progress::none()).await?.len(),
        3,
        "two broadcasts, one of them live"
    );
    let report = rebuild(&world.config(), &world.log, &Progress::none()).await?;
    assert_eq!((report.broadcasts, report.removed), (2, 0));
    assert!(verify(&world.config(), &world.log, &Progress::none()).await?.is_empty());

    // A value that somebody tampered with is put right, too.
    let mut redis = redis_connection(&world.redis.url()).await?;
    let _: () = redis::cmd("HSET")
        .arg(format!("castlog:live_info:{ended}"))
        .arg("title")
        .arg("tampered")
        .query_async(&mut redis)
        .await?;
    assert_eq!(verify(&world.config(), &world.log, &Progress::none()).await?.len(), 1);
    rebuild(&world.config(), &world.log, &Progress::none()).await?;
    assert!(verify(&world.config(), &world.log, &Progress::none()).await?.is_empty());

    world.title(live, "after the rebuild").await?;
    until("the service goes on", WITHIN, settled).await?;
    service.finish().await
}

#[tokio::test]
async fn a_reader_sees_what_the_service_has_applied() -> anyhow::Result<()> {
    let mut world = World::start().await?;
    let service = Service::start(&world.own, |context| run(world.config(), context))?;
    let reader = Reader::new(&world.config().redis)?;
    assert!(reader.all(10).await?.is_empty() && reader.live(10).await?.is_empty());
    let [ended, live] = world.play().await?;
    // The order of the two streams is nobody's promise.
    for id in [ended, live] {
        for kind in [Kind::Title, Kind::Status] {
            let last = world.log.last(kind, id).await?.map(|entry| entry.sequence());
            let sequence = last.unwrap_or_default();
            assert!(reader.wait_applied(id, kind, sequence, WITHIN).await);
            assert!(!reader.wait_applied(id, kind, sequence + 1, Duration::ZERO).await);
        }
    }

    let newest = reader.get(live).await?.unwrap_or_default();
    let title = world.log.last(Kind::Title, live).await?;
    let title = title.map(|entry| (entry.event.clone(), entry.sequence()));
    assert_eq!(newest.get(&Kind::Title), title.as_ref());
    assert_eq!(newest.len(), 2);
    assert!(matches!(newest[&Kind::Status].0, Event::Status(_)));
    assert_eq!(reader.get(BroadcastId::generate()).await?, None);
    let ids = |found: Vec<(BroadcastId, _)>| found.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    let mut known = [ended, live];
    known.sort();
    known.reverse();
    assert_eq!(ids(reader.all(10).await?), known);
    assert_eq!(ids(reader.all(1).await?), known[..1]);
    assert_eq!(ids(reader.live(10).await?), [live]);
    assert!(reader.live(0).await?.is_empty());
    service.finish().await?;

    world.redis.kill9();
    assert!(reader.get(live).await.is_err());
    assert!(!reader.wait_applied(live, Kind::Title, 1, Duration::ZERO).await);
    Ok(())
}
