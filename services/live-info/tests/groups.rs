//! Several instances of LiveInfo: they share the work, and one takes over what
//! another has left.

mod support;

use std::{collections::BTreeSet, time::Duration};

use castlog_live_info::{Config, Reader, RedisConfig, run};
use castlog_log::{BroadcastId, Kind, dead_letter};
use castlog_testkit::{RedisServer, Service, until};
use support::{WITHIN, World};

fn config(redis: &RedisServer) -> Config {
    Config {
        redis: RedisConfig::new(redis.url()),
        ..Config::default()
    }
}

/// The broadcasts whose entries an instance got, by its own Redis.
async fn got(redis: &RedisServer) -> anyhow::Result<BTreeSet<BroadcastId>> {
    let all = Reader::new(&RedisConfig::new(redis.url()))?.all(10_000).await?;
    Ok(all.into_iter().map(|(id, _)| id).collect())
}

/// Waits until every entry is acknowledged.
async fn settled(world: &World) -> anyhow::Result<()> {
    until("every entry is acknowledged", WITHIN, || async {
        let backlog = world.log.backlog(Kind::Title.stream(), "live_info").await.ok()?;
        (backlog.pending + backlog.unacked == 0).then_some(())
    })
    .await
}

async fn titles(world: &World, count: usize) -> anyhow::Result<BTreeSet<BroadcastId>> {
    let ids: BTreeSet<_> = (0..count).map(|_| BroadcastId::generate()).collect();
    for id in &ids {
        world.title(*id, "title").await?;
    }
    Ok(ids)
}

#[tokio::test]
async fn two_instances_share_the_work_and_one_takes_over() -> anyhow::Result<()> {
    let world = World::start().await?;
    let redis = [RedisServer::start().await?, RedisServer::start().await?];
    let start = |redis: &RedisServer| Service::start(&world.log, |context| run(config(redis), context));
    let [first, second] = [start(&redis[0])?, start(&redis[1])?];
    until("both are ready", WITHIN, || {
        std::future::ready((first.health.is_ready() && second.health.is_ready()).then_some(()))
    })
    .await?;
    let shared = titles(&world, 100).await?;
    settled(&world).await?;
    let [a, b] = [got(&redis[0]).await?, got(&redis[1]).await?];
    assert_eq!(&a | &b, shared);
    assert!(a.is_disjoint(&b), "an entry went to both");
    assert!(a.len() >= 20 && b.len() >= 20, "{} and {}", a.len(), b.len());

    first.finish().await?;
    let left = titles(&world, 50).await?;
    settled(&world).await?;
    assert_eq!(got(&redis[0]).await?, a);
    assert_eq!(got(&redis[1]).await?, &b | &left);
    second.finish().await
}

#[tokio::test]
async fn what_a_dead_instance_held_comes_to_another() -> anyhow::Result<()> {
    let world = World::start().await?;
    // Soon, instead of after half a minute.
    let stream = world.log.jetstream().get_stream(Kind::Title.stream()).await?;
    let mut short = stream.consumer_info("live_info").await?.config;
    short.ack_wait = Duration::from_secs(2);
    stream.update_consumer(short).await?;
    let ids = titles(&world, 5).await?;
    // An instance that takes entries and dies before it applies them.
    let mut dead = world.log.durable(Kind::Title.stream(), "live_info", 5);
    let held = dead.next_batch(5).await?;
    assert!(!held.is_empty());
    drop((dead, held));
    let service = Service::start(&world.log, |context| run(world.config(), context))?;
    settled(&world).await?;
    assert_eq!(got(&world.redis).await?, ids);
    let (letters, _) = dead_letter::list(&world.log, &dead_letter::Filter::default(), 10).await?;
    assert!(letters.is_empty());
    service.finish().await
}
