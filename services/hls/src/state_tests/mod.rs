//! The fold over the log, without a log.

mod kit;
mod long;
mod marks;
mod orders;
mod parts;
mod recorded;
mod scene;
mod target;

use std::time::Duration;

use castlog_log::{BroadcastId, Entry, Event, Kind, SessionId, pb};
use castlog_playback::Refusal;
use castlog_playlist::check;
use chrono::{DateTime, TimeDelta, Utc};

use self::scene::{RENDITIONS, Scene, at};
use crate::{
    config::Config,
    state::{Absent, Outcome, State},
};

fn empty() -> State {
    State::new(Config::default().rules())
}

fn fold<'e>(entries: impl IntoIterator<Item = &'e Entry>, now: DateTime<Utc>) -> State {
    let mut state = empty();
    for entry in entries {
        state.apply(entry, now);
    }
    state
}

#[test]
fn a_live_broadcast_has_its_playlists() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend(scene.segments(0..40, 0));
    let state = fold(&log, at(80));
    let multivariant = state.multivariant(scene.broadcast, at(80)).unwrap().render();
    assert_eq!(check::multivariant(&multivariant), []);
    insta::assert_snapshot!("multivariant", multivariant);
    let shown = RENDITIONS.map(|r| (r, scene.media(&state, r, at(80))));
    for (_, text) in &shown {
        assert_eq!(check::media(text), []);
    }
    let list: Vec<(&str, &str)> = shown.iter().map(|(r, text)| (*r, text.as_str())).collect();
    assert_eq!(check::aligned(&list, Duration::ZERO), []);
    let (read, _) = check::read_media(&shown[0].1);
    assert_eq!(
        (read.media_sequence, read.segments.len()),
        (Some(10), 30),
        "a window of 60 s"
    );
    let head: String = shown[0].1.lines().take(12).collect::<Vec<_>>().join("\n");
    insta::assert_snapshot!("media_head", head);
}

#[test]
fn transport_streams_wait_for_their_sound() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend(scene.segments(0..4, 0));
    log.extend(scene.segments(4..6, 1));
    log.push(scene.segment("source", 6, 1));
    let mut state = fold(&log, at(14));
    let multivariant = state.transport_multivariant(scene.broadcast, at(14)).unwrap().render();
    assert_eq!(check::multivariant(&multivariant), []);
    insta::assert_snapshot!("transport_multivariant", multivariant);
    let broadcast = scene.broadcast;
    let told = |state: &State, rendition: &str| {
        let text = state.transport(broadcast, None, rendition, at(14)).unwrap().render();
        assert_eq!(check::media(&text), []);
        text
    };
    let before = told(&state, "source");
    insta::assert_snapshot!("transport_media", before);
    assert!(told(&state, "audio").contains("/audio/5.1.ts\n"), "alone");
    state.apply(&scene.segment("audio", 6, 1), at(14));
    let after = told(&state, "source");
    assert!(after.ends_with("/source/6.1.audio.ts\n"), "{after}");
    assert_eq!(check::reload(&before, &after), []);
}

#[test]
fn what_is_not_there_has_its_reason() {
    let mut scene = Scene::new();
    let id = scene.broadcast;
    let mut state = empty();
    assert_eq!(state.multivariant(id, at(0)), Err(Absent::NotLive));
    state.apply(&scene.started(0), at(0));
    assert_eq!(state.multivariant(id, at(0)), Err(Absent::Starting));
    for entry in scene.segments(0..1, 0) {
        state.apply(&entry, at(2));
    }
    assert_eq!(state.multivariant(id, at(2)), Err(Absent::Starting), "without metadata");
    state.apply(&scene.produced(), at(2));
    assert!(state.multivariant(id, at(2)).is_ok());
    assert_eq!(state.media(id, None, "1080p", at(2)), Err(Absent::NoRendition));
    assert_eq!(
        state.media(id, Some(SessionId::generate()), "audio", at(2)),
        Err(Absent::NotLive)
    );
    state.apply(&scene.options(pb::Visibility::Private, 0), at(2));
    assert_eq!(state.multivariant(id, at(2)), Err(Absent::Private(Refusal::Missing)));
    assert_eq!(state.access(id), Err(Absent::Private(Refusal::Missing)));
    state.apply(&scene.options(pb::Visibility::Public, 0), at(2));
    assert!(state.multivariant(id, at(2)).is_ok());
    let deleted = pb::Registration {
        event: Some(pb::registration::Event::Deleted(Default::default())),
    };
    state.apply(&scene.entry(at(3), deleted), at(3));
    assert_eq!(state.multivariant(id, at(3)), Err(Absent::Deleted));
    assert_eq!(state.access(id), Err(Absent::Deleted));
    // It is not open to everybody because it was private.
    state.apply(&scene.options(pb::Visibility::Private, 0), at(3));
    assert_eq!(state.access(id), Err(Absent::Deleted));
}

