//! Leases: of several instances of a service, one works and the others stand by.
//!
//! For views whose store has no conditional write, so that two writers could undo
//! each other. A lease is one record in the stream [`STREAM`], on
//! `castlog.lease.<name>`; `core` is how one contends for it. A [`Lease`] keeps
//! contending beside the work. The work asks its [`Term`] before each write, since
//! a process that stood still may have lost the lease without being told.
//!
//! What no lease can prevent: a write that was sent in time and arrives late. The
//! next holder makes sure that what was sent before it is done, and then compares.

mod core;

use std::time::{Duration, Instant};

use async_nats::{
    HeaderMap,
    header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE,
    jetstream::{context::PublishErrorKind, stream::LastRawMessageErrorKind},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use self::core::{Contender, Place, Step, Written};
use crate::{EntryId, Log, status::from_nats_time};

/// The stream of the leases.
pub const STREAM: &str = "LEASE";
/// Every lease: the name is that of the consumer whose work it is.
pub const NAMES: [&str; 1] = ["indexer"];
/// What has not been renewed for so long is free to take.
pub const DURATION: Duration = core::LEASE;

/// How long one request may take: several fit in the time that a holder has.
const ATTEMPT: Duration = Duration::from_millis(1500);
/// Attempts to release a lease, which the end of a process waits for; one that is not
/// released runs out.
const RELEASES: usize = 2;

/// The subject of a lease.
#[must_use]
pub fn subject(name: &str) -> String {
    format!("castlog.lease.{name}")
}

/// Why a lease cannot be read or written. It passes.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the lease {name}: {reason}")]
pub struct LeaseError {
    name: String,
    reason: String,
}

/// Who holds a lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Another for each start of a process.
    pub id: String,
    /// Name of its connection, as the server lists it.
    pub connection: String,
    /// Its address, as the server sees it.
    pub address: String,
    /// Its process id on its machine.
    pub process: u32,
}

/// A lease as it stands.
#[derive(Debug, Clone)]
pub struct Standing {
    /// Its sequence, which each renewal raises.
    pub revision: u64,
    /// Who holds it; `None` after a release.
    pub holder: Option<Holder>,
    /// When it was renewed, by the server's clock.
    pub renewed: DateTime<Utc>,
}

/// What the record says.
#[derive(Serialize, Deserialize)]
struct Said {
    holder: Option<Holder>,
}

impl Log {
    /// A lease as it stands; `None` when nobody has ever held it.
    ///
    /// # Errors
    /// The server does not answer, or there is no stream of leases.
    pub async fn lease_standing(&self, name: &str) -> Result<Option<Standing>, LeaseError> {
        let failed = |reason: String| LeaseError {
            name: name.to_owned(),
            reason,
        };
        let stream = self.jetstream.get_stream_no_info(STREAM).await;
        let stream = stream.map_err(|error| failed(error.to_string()))?;
        // Not by direct get, which a replica that is behind may answer.
        match stream.get_last_raw_message_by_subject(&subject(name)).await {
            Ok(message) => Ok(Some(Standing {
                revision: message.sequence,
                holder: read(&message.payload),
                renewed: from_nats_time(message.time),
            })),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Contends for a lease from now on. It is one of [`NAMES`].
    #[must_use]
    pub fn lease(&self, name: &'static str) -> Lease {
        let client = self.jetstream.client();
        let holder = Holder {
            id: EntryId::generate().to_string(),
            connection: self.name().to_owned(),
            address: client.server_info().client_ip,
            process: std::process::id(),
        };
        let (places, place) = watch::channel(Place::Unknown);
        let end = CancellationToken::new();
        let keeper = Keeper {
            log: self.clone(),
            name,
            contender: Contender::new(holder.id.clone(), Instant::now()),
            holder,
            failing: false,
        };
        Lease {
            place,
            keeper: AbortOnDropHandle::new(tokio::spawn(keeper.run(places, end.clone()))),
            end,
        }
    }
}

/// A record that cannot be read, such as a newer version's, is somebody's all the
/// same: it is free when it is not renewed.
fn read(payload: &[u8]) -> Option<Holder> {
    let unknown = || Holder {
        id: "unknown".to_owned(),
        connection: String::new(),
        address: String::new(),
        process: 0,
    };
    serde_json::from_slice::<Said>(payload).map_or_else(|_| Some(unknown()), |said| said.holder)
}

/// A contender for a lease. Dropped, it leaves a lease that it holds to run out, as
/// a process does that is killed.
#[derive(Debug)]
pub struct Lease {
    place: watch::Receiver<Place>,
    end: CancellationToken,
    keeper: AbortOnDropHandle<()>,
}

/// What a contender is at a moment.
#[derive(Debug)]
pub enum Role {
    /// It cannot tell: the lease cannot be read or written.
    Unknown,
    /// Another holds the lease.
    Standby,
    /// It holds the lease.
    Holder(Term),
}

impl Lease {
    /// What it is now.
    pub fn role(&mut self) -> Role {
        let place = *self.place.borrow_and_update();
        match place {
            Place::Standby => Role::Standby,
            Place::Holder { term, until } if Instant::now() < until => Role::Holder(Term {
                number: term,
                place: self.place.clone(),
            }),
            // The keeper, which is at a request, finds that a term is over only then.
            Place::Unknown | Place::Holder { .. } => Role::Unknown,
        }
    }

    /// Waits until it may be something else than [`Self::role`] has said. Cancel-safe.
    ///
    /// # Errors
    /// It contends no more: its task has panicked.
    pub async fn changed(&mut self) -> Result<(), LeaseEnded> {
        self.place.changed().await.map_err(|_| LeaseEnded)
    }

    /// Frees the lease, if it holds it, so that another takes it at once. The work is
    /// to have ended before.
    pub async fn release(self) {
        self.end.cancel();
        // One that has panicked holds nothing that could be freed.
        self.keeper.await.ok();
    }
}

/// Nothing contends for the lease any more.
#[derive(Debug, thiserror::Error)]
#[error("nothing contends for the lease any more")]
pub struct LeaseEnded;

/// A time of holding a lease. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Term {
    number: u64,
    place: watch::Receiver<Place>,
}

impl Term {
    /// Whether it is not over, by the clock of this moment. To be asked directly
    /// before each write.
    #[must_use]
    pub fn holds(&self) -> bool {
        // Without a keeper nothing renews it, but it is not over before its time.
        until(*self.place.borrow(), self.number).is_some_and(|until| Instant::now() < until)
    }

