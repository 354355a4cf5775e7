//! How far a rebuild is, for whoever watches it.

use std::{fmt, sync::Arc};

/// Where a rebuild stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// What it is at, e.g. `reading the log`.
    pub phase: &'static str,
    /// How much of it is done.
    pub done: u64,
    /// How much there is to do in this phase, as far as is known.
    pub total: u64,
}

/// Tells a watcher of the steps of a rebuild. Cheap to clone.
#[derive(Clone, Default)]
pub struct Progress(Option<Arc<dyn Fn(Step) + Send + Sync>>);

impl Progress {
    /// Tells `watcher`, which must be quick: it is called for every entry.
    pub fn new(watcher: impl Fn(Step) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(watcher)))
    }

    /// Nobody watches.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Tells of a step.
    pub fn tell(&self, phase: &'static str, done: u64, total: u64) {
        if let Some(watcher) = &self.0 {
            watcher(Step { phase, done, total });
        }
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Progress").field(&self.0.is_some()).finish()
    }
}
