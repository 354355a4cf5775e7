//! Configuration of the HLS server.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use castlog_service::CertificateFiles;
use serde::{Deserialize, Serialize};

use crate::proxies::Proxies;

/// Shortest DVR window in seconds: a live playlist must not fall below three
/// target durations, and a player that pauses briefly should not lose its place.
pub(crate) const MIN_DVR_WINDOW_S: u32 = 20;

/// Configuration of the HLS server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address that viewers connect to. Default `127.0.0.1:8081`.
    pub listen: String,
    /// Address that viewers connect to by HTTPS: HTTP/2, or HTTP/1.1 for who does not
    /// speak it. Default none: TLS is left to a proxy in front.
    pub tls_listen: Option<SocketAddr>,
    /// PEM file with the certificate chain for HTTPS, read again when it or the key has
    /// been written. Default none: a self-signed development certificate is made in
    /// `dev_cert_dir`.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key of `tls_cert`.
    pub tls_key: Option<PathBuf>,
    /// Folder of the development certificate. Default `.castlog/https`.
    pub dev_cert_dir: PathBuf,
    /// Name of this edge in the log; every edge needs its own. 1 to 64 characters. Default `edge`.
    pub edge: String,
    /// Where media is served, as playlists name it: a path of this server, or
    /// the URL of a CDN in front of it. Who watches with a token gets media from where
    /// the playlist came from. Default `/media`.
    pub media_base: String,
    /// Seconds that a viewer can seek back while a broadcast is live, unless its
    /// options say otherwise. 20 to `max_dvr_window_s`. Default 60.
    pub dvr_window_s: u32,
    /// Longest DVR window in seconds that the options of a broadcast can ask
    /// for; bounds memory. 20 to 86400. Default 1800.
    pub max_dvr_window_s: u32,
    /// Seconds that the last window of a broadcast can be watched after its
    /// end. 10 to 86400. Default 300.
    pub linger_s: u32,
    /// Seconds after the end of a session in which its last segments may still
    /// come; only then is the playlist closed. 0 to 60. Default 5.
    pub end_grace_s: u32,
    /// Most broadcasts whose segments are held in memory. 1 to 100000. Default 1000.
    pub max_broadcasts: usize,
    /// Bytes of media kept in memory. 0 = none; at most 1 TiB. Default 268435456 (256 MiB).
    pub cache_bytes: u64,
    /// Most connections of viewers at a time, of both listeners together. 1 to 1000000. Default 10000.
    pub max_connections: usize,
    /// Seconds after which a viewer's connection on which nothing moves is cut. Over
    /// three target durations, or who waits for media is cut too. 10 to 3600. Default 60.
    pub idle_timeout_s: u64,
    /// Addresses and networks, such as `10.0.0.0/8`, of the proxies in front, whose
    /// `X-Forwarded-For` is believed when viewers are counted. Default none.
    pub trusted_proxies: Vec<String>,
    /// The key of the tokens with which private broadcasts are watched.
    pub playback: castlog_playback::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8081".to_owned(),
            tls_listen: None,
            tls_cert: None,
            tls_key: None,
            dev_cert_dir: PathBuf::from(".castlog/https"),
            edge: "edge".to_owned(),
            media_base: "/media".to_owned(),
            dvr_window_s: 60,
            max_dvr_window_s: 1800,
            linger_s: 300,
            end_grace_s: 5,
            max_broadcasts: 1000,
            cache_bytes: 256 << 20,
            max_connections: 10_000,
            idle_timeout_s: 60,
            trusted_proxies: Vec::new(),
            playback: castlog_playback::Config::default(),
        }
    }
}

impl Config {
    /// All that is wrong with the values; empty when they can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut within = |name: &str, value: u64, lowest: u64, highest: u64| {
            if !(lowest..=highest).contains(&value) {
                problems.push(format!("hls.{name} = {value} is not within {lowest} to {highest}"));
            }
        };
        let (shortest, longest) = (u64::from(MIN_DVR_WINDOW_S), u64::from(self.max_dvr_window_s));
        within("max_dvr_window_s", longest, shortest, 86_400);
        within(
            "dvr_window_s",
            u64::from(self.dvr_window_s),
            shortest,
            longest.max(shortest),
        );
        within("linger_s", u64::from(self.linger_s), 10, 86_400);
        within("end_grace_s", u64::from(self.end_grace_s), 0, 60);
        within("max_broadcasts", self.max_broadcasts as u64, 1, 100_000);
        within("cache_bytes", self.cache_bytes, 0, 1 << 40);
        within("max_connections", self.max_connections as u64, 1, 1_000_000);
        within("idle_timeout_s", self.idle_timeout_s, 10, 3600);
        if self.listen.parse::<SocketAddr>().is_err() {
            problems.push(format!(
                "hls.listen = {:?} is not an address like 127.0.0.1:8081",
                self.listen
            ));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            problems.push("hls.tls_cert and hls.tls_key go together: one of them is missing".to_owned());
        }
        if !(1..=64).contains(&self.edge.chars().count()) {
            problems.push(format!("hls.edge = {:?} is not 1 to 64 characters long", self.edge));
        }
        let base = &self.media_base;
        let usable = base.starts_with('/') || base.starts_with("https://") || base.starts_with("http://");
        if !usable || base.ends_with('/') || base.contains(['"', ' ', '?', '#']) || base.chars().any(char::is_control) {
            problems.push(format!(
                "hls.media_base = {base:?} is not a path or a URL without a slash at its end"
            ));
        }
        if let Err(wrong) = Proxies::read(&self.trusted_proxies) {
            problems.push(format!(
                "hls.trusted_proxies holds {wrong:?}, which is neither an address nor a network like 10.0.0.0/8"
            ));
        }
        problems.extend(self.playback.validate("hls.playback"));
        problems
    }

    /// Where the certificate of HTTPS comes from.
    pub(crate) fn certificate(&self) -> CertificateFiles<'_> {
        CertificateFiles {
            files: self.tls_cert.as_deref().zip(self.tls_key.as_deref()),
            dev_dir: &self.dev_cert_dir,
        }
    }

    pub(crate) const fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s)
    }

    pub(crate) fn rules(&self) -> crate::state::Rules {
        crate::state::Rules {
            media_base: self.media_base.clone(),
            window: Duration::from_secs(self.dvr_window_s.into()),
            max_window: Duration::from_secs(self.max_dvr_window_s.into()),
            linger: Duration::from_secs(self.linger_s.into()),
            end_grace: Duration::from_secs(self.end_grace_s.into()),
            max_broadcasts: self.max_broadcasts,
        }
    }
}

#[cfg(test)]
mod tests {
    use castlog_log::Secret;

    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(Config::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn every_problem_is_named() {
        let config = Config {
            listen: "here".to_owned(),
            edge: String::new(),
            tls_cert: Some("certificate.pem".into()),
            media_base: "media/".to_owned(),
            dvr_window_s: 5,
            max_dvr_window_s: 5,
            linger_s: 0,
            end_grace_s: 61,
            max_broadcasts: 0,
            cache_bytes: u64::MAX,
            max_connections: 0,
            idle_timeout_s: 9,
            trusted_proxies: vec!["10.0.0.0/8".to_owned(), "front".to_owned()],
            playback: castlog_playback::Config {
                key: Secret::new("short".to_owned()),
                ..Default::default()
            },
            ..Config::default()
        };
        assert_eq!(config.validate().len(), 14, "{:#?}", config.validate());
    }
}
