//! When media was, by the clock on the wall: the dates of a session's segments (RFC 8216
//! §4.3.2.6), from which players tell how late they are and where they are. Pure.
//!
//! An epoch is dated once, by when its first media is here. That may be later than it came:
//! the epoch before is still at work, or the machine is busy. Once that is made good the
//! next epoch would begin before this one has ended, and a date would name two places.

use chrono::{DateTime, TimeDelta, Utc};

use crate::media::Micros;

/// A time on the time line of the media, and when that was by the clock on the wall.
pub type Wall = (Micros, DateTime<Utc>);

/// When the picture or sound at this time was.
#[must_use]
pub fn date(wall: Wall, time: Micros) -> DateTime<Utc> {
    wall.1 + TimeDelta::microseconds(time - wall.0)
}

/// The dates of a session, over its epochs.
#[derive(Debug)]
pub(crate) struct Dates {
    wall: Option<Wall>,
    /// The latest end of what has a date.
    end: Option<DateTime<Utc>>,
}

impl Dates {
    /// Of a session of which everything up to `end` has been dated by another worker.
    pub(crate) fn behind(end: Option<DateTime<Utc>>) -> Self {
        Self { wall: None, end }
    }

    /// A time line begins at the time `first`; the newest that is here of it is now.
    pub(crate) fn begin(&mut self, first: Micros, newest: Micros, now: DateTime<Utc>) -> Wall {
        let came = now - TimeDelta::microseconds(newest - first);
        let wall = (first, self.end.map_or(came, |end| came.max(end)));
        self.wall = Some(wall);
        wall
    }

    /// The time line goes on.
    pub(crate) fn go_on(&self) -> Option<Wall> {
        self.wall
    }

    /// Media up to this time of the time line has been dated.
    pub(crate) fn reach(&mut self, time: Micros) {
        let reached = self.wall.map(|wall| date(wall, time));
        self.end = self.end.max(reached);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_800_000_000_000 + ms).unwrap()
    }

    #[test]
    fn the_newest_of_an_epoch_is_now() {
        let mut dates = Dates::behind(None);
        assert_eq!(dates.go_on(), None);
        let wall = dates.begin(7_000_000, 9_000_000, at(10_000));
        assert_eq!(
            [7_000_000, 9_000_000].map(|time| date(wall, time)),
            [at(8000), at(10_000)]
        );
        assert_eq!(dates.go_on(), Some(wall));
    }

    #[test]
    fn what_came_late_puts_off_what_comes_in_time() {
        let mut dates = Dates::behind(None);
        let late = dates.begin(0, 2_000_000, at(10_000));
        dates.reach(18_000_000);
        assert_eq!(date(late, 18_000_000), at(26_000));
        let next = dates.begin(0, 2_000_000, at(24_000));
        assert_eq!(date(next, 0), at(26_000));
        // No longer than need be.
        dates.reach(1_000_000);
        let after = dates.begin(5_000_000, 6_000_000, at(40_000));
        assert_eq!(date(after, 6_000_000), at(40_000));
    }

    #[test]
    fn what_another_worker_has_dated_is_the_past() {
        let mut dates = Dates::behind(Some(at(5000)));
        // Nothing of its own has been dated.
        dates.reach(90_000_000);
        let wall = dates.begin(0, 1_000_000, at(3000));
        assert_eq!(date(wall, 0), at(5000));
    }

    proptest! {
        /// However late epochs begin, and however long they are: none begins before the end
        /// of another, nor earlier than it came.
        #[test]
        fn dates_never_go_back(epochs in proptest::collection::vec((0i64..20_000, 0i64..5000, 0i64..30_000), 1..40)) {
            let (mut dates, mut now, mut end) = (Dates::behind(None), 0, None);
            for (passed, here, length) in epochs {
                now += passed;
                let wall = dates.begin(0, here * 1000, at(now));
                prop_assert!(date(wall, 0) >= at(now - here));
                prop_assert!(end.is_none_or(|end| date(wall, 0) >= end));
                dates.reach(length * 1000);
                end = end.max(Some(date(wall, length * 1000)));
            }
        }
    }
}
