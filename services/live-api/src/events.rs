//! The log as server-sent events, for programs that want to know what happens
//! without speaking NATS.
//!
//! An event's id is the place of the reader in each of its streams, so a reader that
//! comes back with `Last-Event-ID` misses nothing and sees nothing twice. What the
//! streams hold already comes merged by time; what is stored later, as it comes.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use axum::{
    extract::{FromRequestParts, State},
    http::request::Parts,
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use castlog_log::{BroadcastId, Follow, Followed, From, Kind, Log};
use chrono::{DateTime, Utc};
use futures::{Stream, stream};
use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;

use crate::{
    auth::Admin,
    extract::{header_text, number, pairs, unknown_parameter},
    http::Api,
    problem::{Code, Problem, ProblemBody},
};

/// The streams that can be read, in the order of their numbers in a cursor.
pub(crate) const STREAMS: [&str; 4] = ["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT", "LIVE_TELEMETRY"];
/// Those that are read when none is named.
const USUAL: [&str; 2] = [STREAMS[0], STREAMS[1]];
/// Proxies close connections that are silent for a minute or so.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The last sequence that a reader has seen of each of its streams, e.g. `12-7`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor(Vec<u64>);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, sequence) in self.0.iter().enumerate() {
            let dash = if place == 0 { "" } else { "-" };
            write!(f, "{dash}{sequence}")?;
        }
        Ok(())
    }
}

impl Cursor {
    fn read(text: &str, streams: usize) -> Result<Self, Problem> {
        let numbers: Option<Vec<u64>> = text.split('-').map(|number| number.parse().ok()).collect();
        numbers
            .filter(|numbers| numbers.len() == streams)
            .map(Self)
            .ok_or_else(|| Problem::new(Code::Malformed, "Last-Event-ID is not an id of these events"))
    }
}

/// Where a reader begins.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Start {
    /// With what comes.
    Now,
    /// At a sequence of its one stream.
    Sequence(u64),
    /// With what was stored at this time or later.
    Time(DateTime<Utc>),
}

/// Which entries to send.
pub(crate) struct Wanted {
    streams: Vec<&'static str>,
    kinds: Vec<Kind>,
    broadcast: Option<BroadcastId>,
    start: Start,
    /// What the reader has seen, when it comes back.
    after: Option<Cursor>,
}

impl FromRequestParts<Arc<Api>> for Wanted {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Api>) -> Result<Self, Problem> {
        Self::read(pairs(parts), header_text(&parts.headers, "last-event-id")?)
    }
}

