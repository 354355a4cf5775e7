//! The core against a model of a stream, with every way in which an attempt can end.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use proptest::prelude::*;

use crate::NotPermitted;

use super::core::{ATTEMPTS, Core, Effect, Entry, Fate, Input, Key, MIN_BATCH, PATIENCE, Place, Sent, Trouble};

fn trouble() -> Trouble {
    Arc::new(PublishError::new(PublishErrorKind::TimedOut))
}

fn entry(key: Key, subject: &str, expected: Option<u64>) -> Entry {
    Entry {
        key,
        subject: subject.to_owned(),
        id: format!("id-{key}"),
        size: 100,
        expected,
    }
}

/// On which the server lets nobody publish.
const FORBIDDEN: &str = "forbidden";

/// How an attempt ends.
#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    /// The request is lost.
    Request,
    /// The answer is lost.
    Answer,
    /// The request arrives after the next one.
    Late,
    /// A power cut leaves a beginning of the batch.
    Torn,
    Busy,
}

/// A stream as the server keeps it, at one replica.
#[derive(Default)]
struct Stream {
    entries: Vec<(String, String)>,
    /// Entries up to this sequence are older than the duplicate window.
    forgotten: usize,
    late: Option<Vec<Entry>>,
}

impl Stream {
    fn last(&self, subject: &str) -> u64 {
        let at = self.entries.iter().rposition(|(s, _)| s == subject);
        at.map_or(0, |at| at as u64 + 1)
    }

    fn recognised(&self, id: &str) -> Option<u64> {
        let at = self.entries[self.forgotten..].iter().position(|(_, i)| i == id);
        at.map(|at| (self.forgotten + at) as u64 + 1)
    }

    fn append(&mut self, entry: &Entry) -> u64 {
        self.entries.push((entry.subject.clone(), entry.id.clone()));
        self.entries.len() as u64
    }

    fn plain(&mut self, entry: &Entry) -> Sent {
        if entry
            .expected
            .is_some_and(|expected| self.last(&entry.subject) != expected)
        {
            return Sent::WrongSequence;
        }
        let (sequence, duplicate) = match self.recognised(&entry.id) {
            Some(sequence) => (sequence, true),
            None => (self.append(entry), false),
        };
        Sent::Stored { sequence, duplicate }
    }

    fn batch(&mut self, entries: &[Entry], torn: bool) -> Sent {
        let (mut ids, mut subjects) = (HashSet::new(), HashSet::new());
        for entry in entries {
            if !ids.insert(&entry.id) || self.recognised(&entry.id).is_some() {
                return Sent::Refused(trouble());
            }
            if let Some(expected) = entry.expected {
                if subjects.contains(&entry.subject) {
                    return Sent::Refused(trouble());
                }
                if self.last(&entry.subject) != expected {
                    return Sent::WrongSequence;
                }
            }
            subjects.insert(&entry.subject);
        }
        let stored = if torn { entries.len() / 2 } else { entries.len() };
        let sequence = self.entries.len() as u64 + 1;
        for entry in &entries[..stored] {
            self.append(entry);
        }
        Sent::Stored {
            sequence,
            duplicate: false,
        }
    }

    fn store(&mut self, entries: &[Entry], torn: bool) -> Sent {
        if entries.iter().any(|entry| entry.subject == FORBIDDEN) {
            return Sent::NotPermitted(NotPermitted {
                user: "test".to_owned(),
                subject: FORBIDDEN.to_owned(),
            });
        }
        match entries {
            [entry] => self.plain(entry),
            entries => self.batch(entries, torn),
        }
    }

    fn send(&mut self, entries: Vec<Entry>, fault: Fault) -> Sent {
        let late = self.late.take();
        let sent = match fault {
            Fault::Busy => Sent::Busy(trouble()),
            Fault::Request => Sent::Unknown(trouble()),
            Fault::None => self.store(&entries, false),
            Fault::Answer | Fault::Torn => {
                self.store(&entries, matches!(fault, Fault::Torn));
                Sent::Unknown(trouble())
            }
            Fault::Late => {
                self.late = Some(entries);
                Sent::Unknown(trouble())
            }
        };
        self.arrive_late(late);
        sent
    }

