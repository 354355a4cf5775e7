//! Rules between successive versions of a media playlist (§6.2.1, §6.2.2).

use std::time::Duration;

use super::{
    Findings, Media, Violation, date_range,
    low_latency::{MediaPart, PARTS_REACH},
    media,
};

/// Checks what a server may change from one version of a media playlist to the
/// next. Rules for a single playlist are those of [`super::media`]. What a delta
/// update skips is taken from the version before.
#[must_use]
pub fn reload(before: &str, after: &str) -> Vec<Violation> {
    let mut ignored = Findings::default();
    let before = media::read(before, &mut ignored);
    let mut after = media::read(after, &mut ignored);
    let mut findings = Findings::default();
    fill_in(&before, &mut after, &mut findings);
    compare(&before, &after, &mut findings);
    findings.0
}

/// Puts what a delta update skips where it belongs (§6.2.5.1).
fn fill_in(before: &Media, after: &mut Media, findings: &mut Findings) {
    let Some(skipped) = after.skipped.take() else { return };
    let head = after.media_sequence.unwrap_or(0);
    let held: Vec<_> = (head..head + skipped.min(before.segments.len() as u64 + 1))
        .map_while(|sequence| before.segment(sequence).cloned())
        .collect();
    if held.len() as u64 != skipped {
        let message = format!("{skipped} segments from {head} are skipped that the version before does not have");
        findings.must("6.2.5.1", 0, message);
        return;
    }
    let told = after.discontinuity_sequence.unwrap_or(0);
    let passed = held
        .last()
        .map_or(0, |last| last.discontinuity_sequence.saturating_sub(told));
    for segment in &mut after.segments {
        segment.discontinuity_sequence += passed;
    }
    if let Some(open) = &mut after.open {
        open.discontinuity_sequence += passed;
    }
    // What a delta update needs is above what the tags of a whole playlist do.
    after.version = before.version;
    after.segments.splice(..0, held);
}

/// The parts that are told of a segment, with its discontinuity sequence number
/// and how much media stands behind it when it is complete.
fn parts(media: &Media, sequence: u64) -> Option<(&[MediaPart], u64, Option<Duration>)> {
    if let Some(open) = media.open.as_ref().filter(|open| open.sequence == sequence) {
        return Some((&open.parts, open.discontinuity_sequence, None));
    }
    let segment = media.segment(sequence)?;
    let behind = media
        .segments
        .iter()
        .filter(|s| s.sequence > sequence)
        .map(|s| s.duration);
    Some((&segment.parts, segment.discontinuity_sequence, Some(behind.sum())))
}

/// Parts stay as they were until their segment is three target durations from the
/// end. Those of a segment that did not come to its end go with a discontinuity, or
/// when a gap stands in its place.
fn compare_parts(before: &Media, after: &Media, findings: &mut Findings) {
    if before.part_target != after.part_target || before.server_control != after.server_control {
        findings.must("6.2.1", 0, "EXT-X-PART-INF or EXT-X-SERVER-CONTROL changes");
    }
    let reach = Duration::from_secs(after.target_duration) * PARTS_REACH;
    let open = before.open.as_ref().map(|open| open.sequence);
    let sequences = before.segments.iter().map(|s| s.sequence).chain(open);
    for sequence in sequences.filter(|&s| s >= after.media_sequence.unwrap_or(0)) {
        let Some((old, old_line, complete)) = parts(before, sequence) else {
            continue;
        };
        let (new, new_line, behind) = parts(after, sequence).unwrap_or((&[], old_line, None));
        let taken_back = complete.is_none() && (new_line > old_line || after.ended && behind.is_none());
        let lost = after.segment(sequence).is_some_and(|segment| segment.gap);
        let aged = behind.is_some_and(|behind| behind >= reach) && new.is_empty();
        if taken_back || lost || aged {
            continue;
        }
        if let Some((part, _)) = old.iter().zip(new).find(|(old, new)| !old.same(new)) {
            findings.must("6.2.1", 0, format!("part {} of segment {sequence} changes", part.uri));
        }
        if new.len() < old.len() {
            let message = format!(
                "segment {sequence} has had {} parts and has {} now",
                old.len(),
                new.len()
            );
            findings.must("6.2.2", 0, message);
        }
        if complete.is_some() && !old.is_empty() && new.len() > old.len() {
            findings.must("6.2.1", 0, format!("complete segment {sequence} has more parts now"));
        }
    }
}

