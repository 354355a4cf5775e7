//! Handlers that change something.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use castlog_log::{BroadcastId, Event, Kind, pb};
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, Ingest};
use crate::{
    auth::Admin,
    extract::{Body, Conditions, Id},
    input::{self, NewBroadcast, NewTags, NewTitle},
    model::{Broadcast, Options},
    problem::{Problem, ProblemBody},
};

/// A new broadcast.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Created {
    broadcast: Broadcast,
    /// What the encoder authenticates with. It is shown this once; null when the
    /// request repeats an earlier one.
    #[schema(example = "ck_4yq2…")]
    publish_key: Option<String>,
    ingest: Ingest,
    /// What to do when the key is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

/// A change that is in the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Changed {
    /// Sequence of the entry, the new version of its kind.
    sequence: u64,
    /// With `wait=applied`: whether LiveInfo has applied the change in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<bool>,
}

/// A new publish key.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewKey {
    /// It is shown this once; null when the request repeats an earlier one.
    publish_key: Option<String>,
    ingest: Ingest,
    sequence: u64,
    /// With `wait=applied`: whether LiveInfo has applied the change in time.
    #[serde(skip_serializing_if = "Option::is_none")]
    applied: Option<bool>,
    /// What to do when the key is null.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'static str>,
}

const HINT: &str = "this request was answered before and the key is shown once; rotate the publish key for a new one";