    fn arrive_late(&mut self, late: Option<Vec<Entry>>) {
        if let Some(entries) = late {
            self.store(&entries, false);
        }
    }

    fn find(&self, entry: &Entry, place: Place) -> Option<u64> {
        let ours = |sequence: u64| {
            let stored = self.entries.get(usize::try_from(sequence).unwrap().checked_sub(1)?)?;
            (stored.1 == entry.id).then_some(sequence)
        };
        let on_subject = |after: u64| {
            (after + 1..=self.entries.len() as u64)
                .filter(|&sequence| self.entries[sequence as usize - 1].0 == entry.subject)
        };
        match place {
            Place::At(sequence) => ours(sequence),
            Place::FirstAfter(after) => on_subject(after).next().and_then(ours),
            Place::After(after) => on_subject(after).find_map(ours),
        }
    }
}

/// A core and what it works on.
struct Bench {
    core: Core,
    now: Duration,
    stream: Stream,
    entries: HashMap<Key, Entry>,
    fates: HashMap<Key, Fate>,
    operation: Option<Effect>,
    sent: Vec<Vec<Key>>,
}

impl Bench {
    fn new() -> Self {
        Self {
            core: Core::new(2),
            now: Duration::ZERO,
            stream: Stream::default(),
            entries: HashMap::new(),
            fates: HashMap::new(),
            operation: None,
            sent: Vec::new(),
        }
    }

    fn arrive(&mut self, entry: Entry) {
        self.entries.insert(entry.key, entry.clone());
        self.input(Input::Arrived(entry));
    }

    fn input(&mut self, input: Input) {
        self.core.input(self.now, input);
        for effect in self.core.effects(self.now) {
            match effect {
                Effect::Resolve(key, fate) => {
                    assert!(self.fates.insert(key, fate).is_none(), "entry {key} is settled twice");
                }
                operation => {
                    assert!(
                        matches!(self.operation, None | Some(Effect::Gather)),
                        "{operation:?} beside {:?}",
                        self.operation.as_ref().unwrap()
                    );
                    if let Effect::Send(keys) = &operation {
                        assert!(!keys.is_empty() && keys.len() <= 1000);
                        self.sent.push(keys.clone());
                    }
                    self.operation = Some(operation);
                }
            }
        }
    }

    /// Ends the operation under way; `false` when there is none.
    fn answer(&mut self, fault: Fault) -> bool {
        let Some(operation) = self.operation.take() else {
            return false;
        };
        let input = match operation {
            Effect::Send(keys) => {
                let entries = keys.iter().map(|key| self.entries[key].clone()).collect();
                Input::Sent(self.stream.send(entries, fault))
            }
            Effect::Ask(..) if !matches!(fault, Fault::None) => Input::Found(Err(trouble())),
            Effect::Ask(key, place) => Input::Found(Ok(self.stream.find(&self.entries[&key], place))),
            Effect::Rest(_) | Effect::Gather => Input::Rested,
            Effect::Resolve(..) => unreachable!(),
        };
        self.input(input);
        true
    }

    fn finish(&mut self) {
        while self.answer(Fault::None) {}
        assert!(self.core.is_idle());
    }

    fn sequence(&self, key: Key) -> Option<u64> {
        match self.fates.get(&key) {
            Some(Fate::Stored { sequence, .. }) => Some(*sequence),
            _ => None,
        }
    }

    /// The last entry that was given up and not published again since.
    fn given_up(&self) -> Option<Entry> {
        let mut newest: HashMap<&str, Key> = HashMap::new();
        for (key, entry) in &self.entries {
            let newest = newest.entry(&entry.id).or_default();
            *newest = (*key).max(*newest);
        }
        let given_up = |key: &Key| matches!(self.fates.get(key), Some(Fate::Unavailable(_)));
        let last = newest.into_values().filter(given_up).max();
        last.map(|key| self.entries[&key].clone())
    }

