//! Where viewers wait for media that is to come: one notification per rendition,
//! however many wait, and one rendering of each playlist per change.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use axum::http::HeaderValue;
use bytes::Bytes;
use castlog_log::{BroadcastId, SessionId};
use castlog_service::Shutdown;
use chrono::Utc;
use tokio::{sync::watch, time::Instant};

use crate::{
    error::Problem,
    follow::Shared,
    state::{Showing, State},
};

/// Target durations that a viewer waits at most (§6.2.5.2).
const PATIENCE: u32 = 3;
/// Longest wait: three of the longest target durations that the pipeline makes. A
/// connection on which nothing moves for much longer is cut.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A rendered playlist.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) text: Bytes,
    /// The same with gzip, once somebody has asked for it; `None` when that fails.
    pub(crate) packed: OnceLock<Option<Bytes>>,
    pub(crate) tag: HeaderValue,
    /// Seconds that it may be kept for who asks for no version.
    pub(crate) lifetime_s: u64,
    pub(crate) target_duration: u32,
}

/// Which playlist of a rendition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Edition {
    pub(crate) session: SessionId,
    /// Whether the session is over.
    pub(crate) over: bool,
    /// Whether it is one of transport streams.
    pub(crate) transport: bool,
    /// Whether it is a delta update.
    pub(crate) delta: bool,
    /// Whether it is asked for with a token.
    pub(crate) with_token: bool,
}

/// The viewers of one rendition.
#[derive(Debug, Default)]
pub(crate) struct Room {
    changed: watch::Sender<()>,
    shown: Mutex<HashMap<Edition, Arc<Shown>>>,
}

impl Room {
    /// The playlist of an edition, which `render` makes if nobody has since the last
    /// change. To be called with the state locked for reading.
    pub(crate) fn shown<E>(
        &self,
        edition: Edition,
        render: impl FnOnce() -> Result<Shown, E>,
    ) -> Result<Arc<Shown>, E> {
        let mut shown = lock(&self.shown);
        if let Some(rendered) = shown.get(&edition) {
            return Ok(Arc::clone(rendered));
        }
        let rendered = Arc::new(render()?);
        shown.insert(edition, Arc::clone(&rendered));
        Ok(rendered)
    }
}

/// The rooms of all broadcasts that somebody has asked for.
#[derive(Debug, Default)]
pub(crate) struct Rooms(Mutex<HashMap<BroadcastId, HashMap<String, Arc<Room>>>>);

impl Rooms {
    /// The room of a rendition that exists.
    pub(crate) fn of(&self, broadcast: BroadcastId, rendition: &str) -> Arc<Room> {
        let mut rooms = lock(&self.0);
        let rooms = rooms.entry(broadcast).or_default();
        if let Some(room) = rooms.get(rendition) {
            return Arc::clone(room);
        }
        Arc::clone(rooms.entry(rendition.to_owned()).or_default())
    }

    /// Something of a broadcast has changed; viewers of `rendition`, or of all, look
    /// again. To be called with the state locked for writing.
    pub(crate) fn changed(&self, broadcast: BroadcastId, rendition: Option<&str>) {
        for (name, room) in lock(&self.0).get(&broadcast).into_iter().flatten() {
            // Each tells how far the others are.
            lock(&room.shown).clear();
            if rendition.is_none_or(|changed| changed == name) {
                room.changed.send_replace(());
            }
        }
    }

    /// Closes the rooms of broadcasts that are gone; who waits there is told.
    pub(crate) fn close(&self, gone: impl Fn(BroadcastId) -> bool) {
        lock(&self.0).retain(|&broadcast, rooms| {
            let gone = gone(broadcast);
            if gone {
                rooms.values().for_each(|room| room.changed.send_replace(()));
            }
            !gone
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a look at the state has found.
pub(crate) enum Looked<T> {
    /// What was wanted.
    There(T),
    /// It may still come.
    Awaited(Showing),
}

impl Shared {
    /// Looks at the state until it holds what is wanted of a rendition, for at most
    /// three target durations. `look` fails when it is not to come; only what may
    /// come has a room.
    ///
    /// # Errors
    /// It does not come, or not in time.
    pub(crate) async fn wait<T>(
        &self,
        (broadcast, session, rendition): (BroadcastId, SessionId, &str),
        shutdown: &Shutdown,
        look: impl Fn(&State, chrono::DateTime<Utc>) -> Result<Looked<T>, Problem>,
    ) -> Result<T, Problem> {
        let mut deadline = None;
        let mut room: Option<watch::Receiver<()>> = None;
        loop {
            let now = Utc::now();
            let showing = match look(&self.read(), now)? {
                Looked::There(found) => return Ok(found),
                Looked::Awaited(showing) => showing,
            };
            debug_assert_eq!(showing.session, session);
            let Some(changed) = &mut room else {
                // What changes between this look and the next one is not missed.
                room = Some(self.rooms().of(broadcast, rendition).changed.subscribe());
                continue;
            };
            let patience = Duration::from_secs(showing.target_duration.into()) * PATIENCE;
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + patience.min(LONGEST_WAIT));
            // A playlist is closed by the clock.
            let closes_in = showing.closes_at.and_then(|at| (at - now).to_std().ok());
            let until = closes_in.map_or(deadline, |closes_in| deadline.min(Instant::now() + closes_in));
            tokio::select! {
                () = shutdown.cancelled() => return Err(Problem::NotInTime),
                changed = changed.changed() => {
                    // The sender lives as long as this receiver's room, which may be closed.
                    if changed.is_err() {
                        room = None;
                    }
                }
                () = tokio::time::sleep_until(until) => {
                    if until == deadline {
                        return Err(Problem::NotInTime);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[test]
    fn a_change_is_rendered_once_and_wakes_who_waits_for_it() {
        let (rooms, broadcast, session) = (Rooms::default(), BroadcastId::generate(), SessionId::generate());
        let renders = AtomicU32::new(0);
        let look = |rendition: &str| {
            let render = || {
                renders.fetch_add(1, Ordering::Relaxed);
                let shown = Shown {
                    text: Bytes::new(),
                    packed: OnceLock::new(),
                    tag: HeaderValue::from_static("x"),
                    lifetime_s: 1,
                    target_duration: 2,
                };
                Ok::<_, ()>(shown)
            };
            let edition = Edition {
                transport: false,
                session,
                over: false,
                delta: false,
                with_token: false,
            };
            let shown = rooms.of(broadcast, rendition).shown(edition, render);
            assert!(shown.is_ok());
            renders.load(Ordering::Relaxed)
        };
        let waits = |rendition: &str| rooms.of(broadcast, rendition).changed.subscribe();
        assert_eq!((look("480p"), look("480p"), look("480p")), (1, 1, 1));
        let (low, audio) = (waits("480p"), waits("audio"));
        rooms.changed(BroadcastId::generate(), None);
        assert_eq!(look("480p"), 1, "of another broadcast");
        rooms.changed(broadcast, Some("audio"));
        assert_eq!((look("480p"), look("480p")), (2, 2), "it tells how far the other is");
        let woken = |waits: &watch::Receiver<()>| waits.has_changed().unwrap_or_default();
        assert_eq!((woken(&low), woken(&audio)), (false, true));
        rooms.changed(broadcast, None);
        assert!(woken(&low));
        let gone = waits("480p");
        rooms.close(|id| id == broadcast);
        assert!(gone.has_changed().is_ok_and(|changed| changed) || gone.has_changed().is_err());
        assert!(lock(&rooms.0).is_empty());
    }
}
