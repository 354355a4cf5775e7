//! What the `metadata` entry says of an epoch, and when it has to be said
//! again: bit rates are guesses until segments have been measured. Pure.

use castlog_cmaf as cmaf;
use castlog_log::{
    SessionId,
    pb::{Container, Rendition as PbRendition, RenditionKind, metadata},
};

use crate::{
    media::{Micros, SECOND},
    transcode::{Epoch, Rendition},
};

/// Segments after which the measured average counts.
const SETTLED: u64 = 5;

/// Segments shorter than this say little of a bit rate.
const MIN_MEASURED: Micros = SECOND / 2;

/// Rows of segments between two entries, so that a restless encoder does not
/// fill the log.
const MIN_ROWS: u64 = 15;

#[derive(Debug, Clone, Copy, Default)]
struct Rate {
    declared_peak: u64,
    declared_average: u64,
    peak: u64,
    bits: u64,
    duration: Micros,
    segments: u64,
}

/// The report on one epoch.
#[derive(Debug)]
pub struct Report {
    epoch: Epoch,
    rates: Vec<Rate>,
    /// Rows since the last entry.
    rows: u64,
    entries: u64,
}

impl Report {
    /// A report from what is known at the start.
    pub fn new(epoch: &Epoch) -> Self {
        let rates = epoch
            .renditions
            .iter()
            .map(|rendition| {
                let average = rendition.average_bitrate;
                Rate {
                    declared_average: average,
                    // The encoder's buffer lets a segment grow by half; what a
                    // foreign encoder does is anyone's guess.
                    declared_peak: average * 3 / 2,
                    ..Rate::default()
                }
            })
            .collect();
        Self {
            epoch: epoch.clone(),
            rates,
            rows: 0,
            entries: 1,
        }
    }

    /// A segment of a track was stored.
    pub fn measure(&mut self, track: usize, bytes: u64, duration: Micros) {
        let rate = &mut self.rates[track];
        if duration < MIN_MEASURED {
            return;
        }
        let bits = bytes * 8;
        let second = SECOND.cast_unsigned();
        rate.peak = rate.peak.max(bits * second / duration.cast_unsigned());
        rate.bits += bits;
        rate.duration += duration;
        rate.segments += 1;
    }

    /// Whether another entry is due, after a row of segments. What was measured
    /// then counts as declared.
    pub fn take_outdated(&mut self) -> bool {
        self.rows += 1;
        // The first correction comes early: players choose by these figures.
        let least = if self.entries == 1 { SETTLED } else { MIN_ROWS };
        if self.rows < least || !self.rates.iter().any(Rate::is_off) {
            return false;
        }
        for rate in &mut self.rates {
            rate.declare();
        }
        (self.rows, self.entries) = (0, self.entries + 1);
        true
    }

    /// What the entry says.
    pub fn produced(&self, session: SessionId, part_target_ms: u32) -> metadata::Produced {
        let source = &self.epoch.source;
        let video = source.video.as_ref().map(|video| metadata::SourceVideo {
            codec: video.config.codec_string(),
            width: video.sps.width,
            height: video.sps.height,
            frame_rate_milli: video.frame_rate_milli,
            bitrate: video.bitrate,
        });
        let audio = source.audio.as_ref().map(|audio| metadata::SourceAudio {
            codec: audio.config.codec_string(),
            sample_rate: audio.config.sbr_sample_rate.unwrap_or(audio.config.sample_rate),
            channels: audio.config.channels.into(),
            bitrate: audio.bitrate,
        });
        let renditions = self.epoch.renditions.iter().zip(&self.rates);
        metadata::Produced {
            session_id: session.to_string(),
            video,
            audio,
            renditions: renditions.map(|(of, rate)| rendition(of, rate)).collect(),
            segment_target_ms: self.epoch.target.millis(),
            part_target_ms,
            ..metadata::Produced::default()
        }
    }
}

impl Rate {
    fn average(&self) -> u64 {
        match u64::try_from(self.duration) {
            Ok(duration) if duration > 0 => {
                let bits = u128::from(self.bits) * SECOND.cast_unsigned() as u128;
                u64::try_from(bits / u128::from(duration)).unwrap_or(u64::MAX)
            }
            _ => 0,
        }
    }

    fn is_off(&self) -> bool {
        let settled = self.segments >= SETTLED;
        let (average, declared) = (self.average(), self.declared_average);
        self.peak > self.declared_peak || (settled && (average > declared * 5 / 4 || average * 5 / 4 < declared))
    }

    fn declare(&mut self) {
        if self.segments > 0 {
            self.declared_average = self.average();
            // A little room, so that each slightly larger segment is no news.
            self.declared_peak = (self.peak * 11 / 10).max(self.declared_average);
        }
    }
}

fn rendition(of: &Rendition, rate: &Rate) -> PbRendition {
    let mut message = PbRendition {
        name: of.name.clone(),
        container: Container::Cmaf.into(),
        codec: of.codec.clone(),
        frame_rate_milli: of.frame_rate_milli,
        peak_bitrate: rate.declared_peak,
        average_bitrate: rate.declared_average,
        passthrough: of.passthrough,
        ..PbRendition::default()
    };
    match &of.config {
        cmaf::Track::Video(video) => {
            message.kind = RenditionKind::Video.into();
            message.width = video.width.into();
            message.height = video.height.into();
        }
        cmaf::Track::Audio(audio) => {
            message.kind = RenditionKind::Audio.into();
            message.sample_rate = audio.sample_rate;
            message.channels = audio.channels.into();
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plan::Source, target::Target};
    use bytes::Bytes;
    use chrono::Utc;

    fn report() -> Report {
        Report::new(&Epoch {
            discontinuity_sequence: 0,
            source: Source::default(),
            renditions: vec![Rendition {
                name: "audio".to_owned(),
                config: cmaf::Track::Audio(cmaf::Audio {
                    config: Bytes::new(),
                    sample_rate: 48_000,
                    channels: 2,
                }),
                codec: "mp4a.40.2".to_owned(),
                frame_rate_milli: 0,
                average_bitrate: 100_000,
                passthrough: true,
            }],
            wall: (0, Utc::now()),
            target: Target::from_millis(2000),
        })
    }

    fn produced(report: &Report) -> (u64, u64) {
        let produced = report.produced(SessionId::generate(), 250);
        let rendition = &produced.renditions[0];
        (rendition.peak_bitrate, rendition.average_bitrate)
    }

    #[test]
    fn a_right_guess_is_said_once() {
        let mut report = report();
        assert_eq!(produced(&report), (150_000, 100_000));
        for _ in 0..100 {
            report.measure(0, 25_000, 2 * SECOND);
            assert!(!report.take_outdated());
        }
    }

    #[test]
    fn a_wrong_guess_is_corrected_once() {
        let mut report = report();
        let mut corrections = 0;
        for _ in 0..100 {
            report.measure(0, 50_000, 2 * SECOND);
            corrections += u32::from(report.take_outdated());
        }
        assert_eq!(corrections, 1);
        assert_eq!(produced(&report), (220_000, 200_000));
    }
}
