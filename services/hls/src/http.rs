//! What viewers ask for: playlists and media.

use std::{ops::Range, sync::Arc, time::Duration};

use axum::{
    Router, ServiceExt,
    body::Body,
    extract::{ConnectInfo, Path, Request, State, connect_info::IntoMakeServiceWithConnectInfo},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use backon::{ExponentialBuilder, Retryable as _};
use bytes::Bytes;
use castlog_log::BroadcastId;
use castlog_metrics::{Answer, metrics};
use castlog_service::{MediaStore, Peer, Shutdown};
use chrono::Utc;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use tokio::time::Instant;
use tower::{
    ServiceBuilder,
    util::{MapRequest, MapResponseLayer},
};
use tower_http::{
    cors::{Any, CorsLayer},
    timeout::TimeoutLayer,
};

use crate::{
    cache::Unread,
    config::Config,
    error::Problem,
    follow::Shared,
    key::{File, MediaKey},
    live::Piecewise,
    playlists,
    proxies::Proxies,
    range::{self, Wanted},
    recording::Recordings,
    rooms::{LONGEST_WAIT, Looked},
    state::{Absent, Asked},
    storyboard::{self, Storyboards},
    token::{self, Ticket},
    transport::{self, CMAF, TRANSPORT},
    viewers::Audience,
};

/// How long the store's answer may take to begin.
const STORE_TIME: Duration = Duration::from_secs(15);
/// How long the answer to a request may take to begin: it may wait for media that
/// is to come, and then for the store.
const TIMEOUT: Duration = LONGEST_WAIT.saturating_add(STORE_TIME);
/// How long the store may take for an object, so that there is time left to say so.
const STORE_PATIENCE: Duration = Duration::from_secs(10);
/// How often the store is asked again: a busy S3 server fails now and then, and a
/// connection that it has closed looks like that too.
const STORE_RETRIES: usize = 2;
const STORE_DELAY: Duration = Duration::from_millis(50);
/// How long a browser may remember that requests from anywhere are allowed.
const PREFLIGHT_LIFETIME: Duration = Duration::from_secs(86_400);
/// A segment, an initialization section or a sheet of pictures never changes.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
const YEAR_S: u64 = 31_536_000;
/// Largest thumbnail in bytes: one is a small JPEG.
const MAX_THUMBNAIL: u64 = 4 << 20;
const THUMBNAIL_S: u64 = 5;
/// Seconds that a cache in front may go by what it was told of who may watch.
pub(crate) const ACCESS_S: u64 = 10;

pub(crate) type Service = IntoMakeServiceWithConnectInfo<MapRequest<Router, fn(Request) -> Request>, Peer>;

/// What the handlers share.
pub(crate) struct Edge {
    pub(crate) shared: Shared,
    pub(crate) shutdown: Shutdown,
    pub(crate) recordings: Recordings,
    pub(crate) storyboards: Storyboards,
    store: MediaStore,
    audience: Arc<Audience>,
    proxies: Proxies,
    keys: castlog_playback::Config,
}

impl Edge {
    pub(crate) fn new(
        shared: Shared,
        recordings: Recordings,
        store: MediaStore,
        config: &Config,
        audience: Arc<Audience>,
        shutdown: Shutdown,
    ) -> Self {
        Self {
            shared,
            shutdown,
            recordings,
            storyboards: Storyboards::new(store.clone(), &config.media_base),
            store,
            audience,
            // The configuration has been found valid.
            proxies: Proxies::read(&config.trusted_proxies).unwrap_or_default(),
            keys: config.playback.clone(),
        }
    }

    /// A broadcast that is asked for with what a request shows.
    pub(crate) fn asked(&self, broadcast: BroadcastId, ticket: &Ticket) -> Asked {
        match ticket.token() {
            None => broadcast.into(),
            Some(token) => Asked {
                broadcast,
                token: self.keys.verify(broadcast, token, Utc::now()),
            },
        }
    }

    pub(crate) fn watched(&self, broadcast: BroadcastId, peer: Peer, headers: &HeaderMap) {
        let agent = headers.get(header::USER_AGENT).map_or(&b""[..], HeaderValue::as_bytes);
        let address = self.proxies.viewer(peer.0.ip(), headers);
        self.audience.seen(broadcast, address, agent, Instant::now());
    }

    pub(crate) fn ready(&self) -> Result<(), Problem> {
        if self.shared.is_caught_up() {
            Ok(())
        } else {
            Err(Problem::NotReady)
        }
    }
}

/// All that the edge answers, for connections that say who their peer is.
pub(crate) fn service(edge: Edge) -> Service {
    ServiceExt::<Request>::into_make_service_with_connect_info(MapRequest::new(router(edge), token::take))
}

fn router(edge: Edge) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_methods([Method::GET, Method::HEAD])
        .allow_headers([header::RANGE, header::IF_NONE_MATCH, header::CACHE_CONTROL])
        .expose_headers([
            header::CONTENT_LENGTH,
            header::CONTENT_RANGE,
            header::DATE,
            header::ETAG,
            header::RETRY_AFTER,
        ])
        .max_age(PREFLIGHT_LIFETIME);
    // In one layer, since each costs every request a future on the heap.
    let outer = |kind| {
        ServiceBuilder::new()
            .layer(MapResponseLayer::new(move |answer: Response| counted(kind, answer)))
            .layer(cors.clone())
            .layer(TimeoutLayer::with_status_code(StatusCode::SERVICE_UNAVAILABLE, TIMEOUT))
    };
    let media = Router::new().route("/media/{*key}", get(media));
    Router::new()
        .route("/live/{broadcast}/access", get(access))
        .route("/live/{broadcast}/watching", get(watching))
        .route("/live/{broadcast}/index.m3u8", get(playlists::multivariant::<CMAF>))
        .route(
            "/live/{broadcast}/{rendition}/index.m3u8",
            get(playlists::media::<CMAF>),
        )
        .route("/live/{broadcast}/ts.m3u8", get(playlists::multivariant::<TRANSPORT>))
        .route(
            "/live/{broadcast}/{rendition}/ts.m3u8",
            get(playlists::media::<TRANSPORT>),
        )
        .route("/live/{broadcast}/storyboard.vtt", get(storyboard::live))
        .route(
            "/recordings/{broadcast}/{session}/index.m3u8",
            get(playlists::recorded_multivariant::<CMAF>),
        )
        .route(
            "/recordings/{broadcast}/{session}/ts.m3u8",
            get(playlists::recorded_multivariant::<TRANSPORT>),
        )
        .route(
            "/recordings/{broadcast}/{session}/{rendition}/ts.m3u8",
            get(playlists::recorded_media::<TRANSPORT>),
        )
        .route(
            "/recordings/{broadcast}/{session}/storyboard.vtt",
            get(storyboard::of_recording),
        )
        .route(
            "/recordings/{broadcast}/{session}/{rendition}/index.m3u8",
            get(playlists::recorded_media::<CMAF>),
        )
        .fallback(|| async { Problem::NoPage })
        .layer(outer("playlist"))
        .merge(media.layer(outer("media")))
        .with_state(Arc::new(edge))
}