    /// Waits until it is over. Cancel-safe.
    pub async fn over(&self) {
        let mut place = self.place.clone();
        loop {
            let now = *place.borrow_and_update();
            let Some(until) = until(now, self.number) else { return };
            tokio::select! {
                () = tokio::time::sleep_until(until.into()) => {
                    if !self.holds() {
                        return;
                    }
                }
                Ok(()) = place.changed() => {}
            }
        }
    }
}

/// When this term is over; `None` when it is.
fn until(place: Place, number: u64) -> Option<Instant> {
    match place {
        Place::Holder { term, until } if term == number => Some(until),
        _ => None,
    }
}

/// The task beside the work.
struct Keeper {
    log: Log,
    name: &'static str,
    holder: Holder,
    contender: Contender,
    /// Whether the last request failed: its reason is told once.
    failing: bool,
}

impl Keeper {
    async fn run(mut self, places: watch::Sender<Place>, end: CancellationToken) {
        while !end.is_cancelled() {
            match self.contender.step(Instant::now()) {
                Step::Wait(moment) => {
                    tokio::select! {
                        () = end.cancelled() => {}
                        () = tokio::time::sleep_until(moment.into()) => {}
                    }
                }
                Step::Look => self.look().await,
                Step::Write(revision) => {
                    let sent = Instant::now();
                    let written = self.write(revision, Some(self.holder.clone())).await;
                    self.contender.wrote(written, sent, Instant::now());
                }
            }
            self.show(&places);
        }
        let held = self.contender.give_up();
        // Nothing is written any more before somebody else is let in.
        self.show(&places);
        if let Some(revision) = held {
            self.release(revision).await;
        }
    }

    fn show(&self, places: &watch::Sender<Place>) {
        let place = self.contender.place();
        places.send_if_modified(|shown| std::mem::replace(shown, place) != place);
    }

    async fn look(&mut self) {
        match self.stands().await {
            Some(record) => self.contender.read(record, Instant::now()),
            None => self.contender.unread(Instant::now()),
        }
    }

    /// The record, if it can be read.
    async fn stands(&mut self) -> Option<core::Record> {
        let standing = tokio::time::timeout(ATTEMPT, self.log.lease_standing(self.name)).await;
        let standing = match standing {
            Ok(Ok(standing)) => standing,
            Ok(Err(error)) => return self.failed(&error.reason),
            Err(_) => return self.failed("no answer in time"),
        };
        self.failing = false;
        Some(match standing {
            Some(standing) => core::Record {
                revision: standing.revision,
                holder: standing.holder.map(|holder| holder.id),
            },
            None => core::Record {
                revision: 0,
                holder: None,
            },
        })
    }

    async fn write(&mut self, revision: u64, holder: Option<Holder>) -> Written {
        let subject = subject(self.name);
        let mut headers = HeaderMap::new();
        headers.insert(NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string().as_str());
        let payload = serde_json::to_vec(&Said { holder }).unwrap_or_default();
        let publish = async {
            let jetstream = &self.log.jetstream;
            let ack = jetstream.publish_with_headers(subject.clone(), headers, payload.into());
            ack.await?.await
        };
        let published = tokio::time::timeout(ATTEMPT, self.log.unless_refused(&subject, publish)).await;
        let reason = match published {
            Ok(Ok(Ok(ack))) => {
                self.failing = false;
                return Written::Stored(ack.sequence);
            }
            Ok(Ok(Err(error))) if error.kind() == PublishErrorKind::WrongLastSequence => return Written::Refused,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(refused)) => refused.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        self.failed::<()>(&reason);
        Written::Unknown
    }

    async fn release(&mut self, mut revision: u64) {
        for _ in 0..RELEASES {
            match self.write(revision, None).await {
                Written::Stored(_) => return,
                // A renewal whose answer was not heard may have been stored.
                Written::Refused | Written::Unknown => match self.stands().await {
                    Some(record) if record.holder.as_deref() == Some(self.contender.id()) => {
                        revision = record.revision;
                    }
                    Some(_) => return,
                    None => {}
                },
            }
        }
        tracing::warn!(lease = self.name, "lease is not released: it runs out");
    }

    fn failed<T>(&mut self, reason: &str) -> Option<T> {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(lease = self.name, reason, "waiting for the lease");
        }
        None
    }
}
