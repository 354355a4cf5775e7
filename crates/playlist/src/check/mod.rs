//! A strict validator of HLS playlists, written from the specification and
//! independent of the renderer: it reads text and lists what is wrong with it.
//!
//! [`media`] and [`multivariant`] check one file, [`reload`] two successive
//! versions of a media playlist, [`Watch`] a whole run of reloads with their
//! times, [`aligned`] the renditions of one presentation, and [`bandwidth`]
//! what a variant promises against what its segments weigh.
//!
//! Beyond the letter of the text it objects to tags that the specification does
//! not define: a client ignores those, which hides a misspelt tag.

mod aligned;
mod attributes;
mod date_range;
#[cfg(test)]
mod date_range_tests;
mod lines;
mod low_latency;
#[cfg(test)]
mod low_latency_tests;
mod media;
mod multivariant;
mod reload;
#[cfg(test)]
mod tests;

use std::{fmt, time::Duration};

pub use aligned::aligned;
pub use date_range::DateRange;
pub use low_latency::{MediaPart, OpenSegment, Report, ServerControl};
pub use media::{Media, MediaSegment};
pub use multivariant::{Multivariant, Rendition, Variant};
pub use reload::{Watch, reload};

use crate::bitrate::Sample;

/// How binding a rule is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The specification recommends it, or it is the checker's own strictness.
    Should,
    /// The specification requires it.
    Must,
}

/// A rule that a playlist breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Section of the specification, e.g. `4.4.3.1`.
    pub section: &'static str,
    /// How binding the rule is.
    pub level: Level,
    /// Line of the (newer) playlist, from 1; 0 = the playlist as a whole.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "section {}, {:?}, ", self.section, self.level)?;
        if self.line > 0 {
            write!(f, "line {}, ", self.line)?;
        }
        f.write_str(&self.message)
    }
}

/// Violations as they are found.
#[derive(Debug, Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn must(&mut self, section: &'static str, line: usize, message: impl Into<String>) {
        self.0.push(Violation {
            section,
            level: Level::Must,
            line,
            message: message.into(),
        });
    }

    fn should(&mut self, section: &'static str, line: usize, message: impl Into<String>) {
        self.0.push(Violation {
            section,
            level: Level::Should,
            line,
            message: message.into(),
        });
    }
}

/// Checks one media playlist.
#[must_use]
pub fn media(text: &str) -> Vec<Violation> {
    read_media(text).1
}

/// Reads a media playlist as far as it can be read, and checks it.
#[must_use]
pub fn read_media(text: &str) -> (Media, Vec<Violation>) {
    let mut findings = Findings::default();
    let media = media::read(text, &mut findings);
    (media, findings.0)
}

/// Checks one multivariant playlist.
#[must_use]
pub fn multivariant(text: &str) -> Vec<Violation> {
    read_multivariant(text).1
}

/// Reads a multivariant playlist as far as it can be read, and checks it.
#[must_use]
pub fn read_multivariant(text: &str) -> (Multivariant, Vec<Violation>) {
    let mut findings = Findings::default();
    let multivariant = multivariant::read(text, &mut findings);
    (multivariant, findings.0)
}

/// How far the peak segment bit rate of a live stream may exceed `BANDWIDTH`, in percent.
const BANDWIDTH_EXCESS: u64 = 10;

/// Checks that `BANDWIDTH` covers what the media weighs. `renditions` holds the
/// segments of everything that plays together: the variant's own playlist and
/// that of its audio.
#[must_use]
pub fn bandwidth(declared: u64, renditions: &[&[Sample]], target_duration: u32) -> Vec<Violation> {
    let mut findings = Findings::default();
    let peak: u64 = renditions
        .iter()
        .map(|segments| crate::bitrate::peak(segments, target_duration))
        .sum();
    if peak > declared + declared * BANDWIDTH_EXCESS / 100 {
        let message = format!("peak segment bit rate {peak} exceeds BANDWIDTH={declared} by more than 10 %");
        findings.should("4.4.6.2", 0, message);
    }
    findings.0
}

/// Seconds as a duration, to the microsecond: a double holds those of any real
/// duration, with noise behind them.
fn to_micros(seconds: f64) -> Option<Duration> {
    let nanos = Duration::try_from_secs_f64(seconds).ok()?.as_nanos();
    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
    Some(Duration::from_micros(nanos.saturating_add(500) / 1000))
}

/// A duration in seconds as a specification reader rounds it: half up.
const fn rounded_seconds(duration: Duration) -> u64 {
    duration.as_secs() + if duration.subsec_nanos() >= 500_000_000 { 1 } else { 0 }
}
