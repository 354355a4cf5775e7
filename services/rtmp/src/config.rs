//! What can be set.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use castlog_service::CertificateFiles;
use serde::{Deserialize, Serialize};

/// Configuration of the RTMP server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of this server in status entries; unique among the RTMP servers of a
    /// platform and the same after a restart: 1 to 64 letters, digits, `-`, `_` or `.`.
    /// Default `rtmp-1`.
    pub name: String,
    /// Address of the RTMP listener. Default `0.0.0.0:1935`.
    pub listen: SocketAddr,
    /// Address of the RTMPS listener. Default `0.0.0.0:1936`; none = no RTMPS.
    pub tls_listen: Option<SocketAddr>,
    /// PEM file with the certificate chain for RTMPS, read again when it or the key has
    /// been written. Default none: a self-signed development certificate is made in
    /// `dev_cert_dir`.
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key of `tls_cert`.
    pub tls_key: Option<PathBuf>,
    /// Folder of the development certificate. Default `.castlog/rtmps`.
    pub dev_cert_dir: PathBuf,
    /// Address of the internal HTTP-FLV listener, from which pipelines read. It is
    /// not for the open network. Default `127.0.0.1:8082`.
    pub flv_listen: SocketAddr,
    /// URL under which pipelines reach `flv_listen`, without a trailing slash.
    /// Default: `http://` and the address.
    pub flv_public_url: Option<String>,
    /// Seconds that a session waits for its encoder when the broadcast's options do
    /// not say: 1 to 3600. Default 30.
    pub reconnect_window_s: u32,
    /// Threads that take in what encoders send: 1 to 64; one takes about a thousand
    /// streams of 2.5 Mbit/s. Default 0: one for every four processors.
    pub threads: usize,
    /// Connections at a time: 1 to 100000. Default 2000.
    pub max_connections: usize,
    /// Connections at a time from one IP address: 1 to 100000. Default 100.
    pub max_connections_per_address: usize,
    /// Highest bit rate of a publish in kbit/s, averaged over 15 s: 100 to 1000000.
    /// Default 60000.
    pub max_bitrate_kbps: u32,
    /// Longest time between two keyframes in seconds: 1 to 60. Default 20; 2 is best
    /// for viewers.
    pub max_keyframe_interval_s: u32,
    /// Widest picture in pixels; one that is higher than wide may be so high. 16 to
    /// 16384. Default 4096.
    pub max_width: u32,
    /// Highest picture in pixels, likewise. Default 2304.
    pub max_height: u32,
    /// Seconds for the whole handshake, that of TLS included: 1 to 60. Default 5.
    pub handshake_timeout_s: u32,
    /// Seconds from the handshake to `publish`: 1 to 60. Default 10.
    pub publish_timeout_s: u32,
    /// Seconds without a byte after which a publish counts as lost: 1 to 300. Default 15.
    pub idle_timeout_s: u32,
    /// Seconds that one write may take: 1 to 60. Default 5.
    pub write_timeout_s: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "rtmp-1".to_owned(),
            listen: SocketAddr::from(([0, 0, 0, 0], 1935)),
            tls_listen: Some(SocketAddr::from(([0, 0, 0, 0], 1936))),
            tls_cert: None,
            tls_key: None,
            dev_cert_dir: PathBuf::from(".castlog/rtmps"),
            flv_listen: SocketAddr::from(([127, 0, 0, 1], 8082)),
            flv_public_url: None,
            reconnect_window_s: 30,
            threads: 0,
            max_connections: 2000,
            max_connections_per_address: 100,
            max_bitrate_kbps: 60_000,
            max_keyframe_interval_s: 20,
            max_width: 4096,
            max_height: 2304,
            handshake_timeout_s: 5,
            publish_timeout_s: 10,
            idle_timeout_s: 15,
            write_timeout_s: 5,
        }
    }
}

impl Config {
    /// Where the certificate of RTMPS comes from.
    pub(crate) fn certificate(&self) -> CertificateFiles<'_> {
        CertificateFiles {
            files: self.tls_cert.as_deref().zip(self.tls_key.as_deref()),
            dev_dir: &self.dev_cert_dir,
        }
    }

    /// Everything that is wrong with the values, one sentence each.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut range = |name: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                problems.push(format!("{name} is {value}, allowed are {min} to {max}"));
            }
        };
        range("reconnect_window_s", self.reconnect_window_s.into(), 1, 3600);
        range("threads", self.threads as u64, 0, 64);
        range("max_connections", self.max_connections as u64, 1, 100_000);
        range(
            "max_connections_per_address",
            self.max_connections_per_address as u64,
            1,
            100_000,
        );
        range("max_bitrate_kbps", self.max_bitrate_kbps.into(), 100, 1_000_000);
        range("max_keyframe_interval_s", self.max_keyframe_interval_s.into(), 1, 60);
        range("max_width", self.max_width.into(), 16, 16_384);
        range("max_height", self.max_height.into(), 16, 16_384);
        range("handshake_timeout_s", self.handshake_timeout_s.into(), 1, 60);
        range("publish_timeout_s", self.publish_timeout_s.into(), 1, 60);
        range("idle_timeout_s", self.idle_timeout_s.into(), 1, 300);
        range("write_timeout_s", self.write_timeout_s.into(), 1, 60);
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(fits) {
            problems.push("name is not 1 to 64 letters, digits, '-', '_' or '.'".to_owned());
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            problems.push("tls_cert and tls_key go together: one of them is missing".to_owned());
        }
        if self
            .flv_public_url
            .as_ref()
            .is_some_and(|url| !url.starts_with("http://") || url.ends_with('/'))
        {
            problems.push("flv_public_url is not an http:// URL without a trailing slash".to_owned());
        }
        problems
    }

    pub(crate) fn threads(&self) -> usize {
        match self.threads {
            0 => std::thread::available_parallelism().map_or(1, |processors| processors.get().div_ceil(4).min(64)),
            threads => threads,
        }
    }

    pub(crate) fn handshake_timeout(&self) -> Duration {
        Duration::from_secs(self.handshake_timeout_s.into())
    }

    pub(crate) fn publish_timeout(&self) -> Duration {
        Duration::from_secs(self.publish_timeout_s.into())
    }

    pub(crate) fn idle_timeout(&self) -> Duration {
        Duration::from_secs(self.idle_timeout_s.into())
    }

    pub(crate) fn write_timeout(&self) -> Duration {
        Duration::from_secs(self.write_timeout_s.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_told_at_once() {
        assert_eq!(Config::default().validate(), Vec::<String>::new());
        let broken = Config {
            name: "a b".into(),
            reconnect_window_s: 0,
            tls_key: Some("key.pem".into()),
            ..Config::default()
        };
        assert_eq!(broken.validate().len(), 3);
    }
}
