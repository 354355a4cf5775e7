//! The one segment clock of a session: decides at which pictures segments
//! begin, for all renditions. Two gaits: at the source's keyframes when the
//! source is passed through, at fixed steps when every rendition is encoded
//! here (or when there is only sound). Pure.

use crate::media::Micros;

/// Decides where segments begin.
#[derive(Debug)]
pub struct SegmentClock {
    target: Micros,
    start: Option<Micros>,
    last_key: Option<Micros>,
}

impl SegmentClock {
    /// A clock for segments of about `target`.
    pub fn new(target: Micros) -> Self {
        Self {
            target,
            start: None,
            last_key: None,
        }
    }

    /// Whether a segment begins at this keyframe of the source. The choice is
    /// the keyframe nearest to the target, judged by the distance of the last
    /// two, and never less than half the target.
    pub fn keyframe(&mut self, pts: Micros) -> bool {
        let interval = self.last_key.map_or(0, |last| pts - last);
        self.last_key = Some(pts);
        let least = (self.target - interval / 2).max(self.target / 2);
        let begins = self.start.is_none_or(|start| pts - start >= least);
        if begins {
            self.start = Some(pts);
        }
        begins
    }

    /// Whether a segment begins at this frame, any frame being able to begin
    /// one. Frames come in presentation order. The steps stay on the grid of
    /// the first start, so that segments do not creep.
    pub fn frame(&mut self, pts: Micros) -> bool {
        // Millisecond timestamps round up to half a millisecond either way.
        const ROUNDING: Micros = 1000;
        let Some(start) = self.start else {
            self.start = Some(pts);
            return true;
        };
        let steps = (pts - start + ROUNDING) / self.target;
        if steps < 1 {
            return false;
        }
        self.start = Some(start + steps * self.target);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(interval: Micros, count: i64) -> Vec<Micros> {
        let mut clock = SegmentClock::new(2_000_000);
        (0..count)
            .map(|n| n * interval)
            .filter(|&pts| clock.keyframe(pts))
            .collect()
    }

    #[test]
    fn takes_the_keyframe_nearest_to_the_target() {
        assert_eq!(starts(500_000, 9), [0, 2_000_000, 4_000_000]);
        assert_eq!(starts(960_000, 5), [0, 1_920_000, 3_840_000]);
        assert_eq!(starts(1_600_000, 3), [0, 1_600_000, 3_200_000]);
        assert_eq!(starts(2_000_000, 3), [0, 2_000_000, 4_000_000]);
        assert_eq!(starts(3_900_000, 3), [0, 3_900_000, 7_800_000]);
    }

    #[test]
    fn never_cuts_below_half_the_target() {
        let mut clock = SegmentClock::new(2_000_000);
        let cuts: Vec<_> = [0, 900_000, 1_000_000, 5_000_000]
            .into_iter()
            .filter(|&pts| clock.keyframe(pts))
            .collect();
        assert_eq!(cuts, [0, 5_000_000]);
    }

    #[test]
    fn fixed_steps_stay_on_the_grid() {
        let mut clock = SegmentClock::new(2_000_000);
        let cuts: Vec<_> = (0..200)
            .map(|n| n * 1_001_000 / 30)
            .filter(|&pts| clock.frame(pts))
            .collect();
        assert_eq!(cuts.len(), 4);
        for (n, cut) in cuts.iter().enumerate() {
            let grid = n as Micros * 2_000_000;
            assert!((grid - 1000..grid + 33_367).contains(cut), "{cut}");
        }
    }
}
