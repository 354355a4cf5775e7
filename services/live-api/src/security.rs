//! Headers that keep a browser from doing with our pages what we do not mean.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderValue, header},
    middleware::Next,
    response::Response,
};

use crate::config::Config;

/// The headers that every answer gets, unless it has its own.
#[derive(Clone)]
pub(crate) struct Headers(Arc<HeaderValue>);

impl Headers {
    pub(crate) fn new(config: &Config) -> Self {
        Self(Arc::new(
            policy(config)
                .parse()
                .unwrap_or(HeaderValue::from_static("default-src 'none'")),
        ))
    }
}

/// The content security policy of the web UI: its own files, and media from the
/// HLS server. hls.js plays from blobs and works in a worker made of one.
fn policy(config: &Config) -> String {
    let hls = config.hls_origin();
    format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; img-src 'self' data: blob: {hls}; \
         media-src 'self' blob: {hls}; connect-src 'self' {hls}; worker-src 'self' blob:; manifest-src 'self'; \
         base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    )
}

pub(crate) async fn add(State(Headers(policy)): State<Headers>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert_with(|| (*policy).clone());
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_comes_from_the_hls_server_only() {
        let config = Config {
            hls_public_url: "https://cdn.example:8443/base".to_owned(),
            ..Config::default()
        };
        let policy = policy(&config);
        assert!(
            policy.contains("connect-src 'self' https://cdn.example:8443;"),
            "{policy}"
        );
        assert!(policy.contains("script-src 'self';"), "{policy}");
    }
}
