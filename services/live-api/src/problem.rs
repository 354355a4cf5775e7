//! What a caller is told when a request fails: RFC 9457 problem details with
//! stable codes. `docs/error-codes.md` says what to do about each of them.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use castlog_log::{PublishError, ReadError};
use serde::Serialize;
use utoipa::ToSchema;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $status:ident, $title:literal;)*) => {
        /// The stable part of an error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code { $($(#[$doc])* $name),* }

        impl Code {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code as callers see it, e.g. `A05`.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $code),* }
            }

            /// The HTTP status that it comes with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),* }
            }

            /// What it means, in a few words.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),* }
            }
        }
    };
}

codes! {
    /// No bearer token, or a wrong one.
    Unauthorized = "A01", UNAUTHORIZED, "authentication required";
    /// No admin token is configured, so nobody may give commands.
    CommandsOff = "A02", FORBIDDEN, "commands are switched off";
    /// The request cannot be read.
    Malformed = "A03", BAD_REQUEST, "malformed request";
    /// A value is outside of its limits.
    InvalidValue = "A04", UNPROCESSABLE_ENTITY, "invalid value";
    /// There is no such broadcast, or the caller may not see it.
    NoBroadcast = "A05", NOT_FOUND, "no such broadcast";
    /// There is nothing at this path.
    NoPath = "A06", NOT_FOUND, "no such path";
    /// The path does not take this method.
    NoMethod = "A07", METHOD_NOT_ALLOWED, "method not allowed";
    /// The body is over the limit.
    TooLarge = "A08", PAYLOAD_TOO_LARGE, "body too large";
    /// The body is not JSON.
    NotJson = "A09", UNSUPPORTED_MEDIA_TYPE, "unsupported media type";
    /// What `If-Match` names is not the current version.
    VersionConflict = "A10", PRECONDITION_FAILED, "version conflict";
    /// The `Idempotency-Key` belongs to another request.
    KeyReused = "A11", UNPROCESSABLE_ENTITY, "idempotency key reused";
    /// The log cannot be reached.
    LogUnavailable = "A12", SERVICE_UNAVAILABLE, "log unavailable";
    /// LiveInfo cannot be reached.
    InfoUnavailable = "A13", SERVICE_UNAVAILABLE, "live info unavailable";
    /// The search index cannot be reached.
    SearchUnavailable = "A14", SERVICE_UNAVAILABLE, "search unavailable";
    /// The request took too long.
    TimedOut = "A15", SERVICE_UNAVAILABLE, "timed out";
    /// Something is wrong on the server.
    Internal = "A16", INTERNAL_SERVER_ERROR, "internal error";
    /// Too many readers of events.
    TooManyReaders = "A17", SERVICE_UNAVAILABLE, "too many readers";
    /// The change feed has not been read to its end.
    StatisticsUnavailable = "A18", SERVICE_UNAVAILABLE, "statistics unavailable";
    /// A page of another origin sends the request.
    CrossSite = "A19", FORBIDDEN, "request from another site";
    /// There is no such entry in the log, or no such dead letter.
    NoEntry = "A20", NOT_FOUND, "no such entry";
    /// The consumer of a dead letter still cannot apply its entry.
    NotRedriven = "A21", CONFLICT, "not redriven";
    /// The consumer of a dead letter does not answer.
    ConsumerUnavailable = "A22", SERVICE_UNAVAILABLE, "consumer unavailable";
    /// No key is configured, so nobody gets a playback token.
    PlaybackOff = "A23", FORBIDDEN, "playback tokens are switched off";
}

/// A request that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: Code,
    detail: String,
    errors: Vec<FieldError>,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct FieldError {
    /// The field, e.g. `options.language`.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) detail: String,
}

/// Problem details after RFC 9457, as `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody {
    /// A link to the explanation of the code.
    r#type: String,
    /// What the code means.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request.
    detail: String,
    /// The stable code.
    #[schema(example = "A04")]
    code: &'static str,
    /// The fields with a wrong value.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

/// Seconds after which trying again makes sense when something is unavailable:
/// clients reconnect to a restarted server within this time.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("2");

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
        }
    }

    /// Values outside of their limits.
    pub(crate) fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors
            .iter()
            .map(|e| format!("{}: {}", e.field, e.detail))
            .collect::<Vec<_>>()
            .join("; ");
        Self {
            code: Code::InvalidValue,
            detail,
            errors,
        }
    }

    pub(crate) fn no_broadcast() -> Self {
        Self::new(Code::NoBroadcast, "there is no such broadcast")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Self { code, detail, errors } = self;
        let status = code.status();
        let body = ProblemBody {
            r#type: format!("/docs#{}", code.as_str()),
            title: code.title(),
            status: status.as_u16(),
            detail,
            code: code.as_str(),
            errors,
        };
        let mut response = (status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Bearer realm=\"castlog\""),
                );
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            _ => {}
        }
        response
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Undecodable {
                ref stream,
                sequence,
                ref source,
            } => {
                tracing::error!(stream, seq = sequence, error = %source, "an entry in the log cannot be decoded");
                Self::new(
                    Code::Internal,
                    "the log holds an entry for this broadcast that cannot be read",
                )
            }
            error => {
                tracing::warn!(error = %error, "the log cannot be read");
                Self::new(Code::LogUnavailable, "the log cannot be read; nothing was changed")
            }
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Conflict { .. } => Self::new(Code::VersionConflict, "another change came first"),
            PublishError::TooLarge { actual, limit, .. } => Self::new(
                Code::InvalidValue,
                format!("the change takes {actual} bytes in the log, over the limit of {limit}"),
            ),
            error => {
                tracing::warn!(error = %error, "an entry was not acknowledged");
                Self::new(
                    Code::LogUnavailable,
                    "the log did not confirm the change, which may or may not be stored; repeating it with the same \
                     Idempotency-Key is safe",
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document's row for `code`, e.g. `| R01 | …`.
    fn documented(document: &str, code: &str) -> bool {
        document.lines().any(|line| line.starts_with(&format!("| {code} |")))
    }

    #[test]
    fn every_code_is_documented_with_its_status() {
        let document = include_str!("../../../docs/error-codes.md");
        for code in Code::ALL {
            let start = format!("| {} | {} |", code.as_str(), code.status().as_u16());
            assert!(
                document.lines().any(|line| line.starts_with(&start)),
                "no row starts with {start:?}"
            );
        }
        for code in 1..=8 {
            assert!(documented(document, &format!("R{code:02}")), "R{code:02}");
        }
        assert!(!documented(document, "A99"));
    }

    #[test]
    fn codes_are_unique_and_in_order() {
        let codes: Vec<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let wanted: Vec<_> = (1..=codes.len()).map(|n| format!("A{n:02}")).collect();
        assert_eq!(codes, wanted);
    }
}
