//! The log for those who run castlog: what is in it, and how far its readers are.
//! Entries as they come are in [`crate::events`], what readers gave up in
//! [`super::dead_letters`].

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::request::Parts,
};
use castlog_log::{ConsumerStatus, Kind, StatusError, dead_letter};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use crate::{
    auth::Admin,
    events::STREAMS,
    extract::{number, pairs, unknown_parameter},
    model::rfc3339,
    problem::{Code, Problem, ProblemBody},
};

/// Subjects that are counted per stream; past it the counts say that they are not whole.
const MAX_SUBJECTS: usize = 200_000;
/// Most subjects or letters of a list.
pub(super) const MAX_LIST: usize = 500;

/// The streams of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Streams {
    streams: Vec<StreamCounts>,
}

/// What a stream holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamCounts {
    #[schema(example = "LIVE_STREAM")]
    name: String,
    entries: u64,
    bytes: u64,
    /// Sequence of the oldest entry.
    first: u64,
    /// Sequence of the newest entry.
    last: u64,
    kinds: Vec<KindCounts>,
    /// Whether all subjects are counted in.
    complete: bool,
}

/// How many entries of a kind there are.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KindCounts {
    #[schema(example = "status")]
    kind: String,
    #[schema(example = "media.live_stream.status.*")]
    subject: String,
    entries: u64,
    /// Subjects with at least one entry: broadcasts, and in `auth` that of unknown keys.
    subjects: u64,
}

/// Counts what is in the log, by stream and kind.
#[utoipa::path(
    get, path = "/v1/log/streams", tag = "log", security(("token" = [])),
    responses(
        (status = 200, description = "Streams and kinds", body = Streams),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn streams(State(api): State<Arc<Api>>, _: Admin) -> Result<Json<Streams>, Problem> {
    let mut streams = Vec::new();
    for stream in STREAMS {
        let (status, counts) = api.log.subject_counts(stream, "media.>", MAX_SUBJECTS).await?;
        let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (subject, count) in &counts {
            let kind = subject.split('.').nth(2).unwrap_or_default();
            let of = kinds.entry(kind).or_default();
            *of = (of.0 + count, of.1 + 1);
        }
        let own = Kind::ALL.into_iter().filter(|kind| kind.stream() == stream);
        let kinds = own.map(|kind| {
            let (entries, subjects) = kinds.get(kind.token()).copied().unwrap_or_default();
            KindCounts {
                kind: kind.token().to_owned(),
                subject: kind.filter(),
                entries,
                subjects,
            }
        });
        streams.push(StreamCounts {
            name: status.name,
            entries: status.entries,
            bytes: status.bytes,
            first: status.first,
            last: status.last,
            kinds: kinds.collect(),
            complete: counts.len() < MAX_SUBJECTS,
        });
    }
    Ok(Json(Streams { streams }))
}

/// Subjects of a kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Subjects {
    /// Those with the most entries first.
    subjects: Vec<SubjectCount>,
    /// How many are left out.
    left_out: usize,
}

/// How many entries there are on a subject.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SubjectCount {
    subject: String,
    entries: u64,
}

/// The kind whose subjects are asked for.
pub(crate) struct OfKind {
    kind: Kind,
    limit: usize,
}

impl FromRequestParts<Arc<Api>> for OfKind {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        let (mut kind, mut limit) = (None, 100);
        for (name, value) in pairs(parts) {
            match &*name {
                "kind" => {
                    kind = value
                        .parse()
                        .ok()
                        .filter(|kind: &Kind| STREAMS.contains(&kind.stream()))
                }
                "limit" => limit = number("limit", &value, 1, MAX_LIST)?,
                _ => return Err(unknown_parameter(&name)),
            }
        }
        let kind = kind.ok_or_else(|| Problem::new(Code::Malformed, "kind: there are no such events"))?;
        Ok(Self { kind, limit })
    }
}

/// Counts the entries of a kind by subject.
#[utoipa::path(
    get, path = "/v1/log/subjects", tag = "log", security(("token" = [])),
    params(
        ("kind" = String, Query, description = "E.g. `status`"),
        ("limit" = Option<usize>, Query, description = "1 to 500; the default is 100", minimum = 1, maximum = 500),
    ),
    responses(
        (status = 200, description = "Subjects", body = Subjects),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn subjects(State(api): State<Arc<Api>>, _: Admin, of: OfKind) -> Result<Json<Subjects>, Problem> {
    let (stream, filter) = (of.kind.stream(), of.kind.filter());
    let (_, mut counts) = api.log.subject_counts(stream, &filter, MAX_SUBJECTS).await?;
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let left_out = counts.len().saturating_sub(of.limit);
    counts.truncate(of.limit);
    let subjects = counts.into_iter();
    let subjects = subjects.map(|(subject, entries)| SubjectCount { subject, entries });
    Ok(Json(Subjects {
        subjects: subjects.collect(),
        left_out,
    }))
}

/// A message as it stands in a stream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoredEntry {
    stream: String,
    seq: u64,
    subject: String,
    /// When it was stored, by the log's clock.
    #[schema(format = DateTime)]
    stored_at: String,
    headers: Vec<Header>,
    payload_bytes: usize,
    /// The payload in hexadecimal digits.
    payload_hex: String,
    /// The entry as readable JSON; null when it is none.
    #[schema(value_type = Option<Object>)]
    entry: Option<Value>,
    /// Why it is no entry.
    error: Option<String>,
}

