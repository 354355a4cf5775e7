//! Tokens with which a private broadcast is watched. No token is kept or logged.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use crate::{
    auth::Admin,
    extract::{Body, Id},
    model::{Broadcast, rfc3339},
    problem::{Code, FieldError, Problem, ProblemBody},
};

/// Limits of a token's life in seconds: a minute, and a day.
const LIFETIME_S: std::ops::RangeInclusive<u32> = 60..=86_400;
/// Four hours: longer than most broadcasts.
const DEFAULT_LIFETIME_S: u32 = 4 * 3600;

/// What a playback token is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewPlaybackToken {
    /// Seconds that it holds, 60 to 86400; the end is rounded up to five minutes.
    #[serde(default = "default_lifetime")]
    #[schema(minimum = 60, maximum = 86_400, default = 14_400)]
    lifetime_s: u32,
}

const fn default_lifetime() -> u32 {
    DEFAULT_LIFETIME_S
}

/// With what a private broadcast is watched.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlaybackToken {
    /// Opens this broadcast, for whoever has it; all who ask within five minutes get
    /// the same.
    token: String,
    /// The playlist, with the token in it.
    playback_url: String,
    /// When it ends. It cannot be taken back before.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Issues a token with which a private broadcast can be watched.
#[utoipa::path(
    post, path = "/v1/broadcasts/{id}/playback-tokens", tag = "commands", security(("token" = [])),
    request_body = NewPlaybackToken,
    params(("id" = String, Path, description = "Broadcast")),
    responses(
        (status = 201, description = "The token", body = PlaybackToken),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn issue(
    State(api): State<Arc<Api>>,
    _: Admin,
    Id(id): Id,
    Body(new): Body<NewPlaybackToken>,
) -> Result<Response, Problem> {
    if !LIFETIME_S.contains(&new.lifetime_s) {
        return Err(Problem::invalid(vec![FieldError {
            field: "lifetime_s".to_owned(),
            detail: format!("is not within {} to {}", LIFETIME_S.start(), LIFETIME_S.end()),
        }]));
    }
    let newest = api.info.get(id).await?.ok_or_else(Problem::no_broadcast)?;
    let hls = &api.config.hls_public_url;
    Broadcast::of(id, &newest, hls).ok_or_else(Problem::no_broadcast)?;
    let lifetime = Duration::from_secs(new.lifetime_s.into());
    let (token, expires) = api.config.playback.issue(id, Utc::now(), lifetime).ok_or_else(|| {
        Problem::new(
            Code::PlaybackOff,
            "no key of playback tokens is configured on this server",
        )
    })?;
    let body = PlaybackToken {
        playback_url: format!("{hls}/t/{token}/live/{id}/index.m3u8"),
        token,
        expires_at: rfc3339(expires),
    };
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(body)).into_response())
}
