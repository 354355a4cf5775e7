//! Publish keys and other secrets, which never reach the log, a trace or a URL.

use std::{fmt, str::FromStr};

use rand::Rng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A value that prints as `***`.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a secret.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The secret itself: only for the wire or the one answer that shows it.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Text that is not a publish key. The text is not repeated: it may be a key
/// with a typing error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a publish key: a key is \"ck_\" and 32 characters from a-z and 2-7")]
pub struct InvalidPublishKey;

/// What an encoder authenticates with: `ck_` and 160 random bits in base 32.
#[derive(Clone, PartialEq, Eq)]
pub struct PublishKey(Secret<String>);

const PREFIX: &str = "ck_";
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
const LENGTH: usize = 32;

impl PublishKey {
    /// A new random key.
    #[must_use]
    pub fn generate() -> Self {
        let mut bytes = [0_u8; LENGTH];
        rand::rng().fill_bytes(&mut bytes);
        let text = bytes.iter().map(|b| char::from(ALPHABET[usize::from(b % 32)]));
        Self(Secret::new(PREFIX.chars().chain(text).collect()))
    }

    /// The text that the encoder sends.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }

    /// What the log holds of the key.
    #[must_use]
    pub fn hash(&self) -> KeyHash {
        // The key has 160 random bits, so a plain hash cannot be searched.
        KeyHash(hex::encode(Sha256::digest(self.0.expose().as_bytes())))
    }
}

impl fmt::Debug for PublishKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for PublishKey {
    type Err = InvalidPublishKey;
    fn from_str(text: &str) -> Result<Self, InvalidPublishKey> {
        match text.strip_prefix(PREFIX) {
            Some(rest) if rest.len() == LENGTH && rest.bytes().all(|b| ALPHABET.contains(&b)) => {
                Ok(Self(Secret::new(text.to_owned())))
            }
            _ => Err(InvalidPublishKey),
        }
    }
}

/// Lower-case hex SHA-256 of a publish key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeyHash(String);

impl KeyHash {
    /// The hash as it stands in the log.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyHash {
    type Err = InvalidPublishKey;
    fn from_str(text: &str) -> Result<Self, InvalidPublishKey> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 64 && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidPublishKey)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_never_printed() {
        let key = PublishKey::generate();
        assert_eq!(key.expose().parse::<PublishKey>().unwrap(), key);
        assert_eq!(format!("{key:?}"), "***");
        assert_ne!(key.hash(), PublishKey::generate().hash());
        assert_eq!(key.hash().to_string().parse::<KeyHash>().unwrap(), key.hash());
    }

    #[test]
    fn other_text_is_no_key() {
        for text in [
            "",
            "ck_",
            "live",
            "ck_0000000000000000000000000000000!",
            &"a".repeat(35),
        ] {
            assert!(text.parse::<PublishKey>().is_err(), "{text:?}");
        }
    }
}
