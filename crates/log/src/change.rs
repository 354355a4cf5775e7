//! The change feed of LiveInfo: what it has committed, in the order in which it
//! did, for whoever needs *committed* state instead of what is on its way there.
//!
//! A change is named by the entry that made it and carries the whole state of
//! its broadcast, so the feed itself says what has been published: see [`Feed`].

mod feed;

use std::collections::BTreeMap;

use async_nats::{HeaderMap, jetstream::stream::LastRawMessageErrorKind};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use prost::Message as _;

use crate::{
    BroadcastId, DecodeError, Event, Follow, From, InvalidSubject, Kind, Log, Position, ReadError,
    entry::{header, text, time},
    pb,
    read::{Readable, unavailable},
    subject,
};

pub use feed::{Commit, Feed, FeedError};

/// The stream of the change feed.
pub const STREAM: &str = "LIVE_INFO_CHANGED";
/// The subject filter that matches the changes of every broadcast.
pub const FILTER: &str = "castlog.live_info.changed.*";

/// A committed change, as it stands in the feed.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// `<stream>-<sequence>` of the entry that made it.
    pub id: String,
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// When it happened, by the clock of the entry's publisher.
    pub time: DateTime<Utc>,
    /// What has changed, and the state after it.
    pub message: pb::LiveInfoChanged,
    /// Where it stands in the feed.
    pub position: Position,
    /// W3C trace context of the entry that made it, when it has one.
    pub traceparent: Option<String>,
}

/// The newest event of a kind, the sequence of its entry, and when it happened.
pub type Versioned = (Event, u64, DateTime<Utc>);

impl Change {
    /// Reads a change from a message of the feed.
    ///
    /// # Errors
    /// The subject, a header or the payload is not a change's.
    pub fn decode(
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &[u8],
        position: Position,
    ) -> Result<Self, DecodeError> {
        let broadcast = subject::parse_changed(subject).ok_or_else(|| InvalidSubject::no_change(subject))??;
        let headers = headers.ok_or(DecodeError::Header(header::ID))?;
        Ok(Self {
            id: text(headers, header::ID)?.to_owned(),
            broadcast,
            time: time(headers)?,
            message: pb::LiveInfoChanged::decode(payload).map_err(DecodeError::Change)?,
            position,
            traceparent: headers.get(header::TRACEPARENT).map(|v| v.as_str().to_owned()),
        })
    }

    /// The state of the broadcast after the change. Kinds and events of a newer
    /// schema are left out.
    #[must_use]
    pub fn state(&self) -> BTreeMap<Kind, Versioned> {
        let Some(state) = &self.message.state else {
            return BTreeMap::new();
        };
        let events: [Option<Event>; 7] = [
            state.registration.clone().map(Into::into),
            state.publish_key.clone().map(Into::into),
            state.title.clone().map(Into::into),
            state.tags.clone().map(Into::into),
            state.options.clone().map(Into::into),
            state.status.clone().map(Into::into),
            state.metadata.clone().map(Into::into),
        ];
        let versioned = |event: Event| {
            event.name()?;
            let kind = event.kind();
            let version = state.versions.get(kind.token())?;
            let time = DateTime::try_from(version.time?).ok()?;
            Some((kind, (event, version.sequence, time)))
        };
        events.into_iter().flatten().filter_map(versioned).collect()
    }

    /// The whole change as readable JSON, in the shape of [`crate::Entry::to_json`].
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "stream": self.position.stream,
            "seq": self.position.sequence,
            "subject": subject::changed(self.broadcast),
            "id": self.id,
            "type": TYPE,
            "source": SOURCE,
            "time": crate::entry::rfc3339(self.time),
            "data": crate::event::json(&self.message),
        })
    }
}

/// The CloudEvents type of a change.
const TYPE: &str = "castlog.live_info.changed";
/// Who publishes changes.
const SOURCE: &str = "castlog/live-info";

impl Readable for Change {
    fn read(
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &[u8],
        position: Position,
    ) -> Result<Self, DecodeError> {
        Self::decode(subject, headers, payload, position)
    }
}

impl Log {
    /// Reads the change feed in order, like [`Log::follow`].
    #[must_use]
    pub fn follow_changes(&self, from: From) -> Follow<Change> {
        self.follow_as(STREAM, &[FILTER], from)
    }

    /// The last change of a broadcast: its state.
    ///
    /// # Errors
    /// The feed cannot be reached, or the change cannot be decoded.
    pub async fn last_change(&self, broadcast: BroadcastId) -> Result<Option<Change>, ReadError> {
        let handle = self.jetstream.get_stream_no_info(STREAM).await;
        let handle = handle.map_err(|e| unavailable(STREAM, e))?;
        // Not by direct get, which a replica that is behind may answer.
        let subject = subject::changed(broadcast);
        let message = match handle.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
            Err(error) => return Err(unavailable(STREAM, error)),
        };
        let position = Position {
            stream: STREAM.to_owned(),
            sequence: message.sequence,
        };
        Change::decode(&message.subject, Some(&message.headers), &message.payload, position)
            .map(Some)
            .map_err(|source| ReadError::Undecodable {
                stream: STREAM.to_owned(),
                sequence: message.sequence,
                source,
            })
    }

    /// When the feed's retention begins; `None` when it keeps changes for ever.
    ///
    /// # Errors
    /// The feed cannot be reached.
    pub async fn changes_since(&self) -> Result<Option<DateTime<Utc>>, ReadError> {
        let handle = self.jetstream.get_stream(STREAM).await;
        let handle = handle.map_err(|e| unavailable(STREAM, e))?;
        let kept = handle.cached_info().config.max_age;
        let kept = chrono::TimeDelta::from_std(kept).unwrap_or(chrono::TimeDelta::MAX);
        Ok((!kept.is_zero()).then(|| Utc::now().checked_sub_signed(kept)).flatten())
    }
}

