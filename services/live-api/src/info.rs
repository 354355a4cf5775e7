//! Reads LiveInfo's state of broadcasts, and answers for it when it cannot.

use std::time::Duration;

use castlog_live_info::{Newest, ReadError, Reader, RedisConfig};
use castlog_log::{BroadcastId, Kind};

use crate::problem::{Code, Problem};

/// How long a caller that waits for a change is kept.
const WAIT: Duration = Duration::from_secs(5);
/// Most broadcasts that one list looks at: bounds the answer of Redis.
const MAX_READ: usize = 1000;

/// LiveInfo, as the API sees it.
#[derive(Clone)]
pub(crate) struct Info {
    reader: Reader,
}

impl Info {
    /// Connects when something is read, and again after Redis was gone.
    pub(crate) fn new(config: &RedisConfig) -> Result<Self, ReadError> {
        Ok(Self {
            reader: Reader::new(config)?,
        })
    }

    /// The newest entries of a broadcast; `None` when it is not known.
    pub(crate) async fn get(&self, id: BroadcastId) -> Result<Option<Newest>, Problem> {
        self.reader.get(id).await.map_err(unavailable)
    }

    /// The broadcasts that are live, those that started last first.
    pub(crate) async fn live(&self) -> Result<Vec<(BroadcastId, Newest)>, Problem> {
        self.reader.live(MAX_READ).await.map_err(unavailable)
    }

    /// The broadcasts that are known; of many, those with the newest ids.
    pub(crate) async fn all(&self) -> Result<Vec<(BroadcastId, Newest)>, Problem> {
        self.reader.all(MAX_READ).await.map_err(unavailable)
    }

    /// Waits, for a few seconds at most, until LiveInfo has applied the entry of
    /// `kind` with this sequence. `false` when it has not, or cannot be asked.
    pub(crate) async fn wait_applied(&self, id: BroadcastId, kind: Kind, sequence: u64) -> bool {
        self.reader.wait_applied(id, kind, sequence, WAIT).await
    }
}

fn unavailable(error: ReadError) -> Problem {
    tracing::warn!(
        error = format!("{:#}", anyhow::Error::new(error)),
        "state of broadcasts cannot be read"
    );
    Problem::new(
        Code::InfoUnavailable,
        "the state of broadcasts cannot be read at this moment; commands still work",
    )
}
