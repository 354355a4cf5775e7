//! Lines and tags (§4.1).

use super::Findings;

/// A line that means something.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'t> {
    /// From 1.
    pub(super) number: usize,
    pub(super) content: Content<'t>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Content<'t> {
    Uri(&'t str),
    /// A tag without `#`, and what stands behind its colon.
    Tag(&'t str, Option<&'t str>),
}

/// Tags of §4.4.1 and §4.4.2, which both kinds of playlist may hold.
const COMMON: &[&str] = &[
    "EXTM3U",
    "EXT-X-VERSION",
    "EXT-X-INDEPENDENT-SEGMENTS",
    "EXT-X-START",
    "EXT-X-DEFINE",
];

/// Tags of §4.4.3, §4.4.4 and §4.4.5.
const MEDIA: &[&str] = &[
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-ENDLIST",
    "EXT-X-PLAYLIST-TYPE",
    "EXT-X-I-FRAMES-ONLY",
    "EXT-X-PART-INF",
    "EXT-X-SERVER-CONTROL",
    "EXTINF",
    "EXT-X-BYTERANGE",
    "EXT-X-DISCONTINUITY",
    "EXT-X-KEY",
    "EXT-X-MAP",
    "EXT-X-PROGRAM-DATE-TIME",
    "EXT-X-GAP",
    "EXT-X-BITRATE",
    "EXT-X-PART",
    "EXT-X-DATERANGE",
    "EXT-X-SKIP",
    "EXT-X-PRELOAD-HINT",
    "EXT-X-RENDITION-REPORT",
];

/// Tags of §4.4.6.
const MULTIVARIANT: &[&str] = &[
    "EXT-X-MEDIA",
    "EXT-X-STREAM-INF",
    "EXT-X-I-FRAME-STREAM-INF",
    "EXT-X-SESSION-DATA",
    "EXT-X-SESSION-KEY",
    "EXT-X-CONTENT-STEERING",
];

/// Tags that must not stand in a playlist twice.
const ONCE: &[&str] = &[
    "EXTM3U",
    "EXT-X-VERSION",
    "EXT-X-INDEPENDENT-SEGMENTS",
    "EXT-X-START",
    "EXT-X-TARGETDURATION",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-ENDLIST",
    "EXT-X-PLAYLIST-TYPE",
    "EXT-X-I-FRAMES-ONLY",
    "EXT-X-PART-INF",
    "EXT-X-SERVER-CONTROL",
    "EXT-X-CONTENT-STEERING",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flavour {
    Media,
    Multivariant,
}

/// Splits a playlist and checks what holds for every line.
pub(super) fn split<'t>(text: &'t str, flavour: Flavour, findings: &mut Findings) -> Vec<Line<'t>> {
    if text.starts_with('\u{feff}') {
        findings.must("4.1", 1, "playlist begins with a byte order mark");
    }
    if !text.ends_with('\n') {
        findings.should("4.1", 0, "last line has no line feed");
    }
    if text.lines().next() != Some("#EXTM3U") {
        findings.must("4.4.1.1", 1, "first line is not #EXTM3U");
    }
    let (own, others) = match flavour {
        Flavour::Media => (MEDIA, MULTIVARIANT),
        Flavour::Multivariant => (MULTIVARIANT, MEDIA),
    };
    let mut seen = Vec::new();
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let number = index + 1;
        if line.chars().any(char::is_control) {
            findings.must("4.1", number, "line holds a control character");
        }
        if line.is_empty() {
            continue;
        }
        let Some(tag) = line.strip_prefix('#') else {
            if line.trim() != line || line.contains(' ') {
                findings.must("4.1", number, "URI holds white space");
            }
            lines.push(Line {
                number,
                content: Content::Uri(line),
            });
            continue;
        };
        if !tag.starts_with("EXT") {
            continue;
        }
        let (name, value) = tag
            .split_once(':')
            .map_or((tag, None), |(name, value)| (name, Some(value)));
        if others.contains(&name) {
            findings.must(
                "4.1",
                number,
                format!("{name} does not belong in this kind of playlist"),
            );
            continue;
        }
        if !COMMON.contains(&name) && !own.contains(&name) {
            findings.should("4.1", number, format!("{name} is no tag of the specification"));
            continue;
        }
        if ONCE.contains(&name) {
            if seen.contains(&name) {
                findings.must("4.1", number, format!("{name} appears more than once"));
            }
            seen.push(name);
        }
        lines.push(Line {
            number,
            content: Content::Tag(name, value),
        });
    }
    lines
}

/// A decimal-integer: 1 to 20 digits, below 2^64 (§4.2).
pub(super) fn decimal_integer(text: &str) -> Option<u64> {
    let fits = (1..=20).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    if fits { text.parse().ok() } else { None }
}

/// A decimal-floating-point: digits with at most one point (§4.2).
pub(super) fn decimal_float(text: &str) -> Option<f64> {
    let valid = text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && text.bytes().any(|b| b.is_ascii_digit())
        && text.bytes().filter(|&b| b == b'.').count() <= 1;
    if valid { text.parse().ok() } else { None }
}
