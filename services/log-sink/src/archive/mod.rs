//! The archive: every entry but the media parts as Parquet in the object store,
//! partitioned by date and kind.
//!
//! A stream is archived range by range. A range is claimed by creating its plan,
//! which nobody can create twice and nobody changes; its files follow from the
//! log and are created the same way. So a range that was begun by a process that
//! died, or that two processes work on, comes out once: every entry is in one
//! file, in one row. The plans, one behind the other, are how far the archive is.
//!
//! Several instances share the ranges: whoever loses a claim goes on with the next
//! range, and comes back to see that the files of the other are there. Where they
//! are not after a while, the other is gone, and it writes them itself.

mod check;
mod config;
mod file;
mod plan;
mod store;

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use backon::{BackoffBuilder, ExponentialBuilder};
use castlog_log::{Entry, Follow, Followed, From, Log};
use castlog_projector::Progress;
use castlog_service::{Context, Health, MediaStore, Shutdown, Tasks};
use tokio::time::Instant;

pub use check::ArchiveReport;
pub use config::Config;
use plan::Plan;
use store::Store;

use crate::app::STREAMS;

/// Payload bytes of a range, beyond which it ends: bounds the memory of a stream.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// How long a range may go on after the shutdown has begun; what is not done is done later.
const GRACE: Duration = Duration::from_secs(5);
/// How long whoever has claimed a range has for its files.
const PATIENCE: Duration = Duration::from_secs(10);
/// A reader that is no further behind the next range reads on: that is less work than
/// another reader.
const NEAR: u64 = 1000;
/// Ranges of others that are looked after at a time.
const MAX_OTHERS: usize = 100;
/// The part of the health that says whether the archive is written.
const PART: &str = "archive";

/// Compares the archive with the log, as far as it has been written: what is there once,
/// and as it was published. `progress` is told how far it is.
///
/// # Errors
/// The log or the store cannot be used.
pub async fn verify(
    config: &Config,
    store: &MediaStore,
    log: &Log,
    progress: &Progress,
) -> anyhow::Result<ArchiveReport> {
    check::check(&Store::new(store, &config.prefix), log, &STREAMS, None, progress).await
}

/// Fills in what the archive lacks of what the log has, and touches nothing that the log
/// has no more. Readers, and an archive that runs, go on meanwhile. Safe to interrupt
/// and to run twice. What could not be mended is in the report.
///
/// # Errors
/// The log or the store cannot be used.
pub async fn rebuild(
    config: &Config,
    store: &MediaStore,
    log: &Log,
    progress: &Progress,
) -> anyhow::Result<ArchiveReport> {
    let store = Store::new(store, &config.prefix);
    check::check(&store, log, &STREAMS, Some(config.batch), progress).await
}

/// The first sequence of each stream that is not archived yet.
///
/// # Errors
/// The store cannot be used.
pub async fn archived(config: &Config, store: &MediaStore) -> anyhow::Result<Vec<(&'static str, u64)>> {
    let store = Store::new(store, &config.prefix);
    let mut archived = Vec::with_capacity(STREAMS.len());
    for stream in STREAMS {
        let mut next = store.progress(stream).await?.unwrap_or(1);
        while let Some(plan) = store.plan(stream, next).await? {
            if !store.missing(&plan).await?.is_empty() {
                break;
            }
            next = plan.last + 1;
        }
        archived.push((stream, next));
    }
    Ok(archived)
}

