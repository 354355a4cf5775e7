//! The runner: from the durable consumers of a projection into its `apply`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBuilder};
use castlog_log::{
    Delivery, Durable, Entry, Log,
    dead_letter::{self, Redrive, Redrives},
    trace,
};
use castlog_metrics::{self as counts, metrics};
use castlog_service::{Health, Shutdown, Tasks};
use tokio::sync::mpsc;
use tracing::Instrument as _;

use crate::{
    ApplyError, Options, Projection,
    trace::{Batch, ended},
};

/// In-progress acknowledgements go out this often while a batch is retried: a
/// third of the shortest ack wait that a projection has in `jetstream/consumers`.
const PROGRESS: Duration = Duration::from_secs(5);

/// Batches that wait while one is applied: one per stream keeps the order
/// within a stream and bounds what is lost to redelivery.
const WAITING_BATCHES: usize = 1;

/// Between two looks at how far the consumers are, for the metrics.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// How long the log may take to hear of what is given back at the end.
const GIVE_BACK: Duration = Duration::from_secs(2);

/// Wait before the redrives are listened to again.
const LISTEN_DELAY: Duration = Duration::from_secs(1);

/// What the apply task is given.
enum Work {
    Batch(Vec<Delivery>),
    Redrive(Box<Redrive>),
}

/// Runs a projection on the durable consumers of its name until the shutdown. It
/// finishes the batch that it is at then, and gives back what waits behind it, which
/// another instance gets at once.
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
    announce(name, streams);
    let (sender, mut work) = mpsc::channel(WAITING_BATCHES);
    let mut tasks = Tasks::new(shutdown);
    // First on the connection: whoever is bound to its consumers hears of redrives, too.
    let redrives = log.redrives(name).await.ok();
    for stream in streams {
        let durable = log.durable(stream, name, options.batch);
        tasks.spawn(
            "fetch",
            fetch(durable, options, sender.clone(), shutdown.clone(), health.clone()),
        );
    }
    tasks.spawn(
        "redrives",
        listen(log.clone(), name, redrives, sender, shutdown.clone()),
    );
    let oldest = Oldest::default();
    let streams = streams.iter().map(|&stream| stream.to_owned()).collect();
    tasks.spawn(
        "sample",
        sample(log.clone(), name, streams, oldest.clone(), shutdown.clone()),
    );
    let (log, done) = (log.clone(), shutdown.clone());
    tasks.spawn("apply", async move {
        let mut left = Vec::new();
        while let Some(work) = work.recv().await {
            match work {
                Work::Batch(batch) if done.is_cancelled() => left.extend(batch),
                Work::Batch(batch) => left.extend(apply(&log, name, &mut projection, batch, &oldest, &done).await),
                Work::Redrive(redrive) => apply_again(name, &mut projection, *redrive).await,
            }
        }
        // By now no fetch asks for more, so that nothing comes back to this instance.
        give_back(&log, name, &left).await;
        Ok(())
    });
    tasks.wait().await
}

async fn fetch(
    mut durable: Durable,
    options: Options,
    sender: mpsc::Sender<Work>,
    shutdown: Shutdown,
    health: Health,
) -> anyhow::Result<()> {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = gather(&mut durable, &mut batch, options, &health) => {}
        }
        let gathered = std::mem::take(&mut batch);
        if sender.send(Work::Batch(gathered)).await.is_err() {
            return Ok(());
        }
    }
    batch.extend(durable.close().await);
    // Whoever applies gives it back when every fetch has ended; if that has failed, it
    // comes again after the ack wait.
    sender.send(Work::Batch(batch)).await.ok();
    Ok(())
}

/// Fills an empty `batch` with the next entries, and with what comes in its linger. Cut
/// off, it leaves there what it has.
async fn gather(durable: &mut Durable, batch: &mut Vec<Delivery>, options: Options, health: &Health) {
    let first = ready_when_bound(durable, options.batch, health).await;
    batch.extend(first);
    let end = tokio::time::sleep(options.linger);
    tokio::pin!(end);
    while !options.linger.is_zero() && batch.len() < options.batch {
        tokio::select! {
            () = &mut end => break,
            more = ready_when_bound(durable, options.batch - batch.len(), health) => batch.extend(more),
        }
    }
}