#[test]
fn an_end_closes_the_playlist_once_no_segment_can_come() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend(scene.segments(0..10, 0));
    log.push(scene.ended(21));
    let mut state = fold(&log, at(21));
    let before = scene.media(&state, "480p", at(21));
    assert!(!check::read_media(&before).0.ended);
    // The encoder's last words, shorter than a segment and after `Ended`.
    let last = scene.segments(10..11, 0);
    assert!(last.iter().all(|e| state.apply(e, at(23)) == Outcome::Applied));
    let after = scene.media(&state, "480p", at(30));
    assert!(check::read_media(&after).0.ended);
    assert_eq!(check::reload(&before, &after), []);
    // An entry of a second later would change a closed playlist.
    let mut straggler = scene.segment("480p", 11, 0);
    straggler.time = at(27);
    assert_eq!(state.apply(&straggler, at(27)), Outcome::Ignored);
    state.expire(at(320));
    assert!(state.multivariant(scene.broadcast, at(320)).is_ok());
    state.expire(at(321));
    assert_eq!(state.broadcasts(), 0, "freed after 300 s");
    assert_eq!(state.multivariant(scene.broadcast, at(321)), Err(Absent::NotLive));
    // Redelivered entries do not bring it back.
    for entry in &log {
        state.apply(entry, at(322));
    }
    assert_eq!(state.broadcasts(), 0);
}

#[test]
fn a_lost_segment_becomes_a_gap_and_stays_one() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend(scene.segments(0..5, 0));
    log.extend(["source", "audio"].map(|r| scene.segment(r, 5, 0)));
    log.extend(scene.segments(6..7, 0));
    let mut state = fold(&log, at(20));
    let waiting = scene.media(&state, "480p", at(20));
    assert_eq!(
        check::read_media(&waiting).0.segments.len(),
        5,
        "the hole may still be filled"
    );
    for entry in scene.segments(7..10, 0) {
        state.apply(&entry, at(20));
    }
    let gap = scene.media(&state, "480p", at(20));
    assert_eq!(check::media(&gap), []);
    assert_eq!(check::reload(&waiting, &gap), []);
    let (read, _) = check::read_media(&gap);
    assert_eq!(
        read.segments
            .iter()
            .filter(|s| s.gap)
            .map(|s| s.sequence)
            .collect::<Vec<_>>(),
        [5]
    );
    assert_eq!(
        state.apply(&scene.segment("480p", 5, 0), at(20)),
        Outcome::Ignored,
        "too late"
    );
    assert_eq!(scene.media(&state, "480p", at(20)), gap);
    assert_eq!(
        check::aligned(
            &[("a", &gap), ("b", &scene.media(&state, "source", at(20)))],
            Duration::ZERO
        ),
        []
    );
}

#[test]
fn what_waits_for_a_lost_segment_is_shown_at_the_end() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend(scene.segments(0..5, 0));
    log.push(scene.segment("480p", 6, 0));
    log.push(scene.ended(14));
    let state = fold(&log, at(15));
    let (before, after) = (scene.media(&state, "480p", at(15)), scene.media(&state, "480p", at(60)));
    assert_eq!(check::reload(&before, &after), []);
    assert_eq!(check::media(&after), []);
    assert_eq!(
        check::read_media(&after)
            .0
            .segments
            .iter()
            .map(|s| s.gap)
            .collect::<Vec<_>>()[4..],
        [false, true, false]
    );
}

#[test]
fn a_long_hole_starts_the_playlist_anew() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend(scene.segments(0..5, 0));
    let far = u64::MAX / 4 / 1_000_000_000;
    log.extend(scene.segments(far..far + 2, 1));
    let state = fold(&log, at(20));
    let text = scene.media(&state, "480p", at(20));
    let (read, violations) = check::read_media(&text);
    assert_eq!((read.media_sequence, violations), (Some(far), vec![]));
    let mut lonely = scene.opening();
    lonely.extend(scene.segments(0..5, 0));
    lonely.push(scene.segment("480p", far, 1));
    lonely.push(scene.ended(20));
    assert_eq!(check::media(&scene.media(&fold(&lonely, at(20)), "480p", at(40))), []);
}

#[test]
fn a_take_over_is_a_discontinuity_in_every_rendition() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend(scene.segments(0..4, 0));
    let before = fold(&log, at(20));
    log.extend(scene.segments(4..40, 2));
    let state = fold(&log, at(80));
    for rendition in RENDITIONS {
        let text = scene.media(&state, rendition, at(80));
        assert_eq!(check::media(&text), []);
        assert_eq!(check::reload(&scene.media(&before, rendition, at(20)), &text), []);
        assert_eq!(check::read_media(&text).0.discontinuity_sequence, Some(2));
    }
}

