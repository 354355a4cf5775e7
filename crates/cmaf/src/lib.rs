//! CMAF: init sections and media chunks, byte for byte.
//!
//! In go a track's decoder configuration (`avcC`, AudioSpecificConfig) and
//! encoded samples with their times; out come the bytes of an init section
//! (`ftyp` + `moov`) and of chunks (`moof` + `mdat`) after ISO/IEC 23000-19,
//! one track per file. Pure: no I/O, no clock. The crate knows nothing of
//! segments, playlists or renditions; a caller that concatenates the chunks of
//! a span has its segment. Boxes are written by `mp4-atom`; which boxes, in
//! which order and with which values is decided here.

mod chunk;
mod error;
mod init;
pub mod read;

pub use chunk::{MAX_CHUNK_SAMPLES, Sample, chunk};
pub use error::{Error, Result};
pub use init::{Audio, TRACK_ID, Track, VIDEO_TIMESCALE, Video, init_section};
