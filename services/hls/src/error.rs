//! What viewers are told when they get no media: RFC 9457 problem details with
//! stable codes.

use axum::{
    Json,
    http::{HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};

use castlog_playback::Refusal;

use crate::state::Absent;

/// Why a request is not answered with media.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Problem {
    NotLive,
    Starting,
    Private(Refusal),
    Deleted,
    NoRendition,
    NoMedia,
    NotReady,
    Store,
    Full,
    Range { size: u64 },
    NoPage,
    Directive(&'static str),
    NotInTime,
    NoRecording,
    LogUnavailable,
}

impl From<Absent> for Problem {
    fn from(absent: Absent) -> Self {
        match absent {
            // What is deleted is not there.
            Absent::NotLive | Absent::Deleted => Self::NotLive,
            Absent::Private(refusal) => Self::Private(refusal),
            Absent::Starting => Self::Starting,
            Absent::NoRendition => Self::NoRendition,
            Absent::Full => Self::Full,
        }
    }
}

impl Problem {
    const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::NotLive => (
                StatusCode::NOT_FOUND,
                "H01",
                "there is no such broadcast, or it is not live",
            ),
            Self::Starting => (
                StatusCode::NOT_FOUND,
                "H02",
                "the broadcast is starting: its first segments are still to come",
            ),
            Self::Private(refusal) => match refusal {
                Refusal::Missing => (
                    StatusCode::FORBIDDEN,
                    "H03",
                    "the broadcast is private: it is watched with a playback token",
                ),
                Refusal::Wrong => (
                    StatusCode::FORBIDDEN,
                    "H13",
                    "the playback token is none of this broadcast's",
                ),
                Refusal::Expired => (StatusCode::FORBIDDEN, "H14", "the playback token has ended"),
                Refusal::NoKey => (
                    StatusCode::FORBIDDEN,
                    "H15",
                    "the broadcast is private, and this edge has no key to check playback tokens with",
                ),
            },
            Self::Deleted => (StatusCode::FORBIDDEN, "H18", "the broadcast has been deleted"),
            Self::NoRendition => (StatusCode::NOT_FOUND, "H04", "the broadcast has no such rendition"),
            Self::NoMedia => (StatusCode::NOT_FOUND, "H05", "there is no such media object"),
            Self::NotReady => (
                StatusCode::SERVICE_UNAVAILABLE,
                "H06",
                "the edge is still reading what is live; try again",
            ),
            Self::Store => (
                StatusCode::SERVICE_UNAVAILABLE,
                "H07",
                "the media store cannot be read; try again",
            ),
            Self::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                "H08",
                "the edge shows as many broadcasts as it may; try again",
            ),
            Self::Range { .. } => (
                StatusCode::RANGE_NOT_SATISFIABLE,
                "H09",
                "the media object does not have the bytes asked for",
            ),
            Self::Directive(reason) => (StatusCode::BAD_REQUEST, "H11", reason),
            Self::NotInTime => (
                StatusCode::SERVICE_UNAVAILABLE,
                "H12",
                "the media waited for has not come in three target durations",
            ),
            Self::NoRecording => (
                StatusCode::NOT_FOUND,
                "H16",
                "there is no such recording, or the broadcast does not keep any",
            ),
            Self::LogUnavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "H17",
                "the log cannot be read; try again",
            ),
            Self::NoPage => (StatusCode::NOT_FOUND, "H10", "there is nothing at this address"),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, code, detail) = self.parts();
        let body = serde_json::json!({
            "type": "about:blank",
            "title": status.canonical_reason().unwrap_or_default(),
            "status": status.as_u16(),
            "detail": detail,
            "code": code,
        });
        // What is absent may be there a second later: at the start, or at the next segment.
        // What is refused to one is there for another, whose copy it must not become.
        let lifetime = if status.is_server_error() || status == StatusCode::FORBIDDEN {
            "no-store"
        } else {
            "public, max-age=1"
        };
        let headers: [(HeaderName, &str); 2] = [
            (header::CONTENT_TYPE, "application/problem+json"),
            (header::CACHE_CONTROL, lifetime),
        ];
        let mut response = (status, headers, Json(body)).into_response();
        // `Json` sets a content type of its own.
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            const { axum::http::HeaderValue::from_static("application/problem+json") },
        );
        if status == StatusCode::SERVICE_UNAVAILABLE || self == Self::Starting {
            headers.insert(header::RETRY_AFTER, const { axum::http::HeaderValue::from_static("1") });
        }
        if let Self::Range { size } = self
            && let Ok(value) = format!("bytes */{size}").parse()
        {
            headers.insert(header::CONTENT_RANGE, value);
        }
        response
    }
}
