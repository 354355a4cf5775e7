//! Recordings: the whole of a session that is over, as video on demand (§4.4.3.5).
//!
//! Nothing of them is in memory but what is asked for. The log says what a recording
//! consists of, as long as it keeps the entries of segments; over reconnects of its
//! encoder a session is one, and so is its recording.

use std::{
    collections::HashMap,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use castlog_log::{
    BroadcastId, Entry, Event, Kind, Log, ReadError, SessionId, pb, pb::metadata::Produced, session::PastSession,
};
use castlog_playlist::media;
use chrono::{DateTime, TimeDelta, Utc};
use futures::TryStreamExt as _;
use moka::{Expiry, future::Cache};

use crate::{
    error::Problem,
    rooms::Shown,
    session::{Session, read_segment},
    storyboard::{self, Run},
    transport, view,
};

/// Segments of all recordings in memory, of all renditions: about a hundred MB.
const MAX_SEGMENTS: u64 = 500_000;
/// Most segments of one recording, gaps among them: a day of a full ladder, in segments of
/// two seconds. What comes behind is left out.
const LONGEST: usize = 300_000;
/// A recording that nobody asks for is let go.
const IDLE: Duration = Duration::from_secs(600);
/// How long a recording may take to be read: an hour takes less than a second.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long the sessions of a broadcast that are over are taken as they were read.
const SESSIONS_STAND: Duration = Duration::from_secs(5);
/// Broadcasts whose sessions are held.
const MAX_BROADCASTS: u64 = 10_000;
/// How far the clocks of publishers may be apart, and the last segments behind the end. As
/// long after the end a recording may grow.
const SLACK: TimeDelta = TimeDelta::seconds(120);
/// Seconds that a playlist may be kept: it never changes, but may be taken away.
const LIFETIME_S: u64 = 60;
/// Seconds that one may be kept which may grow, here and by others: many ask for what has
/// just ended.
const GROWING_S: u64 = 2;
/// Where media is for who asks with a token, whose URL is as deep as this.
const BESIDE: &str = "../../../../media";

/// The playlists of one, in one container.
#[derive(Debug)]
pub(crate) struct Playlists {
    multivariant: Shown,
    media: HashMap<String, Shown>,
}

impl Playlists {
    pub(crate) const fn multivariant(&self) -> &Shown {
        &self.multivariant
    }

    pub(crate) fn media(&self, rendition: &str) -> Option<&Shown> {
        self.media.get(rendition)
    }
}

/// All of one.
#[derive(Debug)]
pub(crate) struct Recording {
    cmaf: Playlists,
    /// For players that know transport streams only.
    transport: Playlists,
    /// Where the seconds of what is to be seen lie in time.
    runs: Vec<Run>,
    segments: usize,
    /// Whether segments of it may still come.
    grows: bool,
}

impl Recording {
    /// Of all that was found. `None`: there is nothing to show.
    pub(crate) fn of(id: SessionId, found: Found, media_base: &str, grows: bool) -> Option<Self> {
        let Found { mut session, newest } = found;
        if grows {
            // The entries of a row come one after the other: no gap is told where one is due.
            session.leave_out_unfinished(&newest);
        }
        if !session.complete(LONGEST) {
            tracing::warn!(session_id = %id, segments = LONGEST, "recording is cut off");
        }
        let session = &session;
        let names = session.produced.iter().flat_map(|produced| &produced.renditions);
        let playlists = names.filter_map(|rendition| {
            let live = session.playlist(&rendition.name, true, media_base)?;
            Some((rendition.name.clone(), whole(live)))
        });
        let playlists: Vec<(String, media::Playlist)> = playlists.collect();
        let pictures = session.first_picture();
        let pictures = playlists.iter().find(|(name, _)| Some(&**name) == pictures);
        let lifetime_s = if grows { GROWING_S } else { LIFETIME_S };
        let shown = |text: String| Shown::new(text, lifetime_s, session.target_duration());
        let cmaf = playlists
            .iter()
            .map(|(name, playlist)| (name.clone(), shown(playlist.render())));
        let transport = playlists.iter().map(|(name, playlist)| {
            let playlist = transport::playlist(playlist.clone(), name, session);
            (name.clone(), shown(playlist.render()))
        });
        Some(Self {
            cmaf: Playlists {
                multivariant: shown(view::multivariant(id, session)?.render()),
                media: cmaf.collect(),
            },
            transport: Playlists {
                multivariant: shown(view::transport(id, session)?.render()),
                media: transport.collect(),
            },
            runs: pictures.map_or_else(Vec::new, |(_, playlist)| storyboard::runs(playlist)),
            // Each is there in both containers.
            segments: playlists.iter().map(|(_, playlist)| 2 * playlist.segments.len()).sum(),
            grows,
        })
    }

    pub(crate) const fn playlists(&self, transport: bool) -> &Playlists {
        if transport { &self.transport } else { &self.cmaf }
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// Seconds that what is told of it may be kept.
    pub(crate) const fn lifetime_s(&self) -> u64 {
        self.cmaf.multivariant.lifetime_s
    }
}

/// The playlist of a session that is over, for those who come later.
fn whole(mut playlist: media::Playlist) -> media::Playlist {
    playlist.kind = Some(media::Kind::Vod);
    playlist.low_latency = None;
    for segment in &mut playlist.segments {
        segment.parts = Vec::new();
    }
    playlist
}

/// By session, and whether it is asked for with a token. The broadcast is one who asks may
/// watch.
type Wanted = (BroadcastId, SessionId, bool);

/// How long one is taken as it was read.
struct Standing;

impl Expiry<Wanted, Arc<Recording>> for Standing {
    fn expire_after_create(&self, _: &Wanted, recording: &Arc<Recording>, _: Instant) -> Option<Duration> {
        recording.grows.then_some(Duration::from_secs(GROWING_S))
    }
}

/// The recordings that are asked for. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recordings {
    log: Log,
    media_base: Arc<str>,
    held: Cache<Wanted, Arc<Recording>>,
    sessions: Cache<BroadcastId, Arc<Vec<PastSession>>>,
}

impl Recordings {
    pub(crate) fn new(log: Log, media_base: &str) -> Self {
        let weight = |_: &_, recording: &Arc<Recording>| u32::try_from(recording.segments).unwrap_or(u32::MAX);
        Self {
            log,
            media_base: media_base.into(),
            held: Cache::builder()
                .max_capacity(MAX_SEGMENTS)
                .weigher(weight)
                .time_to_idle(IDLE)
                .expire_after(Standing)
                .build(),
            sessions: Cache::builder()
                .max_capacity(MAX_BROADCASTS)
                .time_to_live(SESSIONS_STAND)
                .build(),
        }
    }

    /// The recording of a session of a broadcast that may be watched.
    pub(crate) async fn get(
        &self,
        broadcast: BroadcastId,
        session: SessionId,
        with_token: bool,
    ) -> Result<Arc<Recording>, Problem> {
        let media_base = if with_token { BESIDE } else { &self.media_base };
        let load = async {
            let read = tokio::time::timeout(PATIENCE, self.read(broadcast, session, media_base)).await;
            let read = read.map_err(|_| Problem::LogUnavailable)?;
            let found = read.map_err(|error| {
                tracing::warn!(broadcast_id = %broadcast, session_id = %session, error = %error, "recording cannot be read");
                Problem::LogUnavailable
            })?;
            found.map(Arc::new).ok_or(Problem::NoRecording)
        };
        self.held
            .try_get_with((broadcast, session, with_token), load)
            .await
            .map_err(|problem| *problem)
    }

    async fn read(
        &self,
        broadcast: BroadcastId,
        id: SessionId,
        media_base: &str,
    ) -> Result<Option<Recording>, ReadError> {
        let past = match self.sessions.get(&broadcast).await {
            Some(past) => past,
            None => {
                let past = Arc::new(self.log.past_sessions(broadcast).await?);
                self.sessions.insert(broadcast, Arc::clone(&past)).await;
                past
            }
        };
        let Some(past) = past.iter().find(|session| session.id == id && session.recorded) else {
            return Ok(None);
        };
        // Before it is read: what comes meanwhile may be missed.
        let grows = grows(past, Utc::now());
        let mut found = Found::default();
        let mut count = 0;
        for kind in [Kind::Metadata, Kind::Segment] {
            let mut entries = pin!(self.log.scan(kind.of(broadcast), Some(past.started_at - SLACK)));
            while let Some(entry) = entries.try_next().await? {
                if entry.time > past.ended_at + SLACK {
                    break;
                }
                count += usize::from(found.take(broadcast, past, &entry));
                if count == LONGEST {
                    tracing::warn!(broadcast_id = %broadcast, session_id = %id, segments = LONGEST, "recording is cut off");
                    break;
                }
            }
        }
        Ok(Recording::of(id, found, media_base, grows))
    }
}

/// Whether entries of a session may still come that is over.
pub(crate) fn grows(past: &PastSession, now: DateTime<Utc>) -> bool {
    now <= past.ended_at + SLACK
}

/// All that a session has made and makes: a recording has the renditions of every ladder.
fn together(before: Option<&Produced>, mut now: Produced) -> Produced {
    for rendition in before.into_iter().flat_map(|before| &before.renditions) {
        if now.renditions.iter().all(|other| other.name != rendition.name) {
            now.renditions.push(rendition.clone());
        }
    }
    now
}

/// What is found of a session that is over.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) session: Session,
    /// The renditions of its newest ladder.
    newest: Vec<String>,
}

impl Found {
    /// Takes an entry in, if it is of the session; answers whether it is a segment of it.
    pub(crate) fn take(&mut self, broadcast: BroadcastId, past: &PastSession, entry: &Entry) -> bool {
        match &entry.event {
            Event::Metadata(pb::Metadata {
                event: Some(pb::metadata::Event::Produced(produced)),
            }) if produced.session_id == past.id.to_string() => {
                self.newest = produced.renditions.iter().map(|r| r.name.clone()).collect();
                let all = together(self.session.produced.as_ref(), produced.clone());
                self.session.announce(all, Duration::MAX);
                false
            }
            Event::Segment(pb::Segment {
                event: Some(pb::segment::Event::Stored(stored)),
            }) => match read_segment(broadcast, stored) {
                Ok((of, mut segment)) if of == past.id => {
                    segment.gap |= stored.object_lost;
                    self.session.collect(&stored.rendition, stored.media_sequence, segment)
                }
                _ => false,
            },
            _ => false,
        }
    }
}
