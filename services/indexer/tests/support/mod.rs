//! An indexer with a real log and a real Meilisearch.

// Each test file is a program of its own, and none uses all of this.
#![allow(dead_code)]

use std::time::Duration;

use anyhow::Context as _;
use castlog_indexer::{Config, MeilisearchConfig};
use castlog_log::{
    BroadcastId, ConnectConfig, Draft, Event, Log, Publisher, Secret, SessionId, pb,
    provision::{self, Plan},
};
use castlog_service::{Context, Health, MediaStoreConfig, Shutdown, open_media_store};
use castlog_testkit::{Meilisearch, NatsOptions, NatsServer, until};
use meilisearch_sdk::{client::Client, documents::DocumentsQuery};
use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Stage {
    pub(crate) nats: NatsServer,
    pub(crate) meili: Meilisearch,
    pub(crate) log: Log,
    pub(crate) publisher: Publisher,
    pub(crate) client: Client,
    pub(crate) config: Config,
    media: TempDir,
}

/// A running indexer.
pub(crate) struct Indexer {
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    shutdown: Shutdown,
    pub(crate) health: Health,
}

impl Indexer {
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        self.shutdown.begin();
        tokio::time::timeout(PATIENCE, self.task)
            .await
            .context("the indexer does not end")??
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
        // The sweep runs at the start, and then stays out of the way of what is tested.
        let config = Config {
            meilisearch,
            sweep_s: 3600,
            ..Config::default()
        };
        let publisher = Publisher::new(&log, "test");
        Ok(Self {
            nats,
            meili,
            log,
            publisher,
            client,
            config,
            media: TempDir::new()?,
        })
    }

    pub(crate) fn start(&self) -> anyhow::Result<Indexer> {
        self.start_with(self.config.clone())
    }

    pub(crate) fn start_with(&self, config: Config) -> anyhow::Result<Indexer> {
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
        let task = tokio::spawn(castlog_indexer::run(config, context));
        Ok(Indexer { task, shutdown, health })
    }

    pub(crate) async fn say(&self, id: BroadcastId, event: impl Into<Event>) -> anyhow::Result<()> {
        self.publisher.publish(Draft::new(id, event)).await?;
        Ok(())
    }

    /// A broadcast that is on the air; returns it and its session.
    pub(crate) async fn go_live(&self, name: &str, tags: &[&str]) -> anyhow::Result<(BroadcastId, String)> {
        let (id, session) = (BroadcastId::generate(), SessionId::generate().to_string());
        self.say(id, title(name)).await?;
        self.say(id, self::tags(tags)).await?;
        self.say(id, options(pb::Visibility::Public)).await?;
        self.say(id, created()).await?;
        self.say(id, started(&session)).await?;
        self.say(id, metadata(&session, &[480, 1080, 720])).await?;
        Ok((id, session))
    }

    /// Ids of what a search finds.
    pub(crate) async fn search(&self, words: &str, filter: &str) -> Vec<String> {
        let index = self.client.index(&self.config.index);
        let mut search = index.search();
        search.with_query(words);
        if !filter.is_empty() {
            search.with_filter(filter);
        }
        // Until the index is there nothing is found.
        let Ok(found) = search.execute::<Value>().await else {
            return Vec::new();
        };
        found
            .hits
            .into_iter()
            .map(|hit| hit.result["id"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    pub(crate) async fn found(&self, words: &str, filter: &str, wanted: &[BroadcastId]) -> anyhow::Result<()> {
        let mut wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        wanted.sort();
        until(
            &format!("{words:?} where {filter:?} finds {wanted:?}"),
            PATIENCE,
            || async {
                let mut found = self.search(words, filter).await;
                found.sort();
                (found == wanted).then_some(())
            },
        )
        .await
    }

    /// All documents, sorted by id.
    pub(crate) async fn documents(&self) -> anyhow::Result<Vec<Value>> {
        let index = self.client.index(&self.config.index);
        let mut query = DocumentsQuery::new(&index);
        query.with_limit(1000);
        let mut documents = index.get_documents_with::<Value>(&query).await?.results;
        documents.sort_by_key(|document| document["id"].to_string());
        Ok(documents)
    }

    pub(crate) async fn done(&self, task: meilisearch_sdk::task_info::TaskInfo) -> anyhow::Result<()> {
        let task = task.wait_for_completion(&self.client, None, Some(PATIENCE)).await?;
        anyhow::ensure!(task.is_success(), "{task:?}");
        Ok(())
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

    pub(crate) async fn verified(&self) -> anyhow::Result<()> {
        let differences = castlog_indexer::verify(&self.config, &self.log).await?;
        anyhow::ensure!(differences.is_empty(), "{differences:#?}");
        Ok(())
    }
}

pub(crate) fn created() -> Event {
    let created = pb::registration::Created {
        owner: "ann".into(),
        created_at: None,
    };
    pb::Registration {
        event: Some(pb::registration::Event::Created(created)),
    }
    .into()
}

pub(crate) fn deleted() -> Event {
    let deleted = pb::registration::Deleted {
        owner: "ann".into(),
        ..Default::default()
    };
    pb::Registration {
        event: Some(pb::registration::Event::Deleted(deleted)),
    }
    .into()
}

pub(crate) fn title(text: &str) -> Event {
    pb::Title {
        event: Some(pb::title::Event::Changed(pb::title::Changed { title: text.into() })),
    }
    .into()
}

pub(crate) fn tags(tags: &[&str]) -> Event {
    let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
    pb::Tags {
        event: Some(pb::tags::Event::Changed(pb::tags::Changed { tags })),
    }
    .into()
}

pub(crate) fn options(visibility: pb::Visibility) -> Event {
    let changed = pb::options::Changed {
        category: "game".into(),
        language: "ko".into(),
        visibility: visibility.into(),
        ..Default::default()
    };
    pb::Options {
        event: Some(pb::options::Event::Changed(changed)),
    }
    .into()
}

fn session(id: &str) -> Option<pb::status::Session> {
    let started_at = Some(pb::Timestamp {
        seconds: 1_700_000_000,
        nanos: 0,
    });
    Some(pb::status::Session {
        session_id: id.into(),
        started_at,
        ..Default::default()
    })
}

pub(crate) fn started(id: &str) -> Event {
    pb::Status {
        event: Some(pb::status::Event::Started(pb::status::Started { session: session(id) })),
    }
    .into()
}

pub(crate) fn interrupted(id: &str) -> Event {
    let event = pb::status::Interrupted {
        session: session(id),
        ..Default::default()
    };
    pb::Status {
        event: Some(pb::status::Event::Interrupted(event)),
    }
    .into()
}

pub(crate) fn ended(id: &str) -> Event {
    let event = pb::status::Ended {
        session: session(id),
        ..Default::default()
    };
    pb::Status {
        event: Some(pb::status::Event::Ended(event)),
    }
    .into()
}

pub(crate) fn metadata(session: &str, heights: &[u32]) -> Event {
    let rendition = |height: &u32| pb::Rendition {
        name: format!("{height}p"),
        kind: pb::RenditionKind::Video.into(),
        height: *height,
        ..Default::default()
    };
    let produced = pb::metadata::Produced {
        session_id: session.into(),
        video: Some(pb::metadata::SourceVideo {
            frame_rate_milli: 59_940,
            ..Default::default()
        }),
        renditions: heights.iter().map(rendition).collect(),
        ..Default::default()
    };
    pb::Metadata {
        event: Some(pb::metadata::Event::Produced(produced)),
    }
    .into()
}
