//! The plan of an epoch: which renditions are made of a source, and whether
//! the source's own access units are passed through. Pure.

use bytes::Bytes;
use castlog_flv::{AudioSpecificConfig, avc};

use crate::media::{Micros, SECOND};

/// Heights that the default ladder chooses from.
pub const LADDER: [u32; 5] = [1080, 720, 480, 360, 240];

/// More rungs than this are not made, whatever the options say: each costs an
/// encoder.
pub const MAX_RUNGS: usize = 6;

/// Frame rates that measured ones are taken for, in frames per 1000 seconds.
const COMMON_RATES: [u32; 10] = [
    15_000, 20_000, 23_976, 24_000, 25_000, 29_970, 30_000, 50_000, 59_940, 60_000,
];

/// AAC-LC, the object type that every player decodes.
const OBJECT_TYPE_LC: u8 = 2;

/// Bits per second of encoded sound.
pub const AUDIO_BITRATE: u64 = 128_000;

/// The source's video as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceVideo {
    /// The `avcC` body.
    pub avcc: Bytes,
    /// The head of it.
    pub config: avc::DecoderConfig,
    /// The picture.
    pub sps: avc::Sps,
    /// Frames per 1000 seconds; 0 = unknown.
    pub frame_rate_milli: u32,
    /// Distance of the first two keyframes; `None` when no second one came
    /// within the limit.
    pub keyframe_interval: Option<Micros>,
    /// Bits per second as measured; 0 = unknown.
    pub bitrate: u64,
}

/// The source's audio as found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceAudio {
    /// The AudioSpecificConfig.
    pub raw: Bytes,
    /// What it says.
    pub config: AudioSpecificConfig,
    /// Bits per second as measured; 0 = unknown.
    pub bitrate: u64,
}

/// What is known of a source when its plan is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Source {
    /// The video track, if there is one.
    pub video: Option<SourceVideo>,
    /// The audio track, if there is one.
    pub audio: Option<SourceAudio>,
}

/// How much of what to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Heights asked for by the broadcast's options; empty = the default.
    pub ladder: Vec<u32>,
    /// Heights of the default ladder, highest first.
    pub default_ladder: Vec<u32>,
    /// Rungs below the source taken from the default ladder.
    pub default_rungs: usize,
    /// Longest keyframe interval that is passed through.
    pub max_keyframe_interval: Micros,
    /// Set once a passed-through source has broken its interval.
    pub force_encode: bool,
}

/// One video rendition that is encoded here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rung {
    /// Name in URLs and object keys.
    pub name: String,
    /// Even width in pixels.
    pub width: u32,
    /// Even height in pixels.
    pub height: u32,
    /// Average bits per second.
    pub bitrate: u64,
}

/// What is done with the sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sound {
    /// The source has none.
    None,
    /// AAC-LC in mono or stereo goes through untouched.
    Passthrough,
    /// Everything else is decoded, mixed down and encoded at this rate.
    Encode(u32),
}

/// What is made of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Whether the rendition `source` holds the source's own access units.
    pub passthrough: bool,
    /// Encoded video renditions, highest first; with `passthrough` off the
    /// first one is `source`.
    pub rungs: Vec<Rung>,
    /// The sound.
    pub sound: Sound,
}

/// Makes the plan for `source`.
pub fn plan(source: &Source, limits: &Limits) -> Plan {
    let sound = match &source.audio {
        None => Sound::None,
        Some(audio) => sound(&audio.config),
    };
    let Some(video) = &source.video else {
        return Plan {
            passthrough: false,
            rungs: Vec::new(),
            sound,
        };
    };
    let passthrough = !limits.force_encode
        && video
            .keyframe_interval
            .is_some_and(|interval| interval <= limits.max_keyframe_interval)
        // Players decode 8-bit 4:2:0 everywhere, other formats hardly anywhere.
        && video.sps.chroma_format == 1
        && video.sps.bit_depth == 8;
    let mut rungs = Vec::new();
    if !passthrough {
        let mut source = rung("source".to_owned(), video, video.sps.height);
        // Sides are cut to even ones, not stretched.
        source.height = even(video.sps.height);
        rungs.push(source);
    }
    for height in heights(video.sps.height, limits) {
        rungs.push(rung(format!("{height}p"), video, height));
    }
    Plan {
        passthrough,
        rungs,
        sound,
    }
}

