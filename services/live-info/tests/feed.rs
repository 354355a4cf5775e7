//! The change feed, as its readers see it: whatever is killed when, each commit
//! is there once, and what the feed says is what LiveInfo holds.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::process::parent_id,
    time::Duration,
};

use castlog_live_info::{Config, LiveInfo, RedisConfig, Store, outbox, rebuild, run, verify, verify_feed};
use castlog_log::{
    BroadcastId, ConnectConfig, Draft, Entry, Followed, From, Kind, Log, SessionId,
    change::{self, Change},
};
use castlog_projector::{Progress, Projection as _};
use castlog_testkit::{
    NatsOptions, Process, RedisServer, Service, TestLog, changes,
    events::{started, tags, title},
    redis_connection, until,
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);
/// Where the process that is killed finds its servers.
const SERVERS: [&str; 2] = ["CASTLOG_TEST_NATS", "CASTLOG_TEST_REDIS"];

fn config(redis: &RedisServer) -> Config {
    Config {
        redis: RedisConfig::new(redis.url()),
        ..Default::default()
    }
}

async fn entries(log: &Log) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for stream in ["BROAD_INFO", "LIVE_STREAM"] {
        let mut reader = log.follow(stream, &["media.>"], From::Beginning);
        while let Followed::Entry(entry) = reader.next().await? {
            entries.push(*entry);
        }
    }
    Ok(entries)
}

/// The broadcasts of the view that a reader of the feed has: the last change of each.
fn folded(changes: &[Change]) -> Value {
    let mut broadcasts = BTreeMap::new();
    for change in changes {
        let mut fields = BTreeMap::new();
        for (kind, (event, sequence, time)) in change.state() {
            let time = time.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
            fields.insert(kind.to_string(), event.to_json().to_string());
            fields.insert(format!("{kind}.seq"), sequence.to_string());
            fields.insert(format!("{kind}.time"), time);
        }
        broadcasts.insert(change.broadcast.to_string(), fields);
    }
    json!(broadcasts)
}

/// A change that is there twice, or behind a newer one of its kind.
fn misplaced(changes: &[Change]) -> Option<&Change> {
    let mut newest = BTreeMap::new();
    changes.iter().find(|change| {
        let message = &change.message;
        let last = newest.insert((change.broadcast, &message.kind), message.sequence);
        last.is_some_and(|last| last >= message.sequence)
    })
}

/// That no change is there twice or out of order, and that the whole is the view.
async fn is_sound(log: &Log, redis: &RedisServer) -> anyhow::Result<Vec<Change>> {
    let changes = changes(log).await?;
    assert_eq!(misplaced(&changes), None);
    // The check is not blind: a change that comes again is found.
    let again: Vec<Change> = changes.iter().chain(changes.last()).cloned().collect();
    assert_eq!(misplaced(&again), changes.last());
    let view = Store::new(&config(redis).redis)?.snapshot().await?;
    assert_eq!(folded(&changes), view["broadcasts"]);
    Ok(changes)
}

async fn settled(log: &Log, redis: &RedisServer) -> anyhow::Result<Vec<Change>> {
    until("the feed says what LiveInfo holds", WITHIN, || async {
        let view = Store::new(&config(redis).redis).ok()?.snapshot().await.ok()?;
        let same = verify(&config(redis), log, &Progress::none()).await.ok()?.is_empty();
        (same && folded(&changes(log).await.ok()?) == view["broadcasts"]).then_some(())
    })
    .await?;
    is_sound(log, redis).await
}

/// Where the feed is not what LiveInfo holds, in words.
async fn told(log: &Log, redis: &RedisServer) -> anyhow::Result<Vec<String>> {
    let differences = verify_feed(&config(redis), log, &Progress::none()).await?;
    Ok(differences.lines().to_vec())
}

/// Not a test by itself: what the next test starts and kills.
#[tokio::test]
async fn process() -> anyhow::Result<()> {
    let [Ok(nats), Ok(redis)] = SERVERS.map(std::env::var) else {
        return Ok(());
    };
    let parent = parent_id();
    let servers = ConnectConfig {
        url: nats,
        ..ConnectConfig::default()
    };
    let log = Log::connect(&servers, "killed").await?;
    let config = Config {
        redis: RedisConfig::new(redis),
        batch: 7,
    };
    let _service = Service::start(&log, |context| run(config, context))?;
    // Nobody else would end it once the test is gone.
    until("the end of the test", Duration::MAX, || async {
        (parent_id() != parent).then_some(())
    })
    .await
}

