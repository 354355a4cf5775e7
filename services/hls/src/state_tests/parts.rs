//! The live end: parts in whatever order, and however often, they arrive.

use std::time::Duration;

use castlog_log::{Entry, Event, Part, pb};
use castlog_playlist::check::{self, Media};
use chrono::DateTime;
use proptest::prelude::*;

use super::{RENDITIONS, Scene, at, empty, scene::PARTS};
use crate::{
    key::{File, MediaKey},
    live::{Piecewise, Reach},
    state::{Absent, Outcome, State},
};

/// What an edge reads.
#[derive(Debug, Clone)]
pub(super) enum Item {
    Entry(Entry),
    Part(Part),
}

impl Item {
    pub(super) fn apply(&self, state: &mut State, now: DateTime<chrono::Utc>) -> Outcome {
        match self {
            Self::Entry(entry) => state.apply(entry, now),
            Self::Part(part) => state.apply_part(part, now),
        }
    }

    /// Whether it comes in the stream of parts.
    pub(super) const fn is_part(&self) -> bool {
        matches!(self, Self::Part(_))
    }
}

/// Segments of a worker with their parts, as it publishes them: those of one number
/// in all renditions become entries together.
pub(super) fn worked(scene: &mut Scene, numbers: std::ops::Range<u64>, line: u64) -> Vec<Item> {
    let mut items = Vec::new();
    for n in numbers {
        items.extend(some_parts(scene, n, line, PARTS));
        items.extend(RENDITIONS.map(|r| Item::Entry(scene.whole(r, n, line))));
    }
    items
}

/// The first parts of a segment in all renditions.
fn some_parts(scene: &mut Scene, n: u64, line: u64, count: u32) -> Vec<Item> {
    let of = (0..count).flat_map(|index| RENDITIONS.map(|r| (r, index)));
    of.map(|(r, index)| Item::Part(scene.part(r, n, line, index))).collect()
}

pub(super) fn opening(scene: &mut Scene) -> Vec<Item> {
    scene.opening().into_iter().map(Item::Entry).collect()
}

fn fold<'i>(items: impl IntoIterator<Item = &'i Item>) -> State {
    let mut state = empty();
    for item in items {
        item.apply(&mut state, at(100));
    }
    state
}

/// The playlist as a valid one.
#[track_caller]
fn read(scene: &Scene, state: &State, rendition: &str) -> Media {
    let text = scene.media(state, rendition, at(100));
    let (media, found) = check::read_media(&text);
    assert_eq!(found, [], "{text}");
    media
}

fn key(scene: &Scene, rendition: &str, segment: u64, line: u64, index: u32) -> MediaKey {
    MediaKey {
        broadcast: scene.broadcast,
        session: scene.session,
        rendition: rendition.to_owned(),
        file: File::Part { segment, line, index },
    }
}

/// Ten segments, and three parts of the next.
fn live(scene: &mut Scene) -> Vec<Item> {
    let mut log = opening(scene);
    log.extend(worked(scene, 0..10, 0));
    log.extend(some_parts(scene, 10, 0, 3));
    log
}

#[test]
fn a_playlist_tells_its_newest_parts_and_the_next() {
    let mut scene = Scene::new();
    let log = live(&mut scene);
    let state = fold(&log);
    let media = read(&scene, &state, "480p");
    let told: Vec<usize> = media.segments.iter().map(|s| s.parts.len()).collect();
    assert_eq!(
        told,
        [0, 0, 0, 0, 0, 0, 0, 8, 8, 8],
        "less than three target durations from the end"
    );
    let open = media.open.unwrap();
    assert_eq!((open.sequence, open.parts.len()), (10, 3));
    assert!(media.hint.unwrap().ends_with("/480p/10-0-3.m4s"));
    let reports: Vec<_> = media.reports.iter().map(|r| (r.last_msn, r.last_part)).collect();
    assert_eq!(reports, [(10, Some(2)); 2]);
    let text = scene.media(&state, "480p", at(100));
    insta::assert_snapshot!("live_end", text.lines().rev().take(22).collect::<Vec<_>>().join("\n"));
}

