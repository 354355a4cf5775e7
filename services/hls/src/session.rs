//! The segments of one session: a window over each rendition, in order and
//! without holes. Segments may come twice and out of order; what a playlist has
//! once shown never changes.
//!
//! Everything here is a function of the entries in log order, so that each edge,
//! restarted or not, shows the same playlist.

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    sync::Arc,
    time::Duration,
};

use castlog_log::{
    BroadcastId, Part, SessionId, pb,
    pb::{RenditionKind, metadata::Produced},
};
use castlog_playlist::{bitrate, media};
use chrono::{DateTime, Utc};

use crate::{
    key::{File, MediaKey},
    parts::Parts,
    state::Outcome,
};

/// Most renditions of a session; the ladder has at most seven rungs.
const MAX_TRACKS: usize = 16;
/// Segments of a rendition that must stand behind a hole before it counts as
/// lost: publishers may overtake each other, but not by two segments.
const PATIENCE: usize = 2;
/// Longest hole that is shown as gaps; behind a longer one the playlist starts anew.
const MAX_HOLE: u64 = 64;
/// Neighbours that the peak bit rate is measured over, at each new segment: runs
/// of segments that last up to 1.5 target durations.
const PEAK_RUN: usize = 4;

/// Segments of a session that are held until it is known what the session makes:
/// two minutes of a full ladder. Of more, the newest stay.
const MAX_EARLY: usize = 1024;
/// Longest segment that is believed: an hour would make a target duration that
/// no player polls at.
pub(crate) const MAX_SEGMENT: Duration = Duration::from_secs(60);

/// A segment as the log describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) duration: Duration,
    pub(crate) discontinuity_sequence: u64,
    pub(crate) time: Option<DateTime<Utc>>,
    pub(crate) key: String,
    pub(crate) map: Option<Arc<str>>,
    pub(crate) bytes: u64,
    pub(crate) gap: bool,
    /// Its parts; none when it is not known that they make it up.
    pub(crate) parts: Vec<StoredPart>,
}

/// A part of a stored segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredPart {
    pub(crate) duration: Duration,
    pub(crate) bytes: u64,
    pub(crate) independent: bool,
}

/// The parts that an entry names, if they are what the segment consists of.
fn parts_of(stored: &pb::segment::Stored) -> Vec<StoredPart> {
    let sum = |of: fn(&pb::segment::Part) -> u64| stored.parts.iter().try_fold(0_u64, |sum, p| sum.checked_add(of(p)));
    let whole = (sum(|p| p.duration_us), sum(|p| p.size_bytes)) == (Some(stored.duration_us), Some(stored.size_bytes));
    let parts = stored.parts.iter().filter(|_| whole).map(|part| StoredPart {
        duration: Duration::from_micros(part.duration_us),
        bytes: part.size_bytes,
        independent: part.independent,
    });
    parts.collect()
}

pub(crate) fn time_of(time: Option<pb::Timestamp>) -> Option<DateTime<Utc>> {
    DateTime::try_from(time?).ok()
}

/// Reads a segment of `broadcast`, and the session that it belongs to; else what is wrong with it.
pub(crate) fn read_segment(
    broadcast: BroadcastId,
    stored: &pb::segment::Stored,
) -> Result<(SessionId, Stored), &'static str> {
    let session: SessionId = stored.session_id.parse().map_err(|_| "segment names no session")?;
    let own = |key: &str| {
        let key: Option<MediaKey> = key.parse().ok();
        key.filter(|k| k.broadcast == broadcast && k.session == session && k.rendition == stored.rendition)
    };
    let key = own(&stored.object_key).ok_or("segment has a foreign object key")?;
    if !matches!(key.file, File::Segment { number, .. } if number == stored.media_sequence) {
        return Err("segment has the object key of another segment");
    }
    let map: Option<Arc<str>> = match own(&stored.init_object_key) {
        _ if stored.init_object_key.is_empty() => None,
        Some(MediaKey {
            file: File::Init(_), ..
        }) => Some(stored.init_object_key.as_str().into()),
        _ => return Err("segment has a foreign initialization section"),
    };
    let duration = Duration::from_micros(stored.duration_us);
    if duration.is_zero() || duration > MAX_SEGMENT {
        return Err("segment has a duration of 0 or over 60 s");
    }
    Ok((
        session,
        Stored {
            duration,
            discontinuity_sequence: stored.discontinuity_sequence,
            time: time_of(stored.program_date_time),
            key: stored.object_key.clone(),
            map,
            bytes: stored.size_bytes,
            gap: stored.size_bytes == 0,
            parts: parts_of(stored),
        },
    ))
}

