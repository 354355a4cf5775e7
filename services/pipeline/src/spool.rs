//! Objects on their way to the media store. One that the store does not take within
//! half a second is written to the local disk, from where it goes to the store when
//! that is back, in the order in which the objects came; those that come meanwhile
//! stand in line behind it. So neither the encoder nor its viewers wait for the store,
//! and what is on the disk survives the process.
//!
//! The spool is bounded. When it is full, what is in it stays, for the log names it
//! already; what comes then is lost to the store, and counted, until there is room.

mod folder;

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use bytes::Bytes;
use castlog_metrics::{Loss, metrics};
use castlog_service::{Health, MediaStore, Shutdown};
use futures::future::join_all;
use object_store::{Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, path::Path};
use serde::{Deserialize, Serialize};
use tokio::{
    sync::Notify,
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use folder::{Folder, Found};

/// How long the entry of a segment waits for the store. The parts of the next segment wait
/// for the entry, and players of low latency are three parts behind.
const DIRECT: Duration = Duration::from_millis(250);

/// How long objects go by the disk after one that was waited for in vain: to a store that
/// is slow and not away, half of each would go twice.
const DETOUR: Duration = Duration::from_secs(30);

/// How long the store may take for an object that nobody waits for.
const ATTEMPT: Duration = Duration::from_secs(15);

/// Objects on their way to the store at a time, per job and in all: what was made while
/// the store was away has to go faster than what is being made, also to a store that is
/// far away.
const ABREAST: usize = 2;
const ABREAST_RANGE: (usize, usize) = (4, 64);

/// Waits between attempts at a store that is away: the first, and the longest.
const DELAYS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Between two looks for what another process has left on this machine.
const ADOPT: Duration = Duration::from_secs(10);

/// Between two lines that say that the store is still away.
const REMINDER: Duration = Duration::from_secs(60);

/// How long an orderly end tries to bring away what is left.
const LAST: Duration = Duration::from_secs(5);

/// Name under which readiness is reported: not ready while objects are being lost.
const PART: &str = "spool";

/// Where objects wait while the media store does not take them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Local folder, which outlives the process; made when missing. Default `.castlog/spool`.
    pub path: PathBuf,
    /// Most bytes in it per process. 16 MiB to 16 TiB. Default 2 GiB: three quarters of
    /// an hour of one broadcast in three renditions, 6 Mbit/s in all.
    pub max_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: PathBuf::from(".castlog/spool"),
            max_bytes: 2 << 30,
        }
    }
}

impl Config {
    /// Fewest and most bytes that can be configured.
    pub const RANGE: std::ops::RangeInclusive<u64> = 16 << 20..=16 << 40;
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// The store has it.
    Stored,
    /// The disk has it, and the store will.
    Spooled,
    /// Neither.
    Lost,
}

/// What an object is to the bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// It counts.
    Bounded,
    /// It is small and much depends on it: it always fits.
    Small,
}

#[derive(Debug)]
struct Waiting {
    key: String,
    size: u64,
    /// Whether it was made here. What a process that died has left may have been made
    /// anew by the next worker, under the same key, and must not take its place.
    own: bool,
    /// How often the store refused it and took others.
    refused: u32,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Of what waits and what is being written.
    bytes: u64,
    /// Objects lost since the last one that was kept.
    lost: u64,
    /// Until then everything goes by the disk.
    detour: Option<Instant>,
    /// Rounds since the store has last taken something.
    vain: usize,
}

impl State {
    /// The objects to try: the oldest, behind them those that have been refused. While
    /// the store takes none of these, one after the other of the rest as well: it may be
    /// these that it does not take.
    fn first(&self, count: usize) -> Vec<(u64, String, bool)> {
        let mut line: Vec<(&u64, &Waiting)> = self.waiting.iter().collect();
        line.sort_by_key(|(_, object)| object.refused);
        if self.vain > 0 && line.len() > count {
            let rest = count - 1..line.len();
            line.swap(count - 1, rest.start + self.vain % rest.len());
        }
        let first = line.into_iter().take(count);
        first
            .map(|(order, object)| (*order, object.key.clone(), object.own))
            .collect()
    }

