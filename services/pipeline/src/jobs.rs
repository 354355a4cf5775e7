//! Jobs: a `Started` entry on the durable consumer is one. It is held with
//! in-progress acks until its session is over, so that the job of a dead worker
//! comes to another, who goes on with the numbers that the log tells. A worker that
//! was only asleep, or cut off from the log, finds in the log that the session is
//! another's by now, and stops (see [`crate::claim`]).

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use castlog_log::{
    BroadcastId, Delivery, Event, Followed, From, Kind, Publisher, SessionId,
    pb::{Status, metadata, options, segment, status},
    session, trace,
};
use castlog_metrics::{Counted, metrics};
use castlog_service::Context;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span};

use crate::{
    claim::{Claim, Lost},
    config::Config,
    ingest::{self, Session},
    inherit,
    media::Micros,
    plan::Limits,
    room::{Meter, Room},
    spool::Spool,
    store::Live,
    target::Target,
    transcode::{self, Settings},
};

/// The durable consumer that is the queue.
const CONSUMER: &str = "pipeline";

/// Packets between the ingest and the core: a second or two of both tracks.
/// Behind it the RTMP server's own bound for slow readers begins.
const PACKETS: usize = 256;

/// When a job that no worker has room for is offered again.
const BUSY_DELAY: Duration = Duration::from_secs(2);

/// How often it is measured what the jobs take of the processors.
const LOOK: Duration = Duration::from_secs(1);

/// Longest wait before a failed job is tried again.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);

/// A job that has run for this long was well until it failed. How often it was delivered
/// says nothing of it then: that grows as well when no worker has room for it, and when one
/// hands it over to another.
const WELL: Duration = Duration::from_secs(60);

/// Intervals between signs of life in which none may have reached the server: then it
/// may have offered the job to another worker, which the log is asked about.
const MISSED_SIGNS: u32 = 3;

/// How long the parts that a former worker has left are looked for: players wait, and
/// without those parts they lose more than they do by waiting no longer.
const LEGACY_PATIENCE: Duration = Duration::from_secs(2);

/// How long jobs may take to store and log what they have once the shutdown has
/// begun. Without the log they would never be done.
const GRACE: Duration = Duration::from_secs(15);

/// How a job ended.
enum Outcome {
    /// Its session is over, or it can never be done.
    Done,
    /// It is to be tried again, here or elsewhere, after this wait.
    Again(Duration),
    /// It is another worker's.
    Lost,
}

/// What a broadcast's newest status says of a session.
fn state_of(status: &Status, session: SessionId) -> Session {
    match session::named(status) {
        Some((named, false)) if named.session_id == session.to_string() => Session::Live {
            url: named.ingest_url.clone(),
        },
        _ => Session::Over,
    }
}

/// Everything that the worker's jobs share.
struct Worker {
    config: Config,
    context: Context,
    spool: Spool,
    client: reqwest::Client,
    room: Mutex<Room>,
}

/// The place of a job that is in work here; given back when it is dropped.
struct Place {
    worker: Arc<Worker>,
    session: SessionId,
}

