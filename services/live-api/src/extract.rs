//! What a handler takes out of a request, with the API's own answers for what
//! does not fit.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequest, FromRequestParts, Path, Request, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header, request::Parts},
};
use castlog_log::{BroadcastId, header::TRACEPARENT, trace};
use serde::de::DeserializeOwned;

use crate::{
    http::Api,
    idempotency::{ChangeId, IdempotencyKey},
    problem::{Code, Problem},
};

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<Api>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Arc<Api>) -> Result<Self, Problem> {
        match Json::from_request(request, api).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(JsonRejection::MissingJsonContentType(_)) => Err(Problem::new(
                Code::NotJson,
                "the body must be JSON, with content-type: application/json",
            )),
            Err(error) if error.status() == StatusCode::PAYLOAD_TOO_LARGE => {
                let limit = api.config.max_body_bytes;
                Err(Problem::new(
                    Code::TooLarge,
                    format!("the body is over the limit of {limit} bytes"),
                ))
            }
            Err(error) => Err(Problem::new(Code::Malformed, error.body_text())),
        }
    }
}

/// The broadcast that the path names. What is no id names no broadcast.
pub(crate) struct Id(pub(crate) BroadcastId);

impl FromRequestParts<Arc<Api>> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, api).await.ok();
        path.and_then(|Path(id)| id.parse().ok())
            .map(Self)
            .ok_or_else(Problem::no_broadcast)
    }
}

/// What the headers and the query of a command ask for.
pub(crate) struct Conditions {
    /// The sequence that the newest entry must have.
    pub(crate) if_match: Option<u64>,
    pub(crate) idempotency: Option<IdempotencyKey>,
    /// Answer when LiveInfo has applied the change.
    pub(crate) wait: bool,
    /// W3C trace context.
    pub(crate) traceparent: Option<String>,
}

impl Conditions {
    /// The id that the `Idempotency-Key` gives to the entry of an operation.
    pub(crate) fn change(&self, broadcast: BroadcastId, operation: &str, body: &[u8]) -> Option<ChangeId> {
        self.idempotency
            .as_ref()
            .map(|key| key.change(broadcast, operation, body))
    }
}

impl FromRequestParts<Arc<Api>> for Conditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let mut wait = false;
        for (name, value) in pairs(parts) {
            match (&*name, &*value) {
                ("wait", "applied") => wait = true,
                ("wait", _) => {
                    return Err(Problem::new(Code::Malformed, "wait: the only value is \"applied\""));
                }
                _ => return Err(unknown_parameter(&name)),
            }
        }
        let idempotency = match header_text(&parts.headers, "idempotency-key")? {
            None => None,
            Some(key) => Some(IdempotencyKey::new(&api.config.owner, key).ok_or_else(|| {
                Problem::new(
                    Code::Malformed,
                    "Idempotency-Key is not 1 to 255 visible ASCII characters",
                )
            })?),
        };
        let traceparent = parts.headers.get(TRACEPARENT).and_then(|v| v.to_str().ok());
        Ok(Self {
            if_match: header_text(&parts.headers, header::IF_MATCH.as_str())?.map_or(Ok(None), if_match)?,
            idempotency,
            wait,
            traceparent: traceparent
                .filter(|text| trace::is_traceparent(text))
                .map(str::to_owned),
        })
    }
}

/// `"12"` is the version with sequence 12; `*` is any.
fn if_match(text: &str) -> Result<Option<u64>, Problem> {
    let text = text.trim();
    if text == "*" {
        return Ok(None);
    }
    let tag = text.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    match tag
        .filter(|t| t.bytes().all(|b| b.is_ascii_digit()))
        .and_then(|t| t.parse().ok())
    {
        Some(sequence) => Ok(Some(sequence)),
        None => Err(Problem::new(
            Code::Malformed,
            "If-Match takes one entity tag, a sequence in double quotes such as \"12\", or *",
        )),
    }
}

pub(crate) fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Problem> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    match (value.to_str(), values.next()) {
        (Ok(text), None) => Ok(Some(text)),
        _ => Err(Problem::new(
            Code::Malformed,
            format!("the header {name} comes twice or is not ASCII"),
        )),
    }
}

/// The parameters of the query, decoded, in order.
pub(crate) fn pairs(parts: &Parts) -> Vec<(String, String)> {
    url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
        .into_owned()
        .collect()
}

pub(crate) fn unknown_parameter(name: &str) -> Problem {
    let name: String = name.chars().take(40).collect();
    Problem::new(Code::Malformed, format!("there is no query parameter {name:?}"))
}

/// A number within bounds.
pub(crate) fn number<T>(name: &str, value: &str, lowest: T, highest: T) -> Result<T, Problem>
where
    T: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    match value.parse::<T>() {
        Ok(number) if number >= lowest && number <= highest => Ok(number),
        _ => Err(Problem::new(
            Code::Malformed,
            format!("{name} is not a number within {lowest} to {highest}"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_match_is_one_version_or_any() {
        assert_eq!(if_match("\"12\""), Ok(Some(12)));
        assert_eq!(if_match(" * "), Ok(None));
        for bad in ["12", "W/\"12\"", "\"1\", \"2\"", "\"\"", "\"+1\"", "\"x\"", ""] {
            assert!(if_match(bad).is_err(), "{bad}");
        }
    }
}
