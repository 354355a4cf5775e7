//! The playlists in the compliance kit: whatever is delivered how, and wherever an
//! edge is restarted, it shows what an edge shows that read the log once, in order.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use castlog_log::{BroadcastId, Entry, Event, Kind, SessionId, pb};
use castlog_playlist::check;
use castlog_projector::compliance::{Harness, explore, explore_over};
use chrono::{DateTime, Utc};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    empty,
    scene::{RENDITIONS, Scene, at},
};
use crate::{
    follow,
    state::{Outcome, State},
};

/// What is wrong with an edge.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// It starts without reading the options.
    NoOptions,
    /// It starts with too few segments.
    FewSegments,
    /// It starts without what happened before.
    NoMarks,
    /// It stops at the first entry that it cannot use.
    Stops,
}

/// Where a segment stands, and what stands there.
type Named = BTreeMap<(BroadcastId, String, u64), String>;

struct Edge {
    fault: Fault,
    stopped: bool,
    /// When entries come and players look, and when the last playlist is closed.
    now: DateTime<Utc>,
    later: DateTime<Utc>,
    state: State,
    /// The log so far, by stream.
    log: BTreeMap<String, BTreeMap<u64, Entry>>,
    /// What the newest options say that say something.
    private: BTreeMap<BroadcastId, (u64, bool)>,
    /// By rendition and session, what players hold.
    held: BTreeMap<(BroadcastId, String), String>,
    named: Named,
}

impl Edge {
    fn new(fault: Fault, now: DateTime<Utc>) -> Self {
        Self {
            fault,
            stopped: false,
            now,
            later: now + chrono::TimeDelta::seconds(100),
            state: empty(),
            log: BTreeMap::new(),
            private: BTreeMap::new(),
            held: BTreeMap::new(),
            named: Named::new(),
        }
    }

    fn broadcasts(&self) -> BTreeSet<BroadcastId> {
        let entries = self.log.values().flat_map(BTreeMap::values);
        entries.filter_map(|entry| entry.subject.broadcast).collect()
    }

    fn take(&mut self, entry: &Entry) {
        let broadcast = entry.subject.broadcast.unwrap();
        if let Event::Options(pb::Options {
            event: Some(pb::options::Event::Changed(options)),
        }) = &entry.event
        {
            let newest = self.private.entry(broadcast).or_default();
            let public = [pb::Visibility::Public, pb::Visibility::Unspecified].map(i32::from);
            if entry.sequence() > newest.0 {
                *newest = (entry.sequence(), !public.contains(&options.visibility));
            }
        }
        let stream = self.log.entry(entry.position.stream.clone()).or_default();
        stream.insert(entry.sequence(), entry.clone());
        if !self.stopped {
            let outcome = self.state.apply(entry, self.now);
            self.stopped = self.fault == Fault::Stops && matches!(outcome, Outcome::Malformed(_));
        }
    }

    /// The state of an edge that starts: the last entry of each subject, what was
    /// before one that says nothing, and the segments since.
    fn restarted(&self) -> State {
        let mut state = empty();
        let entries = |stream: &str| self.log.get(stream).into_iter().flat_map(BTreeMap::values);
        for stream in ["BROAD_INFO", "LIVE_STREAM"] {
            if self.fault == Fault::NoOptions && stream == "BROAD_INFO" {
                continue;
            }
            let last: BTreeMap<_, _> = entries(stream).map(|entry| (entry.subject, entry)).collect();
            let mut last: Vec<&Entry> = last.into_values().collect();
            last.sort_by_key(|entry| entry.sequence());
            for entry in last {
                state.apply(entry, self.now);
                if entry.event.name().is_none() {
                    for before in entries(stream).filter(|before| before.subject == entry.subject) {
                        state.apply(before, self.now);
                    }
                }
            }
        }
        let since = follow::since(&state, self.now);
        let marks = [Kind::Title, Kind::Status].map(|kind| (kind, entries(kind.stream())));
        let marks = marks
            .into_iter()
            .flat_map(|(kind, of)| of.filter(move |entry| entry.subject.kind == kind));
        let marks_since = follow::marks_since(&state, self.now);
        for entry in marks.filter(|entry| marks_since.is_none_or(|since| entry.time >= since)) {
            if self.fault != Fault::NoMarks {
                state.apply(entry, self.now);
            }
        }
        let segments = entries("LIVE_SEGMENT").filter(|entry| since.is_none_or(|since| entry.time >= since));
        let skipped = if self.fault == Fault::FewSegments { 20 } else { 0 };
        for entry in segments.skip(skipped) {
            state.apply(entry, self.now);
        }
        state
    }

    fn playlist(&self, id: BroadcastId, rendition: &str, now: DateTime<Utc>) -> Result<String, String> {
        let playlist = self.state.media(id, None, rendition, now);
        playlist.map(|shown| shown.render()).map_err(|e| format!("{e:?}"))
    }