#[tokio::test]
async fn each_change_is_there_once_whatever_is_killed_when() -> anyhow::Result<()> {
    const BROADCASTS: usize = 60;
    let mut log = TestLog::start(NatsOptions::default()).await?;
    log.change_stream(change::STREAM, &json!({ "duplicate_window": 100_000_000 }))
        .await?;
    // What a killed process held comes again soon.
    for stream in ["BROAD_INFO", "LIVE_STREAM"] {
        log.change_consumer(stream, "live_info", &json!({ "ack_wait": 1_000_000_000 }))
            .await?;
    }
    let on_disk = [("appendonly", "yes"), ("appendfsync", "always")];
    let mut redis = RedisServer::start_with(&on_disk).await?;
    let folder = tempfile::tempdir()?;
    let mut process = Process::new(std::env::current_exe()?, folder.path().join("log"))
        .args(["process", "--exact", "--nocapture"])
        .env(SERVERS[0], log.nats.url())
        .env(SERVERS[1], redis.url());
    let publisher = log.publisher.clone();
    let publishing = tokio::spawn(async move {
        for n in 0..BROADCASTS {
            let id = BroadcastId::generate();
            for event in [
                title("one"),
                tags(&["lol"]),
                started(&SessionId::generate().to_string()),
                title(&format!("two {n}")),
            ] {
                publisher.publish(Draft::new(id, event)).await?;
            }
        }
        anyhow::Ok(())
    });
    let mut random = StdRng::seed_from_u64(7);
    for round in 1..=12 {
        process.start()?;
        let target = (round * BROADCASTS as u64 * 4) / 13 + random.random_range(0..8);
        until("some of the feed", WITHIN, || async {
            let mut stream = log.log.jetstream().get_stream(change::STREAM).await.ok()?;
            (stream.info().await.ok()?.state.last_sequence >= target).then_some(())
        })
        .await?;
        process.kill9();
        match round {
            4 | 8 => redis.restart().await?,
            6 | 10 => log.nats.restart().await?,
            _ => {}
        }
    }
    publishing.await??;
    process.start()?;
    let changes = settled(&log.log, &redis).await?;
    process.kill9();
    // What comes once per broadcast cannot be overtaken, so each of these is a commit.
    let committed: BTreeSet<String> = entries(&log.log)
        .await?
        .iter()
        .filter(|entry| entry.subject.kind != Kind::Title)
        .map(|entry| format!("{}-{}", entry.position.stream, entry.position.sequence))
        .collect();
    assert_eq!(committed.len(), 2 * BROADCASTS);
    let relayed = changes.iter().filter(|change| change.message.kind != "title");
    let relayed: BTreeSet<String> = relayed.map(|change| change.id.clone()).collect();
    assert_eq!(relayed, committed);
    Ok(())
}

