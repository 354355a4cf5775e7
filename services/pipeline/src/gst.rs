//! The edge to GStreamer: encoded access units go in through `appsrc`, access
//! units of the renditions come out of `appsink`s. It knows nothing of
//! segments but where keyframes are to be forced.
//!
//! Each chain is a pipeline of its own, fed by a thread of its own, because
//! `appsrc` blocks when the chain is full; results of all chains meet in one
//! bounded channel, which blocks the encoders when nobody takes them. Whoever
//! feeds must therefore never wait for the feed without taking results.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use castlog_cmaf as cmaf;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSinkCallbacks, AppSrc};
use gstreamer_video::DownstreamForceKeyUnitEvent;
use tokio::sync::mpsc;

use crate::{
    clock::SegmentClock,
    media::{AccessUnit, Micros},
    plan::{AUDIO_BITRATE, Rung, SourceAudio, SourceVideo},
};

/// Access units between the pipeline and a feeding thread: about a second of
/// video, enough to ride out scheduling, small beside `appsrc`'s own bound.
const FEED: usize = 32;

/// Bytes that an `appsrc` holds before it blocks: several seconds of the
/// highest bit rate that the ingest lets through.
const APPSRC_BYTES: u64 = 8_000_000;

/// Access units that an `appsrc` holds before it blocks: two seconds of video
/// at a usual rate. Sound waits for encoded video, so little may be on the way.
const APPSRC_BUFFERS: u64 = 64;

/// Encoded access units that an `appsink` holds before it blocks its encoder.
const APPSINK_BUFFERS: u32 = 16;

/// Largest distance of forced keyframes in frames: beyond any segment, for the
/// segment clock alone decides where keyframes are.
const KEY_INT_MAX: u32 = 1200;

/// Seconds between thumbnails.
const THUMBNAIL_INTERVAL: u32 = 5;

/// Height of thumbnails in pixels.
const THUMBNAIL_HEIGHT: u32 = 180;

/// What can be wrong with a chain.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An element is missing or refuses its settings.
    #[error("cannot build the media pipeline: {0}")]
    Build(String),
    /// An element failed while running.
    #[error("media pipeline failed: {0}")]
    Running(String),
}

/// What comes out of the chains. `track` is the index that the chain was given.
#[derive(Debug)]
pub enum Encoded {
    /// The track's decoder configuration and, for video, its frame rate in
    /// frames per 1000 seconds; before the units it is for.
    Config {
        /// The track.
        track: usize,
        /// Its configuration.
        config: cmaf::Track,
    },
    /// An access unit.
    Unit {
        /// The track.
        track: usize,
        /// The unit.
        unit: AccessUnit,
    },
    /// The fixed clock begins a segment at this picture; before any unit of it.
    Boundary(Micros),
    /// A picture of the stream as JPEG.
    Thumbnail(Bytes),
    /// The track is complete.
    End {
        /// The track.
        track: usize,
    },
}

/// Where the chains of an epoch deliver. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Outlet {
    /// What they make.
    pub encoded: mpsc::Sender<Encoded>,
    /// Why one of them failed. A channel of its own, since the bus must not
    /// wait behind the encoders; only the first reason counts, so it holds one.
    pub failed: mpsc::Sender<String>,
}

/// A running chain.
pub struct Chain {
    pipeline: gst::Pipeline,
    feed: Option<mpsc::Sender<AccessUnit>>,
    boundaries: Boundaries,
}

/// Presentation times at which a keyframe is still to be forced.
type Boundaries = Arc<Mutex<VecDeque<Micros>>>;

/// How video is encoded.
#[derive(Debug, Clone)]
pub struct VideoSettings<'a> {
    /// The source.
    pub source: &'a SourceVideo,
    /// What to make of it, highest first, each with its track index.
    pub rungs: &'a [(usize, Rung)],
    /// `x264enc speed-preset`.
    pub preset: &'a str,
    /// Set when the source is not passed through: any frame may begin a segment.
    pub fixed_clock: Option<Micros>,
    /// Whether thumbnails are made.
    pub thumbnails: bool,
}

