//! A view that is made again while others read and write it.

mod support;

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use castlog_live_info::{Store, rebuild, run, verify};
use castlog_log::{BroadcastId, Draft, Kind, pb};
use castlog_projector::{Differences, Progress};
use castlog_testkit::{Service, redis_connection, until};
use redis::{AsyncCommands as _, aio::MultiplexedConnection};
use support::{WITHIN, World, flush};
use tokio::sync::Notify;

const PREFIX: &str = "castlog:live_info:";

async fn redis(world: &World) -> anyhow::Result<MultiplexedConnection> {
    redis_connection(&world.redis.url()).await
}

/// The titles of broadcasts, the set of ids, and who is live: all at one moment.
async fn look(redis: &mut MultiplexedConnection, ids: &[BroadcastId]) -> anyhow::Result<String> {
    let mut pipeline = redis::pipe();
    pipeline.atomic().scard(format!("{PREFIX}ids"));
    pipeline.zcard(format!("{PREFIX}live"));
    for id in ids {
        pipeline.hget(format!("{PREFIX}{id}"), "title");
    }
    let all: Vec<redis::Value> = pipeline.query_async(redis).await?;
    Ok(format!("{all:?}"))
}

/// A log of many broadcasts, two of them with a session.
async fn fill(world: &World) -> anyhow::Result<Vec<BroadcastId>> {
    let mut ids: Vec<_> = (0..60).map(|_| BroadcastId::generate()).collect();
    for id in &ids {
        world.title(*id, "true").await?;
    }
    ids.extend(world.play().await?);
    Ok(ids)
}

