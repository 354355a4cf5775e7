//! The core of a job: packets in, parts and segments out to a [`Sink`]. It
//! needs neither the log nor a network, so tests and benches run it from a
//! file to a folder.
//!
//! A session is a row of *epochs*. An epoch lasts from one break of the time
//! line (jump, new decoder configuration, silence) to the next. It probes the
//! source, makes a plan, starts the GStreamer chains, feeds them, drains them,
//! and closes its last segment; the next epoch goes on with the following media
//! sequence number and the next discontinuity sequence number.

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use castlog_cmaf as cmaf;
use castlog_flv::{self as flv, avc};
use castlog_metrics::{Skip, metrics};
use chrono::{DateTime, Utc};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    dates::{Dates, Wall, date},
    epoch::{Running, Start},
    gst,
    media::{AccessUnit, Micros, Packet, Track},
    plan::{self, Limits, Source},
    probe::{Decision, Known, Probe},
    segmenter::Output,
    target::Target,
    timeline::{Placed, Timeline},
};

/// Silence of the source after which an epoch is ended, so that what is in the
/// encoders reaches the viewers and the last segment is complete.
pub(crate) const IDLE: Duration = Duration::from_secs(5);

/// How long the next keyframe is waited for when the transcode is told to stop: another
/// worker begins with it. Longer than any interval that is passed through.
const HANDOVER: Duration = Duration::from_secs(5);

/// What the ingest has kept for whoever comes is read for so long at least, from the first
/// packet on: the newest of it is now.
const BACKLOG: Duration = Duration::from_millis(100);

/// Longer silence is the end of what was kept; what is live comes at this distance at least.
const NEXT: Duration = Duration::from_millis(2);

/// Packets read ahead at most: as many as the ingest keeps of a stream.
const MAX_UNREAD: usize = 4096;

/// Largest distance from decoding to presentation in milliseconds: sixteen
/// reordered pictures at five a second. Nonsense beyond would lead the segment
/// clock astray.
const MAX_COMPOSITION: i32 = 3200;

/// Outputs on the way to the sink: about two segments' parts of six
/// renditions, so that a slow store holds up the encoders and not the memory.
const COMMANDS: usize = 128;

/// Why a transcode ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The stream's codec is not transcoded; trying again is of no use.
    #[error("R05 unsupported {track:?} codec {codec}", track = track)]
    Unsupported {
        /// Where it was found.
        track: Track,
        /// Its name.
        codec: String,
    },
    /// The source's decoder configuration is broken.
    #[error("decoder configuration: {0}")]
    Configuration(#[from] flv::Error),
    /// GStreamer failed.
    #[error(transparent)]
    Gst(#[from] gst::Error),
    /// Access units could not be packed.
    #[error("packing: {0}")]
    Package(#[from] cmaf::Error),
    /// The chains took input and gave nothing.
    #[error("no output for {} s while input goes in", .0.as_secs())]
    Stalled(Duration),
    /// The sink failed.
    #[error("delivery: {0}")]
    Sink(anyhow::Error),
}

/// What a transcode is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Duration that segments aim at.
    pub segment_target: Micros,
    /// What the session has announced as the bound of its segments; `None`
    /// when it has announced nothing yet.
    pub announced: Option<Target>,
    /// What a former worker has found of the source.
    pub known: Option<Known>,
    /// Duration that no part exceeds.
    pub part_target: Micros,
    /// What to make of the source.
    pub limits: Limits,
    /// `x264enc speed-preset`.
    pub preset: String,
    /// Whether thumbnails and the storyboard are made.
    pub thumbnails: bool,
    /// Media sequence number of the first segment.
    pub first_media_sequence: u64,
    /// Discontinuity sequence number of the first epoch.
    pub discontinuity_sequence: u64,
    /// The end of what a former worker has dated: nothing is dated before it.
    pub dated_to: Option<DateTime<Utc>>,
}

/// One track of an epoch, as a rendition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendition {
    /// Name in URLs and object keys.
    pub name: String,
    /// Decoder configuration and size.
    pub config: cmaf::Track,
    /// RFC 6381 codec string.
    pub codec: String,
    /// Frames per 1000 seconds; 0 = unknown, or sound.
    pub frame_rate_milli: u32,
    /// Bits per second; 0 = unknown.
    pub average_bitrate: u64,
    /// Whether the source's own access units are passed through.
    pub passthrough: bool,
}

/// What is known of an epoch once all its renditions are.
#[derive(Debug, Clone)]
pub struct Epoch {
    /// Its discontinuity sequence number.
    pub discontinuity_sequence: u64,
    /// What it was made of.
    pub source: Source,
    /// The renditions, by track index.
    pub renditions: Vec<Rendition>,
    /// By which it is dated.
    pub wall: Wall,
    /// What no segment of the session exceeds.
    pub target: Target,
}

