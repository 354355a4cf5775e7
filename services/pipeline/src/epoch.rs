//! One epoch while it runs: access units go to the chains and, where they are
//! passed through, to the segmenter; what the chains make goes to the
//! segmenter too; what the segmenter cuts goes to the sink.

use std::{collections::VecDeque, time::Duration};

use anyhow::anyhow;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    clock::SegmentClock,
    dates::Wall,
    gst::{self, Chain, Encoded, Outlet, VideoSettings},
    media::{AccessUnit, Micros, Packet, SECOND, Track},
    plan::{Plan, Rung, Sound, Source},
    recent::Recent,
    segmenter::{MAX_HOLD, Output, Segmenter, Settings as SegmenterSettings},
    target::Target,
    tracks::{Slot, rendition, slots},
    transcode::{Arrival, Command, Core, Epoch, Error, IDLE, Rendition, Settings},
};

/// How long the chains may take to finish what they hold.
const DRAIN: Duration = Duration::from_secs(20);

/// No output for this long while input goes in: a chain is stuck.
const STALL: Duration = Duration::from_secs(15);

/// Input since the last output from which on silence counts as a stall; less
/// may rightly sit in the decoder.
const STALL_UNITS: u32 = 60;

/// Sound this far behind the picture has stopped coming in, unless it came in
/// just now: after the probe much comes in at once.
const SILENCE: (Micros, Duration) = (2 * SECOND, Duration::from_secs(1));

/// Results on the way from the chains. Small, since `appsink`s hold more.
const ENCODED: usize = 32;

/// Outputs held until every rendition has said what it is: far more than the
/// encoders need to start, so reaching it means that one of them is stuck.
const HELD: usize = 1024;

/// Thumbnails and the storyboard.
const PICTURES: u32 = 2;

/// What an epoch begins with.
pub(crate) struct Start {
    pub(crate) source: Source,
    pub(crate) first_media_sequence: u64,
    pub(crate) discontinuity_sequence: u64,
    pub(crate) wall: Wall,
    /// What no segment exceeds.
    pub(crate) target: Target,
    /// Pictures up to this time have been shown by the epoch before.
    pub(crate) after: Option<Micros>,
}

/// The state of a running epoch. The receivers stand before the chains: they
/// are dropped first, so that no chain's thread waits in them when it is joined.
pub(crate) struct Running {
    encoded: mpsc::Receiver<Encoded>,
    failed: mpsc::Receiver<String>,
    video: Option<Chain>,
    audio: Option<Chain>,
    start: Start,
    slots: Vec<Slot>,
    segmenter: Segmenter,
    clock: SegmentClock,
    passthrough: bool,
    /// Whether renditions are made of the video.
    encodes: bool,
    /// Kinds of pictures that are still to end, where the chain of the video is there for
    /// them alone.
    pictures: u32,
    /// The newest sheet of the storyboard, until the epoch is known.
    sheet: Option<gst::Sheet>,
    /// Why it makes none.
    undecodable: mpsc::Receiver<String>,
    audio_track: Option<usize>,
    /// Tracks whose end the chains have still to tell.
    open: usize,
    started: bool,
    held: Vec<Output>,
    /// The end of its newest segment.
    reached: Option<Micros>,
    last_output: Instant,
    fed_since: u32,
    recent: Recent,
    /// Decoding time of the newest picture that came in.
    last_picture: Option<Micros>,
    /// Newest sound that came in, and when.
    last_sound: (Micros, Instant),
    /// The next keyframe begins a new epoch.
    restart: bool,
}

/// What to do with the packet at hand.
enum Step {
    /// It goes into a chain.
    Feed(Track, AccessUnit),
    /// Nothing is left to do with it.
    Done,
    /// It begins the next epoch.
    Over,
}

