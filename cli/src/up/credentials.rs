//! Credentials of the local servers: made once, kept in the data folder, and
//! readable by its owner only.

use std::collections::BTreeMap;

use anyhow::Context as _;
use castlog_log::{
    Secret,
    access::{self, Role},
};
use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::folder::{Folder, write_private};

/// What the local servers and the API ask for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Credentials {
    /// The operator, whom tools are.
    pub(super) nats_user: String,
    pub(super) nats_password: Secret<String>,
    pub(super) redis_password: Secret<String>,
    pub(super) meilisearch_master_key: Secret<String>,
    /// Meilisearch derives a key from this and the master key.
    pub(super) meilisearch_search_uid: String,
    pub(super) meilisearch_indexer_uid: String,
    pub(super) admin_token: Secret<String>,
    /// Empty in a folder of a release that had none.
    #[serde(default)]
    pub(super) playback_key: Secret<String>,
    /// Passwords of the other users of the log. A table comes last in TOML.
    #[serde(default)]
    pub(super) nats_users: BTreeMap<String, Secret<String>>,
}

impl Credentials {
    pub(super) fn load_or_make(folder: &Folder) -> anyhow::Result<Self> {
        let file = folder.path().join("credentials.toml");
        let (mut credentials, mut changed) = if file.exists() {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            // What the parser says is left out: it repeats the line, and with it the secret.
            let read = toml::from_str(&text)
                .ok()
                .with_context(|| format!("{} is damaged", file.display()))?;
            (read, false)
        } else {
            (Self::make(), true)
        };
        // A release can bring users and keys that the folder does not know.
        if credentials.playback_key.expose().is_empty() {
            credentials.playback_key = secret();
            changed = true;
        }
        for user in access::USERS.iter().filter(|user| user.role != Role::Operator) {
            credentials.nats_users.entry(user.name.to_owned()).or_insert_with(|| {
                changed = true;
                secret()
            });
        }
        if changed {
            write_private(&file, &toml::to_string(&credentials)?)?;
        }
        Ok(credentials)
    }

    fn make() -> Self {
        Self {
            nats_user: "castlog".to_owned(),
            nats_password: secret(),
            redis_password: secret(),
            meilisearch_master_key: secret(),
            meilisearch_search_uid: uuid(),
            meilisearch_indexer_uid: uuid(),
            admin_token: secret(),
            playback_key: secret(),
            nats_users: BTreeMap::new(),
        }
    }

    /// The name and password of a user of the log.
    pub(super) fn nats(&self, user: &str) -> (&str, &Secret<String>) {
        match self.nats_users.get_key_value(user) {
            Some((name, password)) => (name, password),
            None => (&self.nats_user, &self.nats_password),
        }
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

    #[test]
    fn users_that_an_older_folder_lacks_are_added() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::claim(&dir.path().join("data")).unwrap();
        let file = folder.path().join("credentials.toml");
        let old = "nats_user = \"castlog\"\nnats_password = \"kept\"\nredis_password = \"a\"\n\
                   meilisearch_master_key = \"b\"\nmeilisearch_search_uid = \"c\"\n\
                   meilisearch_indexer_uid = \"d\"\nadmin_token = \"e\"\n";
        std::fs::write(&file, old).unwrap();
        let read = Credentials::load_or_make(&folder).unwrap();
        assert_eq!(read.nats("castlog"), ("castlog", &Secret::new("kept".to_owned())));
        assert_eq!(read.nats("hls").0, "hls");
        let again = Credentials::load_or_make(&folder).unwrap();
        assert_eq!(again.nats("hls"), read.nats("hls"));
        assert_ne!(read.nats("hls").1, read.nats("rtmp").1);
        assert!(!read.playback_key.expose().is_empty());
        assert_eq!(again.playback_key, read.playback_key);
    }
}