impl Epoch {
    /// When the picture or sound at this time was, see [`crate::dates`].
    pub fn program_date_time(&self, time: Micros) -> DateTime<Utc> {
        date(self.wall, time)
    }
}

/// Where a transcode delivers. Each call is awaited before the next.
pub trait Sink: Send {
    /// An epoch begins: its renditions are known. Comes before their outputs.
    fn start(&mut self, epoch: &Epoch) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// A part or segment of the epoch.
    fn output(&mut self, epoch: &Epoch, output: Output) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// A JPEG picture of the stream.
    fn thumbnail(&mut self, jpeg: Bytes) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Pictures of the epoch for a storyboard: a new sheet, or the last one with more.
    fn sheet(&mut self, epoch: &Epoch, sheet: gst::Sheet) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// The epoch is complete.
    fn end(&mut self, epoch: &Epoch) -> impl Future<Output = anyhow::Result<()>> + Send;
    /// Waits until there is something to [`Self::settle`]. It is dropped whenever a call
    /// of another kind is due.
    fn settled(&mut self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
    /// Goes on with what went its way beside the calls; comes behind each
    /// [`Self::settled`] that has come to its end.
    fn settle(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send {
        std::future::ready(Ok(()))
    }
    /// Waits for all that goes its way beside the calls.
    fn drain(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send {
        std::future::ready(Ok(()))
    }
}

/// What is sent to the sink's side.
pub(crate) enum Command {
    Start(Box<Epoch>),
    Output(Output),
    Thumbnail(Bytes),
    Sheet(gst::Sheet),
    End,
}

/// Transcodes until the packets end, or up to the first keyframe after `stop` is
/// cancelled, and delivers everything before it returns.
pub async fn run<S: Sink>(
    settings: Settings,
    packets: &mut mpsc::Receiver<Packet>,
    stop: &CancellationToken,
    sink: &mut S,
) -> Result<(), Error> {
    gst::init()?;
    let (commands, receiver) = mpsc::channel(COMMANDS);
    let core = Core {
        next_sequence: settings.first_media_sequence,
        discontinuity: settings.discontinuity_sequence,
        force_encode: settings.limits.force_encode,
        target: settings.announced,
        continuation: None,
        dates: Dates::behind(settings.dated_to),
        settings,
        packets,
        stop,
        commands,
        timeline: Timeline::default(),
        unread: VecDeque::new(),
        backlog_until: None,
        video_config: None,
        audio_config: None,
        stop_at: None,
        ended: false,
    };
    let (core, sink) = tokio::join!(core.run(), deliver(receiver, sink));
    // The core fails with a closed channel when the sink has failed.
    sink.map_err(Error::Sink)?;
    core
}

/// Counts packets that are left out.
pub(crate) fn skipped(reason: &'static str, count: u64) {
    let skip = Skip { reason };
    metrics().pipeline_skipped_packets.get_or_create(&skip).inc_by(count);
}

async fn deliver<S: Sink>(mut commands: mpsc::Receiver<Command>, sink: &mut S) -> anyhow::Result<()> {
    let mut current = None;
    loop {
        let command = tokio::select! {
            command = commands.recv() => command,
            () = sink.settled() => {
                sink.settle().await?;
                continue;
            }
        };
        let Some(command) = command else {
            return sink.drain().await;
        };
        match (command, &current) {
            (Command::Start(epoch), _) => {
                sink.start(&epoch).await?;
                current = Some(epoch);
            }
            (Command::Output(output), Some(epoch)) => sink.output(epoch, output).await?,
            (Command::Thumbnail(jpeg), _) => sink.thumbnail(jpeg).await?,
            (Command::Sheet(sheet), Some(epoch)) => sink.sheet(epoch, sheet).await?,
            (Command::End, Some(epoch)) => sink.end(epoch).await?,
            (Command::Output(_) | Command::Sheet(_) | Command::End, None) => {}
        }
    }
}

/// Presentation time of the first unit that can be shown.
fn first(source: &Source, units: &VecDeque<(Track, AccessUnit)>) -> Micros {
    let leads = |track| track == Track::Video || source.video.is_none();
    let first = units.iter().find(|(track, unit)| leads(*track) && unit.sync);
    first.or(units.front()).map_or(0, |(_, unit)| unit.pts)
}

/// What a packet is to the epoch.
pub(crate) enum Arrival {
    Unit(Track, AccessUnit),
    /// A decoder configuration that the epoch did not know.
    Config(Track, Bytes),
    /// The time line or a configuration changed: the epoch is over.
    Break,
    Nothing,
}

/// What an epoch that was broken off leaves to the next one, which goes on
/// where it stopped, on the same time line.
pub(crate) struct Continuation {
    pub(crate) source: Source,
    /// From a keyframe on.
    pub(crate) units: VecDeque<(Track, AccessUnit)>,
    /// Pictures up to this time have been shown.
    pub(crate) after: Micros,
}

/// The state of a session over its epochs.
pub(crate) struct Core<'a> {
    pub(crate) settings: Settings,
    packets: &'a mut mpsc::Receiver<Packet>,
    stop: &'a CancellationToken,
    pub(crate) commands: mpsc::Sender<Command>,
    timeline: Timeline,
    pub(crate) dates: Dates,
    /// Packets to begin with: the one that ended an epoch, and what was read ahead.
    pub(crate) unread: VecDeque<Packet>,
    /// Until when what the ingest has kept is read; unknown before the first packet of a time line.
    backlog_until: Option<Instant>,
    pub(crate) continuation: Option<Continuation>,
    /// The session's target duration, once it is chosen.
    target: Option<Target>,
    video_config: Option<Bytes>,
    audio_config: Option<Bytes>,
    next_sequence: u64,
    discontinuity: u64,
    /// Set once a passed-through source has broken its keyframe interval.
    pub(crate) force_encode: bool,
    /// When the wait for a keyframe to stop at is over.
    stop_at: Option<Instant>,
    ended: bool,
}

impl Core<'_> {
    async fn run(mut self) -> Result<(), Error> {
        loop {
            if let Some(Continuation { source, units, after }) = self.continuation.take() {
                self.epoch((source, units), Some(after)).await?;
            } else if self.ended {
                break;
            } else {
                self.timeline.restart();
                if let Some(decision) = self.probe().await? {
                    self.epoch(decision, None).await?;
                }
            }
        }
        let dropped = self.timeline.dropped();
        if dropped > 0 {
            tracing::warn!(dropped, "packets did not fit the time line");
        }
        Ok(())
    }

    /// The next packet; `None` after silence, or when there is no more.
    pub(crate) async fn packet(&mut self, patience: Option<Duration>) -> Option<Packet> {
        if let Some(packet) = self.unread.pop_front() {
            return Some(packet);
        }
        let Self {
            packets, stop, stop_at, ..
        } = self;
        let receive = async {
            match patience {
                Some(patience) => timeout(patience, packets.recv()).await.ok(),
                None => Some(packets.recv().await),
            }
        };
        let stopped = async {
            stop.cancelled().await;
            sleep_until(*stop_at.get_or_insert_with(|| Instant::now() + HANDOVER)).await;
        };
        let received = tokio::select! {
            received = receive => received,
            () = stopped => Some(None),
        };
        match received {
            Some(Some(packet)) => return Some(packet),
            Some(None) => self.ended = true,
            None => {}
        }
        None
    }

    /// Whether the transcode ends before this unit, which another worker begins with.
    pub(crate) fn ends_before(&mut self, source: &Source, track: Track, unit: &AccessUnit) -> bool {
        let begins = unit.sync && (track == Track::Video || source.video.is_none());
        // What has been read ahead the other one does not get.
        let ends = begins && self.stop.is_cancelled() && self.unread.is_empty();
        self.ended |= ends;
        ends
    }

    pub(crate) fn arrive(&mut self, packet: Packet) -> Result<Arrival, Error> {
        let (track, timestamp, composition, data) = match packet {
            Packet::Unsupported { track, codec } => {
                return Err(Error::Unsupported { track, codec });
            }
            Packet::Break => return Ok(Arrival::Break),
            Packet::VideoConfig(config) => {
                return Ok(Self::configure(Track::Video, &mut self.video_config, config));
            }
            Packet::AudioConfig(config) => {
                return Ok(Self::configure(Track::Audio, &mut self.audio_config, config));
            }
            Packet::Video {
                timestamp,
                composition,
                ref data,
            } => (Track::Video, timestamp, composition, data.clone()),
            Packet::Audio { timestamp, ref data } => (Track::Audio, timestamp, 0, data.clone()),
        };
        let sync = match (track, &self.video_config, &self.audio_config) {
            (Track::Video, Some(config), _) => {
                // The configuration was long enough to be taken.
                let length_size = config.get(4).map_or(4, |byte| (byte & 3) + 1);
                // Of what does not add up a decoder makes nothing, and a player may give up.
                if avc::Nalus::new(&data, length_size).any(|nalu| nalu.is_err()) {
                    skipped("unreadable", 1);
                    return Ok(Arrival::Nothing);
                }
                avc::has_idr(&data, length_size)
            }
            (Track::Audio, _, Some(_)) => true,
            _ => return Ok(Arrival::Nothing),
        };
        Ok(match self.timeline.place(track, timestamp) {
            Placed::At(dts) => Arrival::Unit(
                track,
                AccessUnit {
                    dts,
                    pts: dts + Micros::from(composition.clamp(0, MAX_COMPOSITION)) * 1000,
                    sync,
                    data,
                },
            ),
            Placed::Discontinuity => {
                self.unread.push_front(packet);
                Arrival::Break
            }
            Placed::Dropped => {
                skipped("out_of_time", 1);
                Arrival::Nothing
            }
        })
    }

    fn configure(track: Track, known: &mut Option<Bytes>, config: Bytes) -> Arrival {
        match known.replace(config.clone()) {
            Some(before) if before == config => Arrival::Nothing,
            Some(_) => Arrival::Break,
            None => Arrival::Config(track, config),
        }
    }

    async fn probe(&mut self) -> Result<Option<Decision>, Error> {
        let mut probe = Probe::new(
            self.settings.limits.max_keyframe_interval,
            self.video_config.clone(),
            self.audio_config.clone(),
        )
        .knowing(self.settings.known.take());
        self.backlog_until = None;
        while !probe.is_decided() && !probe.knows_enough() {
            if self.stop.is_cancelled() {
                self.ended = true;
                return Ok(None);
            }
            let patience = (!probe.is_empty()).then_some(IDLE);
            let Some(packet) = self.packet(patience).await else {
                break;
            };
            self.backlog_until.get_or_insert_with(|| Instant::now() + BACKLOG);
            match self.arrive(packet)? {
                Arrival::Unit(track, unit) => probe.push(track, unit),
                Arrival::Config(Track::Video, config) => probe.video_config(config),
                Arrival::Config(Track::Audio, config) => probe.audio_config(config),
                Arrival::Break => break,
                Arrival::Nothing => {}
            }
        }
        Ok(probe.decide()?)
    }

    /// Reads ahead what is here of the time line, and answers the newest time of it: an
    /// ingest hands over at once what it has kept, up to a keyframe long ago.
    async fn read_ahead(&mut self) -> Option<Micros> {
        let mut timeline = self.timeline.clone();
        let mut newest = None;
        for at in 0..MAX_UNREAD {
            if at == self.unread.len() {
                if self.stop.is_cancelled() {
                    break;
                }
                let patience = self
                    .backlog_until
                    .map_or(NEXT, |until| NEXT.max(until.saturating_duration_since(Instant::now())));
                let Ok(Some(packet)) = timeout(patience, self.packets.recv()).await else {
                    break;
                };
                self.unread.push_back(packet);
            }
            let placed = match &self.unread[at] {
                Packet::Video { timestamp, .. } => timeline.place(Track::Video, *timestamp),
                Packet::Audio { timestamp, .. } => timeline.place(Track::Audio, *timestamp),
                Packet::Break => break,
                Packet::Unsupported { .. } | Packet::VideoConfig(_) | Packet::AudioConfig(_) => continue,
            };
            match placed {
                Placed::At(time) => newest = newest.max(Some(time)),
                Placed::Discontinuity => break,
                Placed::Dropped => {}
            }
        }
        newest
    }

    async fn epoch(&mut self, (source, units): Decision, after: Option<Micros>) -> Result<(), Error> {
        let longest = self.settings.limits.max_keyframe_interval;
        let limits = Limits {
            force_encode: self.force_encode,
            max_keyframe_interval: match self.target {
                Some(target) => longest.min(target.longest_interval()),
                None => longest,
            },
            ..self.settings.limits.clone()
        };
        let plan = plan::plan(&source, &limits);
        let interval = source.video.as_ref().and_then(|video| video.keyframe_interval);
        let aim = self.settings.segment_target;
        let target = *self
            .target
            .get_or_insert_with(|| Target::choose(aim, interval.filter(|_| plan.passthrough)));
        let wall = match self.dates.go_on().filter(|_| after.is_some()) {
            Some(wall) => wall,
            None => {
                let first = first(&source, &units);
                let collected = units.iter().map(|(_, unit)| unit.dts).max();
                let newest = self.read_ahead().await.max(collected).unwrap_or(first);
                self.dates.begin(first, newest, Utc::now())
            }
        };
        let epoch = Running::start(
            &self.settings,
            &plan,
            Start {
                source,
                first_media_sequence: self.next_sequence,
                discontinuity_sequence: self.discontinuity,
                wall,
                target,
                after,
            },
        )?;
        self.next_sequence = epoch.run(self, units).await?;
        self.discontinuity += 1;
        Ok(())
    }
}