#[test]
fn what_is_behind_the_segment_in_the_making_waits_for_its_entry() {
    let mut scene = Scene::new();
    let mut log = live(&mut scene);
    log.extend((3..PARTS).map(|index| Item::Part(scene.part("source", 10, 0, index))));
    log.push(Item::Part(scene.part("source", 11, 0, 0)));
    let mut state = fold(&log);
    let media = read(&scene, &state, "source");
    assert_eq!(media.open.unwrap().parts.len(), 8);
    state.apply(&scene.whole("source", 10, 0), at(100));
    let media = read(&scene, &state, "source");
    assert_eq!((media.segments[10].parts.len(), media.open.unwrap().sequence), (8, 11));
}

#[test]
fn parts_of_a_worker_that_died_go_with_a_discontinuity() {
    let mut scene = Scene::new();
    let mut log = live(&mut scene);
    let mut state = fold(&log);
    let mut before = scene.media(&state, "480p", at(100));
    // The successor makes the same segment anew.
    let anew = [some_parts(&mut scene, 10, 1, 2), worked(&mut scene, 10..13, 1)].concat();
    let late: Vec<Item> = some_parts(&mut scene, 10, 0, 5);
    for item in anew.iter().chain(&late) {
        item.apply(&mut state, at(100));
        let text = scene.media(&state, "480p", at(100));
        assert_eq!(check::media(&text), [], "{text}");
        assert_eq!(check::reload(&before, &text), [], "{before}\n{text}");
        before = text;
    }
    assert!(!before.contains("/10-0-"), "{before}");
    assert!(before.contains("/10-1-7.m4s"), "{before}");
    log.extend(anew);
    assert_eq!(fold(&log), state);
    let old = key(&scene, "480p", 10, 0, 0);
    assert_eq!(state.part(scene.broadcast, &old, at(100)), Ok(Piecewise::Absent));
}

#[test]
fn an_end_tells_no_part_of_what_was_not_finished() {
    let mut scene = Scene::new();
    let mut log = live(&mut scene);
    log.push(Item::Entry(scene.ended(21)));
    let state = fold(&log);
    let before = scene.media(&state, "audio", at(22));
    let after = scene.media(&state, "audio", at(60));
    assert!(before.contains("EXT-X-PRELOAD-HINT"));
    assert!(!after.contains("EXT-X-PRELOAD-HINT") && !after.contains("/10-0-") && after.contains("ENDLIST"));
    assert_eq!(check::media(&after), []);
    assert_eq!(check::reload(&before, &after), []);
    let next = key(&scene, "audio", 10, 0, 3);
    assert_eq!(state.part(scene.broadcast, &next, at(22)), Ok(Piecewise::Awaited));
    assert_eq!(state.part(scene.broadcast, &next, at(60)), Ok(Piecewise::Absent));
}

#[test]
fn a_part_is_in_memory_then_in_its_segment() {
    let mut scene = Scene::new();
    let mut state = fold(&live(&mut scene));
    let piece = |scene: &Scene, state: &State, n, line, index| {
        state
            .part(scene.broadcast, &key(scene, "480p", n, line, index), at(100))
            .unwrap()
    };
    assert_eq!(
        piece(&scene, &state, 10, 0, 2),
        Piecewise::Bytes(vec![10; 12_500].into())
    );
    assert_eq!(piece(&scene, &state, 10, 0, 3), Piecewise::Awaited);
    for (n, line, index) in [(10, 0, 4), (10, 1, 0), (11, 0, 0), (2, 0, 8), (2, 1, 0)] {
        assert_eq!(
            piece(&scene, &state, n, line, index),
            Piecewise::Absent,
            "{n}-{line}-{index}"
        );
    }
    let segment = MediaKey {
        file: File::Segment { number: 2, maker: None },
        ..key(&scene, "480p", 0, 0, 0)
    };
    assert_eq!(piece(&scene, &state, 2, 0, 3), Piecewise::In(segment, 37_500..50_000));
    // The hinted one comes with its segment when it was lost on its way.
    state.apply(&scene.whole("480p", 10, 0), at(100));
    assert!(matches!(piece(&scene, &state, 10, 0, 3), Piecewise::In(..)));
    state.apply(&scene.options(castlog_log::pb::Visibility::Private, 0), at(100));
    assert!(
        state
            .part(scene.broadcast, &key(&scene, "480p", 10, 0, 2), at(100))
            .is_err()
    );
}

