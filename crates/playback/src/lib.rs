//! Playback tokens: what a viewer of a private broadcast shows to an edge.
//!
//! A token is the second at which it ends, and a MAC (HMAC-SHA-256, RFC 2104) of
//! that second and the id of the broadcast under a key that the Live API and all
//! edges share: `1800000000.fXq…`. An edge checks it without asking anybody. It names
//! no viewer, and ends are rounded up, so that all who ask for one at about the same
//! time hold the same: to a cache they are one viewer. It cannot be taken back before
//! its end but with the key.
//!
//! The crate knows no clock and no I/O.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use castlog_log::{BroadcastId, Secret};
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Ends are multiples of this many seconds: a token lives up to this much longer
/// than was asked for.
pub const ROUNDING_S: u64 = 300;
/// Shortest key in characters: with random ones of hexadecimal digits it is as long
/// to guess as half of the MAC.
const MIN_KEY: usize = 32;
/// Longest token that is looked at, in bytes: one has 54 to 63.
const MAX_TOKEN: usize = 96;
/// What the MAC is of, so that it is of nothing else.
const PURPOSE: &[u8] = b"castlog playback 1\0";

/// The keys of tokens, as they are configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Key that playback tokens are signed with, at least 32 characters, the same for
    /// the Live API and all edges; empty = private broadcasts cannot be watched.
    /// Default: empty.
    pub key: Secret<String>,
    /// The key before it, whose tokens edges take until they end; empty = none.
    /// Default: empty.
    pub previous_key: Secret<String>,
}

impl Config {
    /// All that is wrong with the values of the section `name`; empty when they can be used.
    #[must_use]
    pub fn validate(&self, name: &str) -> Vec<String> {
        let mut problems = Vec::new();
        for (field, key) in [("key", &self.key), ("previous_key", &self.previous_key)] {
            let key = key.expose();
            if !key.is_empty() && (key.len() < MIN_KEY || key.chars().any(|c| !c.is_ascii_graphic())) {
                problems.push(format!(
                    "{name}.{field} has fewer than {MIN_KEY} characters, or other than visible ASCII ones"
                ));
            }
        }
        if self.key.expose().is_empty() && !self.previous_key.expose().is_empty() {
            problems.push(format!("{name}.previous_key stands without {name}.key"));
        }
        problems
    }

    /// A token for a broadcast, and when it ends: `lifetime` after `now`, rounded up to
    /// five minutes. `None` when no key is configured.
    #[must_use]
    pub fn issue(
        &self,
        broadcast: BroadcastId,
        now: DateTime<Utc>,
        lifetime: Duration,
    ) -> Option<(String, DateTime<Utc>)> {
        let key = Some(self.key.expose()).filter(|key| !key.is_empty())?;
        let now = u64::try_from(now.timestamp()).ok()?;
        let end = now
            .checked_add(lifetime.as_secs())?
            .checked_next_multiple_of(ROUNDING_S)?;
        let expires = DateTime::from_timestamp(end.try_into().ok()?, 0)?;
        let end = end.to_string();
        let mac = mac(key, broadcast, &end).finalize().into_bytes();
        Some((format!("{end}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac)), expires))
    }

    /// When a token of a broadcast ends.
    ///
    /// # Errors
    /// It is none of this broadcast's, it has ended, or there is no key to tell.
    pub fn verify(&self, broadcast: BroadcastId, token: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, Refusal> {
        let keys = [&self.key, &self.previous_key].map(|key| key.expose().as_str());
        let mut keys = keys.into_iter().filter(|key| !key.is_empty()).peekable();
        if keys.peek().is_none() {
            return Err(Refusal::NoKey);
        }
        let mut read = || {
            let (end, given) = token.split_once('.').filter(|_| token.len() <= MAX_TOKEN)?;
            let given = BASE64_URL_SAFE_NO_PAD.decode(given).ok()?;
            // Compared in constant time.
            keys.find(|key| mac(key, broadcast, end).verify_slice(&given).is_ok())?;
            DateTime::from_timestamp(end.parse().ok()?, 0)
        };
        let expires = read().ok_or(Refusal::Wrong)?;
        if expires > now {
            Ok(expires)
        } else {
            Err(Refusal::Expired)
        }
    }
}

/// Why somebody may not watch a private broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No token is shown.
    #[error("there is no playback token")]
    Missing,
    /// The token is none of this broadcast's.
    #[error("the playback token is wrong")]
    Wrong,
    /// The token has ended.
    #[error("the playback token has ended")]
    Expired,
    /// No key is configured.
    #[error("no key of playback tokens is configured")]
    NoKey,
}

fn mac(key: &str, broadcast: BroadcastId, end: &str) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
        .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(PURPOSE);
    // An id has one length, so that nothing else reads the same.
    mac.update(broadcast.to_string().as_bytes());
    mac.update(end.as_bytes());
    mac
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(key: &str, previous: &str) -> Config {
        Config {
            key: Secret::new(key.to_owned()),
            previous_key: Secret::new(previous.to_owned()),
        }
    }

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const OTHER: &str = "fedcba9876543210fedcba9876543210";

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_token_holds_for_its_broadcast_and_its_time() {
        let (keys, broadcast) = (config(KEY, ""), BroadcastId::generate());
        let (token, end) = keys.issue(broadcast, at(1), Duration::from_secs(60)).unwrap();
        assert_eq!(end, at(300), "rounded up");
        assert_eq!(keys.verify(broadcast, &token, at(299)), Ok(end));
        assert_eq!(keys.verify(broadcast, &token, at(300)), Err(Refusal::Expired));
        let other = BroadcastId::generate();
        assert_eq!(keys.verify(other, &token, at(1)), Err(Refusal::Wrong));
        assert_eq!(config(OTHER, "").verify(broadcast, &token, at(1)), Err(Refusal::Wrong));
        assert_eq!(Config::default().verify(broadcast, &token, at(1)), Err(Refusal::NoKey));
        assert_eq!(Config::default().issue(broadcast, at(1), Duration::ZERO), None);
        assert!(!token.contains(KEY));
        // It stands in a URL as it is.
        assert!(
            token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)),
            "{token}"
        );
    }

