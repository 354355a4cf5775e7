//! Handlers that read.

use std::sync::Arc;

use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::{Api, Ingest};
use crate::{
    auth::{Admin, Viewer},
    extract::{Id, number, pairs, unknown_parameter},
    model::{Broadcast, State as LiveState},
    problem::{Code, Problem, ProblemBody},
    search,
    statistics::Statistics,
};

/// Most broadcasts of a list.
const MAX_LIST: usize = 200;

impl FromRequestParts<Arc<Api>> for search::Query {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        Self::read(pairs(parts))
    }
}

/// Searches the public broadcasts that are live.
#[utoipa::path(
    get, path = "/v1/search", tag = "queries", params(search::Query),
    responses(
        (status = 200, description = "What was found", body = search::Answer),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn search(State(api): State<Arc<Api>>, query: search::Query) -> Result<Json<search::Answer>, Problem> {
    let mut answer = api.search.search(&query).await?;
    answer.now(&api.statistics, &api.config.hls_public_url);
    Ok(Json(answer))
}

/// Reads a broadcast. Private ones are there for admins only.
#[utoipa::path(
    get, path = "/v1/broadcasts/{id}", tag = "queries", security((), ("token" = [])),
    params(
        ("id" = String, Path, description = "Broadcast"),
        ("If-None-Match" = Option<String>, Header, description = "ETag of an earlier answer; 304 when it is still right"),
    ),
    responses(
        (status = 200, description = "The broadcast", body = Broadcast, headers(("ETag" = String, description = "Changes with the broadcast"))),
        (status = 304, description = "Not changed"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn read(
    State(api): State<Arc<Api>>,
    viewer: Viewer,
    Id(id): Id,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let newest = api.info.get(id).await?.ok_or_else(Problem::no_broadcast)?;
    let mut broadcast = Broadcast::of(id, &newest, &api.config.hls_public_url)
        .filter(|broadcast| viewer.is_admin || broadcast.is_public())
        .ok_or_else(Problem::no_broadcast)?;
    api.statistics.count([&mut broadcast]);
    let body = serde_json::to_vec(&broadcast)
        .map_err(|_| Problem::new(Code::Internal, "the broadcast cannot be written as JSON"))?;
    let etag = format!("\"{}\"", hex::encode(&Sha256::digest(&body)[..12]));
    // `no-cache` lets a browser keep the answer and ask whether it is still right.
    let about = [
        (header::ETAG, etag.clone()),
        (header::CACHE_CONTROL, "private, no-cache".to_owned()),
    ];
    if headers
        .get(header::IF_NONE_MATCH)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|known| names(known, &etag))
    {
        return Ok((StatusCode::NOT_MODIFIED, about).into_response());
    }
    Ok((about, [(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// Whether `If-None-Match` names an entity tag; compared weakly, as RFC 9110 wants.
fn names(known: &str, etag: &str) -> bool {
    known
        .split(',')
        .map(|one| one.trim())
        .any(|one| one == "*" || one.trim_start_matches("W/") == etag)
}

/// Counts what is on air at this moment, by tag, and who watches.
#[utoipa::path(
    get, path = "/v1/statistics", tag = "queries",
    responses(
        (status = 200, description = "What is on air", body = Statistics),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn statistics(State(api): State<Arc<Api>>) -> Result<Json<Statistics>, Problem> {
    api.statistics.read().map(Json)
}

/// Says where encoders push to.
#[utoipa::path(
    get, path = "/v1/ingest", tag = "queries", security(("token" = [])),
    responses(
        (status = 200, description = "Where encoders push to", body = Ingest),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn ingest(State(api): State<Arc<Api>>, _: Admin) -> Json<Ingest> {
    Json(Ingest::of(&api.config))
}

/// Broadcasts, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct List {
    items: Vec<Broadcast>,
}

/// Which broadcasts to list.
pub(crate) struct Which {
    state: Option<Wanted>,
    limit: usize,
}

/// A state to list. `Live` includes broadcasts that wait for their encoder.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Live,
    Only(LiveState),
}

impl FromRequestParts<Arc<Api>> for Which {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        let mut which = Self { state: None, limit: 50 };
        for (name, value) in pairs(parts) {
            match (&*name, &*value) {
                ("state", "") => {}
                ("state", "live") => which.state = Some(Wanted::Live),
                ("state", "idle") => which.state = Some(Wanted::Only(LiveState::Idle)),
                ("state", "interrupted") => which.state = Some(Wanted::Only(LiveState::Interrupted)),
                ("state", "ended") => which.state = Some(Wanted::Only(LiveState::Ended)),
                ("state", _) => {
                    return Err(Problem::new(
                        Code::Malformed,
                        "state is one of idle, live, interrupted, ended",
                    ));
                }
                ("limit", value) => which.limit = number("limit", value, 1, MAX_LIST)?,
                _ => return Err(unknown_parameter(&name)),
            }
        }
        Ok(which)
    }
}

/// Lists broadcasts: all of them for admins, the public ones that are live for everyone else.
#[utoipa::path(
    get, path = "/v1/broadcasts", tag = "queries", security((), ("token" = [])),
    params(
        ("state" = Option<String>, Query, description = "`live` (also while the encoder is gone for a moment), `idle`, `interrupted` or `ended`"),
        ("limit" = Option<usize>, Query, description = "1 to 200; the default is 50", minimum = 1, maximum = 200),
    ),
    responses(
        (status = 200, description = "Newest first", body = List),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn list(State(api): State<Arc<Api>>, viewer: Viewer, which: Which) -> Result<Json<List>, Problem> {
    if !viewer.is_admin && !matches!(which.state, None | Some(Wanted::Live)) {
        return Err(Problem::new(
            Code::Unauthorized,
            "without the admin token, only live broadcasts can be listed",
        ));
    }
    let live_only =
        !viewer.is_admin || matches!(which.state, Some(Wanted::Live | Wanted::Only(LiveState::Interrupted)));
    let found = if live_only {
        api.info.live().await?
    } else {
        api.info.all().await?
    };
    let mut items: Vec<Broadcast> = found
        .iter()
        .filter_map(|(id, newest)| Broadcast::of(*id, newest, &api.config.hls_public_url))
        .filter(|broadcast| viewer.is_admin || (broadcast.is_public() && broadcast.status.state.on_air()))
        .filter(|broadcast| match which.state {
            None => true,
            Some(Wanted::Live) => broadcast.status.state.on_air(),
            Some(Wanted::Only(state)) => broadcast.status.state == state,
        })
        .collect();
    // What happened last comes first: the start of a session, else the creation.
    items.sort_by(|a, b| {
        let key = |x: &Broadcast| {
            if live_only {
                x.status.started_at.clone()
            } else {
                x.created_at.clone()
            }
        };
        key(b).cmp(&key(a)).then_with(|| a.id.cmp(&b.id))
    });
    items.truncate(which.limit);
    api.statistics.count(&mut items);
    Ok(Json(List { items }))
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn entity_tags_are_compared_weakly() {
        assert!(names("\"a\", W/\"b\"", "\"b\""));
        assert!(names("*", "\"b\""));
        assert!(!names("\"a\"", "\"b\""));
    }
}