impl Wanted {
    fn read(pairs: Vec<(String, String)>, last_event_id: Option<&str>) -> Result<Self, Problem> {
        let malformed = |detail: &str| Problem::new(Code::Malformed, detail);
        let mut seen = None;
        let mut wanted = Self {
            streams: Vec::new(),
            kinds: Vec::new(),
            broadcast: None,
            start: Start::Now,
            after: None,
        };
        for (name, value) in pairs {
            match &*name {
                "stream" => {
                    let stream = STREAMS.into_iter().find(|stream| *stream == value);
                    wanted
                        .streams
                        .push(stream.ok_or_else(|| malformed("stream: there is no such stream"))?);
                }
                "kind" => {
                    let kind = value
                        .parse()
                        .ok()
                        .filter(|kind: &Kind| STREAMS.contains(&kind.stream()));
                    let kind = kind.ok_or_else(|| malformed("kind: there are no such events"))?;
                    if !wanted.kinds.contains(&kind) {
                        wanted.kinds.push(kind);
                    }
                }
                "broadcast" => {
                    let id = value.parse().map_err(|_| malformed("broadcast: not an id"))?;
                    wanted.broadcast = Some(id);
                }
                "from_seq" => wanted.start = Start::Sequence(number("from_seq", &value, 1, u64::MAX)?),
                "from_time" => {
                    let time = DateTime::parse_from_rfc3339(&value);
                    let time = time.map_err(|_| malformed("from_time: not a time after RFC 3339"))?;
                    wanted.start = Start::Time(time.to_utc());
                }
                // A browser that connects anew has the id, and cannot set the header.
                "last_event_id" => seen = Some(value),
                _ => return Err(unknown_parameter(&name)),
            }
        }
        if wanted.streams.is_empty() {
            let named = |stream: &&str| wanted.kinds.iter().any(|kind| kind.stream() == *stream);
            wanted.streams = STREAMS.into_iter().filter(named).collect();
        }
        if wanted.streams.is_empty() {
            wanted.streams = USUAL.to_vec();
        }
        // A cursor's numbers have one order, whatever that of the parameters.
        wanted.streams = STREAMS
            .into_iter()
            .filter(|stream| wanted.streams.contains(stream))
            .collect();
        if matches!(wanted.start, Start::Sequence(_)) && wanted.streams.len() != 1 {
            return Err(malformed("from_seq: name the one stream that it is a sequence of"));
        }
        wanted.after = last_event_id
            .or(seen.as_deref())
            .map(|text| Cursor::read(text, wanted.streams.len()))
            .transpose()?;
        Ok(wanted)
    }

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
        ("stream" = Option<Vec<String>>, Query, description = "Only these streams; the default are those of the kinds, else `BROAD_INFO` and `LIVE_STREAM`"),
        ("from_seq" = Option<u64>, Query, description = "Begins at this sequence of the one stream that is named"),
        ("from_time" = Option<String>, Query, description = "Begins with what was stored at this time or later, after RFC 3339"),
        ("last_event_id" = Option<String>, Query, description = "As the header `Last-Event-ID`, which counts where both are there"),
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
    let mut follows = Vec::new();
    let mut cursor = Vec::new();
    for (place, stream) in wanted.streams.iter().enumerate() {
        let seen = wanted.after.as_ref().map(|Cursor(seen)| seen[place]);
        let (from, seen) = match (seen, &wanted.start) {
            // Of a stream of which it has seen nothing yet.
            (None | Some(0), Start::Time(time)) => (From::Time(*time), 0),
            (Some(seen), _) => (From::Sequence(seen + 1), seen),
            (None, Start::Sequence(first)) => (From::Sequence(*first), first - 1),
            (None, Start::Now) => {
                let seen = newest(&api.log, stream).await?;
                (From::Sequence(seen + 1), seen)
            }
        };
        let filters = wanted.filters(stream);
        let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
        follows.push((!filters.is_empty()).then(|| api.log.follow(stream, &filters, from)));
        cursor.push(seen);
    }
    let reader = Reader {
        lanes: follows.into_iter().map(Lane::of).collect(),
        begun: false,
        cursor: Cursor(cursor),
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

/// An event to be sent, of one stream.
struct Said {
    kind: &'static str,
    sequence: u64,
    /// When it happened; `None` for what is no entry, which comes as soon as it is read.
    time: Option<DateTime<Utc>>,
    json: Value,
}

/// One of the streams that a reader merges.
struct Lane {
    /// `None`: nothing of the stream is wanted.
    follow: Option<Follow>,
    /// The next of it, once read.
    next: Option<Said>,
    /// Whether all that was there at the beginning has been read.
    caught_up: bool,
}

impl Lane {
    fn of(follow: Option<Follow>) -> Self {
        Self {
            caught_up: follow.is_none(),
            follow,
            next: None,
        }
    }

    /// Reads until there is a next one, or until there is none behind. Cancel-safe.
    async fn read(&mut self) {
        let Some(follow) = &mut self.follow else {
            return std::future::pending().await;
        };
        match follow.next().await {
            Ok(Followed::Entry(entry)) => {
                self.next = Some(Said {
                    kind: entry.subject.kind.token(),
                    sequence: entry.sequence(),
                    time: Some(entry.time),
                    json: entry.to_json(),
                });
            }
            Ok(Followed::Undecodable(message)) => {
                self.next = Some(Said {
                    kind: "undecodable",
                    sequence: message.position.sequence,
                    time: None,
                    json: serde_json::json!({
                        "stream": message.position.stream,
                        "seq": message.position.sequence,
                        "subject": message.subject,
                        "error": message.error.to_string(),
                    }),
                });
            }
            Ok(Followed::CaughtUp) => self.caught_up = true,
            Err(error) => tracing::warn!(error = %error, "the log cannot be read for an event stream"),
        }
    }
}

/// Which lane's next comes first, by its time; `None` while one with a past has not
/// been read so far, for what stands there may have happened before.
fn first(lanes: &[Lane]) -> Option<usize> {
    if lanes.iter().any(|lane| lane.next.is_none() && !lane.caught_up) {
        return None;
    }
    let nexts = lanes.iter().enumerate();
    let nexts = nexts.filter_map(|(place, lane)| Some((lane.next.as_ref()?.time, place)));
    nexts.min().map(|(_, place)| place)
}

struct Reader {
    lanes: Vec<Lane>,
    cursor: Cursor,
    begun: bool,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// Entries are read when the connection takes them, so a slow reader holds
    /// no more than one of each stream in memory here.
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
            if let Some(place) = first(&self.lanes)
                && let Some(said) = self.lanes[place].next.take()
            {
                self.cursor.0[place] = said.sequence;
                return sse::Event::default()
                    .id(self.cursor.to_string())
                    .event(said.kind)
                    .data(said.json.to_string());
            }
            let empty = self.lanes.iter_mut().filter(|lane| lane.next.is_none());
            futures::future::select_all(empty.map(|lane| Box::pin(lane.read()))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, last: Option<&str>) -> Result<Wanted, Code> {
        let pairs = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Wanted::read(pairs, last).map_err(|problem| problem.code)
    }

    #[test]
    fn a_cursor_survives_its_text() {
        let cursor = Cursor(vec![12, 7]);
        assert_eq!(Cursor::read(&cursor.to_string(), 2).unwrap(), cursor);
        for bad in ["", "12", "a-b", "1-2-3", "-1-2"] {
            assert!(Cursor::read(bad, 2).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_name_what_is_wanted() {
        let id = BroadcastId::generate();
        let wanted = read(&format!("kind=status&broadcast={id}"), None).unwrap();
        assert_eq!(wanted.streams, ["LIVE_STREAM"]);
        assert_eq!(
            wanted.filters("LIVE_STREAM"),
            [format!("media.live_stream.status.{id}")]
        );
        assert!(wanted.filters("BROAD_INFO").is_empty());
        let all = read("", None).unwrap();
        assert_eq!(all.streams, USUAL);
        assert_eq!(all.filters("BROAD_INFO").len(), 5);
    }

    #[test]
    fn a_reader_begins_where_it_says_and_goes_on_where_it_was() {
        let start = |query, last| read(query, last).map(|wanted| wanted.start);
        let after = |query, last| read(query, last).map(|wanted| wanted.after);
        assert_eq!(start("", None), Ok(Start::Now));
        assert_eq!(start("stream=LIVE_SEGMENT&from_seq=5", None), Ok(Start::Sequence(5)));
        let seen = Ok(Some(Cursor(vec![9])));
        assert_eq!(after("stream=LIVE_SEGMENT&from_seq=5", Some("9")), seen);
        // By a browser's new connection, and by one that went on from there.
        assert_eq!(after("stream=LIVE_SEGMENT&last_event_id=9", None), seen);
        assert_eq!(after("stream=LIVE_SEGMENT&last_event_id=8", Some("9")), seen);
        assert_eq!(
            after("last_event_id=9", None),
            Err(Code::Malformed),
            "an id of two streams"
        );
        assert_eq!(
            start("from_time=1970-01-01T09:00:01%2B09:00", None),
            Ok(Start::Time(DateTime::from_timestamp(1, 0).unwrap()))
        );
        for bad in [
            "from_seq=5",
            "stream=LIVE_SEGMENT&from_seq=0",
            "from_time=x",
            "stream=LEASE",
        ] {
            assert_eq!(start(bad, None), Err(Code::Malformed), "{bad}");
        }
    }

    #[test]
    fn streams_are_merged_by_time_once_their_past_is_read() {
        let lane = |seconds: Option<i64>, caught_up| Lane {
            follow: None,
            next: seconds.map(|seconds| Said {
                kind: "title",
                sequence: 1,
                time: DateTime::from_timestamp(seconds, 0),
                json: Value::Null,
            }),
            caught_up,
        };
        assert_eq!(first(&[lane(Some(5), false), lane(Some(3), false)]), Some(1));
        assert_eq!(
            first(&[lane(Some(5), false), lane(None, false)]),
            None,
            "what is behind may be older"
        );
        assert_eq!(first(&[lane(Some(5), false), lane(None, true)]), Some(0));
        assert_eq!(first(&[lane(Some(5), true), lane(None, true)]), Some(0));
        assert_eq!(first(&[lane(None, true)]), None);
    }
}
