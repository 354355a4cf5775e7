//! Why bytes are not FLV.

/// Bytes that no later byte can make valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream does not open with an FLV header.
    #[error("not an FLV stream: it does not open with \"FLV\" and version 1")]
    Signature,
    /// The header's own length makes no sense.
    #[error("FLV header says it is {size} bytes long, allowed are 9 to {max}")]
    HeaderSize {
        /// The length as claimed.
        size: u32,
        /// The limit.
        max: u32,
    },
    /// A tag is larger than the reader's limit.
    #[error("FLV tag of {size} bytes is over the limit of {max}")]
    TagTooLarge {
        /// The size as claimed.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// A tag of a type that FLV does not know.
    #[error("FLV tag type {0} is unknown")]
    TagType(u8),
    /// An encrypted tag, which nothing here can read.
    #[error("FLV tag is encrypted")]
    Encrypted,
    /// The length after a tag differs from the tag's.
    #[error("FLV tag of {expected} bytes is followed by a length of {found}")]
    PreviousTagSize {
        /// The size of the tag with its header.
        expected: u32,
        /// What the stream says.
        found: u32,
    },
    /// A tag body or decoder configuration ends before it is complete.
    #[error("{0} is truncated")]
    Truncated(&'static str),
    /// A value inside a tag body or decoder configuration is out of range.
    #[error("{0} is malformed")]
    Malformed(&'static str),
}
