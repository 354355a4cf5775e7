//! A second view beside the first: built under keys of its own, then put in the
//! place of the first in one step.
//!
//! Redis runs a script without anything in between, so readers see the whole view
//! as it was or the whole view as it is. A LiveInfo that runs goes on writing to the
//! first view meanwhile; what it wrote from entries that came after the second was
//! read from the log is newer, and is taken over by the same script.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context as _;
use castlog_log::{BroadcastId, EntryId, Kind};
use redis::{Pipeline, Script, aio::ConnectionManager};

use crate::{
    RedisConfig,
    keys::{self, IDS, LIVE},
    state::{Live, View},
};

/// Keys of a view that was never put in place are gone after this many seconds.
const LEFTOVER_S: i64 = 3600;
/// Broadcasts written in one round trip.
const BATCH: usize = 200;
/// How long Redis may take for one answer: the swap goes over every broadcast.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Puts the second view in the place of the first.
///
/// KEYS: ids and live of the first, ids and live of the second. ARGV: prefix of the
/// hashes of the first and of the second, how many broadcasts the second must have,
/// and per kind its name, the field of its sequence, the field of its time, and the
/// last sequence that the second view knows of.
///
/// Returns how many broadcasts of the first are gone, followed by broadcast, kind and
/// sequence of each value that was taken over; or -1 when the second is not complete,
/// in which case nothing has changed. All that can fail comes before the first write,
/// since Redis does not undo half a script.
const SWAP: &str = r"
local fresh = redis.call('SMEMBERS', KEYS[3])
if #fresh ~= tonumber(ARGV[3]) then return {'-1'} end
local is_fresh = {}
for _, id in ipairs(fresh) do
  if redis.call('EXISTS', ARGV[2] .. id) == 0 then return {'-1'} end
  is_fresh[id] = true
