//! Group commit without I/O: what to send next, and what an answer means for
//! the entries that wait.
//!
//! One [`Core`] serves one stream. [`Input`]s say what has happened,
//! [`Effect`]s what to do; at most one operation is under way at a time, so
//! that entries of one subject are stored in the order they came in. An entry
//! that finds nothing under way is sent at once and alone; what arrives while
//! an operation is under way becomes the next batch.
//!
//! A batch is stored as a whole or not at all, and the server does not say
//! which entry it refused a batch for: a refused batch is halved until the
//! offender stands alone. When the fate of a batch is unknown, its first entry
//! is sent again alone as a probe: the server either recognises it, which says
//! where the batch is, or stores it, after which the batch can never be stored.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_nats::jetstream::context::{PublishError, PublishErrorKind};

use crate::NotPermitted;

/// Most entries of a batch: the server's limit.
const MAX_BATCH: usize = 1000;
/// Fewer entries are sent one by one, which takes less than the files that the
/// server makes for a batch.
pub(super) const MIN_BATCH: usize = 8;
/// Most bytes of a batch, which the server writes twice: first to stage it.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// Refusals of an entry before the caller hears of it. Nothing behind it is sent meanwhile.
pub(super) const ATTEMPTS: u32 = 6;
/// How long an entry waits for a log that is not there: rides out the restart of
/// a server and the election of a leader, which takes up to ten seconds.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How long the server is trusted to recognise an entry's id: half of the
/// streams' duplicate window, since the server's clock starts later than ours.
const RECOGNISED: Duration = Duration::from_secs(60);
/// Entries given up with an unknown fate whose ids are remembered, so that one
/// published again after the duplicate window is looked for first.
const MAX_DOUBTS: usize = 1024;

/// Names an entry towards the shell, which holds its bytes and its caller.
pub(super) type Key = u64;
/// What the client said when something failed; shared by the entries of a batch.
pub(crate) type Trouble = Arc<PublishError>;

/// What deciding needs of an entry.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Key,
    pub(super) subject: String,
    /// What the server recognises duplicates by.
    pub(super) id: String,
    pub(super) size: usize,
    /// The wanted sequence of the last entry on the subject.
    pub(super) expected: Option<u64>,
}

/// What has happened.
#[derive(Debug)]
pub(super) enum Input {
    /// A caller publishes an entry.
    Arrived(Entry),
    /// The answer to [`Effect::Send`].
    Sent(Sent),
    /// The answer to [`Effect::Ask`]: the entry's sequence, if it is there.
    Found(Result<Option<u64>, Trouble>),
    /// [`Effect::Rest`] or [`Effect::Gather`] is over.
    Rested,
}

/// How sending ended.
#[derive(Debug)]
pub(super) enum Sent {
    /// Stored, the first of a batch with this sequence and the others behind it.
    Stored {
        /// Sequence of the first.
        sequence: u64,
        /// It was there already. Never of a batch.
        duplicate: bool,
    },
    /// Nothing stored: the last entry on a subject is not the expected one.
    WrongSequence,
    /// Nothing stored, maybe for the sake of one entry.
    Refused(Trouble),
    /// Nothing stored: this user may not publish one of them.
    NotPermitted(NotPermitted),
    /// Nothing stored, since the log takes nothing at the moment or is not there.
    Busy(Trouble),
    /// Nothing stored: the stream takes no batches.
    NoBatches(Trouble),
    /// Stored or not.
    Unknown(Trouble),
}

/// Where to look for an entry by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Anywhere on its subject after a sequence.
    After(u64),
    /// It is the first on its subject after a sequence.
    FirstAfter(u64),
    /// At a sequence.
    At(u64),
}

/// What to do.
#[derive(Debug)]
pub(super) enum Effect {
    /// Send one entry plainly, several as one batch.
    Send(Vec<Key>),
    /// Look whether an entry is there.
    Ask(Key, Place),
    /// Wait before the next attempt, longer after more failures in a row.
    Rest(u32),
    /// Wait a moment for those who waited for a batch to come again; the next
    /// operation may replace it.
    Gather,
    /// Tell the caller.
    Resolve(Key, Fate),
}

/// What became of an entry.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    /// It is in the log.
    Stored {
        /// Its sequence.
        sequence: u64,
        /// It was there before the last attempt.
        duplicate: bool,
    },
    /// The last entry on its subject is not the expected one.
    Conflict,
    /// This user may not publish it.
    NotPermitted(NotPermitted),
    /// Not acknowledged; it may be stored or not.
    Unavailable(Trouble),
}

