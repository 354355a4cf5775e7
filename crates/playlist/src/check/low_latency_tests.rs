//! Each rule of low latency is shown to catch its violation, and to be silent otherwise.

use std::time::Duration;

use super::{Violation, Watch, media, read_media, reload};

/// Ten segments of two seconds, parts of the last four, and two parts of the next.
fn live() -> String {
    let mut text = "#EXTM3U
#EXT-X-VERSION:6
#EXT-X-TARGETDURATION:2
#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL=12.0,HOLD-BACK=6.0,PART-HOLD-BACK=1.5
#EXT-X-PART-INF:PART-TARGET=0.5
#EXT-X-MEDIA-SEQUENCE:5
#EXT-X-DISCONTINUITY-SEQUENCE:1
#EXT-X-MAP:URI=\"init-1.mp4\"
"
    .to_owned();
    for n in 5..15 {
        if n > 11 {
            text += &parts(n, 0..4);
        }
        text += &format!("#EXTINF:2.0,\n{n}.m4s\n");
    }
    text + &parts(15, 0..2) + "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"15.2.m4s\"\n" + REPORT
}

const REPORT: &str = "#EXT-X-RENDITION-REPORT:URI=\"../audio/index.m3u8\",LAST-MSN=15,LAST-PART=1\n";

fn parts(n: u64, indexes: std::ops::Range<u64>) -> String {
    let part = |index| {
        let independent = if index == 0 { ",INDEPENDENT=YES" } else { "" };
        format!("#EXT-X-PART:DURATION=0.5,URI=\"{n}.{index}.m4s\"{independent}\n")
    };
    indexes.map(part).collect()
}

/// The same, as a client that holds it gets it anew.
fn delta() -> String {
    let head = "#EXT-X-MAP:URI=\"init-1.mp4\"\n#EXTINF:2.0,\n5.m4s\n#EXTINF:2.0,\n6.m4s\n#EXTINF:2.0,\n7.m4s\n";
    let skip = "#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXT-X-MAP:URI=\"init-1.mp4\"\n";
    live().replace(head, skip).replace("VERSION:6", "VERSION:9")
}

fn sections(found: &[Violation]) -> Vec<&'static str> {
    found.iter().map(|v| v.section).collect()
}

#[test]
fn correct_playlists_pass() {
    let (read, found) = read_media(&live());
    assert_eq!(found, []);
    let open = read.open.unwrap();
    assert_eq!(
        (open.sequence, open.discontinuity_sequence, open.parts.len()),
        (15, 1, 2)
    );
    assert_eq!(read.segments[9].parts.len(), 4);
    assert_eq!(read.reports[0].last_part, Some(1));
    assert_eq!(read.hint.as_deref(), Some("15.2.m4s"));
    let (read, found) = read_media(&delta());
    assert_eq!((read.segments[0].sequence, found), (8, vec![]));
    for (before, after) in [(live(), live()), (live(), delta())] {
        assert_eq!(reload(&before, &after), []);
    }
    // A short part is one before a gap, an independent one, or the last.
    let short = live().replace(
        "#EXT-X-PART:DURATION=0.5,URI=\"15.1",
        "#EXT-X-PART:DURATION=0.1,URI=\"15.1",
    );
    assert_eq!(media(&short), []);
    let before_gap = short.replace(
        "URI=\"15.1.m4s\"\n",
        "URI=\"15.1.m4s\"\n#EXT-X-PART:DURATION=0.5,URI=\"x\",GAP=YES\n",
    );
    assert_eq!(media(&before_gap), []);
}

