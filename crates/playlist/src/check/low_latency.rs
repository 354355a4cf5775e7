//! Rules for parts, and for what a server offers to clients that play them
//! (§4.4.3.7, §4.4.3.8, §4.4.4.9, §4.4.5.2 to §4.4.5.4, §6.2.2, §6.2.5.1).

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Findings, Media, attributes::Attributes};

/// What EXT-X-SERVER-CONTROL says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerControl {
    /// CAN-BLOCK-RELOAD.
    pub can_block_reload: bool,
    /// CAN-SKIP-UNTIL.
    pub can_skip_until: Option<Duration>,
    /// HOLD-BACK.
    pub hold_back: Option<Duration>,
    /// PART-HOLD-BACK.
    pub part_hold_back: Option<Duration>,
}

/// One EXT-X-PART.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaPart {
    /// Its line.
    pub line: usize,
    /// URI as written.
    pub uri: String,
    /// DURATION.
    pub duration: Duration,
    /// INDEPENDENT.
    pub independent: bool,
    /// GAP.
    pub gap: bool,
}

/// The parts of a segment that is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSegment {
    /// Line of its first tag.
    pub line: usize,
    /// Media sequence number that the segment will have.
    pub sequence: u64,
    /// Discontinuity sequence number.
    pub discontinuity_sequence: u64,
    /// URI of the media initialization section in force.
    pub map: Option<String>,
    /// EXT-X-PROGRAM-DATE-TIME.
    pub program_date_time: Option<DateTime<Utc>>,
    /// The parts so far.
    pub parts: Vec<MediaPart>,
}

/// One EXT-X-RENDITION-REPORT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// URI as written.
    pub uri: String,
    /// LAST-MSN.
    pub last_msn: u64,
    /// LAST-PART.
    pub last_part: Option<u64>,
}

/// Target durations from the end of the playlist up to which parts stay.
pub(super) const PARTS_REACH: u32 = 3;
/// How far the sum of parts may be from the duration of their segment.
const SUM_TOLERANCE: Duration = Duration::from_millis(1);

impl ServerControl {
    pub(super) fn read(value: Option<&str>, line: usize, findings: &mut Findings) -> Self {
        let attributes = Attributes::read("EXT-X-SERVER-CONTROL", value, "4.4.3.8", line, findings);
        let read = Self {
            can_block_reload: attributes.yes("CAN-BLOCK-RELOAD", findings),
            can_skip_until: attributes.seconds("CAN-SKIP-UNTIL", findings),
            hold_back: attributes.seconds("HOLD-BACK", findings),
            part_hold_back: attributes.seconds("PART-HOLD-BACK", findings),
        };
        if attributes.yes("CAN-SKIP-DATERANGES", findings) && read.can_skip_until.is_none() {
            findings.must("4.4.3.8", line, "CAN-SKIP-DATERANGES stands without CAN-SKIP-UNTIL");
        }
        read
    }
}

impl MediaPart {
    pub(super) fn read(value: Option<&str>, line: usize, findings: &mut Findings) -> Self {
        let attributes = Attributes::read("EXT-X-PART", value, "4.4.4.9", line, findings);
        attributes.require("URI", findings);
        attributes.require("DURATION", findings);
        Self {
            line,
            uri: attributes.quoted("URI", findings).unwrap_or_default().to_owned(),
            duration: attributes.seconds("DURATION", findings).unwrap_or_default(),
            independent: attributes.yes("INDEPENDENT", findings),
            gap: attributes.yes("GAP", findings),
        }
    }

    /// Whether it is the same media under the same name, wherever it stands.
    pub(super) fn same(&self, other: &Self) -> bool {
        let of = |part: &Self| (part.uri.clone(), part.duration, part.independent, part.gap);
        of(self) == of(other)
    }
}

impl Report {
    pub(super) fn read(value: Option<&str>, line: usize, findings: &mut Findings) -> Self {
        let attributes = Attributes::read("EXT-X-RENDITION-REPORT", value, "4.4.5.4", line, findings);
        attributes.require("URI", findings);
        attributes.require("LAST-MSN", findings);
        let uri = attributes.quoted("URI", findings).unwrap_or_default().to_owned();
        if uri.contains("://") {
            findings.must("4.4.5.4", line, "URI of EXT-X-RENDITION-REPORT is not relative");
        }
        Self {
            uri,
            last_msn: attributes.integer("LAST-MSN", findings).unwrap_or_default(),
            last_part: attributes.integer("LAST-PART", findings),
        }
    }
}

pub(super) fn part_target(value: Option<&str>, line: usize, findings: &mut Findings) -> Option<Duration> {
    let attributes = Attributes::read("EXT-X-PART-INF", value, "4.4.3.7", line, findings);
    attributes.require("PART-TARGET", findings);
    attributes.seconds("PART-TARGET", findings)
}

pub(super) fn skip(media: &mut Media, value: Option<&str>, line: usize, findings: &mut Findings) {
    let attributes = Attributes::read("EXT-X-SKIP", value, "4.4.5.2", line, findings);
    attributes.require("SKIPPED-SEGMENTS", findings);
    if media.skipped.is_some() {
        findings.must("4.4.5", line, "EXT-X-SKIP appears more than once");
    }
    if !media.segments.is_empty() {
        findings.must("6.2.5.1", line, "EXT-X-SKIP comes after a segment");
    }
    media.skipped = attributes.integer("SKIPPED-SEGMENTS", findings).or(media.skipped);
}

