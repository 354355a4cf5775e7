//! Sessions of the web pages. A page exchanges the admin token for a cookie that
//! no script can read, so that the token is kept nowhere in a browser.
//!
//! A session is its expiry, a random word, and a MAC of both under a key that is
//! the admin token: every instance of the service knows its sessions without
//! keeping them, and another token ends all of them.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// Name of the cookie.
pub(crate) const COOKIE: &str = "castlog_session";
/// A working day: whoever comes back the next signs in again.
pub(crate) const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// What the MAC is of, so that it is of nothing else.
const PURPOSE: &[u8] = b"castlog session 1\0";

/// A session, as the cookie holds it.
pub(crate) fn issue(token: &[u8], now: DateTime<Utc>, nonce: &str) -> String {
    let expires = now.timestamp().saturating_add_unsigned(LIFETIME.as_secs());
    let about = format!("{expires}.{nonce}");
    let mac = hex::encode(mac(token, &about).finalize().into_bytes());
    format!("{about}.{mac}")
}

/// When the session ends; `None` when it is none, or is over.
pub(crate) fn expiry(token: &[u8], session: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let (about, given) = session.rsplit_once('.')?;
    mac(token, about).verify_slice(&hex::decode(given).ok()?).ok()?;
    let expires = DateTime::from_timestamp(about.split_once('.')?.0.parse().ok()?, 0)?;
    let left = expires.signed_duration_since(now);
    (left > TimeDelta::zero()).then_some(expires)
}

fn mac(token: &[u8], about: &str) -> Hmac<Sha256> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(token).unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
    mac.update(PURPOSE);
    mac.update(about.as_bytes());
    mac
}

/// The session among the cookies of a request.
pub(crate) fn cookie(header: &str) -> Option<&str> {
    header
        .split(';')
        .filter_map(|pair| pair.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_holds_for_its_time_and_under_its_token() {
        let now = Utc::now();
        let session = issue(b"token", now, "nonce");
        assert!(expiry(b"token", &session, now).is_some());
        let later = now + LIFETIME;
        assert!(expiry(b"token", &session, later).is_none());
        assert!(expiry(b"other", &session, now).is_none());
        // A longer life is another text.
        let (expires, rest) = session.split_once('.').unwrap();
        let longer = format!("{}.{rest}", expires.parse::<i64>().unwrap() + 1);
        assert!(expiry(b"token", &longer, now).is_none());
        for bad in ["", ".", "..", "1.a.zz", &session[..session.len() - 2]] {
            assert!(expiry(b"token", bad, now).is_none(), "{bad}");
        }
        assert!(!session.contains("token"));
    }

    #[test]
    fn it_is_one_of_many_cookies() {
        assert_eq!(cookie("a=b; castlog_session=x.y.z; c=d"), Some("x.y.z"));
        assert_eq!(cookie("not_castlog_session=x"), None);
    }
}
