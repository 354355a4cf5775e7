//! The FLV header and tags on the wire.

use bytes::{BufMut, Bytes};

/// Largest tag that a [`Reader`](crate::Reader) takes by default: 8 MiB, the
/// largest RTMP message that the server takes from an encoder.
pub const MAX_TAG_SIZE: usize = 8 * 1024 * 1024;

/// What the 24-bit size field of a tag can say.
const SIZE_FIELD_MAX: usize = 0x00ff_ffff;
/// Length of a tag's header.
pub(crate) const TAG_HEADER: usize = 11;
/// Length of the length after a tag.
pub(crate) const PREVIOUS_TAG_SIZE: usize = 4;

/// The FLV header. Its flags are a hint: live streams may lack a track they announce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Audio tags are announced.
    pub audio: bool,
    /// Video tags are announced.
    pub video: bool,
}

impl Header {
    /// Bytes that [`Self::write`] adds: the header and the first, empty, previous tag size.
    pub const WRITTEN: usize = 13;

    /// Appends the header and `PreviousTagSize0`.
    pub fn write(self, out: &mut impl BufMut) {
        out.put_slice(b"FLV\x01");
        out.put_u8(u8::from(self.audio) << 2 | u8::from(self.video));
        out.put_u32(9);
        out.put_u32(0);
    }
}

/// What a tag carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TagKind {
    /// Audio; see [`Audio`](crate::Audio).
    Audio,
    /// Video; see [`Video`](crate::Video).
    Video,
    /// AMF0 data such as `onMetaData`.
    Script,
}

impl TagKind {
    /// The tag type, which is also RTMP's message type.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::Audio => 8,
            Self::Video => 9,
            Self::Script => 18,
        }
    }

    pub(crate) const fn from_id(id: u8) -> Option<Self> {
        match id {
            8 => Some(Self::Audio),
            9 => Some(Self::Video),
            18 => Some(Self::Script),
            _ => None,
        }
    }
}

/// One tag: a message of a track with its decode time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Which track.
    pub kind: TagKind,
    /// Decode time in milliseconds; wraps at 2³².
    pub timestamp: u32,
    /// The body, headed by the codec's tag header.
    pub data: Bytes,
}

impl Tag {
    /// Bytes that [`Self::write`] adds.
    #[must_use]
    pub fn written(&self) -> usize {
        TAG_HEADER + self.data.len() + PREVIOUS_TAG_SIZE
    }

    /// Appends the tag and the length that follows it.
    ///
    /// # Panics
    /// Never for bodies up to [`MAX_TAG_SIZE`]; a body over 16 MiB − 1 does not fit
    /// the format.
    pub fn write(&self, out: &mut impl BufMut) {
        assert!(
            self.data.len() <= SIZE_FIELD_MAX,
            "tag body of {} bytes does not fit FLV",
            self.data.len()
        );
        // Fits: asserted to be under 2²⁴.
        let size = self.data.len() as u32;
        out.put_u8(self.kind.id());
        out.put_uint(u64::from(size), 3);
        out.put_uint(u64::from(self.timestamp & 0x00ff_ffff), 3);
        out.put_u8((self.timestamp >> 24) as u8);
        out.put_uint(0, 3);
        out.put_slice(&self.data);
        out.put_u32(TAG_HEADER as u32 + size);
    }
}
