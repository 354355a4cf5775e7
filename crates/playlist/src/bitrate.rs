//! Segment bit rates as §4.1 defines them.

use std::time::Duration;

/// What a segment weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Duration of the segment.
    pub duration: Duration,
    /// Its size.
    pub bytes: u64,
}

fn rate(bytes: u64, duration: Duration) -> u64 {
    let micros = duration.as_micros().max(1);
    u64::try_from(u128::from(bytes) * 8 * 1_000_000 / micros).unwrap_or(u64::MAX)
}

/// The peak segment bit rate in bits per second: the largest bit rate of any
/// run of neighbours that lasts between 0.5 and 1.5 times the target duration.
/// 0 when there is no such run.
#[must_use]
pub fn peak(segments: &[Sample], target_duration: u32) -> u64 {
    let target = Duration::from_secs(u64::from(target_duration));
    let (shortest, longest) = (target / 2, target + target / 2);
    let mut peak = 0;
    for first in 0..segments.len() {
        let (mut bytes, mut duration) = (0_u64, Duration::ZERO);
        for segment in &segments[first..] {
            bytes = bytes.saturating_add(segment.bytes);
            duration = duration.saturating_add(segment.duration);
            if duration > longest {
                break;
            }
            if duration >= shortest {
                peak = peak.max(rate(bytes, duration));
            }
        }
    }
    peak
}

/// The average segment bit rate in bits per second; 0 when there is no media.
#[must_use]
pub fn average(segments: &[Sample]) -> u64 {
    let bytes = segments.iter().fold(0_u64, |sum, s| sum.saturating_add(s.bytes));
    let duration: Duration = segments.iter().map(|s| s.duration).sum();
    if duration.is_zero() { 0 } else { rate(bytes, duration) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(ms: u64, bytes: u64) -> Sample {
        Sample {
            duration: Duration::from_millis(ms),
            bytes,
        }
    }

    #[test]
    fn a_short_segment_counts_only_with_its_neighbours() {
        let segments = [sample(2000, 1_000_000), sample(100, 500_000), sample(2000, 1_000_000)];
        assert_eq!(peak(&segments, 2), 1_500_000 * 8 * 1000 / 2100);
        assert_eq!(peak(&segments[..1], 2), 4_000_000);
        assert_eq!(peak(&[sample(100, 500_000)], 2), 0);
    }

    #[test]
    fn an_average_is_over_the_whole_time() {
        assert_eq!(average(&[sample(1000, 1000), sample(3000, 1000)]), 4000);
        assert_eq!(average(&[]), 0);
    }
}