impl Place {
    /// `None`: there is no room for it.
    fn take(worker: &Arc<Worker>, session: SessionId) -> Option<Self> {
        let taken = worker.room().enter(session, Instant::now());
        taken.then(|| Self {
            worker: Arc::clone(worker),
            session,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.worker.room().leave(self.session);
    }
}

/// Takes jobs until the shutdown, then lets the running ones finish.
pub async fn run(config: Config, spool: Spool, context: Context) -> anyhow::Result<()> {
    let client = reqwest::Client::builder()
        // The ingest is near; a proxy has no business here.
        .no_proxy()
        .build()
        .context("cannot make an HTTP client")?;
    // One when the system does not tell: the first job always fits.
    let processors = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let worker = Arc::new(Worker {
        room: Mutex::new(Room::new(config.max_jobs, config.cpu_percent, processors)),
        config,
        spool,
        client,
        context,
    });
    let shutdown = worker.context.shutdown.clone();
    let mut queue = worker.context.log.durable(Kind::Status.stream(), CONSUMER, 1);
    let mut jobs = JoinSet::new();
    let meter = Meter::default();
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let delivery = tokio::select! {
            delivery = queue.next() => delivery,
            Some(joined) = jobs.join_next() => {
                if let Err(error) = joined {
                    // Its entry is not acknowledged: it comes again.
                    tracing::error!(error = %error, "a job panicked");
                }
                continue;
            }
            _ = looks.tick() => {
                let now = Instant::now();
                if let Some(used) = meter.look(now) {
                    worker.room().measured(used, now);
                }
                continue;
            }
            () = shutdown.cancelled() => break,
        };
        match delivery {
            Ok(delivery) => {
                worker.context.health.set("pipeline", true);
                if let Err(error) = worker.clone().accept(delivery, &mut jobs).await {
                    tracing::warn!(error = %format!("{error:#}"), "entry comes again");
                }
            }
            Err(error) => {
                worker.context.health.set("pipeline", false);
                tracing::warn!(error = %error, "waiting for the job queue");
            }
        }
    }
    drop(queue);
    let finished = async {
        while let Some(joined) = jobs.join_next().await {
            if let Err(error) = joined {
                tracing::error!(error = %error, "a job panicked");
            }
        }
        // Acknowledgements are on their way only when the connection is flushed.
        let client = worker.context.log.jetstream().client();
        client.flush().await.context("cannot flush the log")
    };
    let finished = timeout(GRACE, finished).await;
    worker.spool.finish().await;
    if let Ok(flushed) = finished {
        return flushed;
    }
    tracing::warn!("jobs were not given back in time: each is another worker's after the ack wait");
    Ok(())
}

impl Worker {
    /// Looks at an entry of the queue and starts its job, if it is one.
    async fn accept(self: Arc<Self>, delivery: Delivery, jobs: &mut JoinSet<()>) -> anyhow::Result<()> {
        let Some((broadcast, session)) = job_of(&delivery) else {
            return Ok(delivery.ack().await?);
        };
        let newest = self.context.log.last(Kind::Status, broadcast).await?;
        // A replica of the log that is behind may not even have what was delivered.
        let newest = match newest {
            Some(entry) if entry.sequence() >= delivery.position().sequence => Some(entry.event),
            _ => delivery.entry.as_ref().ok().map(|entry| entry.event.clone()),
        };
        let state = match newest {
            Some(Event::Status(status)) => state_of(&status, session),
            _ => Session::Over,
        };
        let Session::Live { .. } = state else {
            tracing::debug!(%broadcast, %session, "job of a session that is over");
            return Ok(delivery.ack().await?);
        };
        // One that is offered again while its old delivery is still held must not run twice.
        if self.room().holds(session) {
            tracing::warn!(%broadcast, %session, "job is in work here already");
            return Ok(delivery.nak(BUSY_DELAY).await?);
        }
        let Some(place) = Place::take(&self, session) else {
            let room = self.room().describe();
            metrics().pipeline_jobs_refused.inc();
            if delivery.delivered == 1 {
                tracing::warn!(%broadcast, %session, room, "no room for the job: it waits for a worker");
            } else {
                tracing::debug!(%broadcast, %session, room, "no room for the job");
            }
            return Ok(delivery.nak(BUSY_DELAY).await?);
        };
        let span = tracing::info_span!("job", broadcast_id = %broadcast, session_id = %session);
        // It ends when the first segments are in the log; a job takes hours.
        let opening = match &delivery.entry {
            Ok(entry) => trace::process(CONSUMER, entry),
            Err(_) => Span::none(),
        };
        let worker = Arc::clone(&self);
        jobs.spawn(
            async move {
                worker.hold(delivery, broadcast, session, state, opening).await;
                drop(place);
            }
            .instrument(span),
        );
        Ok(())
    }