/// Counts an answer in the metrics.
fn counted(kind: &'static str, answer: Response) -> Response {
    let status = answer.status().as_u16();
    metrics().hls_answers.get_or_create(&Answer { kind, status }).inc();
    answer
}

/// Whether who asks may watch a broadcast, for a cache in front which serves private
/// media to all who may from one copy. What is not there may be asked for; what has been
/// deleted may not, since that cache may still have it.
async fn access(
    State(edge): State<Arc<Edge>>,
    Path(broadcast): Path<String>,
    ticket: Ticket,
) -> Result<Response, Problem> {
    may_watch(&edge, &broadcast, &ticket).map(|(_, answer)| answer)
}

/// The same, and counts who asks among those who watch what is live: a cache in front
/// asks on behalf of each viewer, and answers them itself.
async fn watching(
    State(edge): State<Arc<Edge>>,
    Path(broadcast): Path<String>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    ticket: Ticket,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (asked, answer) = may_watch(&edge, &broadcast, &ticket)?;
    if edge.shared.read().showing(asked, None, Utc::now()).is_ok() {
        edge.watched(asked.broadcast, peer, &headers);
    }
    Ok(answer)
}

fn may_watch(edge: &Edge, broadcast: &str, ticket: &Ticket) -> Result<(Asked, Response), Problem> {
    edge.ready()?;
    let broadcast: BroadcastId = broadcast.parse().map_err(|_| Problem::NotLive)?;
    let asked = edge.asked(broadcast, ticket);
    let access = edge.shared.read().access(asked);
    match access {
        Err(Absent::Deleted) => return Err(Problem::Deleted),
        Err(absent @ Absent::Private(_)) => return Err(absent.into()),
        Ok(()) | Err(_) => {}
    }
    let lifetime = lifetime(asked.lifetime_s(ACCESS_S, Utc::now()));
    let answer = (StatusCode::NO_CONTENT, [(header::CACHE_CONTROL, lifetime)]);
    Ok((asked, answer.into_response()))
}

