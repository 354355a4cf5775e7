//! Credentials of the local servers: made once, kept in the data folder, and
//! readable by its owner only.

use anyhow::Context as _;
use castlog_log::Secret;
use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::folder::{Folder, write_private};

/// What the local servers and the API ask for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    pub(super) nats_user: String,
    pub(super) nats_password: Secret<String>,
    pub(super) redis_password: Secret<String>,
    pub(super) meilisearch_master_key: Secret<String>,
    /// Meilisearch derives a key from this and the master key.
    pub(super) meilisearch_search_uid: String,
    pub(super) meilisearch_indexer_uid: String,
    pub(super) admin_token: Secret<String>,
}

impl Credentials {
    pub(super) fn load_or_make(folder: &Folder) -> anyhow::Result<Self> {
        let file = folder.path().join("credentials.toml");
        if file.exists() {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            // What the parser says is left out: it repeats the line, and with it the secret.
            return toml::from_str(&text)
                .ok()
                .with_context(|| format!("{} is damaged", file.display()));
        }
        let made = Self {
            nats_user: "castlog".to_owned(),
            nats_password: secret(),
            redis_password: secret(),
            meilisearch_master_key: secret(),
            meilisearch_search_uid: uuid(),
            meilisearch_indexer_uid: uuid(),
            admin_token: secret(),
        };
        write_private(&file, &toml::to_string(&made)?)?;
        Ok(made)
    }
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}

/// 192 random bits in hex: no character means anything in a URL or a configuration file.
fn secret() -> Secret<String> {
    Secret::new(hex::encode(random::<24>()))
}

/// A random UUID (version 4), the form in which Meilisearch wants the ids of keys.
fn uuid() -> String {
    let mut bytes = random::<16>();
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn they_are_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::claim(&dir.path().join("data")).unwrap();
        let first = Credentials::load_or_make(&folder).unwrap();
        let second = Credentials::load_or_make(&folder).unwrap();
        assert_eq!(first.admin_token, second.admin_token);
        assert_ne!(first.admin_token, first.nats_password);
        let mode = folder
            .path()
            .join("credentials.toml")
            .metadata()
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!format!("{first:?}").contains(first.admin_token.expose()));
        assert_eq!(uuid().len(), 36);
    }
}
