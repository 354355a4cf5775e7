//! The target duration of a session: announced once, and kept by every segment
//! whatever the encoder does later.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;

use castlog_pipeline::{folder::Folder, media::Packet, target::Target};
use support::{AAC, complaints, ffmpeg_flv, h264, moved, packets, picture, probe, run, settings, tone};

/// Every segment's duration, rounded as RFC 8216bis says, is within the target
/// that each epoch was given, which is the same one. Answers it in seconds.
fn bounded(folder: &Folder) -> u32 {
    let targets: Vec<Target> = folder.epochs.iter().map(|epoch| epoch.target).collect();
    assert!(targets.iter().all(|target| *target == targets[0]), "{targets:?}");
    let seconds = targets[0].millis() / 1000;
    for segment in &folder.segments {
        let duration: i64 = segment.parts.iter().map(|part| part.duration).sum();
        assert!(
            (duration + 500_000) / 1_000_000 <= i64::from(seconds),
            "{} {} lasts {duration} us, the target is {seconds} s",
            segment.rendition,
            segment.media_sequence
        );
    }
    seconds
}

/// Presentation times in seconds of a rendition's frames, as ffprobe decodes
/// them from each epoch's init section and segments.
fn frames(folder: &Folder, root: &Path, rendition: &str) -> Vec<f64> {
    let mut times = Vec::new();
    for epoch in &folder.epochs {
        let number = epoch.discontinuity_sequence;
        let mut bytes = std::fs::read(root.join(format!("{rendition}/init-{number}.mp4"))).unwrap();
        let of = |segment: &&castlog_pipeline::folder::Written| {
            segment.rendition == rendition && segment.discontinuity_sequence == number
        };
        for segment in folder.segments.iter().filter(of) {
            bytes.extend(std::fs::read(&segment.path).unwrap());
        }
        let file = root.join("epoch.mp4");
        std::fs::write(&file, bytes).unwrap();
        assert_eq!(complaints(&file), "", "{rendition}, epoch {number}");
        let report = probe(&file);
        let frames = report["frames"].as_array().unwrap().iter();
        times.extend(frames.filter_map(|frame| frame["pts_time"].as_str()?.parse::<f64>().ok()));
    }
    times
}

/// Where frames are further apart than wanted, or further back.
fn holes(times: &[f64], wanted: std::ops::Range<f64>) -> Vec<(f64, f64)> {
    times
        .windows(2)
        .filter(|pair| !wanted.contains(&(pair[1] - pair[0])))
        .map(|pair| (pair[0], pair[1]))
        .collect()
}

fn passthrough(folder: &Folder) -> Vec<bool> {
    folder
        .epochs
        .iter()
        .map(|epoch| epoch.renditions[0].passthrough)
        .collect()
}

fn time(packet: &Packet) -> u32 {
    match packet {
        Packet::Video { timestamp, .. } | Packet::Audio { timestamp, .. } => *timestamp,
        _ => 0,
    }
}

fn sequences(folder: &Folder, rendition: &str) -> Vec<u64> {
    let of = folder.segments.iter().filter(|segment| segment.rendition == rendition);
    of.map(|segment| segment.media_sequence).collect()
}

/// Four seconds with a keyframe every second, then a keyframe every six.
fn rarer(bframes: u32) -> Vec<Packet> {
    let part = |seconds, gop| {
        packets(&ffmpeg_flv(&format!(
            "{} {} {} {AAC}",
            picture("320x240", 25, seconds),
            tone(seconds),
            h264(gop, bframes).replace("ultrafast", if bframes > 0 { "veryfast" } else { "ultrafast" })
        )))
    };
    let mut all = part(4, 25);
    let configuration = |packet: &Packet| matches!(packet, Packet::VideoConfig(_) | Packet::AudioConfig(_));
    let rest = part(13, 150).into_iter().filter(|packet| !configuration(packet));
    all.extend(rest.map(|packet| moved(packet, |time| time + 4000)));
    all
}