/// One rendition.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Track {
    /// Media sequence number of the first segment.
    pub(crate) head: u64,
    pub(crate) segments: VecDeque<Stored>,
    length: Duration,
    /// Segments behind a hole.
    waiting: BTreeMap<u64, Stored>,
    /// Largest segment bit rate seen.
    pub(crate) peak: u64,
    bytes: u64,
    measured: Duration,
}

/// One session of a broadcast.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Session {
    /// What the pipeline says that it makes.
    pub(crate) produced: Option<Produced>,
    tracks: BTreeMap<String, Track>,
    /// Segments that came before that, in their order. Windows and gaps depend on the
    /// target duration, and so they are looked at once it is known: what is shown does
    /// not tell which of the two streams was quicker.
    early: VecDeque<Early>,
    pub(crate) parts: Parts,
}

#[derive(Debug, PartialEq, Eq)]
struct Early {
    rendition: String,
    sequence: u64,
    segment: Stored,
}

impl Track {
    /// Whether the rendition has something to show.
    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Number of segments in the window.
    pub(crate) fn len(&self) -> usize {
        self.segments.len()
    }

    /// Average bit rate of all segments seen.
    pub(crate) fn average(&self) -> u64 {
        bitrate::average(&[bitrate::Sample {
            duration: self.measured,
            bytes: self.bytes,
        }])
    }

    /// Media sequence number behind the window.
    pub(crate) fn next(&self) -> u64 {
        self.head + self.segments.len() as u64
    }

    pub(crate) fn get(&self, sequence: u64) -> Option<&Stored> {
        let index = sequence.checked_sub(self.head)?;
        self.segments
            .get(usize::try_from(index).ok()?)
            .or_else(|| self.waiting.get(&sequence))
    }

    fn push(&mut self, mut segment: Stored, target: u32) {
        if let Some(last) = self.segments.back() {
            segment.discontinuity_sequence = segment.discontinuity_sequence.max(last.discontinuity_sequence);
            if segment.map == last.map {
                // One allocation for all segments that share a section.
                segment.map.clone_from(&last.map);
            }
        }
        self.length += segment.duration;
        if !segment.gap {
            self.bytes = self.bytes.saturating_add(segment.bytes);
            self.measured += segment.duration;
        }
        self.segments.push_back(segment);
        let run = self.segments.iter().rev().take(PEAK_RUN).take_while(|s| !s.gap);
        let samples: Vec<_> = run
            .map(|s| bitrate::Sample {
                duration: s.duration,
                bytes: s.bytes,
            })
            .collect();
        self.peak = self.peak.max(bitrate::peak(&samples, target));
    }

    fn trim(&mut self, window: Duration) {
        while let Some(first) = self.segments.front()
            && self.length - first.duration >= window
        {
            self.length -= first.duration;
            self.head += 1;
            self.segments.pop_front();
        }
    }
}

impl Session {
    /// The target duration in seconds, which the pipeline announces as a bound
    /// for the whole session: it never changes, whatever segments come. Before
    /// it has been announced nothing is shown.
    pub(crate) fn target_duration(&self) -> u32 {
        let announced = self.produced.as_ref().map_or(0, |produced| produced.segment_target_ms);
        let target = Duration::from_millis(announced.into());
        u32::try_from(rounded(target)).unwrap_or(u32::MAX).max(1)
    }

    /// Takes in what the pipeline says that it makes. The segment target that
    /// was announced first stands, since players hold it; answers whether this
    /// one is the same.
    pub(crate) fn announce(&mut self, mut produced: Produced, window: Duration) -> bool {
        let first = self.produced.as_ref().map(|first| first.segment_target_ms);
        let target = first.unwrap_or(produced.segment_target_ms);
        let same = std::mem::replace(&mut produced.segment_target_ms, target) == target;
        self.produced = Some(produced);
        for early in std::mem::take(&mut self.early) {
            self.insert(&early.rendition, early.sequence, early.segment, window);
        }
        same
    }

