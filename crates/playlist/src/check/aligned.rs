//! Rules over all renditions of a presentation (§6.2.4).

use std::time::Duration;

use super::{Findings, Media, Violation, media};

/// Checks the media playlists of one presentation, each with a name for
/// messages, loaded at about the same time. Segments with equal media sequence
/// numbers must have equal durations and dates to within `tolerance`: audio
/// frames do not end where video frames do.
#[must_use]
pub fn aligned(playlists: &[(&str, &str)], tolerance: Duration) -> Vec<Violation> {
    let mut ignored = Findings::default();
    let mut findings = Findings::default();
    let media: Vec<(&str, Media)> = playlists
        .iter()
        .map(|(name, text)| (*name, media::read(text, &mut ignored)))
        .collect();
    let Some(((first_name, first), others)) = media.split_first() else {
        return findings.0;
    };
    for (name, other) in others {
        compare(first_name, first, name, other, tolerance, &mut findings);
    }
    findings.0
}

fn compare(a_name: &str, a: &Media, b_name: &str, b: &Media, tolerance: Duration, findings: &mut Findings) {
    let names = format!("{a_name} and {b_name}");
    if a.target_duration != b.target_duration {
        let message = format!(
            "{names} have target durations {} and {}",
            a.target_duration, b.target_duration
        );
        findings.must("6.2.4", 0, message);
    }
    if a.playlist_type != b.playlist_type {
        findings.must("6.2.4", 0, format!("{names} have different EXT-X-PLAYLIST-TYPE"));
    }
    let dated = |m: &Media| m.segments.iter().any(|s| s.program_date_time.is_some());
    if dated(a) != dated(b) {
        findings.must("6.2.4", 0, format!("only one of {names} has EXT-X-PROGRAM-DATE-TIME"));
    }
    let mut common = 0;
    for segment in &a.segments {
        let Some(twin) = b.segment(segment.sequence) else {
            continue;
        };
        common += 1;
        let number = segment.sequence;
        if segment.discontinuity_sequence != twin.discontinuity_sequence {
            findings.must(
                "6.2.4",
                twin.line,
                format!("discontinuity sequence numbers of segment {number} differ in {names}"),
            );
        }
        if segment.duration.abs_diff(twin.duration) > tolerance {
            let message = format!(
                "segment {number} lasts {:?} and {:?} in {names}",
                segment.duration, twin.duration
            );
            findings.must("6.2.4", twin.line, message);
        }
        if let (Some(x), Some(y)) = (segment.program_date_time, twin.program_date_time)
            && (x - y).abs().to_std().is_ok_and(|apart| apart > tolerance)
        {
            findings.must(
                "6.2.4",
                twin.line,
                format!("segment {number} begins at {x} and {y} in {names}"),
            );
        }
    }
    if common == 0 {
        findings.must("6.2.4", 0, format!("{names} have no segment in common"));
        return;
    }
    // What only one of the two has may stand at either end, and no longer than a target duration.
    let longest = Duration::from_secs(a.target_duration.min(b.target_duration)) + tolerance;
    for (one, other, name) in [(a, b, a_name), (b, a, b_name)] {
        let head = other.media_sequence.unwrap_or(0);
        let alone = |keep: &dyn Fn(u64) -> bool| -> Duration {
            one.segments
                .iter()
                .filter(|s| keep(s.sequence))
                .map(|s| s.duration)
                .sum()
        };
        for (end, extra) in [("head", alone(&|n| n < head)), ("end", alone(&|n| n >= other.end()))] {
            if extra > longest {
                findings.must(
                    "6.2.4",
                    0,
                    format!("{name} has {extra:?} at its {end} that the other of {names} lacks"),
                );
            }
        }
    }
}
