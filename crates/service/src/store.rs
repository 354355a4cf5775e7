//! The object store that holds media.

use std::{path::PathBuf, sync::Arc};

use anyhow::Context as _;
use object_store::{ObjectStore, local::LocalFileSystem};
use serde::{Deserialize, Serialize};

/// The store that the pipeline writes and the HLS server reads.
pub type MediaStore = Arc<dyn ObjectStore>;

/// Where media is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MediaStoreConfig {
    /// Local folder of the media objects; created when missing. Default `.castlog/media`.
    pub path: PathBuf,
}

impl Default for MediaStoreConfig {
    fn default() -> Self {
        Self {
            path: PathBuf::from(".castlog/media"),
        }
    }
}

/// Opens the media store.
///
/// # Errors
/// The folder cannot be created or opened.
pub fn open_media_store(config: &MediaStoreConfig) -> anyhow::Result<MediaStore> {
    let path = &config.path;
    std::fs::create_dir_all(path).with_context(|| format!("cannot create the media folder {}", path.display()))?;
    let store = LocalFileSystem::new_with_prefix(path)
        .with_context(|| format!("cannot open the media folder {}", path.display()))?;
    Ok(Arc::new(store))
}