    /// Number of segments, wherever they stand.
    #[cfg(test)]
    pub(crate) fn segments(&self) -> usize {
        let of = |track: &Track| track.segments.len() + track.waiting.len();
        self.tracks.values().map(of).sum::<usize>() + self.early.len()
    }

    /// Lets go of what a window that has become shorter does not hold.
    pub(crate) fn trim(&mut self, window: Duration) {
        let window = self.window(window);
        self.tracks.values_mut().for_each(|track| track.trim(window));
    }

    /// A playlist must not fall below three target durations.
    fn window(&self, wanted: Duration) -> Duration {
        wanted.max(Duration::from_secs(3 * u64::from(self.target_duration())))
    }

    /// Whether a segment is longer than a playlist with the target duration
    /// may show.
    pub(crate) fn is_too_long(&self, duration: Duration) -> bool {
        self.produced.is_some() && rounded(duration) > u64::from(self.target_duration())
    }

    /// The renditions with something to show, but `but`.
    pub(crate) fn others(&self, but: &str) -> impl Iterator<Item = (&String, &Track)> {
        self.tracks
            .iter()
            .filter(move |(name, track)| *name != but && !track.is_empty())
    }

    /// The name of the first rendition with a picture.
    pub(crate) fn first_picture(&self) -> Option<&str> {
        let renditions = &self.produced.as_ref()?.renditions;
        let picture = renditions.iter().find(|r| r.kind == RenditionKind::Video as i32);
        picture.map(|rendition| &*rendition.name)
    }

    pub(crate) fn track(&self, rendition: &str) -> Option<&Track> {
        self.tracks.get(rendition)
    }

    /// Whether a rendition is one of those that the session makes now.
    pub(crate) fn announces(&self, rendition: &str) -> bool {
        let mut announced = self.produced.iter().flat_map(|produced| &produced.renditions);
        announced.any(|announced| announced.name == rendition)
    }

    /// Whether no segment has come yet.
    pub(crate) fn is_empty(&self) -> bool {
        self.tracks.is_empty() && self.early.is_empty()
    }

    /// The most segments that a rendition has in its window.
    pub(crate) fn longest_track(&self) -> usize {
        self.tracks.values().map(Track::len).max().unwrap_or(0)
    }

    /// Takes a segment in. `false`: it is old, known, or one rendition too many.
    pub(crate) fn insert(&mut self, rendition: &str, sequence: u64, segment: Stored, window: Duration) -> bool {
        if self.produced.is_none() {
            return self.hold(rendition, sequence, segment);
        }
        if !self.tracks.contains_key(rendition) && self.tracks.len() >= MAX_TRACKS {
            return false;
        }
        let track = self.tracks.entry(rendition.to_owned()).or_default();
        if track.segments.is_empty() && track.waiting.is_empty() {
            track.head = sequence;
        }
        if sequence < track.next() || track.waiting.contains_key(&sequence) {
            return false;
        }
        track.waiting.insert(sequence, segment);
        self.settle(rendition, window);
        self.prune_parts(rendition);
        true
    }

