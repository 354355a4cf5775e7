//! The span of a request of the API: it goes on from the caller's `traceparent`,
//! and what the request publishes goes on from it. Neither the path as it was
//! asked for nor the query is told: both can hold what people type.

use axum::{
    extract::{MatchedPath, Request},
    http::{Method, StatusCode},
};
use castlog_log::{
    BroadcastId,
    header::TRACEPARENT,
    trace::{self, TARGET},
};
use tracing::{Span, field};

/// Pages, files and checks of health are not traced: they cause nothing.
pub(super) fn begin(request: &Request, request_id: &str) -> Span {
    let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
    let Some(route) = route.filter(|route| route.starts_with("/v1/")) else {
        return Span::none();
    };
    let method = known(request.method());
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "request",
        otel.name = %format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        url.scheme = "http",
        castlog.request_id = request_id,
        castlog.broadcast_id = broadcast(request.uri().path()).map(field::display),
        http.response.status_code = field::Empty,
        "error.type" = field::Empty,
        otel.status_code = field::Empty,
    );
    let caller = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok());
    trace::continues(&span, caller);
    span
}

pub(super) fn end(span: &Span, status: StatusCode) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    // What a caller got wrong is no failure of the server.
    if status.is_server_error() {
        span.record("error.type", status.as_str());
        span.record("otel.status_code", "ERROR");
    }
}

/// A method can be any word.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

/// The broadcast of `/v1/broadcasts/{id}/…`.
fn broadcast(path: &str) -> Option<BroadcastId> {
    path.strip_prefix("/v1/broadcasts/")?.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_broadcast_and_nothing_else() {
        let id = BroadcastId::generate();
        assert_eq!(broadcast(&format!("/v1/broadcasts/{id}")), Some(id));
        assert_eq!(broadcast(&format!("/v1/broadcasts/{id}/title")), Some(id));
        for other in ["/v1/broadcasts", "/v1/broadcasts/ck_secret", "/v1/search"] {
            assert_eq!(broadcast(other), None, "{other}");
        }
    }

    #[test]
    fn methods_are_a_bounded_set() {
        assert_eq!(known(&Method::PUT), "PUT");
        assert_eq!(known(&Method::from_bytes(b"SECRET").unwrap()), "_OTHER");
    }
}
