//! One contract for every view that is derived from the log, and the one runner
//! that feeds them.
//!
//! A [`Projection`] applies batches of entries, idempotently. [`run`] binds its
//! durable consumer on each stream, hands batches over, and acknowledges what
//! has been applied: an entry counts as done only when its effect is durable in
//! the view. Faults that pass are retried in place, under in-progress
//! acknowledgements; an entry that can never be applied becomes a dead letter,
//! so that nothing stalls behind it.
//!
//! It knows nothing of any view. [`compliance`] is the kit that each view's
//! tests put it through.

pub mod compliance;

use std::time::Duration;

use async_trait::async_trait;
use backon::{BackoffBuilder, ExponentialBuilder};
use castlog_log::{Delivery, Durable, Entry, Log, Position, dead_letter};
use castlog_service::{Health, Shutdown, Tasks};
use tokio::sync::mpsc;

/// A view that is a function of the log.
#[async_trait]
pub trait Projection: Send + 'static {
    /// Name of the durable consumer, and of the health part.
    fn name(&self) -> &'static str;

    /// Applies a batch of entries of one stream, in order.
    ///
    /// `Ok` says that the effect of each is durable. Entries come again after a
    /// crash, also older than what has been applied: applying twice, or late,
    /// must change nothing.
    ///
    /// # Errors
    /// See [`ApplyError`].
    async fn apply(&mut self, entries: &[Entry]) -> Result<(), ApplyError>;
}

/// Why a batch has not been applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The fault passes: the same batch is applied again.
    #[error("the view cannot be written: {0:#}")]
    Transient(#[from] anyhow::Error),
    /// This entry can never be applied; the others of the batch are applied again without it.
    #[error("the entry at {} {} cannot be applied: {reason}", position.stream, position.sequence)]
    Poison {
        /// Where it stands.
        position: Position,
        /// Why.
        reason: String,
    },
}

/// How a projection is run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Most entries of one batch; as many wait in this process at most.
    pub batch: usize,
    /// How long a batch waits for more entries once it has one. Zero is the
    /// quickest; a view with a costly write and readers that can wait gathers.
    /// Much less than the ack wait.
    pub linger: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: 200,
            linger: Duration::ZERO,
        }
    }
}

/// In-progress acknowledgements go out this often while a batch is retried: a
/// third of the shortest ack wait in `jetstream/consumers`.
const PROGRESS: Duration = Duration::from_secs(5);

/// Batches that wait while one is applied: one per stream keeps the order
/// within a stream and bounds what is lost to redelivery.
const WAITING_BATCHES: usize = 1;

/// Runs a projection on the durable consumers of its name until the shutdown.
///
/// # Errors
/// A task of the runner panicked. Faults of the log or the view do not end it.
pub async fn run<P: Projection>(
    log: &Log,
    streams: &[&str],
    mut projection: P,
    options: Options,
    shutdown: &Shutdown,
    health: &Health,
) -> anyhow::Result<()> {
    let name = projection.name();
    health.set(name, false);
    let (sender, mut batches) = mpsc::channel::<Vec<Delivery>>(WAITING_BATCHES);
    let mut tasks = Tasks::new(shutdown);
    for stream in streams {
        let durable = log.durable(stream, name, options.batch);
        tasks.spawn(
            "fetch",
            fetch(durable, options, sender.clone(), shutdown.clone(), health.clone()),
        );
    }
    drop(sender);
    let (log, done) = (log.clone(), shutdown.clone());
    tasks.spawn("apply", async move {
        while let Some(batch) = batches.recv().await {
            apply(&log, name, &mut projection, batch, &done).await;
        }
        Ok(())
    });
    tasks.wait().await
}

async fn fetch(
    mut durable: Durable,
    options: Options,
    sender: mpsc::Sender<Vec<Delivery>>,
    shutdown: Shutdown,
    health: Health,
) -> anyhow::Result<()> {
    loop {
        let batch = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            batch = gather(&mut durable, options, &health) => batch,
        };
        if sender.send(batch).await.is_err() {
            return Ok(());
        }
    }
}

/// The next batch, with what comes in its linger.
async fn gather(durable: &mut Durable, options: Options, health: &Health) -> Vec<Delivery> {
    let mut batch = ready_when_bound(durable, options.batch, health).await;
    let end = tokio::time::sleep(options.linger);
    tokio::pin!(end);
    while !options.linger.is_zero() && batch.len() < options.batch {
        tokio::select! {
            () = &mut end => break,
            more = ready_when_bound(durable, options.batch - batch.len(), health) => batch.extend(more),
        }
    }
    batch
}

async fn ready_when_bound(durable: &mut Durable, limit: usize, health: &Health) -> Vec<Delivery> {
    let name = durable.consumer().to_owned();
    loop {
        match durable.bound().await {
            Ok(()) => health.set(&name, true),
            Err(error) => {
                health.set(&name, false);
                tracing::warn!(consumer = name, error = %error, "waiting for the consumer");
                continue;
            }
        }
        match durable.next_batch(limit).await {
            Ok(batch) => return batch,
            Err(error) => {
                health.set(&name, false);
                tracing::warn!(consumer = name, error = %error, "waiting for the consumer");
            }
        }
    }
}

/// Applies one batch, however often it takes; gives up only for the shutdown,
/// after which the entries come again.
async fn apply<P: Projection>(
    log: &Log,
    consumer: &'static str,
    projection: &mut P,
    batch: Vec<Delivery>,
    shutdown: &Shutdown,
) {
    let mut readable = Vec::with_capacity(batch.len());
    let mut entries = Vec::with_capacity(batch.len());
    for delivery in batch {
        match &delivery.entry {
            Ok(entry) => {
                entries.push(entry.clone());
                readable.push(delivery);
            }
            Err(undecodable) => bury(log, consumer, &delivery, &chain(&undecodable.error)).await,
        }
    }
    let delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter();
    let mut backoff = delays.build();
    while !entries.is_empty() {
        match with_progress(&readable, projection.apply(&entries)).await {
            Ok(()) => {
                for delivery in &readable {
                    if let Err(error) = delivery.ack().await {
                        tracing::debug!(consumer, error = %error, "entry comes again");
                    }
                }
                return;
            }
            Err(ApplyError::Poison { position, reason }) => {
                let Some(index) = entries.iter().position(|e| e.position == position) else {
                    tracing::error!(
                        consumer,
                        seq = position.sequence,
                        "projection refused an entry that it was not given"
                    );
                    return;
                };
                entries.remove(index);
                bury(log, consumer, &readable.remove(index), &reason).await;
            }
            Err(ApplyError::Transient(error)) => {
                let delay = backoff.next().unwrap_or(PROGRESS);
                tracing::warn!(
                    consumer,
                    entries = entries.len(),
                    error = format!("{error:#}"),
                    ?delay,
                    "applying again"
                );
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = with_progress(&readable, tokio::time::sleep(delay)) => {}
                }
            }
        }
    }
}

/// Waits for `work` while the entries are kept from being redelivered.
async fn with_progress<T>(deliveries: &[Delivery], work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(PROGRESS) => {
                for delivery in deliveries {
                    if let Err(error) = delivery.progress().await {
                        tracing::debug!(error = %error, "entry may come again");
                    }
                }
            }
        }
    }
}

async fn bury(log: &Log, consumer: &str, delivery: &Delivery, reason: &str) {
    if let Err(error) = dead_letter::bury(log, consumer, delivery, reason).await {
        tracing::warn!(consumer, error = %error, "dead letter comes again");
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
