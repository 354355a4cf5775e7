//! Settings of LiveInfo.

use castlog_log::Secret;
use serde::{Deserialize, Serialize};

/// LiveInfo.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the state is kept.
    pub redis: RedisConfig,
    /// Entries applied in one round trip to Redis, 1 to 1000. Default 200.
    pub batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            redis: RedisConfig::default(),
            batch: 200,
        }
    }
}

impl Config {
    /// What is wrong with the settings, one problem a line.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if !(1..=1000).contains(&self.batch) {
            problems.push(format!("live_info.batch is {}: it must be 1 to 1000", self.batch));
        }
        problems.extend(self.redis.validate("live_info.redis"));
        problems
    }
}

/// A Redis server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// Redis URL, which may hold a password. Default `redis://127.0.0.1:6379/`.
    pub url: Secret<String>,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: Secret::new("redis://127.0.0.1:6379/".to_owned()),
        }
    }
}

impl RedisConfig {
    /// A server by its URL.
    #[must_use]
    pub const fn new(url: String) -> Self {
        Self { url: Secret::new(url) }
    }

    /// What is wrong with the values of the section `name`. The URL is not
    /// repeated: it may hold a password.
    #[must_use]
    pub fn validate(&self, name: &str) -> Option<String> {
        redis::Client::open(self.url.expose().as_str())
            .is_err()
            .then(|| format!("{name}.url is not a Redis URL like redis://:PASSWORD@HOST:6379/"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_problem_is_named() {
        assert!(Config::default().validate().is_empty());
        for url in ["", "http://host/", "redis://:secret@host:port/"] {
            let bad = Config {
                redis: RedisConfig::new(url.to_owned()),
                batch: 0,
            };
            let problems = bad.validate();
            assert_eq!(problems.len(), 2, "{url}");
            assert!(!problems.concat().contains("secret"), "{problems:?}");
        }
    }
}
