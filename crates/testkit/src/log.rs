//! A log with castlog's streams, and a service that runs on it in the test's own process.

use std::{future::Future, time::Duration};

use anyhow::Context as _;
use async_nats::HeaderMap;
use castlog_log::{
    ConnectConfig, EntryId, Followed, From, Log, Publisher, Subject,
    change::Change,
    dead_letter, header,
    provision::{self, Plan},
};
use castlog_service::{Context, Health, MediaStoreConfig, Shutdown, open_media_store};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{NatsOptions, NatsServer, server};

/// How long a service may take to end: longer than any grace that one gives its work.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// A nats-server with the streams and consumers of castlog.
#[derive(Debug)]
pub struct TestLog {
    /// The server.
    pub nats: NatsServer,
    /// A connection to it that may do everything; services have their own, see
    /// [`NatsServer::log_of`].
    pub log: Log,
    /// A publisher that waits for its acknowledgements.
    pub publisher: Publisher,
}

impl TestLog {
    /// Starts a server and applies the streams.
    ///
    /// # Errors
    /// The server does not come up, or does not take the streams.
    pub async fn start(options: NatsOptions) -> anyhow::Result<Self> {
        let nats = NatsServer::start_with(options).await?;
        let config = ConnectConfig {
            url: nats.url(),
            ..ConnectConfig::default()
        };
        let log = Log::connect(&config, "test").await?;
        provision::apply(&log, Plan::default()).await?;
        let publisher = Publisher::new(&log, "test");
        Ok(Self { nats, log, publisher })
    }

    /// Publishes what no reader can decode.
    ///
    /// # Errors
    /// The server does not take it.
    pub async fn publish_garbage(&self, subject: Subject) -> anyhow::Result<()> {
        let published = self.log.jetstream().publish(subject.to_string(), "garbage".into());
        published.await?.await?;
        Ok(())
    }

    /// Publishes an entry with this payload, as a producer with another schema would.
    ///
    /// # Errors
    /// The server does not take it.
    pub async fn publish_payload(&self, subject: Subject, payload: &[u8]) -> anyhow::Result<u64> {
        let id = EntryId::generate().to_string();
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, id.as_str());
        headers.insert(header::SPEC_VERSION, "1.0");
        headers.insert(header::ID, id.as_str());
        headers.insert(
            header::TYPE,
            format!("castlog.{}.{}.newer", subject.kind.class(), subject.kind).as_str(),
        );
        headers.insert(header::SOURCE, "castlog/newer");
        headers.insert(header::TIME, "2026-01-31T12:00:00Z");
        let published =
            self.log
                .jetstream()
                .publish_with_headers(subject.to_string(), headers, payload.to_vec().into());
        Ok(published.await?.await?.sequence)
    }

    /// Sets keys of the configuration of a stream.
    ///
    /// # Errors
    /// The server does not take them.
    pub async fn change_stream(&self, stream: &str, keys: &Value) -> anyhow::Result<()> {
        let mut config = config(&self.log, &format!("STREAM.INFO.{stream}")).await?;
        merge(&mut config, keys);
        request(&self.log, &format!("STREAM.UPDATE.{stream}"), &config).await?;
        Ok(())
    }

    /// Sets keys of the configuration of a durable consumer.
    ///
    /// # Errors
    /// The server does not take them.
    pub async fn change_consumer(&self, stream: &str, consumer: &str, keys: &Value) -> anyhow::Result<()> {
        change_consumer(&self.log, stream, consumer, keys).await
    }

    /// How many dead letters there are.
    ///
    /// # Errors
    /// The server does not answer.
    pub async fn dead_letters(&self) -> anyhow::Result<u64> {
        let stream = self.log.jetstream().get_stream(dead_letter::STREAM).await?;
        Ok(stream.cached_info().state.messages)
    }

    /// Makes a durable consumer anew, so that it delivers everything again.
    ///
    /// # Errors
    /// The server does not answer, or there is no such consumer.
    pub async fn redeliver(&self, stream: &str, consumer: &str) -> anyhow::Result<()> {
        self.log
            .jetstream()
            .get_stream(stream)
            .await?
            .delete_consumer(consumer)
            .await?;
        provision::apply(&self.log, Plan::default()).await?;
        Ok(())
    }
}

/// Sets keys of the configuration of a durable consumer.
///
/// # Errors
/// The server does not take them.
pub async fn change_consumer(log: &Log, stream: &str, consumer: &str, keys: &Value) -> anyhow::Result<()> {
    let mut config = config(log, &format!("CONSUMER.INFO.{stream}.{consumer}")).await?;
    merge(&mut config, keys);
    let change = json!({ "stream_name": stream, "config": config, "action": "update" });
    request(log, &format!("CONSUMER.CREATE.{stream}.{consumer}"), &change).await?;
    Ok(())
}

async fn config(log: &Log, of: &str) -> anyhow::Result<Value> {
    Ok(request(log, of, &json!({})).await?["config"].take())
}

async fn request(log: &Log, subject: &str, body: &Value) -> anyhow::Result<Value> {
    let answer: Value = log.jetstream().request(subject.to_owned(), body).await?;
    anyhow::ensure!(answer["error"].is_null(), "{subject}: {}", answer["error"]);
    Ok(answer)
}

/// Every change of the feed, the oldest first.
///
/// # Errors
/// The feed cannot be read, or holds what is no change.
pub async fn changes(log: &Log) -> anyhow::Result<Vec<Change>> {
    let mut reader = log.follow_changes(From::Beginning);
    let mut changes = Vec::new();
    loop {
        match reader.next().await? {
            Followed::Entry(change) => changes.push(*change),
            Followed::Undecodable(other) => anyhow::bail!("{other:?}"),
            Followed::CaughtUp => return Ok(changes),
        }
    }
}

fn merge(config: &mut Value, keys: &Value) {
    for (key, value) in keys.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
}

/// A service in the test's own process.
#[derive(Debug)]
pub struct Service {
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
    shutdown: Shutdown,
    /// What it says of its readiness.
    pub health: Health,
    // Held for its files.
    _media: TempDir,
}

impl Service {
    /// Starts a service, which is its `run` with a configuration, with an empty media store.
    ///
    /// # Errors
    /// There is no place for the media store.
    pub fn start<F>(log: &Log, run: impl FnOnce(Context) -> F) -> anyhow::Result<Self>
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let media = server::folder("media")?;
        let context = Context {
            log: log.clone(),
            media: open_media_store(&MediaStoreConfig::folder(media.path()))?,
            shutdown: Shutdown::new(),
            health: Health::default(),
        };
        Ok(Self {
            shutdown: context.shutdown.clone(),
            health: context.health.clone(),
            task: tokio::spawn(run(context)),
            _media: media,
        })
    }

    /// As kill -9 would: nothing is finished, nothing is answered.
    pub async fn kill(self) {
        self.task.abort();
        // That it was cut off, or had failed before.
        self.task.await.ok();
    }

    /// Begins its shutdown and waits until it has ended.
    ///
    /// # Errors
    /// It failed, or does not end.
    pub async fn finish(self) -> anyhow::Result<()> {
        self.shutdown.begin();
        tokio::time::timeout(END_TIMEOUT, self.task)
            .await
            .context("the service does not end")??
    }
}
