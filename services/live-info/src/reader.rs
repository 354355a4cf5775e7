//! What other services read: the newest entries of broadcasts, and which are live.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use castlog_log::{BroadcastId, Event, Kind};
use redis::{AsyncCommands as _, Pipeline, RedisError, aio::ConnectionManager};

use crate::{
    RedisConfig,
    keys::{self, IDS, LIVE},
};

/// How long Redis may take for one answer: on one machine it takes less than a millisecond.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Between two looks while waiting. LiveInfo applies a change within milliseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(15);

/// The newest event of each kind of a broadcast, with its stream sequence.
pub type Newest = BTreeMap<Kind, (Event, u64)>;

/// LiveInfo cannot be read at the moment.
#[derive(Debug, thiserror::Error)]
#[error("LiveInfo cannot be read")]
pub struct ReadError(#[from] RedisError);

/// LiveInfo, as a reader sees it. Everything here is gone and comes back with
/// Redis; nothing is written. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    redis: ConnectionManager,
}

impl Reader {
    /// Connects when something is read, and again after Redis was gone.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn new(config: &RedisConfig) -> Result<Self, ReadError> {
        Ok(Self {
            redis: keys::connect(config, TIMEOUT)?,
        })
    }

    /// The newest entries of a broadcast; `None` when it is not known.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn get(&self, id: BroadcastId) -> Result<Option<Newest>, ReadError> {
        let fields: BTreeMap<String, String> = self.redis.clone().hgetall(keys::hash(id)).await?;
        Ok((!fields.is_empty()).then(|| newest(id, &fields)))
    }

    /// The broadcasts that are live, those that started last first, at most `limit`.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn live(&self, limit: usize) -> Result<Vec<(BroadcastId, Newest)>, ReadError> {
        let Some(last) = limit.checked_sub(1) else {
            return Ok(Vec::new());
        };
        let last = isize::try_from(last).unwrap_or(isize::MAX);
        let ids: Vec<String> = self.redis.clone().zrevrange(LIVE, 0, last).await?;
        self.read(ids).await
    }

    /// The broadcasts that are known, those with the newest ids first, at most `limit`.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn all(&self, limit: usize) -> Result<Vec<(BroadcastId, Newest)>, ReadError> {
        let mut ids: Vec<String> = self.redis.clone().smembers(IDS).await?;
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids.truncate(limit);
        self.read(ids).await
    }

    /// Waits, at most for `within`, until LiveInfo has applied the entry of `kind`
    /// with this sequence. `false` when it has not, or cannot be asked.
    pub async fn wait_applied(&self, id: BroadcastId, kind: Kind, sequence: u64, within: Duration) -> bool {
        let begun = Instant::now();
        loop {
            let field = keys::sequence_field(kind);
            let applied: Result<Option<u64>, _> = self.redis.clone().hget(keys::hash(id), field).await;
            match applied {
                Ok(applied) if applied.is_some_and(|applied| applied >= sequence) => return true,
                // Redis may come back within the time.
                Ok(_) | Err(_) if begun.elapsed() < within => tokio::time::sleep(LOOK_INTERVAL).await,
                _ => return false,
            }
        }
    }

    async fn read(&self, ids: Vec<String>) -> Result<Vec<(BroadcastId, Newest)>, ReadError> {
        let ids: Vec<BroadcastId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = Pipeline::with_capacity(ids.len());
        for id in &ids {
            pipeline.hgetall(keys::hash(id));
        }
        let found: Vec<BTreeMap<String, String>> = pipeline.query_async(&mut self.redis.clone()).await?;
        Ok(ids
            .into_iter()
            .zip(&found)
            .map(|(id, fields)| (id, newest(id, fields)))
            .collect())
    }
}

/// The entries that the fields of a hash hold. What cannot be read is left out:
/// LiveInfo may have been written by a newer version.
fn newest(id: BroadcastId, fields: &BTreeMap<String, String>) -> Newest {
    let read = |kind: Kind| {
        let event = fields.get(kind.token())?;
        let sequence = fields.get(&keys::sequence_field(kind))?.parse().ok()?;
        match serde_json::from_str(event).and_then(|json| Event::from_json(kind, json)) {
            Ok(event) => Some((kind, (event, sequence))),
            Err(error) => {
                tracing::warn!(broadcast_id = %id, kind = %kind, error = %error, "LiveInfo holds an entry that cannot be read");
                None
            }
        }
    };
    Kind::STATE.into_iter().filter_map(read).collect()
}