    fn room(&self) -> std::sync::MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does a job while giving signs of life, and answers the queue.
    async fn hold(
        &self,
        delivery: Delivery,
        broadcast: BroadcastId,
        session: SessionId,
        state: Session,
        opening: Span,
    ) {
        let _counted = Counted::new(&metrics().pipeline_jobs);
        let stop = CancellationToken::new();
        let claim = OnceLock::new();
        let work = self.work(broadcast, session, state, &stop, delivery.delivered, (opening, &claim));
        tokio::pin!(work);
        let progress = Duration::from_millis(self.config.progress_ms);
        let mut signs = interval(progress);
        signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let outcome = loop {
            tokio::select! {
                // Signs first: who was asleep does nothing before it knows that the job is its own.
                biased;
                _ = signs.tick() => {
                    let sent = delivery.progress().await.is_ok() && self.context.log.is_connected();
                    let late = heard.elapsed() > progress * MISSED_SIGNS;
                    match claim.get() {
                        Some(claim) if sent && late => match Claim::is_lost(claim).await {
                            Ok(true) => break Outcome::Lost,
                            Ok(false) => heard = Instant::now(),
                            Err(error) => tracing::warn!(error = %error, "whose the job is is not known yet"),
                        },
                        _ if sent => heard = Instant::now(),
                        _ => {}
                    }
                }
                () = self.context.shutdown.cancelled(), if !stop.is_cancelled() => stop.cancel(),
                outcome = &mut work => break outcome,
            }
        };
        let answered = match outcome {
            Outcome::Done => delivery.ack().await,
            Outcome::Again(delay) => delivery.nak(delay).await,
            // Dropped where it stands, so that nothing more is stored or published; and
            // no answer, for it would count for whoever holds the job.
            Outcome::Lost => {
                tracing::warn!("the job is another worker's by now");
                return;
            }
        };
        if let Err(error) = answered {
            tracing::warn!(error = %error, "job comes again");
        }
    }

    async fn work(
        &self,
        broadcast: BroadcastId,
        session: SessionId,
        state: Session,
        stop: &CancellationToken,
        delivered: i64,
        (opening, shared): (Span, &OnceLock<Claim>),
    ) -> Outcome {
        let begun = Instant::now();
        let taken = Claim::take(&self.context.log, broadcast, session).instrument(opening.clone());
        let (claim, said) = match taken.await {
            Ok(taken) => taken,
            Err(error) => return failed(&error, delivered, begun.elapsed()),
        };
        let claimed = shared.get_or_init(|| claim.clone());
        let (state_in, states) = watch::channel(state);
        let transcoded = async {
            let result = self
                .transcode(broadcast, session, states.clone(), stop, (claim, said, opening))
                .await;
            match result {
                Err(error) => failed(&error, delivered, begun.elapsed()),
                Ok(()) if stop.is_cancelled() => Outcome::Again(Duration::ZERO),
                // The stream is over; the job is held until the session is.
                Ok(()) => {
                    let mut states = states.clone();
                    tokio::select! {
                        _ = states.wait_for(|state| *state == Session::Over) => Outcome::Done,
                        () = stop.cancelled() => Outcome::Again(Duration::ZERO),
                    }
                }
            }
        };
        let outcome = tokio::select! {
            outcome = transcoded => outcome,
            () = self.follow(broadcast, session, claimed, &state_in) => Outcome::Lost,
        };
        tracing::info!("job ends");
        outcome
    }

    /// Keeps the state of the session up to date, until it is another worker's.
    async fn follow(&self, broadcast: BroadcastId, session: SessionId, claim: &Claim, state: &watch::Sender<Session>) {
        let subjects = [Kind::Status, Kind::Metadata].map(|kind| kind.of(broadcast).to_string());
        let subjects = subjects.each_ref().map(String::as_str);
        let log = &self.context.log;
        let mut entries = log.follow(Kind::Status.stream(), &subjects, From::LastPerSubject);
        loop {
            match entries.next().await {
                Ok(Followed::Entry(entry)) => {
                    if claim.is_lost_by(&entry) {
                        return;
                    }
                    let Event::Status(status) = &entry.event else {
                        continue;
                    };
                    let now = state_of(status, session);
                    state.send_if_modified(|state| {
                        let changed = *state != now;
                        *state = now;
                        changed
                    });
                }
                Ok(Followed::Undecodable(entry)) => {
                    tracing::warn!(subject = entry.subject, "status entry cannot be decoded");
                }
                Ok(Followed::CaughtUp) => {}
                Err(error) => tracing::warn!(error = %error, "status cannot be followed"),
            }
        }
    }

