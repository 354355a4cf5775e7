//! The configuration of a platform on one machine: what `castlog up` adds to
//! what it was given.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use castlog_log::{ConnectConfig, Secret};
use castlog_service::TelemetryConfig;
use serde::{Deserialize, Serialize};

use super::{
    credentials::Credentials,
    folder::{Folder, write_private},
    servers::MeilisearchKeys,
};
use crate::{config, run::Service};

/// What `castlog up` starts, all on 127.0.0.1.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Port of nats-server; the servers of a cluster have it and the two behind it. Default 4222.
    pub(crate) nats_port: u16,
    /// How many nats-servers there are: 1, or 3 that are a cluster. Default 1.
    pub(crate) nats_nodes: u8,
    /// First of the three ports on which the servers of a cluster reach each other. Default 6222.
    pub(crate) nats_cluster_port: u16,
    /// Port of Redis. Default 6390.
    pub(crate) redis_port: u16,
    /// Port of Meilisearch. Default 7700.
    pub(crate) meilisearch_port: u16,
    /// First of the seven ports of the services' health endpoints. 1 to 65529. Default 9640.
    pub(crate) admin_port: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            nats_port: 4222,
            nats_nodes: 1,
            nats_cluster_port: 6222,
            redis_port: 6390,
            meilisearch_port: 7700,
            admin_port: 9640,
        }
    }
}

impl Config {
    pub(crate) fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let ports = [
            ("nats_port", self.nats_port),
            ("nats_cluster_port", self.nats_cluster_port),
            ("redis_port", self.redis_port),
            ("meilisearch_port", self.meilisearch_port),
            ("admin_port", self.admin_port),
        ];
        for (name, _) in ports.into_iter().filter(|(_, port)| *port == 0) {
            problems.push(format!("up.{name} = 0 is not a port"));
        }
        if ![1, 3].contains(&self.nats_nodes) {
            problems.push(format!(
                "up.nats_nodes = {} is neither 1 nor 3: of two servers neither may be missing",
                self.nats_nodes
            ));
        }
        for (name, port) in [
            ("nats_port", self.nats_port),
            ("nats_cluster_port", self.nats_cluster_port),
        ] {
            if self.nats_nodes == 3 && port > u16::MAX - 2 {
                problems.push(format!("up.{name} = {port} leaves no three ports: at most 65533"));
            }
        }
        if self.admin_port > u16::MAX - 6 {
            problems.push(format!(
                "up.admin_port = {} leaves no seven ports: at most 65529",
                self.admin_port
            ));
        }
        problems
    }

    /// The ports of the nats-servers.
    pub(crate) fn nats_ports(&self) -> impl Iterator<Item = u16> {
        (self.nats_port..=u16::MAX).take(self.nats_nodes.into())
    }

    /// The ports on which they reach each other; none when there is only one.
    pub(crate) fn nats_cluster_ports(&self) -> impl Iterator<Item = u16> {
        let count = if self.nats_nodes > 1 { self.nats_nodes } else { 0 };
        (self.nats_cluster_port..=u16::MAX).take(count.into())
    }

    /// The port of a service's health endpoints.
    pub(crate) fn admin_port_of(&self, service: Service) -> u16 {
        (0..)
            .zip(Service::ALL)
            .find(|(_, s)| *s == service)
            .map_or(self.admin_port, |(n, _)| self.admin_port + n)
    }
}

/// Only what went wrong is logged by tools and `up`, unless the configuration asks for something else.
pub(crate) fn quiet_telemetry(config: &config::Config) -> anyhow::Result<()> {
    let mut telemetry = config.telemetry.clone();
    if telemetry.filter == TelemetryConfig::default().filter {
        // The client of Meilisearch warns of answers that are looked into.
        "warn,meilisearch_sdk=error".clone_into(&mut telemetry.filter);
    }
    castlog_service::init_telemetry(&telemetry)
}

