//! What the edge knows: a pure fold over the log's `options`, `registration`,
//! `status`, `metadata` and `segment` entries, out of which playlists are made.
//!
//! Entries of different streams come in any order to each other. Kinds that
//! carry a snapshot are guarded by the sequence of the last entry taken, per
//! broadcast and kind; segments by their media sequence number. Time comes in
//! as a value.

use std::{collections::HashMap, time::Duration};

use castlog_log::{BroadcastId, Entry, Event, Part, SessionId, pb};
use castlog_playback::Refusal;
use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    config::MIN_DVR_WINDOW_S,
    key::is_rendition,
    marks::Marks,
    parts,
    session::{MAX_SEGMENT, Sessions, read_segment, time_of},
};

mod ask;

pub(crate) use ask::{Asked, Showing};

/// What the operator decides.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) media_base: String,
    pub(crate) window: Duration,
    pub(crate) max_window: Duration,
    pub(crate) linger: Duration,
    pub(crate) end_grace: Duration,
    pub(crate) max_broadcasts: usize,
}

/// How long an entry may be on its way: an ended playlist is closed that much
/// after the last moment at which an entry counts.
const DELIVERY: Duration = Duration::from_secs(1);

/// How much more of the clock than of media a window may take, since encoders are
/// interrupted: the longest reconnect window.
pub(crate) const STRETCH: Duration = Duration::from_secs(3600);

/// Why something is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// There is no such broadcast, or it is not live.
    NotLive,
    /// It has been deleted.
    Deleted,
    /// It is private, and who asks may not watch it.
    Private(Refusal),
    /// It is live, but the first segments are still to come.
    Starting,
    /// It has no such rendition.
    NoRendition,
    /// The edge holds as many broadcasts as it may.
    Full,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It changed the state.
    Applied,
    /// It is known, older than what is known, or of no interest.
    Ignored,
    /// Its values cannot be used; the reason.
    Malformed(&'static str),
    /// There are too many broadcasts in memory for its segments.
    Full,
    /// There are too many parts of its session in memory for another one.
    FullOfParts,
    /// It is a segment that is longer than the target duration allows, and is
    /// shown as a gap.
    TooLong,
    /// It is metadata with another segment target than was announced first for
    /// its session, which stands; the rest of it was taken in.
    OtherTarget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Live,
    Ended(DateTime<Utc>),
}

/// What is remembered of each broadcast that was ever registered: under 200
/// bytes, since the guards must outlive the media.
#[derive(Debug, Default, PartialEq)]
struct Known {
    options: u64,
    private: bool,
    records: bool,
    window_s: u32,
    registration: u64,
    deleted: bool,
    metadata: u64,
    status: u64,
    session: Option<SessionId>,
    phase: Phase,
}

/// A broadcast with media to show.
#[derive(Debug, PartialEq)]
struct Live {
    sessions: Sessions,
    /// When something last came for it.
    touched: DateTime<Utc>,
}

/// Everything that the edge knows.
#[derive(Debug)]
pub(crate) struct State {
    rules: Rules,
    known: HashMap<BroadcastId, Known>,
    live: HashMap<BroadcastId, Live>,
    marks: HashMap<BroadcastId, Marks>,
}

/// Compares what is known, not the rules.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.known == other.known && self.live == other.live && self.marks == other.marks
    }
}

fn after(time: DateTime<Utc>, duration: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(duration)
        .ok()
        .and_then(|d| time.checked_add_signed(d))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}

