//! What callers read: a broadcast, as the newest entry of each of its kinds says.
//! Pure: entries in, JSON out.

use std::collections::BTreeMap;

pub(crate) use castlog_live_info::Newest;
use castlog_log::{
    BroadcastId, Event, Kind,
    pb::{self, Timestamp},
};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A broadcast.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(crate) struct Broadcast {
    /// Lower-case ULID.
    #[schema(example = "01k9zr8x3v5m2q7w4t6y8p0n1c")]
    pub(crate) id: String,
    /// Account that owns it.
    pub(crate) owner: String,
    /// When it was created.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) created_at: Option<String>,
    pub(crate) title: String,
    pub(crate) tags: Vec<String>,
    pub(crate) options: Options,
    pub(crate) status: Status,
    /// What the pipeline makes of the current or last session; null before the first.
    pub(crate) metadata: Option<Metadata>,
    /// The newest thumbnail, which is replaced every few seconds; null while there is no picture.
    pub(crate) thumbnail_url: Option<String>,
    /// How many watch, over all edges.
    pub(crate) viewers: u64,
    /// HLS multivariant playlist; answers while the broadcast is live and for a while after.
    pub(crate) playback_url: String,
    pub(crate) publish_key: PublishKeyState,
    /// Sequence of the newest entry of each kind: what `If-Match` compares.
    pub(crate) versions: BTreeMap<String, u64>,
}

/// What can be set on a broadcast. What is left out has its default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Options {
    /// Free text of at most 64 characters; empty = none.
    pub(crate) category: String,
    /// BCP 47 language tag; empty = not said.
    #[schema(example = "ko")]
    pub(crate) language: String,
    pub(crate) visibility: Visibility,
    pub(crate) latency_mode: LatencyMode,
    /// Seconds that viewers can seek back while live, at most 14400; 0 = the server's default.
    pub(crate) dvr_window_s: u32,
    /// Even heights in pixels, 144 to 4320, at most 6, of the renditions below the source; empty = the server's default.
    pub(crate) ladder: Vec<u32>,
    /// Seconds that a session waits for its encoder, at most 300; 0 = the server's default.
    pub(crate) reconnect_window_s: u32,
    /// Whether a recording stays available after the end.
    pub(crate) record: bool,
    pub(crate) second_publisher: SecondPublisher,
    pub(crate) container: Container,
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident of $wire:ident { $($(#[$about:meta])* $variant:ident = $pb:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum $name { $($(#[$about])* $variant,)* }

        impl From<$name> for i32 {
            fn from(choice: $name) -> Self {
                match choice { $($name::$variant => pb::$wire::$pb.into()),* }
            }
        }

        impl From<i32> for $name {
            /// What a newer schema added reads as the default.
            fn from(wire: i32) -> Self {
                $(if wire == i32::from(pb::$wire::$pb) { return Self::$variant; })*
                Self::default()
            }
        }
    };
}

choice!(
    /// Who may see a broadcast.
    Visibility of Visibility {
        /// Anyone.
        #[default]
        Public = Public,
        /// Only callers with a token; it is not in the search.
        Private = Private,
    }
);
choice!(
    /// How far viewers are behind.
    LatencyMode of LatencyMode {
        /// A few parts.
        #[default]
        Low = Low,
        /// A few segments.
        Normal = Normal,
    }
);
choice!(
    /// What happens to a second encoder with the same key.
    SecondPublisher of SecondPublisher {
        /// It is refused.
        #[default]
        Refuse = Refuse,
        /// It replaces the first.
        TakeOver = TakeOver,
    }
);
choice!(
    /// Container of the segments.
    Container of Container {
        /// CMAF fragmented MP4.
        #[default]
        Cmaf = Cmaf,
        /// MPEG transport stream.
        MpegTs = MpegTs,
    }
);

/// Whether the broadcast is on air.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Status {
    pub(crate) state: State,
    /// The current or last session.
    pub(crate) session_id: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) started_at: Option<String>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ended_at: Option<String>,
}

/// State of a broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It has not been live yet.
    Idle,
    Live,
    /// It is live, and its encoder is gone for the moment.
    Interrupted,
    Ended,
}

impl State {
    /// Whether viewers can watch.
    pub(crate) const fn on_air(self) -> bool {
        matches!(self, Self::Live | Self::Interrupted)
    }
}

/// Source and renditions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Metadata {
    pub(crate) session_id: String,
    pub(crate) video: Option<SourceVideo>,
    pub(crate) audio: Option<SourceAudio>,
    pub(crate) renditions: Vec<Rendition>,
}

/// The encoder's video.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SourceVideo {
    /// RFC 6381 codec string.
    #[schema(example = "avc1.4d401f")]
    pub(crate) codec: String,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// Frames per 1000 seconds; 0 = unknown.
    pub(crate) frame_rate_milli: u32,
    /// Bits per second; 0 = unknown.
    pub(crate) bitrate: u64,
}

