//! What the chains make, taken from their `appsink`s.

use bytes::Bytes;
use castlog_cmaf as cmaf;
use gstreamer::{self as gst, prelude::*};
use gstreamer_app::{AppSink, AppSinkCallbacks};

use super::{Encoded, Error, Outlet, element};
use crate::media::{AccessUnit, Micros};

/// Sends what arrives at the `appsink` of a track.
pub(super) fn collect(pipeline: &gst::Pipeline, track: usize, out: &Outlet) -> Result<(), Error> {
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

/// Sends the pictures that arrive at the `appsink` for thumbnails.
pub(super) fn collect_thumbnails(pipeline: &gst::Pipeline, out: &Outlet) -> Result<(), Error> {
    let (out, end) = (out.encoded.clone(), out.encoded.clone());
    sink(pipeline, "thumbnails")?.set_callbacks(
        AppSinkCallbacks::builder()
            .new_sample(move |sink| {
                let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
                let jpeg = sample.buffer().and_then(bytes).ok_or(gst::FlowError::Error)?;
                out.blocking_send(Encoded::Thumbnail(jpeg))
                    .map_err(|_| gst::FlowError::Eos)?;
                Ok(gst::FlowSuccess::Ok)
            })
            .eos(move |_| {
                if end.blocking_send(Encoded::PicturesEnd).is_err() {
                    tracing::debug!("end of the thumbnails after the end of the chain");
                }
            })
            .build(),
    );
    Ok(())
}

pub(super) fn sink(pipeline: &gst::Pipeline, name: &str) -> Result<AppSink, Error> {
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
pub(super) fn access_unit(sample: &gst::Sample) -> Option<AccessUnit> {
    let buffer = sample.buffer()?;
    let pts = running_time(sample, buffer.pts())?;
    Some(AccessUnit {
        dts: running_time(sample, buffer.dts()).unwrap_or(pts),
        pts,
        sync: !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT),
        data: bytes(buffer)?,
    })
}

/// A time of a sample's buffer in running time.
pub(super) fn running_time(sample: &gst::Sample, time: Option<gst::ClockTime>) -> Option<Micros> {
    let segment = sample.segment()?.downcast_ref::<gst::ClockTime>()?;
    Some(match segment.to_running_time_full(time?)? {
        gst::Signed::Positive(time) => from_clock(time.nseconds()),
        gst::Signed::Negative(time) => -from_clock(time.nseconds()),
    })
}

/// Nanoseconds as microseconds, rounded.
pub(super) fn from_clock(nanoseconds: u64) -> Micros {
    Micros::try_from(nanoseconds.saturating_add(500) / 1000).unwrap_or(Micros::MAX)
}

fn bytes(buffer: &gst::BufferRef) -> Option<Bytes> {
    Some(Bytes::copy_from_slice(&buffer.map_readable().ok()?))
}
