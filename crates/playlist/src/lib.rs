//! HLS playlists: a snapshot goes in, the text of a playlist comes out.
//!
//! [`media`], [`low_latency`], [`date_range`], [`multivariant`] and [`storyboard`] render; [`bitrate`] measures what the
//! `BANDWIDTH` attribute promises; [`check`] is a strict validator that reads
//! nothing but text, so that what a real server sends can be held against the
//! specification. The specification is draft-pantos-hls-rfc8216bis (HLS 2nd
//! edition); section numbers in comments and violations are its.
//!
//! The crate knows no clock, no I/O and none of castlog's other crates.

pub mod bitrate;
pub mod check;
pub mod date_range;
pub mod low_latency;
pub mod media;
pub mod multivariant;
pub mod storyboard;
mod write;
