//! Rules for one media playlist (§4.4.3, §4.4.4, §6.2.1, §8).

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    Findings,
    attributes::Attributes,
    date_range::{self, DateRange},
    lines::{self, Content, Flavour, decimal_float, decimal_integer},
    low_latency::{self, MediaPart, OpenSegment, Report, ServerControl},
    rounded_seconds, to_micros,
};

/// What a media playlist says.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Media {
    /// EXT-X-VERSION; 1 when it is absent.
    pub version: u64,
    /// EXT-X-TARGETDURATION; 0 when it is absent.
    pub target_duration: u64,
    /// EXT-X-MEDIA-SEQUENCE; `None` when it is absent, which counts as 0.
    pub media_sequence: Option<u64>,
    /// EXT-X-DISCONTINUITY-SEQUENCE; `None` when it is absent, which counts as 0.
    pub discontinuity_sequence: Option<u64>,
    /// EXT-X-PLAYLIST-TYPE.
    pub playlist_type: Option<String>,
    /// EXT-X-INDEPENDENT-SEGMENTS.
    pub independent_segments: bool,
    /// EXT-X-ENDLIST.
    pub ended: bool,
    /// The segments, oldest first.
    pub segments: Vec<MediaSegment>,
    /// EXT-X-DATERANGE.
    pub date_ranges: Vec<DateRange>,
    /// EXT-X-SERVER-CONTROL.
    pub server_control: Option<ServerControl>,
    /// PART-TARGET of EXT-X-PART-INF.
    pub part_target: Option<Duration>,
    /// SKIPPED-SEGMENTS of EXT-X-SKIP, which makes this a delta update.
    pub skipped: Option<u64>,
    /// The segment in the making, when there are parts of it.
    pub open: Option<OpenSegment>,
    /// Where EXT-X-PRELOAD-HINT says that the next part will be.
    pub hint: Option<String>,
    /// EXT-X-RENDITION-REPORT of the other renditions.
    pub reports: Vec<Report>,
}

/// One segment with all that applies to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSegment {
    /// Line of its URI.
    pub line: usize,
    /// Media sequence number.
    pub sequence: u64,
    /// Discontinuity sequence number.
    pub discontinuity_sequence: u64,
    /// EXTINF.
    pub duration: Duration,
    /// URI as written.
    pub uri: String,
    /// URI of the media initialization section in force.
    pub map: Option<String>,
    /// EXT-X-PROGRAM-DATE-TIME, when the segment has the tag.
    pub program_date_time: Option<DateTime<Utc>>,
    /// EXT-X-GAP.
    pub gap: bool,
    /// The parts that are told of it.
    pub parts: Vec<MediaPart>,
}

impl Media {
    /// How long the playlist lasts.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.segments.iter().map(|s| s.duration).sum()
    }

    /// The segment with a media sequence number.
    #[must_use]
    pub fn segment(&self, sequence: u64) -> Option<&MediaSegment> {
        let first = self.segments.first()?.sequence;
        self.segments.get(usize::try_from(sequence.checked_sub(first)?).ok()?)
    }

    /// One more than the last media sequence number.
    pub(super) fn end(&self) -> u64 {
        self.segments.last().map_or(self.next_sequence(), |s| s.sequence + 1)
    }

    /// Media sequence number of the segment behind those that have been read.
    fn next_sequence(&self) -> u64 {
        let before = self.media_sequence.unwrap_or(0) + self.skipped.unwrap_or(0);
        before + self.segments.len() as u64
    }
}

/// Tags that stand before the URI of a segment and apply to it alone.
#[derive(Default)]
struct Pending {
    line: usize,
    duration: Option<Duration>,
    program_date_time: Option<DateTime<Utc>>,
    gap: bool,
    discontinuity: bool,
    parts: Vec<MediaPart>,
}

struct Reader<'f> {
    media: Media,
    pending: Pending,
    map: Option<String>,
    discontinuities: u64,
    needed_version: u64,
    findings: &'f mut Findings,
}

