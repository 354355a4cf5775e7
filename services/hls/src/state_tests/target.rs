//! The target duration: announced once, then unchanged whatever comes.

use castlog_log::{Entry, Event, pb};
use castlog_playlist::check;

use super::{
    fold,
    scene::{Scene, at},
};
use crate::state::Outcome;

fn lasting(mut entry: Entry, duration_us: u64) -> Entry {
    if let Event::Segment(pb::Segment {
        event: Some(pb::segment::Event::Stored(stored)),
    }) = &mut entry.event
    {
        stored.duration_us = duration_us;
    }
    entry
}

#[test]
fn a_segment_that_is_too_long_changes_no_target_duration() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend(scene.segments(0..3, 0));
    let mut state = fold(&log, at(6));
    let before = scene.media(&state, "source", at(6));
    for rendition in ["source", "480p", "audio"] {
        let long = lasting(scene.segment(rendition, 3, 0), 4_400_000);
        assert_eq!(state.apply(&long, at(8)), Outcome::TooLong);
    }
    for entry in scene.segments(4..6, 0) {
        assert_eq!(state.apply(&entry, at(12)), Outcome::Applied);
    }
    let after = scene.media(&state, "source", at(12));
    assert_eq!(check::media(&after), []);
    assert_eq!(check::reload(&before, &after), []);
    let (read, _) = check::read_media(&after);
    let gaps: Vec<bool> = read.segments.iter().map(|segment| segment.gap).collect();
    assert_eq!(gaps, [false, false, false, true, false, false]);
    assert_eq!(read.target_duration, 2);
}

#[test]
fn what_rounds_to_the_target_duration_is_shown() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend((0..3).map(|n| lasting(scene.segment("source", n, 0), 2_499_000)));
    let state = fold(&log, at(8));
    let text = scene.media(&state, "source", at(8));
    assert_eq!(check::media(&text), []);
    assert!(!text.contains("EXT-X-GAP"), "{text}");
}

/// Metadata comes from another stream than segments, and may come later.
#[test]
fn a_target_that_comes_late_is_the_same() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend((0..3).map(|n| lasting(scene.segment("source", n, 0), 2_000_000 + n * 1_200_000)));
    let in_order = scene.media(&fold(&log, at(12)), "source", at(12));
    log.rotate_left(3);
    assert_eq!(scene.media(&fold(&log, at(12)), "source", at(12)), in_order);
    assert_eq!(check::media(&in_order), []);
}

/// The pipeline announces one target for a session; should it tell another one
/// later, players still hold the first.
#[test]
fn what_was_announced_first_stands() {
    for other in [4_000, 1_000, 0] {
        let mut scene = Scene::new();
        let mut log = scene.opening();
        log.extend(scene.segments(0..3, 0));
        let mut state = fold(&log, at(6));
        let before = scene.media(&state, "source", at(6));
        let mut later = scene.produced();
        if let Event::Metadata(pb::Metadata {
            event: Some(pb::metadata::Event::Produced(produced)),
        }) = &mut later.event
        {
            produced.segment_target_ms = other;
        }
        assert_eq!(state.apply(&later, at(6)), Outcome::OtherTarget, "{other} ms");
        for entry in scene.segments(3..5, 0) {
            assert_eq!(state.apply(&entry, at(10)), Outcome::Applied);
        }
        let after = scene.media(&state, "source", at(10));
        assert_eq!(check::media(&after), [], "{other} ms");
        assert_eq!(check::reload(&before, &after), [], "{other} ms");
        assert_eq!(check::read_media(&after).0.target_duration, 2, "{other} ms");
    }
}
