//! Meilisearch as castlog uses it: requests that end, writes that are waited
//! for, and errors that say whose fault a failure is.
//!
//! Meilisearch answers a write with a task and does it later. A write counts
//! here when its task has succeeded. The client wraps meilisearch-sdk, whose
//! types for settings and queries services use as they are.
//!
//! It knows no index and no document.

mod apply;
mod client;
mod config;
mod error;
mod settings;

pub use apply::{apply_error, within_grace};
pub use client::{Meili, PRIMARY_KEY};
pub use config::{Config, index_name_problem};
pub use error::Error;
pub use settings::differing;
