//! Start order of LiveInfo.

use async_trait::async_trait;
use castlog_log::Entry;
use castlog_projector::{ApplyError, Options, Projection};
use castlog_service::Context;

use crate::{Config, Store, state};

/// The projection.
pub struct LiveInfo {
    store: Store,
}

impl LiveInfo {
    /// A projection into `store`.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }
}

#[async_trait]
impl Projection for LiveInfo {
    fn name(&self) -> &'static str {
        "live_info"
    }

    async fn apply(&mut self, entries: &[Entry]) -> Result<(), ApplyError> {
        let writes: Vec<_> = entries.iter().filter_map(state::write).collect();
        Ok(self.store.apply(&writes).await?)
    }
}

/// Runs LiveInfo until the shutdown.
///
/// # Errors
/// The settings cannot be used.
pub async fn run(config: Config, ctx: Context) -> anyhow::Result<()> {
    let projection = LiveInfo::new(Store::new(&config.redis)?);
    let options = Options {
        batch: config.batch,
        ..Options::default()
    };
    castlog_projector::run(
        &ctx.log,
        &["BROAD_INFO", "LIVE_STREAM"],
        projection,
        options,
        &ctx.shutdown,
        &ctx.health,
    )
    .await
}
