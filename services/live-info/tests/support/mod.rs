//! A real nats-server and a real Redis, and what tests put into them.

// Each test file is a program of its own, and none uses all of this.
#![allow(dead_code)]

use std::time::Duration;

use castlog_live_info::{Config, RedisConfig};
use castlog_log::{BroadcastId, Draft, Entry, Followed, From, Log, Publisher, Secret, SessionId, pb};
use castlog_testkit::{NatsOptions, NatsServer, RedisServer, TestLog, redis_connection};

pub(crate) const WITHIN: Duration = Duration::from_secs(20);

pub(crate) struct World {
    _nats: NatsServer,
    pub(crate) redis: RedisServer,
    pub(crate) log: Log,
    /// The log as LiveInfo sees it.
    pub(crate) own: Log,
    pub(crate) publisher: Publisher,
}

impl World {
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let TestLog { nats, log, publisher } = TestLog::start(NatsOptions::default()).await?;
        let own = nats.log_of("live-info").await?;
        let redis = RedisServer::start().await?;
        Ok(Self {
            _nats: nats,
            redis,
            log,
            own,
            publisher,
        })
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            redis: RedisConfig {
                url: Secret::new(self.redis.url()),
            },
            ..Default::default()
        }
    }

    pub(crate) async fn title(&self, id: BroadcastId, title: &str) -> anyhow::Result<()> {
        let changed = pb::title::Changed {
            title: title.to_owned(),
        };
        self.publisher
            .publish(Draft::new(
                id,
                pb::Title {
                    event: Some(pb::title::Event::Changed(changed)),
                },
            ))
            .await?;
        Ok(())
    }

    pub(crate) async fn status(&self, id: BroadcastId, event: pb::status::Event) -> anyhow::Result<()> {
        self.publisher
            .publish(Draft::new(id, pb::Status { event: Some(event) }))
            .await?;
        Ok(())
    }

    /// Two broadcasts: one went live and ended, one is live; titles change in between.
    pub(crate) async fn play(&self) -> anyhow::Result<[BroadcastId; 2]> {
        let ids = [BroadcastId::generate(), BroadcastId::generate()];
        for id in ids {
            self.title(id, "first").await?;
            let session = Some(pb::status::Session {
                session_id: SessionId::generate().to_string(),
                started_at: Some(pb::Timestamp {
                    seconds: 1_800_000_000,
                    nanos: 0,
                }),
                server: "rtmp-1".to_owned(),
                ingest_url: "http://127.0.0.1:8082/flv/x".to_owned(),
            });
            self.status(
                id,
                pb::status::Event::Started(pb::status::Started {
                    session: session.clone(),
                }),
            )
            .await?;
            self.title(id, "둘째 제목").await?;
            if id == ids[0] {
                let ended = pb::status::Ended {
                    session,
                    ended_at: None,
                    reason: "encoder stopped".to_owned(),
                };
                self.status(id, pb::status::Event::Ended(ended)).await?;
            }
        }
        Ok(ids)
    }

    pub(crate) async fn entries(&self) -> anyhow::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for stream in ["BROAD_INFO", "LIVE_STREAM"] {
            let mut reader = self.log.follow(stream, &["media.>"], From::Beginning);
            while let Followed::Entry(entry) = reader.next().await? {
                entries.push(*entry);
            }
        }
        Ok(entries)
    }
}

pub(crate) async fn flush(url: &str) -> anyhow::Result<()> {
    let mut redis = redis_connection(url).await?;
    Ok(redis::cmd("FLUSHALL").query_async(&mut redis).await?)
}
