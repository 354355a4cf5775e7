//! Configuration of the Live API.

use std::{net::SocketAddr, time::Duration};

use castlog_live_info::RedisConfig;
use castlog_log::Secret;
use castlog_meili::index_name_problem;
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
    /// Where the search index is; the key needs no more than to search it.
    pub meilisearch: castlog_meili::Config,
    /// Name of the search index, that of the indexer: 1 to 64 letters, digits,
    /// `-` and `_`. Default `broadcasts`.
    pub search_index: String,
    /// The key that playback tokens are signed with.
    pub playback: castlog_playback::Config,
    /// Largest request body in bytes. 1024 to 1048576. Default 65536.
    pub max_body_bytes: usize,
    /// Seconds that a request may take. 1 to 120. Default 15.
    pub request_timeout_s: u64,
    /// Connections at a time; past it, newcomers wait until one is free. 1 to 100000. Default 4096.
    pub max_connections: usize,
    /// Seconds after which a connection on which nothing moves is cut; over
    /// `request_timeout_s`, at most 3600. Default 60.
    pub idle_timeout_s: u64,
    /// Requests worked on at a time; more wait. 1 to 100000. Default 512.
    pub max_requests: usize,
    /// Readers of `/v1/events` at a time. 0 to 10000. Default 32.
    pub max_event_readers: usize,
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
            meilisearch: castlog_meili::Config::default(),
            search_index: "broadcasts".to_owned(),
            playback: castlog_playback::Config::default(),
            max_body_bytes: 64 * 1024,
            request_timeout_s: 15,
            max_connections: 4096,
            idle_timeout_s: 60,
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
        problems.extend(self.redis.validate("live_api.redis"));
        problems.extend(self.meilisearch.validate("live_api.meilisearch"));
        problems.extend(self.playback.validate("live_api.playback"));
        problems.extend(index_name_problem("live_api.search_index", &self.search_index));

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
        let mut within = |name: &str, value: u64, lowest: u64, highest: u64| {
            if !(lowest..=highest).contains(&value) {
                problems.push(format!("live_api.{name} = {value} is not within {lowest} to {highest}"));
            }
        };
        within("max_body_bytes", self.max_body_bytes as u64, 1024, 1 << 20);
        within("request_timeout_s", self.request_timeout_s, 1, 120);
        within("max_connections", self.max_connections as u64, 1, 100_000);
        // A request that is worked on keeps its connection still.
        within("idle_timeout_s", self.idle_timeout_s, self.request_timeout_s + 1, 3600);
        within("max_requests", self.max_requests as u64, 1, 100_000);
        within("max_event_readers", self.max_event_readers as u64, 0, 10_000);
        problems
    }

    pub(crate) const fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_s)
    }

    pub(crate) const fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
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
            redis: RedisConfig::new(String::new()),
            meilisearch: castlog_meili::Config::new("", ""),
            search_index: "a b".to_owned(),
            playback: castlog_playback::Config {
                key: Secret::new("short".to_owned()),
                ..Default::default()
            },
            max_body_bytes: 0,
            request_timeout_s: 0,
            max_connections: 0,
            idle_timeout_s: 0,
            max_requests: 0,
            max_event_readers: 10_001,
        };
        assert_eq!(config.validate().len(), 17, "{:#?}", config.validate());
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
