//! Whether a worker has room for another job: by what its jobs take of the processors, as
//! it was measured, and never more than `max_jobs`. Pure, but for [`Meter`].

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use castlog_log::SessionId;
use nix::sys::resource::{UsageWho, getrusage};
use tokio::time::Instant;

/// What a job is taken to need until one has been measured, in processors: 720p and 480p
/// made of 1080p at 30 frames a second with `veryfast`, on a machine of today.
const EXPECTED: f64 = 0.5;
/// A job has shown what it needs when it has run for this long.
const SETTLED: Duration = Duration::from_secs(10);
/// What was used is averaged over this time.
const SPAN: Duration = Duration::from_secs(5);

/// What jobs need, and what there is.
#[derive(Debug)]
pub(crate) struct Room {
    max_jobs: usize,
    /// Processors that jobs may take together; `None`: as many as they want.
    limit: Option<f64>,
    /// The sessions in work, and when each began.
    jobs: HashMap<SessionId, Instant>,
    /// Processors that one job takes.
    each: f64,
    /// Processors in use.
    used: f64,
}

impl Room {
    /// `percent` of `processors`; 0: `max_jobs` alone is the limit.
    pub(crate) fn new(max_jobs: usize, percent: u32, processors: NonZeroUsize) -> Self {
        // No machine has so many that a float could not count them.
        #[allow(clippy::cast_precision_loss)]
        let processors = processors.get() as f64;
        Self {
            max_jobs,
            limit: (percent > 0).then(|| processors * f64::from(percent) / 100.0),
            jobs: HashMap::new(),
            each: EXPECTED,
            used: 0.0,
        }
    }

    /// Takes a job in, if there is room for it. One always fits a worker that has none:
    /// however much it needs, nobody else would do it better.
    pub(crate) fn enter(&mut self, session: SessionId, now: Instant) -> bool {
        let fits = self.jobs.len() < self.max_jobs
            && (self.jobs.is_empty()
                || self
                    .limit
                    .is_none_or(|limit| self.used.max(self.expected()) + self.each <= limit));
        if fits {
            self.jobs.insert(session, now);
        }
        fits
    }

    /// Whether a session is in work.
    pub(crate) fn holds(&self, session: SessionId) -> bool {
        self.jobs.contains_key(&session)
    }

    /// The job of a session has ended.
    pub(crate) fn leave(&mut self, session: SessionId) {
        self.jobs.remove(&session);
    }

    fn count(&self) -> f64 {
        // At most `max_jobs`.
        #[allow(clippy::cast_precision_loss)]
        let jobs = self.jobs.len() as f64;
        jobs
    }

    /// What all jobs in work are taken to need.
    fn expected(&self) -> f64 {
        self.each * self.count()
    }

    /// Processors that were in use over the last seconds. What a job takes is learned
    /// while each of them has shown it.
    pub(crate) fn measured(&mut self, used: f64, now: Instant) {
        self.used = used;
        let settled = self
            .jobs
            .values()
            .all(|began| now.saturating_duration_since(*began) >= SETTLED);
        if settled && !self.jobs.is_empty() {
            self.each = used / self.count();
        }
    }

    /// What a person wants to know who asks why a job was not taken.
    pub(crate) fn describe(&self) -> String {
        let limit = self
            .limit
            .map_or_else(|| "any".to_owned(), |limit| format!("{limit:.1}"));
        format!(
            "{} jobs of {} take {:.1} of {limit} processors, {:.1} each",
            self.jobs.len(),
            self.max_jobs,
            self.used,
            self.each
        )
    }
}

/// Measures what this process takes of the processors.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// CPU time used, at moments of the last [`SPAN`].
    seen: Mutex<VecDeque<(Instant, Duration)>>,
}