/// Creates a broadcast.
///
/// The answer is the only place where the publish key is ever shown. With an
/// `Idempotency-Key`, a repetition answers 200 with the broadcast of the first
/// request and without its key.
#[utoipa::path(
    post, path = "/v1/broadcasts", tag = "commands", security(("token" = [])),
    request_body = NewBroadcast,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Names this request, so that repeating it is safe"),
        ("wait" = Option<String>, Query, description = "`applied`: answer when LiveInfo has the change, after 5 s at most"),
    ),
    responses(
        (status = 201, description = "Created", body = Created, headers(
            ("Location" = String, description = "Path of the broadcast"))),
        (status = 200, description = "Created by an earlier request with this Idempotency-Key", body = Created),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    _: Admin,
    conditions: Conditions,
    Body(new): Body<NewBroadcast>,
) -> Result<Response, Problem> {
    let new = input::broadcast(new).map_err(Problem::invalid)?;
    let created = api.commands.create(new, &conditions).await?;
    let broadcast =
        Broadcast::of(created.id, &created.newest, &api.config.hls_public_url).ok_or_else(Problem::no_broadcast)?;
    let location = format!("/v1/broadcasts/{}", created.id);
    let status = if created.key.is_some() {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    if conditions.wait {
        let key = created
            .newest
            .get(&Kind::PublishKey)
            .map_or(0, |(_, sequence)| *sequence);
        // The key's entry is the last of the creation, so LiveInfo has the others too.
        api.info.wait_applied(created.id, Kind::PublishKey, key).await;
    }
    let body = Created {
        broadcast,
        hint: created.key.is_none().then_some(HINT),
        publish_key: created.key.map(|key| key.expose().to_owned()),
        ingest: Ingest::of(&api.config),
    };
    let headers = [
        (header::LOCATION, location),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((status, headers, Json(body)).into_response())
}

/// Changes the title.
#[utoipa::path(
    put, path = "/v1/broadcasts/{id}/title", tag = "commands", security(("token" = [])), request_body = NewTitle,
    params(
        ("id" = String, Path, description = "Broadcast"),
        ("If-Match" = Option<String>, Header, description = "Current version, e.g. `\"12\"`; another one answers 412"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this request, so that repeating it is safe"),
        ("wait" = Option<String>, Query, description = "`applied`: answer when LiveInfo has the change, after 5 s at most"),
    ),
    responses(
        (status = 200, description = "Changed", body = Changed, headers(("ETag" = String, description = "The new version"))),
        (status = 202, description = "Changed, and LiveInfo has not applied it in time", body = Changed),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn set_title(
    State(api): State<Arc<Api>>,
    _: Admin,
    Id(id): Id,
    conditions: Conditions,
    Body(new): Body<NewTitle>,
) -> Result<Response, Problem> {
    let title = input::title(&new.title).map_err(Problem::invalid)?;
    let event = pb::Title {
        event: Some(pb::title::Event::Changed(pb::title::Changed { title })),
    };
    set(&api, id, event.into(), &conditions).await
}

/// Changes the tags.
#[utoipa::path(
    put, path = "/v1/broadcasts/{id}/tags", tag = "commands", security(("token" = [])), request_body = NewTags,
    params(
        ("id" = String, Path, description = "Broadcast"),
        ("If-Match" = Option<String>, Header, description = "Current version, e.g. `\"12\"`; another one answers 412"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this request, so that repeating it is safe"),
        ("wait" = Option<String>, Query, description = "`applied`: answer when LiveInfo has the change, after 5 s at most"),
    ),
    responses(
        (status = 200, description = "Changed", body = Changed, headers(("ETag" = String, description = "The new version"))),
        (status = 202, description = "Changed, and LiveInfo has not applied it in time", body = Changed),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn set_tags(
    State(api): State<Arc<Api>>,
    _: Admin,
    Id(id): Id,
    conditions: Conditions,
    Body(new): Body<NewTags>,
) -> Result<Response, Problem> {
    let tags = input::tags(new.tags).map_err(Problem::invalid)?;
    let event = pb::Tags {
        event: Some(pb::tags::Event::Changed(pb::tags::Changed { tags })),
    };
    set(&api, id, event.into(), &conditions).await
}

/// Replaces all options; what is left out gets its default.
#[utoipa::path(
    put, path = "/v1/broadcasts/{id}/options", tag = "commands", security(("token" = [])), request_body = Options,
    params(
        ("id" = String, Path, description = "Broadcast"),
        ("If-Match" = Option<String>, Header, description = "Current version, e.g. `\"12\"`; another one answers 412"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this request, so that repeating it is safe"),
        ("wait" = Option<String>, Query, description = "`applied`: answer when LiveInfo has the change, after 5 s at most"),
    ),
    responses(
        (status = 200, description = "Changed", body = Changed, headers(("ETag" = String, description = "The new version"))),
        (status = 202, description = "Changed, and LiveInfo has not applied it in time", body = Changed),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn set_options(
    State(api): State<Arc<Api>>,
    _: Admin,
    Id(id): Id,
    conditions: Conditions,
    Body(new): Body<Options>,
) -> Result<Response, Problem> {
    let options = input::options(new).map_err(Problem::invalid)?;
    let event = pb::Options {
        event: Some(pb::options::Event::Changed(options.into())),
    };
    set(&api, id, event.into(), &conditions).await
}

/// Puts a new publish key in place of the current one, which is void at once.
#[utoipa::path(
    post, path = "/v1/broadcasts/{id}/publish-key/rotate", tag = "commands", security(("token" = [])),
    params(
        ("id" = String, Path, description = "Broadcast"),
        ("If-Match" = Option<String>, Header, description = "Current version of the publish key; another one answers 412"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this request, so that repeating it is safe"),
        ("wait" = Option<String>, Query, description = "`applied`: answer when LiveInfo has the change, after 5 s at most"),
    ),
    responses(
        (status = 200, description = "The new key", body = NewKey, headers(("ETag" = String, description = "The new version"))),
        (status = 202, description = "The new key, and LiveInfo has not applied it in time", body = NewKey),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn rotate(
    State(api): State<Arc<Api>>,
    _: Admin,
    Id(id): Id,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let rotated = api.commands.rotate(id, &conditions).await?;
    let (status, applied) = applied(&api, id, Kind::PublishKey, rotated.sequence, &conditions).await;
    let body = NewKey {
        hint: rotated.key.is_none().then_some(HINT),
        publish_key: rotated.key.map(|key| key.expose().to_owned()),
        ingest: Ingest::of(&api.config),
        sequence: rotated.sequence,
        applied,
    };
    let headers = [
        (header::ETAG, etag(rotated.sequence)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    Ok((status, headers, Json(body)).into_response())
}

/// Voids the publish key. An encoder that uses it is cut off.
#[utoipa::path(
    delete, path = "/v1/broadcasts/{id}/publish-key", tag = "commands", security(("token" = [])),
    params(
        ("id" = String, Path, description = "Broadcast"),
        ("If-Match" = Option<String>, Header, description = "Current version of the publish key; another one answers 412"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this request, so that repeating it is safe"),
        ("wait" = Option<String>, Query, description = "`applied`: answer when LiveInfo has the change, after 5 s at most"),
    ),
    responses(
        (status = 200, description = "Voided", body = Changed, headers(("ETag" = String, description = "The new version"))),
        (status = 202, description = "Voided, and LiveInfo has not applied it in time", body = Changed),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn revoke(
    State(api): State<Arc<Api>>,
    _: Admin,
    Id(id): Id,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let sequence = api.commands.revoke(id, &conditions).await?;
    Ok(changed(&api, id, Kind::PublishKey, sequence, &conditions).await)
}

/// Deletes a broadcast for good. An encoder that publishes to it is cut off.
#[utoipa::path(
    delete, path = "/v1/broadcasts/{id}", tag = "commands", security(("token" = [])),
    params(
        ("id" = String, Path, description = "Broadcast"),
        ("If-Match" = Option<String>, Header, description = "Current version of the registration; another one answers 412"),
        ("Idempotency-Key" = Option<String>, Header, description = "Names this request, so that repeating it is safe"),
        ("wait" = Option<String>, Query, description = "`applied`: answer when LiveInfo has the change, after 5 s at most"),
    ),
    responses(
        (status = 200, description = "Deleted", body = Changed),
        (status = 202, description = "Deleted, and LiveInfo has not applied it in time", body = Changed),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn delete(
    State(api): State<Arc<Api>>,
    _: Admin,
    Id(id): Id,
    conditions: Conditions,
) -> Result<Response, Problem> {
    let sequence = api.commands.delete(id, &conditions).await?;
    Ok(changed(&api, id, Kind::Registration, sequence, &conditions).await)
}

async fn set(api: &Api, id: BroadcastId, event: Event, conditions: &Conditions) -> Result<Response, Problem> {
    let kind = event.kind();
    let sequence = api.commands.set(id, event, conditions).await?;
    Ok(changed(api, id, kind, sequence, conditions).await)
}

async fn changed(api: &Api, id: BroadcastId, kind: Kind, sequence: u64, conditions: &Conditions) -> Response {
    let (status, applied) = applied(api, id, kind, sequence, conditions).await;
    (
        status,
        [(header::ETAG, etag(sequence))],
        Json(Changed { sequence, applied }),
    )
        .into_response()
}

/// Waits for LiveInfo if the caller wants that. The change is in the log either way.
async fn applied(
    api: &Api,
    id: BroadcastId,
    kind: Kind,
    sequence: u64,
    conditions: &Conditions,
) -> (StatusCode, Option<bool>) {
    if !conditions.wait {
        return (StatusCode::OK, None);
    }
    let applied = api.info.wait_applied(id, kind, sequence).await;
    (
        if applied { StatusCode::OK } else { StatusCode::ACCEPTED },
        Some(applied),
    )
}

fn etag(sequence: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{sequence}\""))
        .unwrap_or_else(|_| unreachable!("digits in quotes are a header value"))
}