/// Hands back what was not applied, so that it comes again without the ack wait, and
/// sends what was acknowledged on its way.
async fn give_back(log: &Log, consumer: &'static str, left: &[Delivery]) {
    let told = async {
        for delivery in left {
            delivery.nak(Duration::ZERO).await?;
        }
        // Acknowledgements are on their way only when the connection is flushed.
        log.jetstream().client().flush().await?;
        anyhow::Ok(())
    };
    let entries = left.len();
    match tokio::time::timeout(GIVE_BACK, told).await {
        Ok(Ok(())) => tracing::debug!(consumer, entries, "given back"),
        Ok(Err(error)) => tracing::warn!(consumer, entries, error = %error, "entries come again after the ack wait"),
        Err(_) => tracing::warn!(consumer, entries, "entries come again after the ack wait"),
    }
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

/// Hands on what somebody wants to be applied again.
async fn listen(
    log: Log,
    consumer: &'static str,
    mut redrives: Option<Redrives>,
    sender: mpsc::Sender<Work>,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        while let Some(listening) = &mut redrives {
            let redrive = tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                redrive = listening.next() => redrive,
            };
            let Some(redrive) = redrive else { break };
            if sender.send(Work::Redrive(Box::new(redrive))).await.is_err() {
                return Ok(());
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(LISTEN_DELAY) => {}
        }
        redrives = log
            .redrives(consumer)
            .await
            .inspect_err(|error| tracing::warn!(consumer, error = %error, "dead letters cannot be redriven"))
            .ok();
    }
}

/// Time of the oldest entry that is being applied, in milliseconds since 1970; 0 = none.
#[derive(Debug, Clone, Default)]
struct Oldest(Arc<AtomicI64>);

impl Oldest {
    fn set(&self, entries: &[Entry]) {
        let oldest = entries.iter().map(|entry| entry.time.timestamp_millis()).min();
        self.0.store(oldest.unwrap_or_default(), Ordering::Relaxed);
    }

    fn age_seconds(&self) -> i64 {
        match self.0.load(Ordering::Relaxed) {
            0 => 0,
            since => (chrono::Utc::now().timestamp_millis() - since).max(0) / 1000,
        }
    }
}

/// Keeps the numbers up to date that say how far the consumers are.
async fn sample(
    log: Log,
    consumer: &'static str,
    streams: Vec<String>,
    oldest: Oldest,
    shutdown: Shutdown,
) -> anyhow::Result<()> {
    loop {
        for stream in &streams {
            match log.backlog(stream, consumer).await {
                Ok(backlog) => {
                    let of = durable(consumer, stream);
                    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                    metrics().lag_entries.get_or_create(&of).set(number(backlog.pending));
                    metrics()
                        .unacked_entries
                        .get_or_create(&of)
                        .set(number(backlog.unacked));
                    metrics()
                        .redelivered_entries
                        .get_or_create(&of)
                        .set(number(backlog.redelivered));
                }
                Err(error) => tracing::debug!(consumer, error = %error, "lag is not known"),
            }
        }
        let age = oldest.age_seconds();
        metrics()
            .oldest_unacked_seconds
            .get_or_create(&counts::View { consumer })
            .set(age);
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(SAMPLE_INTERVAL) => {}
        }
    }
}

fn durable(consumer: &'static str, stream: &str) -> counts::Durable {
    counts::Durable {
        consumer,
        stream: stream.to_owned(),
    }
}

