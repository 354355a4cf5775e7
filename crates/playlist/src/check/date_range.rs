//! Rules for date ranges (§4.4.5.1), in one playlist and from one version to the next.

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};

use super::{Findings, Media, attributes::Attributes};

/// One EXT-X-DATERANGE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DateRange {
    /// Its line.
    pub line: usize,
    /// ID.
    pub id: String,
    /// CLASS.
    pub class: Option<String>,
    /// START-DATE.
    pub start: Option<DateTime<Utc>>,
    /// END-DATE, or what DURATION says of the end.
    pub end: Option<DateTime<Utc>>,
    /// END-ON-NEXT.
    pub end_on_next: bool,
    /// All attributes as written.
    pub attributes: BTreeMap<String, String>,
}

const SECTION: &str = "4.4.5.1";

impl DateRange {
    pub(super) fn read(value: Option<&str>, line: usize, findings: &mut Findings) -> Self {
        let attributes = Attributes::read("EXT-X-DATERANGE", value, SECTION, line, findings);
        attributes.require("ID", findings);
        attributes.require("START-DATE", findings);
        let date = |name: &str, findings: &mut Findings| {
            let text = attributes.quoted(name, findings)?;
            let date = DateTime::parse_from_rfc3339(text).ok();
            if date.is_none() {
                findings.must(SECTION, line, format!("{name} is not an ISO 8601 date with a zone"));
            }
            date.map(|date| date.to_utc())
        };
        let (start, end) = (date("START-DATE", findings), date("END-DATE", findings));
        let duration = attributes.seconds("DURATION", findings);
        attributes.seconds("PLANNED-DURATION", findings);
        let class = attributes.quoted("CLASS", findings).map(str::to_owned);
        let end_on_next = attributes.yes("END-ON-NEXT", findings);
        let mut must = |broken: bool, message: &str| {
            if broken {
                findings.must(SECTION, line, message);
            }
        };
        must(
            end_on_next && (duration.is_some() || attributes.has("END-DATE")),
            "END-ON-NEXT stands beside DURATION or END-DATE",
        );
        must(end_on_next && class.is_none(), "END-ON-NEXT stands without CLASS");
        must(start > end && end.is_some(), "END-DATE is before START-DATE");
        let by_duration = start.zip(duration).map(|(start, duration)| start + duration);
        if let (Some(end), Some(by_duration)) = (end, by_duration) {
            let apart = (end - by_duration).abs().to_std().unwrap_or_default();
            must(apart > Duration::from_millis(1), "END-DATE and DURATION differ");
        }
        for name in attributes.names() {
            let known = [
                "ID",
                "CLASS",
                "START-DATE",
                "CUE",
                "END-DATE",
                "DURATION",
                "PLANNED-DURATION",
                "END-ON-NEXT",
                "SCTE35-CMD",
                "SCTE35-OUT",
                "SCTE35-IN",
            ];
            if !known.contains(&name) && !name.starts_with("X-") {
                findings.should(SECTION, line, format!("{name} is no attribute of EXT-X-DATERANGE"));
            }
        }
        Self {
            line,
            id: attributes.quoted("ID", findings).unwrap_or_default().to_owned(),
            class,
            start,
            end: end.or(by_duration),
            end_on_next,
            attributes: attributes.written(),
        }
    }

    /// Says what two tags of one id say differently.
    fn compare(&self, other: &Self, section: &'static str, findings: &mut Findings) {
        for (name, value) in &self.attributes {
            if other.attributes.get(name).is_some_and(|other| other != value) {
                let message = format!("{name} of date range {} changes", self.id);
                findings.must(section, other.line, message);
            }
        }
    }
}

/// What holds for a playlist as a whole.
pub(super) fn check(media: &Media, findings: &mut Findings) {
    let Some(first) = media.date_ranges.first() else { return };
    let open = media.open.as_ref().and_then(|open| open.program_date_time);
    let dated = media.segments.iter().any(|s| s.program_date_time.is_some()) || open.is_some();
    if !dated && media.skipped.is_none() {
        let message = "there is an EXT-X-DATERANGE and no EXT-X-PROGRAM-DATE-TIME";
        findings.must(SECTION, first.line, message);
    }
    for (index, range) in media.date_ranges.iter().enumerate() {
        for earlier in &media.date_ranges[..index] {
            if earlier.id == range.id {
                earlier.compare(range, SECTION, findings);
            }
        }
    }
    let head = media.segments.first().and_then(|s| s.program_date_time);
    for range in media.date_ranges.iter().filter(|_| media.skipped.is_none()) {
        if range.end.zip(head).is_some_and(|(end, head)| end < head) {
            let message = format!("date range {} ends before the first segment", range.id);
            findings.should("6.2.1", range.line, message);
        }
    }
}

/// What may become of date ranges: they come, they get an end, and they go when what
/// they began with has gone.
pub(super) fn compare(before: &Media, after: &Media, findings: &mut Findings) {
    let head = after.segments.first().and_then(|s| s.program_date_time);
    for old in &before.date_ranges {
        let Some(new) = after.date_ranges.iter().find(|new| new.id == old.id) else {
            let gone = old.start.zip(head).is_none_or(|(start, head)| start < head);
            if !gone && !after.ended {
                let message = format!("date range {} is removed before its segments", old.id);
                findings.must("6.2.1", 0, message);
            }
            continue;
        };
        old.compare(new, "6.2.1", findings);
        for name in old.attributes.keys().filter(|name| !new.attributes.contains_key(*name)) {
            let message = format!("date range {} loses its {name}", old.id);
            findings.must("6.2.1", new.line, message);
        }
    }
}
