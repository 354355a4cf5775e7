//! The log sink: every entry of the log searchable in Meilisearch, but for the
//! media parts.
//!
//! An entry becomes one document with an id that follows from its place in the
//! log, in an index whose name follows from its kind and day, so writing it
//! again changes nothing. Indexes of days past the retention are dropped whole.
//!
//! It publishes nothing and draws no conclusions from entries.

mod app;
mod config;
mod document;
mod template;

pub use app::run;
pub use config::Config;