    /// Takes in a segment of a session that is over; [`Self::complete`] puts it in its
    /// place. `false`: it is known, or one rendition too many.
    pub(crate) fn collect(&mut self, rendition: &str, sequence: u64, segment: Stored) -> bool {
        if !self.tracks.contains_key(rendition) && self.tracks.len() >= MAX_TRACKS {
            return false;
        }
        let track = self.tracks.entry(rendition.to_owned()).or_default();
        match track.waiting.entry(sequence) {
            Entry::Vacant(place) => {
                place.insert(segment);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    /// Leaves out the last row of what has been collected, if one of these renditions is not
    /// in it yet.
    pub(crate) fn leave_out_unfinished(&mut self, renditions: &[String]) {
        let numbers = self
            .tracks
            .values()
            .filter_map(|track| track.waiting.keys().next_back());
        let Some(&last) = numbers.max() else { return };
        let has = |name: &String| self.tracks.get(name).is_some_and(|t| t.waiting.contains_key(&last));
        if renditions.iter().all(has) {
            return;
        }
        self.tracks.retain(|_, track| {
            track.waiting.remove(&last);
            !track.waiting.is_empty()
        });
    }

    /// Puts in order what has been collected. Renditions come and go with the ladder: where
    /// one lacks a segment that another has, it gets a gap, so that all have the same numbers
    /// and time line. Holds at most `most` segments, gaps among them; `false`: those behind
    /// them are left out.
    pub(crate) fn complete(&mut self, most: usize) -> bool {
        let waiting = || self.tracks.values().map(|track| &track.waiting);
        let first = waiting().filter_map(|waiting| waiting.keys().next()).min().copied();
        let last = waiting()
            .filter_map(|waiting| waiting.keys().next_back())
            .max()
            .copied();
        let (Some(first), Some(last)) = (first, last) else {
            return true;
        };
        let longest = (most / self.tracks.len()) as u64;
        let end = last.saturating_add(1).min(first.saturating_add(longest));
        self.tracks.values_mut().for_each(|track| track.head = first);
        let names: Vec<String> = self.tracks.keys().cloned().collect();
        for name in &names {
            (first..end).for_each(|sequence| self.place(name, sequence));
        }
        self.tracks.values_mut().for_each(|track| track.waiting.clear());
        // What was announced and never came is not waited for.
        if let Some(produced) = &mut self.produced {
            produced.renditions.retain(|r| self.tracks.contains_key(&r.name));
        }
        end > last
    }

    /// Moves a segment of a session that is over into the playlist, or a gap in its place.
    fn place(&mut self, rendition: &str, sequence: u64) {
        let target = self.target_duration();
        let collected = self.tracks.get_mut(rendition);
        let collected = collected.and_then(|track| track.waiting.remove(&sequence));
        let segment = collected.unwrap_or_else(|| self.gap(rendition, sequence));
        if let Some(track) = self.tracks.get_mut(rendition) {
            track.push(segment, target);
        }
    }

    /// Takes in a part that has passed [`crate::parts::check`].
    pub(crate) fn insert_part(&mut self, part: &Part) -> Outcome {
        let header = &part.header;
        if !self.wants_parts(&header.rendition, header.media_sequence, header.discontinuity_sequence) {
            return Outcome::Ignored;
        }
        self.parts.insert(part)
    }

    /// Holds a segment until it is known what the session makes.
    fn hold(&mut self, rendition: &str, sequence: u64, segment: Stored) -> bool {
        let same = |early: &Early| early.sequence == sequence && early.rendition == rendition;
        if self.early.iter().any(same) {
            return false;
        }
        if self.early.len() == MAX_EARLY {
            self.early.pop_front();
        }
        self.early.push_back(Early {
            rendition: rendition.to_owned(),
            sequence,
            segment,
        });
        true
    }

    /// Moves what waits into the window, as far as it is contiguous or the hole
    /// before it counts as lost.
    fn settle(&mut self, rendition: &str, window: Duration) {
        let (target, window) = (self.target_duration(), self.window(window));
        loop {
            let Some(track) = self.tracks.get(rendition) else {
                return;
            };
            let next = track.next();
            let Some((&first, _)) = track.waiting.first_key_value() else {
                return;
            };
            if first > next && track.waiting.len() < PATIENCE {
                return;
            }
            let lost = first - next;
            let gaps: Vec<Stored> = if lost <= MAX_HOLE {
                (next..first).map(|n| self.gap(rendition, n)).collect()
            } else {
                Vec::new()
            };
            let Some(track) = self.tracks.get_mut(rendition) else {
                return;
            };
            if lost > MAX_HOLE {
                track.segments.clear();
                track.length = Duration::ZERO;
                track.head = first;
            }
            for gap in gaps {
                track.push(gap, target);
            }
            if let Some(segment) = track.waiting.remove(&first) {
                track.push(segment, target);
            }
            track.trim(window);
        }
    }

    /// What stands in the place of a segment that this rendition lacks: as long
    /// as its twins in the other renditions.
    fn gap(&self, rendition: &str, sequence: u64) -> Stored {
        let twin = self
            .tracks
            .iter()
            .find_map(|(name, t)| t.get(sequence).filter(|s| name != rendition && !s.gap));
        let track = self.tracks.get(rendition);
        let neighbour = track.and_then(|t| t.segments.back().or_else(|| t.waiting.values().next()));
        let announced = self.produced.as_ref().map_or(1, |p| p.segment_target_ms.max(1));
        let folder = neighbour
            .and_then(|s| s.key.rsplit_once('/'))
            .map_or("", |(folder, _)| folder);
        Stored {
            duration: twin.map_or(Duration::from_millis(announced.into()), |s| s.duration),
            discontinuity_sequence: twin.or(neighbour).map_or(0, |s| s.discontinuity_sequence),
            time: twin.and_then(|s| s.time),
            key: format!("{folder}/{sequence}.m4s"),
            map: neighbour.and_then(|s| s.map.clone()),
            bytes: 0,
            gap: true,
            parts: Vec::new(),
        }
    }

    /// The media playlist of a rendition. Nothing waits for a missing segment
    /// once the session is `over`.
    pub(crate) fn playlist(&self, rendition: &str, over: bool, media_base: &str) -> Option<media::Playlist> {
        let track = self.tracks.get(rendition)?;
        let shown = |segment: &Stored| self.shown(segment, media_base);
        let mut segments: Vec<media::Segment> = track.segments.iter().map(shown).collect();
        self.tell_parts(rendition, media_base, &mut segments);
        if over {
            let mut next = track.next();
            for (&sequence, segment) in &track.waiting {
                if sequence - next > MAX_HOLE {
                    break;
                }
                segments.extend((next..sequence).map(|n| shown(&self.gap(rendition, n))));
                segments.push(shown(segment));
                next = sequence + 1;
            }
        }
        Some(media::Playlist {
            target_duration: self.target_duration(),
            media_sequence: track.head,
            kind: None,
            independent_segments: true,
            segments,
            date_ranges: Vec::new(),
            ended: over,
            low_latency: self.low_latency(rendition, over, media_base),
        })
    }

    /// A segment that is longer than was announced stands there as a gap of a
    /// permitted length: a player that believes the target duration does not
    /// wait for it.
    fn shown(&self, segment: &Stored, media_base: &str) -> media::Segment {
        let too_long = self.is_too_long(segment.duration);
        media::Segment {
            uri: format!("{media_base}/{}", segment.key),
            map: segment.map.as_ref().map(|map| format!("{media_base}/{map}").into()),
            duration: match too_long {
                true => Duration::from_secs(self.target_duration().into()),
                false => segment.duration,
            },
            discontinuity_sequence: segment.discontinuity_sequence,
            program_date_time: segment.time,
            gap: segment.gap || too_long,
            parts: Vec::new(),
        }
    }
}

/// To the nearest second, as EXTINF counts against the target duration.
fn rounded(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_millis() >= 500)
}

/// The sessions of a broadcast that are held: the one that its newest status
/// names, and at most one other, which is either the one before, or the next,
/// whose segments came before its status.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Sessions {
    held: BTreeMap<SessionId, Session>,
}

/// Sessions of a broadcast in memory at a time.
const MAX_SESSIONS: usize = 2;

impl Sessions {
    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.held.get(&id)
    }

    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = &Session> {
        self.held.values()
    }

    pub(crate) fn has_segments(&self) -> bool {
        self.held.values().any(|s| !s.is_empty())
    }

    pub(crate) fn trim(&mut self, window: Duration) {
        self.held.values_mut().for_each(|session| session.trim(window));
    }

    /// The session `id`, which becomes known here; `current` stays in any case.
    pub(crate) fn open(&mut self, id: SessionId, current: Option<SessionId>) -> &mut Session {
        self.held.entry(id).or_default();
        while self.held.len() > MAX_SESSIONS {
            let oldest = self
                .held
                .keys()
                .find(|&&held| held != id && Some(held) != current)
                .copied();
            let Some(oldest) = oldest else { break };
            self.held.remove(&oldest);
        }
        self.held.entry(id).or_default()
    }
}
