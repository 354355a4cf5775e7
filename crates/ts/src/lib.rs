//! MPEG transport streams: a segment of H.264 and AAC for players that know no other
//! container (RFC 8216, 3.2), made of the same segments in CMAF.
//!
//! In go tracks and the chunks of one segment of each; out come the bytes of a segment
//! that stands alone: tables first, counters from zero. Samples are not touched but for
//! what the container wants: start codes and parameter sets in H.264 (ISO/IEC 14496-10,
//! annex B), ADTS headers in AAC (ISO/IEC 13818-7, 6.2). Packets are written by
//! `mpeg2ts`. Pure: no I/O, no clock; it knows nothing of playlists.

mod elementary;
mod mux;

use castlog_cmaf::{Audio, Video, read::Chunk};
pub use mux::segment;

/// A track, and what a segment holds of it.
#[derive(Debug, Clone, Copy)]
pub struct Media<'a, T> {
    /// The track.
    pub track: &'a T,
    /// The chunks of the segment, in order.
    pub chunks: &'a [Chunk],
}

/// Pictures of a segment.
pub type Pictures<'a> = Media<'a, Video>;
/// Sound of a segment.
pub type Sound<'a> = Media<'a, Audio>;

/// Why there is no such segment.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is neither picture nor sound.
    #[error("a segment without samples")]
    Empty,
    /// A track's decoder configuration cannot be said in this container.
    #[error("{kind} does not fit a transport stream: {reason}")]
    Config {
        /// Which configuration.
        kind: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A sample is not what its track says.
    #[error("broken sample: {0}")]
    Sample(&'static str),
    /// The packets could not be written.
    #[error("cannot write packets: {0}")]
    Packets(String),
}

impl From<mpeg2ts::Error> for Error {
    fn from(error: mpeg2ts::Error) -> Self {
        Self::Packets(error.to_string())
    }
}
