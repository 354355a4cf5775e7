//! What comes in of one publish, summed up every few seconds. Pure.

use castlog_flv::{Tag, TagKind};
use castlog_log::{SessionId, pb::health::Sampled};

use crate::media::Role;

/// Sums up the tags of a publish.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: u64,
    frames: u64,
    last_keyframe: Option<u32>,
    keyframe_interval: u32,
    last_video: Option<u32>,
    last_audio: Option<u32>,
}

impl Meter {
    /// Counts a tag.
    pub(crate) fn count(&mut self, tag: &Tag, role: Role) {
        self.bytes += tag.data.len() as u64;
        match (tag.kind, role) {
            (TagKind::Video, Role::Keyframe | Role::Video) => {
                self.frames += 1;
                self.last_video = Some(tag.timestamp);
                if role == Role::Keyframe {
                    if let Some(last) = self.last_keyframe {
                        self.keyframe_interval = self.keyframe_interval.max(tag.timestamp.wrapping_sub(last));
                    }
                    self.last_keyframe = Some(tag.timestamp);
                }
            }
            (TagKind::Audio, Role::Audio) => self.last_audio = Some(tag.timestamp),
            _ => {}
        }
    }

    /// What was counted in the last `window_ms`, and starts anew. `dropped` are readers
    /// of the stream.
    pub(crate) fn sample(&mut self, session: SessionId, window_ms: u32, dropped: u64) -> Sampled {
        let per_second = |count: u64| count * 1000 / u64::from(window_ms.max(1));
        let drift = match (self.last_audio, self.last_video) {
            // The clock wraps, so the difference is read as signed.
            (Some(audio), Some(video)) => audio.wrapping_sub(video) as i32,
            _ => 0,
        };
        let sampled = Sampled {
            session_id: session.to_string(),
            window_ms,
            bitrate: per_second(self.bytes * 8),
            frame_rate_milli: u32::try_from(per_second(self.frames * 1000)).unwrap_or(u32::MAX),
            keyframe_interval_ms: self.keyframe_interval,
            dropped,
            av_drift_ms: drift,
        };
        (self.bytes, self.frames, self.keyframe_interval) = (0, 0, 0);
        sampled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample() {
        let mut meter = Meter::default();
        for frame in 0..50_u32 {
            let role = if frame % 20 == 0 { Role::Keyframe } else { Role::Video };
            let timestamp = (u32::MAX - 500).wrapping_add(frame * 40);
            meter.count(
                &Tag {
                    kind: TagKind::Video,
                    timestamp,
                    data: vec![0; 1000].into(),
                },
                role,
            );
        }
        let audio = (u32::MAX - 500).wrapping_add(49 * 40 - 15);
        meter.count(
            &Tag {
                kind: TagKind::Audio,
                timestamp: audio,
                data: vec![0; 10].into(),
            },
            Role::Audio,
        );
        let session = SessionId::generate();
        let sampled = meter.sample(session, 2000, 3);
        assert_eq!((sampled.bitrate, sampled.frame_rate_milli), (200_040, 25_000));
        assert_eq!(
            (sampled.keyframe_interval_ms, sampled.av_drift_ms, sampled.dropped),
            (800, -15, 3)
        );
        assert_eq!(meter.sample(session, 2000, 0).bitrate, 0);
    }
}
