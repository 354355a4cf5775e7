//! Start order of LiveInfo.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use async_trait::async_trait;
use castlog_log::Entry;
use castlog_projector::{ApplyError, Options, Projection};
use castlog_service::{Context, Tasks};
use tokio::{sync::Notify, time::Instant};

use crate::{Config, Store, relay::Relay, state};

/// Commits that may wait for the change feed before LiveInfo takes no more: some
/// megabytes in Redis.
const MAX_WAITING: usize = 10_000;
/// How often a full outbox is looked at, and for how long before the runner may
/// end the attempt for a shutdown.
const FULL: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(2));

/// The projection.
pub struct LiveInfo {
    store: Store,
    /// The relay of this process, told of commits.
    relay: Option<Arc<Notify>>,
    /// Commits in the outbox at the last look.
    waiting: usize,
}

impl LiveInfo {
    /// A projection into `store`, whose outbox somebody else relays.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self {
            store,
            relay: None,
            waiting: 0,
        }
    }

    const fn relayed(store: Store, relay: Arc<Notify>) -> Self {
        Self {
            store,
            relay: Some(relay),
            waiting: 0,
        }
    }

    /// Waits for room in the outbox.
    async fn room(&mut self, relay: &Notify) -> anyhow::Result<()> {
        let end = Instant::now() + FULL.1;
        while self.waiting > MAX_WAITING {
            if Instant::now() > end {
                return Err(anyhow!("{} commits wait for the change feed", self.waiting));
            }
            relay.notify_one();
            tokio::time::sleep(FULL.0).await;
            self.waiting = self.store.waiting().await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Projection for LiveInfo {
    fn name(&self) -> &'static str {
        "live_info"
    }

    async fn apply(&mut self, entries: &[Entry]) -> Result<(), ApplyError> {
        let writes: Vec<_> = entries.iter().filter_map(state::write).collect();
        let relay = self.relay.clone();
        if let Some(relay) = &relay {
            self.room(relay).await?;
        }
        self.waiting = self.store.apply(&writes).await?;
        if let Some(relay) = &relay {
            relay.notify_one();
        }
        Ok(())
    }
}

/// Runs LiveInfo until the shutdown.
///
/// # Errors
/// The settings cannot be used.
pub async fn run(config: Config, ctx: Context) -> anyhow::Result<()> {
    let wake = Arc::new(Notify::new());
    let relay = Relay::new(&config.redis, &ctx.log)?;
    let projection = LiveInfo::relayed(Store::new(&config.redis)?, Arc::clone(&wake));
    let options = Options {
        batch: config.batch,
        ..Options::default()
    };
    let mut tasks = Tasks::new(&ctx.shutdown);
    tasks.spawn("relay", relay.run(wake, ctx.shutdown.clone(), ctx.health.clone()));
    tasks.spawn("live_info", async move {
        castlog_projector::run(
            &ctx.log,
            &["BROAD_INFO", "LIVE_STREAM"],
            projection,
            options,
            &ctx.shutdown,
            &ctx.health,
        )
        .await
    });
    tasks.wait().await
}
