//! A Live API with a real log, a real Redis that LiveInfo fills and, where a test
//! wants it, a real Meilisearch, and a caller over HTTP.

// Each test file is a program of its own, and none uses all of this.
#![allow(dead_code)]

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use castlog_live_api::{Config, Running};
use castlog_live_info::RedisConfig;
use castlog_log::{BroadcastId, Draft, Event, Kind, Log, Publisher, Secret, pb};
use castlog_service::{Context, Health, MediaStoreConfig, Shutdown, open_media_store};
use castlog_testkit::{NatsOptions, NatsServer, RedisServer, Service, TestLog};
use chrono::Utc;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

/// Long enough for a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const TOKEN: &str = "test-token-0123456789";

pub(crate) struct Stage {
    pub(crate) nats: NatsServer,
    pub(crate) redis: RedisServer,
    pub(crate) log: Log,
    pub(crate) base: String,
    client: reqwest::Client,
    running: Running,
    shutdown: Shutdown,
    live_info: Service,
    _media: TempDir,
}

impl Stage {
    pub(crate) async fn build() -> anyhow::Result<Self> {
        Self::build_with(Config::default()).await
    }

    /// A service that has no admin token.
    pub(crate) async fn build_tokenless() -> anyhow::Result<Self> {
        Self::start(
            TestLog::start(NatsOptions::default()).await?,
            Config::default(),
            Secret::default(),
        )
        .await
    }

    /// A service on a log that was prepared by the test.
    pub(crate) async fn build_on(log: TestLog) -> anyhow::Result<Self> {
        Self::start(log, Config::default(), Secret::new(TOKEN.to_owned())).await
    }

    /// Starts everything; addresses and token are set here.
    pub(crate) async fn build_with(config: Config) -> anyhow::Result<Self> {
        let log = TestLog::start(NatsOptions::default()).await?;
        Self::start(log, config, Secret::new(TOKEN.to_owned())).await
    }

    async fn start(log: TestLog, config: Config, admin_token: Secret<String>) -> anyhow::Result<Self> {
        let TestLog { nats, log, .. } = log;
        let redis = RedisServer::start().await?;
        let media = TempDir::new()?;
        let store = open_media_store(&MediaStoreConfig::folder(media.path()))?;
        let shutdown = Shutdown::new();
        let context = Context {
            log: nats.log_of("live-api").await?,
            media: Arc::clone(&store),
            shutdown: shutdown.clone(),
            health: Health::default(),
        };
        let config = Config {
            listen: "127.0.0.1:0".to_owned(),
            admin_token,
            redis: RedisConfig::new(redis.url()),
            ..config
        };
        let view = castlog_live_info::Config {
            redis: config.redis.clone(),
            ..Default::default()
        };
        let live_info = Service::start(&nats.log_of("live-info").await?, |context| {
            castlog_live_info::run(view, context)
        })?;
        let running = castlog_live_api::start(config, context).await?;
        let base = format!("http://{}", running.address());
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        Ok(Self {
            nats,
            redis,
            log,
            base,
            client,
            running,
            shutdown,
            live_info,
            _media: media,
        })
    }

    /// Ends the service and shows that it ends in order.
    pub(crate) async fn finish(self) -> anyhow::Result<()> {
        self.shutdown.begin();
        self.live_info.finish().await?;
        tokio::time::timeout(PATIENCE, self.running.wait())
            .await
            .context("the service does not end")?
    }

    pub(crate) fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub(crate) fn admin(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).bearer_auth(TOKEN)
    }

    /// Creates a broadcast that LiveInfo knows; returns id, key and the whole answer.
    pub(crate) async fn create(&self, body: Value) -> anyhow::Result<(String, String, Value)> {
        let response = self
            .admin(Method::POST, "/v1/broadcasts?wait=applied")
            .json(&body)
            .send()
            .await?;
        let answer = expect(response, StatusCode::CREATED).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("no text");
        Ok((text(&answer["broadcast"]["id"])?, text(&answer["publish_key"])?, answer))
    }

    pub(crate) async fn publish(&self, id: &str, event: impl Into<Event>) -> anyhow::Result<u64> {
        let publisher = Publisher::new(&self.log, "test");
        Ok(publisher.publish(Draft::new(id.parse()?, event)).await?.sequence)
    }

    /// Puts a broadcast on air, as the RTMP server would.
    pub(crate) async fn go_live(&self, id: &str) -> anyhow::Result<u64> {
        let session = pb::status::Session {
            session_id: castlog_log::SessionId::generate().to_string(),
            started_at: Some(now()),
            ..Default::default()
        };
        let started = pb::status::Started { session: Some(session) };
        self.publish(
            id,
            pb::Status {
                event: Some(pb::status::Event::Started(started)),
            },
        )
        .await
    }

    pub(crate) async fn last(&self, id: &str, kind: Kind) -> anyhow::Result<Option<castlog_log::Entry>> {
        Ok(self.log.last(kind, id.parse::<BroadcastId>()?).await?)
    }
}

pub(crate) fn now() -> pb::Timestamp {
    Utc::now().into()
}

/// The JSON of an answer with the expected status.
pub(crate) async fn expect(response: Response, status: StatusCode) -> anyhow::Result<Value> {
    let actual = response.status();
    let text = response.text().await?;
    anyhow::ensure!(actual == status, "status {actual} instead of {status}: {text}");
    Ok(serde_json::from_str(&text)?)
}

/// The detail of a problem with the expected status and code.
pub(crate) async fn problem(response: Response, status: u16, code: &str) -> anyhow::Result<String> {
    anyhow::ensure!(
        response.headers()["content-type"] == "application/problem+json",
        "{response:?}"
    );
    let body = expect(response, StatusCode::from_u16(status)?).await?;
    anyhow::ensure!(body["code"] == code && body["status"] == status, "{body}");
    anyhow::ensure!(
        body["type"] == format!("/docs#{code}") && body["title"].is_string(),
        "{body}"
    );
    Ok(body["detail"].as_str().unwrap_or_default().to_owned())
}