    /// What holds whatever happens.
    fn check(&self) {
        let ids: HashSet<_> = self.stream.entries.iter().map(|(_, id)| id).collect();
        assert_eq!(ids.len(), self.stream.entries.len(), "an entry is stored twice");
        let mut last: HashMap<&str, (Key, u64)> = HashMap::new();
        let mut keys: Vec<Key> = self.entries.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            let entry = &self.entries[&key];
            match &self.fates[&key] {
                Fate::Stored { sequence, .. } => {
                    assert_eq!(self.stream.find(entry, Place::At(*sequence)), Some(*sequence));
                    if entry.id == format!("id-{key}") {
                        let before = last.insert(&entry.subject, (key, *sequence));
                        assert!(before.is_none_or(|(_, s)| s < *sequence), "{before:?} after {key}");
                    }
                }
                Fate::Conflict => {
                    assert!(entry.expected.is_some());
                    assert_eq!(self.stream.find(entry, Place::After(0)), None);
                }
                Fate::NotPermitted(_) => assert_eq!(entry.subject, FORBIDDEN),
                Fate::Unavailable(_) => {}
            }
        }
    }
}

#[test]
fn a_lone_entry_goes_at_once_and_what_comes_meanwhile_is_one_batch() {
    let mut bench = Bench::new();
    for key in 1..=4 {
        bench.arrive(entry(key, &format!("s{}", key % 2), None));
    }
    bench.finish();
    assert_eq!(bench.sent, [vec![1], vec![2, 3, 4]]);
    assert_eq!(
        (1..=4).map(|key| bench.sequence(key)).collect::<Vec<_>>(),
        [1, 2, 3, 4].map(Some)
    );
}

#[test]
fn a_few_are_sent_one_by_one() {
    let mut bench = Bench::new();
    bench.core = Core::new(MIN_BATCH);
    for key in 1..=MIN_BATCH as Key {
        bench.arrive(entry(key, "a", None));
    }
    bench.finish();
    assert!(bench.sent.iter().all(|sent| sent.len() == 1));
    for key in 1..=MIN_BATCH as Key + 1 {
        bench.arrive(entry(key + 100, "a", None));
    }
    bench.finish();
    assert_eq!(bench.sent.iter().map(Vec::len).max(), Some(MIN_BATCH));
}

#[test]
fn those_who_come_again_after_a_batch_are_the_next_one() {
    let mut bench = Bench::new();
    for key in 1..=4 {
        bench.arrive(entry(key, "a", None));
    }
    bench.answer(Fault::None);
    bench.answer(Fault::None);
    assert!(matches!(bench.operation, Some(Effect::Gather)));
    bench.arrive(entry(5, "a", None));
    bench.arrive(entry(6, "a", None));
    assert_eq!(bench.sent.len(), 2, "the crowd of three is not there yet");
    bench.arrive(entry(7, "a", None));
    assert_eq!(bench.sent.last(), Some(&vec![5, 6, 7]));
    bench.answer(Fault::None);
    bench.arrive(entry(8, "a", None));
    assert!(bench.answer(Fault::None), "a moment passes");
    assert_eq!(bench.sent.last(), Some(&vec![8]));
    bench.finish();
    bench.check();
}

#[test]
fn only_the_offender_of_a_batch_fails() {
    let mut bench = Bench::new();
    for key in 1..=9 {
        bench.arrive(entry(key, &format!("s{key}"), (key == 6).then_some(77)));
    }
    bench.finish();
    bench.check();
    for key in (1..=9).filter(|key| *key != 6) {
        assert_eq!(bench.sequence(key), Some(if key < 6 { key } else { key - 1 }));
    }
    assert!(matches!(bench.fates[&6], Fate::Conflict));
}

#[test]
fn what_is_not_permitted_fails_at_once_and_alone() {
    let mut bench = Bench::new();
    for key in 1..=9 {
        bench.arrive(entry(key, if key == 6 { FORBIDDEN } else { "a" }, None));
    }
    bench.finish();
    bench.check();
    assert!(matches!(bench.fates[&6], Fate::NotPermitted(_)));
    for key in (1..=9).filter(|key| *key != 6) {
        assert_eq!(bench.sequence(key), Some(if key < 6 { key } else { key - 1 }));
    }
    let alone = bench.sent.iter().filter(|sent| **sent == [6]);
    assert_eq!(alone.count(), 1, "it is not tried again");
}

