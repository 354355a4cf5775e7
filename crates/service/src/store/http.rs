//! How the object store speaks HTTP: with the client that castlog has anyway, and
//! with answers cut down to what may be shown.
//!
//! A failure that may pass (no connection, 5xx, too many requests, two writers at
//! once) comes out as an [`HttpError`], one that is settled as the server's answer.

use std::{error::Error, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use object_store::{
    ClientOptions,
    client::{
        HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpResponseBody, HttpService,
    },
};
use serde::Deserialize;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long nothing may come: from the request, with its body, to the answer, and
/// between two pieces of the answer. The largest objects, archive files of 32 MiB,
/// are through in that time at 10 Mbit/s.
const SILENCE: Duration = Duration::from_secs(30);
/// More than any explanation of an S3 server takes, in bytes.
const EXPLANATION: usize = 64 * 1024;

/// Makes the HTTP client of a store.
#[derive(Debug)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    // The options are the crate's own: nothing sets them.
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            // Requests are signed for the server that they go to.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| object_store::Error::Generic {
                store: "media",
                source: Box::new(error),
            })?;
        Ok(HttpClient::new(Client(client)))
    }
}

#[derive(Debug)]
struct Client(reqwest::Client);

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let (parts, body) = request.into_parts();
        let url = parts.uri.to_string().parse();
        let url = url.map_err(|error: url::ParseError| HttpError::new(HttpErrorKind::Unknown, error))?;
        let mut request = reqwest::Request::new(parts.method, url);
        *request.headers_mut() = parts.headers;
        *request.body_mut() = Some(reqwest::Body::wrap(body));
        let response: http::Response<reqwest::Body> = self.0.execute(request).await.map_err(failed)?.into();
        let (mut parts, body) = response.into_parts();
        if parts.status.is_success() || parts.status.is_redirection() {
            let body = HttpResponseBody::new(body.map_err(failed));
            return Ok(HttpResponse::from_parts(parts, body));
        }
        let explained = explained(body).await;
        if passes(parts.status) {
            let status = parts.status;
            return Err(HttpError::new(HttpErrorKind::Unknown, Answer { status, explained }));
        }
        parts.headers = HeaderMap::new();
        parts.headers.insert(header::CONTENT_LENGTH, explained.len().into());
        Ok(HttpResponse::from_parts(parts, explained.into()))
    }
}

/// Whether the same request may succeed a little later.
fn passes(status: StatusCode) -> bool {
    match status {
        StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => false,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => true,
        // Of a conditional write: another one was under way, and nobody knows which won.
        StatusCode::CONFLICT => true,
        status => status.is_server_error(),
    }
}

/// The server's answer to a request that may succeed later.
#[derive(Debug, thiserror::Error)]
#[error("the server answers {status} {explained}")]
struct Answer {
    status: StatusCode,
    explained: String,
}

/// What an S3 server says of a refusal.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Explanation {
    code: String,
    #[serde(default)]
    message: String,
}

/// Code and message of a refusal. The rest stays here: servers show what they were
/// sent, with a session's token in it.
async fn explained(body: reqwest::Body) -> String {
    let Ok(body) = Limited::new(body, EXPLANATION).collect().await else {
        return String::new();
    };
    explanation(&body.to_bytes())
}

fn explanation(body: &Bytes) -> String {
    let text = String::from_utf8_lossy(body);
    match quick_xml::de::from_str::<Explanation>(&text) {
        Ok(said) if said.message.is_empty() => said.code,
        Ok(said) => format!("{}: {}", said.code, said.message),
        Err(_) => String::new(),
    }
}

/// Why there is no answer, with all that lies behind it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failure(String);

fn failed(error: reqwest::Error) -> HttpError {
    let kind = if error.is_timeout() {
        HttpErrorKind::Timeout
    } else if error.is_connect() {
        HttpErrorKind::Connect
    } else {
        HttpErrorKind::Unknown
    };
    // The store names the URL itself.
    let error = error.without_url();
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    HttpError::new(kind, Failure(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_refusal_only_code_and_message_are_shown() {
        let body = "<?xml version=\"1.0\"?><Error><Code>SignatureDoesNotMatch</Code><Message>Check your \
                    key.</Message><CanonicalRequest>x-amz-security-token:hidden</CanonicalRequest></Error>";
        assert_eq!(explanation(&body.into()), "SignatureDoesNotMatch: Check your key.");
        assert_eq!(
            explanation(&"<Error><Code>NoSuchKey</Code></Error>".into()),
            "NoSuchKey"
        );
        for other in ["", "<html>hidden</html>", "hidden", "<Error><Code>x"] {
            assert_eq!(explanation(&other.into()), "");
        }
    }

    #[test]
    fn what_may_pass_is_told_from_what_is_settled() {
        for status in [500, 502, 503, 429, 408, 409] {
            assert!(passes(StatusCode::from_u16(status).unwrap()), "{status}");
        }
        for status in [400, 403, 404, 412, 416, 501] {
            assert!(!passes(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }
}