impl Running {
    pub(crate) fn start(settings: &Settings, plan: &Plan, start: Start) -> Result<Self, Error> {
        let (encoded_in, encoded) = mpsc::channel(ENCODED);
        let (failed_in, failed) = mpsc::channel(1);
        let outlet = Outlet {
            encoded: encoded_in,
            failed: failed_in,
        };
        let aim = settings.segment_target.min(start.target.duration());
        let slots = slots(plan, &start.source);
        let rungs: Vec<(usize, Rung)> = plan
            .rungs
            .iter()
            .enumerate()
            .map(|(index, rung)| (index + usize::from(plan.passthrough), rung.clone()))
            .collect();
        // Of a source that is only passed through, pictures are decoded for thumbnails
        // alone, which are nothing to end the session for.
        let pictures = rungs.is_empty() && settings.thumbnails && start.source.video.is_some();
        let (undecodable_in, undecodable) = mpsc::channel(1);
        let mut of_video = outlet.clone();
        if pictures {
            of_video.failed = undecodable_in;
        }
        let video = match &start.source.video {
            Some(video) if !rungs.is_empty() || pictures => Some(Chain::video(
                &VideoSettings {
                    source: video,
                    rungs: &rungs,
                    preset: &settings.preset,
                    fixed_clock: (!plan.passthrough).then_some((aim, start.target.overdue())),
                    after: start.after,
                    thumbnails: settings.thumbnails,
                },
                &of_video,
            )?),
            _ => None,
        };
        let audio_track = start.source.audio.as_ref().map(|_| slots.len() - 1);
        let audio = match (&start.source.audio, plan.sound, audio_track) {
            (Some(audio), Sound::Encode(rate), Some(track)) => Some(Chain::audio(audio, rate, track, &outlet)?),
            _ => None,
        };
        tracing::info!(
            passthrough = plan.passthrough,
            renditions = ?slots.iter().map(|slot| slot.name.as_str()).collect::<Vec<_>>(),
            discontinuity_sequence = start.discontinuity_sequence,
            media_sequence = start.first_media_sequence,
            "epoch starts"
        );
        Ok(Self {
            segmenter: Segmenter::new(&SegmenterSettings {
                part_target: settings.part_target,
                longest: start.target.limit(),
                first_media_sequence: start.first_media_sequence,
                tracks: slots.iter().map(|slot| slot.kind).collect(),
            }),
            clock: SegmentClock::new(aim, start.target.overdue()),
            passthrough: plan.passthrough,
            encodes: !rungs.is_empty(),
            pictures: if pictures { PICTURES } else { 0 },
            sheet: None,
            undecodable,
            open: slots.iter().filter(|slot| slot.rendition.is_none()).count(),
            encoded,
            failed,
            video,
            audio,
            start,
            slots,
            audio_track,
            started: false,
            held: Vec::new(),
            reached: None,
            last_output: Instant::now(),
            fed_since: 0,
            recent: Recent::default(),
            last_picture: None,
            last_sound: (0, Instant::now()),
            restart: false,
        })
    }

