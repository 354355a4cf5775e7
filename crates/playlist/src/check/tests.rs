//! Each rule is shown to catch its violation, and to be silent otherwise.

use std::time::Duration;

use chrono::DateTime;
use proptest::prelude::*;

use super::{Level, Violation, Watch, aligned, bandwidth, media, multivariant, read_media, reload};
use crate::{
    bitrate::Sample,
    media::{Kind, Playlist, Segment},
};

const LIVE: &str = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-MEDIA-SEQUENCE:5
#EXT-X-DISCONTINUITY-SEQUENCE:1
#EXT-X-MAP:URI=\"init-1.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-24T10:00:00.000Z
#EXTINF:2.000000,
5.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-24T10:00:02.000Z
#EXTINF:2.000000,
6.m4s
#EXT-X-DISCONTINUITY
#EXT-X-MAP:URI=\"init-2.mp4\"
#EXT-X-PROGRAM-DATE-TIME:2026-11-24T10:00:10.000Z
#EXTINF:2.000000,
7.m4s
#EXT-X-PROGRAM-DATE-TIME:2026-11-24T10:00:12.000Z
#EXTINF:1.500000,
8.m4s
";

const MASTER: &str = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-INDEPENDENT-SEGMENTS
#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Main\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"audio.m3u8\"
#EXT-X-STREAM-INF:BANDWIDTH=2600000,AVERAGE-BANDWIDTH=2400000,CODECS=\"avc1.64001f,mp4a.40.2\",RESOLUTION=1280x720,FRAME-RATE=30.000,AUDIO=\"audio\"
720p.m3u8
";

/// Asserts that exactly one rule is broken, by its section.
#[track_caller]
fn one(found: &[Violation], section: &str) {
    assert_eq!(
        found.iter().map(|v| v.section).collect::<Vec<_>>(),
        [section],
        "{found:#?}"
    );
}

#[test]
fn correct_playlists_pass() {
    assert_eq!(media(LIVE), []);
    assert_eq!(multivariant(MASTER), []);
    assert_eq!(reload(LIVE, LIVE), []);
    assert_eq!(aligned(&[("a", LIVE), ("b", LIVE)], Duration::ZERO), []);
}

#[test]
fn a_playlist_is_read_as_it_is_meant() {
    let (read, _) = read_media(LIVE);
    let numbers: Vec<_> = read
        .segments
        .iter()
        .map(|s| (s.sequence, s.discontinuity_sequence))
        .collect();
    assert_eq!(numbers, [(5, 1), (6, 1), (7, 2), (8, 2)]);
    assert_eq!(read.segments[3].map.as_deref(), Some("init-2.mp4"));
    assert_eq!(read.duration(), Duration::from_millis(7500));
}

