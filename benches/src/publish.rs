//! The publish path: what durability costs, and what the group commit wins back.

use std::{future::Future, time::Instant};

use async_nats::{HeaderMap, jetstream};
use castlog_log::{BroadcastId, Draft, EntryId, Event, Kind, Publisher};
use castlog_testkit::{NatsOptions, TestLog, events};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::percentiles::Percentiles;

/// Publishes under way at once.
const IN_FLIGHT: usize = 256;
/// The same for the line that shows what larger batches win.
const CROWD: usize = 1024;
/// Lone publishes whose latency is measured.
const LONE: usize = 1000;

/// Prints entries a second acknowledged by one server that syncs each
/// acknowledgement, and by one that syncs lazily: plain publishes one at a time
/// and pipelined, and castlog's group commit; then the latency of a lone publish.
pub(crate) async fn run(entries: u32) -> anyhow::Result<()> {
    println!("publish: {entries} title entries per figure, entries/s acknowledged");
    let mut durable = None;
    for (name, options) in [
        ("sync always", NatsOptions::default()),
        ("sync lazily", NatsOptions::default().lazy_sync()),
    ] {
        let log = TestLog::start(options).await?;
        let rates = Rates::measure(&log, entries).await?;
        println!(
            "  {name}: plain awaited {:>6.0}, plain pipelined ({IN_FLIGHT} in flight) {:>6.0}, group commit ({IN_FLIGHT}) \
             {:>6.0}, ({CROWD}) {:>6.0}",
            rates.awaited, rates.pipelined, rates.grouped, rates.crowded
        );
        println!(
            "    group commit to plain pipelining: {:.1} ({IN_FLIGHT} in flight), {:.1} ({CROWD}); to plain awaited: {:.1}",
            rates.grouped / rates.pipelined,
            rates.crowded / rates.pipelined,
            rates.grouped / rates.awaited,
        );
        let (plain, castlog) = lone(&log).await?;
        println!(
            "    a lone publish: plain p50 {:.2?} p99 {:.2?}, castlog p50 {:.2?} p99 {:.2?}, ratio p50 {:.2} p99 {:.2}",
            plain.p50,
            plain.p99,
            castlog.p50,
            castlog.p99,
            castlog.p50.as_secs_f64() / plain.p50.as_secs_f64(),
            castlog.p99.as_secs_f64() / plain.p99.as_secs_f64(),
        );
        match durable {
            None => durable = Some(rates),
            Some(durable) => println!(
                "  durable to lazy: plain pipelined {:.3}, group commit ({IN_FLIGHT}) {:.3}",
                durable.pipelined / rates.pipelined,
                durable.grouped / rates.grouped,
            ),
        }
    }
    Ok(())
}

/// Entries a second.
#[derive(Clone, Copy)]
struct Rates {
    awaited: f64,
    pipelined: f64,
    grouped: f64,
    crowded: f64,
}

impl Rates {
    async fn measure(log: &TestLog, entries: u32) -> anyhow::Result<Self> {
        let jetstream = log.log.jetstream();
        let plain = |n| plain(jetstream, n);
        let castlog = |n| castlog(&log.publisher, n);
        // The first publishes of a connection are slower.
        rate(entries.min(200), IN_FLIGHT, castlog).await?;
        Ok(Self {
            awaited: rate(entries, 1, plain).await?,
            pipelined: rate(entries, IN_FLIGHT, plain).await?,
            grouped: rate(entries, IN_FLIGHT, castlog).await?,
            crowded: rate(entries, CROWD, castlog).await?,
        })
    }
}

async fn rate<F>(entries: u32, in_flight: usize, publish: impl Fn(u32) -> F) -> anyhow::Result<f64>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let begun = Instant::now();
    stream::iter(0..entries)
        .map(publish)
        .buffer_unordered(in_flight)
        .try_for_each(|()| async { Ok(()) })
        .await?;
    Ok(f64::from(entries) / begun.elapsed().as_secs_f64())
}

fn title(n: u32) -> Event {
    events::title(&format!("title {n}"))
}

async fn castlog(publisher: &Publisher, n: u32) -> anyhow::Result<()> {
    publisher.publish(Draft::new(BroadcastId::generate(), title(n))).await?;
    Ok(())
}

/// A message as large as castlog's entry, by the client alone.
async fn plain(jetstream: &jetstream::Context, n: u32) -> anyhow::Result<()> {
    let broadcast = BroadcastId::generate();
    let id = EntryId::generate().to_string();
    let mut headers = HeaderMap::new();
    headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", &id),
        ("ce-type", "castlog.broad_info.title.changed"),
        ("ce-source", "castlog/bench"),
        ("ce-time", "2026-01-01T00:00:00.000Z"),
        ("ce-subject", &broadcast.to_string()),
        ("content-type", "application/protobuf"),
    ] {
        headers.insert(name, value);
    }
    let payload = title(n).encode();
    jetstream
        .publish_with_headers(Kind::Title.of(broadcast).to_string(), headers, payload)
        .await?
        .await?;
    Ok(())
}

/// One publish at a time, plain and castlog's by turns, so that both meet the same disk.
async fn lone(log: &TestLog) -> anyhow::Result<(Percentiles, Percentiles)> {
    let (mut plains, mut castlogs) = (Vec::new(), Vec::new());
    for n in (0..).take(LONE) {
        let begun = Instant::now();
        plain(log.log.jetstream(), n).await?;
        plains.push(begun.elapsed());
        let begun = Instant::now();
        castlog(&log.publisher, n).await?;
        castlogs.push(begun.elapsed());
    }
    Ok((Percentiles::of(plains)?, Percentiles::of(castlogs)?))
}
