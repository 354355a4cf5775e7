//! Why the index is not as it should be.

use castlog_log::ReadError;
use castlog_meili::Error;

/// Why the index has not been read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// The log cannot be read at the moment.
    #[error(transparent)]
    Log(#[from] ReadError),
    /// What Meilisearch did not do.
    #[error(transparent)]
    Meili(#[from] Error),
}