pub(super) fn hint(media: &mut Media, value: Option<&str>, line: usize, findings: &mut Findings) {
    let attributes = Attributes::read("EXT-X-PRELOAD-HINT", value, "4.4.5.3", line, findings);
    attributes.require("TYPE", findings);
    attributes.require("URI", findings);
    let uri = attributes.quoted("URI", findings).map(str::to_owned);
    if attributes.one_of("TYPE", &["PART", "MAP"], findings) == Some("PART") {
        if media.hint.is_some() {
            findings.must("4.4.5.3", line, "more than one EXT-X-PRELOAD-HINT has TYPE=PART");
        }
        media.hint = uri;
    }
}

/// What holds for a playlist as a whole.
pub(super) fn check(media: &Media, findings: &mut Findings) {
    let target = Duration::from_secs(media.target_duration);
    check_server_control(media, target, findings);
    check_skip(media, findings);
    let told = media.segments.iter().map(|s| &s.parts);
    let open = media.open.iter().map(|o| &o.parts);
    let parts: Vec<&Vec<MediaPart>> = told.chain(open).collect();
    if media.part_target.is_none()
        && let Some(part) = parts.iter().find_map(|parts| parts.first())
    {
        findings.must("4.4.3.7", part.line, "there are parts without EXT-X-PART-INF");
    }
    for parts in &parts {
        check_durations(parts, media.part_target.unwrap_or_default(), findings);
    }
    check_segments(media, target, findings);
    let listed = parts.iter().copied().flatten();
    if let Some(hint) = &media.hint
        && listed.into_iter().any(|part| part.uri == *hint)
    {
        findings.should("4.4.5.3", 0, "EXT-X-PRELOAD-HINT names a part that is there");
    }
    if media.ended && media.hint.is_some() {
        findings.must("4.4.5.3", 0, "a playlist that has ended has an EXT-X-PRELOAD-HINT");
    }
    if let (true, Some(open)) = (media.ended, &media.open) {
        findings.must(
            "4.4.3.4",
            open.line,
            "a playlist that has ended has parts of no segment",
        );
    }
}

fn check_server_control(media: &Media, target: Duration, findings: &mut Findings) {
    let control = media.server_control.clone().unwrap_or_default();
    let mut least = |name: &str, value: Option<Duration>, least: Duration, must: bool| {
        if let Some(value) = value.filter(|value| *value < least) {
            let message = format!("{name} of {value:?} is below {least:?}");
            match must {
                true => findings.must("4.4.3.8", 0, message),
                false => findings.should("4.4.3.8", 0, message),
            }
        }
    };
    least("CAN-SKIP-UNTIL", control.can_skip_until, target * 6, true);
    least("HOLD-BACK", control.hold_back, target * 3, true);
    let Some(part_target) = media.part_target else { return };
    let hold_back = control.part_hold_back;
    least("PART-HOLD-BACK", hold_back, part_target * 2, true);
    if hold_back >= Some(part_target * 2) {
        least("PART-HOLD-BACK", hold_back, part_target * 3, false);
    }
    if hold_back.is_none() {
        findings.must("4.4.3.8", 0, "there is EXT-X-PART-INF without PART-HOLD-BACK");
    }
}

fn check_skip(media: &Media, findings: &mut Findings) {
    if media.skipped.is_none() {
        return;
    }
    if media.ended {
        findings.must("6.2.5.1", 0, "a playlist that has ended skips segments");
    }
    let Some(boundary) = media.server_control.as_ref().and_then(|c| c.can_skip_until) else {
        findings.must("4.4.3.8", 0, "EXT-X-SKIP stands without CAN-SKIP-UNTIL");
        return;
    };
    let open = media.open.iter().flat_map(|o| &o.parts).map(|p| p.duration);
    let told = media.duration() + open.sum::<Duration>();
    if told < boundary {
        let message = format!("segments within the skip boundary of {boundary:?} are skipped: {told:?} are told");
        findings.must("6.2.5.1", 0, message);
    }
}

fn check_durations(parts: &[MediaPart], target: Duration, findings: &mut Findings) {
    for (index, part) in parts.iter().enumerate() {
        if part.duration > target {
            let message = format!("part of {:?} is over the part target of {target:?}", part.duration);
            findings.must("4.4.4.9", part.line, message);
        }
        let next = parts.get(index + 1);
        let exempt = part.independent || part.gap || next.is_none_or(|next| next.gap);
        if !exempt && part.duration * 100 < target * 85 {
            let message = format!("part of {:?} is under 85 % of {target:?}", part.duration);
            findings.must("4.4.4.9", part.line, message);
        }
    }
}

fn check_segments(media: &Media, target: Duration, findings: &mut Findings) {
    let mut behind: Duration = media.open.iter().flat_map(|o| &o.parts).map(|p| p.duration).sum();
    for segment in media.segments.iter().rev() {
        if !segment.parts.is_empty() {
            let sum: Duration = segment.parts.iter().map(|part| part.duration).sum();
            if sum.abs_diff(segment.duration) > SUM_TOLERANCE {
                let message = format!("parts of {sum:?} make up a segment of {:?}", segment.duration);
                findings.must("4.4.4.9", segment.line, message);
            }
            // The segment in the making lasts up to a target duration more, which is
            // what segments round to.
            if behind > target * (PARTS_REACH + 1) + Duration::from_millis(500) {
                let message = format!("parts are told {behind:?} before the end, over three target durations");
                findings.should("6.2.2", segment.line, message);
            }
        }
        behind += segment.duration;
    }
}