/// The encoder's audio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SourceAudio {
    /// RFC 6381 codec string.
    pub(crate) codec: String,
    pub(crate) sample_rate: u32,
    pub(crate) channels: u32,
    /// Bits per second; 0 = unknown.
    pub(crate) bitrate: u64,
}

/// One rung of the ladder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Rendition {
    #[schema(example = "720p")]
    pub(crate) name: String,
    /// `video` or `audio`.
    pub(crate) kind: &'static str,
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frame_rate_milli: u32,
    pub(crate) codec: String,
    /// Average bits per second.
    pub(crate) bitrate: u64,
}

/// Whether an encoder can publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PublishKeyState {
    pub(crate) state: KeyState,
}

/// State of the publish key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyState {
    /// There is a valid key.
    Issued,
    /// No key is valid until the next one is issued.
    Revoked,
}

impl Broadcast {
    /// `None` when it does not exist: never created, or deleted.
    pub(crate) fn of(id: BroadcastId, newest: &Newest, hls: &str) -> Option<Self> {
        let Some((
            Event::Registration(pb::Registration {
                event: Some(pb::registration::Event::Created(created)),
            }),
            _,
        )) = newest.get(&Kind::Registration)
        else {
            return None;
        };
        let mut broadcast = Self {
            id: id.to_string(),
            owner: created.owner.clone(),
            created_at: text(created.created_at.as_ref()),
            title: String::new(),
            tags: Vec::new(),
            options: Options::default(),
            status: Status {
                state: State::Idle,
                session_id: None,
                started_at: None,
                ended_at: None,
            },
            metadata: None,
            thumbnail_url: None,
            viewers: 0,
            playback_url: format!("{hls}/live/{id}/index.m3u8"),
            publish_key: PublishKeyState {
                state: KeyState::Revoked,
            },
            versions: BTreeMap::new(),
        };
        for (kind, (event, sequence)) in newest {
            broadcast.versions.insert(kind.token().to_owned(), *sequence);
            broadcast.fold(event);
        }
        broadcast.thumbnail_url = broadcast
            .pictured_session()
            .map(|session| thumbnail(hls, &broadcast.id, session));
        Some(broadcast)
    }

    fn fold(&mut self, event: &Event) {
        match event {
            Event::Title(pb::Title {
                event: Some(pb::title::Event::Changed(e)),
            }) => self.title.clone_from(&e.title),
            Event::Tags(pb::Tags {
                event: Some(pb::tags::Event::Changed(e)),
            }) => self.tags.clone_from(&e.tags),
            Event::Options(pb::Options {
                event: Some(pb::options::Event::Changed(e)),
            }) => self.options = e.into(),
            Event::Status(pb::Status { event: Some(e) }) => self.status = e.into(),
            Event::Metadata(pb::Metadata {
                event: Some(pb::metadata::Event::Produced(e)),
            }) => {
                self.metadata = Some(e.into());
            }
            Event::PublishKey(pb::PublishKey { event: Some(e) }) => {
                self.publish_key.state = match e {
                    pb::publish_key::Event::Issued(_) | pb::publish_key::Event::Rotated(_) => KeyState::Issued,
                    pb::publish_key::Event::Revoked(_) => KeyState::Revoked,
                };
            }
            _ => {}
        }
    }

    /// The session of which there are pictures: the current one, once the pipeline has it.
    pub(crate) fn pictured_session(&self) -> Option<&str> {
        let session = self.status.session_id.as_deref()?;
        let metadata = self.metadata.as_ref()?;
        let pictured = self.status.state.on_air() && metadata.video.is_some() && metadata.session_id == session;
        pictured.then_some(session)
    }

    /// Whether callers without a token may see it.
    pub(crate) fn is_public(&self) -> bool {
        self.options.visibility == Visibility::Public
    }
}

/// Where the HLS server has the newest thumbnail of a session.
pub(crate) fn thumbnail(hls: &str, broadcast: impl std::fmt::Display, session: &str) -> String {
    format!("{hls}/media/{broadcast}/{session}/thumb/latest.jpg")
}

impl From<&pb::options::Changed> for Options {
    fn from(e: &pb::options::Changed) -> Self {
        Self {
            category: e.category.clone(),
            language: e.language.clone(),
            visibility: e.visibility.into(),
            latency_mode: e.latency_mode.into(),
            dvr_window_s: e.dvr_window_s,
            ladder: e.ladder.clone(),
            reconnect_window_s: e.reconnect_window_s,
            record: e.record,
            second_publisher: e.second_publisher.into(),
            container: e.container.into(),
        }
    }
}

impl From<Options> for pb::options::Changed {
    fn from(o: Options) -> Self {
        Self {
            category: o.category,
            language: o.language,
            visibility: o.visibility.into(),
            latency_mode: o.latency_mode.into(),
            dvr_window_s: o.dvr_window_s,
            ladder: o.ladder,
            reconnect_window_s: o.reconnect_window_s,
            record: o.record,
            second_publisher: o.second_publisher.into(),
            container: o.container.into(),
        }
    }
}

