//! Looks at every port before anything starts: which one is taken, and which
//! setting chooses another.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpListener},
};

use anyhow::bail;

use crate::{config::Config, run::Service};

/// A port that something will listen on.
struct Wanted {
    what: &'static str,
    address: SocketAddr,
    /// The setting that chooses another one.
    setting: String,
}

fn wanted(config: &Config) -> Vec<Wanted> {
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let mut all = Vec::new();
    let mut add = |what, address: Option<SocketAddr>, setting: &str| {
        if let Some(address) = address {
            all.push(Wanted {
                what,
                address,
                setting: setting.to_owned(),
            });
        }
    };
    let address = |ip: SocketAddr, key: &str| format!("{key}={}:PORT", ip.ip());
    let rtmp = &config.rtmp;
    for port in config.up.nats_ports() {
        add("NATS", Some(local(port)), "up.nats_port=PORT");
    }
    for port in config.up.nats_cluster_ports() {
        add("NATS cluster", Some(local(port)), "up.nats_cluster_port=PORT");
    }
    add("Redis", Some(local(config.up.redis_port)), "up.redis_port=PORT");
    add(
        "Meilisearch",
        Some(local(config.up.meilisearch_port)),
        "up.meilisearch_port=PORT",
    );
    add("RTMP", Some(rtmp.listen), &address(rtmp.listen, "rtmp.listen"));
    if let Some(tls) = rtmp.tls_listen {
        add("RTMPS", Some(tls), &address(tls, "rtmp.tls_listen"));
    }
    add(
        "HTTP-FLV",
        Some(rtmp.flv_listen),
        &address(rtmp.flv_listen, "rtmp.flv_listen"),
    );
    if let Some(tls) = config.hls.tls_listen {
        add("HTTPS for viewers", Some(tls), &address(tls, "hls.tls_listen"));
    }
    add("HLS", config.hls.listen.parse().ok(), "hls.listen=127.0.0.1:PORT");
    add(
        "Live API",
        config.live_api.listen.parse().ok(),
        "live_api.listen=127.0.0.1:PORT",
    );
    for service in Service::ALL {
        add(
            "health endpoints",
            Some(local(config.up.admin_port_of(service))),
            "up.admin_port=PORT",
        );
    }
    all
}

/// Fails with one line per port that cannot be had.
pub(super) fn check(config: &Config) -> anyhow::Result<()> {
    let mut problems = Vec::new();
    let mut held: Vec<(TcpListener, Wanted)> = Vec::new();
    for one in wanted(config) {
        let port = one.address.port();
        let remedy = format!("choose another with --set {}", one.setting);
        match TcpListener::bind(one.address) {
            // Held until all are looked at, so that two of them on one port show.
            Ok(listener) => held.push((listener, one)),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                let other = held.iter().find(|(_, other)| other.address.port() == port);
                let by = other.map_or("another process", |(_, other)| other.what);
                problems.push(format!("port {port} ({}) is taken by {by}: {remedy}", one.what));
            }
            Err(error) => problems.push(format!("port {port} ({}) cannot be used ({error}): {remedy}", one.what)),
        }
    }
    if problems.is_empty() {
        Ok(())
    } else {
        bail!("{}", problems.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_setting() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let mut config = Config::default();
        config.up.redis_port = port;
        let text = check(&config).unwrap_err().to_string();
        let line =
            format!("port {port} (Redis) is taken by another process: choose another with --set up.redis_port=PORT");
        assert!(text.lines().any(|l| l == line), "{text}");
    }

    #[test]
    fn two_on_one_port_are_told() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut config = Config::default();
        config.hls.listen = free.to_string();
        config.live_api.listen = free.to_string();
        let text = check(&config).unwrap_err().to_string();
        assert!(
            text.contains(&format!("port {} (Live API) is taken by HLS", free.port())),
            "{text}"
        );
    }
}
