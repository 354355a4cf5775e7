//! From the log into the state: six ordered readers.
//!
//! `options`, `registration`, `status` and `metadata` are read from the last
//! entry of each broadcast; where that one says nothing that is known, what was
//! said before stands. Segments are kept for weeks, so they are read from
//! as far back as the longest DVR window of a broadcast that is live or lingers,
//! and only once it is known which those are; so are titles and statuses, for what
//! happened in those windows. These come first, and say of which broadcasts the window
//! began earlier, as their encoders were away for long: what those need is read apart, so
//! that nothing more is read of the others. Parts are kept for seconds, and all
//! are read; an edge is not kept from its work when they cannot be. What they make up,
//! whole segments and initialization sections, goes into memory as well.

use std::{
    pin::pin,
    sync::{
        Arc, PoisonError, RwLock, RwLockReadGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use castlog_log::{
    BroadcastId, Entry, Event, Follow, Followed, From, Kind, Log, Part, ReadError, SessionId, Subject, pb,
};
use castlog_service::Health;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::watch;

use crate::{
    cache::Cache,
    key::{File, MediaKey},
    rooms::Rooms,
    state::{Outcome, Rules, STRETCH, State},
};

/// Read further back than the windows reach: workers that are lost stretch a window of
/// media over more of the clock, and clocks differ.
const MARGIN: TimeDelta = TimeDelta::seconds(180);
/// How long an edge that starts waits for the parts of the last seconds: without
/// them it shows whole segments.
const PARTS_PATIENCE: Duration = Duration::from_secs(2);
/// Windows that began early which are read at a time.
const IN_FLIGHT: usize = 16;
/// Wait before one that cannot be read is tried again.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// Name under which readiness is reported.
pub(crate) const PART: &str = "hls";

/// The state, shared between the readers and the HTTP server.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    state: Arc<RwLock<State>>,
    rooms: Arc<Rooms>,
    cache: Arc<Cache>,
    caught_up: Arc<AtomicBool>,
}

impl Shared {
    pub(crate) fn new(rules: Rules, cache: Cache) -> Self {
        Self {
            state: Arc::new(RwLock::new(State::new(rules))),
            rooms: Arc::default(),
            cache: Arc::new(cache),
            caught_up: Arc::default(),
        }
    }

    /// Whether all that was in the log at the start has been read.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where viewers wait for what is not in the state.
    pub(crate) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Media in memory.
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }

    pub(crate) fn expire(&self, now: DateTime<Utc>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.expire(now);
        self.rooms.close(|broadcast| !state.holds(broadcast));
    }

    fn apply(&self, entry: &Entry) {
        // A rendition of its own is what a segment changes; other kinds say
        // something of all.
        let stored = match &entry.event {
            Event::Segment(pb::Segment {
                event: Some(pb::segment::Event::Stored(stored)),
            }) => Some(stored),
            _ => None,
        };
        let rendition = stored.map(|stored| stored.rendition.as_str());
        let outcome = self.change(entry.subject, rendition, |state| state.apply(entry, Utc::now()));
        tell(outcome, entry.subject, entry.sequence());
        let of = entry.subject.broadcast.zip(stored);
        if let (Outcome::Applied, Some((broadcast, stored))) = (outcome, of)
            && let Ok(session) = stored.session_id.parse()
        {
            self.keep(broadcast, session, &stored.rendition, stored.media_sequence);
        }
    }

    /// Keeps a segment in memory when all of its parts are: its object may still be on
    /// its way to the store, or the store be away when viewers ask for it.
    fn keep(&self, broadcast: BroadcastId, session: SessionId, rendition: &str, sequence: u64) {
        let (key, pieces) = match self.read().whole(broadcast, session, rendition, sequence) {
            Some((key, pieces)) => (key.to_owned(), pieces),
            None => return,
        };
        let size = pieces.iter().map(|piece| piece.len() as u64).sum();
        self.cache.fill(&key, size, || joined(&pieces));
    }

    /// A segment out of the parts in memory.
    pub(crate) fn whole(&self, key: &MediaKey) -> Option<Bytes> {
        let File::Segment { number, .. } = key.file else {
            return None;
        };
        let pieces = {
            let state = self.read();
            let (name, pieces) = state.whole(key.broadcast, key.session, &key.rendition, number)?;
            (name == key.to_string()).then_some(pieces)?
        };
        Some(joined(&pieces))
    }

    fn apply_part(&self, part: &Part) {
        let subject = Kind::Part.of(part.header.broadcast);
        let change = |state: &mut State| state.apply_part(part, Utc::now());
        let outcome = self.change(subject, Some(&part.header.rendition), change);
        tell(outcome, subject, part.position.sequence);
        if outcome != Outcome::Applied {
            return;
        }
        let header = &part.header;
        if !header.init_section.is_empty() {
            let section = &header.init_section;
            self.cache
                .fill(&header.init_object_key, section.len() as u64, || section.clone());
        }
        // It may be the last one of a segment whose entry was quicker.
        self.keep(
            header.broadcast,
            header.session,
            &header.rendition,
            header.media_sequence,
        );
    }

    /// Changes the state and wakes who waits for it. What is rendered of the state
    /// before is let go under the same lock, so that nobody is shown it after.
    fn change(&self, subject: Subject, rendition: Option<&str>, change: impl FnOnce(&mut State) -> Outcome) -> Outcome {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut state);
        if let Some(broadcast) = subject.broadcast.filter(|_| outcome != Outcome::Ignored) {
            self.rooms.changed(broadcast, rendition);
        }
        outcome
    }
}

