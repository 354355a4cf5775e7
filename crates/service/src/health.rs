//! Whether a process lives and is ready for work.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The readiness of a process: it is ready when each of its parts has said so.
/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, bool>>>);

impl Health {
    /// Says whether `part` is ready. A part that is known counts from its first word on.
    pub fn set(&self, part: &str, ready: bool) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(part.to_owned(), ready);
    }

    /// Whether every part is ready, and at least one is known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !parts.is_empty() && parts.values().all(|ready| *ready)
    }

    /// The parts and whether each is ready.
    #[must_use]
    pub fn parts(&self) -> BTreeMap<String, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Health;

    #[test]
    fn ready_means_every_part_is() {
        let health = Health::default();
        assert!(!health.is_ready());
        health.set("log", true);
        assert!(health.is_ready());
        health.set("redis", false);
        assert!(!health.is_ready());
        health.set("redis", true);
        assert!(health.is_ready());
    }
}