#[test]
fn planted_violations_of_a_media_playlist_are_found() {
    for (from, to, section) in [
        ("#EXTM3U\n", "", "4.4.1.1"),
        ("#EXTM3U\n", "\u{feff}#EXTM3U\n", "4.1"),
        ("#EXT-X-VERSION:6", "#EXT-X-VERSION:5", "8"),
        ("#EXT-X-VERSION:6", "#EXT-X-VERSION:7", "6.2.1"),
        ("#EXT-X-VERSION:6", "#EXT-X-VERSION:six", "4.4.1.2"),
        (
            "#EXT-X-TARGETDURATION:2\n",
            "#EXT-X-TARGETDURATION:2\n#EXT-X-TARGETDURATION:2\n",
            "4.1",
        ),
        ("EXTINF:1.500000", "EXTINF:2.500000", "4.4.3.1"),
        ("EXTINF:1.500000,", "EXTINF:1.500000", "4.4.4.1"),
        ("EXTINF:1.500000,", "EXTINF:1.5s,", "4.4.4.1"),
        ("#EXTINF:1.500000,\n", "", "4.4.4.1"),
        (
            "#EXTINF:1.500000,\n",
            "#EXTINF:1.500000,\n#EXTINF:1.500000,\n",
            "4.4.4.1",
        ),
        ("8.m4s\n", "", "4.4.4"),
        ("8.m4s", "8 .m4s", "4.1"),
        ("8.m4s", "8\t.m4s", "4.1"),
        ("MAP:URI=\"init-2.mp4\"", "MAP:URI=init-2.mp4", "4.4.4.5"),
        ("MAP:URI=\"init-2.mp4\"", "MAP:URI =\"init-2.mp4\"", "4.2"),
        ("MAP:URI=\"init-2.mp4\"", "MAP:URI=\"init-2.mp4\",", "4.2"),
        ("MAP:URI=\"init-2.mp4\"", "MAP:URI=\"init-2.mp4\",URI=\"x\"", "4.2"),
        ("MAP:URI=\"init-2.mp4\"", "MAP:BYTERANGE=\"1@0\"", "4.4.4.5"),
        ("T10:00:12.000Z", "T10:00:10.900Z", "6.2.1"),
        ("T10:00:12.000Z", "T10:00:12.000", "4.4.4.6"),
        ("T10:00:12.000Z", "T10:00:12Z", "4.4.4.6"),
        ("#EXT-X-PROGRAM-DATE-TIME:2026-11-24T10:00:10.000Z\n", "", "6.2.1"),
        ("8.m4s\n", "8.m4s\n#EXT-X-MEDIA-SEQUENCE:5\n", "4.1"),
        ("8.m4s\n", "8.m4s\n#EXT-X-PLAYLIST-TYPE:LIVE\n", "4.4.3.5"),
        ("8.m4s\n", "8.m4s\n#EXT-X-PLAYLIST-TYPE:EVENT\n", "6.2.2"),
        ("8.m4s\n", "8.m4s\n#EXT-X-STREAM-INF:BANDWIDTH=1\n", "4.1"),
        ("8.m4s\n", "8.m4s\n#EXT-X-ENDLST\n", "4.1"),
        ("#EXT-X-DISCONTINUITY-SEQUENCE:1\n", "", "6.2.2"),
        ("#EXT-X-MEDIA-SEQUENCE:5", "#EXT-X-MEDIA-SEQUENCE:-5", "4.4.3.2"),
        (
            "#EXTINF:1.500000",
            "#EXT-X-GAP\n#EXT-X-GAP\n#EXTINF:1.500000",
            "4.4.4.7",
        ),
        ("#EXTINF:1.500000", "#EXT-X-BYTERANGE:x\n#EXTINF:1.500000", "4.4.4.2"),
    ] {
        assert!(LIVE.contains(from), "{from}");
        let planted = LIVE.replacen(from, to, 1);
        let found = media(&planted);
        let sections: Vec<_> = found.iter().map(|v| v.section).collect();
        assert!(sections.contains(&section), "{from:?} -> {to:?}: {found:#?}");
    }
    let without_target = LIVE.replace("#EXT-X-TARGETDURATION:2\n", "");
    assert!(media(&without_target).iter().any(|v| v.section == "4.4.3.1"));
    let late = LIVE.replace("#EXT-X-MEDIA-SEQUENCE:5\n", "") + "#EXT-X-MEDIA-SEQUENCE:5\n";
    one(&media(&late), "4.4.3.2");
    let vod = LIVE.replace("SEQUENCE:5\n", "SEQUENCE:0\n#EXT-X-PLAYLIST-TYPE:VOD\n");
    one(&media(&vod), "4.4.3.5");
}

