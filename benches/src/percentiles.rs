//! What many times come to.

use std::time::Duration;

use anyhow::Context as _;

/// Of the times that something took.
pub(crate) struct Percentiles {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    worst: Duration,
}

impl Percentiles {
    /// Of at least one time, by nearest rank.
    pub(crate) fn of(mut times: Vec<Duration>) -> anyhow::Result<Self> {
        times.sort_unstable();
        let worst = *times.last().context("nothing was measured")?;
        let rank = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
        Ok(Self {
            p50: rank(50),
            p99: rank(99),
            worst,
        })
    }
}

impl std::fmt::Display for Percentiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        write!(
            f,
            "p50 {:>6.1} ms, p99 {:>6.1} ms, worst {:>6.1} ms",
            ms(self.p50),
            ms(self.p99),
            ms(self.worst)
        )
    }
}