pub(super) fn read(text: &str, findings: &mut Findings) -> Media {
    let lines = lines::split(text, Flavour::Media, findings);
    let mut reader = Reader {
        media: Media {
            version: 1,
            ..Media::default()
        },
        pending: Pending::default(),
        map: None,
        discontinuities: 0,
        needed_version: 1,
        findings,
    };
    for line in &lines {
        match line.content {
            Content::Tag(name, value) => reader.tag(name, value, line.number),
            Content::Uri(uri) => reader.uri(uri, line.number),
        }
    }
    reader.finish()
}

impl Reader<'_> {
    fn tag(&mut self, name: &str, value: Option<&str>, line: usize) {
        match name {
            "EXT-X-VERSION" => self.media.version = self.number(name, value, "4.4.1.2", line).unwrap_or(1),
            "EXT-X-TARGETDURATION" => {
                self.media.target_duration = self.number(name, value, "4.4.3.1", line).unwrap_or(0);
            }
            "EXT-X-MEDIA-SEQUENCE" => {
                self.media.media_sequence = self.number(name, value, "4.4.3.2", line);
                if !self.media.segments.is_empty() {
                    self.findings
                        .must("4.4.3.2", line, "EXT-X-MEDIA-SEQUENCE comes after a segment");
                }
            }
            "EXT-X-DISCONTINUITY-SEQUENCE" => {
                self.media.discontinuity_sequence = self.number(name, value, "4.4.3.3", line);
                if !self.media.segments.is_empty() || self.discontinuities > 0 {
                    let message = "EXT-X-DISCONTINUITY-SEQUENCE comes after a segment or an EXT-X-DISCONTINUITY";
                    self.findings.must("4.4.3.3", line, message);
                }
            }
            "EXT-X-PLAYLIST-TYPE" => match value {
                Some("EVENT" | "VOD") => self.media.playlist_type = value.map(str::to_owned),
                _ => self
                    .findings
                    .must("4.4.3.5", line, "EXT-X-PLAYLIST-TYPE is neither EVENT nor VOD"),
            },
            "EXT-X-ENDLIST" => self.media.ended = true,
            "EXT-X-INDEPENDENT-SEGMENTS" => self.media.independent_segments = true,
            "EXTINF" => self.extinf(value, line),
            "EXT-X-DISCONTINUITY" => {
                self.precedes_parts(name, line);
                self.touch(line);
                self.pending.discontinuity = true;
                self.discontinuities += 1;
            }
            "EXT-X-GAP" => {
                self.touch(line);
                if std::mem::replace(&mut self.pending.gap, true) {
                    self.findings
                        .must("4.4.4.7", line, "EXT-X-GAP applies to the same segment twice");
                }
            }
            "EXT-X-PROGRAM-DATE-TIME" => self.program_date_time(value, line),
            "EXT-X-MAP" => self.map(value, line),
            "EXT-X-BYTERANGE" => {
                self.touch(line);
                self.needed_version = self.needed_version.max(4);
                let range = value.unwrap_or_default();
                let (length, offset) = range.split_once('@').unwrap_or((range, "0"));
                if decimal_integer(length).is_none() || decimal_integer(offset).is_none() {
                    self.findings.must("4.4.4.2", line, "EXT-X-BYTERANGE is not <n>[@<o>]");
                }
            }
            "EXT-X-SERVER-CONTROL" => {
                self.media.server_control = Some(ServerControl::read(value, line, self.findings));
            }
            "EXT-X-PART-INF" => self.media.part_target = low_latency::part_target(value, line, self.findings),
            "EXT-X-PART" => {
                self.touch(line);
                self.pending.parts.push(MediaPart::read(value, line, self.findings));
            }
            "EXT-X-SKIP" => {
                self.needed_version = self.needed_version.max(9);
                low_latency::skip(&mut self.media, value, line, self.findings);
            }
            "EXT-X-DATERANGE" => self.media.date_ranges.push(DateRange::read(value, line, self.findings)),
            "EXT-X-PRELOAD-HINT" => low_latency::hint(&mut self.media, value, line, self.findings),
            "EXT-X-RENDITION-REPORT" => self.media.reports.push(Report::read(value, line, self.findings)),
            "EXT-X-KEY" => {
                self.precedes_parts(name, line);
                let attributes = Attributes::read(name, value, "4.4.4.4", line, self.findings);
                attributes.require("METHOD", self.findings);
            }
            _ => {}
        }
    }

    fn number(&mut self, name: &str, value: Option<&str>, section: &'static str, line: usize) -> Option<u64> {
        let number = value.and_then(decimal_integer);
        if number.is_none() {
            self.findings
                .must(section, line, format!("{name} is not a decimal integer"));
        }
        number
    }

    fn touch(&mut self, line: usize) {
        if self.pending.line == 0 {
            self.pending.line = line;
        }
    }

    fn extinf(&mut self, value: Option<&str>, line: usize) {
        self.touch(line);
        if self.pending.duration.is_some() {
            self.findings
                .must("4.4.4.1", line, "EXTINF applies to the same segment twice");
        }
        let Some((duration, _title)) = value.and_then(|v| v.split_once(',')) else {
            self.findings
                .must("4.4.4.1", line, "EXTINF is not <duration>,[<title>]");
            return;
        };
        if duration.contains('.') {
            self.needed_version = self.needed_version.max(3);
        }
        match decimal_float(duration).and_then(to_micros) {
            Some(duration) => self.pending.duration = Some(duration),
            None => self
                .findings
                .must("4.4.4.1", line, "duration of EXTINF is not a decimal number"),
        }
    }

    /// A tag of a segment must stand before its first part.
    fn precedes_parts(&mut self, name: &str, line: usize) {
        if !self.pending.parts.is_empty() {
            let message = format!("{name} comes after a part of the segment that it applies to");
            self.findings.must("4.4.4.9", line, message);
        }
    }

    fn program_date_time(&mut self, value: Option<&str>, line: usize) {
        self.precedes_parts("EXT-X-PROGRAM-DATE-TIME", line);
        self.touch(line);
        if self.pending.program_date_time.is_some() {
            self.findings.must(
                "4.4.4.6",
                line,
                "EXT-X-PROGRAM-DATE-TIME applies to the same segment twice",
            );
        }
        match value.and_then(|v| DateTime::parse_from_rfc3339(v).ok()) {
            Some(time) => {
                self.pending.program_date_time = Some(time.to_utc());
                if !value.is_some_and(|v| v.contains('.')) {
                    self.findings
                        .should("4.4.4.6", line, "EXT-X-PROGRAM-DATE-TIME has no milliseconds");
                }
            }
            None => self.findings.must(
                "4.4.4.6",
                line,
                "EXT-X-PROGRAM-DATE-TIME is not an ISO 8601 date with a zone",
            ),
        }
    }

    fn map(&mut self, value: Option<&str>, line: usize) {
        self.precedes_parts("EXT-X-MAP", line);
        // Outside of an I-frame playlist (§8).
        self.needed_version = self.needed_version.max(6);
        let attributes = Attributes::read("EXT-X-MAP", value, "4.4.4.5", line, self.findings);
        attributes.require("URI", self.findings);
        self.map = attributes.quoted("URI", self.findings).map(str::to_owned);
    }

    fn uri(&mut self, uri: &str, line: usize) {
        let pending = std::mem::take(&mut self.pending);
        let Some(duration) = pending.duration else {
            self.findings.must("4.4.4.1", line, "segment has no EXTINF");
            return;
        };
        let sequence = self.media.next_sequence();
        if pending.discontinuity && self.media.discontinuity_sequence.is_none() && sequence > 0 {
            self.findings.must(
                "6.2.2",
                line,
                "a sliding playlist with a discontinuity has no EXT-X-DISCONTINUITY-SEQUENCE",
            );
        }
        let segment = MediaSegment {
            line,
            sequence,
            discontinuity_sequence: self.media.discontinuity_sequence.unwrap_or(0) + self.discontinuities,
            duration,
            uri: uri.to_owned(),
            map: self.map.clone(),
            program_date_time: pending.program_date_time,
            gap: pending.gap,
            parts: pending.parts,
        };
        self.media.segments.push(segment);
    }

    fn finish(self) -> Media {
        let Self {
            mut media,
            mut pending,
            map,
            discontinuities,
            needed_version,
            findings,
        } = self;
        if !pending.parts.is_empty() {
            media.open = Some(OpenSegment {
                line: pending.line,
                sequence: media.next_sequence(),
                discontinuity_sequence: media.discontinuity_sequence.unwrap_or(0) + discontinuities,
                map,
                program_date_time: pending.program_date_time,
                parts: std::mem::take(&mut pending.parts),
            });
            if !pending.gap && pending.duration.is_none() {
                pending.line = 0;
            }
        }
        if pending.line > 0 {
            findings.must("4.4.4", pending.line, "segment tags have no URI behind them");
        }
        if media.target_duration == 0 {
            findings.must("4.4.3.1", 0, "EXT-X-TARGETDURATION is missing or 0");
        }
        for segment in &media.segments {
            if rounded_seconds(segment.duration) > media.target_duration {
                let message = format!(
                    "EXTINF of {:?} is over the target duration of {} s",
                    segment.duration, media.target_duration
                );
                findings.must("4.4.3.1", segment.line, message);
            }
        }
        if media.version < needed_version {
            let message = format!(
                "EXT-X-VERSION {} is below {needed_version}, which the tags need",
                media.version
            );
            findings.must("8", 0, message);
        } else if media.version > needed_version && !media.segments.is_empty() {
            let message = format!(
                "EXT-X-VERSION {} is above {needed_version}, which is all that the tags need",
                media.version
            );
            findings.should("6.2.1", 0, message);
        }
        if media.playlist_type.as_deref() == Some("VOD") && !media.ended {
            findings.must("4.4.3.5", 0, "a VOD playlist has no EXT-X-ENDLIST");
        }
        if media.playlist_type.is_some() && media.media_sequence.unwrap_or(0) > 0 && !media.ended {
            findings.must(
                "6.2.2",
                0,
                "a playlist whose segments have been removed has an EXT-X-PLAYLIST-TYPE",
            );
        }
        check_dates(&media, findings);
        low_latency::check(&media, findings);
        date_range::check(&media, findings);
        media
    }
}