    /// Runs to the epoch's end and answers the media sequence number that the
    /// next one starts with.
    pub(crate) async fn run(
        mut self,
        core: &mut Core<'_>,
        mut units: VecDeque<(Track, AccessUnit)>,
    ) -> Result<u64, Error> {
        self.begin(core).await?;
        let mut waiting: Option<(Track, AccessUnit)> = None;
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            while waiting.is_none() {
                let Some((track, unit)) = units.pop_front() else {
                    break;
                };
                match self.take(core, track, unit).await? {
                    Step::Feed(track, unit) => waiting = Some((track, unit)),
                    Step::Done => {}
                    Step::Over => {
                        if let Some(continuation) = &mut core.continuation {
                            continuation.units.append(&mut units);
                        }
                        return self.finish(core).await;
                    }
                }
            }
            let chain = match &waiting {
                Some((Track::Video, _)) => self.video.as_ref(),
                Some((Track::Audio, _)) => self.audio.as_ref(),
                None => None,
            };
            tokio::select! {
                // Results first: the chains block when nobody takes them.
                biased;
                Some(encoded) = self.encoded.recv() => self.collect(core, encoded).await?,
                Some(reason) = self.failed.recv() => {
                    return Err(gst::Error::Running(reason).into());
                }
                Some(reason) = self.undecodable.recv() => self.without_pictures(&reason),
                _ = ticks.tick() => self.check_progress(waiting.is_some())?,
                Some(permit) = room(chain), if chain.is_some() => {
                    if let Some((_, unit)) = waiting.take() {
                        permit.send(unit);
                    }
                    self.fed_since += 1;
                }
                packet = core.packet(Some(IDLE)), if waiting.is_none() => {
                    let Some(packet) = packet else { break };
                    match self.packet(core, packet).await? {
                        Step::Feed(track, unit) => waiting = Some((track, unit)),
                        Step::Done => {}
                        Step::Over => break,
                    }
                }
            }
        }
        self.finish(core).await
    }

    /// Decides about a packet.
    async fn packet(&mut self, core: &mut Core<'_>, packet: Packet) -> Result<Step, Error> {
        let (track, unit) = match core.arrive(packet.clone())? {
            Arrival::Unit(track, unit) => (track, unit),
            Arrival::Break => return Ok(Step::Over),
            // A track that the plan knows nothing of.
            Arrival::Config(..) => {
                self.restart = true;
                return Ok(Step::Done);
            }
            Arrival::Nothing => return Ok(Step::Done),
        };
        if core.ends_before(&self.start.source, track, &unit) {
            self.segmenter.end_at(unit.pts);
            return Ok(Step::Over);
        }
        if track == Track::Video && unit.sync && self.restart {
            core.unread.push_front(packet);
            return Ok(Step::Over);
        }
        self.take(core, track, unit).await
    }

    /// The packaging side of an access unit; what is left goes into a chain.
    async fn take(&mut self, core: &mut Core<'_>, track: Track, unit: AccessUnit) -> Result<Step, Error> {
        match (track, self.audio_track) {
            (Track::Video, _) if self.start.source.video.is_some() => {
                self.last_picture = Some(unit.dts);
                if self.passthrough {
                    if self.recent.is_overdue(&unit, self.start.target) {
                        self.break_off(core, unit);
                        return Ok(Step::Over);
                    }
                    self.pass(core, &unit).await?;
                }
                self.mind_silence(core, unit.dts).await?;
                match &self.video {
                    // Keyframes are enough for them, and cheap to decode.
                    Some(chain) if self.pictures > 0 && unit.sync => chain.offer(unit),
                    Some(_) if self.encodes => return Ok(Step::Feed(track, unit)),
                    _ => {}
                }
                Ok(Step::Done)
            }
            (Track::Audio, Some(audio)) => {
                self.last_sound = (unit.pts, Instant::now());
                if self.last_picture.is_some_and(|last| unit.pts - last > MAX_HOLD) {
                    tracing::warn!("no picture for too long: waiting for one");
                    return Ok(Step::Over);
                }
                if self.passthrough {
                    self.recent.hear(&unit);
                }
                if self.start.source.video.is_none() {
                    while let Some(boundary) = self.clock.step(unit.pts) {
                        self.segmenter.boundary(boundary);
                    }
                    let outputs = self.segmenter.advance(unit.pts)?;
                    self.emit(core, outputs).await?;
                }
                if self.audio.is_some() {
                    return Ok(Step::Feed(track, unit));
                }
                let outputs = self.segmenter.push(audio, unit)?;
                self.emit(core, outputs).await?;
                Ok(Step::Done)
            }
            // Not in the plan: it came later than the probe looked.
            (Track::Video | Track::Audio, _) => {
                self.restart = true;
                Ok(Step::Done)
            }
        }
    }

    /// Fills in for sound that has stopped coming in.
    async fn mind_silence(&mut self, core: &Core<'_>, time: Micros) -> Result<(), Error> {
        let (last, when) = self.last_sound;
        let (behind, since) = SILENCE;
        if let Some(track) = self.audio_track
            && time - last > behind
            && when.elapsed() > since
        {
            let outputs = self.segmenter.silence(track, time - behind)?;
            self.emit(core, outputs).await?;
        }
        Ok(())
    }

    /// Ends the passthrough in the middle of a group of pictures: the next
    /// epoch encodes the source, from this picture on.
    fn break_off(&mut self, core: &mut Core<'_>, unit: AccessUnit) {
        tracing::warn!(
            target_s = self.start.target.millis() / 1000,
            "keyframes too far apart: the source is encoded from here on"
        );
        core.force_encode = true;
        self.segmenter.end_at(unit.pts);
        let source = self.start.source.clone();
        core.continuation = Some(std::mem::take(&mut self.recent).leave(source, unit));
    }

    /// A picture of a source that is passed through.
    async fn pass(&mut self, core: &mut Core<'_>, unit: &AccessUnit) -> Result<(), Error> {
        if unit.sync && self.clock.keyframe(unit.pts) {
            self.recent.begin_segment(unit.dts);
            self.segmenter.boundary(unit.pts);
            if let Some(chain) = self.video.as_ref().filter(|_| self.encodes) {
                chain.boundary(unit.pts);
            }
        }
        self.recent.see(unit);
        let mut outputs = self.segmenter.push(0, unit.clone())?;
        outputs.append(&mut self.segmenter.advance(unit.dts)?);
        self.emit(core, outputs).await
    }

    /// Something came out of a chain.
    async fn collect(&mut self, core: &mut Core<'_>, encoded: Encoded) -> Result<(), Error> {
        self.last_output = Instant::now();
        self.fed_since = 0;
        match encoded {
            Encoded::Config { track, config } => {
                let slot = &mut self.slots[track];
                slot.rendition = Some(rendition(slot, config, &self.start.source)?);
                self.begin(core).await
            }
            Encoded::Unit { track, unit } => {
                // Without reordering the first rung is the watermark of a
                // source that is not passed through.
                let watermark =
                    (!self.passthrough && track == 0 && self.start.source.video.is_some()).then_some(unit.pts);
                let mut outputs = self.segmenter.push(track, unit)?;
                if let Some(watermark) = watermark {
                    outputs.append(&mut self.segmenter.advance(watermark)?);
                }
                self.emit(core, outputs).await
            }
            Encoded::Boundary(pts) => {
                self.segmenter.boundary(pts);
                Ok(())
            }
            Encoded::Thumbnail(jpeg) => send(core, Command::Thumbnail(jpeg)).await,
            Encoded::Sheet(sheet) if self.started => send(core, Command::Sheet(sheet)).await,
            Encoded::Sheet(sheet) => {
                self.sheet = Some(sheet);
                Ok(())
            }
            Encoded::PicturesEnd => {
                self.pictures = self.pictures.saturating_sub(1);
                Ok(())
            }
            Encoded::End { .. } => {
                self.open = self.open.saturating_sub(1);
                Ok(())
            }
        }
    }

    /// The session goes on without thumbnails.
    fn without_pictures(&mut self, reason: &str) {
        tracing::warn!(reason, "no thumbnails of a source that is passed through");
        self.pictures = 0;
    }

    fn check_progress(&self, waiting: bool) -> Result<(), Error> {
        let busy = waiting || self.fed_since >= STALL_UNITS;
        if busy && self.open > 0 && self.last_output.elapsed() > STALL {
            return Err(Error::Stalled(STALL));
        }
        Ok(())
    }

    /// Drains the chains and closes the last segment.
    async fn finish(mut self, core: &mut Core<'_>) -> Result<u64, Error> {
        for chain in [&mut self.video, &mut self.audio].into_iter().flatten() {
            chain.finish();
        }
        let deadline = Instant::now() + DRAIN;
        while self.open > 0 || self.pictures > 0 {
            tokio::select! {
                biased;
                Some(encoded) = self.encoded.recv() => self.collect(core, encoded).await?,
                Some(reason) = self.failed.recv() => {
                    return Err(gst::Error::Running(reason).into());
                }
                Some(reason) = self.undecodable.recv() => self.without_pictures(&reason),
                () = sleep_until(deadline) => {
                    if self.open > 0 {
                        return Err(Error::Stalled(DRAIN));
                    }
                    self.without_pictures("they do not end");
                }
            }
        }
        let (outputs, next) = self.segmenter.finish()?;
        self.emit(core, outputs).await?;
        if !self.started {
            tracing::warn!("epoch too short: nothing came of it");
            return Ok(self.start.first_media_sequence);
        }
        if let Some(reached) = self.reached {
            core.dates.reach(reached);
        }
        send(core, Command::End).await?;
        Ok(next)
    }

    /// Tells the sink of the epoch as soon as every rendition is known.
    async fn begin(&mut self, core: &Core<'_>) -> Result<(), Error> {
        let known: Option<Vec<Rendition>> = self.slots.iter().map(|slot| slot.rendition.clone()).collect();
        let (Some(renditions), false) = (known, self.started) else {
            return Ok(());
        };
        self.started = true;
        let epoch = Epoch {
            discontinuity_sequence: self.start.discontinuity_sequence,
            source: self.start.source.clone(),
            renditions,
            wall: self.start.wall,
            target: self.start.target,
        };
        send(core, Command::Start(Box::new(epoch))).await?;
        if let Some(sheet) = self.sheet.take() {
            send(core, Command::Sheet(sheet)).await?;
        }
        let held = std::mem::take(&mut self.held);
        self.emit(core, held).await
    }

    async fn emit(&mut self, core: &Core<'_>, outputs: Vec<Output>) -> Result<(), Error> {
        if !self.started {
            self.held.extend(outputs);
            return if self.held.len() > HELD {
                Err(Error::Stalled(STALL))
            } else {
                Ok(())
            };
        }
        for output in outputs {
            if let Output::Segment { start, parts, .. } = &output {
                let lasts: Micros = parts.iter().map(|part| part.duration).sum();
                self.reached = self.reached.max(Some(start + lasts));
            }
            send(core, Command::Output(output)).await?;
        }
        Ok(())
    }
}

async fn room(chain: Option<&Chain>) -> Option<mpsc::OwnedPermit<AccessUnit>> {
    chain?.room().await
}

async fn send(core: &Core<'_>, command: Command) -> Result<(), Error> {
    core.commands
        .send(command)
        .await
        .map_err(|_| Error::Sink(anyhow!("the sink has ended")))
}

#[cfg(test)]
mod tests;
