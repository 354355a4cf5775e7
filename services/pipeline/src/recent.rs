//! What a source that is passed through has sent of late: enough for the next
//! epoch to go on in the middle of a group of pictures, when the running
//! segment may not wait for the next keyframe. Pure.

use std::collections::VecDeque;

use crate::{
    media::{AccessUnit, Micros, SECOND, Track},
    plan::Source,
    target::Target,
    transcode::Continuation,
};

/// The longest usual picture: one that begins this short before the longest
/// duration of a segment is its last.
const FRAME: Micros = SECOND / 20;

/// What a source that is passed through has sent, as far as an epoch that goes
/// on in the middle of it needs.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// Pictures from the last keyframe on; segments bound their number.
    pictures: Vec<AccessUnit>,
    /// Sound that may be ahead of them.
    sound: VecDeque<AccessUnit>,
    /// Highest presentation time of a picture.
    newest: Option<Micros>,
    /// Decoding time at which the segment began.
    segment: Option<Micros>,
}

impl Recent {
    /// A segment begins at this decoding time.
    pub(crate) fn begin_segment(&mut self, dts: Micros) {
        self.segment = Some(dts);
    }

    /// A picture was passed through.
    pub(crate) fn see(&mut self, picture: &AccessUnit) {
        if picture.sync {
            self.pictures.clear();
        }
        self.pictures.push(picture.clone());
        self.newest = self.newest.max(Some(picture.pts));
        while self.sound.front().is_some_and(|sound| sound.pts < picture.dts - FRAME) {
            self.sound.pop_front();
        }
    }

    /// Sound came in.
    pub(crate) fn hear(&mut self, sound: &AccessUnit) {
        self.sound.push_back(sound.clone());
    }

    /// Whether a picture comes too late for the running segment and cannot
    /// begin one.
    pub(crate) fn is_overdue(&self, unit: &AccessUnit, target: Target) -> bool {
        let Some(elapsed) = self.segment.map(|start| unit.dts - start) else {
            return false;
        };
        if unit.sync {
            return elapsed > target.limit();
        }
        // Cut where no picture that follows is shown before the cut.
        let behind_all = self.newest.is_none_or(|newest| unit.pts > newest);
        elapsed > target.limit() - FRAME || (elapsed > target.overdue() && behind_all)
    }

    /// What the next epoch begins with: this picture, behind those that it needs.
    pub(crate) fn leave(self, source: Source, unit: AccessUnit) -> Continuation {
        // A keyframe needs none of those before it.
        let pictures = if unit.sync { Vec::new() } else { self.pictures };
        let pictures = pictures.into_iter().chain([unit]).map(|unit| (Track::Video, unit));
        let sound = self.sound.into_iter().map(|unit| (Track::Audio, unit));
        Continuation {
            source,
            units: pictures.chain(sound).collect(),
            after: self.newest.unwrap_or(Micros::MIN),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn unit(dts: i64, pts: i64, sync: bool) -> AccessUnit {
        AccessUnit {
            dts: dts * 1000,
            pts: pts * 1000,
            sync,
            data: Bytes::new(),
        }
    }

    fn recent() -> Recent {
        let mut recent = Recent::default();
        recent.begin_segment(0);
        recent.see(&unit(0, 0, true));
        recent.see(&unit(2120, 2240, false));
        recent
    }

    #[test]
    fn a_segment_ends_where_nothing_that_follows_is_shown_earlier() {
        let target = Target::from_millis(2000);
        let recent = recent();
        let overdue = |dts, pts, sync| recent.is_overdue(&unit(dts, pts, sync), target);
        assert!(!overdue(2140, 2280, false), "in time");
        assert!(!overdue(2160, 2200, false), "shown before another");
        assert!(overdue(2160, 2280, false));
        assert!(overdue(2360, 2200, false), "it cannot wait any longer");
        assert!(!overdue(2360, 2360, true), "a keyframe begins a segment");
        assert!(overdue(2440, 2440, true), "but not so late");
    }

    #[test]
    fn the_next_epoch_begins_at_the_last_keyframe() {
        let mut recent = recent();
        for ms in [1900, 2140] {
            recent.hear(&unit(ms, ms, true));
        }
        recent.see(&unit(2160, 2280, false));
        let left = recent.leave(Source::default(), unit(2200, 2320, false));
        let times: Vec<_> = left
            .units
            .iter()
            .map(|(track, unit)| (*track, unit.dts / 1000))
            .collect();
        let (video, audio) = (Track::Video, Track::Audio);
        assert_eq!(
            times,
            [(video, 0), (video, 2120), (video, 2160), (video, 2200), (audio, 2140)]
        );
        assert_eq!(left.after, 2_280_000);
    }
}
