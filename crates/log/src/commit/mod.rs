//! Group commit: entries that are published while others are on their way to
//! disk go there together, as one JetStream atomic batch (ADR-50).
//!
//! With a sync per acknowledgement, a stream stores about as many messages a
//! second as the disk syncs; a batch is synced as a whole. What to send when is
//! decided in [`core`]; here it is sent. One task per stream and connection does
//! so, whatever the number of publishers.

mod core;
mod send;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use futures::{
    FutureExt as _,
    future::{BoxFuture, pending},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    task::unconstrained,
};

use self::core::{Core, Effect, Entry, Input, Key, MIN_BATCH};
pub(crate) use self::{core::Fate, send::Wire};
use crate::batch::Outgoing;

/// Bytes of entries that wait or are on their way, per stream: several full
/// batches, so that the next one is there when the last is done. Callers wait beyond it.
const BUDGET: usize = 16 * 1024 * 1024;
/// What an entry costs of the budget at least, which bounds their number.
const MIN_COST: usize = 4 * 1024;
/// How long a batch waits for those whom the one before it has let go: much
/// shorter than a batch takes. A publisher that comes alone does not wait.
const GATHER: Duration = Duration::from_millis(1);
/// Wait before the first repetition; doubles with each failure in a row.
const MIN_REST: Duration = Duration::from_millis(50);
/// Longest wait before a repetition.
const MAX_REST: Duration = Duration::from_secs(2);

/// An entry as it goes over the wire, with what its headers say of it.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) outgoing: Outgoing,
    pub(crate) id: String,
    pub(crate) expected: Option<u64>,
}

impl Message {
    /// Bytes on the wire, with a generous allowance for subject and headers.
    fn size(&self) -> usize {
        const ENVELOPE: usize = 1024;
        self.outgoing.payload.len() + ENVELOPE
    }

    fn describe(&self, key: Key) -> Entry {
        Entry {
            key,
            subject: self.outgoing.subject.clone(),
            id: self.id.clone(),
            size: self.size(),
            expected: self.expected,
        }
    }
}

struct Request {
    message: Message,
    reply: oneshot::Sender<Fate>,
    _cost: OwnedSemaphorePermit,
}

#[derive(Debug, Clone)]
struct Handle {
    requests: mpsc::UnboundedSender<Request>,
    budget: Arc<Semaphore>,
}

/// The group commits of one connection, one per stream, begun with the first entry for it.
#[derive(Debug, Default)]
pub(crate) struct Committers(Mutex<HashMap<&'static str, Handle>>);

impl Committers {
    /// Stores an entry and says what became of it. An entry is in its place as
    /// soon as the future is first polled; dropping the future afterwards does not
    /// withdraw it.
    pub(crate) async fn commit(&self, wire: impl Fn() -> Wire, stream: &'static str, message: Message) -> Fate {
        let handle = self.of(wire, stream);
        let cost = u32::try_from(message.size().clamp(MIN_COST, BUDGET)).unwrap_or(u32::MAX);
        // Unconstrained: a task that publishes many at once would otherwise be made
        // to yield in the middle, and go on with the last of them.
        let Ok(cost) = unconstrained(handle.budget.acquire_many_owned(cost)).await else {
            return ended();
        };
        let (reply, outcome) = oneshot::channel();
        let request = Request {
            message,
            reply,
            _cost: cost,
        };
        if handle.requests.send(request).is_err() {
            return ended();
        }
        outcome.await.unwrap_or_else(|_| ended())
    }

    /// Waits until nothing that was given before waits or is on its way.
    pub(crate) async fn flush(&self) {
        let handles: Vec<Handle> = self.lock().values().cloned().collect();
        for handle in handles {
            // All of the budget is there when nobody holds a part of it. It is never closed.
            drop(handle.budget.acquire_many(BUDGET as u32).await);
        }
    }

    fn of(&self, wire: impl Fn() -> Wire, stream: &'static str) -> Handle {
        let mut handles = self.lock();
        if let Some(handle) = handles.get(stream)
            && !handle.requests.is_closed()
        {
            return handle.clone();
        }
        let (requests, queue) = mpsc::unbounded_channel();
        let handle = Handle {
            requests,
            budget: Arc::new(Semaphore::new(BUDGET)),
        };
        tokio::spawn(run(wire(), stream, queue));
        handles.insert(stream, handle.clone());
        handle
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<&'static str, Handle>> {
        // Nothing panics while it is held, and a map is whole in between.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that sends is gone, which happens when its runtime ends.
fn ended() -> Fate {
    let reason = "the task that publishes has ended";
    Fate::Unavailable(Arc::new(PublishError::with_source(PublishErrorKind::Other, reason)))
}

/// Serves one stream until its connection is dropped and everything given is settled.
async fn run(wire: Wire, stream: &'static str, mut queue: mpsc::UnboundedReceiver<Request>) {
    let begun = Instant::now();
    let mut core = Core::new(MIN_BATCH);
    let mut requests: HashMap<Key, Request> = HashMap::new();
    let mut keys: Key = 0;
    let mut open = true;
    let mut operation: BoxFuture<'static, Input> = pending().boxed();
    while open || !core.is_idle() {
        let arrived = tokio::select! {
            request = queue.recv(), if open => {
                open = request.is_some();
                request
            }
            input = &mut operation => {
                operation = pending().boxed();
                core.input(begun.elapsed(), input);
                None
            }
        };
        for request in arrived.into_iter().chain(std::iter::from_fn(|| queue.try_recv().ok())) {
            keys += 1;
            core.input(begun.elapsed(), Input::Arrived(request.message.describe(keys)));
            requests.insert(keys, request);
        }
        for effect in core.effects(begun.elapsed()) {
            match effect {
                Effect::Resolve(key, fate) => {
                    if let Some(request) = requests.remove(&key) {
                        // A caller that no longer listens has nothing to learn.
                        request.reply.send(fate).ok();
                    }
                }
                Effect::Send(keys) => {
                    let messages = keys.iter().filter_map(|key| requests.get(key));
                    let messages: Vec<Message> = messages.map(|request| request.message.clone()).collect();
                    let wire = wire.clone();
                    operation = async move { Input::Sent(wire.send(messages).await) }.boxed();
                }
                Effect::Ask(key, place) => {
                    if let Some(message) = requests.get(&key).map(|request| request.message.clone()) {
                        let wire = wire.clone();
                        operation = async move { Input::Found(wire.find(stream, &message, place).await) }.boxed();
                    }
                }
                Effect::Gather => operation = tokio::time::sleep(GATHER).map(|()| Input::Rested).boxed(),
                Effect::Rest(failures) => {
                    let rest = rest(failures);
                    tracing::warn!(stream, failures, ?rest, "publishing entries again");
                    operation = tokio::time::sleep(rest).map(|()| Input::Rested).boxed();
                }
            }
        }
    }
}

/// Exponential, with jitter so that the publishers of a restarted server do not come at once.
fn rest(failures: u32) -> Duration {
    let full = MIN_REST
        .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(16)))
        .min(MAX_REST);
    full.mul_f64(rand::random_range(0.5..=1.0))
}