#[tokio::test]
async fn keyframes_that_become_rare_break_neither_the_target_nor_the_picture() {
    for bframes in [0, 3] {
        let root = tempfile::tempdir().unwrap();
        let folder = run(settings(), rarer(bframes), root.path()).await.unwrap();
        assert_eq!(passthrough(&folder), [true, false], "{bframes} B-frames");
        assert_eq!(bounded(&folder), 2);
        let expected: Vec<u64> = (0..sequences(&folder, "source").len() as u64).collect();
        for rendition in &folder.epochs[0].renditions {
            assert_eq!(sequences(&folder, &rendition.name), expected, "{}", rendition.name);
        }
        for rendition in ["source", "240p"] {
            if !root.path().join(rendition).exists() {
                continue;
            }
            let times = frames(&folder, root.path(), rendition);
            assert_eq!(holes(&times, 0.037..0.043), [], "{rendition}, {bframes} B-frames");
            assert_eq!(times.len(), 17 * 25, "{rendition}, {bframes} B-frames");
        }
        // Sound is cut to whole frames of its own, and those that the encoder
        // primes a stream with are in the middle of this one.
        let sound = frames(&folder, root.path(), "audio");
        assert_eq!(holes(&sound, -0.022..0.1), [], "{bframes} B-frames");
    }
}

#[tokio::test]
async fn a_long_keyframe_interval_is_announced() {
    let flv = ffmpeg_flv(&format!("{} {}", picture("320x240", 25, 13), h264(100, 0)));
    let root = tempfile::tempdir().unwrap();
    let folder = run(settings(), packets(&flv), root.path()).await.unwrap();
    assert_eq!((passthrough(&folder), bounded(&folder)), (vec![true], 4));
}

#[tokio::test]
async fn a_session_that_goes_on_keeps_what_it_announced() {
    let flv = ffmpeg_flv(&format!("{} {}", picture("320x240", 25, 9), h264(100, 0)));
    let root = tempfile::tempdir().unwrap();
    let mut settings = settings();
    settings.announced = Some(Target::from_millis(2000));
    let folder = run(settings, packets(&flv), root.path()).await.unwrap();
    assert_eq!((passthrough(&folder), bounded(&folder)), (vec![false], 2));
}

#[tokio::test]
async fn a_picture_that_pauses_keeps_the_target() {
    // Passed through, and encoded because of its rare keyframes.
    for (gop, kinds) in [(25, vec![true, false]), (500, vec![false])] {
        let flv = ffmpeg_flv(&format!(
            "{} {} {} {AAC}",
            picture("320x240", 25, 12),
            tone(12),
            h264(gop, 0)
        ));
        // Nothing new to see for four seconds, as in a shared screen; what
        // follows is no keyframe.
        let paused = packets(&flv)
            .into_iter()
            .filter(|packet| !matches!(packet, Packet::Video { .. }) || !(5200..9200).contains(&time(packet)));
        let root = tempfile::tempdir().unwrap();
        let folder = run(settings(), paused.collect(), root.path()).await.unwrap();
        assert_eq!(passthrough(&folder), kinds, "a keyframe every {gop} frames");
        assert_eq!(bounded(&folder), 2);
        let numbers = sequences(&folder, "source");
        assert_eq!(sequences(&folder, "audio"), numbers, "a keyframe every {gop} frames");
    }
}

#[tokio::test]
async fn a_hole_in_sound_alone_keeps_the_target() {
    let flv = ffmpeg_flv(&format!("{} {AAC}", tone(12)));
    let holed = packets(&flv)
        .into_iter()
        .filter(|packet| !(3500..8200).contains(&time(packet)));
    let root = tempfile::tempdir().unwrap();
    let folder = run(settings(), holed.collect(), root.path()).await.unwrap();
    assert_eq!(bounded(&folder), 2);
    // What the encoder primes the stream with makes a short last one.
    assert_eq!(sequences(&folder, "audio"), [0, 1, 2, 3, 4, 5, 6]);
}
