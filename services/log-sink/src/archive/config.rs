//! Configuration of the archive.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The archive of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether entries are archived. Default true.
    pub enabled: bool,
    /// Folder in the media store: letters, digits, `-`, `_` and `/`. Default `archive`.
    pub prefix: String,
    /// Most entries of a file. 1 to 100000. Default 20000.
    pub batch: usize,
    /// Seconds that a file waits for more entries of its stream: how late the
    /// archive is, and how many files a day has. 1 to 3600. Default 300.
    pub linger_s: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            enabled: true,
            prefix: "archive".to_owned(),
            batch: 20_000,
            linger_s: 300,
        }
    }
}

impl Config {
    pub(crate) const fn linger(&self) -> Duration {
        Duration::from_secs(self.linger_s)
    }

    /// All that is wrong with the values; empty when they can be used.
    pub(crate) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let is_name = |part: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
        };
        if !self.prefix.split('/').all(is_name) {
            problems.push(format!(
                "log_sink.archive.prefix = {:?} is not a folder of letters, digits, '-' and '_'",
                self.prefix
            ));
        }
        if !(1..=100_000).contains(&self.batch) {
            problems.push(format!("log_sink.archive.batch = {} is not in 1 to 100000", self.batch));
        }
        if !(1..=3600).contains(&self.linger_s) {
            problems.push(format!(
                "log_sink.archive.linger_s = {} is not in 1 to 3600",
                self.linger_s
            ));
        }
        problems
    }
}