#[test]
fn planted_violations_are_found() {
    let live = live();
    let part = "#EXT-X-PART:DURATION=0.5,URI=\"15.1.m4s\"\n";
    let hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"15.2.m4s\"\n";
    for (from, to, section) in [
        ("CAN-BLOCK-RELOAD=YES", "CAN-BLOCK-RELOAD=NO", "4.4.3.8"),
        ("CAN-SKIP-UNTIL=12.0", "CAN-SKIP-UNTIL=11.9", "4.4.3.8"),
        ("CAN-SKIP-UNTIL=12.0", "CAN-SKIP-DATERANGES=YES", "4.4.3.8"),
        ("HOLD-BACK=6.0", "HOLD-BACK=5.9", "4.4.3.8"),
        ("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=0.9", "4.4.3.8"),
        ("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.4", "4.4.3.8"),
        (",PART-HOLD-BACK=1.5", "", "4.4.3.8"),
        ("#EXT-X-PART-INF:PART-TARGET=0.5\n", "", "4.4.3.7"),
        ("PART-TARGET=0.5", "PART-TARGET=half", "4.4.3.7"),
        ("DURATION=0.5,URI=\"15.1", "DURATION=0.6,URI=\"15.1", "4.4.4.9"),
        ("DURATION=0.5,URI=\"14.1", "DURATION=0.4,URI=\"14.1", "4.4.4.9"),
        ("DURATION=0.5,URI=\"14.3", "DURATION=0.4,URI=\"14.3", "4.4.4.9"),
        ("DURATION=0.5,URI=\"15.1", "URI=\"15.1", "4.4.4.9"),
        (",URI=\"15.1.m4s\"", "", "4.4.4.9"),
        ("INDEPENDENT=YES", "INDEPENDENT=NO", "4.4.4.9"),
        (part, "#EXT-X-PART:DURATION=0.5,URI=\"x\",GAP=NO\n", "4.4.4.9"),
        (part, "#EXT-X-DISCONTINUITY\n", "4.4.4.9"),
        (part, "#EXT-X-MAP:URI=\"init-2.mp4\"\n", "4.4.4.9"),
        (part, "#EXT-X-PROGRAM-DATE-TIME:2026-11-24T10:00:00.000Z\n", "4.4.4.9"),
        (part, "#EXTINF:1.0,\n", "4.4.4"),
        (
            "#EXTINF:2.0,\n5.m4s",
            "#EXT-X-PART:DURATION=2.0,URI=\"x\"\n#EXTINF:2.0,\n5.m4s",
            "6.2.2",
        ),
        ("TYPE=PART", "TYPE=SEGMENT", "4.4.5.3"),
        (",URI=\"15.2.m4s\"", "", "4.4.5.3"),
        ("URI=\"15.2.m4s\"", "URI=\"15.1.m4s\"", "4.4.5.3"),
        (
            hint,
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"a\"\n#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"b\"\n",
            "4.4.5.3",
        ),
        (
            hint,
            "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"a\"\n#EXT-X-ENDLIST\n",
            "4.4.5.3",
        ),
        (hint, "#EXT-X-ENDLIST\n", "4.4.3.4"),
        ("URI=\"../audio", "URI=\"https://elsewhere/audio", "4.4.5.4"),
        (",LAST-MSN=15", "", "4.4.5.4"),
        ("LAST-PART=1", "LAST-PART=one", "4.4.5.4"),
    ] {
        assert!(live.contains(from), "{from}");
        let found = media(&live.replacen(from, to, 1));
        assert!(sections(&found).contains(&section), "{from:?} -> {to:?}: {found:#?}");
    }
}

#[test]
fn planted_violations_of_a_delta_update_are_found() {
    let skip = "#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n";
    for (from, to, section) in [
        ("VERSION:9", "VERSION:8", "8"),
        ("SKIPPED-SEGMENTS=3", "SKIPPED-SEGMENTS=all", "4.4.5.2"),
        (
            skip,
            "#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n",
            "4.4.5",
        ),
        ("CAN-SKIP-UNTIL=12.0,", "", "4.4.3.8"),
        ("#EXTINF:2.0,\n8.m4s\n#EXTINF:2.0,\n9.m4s\n", "", "6.2.5.1"),
        ("8.m4s\n", "8.m4s\n#EXT-X-SKIP:SKIPPED-SEGMENTS=3\n", "6.2.5.1"),
        ("#EXT-X-PRELOAD-HINT", "#EXT-X-ENDLIST\n#EXT-X-PRELOAD-HINT", "6.2.5.1"),
    ] {
        assert!(delta().contains(from), "{from}");
        let found = media(&delta().replacen(from, to, 1));
        assert!(sections(&found).contains(&section), "{from:?} -> {to:?}: {found:#?}");
    }
    let beyond = delta().replace("SKIPPED-SEGMENTS=3", "SKIPPED-SEGMENTS=30");
    assert!(sections(&reload(&live(), &beyond)).contains(&"6.2.5.1"));
    let shifted = delta().replace("SKIPPED-SEGMENTS=3", "SKIPPED-SEGMENTS=2");
    assert!(sections(&reload(&live(), &shifted)).contains(&"6.2.1"));
}

