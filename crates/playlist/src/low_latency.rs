//! What a media playlist tells of media that is in the making (§4.4.3.7,
//! §4.4.3.8, §4.4.4.9, §4.4.5.3, §4.4.5.4): parts, the part to come, and how far
//! the other renditions are.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use crate::write::{self, Attributes};

/// Target durations that a player stays behind the end when it plays whole
/// segments, and that parts are told for (§4.4.3.8, §6.2.2).
pub const HOLD_BACK: u32 = 3;
/// Target durations that a delta update tells in any case (§4.4.3.8).
pub const SKIP_UNTIL: u32 = 6;

/// What makes a playlist one of low latency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LowLatency {
    /// No part is longer (§4.4.3.7).
    pub part_target: Duration,
    /// How far a player stays behind the end: at least twice, and better three
    /// times the longest part target of all renditions (§4.4.3.8).
    pub part_hold_back: Duration,
    /// The segment in the making, as far as there are parts of it.
    pub open: Option<Open>,
    /// Where the next part will be; requests for it are held until it exists.
    pub hint: Option<String>,
    /// How far the other renditions are.
    pub reports: Vec<Report>,
}

/// A segment that is not complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its media initialization section.
    pub map: Option<Arc<str>>,
    /// Its discontinuity sequence number.
    pub discontinuity_sequence: u64,
    /// When its first sample was captured.
    pub program_date_time: Option<DateTime<Utc>>,
    /// Its parts so far.
    pub parts: Vec<Part>,
}

/// A partial segment (§4.4.4.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Where it is.
    pub uri: String,
    /// How long it lasts.
    pub duration: Duration,
    /// Whether decoding can start in it.
    pub independent: bool,
    /// Whether the media is absent.
    pub gap: bool,
}

/// How far another rendition is (§4.4.5.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its playlist, relative to this one.
    pub uri: String,
    /// Media sequence number of its newest segment, complete or not.
    pub last_msn: u64,
    /// Index of the newest part of that segment, when there are parts.
    pub last_part: Option<u64>,
}

impl LowLatency {
    /// The tags of the head.
    pub(crate) fn render_head(&self, target_duration: u32, out: &mut String) {
        let target = Duration::from_secs(target_duration.into());
        Attributes::of(out, "#EXT-X-SERVER-CONTROL")
            .plain("CAN-BLOCK-RELOAD", "YES")
            .plain("CAN-SKIP-UNTIL", write::seconds(target * SKIP_UNTIL))
            .plain("HOLD-BACK", write::seconds(target * HOLD_BACK))
            .plain("PART-HOLD-BACK", write::seconds(self.part_hold_back))
            .end();
        Attributes::of(out, "#EXT-X-PART-INF")
            .plain("PART-TARGET", write::seconds(self.part_target))
            .end();
    }

    /// The tags behind everything else.
    pub(crate) fn render_tail(&self, out: &mut String) {
        if let Some(uri) = &self.hint {
            Attributes::of(out, "#EXT-X-PRELOAD-HINT")
                .plain("TYPE", "PART")
                .quoted("URI", uri)
                .end();
        }
        for report in &self.reports {
            let mut attributes = Attributes::of(out, "#EXT-X-RENDITION-REPORT")
                .quoted("URI", &report.uri)
                .plain("LAST-MSN", report.last_msn);
            if let Some(part) = report.last_part {
                attributes = attributes.plain("LAST-PART", part);
            }
            attributes.end();
        }
    }
}

impl Part {
    pub(crate) fn render(&self, out: &mut String) {
        let mut attributes = Attributes::of(out, "#EXT-X-PART")
            .plain("DURATION", write::seconds(self.duration))
            .quoted("URI", &self.uri);
        if self.independent {
            attributes = attributes.plain("INDEPENDENT", "YES");
        }
        if self.gap {
            attributes = attributes.plain("GAP", "YES");
        }
        attributes.end();
    }
}
