//! Start order of the indexer, and its maintenance from outside.
//!
//! Of several instances one works (see [`castlog_projector::exclusively`]). The one
//! that begins first lets Meilisearch finish what another has asked for, and then
//! compares the whole index with the log, so that nothing of the other stays.

use std::{collections::BTreeSet, time::Duration};

use anyhow::bail;
use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use castlog_log::{BroadcastId, Entry, EntryId, Log, lease::Term};
use castlog_meili::{apply_error, within_grace};
use castlog_projector::{ApplyError, Options, Progress, Projection, exclusively};
use castlog_service::{Context, Health, Shutdown, Tasks};
use meilisearch_sdk::{client::SwapIndexes, indexes::IndexesQuery};

use crate::{
    config::Config,
    document::Document,
    error::Fault,
    fold,
    reconcile::{CHUNK, Reconciler, Written, settings},
    sweep::documents,
    viewers,
};

/// Streams whose entries change documents.
const STREAMS: [&str; 2] = ["BROAD_INFO", "LIVE_STREAM"];
/// Its durable consumer, its lease, and the part of the health that is about both.
const NAME: &str = "indexer";
/// The part of the health that says whether there is an index to search.
const HEALTH: &str = "index";

/// Keeps the index until the shutdown, or stands by while another instance does.
///
/// # Errors
/// The configuration cannot be used, or a task failed. Faults of the log or of
/// Meilisearch do not end it.
pub async fn run(config: Config, ctx: Context) -> anyhow::Result<()> {
    let reconciler = open(&config, &ctx.log)?;
    let work = |term: Term| work(config.clone(), within(term, &reconciler), ctx.clone());
    exclusively(&ctx.log, NAME, &ctx.shutdown, &ctx.health, work).await
}

/// A reconciler that writes within a term, and not after it.
fn within(term: Term, reconciler: &Reconciler) -> Reconciler {
    let mut reconciler = reconciler.clone();
    reconciler.meili = reconciler.meili.fenced(move || term.holds());
    // Between two terms the index was another's.
    reconciler.written = Written::default();
    reconciler
}

/// What the one instance does that works. It is ready when the index can be searched,
/// and not before: no entry is applied until then, since a document would make an
/// index without its settings.
async fn work(config: Config, reconciler: Reconciler, ctx: Context) -> anyhow::Result<()> {
    let index = Searchable::not_yet(&ctx.health);
    tokio::select! {
        () = ctx.shutdown.cancelled() => return Ok(()),
        () = prepare(&reconciler) => index.0.set(HEALTH, true),
    }
    let mut tasks = Tasks::new(&ctx.shutdown);
    let sweeper = reconciler.clone();
    let (interval, shutdown) = (Duration::from_secs(config.sweep_s), ctx.shutdown.clone());
    tasks.spawn("sweep", async move {
        sweep(&sweeper, interval, &shutdown).await;
        Ok(())
    });
    let (counting, shutdown) = (reconciler.clone(), ctx.shutdown.clone());
    tasks.spawn("viewers", async move {
        viewers::keep(&counting, &shutdown).await;
        Ok(())
    });
    tasks.spawn("indexer", async move {
        let projection = Indexer {
            reconciler,
            shutdown: ctx.shutdown.clone(),
        };
        let options = Options {
            batch: config.batch,
            ..Options::default()
        };
        castlog_projector::run(&ctx.log, &STREAMS, projection, options, &ctx.shutdown, &ctx.health).await
    });
    tasks.wait().await
}

/// Whether there is an index to search, as long as this instance is the one to say so.
struct Searchable(Health);

impl Searchable {
    fn not_yet(health: &Health) -> Self {
        health.set(HEALTH, false);
        Self(health.clone())
    }
}

impl Drop for Searchable {
    fn drop(&mut self) {
        self.0.stand_by(HEALTH);
    }
}

/// What a rebuild has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Documents in the new index.
    pub documents: u64,
}

/// Builds the index anew from the log and swaps it in. Searches go on
/// meanwhile, and so may a running indexer.
///
/// # Errors
/// The configuration, the log or Meilisearch cannot be used. The old index is
/// untouched, unless the error came after the swap.
pub async fn rebuild(config: &Config, log: &Log, progress: &Progress) -> anyhow::Result<Report> {
    let reconciler = open(config, log)?;
    Ok(build(&reconciler, progress).await?)
}

/// Where the index is not what the log says, one line each; empty when it is.
///
/// # Errors
/// The configuration, the log or Meilisearch cannot be used.
pub async fn verify(config: &Config, log: &Log) -> anyhow::Result<Vec<String>> {
    Ok(open(config, log)?.verify().await?)
}

fn open(config: &Config, log: &Log) -> anyhow::Result<Reconciler> {
    let problems = config.validate();
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    Reconciler::new(config, log)
}

struct Indexer {
    reconciler: Reconciler,
    shutdown: Shutdown,
}