/// Applies one batch, however often it takes; gives up only for the shutdown, and then
/// returns what was not applied.
async fn apply<P: Projection>(
    log: &Log,
    consumer: &'static str,
    projection: &mut P,
    batch: Vec<Delivery>,
    oldest: &Oldest,
    shutdown: &Shutdown,
) -> Vec<Delivery> {
    let mut left = Vec::new();
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
    let mut traced = Batch::of(consumer, &entries);
    let view = counts::View { consumer };
    let delays = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter();
    let mut backoff = delays.build();
    let begun = Instant::now();
    oldest.set(&entries);
    while !entries.is_empty() {
        let write = traced.write();
        let outcome = with_progress(&readable, projection.apply(&entries))
            .instrument(write.span())
            .await;
        write.end(&outcome);
        match outcome {
            Ok(()) => {
                for delivery in &readable {
                    if let Err(error) = delivery.ack().await {
                        tracing::debug!(consumer, error = %error, "entry comes again");
                    }
                }
                count(consumer, &entries, begun.elapsed());
                break;
            }
            Err(ApplyError::Poison { position, reason }) => {
                let Some(index) = entries.iter().position(|e| e.position == position) else {
                    tracing::error!(
                        consumer,
                        seq = position.sequence,
                        "projection refused an entry that it was not given"
                    );
                    break;
                };
                entries.remove(index);
                traced.give_up(index, &reason);
                bury(log, consumer, &readable.remove(index), &format!("L08: {reason}")).await;
            }
            Err(ApplyError::Transient(error)) => {
                metrics().apply_failures.get_or_create(&view).inc();
                let delay = backoff.next().unwrap_or(PROGRESS);
                tracing::warn!(
                    consumer,
                    entries = entries.len(),
                    error = format!("{error:#}"),
                    ?delay,
                    "applying again"
                );
                let is_over = tokio::select! {
                    () = shutdown.cancelled() => true,
                    () = with_progress(&readable, tokio::time::sleep(delay)) => false,
                };
                if is_over {
                    left = readable;
                    break;
                }
            }
        }
    }
    oldest.set(&[]);
    left
}

/// Shows the numbers of a consumer from the start: a rate needs a zero to begin with.
fn announce(consumer: &'static str, streams: &[&str]) {
    let view = counts::View { consumer };
    for stream in streams {
        let of = durable(consumer, stream);
        metrics().entries_applied.get_or_create(&of).inc_by(0);
        metrics().dead_letters.get_or_create(&of).inc_by(0);
    }
    metrics().apply_failures.get_or_create(&view).inc_by(0);
    metrics().redriven.get_or_create(&view).inc_by(0);
    drop(metrics().batch_entries.get_or_create(&view));
    drop(metrics().apply_seconds.get_or_create(&view));
}

/// Counts a batch that has been applied. A batch is of one stream.
fn count(consumer: &'static str, entries: &[Entry], took: Duration) {
    let Some(first) = entries.first() else { return };
    let view = counts::View { consumer };
    let number = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let of = durable(consumer, &first.position.stream);
    metrics().entries_applied.get_or_create(&of).inc_by(number.into());
    metrics().batch_entries.get_or_create(&view).observe(number.into());
    metrics().apply_seconds.get_or_create(&view).observe(took.as_secs_f64());
}

/// Applies an entry that was given up before, once: who asked for it is told.
async fn apply_again<P: Projection>(consumer: &'static str, projection: &mut P, redrive: Redrive) {
    let entry = match &redrive.entry {
        Ok(entry) => entry.clone(),
        Err(undecodable) => {
            let reason = chain(&undecodable.error);
            return redrive.refused(reason).await;
        }
    };
    let (stream, seq) = (entry.position.stream.as_str(), entry.position.sequence);
    let span = trace::process(consumer, &entry);
    let outcome = projection
        .apply(std::slice::from_ref(&entry))
        .instrument(span.clone())
        .await;
    ended(&span, &outcome);
    match outcome {
        Ok(()) => {
            tracing::info!(consumer, stream, seq, "dead letter applied");
            metrics().redriven.get_or_create(&counts::View { consumer }).inc();
            redrive.applied().await;
        }
        Err(ApplyError::Poison { reason, .. }) => redrive.refused(reason).await,
        Err(ApplyError::Transient(error)) => redrive.unwritable(format!("{error:#}")).await,
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

async fn bury(log: &Log, consumer: &'static str, delivery: &Delivery, reason: &str) {
    match dead_letter::bury(log, consumer, delivery, reason).await {
        Ok(()) => {
            let of = durable(consumer, &delivery.position().stream);
            metrics().dead_letters.get_or_create(&of).inc();
        }
        Err(error) => tracing::warn!(consumer, error = %error, "dead letter comes again"),
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