    async fn transcode(
        &self,
        broadcast: BroadcastId,
        session: SessionId,
        states: watch::Receiver<Session>,
        stop: &CancellationToken,
        (claim, said, opening): (Claim, Option<metadata::Produced>, Span),
    ) -> anyhow::Result<()> {
        let mut sink = Live::new(
            self.spool.clone(),
            Publisher::new(&self.context.log, "pipeline"),
            broadcast,
            session,
            self.config.part_target_ms,
            claim,
            opening.clone(),
        );
        let begin = async {
            let mut settings = self.settings(broadcast, session, said.as_ref()).await?;
            if let Some(said) = &said {
                self.inherit(broadcast, session, said, &mut settings, &mut sink).await?;
            }
            tracing::info!(
                media_sequence = settings.first_media_sequence,
                discontinuity_sequence = settings.discontinuity_sequence,
                "job starts"
            );
            anyhow::Ok(settings)
        };
        let settings = begin.instrument(opening).await?;
        let (packets, mut receiver) = mpsc::channel(PACKETS);
        let begun = Instant::now();
        let core = async {
            let result = transcode::run(settings, &mut receiver, stop, &mut sink).await;
            // The ingest ends when nobody takes its packets.
            receiver.close();
            result
        };
        let (result, ()) = tokio::join!(core, ingest::read(&self.client, states, packets));
        tracing::info!(elapsed_s = begun.elapsed().as_secs(), "transcode ends");
        Ok(result?)
    }

    /// Makes segments of the parts that a former worker has left, and begins behind them.
    async fn inherit(
        &self,
        broadcast: BroadcastId,
        session: SessionId,
        said: &metadata::Produced,
        settings: &mut Settings,
        sink: &mut Live,
    ) -> anyhow::Result<()> {
        let parts = match timeout(LEGACY_PATIENCE, self.context.log.parts(broadcast)).await {
            Ok(parts) => parts.map_err(|error| error.to_string()),
            Err(_) => Err(format!("they did not come within {} s", LEGACY_PATIENCE.as_secs())),
        };
        let parts = match parts {
            Ok(parts) => parts,
            Err(error) => {
                tracing::warn!(error, "what was left of a segment is not used");
                return Ok(());
            }
        };
        let rows = inherit::rows(parts, session, settings.first_media_sequence);
        let Some(last) = rows.last() else { return Ok(()) };
        settings.discontinuity_sequence = settings.discontinuity_sequence.max(last.discontinuity_sequence() + 1);
        settings.first_media_sequence = last.media_sequence() + 1;
        settings.dated_to = settings.dated_to.max(rows.iter().filter_map(inherit::Row::end).max());
        let renditions: Vec<String> = said.renditions.iter().map(|rendition| rendition.name.clone()).collect();
        sink.inherit(&rows, &renditions, settings.discontinuity_sequence).await
    }

