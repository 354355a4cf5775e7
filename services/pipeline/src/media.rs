//! What moves through the pipeline: packets as the ingest delivers them and
//! access units with normalised times. All times are in microseconds on the
//! time line that [`crate::timeline`] makes.

use bytes::Bytes;

/// A time or duration in microseconds: exact for the milliseconds of FLV, and
/// for 90 kHz ticks made of them.
pub type Micros = i64;

/// Microseconds in a second.
pub const SECOND: Micros = 1_000_000;

/// The two kinds of tracks a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// The picture.
    Video,
    /// The sound.
    Audio,
}

/// One message of the ingested stream, times as sent: milliseconds modulo 2³².
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// An H.264 decoder configuration (`avcC`).
    VideoConfig(Bytes),
    /// An AAC decoder configuration (AudioSpecificConfig).
    AudioConfig(Bytes),
    /// An H.264 access unit, length-prefixed NAL units.
    Video {
        /// Decoding time.
        timestamp: u32,
        /// Presentation time minus decoding time in milliseconds.
        composition: i32,
        /// The access unit.
        data: Bytes,
    },
    /// A raw AAC frame.
    Audio {
        /// Presentation time.
        timestamp: u32,
        /// The frame.
        data: Bytes,
    },
    /// A codec that is not transcoded.
    Unsupported {
        /// Where it was found.
        track: Track,
        /// Its name.
        codec: String,
    },
    /// The connection was made anew: what follows does not join up.
    Break,
}

/// One encoded access unit on the normalised time line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// Decoding time.
    pub dts: Micros,
    /// Presentation time.
    pub pts: Micros,
    /// Whether decoding can start here.
    pub sync: bool,
    /// Length-prefixed NAL units, or a raw AAC frame.
    pub data: Bytes,
}