#[test]
fn an_expectation_is_compared_with_what_the_batch_before_left() {
    let mut bench = Bench::new();
    bench.arrive(entry(1, "a", None));
    bench.arrive(entry(2, "a", None));
    bench.arrive(entry(3, "a", Some(2)));
    bench.arrive(entry(4, "b", None));
    bench.arrive(entry(5, "a", None));
    bench.finish();
    assert_eq!(bench.sent, [vec![1], vec![2, 4], vec![3, 5]]);
    assert_eq!(
        (1..=5).map(|key| bench.sequence(key)).collect::<Vec<_>>(),
        [1, 2, 4, 3, 5].map(Some)
    );
    bench.check();
}

#[test]
fn an_id_that_comes_twice_is_stored_once() {
    let mut bench = Bench::new();
    bench.arrive(entry(1, "a", None));
    for key in 2..=4 {
        let id = "twice".to_owned();
        bench.arrive(Entry {
            id,
            ..entry(key, "a", None)
        });
    }
    bench.finish();
    assert_eq!(bench.stream.entries.len(), 2);
    assert_eq!((2..=4).map(|key| bench.sequence(key)).collect::<Vec<_>>(), [Some(2); 3]);
    assert!(matches!(bench.fates[&4], Fate::Stored { duplicate: true, .. }));
}

/// A lone entry, then a batch of four that ends with `fault`.
fn after(fault: Fault) -> Bench {
    let mut bench = Bench::new();
    for key in 1..=5 {
        bench.arrive(entry(key, "a", None));
    }
    bench.answer(Fault::None);
    bench.answer(fault);
    bench
}

#[test]
fn a_batch_of_unknown_fate_is_found_by_its_first_entry() {
    for (fault, sends) in [
        (Fault::Answer, vec![vec![1], vec![2, 3, 4, 5], vec![2]]),
        (Fault::Request, vec![vec![1], vec![2, 3, 4, 5], vec![2], vec![3, 4, 5]]),
        (
            Fault::Torn,
            vec![vec![1], vec![2, 3, 4, 5], vec![2], vec![3], vec![4], vec![5]],
        ),
    ] {
        let mut bench = after(fault);
        bench.finish();
        bench.check();
        assert_eq!(bench.sent, sends, "{fault:?}");
        assert_eq!(
            (1..=5).map(|key| bench.sequence(key)).collect::<Vec<_>>(),
            [1, 2, 3, 4, 5].map(Some)
        );
    }
}

#[test]
fn what_the_server_has_forgotten_is_looked_for() {
    let mut bench = after(Fault::Answer);
    bench.now += Duration::from_secs(300);
    bench.stream.forgotten = bench.stream.entries.len();
    bench.finish();
    bench.check();
    assert_eq!(bench.sent, [vec![1], vec![2, 3, 4, 5]], "nothing was sent again");
}

#[test]
fn an_entry_given_up_is_looked_for_when_it_is_published_again() {
    let mut bench = after(Fault::Answer);
    while bench.fates.len() < 5 {
        bench.now += Duration::from_secs(1);
        assert!(bench.answer(Fault::Request));
    }
    assert!((2..=5).all(|key| matches!(bench.fates[&key], Fate::Unavailable(_))));
    bench.now += Duration::from_secs(300);
    bench.stream.forgotten = bench.stream.entries.len();
    for key in 2..=5 {
        let id = format!("id-{key}");
        bench.arrive(Entry {
            id,
            ..entry(key + 10, "a", None)
        });
    }
    bench.finish();
    assert_eq!(
        (12..=15).map(|key| bench.sequence(key)).collect::<Vec<_>>(),
        [2, 3, 4, 5].map(Some)
    );
    assert_eq!(bench.stream.entries.len(), 5);
}

