//! The chains as GStreamer descriptions.

use gstreamer as gst;

use super::{Error, VideoSettings, sheets::TILE};
use crate::plan::{AUDIO_BITRATE, Rung};

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

/// Of 100: pictures of this size are looked at for a moment.
const SHEET_QUALITY: u32 = 70;

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

/// The chain that decodes the source once and encodes every rung.
pub(super) fn video(settings: &VideoSettings<'_>) -> String {
    // Each thread of the decoder holds a picture back: of keyframes alone, those are seconds.
    let threads = if settings.rungs.is_empty() { 1 } else { 2 };
    // The decoder's own buffers (direct rendering) are slower to scale from.
    let mut text = format!(
        "{} ! h264parse ! video/x-h264,stream-format=avc,alignment=au \
         ! avdec_h264 max-threads={threads} direct-rendering=false ! {} name=frames ! tee name=raw",
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
        // The queue's pad scales, see `scale`, or an element behind it does.
        let scale = if settings.scales_plainly() {
            String::new()
        } else {
            format!(
                "! videoconvertscale \
                 ! video/x-raw,format=I420,width={width},height={height},pixel-aspect-ratio=1/1 "
            )
        };
        text += &format!(
            " {above}. ! {queue} name=scale{track} {scale}! tee name=rung{track} rung{track}. ! {queue} \
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
        let (width, height) = TILE;
        text += &format!(
            " {above}. ! queue leaky=downstream max-size-buffers=2 max-size-bytes=0 max-size-time=0 \
             ! videorate drop-only=true ! video/x-raw,framerate=1/{THUMBNAIL_INTERVAL} \
             ! videoconvertscale ! video/x-raw,height={THUMBNAIL_HEIGHT},pixel-aspect-ratio=1/1 ! tee name=small \
             small. ! {queue} ! jpegenc ! {thumbnails} \
             small. ! {queue} ! videoconvertscale \
             ! video/x-raw,format=I420,width={width},height={height},pixel-aspect-ratio=1/1 ! {tiles} \
             appsrc name=board format=time ! jpegenc quality={SHEET_QUALITY} ! {sheets}",
            queue = queue(2),
            thumbnails = appsink("thumbnails"),
            tiles = appsink("tiles"),
            sheets = appsink("sheets"),
        );
    }
    text
}

/// The chain that decodes any AAC and encodes AAC-LC stereo.
pub(super) fn audio(rate: u32, track: usize) -> String {
    // Left to the element, middle and side would be forced on all sound, and what is on
    // one side alone would be heard on both.
    format!(
        "{} ! aacparse ! avdec_aac ! audioconvert ! audioresample \
         ! audio/x-raw,rate={rate},channels=2 ! avenc_aac bitrate={AUDIO_BITRATE} aac-ms=false \
         ! audio/mpeg,mpegversion=4,stream-format=raw ! {}",
        appsrc(),
        appsink(&format!("out{track}")),
    )
}

#[cfg(test)]
mod tests {
    use gstreamer::{self as gst, prelude::*};

    use super::*;
    use crate::plan::{
        SourceVideo,
        tests::{rungs, source},
    };

    /// The chain that GStreamer makes of the description.
    fn chain(source: &SourceVideo, heights: &[u32], thumbnails: bool) -> gst::Bin {
        init().unwrap();
        let rungs: Vec<(usize, Rung)> = (1..).zip(rungs(source, heights)).collect();
        let description = video(&VideoSettings {
            source,
            rungs: &rungs,
            preset: "ultrafast",
            fixed_clock: None,
            after: None,
            thumbnails,
        });
        gst::parse::launch(&description).unwrap().downcast().unwrap()
    }

    /// How many elements of a kind it has.
    fn count(chain: &gst::Bin, kind: &str) -> usize {
        let elements = chain.children();
        let factories = elements.iter().filter_map(gst::Element::factory);
        factories
            .filter(|factory| factory.metadata("klass").is_some_and(|class| class.contains(kind)))
            .count()
    }

    /// The tee that an element reads from, over the elements between them.
    fn tee_before(chain: &gst::Bin, name: &str) -> String {
        let mut element = chain.by_name(name).unwrap();
        loop {
            let peer = element.static_pad("sink").unwrap().peer().unwrap();
            element = peer.parent_element().unwrap();
            if element.factory().unwrap().name() == "tee" {
                return element.name().to_string();
            }
        }
    }

    #[test]
    fn the_source_is_decoded_once_and_each_rung_scaled_from_the_one_above() {
        let plain = source(1920, 1080).video.unwrap();
        let mut interlaced = plain.clone();
        interlaced.sps.interlaced = true;
        // Those that are not scaled on their queues' pads have a scaler each.
        for (source, scalers) in [(plain, 0), (interlaced, 3)] {
            let chain = chain(&source, &[720, 480, 360], true);
            assert_eq!(count(&chain, "Decoder/Video"), 1);
            assert_eq!(count(&chain, "Encoder/Video"), 3);
            // Thumbnails have one, and the smaller pictures of the storyboard another.
            assert_eq!(count(&chain, "Scaler"), scalers + 2);
            for (track, above) in [(1, "raw"), (2, "rung1"), (3, "rung2")] {
                assert_eq!(tee_before(&chain, &format!("scale{track}")), above);
                assert_eq!(tee_before(&chain, &format!("out{track}")), format!("rung{track}"));
            }
            assert_eq!(tee_before(&chain, "thumbnails"), "small");
            assert_eq!(tee_before(&chain, "tiles"), "small");
            assert_eq!(tee_before(&chain, "small"), "rung3");
            assert!(chain.by_name("scale4").is_none());
        }
    }

    #[test]
    fn thumbnails_alone_need_no_encoder_of_video() {
        let chain = chain(&source(256, 144).video.unwrap(), &[], true);
        assert_eq!((count(&chain, "Decoder/Video"), count(&chain, "Encoder/Video")), (1, 0));
        assert_eq!(tee_before(&chain, "small"), "raw");
    }
}