end
local gone = 0
local taken = {}
local function take(id)
  local any = false
  for at = 4, #ARGV, 4 do
    local old = redis.call('HMGET', ARGV[1] .. id, ARGV[at], ARGV[at + 1], ARGV[at + 2])
    local stored = tonumber(old[2] or '')
    if stored and stored > tonumber(ARGV[at + 3]) then
      any = true
      redis.call('HSET', ARGV[2] .. id, ARGV[at], old[1] or '', ARGV[at + 1], old[2], ARGV[at + 2], old[3] or '')
      if ARGV[at] == 'status' then
        local score = redis.call('ZSCORE', KEYS[2], id)
        if score then redis.call('ZADD', KEYS[4], score, id) else redis.call('ZREM', KEYS[4], id) end
      end
      taken[#taken + 1] = id
      taken[#taken + 1] = ARGV[at]
      taken[#taken + 1] = old[2]
    end
  end
  return any
end
for _, id in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  if take(id) then
    if not is_fresh[id] then
      redis.call('SADD', KEYS[3], id)
      fresh[#fresh + 1] = id
      is_fresh[id] = true
    end
  elseif not is_fresh[id] then
    redis.call('DEL', ARGV[1] .. id)
    gone = gone + 1
  end
end
for _, id in ipairs(fresh) do
  redis.call('PERSIST', ARGV[2] .. id)
  redis.call('RENAME', ARGV[2] .. id, ARGV[1] .. id)
end
for n = 1, 2 do
  if redis.call('EXISTS', KEYS[n + 2]) == 1 then
    redis.call('PERSIST', KEYS[n + 2])
    redis.call('RENAME', KEYS[n + 2], KEYS[n])
  else
    redis.call('DEL', KEYS[n])
  end
end
table.insert(taken, 1, tostring(gone))
return taken
";

/// Removes a value, if it still has the sequence that it must not have.
///
/// KEYS: hash, ids, live. ARGV: id, sequence and its field, the kind, the field of its time.
const DROP: &str = r"
if redis.call('HGET', KEYS[1], ARGV[3]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[3], ARGV[4], ARGV[5])
if ARGV[4] == 'status' then redis.call('ZREM', KEYS[3], ARGV[1]) end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('SREM', KEYS[2], ARGV[1]) end
return 1
";

/// Sequence of the newest entry that a view was made from or without, per stream.
pub(crate) type Known = BTreeMap<&'static str, u64>;

/// A value of the old view that was newer than that of the new one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) broadcast: BroadcastId,
    pub(crate) kind: Kind,
    pub(crate) sequence: u64,
}

/// A view that is being built.
pub(crate) struct Beside {
    redis: ConnectionManager,
    prefix: String,
}

impl Beside {
    pub(crate) fn new(config: &RedisConfig) -> anyhow::Result<Self> {
        Ok(Self {
            redis: keys::connect(config, TIMEOUT).context("live_info.redis.url cannot be used")?,
            prefix: keys::hash(format!("rebuild:{}:", EntryId::generate())),
        })
    }

    fn ids(&self) -> String {
        format!("{}ids", self.prefix)
    }

    fn live(&self) -> String {
        format!("{}live", self.prefix)
    }

    /// Writes a whole view, telling after each batch how many broadcasts are written.
    pub(crate) async fn write(&self, view: &View, mut tell: impl FnMut(usize)) -> anyhow::Result<()> {
        let broadcasts: Vec<_> = view.broadcasts().collect();
        let mut written = 0;
        for batch in broadcasts.chunks(BATCH) {
            let mut pipeline = Pipeline::with_capacity(batch.len() * 3 + 2);
            for (id, kinds) in batch {
                let id = id.to_string();
                let hash = format!("{}{id}", self.prefix);
                for (kind, write) in *kinds {
                    let fields = [
                        (kind.token().to_owned(), write.json.clone()),
                        (keys::sequence_field(*kind), write.sequence.to_string()),
                        (keys::time_field(*kind), write.time.clone()),
                    ];
                    pipeline.hset_multiple(&hash, &fields).ignore();
                    if let Live::Since(millis) = write.live {
                        pipeline.zadd(self.live(), &id, millis).ignore();
                    }
                }
                pipeline.expire(&hash, LEFTOVER_S).ignore();
                pipeline.sadd(self.ids(), &id).ignore();
            }
            pipeline.expire(self.ids(), LEFTOVER_S).ignore();
            pipeline.expire(self.live(), LEFTOVER_S).ignore();
            pipeline
                .query_async::<()>(&mut self.redis.clone())
                .await
                .context("Redis did not take the new view")?;
            written += batch.len();
            tell(written);
        }
        Ok(())
    }

    /// Puts the view in place; returns how many broadcasts are gone with the old
    /// one, and what was taken over from it.
    pub(crate) async fn swap(&self, view: &View, known: &Known) -> anyhow::Result<(usize, Vec<Taken>)> {
        let script = Script::new(SWAP);
        let mut call = script.key(IDS);
        call.key(LIVE).key(self.ids()).key(self.live());
        call.arg(keys::hash(""))
            .arg(&self.prefix)
            .arg(view.broadcasts().count());
        for kind in Kind::STATE {
            call.arg(kind.token())
                .arg(keys::sequence_field(kind))
                .arg(keys::time_field(kind))
                .arg(known.get(kind.stream()).copied().unwrap_or_default());
        }
        let answer: Vec<String> = call
            .invoke_async(&mut self.redis.clone())
            .await
            .context("Redis did not put the new view in place")?;
        let (gone, taken) = answer.split_first().context("Redis gave no answer")?;
        let gone = gone.parse().map_err(|_| {
            anyhow::anyhow!(
                "the new view is not complete: it took longer than {LEFTOVER_S} s, or somebody removed its keys; \
                 the old view stands"
            )
        })?;
        let taken = taken.chunks_exact(3).filter_map(|of| {
            Some(Taken {
                broadcast: of[0].parse().ok()?,
                kind: of[1].parse().ok()?,
                sequence: of[2].parse().ok()?,
            })
        });
        Ok((gone, taken.collect()))
    }

    /// Removes a value from the view in place, unless it has changed meanwhile.
    pub(crate) async fn drop(&self, value: &Taken) -> anyhow::Result<()> {
        let id = value.broadcast.to_string();
        let script = Script::new(DROP);
        let mut call = script.key(keys::hash(&id));
        call.key(IDS).key(LIVE).arg(&id).arg(value.sequence);
        call.arg(keys::sequence_field(value.kind))
            .arg(value.kind.token())
            .arg(keys::time_field(value.kind));
        call.invoke_async::<()>(&mut self.redis.clone())
            .await
            .context("Redis did not remove a value")
    }
}
