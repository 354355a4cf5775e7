//! The log: the one channel over which castlog's services learn what happened.
//!
//! This crate is the only place that knows subjects, headers, stream names and
//! the entry format. Entries go in through [`Publisher`], which waits for the
//! acknowledgement of JetStream, and come out in one of three ways:
//! [`Log::last`] and [`Log::newest`] read current values, [`Log::follow`] reads a
//! stream in order without leaving a trace on the server, and
//! [`Log::durable`] shares the work of a durable consumer. The change feed of
//! LiveInfo, which is no part of the truth, is in [`change`]; which instance of a
//! service works, where only one may, is in [`lease`].
//!
//! It knows nothing about what a service makes of an entry.

pub mod access;
pub mod audience;
mod batch;
pub mod change;
mod commit;
mod connect;
mod consume;
pub mod dead_letter;
mod direct;
mod entry;
mod event;
mod explore;
mod history;
mod id;
pub mod lease;
mod newest;
mod part;
pub mod provision;
mod publish;
mod read;
mod secret;
pub mod session;
mod status;
mod subject;
mod subjects;
pub mod trace;

pub use castlog_proto as pb;
pub use connect::{ConnectConfig, ConnectError, Log, NotPermitted};
pub use consume::{ConsumeError, Delivery, Durable};
pub use entry::{DecodeError, Entry, Position, Undecodable, decode_json, header};
pub use event::Event;
pub use explore::Raw;
pub use id::{BroadcastId, EntryId, InvalidId, SessionId};
pub use part::{Part, PartHeader};
pub use publish::{Draft, PublishError, Publisher, Receipt};
pub use read::{Follow, Followed, From, ReadError, Readable};
pub use secret::{InvalidPublishKey, KeyHash, PublishKey, Secret};
pub use status::{Backlog, ConsumerStatus, StatusError, StreamStatus};
pub use subject::{InvalidSubject, Kind, Subject};
