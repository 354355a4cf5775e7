//! A log sink with a real log and a real Meilisearch.

// Each test file is a program of its own, and none uses all of this.
#![allow(dead_code)]

use std::time::Duration;

use castlog_log::Log;
use castlog_log_sink::Config;
pub(crate) use castlog_testkit::events::title;
use castlog_testkit::{Meilisearch, NatsOptions, Service, TestLog, until};
use serde_json::Value;

/// Long enough for a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    pub(crate) log: TestLog,
    own: Log,
    pub(crate) meili: Meilisearch,
    pub(crate) config: Config,
}

impl Stage {
    pub(crate) async fn build() -> anyhow::Result<Self> {
        let log = TestLog::start(NatsOptions::default().lazy_sync()).await?;
        let own = log.nats.log_of("log-sink").await?;
        let meili = Meilisearch::start().await?;
        let config = Config {
            meilisearch: castlog_meili::Config::new(&meili.url(), meili.master_key()),
            ..Config::default()
        };
        Ok(Self {
            log,
            own,
            meili,
            config,
        })
    }

    pub(crate) fn start(&self, config: Config) -> anyhow::Result<Service> {
        Service::start(&self.own, |context| castlog_log_sink::run(config, context))
    }

    /// Another instance, with a connection of its own.
    pub(crate) async fn start_another(&self, config: Config) -> anyhow::Result<Service> {
        let log = self.log.nats.log_of("log-sink").await?;
        Service::start(&log, |context| castlog_log_sink::run(config, context))
    }

    async fn read(&self) -> anyhow::Result<Vec<Value>> {
        let mut documents = Vec::new();
        for name in self.meili.indexes().await? {
            documents.extend(self.meili.documents(&name).await?);
        }
        documents.sort_by_key(|document| (document["stream"].to_string(), document["seq"].as_u64()));
        Ok(documents)
    }

    /// All documents in the order of the log, once there are as many as that.
    pub(crate) async fn documents(&self, count: usize) -> anyhow::Result<Vec<Value>> {
        until(&format!("{count} documents"), PATIENCE, || async {
            self.read().await.ok().filter(|documents| documents.len() >= count)
        })
        .await
    }
}
