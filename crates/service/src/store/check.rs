//! Whether a bucket can be used, found out before any work is taken.

use std::error::Error as StdError;

use futures::TryStreamExt as _;
use object_store::{Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, client::HttpError, path::Path};

use super::{
    MediaStore,
    config::{MediaStoreConfig, Place},
};

/// The object by which writers find out whether the store creates an object once. It
/// stays, so that the next one to start needs no right to delete.
const PROBE: &str = "castlog-store-check";

/// What a service does with the media store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MediaAccess {
    /// It reads objects.
    Read,
    /// It reads and writes them.
    Write,
}

/// Why the media store cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaStoreError {
    /// Nobody answers, or the server cannot do it now.
    #[error("cannot reach the media store {place}: {reason}")]
    Unreachable {
        /// Bucket and server.
        place: Place,
        /// What went wrong.
        reason: String,
    },
    /// The server answers and refuses: there is no such bucket, the key is wrong or may
    /// too little, the region is another.
    #[error("cannot use the media store {place}: {reason}")]
    Refused {
        /// Bucket and server.
        place: Place,
        /// What the server says.
        reason: String,
    },
    /// The server writes over an object that is only to be created.
    #[error(
        "the media store {place} has no conditional writes (If-None-Match: *), without which two writers would \
         overwrite each other: {reason}"
    )]
    Overwrites {
        /// Bucket and server.
        place: Place,
        /// How it was found out.
        reason: String,
    },
}

/// Tries what `access` needs.
pub(super) async fn check(
    config: &MediaStoreConfig,
    store: &MediaStore,
    access: MediaAccess,
) -> Result<(), MediaStoreError> {
    let told = |error: Error| told(config.place(), &error);
    // Without the right to list, a server answers 403 for an object that is not there.
    let under = Path::from(PROBE);
    store.list(Some(&under)).try_next().await.map_err(told)?;
    match store.get(&under).await {
        Ok(_) | Err(Error::NotFound { .. }) => {}
        Err(error) => return Err(told(error)),
    }
    if access == MediaAccess::Write {
        // The first may be the one that makes it; the second finds it there.
        let again = creates(store, &under).await.map_err(told)? && creates(store, &under).await.map_err(told)?;
        if again {
            return Err(MediaStoreError::Overwrites {
                place: config.place(),
                reason: format!("it created {PROBE} twice"),
            });
        }
    }
    Ok(())
}

async fn creates(store: &MediaStore, path: &Path) -> Result<bool, Error> {
    let create = PutOptions::from(PutMode::Create);
    match store.put_opts(path, PROBE.into(), create).await {
        Ok(_) => Ok(true),
        Err(Error::AlreadyExists { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

fn told(place: Place, error: &Error) -> MediaStoreError {
    let mut last: &dyn StdError = error;
    let mut passes = false;
    while let Some(source) = last.source() {
        last = source;
        passes |= last.is::<HttpError>();
    }
    let reason = if passes { error.to_string() } else { last.to_string() };
    if passes {
        MediaStoreError::Unreachable { place, reason }
    } else {
        MediaStoreError::Refused { place, reason }
    }
}
