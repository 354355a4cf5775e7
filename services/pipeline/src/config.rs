//! Configuration of the pipeline.

use serde::{Deserialize, Serialize};

use crate::{
    plan::{LADDER, MAX_RUNGS},
    spool,
};

/// Speed presets of x264, fastest first.
const PRESETS: [&str; 9] = [
    "ultrafast",
    "superfast",
    "veryfast",
    "faster",
    "fast",
    "medium",
    "slow",
    "slower",
    "veryslow",
];

/// Configuration of the pipeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Most sessions transcoded at a time by this process. 1 to 64. Default 16.
    pub max_jobs: usize,
    /// Percent of the machine's processors that sessions may take together: another one is
    /// taken while it is expected to fit, by what those in work are measured to take; the
    /// first always is. 10 to 100, or 0: `max_jobs` alone counts. Default 85.
    pub cpu_percent: u32,
    /// Duration in milliseconds that segments aim at. 1000 to 10000. Default 2000.
    pub segment_target_ms: u32,
    /// Duration in milliseconds that no part exceeds. 100 to 1000, and less than
    /// half of `segment_target_ms`. Default 200.
    pub part_target_ms: u32,
    /// Speed preset of the H.264 encoder, `ultrafast` to `veryslow`. Default `veryfast`.
    pub preset: String,
    /// Heights in pixels of the default ladder, highest first; only those below
    /// the source are made. At most 6, each 16 to 4320. Default 1080, 720, 480, 360, 240.
    pub ladder: Vec<u32>,
    /// How many rungs of the default ladder are made for a source. A ladder in a
    /// broadcast's options is not cut. 0 to 6. Default 2.
    pub ladder_rungs: usize,
    /// Whether a picture of each live session is kept, renewed every 5 s, and a storyboard
    /// with one each 10 s. Default true.
    pub thumbnails: bool,
    /// Hours that the media of a session stays in the store after its end, unless it is
    /// recorded. 1 to 720. Default 24.
    pub keep_h: u32,
    /// Milliseconds between the signs of life of a held job: a quarter of the
    /// consumer's ack wait. 100 to 60000. Default 500.
    pub progress_ms: u64,
    /// Where media waits while the media store does not take it.
    pub spool: spool::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_jobs: 16,
            cpu_percent: 85,
            segment_target_ms: 2000,
            part_target_ms: 200,
            preset: "veryfast".to_owned(),
            ladder: LADDER.to_vec(),
            ladder_rungs: 2,
            thumbnails: true,
            keep_h: 24,
            progress_ms: 500,
            spool: spool::Config::default(),
        }
    }
}

impl Config {
    /// All that is wrong with the values; empty when they can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, problem: String| {
            if !ok {
                problems.push(problem);
            }
        };
        let Self {
            max_jobs,
            cpu_percent,
            segment_target_ms: segment,
            part_target_ms: part,
            preset,
            ladder,
            ladder_rungs,
            keep_h,
            progress_ms,
            spool,
            ..
        } = self;
        check(
            (1..=64).contains(max_jobs),
            format!("pipeline.max_jobs is {max_jobs}, allowed are 1 to 64"),
        );
        check(
            *cpu_percent == 0 || (10..=100).contains(cpu_percent),
            format!("pipeline.cpu_percent is {cpu_percent}, allowed are 0 and 10 to 100"),
        );
        check(
            (1000..=10_000).contains(segment),
            format!("pipeline.segment_target_ms is {segment}, allowed are 1000 to 10000"),
        );
        check(
            (100..=1000).contains(part) && part * 2 < *segment,
            format!(
                "pipeline.part_target_ms is {part}, allowed are 100 to 1000 and less than half of \
                 pipeline.segment_target_ms ({segment})"
            ),
        );
        check(
            PRESETS.contains(&preset.as_str()),
            format!("pipeline.preset is {preset:?}, known are {}", PRESETS.join(", ")),
        );
        check(
            ladder.len() <= MAX_RUNGS && ladder.iter().all(|height| (16..=4320).contains(height)),
            format!("pipeline.ladder is {ladder:?}, allowed are at most 6 heights of 16 to 4320"),
        );
        check(
            *ladder_rungs <= MAX_RUNGS,
            format!("pipeline.ladder_rungs is {ladder_rungs}, allowed are 0 to 6"),
        );
        check(
            (1..=720).contains(keep_h),
            format!("pipeline.keep_h is {keep_h}, allowed are 1 to 720"),
        );
        check(
            (100..=60_000).contains(progress_ms),
            format!("pipeline.progress_ms is {progress_ms}, allowed are 100 to 60000"),
        );
        let (least, most) = (spool::Config::RANGE.start(), spool::Config::RANGE.end());
        check(
            spool::Config::RANGE.contains(&spool.max_bytes),
            format!(
                "pipeline.spool.max_bytes is {}, allowed are {least} to {most}",
                spool.max_bytes
            ),
        );
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        assert!(Config::default().validate().is_empty());
    }

    #[test]
    fn every_problem_is_named() {
        let config = Config {
            max_jobs: 0,
            cpu_percent: 101,
            segment_target_ms: 1,
            part_target_ms: 5000,
            preset: "warp".to_owned(),
            ladder: vec![1],
            ladder_rungs: 99,
            keep_h: 0,
            progress_ms: 0,
            thumbnails: false,
            spool: spool::Config {
                max_bytes: 1,
                ..spool::Config::default()
            },
        };
        assert_eq!(config.validate().len(), 10);
    }
}