    fn forget(&mut self, order: u64) -> Option<Waiting> {
        let object = self.waiting.remove(&order)?;
        self.bytes -= object.size;
        Some(object)
    }
}

/// The way to the media store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Spool(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: MediaStore,
    folder: Arc<Folder>,
    max_bytes: u64,
    abreast: usize,
    state: Mutex<State>,
    filled: Notify,
    health: Health,
}

impl Spool {
    /// Takes a folder of the spool, with what a process that died has left in it, for a
    /// process of so many jobs.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub fn open(config: &Config, jobs: usize, store: MediaStore, health: Health) -> anyhow::Result<Self> {
        let folder = Folder::claim(&config.path)?;
        let found = folder.objects()?;
        let this = Self(Arc::new(Inner {
            store,
            folder: Arc::new(folder),
            max_bytes: config.max_bytes,
            abreast: (ABREAST * jobs).clamp(ABREAST_RANGE.0, ABREAST_RANGE.1),
            state: Mutex::default(),
            filled: Notify::new(),
            health,
        }));
        this.0.health.set(PART, true);
        this.take(found);
        Ok(this)
    }

    /// Brings an object to the store, or to the disk while the store does not take it.
    pub async fn put(&self, key: &str, bytes: Bytes, size: Size) -> Kept {
        if self.is_straight() {
            let from = Instant::now();
            match self.send(key, bytes.clone(), PutMode::Overwrite, DIRECT).await {
                Ok(()) => {
                    self.kept();
                    return Kept::Stored;
                }
                Err(error) => {
                    if from.elapsed() >= DIRECT {
                        self.lock().detour = Some(Instant::now() + DETOUR);
                    }
                    tracing::warn!(key, error = %error, "the media store does not take objects at once: they go by the spool");
                }
            }
        }
        // To its end, also when the job is dropped: what is on the disk has to be known of.
        let (this, name) = (self.clone(), key.to_owned());
        let written = tokio::spawn(async move { this.write(&name, bytes, size).await });
        match written
            .await
            .unwrap_or_else(|error| Err(Reason::Disk(error.to_string())))
        {
            Ok(()) => {
                metrics().spooled_objects.inc();
                self.kept();
                Kept::Spooled
            }
            Err(reason) => {
                self.lose(key, &reason);
                Kept::Lost
            }
        }
    }

    /// Deletes an object that is of no use any more from the store. While that is away it
    /// stays, until the media of its session goes.
    pub async fn delete(&self, key: &str) {
        if !self.is_straight() {
            return;
        }
        let path = Path::from(key);
        match timeout(DIRECT, self.0.store.delete(&path)).await {
            Ok(Ok(()) | Err(Error::NotFound { .. })) => {}
            Ok(Err(error)) => tracing::warn!(key, error = %error, "an outdated object stays"),
            Err(_) => tracing::warn!(key, "an outdated object stays: the media store does not answer"),
        }
    }

    /// Whether the next object may go to the store without being written to the disk.
    fn is_straight(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && state.detour.is_none_or(|until| until <= Instant::now())
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// Brings what waits to the store, until the shutdown.
    pub async fn run(&self, shutdown: &Shutdown) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.upload() => {}
        }
    }

    /// Brings away what it can before an orderly end.
    pub async fn finish(&self) {
        let rest = async { while self.round(&mut None).await == Round::Progress {} };
        // What is in flight then is tried again by the next process.
        let in_time = timeout(LAST, rest).await.is_ok();
        let (objects, bytes) = {
            let state = self.lock();
            (state.waiting.len(), state.bytes)
        };
        if objects > 0 {
            tracing::warn!(
                objects,
                bytes,
                in_time,
                "objects stay in the spool until a pipeline starts here"
            );
        }
    }

    async fn upload(&self) {
        let delays = ExponentialBuilder::default()
            .with_min_delay(DELAYS.0)
            .with_max_delay(DELAYS.1)
            .without_max_times()
            .with_jitter();
        let mut waits = delays.build();
        let mut told = None;
        let mut looked = Instant::now();
        loop {
            // By the clock and not when nothing is to be done: under a store that is slow now
            // and then, that may never be.
            if looked.elapsed() >= ADOPT {
                self.adopt().await;
                looked = Instant::now();
            }
            match self.round(&mut told).await {
                Round::Progress => waits = delays.build(),
                Round::Failed => sleep(waits.next().unwrap_or(DELAYS.1)).await,
                Round::Empty => {
                    if told.take().is_some() {
                        tracing::info!("the media store has what was in the spool");
                    }
                    let rest = ADOPT.saturating_sub(looked.elapsed());
                    timeout(rest, self.0.filled.notified()).await.ok();
                }
            }
        }
    }

    /// Tries the first objects in line.
    async fn round(&self, told: &mut Option<Instant>) -> Round {
        let first = self.lock().first(self.0.abreast);
        if first.is_empty() {
            return Round::Empty;
        }
        let outcomes = join_all(first.iter().map(|(order, key, own)| self.bring(*order, key, *own))).await;
        let progress = outcomes.iter().any(Result::is_ok);
        self.judge(&first, &outcomes);
        for ((_, key, _), outcome) in first.iter().zip(outcomes) {
            match outcome {
                Ok(()) => {}
                Err(error) if told.is_none_or(|told| told.elapsed() >= REMINDER) => {
                    *told = Some(Instant::now());
                    tracing::warn!(key, error = %error, "storing again what waits in the spool");
                }
                Err(_) => {}
            }
        }
        if progress { Round::Progress } else { Round::Failed }
    }

    /// Notes which objects the store does not take though it takes others.
    fn judge(&self, tried: &[(u64, String, bool)], outcomes: &[object_store::Result<()>]) {
        let mut state = self.lock();
        if outcomes.iter().all(Result::is_err) {
            state.vain += 1;
            return;
        }
        state.vain = 0;
        for ((order, ..), outcome) in tried.iter().zip(outcomes) {
            if let (Some(object), Err(_)) = (state.waiting.get_mut(order), outcome) {
                object.refused += 1;
            }
        }
    }

    async fn bring(&self, order: u64, key: &str, own: bool) -> object_store::Result<()> {
        let (folder, name) = (Arc::clone(&self.0.folder), key.to_owned());
        let read = spawn_blocking(move || folder.read(order, &name)).await;
        let bytes = match read.map_err(std::io::Error::other).flatten() {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                // Replaced meanwhile, or somebody has removed it.
                if self.lock().forget(order).is_some() {
                    self.measure();
                    self.lose(key, &Reason::Disk(error.to_string()));
                }
                return Ok(());
            }
            // It is still there, and may be read the next time: files may be opened again, or
            // the disk may recover.
            Err(error) => {
                return Err(Error::Generic {
                    store: "spool",
                    source: error.into(),
                });
            }
        };
        let mode = if own { PutMode::Overwrite } else { PutMode::Create };
        match self.send(key, bytes.into(), mode, ATTEMPT).await {
            Ok(()) => {}
            Err(Error::AlreadyExists { .. }) => tracing::debug!(key, "the media store has it already"),
            Err(error) => return Err(error),
        }
        self.remove(order).await;
        Ok(())
    }

    async fn send(&self, key: &str, bytes: Bytes, mode: PutMode, limit: Duration) -> object_store::Result<()> {
        let path = Path::from(key);
        let put = self.0.store.put_opts(&path, bytes.into(), PutOptions::from(mode));
        let sent = timeout(limit, put).await.unwrap_or_else(|_| {
            Err(Error::Generic {
                store: "media",
                source: format!("no answer within {} ms", limit.as_millis()).into(),
            })
        });
        if sent
            .as_ref()
            .is_err_and(|error| !matches!(error, Error::AlreadyExists { .. }))
        {
            metrics().store_failures.inc();
        }
        sent.map(drop)
    }

    async fn write(&self, key: &str, bytes: Bytes, bounded: Size) -> Result<(), Reason> {
        let size = bytes.len() as u64;
        let order = {
            let mut state = self.lock();
            if bounded == Size::Bounded && state.bytes + size > self.0.max_bytes {
                return Err(Reason::Full(self.0.max_bytes));
            }
            state.bytes += size;
            state.next += 1;
            state.next - 1
        };
        let (folder, name) = (Arc::clone(&self.0.folder), key.to_owned());
        let written = spawn_blocking(move || folder.write(order, &name, &bytes)).await;
        let replaced = {
            let mut state = self.lock();
            if let Err(error) = written.map_err(std::io::Error::other).flatten() {
                state.bytes -= size;
                return Err(Reason::Disk(error.to_string()));
            }
            let same = state.waiting.iter().find(|(_, waiting)| waiting.key == key);
            let replaced = same.map(|(order, _)| *order);
            let key = key.to_owned();
            state.waiting.insert(
                order,
                Waiting {
                    key,
                    size,
                    own: true,
                    refused: 0,
                },
            );
            replaced
        };
        self.measure();
        self.0.filled.notify_one();
        if let Some(replaced) = replaced {
            self.remove(replaced).await;
        }
        Ok(())
    }

    async fn remove(&self, order: u64) {
        let Some(object) = self.lock().forget(order) else {
            return;
        };
        self.measure();
        let folder = Arc::clone(&self.0.folder);
        let removed = spawn_blocking(move || folder.remove(order, &object.key)).await;
        if let Err(error) = removed.map_err(std::io::Error::other).flatten() {
            tracing::warn!(error = %error, "an object that is stored cannot be removed from the spool");
        }
    }

    /// Takes over what a process that has died left on this machine.
    async fn adopt(&self) {
        let (folder, next) = (Arc::clone(&self.0.folder), {
            let mut state = self.lock();
            // Whatever comes meanwhile stands behind what is found.
            let next = state.next;
            state.next += ADOPTED;
            next
        });
        let moved = spawn_blocking(move || {
            let mut found = Vec::new();
            let outcome = folder.adopt(next, &mut found);
            (found, outcome)
        });
        let (found, outcome) = moved
            .await
            .unwrap_or_else(|error| (Vec::new(), Err(std::io::Error::other(error))));
        self.take(found);
        if let Err(error) = outcome {
            tracing::warn!(error = %error, "cannot take over what another process has left in the spool");
        }
    }

    fn take(&self, found: Vec<Found>) {
        if found.is_empty() {
            return;
        }
        tracing::info!(objects = found.len(), "objects of an earlier process are in the spool");
        {
            let mut state = self.lock();
            for Found { order, key, size } in found {
                state.next = state.next.max(order + 1);
                state.bytes += size;
                state.waiting.insert(
                    order,
                    Waiting {
                        key,
                        size,
                        own: false,
                        refused: 0,
                    },
                );
            }
        }
        self.measure();
        self.0.filled.notify_one();
    }

    fn kept(&self) {
        let lost = std::mem::take(&mut self.lock().lost);
        if lost > 0 {
            self.0.health.set(PART, true);
            tracing::warn!(lost, "objects are kept again");
        }
    }

    fn lose(&self, key: &str, reason: &Reason) {
        metrics()
            .lost_objects
            .get_or_create(&Loss { reason: reason.name() })
            .inc();
        let lost = {
            let mut state = self.lock();
            state.lost += 1;
            state.lost
        };
        self.0.health.set(PART, false);
        if lost == 1 {
            tracing::error!(
                key,
                reason = %reason,
                "media is lost to recordings and to viewers who seek back, from here on until it says otherwise: bring \
                 the media store back, or give the spool more room"
            );
        } else {
            tracing::debug!(key, reason = %reason, "object lost");
        }
    }

    fn measure(&self) {
        let state = self.lock();
        metrics().spool_bytes.set(state.bytes.cast_signed());
        metrics()
            .spool_objects
            .set(state.waiting.len().try_into().unwrap_or(i64::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Places in the order that are kept for what another process has left: far more than
/// it can have.
const ADOPTED: u64 = 1 << 32;

/// What came of a round.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// Nothing waits.
    Empty,
    /// The store has taken something.
    Progress,
    /// It has taken nothing.
    Failed,
}

/// Why an object is lost.
#[derive(Debug, thiserror::Error)]
enum Reason {
    #[error("the spool is full, at pipeline.spool.max_bytes = {0}")]
    Full(u64),
    #[error("the disk of the spool fails: {0}")]
    Disk(String),
}

impl Reason {
    const fn name(&self) -> &'static str {
        match self {
            Self::Full(_) => "spool_full",
            Self::Disk(_) => "spool_failed",
        }
    }
}

#[cfg(test)]
mod tests;
