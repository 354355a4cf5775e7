//! Sources made by the real ffmpeg, and checks of what came out by the real
//! ffprobe and ffmpeg.
#![allow(dead_code, unreachable_pub)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use castlog_cmaf::read;
use castlog_pipeline::{
    flv::Packets,
    folder::Folder,
    media::Packet,
    plan::{LADDER, Limits},
    transcode::{self, Settings},
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Runs ffmpeg with these arguments and answers the FLV that it wrote.
pub fn ffmpeg_flv(args: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("source.flv");
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-y"])
        .args(args.split_whitespace())
        .args(["-f", "flv"])
        .arg(&path)
        .output()
        .expect("ffmpeg runs");
    assert!(
        output.status.success(),
        "ffmpeg {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::read(path).unwrap()
}

/// A generated picture with motion.
pub fn picture(size: &str, rate: u32, seconds: u32) -> String {
    format!("-f lavfi -i testsrc2=size={size}:rate={rate}:duration={seconds}")
}

/// A generated tone.
pub fn tone(seconds: u32) -> String {
    format!("-f lavfi -i sine=frequency=440:sample_rate=48000:duration={seconds}")
}

/// H.264 as a live encoder makes it: a keyframe every `gop` frames.
pub fn h264(gop: u32, bframes: u32) -> String {
    format!(
        "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g {gop} -keyint_min {gop} \
         -sc_threshold 0 -bf {bframes} -b:v 600k"
    )
}

/// Stereo AAC-LC.
pub const AAC: &str = "-c:a aac -ac 2 -b:a 96k";

/// The settings of the service by default, with a quick preset.
pub fn settings() -> Settings {
    Settings {
        segment_target: 2_000_000,
        announced: None,
        known: None,
        part_target: 250_000,
        limits: Limits {
            ladder: Vec::new(),
            default_ladder: LADDER.to_vec(),
            default_rungs: 2,
            max_keyframe_interval: 4_400_000,
            force_encode: false,
        },
        preset: "ultrafast".to_owned(),
        thumbnails: true,
        first_media_sequence: 0,
        discontinuity_sequence: 0,
        dated_to: None,
    }
}

/// The packets of an FLV file.
pub fn packets(flv: &[u8]) -> Vec<Packet> {
    let mut reader = Packets::default();
    reader.push(flv);
    std::iter::from_fn(|| reader.next().unwrap()).collect()
}

/// A packet at another time.
pub fn moved(packet: Packet, time: impl Fn(u32) -> u32) -> Packet {
    match packet {
        Packet::Video {
            timestamp,
            composition,
            data,
        } => Packet::Video {
            timestamp: time(timestamp),
            composition,
            data,
        },
        Packet::Audio { timestamp, data } => Packet::Audio {
            timestamp: time(timestamp),
            data,
        },
        other => other,
    }
}

/// Transcodes packets into a folder.
pub async fn run(settings: Settings, packets: Vec<Packet>, root: &Path) -> Result<Folder, transcode::Error> {
    let (sender, mut receiver) = mpsc::channel(64);
    let mut folder = Folder::new(root);
    let feed = async move {
        for packet in packets {
            if sender.send(packet).await.is_err() {
                break;
            }
        }
    };
    let stop = CancellationToken::new();
    let (outcome, ()) = tokio::join!(transcode::run(settings, &mut receiver, &stop, &mut folder), feed);
    outcome.map(|()| folder)
}

/// A rendition of a folder: init section and segments joined into one file.
pub struct Joined {
    /// The file.
    pub path: PathBuf,
    /// Presentation time in seconds of each segment's first unit.
    pub starts: Vec<f64>,
    /// Seconds from the first segment's start to the last one's end.
    pub duration: f64,
}

/// A rendition of the first epoch, see [`join_epoch`].
pub fn join(folder: &Folder, rendition: &str) -> Joined {
    join_epoch(folder, rendition, 0)
}

/// Joins a rendition's segments of an epoch behind their init section, and checks their
/// inner structure: decoding times without a hole, parts equal to chunks.
pub fn join_epoch(folder: &Folder, rendition: &str, epoch: u64) -> Joined {
    let segments: Vec<_> = folder
        .segments
        .iter()
        .filter(|segment| segment.rendition == rendition && segment.discontinuity_sequence == epoch)
        .collect();
    assert!(!segments.is_empty(), "no segments of {rendition}");
    let home = segments[0].path.parent().unwrap();
    let init = std::fs::read(home.join(format!("init-{epoch}.mp4"))).unwrap();
    let timescale = f64::from(read::timescale(&init).unwrap());
    let (mut bytes, mut starts, mut next) = (init, Vec::new(), None);
    let mut first = None;
    for segment in &segments {
        let data = std::fs::read(&segment.path).unwrap();
        let chunks = read::segment(&data).unwrap();
        assert_eq!(chunks.len(), segment.parts.len());
        assert!(chunks[0].samples[0].sync, "a segment begins with a keyframe");
        starts.push(chunks[0].first_presentation_time().unwrap() as f64 / timescale);
        for (chunk, part) in chunks.iter().zip(&segment.parts) {
            if let Some(next) = next {
                assert_eq!(chunk.decode_time, next, "{rendition}: hole in decoding time");
            }
            first.get_or_insert(chunk.decode_time);
            next = Some(chunk.decode_time + chunk.duration());
            assert_eq!(chunk.size as u64, part.size);
            let duration = chunk.duration() as f64 * 1e6 / timescale;
            assert!((duration - part.duration as f64).abs() < 1.0);
        }
        bytes.extend_from_slice(&data);
    }
    let path = home.join(format!("joined-{epoch}.mp4"));
    std::fs::write(&path, bytes).unwrap();
    Joined {
        path,
        starts,
        duration: (next.unwrap() - first.unwrap()) as f64 / timescale,
    }
}

/// What ffprobe says of a file's only stream.
pub fn probe(path: &Path) -> serde_json::Value {
    let output = Command::new("ffprobe")
        .args([
            "-v",
            "error",
            "-of",
            "json",
            "-show_streams",
            "-show_frames",
            "-count_frames",
        ])
        .args([
            "-show_entries",
            "stream=codec_name,profile,width,height,channels,sample_rate,nb_read_frames:frame=pts_time",
        ])
        .arg(path)
        .output()
        .expect("ffprobe runs");
    assert!(output.status.success());
    assert!(
        output.stderr.is_empty(),
        "ffprobe {}: {}",
        path.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Decodes a file with ffmpeg and answers what it complains about.
pub fn complaints(path: &Path) -> String {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-xerror", "-i"])
        .arg(path)
        .args(["-f", "null", "-"])
        .output()
        .expect("ffmpeg runs");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() {
        text
    } else {
        format!("failed: {text}")
    }
}

/// The brightness of a picture's points, row by row.
pub fn gray(path: &Path) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-f", "rawvideo", "-pix_fmt", "gray", "-"])
        .output()
        .expect("ffmpeg runs");
    output.stdout
}

/// These renditions have every media sequence number once, in order, and their
/// discontinuity numbers are equal.
pub fn assert_sequences(folder: &Folder, renditions: &[&str]) {
    let of = |name: &str| -> Vec<(u64, u64)> {
        let segments = folder.segments.iter().filter(|segment| segment.rendition == name);
        segments
            .map(|segment| (segment.media_sequence, segment.discontinuity_sequence))
            .collect()
    };
    let first = of(renditions[0]);
    let expected: Vec<u64> = (0..first.len() as u64).collect();
    assert_eq!(first.iter().map(|(number, _)| *number).collect::<Vec<_>>(), expected);
    for name in &renditions[1..] {
        assert_eq!(of(name), first, "{name}");
    }
}

/// The samples of stereo sound, left and right.
pub fn samples(path: &Path) -> Vec<[f32; 2]> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(path)
        .args(["-f", "f32le", "-"])
        .output()
        .expect("ffmpeg runs");
    let value = |bytes: &[u8]| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let pairs = output.stdout.chunks_exact(8);
    pairs.map(|pair| [value(&pair[..4]), value(&pair[4..])]).collect()
}

/// Checks every rendition of a one-epoch folder: decodes without complaint,
/// same segment numbers and starts everywhere (sound within a frame of it),
/// frames evenly spaced, duration as expected within `slack` seconds.
pub fn verify(folder: &Folder, rate: u32, seconds: f64, slack: f64) {
    assert_eq!(folder.epochs.len(), 1);
    let epoch = &folder.epochs[0];
    let numbers = |rendition: &str| -> Vec<u64> {
        let of = folder.segments.iter().filter(|segment| segment.rendition == rendition);
        of.map(|segment| segment.media_sequence).collect()
    };
    let mut reference: Option<(Vec<u64>, Vec<f64>)> = None;
    for rendition in &epoch.renditions {
        let name = &rendition.name;
        let joined = join(folder, name);
        assert_eq!(complaints(&joined.path), "", "{name}");
        let report = probe(&joined.path);
        let stream = &report["streams"][0];
        let times: Vec<f64> = report["frames"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|frame| frame["pts_time"].as_str()?.parse().ok())
            .collect();
        let sound = stream["codec_name"] == "aac";
        let step = if sound {
            1024.0 / stream["sample_rate"].as_str().unwrap().parse::<f64>().unwrap()
        } else {
            1.0 / f64::from(rate)
        };
        for pair in times.windows(2) {
            let gap = pair[1] - pair[0];
            assert!((gap - step).abs() < 0.0025, "{name}: frames {gap} s apart, not {step}");
        }
        assert!(
            (joined.duration - seconds).abs() <= slack,
            "{name}: {} s, not {seconds}",
            joined.duration
        );
        let expected = seconds / step;
        assert!(
            (times.len() as f64 - expected).abs() <= slack / step,
            "{name}: {} frames, not {expected}",
            times.len()
        );
        match &reference {
            None => reference = Some((numbers(name), joined.starts)),
            Some((expected, starts)) => {
                assert_eq!(&numbers(name), expected, "{name}");
                for (start, reference) in joined.starts.iter().zip(starts) {
                    let bound = if sound { step } else { 0.001 };
                    assert!(
                        (start - reference).abs() <= bound,
                        "{name} starts at {start}, the first rendition at {reference}"
                    );
                }
            }
        }
    }
    // No part is longer than the target, and all but a segment's last are
    // close to it, at usual frame rates.
    for (index, (rendition, sequence, _, part)) in folder.parts.iter().enumerate() {
        assert!(part.duration <= 251_000, "{rendition} {sequence}: {part:?}");
        let more = folder.parts[index + 1..]
            .iter()
            .any(|(of, number, ..)| of == rendition && number == sequence);
        if more {
            assert!(part.duration >= 212_500, "{rendition} {sequence}: {part:?}");
        }
    }
}
