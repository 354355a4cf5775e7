//! Configuration of the indexer.

use castlog_log::Secret;
use serde::{Deserialize, Serialize};

/// Configuration of the indexer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the index is.
    pub meilisearch: MeilisearchConfig,
    /// Name of the index, 1 to 64 letters, digits, `-` and `_`. Default `broadcasts`.
    pub index: String,
    /// Seconds between two comparisons of the whole index with the log. 1 to 86400. Default 60.
    pub sweep_s: u64,
    /// Most entries applied at a time. 1 to 1000. Default 200.
    pub batch: usize,
}

/// Where Meilisearch is and how to authenticate to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeilisearchConfig {
    /// Address of Meilisearch. Default `http://127.0.0.1:7700`.
    pub url: String,
    /// API key that may use documents, indexes, settings and tasks; empty = none.
    pub key: Secret<String>,
}

impl Default for MeilisearchConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:7700".to_owned(),
            key: Secret::default(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            meilisearch: MeilisearchConfig::default(),
            index: "broadcasts".to_owned(),
            sweep_s: 60,
            batch: 200,
        }
    }
}

/// Longest name of an index: leaves room for what a rebuild appends.
const MAX_INDEX: usize = 64;

impl Config {
    /// All that is wrong with the values; empty when they can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.meilisearch.url.starts_with("http://") && !self.meilisearch.url.starts_with("https://") {
            problems.push("indexer.meilisearch.url is not an http or https URL".to_owned());
        }
        if !self.meilisearch.key.expose().bytes().all(|b| b.is_ascii_graphic()) {
            problems.push("indexer.meilisearch.key has other than visible ASCII characters".to_owned());
        }
        let fit = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if self.index.is_empty() || self.index.len() > MAX_INDEX || !self.index.chars().all(fit) {
            problems.push(format!(
                "indexer.index = {:?} is not 1 to {MAX_INDEX} letters, digits, '-' and '_'",
                self.index
            ));
        }
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
        let meilisearch = MeilisearchConfig {
            url: "localhost".into(),
            key: Secret::new("a\nb".into()),
        };
        let bad = Config {
            meilisearch,
            index: "a.b".into(),
            sweep_s: 0,
            batch: 0,
        };
        assert_eq!(bad.validate().len(), 5);
    }
}
