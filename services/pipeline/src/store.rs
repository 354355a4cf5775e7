//! The sink of a live job: init sections, segments, thumbnails and the storyboard on their
//! way to the object store (see [`crate::spool`]), parts and entries into the log. A
//! segment's entry is published when the segments of all renditions with its number are in
//! the store or on the disk, so that viewers and a worker that takes over see whole rows.
//!
//! Segments and pictures go to the store beside the parts, which wait for none of them, nor
//! for the log to acknowledge those before: players of low latency are less than a second
//! behind, and a log that is far away or busy takes longer for each part than it lasts.

use std::{collections::BTreeMap, future::pending, task::Poll, time::Duration};

use anyhow::Context as _;
use backon::{ExponentialBuilder, Retryable};
use bytes::Bytes;
use castlog_cmaf as cmaf;
use castlog_log::{
    BroadcastId, Draft, PartHeader, PublishError, Publisher, Receipt, SessionId,
    pb::{Segment, segment},
    trace,
};
use futures::{
    StreamExt as _,
    future::{BoxFuture, try_join_all},
    poll,
    stream::{FuturesOrdered, FuturesUnordered},
};
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, Span};

use crate::{
    claim::Claim,
    gst,
    inherit::Row,
    media::Micros,
    report::Report,
    segmenter::{Output, PartInfo},
    spool::{Kept, Size, Spool},
    storyboard::{self, Sheets},
    transcode::{Epoch, Sink},
};

/// Rows of segments waiting for their last rendition. Encoders lag by
/// fractions of a segment, so more means that one of them has fallen out.
const MAX_ROWS: usize = 4;

/// Segments on their way to the store: two rows of a full ladder. Behind them parts wait too.
const MAX_SEGMENTS: usize = 16;

/// Pictures on their way to the store, behind which thumbnails are left out.
const MAX_PICTURES: usize = 4;

/// How long publishing is tried again before the job is given up: meanwhile the encoders
/// wait, and the ingest holds a few seconds for us.
const PATIENCE: Duration = Duration::from_secs(45);

/// Parts on their way to the log: four seconds of three renditions. Behind them all waits.
const MAX_PARTS: usize = 64;

/// How long the publishing of a part is waited for: later, its segment is near.
const PART_PATIENCE: Duration = Duration::from_secs(1);

/// How long no part is published after one that could not be.
const PART_PAUSE: Duration = Duration::from_secs(5);

/// What has come to the store, to the disk or into the log.
enum Done {
    /// A part; else why it has not.
    Part(Result<(), LostPart>),
    /// A segment of so many renditions.
    Segment(Box<segment::Stored>, usize),
    /// A sheet that begins at a time of an epoch, under its key.
    Sheet(u64, Micros, String),
    /// Nothing is left to do about it.
    Picture,
}

/// A part that is not in the log.
struct LostPart {
    rendition: String,
    media_sequence: u64,
    part: u32,
    reason: String,
}

/// Where a job delivers.
pub struct Live {
    spool: Spool,
    publisher: Publisher,
    broadcast: BroadcastId,
    session: SessionId,
    part_target_ms: u32,
    claim: Claim,
    report: Option<Report>,
    /// The initialization sections of the epoch, by track.
    sections: Vec<Bytes>,
    /// Those of them that neither the store nor the disk has taken, by key.
    unkept: BTreeMap<String, Bytes>,
    rows: BTreeMap<u64, Vec<segment::Stored>>,
    sheets: Sheets,
    /// On their way to the store, in the order of their making.
    segments: FuturesOrdered<BoxFuture<'static, Done>>,
    pictures: FuturesUnordered<BoxFuture<'static, Done>>,
    parts: FuturesUnordered<BoxFuture<'static, Done>>,
    /// What has come there and is still to be settled.
    done: Option<Done>,
    /// No parts are published before this.
    parts_from: Instant,
    /// The span of the job until its first segments are in the log.
    opening: Span,
    /// Its trace context, to which what comes later links: a trace of hours is of no use.
    job: Option<String>,
}

impl Live {
    /// The sink of one session, whose job is being taken in the span `opening`.
    pub fn new(
        spool: Spool,
        publisher: Publisher,
        broadcast: BroadcastId,
        session: SessionId,
        part_target_ms: u32,
        claim: Claim,
        opening: Span,
    ) -> Self {
        Self {
            spool,
            publisher,
            broadcast,
            session,
            part_target_ms,
            claim,
            report: None,
            sections: Vec::new(),
            unkept: BTreeMap::new(),
            rows: BTreeMap::new(),
            sheets: Sheets::default(),
            segments: FuturesOrdered::new(),
            pictures: FuturesUnordered::new(),
            parts: FuturesUnordered::new(),
            done: None,
            parts_from: Instant::now(),
            job: trace::traceparent(&opening),
            opening,
        }
    }

