//! The log as server-sent events, for programs that want to know what happens
//! without speaking NATS.
//!
//! An event's id is the place of the reader in both streams, so a reader that
//! comes back with `Last-Event-ID` misses nothing and sees nothing twice.

use std::{convert::Infallible, fmt, str::FromStr, sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use castlog_log::{BroadcastId, Follow, Followed, From, Kind, Log, ReadError};
use futures::{Stream, stream};
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    auth::Admin,
    extract::{header_text, pairs, unknown_parameter},
    http::Api,
    problem::{Code, Problem, ProblemBody},
};

/// The streams that are read, in the order of their numbers in a cursor.
const STREAMS: [&str; 2] = ["BROAD_INFO", "LIVE_STREAM"];
/// Proxies close connections that are silent for a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The last sequence of each stream that a reader has seen, e.g. `12-7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cursor([u64; 2]);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0[0], self.0[1])
    }
}

impl FromStr for Cursor {
    type Err = Problem;

    fn from_str(text: &str) -> Result<Self, Problem> {
        let numbers = text
            .split_once('-')
            .and_then(|(a, b)| Some([a.parse().ok()?, b.parse().ok()?]));
        numbers
            .map(Self)
            .ok_or_else(|| Problem::new(Code::Malformed, "Last-Event-ID is not an id of these events"))
    }
}

/// Which entries to send.
pub(crate) struct Wanted {
    kinds: Vec<Kind>,
    broadcast: Option<BroadcastId>,
    after: Option<Cursor>,
}

impl FromRequestParts<Arc<Api>> for Wanted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        let after = header_text(&parts.headers, "last-event-id")?
            .map(str::parse)
            .transpose()?;
        let mut wanted = Self {
            kinds: Vec::new(),
            broadcast: None,
            after,
        };
        for (name, value) in pairs(parts) {
            match &*name {
                "kind" => {
                    let kind = value
                        .parse()
                        .ok()
                        .filter(|kind: &Kind| STREAMS.contains(&kind.stream()));
                    let kind = kind.ok_or_else(|| Problem::new(Code::Malformed, "kind: there are no such events"))?;
                    if !wanted.kinds.contains(&kind) {
                        wanted.kinds.push(kind);
                    }
                }
                "broadcast" => {
                    let id = value
                        .parse()
                        .map_err(|_| Problem::new(Code::Malformed, "broadcast: not an id"))?;
                    wanted.broadcast = Some(id);
                }
                _ => return Err(unknown_parameter(&name)),
            }
        }
        Ok(wanted)
    }
}

impl Wanted {
    /// The subjects to read of a stream; empty = none.
    fn filters(&self, stream: &str) -> Vec<String> {
        Kind::ALL
            .into_iter()
            .filter(|kind| kind.stream() == stream && (self.kinds.is_empty() || self.kinds.contains(kind)))
            .map(|kind| {
                self.broadcast
                    .map_or_else(|| kind.filter(), |id| kind.of(id).to_string())
            })
            .collect()
    }
}

