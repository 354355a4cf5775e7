//! A log sink with a real log and a real Meilisearch.

use std::time::Duration;

use anyhow::Context as _;
use castlog_log::{
    ConnectConfig, Event, Log, Publisher, Secret, pb,
    provision::{self, Plan},
};
use castlog_log_sink::{Config, MeilisearchConfig};
use castlog_service::{Context, Health, MediaStoreConfig, Shutdown, open_media_store};
use castlog_testkit::{Meilisearch, NatsOptions, NatsServer, until};
use meilisearch_sdk::{client::Client, documents::DocumentsQuery};
use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    _nats: NatsServer,
    pub(crate) meili: Meilisearch,
    pub(crate) log: Log,
    pub(crate) publisher: Publisher,
    pub(crate) client: Client,
    pub(crate) config: Config,
    media: TempDir,
}

/// A running log sink.
pub(crate) struct Sink {
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    shutdown: Shutdown,
    pub(crate) health: Health,
}

impl Sink {
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        self.shutdown.begin();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .context("the log sink does not end")??
    }
}

impl Stage {
    pub(crate) async fn build() -> anyhow::Result<Self> {
        let nats = NatsServer::start_with(NatsOptions::default().lazy_sync()).await?;
        let meili = Meilisearch::start().await?;
        let log = Log::connect(
            &ConnectConfig {
                url: nats.url(),
                ..Default::default()
            },
            "test",
        )
        .await?;
        provision::apply(&log, Plan::default()).await?;
        let key = meili.master_key().to_owned();
        let client = Client::new(meili.url(), Some(&key))?;
        let meilisearch = MeilisearchConfig {
            url: meili.url(),
            key: Secret::new(key),
        };
        let config = Config {
            meilisearch,
            ..Config::default()
        };
        let publisher = Publisher::new(&log, "test");
        Ok(Self {
            _nats: nats,
            meili,
            log,
            publisher,
            client,
            config,
            media: TempDir::new()?,
        })
    }

    pub(crate) fn start(&self, config: Config) -> anyhow::Result<Sink> {
        let media = open_media_store(&MediaStoreConfig {
            path: self.media.path().to_owned(),
        })?;
        let (shutdown, health) = (Shutdown::new(), Health::default());
        let context = Context {
            log: self.log.clone(),
            media,
            shutdown: shutdown.clone(),
            health: health.clone(),
        };
        let task = tokio::spawn(castlog_log_sink::run(config, context));
        Ok(Sink { task, shutdown, health })
    }

    /// Names of all indexes, sorted.
    pub(crate) async fn indexes(&self) -> anyhow::Result<Vec<String>> {
        let mut names: Vec<String> = self
            .client
            .list_all_indexes()
            .await?
            .results
            .into_iter()
            .map(|index| index.uid)
            .collect();
        names.sort();
        Ok(names)
    }

    async fn read(&self) -> anyhow::Result<Vec<Value>> {
        let mut documents = Vec::new();
        for name in self.indexes().await? {
            let index = self.client.index(name);
            let mut query = DocumentsQuery::new(&index);
            query.with_limit(10_000);
            documents.extend(index.get_documents_with::<Value>(&query).await?.results);
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

    /// What a search finds.
    pub(crate) async fn search(&self, index: &str, words: &str, filter: &str) -> anyhow::Result<Vec<Value>> {
        let index = self.client.index(index);
        let mut search = index.search();
        search.with_query(words);
        if !filter.is_empty() {
            search.with_filter(filter);
        }
        Ok(search
            .execute::<Value>()
            .await?
            .hits
            .into_iter()
            .map(|hit| hit.result)
            .collect())
    }

    pub(crate) async fn dead_letters(&self) -> anyhow::Result<u64> {
        Ok(self
            .log
            .jetstream()
            .get_stream("DEAD_LETTER")
            .await?
            .cached_info()
            .state
            .messages)
    }
}

pub(crate) fn title(text: &str) -> Event {
    pb::Title {
        event: Some(pb::title::Event::Changed(pb::title::Changed { title: text.into() })),
    }
    .into()
}

/// One event of each kind.
pub(crate) fn every_kind() -> Vec<Event> {
    use pb::{auth, health, metadata, options, publish_key, registration, segment, status, tags, viewers};
    vec![
        title("롤 랭크"),
        pb::Registration {
            event: Some(registration::Event::Created(registration::Created::default())),
        }
        .into(),
        pb::PublishKey {
            event: Some(publish_key::Event::Revoked(publish_key::Revoked {})),
        }
        .into(),
        pb::Tags {
            event: Some(tags::Event::Changed(tags::Changed {
                tags: vec!["lol".into()],
            })),
        }
        .into(),
        pb::Options {
            event: Some(options::Event::Changed(options::Changed::default())),
        }
        .into(),
        pb::Auth {
            event: Some(auth::Event::Accepted(auth::Accepted::default())),
        }
        .into(),
        pb::Status {
            event: Some(status::Event::Started(status::Started::default())),
        }
        .into(),
        pb::Metadata {
            event: Some(metadata::Event::Produced(metadata::Produced::default())),
        }
        .into(),
        pb::Segment {
            event: Some(segment::Event::Stored(segment::Stored::default())),
        }
        .into(),
        pb::Health {
            event: Some(health::Event::Sampled(health::Sampled::default())),
        }
        .into(),
        pb::Viewers {
            event: Some(viewers::Event::Counted(viewers::Counted::default())),
        }
        .into(),
    ]
}
