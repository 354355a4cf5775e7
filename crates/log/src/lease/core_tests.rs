//! Contenders in a made-up world: requests that are slow, lost or late, contenders that
//! are paused or killed, clocks that run at different speeds.

use std::{cmp::Reverse, collections::BinaryHeap};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use super::*;

const ATTEMPT: Duration = Duration::from_millis(1500);
const CONTENDERS: usize = 3;
/// Trouble ends after this.
const TROUBLE: Duration = Duration::from_secs(120);
/// Time for one of them to work undisturbed.
const PEACE: Duration = Duration::from_secs(60);

/// Something that happens at a moment of the world.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// A contender does its next step, unless a later call has been made.
    Wake { who: usize, call: u64 },
    /// A read arrives at the server.
    Read { who: usize, call: u64, answer: bool },
    /// A write arrives at the server.
    Write {
        who: usize,
        call: u64,
        expected: u64,
        holder: String,
        answer: bool,
    },
    /// The answer to a call arrives, or its time is over.
    Answer { who: usize, call: u64, answer: Answer },
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Record(u64, Option<String>),
    Stored(u64),
    Refused,
    None,
}

struct One {
    contender: Contender,
    /// How fast its clock runs.
    speed: f64,
    paused_until: Duration,
    call: u64,
    /// When its last call began, and whether it was a write.
    began: (Duration, bool),
}

struct World {
    random: StdRng,
    origin: Instant,
    now: Duration,
    record: (u64, Option<String>),
    ones: Vec<One>,
    queue: BinaryHeap<Reverse<(Duration, u64, What)>>,
    events: u64,
    terms: u64,
    overlaps: u64,
}

impl World {
    fn new(seed: u64, speeds: [f64; CONTENDERS]) -> Self {
        let origin = Instant::now();
        let one = |(n, speed): (usize, f64)| One {
            contender: Contender::new(format!("contender {n}"), origin),
            speed,
            paused_until: Duration::ZERO,
            call: 0,
            began: (Duration::ZERO, false),
        };
        let mut world = Self {
            random: StdRng::seed_from_u64(seed),
            origin,
            now: Duration::ZERO,
            record: (0, None),
            ones: speeds.into_iter().enumerate().map(one).collect(),
            queue: BinaryHeap::new(),
            events: 0,
            terms: 0,
            overlaps: 0,
        };
        for who in 0..CONTENDERS {
            world.push(Duration::ZERO, What::Wake { who, call: 0 });
        }
        world
    }

    fn push(&mut self, at: Duration, what: What) {
        self.events += 1;
        self.queue.push(Reverse((at, self.events, what)));
    }

    /// What the clock of one shows at a moment of the world.
    fn local(&self, who: usize, at: Duration) -> Instant {
        self.origin + at.mul_f64(self.ones[who].speed)
    }

    fn holds(&self, who: usize) -> bool {
        match self.ones[who].contender.place() {
            Place::Holder { until, .. } => self.local(who, self.now) < until,
            _ => false,
        }
    }

    /// How long a message is on its way.
    fn way(&mut self) -> Duration {
        let longest = match self.random.random_range(0..10) {
            0 if self.now < TROUBLE => 4000,
            1 if self.now < TROUBLE => 1000,
            _ => 20,
        };
        Duration::from_millis(self.random.random_range(0..=longest))
    }

    fn arrives(&mut self) -> bool {
        self.now >= TROUBLE || self.random.random_range(0..20) > 0
    }

    fn run(&mut self) {
        while let Some(Reverse((at, _, what))) = self.queue.pop() {
            if at > TROUBLE + PEACE {
                return;
            }
            self.now = at;
            match what {
                What::Wake { who, .. } | What::Answer { who, .. } if self.ones[who].paused_until > at => {
                    self.push(self.ones[who].paused_until, what);
                }
                What::Wake { who, call } => self.wake(who, call),
                What::Read { who, call, answer } => {
                    if answer {
                        let (revision, holder) = self.record.clone();
                        self.answer(who, call, Answer::Record(revision, holder));
                    }
                }
                What::Write {
                    who,
                    call,
                    expected,
                    holder,
                    answer,
                } => {
                    let stored = self.record.0 == expected;
                    if stored {
                        self.record = (expected + 1, Some(holder));
                    }
                    if answer {
                        let said = if stored {
                            Answer::Stored(self.record.0)
                        } else {
                            Answer::Refused
                        };
                        self.answer(who, call, said);
                    }
                }
                What::Answer { who, call, answer } => self.answered(who, call, answer),
            }
        }
    }