fn joined(pieces: &[Bytes]) -> Bytes {
    pieces.concat().into()
}

fn tell(outcome: Outcome, subject: Subject, seq: u64) {
    let subject = tracing::field::display(&subject);
    match outcome {
        Outcome::Applied => tracing::trace!(subject, seq, "entry applied"),
        Outcome::Ignored => tracing::debug!(subject, seq, "entry ignored"),
        Outcome::Malformed(reason) => {
            tracing::warn!(subject, seq, reason, "entry cannot be used")
        }
        Outcome::OtherTarget => {
            tracing::warn!(
                subject,
                seq,
                "another segment target within a session: the first one stands"
            );
        }
        Outcome::Full => tracing::warn!(subject, seq, "segment refused: too many broadcasts in memory"),
        Outcome::FullOfParts => {
            tracing::debug!(subject, seq, "part refused: too many of its session in memory")
        }
        Outcome::TooLong => {
            tracing::warn!(subject, seq, "segment is longer than was announced: shown as a gap")
        }
    }
}

/// Takes in parts for ever; says so on `caught_up` when it has read what was there
/// at the start.
async fn read_parts(mut follow: Follow<Part>, shared: &Shared, caught_up: &watch::Sender<u8>) -> ReadError {
    loop {
        match follow.next().await {
            Ok(Followed::Entry(part)) => shared.apply_part(&part),
            // Of an older pipeline: its segments are shown all the same.
            Ok(Followed::Undecodable(message)) => tracing::debug!(
                subject = message.subject,
                seq = message.position.sequence,
                error = %message.error,
                "message is not a part"
            ),
            Ok(Followed::CaughtUp) => caught_up.send_modify(|readers| *readers += 1),
            Err(error) => tracing::warn!(error = %error, "cannot read the parts, trying again"),
        }
    }
}

/// Applies a reader's entries for ever; says so on `caught_up` when it has read
/// what was there at the start. `before` is for a reader of last entries.
async fn read(mut follow: Follow, before: Option<&Log>, shared: &Shared, caught_up: &watch::Sender<u8>) -> ReadError {
    let mut before = before;
    loop {
        let unsaid = match follow.next().await {
            Ok(Followed::Entry(entry)) => {
                shared.apply(&entry);
                entry.event.name().is_none().then_some(entry.subject)
            }
            Ok(Followed::Undecodable(message)) => {
                tracing::warn!(
                    subject = message.subject,
                    seq = message.position.sequence,
                    error = %message.error,
                    "message is not an entry"
                );
                message.subject.parse().ok()
            }
            Ok(Followed::CaughtUp) => {
                // What comes from here on is applied to what was said before it.
                before = None;
                caught_up.send_modify(|readers| *readers += 1);
                None
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot read the log, trying again");
                None
            }
        };
        if let (Some(log), Some(subject)) = (before, unsaid) {
            for entry in log.history_at_last(subject).await {
                shared.apply(&entry);
            }
        }
    }
}

/// When the first segments were stored that an edge needs which knows all else;
/// `None`: it needs all.
pub(crate) fn since(state: &State, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let reach = TimeDelta::from_std(state.reach(now)).ok()?;
    now.checked_sub_signed(reach)?.checked_sub_signed(MARGIN)
}

