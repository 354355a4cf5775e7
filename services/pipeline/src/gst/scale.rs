//! The scaler of a rung: frames that leave a queue leave it in the rung's size.
//! It stands on the queue's pad and not in an element of its own, so that the
//! queue's thread does the work.

use std::sync::Mutex;

use gstreamer::{self as gst, prelude::*};
use gstreamer_video::{VideoFormat, VideoFrame, VideoFrameExt as _, VideoFrameRef, VideoInfo};

use super::{Outlet, lock};
use crate::{plan::Rung, yuv};

/// What is set up when the frames' format is known.
struct Scaler {
    source: VideoInfo,
    target: VideoInfo,
    pool: gst::BufferPool,
}

impl Drop for Scaler {
    fn drop(&mut self) {
        // Frames on their way keep it until they are through.
        if self.pool.set_active(false).is_err() {
            tracing::debug!("a pool of frames did not stop");
        }
    }
}

/// Makes every frame that leaves by this pad one of the rung's size.
pub(super) fn watch(pad: &gst::Pad, rung: &Rung, out: &Outlet) {
    let size = (rung.width, rung.height);
    let failed = out.failed.clone();
    let state: Mutex<Option<Scaler>> = Mutex::new(None);
    let kinds = gst::PadProbeType::BUFFER | gst::PadProbeType::EVENT_DOWNSTREAM;
    pad.add_probe(kinds, move |_, info| {
        let done = match &mut info.data {
            Some(gst::PadProbeData::Event(event)) => match event.view() {
                gst::EventView::Caps(caps) => Scaler::new(caps.caps(), size).and_then(|scaler| {
                    let caps = scaler.target.to_caps().map_err(|error| error.to_string())?;
                    *event = gst::event::Caps::new(&caps);
                    *lock(&state) = Some(scaler);
                    Ok(())
                }),
                _ => Ok(()),
            },
            Some(gst::PadProbeData::Buffer(buffer)) => match &*lock(&state) {
                Some(scaler) => scaler.scale(buffer).map(|scaled| *buffer = scaled),
                None => Err("a frame before its format".to_owned()),
            },
            _ => Ok(()),
        };
        match done {
            Ok(()) => gst::PadProbeReturn::Ok,
            Err(reason) => {
                if failed.try_send(format!("scaling: {reason}")).is_err() {
                    tracing::debug!(reason, "further error of a media pipeline");
                }
                gst::PadProbeReturn::Drop
            }
        }
    });
}

impl Scaler {
    fn new(caps: &gst::CapsRef, (width, height): (u32, u32)) -> Result<Self, String> {
        let text = |error: gst::glib::BoolError| error.to_string();
        let source = VideoInfo::from_caps(caps).map_err(text)?;
        if source.format() != VideoFormat::I420 {
            return Err(format!("frames in {}, not in I420", source.format()));
        }
        let target = VideoInfo::builder(VideoFormat::I420, width, height)
            .par(gst::Fraction::new(1, 1))
            .fps(source.fps())
            .colorimetry(&source.colorimetry())
            .chroma_site(source.chroma_site())
            .build()
            .map_err(text)?;
        let pool = gst::BufferPool::new();
        let mut config = pool.config();
        let size = u32::try_from(target.size()).map_err(|error| error.to_string())?;
        // Without a bound of its own: the queues behind it hold few frames.
        config.set_params(Some(&target.to_caps().map_err(text)?), size, 0, 0);
        pool.set_config(config).map_err(text)?;
        pool.set_active(true).map_err(text)?;
        Ok(Self { source, target, pool })
    }

    fn scale(&self, buffer: &gst::Buffer) -> Result<gst::Buffer, String> {
        let source = VideoFrameRef::from_buffer_ref_readable(buffer, &self.source)
            .map_err(|_| "a frame cannot be read".to_owned())?;
        let empty = self.pool.acquire_buffer(None).map_err(|error| error.to_string())?;
        let mut target = VideoFrame::from_buffer_writable(empty, &self.target)
            .map_err(|_| "a frame cannot be written".to_owned())?;
        let strides = |frame: &[i32]| -> Result<Vec<usize>, String> {
            let strides = frame.iter().map(|&stride| usize::try_from(stride));
            strides.collect::<Result<_, _>>().map_err(|error| error.to_string())
        };
        let from = strides(source.plane_stride())?;
        let to = strides(target.plane_stride())?;
        let [y, u, v, _] = source.planes_data();
        let picture = yuv::Picture {
            width: self.source.width() as usize,
            height: self.source.height() as usize,
            planes: [(y, from[0]), (u, from[1]), (v, from[2])],
        };
        let (width, height) = (self.target.width() as usize, self.target.height() as usize);
        let [y, u, v, _] = target.planes_data_mut();
        let mut scaled = yuv::Picture {
            width,
            height,
            planes: [(y, to[0]), (u, to[1]), (v, to[2])],
        };
        yuv::scale(&picture, &mut scaled).map_err(|error| error.to_string())?;
        let mut frame = target.into_buffer();
        // A buffer just made has one owner.
        if let Some(frame) = frame.get_mut() {
            frame.set_pts(buffer.pts());
            frame.set_dts(buffer.dts());
            frame.set_duration(buffer.duration());
        }
        Ok(frame)
    }
}
