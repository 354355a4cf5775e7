//! The schema of the log and of the change feed, as Rust types.
//!
//! Compiled from `proto/castlog/v1/*.proto`; the comments there say what
//! each field means, its unit and its range. Every type also has the canonical
//! protobuf JSON mapping through serde, which is what people see in
//! `castlog decode`, in the log search and in the API.

// Generated code: its documentation is the schema's.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/castlog.v1.rs"));
    include!(concat!(env!("OUT_DIR"), "/castlog.v1.serde.rs"));
}

pub use generated::*;
pub use pbjson_types::Timestamp;
