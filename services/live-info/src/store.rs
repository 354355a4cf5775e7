//! The state in Redis.

use std::time::Duration;

use anyhow::Context as _;
use redis::{AsyncCommands as _, Pipeline, Script, aio::ConnectionManager};
use serde_json::{Value, json};

use crate::{
    RedisConfig,
    keys::{self, IDS, LIVE},
    state::{Live, Write},
};

/// Sets the newest event of a (broadcast, kind), unless a newer one is there.
/// One script, so that a crash leaves all of a write or nothing.
///
/// KEYS: hash, ids, live. ARGV: id, live (`-` unsaid, empty not live, else
/// the score), sequence and its field, JSON and its field, time and its field.
///
/// Sequences stay below 2^53, which Lua's numbers hold exactly.
const APPLY: &str = r"
local stored = redis.call('HGET', KEYS[1], ARGV[4])
if stored and tonumber(stored) >= tonumber(ARGV[3]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[4], ARGV[3], ARGV[6], ARGV[5], ARGV[8], ARGV[7])
redis.call('SADD', KEYS[2], ARGV[1])
if ARGV[2] == '' then redis.call('ZREM', KEYS[3], ARGV[1])
elseif ARGV[2] ~= '-' then redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1]) end
return 1
";

/// How long Redis may take for one answer before the batch is applied again.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The state of all broadcasts in Redis.
#[derive(Clone)]
pub struct Store {
    redis: ConnectionManager,
    apply: Script,
}

impl Store {
    /// A store that connects with its first command, and again after Redis was gone.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn new(config: &RedisConfig) -> anyhow::Result<Self> {
        Ok(Self {
            redis: keys::connect(config, TIMEOUT).context("live_info.redis.url cannot be used")?,
            apply: Script::new(APPLY),
        })
    }

    /// Applies writes in one round trip.
    pub(crate) async fn apply(&self, writes: &[Write]) -> anyhow::Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let mut redis = self.redis.clone();
        // The script is loaded with every batch: Redis may have been restarted.
        let mut pipeline = Pipeline::with_capacity(writes.len() + 1);
        pipeline.cmd("SCRIPT").arg("LOAD").arg(APPLY).ignore();
        for write in writes {
            let id = write.broadcast.to_string();
            let live = match write.live {
                Live::Unsaid => "-".to_owned(),
                Live::No => String::new(),
                Live::Since(millis) => millis.to_string(),
            };
            let mut call = self.apply.key(keys::hash(&id));
            call.key(IDS).key(LIVE).arg(&id).arg(live);
            call.arg(write.sequence).arg(keys::sequence_field(write.kind));
            call.arg(&write.json).arg(write.kind.token());
            call.arg(&write.time).arg(keys::time_field(write.kind));
            pipeline.invoke_script(&call).ignore();
        }
        pipeline
            .query_async::<()>(&mut redis)
            .await
            .context("Redis did not take the state")
    }

    /// The whole view: `broadcasts` by id, each with its fields, and `live` with start times.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn snapshot(&self) -> anyhow::Result<Value> {
        let mut redis = self.redis.clone();
        let ids: Vec<String> = redis.smembers(IDS).await.context("cannot read from Redis")?;
        let mut broadcasts = serde_json::Map::new();
        for id in ids {
            let fields: std::collections::BTreeMap<String, String> =
                redis.hgetall(keys::hash(&id)).await.context("cannot read from Redis")?;
            broadcasts.insert(id, json!(fields));
        }
        let live: Vec<(String, f64)> = redis
            .zrange_withscores(LIVE, 0, -1)
            .await
            .context("cannot read from Redis")?;
        // Start times are whole milliseconds, which a double holds exactly.
        #[allow(clippy::cast_possible_truncation)]
        let live: serde_json::Map<String, Value> =
            live.into_iter().map(|(id, score)| (id, json!(score as i64))).collect();
        Ok(json!({ "broadcasts": broadcasts, "live": live }))
    }
}
