//! The whole configuration: what all processes share, and a section per service.

use std::path::PathBuf;

use castlog_live_info::RedisConfig;
use castlog_log::{ConnectConfig, Log, Secret, access};
use castlog_service::{AdminConfig, ConfigError, MediaStoreConfig, TelemetryConfig};
use serde::{Deserialize, Serialize};

use crate::{args::Global, run::Service, up};

/// Configuration file of this folder.
const FILE: &str = "castlog.toml";

/// The whole configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Where the log is, and who tools are to it.
    pub(crate) nats: ConnectConfig,
    /// Who each service is to the log.
    pub(crate) nats_users: NatsUsers,
    /// How streams are kept.
    pub(crate) jetstream: JetStream,
    /// Redis, for every service that does not name another one.
    pub(crate) redis: RedisConfig,
    /// Meilisearch, for every service that does not name another one.
    pub(crate) meilisearch: Meilisearch,
    /// Keys of playback tokens, for every service that names none of its own.
    pub(crate) playback: castlog_playback::Config,
    /// Where media is stored.
    pub(crate) media: MediaStoreConfig,
    /// Health endpoints of `castlog run`.
    pub(crate) admin: AdminConfig,
    /// Logging of the processes themselves, and their traces.
    pub(crate) telemetry: TelemetryConfig,
    /// The RTMP server.
    pub(crate) rtmp: castlog_rtmp::Config,
    /// The pipeline.
    pub(crate) pipeline: castlog_pipeline::Config,
    /// The HLS server.
    pub(crate) hls: castlog_hls::Config,
    /// The Live API.
    pub(crate) live_api: castlog_live_api::Config,
    /// LiveInfo.
    pub(crate) live_info: castlog_live_info::Config,
    /// The indexer.
    pub(crate) indexer: castlog_indexer::Config,
    /// The log sink.
    pub(crate) log_sink: castlog_log_sink::Config,
    /// What `castlog up` starts.
    pub(crate) up: up::Config,
}

/// How streams are kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct JetStream {
    /// Replicas of each stream: 1 on one server, 3 in a cluster. 1, 3 or 5. Default 1.
    pub(crate) replicas: u8,
}

impl Default for JetStream {
    fn default() -> Self {
        Self { replicas: 1 }
    }
}

/// Who the services are to the log.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NatsUsers {
    pub(crate) rtmp: NatsUser,
    pub(crate) pipeline: NatsUser,
    pub(crate) hls: NatsUser,
    pub(crate) live_info: NatsUser,
    pub(crate) live_api: NatsUser,
    pub(crate) indexer: NatsUser,
    pub(crate) log_sink: NatsUser,
}

/// Who a service is to the log; where all is empty, what `[nats]` says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NatsUser {
    /// User name.
    pub(crate) user: String,
    /// Password of `user`.
    pub(crate) password: Secret<String>,
    /// Path of a credentials file.
    pub(crate) credentials: String,
    /// Path of a file that holds the seed of an nkey.
    pub(crate) nkey: String,
}

impl NatsUsers {
    pub(crate) const fn of(&self, service: Service) -> &NatsUser {
        match service {
            Service::Rtmp => &self.rtmp,
            Service::Pipeline => &self.pipeline,
            Service::Hls => &self.hls,
            Service::LiveInfo => &self.live_info,
            Service::LiveApi => &self.live_api,
            Service::Indexer => &self.indexer,
            Service::LogSink => &self.log_sink,
        }
    }

    pub(crate) const fn of_mut(&mut self, service: Service) -> &mut NatsUser {
        match service {
            Service::Rtmp => &mut self.rtmp,
            Service::Pipeline => &mut self.pipeline,
            Service::Hls => &mut self.hls,
            Service::LiveInfo => &mut self.live_info,
            Service::LiveApi => &mut self.live_api,
            Service::Indexer => &mut self.indexer,
            Service::LogSink => &mut self.log_sink,
        }
    }
}

