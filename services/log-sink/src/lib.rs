//! The log sink: every entry of the log searchable in Meilisearch, but for the
//! media parts, and all of it as Parquet in the object store.
//!
//! An entry becomes one document with an id that follows from its place in the
//! log, in an index whose name follows from its kind and day, so writing it
//! again changes nothing. Indexes of days past the retention are dropped whole.
//!
//! The two are projections of their own: neither waits for the other.
//!
//! It publishes nothing and draws no conclusions from entries.

mod app;
mod archive;
mod compare;
mod config;
mod document;
mod index;
mod template;

pub use app::run;
pub use archive::{
    ArchiveReport, Config as ArchiveConfig, archived, rebuild as rebuild_archive, verify as verify_archive,
};
pub use compare::{Report, rebuild, verify};
pub use config::Config;
