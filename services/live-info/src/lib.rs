//! LiveInfo: the current state of every broadcast, in Redis.
//!
//! In: `broad_info` entries, and the `status` and `metadata` of live streams.
//! Out: per broadcast one hash `castlog:live_info:<id>` with, for each kind,
//! `<kind>` (the newest event as canonical protobuf JSON), `<kind>.seq` (its
//! stream sequence) and `<kind>.time`; the set `castlog:live_info:ids` of all
//! broadcasts; and the sorted set `castlog:live_info:live` of those that are
//! live, by start time in milliseconds.
//!
//! Each write is guarded by the sequence of its (broadcast, kind), so entries
//! may come twice, late, or from several instances at once.
//!
//! Each write that took effect goes out again on the change feed (see
//! [`castlog_log::change`]), by way of the Redis stream `castlog:live_info:outbox`.

mod app;
mod beside;
mod config;
mod keys;
mod reader;
mod rebuild;
mod relay;
mod state;
mod store;
mod verify;

pub use app::{LiveInfo, run};
pub use config::{Config, RedisConfig};
pub use reader::{Newest, ReadError, Reader};
pub use rebuild::{Report, rebuild};
pub use relay::{Outbox, outbox};
pub use store::Store;
pub use verify::{verify, verify_feed};