/// Archives the streams until the shutdown.
pub(crate) async fn run(config: Config, ctx: Context) -> anyhow::Result<()> {
    ctx.health.set(PART, false);
    let store = Store::new(&ctx.media, &config.prefix);
    let mut tasks = Tasks::new(&ctx.shutdown);
    for stream in STREAMS {
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
    /// Ranges that others have claimed, the oldest first, and when they are to be done.
    others: VecDeque<(Plan, Instant)>,
    /// The progress that was written last.
    progress: Option<u64>,
    /// Ranges that this instance has claimed.
    #[cfg(test)]
    claimed: u64,
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
            others: VecDeque::new(),
            progress: None,
            #[cfg(test)]
            claimed: 0,
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

    /// Archives the next range, unless another does, and looks after those of others.
    async fn range(&mut self, shutdown: &Shutdown, health: &Health) -> anyhow::Result<()> {
        let first = match self.next {
            Some(next) => next,
            None => {
                let first = self.store.progress(self.stream).await?.unwrap_or(1);
                self.progress = Some(first);
                first
            }
        };
        self.next = Some(first);
        self.look_after_others().await?;
        let plan = self.store.plan(self.stream, first).await?;
        if let Some(plan) = plan {
            health.set(PART, true);
            self.leave(plan);
            return Ok(());
        }
        let last = self.log.last_sequence(self.stream).await?;
        is_not_ahead(self.stream, first, last)?;
        health.set(PART, true);
        let Some(range) = self.collect(first, shutdown).await? else {
            return Ok(());
        };
        let wanted = Plan::of(self.stream, first, range.last, &range.entries);
        self.reader = Some((range.last + 1, range.reader));
        if let Some(another) = self.store.claim(&wanted).await? {
            self.leave(another);
            return Ok(());
        }
        #[cfg(test)]
        {
            self.claimed += 1;
        }
        let all = wanted.files.iter().map(|file| file.path.clone()).collect();
        self.write(&wanted, &all, range.entries).await?;
        self.next = Some(wanted.last + 1);
        self.note_progress().await
    }

    /// Leaves a range to whoever has claimed it, also to an attempt of this
    /// instance's own that has failed.
    fn leave(&mut self, plan: Plan) {
        self.next = Some(plan.last + 1);
        self.others.push_back((plan, Instant::now() + PATIENCE));
    }

    /// Writes what is missing of the ranges of others whose time is over.
    async fn look_after_others(&mut self) -> anyhow::Result<()> {
        while let Some((plan, due)) = self.others.front() {
            let missing = self.store.missing(plan).await?;
            if !missing.is_empty() {
                if Instant::now() < *due && self.others.len() < MAX_OTHERS {
                    break;
                }
                let plan = plan.clone();
                let entries = self.read(plan.first, plan.last).await?;
                self.write(&plan, &missing, entries).await?;
            }
            self.others.pop_front();
        }
        self.note_progress().await
    }

    /// Writes how far all is done, unless that is known.
    async fn note_progress(&mut self) -> anyhow::Result<()> {
        let progress = self.others.front().map(|(plan, _)| plan.first).or(self.next);
        if let Some(next) = progress.filter(|_| progress != self.progress) {
            self.store.set_progress(self.stream, next).await?;
            self.progress = progress;
        }
        Ok(())
    }

    /// Writes files of a range.
    async fn write(&mut self, plan: &Plan, paths: &BTreeSet<String>, entries: Vec<Entry>) -> anyhow::Result<()> {
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
            if paths.contains(&path) {
                let bytes = tokio::task::spawn_blocking(move || file::write(&entries))
                    .await
                    .context("the file was not made")??;
                self.store.create(&path, bytes).await?;
            }
        }
        Ok(())
    }

    /// The entries of a new range, once there is one; `None` for the shutdown, and
    /// when a range of another is to be looked after.
    async fn collect(&mut self, first: u64, shutdown: &Shutdown) -> anyhow::Result<Option<Range>> {
        // One that is further has yielded what an attempt that failed has lost, and
        // one that is near enough reads on behind what others have claimed.
        let reader = match self.reader.take() {
            Some((next, reader)) if next <= first && first - next <= NEAR => reader,
            _ => self.log.follow(self.stream, &["media.>"], From::Sequence(first)),
        };
        let due = self.others.front().map(|(_, due)| *due);
        let mut range = Range {
            last: 0,
            entries: Vec::new(),
            reader,
        };
        let (mut bytes, mut end) = (0, None);
        while range.entries.len() < self.config.batch && bytes < MAX_BYTES {
            let patience = async {
                match end.or(due) {
                    Some(end) => tokio::time::sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                read = range.reader.next() => read?,
                () = patience => break,
                () = shutdown.cancelled() => break,
            };
            let sequence = match &read {
                Followed::Entry(entry) => entry.sequence(),
                // It is a dead letter of the search, with its bytes.
                Followed::Undecodable(other) => other.position.sequence,
                Followed::CaughtUp => continue,
            };
            if sequence < first {
                continue;
            }
            if let Followed::Entry(entry) = read {
                bytes += entry.payload.len();
                range.entries.push(*entry);
            }
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
        if range.last == 0 {
            self.reader = Some((first, range.reader));
            return Ok(None);
        }
        Ok(Some(range))
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

/// A log that was restored from a backup gives the sequences behind it to other
/// entries, which would be taken for archived.
fn is_not_ahead(stream: &str, next: u64, last: u64) -> anyhow::Result<()> {
    ensure!(
        next <= last + 1,
        "the archive is ahead of the log: it has {stream} up to {}, and the log ends at {last}; restore the archive that \
         belongs to the log's backup, or move it away",
        next - 1
    );
    Ok(())
}

#[cfg(test)]
mod check_tests;
#[cfg(test)]
mod tests;
