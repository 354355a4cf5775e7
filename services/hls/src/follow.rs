//! From the log into the state: three ordered readers.
//!
//! `options`, `registration`, `status` and `metadata` are read from the last
//! entry of each broadcast; where that one says nothing that is known, what was
//! said before stands. Segments are kept for weeks, so they are read from
//! as far back as the longest DVR window of a broadcast that is live or lingers,
//! and only once it is known which those are.

use std::sync::{
    Arc, PoisonError, RwLock, RwLockReadGuard,
    atomic::{AtomicBool, Ordering},
};

use castlog_log::{Entry, Follow, Followed, From, Kind, Log, ReadError};
use castlog_service::Health;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use crate::state::{Outcome, Rules, State};

/// Read further back than the windows reach: encoders that are interrupted
/// stretch a window of media over more of the clock, and clocks differ.
const MARGIN: TimeDelta = TimeDelta::seconds(180);
/// Name under which readiness is reported.
pub(crate) const PART: &str = "hls";

/// The state, shared between the readers and the HTTP server.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    state: Arc<RwLock<State>>,
    caught_up: Arc<AtomicBool>,
}

impl Shared {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            state: Arc::new(RwLock::new(State::new(rules))),
            caught_up: Arc::default(),
        }
    }

    /// Whether all that was in the log at the start has been read.
    pub(crate) fn is_caught_up(&self) -> bool {
        self.caught_up.load(Ordering::Acquire)
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn expire(&self, now: DateTime<Utc>) {
        self.state.write().unwrap_or_else(PoisonError::into_inner).expire(now);
    }

    fn apply(&self, entry: &Entry) {
        let outcome = self
            .state
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .apply(entry, Utc::now());
        let subject = tracing::field::display(&entry.subject);
        let seq = entry.sequence();
        match outcome {
            Outcome::Applied => tracing::trace!(subject, seq, "entry applied"),
            Outcome::Ignored => tracing::debug!(subject, seq, "entry ignored"),
            Outcome::Malformed(reason) => {
                tracing::warn!(subject, seq, reason, "entry cannot be used")
            }
            Outcome::OtherTarget => {
                tracing::warn!(
                    subject,
                    seq,
                    "another segment target within a session: the first one stands"
                );
            }
            Outcome::Full => tracing::warn!(subject, seq, "segment refused: too many broadcasts in memory"),
            Outcome::TooLong => {
                tracing::warn!(subject, seq, "segment is longer than was announced: shown as a gap")
            }
        }
    }
}

/// Applies a reader's entries for ever; says so on `caught_up` when it has read
/// what was there at the start. `before` is for a reader of last entries.
async fn read(mut follow: Follow, before: Option<&Log>, shared: &Shared, caught_up: &watch::Sender<u8>) -> ReadError {
    let mut before = before;
    loop {
        let unsaid = match follow.next().await {
            Ok(Followed::Entry(entry)) => {
                shared.apply(&entry);
                entry.event.name().is_none().then_some(entry.subject)
            }
            Ok(Followed::Undecodable(message)) => {
                tracing::warn!(
                    subject = message.subject,
                    seq = message.position.sequence,
                    error = %message.error,
                    "message is not an entry"
                );
                message.subject.parse().ok()
            }
            Ok(Followed::CaughtUp) => {
                // What comes from here on is applied to what was said before it.
                before = None;
                caught_up.send_modify(|readers| *readers += 1);
                None
            }
            Err(error) => {
                tracing::warn!(error = %error, "cannot read the log, trying again");
                None
            }
        };
        if let (Some(log), Some(subject)) = (before, unsaid) {
            for entry in log.history_at_last(subject).await {
                shared.apply(&entry);
            }
        }
    }
}

/// When the first segments were stored that an edge needs which knows all else;
/// `None`: it needs all.
pub(crate) fn since(state: &State, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    let reach = TimeDelta::from_std(state.reach(now)).ok()?;
    now.checked_sub_signed(reach)?.checked_sub_signed(MARGIN)
}

/// Follows the log. Never returns.
pub(crate) async fn follow(log: Log, shared: Shared, health: Health) {
    let last = |kinds: [Kind; 2]| {
        let filters = kinds.map(Kind::filter);
        log.follow(
            kinds[0].stream(),
            &filters.each_ref().map(String::as_str),
            From::LastPerSubject,
        )
    };
    let (known, mut known_read) = watch::channel(0_u8);
    let (media, mut media_read) = watch::channel(0_u8);
    let segments = async {
        // The senders live as long as this future.
        let _open = known_read.wait_for(|readers| *readers == 2).await.is_ok();
        let start = since(&shared.read(), Utc::now()).map_or(From::Beginning, From::Time);
        let filter = Kind::Segment.filter();
        let follow = log.follow(Kind::Segment.stream(), &[&filter], start);
        read(follow, None, &shared, &media).await
    };
    let ready = async {
        let _open = media_read.wait_for(|readers| *readers == 1).await.is_ok();
        shared.caught_up.store(true, Ordering::Release);
        health.set(PART, true);
        tracing::info!(broadcasts = shared.read().broadcasts(), "caught up with the log");
        std::future::pending::<()>().await;
    };
    tokio::join!(
        read(last([Kind::Options, Kind::Registration]), Some(&log), &shared, &known),
        read(last([Kind::Status, Kind::Metadata]), Some(&log), &shared, &known),
        segments,
        ready,
    );
}
