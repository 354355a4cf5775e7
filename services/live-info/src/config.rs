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
        if self.redis.url.expose().is_empty() {
            problems.push("live_info.redis.url is empty".to_owned());
        }
        problems
    }
}

/// A Redis server.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