/// A Meilisearch server.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Meilisearch {
    /// Address. Default `http://127.0.0.1:7700`.
    pub(crate) url: String,
    /// Key of the Live API, which only searches; empty = none.
    pub(crate) search_key: Secret<String>,
    /// Key of the indexer and the log sink, which write; empty = none.
    pub(crate) indexer_key: Secret<String>,
}

impl Default for Meilisearch {
    fn default() -> Self {
        Self {
            url: castlog_meili::Config::default().url,
            search_key: Secret::default(),
            indexer_key: Secret::default(),
        }
    }
}

/// Takes `shared` where `own` is as the service's default has it.
fn fill<T: Clone + PartialEq>(own: &mut T, default: &T, shared: &T) {
    if own == default {
        own.clone_from(shared);
    }
}

impl Config {
    /// Hands the shared servers to the services that name none of their own.
    pub(crate) fn share(&mut self) {
        for own in [&mut self.live_info.redis, &mut self.live_api.redis] {
            fill(own, &RedisConfig::default(), &self.redis);
        }
        for own in [&mut self.hls.playback, &mut self.live_api.playback] {
            fill(own, &castlog_playback::Config::default(), &self.playback);
        }
        let shared = &self.meilisearch;
        for (own, key) in [
            (&mut self.live_api.meilisearch, &shared.search_key),
            (&mut self.indexer.meilisearch, &shared.indexer_key),
            (&mut self.log_sink.meilisearch, &shared.indexer_key),
        ] {
            let none = castlog_meili::Config::default();
            fill(&mut own.url, &none.url, &shared.url);
            fill(&mut own.key, &none.key, key);
        }
    }

    /// How a service connects to the log.
    pub(crate) fn nats_of(&self, service: Service) -> ConnectConfig {
        let mut nats = self.nats.clone();
        let own = self.nats_users.of(service);
        if *own != NatsUser::default() {
            nats.user.clone_from(&own.user);
            nats.password = own.password.clone();
            nats.credentials.clone_from(&own.credentials);
            nats.nkey.clone_from(&own.nkey);
        }
        if nats.inbox_prefix.is_empty() {
            nats.inbox_prefix = access::inbox_prefix(service.name());
        }
        nats
    }

    /// All that is wrong with the values; empty when they can be used.
    pub(crate) fn validate(&self) -> Vec<String> {
        let sections = [
            ("rtmp", self.rtmp.validate()),
            ("pipeline", self.pipeline.validate()),
            ("hls", self.hls.validate()),
            ("live_api", self.live_api.validate()),
            ("live_info", self.live_info.validate()),
            ("indexer", self.indexer.validate()),
            ("log_sink", self.log_sink.validate()),
            ("up", self.up.validate()),
            ("nats", self.nats.validate()),
            ("telemetry", self.telemetry.validate()),
            ("media", self.media.validate()),
            ("playback", self.playback.validate("playback")),
        ];
        let named = |(section, problems): (&str, Vec<String>)| {
            let prefix = format!("{section}.");
            let name = |p: String| {
                if p.starts_with(&prefix) {
                    p
                } else {
                    format!("{prefix}{p}")
                }
            };
            problems.into_iter().map(name).collect::<Vec<_>>()
        };
        let mut problems: Vec<String> = sections.into_iter().flat_map(named).collect();
        if ![1, 3, 5].contains(&self.jetstream.replicas) {
            problems.push(format!(
                "jetstream.replicas = {} is not 1, 3 or 5",
                self.jetstream.replicas
            ));
        }
        for service in Service::ALL {
            if self.nats.validate().is_empty() && !self.nats_of(service).validate().is_empty() {
                problems.push(format!(
                    "nats_users.{}: of user, credentials and nkey only one can be set",
                    service.name().replace('-', "_")
                ));
            }
        }
        if !self.admin.listen.is_empty() && self.admin.listen.parse::<std::net::SocketAddr>().is_err() {
            problems.push(format!(
                "admin.listen = {:?} is not an address like 127.0.0.1:9640",
                self.admin.listen
            ));
        }
        problems
    }
}

