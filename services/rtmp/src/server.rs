//! What all connections share: the key table, the sessions, and the way to the log.
//!
//! Everything that happens to one broadcast is taken in under its slot's lock and
//! carried out, entries acknowledged, before the next: so the log has it in order.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use castlog_log::{BroadcastId, Draft, Entry, Kind, Log, Publisher, ReadError, SessionId, pb, trace};
use castlog_rtmp_core::StreamName;
use castlog_service::Shutdown;
use chrono::{DateTime, Utc};
use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument as _, field};

use crate::{
    Code, Config, Refused,
    hub::{Hub, Streams},
    log::{RejectionBudget, Unlogged, log_transition},
    session::{ConnectionId, Effect, Event, Open, Session, State},
    state::{Grant, KeyTable},
};

/// How long an encoder waits for the log before it is told that there is none.
pub(crate) const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// Where one broadcast stands, here and in the log.
#[derive(Debug, Default)]
struct Slot {
    state: State,
    /// Sequence of the broadcast's last status entry, once it is known.
    last: Option<u64>,
}

/// An encoder's right to publish.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) broadcast: BroadcastId,
    pub(crate) session: SessionId,
    pub(crate) hub: Arc<Hub>,
}

/// An encoder that asks to publish.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) connection: ConnectionId,
    pub(crate) name: StreamName,
    /// Address and port.
    pub(crate) peer: String,
    /// What it calls itself.
    pub(crate) encoder: String,
}

