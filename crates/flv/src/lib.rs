//! FLV: the container that an RTMP server hands a live stream on in.
//!
//! Bytes flow in through [`Reader`], which yields [`Header`]s and [`Tag`]s; tags
//! flow out through [`Tag::write`]. What a tag's body says is read by
//! [`Video::parse`] and [`Audio::parse`], and the decoder configurations inside
//! sequence headers by [`avc::DecoderConfig`] and [`AudioSpecificConfig`].
//!
//! Pure: no I/O, no clock. Every reader is bounded and never panics on any input.
//! After Adobe's "Video File Format Specification" 10.1 (annex E), Enhanced RTMP
//! v2 for the extended tag headers, ISO/IEC 14496-15 for the AVC configuration,
//! ISO/IEC 14496-10 for the sequence parameter set and ISO/IEC 14496-3 for the
//! audio configuration.
//!
//! ```
//! use castlog_flv::{Header, Item, Reader, Tag, TagKind};
//! let mut stream = bytes::BytesMut::new();
//! Header { audio: true, video: true }.write(&mut stream);
//! Tag { kind: TagKind::Audio, timestamp: 40, data: vec![0xaf, 1, 7].into() }.write(&mut stream);
//! let mut reader = Reader::new();
//! reader.push(&stream);
//! assert!(matches!(reader.next()?, Some(Item::Header(_))));
//! assert!(matches!(reader.next()?, Some(Item::Tag(tag)) if tag.timestamp == 40));
//! assert!(reader.next()?.is_none()); // more bytes are needed
//! # Ok::<(), castlog_flv::Error>(())
//! ```

mod audio;
pub mod avc;
mod bits;
mod error;
mod reader;
mod sps;
mod tag;
mod video;

pub use audio::{Audio, AudioCodec, AudioPacket, AudioSpecificConfig};
pub use error::Error;
pub use reader::{Item, Reader};
pub use tag::{Header, MAX_TAG_SIZE, Tag, TagKind};
pub use video::{FrameType, Video, VideoCodec, VideoPacket};

/// A codec by its four characters, as Enhanced RTMP names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FourCc(pub [u8; 4]);

impl std::fmt::Display for FourCc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl std::fmt::Debug for FourCc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}
