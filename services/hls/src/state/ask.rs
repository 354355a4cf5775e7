//! What viewers ask the state: playlists, how far they are, and parts.

use bytes::Bytes;
use castlog_log::{BroadcastId, SessionId};
use castlog_playback::Refusal;
use castlog_playlist::{date_range::DateRange, media, multivariant};
use chrono::{DateTime, Utc};

use super::{Absent, Phase, State};
use crate::{
    key::MediaKey,
    live::{Piecewise, Reach},
    session::Session,
    storyboard::{self, Run},
    transport, view,
};

/// See [`State::showing`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Showing {
    pub(crate) session: SessionId,
    pub(crate) over: bool,
    pub(crate) closes_at: Option<DateTime<Utc>>,
    pub(crate) target_duration: u32,
}

/// Where media is, as the playlists name it that are asked for with a token: those
/// have one URL per token, and none of it may stand in their text.
const BESIDE: &str = "../../../media";

/// A broadcast, and what who asks for it has shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) broadcast: BroadcastId,
    /// When the token ends; else why it opens nothing.
    pub(crate) token: Result<DateTime<Utc>, Refusal>,
}

impl From<BroadcastId> for Asked {
    /// Without a token.
    fn from(broadcast: BroadcastId) -> Self {
        Self {
            broadcast,
            token: Err(Refusal::Missing),
        }
    }
}

impl Asked {
    /// Whether a token stands in the URL, of whatever worth.
    pub(crate) fn with_token(&self) -> bool {
        self.token != Err(Refusal::Missing)
    }

    /// Seconds that an answer may be kept which could be for `longest`: none outlives
    /// the token that it was given for.
    pub(crate) fn lifetime_s(&self, longest: u64, now: DateTime<Utc>) -> u64 {
        self.token.map_or(longest, |end| {
            longest.min((end - now).num_seconds().try_into().unwrap_or(0))
        })
    }
}

impl State {
    /// Whether media of a broadcast may be served at all.
    pub(crate) fn access(&self, asked: impl Into<Asked>) -> Result<(), Absent> {
        let asked = asked.into();
        match (self.known.get(&asked.broadcast), asked.token) {
            (None, _) => Err(Absent::NotLive),
            (Some(known), _) if known.deleted => Err(Absent::Deleted),
            (Some(known), Err(refusal)) if known.private => Err(Absent::Private(refusal)),
            (Some(_), _) => Ok(()),
        }
    }

    /// Whether a broadcast shows what was recorded of it.
    pub(crate) fn records(&self, asked: Asked) -> Result<bool, Absent> {
        self.access(asked)?;
        Ok(self.known.get(&asked.broadcast).is_some_and(|known| known.records))
    }

    /// The session to show (`wanted`, or the current one), its id, and whether it is over.
    fn session(
        &self,
        asked: Asked,
        wanted: Option<SessionId>,
        now: DateTime<Utc>,
    ) -> Result<(SessionId, &Session, bool), Absent> {
        self.access(asked)?;
        let broadcast = asked.broadcast;
        let known = self.known.get(&broadcast).ok_or(Absent::NotLive)?;
        let current = known
            .session
            .filter(|_| !known.gone(&self.rules, now))
            .ok_or(Absent::NotLive)?;
        let id = wanted.unwrap_or(current);
        // Of other sessions only earlier ones are shown: a later one has not begun.
        let over = match known.phase {
            _ if id != current => true,
            Phase::Live => false,
            Phase::Ended(_) => known.closes_at(&self.rules).is_some_and(|at| at <= now),
        };
        let live = self.live.get(&broadcast);
        let absent = if id == current {
            self.nothing_yet(broadcast)
        } else {
            Absent::NotLive
        };
        let session = live
            .and_then(|l| l.sessions.get(id))
            .filter(|_| id <= current)
            .ok_or(absent)?;
        if session.produced.is_none() || session.is_empty() {
            return Err(absent);
        }
        Ok((id, session, over))
    }

    fn nothing_yet(&self, broadcast: BroadcastId) -> Absent {
        let held = self.live.get(&broadcast).is_some_and(|l| l.sessions.has_segments());
        if !held && self.broadcasts() >= self.rules.max_broadcasts {
            Absent::Full
        } else {
            Absent::Starting
        }
    }

    /// The multivariant playlist of the current session.
    ///
    /// # Errors
    /// There is nothing to show.
    pub(crate) fn multivariant(
        &self,
        asked: impl Into<Asked>,
        now: DateTime<Utc>,
    ) -> Result<multivariant::Playlist, Absent> {
        let (id, session, _) = self.session(asked.into(), None, now)?;
        view::multivariant(id, session).ok_or(Absent::Starting)
    }

    /// The multivariant playlist of the current session for players that know transport
    /// streams only.
    ///
    /// # Errors
    /// There is nothing to show.
    pub(crate) fn transport_multivariant(
        &self,
        asked: impl Into<Asked>,
        now: DateTime<Utc>,
    ) -> Result<multivariant::Playlist, Absent> {
        let (id, session, _) = self.session(asked.into(), None, now)?;
        view::transport(id, session).ok_or(Absent::Starting)
    }

    /// As [`Self::media`], for players that know transport streams only.
    ///
    /// # Errors
    /// There is nothing to show.
    pub(crate) fn transport(
        &self,
        asked: impl Into<Asked>,
        wanted: Option<SessionId>,
        rendition: &str,
        now: DateTime<Utc>,
    ) -> Result<media::Playlist, Absent> {
        let asked = asked.into();
        let playlist = self.media(asked, wanted, rendition, now)?;
        let (_, session, _) = self.session(asked, wanted, now)?;
        Ok(transport::playlist(playlist, rendition, session))
    }