/// The next version: the open segment is complete, and the next has begun.
fn next() -> String {
    let tail = format!("{}#EXTINF:2.0,\n15.m4s\n{}", parts(15, 0..4), parts(16, 0..1));
    live()
        .replace(&parts(15, 0..2), &tail)
        .replace("15.2.m4s\"\n#EXT-X-REND", "16.1.m4s\"\n#EXT-X-REND")
}

#[test]
fn planted_violations_of_an_update_are_found() {
    assert_eq!(media(&next()), []);
    assert_eq!(reload(&live(), &next()), []);
    for (from, to, section) in [
        ("URI=\"15.1.m4s\"", "URI=\"15.1b.m4s\"", "6.2.1"),
        ("0.5,URI=\"15.1", "0.4,URI=\"15.1", "6.2.1"),
        ("URI=\"15.0.m4s\",INDEPENDENT=YES", "URI=\"15.0.m4s\"", "6.2.1"),
        ("PART-TARGET=0.5", "PART-TARGET=0.6", "6.2.1"),
        ("PART-HOLD-BACK=1.5", "PART-HOLD-BACK=1.6", "6.2.1"),
        // Three target durations before the end, and not one of them before that.
        (&parts(13, 0..4), "", "6.2.2"),
        (&parts(15, 1..4), "", "6.2.2"),
        (
            &(parts(15, 0..4) + "#EXTINF:2.0,\n15.m4s\n" + &parts(16, 0..1)),
            "",
            "6.2.2",
        ),
        (
            &parts(14, 0..4),
            &(parts(14, 0..4) + "#EXT-X-PART:DURATION=0.5,URI=\"x\"\n"),
            "6.2.1",
        ),
    ] {
        assert!(next().contains(from), "{from}");
        let found = reload(&live(), &next().replacen(from, to, 1));
        assert!(sections(&found).contains(&section), "{from:?} -> {to:?}: {found:#?}");
    }
    let aged = next().replace(&parts(12, 0..4), "");
    assert_eq!(reload(&live(), &aged), []);
}

#[test]
fn parts_of_a_segment_that_was_broken_off_go_with_a_discontinuity() {
    let open = parts(15, 0..2);
    let anew = "#EXT-X-DISCONTINUITY\n#EXT-X-PART:DURATION=0.5,URI=\"other.m4s\"\n";
    assert_eq!(reload(&live(), &live().replace(&open, anew)), []);
    let same = anew.replace("#EXT-X-DISCONTINUITY\n", "");
    assert_eq!(
        sections(&reload(&live(), &live().replace(&open, &same))),
        ["6.2.1", "6.2.2"]
    );
    let hint = "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"15.2.m4s\"\n";
    let ended = live().replace(&open, "").replace(hint, "#EXT-X-ENDLIST\n");
    assert_eq!(media(&ended), []);
    assert_eq!(reload(&live(), &ended), []);
    assert_eq!(sections(&reload(&live(), &live().replace(&open, ""))), ["6.2.2"]);
}

#[test]
fn a_run_of_deltas_is_watched() {
    let mut watch = Watch::new(Duration::from_millis(100));
    assert_eq!(watch.observe(Duration::from_secs(1), &live()), []);
    assert_eq!(watch.observe(Duration::from_secs(2), &delta()), []);
    assert_eq!(watch.observe(Duration::from_secs(3), &delta()), []);
    let other = delta().replace("\n9.m4s", "\n9b.m4s");
    assert_eq!(sections(&watch.observe(Duration::from_secs(3), &other)), ["6.2.1"]);
}
