//! The RTMP(S) server: where encoders publish.
//!
//! Publish keys flow in from the log, encoders over RTMP; `auth`, `status` and
//! `health` entries flow out to the log, and the media of each live session to the
//! pipeline as HTTP-FLV. It asks no other service for anything, so it authenticates
//! with all of them down.
//!
//! The decisions are pure: [`state`] folds the log into the key table, [`session`]
//! says what an encoder's coming and going means, `media` what a tag is worth. The
//! other modules are their edges to sockets and the log.

mod app;
mod config;
mod connection;
mod gop;
mod guard;
mod http;
mod hub;
mod listen;
mod log;
mod media;
mod meter;
mod refused;
mod server;
pub mod session;
pub mod state;
mod threads;

pub use app::{Running, run, start};
pub use config::Config;
pub use refused::{Code, Refused};
