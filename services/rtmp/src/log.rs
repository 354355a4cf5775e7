//! The way to and from the log: publish keys are read for as long as the server runs,
//! at its start the sessions that an earlier run left open; entries are published
//! until their fate is known, and strangers can cause only so many.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use castlog_log::{BroadcastId, Draft, EntryId, Event, Followed, From, Kind, PublishError, Subject, pb};
use chrono::Utc;

use crate::{server::Server, session::Open};

/// Keeps the key table equal to the log. The server becomes ready when the table is
/// complete and the open sessions are taken up.
pub(crate) async fn follow_keys(server: Arc<Server>, on_ready: impl FnOnce()) -> anyhow::Result<()> {
    let filters = [Kind::PublishKey, Kind::Options, Kind::Registration].map(Kind::filter);
    let filters = filters.each_ref().map(String::as_str);
    let mut follow = server
        .log
        .follow(Kind::PublishKey.stream(), &filters, From::LastPerSubject);
    let mut on_ready = Some(on_ready);
    loop {
        let followed = tokio::select! {
            followed = follow.next() => followed,
            () = server.shutdown.cancelled() => return Ok(()),
        };
        match followed {
            Ok(Followed::Entry(entry)) if entry.event.name().is_some() => server.apply_key(&entry),
            Ok(Followed::Entry(entry)) => what_was_before(&server, entry.subject).await,
            Ok(Followed::Undecodable(message)) => {
                let seq = message.position.sequence;
                tracing::error!(subject = message.subject, seq, error = %message.error, "entry skipped");
                if let Ok(subject) = message.subject.parse() {
                    what_was_before(&server, subject).await;
                }
            }
            Ok(Followed::CaughtUp) => {
                tokio::select! {
                    () = recover(&server) => {}
                    () = server.shutdown.cancelled() => return Ok(()),
                }
                server.set_ready();
                if let Some(on_ready) = on_ready.take() {
                    on_ready();
                }
            }
            Err(error) => {
                tracing::warn!(error = %error, "publish keys cannot be read, trying again")
            }
        }
    }
}

/// Applies all that stands on a subject: its last entry says nothing that is known, so
/// that what was said before stands, and a server that has just started has not read it.
async fn what_was_before(server: &Arc<Server>, subject: Subject) {
    tokio::select! {
        entries = server.log.history_at_last(subject) => entries.iter().for_each(|entry| server.apply_key(entry)),
        () = server.shutdown.cancelled() => {}
    }
}

/// Takes up the sessions that the log shows as open and held by this server.
async fn recover(server: &Arc<Server>) {
    let filter = Kind::Status.filter();
    let mut follow = server
        .log
        .follow(Kind::Status.stream(), &[&filter], From::LastPerSubject);
    let mut recovered = 0_usize;
    loop {
        match follow.next().await {
            Ok(Followed::Entry(entry)) => {
                let (Some(broadcast), Event::Status(status)) = (entry.subject.broadcast, &entry.event) else {
                    continue;
                };
                let Some(open) = Open::read(status) else {
                    continue;
                };
                if open.session.server == server.config.name {
                    server.recover(broadcast, entry.sequence(), open).await;
                    recovered += 1;
                }
            }
            Ok(Followed::Undecodable(message)) => {
                let seq = message.position.sequence;
                tracing::error!(subject = message.subject, seq, error = %message.error, "entry skipped");
            }
            Ok(Followed::CaughtUp) => break,
            Err(error) => {
                tracing::warn!(error = %error, "open sessions cannot be read, trying again")
            }
        }
    }
    if recovered > 0 {
        tracing::info!(recovered, "sessions of an earlier run taken up");
    }
}

/// Wait before an entry whose fate is unknown is published again.
const REPUBLISH_DELAY: Duration = Duration::from_secs(1);

/// Why a status entry is not in the log.
pub(crate) enum Unlogged {
    /// Another server wrote to the broadcast.
    Conflict,
    /// The log does not take it, however often it is published.
    Refused,
    /// The time to finish is over.
    Abandoned,
}

impl Server {
    /// Publishes an entry again and again until the log has told its fate.
    pub(crate) async fn publish_until_known(&self, draft: Draft) -> Result<u64, Unlogged> {
        // One id for all attempts, so that the entry is stored once.
        let draft = draft.id(EntryId::generate().to_string()).time(Utc::now());
        loop {
            let outcome = tokio::select! {
                outcome = self.publisher.publish(draft.clone()) => outcome,
                () = self.abandon.cancelled() => return Err(Unlogged::Abandoned),
            };
            match outcome {
                Ok(receipt) => return Ok(receipt.sequence),
                Err(PublishError::Conflict { .. }) => return Err(Unlogged::Conflict),
                Err(error) if error.is_retryable() => {
                    tracing::warn!(error = %error, "an entry waits for the log");
                    tokio::time::sleep(REPUBLISH_DELAY).await;
                }
                Err(error) => {
                    tracing::error!(error = %error, "an entry cannot be published");
                    return Err(Unlogged::Refused);
                }
            }
        }
    }
}

/// Tells of a status entry that is in the log.
pub(crate) fn log_transition(broadcast: BroadcastId, seq: u64, status: &pb::Status) {
    use pb::status::Event as E;
    let (event, session, reason) = match &status.event {
        Some(E::Started(e)) => ("started", &e.session, ""),
        Some(E::Resumed(e)) => ("resumed", &e.session, ""),
        Some(E::Interrupted(e)) => ("interrupted", &e.session, e.reason.as_str()),
        Some(E::Ended(e)) => ("ended", &e.session, e.reason.as_str()),
        None => return,
    };
    let session_id = session.as_ref().map_or("", |session| session.session_id.as_str());
    tracing::info!(broadcast_id = %broadcast, session_id, event, reason, seq, "session changed");
}

/// Rejections that can be logged at once.
const BURST: f64 = 50.0;
/// Rejections that can be logged per second in the long run: guessing keys must not
/// fill the log, whose every entry costs a write to disk.
const PER_SECOND: f64 = 5.0;

/// A token bucket for `Rejected` entries.
#[derive(Debug)]
pub(crate) struct RejectionBudget(Mutex<(f64, Instant)>);

impl Default for RejectionBudget {
    fn default() -> Self {
        Self(Mutex::new((BURST, Instant::now())))
    }
}

impl RejectionBudget {
    /// Whether another rejection may be logged at `now`.
    pub(crate) fn take(&self, now: Instant) -> bool {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, last) = *bucket;
        let tokens = (tokens + now.saturating_duration_since(last).as_secs_f64() * PER_SECOND).min(BURST);
        let allowed = tokens >= 1.0;
        *bucket = (if allowed { tokens - 1.0 } else { tokens }, now);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejections_are_logged_at_a_bounded_rate() {
        let budget = RejectionBudget::default();
        let start = Instant::now();
        let at_once = (0..1000).filter(|_| budget.take(start)).count();
        assert_eq!(at_once, 50);
        let later = start + Duration::from_secs(2);
        assert_eq!((0..1000).filter(|_| budget.take(later)).count(), 10);
    }
}