#[test]
fn an_heir_closes_what_a_worker_left_open() {
    let mut scene = Scene::new();
    let mut log = live(&mut scene);
    // It died before it had any sound of the segment.
    log.retain(|item| !matches!(item, Item::Part(part) if (part.header.rendition.as_str(), part.header.media_sequence) == ("audio", 10)));
    let mut state = fold(&log);
    let before = RENDITIONS.map(|r| scene.media(&state, r, at(100)));
    for (rendition, parts) in [("audio", 0), ("480p", 3), ("source", 3)] {
        let left = scene.left(rendition, 10, 0, parts);
        assert_eq!(state.apply(&left, at(100)), Outcome::Applied);
    }
    for part in some_parts(&mut scene, 11, 1, 2) {
        part.apply(&mut state, at(100));
    }
    for (rendition, before) in RENDITIONS.into_iter().zip(&before) {
        let after = scene.media(&state, rendition, at(100));
        assert_eq!(check::reload(before, &after), [], "{before}\n{after}");
        let media = read(&scene, &state, rendition);
        let last = media.segments.last().unwrap();
        assert_eq!((last.sequence, last.duration), (10, Duration::from_millis(750)));
        let parts = if rendition == "audio" { 0 } else { 3 };
        assert_eq!((last.gap, last.parts.len()), (parts == 0, parts), "{after}");
        let open = media.open.unwrap();
        assert_eq!(
            (open.sequence, open.discontinuity_sequence, open.parts.len()),
            (11, 1, 2)
        );
    }
}

#[test]
fn viewers_may_ask_for_what_is_near() {
    let mut scene = Scene::new();
    let mut state = fold(&live(&mut scene));
    let stored = scene.whole("480p", 10, 0);
    let told = |state: &State, to| state.told(scene.broadcast, scene.session, "480p", to);
    for (to, reach) in [
        ((0, None), Reach::Told),
        ((9, None), Reach::Told),
        ((9, Some(7)), Reach::Told),
        // Behind its last part comes the next segment, which has begun.
        ((9, Some(8)), Reach::Told),
        ((10, Some(2)), Reach::Told),
        ((10, Some(3)), Reach::Awaited),
        ((10, None), Reach::Awaited),
        ((10, Some(14)), Reach::Awaited),
        ((10, Some(15)), Reach::TooFar),
        ((11, None), Reach::Awaited),
        ((11, Some(0)), Reach::Awaited),
        ((11, Some(12)), Reach::TooFar),
        ((12, None), Reach::TooFar),
        ((12, Some(0)), Reach::TooFar),
        ((u64::MAX, Some(u64::MAX)), Reach::TooFar),
    ] {
        assert_eq!(told(&state, to), reach, "{to:?}");
    }
    state.apply(&stored, at(100));
    assert_eq!(told(&state, (10, None)), Reach::Told);
    assert_eq!(told(&state, (10, Some(8))), Reach::Awaited);
}

/// Players of parts count from those that they see: one that sees none of a segment asks for
/// what it knows to be the next again, and would be answered with what it has.
#[test]
fn behind_parts_that_are_not_told_comes_the_next_segment() {
    let mut scene = Scene::new();
    let mut state = fold(&live(&mut scene));
    let mut stored = scene.whole("480p", 10, 0);
    if let Event::Segment(pb::Segment {
        event: Some(pb::segment::Event::Stored(stored)),
    }) = &mut stored.event
    {
        // A picture that stood still at its end.
        (stored.parts[6].duration_us, stored.parts[7].duration_us) = (100_000, 400_000);
    }
    state.apply(&stored, at(100));
    let media = read(&scene, &state, "480p");
    assert_eq!((media.segments[9].parts.len(), media.segments[10].parts.len()), (8, 0));
    let part = scene.part("480p", 11, 0, 0);
    let told = |state: &State, to| state.told(scene.broadcast, scene.session, "480p", to);
    let next = [(9, Some(8)), (10, Some(0)), (10, Some(3)), (10, Some(8)), (11, Some(0))];
    assert_eq!(next.map(|to| told(&state, to)), [Reach::Awaited; 5]);
    assert_eq!(told(&state, (10, None)), Reach::Told);
    assert_eq!(told(&state, (9, Some(7))), Reach::Told);
    state.apply_part(&part, at(100));
    assert_eq!(next.map(|to| told(&state, to)), [Reach::Told; 5]);
}