/// An attempt of unknown fate.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    /// When it was made.
    since: Duration,
    /// If it is stored, its sequence is greater.
    after: u64,
}

#[derive(Debug)]
struct Item {
    entry: Entry,
    arrived: Duration,
    refusals: u32,
    doubt: Option<Doubt>,
}

/// Entries that are settled before any others are taken from the queue.
#[derive(Debug)]
enum Work {
    /// Sent together.
    Together(Vec<Item>),
    /// The first is sent alone, to learn what became of the batch of all.
    Probe(Vec<Item>),
}

/// The operation under way; it concerns the work at the front.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Idle,
    Sending(Doubt),
    /// Looking for an entry that the server no longer recognises by its id.
    Searching,
    /// Looking whether the entry itself is what came after the expected one.
    Comparing,
    /// Looking whether the last of a batch stands where it must, given the place of the first.
    Verifying {
        first: u64,
    },
    Resting,
    /// After a batch, until as many have come again or a moment has passed: what
    /// is sent before them has a commit of its own.
    Gathering {
        crowd: usize,
    },
}

/// The state of one stream's group commit.
#[derive(Debug)]
pub(super) struct Core {
    min_batch: usize,
    queue: VecDeque<Item>,
    work: VecDeque<Work>,
    stage: Stage,
    /// Highest sequence acknowledged so far: what is sent later comes after it.
    last: u64,
    /// Failures in a row.
    failures: u32,
    doubts: VecDeque<(String, Doubt)>,
    effects: Vec<Effect>,
}

impl Core {
    /// With fewer than `min_batch` entries, each is sent alone.
    pub(super) const fn new(min_batch: usize) -> Self {
        Self {
            min_batch,
            queue: VecDeque::new(),
            work: VecDeque::new(),
            stage: Stage::Idle,
            last: 0,
            failures: 0,
            doubts: VecDeque::new(),
            effects: Vec::new(),
        }
    }