impl State {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            known: HashMap::new(),
            live: HashMap::new(),
            marks: HashMap::new(),
        }
    }

    /// Takes an entry in; `now` decides whether an ended broadcast is still held.
    pub(crate) fn apply(&mut self, entry: &Entry, now: DateTime<Utc>) -> Outcome {
        let Some(broadcast) = entry.subject.broadcast else {
            return Outcome::Ignored;
        };
        let sequence = entry.sequence();
        let marked = matches!(entry.event, Event::Title(_) | Event::Status(_))
            && self.marks.entry(broadcast).or_default().insert(entry);
        let outcome = match &entry.event {
            Event::Options(pb::Options {
                event: Some(pb::options::Event::Changed(options)),
            }) => self.options(broadcast, sequence, options),
            Event::Registration(pb::Registration {
                event: Some(registration),
            }) => self.registration(broadcast, sequence, registration),
            Event::Status(pb::Status { event: Some(status) }) => {
                self.status(broadcast, sequence, status, entry.time, now)
            }
            Event::Metadata(pb::Metadata {
                event: Some(pb::metadata::Event::Produced(produced)),
            }) => self.metadata(broadcast, sequence, produced, now),
            Event::Segment(pb::Segment {
                event: Some(pb::segment::Event::Stored(stored)),
            }) => self.segment(broadcast, stored, entry.time, now),
            _ => Outcome::Ignored,
        };
        match outcome {
            // A status that is older than the newest one.
            Outcome::Ignored if marked => Outcome::Applied,
            outcome => outcome,
        }
    }

    fn options(&mut self, broadcast: BroadcastId, sequence: u64, options: &pb::options::Changed) -> Outcome {
        let known = self.known.entry(broadcast).or_default();
        if sequence <= known.options {
            return Outcome::Ignored;
        }
        known.options = sequence;
        // What a newer schema may have come up with is no public one.
        known.private = !matches!(
            options.visibility.try_into(),
            Ok(pb::Visibility::Public | pb::Visibility::Unspecified)
        );
        known.window_s = options.dvr_window_s;
        known.records = options.record;
        if let Some(live) = self.live.get_mut(&broadcast) {
            live.sessions.trim(known.window(&self.rules));
        }
        Outcome::Applied
    }

    fn registration(&mut self, broadcast: BroadcastId, sequence: u64, event: &pb::registration::Event) -> Outcome {
        let known = self.known.entry(broadcast).or_default();
        if sequence <= known.registration {
            return Outcome::Ignored;
        }
        known.registration = sequence;
        known.deleted = matches!(event, pb::registration::Event::Deleted(_));
        Outcome::Applied
    }

    fn status(
        &mut self,
        broadcast: BroadcastId,
        sequence: u64,
        event: &pb::status::Event,
        time: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Outcome {
        use pb::status::Event as Status;
        let known = self.known.entry(broadcast).or_default();
        if sequence <= known.status {
            return Outcome::Ignored;
        }
        let (session, phase) = match event {
            Status::Started(s) => (&s.session, Phase::Live),
            Status::Interrupted(s) => (&s.session, Phase::Live),
            Status::Resumed(s) => (&s.session, Phase::Live),
            Status::Ended(s) => (&s.session, Phase::Ended(time_of(s.ended_at).unwrap_or(time))),
        };
        let Some(session) = session.as_ref().and_then(|s| s.session_id.parse().ok()) else {
            return Outcome::Malformed("status names no session");
        };
        known.status = sequence;
        known.session = Some(session);
        known.phase = phase;
        if known.expired(&self.rules, now) {
            self.live.remove(&broadcast);
        }
        Outcome::Applied
    }

    fn metadata(
        &mut self,
        broadcast: BroadcastId,
        sequence: u64,
        produced: &pb::metadata::Produced,
        now: DateTime<Utc>,
    ) -> Outcome {
        let Ok(session) = produced.session_id.parse() else {
            return Outcome::Malformed("metadata names no session");
        };
        if !produced.renditions.iter().all(|r| is_rendition(&r.name)) {
            return Outcome::Malformed("metadata holds a rendition that is not a name");
        }
        let known = self.known.entry(broadcast).or_default();
        if sequence <= known.metadata {
            return Outcome::Ignored;
        }
        known.metadata = sequence;
        if known.outdated(session) || known.expired(&self.rules, now) {
            return Outcome::Ignored;
        }
        let current = known.session;
        let window = known.window(&self.rules);
        let live = self.live.entry(broadcast).or_insert_with(|| Live::new(now));
        if live.sessions.open(session, current).announce(produced.clone(), window) {
            Outcome::Applied
        } else {
            Outcome::OtherTarget
        }
    }

    fn segment(
        &mut self,
        broadcast: BroadcastId,
        stored: &pb::segment::Stored,
        time: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Outcome {
        let (session, segment) = match read_segment(broadcast, stored) {
            Ok(read) => read,
            Err(reason) => return Outcome::Malformed(reason),
        };
        let known = self.known.entry(broadcast).or_default();
        if known.outdated(session) || known.expired(&self.rules, now) || known.too_late(session, time, &self.rules) {
            return Outcome::Ignored;
        }
        let current = known.session;
        let window = known.window(&self.rules);
        let held = self.live.get(&broadcast).is_some_and(|l| l.sessions.has_segments());
        if !held && self.broadcasts() >= self.rules.max_broadcasts {
            return Outcome::Full;
        }
        let live = self.live.entry(broadcast).or_insert_with(|| Live::new(now));
        live.touched = now;
        let session = live.sessions.open(session, current);
        let too_long = session.is_too_long(segment.duration);
        if !session.insert(&stored.rendition, stored.media_sequence, segment, window) {
            return Outcome::Ignored;
        }
        if too_long {
            return Outcome::TooLong;
        }
        Outcome::Applied
    }

    /// Takes a media part in.
    pub(crate) fn apply_part(&mut self, part: &Part, now: DateTime<Utc>) -> Outcome {
        if let Err(reason) = parts::check(part, MAX_SEGMENT) {
            return Outcome::Malformed(reason);
        }
        let (broadcast, session) = (part.header.broadcast, part.header.session);
        let known = self.known.entry(broadcast).or_default();
        if known.outdated(session) || known.expired(&self.rules, now) {
            return Outcome::Ignored;
        }
        let current = known.session;
        let held = self.live.get(&broadcast).is_some_and(|l| l.sessions.has_segments());
        if !held && self.broadcasts() >= self.rules.max_broadcasts {
            return Outcome::Full;
        }
        let live = self.live.entry(broadcast).or_insert_with(|| Live::new(now));
        live.touched = now;
        live.sessions.open(session, current).insert_part(part)
    }

    /// Frees what has lingered long enough.
    pub(crate) fn expire(&mut self, now: DateTime<Utc>) {
        let longest = self.rules.max_window + self.rules.linger + STRETCH;
        if let Some(before) = TimeDelta::from_std(longest)
            .ok()
            .and_then(|d| now.checked_sub_signed(d))
        {
            self.marks.retain(|_, marks| marks.forget_before(before));
        }
        let (rules, known) = (&self.rules, &self.known);
        self.live.retain(|broadcast, live| {
            let known = known.get(broadcast);
            // Segments whose status never came are freed too.
            let orphan = known.is_none_or(|k| k.session.is_none()) && after(live.touched, rules.linger) <= now;
            !orphan && !known.is_some_and(|k| k.gone(rules, now))
        });
    }

    /// Broadcasts of which moments are held.
    #[cfg(test)]
    pub(crate) fn marked(&self) -> usize {
        self.marks.len()
    }

    /// Numbers of segments, of parts and of their bytes, and of moments that are held.
    #[cfg(test)]
    pub(crate) fn held(&self) -> [usize; 4] {
        let sessions = || self.live.values().flat_map(|live| live.sessions.all());
        let parts = || sessions().map(|session| session.parts.held());
        [
            sessions().map(|session| session.segments()).sum(),
            parts().map(|(count, _)| count).sum(),
            parts().map(|(_, bytes)| bytes).sum(),
            self.marks.values().map(Marks::len).sum(),
        ]
    }

    /// Whether anything of a broadcast's media is known.
    pub(crate) fn holds(&self, broadcast: BroadcastId) -> bool {
        self.live.contains_key(&broadcast)
    }

    /// Broadcasts whose segments are in memory.
    pub(crate) fn broadcasts(&self) -> usize {
        self.live.values().filter(|l| l.sessions.has_segments()).count()
    }

    /// How far back the segments reach that a new edge needs.
    pub(crate) fn reach(&self, now: DateTime<Utc>) -> Duration {
        let rules = &self.rules;
        let shown = self
            .known
            .values()
            .filter(|k| k.session.is_some() && !k.gone(rules, now));
        shown.map(|k| k.window(rules)).max().unwrap_or(rules.window) + rules.linger
    }

    /// When the windows of broadcasts that are shown began, and `margin` before, by the
    /// interruptions that are known.
    pub(crate) fn begun(
        &self,
        margin: TimeDelta,
        now: DateTime<Utc>,
    ) -> impl Iterator<Item = (BroadcastId, DateTime<Utc>)> {
        let rules = &self.rules;
        self.marks.iter().filter_map(move |(&broadcast, marks)| {
            let known = self.known.get(&broadcast).filter(|known| !known.gone(rules, now))?;
            let until = match known.phase {
                Phase::Live => now,
                Phase::Ended(at) => at,
            };
            let length = TimeDelta::from_std(known.window(rules)).ok()? + margin;
            Some((broadcast, marks.began(known.session?, length, until)))
        })
    }
}

impl Live {
    fn new(now: DateTime<Utc>) -> Self {
        Self {
            sessions: Sessions::default(),
            touched: now,
        }
    }
}

impl Known {
    /// Whether nothing of it will be shown any more.
    fn gone(&self, rules: &Rules, now: DateTime<Utc>) -> bool {
        self.deleted || self.expired(rules, now)
    }

    /// Whether its end is so long ago that nothing is held. What is deleted is hidden,
    /// and goes with the next [`State::expire`]: which of its entries came before the
    /// deletion differs from edge to edge.
    fn expired(&self, rules: &Rules, now: DateTime<Utc>) -> bool {
        matches!(self.phase, Phase::Ended(at) if after(at, rules.linger) <= now)
    }

    /// When the playlist of a session that has ended is closed.
    fn closes_at(&self, rules: &Rules) -> Option<DateTime<Utc>> {
        match self.phase {
            Phase::Live => None,
            Phase::Ended(at) => Some(after(at, rules.end_grace + DELIVERY)),
        }
    }

    /// Whether another session has taken the place of `session`: ids sort by time.
    fn outdated(&self, session: SessionId) -> bool {
        self.session.is_some_and(|current| session < current)
    }

    /// Whether an entry of `session` comes after the playlist has been closed.
    fn too_late(&self, session: SessionId, time: DateTime<Utc>, rules: &Rules) -> bool {
        let Phase::Ended(at) = self.phase else {
            return false;
        };
        self.session == Some(session) && time > after(at, rules.end_grace)
    }

    fn window(&self, rules: &Rules) -> Duration {
        if self.window_s == 0 {
            return rules.window;
        }
        let shortest = Duration::from_secs(MIN_DVR_WINDOW_S.into());
        Duration::from_secs(self.window_s.into()).clamp(shortest, rules.max_window.max(shortest))
    }
}
