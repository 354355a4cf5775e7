//! Date ranges that are right, and each rule broken.

use super::{media, reload};

const TITLE: &str = "ID=\"title-1\",CLASS=\"io.github.castlog.title\",START-DATE=\"2027-01-15T08:00:03.000Z\",\
                     END-ON-NEXT=YES,X-IO-GITHUB-CASTLOG-TITLE=\"One, two\"";
const LOST: &str =
    "ID=\"interruption-2\",CLASS=\"io.github.castlog.interruption\",START-DATE=\"2027-01-15T08:00:04.000Z\"";

/// Segments of two seconds from a media sequence number on, which is the half of a
/// second of its first date.
fn playlist(from: u64, ranges: &[&str]) -> String {
    let mut text = format!("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{from}\n");
    for range in ranges {
        text.push_str(&format!("#EXT-X-DATERANGE:{range}\n"));
    }
    for n in from..from + 6 {
        let second = 2 * n;
        text.push_str(&format!(
            "#EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:{second:02}.000Z\n#EXTINF:2.0,\n{n}.m4s\n"
        ));
    }
    text
}

/// Whether something is found, and it is only this.
fn finds(found: &[super::Violation], what: &str) -> bool {
    !found.is_empty() && found.iter().all(|violation| violation.message.contains(what))
}

#[test]
fn what_is_right_is_not_objected_to() {
    let ended = format!("{LOST},END-DATE=\"2027-01-15T08:00:06.500Z\",DURATION=2.5");
    let text = playlist(1, &[TITLE, &ended]);
    assert_eq!(media(&text), []);
    let open = playlist(1, &[TITLE, LOST]);
    // It comes, it gets its end, it goes with what it began with.
    assert_eq!(reload(&playlist(1, &[TITLE]), &open), []);
    assert_eq!(reload(&open, &text), []);
    assert_eq!(reload(&text, &playlist(2, &[&ended])), []);
    assert_eq!(reload(&text, &playlist(3, &[])), []);
}

#[test]
fn each_rule_of_a_playlist_is_held() {
    let of = |range: &str| media(&playlist(1, &[range]));
    let class = "CLASS=\"a.b\"";
    let start = "START-DATE=\"2027-01-15T08:00:03.000Z\"";
    for (range, what) in [
        (start.to_owned(), "EXT-X-DATERANGE has no ID"),
        ("ID=\"a\"".to_owned(), "EXT-X-DATERANGE has no START-DATE"),
        (format!("ID=a,{start}"), "ID of EXT-X-DATERANGE is not a quoted string"),
        (
            "ID=\"a\",START-DATE=\"yesterday\"".to_owned(),
            "START-DATE is not an ISO 8601 date",
        ),
        (
            format!("ID=\"a\",{start},END-DATE=\"2027-01-15T08:00:02.000Z\""),
            "END-DATE is before START-DATE",
        ),
        (
            format!("ID=\"a\",{start},END-ON-NEXT=YES"),
            "END-ON-NEXT stands without CLASS",
        ),
        (
            format!("ID=\"a\",{class},{start},END-ON-NEXT=NO"),
            "END-ON-NEXT of EXT-X-DATERANGE is not one of YES",
        ),
        (
            format!("ID=\"a\",{class},{start},END-ON-NEXT=YES,DURATION=1.0"),
            "END-ON-NEXT stands beside",
        ),
        (
            format!("ID=\"a\",{start},DURATION=-1"),
            "DURATION of EXT-X-DATERANGE is not a decimal number",
        ),
        (
            format!("ID=\"a\",{start},END-DATE=\"2027-01-15T08:00:05.000Z\",DURATION=3.0"),
            "END-DATE and DURATION differ",
        ),
        (format!("ID=\"a\",{start},TITLE=\"x\""), "TITLE is no attribute"),
        (
            "ID=\"a\",START-DATE=\"2027-01-15T08:00:00.000Z\",DURATION=1.0".to_owned(),
            "date range a ends before the first segment",
        ),
    ] {
        let found = of(&range);
        assert!(finds(&found, what), "{range}: {found:?}");
    }
    let twice = media(&playlist(1, &[TITLE, &TITLE.replace("One", "Two")]));
    assert!(
        finds(&twice, "X-IO-GITHUB-CASTLOG-TITLE of date range title-1 changes"),
        "{twice:?}"
    );
    let undated: String = playlist(1, &[TITLE])
        .lines()
        .filter(|line| !line.starts_with("#EXT-X-PROGRAM"))
        .map(|line| format!("{line}\n"))
        .collect();
    let found = media(&undated);
    assert!(finds(&found, "no EXT-X-PROGRAM-DATE-TIME"), "{found:?}");
}

#[test]
fn each_rule_of_a_reload_is_held() {
    let before = playlist(1, &[TITLE, LOST]);
    for (after, what) in [
        (
            playlist(1, &[TITLE]),
            "date range interruption-2 is removed before its segments",
        ),
        (
            playlist(1, &[&TITLE.replace("One", "Two"), LOST]),
            "TITLE of date range title-1 changes",
        ),
        (
            playlist(1, &[&TITLE.replace("03.000", "03.001"), LOST]),
            "START-DATE of date range title-1 changes",
        ),
        (
            playlist(1, &[&TITLE.replace(",END-ON-NEXT=YES", ""), LOST]),
            "title-1 loses its END-ON-NEXT",
        ),
    ] {
        let found = reload(&before, &after);
        assert!(finds(&found, what), "{found:?}");
    }
}
