//! An indexer with a real log and a real Meilisearch.

// Each test file is a program of its own, and none uses all of this.
#![allow(dead_code)]

use std::time::Duration;

use castlog_indexer::Config;
use castlog_log::{BroadcastId, Draft, Event, Log, SessionId, pb};
pub(crate) use castlog_testkit::events::title;
use castlog_testkit::{Meilisearch, NatsOptions, Service, TestLog, events, until};
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
        let own = log.nats.log_of("indexer").await?;
        let meili = Meilisearch::start().await?;
        // The sweep runs at the start, and then stays out of the way of what is tested.
        let config = Config {
            meilisearch: castlog_meili::Config::new(&meili.url(), meili.master_key()),
            sweep_s: 3600,
            ..Config::default()
        };
        Ok(Self {
            log,
            own,
            meili,
            config,
        })
    }

    pub(crate) fn start(&self) -> anyhow::Result<Service> {
        self.start_with(self.config.clone())
    }

    pub(crate) fn start_with(&self, config: Config) -> anyhow::Result<Service> {
        Service::start(&self.own, |context| castlog_indexer::run(config, context))
    }

    /// Another instance, with a connection of its own.
    pub(crate) async fn start_another(&self, config: Config) -> anyhow::Result<Service> {
        let log = self.log.nats.log_of("indexer").await?;
        Service::start(&log, |context| castlog_indexer::run(config, context))
    }

    pub(crate) async fn say(&self, id: BroadcastId, event: impl Into<Event>) -> anyhow::Result<()> {
        self.log.publisher.publish(Draft::new(id, event)).await?;
        Ok(())
    }

    /// A broadcast that is on the air; returns it and its session.
    pub(crate) async fn go_live(&self, name: &str, tags: &[&str]) -> anyhow::Result<(BroadcastId, String)> {
        let (id, session) = (BroadcastId::generate(), SessionId::generate().to_string());
        self.say(id, title(name)).await?;
        self.say(id, events::tags(tags)).await?;
        self.say(id, options(pb::Visibility::Public)).await?;
        self.say(id, events::created("ann")).await?;
        self.say(id, started(&session)).await?;
        self.say(id, metadata(&session, &[480, 1080, 720])).await?;
        Ok((id, session))
    }

    /// Ids of what a search finds, sorted; nothing until the index is there.
    async fn search(&self, words: &str, filter: &str) -> Vec<String> {
        let found = self.meili.search(&self.config.index, words, filter).await;
        let id = |document: Value| document["id"].as_str().unwrap_or_default().to_owned();
        let mut ids: Vec<String> = found.unwrap_or_default().into_iter().map(id).collect();
        ids.sort();
        ids
    }

    pub(crate) async fn found(&self, words: &str, filter: &str, wanted: &[BroadcastId]) -> anyhow::Result<()> {
        let mut wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
        wanted.sort();
        until(
            &format!("{words:?} where {filter:?} finds {wanted:?}"),
            PATIENCE,
            || async { (self.search(words, filter).await == wanted).then_some(()) },
        )
        .await
    }

    /// All documents, sorted by id.
    pub(crate) async fn documents(&self) -> anyhow::Result<Vec<Value>> {
        self.meili.documents(&self.config.index).await
    }

    /// The index is of these broadcasts, most viewers first, with so many each.
    pub(crate) async fn watched(&self, wanted: &[(BroadcastId, u64)]) -> anyhow::Result<()> {
        let wanted: Vec<(String, Option<u64>)> = wanted.iter().map(|(id, n)| (id.to_string(), Some(*n))).collect();
        until(&format!("so many watch: {wanted:?}"), PATIENCE, || async {
            let mut documents = self.documents().await.ok()?;
            documents.sort_by_key(|document| std::cmp::Reverse(document["viewers"].as_u64()));
            let seen = |document: &Value| Some((document["id"].as_str()?.to_owned(), document["viewers"].as_u64()));
            (documents.iter().filter_map(seen).collect::<Vec<_>>() == wanted).then_some(())
        })
        .await
    }

    pub(crate) async fn verified(&self) -> anyhow::Result<()> {
        let differences = castlog_indexer::verify(&self.config, &self.log.log).await?;
        anyhow::ensure!(differences.is_empty(), "{differences:#?}");
        Ok(())
    }
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
