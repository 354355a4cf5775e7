//! `Idempotency-Key`: the same key from the same owner names the same entries
//! and the same new broadcast, however often the request comes. Nothing is
//! stored for it; the log itself remembers. Pure.

use std::str::FromStr;

use castlog_log::{BroadcastId, Kind};
use sha2::{Digest, Sha256};
use ulid::Ulid;

/// Longest key in characters: room for a UUID with a prefix, not for a document.
const MAX_KEY: usize = 255;
/// Hex digits of a hash in an entry id: 128 bits do not collide by chance.
const DIGITS: usize = 32;

/// What a caller names a request by.
#[derive(Debug, Clone)]
pub(crate) struct IdempotencyKey {
    /// Hash of owner and key.
    hash: [u8; 32],
}

impl IdempotencyKey {
    /// `None` when the key is not 1 to 255 visible ASCII characters.
    pub(crate) fn new(owner: &str, key: &str) -> Option<Self> {
        let usable = (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        usable.then(|| Self {
            hash: hash(&[b"key", owner.as_bytes(), key.as_bytes()]),
        })
    }

    /// The broadcast that a creation with this key makes.
    pub(crate) fn broadcast(&self) -> BroadcastId {
        let mut bytes = [0_u8; 16];
        bytes.copy_from_slice(&hash(&[b"broadcast", &self.hash])[..16]);
        let text = Ulid::from(u128::from_be_bytes(bytes)).to_string().to_ascii_lowercase();
        BroadcastId::from_str(&text).unwrap_or_else(|_| unreachable!("a ULID in lower case is a broadcast id"))
    }

    /// The id of the entry of `kind` that a creation with this key and body publishes.
    pub(crate) fn creation(&self, kind: Kind, body: &[u8]) -> String {
        self.id(&[b"create", kind.token().as_bytes(), body])
    }

    /// The id of the entry that an operation with this key and body publishes.
    /// The body is part of it, so that a key used again with another body is
    /// never taken for a repetition and dropped.
    pub(crate) fn change(&self, broadcast: BroadcastId, operation: &str, body: &[u8]) -> ChangeId {
        let key = self.id(&[b"change", broadcast.to_string().as_bytes(), operation.as_bytes()]);
        let id = format!("{key}-{}", digits(&hash(&[body])));
        ChangeId { key, id }
    }

    fn id(&self, parts: &[&[u8]]) -> String {
        let mut all = vec![&self.hash[..]];
        all.extend(parts);
        format!("idem-{}", digits(&hash(&all)))
    }
}

/// The entry id of a change.
#[derive(Debug, Clone)]
pub(crate) struct ChangeId {
    key: String,
    id: String,
}

/// How an entry that is there relates to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    /// The request made it.
    Same,
    /// A request with the same key and another body made it.
    OtherBody,
    /// Another request made it.
    None,
}

impl ChangeId {
    pub(crate) fn relation(&self, entry_id: &str) -> Relation {
        if entry_id == self.id {
            Relation::Same
        } else if entry_id.starts_with(&self.key) {
            Relation::OtherBody
        } else {
            Relation::None
        }
    }

    pub(crate) fn into_entry_id(self) -> String {
        self.id
    }
}

fn digits(hash: &[u8; 32]) -> String {
    hex::encode(&hash[..DIGITS / 2])
}

/// Each part is preceded by its length, so that no two lists of parts are the same bytes.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_be_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_one_broadcast_and_its_entries() {
        let key = |owner, key| IdempotencyKey::new(owner, key).unwrap();
        let one = key("me", "k-1");
        assert_eq!(one.broadcast(), key("me", "k-1").broadcast());
        assert_ne!(one.broadcast(), key("me", "k-2").broadcast());
        assert_ne!(one.broadcast(), key("you", "k-1").broadcast());
        assert_ne!(key("a", "bc").broadcast(), key("ab", "c").broadcast());
        assert_eq!(one.creation(Kind::Title, b"x"), one.creation(Kind::Title, b"x"));
        assert_ne!(one.creation(Kind::Title, b"x"), one.creation(Kind::Title, b"y"));
        assert_ne!(one.creation(Kind::Title, b"x"), one.creation(Kind::Tags, b"x"));
    }

    #[test]
    fn a_change_is_known_by_key_operation_and_body() {
        let key = IdempotencyKey::new("me", "k").unwrap();
        let id = key.broadcast();
        let made = key.change(id, "rotate", b"").into_entry_id();
        assert_eq!(key.change(id, "rotate", b"").relation(&made), Relation::Same);
        assert_eq!(key.change(id, "rotate", b"x").relation(&made), Relation::OtherBody);
        assert_eq!(key.change(id, "revoke", b"").relation(&made), Relation::None);
        let other = IdempotencyKey::new("me", "l").unwrap();
        assert_eq!(other.change(id, "rotate", b"").relation(&made), Relation::None);
    }

    #[test]
    fn keys_are_short_and_visible() {
        for bad in ["", "ключ", "a\nb", &"x".repeat(256)] {
            assert!(IdempotencyKey::new("me", bad).is_none(), "{bad:?}");
        }
    }
}
