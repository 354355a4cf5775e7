//! What a session is as a recording, whatever became of its ladder.

use std::time::Duration;

use castlog_log::{Entry, Event, pb, session::PastSession};
use castlog_playlist::check::{self, Media};

use super::{Scene, at};
use crate::recording::{Found, Recording, grows};

/// The session of a scene, which has ended at second 500.
fn past(scene: &Scene) -> PastSession {
    PastSession {
        id: scene.session,
        started_at: at(0),
        ended_at: at(500),
        recorded: true,
    }
}

fn collected(scene: &Scene, log: &[Entry]) -> Found {
    let (mut found, past) = (Found::default(), past(scene));
    for entry in log {
        found.take(scene.broadcast, &past, entry);
    }
    found
}

fn recorded(scene: &Scene, log: &[Entry]) -> Recording {
    Recording::of(scene.session, collected(scene, log), "/media", false).unwrap()
}

fn text(recording: &Recording, rendition: &str) -> String {
    let shown = recording.playlists(false).media(rendition).unwrap();
    String::from_utf8(shown.text.to_vec()).unwrap()
}

/// Numbers of the gaps of a playlist.
fn gaps(media: &Media) -> Vec<u64> {
    let gaps = media.segments.iter().filter(|segment| segment.gap);
    gaps.map(|segment| segment.sequence).collect()
}

/// The playlists of renditions that are all as long, and their gaps.
#[track_caller]
fn alike<const N: usize>(recording: &Recording, names: [&str; N], numbers: std::ops::Range<u64>) -> [Vec<u64>; N] {
    let texts = names.map(|name| (name, text(recording, name)));
    let list: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (*name, text.as_str())).collect();
    assert_eq!(check::aligned(&list, Duration::ZERO), []);
    texts.map(|(name, text)| {
        let (media, found) = check::read_media(&text);
        assert_eq!(found, [], "{text}");
        let shown: Vec<u64> = media.segments.iter().map(|segment| segment.sequence).collect();
        assert_eq!(shown, numbers.clone().collect::<Vec<_>>(), "{name}");
        gaps(&media)
    })
}

/// Segments of some renditions, in order.
fn of(scene: &mut Scene, names: &[&str], numbers: std::ops::Range<u64>, line: u64) -> Vec<Entry> {
    let all = numbers.flat_map(|n| names.iter().map(move |name| (*name, n)));
    all.map(|(name, n)| scene.segment(name, n, line)).collect()
}

#[test]
fn a_recording_has_all_renditions_of_all_ladders() {
    let mut scene = Scene::new();
    let (full, small) = (["source", "480p", "audio"], ["source", "720p", "audio"]);
    // What is announced comes first, as it is read first.
    let mut log = vec![scene.producing(&full), scene.producing(&small), scene.producing(&full)];
    log.extend(of(&mut scene, &full, 3..10, 0));
    // Without one rendition for longer than any hole that is shown live.
    log.extend(of(&mut scene, &small, 10..100, 1));
    log.extend(of(&mut scene, &full, 100..110, 2));
    let recording = recorded(&scene, &log);
    let multivariant = String::from_utf8(recording.playlists(false).multivariant().text.to_vec()).unwrap();
    assert_eq!(check::multivariant(&multivariant), []);
    for name in ["source", "720p", "480p", "audio"] {
        assert!(multivariant.contains(&format!("{name}/index.m3u8")), "{multivariant}");
    }
    let [source, lower, higher, audio] = alike(&recording, ["source", "480p", "720p", "audio"], 3..110);
    assert_eq!((source, audio), (vec![], vec![]));
    assert_eq!(lower, (10..100).collect::<Vec<u64>>());
    assert_eq!(higher, (3..10).chain(100..110).collect::<Vec<u64>>());
}

#[test]
fn what_no_rendition_has_and_what_comes_late_is_a_gap() {
    let mut scene = Scene::new();
    let mut log = vec![scene.produced()];
    log.extend(of(&mut scene, &["source", "480p"], 0..4, 0));
    log.extend(of(&mut scene, &["source", "480p", "audio"], 4..6, 0));
    log.extend(of(&mut scene, &["source", "480p", "audio"], 80..82, 1));
    log.extend(of(&mut scene, &["source"], 82..83, 1));
    // Neighbours that overtake each other, and what comes twice.
    log.swap(1, 3);
    log.extend(of(&mut scene, &["480p"], 2..3, 7));
    let [source, lower, audio] = alike(&recorded(&scene, &log), ["source", "480p", "audio"], 0..83);
    assert_eq!(source, (6..80).collect::<Vec<u64>>());
    assert_eq!(lower, (6..80).chain([82]).collect::<Vec<u64>>());
    assert_eq!(audio, (0..4).chain(6..80).chain([82]).collect::<Vec<u64>>());
}

