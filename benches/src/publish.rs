//! The publish path: what durability costs, and what concurrency wins back.

use std::time::{Duration, Instant};

use castlog_log::{BroadcastId, Draft, Publisher, pb};
use castlog_testkit::{NatsOptions, TestLog};
use futures::{StreamExt as _, TryStreamExt as _, stream};

/// Publishes under way at once in the pipelined measurement.
const IN_FLIGHT: usize = 256;

/// Prints entries a second, one at a time and pipelined, with each entry synced
/// to disk before its ack and with lazy sync.
pub(crate) async fn run(entries: u32) -> anyhow::Result<()> {
    println!("publish: {entries} title entries, one server per line of figures");
    let lazy = server(entries, NatsOptions::default().lazy_sync()).await?;
    let durable = server(entries, NatsOptions::default()).await?;
    for (name, (serial, pipelined)) in [("sync lazily", lazy), ("sync always", durable)] {
        println!(
            "  {name}: one at a time {:>8.0}/s, {IN_FLIGHT} in flight {:>8.0}/s, ratio {:.2}",
            rate(entries, serial),
            rate(entries, pipelined),
            serial.as_secs_f64() / pipelined.as_secs_f64(),
        );
    }
    println!(
        "  durable to lazy, {IN_FLIGHT} in flight: {:.3}",
        lazy.1.as_secs_f64() / durable.1.as_secs_f64()
    );
    Ok(())
}

fn rate(entries: u32, took: Duration) -> f64 {
    f64::from(entries) / took.as_secs_f64()
}

async fn server(entries: u32, options: NatsOptions) -> anyhow::Result<(Duration, Duration)> {
    let log = TestLog::start(options).await?;
    Ok((
        publish(&log.publisher, entries, 1).await?,
        publish(&log.publisher, entries, IN_FLIGHT).await?,
    ))
}

async fn publish(publisher: &Publisher, entries: u32, in_flight: usize) -> anyhow::Result<Duration> {
    let id = BroadcastId::generate();
    let begun = Instant::now();
    stream::iter(0..entries)
        .map(|n| async move {
            let changed = pb::title::Changed {
                title: format!("title {n}"),
            };
            publisher
                .publish(Draft::new(
                    id,
                    pb::Title {
                        event: Some(pb::title::Event::Changed(changed)),
                    },
                ))
                .await
        })
        .buffer_unordered(in_flight)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    Ok(begun.elapsed())
}