    /// Looks at every playlist as players do, who hold what they were shown before.
    fn look(&mut self) -> anyhow::Result<()> {
        for id in self.broadcasts() {
            let private = self.private.get(&id).is_some_and(|(_, private)| *private);
            let served = self.state.access(id).is_ok() || self.state.multivariant(id, self.now).is_ok();
            anyhow::ensure!(!(private && served), "{id} is private, and is served");
            for rendition in RENDITIONS {
                let Ok(text) = self.playlist(id, rendition, self.now) else {
                    continue;
                };
                anyhow::ensure!(!private, "{id} is private, and {rendition} is shown");
                self.is_legal(id, rendition, text)?;
            }
        }
        Ok(())
    }

    fn is_legal(&mut self, id: BroadcastId, rendition: &str, text: String) -> anyhow::Result<()> {
        let (media, violations) = check::read_media(&text);
        anyhow::ensure!(violations.is_empty(), "{violations:?} in\n{text}");
        for segment in &media.segments {
            let folder = segment.uri.rsplit_once('/').map_or("", |(folder, _)| folder);
            let place = (id, folder.to_owned(), segment.sequence);
            let shown = format!("{segment:?}");
            // Its line in the playlist, and tags that apply to its neighbours too, may move.
            let bytes = format!("{} gap: {}", segment.uri, segment.gap);
            let before = self.named.entry(place).or_insert_with(|| bytes.clone());
            anyhow::ensure!(*before == bytes, "M1: what was {before} is now {shown}");
        }
        let folder = media.segments.first().map(|segment| segment.uri.clone());
        let session = folder.and_then(|uri| Some(uri.rsplit_once('/')?.0.to_owned()));
        let place = (id, format!("{rendition} {}", session.unwrap_or_default()));
        if let Some(before) = self.held.insert(place, text.clone()) {
            let violations = check::reload(&before, &text);
            anyhow::ensure!(violations.is_empty(), "{violations:?} from\n{before}\nto\n{text}");
        }
        Ok(())
    }
}

#[async_trait]
impl Harness for Edge {
    async fn apply(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        entries.iter().for_each(|entry| self.take(entry));
        self.look()
    }

    async fn crash(&mut self) -> anyhow::Result<()> {
        self.state = self.restarted();
        self.look()
    }

    async fn wipe(&mut self) -> anyhow::Result<()> {
        *self = Self::new(self.fault, self.now);
        Ok(())
    }

    async fn rebuild(&mut self, log: &[Entry]) -> anyhow::Result<()> {
        self.wipe().await?;
        self.apply(log).await?;
        self.crash().await
    }

    async fn snapshot(&mut self) -> anyhow::Result<Value> {
        let mut shown = serde_json::Map::new();
        for id in self.broadcasts() {
            for now in [self.now, self.later] {
                let multivariant = self.state.multivariant(id, now).map(|playlist| playlist.render());
                let media = RENDITIONS.map(|rendition| (rendition, json!(self.playlist(id, rendition, now))));
                let access = format!("{:?}", self.state.access(id));
                shown.insert(
                    format!("{id} at {now}"),
                    json!([access, format!("{multivariant:?}"), BTreeMap::from(media)]),
                );
            }
        }
        Ok(shown.into())
    }

    fn kinds(&self) -> &'static [Kind] {
        &[
            Kind::Options,
            Kind::Registration,
            Kind::Title,
            Kind::Status,
            Kind::Metadata,
            Kind::Segment,
        ]
    }
}

/// One session of the broadcast.
#[derive(Debug, Clone)]
struct Session {
    numbers: u64,
    /// By number, milliseconds of a segment and bytes.
    weights: Vec<(u64, u64)>,
    /// Renditions and numbers that are not there.
    lost: Vec<(usize, u64)>,
    /// The number from which another worker has gone on.
    taken_over: u64,
    ends: bool,
}

/// What may come in between.
#[derive(Debug, Clone)]
enum Aside {
    Options(i32),
    Unsaid(Kind),
    /// A segment of another broadcast's folder.
    Foreign,
    Metadata,
    Title,
    Interrupted,
    Resumed,
    Deleted,
}

fn sessions() -> impl Strategy<Value = Session> {
    let weights = prop::collection::vec((1_200..2_400_u64, 1_000..900_000_u64), 16);
    let lost = prop::collection::vec((0..RENDITIONS.len(), 0..16_u64), 0..4);
    let session = (3..16_u64, weights, lost, 0..16_u64, any::<bool>());
    session.prop_map(|(numbers, weights, lost, taken_over, ends)| Session {
        numbers,
        weights,
        lost,
        taken_over,
        ends,
    })
}

