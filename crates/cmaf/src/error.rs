//! What can be wrong with the input of the muxer.

/// A `Result` of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a track, chunk or box was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The decoder configuration is not what its kind says.
    #[error("invalid {kind}: {reason}")]
    Config {
        /// The configuration: "avcC" or "AudioSpecificConfig".
        kind: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A chunk needs at least one sample.
    #[error("a chunk without samples")]
    Empty,
    /// More samples than a chunk takes.
    #[error("{actual} samples in a chunk, at most {limit} allowed")]
    TooManySamples {
        /// What was asked for.
        actual: usize,
        /// The bound.
        limit: usize,
    },
    /// A chunk whose size does not fit the 32-bit box sizes.
    #[error("a chunk of {actual} bytes, at most {limit} allowed")]
    TooLarge {
        /// What was asked for.
        actual: u64,
        /// The bound.
        limit: u64,
    },
    /// A box could not be written or read.
    #[error("box: {0}")]
    Box(#[from] mp4_atom::Error),
    /// The bytes hold something else than the boxes that were looked for.
    #[error("malformed file: {0}")]
    Malformed(String),
}
