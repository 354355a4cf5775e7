//! Configuration of the indexer.

use castlog_meili::index_name_problem;
use serde::{Deserialize, Serialize};

/// Configuration of the indexer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the index is; the key may use documents, indexes, settings and tasks.
    pub meilisearch: castlog_meili::Config,
    /// Name of the index, 1 to 64 letters, digits, `-` and `_`. Default `broadcasts`.
    pub index: String,
    /// Seconds between two comparisons of the whole index with the log. 1 to 86400. Default 60.
    pub sweep_s: u64,
    /// Most entries applied at a time. 1 to 1000. Default 1000: a batch is one write,
    /// however many of its entries are of one broadcast.
    pub batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            meilisearch: castlog_meili::Config::default(),
            index: "broadcasts".to_owned(),
            sweep_s: 60,
            batch: 1000,
        }
    }
}

impl Config {
    /// All that is wrong with the values; empty when they can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.meilisearch.validate("indexer.meilisearch");
        problems.extend(index_name_problem("indexer.index", &self.index));
        if !(1..=86_400).contains(&self.sweep_s) {
            problems.push(format!("indexer.sweep_s = {} is not in 1 to 86400", self.sweep_s));
        }
        if !(1..=1000).contains(&self.batch) {
            problems.push(format!("indexer.batch = {} is not in 1 to 1000", self.batch));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named() {
        assert!(Config::default().validate().is_empty());
        let bad = Config {
            meilisearch: castlog_meili::Config::new("localhost", "a\nb"),
            index: "a.b".into(),
            sweep_s: 0,
            batch: 0,
        };
        assert_eq!(bad.validate().len(), 5);
    }
}
