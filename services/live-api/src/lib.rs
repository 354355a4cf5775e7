//! The Live API: the door through which people and programs use castlog.
//!
//! Commands come in over HTTP, are checked, go into the log as entries and are
//! answered with the entry's sequence. Queries are answered from LiveInfo and
//! from the search index. This service holds no state of its own: it can run
//! any number of times side by side, and commands work while Redis and
//! Meilisearch are down.
//!
//! It also serves the web UI, its own OpenAPI document, and the log's entries
//! as server-sent events.

mod app;
mod auth;
mod command;
mod config;
mod docs;
mod events;
mod extract;
mod hints;
mod http;
mod idempotency;
mod info;
mod input;
mod model;
mod problem;
mod search;
mod security;
mod session;
mod statistics;
mod web;

pub use app::{Running, run, start};
pub use config::Config;
pub use problem::Code;