    /// Where and how to begin: by the options, behind what is stored. `said` is what a
    /// former worker has said of the session.
    async fn settings(
        &self,
        broadcast: BroadcastId,
        session: SessionId,
        said: Option<&metadata::Produced>,
    ) -> anyhow::Result<Settings> {
        let log = &self.context.log;
        let stored = match log.last(Kind::Segment, broadcast).await?.map(|entry| entry.event) {
            Some(Event::Segment(segment)) => match segment.event {
                Some(segment::Event::Stored(stored)) if stored.session_id == session.to_string() => Some(stored),
                _ => None,
            },
            _ => None,
        };
        let behind = |stored: &segment::Stored| (stored.next_media_sequence, stored.discontinuity_sequence + 1);
        let (first_media_sequence, discontinuity_sequence) = stored.as_ref().map_or((0, 0), behind);
        let announced = said.map(|said| Target::from_millis(said.segment_target_ms));
        let ladder = match log.last(Kind::Options, broadcast).await?.map(|entry| entry.event) {
            Some(Event::Options(options)) => match options.event {
                Some(options::Event::Changed(changed)) => changed.ladder,
                None => Vec::new(),
            },
            _ => Vec::new(),
        };
        let config = &self.config;
        let segment_target = Micros::from(config.segment_target_ms) * 1000;
        // Twice the target, and a tenth of it for encoders that count frames and not time.
        let max_keyframe_interval = segment_target * 11 / 5;
        Ok(Settings {
            segment_target,
            announced,
            known: said.and_then(|said| inherit::known(said, max_keyframe_interval)),
            part_target: Micros::from(config.part_target_ms) * 1000,
            limits: Limits {
                ladder,
                default_ladder: config.ladder.clone(),
                default_rungs: config.ladder_rungs,
                max_keyframe_interval,
                force_encode: false,
            },
            preset: config.preset.clone(),
            thumbnails: config.thumbnails,
            first_media_sequence,
            discontinuity_sequence,
            dated_to: stored.as_ref().and_then(inherit::end),
        })
    }
}

/// The broadcast and session of a delivery that is a job.
fn job_of(delivery: &Delivery) -> Option<(BroadcastId, SessionId)> {
    let entry = match &delivery.entry {
        Ok(entry) => entry,
        Err(undecodable) => {
            // Another schema's status is no job of ours; the projections put
            // it where it can be looked at.
            tracing::warn!(subject = undecodable.subject, error = %undecodable.error, "entry cannot be decoded");
            return None;
        }
    };
    let Event::Status(status) = &entry.event else {
        return None;
    };
    let Some(status::Event::Started(started)) = &status.event else {
        return None;
    };
    let session = started.session.as_ref()?;
    match session.session_id.parse() {
        Ok(session) => Some((entry.subject.broadcast?, session)),
        Err(error) => {
            tracing::warn!(error = %error, "job without a usable session id");
            None
        }
    }
}

/// What a failure means for a job that was delivered so often and has run for so long.
fn failed(error: &anyhow::Error, delivered: i64, ran: Duration) -> Outcome {
    if let Some(unsupported @ transcode::Error::Unsupported { .. }) = error.downcast_ref() {
        tracing::warn!(code = "R05", error = %unsupported, "stream cannot be transcoded");
        return Outcome::Done;
    }
    // The sink says it within an error of the transcode.
    let cause = match error.downcast_ref() {
        Some(transcode::Error::Sink(cause)) => cause,
        _ => error,
    };
    if cause.is::<Lost>() {
        return Outcome::Lost;
    }
    let failures = if ran >= WELL { 1 } else { delivered.clamp(1, 6) };
    let exponent = u32::try_from(failures).unwrap_or(6) - 1;
    let delay = MAX_RETRY_DELAY.min(Duration::from_secs(1) * 2u32.pow(exponent));
    tracing::error!(error = %format!("{error:#}"), delay_s = delay.as_secs(), "job failed and is tried again");
    Outcome::Again(delay)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(id: SessionId) -> Option<status::Session> {
        Some(status::Session {
            session_id: id.to_string(),
            ingest_url: "http://127.0.0.1/flv".to_owned(),
            ..status::Session::default()
        })
    }

    #[test]
    fn a_session_lives_until_it_ends_or_another_takes_its_place() {
        let (id, other) = (SessionId::generate(), SessionId::generate());
        let status = |event| Status { event: Some(event) };
        let started = status(status::Event::Started(status::Started { session: session(id) }));
        let ended = status(status::Event::Ended(status::Ended {
            session: session(id),
            ..status::Ended::default()
        }));
        assert!(matches!(state_of(&started, id), Session::Live { url } if url.ends_with("flv")));
        assert_eq!(state_of(&started, other), Session::Over);
        assert_eq!(state_of(&ended, id), Session::Over);
        assert_eq!(state_of(&Status::default(), id), Session::Over);
    }

    #[test]
    fn unsupported_streams_are_settled_and_others_tried_again() {
        let unsupported = transcode::Error::Unsupported {
            track: crate::media::Track::Video,
            codec: "H.265".to_owned(),
        };
        let at_once = Duration::ZERO;
        assert!(matches!(failed(&unsupported.into(), 1, at_once), Outcome::Done));
        assert!(matches!(failed(&Lost.into(), 1, at_once), Outcome::Lost));
        let lost = transcode::Error::Sink(Lost.into());
        assert!(matches!(failed(&lost.into(), 1, at_once), Outcome::Lost));
        let wait = |delivered, ran| {
            let stalled = transcode::Error::Stalled(Duration::from_secs(1));
            match failed(&stalled.into(), delivered, ran) {
                Outcome::Again(delay) => delay.as_secs(),
                Outcome::Done | Outcome::Lost => panic!("it is to be tried again"),
            }
        };
        assert_eq!([1, 3, 99].map(|delivered| wait(delivered, at_once)), [1, 4, 30]);
        assert_eq!(wait(99, WELL), 1, "its first failure");
    }
}