/// The configuration of a command that talks to servers that are there: the file
/// named, else that of the castlog in the data folder, else castlog.toml.
pub(crate) fn load(global: &Global) -> Result<Config, ConfigError> {
    let running = global.data.join(up::CONFIG_FILE);
    load_from(global, Some(running).filter(|file| file.is_file()))
}

/// The configuration that `castlog up` starts from: the file named, else castlog.toml.
pub(crate) fn load_for_up(global: &Global) -> Result<Config, ConfigError> {
    load_from(global, None)
}

fn load_from(global: &Global, running: Option<PathBuf>) -> Result<Config, ConfigError> {
    let own = Some(PathBuf::from(FILE)).filter(|file| file.is_file());
    let file = global.config.clone().or(running).or(own);
    let mut config: Config = castlog_service::load(file.as_deref(), &global.set)?;
    config.share();
    let problems = config.validate();
    if problems.is_empty() {
        Ok(config)
    } else {
        Err(ConfigError::new(problems))
    }
}

/// Connects a tool to the log; quiet, so that its output stays its own.
pub(crate) async fn connect(config: &Config, name: &str) -> anyhow::Result<Log> {
    up::quiet_telemetry(config)?;
    Ok(Log::connect(&config.nats, name).await?)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_default_is_valid() {
        assert_eq!(Config::default().validate(), Vec::<String>::new());
    }

    #[test]
    fn the_example_is_what_the_defaults_are() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../castlog.example.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        let example: Config = toml::from_str(&text).unwrap();
        assert_eq!(example.validate(), Vec::<String>::new());
        let values = |config: &Config| toml::Value::try_from(config).unwrap();
        assert_eq!(values(&example), values(&Config::default()));
        // Every key that has a value is in the example, set or commented out.
        for (section, keys) in values(&Config::default()).as_table().unwrap() {
            assert!(text.contains(&format!("[{section}]")), "section {section} is missing");
            for key in keys.as_table().unwrap().keys() {
                let named = text.lines().any(|line| {
                    let line = line.trim_start_matches("# ");
                    line.starts_with(&format!("{key} =")) || line == format!("[{section}.{key}]")
                });
                assert!(named, "{section}.{key} is missing");
            }
        }
    }

    #[test]
    fn shared_servers_reach_the_services_that_name_none() {
        let mut config = Config::default();
        config.redis.url = Secret::new("redis://shared/".to_owned());
        config.meilisearch.search_key = Secret::new("search".to_owned());
        config.live_api.redis.url = Secret::new("redis://own/".to_owned());
        config.playback.key = Secret::new("0123456789abcdef0123456789abcdef".to_owned());
        config.share();
        assert_eq!(config.hls.playback, config.playback);
        assert_eq!(config.live_api.playback, config.playback);
        assert_eq!(config.live_info.redis.url.expose(), "redis://shared/");
        assert_eq!(config.live_api.redis.url.expose(), "redis://own/");
        assert_eq!(config.live_api.meilisearch.key.expose(), "search");
    }

    #[test]
    fn each_service_is_its_own_user() {
        let mut config = Config::default();
        config.nats.user = "shared".to_owned();
        config.nats_users.live_api.nkey = "live-api.nk".to_owned();
        let of = |service| config.nats_of(service);
        assert_eq!(of(Service::Hls).user, "shared");
        assert_eq!(of(Service::Hls).inbox_prefix, "_INBOX_hls");
        assert_eq!(
            (of(Service::LiveApi).user, of(Service::LiveApi).nkey),
            (String::new(), "live-api.nk".to_owned())
        );
        assert_eq!(config.validate(), Vec::<String>::new());
        config.nats_users.live_api.user = "live-api".to_owned();
        assert_eq!(config.validate().len(), 1, "{:?}", config.validate());
    }

    #[test]
    fn every_problem_is_told_with_its_section() {
        let mut config = Config::default();
        config.rtmp.name = String::new();
        config.hls.listen = "here".to_owned();
        config.nats.url = String::new();
        let problems = config.validate();
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert!(problems[0].starts_with("rtmp.name"), "{problems:?}");
    }
}