/// The same of what happened: an interruption that a window reaches across may have begun
/// that much earlier.
pub(crate) fn marks_since(state: &State, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    since(state, now)?.checked_sub_signed(TimeDelta::from_std(STRETCH).ok()?)
}

/// The broadcasts that need segments from before [`since`], and from when on.
pub(crate) fn earlier(state: &State, now: DateTime<Utc>) -> Vec<(BroadcastId, DateTime<Utc>)> {
    let since = since(state, now);
    let begun = state.begun(MARGIN, now);
    begun
        .filter(|(_, began)| since.is_some_and(|since| *began < since))
        .collect()
}

/// Reads the segments of a broadcast from a time on, however long the log cannot be read.
async fn read_from(log: &Log, shared: &Shared, (broadcast, from): (BroadcastId, DateTime<Utc>)) {
    while let Err(error) = try_read_from(log, shared, broadcast, from).await {
        tracing::warn!(broadcast_id = %broadcast, error = %error, "cannot read the log, trying again");
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

async fn try_read_from(
    log: &Log,
    shared: &Shared,
    broadcast: BroadcastId,
    from: DateTime<Utc>,
) -> Result<(), ReadError> {
    let mut entries = pin!(log.scan(Kind::Segment.of(broadcast), Some(from)));
    while let Some(entry) = entries.try_next().await? {
        shared.apply(&entry);
    }
    Ok(())
}

/// Follows the log. Never returns.
pub(crate) async fn follow(log: Log, shared: Shared, health: Health) {
    let last = |kinds: [Kind; 2]| {
        let filters = kinds.map(Kind::filter);
        log.follow(
            kinds[0].stream(),
            &filters.each_ref().map(String::as_str),
            From::LastPerSubject,
        )
    };
    let (known, mut known_read) = watch::channel(0_u8);
    let (media, mut media_read) = watch::channel(0_u8);
    let (parts, mut parts_read) = watch::channel(0_u8);
    let mut parts_before = parts.subscribe();
    let mut marks_read = media.subscribe();
    let segments = async {
        // The senders live as long as this future.
        let _open = known_read.wait_for(|readers| *readers == 2).await.is_ok();
        // What happened comes first: it says from when on the windows are.
        let _open = marks_read.wait_for(|readers| *readers == 2).await.is_ok();
        // Parts first: out of them come the segments that are not in the store yet.
        let parts = parts_before.wait_for(|readers| *readers == 1);
        let _in_time = tokio::time::timeout(PARTS_PATIENCE, parts).await.is_ok();
        let now = Utc::now();
        let start = since(&shared.read(), now).map_or(From::Beginning, From::Time);
        let earlier = stream::iter(earlier(&shared.read(), now));
        earlier
            .for_each_concurrent(IN_FLIGHT, |window| read_from(&log, &shared, window))
            .await;
        let filter = Kind::Segment.filter();
        let follow = log.follow(Kind::Segment.stream(), &[&filter], start);
        read(follow, None, &shared, &media).await
    };
    // What happened in the windows: the last entry tells only the last of it.
    let mut known_before = known.subscribe();
    let marks = async {
        let _open = known_before.wait_for(|readers| *readers == 2).await.is_ok();
        let start = || marks_since(&shared.read(), Utc::now()).map_or(From::Beginning, From::Time);
        let of = |kind: Kind| log.follow(kind.stream(), &[&kind.filter()], start());
        tokio::join!(
            read(of(Kind::Title), None, &shared, &media),
            read(of(Kind::Status), None, &shared, &media),
        )
    };
    let ready = async {
        let _open = media_read.wait_for(|readers| *readers == 3).await.is_ok();
        let parts = parts_read.wait_for(|readers| *readers == 1);
        let _in_time = tokio::time::timeout(PARTS_PATIENCE, parts).await.is_ok();
        shared.caught_up.store(true, Ordering::Release);
        health.set(PART, true);
        tracing::info!(broadcasts = shared.read().broadcasts(), "caught up with the log");
        std::future::pending::<()>().await;
    };
    tokio::join!(
        read(last([Kind::Options, Kind::Registration]), Some(&log), &shared, &known),
        read(last([Kind::Status, Kind::Metadata]), Some(&log), &shared, &known),
        segments,
        marks,
        read_parts(log.follow_parts(), &shared, &parts),
        ready,
    );
}
