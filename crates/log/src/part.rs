//! Media parts: CMAF chunks on their way to the edges. The payload is media, and
//! what is to be known of it stands in headers.

use async_nats::HeaderMap;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{
    BroadcastId, DecodeError, Follow, Followed, From, Kind, Log, Position, ReadError, Readable, SessionId, Subject,
    entry::{rfc3339, text},
    header,
};

/// Place of a media part in its playlist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartHeader {
    /// The broadcast.
    pub broadcast: BroadcastId,
    /// The session.
    pub session: SessionId,
    /// Name of the rendition.
    pub rendition: String,
    /// Media sequence number of the segment.
    pub media_sequence: u64,
    /// Index in the segment, from 0.
    pub part: u32,
    /// Duration in microseconds.
    pub duration_us: u64,
    /// Whether it starts with a keyframe.
    pub independent: bool,
    /// Discontinuity sequence number of the segment: tells apart what workers
    /// made under one media sequence number.
    pub discontinuity_sequence: u64,
    /// When the first sample of the segment was captured.
    pub segment_time: DateTime<Utc>,
    /// Object key of the segment's media initialization section.
    pub init_object_key: String,
    /// The section itself, less than a kilobyte, with the first part of each segment:
    /// edges can show a segment whose objects are still on their way to the store.
    /// Empty for the other parts, and of older pipelines.
    pub init_section: Bytes,
}

/// A media part as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it belongs.
    pub header: PartHeader,
    /// One CMAF chunk.
    pub payload: Bytes,
    /// Stream and sequence.
    pub position: Position,
}

impl PartHeader {
    /// Writes the place into headers.
    pub(crate) fn write(&self, headers: &mut HeaderMap) {
        let mut put = |name: &'static str, value: &str| headers.insert(name, value);
        put(header::SESSION, &self.session.to_string());
        put(header::RENDITION, &self.rendition);
        put(header::MEDIA_SEQUENCE, &self.media_sequence.to_string());
        put(header::PART, &self.part.to_string());
        put(header::DURATION_US, &self.duration_us.to_string());
        put(header::INDEPENDENT, if self.independent { "1" } else { "0" });
        put(header::DISCONTINUITY_SEQUENCE, &self.discontinuity_sequence.to_string());
        put(header::SEGMENT_TIME, &rfc3339(self.segment_time));
        put(header::INIT_OBJECT_KEY, &self.init_object_key);
        if !self.init_section.is_empty() {
            put(header::INIT_SECTION, &STANDARD.encode(&self.init_section));
        }
    }

    fn read(broadcast: BroadcastId, headers: &HeaderMap) -> Result<Self, DecodeError> {
        Ok(Self {
            broadcast,
            session: parsed(headers, header::SESSION)?,
            rendition: text(headers, header::RENDITION)?.to_owned(),
            media_sequence: parsed(headers, header::MEDIA_SEQUENCE)?,
            part: parsed(headers, header::PART)?,
            duration_us: parsed(headers, header::DURATION_US)?,
            independent: text(headers, header::INDEPENDENT)? == "1",
            discontinuity_sequence: parsed(headers, header::DISCONTINUITY_SEQUENCE)?,
            segment_time: parsed(headers, header::SEGMENT_TIME)?,
            init_object_key: text(headers, header::INIT_OBJECT_KEY)?.to_owned(),
            init_section: section(headers)?,
        })
    }
}

fn section(headers: &HeaderMap) -> Result<Bytes, DecodeError> {
    let Some(value) = headers.get(header::INIT_SECTION) else {
        return Ok(Bytes::new());
    };
    let decoded = STANDARD.decode(value.as_str());
    decoded
        .map(Bytes::from)
        .map_err(|_| DecodeError::Header(header::INIT_SECTION))
}

fn parsed<T: std::str::FromStr>(headers: &HeaderMap, name: &'static str) -> Result<T, DecodeError> {
    text(headers, name)?.parse().map_err(|_| DecodeError::Header(name))
}