#[test]
fn planted_violations_of_a_multivariant_playlist_are_found() {
    for (from, to, section) in [
        ("BANDWIDTH=2600000,", "", "4.4.6.2"),
        ("BANDWIDTH=2600000", "BANDWIDTH=2.6", "4.4.6.2"),
        ("AVERAGE-BANDWIDTH=2400000", "AVERAGE-BANDWIDTH=2600001", "4.4.6.2"),
        ("avc1.64001f,mp4a.40.2", "avc1.64001f", "6.2.4"),
        ("avc1.64001f,mp4a.40.2", "mp4a.40.2", "6.2.4"),
        ("avc1.64001f,mp4a.40.2", "avc1.64001f,,mp4a.40.2", "4.4.6.2"),
        ("CODECS=\"avc1.64001f,mp4a.40.2\",", "", "4.4.6.2"),
        ("RESOLUTION=1280x720,", "", "4.4.6.2"),
        ("RESOLUTION=1280x720", "RESOLUTION=720p", "4.4.6.2"),
        ("FRAME-RATE=30.000,", "", "4.4.6.2"),
        (",AUDIO=\"audio\"\n", ",AUDIO=\"other\"\n", "4.4.6.2"),
        ("\n720p.m3u8", "", "4.4.6.2"),
        ("\n720p.m3u8", "\n720p.m3u8\nother.m3u8", "4.4.6.2"),
        ("\n720p.m3u8", "\n#EXT-X-INDEPENDENT-SEGMENTS\n720p.m3u8", "4.1"),
        ("TYPE=AUDIO", "TYPE=SOUND", "4.4.6.1"),
        ("TYPE=AUDIO,", "", "4.4.6.1"),
        ("NAME=\"Main\",", "", "4.4.6.1"),
        ("DEFAULT=YES,AUTOSELECT=YES", "DEFAULT=YES,AUTOSELECT=NO", "4.4.6.1"),
        ("DEFAULT=YES", "DEFAULT=1", "4.4.6.1"),
        ("CHANNELS=\"2\"", "CHANNELS=\"stereo\"", "4.4.6.1"),
        ("CHANNELS=\"2\",", "", "4.4.6.1"),
        ("#EXT-X-INDEPENDENT-SEGMENTS", "#EXT-X-TARGETDURATION:2", "4.1"),
    ] {
        assert!(MASTER.contains(from), "{from}");
        let found = multivariant(&MASTER.replacen(from, to, 1));
        assert!(
            found.iter().any(|v| v.section == section),
            "{from:?} -> {to:?}: {found:#?}"
        );
    }
    let media_line = MASTER.lines().nth(3).unwrap().to_owned() + "\n";
    let found = multivariant(&MASTER.replace(&media_line, &media_line.repeat(2)));
    assert_eq!(
        found.iter().filter(|v| v.section == "4.4.6.1.1").count(),
        2,
        "{found:#?}"
    );
}

#[test]
fn planted_violations_of_a_reload_are_found() {
    for (from, to, section) in [
        ("TARGETDURATION:2", "TARGETDURATION:3", "6.2.1"),
        ("#EXTINF:1.500000", "#EXTINF:1.500001", "6.2.1"),
        ("8.m4s", "8b.m4s", "6.2.1"),
        ("init-2", "init-3", "6.2.1"),
        ("#EXTINF:1.500000", "#EXT-X-GAP\n#EXTINF:1.500000", "6.2.1"),
        ("10:00:12.000Z", "10:00:12.001Z", "6.2.1"),
        ("#EXT-X-DISCONTINUITY\n", "", "6.2.2"),
        ("DISCONTINUITY-SEQUENCE:1", "DISCONTINUITY-SEQUENCE:0", "6.2.2"),
        ("VERSION:6", "VERSION:7", "6.2.1"),
        (
            "#EXT-X-PROGRAM-DATE-TIME:2026-11-24T10:00:12.000Z\n#EXTINF:1.500000,\n8.m4s\n",
            "",
            "6.2.2",
        ),
    ] {
        assert!(LIVE.contains(from), "{from}");
        let found = reload(LIVE, &LIVE.replacen(from, to, 1));
        assert!(
            found.iter().any(|v| v.section == section),
            "{from:?} -> {to:?}: {found:#?}"
        );
    }
    let back = LIVE.replace("SEQUENCE:5", "SEQUENCE:4");
    assert!(reload(LIVE, &back).iter().any(|v| v.section == "6.2.2"));
    let ended = LIVE.to_owned() + "#EXT-X-ENDLIST\n";
    assert_eq!(reload(LIVE, &ended), []);
    one(&reload(&ended, LIVE), "6.2.1");
    let longer = LIVE.to_owned() + "#EXTINF:2.0,\n9.m4s\n";
    assert_eq!(reload(LIVE, &longer), []);
    one(&reload(&ended, &(longer + "#EXT-X-ENDLIST\n")), "4.4.3.4");
}