    fn answer(&mut self, who: usize, call: u64, answer: Answer) {
        let at = self.now + self.way();
        self.push(at, What::Answer { who, call, answer });
    }

    fn wake(&mut self, who: usize, call: u64) {
        if call != self.ones[who].call {
            return;
        }
        if self.now < TROUBLE {
            match self.random.random_range(0..200) {
                // It stands still, in the middle of whatever it is at.
                0 => {
                    let pause = Duration::from_millis(self.random.random_range(0..30_000));
                    self.ones[who].paused_until = self.now + pause;
                }
                // It is killed, and another is started in its place.
                1 => {
                    self.events += 1;
                    let id = format!("contender {}", self.events);
                    self.ones[who].contender = Contender::new(id, self.local(who, self.now));
                }
                _ => {}
            }
        }
        let local = self.local(who, self.now);
        let one = &mut self.ones[who];
        let step = one.contender.step(local);
        if let Step::Wait(at) = step {
            let pause = at.duration_since(local).div_f64(one.speed) + Duration::from_micros(1);
            self.push(self.now + pause, What::Wake { who, call });
            return;
        }
        one.call += 1;
        one.began = (self.now, matches!(step, Step::Write(_)));
        let (call, id) = (one.call, one.contender.id().to_owned());
        self.push(
            self.now + ATTEMPT,
            What::Answer {
                who,
                call,
                answer: Answer::None,
            },
        );
        if !self.arrives() {
            return;
        }
        let (at, answer) = (self.now + self.way(), self.arrives());
        let request = match step {
            Step::Write(expected) => What::Write {
                who,
                call,
                expected,
                holder: id,
                answer,
            },
            _ => What::Read { who, call, answer },
        };
        self.push(at, request);
    }

    fn answered(&mut self, who: usize, call: u64, answer: Answer) {
        if call != self.ones[who].call {
            return;
        }
        let (local, sent) = (self.local(who, self.now), self.local(who, self.ones[who].began.0));
        let one = &mut self.ones[who];
        one.call += 1;
        let (call, before) = (one.call, one.contender.place());
        match answer {
            Answer::Record(revision, holder) => one.contender.read(Record { revision, holder }, local),
            Answer::Stored(revision) => one.contender.wrote(Written::Stored(revision), sent, local),
            Answer::Refused => one.contender.wrote(Written::Refused, sent, local),
            Answer::None if one.began.1 => one.contender.wrote(Written::Unknown, sent, local),
            Answer::None => one.contender.unread(local),
        }
        let after = one.contender.place();
        if let (Place::Holder { term, .. }, false) = (after, matches!(before, Place::Holder { .. })) {
            assert!(term > 0);
            self.terms += 1;
        }
        if (0..CONTENDERS).filter(|who| self.holds(*who)).count() > 1 {
            self.overlaps += 1;
        }
        self.push(self.now, What::Wake { who, call });
    }
}

#[test]
fn never_do_two_hold_it_and_in_the_end_one_does() {
    let mut terms = 0;
    for seed in 0..400 {
        let mut world = World::new(seed, [0.95, 1.0, 1.05]);
        world.run();
        assert_eq!(world.overlaps, 0, "seed {seed}");
        let holders = (0..CONTENDERS).filter(|who| world.holds(*who)).count();
        assert_eq!(holders, 1, "seed {seed}");
        terms += world.terms;
    }
    assert!(terms > 800, "it went from one to another {terms} times only");
}

