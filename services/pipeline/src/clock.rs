//! The one segment clock of a session: decides at which pictures segments
//! begin, for all renditions. Two gaits: at the source's keyframes when the
//! source is passed through, at fixed steps when every rendition is encoded
//! here (or when there is only sound). Pure.

use crate::media::{Micros, SECOND};

/// Millisecond timestamps round up to half a millisecond either way.
const ROUNDING: Micros = 1000;

/// Intervals this much apart are equal: a frame or two.
const ALIKE: Micros = SECOND / 20;

/// Intervals after which the longest one is taken for the encoder's setting.
/// Before that, a scene cut may have shortened every one that was seen.
const TELLING: u32 = 8;

/// Decides where segments begin.
#[derive(Debug)]
pub struct SegmentClock {
    aim: Micros,
    longest: Micros,
    start: Option<Micros>,
    last_key: Option<Micros>,
    intervals: Intervals,
}

/// What the source's keyframe intervals tell of the coming ones.
#[derive(Debug, Default)]
struct Intervals {
    count: u32,
    first: Micros,
    last: Micros,
    longest: Micros,
    steady: bool,
}

impl SegmentClock {
    /// A clock for segments of about `aim`, and none above `longest` if the
    /// keyframes allow it.
    pub fn new(aim: Micros, longest: Micros) -> Self {
        Self {
            aim,
            longest,
            start: None,
            last_key: None,
            intervals: Intervals::default(),
        }
    }

    /// Whether a segment begins at this keyframe of the source: at the one
    /// nearest to the aim, judged by the distance of the last two, or at an
    /// earlier one when the next may come too late.
    pub fn keyframe(&mut self, pts: Micros) -> bool {
        if let Some(last) = self.last_key.replace(pts) {
            self.intervals.learn(pts - last, self.aim);
        }
        let interval = self.intervals.last;
        let least = (self.aim - interval / 2).max(self.aim / 2);
        let begins = self.start.is_none_or(|start| {
            let elapsed = pts - start;
            elapsed >= least || elapsed + self.intervals.expected(self.aim) > self.longest
        });
        if begins {
            self.start = Some(pts);
        }
        begins
    }

    /// Whether a segment begins at this frame, any frame being able to begin
    /// one. Frames come in presentation order. The steps stay on the grid of
    /// the first start, so that segments do not creep.
    pub fn frame(&mut self, pts: Micros) -> bool {
        let mut begins = false;
        while self.step(pts).is_some() {
            begins = true;
        }
        begins
    }

    /// The next place on the grid up to this time where a segment begins.
    pub fn step(&mut self, pts: Micros) -> Option<Micros> {
        let next = match self.start {
            None => pts,
            Some(start) if pts + ROUNDING >= start + self.aim => start + self.aim,
            Some(_) => return None,
        };
        self.start = Some(next);
        self.start
    }
}

impl Intervals {
    fn learn(&mut self, interval: Micros, aim: Micros) {
        self.steady = match self.count {
            // A setting is a round number; a scene cut is hardly ever one.
            0 => divides(interval, aim),
            1 => (interval - self.first).abs() <= ALIKE,
            _ => self.steady && (interval - self.first).abs() <= ALIKE,
        };
        if self.count == 0 {
            self.first = interval;
        }
        self.count += 1;
        self.last = interval;
        self.longest = self.longest.max(interval);
    }

    /// How long the next interval may be.
    fn expected(&self, aim: Micros) -> Micros {
        if self.steady || self.count >= TELLING {
            self.longest
        } else {
            self.longest.max(aim)
        }
    }
}

