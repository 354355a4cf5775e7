//! The object store that holds media: a local folder, or a bucket of an
//! S3-compatible server. What services see of it is the same: whole objects, each
//! there or not, and `PutMode::Create`, which of any number of writers lets one through.
//!
//! Nothing in here tries again: each service does, as long as suits it (the pipeline
//! while a live encoder can wait, an edge while a viewer can, the archive for ever).

mod check;
mod config;
mod http;
mod s3;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use object_store::{ObjectStore, local::LocalFileSystem, memory::InMemory};

use crate::Shutdown;
pub use check::{MediaAccess, MediaStoreError};
pub use config::MediaStoreConfig;

/// The store that the pipeline writes and the HLS server reads.
pub type MediaStore = Arc<dyn ObjectStore>;

/// Opens the media store. A bucket is not asked for: see [`media_store_ready`].
///
/// # Errors
/// The folder cannot be created or opened, or the URL is none of a bucket.
pub fn open_media_store(config: &MediaStoreConfig) -> anyhow::Result<MediaStore> {
    if let Some(bucket) = config.bucket() {
        let bucket = bucket.map_err(|problem| anyhow::anyhow!("media.{problem}"))?;
        return s3::open(config, &bucket, std::env::vars());
    }
    let path = &config.path;
    std::fs::create_dir_all(path).with_context(|| format!("cannot create the media folder {}", path.display()))?;
    let store = LocalFileSystem::new_with_prefix(path)
        .with_context(|| format!("cannot open the media folder {}", path.display()))?
        // Folders go with their last file, as they do in a bucket.
        .with_automatic_cleanup(true)
        // What is said to be stored has to outlive a loss of power, as it does in a bucket:
        // the log names it from then on, and no other copy of it is kept.
        .with_fsync(true);
    Ok(Arc::new(store))
}

/// What a service is given that has nothing to do with media: an empty store in memory.
#[must_use]
pub fn no_media_store() -> MediaStore {
    Arc::new(InMemory::new())
}

/// Asks the bucket of the media store once; `false`: it does not answer in a few seconds.
///
/// # Errors
/// The server answers and refuses, or cannot do what castlog needs.
pub async fn media_store_answers(
    config: &MediaStoreConfig,
    store: &MediaStore,
    access: MediaAccess,
) -> Result<bool, MediaStoreError> {
    const PATIENCE: Duration = Duration::from_secs(5);
    if config.url.is_empty() {
        return Ok(true);
    }
    match tokio::time::timeout(PATIENCE, check::check(config, store, access)).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(MediaStoreError::Unreachable { .. })) | Err(_) => Ok(false),
        Ok(Err(refused)) => Err(refused),
    }
}

/// Waits until the bucket of the media store answers and grants what `access` needs;
/// `false` when the shutdown came first. A local folder has been tried by opening it.
///
/// # Errors
/// The server answers and refuses, or cannot do what castlog needs.
pub async fn media_store_ready(
    config: &MediaStoreConfig,
    store: &MediaStore,
    access: MediaAccess,
    shutdown: &Shutdown,
) -> Result<bool, MediaStoreError> {
    /// Wait between two attempts.
    const DELAY: Duration = Duration::from_secs(1);
    if config.url.is_empty() {
        return Ok(true);
    }
    loop {
        match check::check(config, store, access).await {
            Ok(()) => return Ok(true),
            Err(MediaStoreError::Unreachable { place, reason }) => {
                tracing::warn!(%place, reason, "waiting for the media store");
            }
            Err(refused) => return Err(refused),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(false),
            () = tokio::time::sleep(DELAY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No test takes the power away: what the store says of itself has to do.
    #[test]
    fn a_folder_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let store = open_media_store(&MediaStoreConfig::folder(folder.path())).unwrap();
        let said = format!("{store:?}");
        assert!(said.contains("fsync: true"), "{said}");
    }
}