impl Chain {
    /// Starts the chain that decodes the source once and encodes every rung.
    pub fn video(settings: &VideoSettings<'_>, out: &Outlet) -> Result<Self, Error> {
        let pipeline = launch(&video_description(settings))?;
        let boundaries = Boundaries::default();
        let raw = element(&pipeline, "frames")?;
        let pad = raw
            .static_pad("src")
            .ok_or_else(|| Error::Build("no pad for decoded frames".to_owned()))?;
        force_keyframes(&pad, &boundaries, settings.fixed_clock, out);
        for (track, _) in settings.rungs {
            collect(&pipeline, *track, out)?;
        }
        if settings.thumbnails {
            collect_thumbnails(&pipeline, out)?;
        }
        let caps = gst::Caps::builder("video/x-h264")
            .field("stream-format", "avc")
            .field("alignment", "au")
            .field("codec_data", buffer(&settings.source.avcc))
            .build();
        Self::start(pipeline, &caps, boundaries, out)
    }

    /// Starts the chain that decodes any AAC and encodes AAC-LC stereo.
    pub fn audio(source: &SourceAudio, rate: u32, track: usize, out: &Outlet) -> Result<Self, Error> {
        let pipeline = launch(&format!(
            "{APPSRC} ! aacparse ! avdec_aac ! audioconvert ! audioresample \
             ! audio/x-raw,rate={rate},channels=2 ! avenc_aac bitrate={AUDIO_BITRATE} \
             ! audio/mpeg,mpegversion=4,stream-format=raw ! {}",
            appsink(&format!("out{track}")),
            APPSRC = appsrc(),
        ))?;
        collect(&pipeline, track, out)?;
        let caps = gst::Caps::builder("audio/mpeg")
            .field("mpegversion", 4i32)
            .field("stream-format", "raw")
            .field("codec_data", buffer(&source.raw))
            .build();
        Self::start(pipeline, &caps, Boundaries::default(), out)
    }

    /// Forces a keyframe in every rung at the picture with this presentation
    /// time. To be told before the picture is fed.
    pub fn boundary(&self, pts: Micros) {
        lock(&self.boundaries).push_back(pts);
    }

    /// Waits for room for an access unit; `None` when the chain is over.
    pub async fn room(&self) -> Option<mpsc::OwnedPermit<AccessUnit>> {
        self.feed.clone()?.reserve_owned().await.ok()
    }

    /// Nothing more goes in: what the chain holds comes out, then
    /// [`Encoded::End`] for each of its tracks.
    pub fn finish(&mut self) {
        self.feed = None;
    }

    fn start(pipeline: gst::Pipeline, caps: &gst::Caps, boundaries: Boundaries, out: &Outlet) -> Result<Self, Error> {
        let source = element(&pipeline, "source")?
            .downcast::<AppSrc>()
            .map_err(|_| Error::Build("source is no appsrc".to_owned()))?;
        source.set_caps(Some(caps));
        watch(&pipeline, out)?;
        pipeline
            .set_state(gst::State::Playing)
            .map_err(|error| Error::Build(error.to_string()))?;
        let (feed, mut units) = mpsc::channel::<AccessUnit>(FEED);
        std::thread::Builder::new()
            .name("feed".to_owned())
            .spawn(move || {
                while let Some(unit) = units.blocking_recv() {
                    // Flushing: the chain is being taken down.
                    if source.push_buffer(gst_buffer(unit)).is_err() {
                        return;
                    }
                }
                if let Err(error) = source.end_of_stream() {
                    tracing::debug!(%error, "end of stream not taken");
                }
            })
            .map_err(|error| Error::Build(error.to_string()))?;
        Ok(Self {
            pipeline,
            feed: Some(feed),
            boundaries,
        })
    }
}

