//! Configuration of the log sink.

use castlog_log::Secret;
use serde::{Deserialize, Serialize};

use crate::template::Template;

/// Configuration of the log sink.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the indexes are.
    pub meilisearch: MeilisearchConfig,
    /// Name of the index of an entry. `{class}` and `{kind}` stand for those of
    /// the entry, `{yyyy.MM.dd}` for the UTC day on which it happened, written
    /// with `-` for `.`, which Meilisearch does not allow in a name. The day is
    /// required; all else is letters, digits, `-` and `_`, 100 characters at
    /// most. Default `log-{class}-{yyyy.MM.dd}`.
    pub index: String,
    /// Days that entries can be found; 0 = for ever, at most 3650. Default 30.
    pub retention_days: u32,
    /// Most entries written at a time. 1 to 500. Default 500.
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
            index: "log-{class}-{yyyy.MM.dd}".to_owned(),
            retention_days: 30,
            batch: 500,
        }
    }
}

impl Config {
    /// All that is wrong with the values; empty when they can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !self.meilisearch.url.starts_with("http://") && !self.meilisearch.url.starts_with("https://") {
            problems.push("log_sink.meilisearch.url is not an http or https URL".to_owned());
        }
        if !self.meilisearch.key.expose().bytes().all(|b| b.is_ascii_graphic()) {
            problems.push("log_sink.meilisearch.key has other than visible ASCII characters".to_owned());
        }
        if let Err(problem) = self.index.parse::<Template>() {
            problems.push(format!("log_sink.index = {:?}: {problem}", self.index));
        }
        if self.retention_days > 3650 {
            problems.push(format!(
                "log_sink.retention_days = {} is over 3650",
                self.retention_days
            ));
        }
        if !(1..=500).contains(&self.batch) {
            problems.push(format!("log_sink.batch = {} is not in 1 to 500", self.batch));
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
            key: Secret::new("ä".into()),
        };
        let bad = Config {
            meilisearch,
            index: "log".into(),
            retention_days: 4000,
            batch: 501,
        };
        assert_eq!(bad.validate().len(), 5);
    }
}