fn compare(before: &Media, after: &Media, findings: &mut Findings) {
    if before.target_duration != after.target_duration {
        let message = format!(
            "EXT-X-TARGETDURATION changes from {} to {}",
            before.target_duration, after.target_duration
        );
        findings.must("6.2.1", 0, message);
    }
    let (old_head, new_head) = (before.media_sequence.unwrap_or(0), after.media_sequence.unwrap_or(0));
    if new_head < old_head {
        findings.must(
            "6.2.2",
            0,
            format!("EXT-X-MEDIA-SEQUENCE decreases from {old_head} to {new_head}"),
        );
    }
    let (old_line, new_line) = (
        before.discontinuity_sequence.unwrap_or(0),
        after.discontinuity_sequence.unwrap_or(0),
    );
    if new_line < old_line {
        findings.must(
            "6.2.2",
            0,
            format!("EXT-X-DISCONTINUITY-SEQUENCE decreases from {old_line} to {new_line}"),
        );
    }
    if after.end() < before.end() {
        let message = format!(
            "the end moves back from {} to {}: segments leave at the head only",
            before.end(),
            after.end()
        );
        findings.must("6.2.2", 0, message);
    }
    let fixed = |m: &Media| (m.version, m.independent_segments, m.playlist_type.clone());
    if fixed(before) != fixed(after) && !before.segments.is_empty() {
        findings.must(
            "6.2.1",
            0,
            "EXT-X-VERSION, EXT-X-INDEPENDENT-SEGMENTS or EXT-X-PLAYLIST-TYPE changes",
        );
    }
    for segment in &after.segments {
        let Some(old) = before.segment(segment.sequence) else {
            continue;
        };
        let unchanged = old.uri == segment.uri
            && old.duration == segment.duration
            && old.gap == segment.gap
            && old.program_date_time == segment.program_date_time
            // The section of a gap is never loaded, and its tag may have left with an earlier segment.
            && (old.map == segment.map || segment.gap);
        if !unchanged {
            findings.must("6.2.1", segment.line, format!("segment {} changes", segment.sequence));
        }
        if old.discontinuity_sequence != segment.discontinuity_sequence {
            let message = format!(
                "discontinuity sequence number of segment {} changes from {} to {}",
                segment.sequence, old.discontinuity_sequence, segment.discontinuity_sequence
            );
            findings.must("6.2.2", segment.line, message);
        }
    }
    compare_parts(before, after, findings);
    date_range::compare(before, after, findings);
    compare_ends(before, after, new_head > old_head, findings);
}

fn compare_ends(before: &Media, after: &Media, removed: bool, findings: &mut Findings) {
    if before.ended && !after.ended {
        findings.must("6.2.1", 0, "EXT-X-ENDLIST disappears");
    }
    if before.ended && after.end() > before.end() {
        findings.must("4.4.3.4", 0, "a segment is added after EXT-X-ENDLIST");
    }
    let shortest = Duration::from_secs(3 * after.target_duration);
    if removed && !after.ended && after.duration() < shortest {
        let message = format!(
            "segments are removed although {:?} is less than three target durations",
            after.duration()
        );
        findings.must("6.2.2", 0, message);
    }
    if removed && before.playlist_type.is_some() {
        findings.must("6.2.1", 0, "a segment is removed from an EVENT or VOD playlist");
    }
    if before.playlist_type.as_deref() == Some("VOD") && before != after {
        findings.must("6.2.1", 0, "a VOD playlist changes");
    }
}

/// Checks a run of reloads of one media playlist as a client sees it.
#[derive(Debug)]
pub struct Watch {
    slack: Duration,
    last: Option<Media>,
    grew_at: Duration,
}

impl Watch {
    /// A watch that allows new segments to be late by `slack`: how far apart the
    /// observations are, and what the machine under test may lag.
    #[must_use]
    pub const fn new(slack: Duration) -> Self {
        Self {
            slack,
            last: None,
            grew_at: Duration::ZERO,
        }
    }

    /// Checks the version that was loaded `at` a time since some fixed moment.
    pub fn observe(&mut self, at: Duration, text: &str) -> Vec<Violation> {
        let mut findings = Findings::default();
        let mut now = media::read(text, &mut findings);
        match &self.last {
            None => self.grew_at = at,
            Some(before) => {
                fill_in(before, &mut now, &mut findings);
                compare(before, &now, &mut findings);
                let late = Duration::from_millis(now.target_duration * 1500) + self.slack;
                let waited = at.saturating_sub(self.grew_at);
                if now.end() > before.end() {
                    self.grew_at = at;
                } else if !now.ended && waited > late {
                    findings.must(
                        "6.2.1",
                        0,
                        format!("no new segment for {waited:?}, over 1.5 target durations"),
                    );
                }
            }
        }
        self.last = Some(now);
        findings.0
    }
}
