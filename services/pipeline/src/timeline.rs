//! One time line for audio and video: 32-bit millisecond timestamps of the
//! ingest come in, ever growing microseconds go out. Wrap-around is undone
//! once for both tracks; a jump or reset is answered with
//! [`Placed::Discontinuity`], after which the caller starts a new epoch. Pure.

use crate::media::{Micros, SECOND, Track};

/// A forward step of one track beyond this is a jump: encoders send a frame
/// at least every few seconds, even of a still picture.
const MAX_FORWARD: Micros = 5 * SECOND;

/// A backward step of one track beyond this is a reset; smaller ones are
/// mended (muxers round and reorder a little).
const MAX_BACKWARD: Micros = SECOND / 4;

/// Further apart than this, audio and video are not of one time line, and the
/// packet is dropped: no segmenter can hold one track back for so long.
const MAX_SKEW: Micros = 10 * SECOND;

/// Where a packet belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// At this decoding time.
    At(Micros),
    /// The time line broke before this packet: [`Timeline::restart`], then
    /// place it again.
    Discontinuity,
    /// Nowhere: too far from the other track, or before the beginning.
    Dropped,
}

/// The state of the normaliser.
#[derive(Debug, Clone, Default)]
pub struct Timeline {
    /// Newest raw timestamp and its unwrapped value, over both tracks.
    newest: Option<(u32, i64)>,
    /// Unwrapped time of the epoch's first packet, in milliseconds.
    base: Option<i64>,
    /// Where the epoch begins on the outgoing time line.
    offset: Micros,
    video: Option<Micros>,
    audio: Option<Micros>,
    /// Highest time given out.
    end: Micros,
    dropped: u64,
}

impl Timeline {
    /// Begins a new epoch behind everything placed so far.
    pub fn restart(&mut self) {
        // A tenth of a second keeps the epochs apart whatever the last
        // packet's duration was.
        self.offset = if self.base.is_some() || self.offset > 0 {
            self.end + SECOND / 10
        } else {
            0
        };
        (self.newest, self.base) = (None, None);
        (self.video, self.audio) = (None, None);
    }

    /// Packets dropped so far.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Places a packet of `track`.
    pub fn place(&mut self, track: Track, timestamp: u32) -> Placed {
        let unwrapped = match self.newest {
            // The signed difference is right across the wrap.
            Some((raw, unwrapped)) => unwrapped + i64::from(timestamp.wrapping_sub(raw).cast_signed()),
            None => i64::from(timestamp),
        };
        let base = *self.base.get_or_insert(unwrapped);
        let mut time = (unwrapped - base) * 1000 + self.offset;
        let (own, other) = match track {
            Track::Video => (self.video, self.audio),
            Track::Audio => (self.audio, self.video),
        };
        match own {
            Some(last) if time - last > MAX_FORWARD || last - time > MAX_BACKWARD => {
                return Placed::Discontinuity;
            }
            // Decoding times of video grow strictly.
            Some(last) if track == Track::Video && time <= last => time = last + 1000,
            Some(_) => {}
            None if other.is_some_and(|other| (time - other).abs() > MAX_SKEW) => {
                self.dropped += 1;
                return Placed::Dropped;
            }
            None => {}
        }
        if time < 0 {
            self.dropped += 1;
            return Placed::Dropped;
        }
        self.newest = Some((timestamp, unwrapped));
        match track {
            Track::Video => self.video = Some(time),
            Track::Audio => self.audio = Some(time),
        }
        self.end = self.end.max(time);
        Placed::At(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn starts_at_zero_and_keeps_the_tracks_apart() {
        let mut line = Timeline::default();
        assert_eq!(line.place(Track::Video, 5000), Placed::At(0));
        assert_eq!(line.place(Track::Audio, 5010), Placed::At(10_000));
        assert_eq!(line.place(Track::Video, 5040), Placed::At(40_000));
    }

    #[test]
    fn undoes_the_wrap_for_both_tracks() {
        let mut line = Timeline::default();
        assert_eq!(line.place(Track::Video, u32::MAX - 19), Placed::At(0));
        assert_eq!(line.place(Track::Audio, 3), Placed::At(23_000));
        assert_eq!(line.place(Track::Video, u32::MAX), Placed::At(19_000));
        assert_eq!(line.place(Track::Video, 40), Placed::At(60_000));
    }

    #[test]
    fn tells_jumps_and_resets() {
        for next in [20_000, 0] {
            let mut line = Timeline::default();
            assert_eq!(line.place(Track::Video, 1000), Placed::At(0));
            assert_eq!(line.place(Track::Video, 1040), Placed::At(40_000));
            assert_eq!(line.place(Track::Video, next), Placed::Discontinuity);
            line.restart();
            // The new epoch lies behind the old one.
            assert_eq!(line.place(Track::Video, next), Placed::At(140_000));
        }
    }

    #[test]
    fn mends_small_backward_steps_of_video() {
        let mut line = Timeline::default();
        line.place(Track::Video, 1000);
        assert_eq!(line.place(Track::Video, 990), Placed::At(1000));
    }

    #[test]
    fn drops_a_track_far_from_the_other() {
        let mut line = Timeline::default();
        line.place(Track::Video, 60_000);
        assert_eq!(line.place(Track::Audio, 1000), Placed::Dropped);
        assert_eq!(line.place(Track::Audio, 60_010), Placed::At(10_000));
        assert_eq!(line.dropped(), 1);
    }

    proptest! {
        #[test]
        fn video_times_grow_strictly_in_an_epoch(raw in proptest::collection::vec(any::<u32>(), 1..200)) {
            let mut line = Timeline::default();
            let mut last = None;
            for timestamp in raw {
                match line.place(Track::Video, timestamp) {
                    Placed::At(time) => {
                        prop_assert!(last.is_none_or(|last| time > last));
                        last = Some(time);
                    }
                    Placed::Discontinuity => line.restart(),
                    Placed::Dropped => {}
                }
            }
        }
    }
}