/// A header of a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Header {
    name: String,
    value: String,
}

pub(super) fn headers(headers: Vec<(String, String)>) -> Vec<Header> {
    headers
        .into_iter()
        .map(|(name, value)| Header { name, value })
        .collect()
}

/// Reads one entry, decoded and raw.
#[utoipa::path(
    get, path = "/v1/log/streams/{stream}/entries/{seq}", tag = "log", security(("token" = [])),
    params(
        ("stream" = String, Path, description = "Stream, e.g. `LIVE_STREAM`"),
        ("seq" = u64, Path, description = "Sequence in the stream"),
    ),
    responses(
        (status = 200, description = "The entry", body = StoredEntry),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn entry(
    State(api): State<Arc<Api>>,
    _: Admin,
    Path((stream, sequence)): Path<(String, String)>,
) -> Result<Json<StoredEntry>, Problem> {
    let missing = || Problem::new(Code::NoEntry, "there is no such entry in the log");
    let stream = STREAMS.into_iter().find(|name| *name == stream).ok_or_else(missing)?;
    let sequence = sequence
        .parse()
        .ok()
        .filter(|sequence| *sequence > 0)
        .ok_or_else(missing)?;
    let raw = api.log.raw(stream, sequence).await?.ok_or_else(missing)?;
    let entry = raw.entry();
    Ok(Json(StoredEntry {
        stream: raw.position.stream.clone(),
        seq: raw.position.sequence,
        subject: raw.subject.clone(),
        stored_at: rfc3339(raw.stored),
        headers: headers(raw.headers()),
        payload_bytes: raw.payload.len(),
        payload_hex: hex::encode(&raw.payload),
        error: entry.as_ref().err().map(ToString::to_string),
        entry: entry.ok().map(|entry| entry.to_json()),
    }))
}

/// The durable consumers of the log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Consumers {
    consumers: Vec<Consumer>,
}

/// How far a durable consumer of a stream is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Consumer {
    name: String,
    stream: String,
    /// Entries that have not been delivered yet.
    pending: u64,
    /// Entries that have been delivered and not acknowledged.
    ack_pending: u64,
    /// Those of them that have been delivered more than once.
    redelivered: u64,
    /// All entries up to this sequence are acknowledged.
    acked: u64,
    /// When the oldest entry was stored that has not been delivered.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_pending: Option<String>,
    /// When the oldest entry was stored that is not acknowledged.
    #[schema(value_type = Option<String>, format = DateTime)]
    oldest_unacked: Option<String>,
    /// Entries that it gave up.
    dead_letters: usize,
}

impl Consumer {
    fn of(status: ConsumerStatus, letters: &BTreeMap<(String, String), usize>) -> Self {
        let text = |time: Option<DateTime<Utc>>| time.map(rfc3339);
        let place = (status.stream, status.name);
        let dead_letters = letters.get(&place).copied().unwrap_or_default();
        let (stream, name) = place;
        Self {
            name,
            stream,
            pending: status.backlog.pending,
            ack_pending: status.backlog.unacked,
            redelivered: status.backlog.redelivered,
            acked: status.backlog.acked,
            oldest_pending: text(status.oldest_pending),
            oldest_unacked: text(status.oldest_unacked),
            dead_letters,
        }
    }
}

/// Says how far the durable consumers are.
#[utoipa::path(
    get, path = "/v1/log/consumers", tag = "log", security(("token" = [])),
    responses(
        (status = 200, description = "Consumers", body = Consumers),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn consumers(State(api): State<Arc<Api>>, _: Admin) -> Result<Json<Consumers>, Problem> {
    let durables = api.log.durables().await?;
    let letters = dead_letter::count(&api.log).await?;
    let consumers = durables.into_iter().map(|status| Consumer::of(status, &letters));
    Ok(Json(Consumers {
        consumers: consumers.collect(),
    }))
}

impl From<StatusError> for Problem {
    fn from(error: StatusError) -> Self {
        tracing::warn!(error = %error, "the log does not tell about its consumers");
        Self::new(Code::LogUnavailable, "the log cannot be read; try again")
    }
}
