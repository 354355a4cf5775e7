//! Reads LiveInfo's state of broadcasts in Redis. Everything here is gone and
//! comes back with Redis; nothing is written.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use castlog_log::{BroadcastId, Event, Kind};
use redis::{
    AsyncCommands as _, Client, FromRedisValue, Pipeline, RedisError, RedisFuture,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use crate::{
    command::SHOWN,
    config::RedisConfig,
    model::Newest,
    problem::{Code, Problem},
};

/// How long Redis may take for one answer: on one machine it takes less than a millisecond.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How long a caller that waits for a change is kept.
const WAIT: Duration = Duration::from_secs(5);
/// Between two looks while waiting. LiveInfo applies a change within milliseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(15);
/// Most broadcasts that one list looks at: bounds the answer of Redis.
const MAX_READ: usize = 1000;

/// The members of this sorted set are live; the score is when they started.
const LIVE: &str = "castlog:live_info:live";
/// The members of this set are known.
const IDS: &str = "castlog:live_info:ids";

/// The hash that holds a broadcast.
fn key(id: BroadcastId) -> String {
    format!("castlog:live_info:{id}")
}

/// The field that holds the sequence of the newest entry of a kind.
fn sequence_field(kind: Kind) -> String {
    format!("{kind}.seq")
}

/// LiveInfo, as a reader sees it.
#[derive(Clone)]
pub(crate) struct Info {
    redis: ConnectionManager,
}

impl Info {
    /// Connects when something is read, and again after Redis was gone.
    pub(crate) fn new(config: &RedisConfig) -> anyhow::Result<Self> {
        let client = Client::open(config.url.expose().as_str()).context("live_api.redis.url cannot be used")?;
        let settings = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT))
            .set_number_of_retries(1);
        let redis = ConnectionManager::new_lazy_with_config(client, settings).context("cannot read from Redis")?;
        Ok(Self { redis })
    }

    /// The newest entries of a broadcast; `None` when it is not known.
    pub(crate) async fn get(&self, id: BroadcastId) -> Result<Option<Newest>, Problem> {
        let fields: Vec<(String, String)> = ask(self.redis.clone().hgetall(key(id))).await?;
        Ok((!fields.is_empty()).then(|| newest(id, fields)))
    }

    /// The broadcasts that are live, those that started last first.
    pub(crate) async fn live(&self) -> Result<Vec<(BroadcastId, Newest)>, Problem> {
        let last = isize::try_from(MAX_READ).unwrap_or(isize::MAX) - 1;
        let ids: Vec<String> = ask(self.redis.clone().zrevrange(LIVE, 0, last)).await?;
        self.read(ids).await
    }

    /// The broadcasts that are known; of many, those with the newest ids.
    pub(crate) async fn all(&self) -> Result<Vec<(BroadcastId, Newest)>, Problem> {
        let mut ids: Vec<String> = ask(self.redis.clone().smembers(IDS)).await?;
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.truncate(MAX_READ);
        self.read(ids).await
    }

    async fn read(&self, ids: Vec<String>) -> Result<Vec<(BroadcastId, Newest)>, Problem> {
        let ids: Vec<BroadcastId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(ids.len());
        for id in &ids {
            pipeline.hgetall(key(*id));
        }
        let mut redis = self.redis.clone();
        let found: Vec<Vec<(String, String)>> = answered(pipeline.query_async(&mut redis).await)?;
        Ok(ids
            .into_iter()
            .zip(found)
            .map(|(id, fields)| (id, newest(id, fields)))
            .collect())
    }

    /// Waits, for a few seconds at most, until LiveInfo has applied the entry of
    /// `kind` with this sequence. `false` when it has not, or cannot be asked.
    pub(crate) async fn wait_applied(&self, id: BroadcastId, kind: Kind, sequence: u64) -> bool {
        let begun = Instant::now();
        loop {
            let applied: Result<Option<u64>, _> = ask(self.redis.clone().hget(key(id), sequence_field(kind))).await;
            match applied {
                Ok(applied) if applied.is_some_and(|applied| applied >= sequence) => return true,
                // Redis may come back within the time.
                Ok(_) | Err(_) if begun.elapsed() < WAIT => tokio::time::sleep(LOOK_INTERVAL).await,
                _ => return false,
            }
        }
    }
}

async fn ask<T: FromRedisValue>(answer: RedisFuture<'_, T>) -> Result<T, Problem> {
    answered(answer.await)
}

fn answered<T>(answer: Result<T, RedisError>) -> Result<T, Problem> {
    answer.map_err(|error| {
        tracing::warn!(error = %error, "LiveInfo cannot be read");
        Problem::new(
            Code::InfoUnavailable,
            "the state of broadcasts cannot be read at this moment; commands still work",
        )
    })
}

/// The entries that the fields of a hash hold. What cannot be read is left out:
/// LiveInfo may have been written by a newer version.
fn newest(id: BroadcastId, fields: Vec<(String, String)>) -> Newest {
    let find = |name: &str| {
        fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, value)| value.as_str())
    };
    let read = |kind: Kind| {
        let event = find(kind.token())?;
        let sequence = find(&sequence_field(kind))?.parse().ok()?;
        match serde_json::from_str(event).and_then(|json| Event::from_json(kind, json)) {
            Ok(event) => Some((kind, (event, sequence))),
            Err(error) => {
                tracing::warn!(broadcast_id = %id, kind = %kind, error = %error, "LiveInfo holds an entry that cannot be read");
                None
            }
        }
    };
    SHOWN.into_iter().filter_map(read).collect()
}
