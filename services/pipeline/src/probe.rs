//! The probe: collects the first access units of an epoch until enough is
//! known to make its plan. Nothing is lost: what was collected is what the
//! epoch begins with. Pure.

use std::collections::VecDeque;

use bytes::Bytes;
use castlog_flv::{self as flv, AudioSpecificConfig, avc};

use crate::{
    media::{AccessUnit, Micros, SECOND, Track},
    plan::{Source, SourceAudio, SourceVideo, frame_rate},
};

/// Bytes collected at most: four seconds at 64 Mbit/s, far above what the
/// ingest lets through.
const MAX_BYTES: usize = 32 << 20;

/// Access units collected at most, against floods of tiny ones.
const MAX_UNITS: usize = 8192;

/// How much video is looked at at least: to see whether there is sound, and
/// how many pictures a second has.
const MIN_VIDEO: Micros = SECOND;

/// So much sound without a picture is a stream of sound alone.
const AUDIO_ONLY: Micros = 3 * SECOND;

/// What the source turned out to be, and the units to begin with.
pub type Decision = (Source, VecDeque<(Track, AccessUnit)>);

/// What is known of a source before: another worker has looked at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Width and height of the picture. One of another size is looked at anew.
    pub size: (u32, u32),
    /// Frames per 1000 seconds; 0 = unknown.
    pub frame_rate_milli: u32,
    /// What its keyframes keep to, if they are near enough to be passed through.
    pub keyframe_interval: Option<Micros>,
    /// Bits per second of the picture; 0 = unknown.
    pub bitrate: u64,
    /// Bits per second of the sound, if there is any.
    pub audio_bitrate: Option<u64>,
}

/// What the probe has gathered.
#[derive(Debug)]
pub struct Probe {
    limit: Micros,
    video: Option<Bytes>,
    audio: Option<Bytes>,
    units: VecDeque<(Track, AccessUnit)>,
    bytes: usize,
    first_key: Option<Micros>,
    second_key: Option<Micros>,
    known: Option<Known>,
}

impl Probe {
    /// A probe that waits for the second keyframe up to `limit`.
    pub fn new(limit: Micros, video: Option<Bytes>, audio: Option<Bytes>) -> Self {
        Self {
            limit,
            video,
            audio,
            units: VecDeque::new(),
            bytes: 0,
            first_key: None,
            second_key: None,
            known: None,
        }
    }

    /// The same of a source of which something is known.
    #[must_use]
    pub fn knowing(self, known: Option<Known>) -> Self {
        Self { known, ..self }
    }

    /// The video track's decoder configuration came.
    pub fn video_config(&mut self, avcc: Bytes) {
        self.video = Some(avcc);
    }

    /// The audio track's decoder configuration came.
    pub fn audio_config(&mut self, config: Bytes) {
        self.audio = Some(config);
    }

    /// Whether any access unit was kept.
    pub fn is_empty(&self) -> bool {
        self.units.is_empty()
    }

    /// An access unit came. Units that cannot be decoded are not kept.
    pub fn push(&mut self, track: Track, unit: AccessUnit) {
        match track {
            Track::Video if self.video.is_none() => return,
            Track::Audio if self.audio.is_none() => return,
            Track::Video if unit.sync => {
                if self.first_key.is_none() {
                    self.first_key = Some(unit.pts);
                } else if self.second_key.is_none() {
                    self.second_key = Some(unit.pts);
                }
            }
            Track::Video if self.first_key.is_none() => return,
            _ => {}
        }
        self.bytes += unit.data.len();
        self.units.push_back((track, unit));
        // Only sound that waits for a picture is given up, oldest first.
        while self.first_key.is_none() && self.video.is_some() && self.too_large() {
            if let Some((_, unit)) = self.units.pop_front() {
                self.bytes -= unit.data.len();
            }
        }
    }

    /// Whether a plan can be made.
    pub fn is_decided(&self) -> bool {
        match (&self.video, self.first_key) {
            (Some(_), Some(_)) => {
                let span = self.span(Track::Video);
                self.too_large() || span >= self.limit || (self.second_key.is_some() && span >= MIN_VIDEO)
            }
            (Some(_), None) => false,
            (None, _) => self.too_large() || self.span(Track::Audio) >= AUDIO_ONLY,
        }
    }