/// The configuration with the local servers, the data folder and public URLs in it.
pub(super) fn local(mut config: config::Config, folder: &Folder, credentials: &Credentials) -> config::Config {
    let default = config::Config::default();
    let servers: Vec<String> = config
        .up
        .nats_ports()
        .map(|port| format!("nats://127.0.0.1:{port}"))
        .collect();
    config.jetstream.replicas = config.up.nats_nodes;
    config.nats = ConnectConfig {
        url: servers.join(","),
        user: credentials.nats_user.clone(),
        password: credentials.nats_password.clone(),
        ..ConnectConfig::default()
    };
    for service in Service::ALL {
        let (user, password) = credentials.nats(service.name());
        *config.nats_users.of_mut(service) = config::NatsUser {
            user: user.to_owned(),
            password: password.clone(),
            ..config::NatsUser::default()
        };
    }
    config.redis.url = Secret::new(format!(
        "redis://:{}@127.0.0.1:{}/",
        credentials.redis_password.expose(),
        config.up.redis_port
    ));
    config.meilisearch.url = format!("http://127.0.0.1:{}", config.up.meilisearch_port);
    // Services use the servers that are started here, whatever the configuration names.
    if config.playback.key.expose().is_empty() {
        config.playback.key = credentials.playback_key.clone();
    }
    config.live_info.redis = default.live_info.redis.clone();
    config.live_api.redis = default.live_api.redis.clone();
    config.live_api.meilisearch = default.live_api.meilisearch.clone();
    config.indexer.meilisearch = default.indexer.meilisearch.clone();
    config.log_sink.meilisearch = default.log_sink.meilisearch.clone();
    config.admin.listen.clear();
    if config.media.url.is_empty() && config.media.path == default.media.path {
        config.media.path = folder.path().join("media");
    }
    if config.pipeline.spool.path == default.pipeline.spool.path {
        config.pipeline.spool.path = folder.path().join("spool");
    }
    if config.rtmp.dev_cert_dir == default.rtmp.dev_cert_dir {
        config.rtmp.dev_cert_dir = folder.path().join("rtmps");
    }
    if config.hls.dev_cert_dir == default.hls.dev_cert_dir {
        config.hls.dev_cert_dir = folder.path().join("https");
    }

    let api = &mut config.live_api;
    if api.admin_token.expose().is_empty() {
        api.admin_token = credentials.admin_token.clone();
    }
    let reachable = |listen: &str| {
        listen
            .parse()
            .map_or_else(|_| listen.to_owned(), |a| reachable(a).to_string())
    };
    if api.public_url == default.live_api.public_url {
        api.public_url = format!("http://{}", reachable(&api.listen));
    }
    if api.hls_public_url == default.live_api.hls_public_url {
        api.hls_public_url = format!("http://{}", reachable(&config.hls.listen));
    }
    if api.rtmp_public_url == default.live_api.rtmp_public_url {
        api.rtmp_public_url = format!("rtmp://{}/live", self::reachable(config.rtmp.listen));
    }
    if let (true, Some(tls)) = (api.rtmps_public_url.is_empty(), config.rtmp.tls_listen) {
        api.rtmps_public_url = format!("rtmps://{}/live", self::reachable(tls));
    }
    config.share();
    config
}

/// The address by which this machine reaches a listener.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    listen
}

/// Adds the keys that Meilisearch made.
pub(super) fn add_keys(config: &mut config::Config, keys: MeilisearchKeys) {
    config.meilisearch.search_key = keys.search;
    config.meilisearch.indexer_key = keys.indexer;
    config.share();
}

/// Writes the files that services and scripts read.
pub(super) fn write(config: &config::Config, folder: &Folder, credentials: &Credentials) -> anyhow::Result<()> {
    let text = toml::to_string(config)?;
    write_private(
        &folder.config_file(),
        &format!("# Written by `castlog up` at each start; holds secrets.\n{text}"),
    )?;
    let api = &config.live_api;
    // The nats command looks; what changes the log needs the operator.
    let (observer, password) = credentials.nats("observer");
    let env = [
        ("NATS_URL", config.nats.url.as_str()),
        ("NATS_USER", observer),
        ("NATS_PASSWORD", password.expose()),
        ("NATS_OPERATOR_USER", &config.nats.user),
        ("NATS_OPERATOR_PASSWORD", config.nats.password.expose()),
        ("CASTLOG_ADMIN_TOKEN", api.admin_token.expose()),
        ("CASTLOG_API_URL", &api.public_url),
        ("CASTLOG_RTMP_URL", &api.rtmp_public_url),
    ];
    let text: String = env.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
    write_private(&folder.path().join("env"), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_has_its_port() {
        let config = Config::default();
        assert_eq!(config.admin_port_of(Service::Rtmp), 9640);
        assert_eq!(config.admin_port_of(Service::LogSink), 9646);
        assert_eq!(
            Config {
                admin_port: 65_530,
                nats_port: 0,
                ..config
            }
            .validate()
            .len(),
            2
        );
    }

    #[test]
    fn the_written_configuration_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::claim(&dir.path().join("data")).unwrap();
        let credentials = Credentials::load_or_make(&folder).unwrap();
        let mut given = config::Config::default();
        given.live_info.redis.url = Secret::new("redis://elsewhere/".to_owned());
        given.rtmp.listen = SocketAddr::from(([0, 0, 0, 0], 2935));
        let made = local(given, &folder, &credentials);
        assert_eq!(made.live_api.rtmp_public_url, "rtmp://127.0.0.1:2935/live");
        assert_eq!(made.validate(), Vec::<String>::new());
        write(&made, &folder, &credentials).unwrap();
        let read: config::Config = castlog_service::load(Some(&folder.config_file()), &[]).unwrap();
        assert_eq!(toml::to_string(&read).unwrap(), toml::to_string(&made).unwrap());
        assert_eq!(read.live_info.redis.url, made.redis.url);
    }
}
