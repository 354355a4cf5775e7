//! The target duration of a session: announced once, before its first segment,
//! and then a bound for every segment of it (RFC 8216bis §4.4.3.1: no EXTINF,
//! rounded to the nearest second, is above it; §6.2.1: it never changes). Pure.

use crate::media::{Micros, SECOND};

/// How far a segment may go beyond the whole seconds of the target and still
/// round to them, less a tenth of a second for sound, which is cut to its own
/// frames.
const LIMIT: Micros = SECOND * 4 / 10;

/// From here on a segment ends at the next picture that follows all others:
/// what is left to [`LIMIT`] is for reordered ones, of which there are
/// hardly ever more than a fifth of a second.
const OVERDUE: Micros = SECOND * 15 / 100;

/// How far a keyframe may come later than its predecessors tell: a frame or
/// two, and the rounding of timestamps.
const JITTER: Micros = SECOND / 20;

/// Whole seconds that no segment of a session exceeds when rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    seconds: u32,
}

impl Target {
    /// The smallest target for segments that aim at `aim` and, when the source
    /// is passed through, can only begin at keyframes `interval` apart.
    pub fn choose(aim: Micros, interval: Option<Micros>) -> Self {
        let whole = |time: Micros| u32::try_from(time.max(1).cast_unsigned().div_ceil(SECOND.cast_unsigned()));
        let aim = whole(aim).unwrap_or(u32::MAX);
        let keyframes = interval.map_or(0, |interval| whole(interval + JITTER - OVERDUE).unwrap_or(u32::MAX));
        Self {
            seconds: aim.max(keyframes),
        }
    }

    /// The target that a session has announced.
    pub fn from_millis(millis: u32) -> Self {
        // To the nearest second, as playlists show it.
        Self {
            seconds: (millis.saturating_add(500) / 1000).max(1),
        }
    }

    /// The target as it is announced.
    pub fn millis(self) -> u32 {
        self.seconds.saturating_mul(1000)
    }

    /// The target itself.
    pub fn duration(self) -> Micros {
        Micros::from(self.seconds) * SECOND
    }

    /// Longest duration of a segment.
    pub fn limit(self) -> Micros {
        self.duration() + LIMIT
    }

    /// Duration from which on a segment is to end.
    pub fn overdue(self) -> Micros {
        self.duration() + OVERDUE
    }

    /// Longest keyframe interval of a source that is passed through.
    pub fn longest_interval(self) -> Micros {
        self.overdue() - JITTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_keyframe_intervals_keep_the_target_tight() {
        let choose = |interval| Target::choose(2 * SECOND, Some(interval)).millis();
        for interval in [SECOND / 2, SECOND, 2 * SECOND, 2_002_000, 2_090_000] {
            assert_eq!(choose(interval), 2000, "{interval}");
        }
        assert_eq!(choose(2_110_000), 3000);
        assert_eq!(choose(4_000_000), 4000);
        assert_eq!(choose(4_400_000), 5000);
    }

    #[test]
    fn an_encoded_source_needs_no_more_than_its_aim() {
        assert_eq!(Target::choose(2 * SECOND, None).millis(), 2000);
        assert_eq!(Target::choose(2_400_000, None).millis(), 3000);
    }

    #[test]
    fn every_interval_chosen_for_fits() {
        for interval in (100_000..5_000_000).step_by(7919) {
            let target = Target::choose(2 * SECOND, Some(interval));
            assert!(interval <= target.longest_interval(), "{interval}");
            assert!((target.limit() + SECOND / 2) / SECOND <= Micros::from(target.millis() / 1000));
        }
    }

    #[test]
    fn what_was_announced_is_read_back() {
        let target = Target::choose(2 * SECOND, Some(3 * SECOND));
        assert_eq!(Target::from_millis(target.millis()), target);
        assert_eq!(Target::from_millis(0).millis(), 1000);
    }
}
