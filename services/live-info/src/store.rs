//! The state in Redis.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use castlog_log::{BroadcastId, Kind};
use redis::{AsyncCommands as _, Pipeline, Script, aio::ConnectionManager};
use serde_json::{Value, json};

use crate::{
    RedisConfig,
    keys::{self, IDS, LIVE, OUTBOX},
    state::{Live, Write},
};

/// Sets the newest event of a (broadcast, kind), unless a newer one is there, and
/// puts the commit into the outbox of the change feed with what was there before.
/// One script, so that a crash leaves all of a write or nothing.
///
/// KEYS: hash, ids, live, outbox. ARGV: id, live (`-` unsaid, empty not live, else
/// the score), sequence and its field, JSON and its field, time and its field,
/// payload, trace context or empty, and the fields of the sequences of all kinds.
///
/// Sequences stay below 2^53, which Lua's numbers hold exactly.
const APPLY: &str = r"
local stored = redis.call('HGET', KEYS[1], ARGV[4])
if stored and tonumber(stored) >= tonumber(ARGV[3]) then return 0 end
local commit = {'broadcast', ARGV[1], 'kind', ARGV[6], 'sequence', ARGV[3], 'time', ARGV[7], 'payload', ARGV[9]}
if ARGV[10] ~= '' then
  commit[#commit + 1] = 'traceparent'
  commit[#commit + 1] = ARGV[10]
end
local before = redis.call('HMGET', KEYS[1], unpack(ARGV, 11))
for at, sequence in ipairs(before) do
  if sequence then
    commit[#commit + 1] = ARGV[10 + at]
    commit[#commit + 1] = sequence
  end
end
redis.call('XADD', KEYS[4], '*', unpack(commit))
redis.call('HSET', KEYS[1], ARGV[4], ARGV[3], ARGV[6], ARGV[5], ARGV[8], ARGV[7])
redis.call('SADD', KEYS[2], ARGV[1])
if ARGV[2] == '' then redis.call('ZREM', KEYS[3], ARGV[1])
elseif ARGV[2] ~= '-' then redis.call('ZADD', KEYS[3], ARGV[2], ARGV[1]) end
return 1
";

/// How long Redis may take for one answer before the batch is applied again.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(5);

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

    /// Applies writes in one round trip; returns how many commits wait in the outbox.
    pub(crate) async fn apply(&self, writes: &[Write]) -> anyhow::Result<usize> {
        if writes.is_empty() {
            return self.waiting().await;
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
            call.key(IDS).key(LIVE).key(OUTBOX).arg(&id).arg(live);
            call.arg(write.sequence).arg(keys::sequence_field(write.kind));
            call.arg(&write.json).arg(write.kind.token());
            call.arg(&write.time).arg(keys::time_field(write.kind));
            call.arg(&write.payload);
            call.arg(write.traceparent.as_deref().unwrap_or_default());
            for kind in Kind::STATE {
                call.arg(keys::sequence_field(kind));
            }
            pipeline.invoke_script(&call).ignore();
        }
        pipeline.xlen(OUTBOX);
        let (waiting,) = pipeline
            .query_async(&mut redis)
            .await
            .context("Redis did not take the state")?;
        Ok(waiting)
    }

    /// How many commits wait in the outbox.
    pub(crate) async fn waiting(&self) -> anyhow::Result<usize> {
        self.redis.clone().xlen(OUTBOX).await.context("cannot read from Redis")
    }

    /// The broadcasts of the view.
    pub(crate) async fn ids(&self) -> anyhow::Result<Vec<BroadcastId>> {
        let ids: Vec<String> = self
            .redis
            .clone()
            .smembers(IDS)
            .await
            .context("cannot read from Redis")?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// How many broadcasts the view has.
    pub(crate) async fn count(&self) -> anyhow::Result<usize> {
        self.redis.clone().scard(IDS).await.context("cannot read from Redis")
    }

    /// The broadcasts of the view, some at a time. One may come twice.
    pub(crate) fn scan_ids(&self) -> Scan {
        Scan::new(&self.redis, "SSCAN", IDS)
    }

    /// The broadcasts that are live, some at a time. One may come twice.
    pub(crate) fn scan_live(&self) -> Scan {
        Scan::new(&self.redis, "ZSCAN", LIVE)
    }

    /// Which of some broadcasts are in the view.
    pub(crate) async fn are_known(&self, ids: &[BroadcastId]) -> anyhow::Result<Vec<bool>> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = redis::cmd("SMISMEMBER");
        call.arg(IDS);
        for id in ids {
            call.arg(id.to_string());
        }
        let known = call.query_async(&mut self.redis.clone()).await;
        known.context("cannot read from Redis")
    }

    /// What the view holds of broadcasts.
    pub(crate) async fn page(&self, ids: &[BroadcastId]) -> anyhow::Result<Vec<Stored>> {
        let mut pipeline = Pipeline::with_capacity(ids.len() * 3);
        for id in ids {
            let text = id.to_string();
            pipeline.sismember(IDS, &text).hgetall(keys::hash(id));
            pipeline.zscore(LIVE, &text);
        }
        let found: Vec<redis::Value> = pipeline
            .query_async(&mut self.redis.clone())
            .await
            .context("cannot read from Redis")?;
        let stored = found.chunks_exact(3).map(|of| {
            let is_known: bool = redis::from_redis_value_ref(&of[0])?;
            let fields = redis::from_redis_value_ref(&of[1])?;
            let score: Option<f64> = redis::from_redis_value_ref(&of[2])?;
            Ok(Stored {
                fields: is_known.then_some(fields),
                live: score.map(millis),
            })
        });
        stored
            .collect::<Result<_, redis::ParsingError>>()
            .context("Redis holds what is not LiveInfo's")
    }

    /// The sequences of the newest entries of broadcasts.
    pub(crate) async fn sequences(&self, ids: &[BroadcastId]) -> anyhow::Result<Vec<(BroadcastId, Vec<(Kind, u64)>)>> {
        let fields = Kind::STATE.map(keys::sequence_field);
        let mut pipeline = Pipeline::with_capacity(ids.len());
        for id in ids {
            pipeline.hmget(keys::hash(id), &fields[..]);
        }
        let found: Vec<Vec<Option<u64>>> = pipeline
            .query_async(&mut self.redis.clone())
            .await
            .context("cannot read from Redis")?;
        let known = |found: Vec<Option<u64>>| {
            Kind::STATE
                .into_iter()
                .zip(found)
                .filter_map(|(kind, sequence)| Some((kind, sequence?)))
        };
        Ok(ids
            .iter()
            .copied()
            .zip(found.into_iter().map(|found| known(found).collect()))
            .collect())
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
            let fields: BTreeMap<String, String> =
                redis.hgetall(keys::hash(&id)).await.context("cannot read from Redis")?;
            broadcasts.insert(id, json!(fields));
        }
        let live: Vec<(String, f64)> = redis
            .zrange_withscores(LIVE, 0, -1)
            .await
            .context("cannot read from Redis")?;
        let live: serde_json::Map<String, Value> =
            live.into_iter().map(|(id, score)| (id, json!(millis(score)))).collect();
        Ok(json!({ "broadcasts": broadcasts, "live": live }))
    }
}

/// What the view holds of a broadcast.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The fields of its hash; `None` when it is no broadcast of the view.
    pub(crate) fields: Option<BTreeMap<String, String>>,
    /// Since when it is live, in milliseconds since 1970.
    pub(crate) live: Option<i64>,
}

/// Start times are whole milliseconds, which a double holds exactly.
#[allow(clippy::cast_possible_truncation)]
const fn millis(score: f64) -> i64 {
    score as i64
}

/// Goes over a set of Redis, some members at a time, while others write to it.
pub(crate) struct Scan {
    redis: ConnectionManager,
    command: &'static str,
    key: &'static str,
    /// `None` at the end.
    cursor: Option<u64>,
}

impl Scan {
    /// About how many members come at a time.
    const COUNT: usize = 200;

    fn new(redis: &ConnectionManager, command: &'static str, key: &'static str) -> Self {
        Self {
            redis: redis.clone(),
            command,
            key,
            cursor: Some(0),
        }
    }

    /// The next members, without their scores; `None` at the end.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Option<Vec<String>>> {
        let Some(cursor) = self.cursor else {
            return Ok(None);
        };
        let mut call = redis::cmd(self.command);
        call.arg(self.key).arg(cursor).arg("COUNT").arg(Self::COUNT);
        let (next, mut members): (u64, Vec<String>) = call
            .query_async(&mut self.redis)
            .await
            .context("cannot read from Redis")?;
        self.cursor = (next > 0).then_some(next);
        if self.command == "ZSCAN" {
            members = members.into_iter().step_by(2).collect();
        }
        Ok(Some(members))
    }
}
