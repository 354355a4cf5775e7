//! What an encoder may send once it publishes: a bit rate that lasts, a keyframe now
//! and then, a picture of bounded size. Pure.

use std::collections::VecDeque;

use castlog_flv::{Tag, Video, VideoPacket, avc::DecoderConfig};

use crate::{Code, Config, Refused, media::Role};

/// Samples that the bit rate is averaged over, so that a spike cuts nobody.
const SUSTAINED: usize = 3;
/// How many times the limit one sample alone may be.
const SPIKE: u64 = 4;
/// Longest step of the encoder's clock that counts as time between two frames, in
/// milliseconds: a longer one is a jump of the clock.
const MAX_STEP: u32 = 2000;

/// What is held against the limits of one publish.
#[derive(Debug)]
pub(crate) struct Guard {
    max_bitrate: u64,
    max_keyframe_interval_ms: u32,
    max_size: (u32, u32),
    rates: VecDeque<u64>,
    last_frame: Option<u32>,
    since_keyframe_ms: u32,
}

impl Guard {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            max_bitrate: u64::from(config.max_bitrate_kbps) * 1000,
            max_keyframe_interval_ms: config.max_keyframe_interval_s * 1000,
            max_size: (config.max_width, config.max_height),
            rates: VecDeque::with_capacity(SUSTAINED),
            last_frame: None,
            since_keyframe_ms: 0,
        }
    }

    /// Takes a tag in.
    ///
    /// # Errors
    /// The publish breaks a limit with it.
    pub(crate) fn tag(&mut self, tag: &Tag, role: Role) -> Result<(), Refused> {
        match role {
            Role::VideoHeader => self.size(tag),
            Role::Keyframe => {
                self.last_frame = Some(tag.timestamp);
                self.since_keyframe_ms = 0;
                Ok(())
            }
            Role::Video => self.frame(tag.timestamp),
            _ => Ok(()),
        }
    }

    fn frame(&mut self, timestamp: u32) -> Result<(), Refused> {
        let step = self.last_frame.map_or(0, |last| timestamp.wrapping_sub(last));
        self.last_frame = Some(timestamp);
        if step <= MAX_STEP {
            self.since_keyframe_ms += step;
        }
        if self.since_keyframe_ms <= self.max_keyframe_interval_ms {
            return Ok(());
        }
        Err(Refused::new(
            Code::LimitExceeded,
            format!(
                "no keyframe for {:.1} s is over the limit of {} s; set the encoder's keyframe interval to 2 s",
                f64::from(self.since_keyframe_ms) / 1000.0,
                self.max_keyframe_interval_ms / 1000
            ),
        ))
    }

    /// A header that cannot be read says nothing of the size; the pipeline looks at
    /// it more closely.
    fn size(&self, tag: &Tag) -> Result<(), Refused> {
        let Ok(Video {
            packet: VideoPacket::SequenceHeader(header),
            ..
        }) = Video::parse(&tag.data)
        else {
            return Ok(());
        };
        let Ok(sps) = DecoderConfig::parse(&header).and_then(|config| config.parse_sps()) else {
            return Ok(());
        };
        let (width, height) = self.max_size;
        // A phone held upright sends the same picture turned.
        let fits = |w: u32, h: u32| w <= width && h <= height;
        if fits(sps.width, sps.height) || fits(sps.height, sps.width) {
            return Ok(());
        }
        let reason = format!(
            "picture of {}x{} is over the limit of {width}x{height}",
            sps.width, sps.height
        );
        Err(Refused::new(Code::LimitExceeded, reason))
    }

    /// Takes the bit rate of a sample in, in bits per second.
    ///
    /// # Errors
    /// It has been over the limit for as long as counts.
    pub(crate) fn rate(&mut self, bitrate: u64) -> Result<(), Refused> {
        if self.rates.len() == SUSTAINED {
            self.rates.pop_front();
        }
        self.rates.push_back(bitrate);
        let mean = self.rates.iter().sum::<u64>() / SUSTAINED as u64;
        let over = if bitrate > self.max_bitrate.saturating_mul(SPIKE) {
            bitrate
        } else {
            mean
        };
        if over <= self.max_bitrate {
            return Ok(());
        }
        Err(Refused::new(
            Code::LimitExceeded,
            format!(
                "bit rate of {} kbit/s is over the limit of {}",
                over / 1000,
                self.max_bitrate / 1000
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use castlog_flv::TagKind;

    use super::*;

    fn guard() -> Guard {
        Guard::new(&Config {
            max_bitrate_kbps: 1000,
            max_keyframe_interval_s: 4,
            max_width: 1280,
            max_height: 720,
            ..Config::default()
        })
    }

    fn said(refused: Result<(), Refused>) -> String {
        refused.unwrap_err().to_string()
    }

    #[test]
    fn a_spike_passes_and_a_lasting_rate_does_not() {
        let mut guard = guard();
        let rates = [900_000, 1_900_000, 100_000, 900_000, 1_000_000];
        assert!(rates.into_iter().all(|rate| guard.rate(rate).is_ok()));
        assert_eq!(
            said(guard.rate(1_400_000)),
            "R06: bit rate of 1100 kbit/s is over the limit of 1000"
        );
        // So much more than the limit is no spike.
        assert_eq!(
            said(self::guard().rate(4_000_001)),
            "R06: bit rate of 4000 kbit/s is over the limit of 1000"
        );
    }

    fn frames(guard: &mut Guard, times: impl IntoIterator<Item = u32>, role: Role) -> Result<(), Refused> {
        times.into_iter().try_for_each(|timestamp| {
            let tag = Tag {
                kind: TagKind::Video,
                timestamp,
                data: vec![0x27, 1, 0, 0, 0].into(),
            };
            guard.tag(&tag, role)
        })
    }

    #[test]
    fn a_keyframe_has_to_come() {
        let start = u32::MAX - 1000;
        let every = |from: u32, to: u32| (from..=to).step_by(40).map(|ms| start.wrapping_add(ms));
        let mut guard = guard();
        assert!(frames(&mut guard, every(0, 0), Role::Keyframe).is_ok());
        assert!(frames(&mut guard, every(40, 4000), Role::Video).is_ok());
        assert!(frames(&mut guard, every(4040, 4040), Role::Keyframe).is_ok());
        // The clock jumps, back and far ahead: no time of the picture.
        assert!(frames(&mut guard, [start, start.wrapping_add(3_600_000)], Role::Video).is_ok());
        let late = frames(&mut guard, every(3_600_040, 3_604_040), Role::Video);
        assert_eq!(
            said(late),
            "R06: no keyframe for 4.0 s is over the limit of 4 s; set the encoder's keyframe interval to 2 s"
        );
    }

    #[test]
    fn what_is_no_header_says_nothing_of_the_size() {
        let tag = Tag {
            kind: TagKind::Video,
            timestamp: 0,
            data: vec![0x17, 0, 0, 0, 0, 1].into(),
        };
        assert!(guard().tag(&tag, Role::VideoHeader).is_ok());
    }
}