/// Whether a few of these intervals make up the aim, up to rounding.
fn divides(interval: Micros, aim: Micros) -> bool {
    let count = (aim + interval / 2) / interval.max(1);
    (1..=4).contains(&count) && (count * interval - aim).abs() <= count * 2 * ROUNDING
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONGEST: Micros = 2_150_000;

    fn cuts(keyframes: impl IntoIterator<Item = Micros>, longest: Micros) -> Vec<Micros> {
        let mut clock = SegmentClock::new(2_000_000, longest);
        keyframes.into_iter().filter(|&pts| clock.keyframe(pts)).collect()
    }

    fn every(interval: Micros, count: i64, longest: Micros) -> Vec<Micros> {
        cuts((0..count).map(|n| n * interval), longest)
    }

    #[test]
    fn takes_the_keyframe_nearest_to_the_aim() {
        assert_eq!(every(500_000, 9, LONGEST), [0, 2_000_000, 4_000_000]);
        assert_eq!(every(1_000_000, 5, LONGEST), [0, 2_000_000, 4_000_000]);
        assert_eq!(every(1_600_000, 3, LONGEST), [0, 1_600_000, 3_200_000]);
        assert_eq!(every(2_000_000, 3, LONGEST), [0, 2_000_000, 4_000_000]);
        assert_eq!(every(3_900_000, 3, 4_300_000), [0, 3_900_000, 7_800_000]);
    }

    #[test]
    fn an_interval_that_says_little_is_not_trusted_at_first() {
        // 0.96 s might be a scene cut before the end of two seconds.
        assert_eq!(every(960_000, 6, LONGEST), [0, 960_000, 2_880_000, 4_800_000]);
    }

    #[test]
    fn cuts_early_rather_than_too_late() {
        // Two of these would be too long.
        assert_eq!(every(1_300_000, 3, LONGEST), [0, 1_300_000, 2_600_000]);
        // Scene cuts in a stream with a keyframe at least every two seconds.
        let keyframes = [0, 2_000_000, 2_900_000, 4_900_000, 5_000_000, 7_000_000];
        assert_eq!(
            cuts(keyframes, LONGEST),
            [0, 2_000_000, 2_900_000, 4_900_000, 7_000_000]
        );
    }

    #[test]
    fn fixed_steps_stay_on_the_grid() {
        let mut clock = SegmentClock::new(2_000_000, LONGEST);
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

    /// When the pictures of three hours come, with times in whole milliseconds as FLV has
    /// them: 29.97 a second, each the 1001st part of 30 s.
    fn three_hours() -> impl Iterator<Item = (i64, Micros)> {
        (0..3 * 3600 * 30_000 / 1001).map(|n| (n, (n * 1_001_000 / 30 + 500) / 1000 * 1000))
    }

    #[test]
    fn fixed_steps_do_not_creep_in_three_hours() {
        let mut clock = SegmentClock::new(2_000_000, LONGEST);
        let cuts: Vec<_> = three_hours().filter(|&(_, pts)| clock.frame(pts)).collect();
        assert_eq!(cuts.len(), 3 * 3600 / 2);
        for (n, (_, cut)) in cuts.iter().enumerate() {
            let grid = n as Micros * 2_000_000;
            assert!((grid - ROUNDING..grid + 33_367 + ROUNDING).contains(cut), "{n}: {cut}");
        }
    }

    #[test]
    fn keyframes_do_not_creep_in_three_hours() {
        // Of 15, 30 and 60 pictures: the segment has 60 in any case, up to the end.
        for group in [15, 30, 60] {
            let keyframes = three_hours().filter(|(n, _)| n % group == 0);
            let mut clock = SegmentClock::new(2_000_000, LONGEST);
            let cuts: Vec<i64> = keyframes
                .filter(|&(_, pts)| clock.keyframe(pts))
                .map(|(n, _)| n)
                .collect();
            assert_eq!(cuts.len(), 3 * 3600 * 30_000 / 1001 / 60 + 1, "{group}");
            assert!(cuts.windows(2).all(|pair| pair[1] - pair[0] == 60), "{group}");
        }
    }

    #[test]
    fn a_hole_has_its_steps() {
        let mut clock = SegmentClock::new(2_000_000, LONGEST);
        assert_eq!(clock.step(100_000), Some(100_000));
        let mut steps = std::iter::from_fn(|| clock.step(6_200_000));
        assert_eq!(steps.by_ref().collect::<Vec<_>>(), [2_100_000, 4_100_000, 6_100_000]);
    }

    proptest! {
        /// Keyframes at least every two seconds, wherever scenes change: no
        /// segment is too long once the encoder's setting has shown itself.
        #[test]
        fn no_segment_is_too_long(gaps in proptest::collection::vec(100_000i64..2_000_000, 1..60)) {
            let keyframes = std::iter::once(2_000_000).chain(gaps).scan(0, |time, gap| {
                let at = *time;
                *time += gap;
                Some(at)
            });
            let keyframes: Vec<_> = keyframes.collect();
            let cuts = cuts(keyframes.iter().copied(), LONGEST);
            for pair in cuts.windows(2) {
                prop_assert!(pair[1] - pair[0] <= LONGEST);
            }
        }
    }
}