#[test]
fn the_world_finds_two_holders_where_there_are_two() {
    // Clocks that run at half the speed of others are none.
    let overlaps = |seed| {
        let mut world = World::new(seed, [0.5, 1.0, 1.0]);
        world.run();
        world.overlaps
    };
    assert!((0..400).map(overlaps).sum::<u64>() > 0);
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn of(holder: Option<&str>, revision: u64) -> Record {
    Record {
        revision,
        holder: holder.map(str::to_owned),
    }
}

#[test]
fn what_is_released_is_taken_at_the_next_look() {
    let begun = Instant::now();
    let mut standby = Contender::new("me".to_owned(), begun);
    assert_eq!(standby.step(begun), Step::Look);
    standby.read(of(Some("other"), 7), begun);
    assert_eq!(standby.place(), Place::Standby);
    let next = begun + LOOK;
    assert_eq!(standby.step(begun), Step::Wait(next));
    assert_eq!(standby.step(next), Step::Look);
    standby.read(of(None, 8), next);
    assert_eq!(standby.step(next), Step::Write(8));
    standby.wrote(Written::Stored(9), next, next);
    let held = Place::Holder {
        term: 1,
        until: next + ACT,
    };
    assert_eq!(standby.place(), held);
    assert_eq!(standby.give_up(), Some(9));
    assert_eq!(standby.place(), Place::Unknown);
}

#[test]
fn what_is_renewed_is_left_alone_and_what_stands_still_is_taken() {
    let begun = Instant::now();
    let mut standby = Contender::new("me".to_owned(), begun);
    for second in 0..60 {
        let now = begun + seconds(second);
        assert_eq!(standby.step(now), Step::Look);
        standby.read(of(Some("other"), second / 3), now);
    }
    // From the 57th second on it stands.
    for second in 60..67 {
        let now = begun + seconds(second);
        assert_eq!(standby.step(now), Step::Look);
        standby.read(of(Some("other"), 19), now);
    }
    let now = begun + seconds(67);
    assert_eq!(standby.step(now), Step::Look);
    standby.read(of(Some("other"), 19), now);
    assert_eq!(standby.step(now), Step::Write(19));
}

#[test]
fn a_pause_ends_the_term() {
    let begun = Instant::now();
    let mut holder = Contender::new("me".to_owned(), begun);
    holder.read(of(None, 0), begun);
    assert_eq!(holder.step(begun), Step::Write(0));
    holder.wrote(Written::Stored(1), begun, begun);
    assert_eq!(holder.step(begun), Step::Wait(begun + RENEW));
    // A renewal that was stored, whose answer is read after a pause.
    let sent = begun + RENEW;
    assert_eq!(holder.step(sent), Step::Write(1));
    let late = sent + seconds(60);
    holder.wrote(Written::Stored(2), sent, late);
    assert_eq!(holder.place(), Place::Unknown);
    // Its own record is as good as nobody's: it begins another term at once.
    assert_eq!(holder.step(late), Step::Look);
    holder.read(of(Some("me"), 2), late);
    assert_eq!(holder.step(late), Step::Write(2));
    holder.wrote(Written::Stored(3), late, late);
    assert!(
        matches!(holder.place(), Place::Holder { term: 3, .. }),
        "{:?}",
        holder.place()
    );
}

#[test]
fn a_renewal_of_unknown_outcome_is_looked_for() {
    let begun = Instant::now();
    let mut holder = Contender::new("me".to_owned(), begun);
    holder.read(of(None, 4), begun);
    holder.wrote(Written::Stored(5), begun, begun);
    let sent = begun + RENEW;
    assert_eq!(holder.step(sent), Step::Write(5));
    holder.wrote(Written::Unknown, sent, sent + seconds(1));
    let now = sent + seconds(2);
    assert_eq!(holder.step(now), Step::Look);
    assert!(matches!(holder.place(), Place::Holder { until, .. } if until == begun + ACT));
    holder.read(of(Some("me"), 6), now);
    assert_eq!(holder.step(now), Step::Write(6));
    holder.wrote(Written::Stored(7), now, now);
    assert!(matches!(holder.place(), Place::Holder { term: 1, until } if until == now + ACT));
    // It was another's.
    let sent = now + RENEW;
    holder.wrote(Written::Refused, sent, sent);
    assert_eq!(holder.step(sent), Step::Look);
    holder.read(of(Some("other"), 8), sent);
    assert_eq!(holder.place(), Place::Standby);
}
