//! What playlists tell of titles and interruptions.

use castlog_log::{Entry, Kind};
use castlog_playlist::check::{self, DateRange};
use chrono::TimeDelta;

use super::{RENDITIONS, Scene, State, at, empty, fold};
use crate::follow;

fn told(scene: &Scene, state: &State, now: i64) -> Vec<DateRange> {
    let of = |rendition| {
        let text = scene.media(state, rendition, at(now));
        let (media, found) = check::read_media(&text);
        assert_eq!(found, [], "{text}");
        media.date_ranges
    };
    let all = RENDITIONS.map(of);
    for ranges in &all {
        assert_eq!(ids(ranges), ids(&all[0]), "in every rendition");
    }
    let [ranges, ..] = all;
    ranges
}

fn ids(ranges: &[DateRange]) -> Vec<&str> {
    ranges.iter().map(|range| range.id.as_str()).collect()
}

fn attribute<'r>(range: &'r DateRange, name: &str) -> &'r str {
    range.attributes.get(name).map_or("", String::as_str)
}

#[test]
fn titles_and_interruptions_come_get_an_end_and_go_with_their_segments() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    // Before anything was on air.
    log.push(scene.title(-5, "before"));
    log.extend(scene.segments(0..10, 0));
    let mut state = fold(&log, at(20));
    assert_eq!(ids(&told(&scene, &state, 20)), Vec::<&str>::new());

    let title = scene.title(11, "One \"day\"");
    let lost = scene.interrupted(19);
    let (first, second) = (
        format!("title-{}", title.sequence()),
        format!("interruption-{}", lost.sequence()),
    );
    let mut versions = vec![scene.media(&state, "480p", at(20))];
    for entry in [title, lost, scene.resumed(23), scene.title(24, "Two")] {
        state.apply(&entry, at(24));
        versions.push(scene.media(&state, "480p", at(24)));
        log.push(entry);
    }
    let ranges = told(&scene, &state, 24);
    assert_eq!(ids(&ranges)[..2], [first.as_str(), second.as_str()]);
    assert_eq!(ranges.len(), 3);
    assert_eq!(attribute(&ranges[0], "X-IO-GITHUB-CASTLOG-TITLE"), "\"One ”day”\"");
    assert!(ranges[0].end_on_next && ranges[1].end == Some(at(23)));
    let class = |range: &DateRange| range.class.clone().unwrap_or_default();
    assert_eq!(
        (class(&ranges[0]), class(&ranges[1])),
        (
            "io.github.castlog.title".to_owned(),
            "io.github.castlog.interruption".to_owned()
        )
    );

    // They go with the segments that they began in; the window is a minute.
    for entry in scene.segments(10..50, 1) {
        state.apply(&entry, at(100));
        if entry.sequence() % 3 == 0 {
            versions.push(scene.media(&state, "480p", at(100)));
        }
        log.push(entry);
    }
    assert_eq!(ids(&told(&scene, &state, 100)), Vec::<&str>::new());
    let delta = state
        .media(scene.broadcast, None, "480p", at(100))
        .unwrap()
        .render_delta();
    versions.push(delta.unwrap());
    for pair in versions.windows(2) {
        assert_eq!(check::reload(&pair[0], &pair[1]), [], "{}\n{}", pair[0], pair[1]);
    }

    // Whatever came first, another edge tells the same.
    let mut other = empty();
    for entry in log.iter().rev() {
        other.apply(entry, at(24));
    }
    let again = fold(log.iter().chain(&log), at(24));
    for edge in [&other, &again] {
        assert_eq!(ids(&told(&scene, edge, 100)), ids(&told(&scene, &state, 100)));
    }
}

#[test]
fn what_is_over_is_told_nothing_more_and_a_flood_is_bounded() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend(scene.segments(0..10, 0));
    log.extend((0..200).map(|n| scene.title(10, &format!("title {n}"))));
    let mut state = fold(&log, at(20));
    // The oldest, so that none is taken back when another comes.
    let oldest = format!("title-{}", scene.sequence - 199);
    let ranges = told(&scene, &state, 20);
    assert_eq!((ranges.len(), ids(&ranges)[0]), (64, oldest.as_str()));

    state.apply(&scene.ended(20), at(20));
    let closed = scene.media(&state, "480p", at(60));
    state.apply(&scene.title(30, "too late"), at(60));
    assert_eq!(scene.media(&state, "480p", at(60)), closed);

    // What no window can hold any more is forgotten.
    assert_eq!(state.marked(), 1);
    state.expire(at(100_000));
    assert_eq!(state.marked(), 0);
}

/// A broadcast whose encoder is away from second 82 on, for so many, and then back for ten.
fn away(scene: &mut Scene, gone: i64) -> Vec<Entry> {
    let mut log = scene.opening();
    log.extend(scene.segments(0..40, 0));
    log.extend([scene.interrupted(82), scene.resumed(82 + gone)]);
    for mut entry in scene.segments(40..45, 1) {
        entry.time += TimeDelta::seconds(gone);
        log.push(entry);
    }
    log
}

#[test]
fn a_window_reaches_back_across_the_longest_interruption() {
    for gone in [10, 400, 3500] {
        let mut scene = Scene::new();
        let log = away(&mut scene, gone);
        let now = at(95 + gone);
        let whole = fold(&log, now);
        // What an edge reads that starts now: the newest of each kind, what happened, and segments.
        let (marks, segments): (Vec<&Entry>, Vec<&Entry>) = log
            .iter()
            .filter(|entry| matches!(entry.subject.kind, Kind::Status | Kind::Segment))
            .partition(|entry| entry.subject.kind == Kind::Status);
        let mut late = fold([&log[0], &log[2], marks[marks.len() - 1]], now);
        let marks_since = follow::marks_since(&late, now).unwrap();
        for entry in marks.into_iter().filter(|entry| entry.time >= marks_since) {
            late.apply(entry, now);
        }
        let since = follow::since(&late, now).unwrap();
        let earlier = follow::earlier(&late, now);
        // A window of a minute and three more, of which 13 s are after the interruption.
        let began = at(82 - (60 + 180 - 13));
        let expected = (began < since).then_some((scene.broadcast, began));
        assert_eq!(earlier, Vec::from_iter(expected), "away for {gone} s");
        assert_eq!(earlier.is_empty(), gone == 10);
        let from = earlier.first().map_or(since, |(_, from)| *from);
        for entry in segments.into_iter().filter(|entry| entry.time >= from) {
            late.apply(entry, now);
        }
        for rendition in RENDITIONS {
            let shown = scene.media(&late, rendition, now);
            assert_eq!(shown, scene.media(&whole, rendition, now), "away for {gone} s");
            assert_eq!(check::read_media(&shown).0.segments.len(), 30);
        }
    }
}
