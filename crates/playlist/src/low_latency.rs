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

/// Percent of the part target that a part lasts at least, unless decoding can start in it or
/// it is the last one of its segment (§4.4.4.9).
pub const SHORTEST_PART: u32 = 85;

/// Samples of an AAC frame (ISO 14496-3 §4.5.1.1).
pub const AAC_FRAME: u32 = 1024;

/// How long a picture lasts at so many thousandths of a picture per second; zero when that is
/// unknown, which is 0. Whole microseconds.
#[must_use]
pub fn video_frame(frame_rate_milli: u32) -> Duration {
    lasting(1000, frame_rate_milli)
}

/// How long an AAC frame lasts at so many samples per second; zero when that is unknown,
/// which is 0. Whole microseconds.
#[must_use]
pub fn aac_frame(sample_rate: u32) -> Duration {
    lasting(AAC_FRAME, sample_rate)
}

/// `count` of what there are `rate` of in a second.
fn lasting(count: u32, rate: u32) -> Duration {
    let micros = (u64::from(count) * 1_000_000).checked_div(rate.into());
    Duration::from_micros(micros.unwrap_or(0))
}

/// The part target of a rendition (§4.4.3.7): what no part of it exceeds, and most parts come
/// near to. `announced` is what its maker cuts parts by, `frame` how long one of its frames
/// lasts ([`video_frame`], [`aac_frame`]), zero = unknown. Whole milliseconds, one more than asked
/// for, since encoders round the times of their frames to them. Makers of parts and of
/// playlists go by the same.
#[must_use]
pub fn part_target(announced: Duration, frame: Duration) -> Duration {
    const ROUNDING_US: u64 = 1000;
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 128);
    let (longest, frame) = (micros(announced) + ROUNDING_US, micros(frame));
    let micros = match longest.checked_div(frame) {
        None => longest,
        // A frame that is longer than a part should be is one.
        Some(0) => frame + ROUNDING_US,
        Some(frames)
            if (frames * frame).saturating_sub(2 * ROUNDING_US) * 100 >= longest * u64::from(SHORTEST_PART) =>
        {
            longest
        }
        Some(frames) => (frames * frame + ROUNDING_US).min(longest),
    };
    // Measured frame rates differ a little from time to time.
    Duration::from_micros(micros.next_multiple_of(ROUNDING_US))
}

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

#[cfg(test)]
mod tests {
    use super::{Duration, aac_frame, part_target, video_frame};

    #[test]
    fn frames_last_as_long_as_their_rate_says() {
        assert_eq!(video_frame(25_000), Duration::from_millis(40));
        assert_eq!(video_frame(29_970), Duration::from_micros(33_366));
        assert_eq!(aac_frame(48_000), Duration::from_micros(21_333));
        assert_eq!((video_frame(0), aac_frame(0)), (Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn a_target_is_near_to_what_parts_last() {
        for (announced, frame_us, target) in [
            (250, 0, 251),
            (250, 33_333, 251),
            (250, 40_000, 251),
            (250, 21_333, 251),
            // 15 and 10 frames a second.
            (250, 66_667, 202),
            (250, 100_000, 201),
            (250, 1_000_000, 1001),
            (333, 33_367, 334),
        ] {
            assert_eq!(
                part_target(Duration::from_millis(announced), Duration::from_micros(frame_us)),
                Duration::from_millis(target),
                "{announced} {frame_us}"
            );
        }
    }
}
