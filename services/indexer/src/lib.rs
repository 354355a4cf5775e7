//! The indexer: a Meilisearch index equal to what is live and public.
//!
//! It is level-triggered: an entry only says which broadcast to look at. The
//! reconciler reads the broadcast's newest entries, derives its document or the
//! document's absence, writes that and waits until it is durable. A sweep
//! compares the whole index with the log and mends what differs, so that an
//! index that was deleted or tampered with heals by itself. Of several instances one
//! works at a time. How many people watch is brought into the documents every few
//! seconds, so that they can be sorted by it.
//!
//! It publishes nothing and knows nothing of searches.

mod app;
mod config;
mod document;
mod error;
mod fold;
mod reconcile;
mod sweep;
mod viewers;

pub use app::{Report, rebuild, run, verify};
pub use config::Config;
pub use document::Document;
