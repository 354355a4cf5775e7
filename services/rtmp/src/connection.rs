//! One encoder's connection: bytes between the socket and the protocol core, with
//! every wait bounded.

use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use castlog_flv::Tag;
use castlog_log::{BroadcastId, Draft, SessionId, pb};
use castlog_metrics::{Counted, metrics};
use castlog_rtmp_core::{Connect, Event as RtmpEvent, Limits, Phase, PublishRequest, Session as Rtmp};
use futures::FutureExt as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    sync::oneshot,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Code, Refused,
    guard::Guard,
    hub::Hub,
    media,
    meter::Meter,
    server::{Asker, LOG_TIMEOUT, Server},
    session::{ConnectionId, Event},
};

/// The application in the URL: `rtmp://HOST/live/<publish key>`, or with the key in a
/// query, `rtmp://HOST/live?key=<publish key>`.
const APP: &str = "live";
/// Bytes per read: what a stream of 60 Mbit/s, the most by default, sends until the
/// next look at it.
const READ: usize = 64 * 1024;
/// How long a peer that was told no may still send, so that it reads the answer and
/// not a reset connection.
const DRAIN: Duration = Duration::from_secs(2);
/// How long an encoder that has stopped in order may take to close.
const LINGER: Duration = Duration::from_secs(5);
/// Length of a health sample.
const SAMPLE: Duration = Duration::from_secs(5);
/// Unparsable or out-of-place tags in a row that are worth one line each.
const BROKEN_TAGS_LOGGED: u64 = 3;

thread_local! {
    /// What is read goes on to where it stays before anything else is read, so that all
    /// connections of a thread have one buffer.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; READ]);
}

/// The session that this connection feeds.
struct Live {
    broadcast: BroadcastId,
    session: SessionId,
    hub: Arc<Hub>,
    meter: Meter,
    guard: Guard,
    _on_air: Counted,
    broken_tags: u64,
}

/// Why a connection is over.
enum End {
    /// The peer closed it, or it failed.
    Closed(String),
    /// The peer broke the protocol or was too slow.
    Broken(Refused),
    /// The peer was told no; the answer is to be delivered.
    Refused,
    /// This process ends.
    Shutdown,
}

struct Connection<S> {
    stream: S,
    peer: SocketAddr,
    id: ConnectionId,
    server: Arc<Server>,
    rtmp: Rtmp,
    live: Option<Live>,
    sampled_at: Instant,
}