/// Sends the entries of the log as they are stored, as server-sent events.
///
/// `data` is the entry as JSON, `event` its kind, `id` the place in the log.
#[utoipa::path(
    get, path = "/v1/events", tag = "queries", security(("token" = [])),
    params(
        ("kind" = Option<Vec<String>>, Query, description = "Only these kinds, e.g. `status`"),
        ("broadcast" = Option<String>, Query, description = "Only this broadcast"),
        ("Last-Event-ID" = Option<String>, Header, description = "Goes on after this event; the default is what comes from now on"),
    ),
    responses(
        (status = 200, description = "Entries", body = String, content_type = "text/event-stream"),
        (status = "default", description = "Problem", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn events(State(api): State<Arc<Api>>, _: Admin, wanted: Wanted) -> Result<Response, Problem> {
    let permit = Arc::clone(&api.event_readers).try_acquire_owned().map_err(|_| {
        let limit = api.config.max_event_readers;
        Problem::new(
            Code::TooManyReaders,
            format!("there are {limit} readers of events, the most that this server takes"),
        )
    })?;
    let cursor = match wanted.after {
        Some(cursor) => cursor,
        None => Cursor([newest(&api.log, STREAMS[0]).await?, newest(&api.log, STREAMS[1]).await?]),
    };
    let follow = |place: usize| {
        let filters = wanted.filters(STREAMS[place]);
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        let from = From::Sequence(cursor.0[place] + 1);
        (!filters.is_empty()).then(|| api.log.follow(STREAMS[place], &filters, from))
    };
    let reader = Reader {
        follows: [follow(0), follow(1)],
        cursor,
        begun: false,
        _permit: permit,
    };
    let shutdown = api.shutdown.clone();
    let events = futures::StreamExt::take_until(reader.events(), async move { shutdown.cancelled().await });
    Ok(Sse::new(events)
        .keep_alive(KeepAlive::new().interval(KEEP_ALIVE))
        .into_response())
}

/// The newest sequence of a stream.
async fn newest(log: &Log, stream: &str) -> Result<u64, Problem> {
    log.last_sequence(stream).await.map_err(|error| {
        tracing::warn!(stream, error = %error, "the log cannot be read");
        Problem::new(Code::LogUnavailable, "the log cannot be read; try again")
    })
}

struct Reader {
    follows: [Option<Follow>; 2],
    cursor: Cursor,
    begun: bool,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// Entries are read when the connection takes them, so a slow reader holds
    /// no more than one of them in memory here.
    fn events(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, async |mut reader| {
            let event = reader.next().await;
            Some((Ok(event), reader))
        })
    }

    async fn next(&mut self) -> sse::Event {
        if !self.begun {
            self.begun = true;
            // Without data it is no event to the reader, but it sets the id to come back with.
            return sse::Event::default().id(self.cursor.to_string()).comment("reading");
        }
        loop {
            let [first, second] = &mut self.follows;
            let (place, followed) = tokio::select! {
                followed = follow(first) => (0, followed),
                followed = follow(second) => (1, followed),
            };
            let (kind, sequence, json) = match followed {
                Ok(Followed::Entry(entry)) => (entry.subject.kind.token(), entry.sequence(), entry.to_json()),
                Ok(Followed::Undecodable(message)) => {
                    let json = serde_json::json!({
                        "stream": message.position.stream,
                        "seq": message.position.sequence,
                        "subject": message.subject,
                        "error": message.error.to_string(),
                    });
                    ("undecodable", message.position.sequence, json)
                }
                Ok(Followed::CaughtUp) => continue,
                Err(error) => {
                    tracing::warn!(error = %error, "the log cannot be read for an event stream");
                    continue;
                }
            };
            self.cursor.0[place] = sequence;
            return sse::Event::default()
                .id(self.cursor.to_string())
                .event(kind)
                .data(json.to_string());
        }
    }
}

async fn follow(follow: &mut Option<Follow>) -> Result<Followed, ReadError> {
    match follow {
        Some(follow) => follow.next().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        let cursor = Cursor([12, 7]);
        assert_eq!(cursor.to_string().parse::<Cursor>().unwrap(), cursor);
        for bad in ["", "12", "a-b", "1-2-3", "-1-2"] {
            assert!(bad.parse::<Cursor>().is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_name_what_is_wanted() {
        let id = BroadcastId::generate();
        let wanted = Wanted {
            kinds: vec![Kind::Status],
            broadcast: Some(id),
            after: None,
        };
        assert_eq!(
            wanted.filters("LIVE_STREAM"),
            [format!("media.live_stream.status.{id}")]
        );
        assert!(wanted.filters("BROAD_INFO").is_empty());
        let all = Wanted {
            kinds: Vec::new(),
            broadcast: None,
            after: None,
        };
        assert_eq!(all.filters("BROAD_INFO").len(), 5);
    }
}