#[test]
fn nobody_waits_for_a_rendition_that_has_left_the_ladder() {
    let mut scene = Scene::new();
    let mut state = fold(&live(&mut scene));
    let next = key(&scene, "480p", 10, 0, 3);
    let told = |state: &State, to| state.told(scene.broadcast, scene.session, "480p", to);
    assert_eq!(told(&state, (10, Some(3))), Reach::Awaited);
    assert_eq!(state.part(scene.broadcast, &next, at(100)), Ok(Piecewise::Awaited));
    let mut later = Scene {
        sequence: scene.sequence,
        ..Scene::new()
    };
    state.apply(&later.producing(&["source", "audio"]), at(100));
    for to in [(10, None), (10, Some(3)), (12, None)] {
        assert_eq!(told(&state, to), Reach::Told, "{to:?}");
    }
    let shown = state.media(scene.broadcast, None, "480p", at(100));
    assert_eq!(shown, Err(Absent::NoRendition));
    assert_eq!(state.part(scene.broadcast, &next, at(100)), Ok(Piecewise::Absent));
    let others = state.told(scene.broadcast, scene.session, "source", (10, None));
    assert_eq!(others, Reach::Awaited);
}

#[test]
fn senseless_parts_are_refused() {
    let mut scene = Scene::new();
    let good = scene.part("480p", 3, 0, 0);
    let spoilt = |spoil: &dyn Fn(&mut Part)| {
        let mut part = good.clone();
        spoil(&mut part);
        matches!(empty().apply_part(&part, at(0)), Outcome::Malformed(_))
    };
    assert!(!spoilt(&|_| {}));
    assert!(spoilt(&|p| p.header.rendition = "../x".to_owned()));
    assert!(spoilt(&|p| p.header.rendition = "720p".to_owned()));
    assert!(spoilt(&|p| p.header.part = 1024));
    assert!(spoilt(&|p| p.header.duration_us = 0));
    assert!(spoilt(&|p| p.header.duration_us = 60_000_001));
    assert!(spoilt(&|p| p.payload = bytes::Bytes::new()));
    assert!(spoilt(&|p| p.header.init_object_key = "../../etc/passwd".to_owned()));
    assert!(spoilt(
        &|p| p.header.init_object_key = p.header.init_object_key.replace("init-0.mp4", "3.m4s")
    ));
}

#[test]
fn what_is_held_is_bounded_and_what_is_told_of_stored_segments_is_not_lost() {
    let mut scene = Scene::new();
    let mut state = fold(&live(&mut scene));
    let mut refused = 0;
    for n in 10..40 {
        for index in 0..PARTS {
            let mut part = scene.part("480p", n, 0, index);
            part.payload = vec![0; 1 << 20].into();
            refused += u32::from(state.apply_part(&part, at(100)) == Outcome::FullOfParts);
        }
    }
    let held = (10..40).flat_map(|n| (0..PARTS).map(move |index| (n, index)));
    let held = held.filter(|&(n, index)| {
        matches!(
            state.part(scene.broadcast, &key(&scene, "480p", n, 0, index), at(100)),
            Ok(Piecewise::Bytes(_))
        )
    });
    let held = held.count();
    assert!((40..=64).contains(&held), "{held} MiB");
    assert_eq!(refused, 0, "the oldest went");
    let media = read(&scene, &state, "480p");
    assert_eq!(media.segments[9].parts.len(), 8);
    // A segment of more than all that may be held: what comes last is refused.
    for index in 0..100 {
        let mut part = scene.part("480p", 50, 0, index);
        part.payload = vec![0; 1 << 20].into();
        refused += u32::from(state.apply_part(&part, at(100)) == Outcome::FullOfParts);
    }
    assert_eq!(refused, 36);
}

