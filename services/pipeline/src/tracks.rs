//! The tracks of an epoch, and the renditions that they become. Pure.

use castlog_cmaf as cmaf;
use castlog_flv::{AudioSpecificConfig, avc};

use crate::{
    plan::{self, AUDIO_BITRATE, Plan, Sound, Source, SourceAudio, SourceVideo},
    segmenter::Kind,
    transcode::{Error, Rendition},
};

/// A track of the epoch.
pub(crate) struct Slot {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) bitrate: u64,
    /// Known at once when passed through, else when its encoder says.
    pub(crate) rendition: Option<Rendition>,
}

/// The tracks of a plan: the source first, then the rungs, then the sound.
pub(crate) fn slots(plan: &Plan, source: &Source) -> Vec<Slot> {
    let mut slots = Vec::new();
    let picture = Kind::Video {
        frame_rate_milli: source.video.as_ref().map_or(0, |video| video.frame_rate_milli),
    };
    if let (true, Some(video)) = (plan.passthrough, &source.video) {
        slots.push(Slot {
            name: "source".to_owned(),
            kind: picture,
            bitrate: video.bitrate,
            rendition: Some(source_rendition(video)),
        });
    }
    slots.extend(plan.rungs.iter().map(|rung| Slot {
        name: rung.name.clone(),
        kind: picture,
        bitrate: rung.bitrate,
        rendition: None,
    }));
    if let Some(audio) = &source.audio {
        let (rate, channels, bitrate, rendition) = match plan.sound {
            Sound::Encode(rate) => (rate, 2, AUDIO_BITRATE, None),
            Sound::Passthrough | Sound::None => (
                audio.config.sample_rate,
                audio.config.channels,
                audio.bitrate,
                Some(audio_rendition(audio)),
            ),
        };
        slots.push(Slot {
            name: "audio".to_owned(),
            kind: Kind::Audio { rate, channels },
            bitrate,
            rendition,
        });
    }
    slots
}

fn source_rendition(video: &SourceVideo) -> Rendition {
    Rendition {
        name: "source".to_owned(),
        config: cmaf::Track::Video(cmaf::Video {
            avcc: video.avcc.clone(),
            // The parser bounds sides far below.
            width: video.sps.width.try_into().unwrap_or(u16::MAX),
            height: video.sps.height.try_into().unwrap_or(u16::MAX),
            pixel_aspect: plan::pixel_aspect(&video.sps),
        }),
        codec: video.config.codec_string(),
        frame_rate_milli: video.frame_rate_milli,
        average_bitrate: video.bitrate,
        passthrough: true,
    }
}

fn audio_rendition(audio: &SourceAudio) -> Rendition {
    Rendition {
        name: "audio".to_owned(),
        config: cmaf::Track::Audio(cmaf::Audio {
            config: audio.raw.clone(),
            sample_rate: audio.config.sample_rate,
            channels: audio.config.channels.into(),
        }),
        codec: audio.config.codec_string(),
        frame_rate_milli: 0,
        average_bitrate: audio.bitrate,
        passthrough: true,
    }
}

/// The rendition of an encoder that has said what it makes.
pub(crate) fn rendition(slot: &Slot, config: cmaf::Track, source: &Source) -> Result<Rendition, Error> {
    let (codec, frame_rate_milli) = match &config {
        cmaf::Track::Video(video) => (
            avc::DecoderConfig::parse(&video.avcc)?.codec_string(),
            source.video.as_ref().map_or(0, |video| video.frame_rate_milli),
        ),
        cmaf::Track::Audio(audio) => (AudioSpecificConfig::parse(&audio.config)?.codec_string(), 0),
    };
    Ok(Rendition {
        name: slot.name.clone(),
        config,
        codec,
        frame_rate_milli,
        average_bitrate: slot.bitrate,
        passthrough: false,
    })
}
