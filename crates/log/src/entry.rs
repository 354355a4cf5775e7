//! Entries: a protobuf payload, and metadata in headers after the CloudEvents
//! NATS protocol binding 1.0, binary mode.

use async_nats::HeaderMap;
use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use prost::Message as _;

use crate::{Event, InvalidSubject, Kind, Subject, pb, subject};

/// Names of the headers of an entry.
pub mod header {
    /// CloudEvents version, always `1.0`.
    pub const SPEC_VERSION: &str = "ce-specversion";
    /// Entry id, the same as `Nats-Msg-Id`.
    pub const ID: &str = "ce-id";
    /// `castlog.<class>.<kind>.<event>`.
    pub const TYPE: &str = "ce-type";
    /// Who published it, e.g. `castlog/live-api`.
    pub const SOURCE: &str = "ce-source";
    /// When it happened, RFC 3339.
    pub const TIME: &str = "ce-time";
    /// The broadcast id.
    pub const SUBJECT: &str = "ce-subject";
    /// Media type of the payload.
    pub const CONTENT_TYPE: &str = "content-type";
    /// W3C trace context of the command that caused the entry.
    pub const TRACEPARENT: &str = "traceparent";
    /// Session of a part.
    pub const SESSION: &str = "Castlog-Session";
    /// Rendition of a part.
    pub const RENDITION: &str = "Castlog-Rendition";
    /// Media sequence number of the segment that a part belongs to.
    pub const MEDIA_SEQUENCE: &str = "Castlog-Media-Sequence";
    /// Index of a part in its segment.
    pub const PART: &str = "Castlog-Part";
    /// Duration of a part in microseconds.
    pub const DURATION_US: &str = "Castlog-Duration-Us";
    /// `1` when a part starts with a keyframe.
    pub const INDEPENDENT: &str = "Castlog-Independent";
    /// Discontinuity sequence number of the segment that a part belongs to.
    pub const DISCONTINUITY_SEQUENCE: &str = "Castlog-Discontinuity-Sequence";
    /// When the first sample of that segment was captured, RFC 3339.
    pub const SEGMENT_TIME: &str = "Castlog-Segment-Time";
    /// Object key of that segment's media initialization section.
    pub const INIT_OBJECT_KEY: &str = "Castlog-Init-Object-Key";
    /// The media initialization section itself, in base64; of the first part of a segment.
    pub const INIT_SECTION: &str = "Castlog-Init-Section";
}

/// Media type of entry payloads.
pub(crate) const PROTOBUF: &str = "application/protobuf";

/// Where an entry stands in the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// JetStream stream.
    pub stream: String,
    /// Sequence number in that stream, from 1.
    pub sequence: u64,
}

/// One state change of a broadcast, as it stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// CloudEvents id; the same event published twice has the same id.
    pub id: String,
    /// Who published it.
    pub source: String,
    /// When it happened, by the publisher's clock.
    pub time: DateTime<Utc>,
    /// Kind and broadcast.
    pub subject: Subject,
    /// What happened.
    pub event: Event,
    /// Stream and sequence.
    pub position: Position,
    /// W3C trace context, when the publisher gave one.
    pub traceparent: Option<String>,
    /// The payload as it was published: with the fields of a newer schema, which
    /// `event` leaves out. Whoever passes an entry on passes on these bytes.
    pub payload: Bytes,
}

/// Why a message on a subject of the log is not an entry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The subject is not one of the log's.
    #[error(transparent)]
    Subject(#[from] InvalidSubject),
    /// A required header is missing or malformed.
    #[error("L06: header {0} is missing or malformed")]
    Header(&'static str),
    /// The payload is not the kind's protobuf message.
    #[error("L07: payload is not a {kind} message")]
    Payload {
        /// The kind that the subject names.
        kind: Kind,
        /// What the protobuf reader says.
        source: prost::DecodeError,
    },
    /// Parts carry media, not events.
    #[error("L07: a media part is not an event")]
    Part,
    /// The payload is not a change of the feed.
    #[error("L07: payload is not a change of LiveInfo")]
    Change(#[source] prost::DecodeError),
    /// JSON that is not an entry of the kind.
    #[error("L07: not the JSON of an entry")]
    Json(#[from] serde_json::Error),
}

/// A message that is not an entry, and why.
#[derive(Debug)]
pub struct Undecodable {
    /// The subject as it was published.
    pub subject: String,
    /// Where it stands in the log.
    pub position: Position,
    /// What is wrong with it.
    pub error: DecodeError,
}

pub(crate) fn text<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, DecodeError> {
    headers
        .get(name)
        .map(async_nats::HeaderValue::as_str)
        .ok_or(DecodeError::Header(name))
}

/// When it happened, by the clock of its publisher.
pub(crate) fn time(headers: &HeaderMap) -> Result<DateTime<Utc>, DecodeError> {
    DateTime::parse_from_rfc3339(text(headers, header::TIME)?)
        .map(|time| time.with_timezone(&Utc))
        .map_err(|_| DecodeError::Header(header::TIME))
}

impl Entry {
    /// Reads an entry from a message of the log.
    ///
    /// # Errors
    /// The subject, a header or the payload is not an entry's.
    pub fn decode(
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &[u8],
        position: Position,
    ) -> Result<Self, DecodeError> {
        let subject: Subject = subject.parse()?;
        let headers = headers.ok_or(DecodeError::Header(header::ID))?;
        let time = time(headers)?;
        let event = Event::decode(subject.kind, payload)
            .ok_or(DecodeError::Part)?
            .map_err(|source| DecodeError::Payload {
                kind: subject.kind,
                source,
            })?;
        Ok(Self {
            id: text(headers, header::ID)?.to_owned(),
            source: text(headers, header::SOURCE)?.to_owned(),
            time,
            subject,
            event,
            position,
            traceparent: headers.get(header::TRACEPARENT).map(|v| v.as_str().to_owned()),
            // A slice would keep the whole read buffer of the connection.
            payload: Bytes::copy_from_slice(payload),
        })
    }

    /// The stream sequence.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.position.sequence
    }

    /// The whole entry as readable JSON: the envelope's attributes beside the
    /// payload's canonical protobuf JSON under `data`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "stream": self.position.stream,
            "seq": self.position.sequence,
            "subject": self.subject.to_string(),
            "id": self.id,
            "type": event_type(&self.event),
            "source": self.source,
            "time": rfc3339(self.time),
            "data": self.event.to_json(),
        })
    }
}