#[async_trait]
impl Projection for Indexer {
    fn name(&self) -> &'static str {
        NAME
    }

    async fn apply(&mut self, entries: &[Entry]) -> Result<(), ApplyError> {
        let news = entries.iter().filter(|entry| !self.reconciler.written.knows(entry));
        let dirty: BTreeSet<BroadcastId> = news.filter_map(|entry| entry.subject.broadcast).collect();
        within_grace(&self.shutdown, async {
            let outcome = self.reconciler.reconcile(&dirty, entries).await;
            outcome.map_err(|fault| match fault {
                Fault::Log(error) => ApplyError::Transient(error.into()),
                Fault::Meili(error) => apply_error(error, |document| {
                    let of = |entry: &&Entry| entry.subject.broadcast.is_some_and(|id| id.to_string() == document);
                    entries.iter().find(of).map(|entry| entry.position.clone())
                }),
            })
        })
        .await
    }
}

/// Waits between attempts that fail.
fn delays() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times()
        .with_jitter()
}

/// Makes sure that the index can be searched and nothing is on its way into it,
/// however long it takes.
async fn prepare(reconciler: &Reconciler) {
    let attempt = || async {
        reconciler.prepare().await?;
        reconciler.meili.settled(&reconciler.index).await
    };
    let waiting = |error: &castlog_meili::Error, delay: Duration| {
        tracing::warn!(
            index = reconciler.index,
            error = error.with_cause(),
            ?delay,
            "waiting for the index"
        );
    };
    // Without a limit on the attempts there is no error in the end.
    attempt.retry(delays()).notify(waiting).await.ok();
}

/// Mends the index at once and then at every interval, sooner after a failure.
async fn sweep(reconciler: &Reconciler, interval: Duration, shutdown: &Shutdown) {
    let mut backoff = delays().build();
    loop {
        let mended = tokio::select! {
            () = shutdown.cancelled() => return,
            mended = reconciler.mend() => mended,
        };
        let wait = match mended {
            Ok(documents) => {
                if documents > 0 {
                    tracing::warn!(
                        index = reconciler.index,
                        documents,
                        "index differed from the log and is mended"
                    );
                }
                backoff = delays().build();
                interval
            }
            Err(Fault::Meili(refused)) if refused.is_refused() => {
                tracing::error!(index = reconciler.index, error = %refused, "index cannot be mended");
                interval
            }
            Err(fault) => {
                let delay = backoff.next().unwrap_or(interval).min(interval);
                let error = format!("{:#}", anyhow::Error::new(fault));
                tracing::warn!(index = reconciler.index, error, ?delay, "sweeping again");
                delay
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn build(reconciler: &Reconciler, progress: &Progress) -> Result<Report, Fault> {
    let Reconciler { meili, index, .. } = reconciler;
    drop_leftovers(reconciler).await?;
    // A swap needs both sides.
    reconciler.prepare().await?;
    let fresh = format!("{index}{REBUILD}{}", EntryId::generate());
    meili.ensure(&fresh, &settings()).await?;
    let facts = fold::live(&reconciler.log, progress).await?;
    let documents: Vec<Document> = documents(&facts).collect();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let mut written = 0;
    for chunk in documents.chunks(CHUNK) {
        reconciler.put(&fresh, &chunk.iter().collect::<Vec<_>>()).await?;
        written += chunk.len();
        progress.tell("writing the index", count(written), count(documents.len()));
    }
    let swap = SwapIndexes {
        indexes: (index.clone(), fresh.clone()),
        rename: None,
    };
    meili.write(index, meili.client().swap_indexes([&swap])).await?;
    progress.tell("index in place", count(written), count(written));
    meili.delete_index(&fresh).await?;
    // Entries that came while it was built went to the old index only.
    reconciler.mend().await?;
    Ok(Report {
        documents: count(written),
    })
}

/// Between the name of the index and the id of a rebuild.
const REBUILD: &str = "_rebuild_";
/// A rebuild that has not been swapped in by then was given up.
const LEFTOVER_S: i64 = 3600;

/// Deletes what broken-off rebuilds have left behind.
async fn drop_leftovers(reconciler: &Reconciler) -> Result<(), castlog_meili::Error> {
    /// More than anybody has; those beyond wait for the next rebuild.
    const INDEXES: usize = 1000;
    let Reconciler { meili, index, .. } = reconciler;
    let mut query = IndexesQuery::new(meili.client());
    query.with_limit(INDEXES);
    let found = meili.call(index, meili.client().list_all_indexes_with(&query)).await?;
    let old = chrono::Utc::now().timestamp() - LEFTOVER_S;
    for leftover in found.results {
        let of_rebuild = leftover
            .uid
            .strip_prefix(index.as_str())
            .is_some_and(|rest| rest.starts_with(REBUILD));
        if of_rebuild
            && leftover
                .created_at
                .is_some_and(|created| created.unix_timestamp() < old)
        {
            meili.delete_index(&leftover.uid).await?;
            tracing::info!(index = leftover.uid, "index of a broken-off rebuild deleted");
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