/// Merges streams, each in its order, as `picks` say.
fn merged(items: &[Item], picks: &[prop::sample::Index]) -> Vec<Item> {
    let (parts, entries): (Vec<&Item>, Vec<&Item>) = items.iter().rev().partition(|item| item.is_part());
    let mut queues = vec![parts, entries];
    let mut out = Vec::new();
    for pick in picks.iter().cycle() {
        queues.retain(|queue| !queue.is_empty());
        if queues.is_empty() {
            break;
        }
        // In runs, as readers get them.
        let queue = pick.index(queues.len());
        for _ in 0..=pick.index(9) {
            out.extend(queues[queue].pop().cloned());
        }
    }
    out
}

/// A session with a take-over in the middle of a segment.
fn history(scene: &mut Scene, unfinished: u32) -> Vec<Item> {
    let mut log = opening(scene);
    log.extend(worked(scene, 0..6, 0));
    log.extend(some_parts(scene, 6, 0, unfinished));
    log.extend(worked(scene, 6..12, 1));
    log.extend(some_parts(scene, 12, 1, 5));
    log
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, max_shrink_iters: 100, ..ProptestConfig::default() })]

    /// However the streams interleave and whatever comes again, the same is shown at
    /// the end, and each version on the way is a valid successor of the one before.
    #[test]
    fn interleavings_and_duplicates_do_not_show(
        unfinished in 0..=PARTS,
        picks in prop::collection::vec(any::<prop::sample::Index>(), 40),
        again in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..40),
    ) {
        let mut scene = Scene::new();
        let log = history(&mut scene, unfinished);
        let expected = fold(&log);
        let (first, rest) = log.split_at(3);
        let mut delivered = merged(rest, &picks);
        prop_assert_eq!(delivered.len(), rest.len());
        for (from, to) in again {
            let from = from.index(delivered.len());
            let to = from + 1 + to.index(delivered.len() - from);
            delivered.insert(to, delivered[from].clone());
        }
        let mut state = fold(first);
        let mut before: Option<String> = None;
        for item in &delivered {
            item.apply(&mut state, at(100));
            let Ok(shown) = state.media(scene.broadcast, None, "480p", at(100)) else { continue };
            let text = shown.render();
            if before.as_ref() == Some(&text) {
                continue;
            }
            prop_assert_eq!(check::media(&text), [], "{}", text);
            if let Some(before) = &before {
                prop_assert_eq!(check::reload(before, &text), [], "{}\n{}", before, text);
                if let Some(delta) = shown.render_delta() {
                    prop_assert_eq!(check::reload(before, &delta), [], "{}\n{}", before, delta);
                }
            }
            before = Some(text);
        }
        prop_assert_eq!(state, expected);
    }

    /// An edge that starts late has all segments and the newest parts, and shows what
    /// one shows that has read everything. Without the newest parts it does not.
    #[test]
    fn a_late_edge_shows_the_same(unfinished in 0..=PARTS, missed in 0..200_usize) {
        let mut scene = Scene::new();
        let log = history(&mut scene, unfinished);
        let whole = fold(&log);
        let mut seen = 0;
        let kept = |item: &&Item| {
            seen += usize::from(item.is_part());
            !item.is_part() || seen > missed
        };
        let late = fold(log.iter().filter(kept));
        let blind = fold(log.iter().filter(|item| !item.is_part()));
        for rendition in RENDITIONS {
            prop_assert_eq!(scene.media(&late, rendition, at(100)), scene.media(&whole, rendition, at(100)));
            prop_assert_ne!(scene.media(&blind, rendition, at(100)), scene.media(&whole, rendition, at(100)));
        }
    }
}