#[test]
fn a_live_window_stays_three_target_durations_long() {
    let head = "#EXT-X-PROGRAM-DATE-TIME:2026-11-24T10:00:00.000Z\n#EXTINF:2.000000,\n5.m4s\n";
    let shorter = LIVE.replace(head, "").replace("SEQUENCE:5", "SEQUENCE:6");
    one(&reload(LIVE, &shorter), "6.2.2");
    assert_eq!(reload(LIVE, &(shorter.clone() + "#EXT-X-ENDLIST\n")), []);
    assert_eq!(reload(LIVE, &(shorter + "#EXTINF:2.0,\n9.m4s\n")), []);
}

#[test]
fn a_stalled_playlist_is_found() {
    let mut watch = Watch::new(Duration::from_millis(100));
    assert_eq!(watch.observe(Duration::from_secs(10), LIVE), []);
    assert_eq!(watch.observe(Duration::from_secs(13), LIVE), []);
    one(&watch.observe(Duration::from_millis(13_101), LIVE), "6.2.1");
    let ended = LIVE.to_owned() + "#EXT-X-ENDLIST\n";
    assert_eq!(watch.observe(Duration::from_secs(60), &ended), []);
}

#[test]
fn misaligned_renditions_are_found() {
    let near = Duration::from_millis(25);
    for (from, to) in [
        ("TARGETDURATION:2", "TARGETDURATION:3"),
        ("#EXTINF:1.500000", "#EXTINF:1.600000"),
        ("10:00:12.000Z", "10:00:12.100Z"),
        ("#EXT-X-DISCONTINUITY\n", ""),
        ("MEDIA-SEQUENCE:5", "MEDIA-SEQUENCE:500"),
        ("MEDIA-SEQUENCE:5", "MEDIA-SEQUENCE:7"),
    ] {
        let found = aligned(&[("a", LIVE), ("b", &LIVE.replacen(from, to, 1))], near);
        assert!(
            !found.is_empty() && found.iter().all(|v| v.section == "6.2.4"),
            "{from:?} -> {to:?}: {found:#?}"
        );
    }
    let close = LIVE.replace("#EXTINF:1.500000", "#EXTINF:1.521000");
    assert_eq!(aligned(&[("a", LIVE), ("b", &close)], near), []);
    let one_behind = LIVE.replace(
        "#EXT-X-PROGRAM-DATE-TIME:2026-11-24T10:00:12.000Z\n#EXTINF:1.500000,\n8.m4s\n",
        "",
    );
    assert_eq!(aligned(&[("a", LIVE), ("b", &one_behind)], near), []);
}

#[test]
fn an_understated_bandwidth_is_found() {
    let video = [Sample {
        duration: Duration::from_secs(2),
        bytes: 500_000,
    }];
    let audio = [Sample {
        duration: Duration::from_secs(2),
        bytes: 25_000,
    }];
    assert_eq!(bandwidth(2_000_000, &[&video, &audio], 2), []);
    let found = bandwidth(1_900_000, &[&video, &audio], 2);
    assert_eq!((found[0].section, found[0].level), ("4.4.6.2", Level::Should));
}

