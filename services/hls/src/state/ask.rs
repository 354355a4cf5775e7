//! What viewers ask the state: playlists, how far they are, and parts.

use castlog_log::{BroadcastId, SessionId};
use castlog_playlist::{media, multivariant};
use chrono::{DateTime, Utc};

use super::{Absent, Phase, State};
use crate::{
    key::MediaKey,
    live::{Piecewise, Reach},
    session::Session,
    view,
};

/// See [`State::showing`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Showing {
    pub(crate) session: SessionId,
    pub(crate) over: bool,
    pub(crate) closes_at: Option<DateTime<Utc>>,
    pub(crate) target_duration: u32,
}

impl State {
    /// Whether media of a broadcast may be served at all.
    pub(crate) fn access(&self, broadcast: BroadcastId) -> Result<(), Absent> {
        match self.known.get(&broadcast) {
            None => Err(Absent::NotLive),
            Some(known) if known.deleted => Err(Absent::NotLive),
            Some(known) if known.private => Err(Absent::Private),
            Some(_) => Ok(()),
        }
    }

    /// Whether a broadcast shows what was recorded of it.
    pub(crate) fn records(&self, broadcast: BroadcastId) -> Result<bool, Absent> {
        self.access(broadcast)?;
        Ok(self.known.get(&broadcast).is_some_and(|known| known.records))
    }

    /// The session to show (`wanted`, or the current one), its id, and whether it is over.
    fn session(
        &self,
        broadcast: BroadcastId,
        wanted: Option<SessionId>,
        now: DateTime<Utc>,
    ) -> Result<(SessionId, &Session, bool), Absent> {
        self.access(broadcast)?;
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
        broadcast: BroadcastId,
        now: DateTime<Utc>,
    ) -> Result<multivariant::Playlist, Absent> {
        let (id, session, _) = self.session(broadcast, None, now)?;
        view::multivariant(id, session).ok_or(Absent::Starting)
    }

    /// The media playlist of a rendition, of the current session unless another
    /// one is `wanted`.
    ///
    /// # Errors
    /// There is nothing to show.
    pub(crate) fn media(
        &self,
        broadcast: BroadcastId,
        wanted: Option<SessionId>,
        rendition: &str,
        now: DateTime<Utc>,
    ) -> Result<media::Playlist, Absent> {
        let (_, session, over) = self.session(broadcast, wanted, now)?;
        let announced = session
            .produced
            .as_ref()
            .is_some_and(|p| p.renditions.iter().any(|r| r.name == rendition));
        match session.playlist(rendition, over, &self.rules.media_base) {
            Some(playlist) if announced => Ok(playlist),
            None if announced => Err(Absent::Starting),
            _ => Err(Absent::NoRendition),
        }
    }

    /// What a viewer is shown of a rendition, without the playlist itself: the
    /// session, whether it is over, and otherwise when it will be, if that is known.
    ///
    /// # Errors
    /// There is nothing to show.
    pub(crate) fn showing(
        &self,
        broadcast: BroadcastId,
        wanted: Option<SessionId>,
        now: DateTime<Utc>,
    ) -> Result<Showing, Absent> {
        let (session, of, over) = self.session(broadcast, wanted, now)?;
        let closes_at = self
            .known
            .get(&broadcast)
            .and_then(|known| known.closes_at(&self.rules));
        Ok(Showing {
            session,
            over,
            closes_at,
            target_duration: of.target_duration(),
        })
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
        session.map_or(Reach::Told, |session| session.reach(rendition, to))
    }

    /// Whether a session has a rendition of that name to show.
    pub(crate) fn has_rendition(&self, broadcast: BroadcastId, session: SessionId, rendition: &str) -> bool {
        let live = self.live.get(&broadcast);
        let session = live.and_then(|live| live.sessions.get(session));
        session.is_some_and(|session| session.track(rendition).is_some())
    }

    /// Where a part of a segment is.
    ///
    /// # Errors
    /// Its broadcast may not be shown.
    pub(crate) fn part(&self, key: &MediaKey, now: DateTime<Utc>) -> Result<Piecewise, Absent> {
        self.access(key.broadcast)?;
        let live = self.live.get(&key.broadcast);
        let Some(session) = live.and_then(|live| live.sessions.get(key.session)) else {
            return Ok(Piecewise::Absent);
        };
        let showing = self.showing(key.broadcast, Some(key.session), now);
        Ok(match session.piece(key) {
            Piecewise::Awaited if showing.is_ok_and(|showing| showing.over) => Piecewise::Absent,
            piece => piece,
        })
    }
}