    fn key(&self, rendition: &str, name: &str) -> String {
        format!("{}/{}/{rendition}/{name}", self.broadcast, self.session)
    }

    async fn publish_metadata(&mut self) -> anyhow::Result<()> {
        let Some(report) = &self.report else {
            return Ok(());
        };
        let produced = report.produced(self.session, self.part_target_ms);
        self.claim.say(produced).await
    }

    /// Makes segments of what a worker that died has left of these renditions. `heir` is
    /// the first discontinuity sequence number of the worker that goes on.
    ///
    /// # Errors
    /// They cannot be published.
    pub async fn inherit(&mut self, rows: &[Row], renditions: &[String], heir: u64) -> anyhow::Result<()> {
        for row in rows {
            let mut segments = Vec::new();
            for (mut stored, bytes) in row.segments(renditions) {
                stored.session_id = self.session.to_string();
                // Not where it may have stored the whole of it.
                stored.object_key = self.key(&stored.rendition, &segment_name(row.media_sequence(), heir));
                if bytes.is_empty() {
                    let init = init_name(row.discontinuity_sequence());
                    stored.init_object_key = self.key(&stored.rendition, &init);
                } else {
                    let kept = self.spool.put(&stored.object_key, bytes, Size::Bounded).await;
                    stored.object_lost = kept == Kept::Lost;
                }
                segments.push(stored);
            }
            tracing::info!(
                media_sequence = row.media_sequence(),
                "what was left of a segment is one"
            );
            self.publish_segments(row.media_sequence(), segments).await?;
        }
        Ok(())
    }

    async fn part(&mut self, header: PartHeader, bytes: Bytes) -> anyhow::Result<()> {
        while self.parts.len() >= MAX_PARTS {
            self.settled().await;
            self.settle().await?;
        }
        if Instant::now() < self.parts_from {
            return Ok(());
        }
        // The segment holds the same bytes: a lost part costs latency only, so
        // trouble with parts must not hold up segments.
        let publisher = self.publisher.clone();
        self.parts.push(Box::pin(async move {
            let reason = match timeout(PART_PATIENCE, publisher.publish_part(&header, bytes)).await {
                Ok(Ok(_)) => return Done::Part(Ok(())),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no acknowledgement within {} s", PART_PATIENCE.as_secs()),
            };
            Done::Part(Err(LostPart {
                rendition: header.rendition,
                media_sequence: header.media_sequence,
                part: header.part,
                reason,
            }))
        }));
        // It is sent now, so that parts go in order; what comes of it is settled later.
        while let Poll::Ready(Some(Done::Part(outcome))) = poll!(self.parts.next()) {
            self.published(outcome);
        }
        Ok(())
    }

    /// A part is in the log, or will not be.
    fn published(&mut self, outcome: Result<(), LostPart>) {
        let Err(lost) = outcome else { return };
        let known = Instant::now() < self.parts_from;
        self.parts_from = Instant::now() + PART_PAUSE;
        // Those that were on their way with it are most often lost as well.
        if !known {
            tracing::warn!(
                rendition = lost.rendition,
                media_sequence = lost.media_sequence,
                part = lost.part,
                reason = lost.reason,
                pause_s = PART_PAUSE.as_secs(),
                "part not published, nor the next ones"
            );
        }
    }

    /// Publishes a row in a span of its own: the first in that of the job, which
    /// is open with it.
    async fn publish_row(&mut self, media_sequence: u64) -> anyhow::Result<()> {
        let Some(row) = self.rows.remove(&media_sequence) else {
            return Ok(());
        };
        let opening = std::mem::replace(&mut self.opening, Span::none());
        let span = tracing::info_span!(
            target: trace::TARGET,
            parent: opening.id(),
            "row",
            otel.name = "store segments",
            castlog.broadcast_id = %self.broadcast,
            castlog.session_id = %self.session,
            castlog.media_sequence = media_sequence.cast_signed(),
        );
        if opening.is_disabled() {
            trace::links(&span, self.job.as_deref());
        }
        self.publish_segments(media_sequence, row).instrument(span).await
    }