fn sound(config: &AudioSpecificConfig) -> Sound {
    let low_complexity = config.object_type == OBJECT_TYPE_LC && config.sbr_sample_rate.is_none();
    if low_complexity && matches!(config.channels, 1 | 2) && config.frame_length == 1024 {
        return Sound::Passthrough;
    }
    let rate = config.sbr_sample_rate.unwrap_or(config.sample_rate);
    Sound::Encode(if rate == 44_100 { 44_100 } else { 48_000 })
}

/// Heights of the rungs below the source, highest first.
fn heights(source: u32, limits: &Limits) -> Vec<u32> {
    let mut heights: Vec<u32> = if limits.ladder.is_empty() {
        limits
            .default_ladder
            .iter()
            .copied()
            // A rung nearly as large as the source helps no viewer.
            .filter(|&height| height * 10 <= source * 9)
            .take(limits.default_rungs)
            .collect()
    } else {
        limits.ladder.clone()
    };
    for height in &mut heights {
        *height = even(*height);
    }
    heights.retain(|&height| height >= 16 && height < source);
    heights.sort_unstable_by(|a, b| b.cmp(a));
    heights.dedup();
    heights.truncate(MAX_RUNGS);
    heights
}

fn rung(name: String, video: &SourceVideo, height: u32) -> Rung {
    let (horizontal, vertical) = pixel_aspect(&video.sps);
    // Square pixels, the source's shape on screen, to the nearest even width.
    let shape = f64::from(video.sps.width) * f64::from(horizontal)
        / (f64::from(video.sps.height) * f64::from(vertical)).max(1.0);
    let width = (f64::from(height) * shape / 2.0).round() * 2.0;
    Rung {
        name,
        // A cast of a float saturates.
        width: even(width as u32),
        height,
        bitrate: bitrate(height, video.frame_rate_milli),
    }
}

/// Width and height of a pixel; square when nothing is said.
pub fn pixel_aspect(sps: &avc::Sps) -> (u32, u32) {
    match sps.sample_aspect {
        Some((horizontal, vertical)) if horizontal > 0 && vertical > 0 => (horizontal.into(), vertical.into()),
        _ => (1, 1),
    }
}

/// 4:2:0 pictures have even sides.
fn even(side: u32) -> u32 {
    (side & !1).max(2)
}

/// Bits per second for a picture of `height`: straight lines between points
/// that are common for the codec, half as much again for high frame rates.
fn bitrate(height: u32, frame_rate_milli: u32) -> u64 {
    const POINTS: [(u32, u64); 8] = [
        (0, 150_000),
        (240, 400_000),
        (360, 800_000),
        (480, 1_400_000),
        (720, 2_800_000),
        (1080, 5_000_000),
        (1440, 9_000_000),
        (2160, 16_000_000),
    ];
    let base = POINTS
        .windows(2)
        .find(|pair| height <= pair[1].0)
        .map_or(POINTS[7].1, |pair| {
            let ((low, from), (high, to)) = (pair[0], pair[1]);
            from + (to - from) * u64::from(height - low) / u64::from(high - low)
        });
    if frame_rate_milli > 35_000 { base * 3 / 2 } else { base }
}

