//! The edge to GStreamer: encoded access units go in through `appsrc`, access
//! units of the renditions come out of `appsink`s. It knows nothing of
//! segments but where keyframes are to be forced.
//!
//! Each chain is a pipeline of its own, fed by a thread of its own, because
//! `appsrc` blocks when the chain is full; results of all chains meet in one
//! bounded channel, which blocks the encoders when nobody takes them. Whoever
//! feeds must therefore never wait for the feed without taking results.

mod describe;
mod frames;
mod samples;
mod scale;
mod sheets;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use castlog_cmaf as cmaf;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::AppSrc;
use tokio::sync::mpsc;

use self::samples::{collect, collect_thumbnails};
pub use self::{describe::init, sheets::Sheet};
use crate::{
    media::{AccessUnit, Micros},
    plan::{Rung, SourceAudio, SourceVideo},
};

/// Access units between the pipeline and a feeding thread: about a second of
/// video, enough to ride out scheduling, small beside `appsrc`'s own bound.
const FEED: usize = 32;

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
    /// Pictures of the stream for a storyboard: a new sheet, or one more on the last.
    Sheet(Sheet),
    /// No more thumbnails come, or no more sheets.
    PicturesEnd,
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
    /// Set when the source is not passed through: any frame may begin a
    /// segment. The duration that segments aim at, and their longest.
    pub fixed_clock: Option<(Micros, Micros)>,
    /// Pictures up to this time are only decoded: others need them.
    pub after: Option<Micros>,
    /// Whether thumbnails and the storyboard are made.
    pub thumbnails: bool,
}

impl VideoSettings<'_> {
    /// Whether decoded frames are what our own scaler takes. Others are left
    /// to GStreamer's, which converts on the way.
    fn scales_plainly(&self) -> bool {
        let sps = &self.source.sps;
        sps.chroma_format == 1 && sps.bit_depth == 8 && !sps.interlaced
    }
}

impl Chain {
    /// Starts the chain that decodes the source once and encodes every rung.
    pub fn video(settings: &VideoSettings<'_>, out: &Outlet) -> Result<Self, Error> {
        let pipeline = launch(&describe::video(settings))?;
        let boundaries = Boundaries::default();
        let raw = element(&pipeline, "frames")?;
        let (taken, decoded) = (element(&pipeline, "source")?, pad(&raw, "sink")?);
        frames::count_undecodable(&source_pad(&taken)?, &decoded);
        frames::watch(&source_pad(&raw)?, &boundaries, settings, out);
        for (track, rung) in settings.rungs {
            collect(&pipeline, *track, out)?;
            if settings.scales_plainly() {
                let scaler = element(&pipeline, &format!("scale{track}"))?;
                scale::watch(&source_pad(&scaler)?, rung, out);
            }
        }
        if settings.thumbnails {
            collect_thumbnails(&pipeline, out)?;
            sheets::collect(&pipeline, out)?;
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
        let pipeline = launch(&describe::audio(rate, track))?;
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

    /// Puts an access unit in if there is room, and else leaves it out.
    pub fn offer(&self, unit: AccessUnit) {
        if let Some(feed) = &self.feed
            && feed.try_send(unit).is_err()
        {
            tracing::debug!("access unit left out: the chain is full or over");
        }
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

fn source_pad(element: &gst::Element) -> Result<gst::Pad, Error> {
    pad(element, "src")
}

fn pad(element: &gst::Element, name: &str) -> Result<gst::Pad, Error> {
    element
        .static_pad(name)
        .ok_or_else(|| Error::Build(format!("{} has no pad {name}", element.name())))
}

fn to_clock(time: Micros) -> gst::ClockTime {
    gst::ClockTime::from_useconds(time.max(0).cast_unsigned())
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