/// Stopping joins the chain's threads, which may wait in the outlet: the
/// receiver of the outlet is dropped first.
impl Drop for Chain {
    fn drop(&mut self) {
        if let Err(error) = self.pipeline.set_state(gst::State::Null) {
            tracing::warn!(%error, "media pipeline did not stop");
        }
    }
}

/// Makes GStreamer ready and checks that every element is there.
pub fn init() -> Result<(), Error> {
    gst::init().map_err(|error| Error::Build(error.to_string()))?;
    let missing: Vec<&str> = [
        "appsrc",
        "appsink",
        "h264parse",
        "avdec_h264",
        "videoconvertscale",
        "x264enc",
        "aacparse",
        "avdec_aac",
        "audioconvert",
        "audioresample",
        "avenc_aac",
        "videorate",
        "jpegenc",
    ]
    .into_iter()
    .filter(|name| gst::ElementFactory::find(name).is_none())
    .collect();
    if missing.is_empty() {
        Ok(())
    } else {
        let missing = missing.join(", ");
        Err(Error::Build(format!("GStreamer elements missing: {missing}")))
    }
}

fn appsrc() -> String {
    format!("appsrc name=source format=time block=true max-bytes={APPSRC_BYTES} max-buffers={APPSRC_BUFFERS}")
}

fn appsink(name: &str) -> String {
    format!(
        "appsink name={name} sync=false async=false enable-last-sample=false \
         max-buffers={APPSINK_BUFFERS}"
    )
}

/// A queue bounded by buffers alone: raw frames differ too much in bytes.
fn queue(buffers: u32) -> String {
    format!("queue max-size-buffers={buffers} max-size-bytes=0 max-size-time=0")
}

fn video_description(settings: &VideoSettings<'_>) -> String {
    // The decoder's own buffers (direct rendering) are slower to scale from.
    let mut text = format!(
        "{} ! h264parse ! video/x-h264,stream-format=avc,alignment=au \
         ! avdec_h264 max-threads=2 direct-rendering=false ! {} name=frames ! tee name=raw",
        appsrc(),
        queue(4),
    );
    // Each rung scales from the one above it: fewer pixels to read.
    let mut above = "raw".to_owned();
    for (track, rung) in settings.rungs {
        let &Rung {
            width, height, bitrate, ..
        } = rung;
        let kilobits = bitrate.div_ceil(1000);
        text += &format!(
            " {above}. ! {queue} ! videoconvertscale \
             ! video/x-raw,format=I420,width={width},height={height},pixel-aspect-ratio=1/1 \
             ! tee name=rung{track} rung{track}. ! {queue} \
             ! x264enc tune=zerolatency speed-preset={preset} sliced-threads=false threads=1 \
             bitrate={kilobits} vbv-buf-capacity=1000 key-int-max={KEY_INT_MAX} \
             option-string=scenecut=0:open-gop=0 \
             ! video/x-h264,profile=high,stream-format=avc,alignment=au ! {sink}",
            queue = queue(4),
            preset = settings.preset,
            sink = appsink(&format!("out{track}")),
        );
        above = format!("rung{track}");
    }
    if settings.thumbnails {
        text += &format!(
            " {above}. ! queue leaky=downstream max-size-buffers=2 max-size-bytes=0 max-size-time=0 \
             ! videorate drop-only=true ! video/x-raw,framerate=1/{THUMBNAIL_INTERVAL} \
             ! videoconvertscale ! video/x-raw,height={THUMBNAIL_HEIGHT},pixel-aspect-ratio=1/1 \
             ! jpegenc ! {}",
            appsink("thumbnails"),
        );
    }
    text
}

fn launch(description: &str) -> Result<gst::Pipeline, Error> {
    gst::parse::launch(description)
        .map_err(|error| Error::Build(error.to_string()))?
        .downcast::<gst::Pipeline>()
        .map_err(|_| Error::Build("not a pipeline".to_owned()))
}

