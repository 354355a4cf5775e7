//! Who asks: bearer tokens, compared without telling by time how much of a guess was right.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use castlog_log::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{
    http::Api,
    problem::{Code, Problem},
};

/// The configured tokens.
pub(crate) struct Tokens {
    /// Digests have one length, so a comparison takes the same time for every guess.
    admin: Option<[u8; 32]>,
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Tokens {
    /// An empty token means that nobody is an admin.
    pub(crate) fn new(admin: &Secret<String>) -> Self {
        let admin = admin.expose();
        Self {
            admin: (!admin.is_empty()).then(|| digest(admin)),
        }
    }

    /// Whether a request comes from an admin: `Ok(false)` when it names no token.
    fn check(&self, headers: &axum::http::HeaderMap) -> Result<bool, Problem> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            return Ok(false);
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
        match &self.admin {
            None => Err(Problem::new(
                Code::CommandsOff,
                "no admin token is configured on this server",
            )),
            Some(admin) if bool::from(digest(token).ct_eq(admin)) => Ok(true),
            Some(_) => Err(Problem::new(Code::Unauthorized, "the token is wrong")),
        }
    }
}

/// A caller with the admin token.
pub(crate) struct Admin;

impl FromRequestParts<Arc<Api>> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        match api.tokens.check(&parts.headers)? {
            true => Ok(Self),
            false if api.tokens.admin.is_none() => Err(Problem::new(
                Code::CommandsOff,
                "no admin token is configured on this server",
            )),
            false => Err(Problem::new(
                Code::Unauthorized,
                "this needs the admin token as a bearer token",
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
            is_admin: api.tokens.check(&parts.headers)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    fn check(tokens: &Tokens, value: Option<&str>) -> Result<bool, Code> {
        let headers = value.map(|v| (header::AUTHORIZATION, v.parse().unwrap()));
        tokens.check(&HeaderMap::from_iter(headers)).map_err(|p| p.code)
    }

    #[test]
    fn only_the_token_opens() {
        let tokens = Tokens::new(&Secret::new("0123456789abcdef".to_owned()));
        assert_eq!(check(&tokens, Some("Bearer 0123456789abcdef")), Ok(true));
        assert_eq!(check(&tokens, Some("bearer 0123456789abcdef")), Ok(true));
        assert_eq!(check(&tokens, None), Ok(false));
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
        assert_eq!(check(&tokens, None), Ok(false));
    }
}