/// The frame rate as announced, if what was measured does not contradict it;
/// else the measured one, as a common rate where it is near one.
pub fn frame_rate(announced: Option<(u32, u32)>, frames: u64, duration: Micros) -> u32 {
    let measured = (frames > 0 && duration > 0).then(|| frames as f64 * 1000.0 * SECOND as f64 / duration as f64);
    let announced =
        announced.map(|(numerator, denominator)| f64::from(numerator) * 1000.0 / f64::from(denominator.max(1)));
    let near = |a: f64, b: f64, share: f64| (a - b).abs() <= b * share;
    let rate = match (announced, measured) {
        (Some(announced), Some(measured)) if near(measured, announced, 0.05) => announced,
        (Some(announced), None) => announced,
        (_, Some(measured)) => COMMON_RATES
            .iter()
            .map(|&rate| f64::from(rate))
            .filter(|&rate| near(measured, rate, 0.02))
            .min_by(|a, b| (a - measured).abs().total_cmp(&(b - measured).abs()))
            .unwrap_or(measured),
        (None, None) => 0.0,
    };
    rate.round().clamp(0.0, 1_000_000.0) as u32
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn source(width: u32, height: u32) -> Source {
        Source {
            video: Some(SourceVideo {
                avcc: Bytes::new(),
                config: avc::DecoderConfig {
                    profile: 100,
                    compatibility: 0,
                    level: 31,
                    length_size: 4,
                    sps: Vec::new(),
                    pps: Vec::new(),
                },
                sps: avc::Sps {
                    profile: 100,
                    constraints: 0,
                    level: 31,
                    width,
                    height,
                    sample_aspect: None,
                    frame_rate: Some((30, 1)),
                    chroma_format: 1,
                    bit_depth: 8,
                    interlaced: false,
                    max_reorder: None,
                },
                frame_rate_milli: 30_000,
                keyframe_interval: Some(2 * SECOND),
                bitrate: 0,
            }),
            audio: None,
        }
    }

    pub(crate) fn limits() -> Limits {
        Limits {
            ladder: Vec::new(),
            default_ladder: LADDER.to_vec(),
            default_rungs: 2,
            max_keyframe_interval: 4 * SECOND,
            force_encode: false,
        }
    }

    /// A rung for each of these heights.
    pub(crate) fn rungs(video: &SourceVideo, heights: &[u32]) -> Vec<Rung> {
        let of = |&height: &u32| rung(format!("{height}p"), video, height);
        heights.iter().map(of).collect()
    }

    fn names(plan: &Plan) -> Vec<String> {
        plan.rungs
            .iter()
            .map(|rung| format!("{} {}x{}", rung.name, rung.width, rung.height))
            .collect()
    }

    #[test]
    fn default_ladder_is_two_rungs_below_the_source() {
        let of = |width, height| names(&plan(&source(width, height), &limits()));
        assert_eq!(of(1920, 1080), ["720p 1280x720", "480p 854x480"]);
        assert_eq!(of(1280, 720), ["480p 854x480", "360p 640x360"]);
        assert_eq!(of(640, 480), ["360p 480x360", "240p 320x240"]);
        assert_eq!(of(854, 481), ["360p 640x360", "240p 426x240"]);
        assert_eq!(of(640, 272), ["240p 564x240"]);
        assert!(of(320, 180).is_empty());
    }

    #[test]
    fn options_choose_the_ladder_but_never_upscale() {
        let mut limits = limits();
        limits.ladder = vec![360, 1081, 720, 720, 2160];
        let plan = plan(&source(1280, 720), &limits);
        assert_eq!(names(&plan), ["360p 640x360"]);
        assert!(plan.passthrough);
    }

    #[test]
    fn encodes_the_source_when_it_does_not_fit() {
        let mut long = source(1280, 720);
        let mut chroma = source(854, 481);
        if let (Some(long), Some(chroma)) = (&mut long.video, &mut chroma.video) {
            long.keyframe_interval = None;
            chroma.sps.chroma_format = 3;
        }
        let long = plan(&long, &limits());
        assert!(!long.passthrough);
        assert_eq!(names(&long)[0], "source 1280x720");
        assert_eq!(names(&plan(&chroma, &limits()))[0], "source 854x480");
    }

    #[test]
    fn sound_passes_only_as_low_complexity_stereo() {
        let of = |raw: &[u8]| sound(&AudioSpecificConfig::parse(raw).unwrap());
        assert_eq!(of(&[0x12, 0x10]), Sound::Passthrough);
        assert_eq!(of(&[0x11, 0xb0]), Sound::Encode(48_000));
        assert_eq!(of(&[0x2b, 0x11, 0x88, 0x00]), Sound::Encode(48_000));
    }

    #[test]
    fn frame_rates_are_announced_or_measured() {
        assert_eq!(frame_rate(Some((30_000, 1001)), 60, 2_002_000), 29_970);
        assert_eq!(frame_rate(Some((25, 1)), 120, 2_000_000), 60_000);
        assert_eq!(frame_rate(None, 59, 1_968_000), 29_970);
        assert_eq!(frame_rate(None, 10, 1_000_000), 10_000);
        assert_eq!(frame_rate(None, 0, 0), 0);
    }
}