#[test]
fn a_rendition_of_which_nothing_came_is_not_waited_for() {
    let mut scene = Scene::new();
    let mut log = vec![scene.producing(&["source", "720p", "audio"])];
    log.extend(of(&mut scene, &["source", "audio"], 0..1, 0));
    let recording = recorded(&scene, &log);
    assert!(recording.playlists(false).media("720p").is_none());
    let [source, audio] = alike(&recording, ["source", "audio"], 0..1);
    assert_eq!((source, audio), (vec![], vec![]));
}

#[test]
fn a_number_that_is_far_away_makes_no_endless_playlist() {
    let mut scene = Scene::new();
    let mut log = vec![scene.produced()];
    log.extend(of(&mut scene, &["source", "audio"], 5..7, 0));
    let mut session = collected(&scene, &log).session;
    assert!(session.complete(4));
    let far = u64::MAX / 4_000_000_000;
    log.extend(of(&mut scene, &["source"], far..far + 1, 0));
    let mut session = collected(&scene, &log).session;
    assert!(!session.complete(40), "something is left out");
    for rendition in ["source", "audio"] {
        let shown = session.playlist(rendition, true, "").unwrap();
        assert_eq!((shown.media_sequence, shown.segments.len()), (5, 20));
    }
}

#[test]
fn what_may_still_grow_is_kept_for_seconds() {
    let mut scene = Scene::new();
    let past = past(&scene);
    for (second, grow) in [(500, true), (619, true), (621, false)] {
        assert_eq!(grows(&past, at(second)), grow, "{second}");
    }
    let mut log = vec![scene.producing(&["source"])];
    log.extend(of(&mut scene, &["source"], 0..3, 0));
    let lifetime = |grows| {
        let recording = Recording::of(scene.session, collected(&scene, &log), "/media", grows);
        recording.unwrap().lifetime_s()
    };
    assert_eq!([lifetime(true), lifetime(false)], [2, 60]);
}

#[test]
fn of_a_row_that_has_not_come_whole_nothing_is_told() {
    let mut scene = Scene::new();
    let (full, small) = (["source", "480p", "audio"], ["source", "audio"]);
    let mut log = vec![scene.producing(&full), scene.producing(&small)];
    log.extend(of(&mut scene, &full, 0..3, 0));
    log.extend(of(&mut scene, &small, 3..5, 1));
    let growing = |log: &[Entry]| Recording::of(scene.session, collected(&scene, log), "/media", true);
    // Whole by the newest ladder; else without its last row, even if there is no other.
    let [source, audio] = alike(&growing(&log).unwrap(), small, 0..5);
    assert_eq!((source, audio), (vec![], vec![]));
    let [source, audio] = alike(&growing(&log[..log.len() - 1]).unwrap(), small, 0..4);
    assert_eq!((source, audio), (vec![], vec![]));
    assert!(growing(&log[..3]).is_none());
    // What does not come any more is a gap.
    let [_, audio] = alike(&recorded(&scene, &log[..log.len() - 1]), small, 0..5);
    assert_eq!(audio, [4]);
}

#[test]
fn what_is_lost_is_a_gap_and_what_another_has_made_is_not_taken() {
    let mut scene = Scene::new();
    let mut log = vec![scene.produced()];
    log.extend(of(&mut scene, &["source", "audio"], 0..3, 0));
    if let Event::Segment(pb::Segment {
        event: Some(pb::segment::Event::Stored(stored)),
    }) = &mut log[3].event
    {
        stored.object_lost = true;
    }
    let recording = recorded(&scene, &log);
    let [source, audio] = alike(&recording, ["source", "audio"], 0..3);
    assert_eq!((source, audio), (vec![1], vec![]));
    let mut other = Scene {
        session: castlog_log::SessionId::generate(),
        ..Scene::new()
    };
    log.extend(of(&mut other, &["source"], 3..5, 0));
    let recording = recorded(&scene, &log);
    alike(&recording, ["source", "audio"], 0..3);
}