fn element(pipeline: &gst::Pipeline, name: &str) -> Result<gst::Element, Error> {
    pipeline
        .by_name(name)
        .ok_or_else(|| Error::Build(format!("no element {name}")))
}

/// Hands the first error on the bus on.
fn watch(pipeline: &gst::Pipeline, out: &Outlet) -> Result<(), Error> {
    let bus = pipeline
        .bus()
        .ok_or_else(|| Error::Build("a pipeline without a bus".to_owned()))?;
    let out = out.clone();
    bus.set_sync_handler(move |_, message| {
        match message.view() {
            gst::MessageView::Error(error) => {
                let source = error.src().map(|src| src.name()).unwrap_or_default();
                let text = format!("{source}: {}", error.error());
                if out.failed.try_send(text).is_err() {
                    tracing::debug!(error = %error.error(), "further error of a media pipeline");
                }
            }
            gst::MessageView::Warning(warning) => {
                tracing::debug!(warning = %warning.error(), "media pipeline warns");
            }
            _ => {}
        }
        gst::BusSyncReply::Drop
    });
    Ok(())
}

/// Watches decoded frames and pushes a force-key-unit event in front of each
/// that begins a segment.
fn force_keyframes(pad: &gst::Pad, boundaries: &Boundaries, fixed_clock: Option<Micros>, out: &Outlet) {
    let boundaries = Arc::clone(boundaries);
    let out = out.clone();
    let state = Mutex::new((fixed_clock.map(SegmentClock::new), 0u32));
    pad.add_probe(gst::PadProbeType::BUFFER, move |pad, info| {
        let Some(pts) = info.buffer().and_then(|buffer| buffer.pts()) else {
            return gst::PadProbeReturn::Ok;
        };
        let time = from_clock(pts.nseconds());
        let (clock, count) = &mut *lock(&state);
        let begins = match clock {
            Some(clock) => {
                let begins = clock.frame(time);
                // Closed: the chain is being taken down.
                if begins && out.encoded.blocking_send(Encoded::Boundary(time)).is_err() {
                    return gst::PadProbeReturn::Ok;
                }
                begins
            }
            None => {
                // A keyframe that could not be decoded is made up for by the
                // next frame that could.
                let mut boundaries = lock(&boundaries);
                let mut begins = false;
                while boundaries.front().is_some_and(|&first| first <= time + 1000) {
                    boundaries.pop_front();
                    begins = true;
                }
                begins
            }
        };
        if begins {
            *count += 1;
            // An encoder's first frame is a keyframe anyway, and x264enc 1.22
            // stays blind to later events when one is pending then.
            if *count > 1 {
                let event = DownstreamForceKeyUnitEvent::builder()
                    .timestamp(pts)
                    .stream_time(pts)
                    .running_time(pts)
                    .all_headers(true)
                    .count(*count)
                    .build();
                if !pad.push_event(event) {
                    tracing::debug!("a keyframe could not be forced");
                }
            }
        }
        gst::PadProbeReturn::Ok
    });
}

/// Sends what arrives at the `appsink` of a track.
fn collect(pipeline: &gst::Pipeline, track: usize, out: &Outlet) -> Result<(), Error> {
    let sink = sink(pipeline, &format!("out{track}"))?;
    let (units, end) = (out.encoded.clone(), out.encoded.clone());
    let mut known: Option<gst::Caps> = None;
    sink.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let caps = sample.caps().ok_or(gst::FlowError::NotNegotiated)?;
                let send = |encoded| units.blocking_send(encoded).map_err(|_| gst::FlowError::Eos);
                if known.as_deref() != Some(caps) {
                    let config = track_config(caps).ok_or(gst::FlowError::NotNegotiated)?;
                    send(Encoded::Config { track, config })?;
                    known = Some(caps.to_owned());
                }
                let unit = access_unit(&sample).ok_or(gst::FlowError::Error)?;
                send(Encoded::Unit { track, unit })?;
                Ok(gst::FlowSuccess::Ok)
            })
            .eos(move |_| {
                if end.blocking_send(Encoded::End { track }).is_err() {
                    tracing::debug!(track, "end of a track after the end of the chain");
                }
            })
            .build(),
    );
    Ok(())
}

