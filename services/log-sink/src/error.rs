//! Why documents have not been written.

/// Why a write has not been made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// Meilisearch cannot be used at the moment; nothing is lost.
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
