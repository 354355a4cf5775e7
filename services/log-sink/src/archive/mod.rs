//! The archive: every entry but the media parts as Parquet in the object store,
//! partitioned by date and kind.
//!
//! A stream is archived range by range. A range is claimed by creating its plan,
//! which nobody can create twice and nobody changes; its files follow from the
//! log and are created the same way. So a range that was begun by a process that
//! died, or that two processes work on, comes out once: every entry is in one
//! file, in one row. The plans, one behind the other, are how far the archive is.

mod config;
mod file;
mod plan;
mod store;

use std::time::Duration;

use anyhow::Context as _;
use backon::{BackoffBuilder, ExponentialBuilder};
use castlog_log::{Entry, Follow, Followed, From, Log};
use castlog_service::{Context, Health, Shutdown, Tasks};
use tokio::time::Instant;

pub use config::Config;
use plan::Plan;
use store::Store;

/// Payload bytes of a range, beyond which it ends: bounds the memory of a stream.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// How long a range may go on after the shutdown has begun; what is not done is done later.
const GRACE: Duration = Duration::from_secs(5);
/// The part of the health that says whether the archive is written.
const PART: &str = "archive";

/// Archives the streams until the shutdown.
pub(crate) async fn run(config: Config, streams: &[&'static str], ctx: Context) -> anyhow::Result<()> {
    ctx.health.set(PART, false);
    let store = Store::new(&ctx.media, &config.prefix);
    let mut tasks = Tasks::new(&ctx.shutdown);
    for stream in streams {
        let archive = Archive::new(stream, config.clone(), &ctx.log, store.clone());
        tasks.spawn("archive", archive.run(ctx.shutdown.clone(), ctx.health.clone()));
    }
    tasks.wait().await
}

/// The archive of one stream.
struct Archive {
    stream: &'static str,
    config: Config,
    log: Log,
    store: Store,
    /// Where the next range begins, once it is known.
    next: Option<u64>,
    /// A reader, and the sequence that it goes on with.
    reader: Option<(u64, Follow)>,
}

/// Entries of a range of a stream, and a reader of what comes behind.
struct Range {
    last: u64,
    entries: Vec<Entry>,
    reader: Follow,
}

impl Archive {
    fn new(stream: &'static str, config: Config, log: &Log, store: Store) -> Self {
        Self {
            stream,
            config,
            log: log.clone(),
            store,
            next: None,
            reader: None,
        }
    }

    async fn run(mut self, shutdown: Shutdown, health: Health) -> anyhow::Result<()> {
        let delays = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(30))
            .without_max_times()
            .with_jitter();
        let mut backoff = delays.build();
        while !shutdown.is_cancelled() {
            let too_late = async {
                shutdown.cancelled().await;
                tokio::time::sleep(GRACE).await;
            };
            let range = tokio::select! {
                range = self.range(&shutdown, &health) => range,
                () = too_late => break,
            };
            match range {
                Ok(()) => backoff = delays.build(),
                Err(error) => {
                    health.set(PART, false);
                    tracing::warn!(stream = self.stream, error = format!("{error:#}"), "archive waits");
                    let pause = backoff.next().unwrap_or(GRACE);
                    tokio::select! {
                        () = shutdown.cancelled() => {}
                        () = tokio::time::sleep(pause) => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Archives the next range: one that somebody has claimed, or a new one.
    async fn range(&mut self, shutdown: &Shutdown, health: &Health) -> anyhow::Result<()> {
        let first = match self.next {
            Some(next) => next,
            None => self.store.progress(self.stream).await?.unwrap_or(1),
        };
        self.next = Some(first);
        let plan = self.store.plan(self.stream, first).await?;
        health.set(PART, true);
        if let Some(plan) = plan {
            return self.finish(&plan, None).await;
        }
        let Some(range) = self.collect(first, shutdown).await? else {
            return Ok(());
        };
        let wanted = Plan::of(self.stream, first, range.last, &range.entries);
        let claimed = self.store.claim(&wanted).await?;
        // Another's range may end elsewhere.
        let ours = claimed == wanted;
        self.finish(&claimed, ours.then_some(range)).await
    }

    /// Writes the files of a range that are not there.
    async fn finish(&mut self, plan: &Plan, range: Option<Range>) -> anyhow::Result<()> {
        let missing = self.store.missing(plan).await?;
        let next = plan.last + 1;
        let (entries, reader) = match range {
            Some(range) => (Some(range.entries), Some((next, range.reader))),
            None => (None, None),
        };
        if !missing.is_empty() {
            let entries = match entries {
                Some(entries) => entries,
                None => self.read(plan.first, plan.last).await?,
            };
            let rows: u64 = plan.files.iter().map(|file| file.rows).sum();
            if (entries.len() as u64) < rows {
                tracing::error!(
                    stream = self.stream,
                    first = plan.first,
                    last = plan.last,
                    lost = rows - entries.len() as u64,
                    "entries expired before they were archived"
                );
            }
            for (path, entries) in plan::partitions(self.stream, plan.first, entries) {
                if missing.contains(&path) {
                    let bytes = tokio::task::spawn_blocking(move || file::write(&entries))
                        .await
                        .context("the file was not made")??;
                    self.store.create(&path, bytes).await?;
                }
            }
        }
        self.store.set_progress(self.stream, next).await?;
        self.next = Some(next);
        self.reader = reader;
        Ok(())
    }

    /// The entries of a new range, once there is one; `None` for the shutdown.
    async fn collect(&mut self, first: u64, shutdown: &Shutdown) -> anyhow::Result<Option<Range>> {
        // One that is elsewhere has yielded what an attempt that failed has lost.
        let reader = match self.reader.take() {
            Some((next, reader)) if next == first => reader,
            _ => self.log.follow(self.stream, &["media.>"], From::Sequence(first)),
        };
        let mut range = Range {
            last: 0,
            entries: Vec::new(),
            reader,
        };
        let (mut bytes, mut end) = (0, None);
        while range.entries.len() < self.config.batch && bytes < MAX_BYTES {
            let patience = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                read = range.reader.next() => read?,
                () = patience => break,
                () = shutdown.cancelled() => break,
            };
            let sequence = match read {
                Followed::Entry(entry) => {
                    bytes += entry.payload.len();
                    let sequence = entry.sequence();
                    range.entries.push(*entry);
                    sequence
                }
                // It is a dead letter of the search, with its bytes.
                Followed::Undecodable(other) => other.position.sequence,
                Followed::CaughtUp => continue,
            };
            if range.last == 0 && sequence > first && first > 1 {
                tracing::error!(
                    stream = self.stream,
                    first,
                    found = sequence,
                    "entries expired before they were archived"
                );
            }
            range.last = sequence;
            end = end.or_else(|| Some(Instant::now() + self.config.linger()));
        }
        Ok((range.last > 0).then_some(range))
    }

    /// The entries of a range that is in the log.
    async fn read(&mut self, first: u64, last: u64) -> anyhow::Result<Vec<Entry>> {
        let mut reader = self.log.follow(self.stream, &["media.>"], From::Sequence(first));
        let mut entries = Vec::new();
        loop {
            let sequence = match reader.next().await? {
                Followed::Entry(entry) if entry.sequence() <= last => {
                    let sequence = entry.sequence();
                    entries.push(*entry);
                    sequence
                }
                Followed::Entry(entry) => entry.sequence(),
                Followed::Undecodable(other) => other.position.sequence,
                Followed::CaughtUp => last,
            };
            if sequence >= last {
                return Ok(entries);
            }
        }
    }
}

#[cfg(test)]
mod tests;