/// Decodes a bare payload, whose kind the subject names, to canonical protobuf
/// JSON: what `nats … --translate 'castlog decode {{Subject}}'` needs, since the
/// `nats` CLI hands over the payload alone.
///
/// # Errors
/// The subject is not one of the log's, or the payload is not its message.
pub fn decode_json(subject: &str, payload: &[u8]) -> Result<serde_json::Value, DecodeError> {
    if let Some(broadcast) = subject::parse_changed(subject) {
        broadcast?;
        let message = pb::LiveInfoChanged::decode(payload).map_err(DecodeError::Change)?;
        return Ok(crate::event::json(&message));
    }
    let subject: Subject = subject.parse()?;
    match Event::decode(subject.kind, payload) {
        None => Ok(serde_json::json!({ "part": { "sizeBytes": payload.len() } })),
        Some(Ok(event)) => Ok(event.to_json()),
        Some(Err(source)) => Err(DecodeError::Payload {
            kind: subject.kind,
            source,
        }),
    }
}

/// The CloudEvents type of an event.
pub(crate) fn event_type(event: &Event) -> String {
    let kind = event.kind();
    format!(
        "castlog.{}.{}.{}",
        kind.class(),
        kind.token(),
        event.name().unwrap_or("unknown")
    )
}

pub(crate) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Headers and payload of an entry to publish.
pub(crate) fn encode(
    subject: Subject,
    event: &Event,
    id: &str,
    source: &str,
    time: DateTime<Utc>,
    traceparent: Option<&str>,
) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(async_nats::header::NATS_MESSAGE_ID, id);
    headers.insert(header::SPEC_VERSION, "1.0");
    headers.insert(header::ID, id);
    headers.insert(header::TYPE, event_type(event).as_str());
    headers.insert(header::SOURCE, source);
    headers.insert(header::TIME, rfc3339(time).as_str());
    if let Some(broadcast) = subject.broadcast {
        headers.insert(header::SUBJECT, broadcast.to_string().as_str());
    }
    headers.insert(header::CONTENT_TYPE, PROTOBUF);
    if let Some(traceparent) = traceparent {
        headers.insert(header::TRACEPARENT, traceparent);
    }
    (headers, event.encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BroadcastId;

    fn title(text: &str) -> Event {
        pb::Title {
            event: Some(pb::title::Event::Changed(pb::title::Changed { title: text.into() })),
        }
        .into()
    }

    #[test]
    fn an_entry_survives_the_wire() {
        let subject = Kind::Title.of(BroadcastId::generate());
        let event = title("롤 랭크");
        let time = Utc::now();
        let (headers, payload) = encode(subject, &event, "id-1", "castlog/test", time, Some("00-ab-cd-01"));
        let position = Position {
            stream: "BROAD_INFO".into(),
            sequence: 7,
        };
        let entry = Entry::decode(&subject.to_string(), Some(&headers), &payload, position).unwrap();
        assert_eq!(
            (entry.event, entry.subject, entry.id.as_str()),
            (event, subject, "id-1")
        );
        assert_eq!(
            headers.get(header::TYPE).unwrap().as_str(),
            "castlog.broad_info.title.changed"
        );
        assert_eq!(entry.traceparent.as_deref(), Some("00-ab-cd-01"));
    }

    #[test]
    fn what_is_no_entry_is_told_why() {
        let subject = Kind::Title.of(BroadcastId::generate()).to_string();
        let position = || Position {
            stream: "BROAD_INFO".into(),
            sequence: 1,
        };
        assert!(matches!(
            Entry::decode(&subject, None, b"", position()),
            Err(DecodeError::Header(_))
        ));
        let (headers, _) = encode(subject.parse().unwrap(), &title("x"), "1", "s", Utc::now(), None);
        let garbage = [0xff, 0xff, 0xff];
        let error = Entry::decode(&subject, Some(&headers), &garbage, position()).unwrap_err();
        assert_eq!(error.to_string(), "L07: payload is not a title message");
    }

    #[test]
    fn decoded_json_is_readable() {
        let subject = Kind::Title.of(BroadcastId::generate()).to_string();
        let json = decode_json(&subject, &title("hi").encode()).unwrap();
        assert_eq!(json, serde_json::json!({ "changed": { "title": "hi" } }));
    }
}
