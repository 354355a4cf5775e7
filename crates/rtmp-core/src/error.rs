//! Why a connection cannot go on.

/// A breach of the protocol or of a limit. The connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The first byte is not RTMP's version.
    #[error("not RTMP: the first byte is {0:#04x}, not 0x03")]
    Version(u8),
    /// A limit is broken.
    #[error("{what} of {actual} is over the limit of {limit}")]
    Limit {
        /// What is limited.
        what: &'static str,
        /// The value.
        actual: usize,
        /// The limit.
        limit: usize,
    },
    /// Bytes that no later byte can make valid.
    #[error("{0} is malformed")]
    Malformed(&'static str),
    /// A message that the protocol does not allow at this point.
    #[error("{0} came out of order")]
    OutOfOrder(&'static str),
}

impl Error {
    /// The peer broke a limit, not the protocol's rules.
    #[must_use]
    pub const fn is_limit(&self) -> bool {
        matches!(self, Self::Limit { .. })
    }

    pub(crate) const fn check(what: &'static str, actual: usize, limit: usize) -> Result<(), Self> {
        if actual > limit {
            Err(Self::Limit { what, actual, limit })
        } else {
            Ok(())
        }
    }
}
