//! Keeps the `viewers` of the documents near what the edges count. The count is not
//! part of what the index is held against: it is old the moment that it is written.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use castlog_log::{BroadcastId, Followed, Log, audience::Audience};
use castlog_service::Shutdown;
use tokio::time::MissedTickBehavior;

use crate::reconcile::{CHUNK, Reconciler, Wanted};

/// How often counts are brought into the index: twice as often as edges count.
const INTERVAL: Duration = Duration::from_secs(5);

/// What is counted, and what the index says. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Viewers(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    audience: Audience,
    /// By broadcast that is in the index, as far as this process knows.
    shown: HashMap<BroadcastId, u64>,
}

impl Viewers {
    fn lock(&self) -> MutexGuard<'_, Known> {
        // A map is whole in between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Viewers of a broadcast as last counted.
    pub(crate) fn of(&self, broadcast: BroadcastId) -> u64 {
        self.lock().audience.of(broadcast)
    }

    /// These documents have been written, or deleted.
    pub(crate) fn wrote(&self, written: &Wanted) {
        let shown = &mut self.lock().shown;
        for (id, document) in written {
            match document {
                Some(document) => shown.insert(*id, document.viewers),
                None => shown.remove(id),
            };
        }
    }

    /// These are all documents of the index.
    pub(crate) fn read(&self, shown: HashMap<BroadcastId, u64>) {
        self.lock().shown = shown;
    }

    /// Broadcasts whose documents say something else than what is counted: at most
    /// [`CHUNK`], those that are off the most.
    fn due(&self, now: Instant) -> BTreeSet<BroadcastId> {
        let mut known = self.lock();
        known.audience.forget(now);
        let Known { audience, shown } = &*known;
        let off = |(id, shown): (&BroadcastId, &u64)| (audience.of(*id).abs_diff(*shown), *id);
        let mut due: Vec<(u64, BroadcastId)> = shown.iter().map(off).filter(|(by, _)| *by > 0).collect();
        if due.len() > CHUNK {
            due.select_nth_unstable_by(CHUNK, |a, b| b.cmp(a));
            due.truncate(CHUNK);
        }
        due.into_iter().map(|(_, id)| id).collect()
    }
}

/// Counts what the edges say, and brings it into the index, until the shutdown.
pub(crate) async fn keep(reconciler: &Reconciler, shutdown: &Shutdown) {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = count(&reconciler.log, &reconciler.viewers) => {}
        () = write(reconciler) => {}
    }
}

async fn count(log: &Log, viewers: &Viewers) {
    let mut follow = log.follow_audience();
    loop {
        match follow.next().await {
            Ok(Followed::Entry(entry)) => viewers.lock().audience.count(&entry, Instant::now()),
            Ok(Followed::CaughtUp) => {}
            Ok(Followed::Undecodable(other)) => {
                tracing::warn!(subject = other.subject, seq = other.position.sequence, error = %other.error, "viewers are not counted");
            }
            Err(error) => tracing::warn!(error = %error, "the count of viewers waits for the log"),
        }
    }
}

async fn write(reconciler: &Reconciler) {
    let mut interval = tokio::time::interval(INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        let due = reconciler.viewers.due(Instant::now());
        // What cannot be written now is due again at the next tick.
        if let Err(fault) = reconciler.reconcile(&due, &[]).await {
            let error = format!("{:#}", anyhow::Error::new(fault));
            tracing::warn!(index = reconciler.index, error, "the number of viewers is out of date");
        }
    }
}

#[cfg(test)]
mod tests {
    use castlog_log::audience::COUNT_STANDS;
    use castlog_testkit::events::{counted, entry};

    use super::*;
    use crate::document::Facts;

    #[test]
    fn documents_that_are_off_are_due_and_others_are_not() {
        let (viewers, now) = (Viewers::default(), Instant::now());
        let [shown, equal, absent] = std::array::from_fn(|_| BroadcastId::generate());
        viewers.read([(shown, 0), (equal, 2)].into());
        for (sequence, id) in (1..).zip([shown, equal, absent]) {
            viewers
                .lock()
                .audience
                .count(&entry(id, counted("a", 2), sequence), now);
        }
        assert_eq!(viewers.due(now), [shown].into());
        // Counts that nobody repeats are over.
        assert_eq!(viewers.due(now + COUNT_STANDS), [equal].into());
        viewers.wrote(&[(equal, None)].into());
        assert_eq!(viewers.due(now + COUNT_STANDS), [].into());
        // Who is not on the air has no document.
        assert!(Facts::default().document(absent, 2).is_none());
    }

    #[test]
    fn those_that_are_off_the_most_come_first() {
        let (viewers, now) = (Viewers::default(), Instant::now());
        let ids: Vec<BroadcastId> = (0..=CHUNK).map(|_| BroadcastId::generate()).collect();
        viewers.read(ids.iter().map(|id| (*id, 0)).collect());
        for (sequence, id) in (1..).zip(&ids) {
            let concurrent = u32::try_from(sequence).unwrap();
            let entry = entry(*id, counted("a", concurrent), sequence);
            viewers.lock().audience.count(&entry, now);
        }
        assert_eq!(viewers.due(now), ids[1..].iter().copied().collect());
    }
}
