//! What the log says of one broadcast over time: its titles, its recordings, and the
//! health of its encoder.

use std::{future::ready, sync::Arc};

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::request::Parts,
};
use castlog_log::{
    Entry, Event, Kind, pb,
    session::{PastSession, RECORDINGS_KEPT},
};
use chrono::{TimeDelta, Utc};
use futures::TryStreamExt as _;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use crate::{
    auth::{Admin, Viewer},
    extract::{Id, number, pairs, unknown_parameter},
    model::{Broadcast, rfc3339},
    problem::{Problem, ProblemBody},
};

/// Most titles of an answer: the newest.
const MAX_TITLES: usize = 200;
/// Most recordings of an answer: the newest.
const MAX_RECORDINGS: usize = 100;
/// Samples are kept for a day.
const MAX_MINUTES: i64 = 24 * 60;
/// Most samples of an answer, the newest: a day of one every five seconds.
const MAX_SAMPLES: usize = 17_280;

/// The titles that a broadcast has had.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Titles {
    /// The oldest first; of many, the newest 200.
    items: Vec<TitleChange>,
}

/// A title, and since when.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TitleChange {
    title: String,
    #[schema(format = DateTime)]
    at: String,
    /// Sequence of the entry.
    seq: u64,
}

/// Lists the titles that a broadcast has had.
#[utoipa::path(
    get, path = "/v1/broadcasts/{id}/titles", tag = "queries", security((), ("token" = [])),
    params(("id" = String, Path, description = "Broadcast")),
    responses(
        (status = 200, description = "Titles", body = Titles),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn titles(State(api): State<Arc<Api>>, viewer: Viewer, Id(id): Id) -> Result<Json<Titles>, Problem> {
    let newest = api.info.get(id).await?.ok_or_else(Problem::no_broadcast)?;
    Broadcast::of(id, &newest, &api.config.hls_public_url)
        .filter(|broadcast| viewer.is_admin || broadcast.is_public())
        .ok_or_else(Problem::no_broadcast)?;
    let mut items: Vec<TitleChange> = api
        .log
        .history(Kind::Title.of(id))
        .await?
        .into_iter()
        .filter_map(|entry| {
            let Event::Title(pb::Title {
                event: Some(pb::title::Event::Changed(changed)),
            }) = &entry.event
            else {
                return None;
            };
            Some(TitleChange {
                title: changed.title.clone(),
                at: rfc3339(entry.time),
                seq: entry.sequence(),
            })
        })
        .collect();
    items.drain(..items.len().saturating_sub(MAX_TITLES));
    Ok(Json(Titles { items }))
}

/// What can be watched of a broadcast's sessions that are over.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Recordings {
    /// The newest first; of many, the newest 100. Empty when the broadcast does not
    /// keep any.
    items: Vec<Recording>,
}

/// A session that is over and was recorded.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Recording {
    session_id: String,
    #[schema(format = DateTime)]
    started_at: String,
    #[schema(format = DateTime)]
    ended_at: String,
    /// Until when it is kept.
    #[schema(format = DateTime)]
    until: String,
    /// Its multivariant playlist.
    playback_url: String,
}

/// Lists the recordings of a broadcast.
#[utoipa::path(
    get, path = "/v1/broadcasts/{id}/recordings", tag = "queries", security((), ("token" = [])),
    params(("id" = String, Path, description = "Broadcast")),
    responses(
        (status = 200, description = "Recordings", body = Recordings),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn recordings(
    State(api): State<Arc<Api>>,
    viewer: Viewer,
    Id(id): Id,
) -> Result<Json<Recordings>, Problem> {
    let newest = api.info.get(id).await?.ok_or_else(Problem::no_broadcast)?;
    let hls = &api.config.hls_public_url;
    let broadcast = Broadcast::of(id, &newest, hls)
        .filter(|broadcast| viewer.is_admin || broadcast.is_public())
        .ok_or_else(Problem::no_broadcast)?;
    if !broadcast.options.record {
        return Ok(Json(Recordings { items: Vec::new() }));
    }
    let now = Utc::now();
    let mut past = api.log.past_sessions(id).await?;
    past.retain(|session| session.recorded && session.started_at + RECORDINGS_KEPT > now);
    let recording = |session: &PastSession| Recording {
        session_id: session.id.to_string(),
        started_at: rfc3339(session.started_at),
        ended_at: rfc3339(session.ended_at),
        until: rfc3339(session.started_at + RECORDINGS_KEPT),
        playback_url: format!("{hls}/recordings/{id}/{}/index.m3u8", session.id),
    };
    let items = past.iter().rev().take(MAX_RECORDINGS).map(recording).collect();
    Ok(Json(Recordings { items }))
}

/// The health of a broadcast's encoder over time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// The oldest first. Where the encoder was gone, there are none.
    samples: Vec<HealthSample>,
}

/// What came in from the encoder during a few seconds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthSample {
    /// When the sample ends.
    #[schema(format = DateTime)]
    at: String,
    session_id: String,
    /// Length in milliseconds.
    window_ms: u32,
    /// Received bits per second.
    bitrate: u64,
    /// Frames per 1000 seconds.
    frame_rate_milli: u32,
    /// Longest distance between keyframes; 0 = none seen.
    keyframe_interval_ms: u32,
    /// Readers, such as pipelines, that were let go in it since they were too slow.
    dropped: u64,
    /// Audio time minus video time of the newest messages.
    av_drift_ms: i32,
}

impl HealthSample {
    fn of(entry: &Entry) -> Option<Self> {
        let Event::Health(pb::Health {
            event: Some(pb::health::Event::Sampled(sampled)),
        }) = &entry.event
        else {
            return None;
        };
        Some(Self {
            at: rfc3339(entry.time),
            session_id: sampled.session_id.clone(),
            window_ms: sampled.window_ms,
            bitrate: sampled.bitrate,
            frame_rate_milli: sampled.frame_rate_milli,
            keyframe_interval_ms: sampled.keyframe_interval_ms,
            dropped: sampled.dropped,
            av_drift_ms: sampled.av_drift_ms,
        })
    }
}

/// How far back the samples go.
pub(crate) struct Since {
    minutes: i64,
}

impl FromRequestParts<Arc<Api>> for Since {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        let mut minutes = 15;
        for (name, value) in pairs(parts) {
            match &*name {
                "minutes" => minutes = number("minutes", &value, 1, MAX_MINUTES)?,
                _ => return Err(unknown_parameter(&name)),
            }
        }
        Ok(Self { minutes })
    }
}

/// Lists samples of the health of a broadcast's encoder.
#[utoipa::path(
    get, path = "/v1/broadcasts/{id}/health", tag = "queries", security(("token" = [])),
    params(
        ("id" = String, Path, description = "Broadcast"),
        ("minutes" = Option<i64>, Query, description = "How far back; 1 to 1440, the default is 15", minimum = 1, maximum = 1440),
    ),
    responses(
        (status = 200, description = "Samples", body = Health),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn health(
    State(api): State<Arc<Api>>,
    _: Admin,
    Id(id): Id,
    since: Since,
) -> Result<Json<Health>, Problem> {
    let since = Utc::now() - TimeDelta::minutes(since.minutes);
    let entries = api.log.scan(Kind::Health.of(id), Some(since));
    let mut samples: Vec<HealthSample> = entries
        .try_filter_map(|entry| ready(Ok(HealthSample::of(&entry))))
        .try_collect()
        .await?;
    samples.drain(..samples.len().saturating_sub(MAX_SAMPLES));
    Ok(Json(Health { samples }))
}