    #[test]
    fn viewers_of_the_same_minutes_hold_the_same_token() {
        let (keys, broadcast) = (config(KEY, ""), BroadcastId::generate());
        let of = |second| keys.issue(broadcast, at(second), Duration::from_secs(3600)).unwrap().0;
        assert_eq!(of(1), of(300));
        assert_ne!(of(1), of(301));
    }

    #[test]
    fn nothing_else_is_a_token() {
        let (keys, broadcast) = (config(KEY, ""), BroadcastId::generate());
        let (token, _) = keys.issue(broadcast, at(0), Duration::from_secs(600)).unwrap();
        let (end, mac) = token.split_once('.').unwrap();
        let last = if mac.ends_with('A') { "B" } else { "A" };
        for bad in [
            String::new(),
            ".".to_owned(),
            end.to_owned(),
            format!("{end}."),
            format!("1800000900.{mac}"),
            format!("0{token}"),
            format!("+{token}"),
            format!("{token}="),
            format!("{token}.{mac}"),
            format!("{end}.{}", &mac[..42]),
            format!("{end}.{}{last}", &mac[..42]),
            "x".repeat(1000),
        ] {
            assert_eq!(keys.verify(broadcast, &bad, at(0)), Err(Refusal::Wrong), "{bad}");
        }
    }

    #[test]
    fn the_key_before_is_taken_and_not_signed_with() {
        let broadcast = BroadcastId::generate();
        let (old, _) = config(OTHER, "")
            .issue(broadcast, at(0), Duration::from_secs(60))
            .unwrap();
        let keys = config(KEY, OTHER);
        assert!(keys.verify(broadcast, &old, at(0)).is_ok());
        assert_ne!(keys.issue(broadcast, at(0), Duration::from_secs(60)).unwrap().0, old);
    }

    #[test]
    fn keys_that_can_be_guessed_are_refused_and_none_is_printed() {
        assert_eq!(config(KEY, OTHER).validate("playback"), Vec::<String>::new());
        assert_eq!(Config::default().validate("playback"), Vec::<String>::new());
        assert_eq!(config("short", "with blanks").validate("playback").len(), 2);
        assert_eq!(config("", OTHER).validate("playback").len(), 1);
        assert!(!format!("{:?}", config(KEY, OTHER)).contains(KEY));
    }
}