/// An asker and the way back to its connection.
struct Pending {
    asker: Asker,
    reply: oneshot::Sender<Result<Granted, Refused>>,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) log: Log,
    pub(crate) publisher: Publisher,
    pub(crate) shutdown: Shutdown,
    /// Connections, and what is done for them.
    pub(crate) tasks: TaskTracker,
    /// Where everything runs but the connections.
    runtime: Handle,
    /// Fires when the time to finish is over.
    pub(crate) abandon: CancellationToken,
    pub(crate) rejections: RejectionBudget,
    keys: RwLock<KeyTable>,
    ready: AtomicBool,
    ingest_base: String,
    slots: Mutex<HashMap<BroadcastId, Arc<tokio::sync::Mutex<Slot>>>>,
    pub(crate) streams: Streams,
    cuts: Mutex<HashMap<ConnectionId, oneshot::Sender<Refused>>>,
    connections: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics half way through a change.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Server {
    /// `ingest_base` is the URL of the HTTP-FLV listener.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(crate) fn new(config: Config, log: &Log, shutdown: &Shutdown, ingest_base: String) -> Self {
        Self {
            config,
            log: log.clone(),
            publisher: Publisher::new(log, "rtmp"),
            shutdown: shutdown.clone(),
            tasks: TaskTracker::new(),
            runtime: Handle::current(),
            abandon: CancellationToken::new(),
            rejections: RejectionBudget::default(),
            keys: RwLock::default(),
            ready: AtomicBool::new(false),
            ingest_base,
            slots: Mutex::default(),
            streams: Streams::default(),
            cuts: Mutex::default(),
            connections: AtomicU64::new(0),
        }
    }

    /// Registers a connection; the receiver yields when the server cuts it.
    pub(crate) fn register(&self) -> (ConnectionId, oneshot::Receiver<Refused>) {
        let id = ConnectionId(self.connections.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        lock(&self.cuts).insert(id, sender);
        (id, receiver)
    }

    /// Forgets a connection.
    pub(crate) fn unregister(&self, connection: ConnectionId) {
        lock(&self.cuts).remove(&connection);
    }

    /// Starts a task away from the threads of the connections.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        self.tasks.spawn_on(task, &self.runtime)
    }

    /// Takes an entry into the key table, and cuts whom it cuts.
    pub(crate) fn apply_key(self: &Arc<Self>, entry: &Entry) {
        let cut = self.keys.write().unwrap_or_else(PoisonError::into_inner).apply(entry);
        // Before the server is ready it holds no session that could be cut.
        if let Some(cut) = cut.filter(|_| self.is_ready()) {
            tracing::info!(broadcast_id = %cut.broadcast, refused = %cut.refused, "right to publish withdrawn");
            let withdrawn = Event::Cut {
                connection: None,
                refused: cut.refused,
            };
            self.submit(cut.broadcast, withdrawn);
        }
    }

    /// The key table and the open sessions are known.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    fn authorise(&self, name: &StreamName) -> Result<Grant, Refused> {
        self.keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .authorise(name.expose())
    }

    fn window(&self, broadcast: BroadcastId) -> Duration {
        let own = self
            .keys
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .reconnect_window(broadcast);
        own.unwrap_or(Duration::from_secs(self.config.reconnect_window_s.into()))
    }

    /// Asks for the right to publish; the broadcast is known as soon as the key is.
    pub(crate) async fn ask(self: &Arc<Self>, asker: Asker) -> Result<Granted, (Refused, Option<BroadcastId>)> {
        let unavailable = |reason: &str| Refused::new(Code::LogUnavailable, reason);
        if !self.is_ready() {
            return Err((unavailable("the log is not read yet, try again"), None));
        }
        let grant = self.authorise(&asker.name).map_err(|refused| (refused, None))?;
        let broadcast = grant.broadcast;
        let refuse = |refused| (refused, Some(broadcast));
        if !self.log.is_connected() {
            return Err(refuse(unavailable("the log cannot be reached, try again")));
        }
        let (reply, decision) = oneshot::channel();
        let server = self.clone();
        let span = begin_trace(broadcast);
        let publish = async move { server.publish(broadcast, Pending { asker, reply }).await };
        self.spawn(publish.instrument(span.clone()));
        let decision = match tokio::time::timeout(LOG_TIMEOUT, decision).await {
            Ok(Ok(decision)) => decision,
            Ok(Err(_)) => Err(unavailable("the server is shutting down")),
            Err(_) => Err(unavailable("the log does not answer, try again")),
        };
        if let Err(refused) = &decision {
            span.record("castlog.refusal", field::display(refused.code));
        }
        decision.map_err(refuse)
    }

    async fn publish(self: &Arc<Self>, broadcast: BroadcastId, pending: Pending) {
        let slot = self.slot(broadcast);
        let mut slot = slot.lock().await;
        // Who has waited for too long has been told no, and nothing comes of it.
        if !pending.reply.is_closed() {
            self.decide(broadcast, &mut slot, pending).await;
        }
        self.forget_if_idle(broadcast, &slot);
    }

    async fn decide(self: &Arc<Self>, broadcast: BroadcastId, slot: &mut Slot, pending: Pending) {
        // The key may have gone while this waited: what is cut after this look comes
        // behind it in the slot's queue.
        let checked = match self.authorise(&pending.asker.name) {
            Ok(grant) => self.adopt(broadcast, slot).await.map(|()| grant.take_over),
            Err(refused) => Err(refused),
        };
        match checked {
            Ok(take_over) => {
                let id = SessionId::generate();
                let fresh = Session {
                    id,
                    started_at: Utc::now(),
                    server: self.config.name.clone(),
                    ingest_url: self.ingest_url(id),
                };
                let event = Event::Publish {
                    connection: pending.asker.connection,
                    fresh,
                    take_over,
                };
                self.carry_out(broadcast, slot, event, Some(pending)).await.ok();
            }
            Err(refused) => {
                answer(Some(pending), Err(refused));
            }
        }
    }

    /// Takes an event in, in its turn.
    pub(crate) fn submit(self: &Arc<Self>, broadcast: BroadcastId, event: Event) -> JoinHandle<()> {
        let server = self.clone();
        self.spawn(async move {
            let slot = server.slot(broadcast);
            let mut slot = slot.lock().await;
            server.carry_out(broadcast, &mut slot, event, None).await.ok();
            server.forget_if_idle(broadcast, &slot);
        })
    }

    /// Takes up a session that an earlier run of this server left open.
    pub(crate) async fn recover(self: &Arc<Self>, broadcast: BroadcastId, sequence: u64, open: Open) {
        let slot = self.slot(broadcast);
        let mut slot = slot.lock().await;
        if slot.state == State::Idle {
            slot.last = Some(sequence);
            self.carry_out(broadcast, &mut slot, Event::Recovered(self.own(open)), None)
                .await
                .ok();
            if !self
                .keys
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .has_key(broadcast)
            {
                let withdrawn = Event::Cut {
                    connection: None,
                    refused: Refused::new(Code::KeyRevoked, "the broadcast has no publish key any more"),
                };
                self.carry_out(broadcast, &mut slot, withdrawn, None).await.ok();
            }
        }
        self.forget_if_idle(broadcast, &slot);
    }

    /// The session of an earlier run or of another server, as this one holds and serves it.
    fn own(&self, mut open: Open) -> Open {
        open.session.server.clone_from(&self.config.name);
        open.session.ingest_url = self.ingest_url(open.session.id);
        open
    }

    fn ingest_url(&self, session: SessionId) -> String {
        format!("{}/flv/{session}", self.ingest_base)
    }

    fn slot(&self, broadcast: BroadcastId) -> Arc<tokio::sync::Mutex<Slot>> {
        lock(&self.slots).entry(broadcast).or_default().clone()
    }

    /// Drops the slot of a broadcast without a session, unless others wait for it.
    fn forget_if_idle(&self, broadcast: BroadcastId, slot: &Slot) {
        /// The map's and the caller's.
        const OWN_HANDLES: usize = 2;
        if slot.state == State::Idle {
            let mut slots = lock(&self.slots);
            if slots
                .get(&broadcast)
                .is_some_and(|slot| Arc::strong_count(slot) <= OWN_HANDLES)
            {
                slots.remove(&broadcast);
            }
        }
    }

    /// Reads from the log where a broadcast stands before an encoder is let in, and takes
    /// up a session that waits for its encoder, whichever server it waits at.
    ///
    /// # Errors
    /// It is live at another server, or the log cannot be read.
    async fn adopt(self: &Arc<Self>, broadcast: BroadcastId, slot: &mut Slot) -> Result<(), Refused> {
        if matches!(slot.state, State::Live { .. }) {
            return Ok(());
        }
        let (sequence, open) = self.newest(broadcast).await?;
        if slot.state != State::Idle {
            // A replica of the log that is behind tells of something older.
            if slot.last >= Some(sequence) {
                return Ok(());
            }
            self.give_up(broadcast, slot, &State::Idle, &already_live());
        }
        slot.last = Some(sequence);
        match open {
            Some(open) if open.session.server != self.config.name && open.deadline.is_none() => Err(already_live()),
            Some(open) => {
                self.carry_out(broadcast, slot, Event::Recovered(self.own(open)), None)
                    .await
            }
            None => Ok(()),
        }
    }

    /// The sequence of a broadcast's newest status, 0 without one, and the session that
    /// is open by it.
    async fn newest(&self, broadcast: BroadcastId) -> Result<(u64, Option<Open>), Refused> {
        match self.log.last(Kind::Status, broadcast).await {
            Ok(None) => Ok((0, None)),
            Ok(Some(entry)) => {
                let open = match &entry.event {
                    castlog_log::Event::Status(status) => Open::read(status),
                    _ => None,
                };
                Ok((entry.sequence(), open))
            }
            Err(ReadError::Undecodable { sequence, .. }) => {
                tracing::error!(broadcast_id = %broadcast, seq = sequence, "last status entry cannot be decoded");
                Ok((sequence, None))
            }
            Err(error) => {
                tracing::warn!(broadcast_id = %broadcast, error = %error, "cannot read the last status entry");
                Err(Refused::new(Code::LogUnavailable, "the log cannot be read, try again"))
            }
        }
    }

    /// Takes an event in and does what follows from it; whoever is pending is answered.
    ///
    /// # Errors
    /// What is held of the broadcast had to be given up, and why.
    async fn carry_out(
        self: &Arc<Self>,
        broadcast: BroadcastId,
        slot: &mut Slot,
        event: Event,
        mut pending: Option<Pending>,
    ) -> Result<(), Refused> {
        let window = self.window(broadcast);
        let before = slot.state.clone();
        let mut effects = VecDeque::from(slot.state.apply(event, Utc::now(), window));
        if effects.iter().any(|effect| matches!(effect, Effect::Grant { .. }))
            && let Some(Pending { asker, reply }) = &pending
            && let Some(session) = slot.state.session()
        {
            self.log_accepted(broadcast, session.id, asker).await;
            // It was told meanwhile that the log does not answer: all stays as it was.
            if reply.is_closed() {
                slot.state = before;
                return Ok(());
            }
        }
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Log(status) => {
                    let refused = match self.log_status(broadcast, slot, status).await {
                        Ok(()) => continue,
                        Err(Unlogged::Conflict) => already_live(),
                        Err(Unlogged::Refused) => Refused::new(Code::LogUnavailable, "the log refuses the entry"),
                        // The next run goes by what is in the log.
                        Err(Unlogged::Abandoned) => return Ok(()),
                    };
                    self.give_up(broadcast, slot, &before, &refused);
                    answer(pending, Err(refused.clone()));
                    return Err(refused);
                }
                Effect::OpenStream(session) => {
                    self.streams.open(session);
                }
                Effect::CloseStream(session) => self.streams.close(session),
                Effect::Grant { connection, session } => {
                    let hub = self.streams.open(session);
                    hub.attach(connection);
                    if !answer(
                        pending.take(),
                        Ok(Granted {
                            broadcast,
                            session,
                            hub,
                        }),
                    ) {
                        let reason = "the encoder left before the log answered".to_owned();
                        let lost = Event::Lost { connection, reason };
                        effects.extend(slot.state.apply(lost, Utc::now(), window));
                    }
                }
                Effect::Refuse { refused, .. } => {
                    answer(pending.take(), Err(refused));
                }
                Effect::Disconnect { connection, refused } => self.cut(connection, refused),
                Effect::Wake(at) => self.wake(broadcast, at),
            }
        }
        Ok(())
    }

    async fn log_accepted(&self, broadcast: BroadcastId, session: SessionId, asker: &Asker) {
        let accepted = pb::auth::Accepted {
            session_id: session.to_string(),
            peer: asker.peer.clone(),
            encoder: asker.encoder.clone(),
        };
        let auth = pb::Auth {
            event: Some(pb::auth::Event::Accepted(accepted)),
        };
        self.publish_until_known(Draft::new(broadcast, auth)).await.ok();
    }

    /// Lets go of all that is held of a broadcast, as it stands and as it stood `before`.
    fn give_up(&self, broadcast: BroadcastId, slot: &mut Slot, before: &State, refused: &Refused) {
        tracing::info!(broadcast_id = %broadcast, refused = %refused, "session given up");
        let held = std::mem::take(slot).state;
        if let State::Live { connection, .. } = &held {
            self.cut(*connection, refused.clone());
        }
        for session in [before, &held].into_iter().filter_map(State::session) {
            self.streams.leave(session.id);
        }
    }

    fn cut(&self, connection: ConnectionId, refused: Refused) {
        if let Some(cut) = lock(&self.cuts).remove(&connection) {
            // A connection that is gone already needs no word.
            cut.send(refused).ok();
        }
    }

    fn wake(self: &Arc<Self>, broadcast: BroadcastId, at: DateTime<Utc>) {
        let server = self.clone();
        self.spawn(async move {
            let delay = (at - Utc::now()).to_std().unwrap_or_default();
            tokio::select! {
                () = tokio::time::sleep(delay) => { server.submit(broadcast, Event::Woken); }
                // The deadline is in the log: the next run goes by it.
                () = server.shutdown.cancelled() => {}
            }
        });
    }

    async fn log_status(&self, broadcast: BroadcastId, slot: &mut Slot, status: pb::Status) -> Result<(), Unlogged> {
        let mut draft = Draft::new(broadcast, status.clone());
        if let Some(last) = slot.last {
            draft = draft.expect_last(last);
        }
        match self.publish_until_known(draft).await {
            Ok(sequence) => {
                slot.last = Some(sequence);
                log_transition(broadcast, sequence, &status);
                Ok(())
            }
            Err(unlogged) => Err(unlogged),
        }
    }
}

/// The span of an encoder's request to publish, of which the session begins. Its
/// stream name is the key, and is not told.
fn begin_trace(broadcast: BroadcastId) -> tracing::Span {
    tracing::info_span!(
        target: trace::TARGET,
        parent: None,
        "encoder",
        otel.name = "RTMP publish",
        otel.kind = "server",
        network.protocol.name = "rtmp",
        castlog.broadcast_id = %broadcast,
        castlog.refusal = field::Empty,
    )
}

fn already_live() -> Refused {
    Refused::new(Code::AlreadyLive, "the broadcast is live at another server")
}

/// `false` when nobody waits for the answer any more.
fn answer(pending: Option<Pending>, decision: Result<Granted, Refused>) -> bool {
    pending.is_some_and(|pending| pending.reply.send(decision).is_ok())
}