/// [`pb::LiveInfoChanged`] with the payloads of entries as they were published:
/// an embedded message and bytes that hold it are the same on the wire, and
/// bytes keep the fields of a newer schema.
#[derive(Clone, PartialEq, prost::Message)]
struct Raw {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(string, tag = "2")]
    stream: String,
    #[prost(uint64, tag = "3")]
    sequence: u64,
    #[prost(message, optional, tag = "4")]
    time: Option<pb::Timestamp>,
    #[prost(message, optional, tag = "5")]
    state: Option<RawState>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RawState {
    #[prost(bytes = "bytes", optional, tag = "1")]
    registration: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "2")]
    publish_key: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    title: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "4")]
    tags: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "5")]
    options: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "6")]
    status: Option<Bytes>,
    #[prost(bytes = "bytes", optional, tag = "7")]
    metadata: Option<Bytes>,
    #[prost(btree_map = "string, message", tag = "100")]
    versions: BTreeMap<String, pb::broadcast_state::Version>,
}

impl RawState {
    /// The sequence of the entry that a kind is of; 0 when it has none.
    fn sequence(&self, kind: Kind) -> u64 {
        self.versions.get(kind.token()).map_or(0, |version| version.sequence)
    }

    /// Takes an entry in, unless it is there or a newer one is.
    fn take(&mut self, kind: Kind, sequence: u64, time: DateTime<Utc>, payload: Bytes) -> bool {
        if sequence <= self.sequence(kind) {
            return false;
        }
        let place = match kind {
            Kind::Registration => &mut self.registration,
            Kind::PublishKey => &mut self.publish_key,
            Kind::Title => &mut self.title,
            Kind::Tags => &mut self.tags,
            Kind::Options => &mut self.options,
            Kind::Status => &mut self.status,
            Kind::Metadata => &mut self.metadata,
            Kind::Auth | Kind::Segment | Kind::Health | Kind::Viewers | Kind::Part => return false,
        };
        *place = Some(payload);
        let version = pb::broadcast_state::Version {
            sequence,
            time: Some(timestamp(time)),
        };
        self.versions.insert(kind.to_string(), version);
        true
    }
}

fn timestamp(time: DateTime<Utc>) -> pb::Timestamp {
    pb::Timestamp {
        seconds: time.timestamp(),
        nanos: i32::try_from(time.timestamp_subsec_nanos()).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_raw_is_read_typed_and_loses_nothing() {
        let title = pb::Title {
            event: Some(pb::title::Event::Changed(pb::title::Changed { title: "hi".into() })),
        };
        let mut payload = title.encode_to_vec();
        // Field 15, a number, of a newer schema.
        payload.extend([0x78, 7]);
        let time = DateTime::from_timestamp(1_800_000_000, 123_456_000).unwrap();
        let mut state = RawState::default();
        assert!(state.take(Kind::Title, 9, time, payload.clone().into()));
        assert!(!state.take(Kind::Title, 9, time, Bytes::new()), "the same again");
        assert!(!state.take(Kind::Title, 3, time, Bytes::new()), "an older one");
        assert!(!state.take(Kind::Health, 1, time, Bytes::new()), "no kind of LiveInfo");
        assert!(state.take(Kind::Tags, 2, time, Bytes::new()), "an empty payload is one");
        let raw = Raw {
            kind: "title".into(),
            stream: "BROAD_INFO".into(),
            sequence: 9,
            time: Some(timestamp(time)),
            state: Some(state),
        };
        let bytes = raw.encode_to_vec();
        let typed = pb::LiveInfoChanged::decode(&bytes[..]).unwrap();
        let state = typed.state.as_ref().unwrap();
        assert_eq!(
            (&state.title, state.tags.is_some(), state.options.is_some()),
            (&Some(title), true, false)
        );
        assert_eq!(state.versions["title"].sequence, 9);
        let again = Raw::decode(&bytes[..]).unwrap();
        assert_eq!(again.state.unwrap().title.unwrap(), payload);

        let broadcast = BroadcastId::generate();
        let json = crate::decode_json(&subject::changed(broadcast), &bytes).unwrap();
        assert_eq!(json["state"]["title"]["changed"]["title"], "hi");
        assert_eq!((&json["kind"], &json["sequence"]), (&"title".into(), &"9".into()));
        assert!(crate::decode_json(&subject::changed(broadcast), &[0xff]).is_err());
        assert!(crate::decode_json("castlog.live_info.changed.x", &bytes).is_err());
    }
}