    /// Whether nothing waits and nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Idle | Stage::Gathering { .. }) && self.queue.is_empty() && self.work.is_empty()
    }

    /// Takes note of what happened; `now` is the time since any fixed moment.
    pub(super) fn input(&mut self, now: Duration, input: Input) {
        match input {
            Input::Arrived(entry) => self.arrived(now, entry),
            Input::Sent(sent) => self.sent(now, sent),
            Input::Found(found) => self.found(now, found),
            Input::Rested => {
                if matches!(self.stage, Stage::Resting | Stage::Gathering { .. }) {
                    self.stage = Stage::Idle;
                }
            }
        }
    }

    /// What to do now: any number of [`Effect::Resolve`], and an operation
    /// unless one is under way or nothing waits.
    pub(super) fn effects(&mut self, now: Duration) -> Vec<Effect> {
        if let Stage::Gathering { crowd } = self.stage
            && self.queue.len() >= crowd
        {
            self.stage = Stage::Idle;
        }
        if matches!(self.stage, Stage::Idle) {
            self.proceed(now);
        }
        std::mem::take(&mut self.effects)
    }

    fn arrived(&mut self, now: Duration, entry: Entry) {
        let known = self.doubts.iter().position(|(id, _)| *id == entry.id);
        let doubt = known.and_then(|at| self.doubts.remove(at)).map(|(_, doubt)| doubt);
        self.queue.push_back(Item {
            entry,
            arrived: now,
            refusals: 0,
            doubt,
        });
    }

    fn proceed(&mut self, now: Duration) {
        if self.work.is_empty() {
            let batch = self.take();
            if batch.len() < self.min_batch {
                self.push_singles(batch);
            } else {
                self.push_front(Work::Together, batch);
            }
        }
        let (items, all) = match self.work.front() {
            None => return,
            Some(Work::Together(items)) => (items, true),
            Some(Work::Probe(items)) => (items, false),
        };
        let keys: Vec<Key> = items.iter().map(|item| item.entry.key).collect();
        let Some(head) = items.first() else { return };
        let alone = !all || items.len() == 1;
        // With an expectation, the comparison of sequences does the same at any age.
        if let Some(doubt) = head.doubt
            && alone
            && head.entry.expected.is_none()
            && now.saturating_sub(doubt.since) > RECOGNISED
        {
            self.stage = Stage::Searching;
            self.effects
                .push(Effect::Ask(head.entry.key, Place::After(doubt.after)));
            return;
        }
        self.stage = Stage::Sending(Doubt {
            since: now,
            after: self.last,
        });
        let count = if alone { 1 } else { keys.len() };
        self.effects.push(Effect::Send(keys.into_iter().take(count).collect()));
    }

    /// Takes the next batch from the queue. Entries that cannot stand in it wait
    /// for the next one, and those behind them on the same subject with them: an
    /// expectation is compared with what was there before the batch, an id may
    /// come once in a batch, and an entry in doubt has to stand alone.
    fn take(&mut self) -> Vec<Item> {
        let mut batch: Vec<Item> = Vec::new();
        let mut bytes = 0;
        let mut later = VecDeque::new();
        let (mut subjects, mut ids, mut waiting) = (HashSet::new(), HashSet::new(), HashSet::new());
        while let Some(item) = self.queue.pop_front() {
            let full = batch.len() == MAX_BATCH || bytes + item.entry.size > MAX_BATCH_BYTES;
            if !batch.is_empty() && (full || item.doubt.is_some()) {
                self.queue.push_front(item);
                break;
            }
            let entry = &item.entry;
            if waiting.contains(&entry.subject)
                || ids.contains(&entry.id)
                || (entry.expected.is_some() && subjects.contains(&entry.subject))
            {
                waiting.insert(entry.subject.clone());
                later.push_back(item);
                continue;
            }
            subjects.insert(entry.subject.clone());
            ids.insert(entry.id.clone());
            bytes += entry.size;
            let alone = item.doubt.is_some();
            batch.push(item);
            if alone {
                break;
            }
        }
        later.append(&mut self.queue);
        self.queue = later;
        batch
    }

    fn push_front(&mut self, work: fn(Vec<Item>) -> Work, items: Vec<Item>) {
        if !items.is_empty() {
            self.work.push_front(work(items));
        }
    }

    /// Each alone, in order.
    fn push_singles(&mut self, items: Vec<Item>) {
        for item in items.into_iter().rev() {
            self.work.push_front(Work::Together(vec![item]));
        }
    }

    fn resolve(&mut self, item: &Item, fate: Fate) {
        self.effects.push(Effect::Resolve(item.entry.key, fate));
    }

    fn sent(&mut self, now: Duration, sent: Sent) {
        let Stage::Sending(attempt) = self.stage else {
            return;
        };
        self.stage = Stage::Idle;
        match self.work.pop_front() {
            None => {}
            Some(Work::Together(items)) if items.len() > 1 => self.sent_together(now, items, attempt, sent),
            Some(work) => self.sent_alone(now, work, attempt, sent),
        }
    }

    fn sent_together(&mut self, now: Duration, mut items: Vec<Item>, attempt: Doubt, sent: Sent) {
        match sent {
            Sent::Stored { sequence, .. } => {
                self.stored_in_a_row(&items, sequence, false);
                if self.work.is_empty() {
                    self.stage = Stage::Gathering { crowd: items.len() };
                    self.effects.push(Effect::Gather);
                }
            }
            Sent::WrongSequence | Sent::Refused(_) | Sent::NotPermitted(_) => {
                let right = items.split_off(items.len() / 2);
                self.push_front(Work::Together, right);
                self.push_front(Work::Together, items);
            }
            Sent::NoBatches(_) => self.push_singles(items),
            Sent::Busy(trouble) => self.failed(now, Work::Together, items, trouble),
            Sent::Unknown(trouble) => {
                for item in &mut items {
                    item.doubt = Some(attempt);
                }
                self.failed(now, Work::Probe, items, trouble);
            }
        }
    }

    /// Takes the outcome for the first of a work whose first is sent alone.
    fn sent_alone(&mut self, now: Duration, work: Work, attempt: Doubt, sent: Sent) {
        let (shape, mut items): (fn(Vec<Item>) -> Work, _) = match work {
            Work::Together(items) => (Work::Together, items),
            Work::Probe(items) => (Work::Probe, items),
        };
        let Some(head) = items.first_mut() else { return };
        match sent {
            Sent::Stored { sequence, duplicate } => self.settled(items, Fate::Stored { sequence, duplicate }),
            Sent::WrongSequence => {
                let place = Place::FirstAfter(head.entry.expected.unwrap_or_default());
                self.effects.push(Effect::Ask(head.entry.key, place));
                self.stage = Stage::Comparing;
                self.push_front(shape, items);
            }
            Sent::Refused(trouble) | Sent::NoBatches(trouble) => {
                head.refusals += 1;
                self.failed(now, shape, items, trouble);
            }
            Sent::NotPermitted(refused) if head.doubt.is_none() => self.settled(items, Fate::NotPermitted(refused)),
            // An attempt before, when it was permitted, may have stored it.
            Sent::NotPermitted(refused) => {
                head.refusals += 1;
                let trouble = PublishError::with_source(PublishErrorKind::Other, refused);
                self.failed(now, shape, items, Arc::new(trouble));
            }
            Sent::Busy(trouble) => self.failed(now, shape, items, trouble),
            Sent::Unknown(trouble) => {
                // The oldest attempt of unknown fate says what to look for.
                head.doubt.get_or_insert(attempt);
                self.failed(now, shape, items, trouble);
            }
        }
    }

    fn found(&mut self, now: Duration, found: Result<Option<u64>, Trouble>) {
        let stage = std::mem::replace(&mut self.stage, Stage::Idle);
        let (shape, mut items): (fn(Vec<Item>) -> Work, _) = match self.work.pop_front() {
            None => return,
            Some(Work::Together(items)) => (Work::Together, items),
            Some(Work::Probe(items)) => (Work::Probe, items),
        };
        match (stage, found) {
            (Stage::Verifying { first }, Ok(Some(_))) => self.stored_in_a_row(&items, first + 1, true),
            // Not as a batch leaves them: each is recognised, or stored, by itself.
            (Stage::Verifying { .. }, _) => self.push_singles(items),
            (_, Ok(Some(sequence))) => self.settled(
                items,
                Fate::Stored {
                    sequence,
                    duplicate: true,
                },
            ),
            (Stage::Searching, Ok(None)) => {
                // Not there yet; an attempt that is still on its way is recognised.
                if let Some(doubt) = items.first_mut().and_then(|head| head.doubt.as_mut()) {
                    doubt.since = now;
                }
                self.push_front(shape, items);
            }
            (_, Ok(None)) => self.settled(items, Fate::Conflict),
            (_, Err(trouble)) => self.failed(now, shape, items, trouble),
        }
    }

    fn stored_in_a_row(&mut self, items: &[Item], first: u64, duplicate: bool) {
        self.failures = 0;
        for (sequence, item) in (first..).zip(items) {
            self.last = self.last.max(sequence);
            self.resolve(item, Fate::Stored { sequence, duplicate });
        }
    }

    /// The first of `items` is settled; the others, if any, are the rest of a
    /// batch that it was the probe of.
    fn settled(&mut self, mut items: Vec<Item>, fate: Fate) {
        self.failures = 0;
        let rest = items.split_off(1);
        if let Fate::Stored { sequence, .. } = fate {
            self.last = self.last.max(sequence);
        }
        for head in &items {
            self.resolve(head, fate.clone());
        }
        match (&fate, rest.last()) {
            (_, None) => {}
            (
                &Fate::Stored {
                    sequence,
                    duplicate: true,
                },
                Some(last),
            ) => {
                let place = Place::At(sequence + rest.len() as u64);
                self.effects.push(Effect::Ask(last.entry.key, place));
                self.stage = Stage::Verifying { first: sequence };
                self.push_front(Work::Probe, rest);
            }
            // The batch is not there, and with its first entry stored alone or in
            // conflict it cannot come any more.
            _ => {
                let rest = rest.into_iter().map(|item| Item { doubt: None, ..item });
                self.push_front(Work::Together, rest.collect());
            }
        }
    }

    fn failed(&mut self, now: Duration, shape: fn(Vec<Item>) -> Work, items: Vec<Item>, trouble: Trouble) {
        self.failures = self.failures.saturating_add(1);
        let mut kept = Vec::new();
        for item in items {
            if item.refusals >= ATTEMPTS || now.saturating_sub(item.arrived) >= PATIENCE {
                self.resolve(&item, Fate::Unavailable(trouble.clone()));
                self.remember(item);
            } else {
                kept.push(item);
            }
        }
        self.push_front(shape, kept);
        self.stage = Stage::Resting;
        self.effects.push(Effect::Rest(self.failures));
    }

    fn remember(&mut self, item: Item) {
        if let Some(doubt) = item.doubt {
            if self.doubts.len() == MAX_DOUBTS {
                self.doubts.pop_front();
            }
            self.doubts.push_back((item.entry.id, doubt));
        }
    }
}
