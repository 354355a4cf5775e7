//! In whatever order, and however often, entries arrive.

use castlog_log::{Entry, Event, pb};
use castlog_playlist::check;
use proptest::prelude::*;

use super::{RENDITIONS, Scene, at, empty, fold};

/// A whole session with a take-over and a loss, as it stands in the log.
fn session_log(lost: u64) -> (Scene, Vec<Entry>) {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend(scene.segments(0..20, 0));
    log.extend(scene.segments(20..50, 1));
    log.retain(|e| {
        !matches!(&e.event, Event::Segment(pb::Segment { event: Some(pb::segment::Event::Stored(s)) })
        if s.media_sequence == lost && s.rendition == "480p")
    });
    (scene, log)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Entries of different streams commute, and entries that come again, at
    /// any later time, change nothing.
    #[test]
    fn duplicates_and_the_order_of_streams_do_not_show(
        lost in 1..48_u64,
        streams in prop::collection::vec(any::<prop::sample::Index>(), 200),
        again in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..60),
    ) {
        let (_, log) = session_log(lost);
        let expected = fold(&log, at(100));
        // A random merge of the streams, each in its order.
        let mut queues: Vec<Vec<&Entry>> = ["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT"]
            .map(|stream| log.iter().rev().filter(|e| e.position.stream == stream).collect())
            .into();
        let mut merged = Vec::new();
        for pick in streams {
            queues.retain(|q| !q.is_empty());
            if queues.is_empty() { break }
            let queue = pick.index(queues.len());
            merged.extend(queues[queue].pop());
        }
        prop_assert_eq!(merged.len(), log.len());
        for (from, to) in again {
            let from = from.index(merged.len());
            let to = from + 1 + to.index(merged.len() - from);
            merged.insert(to, merged[from]);
        }
        prop_assert_eq!(fold(merged, at(100)), expected);
    }

    /// Neighbours that overtake each other leave no trace, and every version on
    /// the way is a legal successor of the one before.
    #[test]
    fn overtaking_does_not_show(lost in 1..48_u64, swaps in prop::collection::vec(10..150_usize, 0..30)) {
        let (scene, mut log) = session_log(lost);
        let expected = fold(&log, at(100));
        let mut last = 0;
        for at in swaps {
            // Entries three apart are of the same rendition; disjoint pairs only.
            if at >= last + 4 && at + 3 < log.len() {
                log.swap(at, at + 3);
                last = at;
            }
        }
        let mut state = empty();
        let mut before: Option<String> = None;
        for entry in &log {
            state.apply(entry, at(100));
            let Ok(shown) = state.media(scene.broadcast, None, "source", at(100)) else { continue };
            let text = shown.render();
            prop_assert_eq!(check::media(&text), []);
            if let Some(before) = &before {
                prop_assert_eq!(check::reload(before, &text), []);
            }
            before = Some(text);
        }
        for rendition in ["source", "audio"] {
            prop_assert_eq!(scene.media(&state, rendition, at(100)), scene.media(&expected, rendition, at(100)));
        }
    }

    /// An edge that reads only what its window needs shows what an edge shows
    /// that saw the whole session.
    #[test]
    fn a_late_edge_shows_the_same(lost in 1..48_u64, missed in 0..57_usize) {
        let (scene, log) = session_log(lost);
        let whole = fold(&log, at(100));
        let (opening, segments) = log.split_at(3);
        let late = fold(opening.iter().chain(&segments[missed..]), at(100));
        for rendition in RENDITIONS {
            prop_assert_eq!(scene.media(&late, rendition, at(100)), scene.media(&whole, rendition, at(100)));
        }
        prop_assert_eq!(late.multivariant(scene.broadcast, at(100)), whole.multivariant(scene.broadcast, at(100)));
    }
}