    /// The media playlist of a rendition, of the current session unless another
    /// one is `wanted`.
    ///
    /// # Errors
    /// There is nothing to show.
    pub(crate) fn media(
        &self,
        asked: impl Into<Asked>,
        wanted: Option<SessionId>,
        rendition: &str,
        now: DateTime<Utc>,
    ) -> Result<media::Playlist, Absent> {
        let asked = asked.into();
        let (id, session, over) = self.session(asked, wanted, now)?;
        let media_base = match asked.with_token() {
            true => BESIDE,
            false => &self.rules.media_base,
        };
        let announced = session.announces(rendition);
        match session.playlist(rendition, over, media_base) {
            Some(mut playlist) if announced => {
                playlist.date_ranges = self.date_ranges(asked.broadcast, id, &playlist);
                Ok(playlist)
            }
            None if announced => Err(Absent::Starting),
            _ => Err(Absent::NoRendition),
        }
    }

    /// The session that is shown, and where the seconds of its playlists lie in time.
    ///
    /// # Errors
    /// There is nothing to show.
    pub(crate) fn time_line(
        &self,
        asked: Asked,
        wanted: Option<SessionId>,
        now: DateTime<Utc>,
    ) -> Result<(SessionId, Vec<Run>), Absent> {
        let (id, session, over) = self.session(asked, wanted, now)?;
        let pictures = session.first_picture();
        let playlist = pictures.and_then(|name| session.playlist(name, over, ""));
        Ok((
            id,
            playlist.map_or_else(Vec::new, |playlist| storyboard::runs(&playlist)),
        ))
    }

    /// What happened since the first segment of a playlist; nothing later than its end,
    /// once it is over.
    fn date_ranges(&self, broadcast: BroadcastId, session: SessionId, playlist: &media::Playlist) -> Vec<DateRange> {
        let from = playlist.segments.iter().find_map(|s| s.program_date_time);
        let (Some(marks), Some(from)) = (self.marks.get(&broadcast), from) else {
            return Vec::new();
        };
        let mut backwards = playlist.segments.iter().rev();
        let end = backwards.find_map(|s| s.program_date_time.map(|start| start + s.duration));
        marks.ranges(session, from, end.filter(|_| playlist.ended))
    }

    /// What a viewer is shown of a rendition, without the playlist itself: the
    /// session, whether it is over, and otherwise when it will be, if that is known.
    ///
    /// # Errors
    /// There is nothing to show.
    pub(crate) fn showing(
        &self,
        asked: impl Into<Asked>,
        wanted: Option<SessionId>,
        now: DateTime<Utc>,
    ) -> Result<Showing, Absent> {
        let asked = asked.into();
        let (session, of, over) = self.session(asked, wanted, now)?;
        let closes_at = self
            .known
            .get(&asked.broadcast)
            .and_then(|known| known.closes_at(&self.rules));
        Ok(Showing {
            session,
            over,
            closes_at,
            target_duration: of.target_duration(),
        })
    }

    /// Whether a session is the one that is shown of its broadcast.
    pub(crate) fn shows(&self, asked: impl Into<Asked>, session: SessionId, now: DateTime<Utc>) -> bool {
        self.showing(asked, None, now)
            .is_ok_and(|showing| showing.session == session)
    }

    /// Whether the playlist of a session tells what a viewer waits for; of what there
    /// is no playlist of, nothing is waited for.
    pub(crate) fn told(
        &self,
        broadcast: BroadcastId,
        session: SessionId,
        rendition: &str,
        to: (u64, Option<u64>),
    ) -> Reach {
        let live = self.live.get(&broadcast);
        let session = live.and_then(|live| live.sessions.get(session));
        // One that has left the ladder has no playlist any more.
        let session = session.filter(|session| session.announces(rendition));
        session.map_or(Reach::Told, |session| session.reach(rendition, to))
    }

    /// Whether a session has a rendition of that name to show.
    pub(crate) fn has_rendition(&self, broadcast: BroadcastId, session: SessionId, rendition: &str) -> bool {
        let live = self.live.get(&broadcast);
        let session = live.and_then(|live| live.sessions.get(session));
        session.is_some_and(|session| session.track(rendition).is_some())
    }

    /// The key and the bytes of a segment all of whose parts are in memory.
    pub(crate) fn whole(
        &self,
        broadcast: BroadcastId,
        session: SessionId,
        rendition: &str,
        sequence: u64,
    ) -> Option<(&str, Vec<Bytes>)> {
        let live = self.live.get(&broadcast)?;
        live.sessions.get(session)?.whole(rendition, sequence)
    }

    /// Whether a playlist of a live session names an object.
    pub(crate) fn names(&self, key: &MediaKey) -> bool {
        let live = self.live.get(&key.broadcast);
        let session = live.and_then(|live| live.sessions.get(key.session));
        session.is_some_and(|session| session.names(key))
    }

    /// Where a part of a segment is.
    ///
    /// # Errors
    /// Its broadcast may not be shown.
    pub(crate) fn part(
        &self,
        asked: impl Into<Asked>,
        key: &MediaKey,
        now: DateTime<Utc>,
    ) -> Result<Piecewise, Absent> {
        let asked = asked.into();
        self.access(asked)?;
        let live = self.live.get(&key.broadcast);
        let Some(session) = live.and_then(|live| live.sessions.get(key.session)) else {
            return Ok(Piecewise::Absent);
        };
        let showing = self.showing(asked, Some(key.session), now);
        let to_come = session.announces(&key.rendition) && !showing.is_ok_and(|showing| showing.over);
        Ok(match session.piece(key) {
            Piecewise::Awaited if !to_come => Piecewise::Absent,
            piece => piece,
        })
    }
}