/// The header of an answer that all may keep for some seconds.
pub(crate) fn lifetime(seconds: u64) -> HeaderValue {
    HeaderValue::try_from(format!("public, max-age={seconds}"))
        .unwrap_or_else(|_| unreachable!("digits are a header value"))
}

async fn media(
    State(edge): State<Arc<Edge>>,
    Path(key): Path<String>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    ticket: Ticket,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    edge.ready()?;
    let key: MediaKey = key.parse().map_err(|_| Problem::NoMedia)?;
    let asked = edge.asked(key.broadcast, &ticket);
    edge.shared.read().access(asked)?;
    // A range that is bound to a version cannot be: objects carry no tag.
    let range = headers
        .get(header::RANGE)
        .filter(|_| !headers.contains_key(header::IF_RANGE));
    let range = range.and_then(|value| value.to_str().ok());
    let mut response = match key.file {
        File::Thumbnail => whole(thumbnail(&edge, &key).await?, None)?,
        File::Transport {
            number,
            maker,
            line,
            sound,
        } => {
            let of = File::Segment { number, maker };
            whole(transport::bytes(&edge, &key, of, line, sound).await?, range)?
        }
        File::Part { .. } => whole(part(&edge, asked, &key).await?, range)?,
        File::Segment { .. } | File::Init(_) | File::Sheet(_) => match cached(&edge, &key).await {
            Ok(bytes) => whole(bytes, range)?,
            Err(Unread::TooLarge { size }) => stream(&edge, &key, size, range).await?,
            Err(Unread::Problem(problem)) => return Err(problem),
        },
    };
    // Who watches a recording is no viewer of what is live.
    let watched = !matches!(key.file, File::Thumbnail | File::Sheet(_));
    if watched && edge.shared.read().shows(asked, key.session, Utc::now()) {
        edge.watched(key.broadcast, peer, &headers);
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(key.content_type()));
    // Parts of a thumbnail, which is replaced again and again, would not fit together.
    if key.file != File::Thumbnail {
        headers.insert(header::ACCEPT_RANGES, const { HeaderValue::from_static("bytes") });
    }
    let longest = if key.file == File::Thumbnail {
        THUMBNAIL_S
    } else {
        YEAR_S
    };
    headers.insert(
        header::CACHE_CONTROL,
        match asked.lifetime_s(longest, Utc::now()) {
            YEAR_S => IMMUTABLE,
            shorter => lifetime(shorter),
        },
    );
    Ok(response)
}

/// The newest thumbnail, or the one before it while the store is away.
async fn thumbnail(edge: &Edge, key: &MediaKey) -> Result<Bytes, Problem> {
    let (text, cache) = (key.to_string(), edge.shared.cache());
    match read(edge, key, MAX_THUMBNAIL).await.map_err(Problem::from) {
        Ok(picture) => {
            cache.replace(&text, picture.clone());
            Ok(picture)
        }
        Err(Problem::Store) => cache.held(&text).ok_or(Problem::Store),
        Err(problem) => Err(problem),
    }
}

/// The bytes of a part, as soon as it is there.
async fn part(edge: &Edge, asked: Asked, key: &MediaKey) -> Result<Bytes, Problem> {
    let wanted = (key.broadcast, key.session, key.rendition.as_str());
    let look = |state: &crate::state::State, now| match state.part(asked, key, now)? {
        Piecewise::Awaited => Ok(Looked::Awaited(state.showing(asked, Some(key.session), now)?)),
        Piecewise::Absent => Err(Problem::NoMedia),
        found => Ok(Looked::There(found)),
    };
    match edge.shared.wait(wanted, &edge.shutdown, look).await? {
        Piecewise::Bytes(bytes) => Ok(bytes),
        Piecewise::In(segment, range) => match cached(edge, &segment).await {
            Ok(bytes) if range.end <= bytes.len() as u64 => Ok(bytes.slice(range.start as usize..range.end as usize)),
            Ok(_) => Err(Problem::NoMedia),
            Err(Unread::TooLarge { .. }) => {
                let path = segment.to_string().into();
                ask(&segment, || edge.store.get_range(&path, range.clone())).await
            }
            Err(Unread::Problem(problem)) => Err(problem),
        },
        Piecewise::Awaited | Piecewise::Absent => Err(Problem::NoMedia),
    }
}