#[test]
fn a_log_that_is_gone_is_told_in_bounded_time() {
    let mut bench = Bench::new();
    for key in 1..=50 {
        bench.arrive(entry(key, "a", Some(7)));
    }
    while bench.operation.is_some() {
        bench.now += Duration::from_secs(1);
        bench.answer(Fault::Busy);
    }
    assert!((1..=50).all(|key| matches!(bench.fates[&key], Fate::Unavailable(_))));
    assert!(bench.now >= PATIENCE, "{:?}", bench.now);
    assert!(bench.now < PATIENCE + Duration::from_secs(120), "{:?}", bench.now);
}

#[test]
fn an_entry_that_is_refused_for_itself_gives_way() {
    let mut bench = Bench::new();
    bench.arrive(entry(1, "a", None));
    bench.arrive(entry(2, "a", None));
    let mut refused = 0;
    while !bench.fates.contains_key(&1) {
        if matches!(bench.operation, Some(Effect::Send(_))) {
            bench.operation = None;
            refused += 1;
            bench.input(Input::Sent(Sent::Refused(trouble())));
        } else {
            bench.answer(Fault::None);
        }
    }
    assert_eq!(refused, ATTEMPTS);
    bench.finish();
    assert_eq!(bench.sequence(2), Some(1));
}

#[derive(Debug, Clone)]
enum Step {
    Arrive {
        subject: u8,
        expect: Expect,
        again: bool,
    },
    Answer(Fault),
    /// Time passes until the server has forgotten all ids.
    Pass,
}

#[derive(Debug, Clone, Copy)]
enum Expect {
    Nothing,
    /// What is last at this moment.
    Last,
    Wrong,
}

fn step() -> impl Strategy<Value = Step> {
    let expect = prop_oneof![
        6 => Just(Expect::Nothing),
        2 => Just(Expect::Last),
        1 => Just(Expect::Wrong)
    ];
    let fault = prop_oneof![
        8 => Just(Fault::None),
        1 => Just(Fault::Request),
        1 => Just(Fault::Answer),
        1 => Just(Fault::Late),
        1 => Just(Fault::Torn),
        1 => Just(Fault::Busy)
    ];
    prop_oneof![
        30 => (0..4_u8, expect, prop::bool::weighted(0.05))
            .prop_map(|(subject, expect, again)| Step::Arrive { subject, expect, again }),
        10 => fault.prop_map(Step::Answer),
        1 => Just(Step::Pass),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Acknowledged entries are stored once, where the receipt says, and in
    /// order per subject, whatever becomes of requests and answers.
    #[test]
    fn nothing_is_lost_doubled_or_reordered(steps in prop::collection::vec(step(), 1..200)) {
        let mut bench = Bench::new();
        let mut key = 0;
        for step in steps {
            bench.now += Duration::from_millis(10);
            match step {
                Step::Arrive { subject, expect, again } => {
                    key += 1;
                    let subject = if subject == 3 { FORBIDDEN.to_owned() } else { format!("s{subject}") };
                    let expected = match expect {
                        Expect::Nothing => None,
                        Expect::Last => Some(bench.stream.last(&subject)),
                        Expect::Wrong => Some(1_000_000),
                    };
                    let mut entry = entry(key, &subject, expected);
                    if again && let Some(known) = bench.given_up() {
                        entry = Entry { key, ..known };
                    }
                    bench.arrive(entry);
                }
                Step::Answer(fault) => {
                    bench.answer(fault);
                }
                Step::Pass => {
                    // What is on its way arrives or is lost within seconds.
                    while matches!(bench.operation, Some(Effect::Send(_))) {
                        bench.answer(Fault::None);
                    }
                    let late = bench.stream.late.take();
                    bench.stream.arrive_late(late);
                    bench.now += Duration::from_secs(180);
                    bench.stream.forgotten = bench.stream.entries.len();
                }
            }
        }
        bench.finish();
        let late = bench.stream.late.take();
        bench.stream.arrive_late(late);
        bench.check();
    }
}

#[test]
fn a_full_queue_leaves_in_batches_of_the_servers_limit() {
    let mut bench = Bench::new();
    for key in 1..=2500 {
        bench.arrive(entry(key, "a", None));
    }
    bench.finish();
    bench.check();
    assert_eq!(
        bench.sent.iter().map(Vec::len).collect::<VecDeque<_>>(),
        [1, 1000, 1000, 499]
    );
}