/// Dates must map to segments without doubt: a later segment may overlap the
/// one before it by less than a second.
fn check_dates(media: &Media, findings: &mut Findings) {
    let dated = media.segments.iter().any(|s| s.program_date_time.is_some());
    let mut before: Option<(DateTime<Utc>, u64)> = None;
    for segment in &media.segments {
        let starts_line = before.is_some_and(|(_, number)| number != segment.discontinuity_sequence);
        if dated && starts_line && segment.program_date_time.is_none() {
            findings.should(
                "6.2.1",
                segment.line,
                "a segment after a discontinuity has no EXT-X-PROGRAM-DATE-TIME",
            );
        }
        let start = match (segment.program_date_time, before) {
            (Some(start), Some((end, _))) => {
                if end - start >= chrono::TimeDelta::seconds(1).min(delta(segment.duration)) {
                    findings.must(
                        "6.2.1",
                        segment.line,
                        "EXT-X-PROGRAM-DATE-TIME overlaps the segment before",
                    );
                }
                Some(start)
            }
            (Some(start), None) => Some(start),
            (None, before) => before.map(|(end, _)| end),
        };
        before = start.map(|start| (start + delta(segment.duration), segment.discontinuity_sequence));
    }
}

fn delta(duration: Duration) -> chrono::TimeDelta {
    chrono::TimeDelta::from_std(duration).unwrap_or(chrono::TimeDelta::MAX)
}
