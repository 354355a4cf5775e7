//! How many people watch each broadcast: a fold over the `viewers` entries of the
//! edges. Pure: time comes in as a value. [`Log::follow_audience`] reads them.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use chrono::Utc;

use crate::{BroadcastId, Entry, Event, Follow, From, Kind, Log, pb};

/// A count stands this long: edges count every 10 s, and one may be late.
pub const COUNT_STANDS: Duration = Duration::from_secs(30);
/// Edges that are told apart per broadcast, which bounds what one broadcast takes.
const MAX_EDGES: usize = 256;
/// Broadcasts whose viewers are counted: far more than are live at a time.
const MAX_COUNTED: usize = 100_000;

/// The newest count of each edge, for as long as it stands.
#[derive(Debug, Clone, Default)]
pub struct Audience {
    edges: HashMap<BroadcastId, HashMap<String, (u32, Instant)>>,
    /// Sequence of the newest entry that is counted in.
    counted: u64,
}

impl Audience {
    /// Takes a count in that came at `now`. Entries of other kinds, and counts that
    /// came before, change nothing.
    pub fn count(&mut self, entry: &Entry, now: Instant) {
        let (Some(broadcast), Event::Viewers(pb::Viewers { event: Some(event) })) =
            (entry.subject.broadcast, &entry.event)
        else {
            return;
        };
        let pb::viewers::Event::Counted(counted) = event;
        if entry.sequence() <= self.counted {
            return;
        }
        self.counted = entry.sequence();
        if self.edges.len() >= MAX_COUNTED {
            self.forget(now);
        }
        if self.edges.len() < MAX_COUNTED || self.edges.contains_key(&broadcast) {
            let edges = self.edges.entry(broadcast).or_default();
            if edges.len() < MAX_EDGES || edges.contains_key(&counted.edge) {
                edges.insert(counted.edge.clone(), (counted.concurrent, now));
            }
        }
    }

    /// Drops counts that do not stand any more.
    pub fn forget(&mut self, now: Instant) {
        self.edges.retain(|_, edges| {
            edges.retain(|_, (_, since)| now.duration_since(*since) < COUNT_STANDS);
            !edges.is_empty()
        });
    }

    /// Viewers of a broadcast, over all edges; 0 = none, or none counted.
    #[must_use]
    pub fn of(&self, broadcast: BroadcastId) -> u64 {
        let edges = self.edges.get(&broadcast).into_iter().flat_map(HashMap::values);
        edges.map(|(count, _)| u64::from(*count)).sum()
    }
}

impl Log {
    /// Reads the counts that stand, and those that come.
    #[must_use]
    pub fn follow_audience(&self) -> Follow {
        let kind = Kind::Viewers;
        self.follow(kind.stream(), &[&kind.filter()], From::Time(Utc::now() - COUNT_STANDS))
    }
}
