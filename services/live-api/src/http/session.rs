//! Signing in and out of the web pages.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use castlog_log::{EntryId, Secret};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use crate::{
    auth::same_origin,
    extract::Body,
    model::rfc3339,
    problem::{Code, Problem, ProblemBody},
    session::{COOKIE, LIFETIME},
};

/// What a page signs in with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SignIn {
    /// The admin token.
    #[schema(value_type = String)]
    token: Secret<String>,
}

/// Whether the caller is signed in.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Session {
    signed_in: bool,
    /// When the session ends by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<String>,
}

/// Signs in: the token is exchanged for a cookie that scripts cannot read and
/// that other sites cannot have sent. It holds for twelve hours.
#[utoipa::path(
    post, path = "/v1/session", tag = "session", request_body = SignIn,
    responses(
        (status = 204, description = "Signed in", headers(("Set-Cookie" = String, description = "The session"))),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn sign_in(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Body(body): Body<SignIn>,
) -> Result<Response, Problem> {
    same_origin(&headers, &api.config)?;
    api.tokens.admits(body.token.expose())?;
    let nonce = EntryId::generate().to_string();
    let session = api
        .tokens
        .session(Utc::now(), &nonce)
        .ok_or_else(Problem::commands_off)?;
    tracing::info!("signed in to the web pages");
    Ok(set(&api, &session, LIFETIME.as_secs()))
}

/// Says whether the caller is signed in.
#[utoipa::path(
    get, path = "/v1/session", tag = "session",
    responses((status = 200, description = "The session", body = Session))
)]
pub(crate) async fn session(State(api): State<Arc<Api>>, headers: HeaderMap) -> Response {
    let expires = api.tokens.signed_in(&headers, Utc::now());
    let body = Session {
        signed_in: expires.is_some(),
        expires_at: expires.map(rfc3339),
    };
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Signs out: the browser forgets the session.
#[utoipa::path(
    delete, path = "/v1/session", tag = "session",
    responses(
        (status = 204, description = "Signed out"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn sign_out(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    same_origin(&headers, &api.config)?;
    Ok(set(&api, "", 0))
}

fn set(api: &Api, value: &str, seconds: u64) -> Response {
    // Only the API reads it, so pages and media are asked for without it.
    let secure = if api.config.public_url.starts_with("https:") {
        "; Secure"
    } else {
        ""
    };
    let cookie = format!("{COOKIE}={value}; Path=/v1; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    let headers = [
        (header::SET_COOKIE, cookie),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    (StatusCode::NO_CONTENT, headers).into_response()
}

impl Problem {
    pub(crate) fn commands_off() -> Self {
        Self::new(Code::CommandsOff, "no admin token is configured on this server")
    }
}