    /// Whether what is known before makes up for what is still to come.
    pub fn knows_enough(&self) -> bool {
        let (Some(start), Some(known), Some(avcc)) = (self.first_key, &self.known, &self.video) else {
            return false;
        };
        let sound = |(track, unit): &(Track, AccessUnit)| *track == Track::Audio && unit.pts >= start;
        let config = avc::DecoderConfig::parse(avcc).and_then(|config| config.parse_sps());
        config.is_ok_and(|sps| (sps.width, sps.height) == known.size)
            && (known.audio_bitrate.is_none() || self.units.iter().any(sound))
    }

    /// What came of it; `None` when there is nothing to play.
    pub fn decide(mut self) -> Result<Option<Decision>, flv::Error> {
        let start = match self.first_key {
            Some(start) => start,
            // No picture came to a configuration: sound alone.
            None => {
                self.video = None;
                Micros::MIN
            }
        };
        // Sound from before the first picture would have nothing to go with.
        self.units
            .retain(|(track, unit)| *track == Track::Video || unit.pts >= start);
        let known = (self.second_key.is_none() && self.knows_enough())
            .then(|| self.known.take())
            .flatten();
        let mut source = Source::default();
        if let Some(avcc) = self.video.take() {
            let (units, bytes, span) = self.measure(Track::Video);
            let config = avc::DecoderConfig::parse(&avcc)?;
            let sps = config.parse_sps()?;
            source.video = Some(SourceVideo {
                config,
                sps,
                frame_rate_milli: frame_rate(sps.frame_rate, units.saturating_sub(1), span),
                keyframe_interval: self.second_key.map(|second| second - start),
                bitrate: bits_per_second(bytes, span),
                avcc,
            });
        }
        let (units, bytes, span) = self.measure(Track::Audio);
        if let Some(raw) = self.audio.take().filter(|_| units > 0) {
            source.audio = Some(SourceAudio {
                config: AudioSpecificConfig::parse(&raw)?,
                raw,
                bitrate: bits_per_second(bytes, span),
            });
        }
        if let Some(known) = known {
            if let Some(video) = &mut source.video {
                video.frame_rate_milli = known.frame_rate_milli;
                video.keyframe_interval = known.keyframe_interval;
                video.bitrate = known.bitrate;
            }
            if let (Some(audio), Some(bitrate)) = (&mut source.audio, known.audio_bitrate) {
                audio.bitrate = bitrate;
            }
        }
        if source == Source::default() {
            return Ok(None);
        }
        Ok(Some((source, self.units)))
    }

    fn too_large(&self) -> bool {
        self.bytes > MAX_BYTES || self.units.len() > MAX_UNITS
    }

    fn span(&self, track: Track) -> Micros {
        self.measure(track).2
    }

    /// Units, bytes before the last unit, and time from the first to the last.
    fn measure(&self, track: Track) -> (u64, u64, Micros) {
        let mut units = self.units.iter().filter(|(of, _)| *of == track);
        let Some((_, first)) = units.next() else {
            return (0, 0, 0);
        };
        let (mut count, mut bytes, mut last) = (1, 0, first);
        for (_, unit) in units {
            bytes += last.data.len() as u64;
            (count, last) = (count + 1, unit);
        }
        (count, bytes, last.dts - first.dts)
    }
}