    /// Publishes the entries of a row at once: the log commits what is in
    /// flight together.
    async fn publish_segments(&mut self, media_sequence: u64, row: Vec<segment::Stored>) -> anyhow::Result<()> {
        let publisher = &self.publisher;
        let drafts = row.into_iter().map(|stored| {
            // The discontinuity number tells two workers' segments of one
            // number apart; a repeated publish of one worker has the same id.
            let id = format!(
                "{}-{}-{media_sequence}-{}",
                self.session, stored.rendition, stored.discontinuity_sequence
            );
            let entry = Segment {
                event: Some(segment::Event::Stored(stored)),
            };
            publish(publisher, Draft::new(self.broadcast, entry).id(id))
        });
        try_join_all(drafts).await?;
        let outdated = self.report.as_mut().is_some_and(Report::take_outdated);
        if outdated {
            self.publish_metadata().await?;
        }
        Ok(())
    }

    async fn segment(
        &mut self,
        epoch: &Epoch,
        track: usize,
        media_sequence: u64,
        start: Micros,
        parts: Vec<PartInfo>,
        bytes: Bytes,
    ) -> anyhow::Result<()> {
        let rendition = &epoch.renditions[track].name;
        let object_key = self.key(rendition, &segment_name(media_sequence, epoch.discontinuity_sequence));
        let duration: Micros = parts.iter().map(|part| part.duration).sum();
        let size = bytes.len() as u64;
        if let Some(report) = &mut self.report {
            report.measure(track, size, duration);
        }
        let mut stored = segment::Stored {
            session_id: self.session.to_string(),
            rendition: rendition.clone(),
            media_sequence,
            discontinuity_sequence: epoch.discontinuity_sequence,
            duration_us: duration.cast_unsigned(),
            program_date_time: Some(epoch.program_date_time(start).into()),
            init_object_key: self.key(rendition, &init_name(epoch.discontinuity_sequence)),
            object_key,
            size_bytes: size,
            parts: parts
                .iter()
                .map(|part| segment::Part {
                    duration_us: part.duration.cast_unsigned(),
                    size_bytes: part.size,
                    independent: part.independent,
                })
                .collect(),
            next_media_sequence: media_sequence + 1,
            object_lost: false,
        };
        while self.segments.len() >= MAX_SEGMENTS {
            self.settled().await;
            self.settle().await?;
        }
        let (spool, renditions) = (self.spool.clone(), epoch.renditions.len());
        let section = self.unkept.get(&stored.init_object_key).cloned();
        let way = async move {
            // Where it is lost to the store, viewers still have its parts: the broadcast goes on.
            let mut kept = spool.put(&stored.object_key, bytes, Size::Bounded).await;
            // No recording can be played without its section. What takes the one may by now
            // take the other as well.
            if let (Some(section), Kept::Stored | Kept::Spooled) = (section, kept) {
                kept = spool.put(&stored.init_object_key, section, Size::Small).await;
            }
            stored.object_lost = kept == Kept::Lost;
            Done::Segment(Box::new(stored), renditions)
        };
        self.segments.push_back(Box::pin(way));
        Ok(())
    }

    /// A segment has come to where it is kept: with the last one of its row the row's
    /// entries are published.
    async fn kept(&mut self, stored: segment::Stored, renditions: usize) -> anyhow::Result<()> {
        if !stored.object_lost {
            self.unkept.remove(&stored.init_object_key);
        }
        let media_sequence = stored.media_sequence;
        let row = self.rows.entry(media_sequence).or_default();
        row.push(stored);
        if row.len() == renditions {
            // What an incomplete earlier row lacks does not come any more.
            while let Some((&first, _)) = self.rows.first_key_value() {
                if first > media_sequence {
                    break;
                }
                self.publish_row(first).await?;
            }
        } else if self.rows.len() > MAX_ROWS
            && let Some((&first, _)) = self.rows.first_key_value()
        {
            tracing::warn!(media_sequence = first, "a rendition lacks a segment");
            self.publish_row(first).await?;
        }
        Ok(())
    }
}

impl Sink for Live {
    async fn start(&mut self, epoch: &Epoch) -> anyhow::Result<()> {
        self.sections.clear();
        self.unkept.clear();
        for rendition in &epoch.renditions {
            let key = self.key(&rendition.name, &init_name(epoch.discontinuity_sequence));
            let init = cmaf::init_section(&rendition.config).with_context(|| format!("cannot make {key}"))?;
            self.sections.push(init.clone());
            if self.spool.put(&key, init.clone(), Size::Small).await == Kept::Lost {
                self.unkept.insert(key, init);
            }
        }
        self.report = Some(Report::new(epoch));
        let opening = self.opening.clone();
        self.publish_metadata().instrument(opening).await
    }