#[test]
fn the_next_session_does_not_show_in_the_playlist_of_the_one_before() {
    let mut scene = Scene::new();
    let first = scene.session;
    let mut log = scene.opening();
    log.extend(scene.segments(0..20, 0));
    let mut state = fold(&log, at(40));
    let before = scene.media(&state, "audio", at(40));
    scene.session = SessionId::generate();
    assert!(scene.session > first);
    // Segments can be here before the status that names their session.
    for entry in scene.segments(0..3, 0) {
        state.apply(&entry, at(41));
    }
    assert_eq!(scene.media(&state, "audio", at(41)), before);
    assert_eq!(
        state.media(scene.broadcast, Some(scene.session), "audio", at(41)),
        Err(Absent::NotLive)
    );
    assert!(state.shows(scene.broadcast, first, at(41)));
    state.apply(&scene.started(41), at(41));
    state.apply(&scene.produced(), at(41));
    let shown = [first, scene.session].map(|session| state.shows(scene.broadcast, session, at(41)));
    assert_eq!(
        shown,
        [false, true],
        "who watches the first one is no viewer of the second"
    );
    let second = scene.media(&state, "audio", at(41));
    assert_eq!(check::read_media(&second).0.media_sequence, Some(0));
    let old = state
        .media(scene.broadcast, Some(first), "audio", at(41))
        .unwrap()
        .render();
    assert_eq!(check::reload(&before, &old), []);
    assert!(check::read_media(&old).0.ended);
}

#[test]
fn the_window_follows_the_options() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.push(scene.options(pb::Visibility::Public, 30));
    log.extend(scene.segments(0..40, 0));
    let length = |log: &[Entry]| {
        let text = scene.media(&fold(log, at(80)), "audio", at(80));
        check::read_media(&text).0.duration().as_secs()
    };
    assert_eq!(length(&log), 30);
    let mut scene = Scene::new();
    log[3] = scene.options(pb::Visibility::Public, 1);
    log[3].position.sequence = 100;
    assert_eq!(length(&log), 20, "not below the least");
}

#[test]
fn memory_is_bounded_in_broadcasts() {
    let mut rules = Config::default().rules();
    rules.max_broadcasts = 1;
    let mut state = State::new(rules);
    let mut first = Scene::new();
    let mut second = Scene {
        broadcast: BroadcastId::generate(),
        ..Scene::new()
    };
    for scene in [&mut first, &mut second] {
        let mut log = scene.opening();
        log.extend(scene.segments(0..2, 0));
        for entry in &log {
            state.apply(entry, at(4));
        }
    }
    assert!(state.multivariant(first.broadcast, at(4)).is_ok());
    assert_eq!(state.multivariant(second.broadcast, at(4)), Err(Absent::Full));
    state.apply(&first.ended(4), at(4));
    state.expire(at(1000));
    assert_eq!(state.apply(&second.segment("audio", 2, 0), at(1000)), Outcome::Applied);
}

#[test]
fn foreign_and_senseless_segments_are_refused() {
    let mut scene = Scene::new();
    let good = scene.segment("480p", 3, 0);
    let spoilt = |spoil: &dyn Fn(&mut pb::segment::Stored)| {
        let mut entry = good.clone();
        let Event::Segment(pb::Segment {
            event: Some(pb::segment::Event::Stored(stored)),
        }) = &mut entry.event
        else {
            unreachable!()
        };
        spoil(stored);
        matches!(empty().apply(&entry, at(0)), Outcome::Malformed(_))
    };
    assert!(!spoilt(&|_| {}));
    assert!(spoilt(&|s| s.session_id = "x".to_owned()));
    assert!(spoilt(&|s| s.object_key = "../../etc/passwd".to_owned()));
    assert!(spoilt(&|s| s.object_key = s.object_key.replace("480p", "720p")));
    assert!(spoilt(&|s| s.media_sequence = 4));
    assert!(spoilt(&|s| s.init_object_key = s.object_key.clone()));
    assert!(spoilt(&|s| s.duration_us = 0));
    assert!(spoilt(&|s| s.duration_us = 61_000_000));
}

#[test]
fn bandwidth_covers_what_segments_weigh() {
    let mut scene = Scene::new();
    let mut log = scene.opening();
    log.extend(scene.segments(0..3, 0));
    let mut heavy = scene.segment("source", 3, 0);
    if let Event::Segment(pb::Segment {
        event: Some(pb::segment::Event::Stored(stored)),
    }) = &mut heavy.event
    {
        stored.size_bytes = 1_234_567;
    }
    let bandwidth = |log: &[Entry]| {
        let state = fold(log, at(8));
        state
            .multivariant(scene.broadcast, at(8))
            .unwrap()
            .variants
            .iter()
            .map(|v| v.bandwidth)
            .collect::<Vec<_>>()
    };
    let announced = bandwidth(&log);
    // Measured audio of 400 kbit/s is above the 128 kbit/s that were announced.
    assert_eq!(announced, [3_400_000, 1_400_000, 400_000]);
    log.push(heavy);
    assert_eq!(bandwidth(&log)[0], 5_400_000, "4.94 Mbit/s of video and 0.4 of audio");
}

#[test]
fn kinds_have_the_streams_that_the_tests_assume() {
    assert_eq!(
        [Kind::Options, Kind::Status, Kind::Segment].map(Kind::stream),
        ["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT"]
    );
    assert_eq!(at(1) - at(0), TimeDelta::seconds(1));
}
