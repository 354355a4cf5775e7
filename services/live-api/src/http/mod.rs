//! The HTTP edge: which path leads where, and what every answer has in common
//! (request id, trace, time limit, security headers).

mod broadcast;
mod commands;
mod dead_letters;
mod log;
mod playback;
mod queries;
mod session;
mod trace;

use std::sync::Arc;

use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderName, HeaderValue, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use castlog_log::{EntryId, Log};
use castlog_service::{Health, Shutdown};
use serde::Serialize;
use tokio::sync::Semaphore;
use tower::limit::GlobalConcurrencyLimitLayer;
use tower_http::{
    compression::CompressionLayer,
    cors::{Any, CorsLayer},
    trace::TraceLayer,
};
use tracing::Instrument as _;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::Tokens,
    command::Commands,
    config::Config,
    docs, events,
    info::Info,
    problem::{Code, Problem},
    search::Search,
    security,
    statistics::LiveStatistics,
    web,
};

/// What the handlers share.
pub(crate) struct Api {
    pub(crate) config: Config,
    pub(crate) tokens: Tokens,
    pub(crate) commands: Commands,
    pub(crate) info: Info,
    pub(crate) search: Search,
    pub(crate) statistics: LiveStatistics,
    pub(crate) log: Log,
    pub(crate) health: Health,
    pub(crate) shutdown: Shutdown,
    pub(crate) event_readers: Arc<Semaphore>,
}

/// Where an encoder pushes to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ingest {
    /// Server URL; the stream name is the publish key.
    #[schema(example = "rtmp://127.0.0.1:1935/live")]
    pub(crate) rtmp_url: String,
    /// The same over TLS, where it is offered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rtmps_url: Option<String>,
}

impl Ingest {
    fn of(config: &Config) -> Self {
        let rtmps = &config.rtmps_public_url;
        Self {
            rtmp_url: config.rtmp_public_url.clone(),
            rtmps_url: (!rtmps.is_empty()).then(|| rtmps.clone()),
        }
    }
}

/// The id that a request was given.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

pub(crate) fn router(api: Arc<Api>) -> Router {
    let (v1, document) = OpenApiRouter::with_openapi(docs::document(&api.config))
        .routes(routes!(queries::search))
        .routes(routes!(queries::list, commands::create))
        .routes(routes!(queries::read, commands::delete))
        .routes(routes!(commands::set_title))
        .routes(routes!(commands::set_tags))
        .routes(routes!(commands::set_options))
        .routes(routes!(commands::rotate))
        .routes(routes!(commands::revoke))
        .routes(routes!(playback::issue))
        .routes(routes!(broadcast::titles))
        .routes(routes!(broadcast::recordings))
        .routes(routes!(broadcast::health))
        .routes(routes!(queries::statistics))
        .routes(routes!(queries::ingest))
        .routes(routes!(session::session, session::sign_in, session::sign_out))
        .routes(routes!(events::events))
        .routes(routes!(log::streams))
        .routes(routes!(log::subjects))
        .routes(routes!(log::entry))
        .routes(routes!(log::consumers))
        .routes(routes!(dead_letters::list))
        .routes(routes!(dead_letters::attempts))
        .routes(routes!(dead_letters::read))
        .routes(routes!(dead_letters::redrive))
        .split_for_parts();
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET])
        .expose_headers([header::ETAG, REQUEST_ID.clone()]);
    v1.merge(docs::router(&document))
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .fallback(fallback)
        .method_not_allowed_fallback(async || {
            Problem::new(Code::NoMethod, "this path does not take this method; see /docs")
        })
        .layer(DefaultBodyLimit::max(api.config.max_body_bytes))
        .layer(cors)
        // Answers of the API: small ones do not shrink, event streams are not compressed by this
        // layer's rules, and files have been already.
        .layer(CompressionLayer::new())
        .layer(GlobalConcurrencyLimitLayer::new(api.config.max_requests))
        .layer(middleware::from_fn_with_state(Arc::clone(&api), limit_time))
        .layer(middleware::from_fn_with_state(
            security::Headers::new(&api.config),
            security::add,
        ))
        .layer(TraceLayer::new_for_http().make_span_with(|_: &Request| tracing::Span::current()))
        .layer(middleware::from_fn(identify))
        .with_state(api)
}

/// Gives every request an id of our own: a caller's could be anything.
async fn identify(mut request: Request, next: Next) -> Response {
    let id = EntryId::generate().to_string();
    request.extensions_mut().insert(RequestId(id.clone()));
    // The path holds ids only; the query and the headers can hold what people type and secrets.
    let span = tracing::info_span!("request", request_id = id, method = %request.method(), path = request.uri().path());
    let traced = trace::begin(&request, &id);
    let mut response = next.run(request).instrument(traced.clone()).instrument(span).await;
    trace::end(&traced, response.status());
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID.clone(), value);
    }
    response
}

async fn limit_time(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let limit = api.config.request_timeout();
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(
            Code::TimedOut,
            format!(
                "the request took longer than {} seconds; a change may or may not be stored, and repeating it with \
                 the same Idempotency-Key is safe",
                limit.as_secs()
            ),
        )
        .into_response(),
    }
}

async fn ready(State(api): State<Arc<Api>>) -> Response {
    let code = if api.health.is_ready() && !api.shutdown.is_cancelled() {
        axum::http::StatusCode::OK
    } else {
        axum::http::StatusCode::SERVICE_UNAVAILABLE
    };
    (code, axum::Json(api.health.parts())).into_response()
}

/// Everything that is not the API's belongs to the web UI.
async fn fallback(State(api): State<Arc<Api>>, request: Request) -> Response {
    let path = request.uri().path();
    if path == "/v1" || path.starts_with("/v1/") {
        return Problem::new(Code::NoPath, "there is nothing at this path; see /docs").into_response();
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Problem::new(Code::NoMethod, "this path can only be read").into_response();
    }
    web::serve(path, request.headers(), &api.config.hls_origin())
}