impl From<&pb::status::Event> for Status {
    fn from(event: &pb::status::Event) -> Self {
        use pb::status::Event::{Ended, Interrupted, Resumed, Started};
        let (state, session, ended_at) = match event {
            Started(e) => (State::Live, &e.session, None),
            Resumed(e) => (State::Live, &e.session, None),
            Interrupted(e) => (State::Interrupted, &e.session, None),
            Ended(e) => (State::Ended, &e.session, e.ended_at.as_ref()),
        };
        Self {
            state,
            session_id: session.as_ref().map(|s| s.session_id.clone()),
            started_at: text(session.as_ref().and_then(|s| s.started_at.as_ref())),
            ended_at: text(ended_at),
        }
    }
}

impl From<&pb::metadata::Produced> for Metadata {
    fn from(e: &pb::metadata::Produced) -> Self {
        Self {
            session_id: e.session_id.clone(),
            video: e.video.as_ref().map(|v| SourceVideo {
                codec: v.codec.clone(),
                width: v.width,
                height: v.height,
                frame_rate_milli: v.frame_rate_milli,
                bitrate: v.bitrate,
            }),
            audio: e.audio.as_ref().map(|a| SourceAudio {
                codec: a.codec.clone(),
                sample_rate: a.sample_rate,
                channels: a.channels,
                bitrate: a.bitrate,
            }),
            renditions: e.renditions.iter().map(Into::into).collect(),
        }
    }
}

impl From<&pb::Rendition> for Rendition {
    fn from(r: &pb::Rendition) -> Self {
        Self {
            name: r.name.clone(),
            kind: if r.kind == i32::from(pb::RenditionKind::Audio) {
                "audio"
            } else {
                "video"
            },
            width: r.width,
            height: r.height,
            frame_rate_milli: r.frame_rate_milli,
            codec: r.codec.clone(),
            bitrate: r.average_bitrate,
        }
    }
}

/// A protobuf time of `now`.
pub(crate) fn timestamp(time: DateTime<Utc>) -> Timestamp {
    // Nanoseconds of a second are below 2^31, leap seconds included.
    Timestamp {
        seconds: time.timestamp(),
        nanos: time.timestamp_subsec_nanos().try_into().unwrap_or(0),
    }
}

fn text(time: Option<&Timestamp>) -> Option<String> {
    DateTime::try_from(*time?).ok().map(rfc3339)
}

pub(crate) fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created() -> Event {
        let created = pb::registration::Created {
            owner: "me".into(),
            created_at: Some(timestamp(Utc::now())),
        };
        pb::Registration {
            event: Some(pb::registration::Event::Created(created)),
        }
        .into()
    }

    #[test]
    fn without_a_registration_there_is_no_broadcast() {
        let id = BroadcastId::generate();
        let title = pb::Title {
            event: Some(pb::title::Event::Changed(pb::title::Changed { title: "x".into() })),
        };
        let mut newest = Newest::from([(Kind::Title, (title.into(), 1))]);
        assert_eq!(Broadcast::of(id, &newest, ""), None);
        newest.insert(Kind::Registration, (created(), 2));
        assert_eq!(Broadcast::of(id, &newest, "").unwrap().title, "x");
        let gone = pb::Registration {
            event: Some(pb::registration::Event::Deleted(Default::default())),
        };
        newest.insert(Kind::Registration, (gone.into(), 3));
        assert_eq!(Broadcast::of(id, &newest, ""), None);
    }

    #[test]
    fn options_survive_the_log() {
        let options = Options {
            category: "game".into(),
            visibility: Visibility::Private,
            latency_mode: LatencyMode::Normal,
            second_publisher: SecondPublisher::TakeOver,
            container: Container::MpegTs,
            ladder: vec![720],
            record: true,
            ..Options::default()
        };
        assert_eq!(Options::from(&pb::options::Changed::from(options.clone())), options);
        assert_eq!(Options::from(&pb::options::Changed::default()), Options::default());
    }

    #[test]
    fn a_status_is_the_newest_of_its_session() {
        let session = Some(pb::status::Session {
            session_id: "s".into(),
            started_at: Some(Timestamp { seconds: 1, nanos: 0 }),
            ..Default::default()
        });
        let ended = pb::status::Event::Ended(pb::status::Ended {
            session,
            ended_at: Some(Timestamp { seconds: 2, nanos: 0 }),
            reason: String::new(),
        });
        let status = Status::from(&ended);
        assert_eq!(status.state, State::Ended);
        assert_eq!(status.started_at.as_deref(), Some("1970-01-01T00:00:01.000Z"));
        assert_eq!(status.ended_at.as_deref(), Some("1970-01-01T00:00:02.000Z"));
        assert!(!status.state.on_air());
    }
}
