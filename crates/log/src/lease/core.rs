//! One contender for a lease. Pure: what was read and written comes in with the
//! times, and what is to be done next goes out.
//!
//! There is one record, written only in place of the revision that the writer has
//! seen. Its holder writes it again and again. Whoever sees the same revision stand
//! for [`LEASE`] writes the next one. That writing succeeds only when the holder
//! has written nothing meanwhile, and the holder acts no longer than [`ACT`] after
//! it began to write what was stored last. Each measures on its own monotonic clock:
//! no two clocks have to agree, and the server's plays no part.

use std::time::{Duration, Instant};

/// Another's record that has stood for so long is of a holder that is gone.
pub(crate) const LEASE: Duration = Duration::from_secs(10);
/// How long a holder acts after it began to write the record that was stored last.
/// The rest of the lease is for clocks that run at different speeds.
pub(super) const ACT: Duration = Duration::from_secs(8);
/// When the holder writes the record again.
const RENEW: Duration = Duration::from_secs(3);
/// Between two looks at the record, and before what failed is tried again.
pub(super) const LOOK: Duration = Duration::from_millis(500);

/// The record, as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Its sequence; 0 when there is none.
    pub(super) revision: u64,
    /// Who holds the lease; `None` when nobody does.
    pub(super) holder: Option<String>,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is the record, with this revision.
    Stored(u64),
    /// Another revision stood there.
    Refused,
    /// It may be stored now, later, or never.
    Unknown,
}

/// What a contender does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing before this moment.
    Wait(Instant),
    /// Read the record.
    Look,
    /// Write the record with its own id, in place of this revision.
    Write(u64),
}

/// Where a contender stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It cannot tell.
    Unknown,
    /// Another holds the lease.
    Standby,
    /// It holds the lease.
    Holder {
        /// Counts the times that it came to hold it.
        term: u64,
        /// It may act before this moment.
        until: Instant,
    },
}

#[derive(Debug)]
pub(super) struct Contender {
    id: String,
    /// Times that it came to hold the lease.
    terms: u64,
    /// Before this, nothing is to be done.
    next: Instant,
    /// Another was seen to hold the lease, and nothing else is known since.
    standby: bool,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Looking {
        /// Another's revision, and since when it is known to stand.
        seen: Option<(u64, Instant)>,
    },
    /// The lease is free to take at this revision.
    Claiming { revision: u64 },
    Holding {
        revision: u64,
        /// When the write of that revision began.
        sent: Instant,
        /// A write whose outcome is not known may be stored.
        doubt: bool,
    },
}

const BLIND: State = State::Looking { seen: None };

impl Contender {
    pub(super) fn new(id: String, now: Instant) -> Self {
        Self {
            id,
            terms: 0,
            next: now,
            standby: false,
            state: BLIND,
        }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// What is to be done. What comes of it is to be told before the next call.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        self.expire(now);
        if now < self.next {
            return Step::Wait(self.next);
        }
        match &self.state {
            State::Looking { .. } | State::Holding { doubt: true, .. } => Step::Look,
            State::Claiming { revision } | State::Holding { revision, .. } => Step::Write(*revision),
        }
    }

    /// A look was answered.
    pub(super) fn read(&mut self, record: Record, now: Instant) {
        let mine = record.holder.as_ref() == Some(&self.id);
        let revision = record.revision;
        self.next = now;
        self.state = match self.state {
            // A write of unknown outcome was stored, or not yet: it goes on from there.
            State::Holding { sent, .. } if mine => State::Holding {
                revision,
                sent,
                doubt: false,
            },
            // What it has written without knowing is as good as nobody's.
            _ if mine || record.holder.is_none() => State::Claiming { revision },
            State::Looking {
                seen: Some((seen, since)),
            } if seen == revision && now.duration_since(since) >= LEASE => State::Claiming { revision },
            state => {
                self.standby = true;
                self.next = now + LOOK;
                let seen = match state {
                    State::Looking { seen } => seen.filter(|(seen, _)| *seen == revision),
                    _ => None,
                };
                State::Looking {
                    seen: seen.or(Some((revision, now))),
                }
            }
        };
    }

    /// A look was not answered.
    pub(super) fn unread(&mut self, now: Instant) {
        self.standby = false;
        self.next = now + LOOK;
    }

    /// What became of the write that began at `sent`.
    pub(super) fn wrote(&mut self, written: Written, sent: Instant, now: Instant) {
        self.expire(now);
        match (written, &mut self.state) {
            (Written::Stored(revision), state) => {
                if !matches!(state, State::Holding { .. }) {
                    self.terms += 1;
                }
                *state = State::Holding {
                    revision,
                    sent,
                    doubt: false,
                };
                self.standby = false;
                self.next = sent + RENEW;
                self.expire(now);
            }
            (refused, State::Holding { doubt, .. }) => {
                *doubt = true;
                self.next = if refused == Written::Refused { now } else { now + LOOK };
            }
            (refused, state) => {
                *state = BLIND;
                self.next = if refused == Written::Refused { now } else { now + LOOK };
            }
        }
    }

    pub(super) fn place(&self) -> Place {
        match self.state {
            State::Holding { sent, .. } => Place::Holder {
                term: self.terms,
                until: sent + ACT,
            },
            _ if self.standby => Place::Standby,
            _ => Place::Unknown,
        }
    }

    /// It contends no more. Answers the revision to write a free record in place of.
    pub(super) fn give_up(&mut self) -> Option<u64> {
        let state = std::mem::replace(&mut self.state, BLIND);
        self.standby = false;
        match state {
            State::Holding { revision, .. } => Some(revision),
            _ => None,
        }
    }

    /// A term whose time is over does not come back.
    fn expire(&mut self, now: Instant) {
        if let State::Holding { sent, .. } = self.state
            && now >= sent + ACT
        {
            self.next = now;
            self.state = BLIND;
        }
    }
}

#[cfg(test)]
#[path = "core_tests.rs"]
mod tests;