    async fn output(&mut self, epoch: &Epoch, output: Output) -> anyhow::Result<()> {
        match output {
            Output::Part {
                track,
                media_sequence,
                start,
                index,
                info,
                bytes,
            } => {
                let rendition = &epoch.renditions[track].name;
                let header = PartHeader {
                    broadcast: self.broadcast,
                    session: self.session,
                    rendition: rendition.clone(),
                    media_sequence,
                    part: index,
                    duration_us: info.duration.cast_unsigned(),
                    independent: info.independent,
                    discontinuity_sequence: epoch.discontinuity_sequence,
                    segment_time: epoch.program_date_time(start),
                    init_object_key: self.key(rendition, &init_name(epoch.discontinuity_sequence)),
                    init_section: match index {
                        0 => self.sections.get(track).cloned().unwrap_or_default(),
                        _ => Bytes::new(),
                    },
                };
                self.part(header, bytes).await
            }
            Output::Segment {
                track,
                media_sequence,
                start,
                parts,
                bytes,
            } => self.segment(epoch, track, media_sequence, start, parts, bytes).await,
        }
    }

    async fn thumbnail(&mut self, jpeg: Bytes) -> anyhow::Result<()> {
        if self.pictures.len() >= MAX_PICTURES {
            tracing::debug!("a thumbnail is left out: those before it are still on their way");
            return Ok(());
        }
        let (spool, key) = (self.spool.clone(), self.key("thumb", "latest.jpg"));
        self.pictures.push(Box::pin(async move {
            spool.put(&key, jpeg, Size::Bounded).await;
            Done::Picture
        }));
        Ok(())
    }

    async fn sheet(&mut self, epoch: &Epoch, sheet: gst::Sheet) -> anyhow::Result<()> {
        let (spool, key) = (self.spool.clone(), self.key("thumb", &storyboard::name(epoch, &sheet)));
        let epoch = epoch.discontinuity_sequence;
        self.pictures.push(Box::pin(async move {
            match spool.put(&key, sheet.jpeg, Size::Bounded).await {
                Kept::Lost => Done::Picture,
                Kept::Stored | Kept::Spooled => Done::Sheet(epoch, sheet.start, key),
            }
        }));
        Ok(())
    }

    async fn end(&mut self, _: &Epoch) -> anyhow::Result<()> {
        self.drain().await?;
        while let Some((&first, _)) = self.rows.first_key_value() {
            self.publish_row(first).await?;
        }
        Ok(())
    }

    async fn settled(&mut self) {
        let done = tokio::select! {
            Some(done) = self.segments.next() => done,
            Some(done) = self.pictures.next() => done,
            Some(done) = self.parts.next() => done,
            else => pending().await,
        };
        self.done = Some(done);
    }

    async fn settle(&mut self) -> anyhow::Result<()> {
        match self.done.take() {
            Some(Done::Segment(stored, renditions)) => self.kept(*stored, renditions).await?,
            Some(Done::Sheet(epoch, start, key)) => {
                if let Some(outdated) = self.sheets.stored(epoch, start, key) {
                    let spool = self.spool.clone();
                    self.pictures.push(Box::pin(async move {
                        spool.delete(&outdated).await;
                        Done::Picture
                    }));
                }
            }
            Some(Done::Part(outcome)) => self.published(outcome),
            Some(Done::Picture) | None => {}
        }
        Ok(())
    }

    async fn drain(&mut self) -> anyhow::Result<()> {
        while !(self.segments.is_empty() && self.pictures.is_empty() && self.parts.is_empty()) {
            self.settled().await;
            self.settle().await?;
        }
        Ok(())
    }
}

fn init_name(discontinuity_sequence: u64) -> String {
    format!("init-{discontinuity_sequence}.mp4")
}

/// The discontinuity sequence number of its maker keeps two workers from writing to
/// one place.
fn segment_name(media_sequence: u64, maker: u64) -> String {
    format!("{media_sequence}-{maker}.m4s")
}

/// Publishes an entry, however long it takes within the patience.
pub(crate) async fn publish(publisher: &Publisher, draft: Draft) -> Result<Receipt, PublishError> {
    let attempt = || publisher.publish(draft.clone());
    attempt
        .retry(backoff())
        .when(PublishError::is_retryable)
        .notify(|error, delay| tracing::warn!(error = %error, ?delay, "publishing again"))
        .await
}

fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .with_total_delay(Some(PATIENCE))
        .without_max_times()
        .with_jitter()
}