fn asides() -> impl Strategy<Value = Aside> {
    let kinds = vec![Kind::Options, Kind::Status, Kind::Metadata, Kind::Segment];
    prop_oneof![
        // One that this schema does not know is among them.
        3 => (0..4_i32).prop_map(Aside::Options),
        3 => prop::sample::select(kinds).prop_map(Aside::Unsaid),
        2 => Just(Aside::Foreign),
        1 => Just(Aside::Metadata),
        2 => Just(Aside::Title),
        2 => Just(Aside::Interrupted),
        1 => Just(Aside::Resumed),
        1 => Just(Aside::Deleted),
    ]
}

/// Logs that publishers may write: one session or two of a broadcast, and what comes
/// in between.
fn histories() -> impl Strategy<Value = Vec<Entry>> {
    let window = prop::sample::select(vec![0, 20, 30]);
    let asides = prop::collection::vec((any::<prop::sample::Index>(), asides()), 0..8);
    let sessions = prop::collection::vec(sessions(), 1..=2);
    (window, sessions, asides).prop_map(|(window, sessions, asides)| write(window, &sessions, &asides))
}

fn write(window: u32, sessions: &[Session], asides: &[(prop::sample::Index, Aside)]) -> Vec<Entry> {
    let mut scene = Scene::new();
    let mut log = vec![scene.options(pb::Visibility::Public, window)];
    let length: u64 = sessions.iter().map(|session| session.numbers).sum();
    let mut asides: Vec<_> = asides
        .iter()
        .map(|(place, aside)| (place.index(usize::try_from(length).unwrap()) as u64, aside))
        .collect();
    asides.sort_by_key(|(place, _)| *place);
    let mut asides = asides.into_iter().peekable();
    let mut told = 0;
    for (at_session, session) in sessions.iter().enumerate() {
        if at_session > 0 {
            scene.session = SessionId::generate();
        }
        log.push(scene.started(0));
        log.push(scene.produced());
        for number in 0..session.numbers {
            while let Some((_, aside)) = asides.next_if(|(place, _)| *place <= told) {
                log.extend(entry_of(&mut scene, aside, number, window));
            }
            told += 1;
            let line = u64::from(number >= session.taken_over);
            let (milliseconds, bytes) = session.weights[usize::try_from(number).unwrap()];
            for (at_rendition, rendition) in RENDITIONS.into_iter().enumerate() {
                let mut entry = scene.segment(rendition, number, line);
                if let Event::Segment(pb::Segment {
                    event: Some(pb::segment::Event::Stored(stored)),
                }) = &mut entry.event
                {
                    stored.duration_us = milliseconds * 1000;
                    stored.size_bytes = bytes + at_rendition as u64;
                }
                if !session.lost.contains(&(at_rendition, number)) {
                    log.push(entry);
                }
            }
        }
        if session.ends || at_session + 1 < sessions.len() {
            log.push(scene.ended(i64::try_from(2 * session.numbers).unwrap()));
        }
    }
    log
}

fn entry_of(scene: &mut Scene, aside: &Aside, number: u64, window: u32) -> Option<Entry> {
    let second = 2 * i64::try_from(number).unwrap() + 1;
    Some(match aside {
        Aside::Options(visibility) => {
            let mut entry = scene.options(pb::Visibility::Public, window);
            if let Event::Options(pb::Options {
                event: Some(pb::options::Event::Changed(options)),
            }) = &mut entry.event
            {
                options.visibility = *visibility;
            }
            entry
        }
        Aside::Unsaid(kind) => {
            let event: Event = match kind {
                Kind::Options => pb::Options { event: None }.into(),
                Kind::Status => pb::Status { event: None }.into(),
                Kind::Metadata => pb::Metadata { event: None }.into(),
                _ => pb::Segment { event: None }.into(),
            };
            scene.entry(at(0), event)
        }
        Aside::Foreign => {
            let mut entry = scene.segment("source", number, 0);
            if let Event::Segment(pb::Segment {
                event: Some(pb::segment::Event::Stored(stored)),
            }) = &mut entry.event
            {
                stored.object_key = stored.object_key.replace("source", "480p");
            }
            entry
        }
        Aside::Metadata => scene.produced(),
        Aside::Title => scene.title(second, &format!("title {number}")),
        Aside::Interrupted => scene.interrupted(second),
        Aside::Resumed => scene.resumed(second),
        Aside::Deleted => scene.entry(
            at(0),
            pb::Registration {
                event: Some(pb::registration::Event::Deleted(Default::default())),
            },
        ),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_playlists_withstand_any_history_and_any_delivery() -> anyhow::Result<()> {
    explore(&mut Edge::new(Fault::None, Utc::now()), 200).await?;
    explore_over(&mut Edge::new(Fault::None, at(0)), histories(), 200).await
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_that_are_wrong_are_caught() {
    for fault in [Fault::NoOptions, Fault::FewSegments, Fault::NoMarks, Fault::Stops] {
        let found = explore_over(&mut Edge::new(fault, at(0)), histories(), 200).await;
        assert!(found.is_err());
    }
}