#[test]
fn hostile_text_is_survived() {
    for text in [
        "",
        "\n",
        "#EXTM3U",
        "#EXTINF:99999999999999999999999,\nx",
        "#EXT-X-MAP:",
        "#EXTINF:1e9,\nx\n",
    ] {
        assert!(!media(text).is_empty(), "{text:?}");
        assert!(!multivariant(text).is_empty(), "{text:?}");
    }
}

/// A long presentation out of which a server shows windows.
fn presentation() -> impl Strategy<Value = Vec<Segment>> {
    let segment = (
        500_000..=2_499_999_u64,
        prop_oneof![9 => Just(0_u64), 1 => 1..4_u64],
        prop::bool::weighted(0.1),
    );
    prop::collection::vec(segment, 8..40).prop_map(|list| {
        let mut time = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let mut line = 0;
        let build = |(n, (micros, step, gap)): (usize, (u64, u64, bool))| {
            line += step;
            time += Duration::from_micros(micros + step * 5_000_000);
            Segment {
                uri: format!("/media/{n}.m4s"),
                map: Some(format!("/media/init-{line}.mp4").into()),
                duration: Duration::from_micros(micros),
                discontinuity_sequence: line,
                program_date_time: Some(time - Duration::from_micros(micros)),
                gap,
                parts: Vec::new(),
            }
        };
        list.into_iter().enumerate().map(build).collect()
    })
}

fn window(all: &[Segment], head: usize, end: usize, ended: bool) -> Playlist {
    Playlist {
        target_duration: 2,
        media_sequence: head as u64,
        kind: None,
        independent_segments: true,
        segments: all[head..end].to_vec(),
        date_ranges: Vec::new(),
        ended,
        low_latency: None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_rendered_is_valid_over_a_whole_run(all in presentation(), keep in 6..12_usize) {
        let mut before: Option<String> = None;
        for end in 1..=all.len() {
            let mut head = end.saturating_sub(keep);
            while head > 0 && window(&all, head, end, false).duration() < Duration::from_secs(6) {
                head -= 1;
            }
            let text = window(&all, head, end, end == all.len()).render();
            prop_assert_eq!(media(&text), []);
            if let Some(before) = &before {
                prop_assert_eq!(reload(before, &text), []);
            }
            let (read, _) = read_media(&text);
            for (read, shown) in read.segments.iter().zip(&all[head..end]) {
                prop_assert_eq!(read.duration, shown.duration);
                prop_assert_eq!(read.discontinuity_sequence, shown.discontinuity_sequence);
                prop_assert_eq!(read.gap, shown.gap);
                prop_assert_eq!(read.map.as_deref(), shown.map.as_deref());
            }
            before = Some(text);
        }
    }

    #[test]
    fn a_change_of_any_segment_is_found(all in presentation(), at in any::<prop::sample::Index>(), what in 0..5) {
        let before = window(&all, 0, all.len(), false);
        let mut after = before.clone();
        let segment = &mut after.segments[at.index(all.len())];
        match what {
            0 => segment.uri.push('x'),
            1 => segment.duration = Duration::from_micros(499_999),
            2 => segment.gap = !segment.gap,
            3 => segment.program_date_time = None,
            _ => { after.segments.remove(at.index(all.len())); }
        }
        prop_assert!(!reload(&before.render(), &after.render()).is_empty());
    }

    #[test]
    fn a_recording_does_not_change(all in presentation()) {
        let mut recording = window(&all, 0, all.len(), true);
        recording.kind = Some(Kind::Vod);
        let text = recording.render();
        prop_assert_eq!(media(&text), []);
        recording.segments.pop();
        prop_assert!(!reload(&text, &recording.render()).is_empty());
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "(#EXT[-A-Z]{0,20}[:,=\"0-9.]{0,12}\n|[ -~]{0,20}\n){0,20}") {
        let _found = (media(&text), multivariant(&text), reload(&text, &text));
    }
}
