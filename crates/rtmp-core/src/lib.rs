//! The server side of RTMP for publishers, without I/O.
//!
//! Bytes from the encoder go into [`Session::push`]; [`Session::poll`] yields
//! [`Event`]s, of which the requests are answered by [`Session::accept`] or
//! [`Session::reject`]; [`Session::take_output`] gives the bytes to send. There is
//! no socket, clock or task here, and deadlines are the caller's.
//!
//! The peer is hostile until proven otherwise: every length, count and nesting is
//! bounded by [`Limits`], which are tight before a publish is accepted, and of a
//! claimed size little is reserved before its bytes come. After Adobe's "RTMP Specification 1.0" and
//! "AMF 0 Specification".
//!
//! ```
//! # fn from_network() -> Vec<u8> { let mut hello = vec![0; 1537]; hello[0] = 3; hello }
//! use castlog_rtmp_core::{Event, Limits, Refusal, Session};
//! let mut session = Session::new(Limits::default(), 7);
//! session.push(&from_network())?;
//! while let Some(event) = session.poll()? {
//!     match event {
//!         Event::ConnectRequested(connect) if connect.app == "live" => session.accept(),
//!         Event::ConnectRequested(_) => session.reject(&Refusal::new("unknown application")),
//!         Event::PublishRequested(_) => session.accept(),
//!         Event::Media(tag) => println!("{:?} at {} ms", tag.kind, tag.timestamp),
//!         Event::Unpublished | Event::Unsupported { .. } => {}
//!     }
//! }
//! let reply = session.take_output();
//! assert_eq!(reply.len(), 1 + 1536 + 1536);
//! # Ok::<(), castlog_rtmp_core::Error>(())
//! ```

pub mod amf0;
pub mod chunk;
mod command;
mod error;
mod handshake;
mod limits;
mod message;
mod session;

pub use command::{Connect, PublishRequest, Refusal, StreamName};
pub use error::Error;
pub use limits::{Limits, Stage};
pub use message::{Message, type_id};
pub use session::{Event, Phase, Session};
