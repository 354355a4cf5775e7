//! One contract for every view that is derived from the log, and the one runner
//! that feeds them.
//!
//! A [`Projection`] applies batches of entries, idempotently. [`run`] binds its
//! durable consumer on each stream, hands batches over, and acknowledges what
//! has been applied: an entry counts as done only when its effect is durable in
//! the view. Faults that pass are retried in place, under in-progress
//! acknowledgements; an entry that can never be applied becomes a dead letter,
//! so that nothing stalls behind it, and is applied like any other when somebody
//! hands it over again. Where a store cannot guard its writes, [`exclusively`] lets
//! one instance work at a time.
//!
//! It knows nothing of any view. `compliance` is the kit that each view's
//! tests put it through.

#[cfg(feature = "compliance")]
pub mod compliance;
mod differences;
mod exclusive;
mod progress;
mod runner;
mod trace;

use std::time::Duration;

use async_trait::async_trait;
use castlog_log::{Entry, Position};

pub use differences::Differences;
pub use exclusive::exclusively;
pub use progress::{Progress, Step};
pub use runner::run;

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