fn collect_thumbnails(pipeline: &gst::Pipeline, out: &Outlet) -> Result<(), Error> {
    let out = out.encoded.clone();
    sink(pipeline, "thumbnails")?.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let jpeg = sample.buffer().and_then(bytes).ok_or(gst::FlowError::Error)?;
                out.blocking_send(Encoded::Thumbnail(jpeg))
                    .map_err(|_| gst::FlowError::Eos)?;
                Ok(gst::FlowSuccess::Ok)
            })
            .build(),
    );
    Ok(())
}

fn sink(pipeline: &gst::Pipeline, name: &str) -> Result<AppSink, Error> {
    element(pipeline, name)?
        .downcast::<AppSink>()
        .map_err(|_| Error::Build(format!("{name} is no appsink")))
}

/// The decoder configuration that caps carry.
fn track_config(caps: &gst::CapsRef) -> Option<cmaf::Track> {
    let caps = caps.structure(0)?;
    let codec_data = caps.get::<gst::Buffer>("codec_data").ok()?;
    let codec_data = bytes(&codec_data)?;
    let number = |field| caps.get::<i32>(field).ok();
    if caps.name() == "video/x-h264" {
        Some(cmaf::Track::Video(cmaf::Video {
            avcc: codec_data,
            width: number("width")?.try_into().ok()?,
            height: number("height")?.try_into().ok()?,
            pixel_aspect: (1, 1),
        }))
    } else {
        Some(cmaf::Track::Audio(cmaf::Audio {
            config: codec_data,
            sample_rate: number("rate")?.try_into().ok()?,
            channels: number("channels")?.try_into().ok()?,
        }))
    }
}

/// The access unit in a sample, in running time: encoders shift their own.
fn access_unit(sample: &gst::Sample) -> Option<AccessUnit> {
    let buffer = sample.buffer()?;
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    let running = |time: Option<gst::ClockTime>| -> Option<Micros> {
        Some(match segment.to_running_time_full(time?)? {
            gst::Signed::Positive(time) => from_clock(time.nseconds()),
            gst::Signed::Negative(time) => -from_clock(time.nseconds()),
        })
    };
    let pts = running(buffer.pts())?;
    Some(AccessUnit {
        dts: running(buffer.dts()).unwrap_or(pts),
        pts,
        sync: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        data: bytes(buffer)?,
    })
}

/// Nanoseconds as microseconds, rounded.
fn from_clock(nanoseconds: u64) -> Micros {
    Micros::try_from(nanoseconds.saturating_add(500) / 1000).unwrap_or(Micros::MAX)
}

fn to_clock(time: Micros) -> gst::ClockTime {
    gst::ClockTime::from_useconds(time.max(0).cast_unsigned())
}

fn bytes(buffer: &gst::BufferRef) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(&buffer.map_readable().ok()?))
}

fn buffer(data: &Bytes) -> gst::Buffer {
    gst::Buffer::from_slice(data.clone())
}

fn gst_buffer(unit: AccessUnit) -> gst::Buffer {
    let mut buffer = gst::Buffer::from_slice(unit.data);
    // A buffer just made has one owner.
    if let Some(buffer) = buffer.get_mut() {
        buffer.set_pts(to_clock(unit.pts));
        buffer.set_dts(to_clock(unit.dts));
        if !unit.sync {
            buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
        }
    }
    buffer
}

/// A poisoned lock holds whole values all the same: none is written in steps.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