/// Spoils what is stored: wrong titles, one broadcast gone, one that never was.
async fn spoil(redis: &mut MultiplexedConnection, ids: &[BroadcastId]) -> anyhow::Result<()> {
    let mut pipeline = redis::pipe();
    for id in ids {
        pipeline.hset(format!("{PREFIX}{id}"), "title", "spoilt").ignore();
    }
    let stray = BroadcastId::generate().to_string();
    pipeline.hset(format!("{PREFIX}{stray}"), "title", "stray").ignore();
    pipeline.sadd(format!("{PREFIX}ids"), &stray).ignore();
    pipeline.zadd(format!("{PREFIX}live"), &stray, 1).ignore();
    pipeline.del(format!("{PREFIX}{}", ids[0])).ignore();
    pipeline.query_async::<()>(redis).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_see_the_old_view_or_the_new_one() -> anyhow::Result<()> {
    let world = World::start().await?;
    let ids = fill(&world).await?;
    rebuild(&world.config(), &world.log, &Progress::none()).await?;
    let mut redis = redis(&world).await?;
    let new = look(&mut redis, &ids).await?;
    let done = Arc::new(AtomicBool::new(false));
    for _ in 0..5 {
        spoil(&mut redis, &ids).await?;
        let old = look(&mut redis, &ids).await?;
        assert_ne!(old, new);
        done.store(false, Ordering::Release);
        let (mut reader, watched, over) = (redis.clone(), ids.clone(), Arc::clone(&done));
        let seen = tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::Acquire) {
                seen.insert(look(&mut reader, &watched).await?);
            }
            anyhow::Ok(seen)
        });
        let report = rebuild(&world.config(), &world.log, &Progress::none()).await?;
        done.store(true, Ordering::Release);
        assert_eq!((report.broadcasts, report.removed), (ids.len(), 1));
        let mut seen = seen.await??;
        assert!(seen.remove(&old), "nobody looked during the rebuild");
        seen.remove(&new);
        assert_eq!(seen, BTreeSet::new(), "a view that is neither the old nor the new one");
        assert_eq!(look(&mut redis, &ids).await?, new);
        assert!(verify(&world.config(), &world.log, &Progress::none()).await?.is_empty());
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_that_breaks_off_leaves_the_old_view() -> anyhow::Result<()> {
    let world = World::start().await?;
    let ids = fill(&world).await?;
    rebuild(&world.config(), &world.log, &Progress::none()).await?;
    let mut redis = redis(&world).await?;
    let new = look(&mut redis, &ids).await?;
    spoil(&mut redis, &ids).await?;
    let old = look(&mut redis, &ids).await?;
    let mut broken_off = 0;
    // Somewhere in each phase, until a rebuild gets through before it is broken off.
    for at in (0..).map(|n| n * 11) {
        let (reached, steps) = (Arc::new(Notify::new()), AtomicUsize::new(0));
        let tell = Arc::clone(&reached);
        let progress = Progress::new(move |_| {
            if steps.fetch_add(1, Ordering::AcqRel) == at {
                tell.notify_one();
            }
        });
        let (config, log) = (world.config(), world.log.clone());
        tokio::select! {
            biased;
            () = reached.notified() => broken_off += 1,
            report = rebuild(&config, &log, &progress) => {
                report?;
                break;
            }
        }
        let seen = look(&mut redis, &ids).await?;
        assert!(seen == old || seen == new, "{seen}");
    }
    assert!(broken_off > 3, "{broken_off}");
    assert_eq!(look(&mut redis, &ids).await?, new);
    assert!(verify(&world.config(), &world.log, &Progress::none()).await?.is_empty());
    // What the broken-off ones have left goes away by itself.
    let left: Vec<String> = redis.keys(format!("{PREFIX}rebuild:*")).await?;
    for key in &left {
        let ttl: i64 = redis.ttl(key).await?;
        assert!((1..=3600).contains(&ttl), "{key} stays for {ttl}");
    }
    let kept: Vec<String> = redis.keys(format!("{PREFIX}0*")).await?;
    for key in &kept {
        assert_eq!(redis.ttl::<_, i64>(key).await?, -1, "{key} would go away");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_that_come_during_a_rebuild_are_not_lost() -> anyhow::Result<()> {
    let world = World::start().await?;
    let ids = fill(&world).await?;
    let service = Service::start(&world.own, |context| run(world.config(), context))?;
    let hot = ids[1];
    let done = Arc::new(AtomicBool::new(false));
    let (publisher, over) = (world.publisher.clone(), Arc::clone(&done));
    let writes = tokio::spawn(async move {
        let mut last = 0;
        while !over.load(Ordering::Acquire) {
            let changed = pb::title::Changed {
                title: format!("title {last}"),
            };
            let event = pb::Title {
                event: Some(pb::title::Event::Changed(changed)),
            };
            last = publisher.publish(Draft::new(hot, event)).await?.sequence;
        }
        anyhow::Ok(last)
    });
    let (mut reader, over) = (redis(&world).await?, Arc::clone(&done));
    let reads = tokio::spawn(async move {
        let mut newest = 0;
        while !over.load(Ordering::Acquire) {
            let found: Option<u64> = reader.hget(format!("{PREFIX}{hot}"), "title.seq").await?;
            let found = found.unwrap_or_default();
            anyhow::ensure!(found >= newest, "went back from {newest} to {found}");
            newest = found;
        }
        Ok(newest)
    });
    for _ in 0..10 {
        rebuild(&world.config(), &world.log, &Progress::none()).await?;
    }
    done.store(true, Ordering::Release);
    let (last, seen) = (writes.await??, reads.await??);
    assert!(last > 70 && seen > 0, "{last} {seen}");
    until("the view is equal to the log", WITHIN, || async {
        let differences = verify(&world.config(), &world.log, &Progress::none()).await.ok()?;
        differences.is_empty().then_some(())
    })
    .await?;
    service.finish().await
}

#[tokio::test]
async fn what_is_of_another_log_is_gone() -> anyhow::Result<()> {
    let world = World::start().await?;
    let [ended, live] = world.play().await?;
    rebuild(&world.config(), &world.log, &Progress::none()).await?;
    // Sequences that this log has not come to.
    let mut redis = redis(&world).await?;
    let stray = BroadcastId::generate().to_string();
    let mut pipeline = redis::pipe();
    for (id, field, sequence) in [
        (ended.to_string(), "title", 900),
        (live.to_string(), "status", 901),
        (live.to_string(), "tags", 902),
        (stray.clone(), "title", 903),
    ] {
        let fields = [
            (field, "{}".to_owned()),
            (&format!("{field}.seq"), sequence.to_string()),
        ];
        pipeline.hset_multiple(format!("{PREFIX}{id}"), &fields).ignore();
    }
    pipeline.sadd(format!("{PREFIX}ids"), stray).ignore();
    pipeline.query_async::<()>(&mut redis).await?;
    assert!(!verify(&world.config(), &world.log, &Progress::none()).await?.is_empty());
    rebuild(&world.config(), &world.log, &Progress::none()).await?;
    assert_eq!(
        verify(&world.config(), &world.log, &Progress::none()).await?,
        Differences::default()
    );
    Ok(())
}

#[tokio::test]
async fn a_rebuild_says_what_the_service_says_behind_a_poisoned_entry() -> anyhow::Result<()> {
    let world = World::start().await?;
    let service = Service::start(&world.own, |context| run(world.config(), context))?;
    let [garbled, unknown] = [BroadcastId::generate(), BroadcastId::generate()];
    for id in [garbled, unknown] {
        world.title(id, "readable").await?;
    }
    let subject = Kind::Title.of(garbled).to_string();
    let jetstream = world.log.jetstream();
    jetstream.publish(subject, "garbage".into()).await?.await?;
    // An event of a newer schema.
    let newer = pb::Title { event: None };
    world.publisher.publish(Draft::new(unknown, newer)).await?;
    let settled = world.log.last_sequence(Kind::Title.stream()).await?;
    assert_eq!(settled, 4);
    until("the service is done", WITHIN, || async {
        let backlog = world.log.backlog(Kind::Title.stream(), "live_info").await.ok()?;
        (backlog.pending + backlog.unacked == 0).then_some(())
    })
    .await?;
    service.finish().await?;
    let store = Store::new(&world.config().redis)?;
    let incremental = store.snapshot().await?;
    assert_eq!(incremental["broadcasts"].as_object().map(serde_json::Map::len), Some(2));
    assert_eq!(
        verify(&world.config(), &world.log, &Progress::none()).await?,
        Differences::default()
    );
    flush(&world.redis.url()).await?;
    rebuild(&world.config(), &world.log, &Progress::none()).await?;
    assert_eq!(store.snapshot().await?, incremental);
    Ok(())
}
