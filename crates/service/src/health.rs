//! Whether a process lives and is ready for work.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde::{Serialize, Serializer};

/// How a part of a process is. As JSON: `false`, `true` or `"standby"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Waiting,
    Ready,
    Standby,
}

impl Serialize for Part {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Waiting => serializer.serialize_bool(false),
            Self::Ready => serializer.serialize_bool(true),
            Self::Standby => serializer.serialize_str("standby"),
        }
    }
}

/// The readiness of a process: it is ready when each of its parts has said so.
/// Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health(Arc<Mutex<BTreeMap<String, Part>>>);

impl Health {
    /// Says whether `part` is ready. A part that is known counts from its first word on.
    pub fn set(&self, part: &str, ready: bool) {
        self.say(part, if ready { Part::Ready } else { Part::Waiting });
    }

    /// Says that `part` is ready and another instance does its work.
    pub fn stand_by(&self, part: &str) {
        self.say(part, Part::Standby);
    }

    fn say(&self, part: &str, is: Part) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(part.to_owned(), is);
    }

    /// Whether every part is ready, and at least one is known.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        !parts.is_empty() && parts.values().all(|part| *part != Part::Waiting)
    }

    /// Whether `part` is ready and another instance does its work.
    #[must_use]
    pub fn stands_by(&self, part: &str) -> bool {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.get(part) == Some(&Part::Standby)
    }

    /// The parts and whether each is ready.
    #[must_use]
    pub fn parts(&self) -> BTreeMap<String, bool> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = |(name, part): (&String, &Part)| (name.clone(), *part != Part::Waiting);
        parts.iter().map(ready).collect()
    }

    /// The parts as JSON: each `true`, `false`, or `"standby"` where another instance
    /// does the work.
    #[must_use]
    pub fn report(&self) -> impl Serialize + use<> {
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

    #[test]
    fn who_stands_by_is_ready_and_says_so() {
        let health = Health::default();
        health.set("index", false);
        health.stand_by("indexer");
        assert!(health.stands_by("indexer") && !health.stands_by("index"));
        let said = serde_json::to_string(&health.report()).unwrap();
        assert_eq!(said, r#"{"index":false,"indexer":"standby"}"#);
        assert!(!health.is_ready());
        health.stand_by("index");
        assert!(health.is_ready());
        assert!(health.parts().values().all(|ready| *ready));
    }
}
