//! Who asks: bearer tokens, compared without telling by time how much of a guess was right.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, header, request::Parts},
};
use castlog_log::Secret;
use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use url::Url;

use crate::{
    config::Config,
    http::Api,
    problem::{Code, Problem},
    session,
};

/// The configured tokens.
pub(crate) struct Tokens {
    admin: Option<Admitted>,
}

struct Admitted {
    token: Secret<String>,
    /// Digests have one length, so a comparison takes the same time for every guess.
    digest: [u8; 32],
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// By what a request shows who it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Caller {
    /// It shows nothing.
    Anyone,
    /// The admin token.
    Token,
    /// The session of a web page, which a browser sends by itself.
    Session,
}

impl Tokens {
    /// An empty token means that nobody is an admin.
    pub(crate) fn new(admin: &Secret<String>) -> Self {
        let admin = (!admin.expose().is_empty()).then(|| Admitted {
            digest: digest(admin.expose()),
            token: admin.clone(),
        });
        Self { admin }
    }

    /// Whether this is the token.
    pub(crate) fn admits(&self, token: &str) -> Result<(), Problem> {
        let admin = self.admin.as_ref().ok_or_else(Problem::commands_off)?;
        if bool::from(digest(token).ct_eq(&admin.digest)) {
            Ok(())
        } else {
            Err(Problem::new(Code::Unauthorized, "the token is wrong"))
        }
    }

    /// A new session; `None` when nobody is an admin.
    pub(crate) fn session(&self, now: DateTime<Utc>, nonce: &str) -> Option<String> {
        let admin = self.admin.as_ref()?;
        Some(session::issue(admin.token.expose().as_bytes(), now, nonce))
    }

    /// When the session of a request ends; `None` when it has none.
    pub(crate) fn signed_in(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let admin = self.admin.as_ref()?;
        let cookies = headers.get_all(header::COOKIE).iter();
        let session = cookies
            .filter_map(|cookies| session::cookie(cookies.to_str().ok()?))
            .next()?;
        session::expiry(admin.token.expose().as_bytes(), session, now)
    }

    /// Who a request comes from. A session that is over shows nothing; a wrong
    /// token is refused.
    fn check(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            let signed_in = self.signed_in(headers, Utc::now()).is_some();
            return Ok(if signed_in { Caller::Session } else { Caller::Anyone });
        };
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let Some(token) = token else {
            return Err(Problem::new(
                Code::Unauthorized,
                "the form of the header is \"Authorization: Bearer <token>\"",
            ));
        };
        self.admits(token).map(|()| Caller::Token)
    }
}

/// A browser says from which origin a page sends a request that changes something.
/// The cookie is not sent for other sites, but other ports of a host are the same
/// site to it.
pub(crate) fn same_origin(headers: &HeaderMap, config: &Config) -> Result<(), Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(origin) = text(header::ORIGIN) else {
        return Err(Problem::new(
            Code::CrossSite,
            "a request with a session, or for one, names its origin",
        ));
    };
    let ours = |ours: &str| Url::parse(ours).is_ok_and(|url| url.origin().ascii_serialization() == origin);
    let host = text(header::HOST).unwrap_or_default();
    if ours(&config.public_url) || ours(&format!("http://{host}")) || ours(&format!("https://{host}")) {
        Ok(())
    } else {
        Err(Problem::new(
            Code::CrossSite,
            "the request comes from a page of another site",
        ))
    }
}

/// A caller with the admin token, or who has signed in with it.
pub(crate) struct Admin {
    /// How the caller is known, for what is put on record.
    pub(crate) by: &'static str,
}

const BY_TOKEN: Admin = Admin {
    by: "admin, by the token",
};
const BY_SESSION: Admin = Admin {
    by: "admin, signed in on the pages",
};

impl FromRequestParts<Arc<Api>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        match api.tokens.check(&parts.headers)? {
            Caller::Token => Ok(BY_TOKEN),
            Caller::Session if parts.method.is_safe() => Ok(BY_SESSION),
            Caller::Session => same_origin(&parts.headers, &api.config).map(|()| BY_SESSION),
            Caller::Anyone if api.tokens.admin.is_none() => Err(Problem::commands_off()),
            Caller::Anyone => Err(Problem::new(
                Code::Unauthorized,
                "this needs the admin token as a bearer token, or a session",
            )),
        }
    }
}

/// Any caller. A wrong token is refused all the same, so that nobody takes the
/// public part of an answer for all of it.
pub(crate) struct Viewer {
    pub(crate) is_admin: bool,
}

impl FromRequestParts<Arc<Api>> for Viewer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        Ok(Self {
            is_admin: api.tokens.check(&parts.headers)? != Caller::Anyone,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tokens: &Tokens, value: Option<&str>) -> Result<Caller, Code> {
        let headers = value.map(|v| (header::AUTHORIZATION, v.parse().unwrap()));
        tokens.check(&HeaderMap::from_iter(headers)).map_err(|p| p.code)
    }

    #[test]
    fn only_the_token_opens() {
        let tokens = Tokens::new(&Secret::new("0123456789abcdef".to_owned()));
        assert_eq!(check(&tokens, Some("Bearer 0123456789abcdef")), Ok(Caller::Token));
        assert_eq!(check(&tokens, Some("bearer 0123456789abcdef")), Ok(Caller::Token));
        assert_eq!(check(&tokens, None), Ok(Caller::Anyone));
        for bad in [
            "Bearer 0123456789abcdeF",
            "Bearer ",
            "Bearer",
            "0123456789abcdef",
            "Basic 0123456789abcdef",
        ] {
            assert_eq!(check(&tokens, Some(bad)), Err(Code::Unauthorized), "{bad}");
        }
    }

    #[test]
    fn without_a_configured_token_nothing_opens() {
        let tokens = Tokens::new(&Secret::default());
        assert_eq!(check(&tokens, Some("Bearer ")), Err(Code::CommandsOff));
        assert_eq!(check(&tokens, None), Ok(Caller::Anyone));
    }

    #[test]
    fn a_session_stands_for_the_token_until_it_is_over() {
        let tokens = Tokens::new(&Secret::new("0123456789abcdef".to_owned()));
        let with = |session: &str| {
            let cookie = format!("{}={session}", session::COOKIE).parse().unwrap();
            tokens.check(&HeaderMap::from_iter([(header::COOKIE, cookie)])).unwrap()
        };
        let now = Utc::now();
        assert_eq!(with(&tokens.session(now, "n").unwrap()), Caller::Session);
        let over = tokens.session(now - session::LIFETIME, "n").unwrap();
        assert_eq!((with(&over), with("made.up.00")), (Caller::Anyone, Caller::Anyone));
        // The token is no session.
        assert_eq!(with("0123456789abcdef"), Caller::Anyone);
    }

    #[test]
    fn a_page_of_another_origin_changes_nothing() {
        let config = Config {
            public_url: "https://live.example".to_owned(),
            ..Config::default()
        };
        let from = |origin: Option<&str>| {
            let host = (header::HOST, "127.0.0.1:8080".parse().unwrap());
            let origin = origin.map(|origin| (header::ORIGIN, origin.parse().unwrap()));
            same_origin(&HeaderMap::from_iter(std::iter::once(host).chain(origin)), &config).is_ok()
        };
        assert!(from(Some("https://live.example")) && from(Some("http://127.0.0.1:8080")));
        for other in ["http://127.0.0.1:8081", "https://evil.example", "null", ""] {
            assert!(!from(Some(other)), "{other}");
        }
        assert!(!from(None));
    }
}