#[tokio::test]
async fn a_rebuild_adds_what_is_missing_and_nothing_else() -> anyhow::Result<()> {
    let log = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    let redis = RedisServer::start().await?;
    let service = Service::start(&log.log, |context| run(config(&redis), context))?;
    let id = BroadcastId::generate();
    for event in [
        title("one"),
        tags(&["lol"]),
        started(&SessionId::generate().to_string()),
        title("two"),
    ] {
        log.publisher.publish(Draft::new(id, event)).await?;
    }
    let before = settled(&log.log, &redis).await?;
    assert_eq!(before.len(), 4);
    assert!(service.health.is_ready());
    service.finish().await?;
    assert_eq!(told(&log.log, &redis).await?, Vec::<String>::new());

    // Redis loses all; the feed knows what it has.
    flush(&redis).await?;
    let lost = told(&log.log, &redis).await?;
    assert!(
        lost.len() == 1 && lost[0].contains("title is nothing, the feed says"),
        "{lost:?}"
    );
    rebuild(&config(&redis), &log.log, &Progress::none()).await?;
    rebuild(&config(&redis), &log.log, &Progress::none()).await?;
    assert_eq!(is_sound(&log.log, &redis).await?.len(), 4);

    // It loses a commit that nobody had relayed.
    log.publisher.publish(Draft::new(id, title("three"))).await?;
    let entries = entries(&log.log).await?;
    LiveInfo::new(Store::new(&config(&redis).redis)?)
        .apply(&entries)
        .await?;
    assert_eq!(changes(&log.log).await?.len(), 4);
    let unrelayed = told(&log.log, &redis).await?;
    assert!(
        unrelayed.len() == 1 && unrelayed[0].contains("title.seq is 4, the feed says 3"),
        "{unrelayed:?}"
    );
    let waiting = outbox(&config(&redis)).await?;
    assert!(waiting.waiting == 1 && waiting.oldest.is_some(), "{waiting:?}");
    flush(&redis).await?;
    rebuild(&config(&redis), &log.log, &Progress::none()).await?;
    let after = is_sound(&log.log, &redis).await?;
    assert_eq!(after.len(), 5);
    assert_eq!(after[4].message.kind, "title");
    assert_eq!(after[4].state().len(), 3, "the whole state");

    // The feed loses all, as after its retention: the next change is whole again.
    log.log.jetstream().delete_stream(change::STREAM).await?;
    castlog_log::provision::apply(&log.log, Default::default()).await?;
    let forgotten = told(&log.log, &redis).await?;
    assert!(
        forgotten.len() == 1 && forgotten[0].contains("the feed says nothing"),
        "{forgotten:?}"
    );
    let service = Service::start(&log.log, |context| run(config(&redis), context))?;
    log.publisher.publish(Draft::new(id, tags(&["korean"]))).await?;
    let whole = settled(&log.log, &redis).await?;
    assert_eq!(whole.len(), 1);
    assert_eq!(whole[0].message.kind, "tags");
    assert_eq!(told(&log.log, &redis).await?, Vec::<String>::new());
    service.finish().await
}

#[tokio::test]
async fn a_rebuild_fills_a_feed_that_was_left_out_of_a_restore() -> anyhow::Result<()> {
    let log = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    let redis = RedisServer::start().await?;
    let id = BroadcastId::generate();
    for event in [title("one"), tags(&["lol"]), title("two")] {
        log.publisher.publish(Draft::new(id, event)).await?;
    }
    // LiveInfo goes on where its consumer was in the backup, in an empty Redis.
    let entries = entries(&log.log).await?;
    LiveInfo::new(Store::new(&config(&redis).redis)?)
        .apply(&entries[2..])
        .await?;
    rebuild(&config(&redis), &log.log, &Progress::none()).await?;
    let changes = is_sound(&log.log, &redis).await?;
    assert_eq!(changes.len(), 2, "the newest of each kind");
    assert_eq!(changes[1].state().len(), 2, "the whole state");
    assert_eq!(told(&log.log, &redis).await?, Vec::<String>::new());
    Ok(())
}

async fn flush(redis: &RedisServer) -> anyhow::Result<()> {
    let mut redis = redis_connection(&redis.url()).await?;
    Ok(redis::cmd("FLUSHALL").query_async(&mut redis).await?)
}

#[tokio::test]
async fn what_a_newer_producer_says_stops_nothing_and_is_passed_on() -> anyhow::Result<()> {
    let log = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    let redis = RedisServer::start().await?;
    let service = Service::start(&log.log, |context| run(config(&redis), context))?;
    let id = BroadcastId::generate();
    // An event that this schema does not have, of every kind: member 90 of the oneof.
    for kind in Kind::STATE {
        log.publish_payload(kind.of(id), &[0xd2, 0x05, 2, 0x08, 1]).await?;
    }
    // A title with a field that it does not have: number 99, "new".
    let mut payload = title("롤").encode().to_vec();
    let extra = [0x9a, 0x06, 3, b'n', b'e', b'w'];
    payload.extend(extra);
    log.publish_payload(Kind::Title.of(id), &payload).await?;
    let changes = settled(&log.log, &redis).await?;
    assert_eq!(changes.len(), 1, "unknown events say nothing that LiveInfo keeps");
    assert_eq!(log.dead_letters().await?, 0);
    let stream = log.log.jetstream().get_stream(change::STREAM).await?;
    let raw = stream.direct_get(changes[0].position.sequence).await?;
    let found = raw.payload.windows(extra.len()).any(|bytes| bytes == extra);
    assert!(found, "the bytes of the entry are in the change");
    service.finish().await
}
