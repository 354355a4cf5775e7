//! Whose fault a failure is.

use meilisearch_sdk::errors::{Error as Sdk, ErrorCode, ErrorType};

/// Why something has not been done in Meilisearch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No client can be made of the configuration.
    #[error("no client of Meilisearch can be made of this configuration")]
    Client(#[source] Sdk),
    /// Meilisearch cannot be used at the moment: nothing is wrong with the
    /// request, which may have been heard or not.
    #[error("cannot use index {index}")]
    Transient {
        /// The index.
        index: String,
        /// What happened.
        #[source]
        source: Sdk,
    },
    /// Meilisearch refuses until a person has changed something: the key, the
    /// primary key or the settings of the index.
    #[error("index {index} cannot be used as it is configured")]
    Config {
        /// The index.
        index: String,
        /// What Meilisearch says.
        #[source]
        source: Sdk,
    },
    /// There is no such index.
    #[error("index {index} is not there")]
    MissingIndex {
        /// The index.
        index: String,
    },
    /// Meilisearch will never take this document.
    #[error("document {id} is refused: {reason}")]
    Refused {
        /// Its id.
        id: String,
        /// What Meilisearch says.
        reason: String,
    },
}

impl Error {
    pub(crate) fn of(index: &str, source: Sdk) -> Self {
        let index = index.to_owned();
        match code(&source) {
            Some(ErrorCode::IndexNotFound) => Self::MissingIndex { index },
            _ if is_config(&source) => Self::Config { index, source },
            _ => Self::Transient { index, source },
        }
    }

    /// The whole message, with what caused it.
    #[must_use]
    pub fn with_cause(&self) -> String {
        match std::error::Error::source(self) {
            Some(cause) => format!("{self}: {cause}"),
            None => self.to_string(),
        }
    }

    /// Whether there is no such index.
    #[must_use]
    pub const fn is_missing_index(&self) -> bool {
        matches!(self, Self::MissingIndex { .. })
    }

    /// Whether a document itself is the reason, and not the server.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    /// The code that Meilisearch has answered with, if it has.
    #[must_use]
    pub const fn code(&self) -> Option<&ErrorCode> {
        match self {
            Self::Client(source) | Self::Transient { source, .. } | Self::Config { source, .. } => code(source),
            Self::MissingIndex { .. } => Some(&ErrorCode::IndexNotFound),
            Self::Refused { .. } => None,
        }
    }
}

pub(crate) const fn code(error: &Sdk) -> Option<&ErrorCode> {
    match error {
        Sdk::Meilisearch(error) => Some(&error.error_code),
        _ => None,
    }
}

/// Whether Meilisearch has answered that the request is wrong as it stands. Its
/// own troubles, such as a full disk, have other types and pass.
fn is_config(error: &Sdk) -> bool {
    match error {
        Sdk::Meilisearch(error) => matches!(error.error_type, ErrorType::InvalidRequest | ErrorType::Auth),
        Sdk::InvalidRequest | Sdk::CantUseWithoutApiKey(_) => true,
        _ => false,
    }
}

/// Whether the documents themselves are the reason. A missing id is not: every
/// document has one, so the index was made with another primary key.
pub(crate) const fn refuses(error: &Sdk) -> bool {
    matches!(
        code(error),
        Some(
            ErrorCode::InvalidDocumentId
                | ErrorCode::InvalidDocumentFields
                | ErrorCode::InvalidDocumentGeoField
                | ErrorCode::MaxFieldsLimitExceeded
        )
    )
}