fn bits_per_second(bytes: u64, span: Micros) -> u64 {
    match u64::try_from(span) {
        Ok(span) if span > 0 => bytes * 8 * SECOND.cast_unsigned() / span,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(ms: i64, sync: bool) -> AccessUnit {
        AccessUnit {
            dts: ms * 1000,
            pts: ms * 1000,
            sync,
            data: Bytes::from_static(&[0; 100]),
        }
    }

    fn video_probe() -> Probe {
        let avcc = [
            &[1, 0x64, 0, 0x0d, 0xff, 0xe1, 0, 24][..],
            &[
                0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x41, 0x41, 0xfa, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
                0x03, 0x03, 0x20, 0xf1, 0x42, 0x99, 0x60,
            ],
            &[1, 0, 2, 0x68, 0xce],
        ]
        .concat();
        let mut probe = Probe::new(4 * SECOND, None, None);
        probe.push(Track::Video, unit(0, true));
        assert!(probe.is_empty(), "no configuration yet");
        probe.video_config(avcc.into());
        probe
    }

    #[test]
    fn decides_at_the_second_keyframe() {
        let mut probe = video_probe();
        probe.audio_config(Bytes::from_static(&[0x11, 0x90]));
        probe.push(Track::Audio, unit(0, true));
        probe.push(Track::Video, unit(40, false));
        for n in 2..=52 {
            assert!(!probe.is_decided(), "{n}");
            probe.push(Track::Video, unit(n * 40, n % 50 == 2));
            probe.push(Track::Audio, unit(n * 40 + 5, true));
        }
        assert!(probe.is_decided());
        let (source, units) = probe.decide().unwrap().unwrap();
        let video = source.video.unwrap();
        assert_eq!(video.keyframe_interval, Some(2 * SECOND));
        assert_eq!(video.frame_rate_milli, 25_000);
        assert_eq!(video.bitrate, 20_000);
        assert!(source.audio.is_some());
        // It begins with the keyframe: what came before is gone.
        assert_eq!(units[0], (Track::Video, unit(80, true)));
    }

    #[test]
    fn what_is_known_is_not_waited_for() {
        let known = |size| {
            Some(Known {
                size,
                frame_rate_milli: 29_970,
                keyframe_interval: Some(2 * SECOND),
                bitrate: 600_000,
                audio_bitrate: Some(96_000),
            })
        };
        let probe = |size| {
            let mut probe = video_probe().knowing(known(size));
            probe.audio_config(Bytes::from_static(&[0x11, 0x90]));
            probe.push(Track::Audio, unit(0, true));
            probe.push(Track::Video, unit(40, true));
            assert!(!probe.knows_enough(), "without sound");
            probe.push(Track::Audio, unit(60, true));
            assert!(!probe.is_decided());
            probe
        };
        assert!(!probe((640, 360)).knows_enough(), "the picture is of another size");
        let probe = probe((320, 240));
        assert!(probe.knows_enough());
        let (source, units) = probe.decide().unwrap().unwrap();
        let (video, audio) = (source.video.unwrap(), source.audio.unwrap());
        assert_eq!(video.keyframe_interval, Some(2 * SECOND));
        assert_eq!((video.frame_rate_milli, video.bitrate), (29_970, 600_000));
        assert_eq!((audio.bitrate, units.len()), (96_000, 2));
    }

    #[test]
    fn what_came_counts_for_more_than_what_is_known() {
        let known = Known {
            size: (320, 240),
            frame_rate_milli: 29_970,
            keyframe_interval: None,
            bitrate: 600_000,
            audio_bitrate: None,
        };
        let mut probe = video_probe().knowing(Some(known));
        for n in 0..=25 {
            probe.push(Track::Video, unit(n * 40, n % 25 == 0));
        }
        let (source, _) = probe.decide().unwrap().unwrap();
        let video = source.video.unwrap();
        assert_eq!(
            (video.keyframe_interval, video.frame_rate_milli),
            (Some(SECOND), 25_000)
        );
    }

    #[test]
    fn gives_up_waiting_for_a_second_keyframe() {
        let mut probe = video_probe();
        for n in 0..100 {
            probe.push(Track::Video, unit(n * 40, n == 0));
        }
        assert!(!probe.is_decided());
        probe.push(Track::Video, unit(4000, false));
        assert!(probe.is_decided());
        let (source, _) = probe.decide().unwrap().unwrap();
        assert_eq!(source.video.unwrap().keyframe_interval, None);
    }

    #[test]
    fn takes_sound_alone_for_what_it_is() {
        let mut probe = Probe::new(4 * SECOND, None, Some(Bytes::from_static(&[0x11, 0x90])));
        for n in 0..150 {
            assert!(!probe.is_decided());
            probe.push(Track::Audio, unit(n * 20, true));
        }
        probe.push(Track::Audio, unit(3000, true));
        assert!(probe.is_decided());
        let (source, units) = probe.decide().unwrap().unwrap();
        assert!(source.video.is_none() && source.audio.is_some());
        assert_eq!(units.len(), 151);
    }

    #[test]
    fn nothing_is_no_source() {
        let probe = Probe::new(SECOND, None, Some(Bytes::from_static(&[0x11, 0x90])));
        assert!(probe.decide().unwrap().is_none());
    }
}
