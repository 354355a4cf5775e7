//! Playlists over HTTP: as they are, or as soon as they tell what a player asks for
//! by delivery directives (§6.2.5).

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io::Write as _,
    sync::{Arc, OnceLock},
};

use axum::{
    extract::{ConnectInfo, Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use castlog_log::{BroadcastId, SessionId};
use castlog_service::Peer;
use chrono::Utc;
use flate2::{Compression, write::GzEncoder};
use serde::Deserialize;

use crate::{
    error::Problem,
    http::{Edge, lifetime},
    live::Reach,
    recording::Recording,
    rooms::{Edition, Looked, Shown},
    token::Ticket,
};

const TYPE: HeaderValue = HeaderValue::from_static("application/vnd.apple.mpegurl");
/// Target durations that the answer to a request for a version may be kept: nobody
/// asks for that version later (appendix B.1).
const BLOCKED_LIFETIME: u64 = 6;

/// Of segments in CMAF, or of transport streams.
pub(crate) async fn multivariant<const TRANSPORT: bool>(
    State(edge): State<Arc<Edge>>,
    Path(broadcast): Path<String>,
    ticket: Ticket,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    edge.ready()?;
    let broadcast: BroadcastId = broadcast.parse().map_err(|_| Problem::NotLive)?;
    let (asked, now) = (edge.asked(broadcast, &ticket), Utc::now());
    let playlist = match TRANSPORT {
        true => edge.shared.read().transport_multivariant(asked, now),
        false => edge.shared.read().multivariant(asked, now),
    };
    // It changes with the ladder and, a little, with measured bit rates.
    let shown = Shown::new(playlist?.render(), 2, 0);
    Ok(answer(&shown, TYPE, asked.lifetime_s(shown.lifetime_s, now), &headers))
}

/// Query of a media playlist.
#[derive(Debug, Deserialize)]
pub(crate) struct Directives {
    /// The session to show; the current one when it is not given.
    session: Option<String>,
    #[serde(rename = "_HLS_msn")]
    sequence: Option<String>,
    #[serde(rename = "_HLS_part")]
    part: Option<String>,
    #[serde(rename = "_HLS_skip")]
    skip: Option<String>,
}

impl Directives {
    /// The segment, and the part of it, that the playlist is to tell.
    fn wanted(&self) -> Result<Option<(u64, Option<u64>)>, Problem> {
        let number = |text: &Option<String>| {
            let number = text.as_deref().map(str::parse).transpose();
            number.map_err(|_| Problem::Directive("_HLS_msn and _HLS_part are decimal numbers below 2^64"))
        };
        match (number(&self.sequence)?, number(&self.part)?) {
            (Some(sequence), part) => Ok(Some((sequence, part))),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(Problem::Directive("_HLS_part stands without _HLS_msn")),
        }
    }

    fn of_session_alone(self) -> Self {
        Self {
            session: self.session,
            sequence: None,
            part: None,
            skip: None,
        }
    }

    fn skips(&self) -> bool {
        matches!(self.skip.as_deref(), Some("YES" | "v2"))
    }
}

/// Of segments in CMAF, or of transport streams, which wait for nothing.
pub(crate) async fn media<const TRANSPORT: bool>(
    State(edge): State<Arc<Edge>>,
    Path((broadcast, rendition)): Path<(String, String)>,
    Query(directives): Query<Directives>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    ticket: Ticket,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let directives = match TRANSPORT {
        true => directives.of_session_alone(),
        false => directives,
    };
    edge.ready()?;
    let broadcast: BroadcastId = broadcast.parse().map_err(|_| Problem::NotLive)?;
    let session = directives.session.as_ref().map(|s| s.parse()).transpose();
    let session: Option<SessionId> = session.map_err(|_| Problem::NotLive)?;
    let wanted = directives.wanted()?;
    let asked = edge.asked(broadcast, &ticket);
    let showing = edge.shared.read().showing(asked, session, Utc::now())?;
    // Who has asked for no session waits for one that is there.
    let session = showing.session;
    edge.watched(broadcast, peer, &headers);
    let look = |state: &crate::state::State, now| {
        let showing = state.showing(asked, Some(session), now)?;
        let reach = wanted
            .filter(|_| !showing.over)
            .map(|to| state.told(broadcast, session, &rendition, to));
        match reach {
            Some(Reach::Awaited) => return Ok(Looked::Awaited(showing)),
            Some(Reach::TooFar) => {
                return Err(Problem::Directive(
                    "_HLS_msn or _HLS_part is further ahead than may be asked for",
                ));
            }
            Some(Reach::Told) | None => {}
        }
        let render = || {
            let playlist = match TRANSPORT {
                true => state.transport(asked, Some(session), &rendition, now)?,
                false => state.media(asked, Some(session), &rendition, now)?,
            };
            let delta = if directives.skips() {
                playlist.render_delta()
            } else {
                None
            };
            let target = playlist.target_duration;
            // Half of the time between two looks at a playlist, or about a part.
            let lifetime = match &playlist.low_latency {
                Some(low_latency) => low_latency.part_target.as_secs().max(1),
                None => u64::from(target / 2).max(1),
            };
            Ok::<_, Problem>(Shown::new(delta.unwrap_or_else(|| playlist.render()), lifetime, target))
        };
        let edition = Edition {
            session,
            over: showing.over,
            transport: TRANSPORT,
            delta: directives.skips(),
            with_token: asked.with_token(),
        };
        // Only what exists has a room.
        if !state.has_rendition(broadcast, session, &rendition) {
            return render().map(Arc::new).map(Looked::There);
        }
        let room = edge.shared.rooms().of(broadcast, &rendition);
        room.shown(edition, render).map(Looked::There)
    };
    let shown = edge
        .shared
        .wait((broadcast, session, &rendition), &edge.shutdown, look)
        .await?;
    let lifetime_s = match wanted {
        Some(_) => u64::from(shown.target_duration) * BLOCKED_LIFETIME,
        None => shown.lifetime_s,
    };
    Ok(answer(&shown, TYPE, asked.lifetime_s(lifetime_s, Utc::now()), &headers))
}

/// A recording of a broadcast, and how long an answer about it may be kept.
pub(crate) async fn recorded(
    edge: &Edge,
    (broadcast, session): (&str, &str),
    ticket: &Ticket,
) -> Result<(Arc<Recording>, u64), Problem> {
    edge.ready()?;
    let (Ok(broadcast), Ok(session)) = (broadcast.parse(), session.parse()) else {
        return Err(Problem::NoRecording);
    };
    let asked = edge.asked(broadcast, ticket);
    if !edge.shared.read().records(asked)? {
        return Err(Problem::NoRecording);
    }
    let recording = edge.recordings.get(broadcast, session, asked.with_token()).await?;
    let lifetime_s = asked.lifetime_s(recording.lifetime_s(), Utc::now());
    Ok((recording, lifetime_s))
}

pub(crate) async fn recorded_multivariant<const TRANSPORT: bool>(
    State(edge): State<Arc<Edge>>,
    Path((broadcast, session)): Path<(String, String)>,
    ticket: Ticket,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (recording, lifetime_s) = recorded(&edge, (&broadcast, &session), &ticket).await?;
    let shown = recording.playlists(TRANSPORT).multivariant();
    Ok(answer(shown, TYPE, lifetime_s, &headers))
}

pub(crate) async fn recorded_media<const TRANSPORT: bool>(
    State(edge): State<Arc<Edge>>,
    Path((broadcast, session, rendition)): Path<(String, String, String)>,
    ticket: Ticket,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let (recording, lifetime_s) = recorded(&edge, (&broadcast, &session), &ticket).await?;
    let shown = recording.playlists(TRANSPORT).media(&rendition);
    let shown = shown.ok_or(Problem::NoRendition)?;
    Ok(answer(shown, TYPE, lifetime_s, &headers))
}

impl Shown {
    pub(crate) fn new(text: String, lifetime_s: u64, target_duration: u32) -> Self {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        // Weak, since the same tag stands for the compressed and the plain text.
        let tag = HeaderValue::try_from(format!("W/\"{:016x}\"", hasher.finish()));
        Self {
            text: Bytes::from(text),
            packed: OnceLock::new(),
            tag: tag.unwrap_or_else(|_| HeaderValue::from_static("W/\"\"")),
            lifetime_s,
            target_duration,
        }
    }

    fn packed(&self) -> Option<Bytes> {
        let pack = || {
            let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
            packer.write_all(&self.text).ok()?;
            packer.finish().ok().map(Bytes::from)
        };
        self.packed.get_or_init(pack).clone()
    }
}

/// Whether a client understands gzip (RFC 9110, section 12.5.3).
fn takes_gzip(request: &HeaderMap) -> bool {
    let codings = request.get_all(header::ACCEPT_ENCODING).iter();
    let mut codings = codings
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    codings.any(|coding| {
        let mut parameters = coding.split(';').map(str::trim);
        parameters.next() == Some("gzip") && !parameters.any(|p| matches!(p, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

pub(crate) fn answer(shown: &Shown, kind: HeaderValue, lifetime_s: u64, request: &HeaderMap) -> Response {
    let matches = |value: &HeaderValue| {
        value
            .to_str()
            .is_ok_and(|tags| tags.trim() == "*" || tags.split(',').any(|other| other.trim() == shown.tag))
    };
    let mut response = if request.get_all(header::IF_NONE_MATCH).iter().any(matches) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let packed = takes_gzip(request).then(|| shown.packed()).flatten();
        let is_packed = packed.is_some();
        let mut response = packed.unwrap_or_else(|| shown.text.clone()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, kind);
        if is_packed {
            headers.insert(header::CONTENT_ENCODING, const { HeaderValue::from_static("gzip") });
        }
        response
    };
    let headers = response.headers_mut();
    headers.insert(header::VARY, const { HeaderValue::from_static("accept-encoding") });
    headers.insert(header::ETAG, shown.tag.clone());
    headers.insert(header::CACHE_CONTROL, lifetime(lifetime_s));
    response
}