/// An object from memory, or into memory.
pub(crate) async fn cached(edge: &Edge, key: &MediaKey) -> Result<Bytes, Unread> {
    let (text, cache) = (key.to_string(), edge.shared.cache());
    let load = || async {
        match edge.shared.whole(key) {
            Some(bytes) => Ok(bytes),
            None => read(edge, key, cache.largest()).await,
        }
    };
    match cache.get(&text, load).await {
        // What a playlist names is there soon.
        Err(Unread::Problem(Problem::NoMedia)) if edge.shared.read().names(key) => {
            tracing::debug!(key = %key, "media object is not in the store yet");
            Err(Unread::Problem(Problem::Store))
        }
        outcome => outcome,
    }
}

fn store_problem(key: &MediaKey, error: &object_store::Error) -> Problem {
    if matches!(error, object_store::Error::NotFound { .. }) {
        return Problem::NoMedia;
    }
    tracing::warn!(key = %key, error = %error, "cannot read a media object");
    Problem::Store
}

/// Asks the store for an object, and again when it fails.
async fn ask<T, F>(key: &MediaKey, request: impl FnMut() -> F) -> Result<T, Problem>
where
    F: Future<Output = object_store::Result<T>>,
{
    let tries = ExponentialBuilder::default()
        .with_min_delay(STORE_DELAY)
        .with_max_times(STORE_RETRIES)
        .with_jitter();
    let asked = request
        .retry(tries)
        .when(|error: &object_store::Error| !matches!(error, object_store::Error::NotFound { .. }));
    match tokio::time::timeout(STORE_PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| store_problem(key, &error)),
        Err(_) => {
            tracing::warn!(key = %key, patience_s = STORE_PATIENCE.as_secs(), "media store does not answer");
            Err(Problem::Store)
        }
    }
}

/// Reads an object into memory, unless it is larger than `largest`.
pub(crate) async fn read(edge: &Edge, key: &MediaKey, largest: u64) -> Result<Bytes, Unread> {
    let path = key.to_string().into();
    let request = || async {
        let object = edge.store.get(&path).await?;
        let size = object.meta.size;
        if size > largest {
            return Ok(Err(Unread::TooLarge { size }));
        }
        object.bytes().await.map(Ok)
    };
    ask(key, request).await.map_err(Unread::Problem)?
}

fn whole(bytes: Bytes, range: Option<&str>) -> Result<Response, Problem> {
    let size = bytes.len() as u64;
    match range::wanted(range, size) {
        Wanted::Whole => Ok(bytes.into_response()),
        Wanted::Unsatisfiable => Err(Problem::Range { size }),
        Wanted::Part(part) => {
            // In memory, so its positions fit.
            let slice = bytes.slice(part.start as usize..part.end as usize);
            Ok(partial(Body::from(slice), &part, size))
        }
    }
}

/// Answers from the store without holding the object in memory.
async fn stream(edge: &Edge, key: &MediaKey, size: u64, range: Option<&str>) -> Result<Response, Problem> {
    let part = match range::wanted(range, size) {
        Wanted::Whole => None,
        Wanted::Part(part) => Some(part),
        Wanted::Unsatisfiable => return Err(Problem::Range { size }),
    };
    let options = GetOptions {
        range: part.clone().map(GetRange::Bounded),
        ..GetOptions::default()
    };
    let path = key.to_string().into();
    let object = ask(key, || edge.store.get_opts(&path, options.clone())).await?;
    let length = object.range.end - object.range.start;
    let body = Body::from_stream(object.into_stream());
    let mut response = match part {
        Some(part) => partial(body, &part, size),
        None => body.into_response(),
    };
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    Ok(response)
}

fn partial(body: Body, part: &Range<u64>, size: u64) -> Response {
    let mut response = (StatusCode::PARTIAL_CONTENT, body).into_response();
    if let Ok(value) = format!("bytes {}-{}/{size}", part.start, part.end - 1).parse() {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}
