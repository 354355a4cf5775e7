//! Configuration of the log sink.

use serde::{Deserialize, Serialize};

use crate::{archive, template::Template};

/// Configuration of the log sink.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the indexes are; the key may use documents, indexes, settings and tasks.
    pub meilisearch: castlog_meili::Config,
    /// Name of the index of an entry. `{class}` and `{kind}` stand for those of
    /// the entry, `{yyyy.MM.dd}` for the UTC day on which it happened. The day is
    /// required, and is written as 2026-01-31: Meilisearch refuses every name with
    /// other than letters, digits, `-` and `_`, so all else in the template is of
    /// these, 100 characters at most. Default `log-{class}-{yyyy.MM.dd}`.
    pub index: String,
    /// Days that entries can be found; 0 = for ever, at most 3650. Default 30.
    pub retention_days: u32,
    /// Most entries written at a time. 1 to 500. Default 500.
    pub batch: usize,
    /// Milliseconds that a write waits for more entries of its stream. Meilisearch
    /// does one task after another, so that fewer of these leave more of its time to
    /// the index that viewers search. 0 to 10000. Default 1000.
    pub linger_ms: u64,
    /// The archive in the media store.
    pub archive: archive::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            meilisearch: castlog_meili::Config::default(),
            index: "log-{class}-{yyyy.MM.dd}".to_owned(),
            retention_days: 30,
            batch: 500,
            linger_ms: 1000,
            archive: archive::Config::default(),
        }
    }
}

impl Config {
    /// All that is wrong with the values; empty when they can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = self.meilisearch.validate("log_sink.meilisearch");
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
        if self.linger_ms > 10_000 {
            problems.push(format!("log_sink.linger_ms = {} is over 10000", self.linger_ms));
        }
        problems.extend(self.archive.validate());
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
            meilisearch: castlog_meili::Config::new("localhost", "ä"),
            index: "log".into(),
            retention_days: 4000,
            batch: 501,
            linger_ms: 10_001,
            archive: archive::Config {
                enabled: true,
                prefix: "../archive".into(),
                batch: 0,
                linger_s: 0,
            },
        };
        assert_eq!(bad.validate().len(), 9);
    }

    #[test]
    fn a_name_that_meilisearch_refuses_is_refused_here() {
        for (index, wrong) in [
            ("log.{yyyy.MM.dd}", "'.'"),
            ("로그-{yyyy.MM.dd}", "'로'"),
            ("a/b{yyyy.MM.dd}", "'/'"),
        ] {
            let config = Config {
                index: index.into(),
                ..Config::default()
            };
            assert_eq!(
                config.validate(),
                [format!(
                    "log_sink.index = {index:?}: {wrong} cannot be in the name of an index: Meilisearch takes letters, digits, '-' and '_'"
                )]
            );
        }
    }
}
