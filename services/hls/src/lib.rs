//! The HLS server: an edge that shows live broadcasts to viewers.
//!
//! It follows the log (`options`, `registration`, `title`, `status`, `metadata`,
//! `segment`, `part`) and keeps the newest window of each live broadcast in memory.
//! It shares nothing with other edges, so any number of them can stand side by
//! side. Media comes from the object store, through a
//! bounded memory cache. Sessions that are over are read from the log when somebody asks
//! for their recording. Playlists follow draft-pantos-hls-rfc8216bis.

mod app;
mod cache;
mod config;
mod error;
mod follow;
mod http;
mod key;
mod live;
mod marks;
mod parts;
mod playlists;
mod proxies;
mod range;
mod recording;
mod rooms;
mod session;
mod state;
#[cfg(test)]
mod state_tests;
mod storyboard;
mod token;
mod transport;
mod view;
mod viewers;

pub use app::{Running, run, start};
pub use config::Config;
pub use key::{File, InvalidKey, MediaKey};
pub use storyboard::Sheet;
