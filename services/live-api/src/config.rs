//! Configuration of the Live API.

use std::{net::SocketAddr, time::Duration};

use castlog_log::Secret;
use serde::{Deserialize, Serialize};
use url::Url;

/// Shortest admin token in characters: shorter ones can be guessed over the network.
const MIN_TOKEN: usize = 16;

/// Configuration of the Live API.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address of the API and the web UI. Default `127.0.0.1:8080`.
    pub listen: String,
    /// Where callers find this server, without a slash at the end. Default `http://127.0.0.1:8080`.
    pub public_url: String,
    /// Server URL that encoders push to, without the key. Default `rtmp://127.0.0.1:1935/live`.
    pub rtmp_public_url: String,
    /// The same over TLS; empty = not offered. Default: empty.
    pub rtmps_public_url: String,
    /// Where viewers find the HLS server, without a slash at the end. Default `http://127.0.0.1:8081`.
    pub hls_public_url: String,
    /// Bearer token that allows commands, at least 16 characters; empty = no commands. Default: empty.
    pub admin_token: Secret<String>,
    /// Owner of the broadcasts that are created here, 1 to 64 characters. Default `admin`.
    pub owner: String,
    /// Where LiveInfo keeps its state.
    pub redis: RedisConfig,
    /// The search index.
    pub meilisearch: MeilisearchConfig,
    /// Largest request body in bytes. 1024 to 1048576. Default 65536.
    pub max_body_bytes: usize,
    /// Seconds that a request may take. 1 to 120. Default 15.
    pub request_timeout_s: u64,
    /// Requests worked on at a time; more wait. 1 to 100000. Default 512.
    pub max_requests: usize,
    /// Readers of `/v1/events` at a time. 0 to 10000. Default 32.
    pub max_event_readers: usize,
}

/// Where LiveInfo is read.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RedisConfig {
    /// Redis URL. Default `redis://127.0.0.1:6379/`.
    pub url: Secret<String>,
}

impl Default for RedisConfig {
    fn default() -> Self {
        Self {
            url: Secret::new("redis://127.0.0.1:6379/".to_owned()),
        }
    }
}

/// Where the search index is.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MeilisearchConfig {
    /// Address of Meilisearch. Default `http://127.0.0.1:7700`.
    pub url: String,
    /// API key that may do nothing but search; empty = none.
    pub search_key: Secret<String>,
    /// Name of the index, 1 to 64 letters, digits, `-` and `_`. Default `broadcasts`.
    pub index: String,
}

impl Default for MeilisearchConfig {
    fn default() -> Self {
        Self {
            url: "http://127.0.0.1:7700".to_owned(),
            search_key: Secret::default(),
            index: "broadcasts".to_owned(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            public_url: "http://127.0.0.1:8080".to_owned(),
            rtmp_public_url: "rtmp://127.0.0.1:1935/live".to_owned(),
            rtmps_public_url: String::new(),
            hls_public_url: "http://127.0.0.1:8081".to_owned(),
            admin_token: Secret::default(),
            owner: "admin".to_owned(),
            redis: RedisConfig::default(),
            meilisearch: MeilisearchConfig::default(),
            max_body_bytes: 64 * 1024,
            request_timeout_s: 15,
            max_requests: 512,
            max_event_readers: 32,
        }
    }
}

impl Config {
    /// All that is wrong with the values; empty when they can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.listen.parse::<SocketAddr>().is_err() {
            problems.push(format!(
                "live_api.listen = {:?} is not an address like 127.0.0.1:8080",
                self.listen
            ));
        }
        let mut address = |name: &str, value: &str, schemes: &[&str]| {
            let usable = Url::parse(value).is_ok_and(|url| schemes.contains(&url.scheme()) && url.has_host());
            if !usable || value.ends_with('/') || value.contains(['"', '\'', ';', ',', ' ', '?', '#']) {
                let schemes = schemes.join(" or ");
                problems.push(format!(
                    "live_api.{name} = {value:?} is not a {schemes} URL without a slash at its end"
                ));
            }
        };
        address("public_url", &self.public_url, &["http", "https"]);
        address("rtmp_public_url", &self.rtmp_public_url, &["rtmp"]);
        if !self.rtmps_public_url.is_empty() {
            address("rtmps_public_url", &self.rtmps_public_url, &["rtmps"]);
        }
        address("hls_public_url", &self.hls_public_url, &["http", "https"]);
        address("meilisearch.url", &self.meilisearch.url, &["http", "https"]);

        let token = self.admin_token.expose();
        if !token.is_empty() && (token.chars().count() < MIN_TOKEN || token.chars().any(|c| !c.is_ascii_graphic())) {
            problems.push(format!(
                "live_api.admin_token has fewer than {MIN_TOKEN} characters, or other than visible ASCII ones"
            ));
        }
        if !(1..=64).contains(&self.owner.chars().count()) {
            problems.push(format!(
                "live_api.owner = {:?} is not 1 to 64 characters long",
                self.owner
            ));
        }
        let index = &self.meilisearch.index;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if !(1..=64).contains(&index.len()) || !index.chars().all(plain) {
            problems.push(format!("live_api.meilisearch.index = {index:?} is not an index name"));
        }
        let mut within = |name: &str, value: u64, lowest: u64, highest: u64| {
            if !(lowest..=highest).contains(&value) {
                problems.push(format!("live_api.{name} = {value} is not within {lowest} to {highest}"));
            }
        };
        within("max_body_bytes", self.max_body_bytes as u64, 1024, 1 << 20);
        within("request_timeout_s", self.request_timeout_s, 1, 120);
        within("max_requests", self.max_requests as u64, 1, 100_000);
        within("max_event_readers", self.max_event_readers as u64, 0, 10_000);
        problems
    }

    pub(crate) const fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_s)
    }

    /// Scheme, host and port of the HLS server, as a content security policy names it.
    pub(crate) fn hls_origin(&self) -> String {
        Url::parse(&self.hls_public_url)
            .map(|url| url.origin().ascii_serialization())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(Config::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_named() {
        let config = Config {
            listen: "here".to_owned(),
            public_url: "localhost".to_owned(),
            rtmp_public_url: "http://host/live".to_owned(),
            rtmps_public_url: "rtmp://host/live".to_owned(),
            hls_public_url: "http://host/; script-src *".to_owned(),
            admin_token: Secret::new("short".to_owned()),
            owner: String::new(),
            redis: RedisConfig::default(),
            meilisearch: MeilisearchConfig {
                url: String::new(),
                index: "a b".to_owned(),
                ..Default::default()
            },
            max_body_bytes: 0,
            request_timeout_s: 0,
            max_requests: 0,
            max_event_readers: 10_001,
        };
        assert_eq!(config.validate().len(), 13, "{:#?}", config.validate());
    }

    #[test]
    fn the_token_is_never_printed() {
        let config = Config {
            admin_token: Secret::new("0123456789abcdef".to_owned()),
            ..Config::default()
        };
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
    }
}