impl Meter {
    /// Processors in use since the oldest look within the span; `None` at the first.
    pub(crate) fn look(&self, now: Instant) -> Option<f64> {
        let used = cpu_time()?;
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        while seen.len() > 1
            && seen
                .front()
                .is_some_and(|(at, _)| now.saturating_duration_since(*at) > SPAN)
        {
            seen.pop_front();
        }
        let oldest = seen.front().copied();
        seen.push_back((now, used));
        let (at, before) = oldest?;
        let passed = now.saturating_duration_since(at).as_secs_f64();
        (passed > 0.0).then(|| used.saturating_sub(before).as_secs_f64() / passed)
    }
}

/// CPU time of all threads of this process so far, those of the encoders among them.
fn cpu_time() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let [user, system] = [usage.user_time(), usage.system_time()].map(|time| {
        let seconds = Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0));
        seconds + Duration::from_micros(u64::try_from(time.tv_usec()).unwrap_or(0))
    });
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(max_jobs: usize, percent: u32, processors: usize) -> Room {
        Room::new(max_jobs, percent, NonZeroUsize::new(processors).unwrap())
    }

    /// How many jobs get in one after the other at one moment.
    fn enter_all(room: &mut Room, now: Instant) -> usize {
        (0..100).take_while(|_| room.enter(SessionId::generate(), now)).count()
    }

    #[test]
    fn as_many_get_in_as_are_expected_to_fit() {
        let now = Instant::now();
        assert_eq!(enter_all(&mut room(16, 85, 8), now), 13, "0.5 each of 6.8");
        assert_eq!(enter_all(&mut room(4, 85, 8), now), 4, "never more than are allowed");
        assert_eq!(enter_all(&mut room(16, 0, 1), now), 16, "the processors do not count");
        assert_eq!(enter_all(&mut room(16, 10, 1), now), 1, "one always fits");
    }

    #[test]
    fn what_jobs_take_is_learned_when_all_have_shown_it() {
        let start = Instant::now();
        let at = |s| start + Duration::from_secs(s);
        let mut room = room(16, 100, 4);
        let [first, second, third, fourth] = [(); 4].map(|()| SessionId::generate());
        assert!(room.enter(first, start));
        room.measured(2.0, at(9));
        assert!(
            room.enter(second, at(9)),
            "it may have been the beginning: 2.0 and 0.5 of 4"
        );
        // Two that take 1.5 each: there is no room for a third.
        room.measured(3.0, at(18));
        assert!(room.enter(third, at(18)), "3.0 and 0.5");
        room.leave(third);
        room.measured(3.0, at(19));
        assert!(!room.enter(third, at(19)), "3.0 and 1.5");
        room.leave(first);
        room.measured(1.5, at(25));
        assert!(room.enter(third, at(25)), "1.5 and 1.5");
        assert!(room.holds(third) && !room.holds(first));
        // What was let in a moment ago counts before it shows.
        assert!(!room.enter(fourth, at(25)));
        assert!(room.describe().starts_with("2 jobs of 16 take 1.5 of 4.0 processors"));
    }

    #[test]
    fn a_worker_that_has_become_idle_expects_what_it_has_learned() {
        let start = Instant::now();
        let later = start + SETTLED;
        let mut room = room(16, 100, 4);
        let first = SessionId::generate();
        assert!(room.enter(first, start));
        room.measured(3.0, later);
        room.leave(first);
        room.measured(0.0, later + SPAN);
        assert_eq!(enter_all(&mut room, later + SPAN), 1);
    }

    #[test]
    fn the_meter_sees_a_thread_at_work() {
        let (meter, start) = (Meter::default(), Instant::now());
        assert_eq!(meter.look(start), None);
        let before = cpu_time().unwrap();
        let spin = std::thread::spawn(move || {
            while cpu_time().unwrap() < before + Duration::from_millis(50) {
                std::hint::spin_loop();
            }
        });
        spin.join().unwrap();
        // The clock is the test's: at least 0.05 s of CPU in one second.
        let used = meter.look(start + Duration::from_secs(1)).unwrap();
        assert!((0.05..100.0).contains(&used), "{used}");
    }
}
