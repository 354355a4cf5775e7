//! Start order of the indexer, and its maintenance from outside.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{anyhow, bail};
use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use castlog_log::{BroadcastId, Entry, EntryId, Log};
use castlog_projector::{ApplyError, Options, Projection};
use castlog_service::{Context, Shutdown, Tasks};
use meilisearch_sdk::{client::SwapIndexes, indexes::IndexesQuery};

use crate::{
    config::Config,
    document::Document,
    error::Fault,
    fold,
    meili::passing,
    reconcile::{Reconciler, settings},
    sweep::documents,
};

/// Streams whose entries change documents.
const STREAMS: [&str; 2] = ["BROAD_INFO", "LIVE_STREAM"];
/// How long a batch may go on after the shutdown has begun; what is not done comes again.
const GRACE: Duration = Duration::from_secs(5);

/// Keeps the index until the shutdown.
///
/// # Errors
/// The configuration cannot be used, or a task failed. Faults of the log or of
/// Meilisearch do not end it.
pub async fn run(config: Config, ctx: Context) -> anyhow::Result<()> {
    let reconciler = open(&config, &ctx.log)?;
    let mut tasks = Tasks::new(&ctx.shutdown);
    let sweeper = reconciler.clone();
    let (interval, shutdown) = (Duration::from_secs(config.sweep_s), ctx.shutdown.clone());
    tasks.spawn("sweep", async move {
        sweep(&sweeper, interval, &shutdown).await;
        Ok(())
    });
    tasks.spawn("indexer", async move {
        let projection = Indexer {
            reconciler,
            shutdown: ctx.shutdown.clone(),
        };
        let options = Options { batch: config.batch };
        castlog_projector::run(&ctx.log, &STREAMS, projection, options, &ctx.shutdown, &ctx.health).await
    });
    tasks.wait().await
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
pub async fn rebuild(config: &Config, log: &Log) -> anyhow::Result<Report> {
    let reconciler = open(config, log)?;
    Ok(build(&reconciler).await?)
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
        "indexer"
    }

    async fn apply(&mut self, entries: &[Entry]) -> Result<(), ApplyError> {
        // Only the batch that was begun before the shutdown has its time to end.
        if self.shutdown.is_cancelled() {
            return Err(ApplyError::Transient(anyhow!("the shutdown came first")));
        }
        let dirty: BTreeSet<BroadcastId> = entries.iter().filter_map(|entry| entry.subject.broadcast).collect();
        let outcome = tokio::select! {
            outcome = self.reconciler.reconcile(&dirty, entries) => outcome,
            () = grace(&self.shutdown) => return Err(ApplyError::Transient(anyhow!("the shutdown came first"))),
        };
        outcome.map_err(|fault| match fault {
            Fault::Passing(error) => ApplyError::Transient(error),
            Fault::Refused { id, reason } => {
                let of = |entry: &&Entry| {
                    entry
                        .subject
                        .broadcast
                        .is_some_and(|broadcast| broadcast.to_string() == id)
                };
                match entries.iter().find(of) {
                    Some(entry) => ApplyError::Poison {
                        position: entry.position.clone(),
                        reason,
                    },
                    None => ApplyError::Transient(anyhow!("document {id} is refused: {reason}")),
                }
            }
        })
    }
}

async fn grace(shutdown: &Shutdown) {
    shutdown.cancelled().await;
    tokio::time::sleep(GRACE).await;
}

/// Mends the index at once and then at every interval, sooner after a failure.
async fn sweep(reconciler: &Reconciler, interval: Duration, shutdown: &Shutdown) {
    let delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(200))
        .with_max_delay(Duration::from_secs(10))
        .without_max_times()
        .with_jitter();
    let mut backoff = delays.build();
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
                backoff = delays.build();
                interval
            }
            Err(Fault::Passing(error)) => {
                let delay = backoff.next().unwrap_or(interval).min(interval);
                tracing::warn!(
                    index = reconciler.index,
                    error = format!("{error:#}"),
                    ?delay,
                    "sweeping again"
                );
                delay
            }
            Err(fault @ Fault::Refused { .. }) => {
                tracing::error!(index = reconciler.index, error = %fault, "index cannot be mended");
                interval
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn build(reconciler: &Reconciler) -> Result<Report, Fault> {
    let Reconciler { meili, index, .. } = reconciler;
    drop_leftovers(reconciler).await?;
    // A swap needs both sides.
    reconciler.prepare().await?;
    let fresh = format!("{index}{REBUILD}{}", EntryId::generate());
    let wrong = |error| passing(index, error);
    meili.ensure(&fresh, &settings()).await.map_err(wrong)?;
    let facts = fold::live(&reconciler.log).await?;
    let documents: Vec<Document> = documents(&facts).collect();
    reconciler.put(&fresh, &documents.iter().collect::<Vec<_>>()).await?;
    let swap = SwapIndexes {
        indexes: (index.clone(), fresh.clone()),
        rename: None,
    };
    meili.write(meili.client().swap_indexes([&swap])).await.map_err(wrong)?;
    meili.write(meili.client().delete_index(&fresh)).await.map_err(wrong)?;
    // Entries that came while it was built went to the old index only.
    reconciler.mend().await?;
    Ok(Report {
        documents: documents.len() as u64,
    })
}

/// Between the name of the index and the id of a rebuild.
const REBUILD: &str = "_rebuild_";
/// A rebuild that has not been swapped in by then was given up.
const LEFTOVER_S: i64 = 3600;

/// Deletes what broken-off rebuilds have left behind.
async fn drop_leftovers(reconciler: &Reconciler) -> Result<(), Fault> {
    /// More than anybody has; those beyond wait for the next rebuild.
    const INDEXES: usize = 1000;
    let Reconciler { meili, index, .. } = reconciler;
    let wrong = |error| passing(index, error);
    let mut query = IndexesQuery::new(meili.client());
    query.with_limit(INDEXES);
    let found = meili
        .call(meili.client().list_all_indexes_with(&query))
        .await
        .map_err(wrong)?;
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
            meili
                .write(meili.client().delete_index(&leftover.uid))
                .await
                .map_err(wrong)?;
            tracing::info!(index = leftover.uid, "index of a broken-off rebuild deleted");
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
