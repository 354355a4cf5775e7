//! Playback tokens in URLs: `/t/<token>` in front of any path, which the relative
//! URIs of playlists inherit. A token is taken out of the URL before anything else
//! looks at it, so that what is logged, counted or told of a request has none.

use std::{convert::Infallible, sync::Arc};

use axum::{
    extract::{FromRequestParts, Request},
    http::{Uri, request::Parts, uri::PathAndQuery},
};

/// What stands before a token.
const PREFIX: &str = "/t/";

/// The token that a request shows.
#[derive(Clone, Default)]
pub(crate) struct Ticket(Option<Arc<str>>);

impl Ticket {
    pub(crate) fn token(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

/// Takes the token out of the URL of a request.
pub(crate) fn take(mut request: Request) -> Request {
    if let Some((token, uri)) = split(request.uri()) {
        *request.uri_mut() = uri;
        request.extensions_mut().insert(Ticket(Some(token)));
    }
    request
}

fn split(uri: &Uri) -> Option<(Arc<str>, Uri)> {
    let text = uri.path_and_query()?.as_str().strip_prefix(PREFIX)?;
    let (token, _) = text.split_once('/').filter(|(token, _)| !token.contains('?'))?;
    let rest: PathAndQuery = text[token.len()..].parse().ok()?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(rest);
    Some((token.into(), Uri::from_parts(parts).ok()?))
}

impl<S: Sync> FromRequestParts<S> for Ticket {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get().cloned().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_stands_before_the_path() {
        let of = |uri: &str| split(&uri.parse().unwrap()).map(|(token, rest)| (token.to_string(), rest.to_string()));
        let some = |token: &str, rest: &str| Some((token.to_owned(), rest.to_owned()));
        assert_eq!(
            of("/t/1.a/live/b/index.m3u8?session=s"),
            some("1.a", "/live/b/index.m3u8?session=s")
        );
        assert_eq!(of("http://host/t/1.a/media/x"), some("1.a", "http://host/media/x"));
        assert_eq!(of("/t//live"), some("", "/live"));
        for other in ["/t/1.a", "/t/?/x", "/live/t/1.a/x", "/media/t/x"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
