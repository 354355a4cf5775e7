//! Names of keys and fields in Redis, and the one way to connect to it.

use std::{fmt::Display, time::Duration};

use castlog_log::Kind;
use chrono::{DateTime, SecondsFormat, Utc};
use redis::{
    Client, RedisError,
    aio::{ConnectionManager, ConnectionManagerConfig},
};

use crate::RedisConfig;

/// The members of this sorted set are live; the score is when they started.
pub(crate) const LIVE: &str = "castlog:live_info:live";
/// The members of this set are known.
pub(crate) const IDS: &str = "castlog:live_info:ids";
/// The stream of commits that are not in the change feed yet.
pub(crate) const OUTBOX: &str = "castlog:live_info:outbox";
/// The hash that holds a broadcast.
pub(crate) fn hash(id: impl Display) -> String {
    format!("castlog:live_info:{id}")
}

/// The field that holds the sequence of the newest entry of a kind.
pub(crate) fn sequence_field(kind: Kind) -> String {
    format!("{kind}.seq")
}

/// The field that holds the time of the newest entry of a kind.
pub(crate) fn time_field(kind: Kind) -> String {
    format!("{kind}.time")
}

/// How a time is written.
pub(crate) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// A connection that is made with its first command, and again after Redis was gone.
pub(crate) fn connect(config: &RedisConfig, timeout: Duration) -> Result<ConnectionManager, RedisError> {
    let client = Client::open(config.url.expose().as_str())?;
    let settings = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(timeout))
        .set_response_timeout(Some(timeout))
        .set_number_of_retries(1);
    ConnectionManager::new_lazy_with_config(client, settings)
}
