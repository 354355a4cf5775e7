//! Why the index is not as it should be.

use castlog_log::ReadError;

/// Why a write to the index has not been made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The log or Meilisearch cannot be used at the moment; nothing is lost.
    #[error(transparent)]
    Passing(#[from] anyhow::Error),
    /// Meilisearch will never take this document.
    #[error("document {id} is refused: {reason}")]
    Refused {
        /// Its id.
        id: String,
        /// What Meilisearch says.
        reason: String,
    },
}

impl From<ReadError> for Fault {
    fn from(error: ReadError) -> Self {
        Self::Passing(error.into())
    }
}
