//! How fast a view comes back: LiveInfo and the indexer replay a log, beside a
//! consumer that only fetches and acknowledges the same entries.

use std::time::{Duration, Instant};

use castlog_live_info::RedisConfig;
use castlog_log::{BroadcastId, Draft, Log, Publisher, SessionId};
use castlog_testkit::{
    Meilisearch, NatsOptions, RedisServer, Service, TestLog,
    events::{created, started, title},
};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use castlog_tests::usage::resident;

/// Broadcasts that the entries are of: all live, so that each has a document.
const BROADCASTS: u32 = 1000;
/// Publishes under way at once while the log is filled.
const IN_FLIGHT: usize = 256;
/// Between two looks at the consumers; what a figure can be off by.
const LOOK: Duration = Duration::from_millis(20);
/// The stream that has the bulk of the entries.
const STREAM: &str = "BROAD_INFO";

/// Prints entries a second of each, and the memory of this process while it replays.
pub(crate) async fn run(entries: u32) -> anyhow::Result<()> {
    println!("replay: {entries} title entries of {BROADCASTS} live broadcasts");
    let log = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    fill(&log.publisher, entries).await?;

    let bare = bare(&log.log).await?;
    println!("  fetch and ack only  {bare}");

    let redis = RedisServer::start().await?;
    let config = castlog_live_info::Config {
        redis: RedisConfig::new(redis.url()),
        ..Default::default()
    };
    let live_info = service(&log.log, "live_info", |context| castlog_live_info::run(config, context)).await?;
    println!(
        "  LiveInfo            {live_info}, ratio {:.2}",
        live_info.rate() / bare.rate()
    );

    let meili = Meilisearch::start().await?;
    let config = castlog_indexer::Config {
        meilisearch: castlog_meili::Config::new(&meili.url(), meili.master_key()),
        ..Default::default()
    };
    let indexer = service(&log.log, "indexer", |context| castlog_indexer::run(config, context)).await?;
    println!(
        "  indexer             {indexer}, ratio {:.2}",
        indexer.rate() / bare.rate()
    );
    Ok(())
}

async fn fill(publisher: &Publisher, entries: u32) -> anyhow::Result<()> {
    let ids: Vec<BroadcastId> = (0..BROADCASTS).map(|_| BroadcastId::generate()).collect();
    let first = ids.iter().flat_map(|id| {
        [
            (*id, created("bench")),
            (*id, started(&SessionId::generate().to_string())),
        ]
    });
    let titles = (0..entries).map(|n| (ids[(n % BROADCASTS) as usize], title(&format!("title {n}"))));
    stream::iter(first.chain(titles))
        .map(|(id, event)| publisher.publish(Draft::new(id, event)))
        .buffer_unordered(IN_FLIGHT)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(())
}

/// One replay.
struct Replay {
    entries: u64,
    took: Duration,
    memory: Memory,
}

impl Replay {
    #[allow(clippy::cast_precision_loss)] // counts of entries are far below 2^52
    fn rate(&self) -> f64 {
        self.entries as f64 / self.took.as_secs_f64()
    }
}

impl std::fmt::Display for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes: u64| bytes / (1024 * 1024);
        write!(
            f,
            "{:>8.0}/s, resident memory {} MiB after a tenth, {} MiB at most",
            self.rate(),
            mib(self.memory.early),
            mib(self.memory.most)
        )
    }
}

async fn bare(log: &Log) -> anyhow::Result<Replay> {
    /// As the projections take.
    const BATCH: usize = 200;
    let total = messages(log, STREAM).await?;
    let mut durable = log.durable(STREAM, "log_sink", BATCH);
    let mut memory = Memory::default();
    let begun = Instant::now();
    let mut done = 0;
    while done < total {
        for delivery in durable.next_batch(BATCH).await? {
            delivery.ack().await?;
            done += 1;
        }
        memory.look(done, total)?;
    }
    Ok(Replay {
        entries: done,
        took: begun.elapsed(),
        memory,
    })
}

/// Runs a service until its consumer has nothing left.
async fn service<F>(
    log: &Log,
    consumer: &str,
    run: impl FnOnce(castlog_service::Context) -> F,
) -> anyhow::Result<Replay>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let streams = [STREAM, "LIVE_STREAM"];
    let mut total = 0;
    for stream in streams {
        total += messages(log, stream).await?;
    }
    let mut memory = Memory::default();
    let begun = Instant::now();
    let service = Service::start(log, run)?;
    loop {
        let mut left = 0;
        for stream in streams {
            let backlog = log.backlog(stream, consumer).await?;
            left += backlog.pending + backlog.unacked;
        }
        memory.look(total - left, total)?;
        if left == 0 {
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    let took = begun.elapsed();
    service.finish().await?;
    Ok(Replay {
        entries: total,
        took,
        memory,
    })
}

async fn messages(log: &Log, stream: &str) -> anyhow::Result<u64> {
    Ok(log.jetstream().get_stream(stream).await?.cached_info().state.messages)
}

/// Resident memory of this process in bytes.
#[derive(Default)]
struct Memory {
    /// When a tenth was done: what starting costs is in it.
    early: u64,
    most: u64,
}

impl Memory {
    fn look(&mut self, done: u64, total: u64) -> anyhow::Result<()> {
        let now = resident("self")?;
        if self.early == 0 && done * 10 >= total {
            self.early = now;
        }
        self.most = self.most.max(now);
        Ok(())
    }
}