/// Serves a connection until its end. `accepted_at` is when the peer connected:
/// what TLS took counts as part of the handshake.
pub(crate) async fn serve<S>(stream: S, peer: SocketAddr, server: Arc<Server>, accepted_at: Instant)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let _counted = Counted::new(&metrics().rtmp_connections);
    let (id, cut) = server.register();
    let rtmp = Rtmp::new(Limits::default(), rand::random());
    let mut connection = Connection {
        stream,
        peer,
        id,
        server: server.clone(),
        rtmp,
        live: None,
        sampled_at: accepted_at,
    };
    // A panic is an end like any other: it must not leave the broadcast live.
    let end = AssertUnwindSafe(connection.run(cut, accepted_at)).catch_unwind().await;
    let end = end.unwrap_or_else(|_| {
        tracing::error!(%peer, "a connection panicked");
        End::Closed("the server failed".to_owned())
    });
    connection.finish(end).await;
    server.unregister(id);
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    async fn run(&mut self, mut cut: oneshot::Receiver<Refused>, accepted_at: Instant) -> End {
        let shutdown = self.server.shutdown.clone();
        let mut shutdown = pin!(shutdown.cancelled());
        let mut phase = Phase::Handshake;
        let mut deadline = accepted_at + self.server.config.handshake_timeout();
        // One timer, set again when it fires and not at each read.
        let mut alarm = pin!(sleep_until(deadline));
        loop {
            let received = tokio::select! {
                // The read comes last: a peer that never pauses keeps nothing from its turn.
                biased;
                Ok(refused) = &mut cut => {
                    // The session is settled by whoever cuts.
                    self.live = None;
                    refused.count();
                    self.rtmp.reject(&refused.to_rtmp());
                    return End::Refused;
                }
                () = &mut shutdown => return End::Shutdown,
                () = &mut alarm => {
                    let now = Instant::now();
                    if now >= deadline {
                        return self.timed_out(phase);
                    }
                    if now >= self.sampled_at + SAMPLE {
                        self.sample(now);
                    }
                    alarm.as_mut().reset(deadline.min(self.sampled_at + SAMPLE));
                    continue;
                }
                received = poll_fn(|context| self.poll_receive(context)) => received,
            };
            if let Err(end) = self.answer(received).await {
                return end;
            }
            if let Err(end) = self.send().await {
                return end;
            }
            // A deadline belongs to a phase, not to a read; only a publish lives as long
            // as it sends.
            let next = self.rtmp.phase();
            if next != phase || next == Phase::Publishing {
                let config = &self.server.config;
                deadline = Instant::now()
                    + match next {
                        Phase::Handshake => config.handshake_timeout(),
                        Phase::Connecting => config.publish_timeout(),
                        Phase::Publishing => config.idle_timeout(),
                        Phase::Finished => LINGER,
                    };
            }
            if next != phase {
                phase = next;
                alarm.as_mut().reset(deadline.min(self.sampled_at + SAMPLE));
            }
        }
    }

    /// Reads once and takes in what came; see [`Self::take`].
    fn poll_receive(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<RtmpEvent>, End>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            let read = ready!(Pin::new(&mut self.stream).poll_read(context, &mut buffer));
            Poll::Ready(match read {
                Ok(()) if buffer.filled().is_empty() => Err(End::Closed("the connection was closed".to_owned())),
                Ok(()) => self.take(buffer.filled()),
                Err(error) => Err(End::Closed(lost(&error))),
            })
        })
    }

    fn timed_out(&self, phase: Phase) -> End {
        let config = &self.server.config;
        let (what, limit) = match phase {
            Phase::Handshake => ("no handshake", config.handshake_timeout_s),
            Phase::Connecting => ("no publish", config.publish_timeout_s),
            Phase::Publishing => ("nothing sent", config.idle_timeout_s),
            Phase::Finished => return End::Closed("the encoder did not close".to_owned()),
        };
        End::Broken(Refused::new(Code::TimedOut, format!("{what} for {limit} s")))
    }

    /// Takes bytes in, up to a request that has to be answered before there is more.
    fn take(&mut self, mut bytes: &[u8]) -> Result<Option<RtmpEvent>, End> {
        while let Some(event) = self.rtmp.receive(&mut bytes).map_err(broken)? {
            match event {
                RtmpEvent::Media(tag) => self.media(tag),
                RtmpEvent::Unpublished => {
                    if let Some(live) = self.live.take() {
                        self.server
                            .submit(live.broadcast, Event::Stopped { connection: self.id });
                    }
                }
                RtmpEvent::Unsupported { command } => {
                    tracing::debug!(peer = %self.peer, command, "not a publisher");
                    return Err(End::Refused);
                }
                request => return Ok(Some(request)),
            }
        }
        Ok(None)
    }

    /// Answers a request, and those behind it.
    async fn answer(&mut self, mut received: Result<Option<RtmpEvent>, End>) -> Result<(), End> {
        while let Some(request) = received? {
            match request {
                RtmpEvent::ConnectRequested(connect) => self.connect(&connect).await?,
                RtmpEvent::PublishRequested(request) => self.publish(request).await?,
                // Taken in already.
                RtmpEvent::Media(_) | RtmpEvent::Unpublished | RtmpEvent::Unsupported { .. } => {}
            }
            received = self.take(&[]);
        }
        Ok(())
    }

    async fn connect(&mut self, connect: &Connect) -> Result<(), End> {
        if connect.app == APP {
            self.rtmp.accept();
            return Ok(());
        }
        let reason = "the URL is not rtmp://HOST/live/<publish key>";
        Err(self
            .refuse(Refused::new(Code::Malformed, reason), None, connect.encoder.clone())
            .await)
    }

    async fn publish(&mut self, request: PublishRequest) -> Result<(), End> {
        let PublishRequest { name, encoder } = request;
        let asker = Asker {
            connection: self.id,
            name,
            peer: self.peer.to_string(),
            encoder: encoder.clone(),
        };
        match self.server.ask(asker).await {
            Ok(granted) => {
                self.rtmp.accept();
                self.sampled_at = Instant::now();
                self.live = Some(Live {
                    broadcast: granted.broadcast,
                    session: granted.session,
                    hub: granted.hub,
                    meter: Meter::default(),
                    guard: Guard::new(&self.server.config),
                    _on_air: Counted::new(&metrics().rtmp_sessions),
                    broken_tags: 0,
                });
                Ok(())
            }
            Err((refused, broadcast)) => Err(self.refuse(refused, broadcast, encoder).await),
        }
    }

    /// Answers a request with no, and logs the attempt behind the answer.
    async fn refuse(&mut self, refused: Refused, broadcast: Option<BroadcastId>, encoder: String) -> End {
        tracing::info!(peer = %self.peer, encoder, refused = %refused, broadcast_id = ?broadcast, "encoder refused");
        refused.count();
        self.rtmp.reject(&refused.to_rtmp());
        // What cannot be sent is told by the end of the connection.
        self.send().await.ok();
        if !self.server.rejections.take(std::time::Instant::now()) {
            tracing::warn!(peer = %self.peer, "too many refusals to log each");
            return End::Refused;
        }
        let rejected = pb::auth::Rejected {
            code: refused.code.to_string(),
            reason: refused.reason,
            peer: self.peer.to_string(),
            encoder,
        };
        let auth = pb::Auth {
            event: Some(pb::auth::Event::Rejected(rejected)),
        };
        let draft = match broadcast {
            Some(broadcast) => Draft::new(broadcast, auth),
            None => Draft::unknown_auth(auth),
        };
        let server = self.server.clone();
        // Behind the encoder's back, so that its answer and its end do not wait.
        self.server.spawn(async move {
            match timeout(LOG_TIMEOUT, server.publisher.publish(draft)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(error = %error, "a refusal is not in the log"),
                Err(_) => tracing::warn!("a refusal is not in the log: it did not answer in time"),
            }
        });
        End::Refused
    }

    fn media(&mut self, tag: Tag) {
        let Some(live) = &mut self.live else { return };
        match media::role(&tag) {
            Ok(media::Role::Nothing) => {
                live.broken_tags += 1;
                metrics().rtmp_skipped_tags.inc();
                if live.broken_tags <= BROKEN_TAGS_LOGGED {
                    let (kind, size) = (tag.kind, tag.data.len());
                    tracing::debug!(broadcast_id = %live.broadcast, ?kind, size, "tag without use skipped");
                }
            }
            Ok(role) => {
                live.meter.count(&tag, role);
                metrics()
                    .rtmp_received_bytes
                    .inc_by(u64::try_from(tag.data.len()).unwrap_or_default());
                match live.guard.tag(&tag, role) {
                    Ok(()) => live.hub.push(self.id, tag, role),
                    Err(refused) => self.cut_self(refused),
                }
            }
            Err(refused) => self.cut_self(refused),
        }
    }

    /// Has the server cut this publish: the order to do so comes back to this connection.
    fn cut_self(&mut self, refused: Refused) {
        if let Some(live) = self.live.take() {
            tracing::info!(broadcast_id = %live.broadcast, peer = %self.peer, refused = %refused, "publish cut");
            let cut = Event::Cut {
                connection: Some(self.id),
                refused,
            };
            self.server.submit(live.broadcast, cut);
        }
    }

    fn sample(&mut self, now: Instant) {
        let window_ms = u32::try_from((now - self.sampled_at).as_millis()).unwrap_or(u32::MAX);
        self.sampled_at = now;
        let Some(live) = &mut self.live else { return };
        let sampled = live
            .meter
            .sample(live.session, window_ms, live.hub.take_dropped_readers());
        let bearable = live.guard.rate(sampled.bitrate);
        let health = pb::Health {
            event: Some(pb::health::Event::Sampled(sampled)),
        };
        let draft = Draft::new(live.broadcast, health);
        let server = self.server.clone();
        self.server.spawn(async move {
            // A sample is worth nothing once the next is due.
            match timeout(SAMPLE, server.publisher.publish(draft)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = %error, "a health sample is not in the log")
                }
                Err(_) => {
                    tracing::debug!("a health sample is not in the log: it did not answer in time")
                }
            }
        });
        if let Err(refused) = bearable {
            self.cut_self(refused);
        }
    }

    async fn send(&mut self) -> Result<(), End> {
        let output = self.rtmp.take_output();
        if output.is_empty() {
            return Ok(());
        }
        let write = async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        };
        let config = &self.server.config;
        match timeout(config.write_timeout(), write).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::Closed(lost(&error))),
            Err(_) => {
                let reason = format!("nothing read for {} s", config.write_timeout_s);
                Err(End::Broken(Refused::new(Code::TimedOut, reason)))
            }
        }
    }

    async fn finish(&mut self, end: End) {
        let told_no = matches!(end, End::Refused);
        let reason = match end {
            End::Closed(reason) => reason,
            End::Broken(refused) => {
                tracing::info!(peer = %self.peer, refused = %refused, "connection broken off");
                refused.count();
                refused.to_string()
            }
            // Only who asks to play while it publishes is told no and still live.
            End::Refused => "the encoder asked to play".to_owned(),
            End::Shutdown => "the server is shutting down".to_owned(),
        };
        // Whatever the end is: nobody else says that what was live is lost.
        let lost = self.live.take().map(|live| {
            let lost = Event::Lost {
                connection: self.id,
                reason,
            };
            (live.broadcast, self.server.submit(live.broadcast, lost))
        });
        if told_no {
            self.deliver_refusal().await;
        }
        if let Some((broadcast, lost)) = lost
            && lost.await.is_err()
        {
            tracing::error!(broadcast_id = %broadcast, "an interruption is not in the log");
        }
        if !told_no {
            // The peer is gone or broken: whether the goodbye reaches it does not matter.
            timeout(Duration::from_secs(1), self.stream.shutdown()).await.ok();
        }
    }

    /// Sends the refusal and reads on for a moment: closing with unread input would
    /// reset the connection, and the encoder would never see why.
    async fn deliver_refusal(&mut self) {
        if self.send().await.is_err() || timeout(Duration::from_secs(1), self.stream.shutdown()).await.is_err() {
            return;
        }
        let mut buffer = [0; 4096];
        let drain = async { while matches!(self.stream.read(&mut buffer).await, Ok(1..)) {} };
        timeout(DRAIN, drain).await.ok();
    }
}

fn broken(error: castlog_rtmp_core::Error) -> End {
    let code = if error.is_limit() {
        Code::LimitExceeded
    } else {
        Code::Malformed
    };
    End::Broken(Refused::new(code, error.to_string()))
}

fn lost(error: &io::Error) -> String {
    format!("the connection was lost: {error}")
}