impl Readable for Part {
    fn read(
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &[u8],
        position: Position,
    ) -> Result<Self, DecodeError> {
        let subject: Subject = subject.parse()?;
        let broadcast = subject.broadcast.filter(|_| subject.kind == Kind::Part);
        let broadcast = broadcast.ok_or(DecodeError::Part)?;
        let headers = headers.ok_or(DecodeError::Header(header::SESSION))?;
        Ok(Self {
            header: PartHeader::read(broadcast, headers)?,
            // A slice would keep the whole read buffer of the connection.
            payload: Bytes::copy_from_slice(payload),
            position,
        })
    }
}

impl Log {
    /// Reads the media parts of all broadcasts in order: those of the last seconds
    /// that the stream holds, then what comes. Their stream is in memory, and begins
    /// anew when its server does; the reader goes on with what comes then.
    #[must_use]
    pub fn follow_parts(&self) -> Follow<Part> {
        self.follow_as(Kind::Part.stream(), &[&Kind::Part.filter()], From::Beginning)
    }

    /// The media parts of a broadcast that the stream holds: those of the last seconds.
    ///
    /// # Errors
    /// The stream cannot be read.
    pub async fn parts(&self, broadcast: BroadcastId) -> Result<Vec<Part>, ReadError> {
        let subject = Kind::Part.of(broadcast).to_string();
        let mut follow = self.follow_as(Kind::Part.stream(), &[&subject], From::Beginning);
        let mut parts = Vec::new();
        loop {
            match follow.next().await? {
                Followed::Entry(part) => parts.push(*part),
                Followed::Undecodable(other) => {
                    tracing::warn!(subject = other.subject, error = %other.error, "not a part");
                }
                Followed::CaughtUp => return Ok(parts),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> PartHeader {
        PartHeader {
            broadcast: BroadcastId::generate(),
            session: SessionId::generate(),
            rendition: "720p".to_owned(),
            media_sequence: 17,
            part: 3,
            duration_us: 233_333,
            independent: true,
            discontinuity_sequence: 2,
            segment_time: DateTime::from_timestamp_micros(1_800_000_000_123_456).unwrap(),
            init_object_key: "b/s/720p/init-2.mp4".to_owned(),
            init_section: Bytes::from_static(b"\0ftyp"),
        }
    }

    fn read(subject: &str, headers: &HeaderMap) -> Result<Part, DecodeError> {
        let position = Position {
            stream: "LIVE_PART".to_owned(),
            sequence: 1,
        };
        Part::read(subject, Some(headers), b"chunk", position)
    }

    #[test]
    fn a_part_survives_the_wire() {
        let (part, mut headers) = (header(), HeaderMap::new());
        part.write(&mut headers);
        let subject = Kind::Part.of(part.broadcast).to_string();
        let read = read(&subject, &headers).unwrap();
        assert_eq!((read.header, read.payload.as_ref()), (part, &b"chunk"[..]));
    }

    #[test]
    fn a_part_may_come_without_its_initialization_section() {
        let mut part = header();
        part.init_section = Bytes::new();
        let mut headers = HeaderMap::new();
        part.write(&mut headers);
        let subject = Kind::Part.of(part.broadcast).to_string();
        assert!(headers.get(header::INIT_SECTION).is_none());
        assert_eq!(read(&subject, &headers).unwrap().header, part);
        headers.insert(header::INIT_SECTION, "no base64!");
        assert!(matches!(
            read(&subject, &headers),
            Err(DecodeError::Header(header::INIT_SECTION))
        ));
    }

    #[test]
    fn what_is_no_part_is_told_why() {
        let (part, mut headers) = (header(), HeaderMap::new());
        part.write(&mut headers);
        let subject = Kind::Part.of(part.broadcast).to_string();
        let title = Kind::Title.of(part.broadcast).to_string();
        assert!(matches!(read(&title, &headers), Err(DecodeError::Part)));
        headers.insert(header::PART, "-1");
        assert!(matches!(
            read(&subject, &headers),
            Err(DecodeError::Header(header::PART))
        ));
        assert!(matches!(
            read(&subject, &HeaderMap::new()),
            Err(DecodeError::Header(header::SESSION))
        ));
    }
}
