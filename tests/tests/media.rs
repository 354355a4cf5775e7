//! What encoders send and what players make of it, through the whole platform.

use anyhow::ensure;
use castlog_playlist::check;
use castlog_testkit::tools;
use castlog_tests::{
    Encoder, System,
    player::{self, Stream, Track, apart},
};
use reqwest::Url;
use serde_json::json;

/// Seconds of an AAC frame of 1024 samples at 48 kHz.
const AAC_FRAME: f64 = 1024.0 / 48_000.0;

const TONE: &str = "-re -f lavfi -i sine=sample_rate=48000";
const AAC: &str = "-c:a aac -ac 2 -b:a 96k";

fn picture(size: &str, rate: u32) -> String {
    format!("-re -f lavfi -i testsrc2=size={size}:rate={rate}")
}

/// H.264 with a keyframe every second.
fn h264(rate: u32, more: &str) -> String {
    format!(
        "-c:v libx264 -preset ultrafast -pix_fmt yuv420p -g {rate} -keyint_min {rate} -sc_threshold 0 -b:v 800k {more}"
    )
}

/// Starts of segments are equal over the renditions to within a frame.
async fn aligned(system: &System, stream: &Stream, frame: f64) -> anyhow::Result<()> {
    let source = stream.starts(system, "source").await?;
    for name in stream.renditions.keys() {
        let starts = stream.starts(system, name).await?;
        let common = starts.keys().filter(|sequence| source.contains_key(sequence)).count();
        ensure!(common >= 2, "{name} has {common} segments in common with the source");
        let frame = match Stream::track(name) {
            Track::Video => frame,
            Track::Audio => frame.max(AAC_FRAME),
        };
        let wrong = apart(&source, &starts, frame);
        ensure!(wrong.is_empty(), "source and {name}: {wrong:?}");
        // The control: what is a frame and a half late is seen.
        let late = starts.iter().map(|(sequence, start)| (*sequence, start + 2.5 * frame));
        ensure!(
            !apart(&source, &late.collect(), frame).is_empty(),
            "{name}: too lenient"
        );
    }
    Ok(())
}

#[tokio::test]
async fn every_rendition_plays_in_several_players_and_segments_start_together() -> anyhow::Result<()> {
    let system = System::start().await?;
    let (id, key) = system.create(json!({ "title": "players" })).await?;
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    let stream = Stream::of(&system, &id, 3).await?;
    let names: Vec<&str> = stream.renditions.keys().map(String::as_str).collect();
    assert_eq!(names, ["360p", "480p", "audio", "source"]);

    for (name, seen, frame) in [
        ("source", "h264,1280,720", 1280 * 720 * 3 / 2),
        ("480p", "h264,854,480", 854 * 480 * 3 / 2),
        ("360p", "h264,640,360", 640 * 360 * 3 / 2),
        ("audio", "aac,48000,2", 1024 * 2 * 4),
    ] {
        let url = stream.renditions[name].as_str();
        assert_eq!(player::ffprobe(url).await?, seen, "{name}");
        player::ffmpeg(url).await?;
        let track = Stream::track(name);
        // More than one segment.
        player::hlsdemux(url, track, 75 * frame).await?;
        // The controls: the other kind of track, and no playlist at all.
        let other = if track == Track::Audio {
            Track::Video
        } else {
            Track::Audio
        };
        assert!(player::hlsdemux(url, other, 1).await.is_err(), "{name} as {other:?}");
        let absent = url.replace(name, "1080p");
        assert!(player::hlsdemux(&absent, track, 1).await.is_err(), "{absent}");
        assert!(player::ffprobe(&absent).await.is_err(), "{absent}");
    }
    aligned(&system, &stream, 1.0 / 30.0).await?;
    encoder.stop().await?;
    system.stop().await
}

struct Case {
    name: &'static str,
    encoder: String,
    /// Size of each video rendition, from large to small.
    sizes: &'static [(u64, u64)],
    frame_rate: f64,
    audio: bool,
}

fn cases() -> Vec<Case> {
    let surround = match tools::test_media() {
        Some(file) => {
            println!("5.1: {}", file.display());
            format!("-re -stream_loop -1 -i {} -c copy", file.display())
        }
        None => {
            println!("5.1: a generated tone");
            format!(
                "{} {TONE} {} -c:a aac -ac 6 -b:a 256k",
                picture("1280x720", 25),
                h264(25, "")
            )
        }
    };
    // Only 4:4:4 pictures can have odd sides.
    let odd = h264(24, "").replace("yuv420p", "yuv444p");
    vec![
        Case {
            name: "no audio",
            encoder: format!("{} {}", picture("640x360", 30), h264(30, "")),
            sizes: &[(640, 360), (426, 240)],
            frame_rate: 30.0,
            audio: false,
        },
        Case {
            name: "5.1",
            encoder: surround,
            sizes: &[(1280, 720), (854, 480), (640, 360)],
            frame_rate: 25.0,
            audio: true,
        },
        Case {
            name: "odd height",
            encoder: format!("{} {TONE} {odd} {AAC}", picture("854x481", 24)),
            sizes: &[(854, 480), (640, 360), (428, 240)],
            frame_rate: 24.0,
            audio: true,
        },
        Case {
            name: "wide",
            encoder: format!("{} {TONE} {} {AAC}", picture("640x272", 24), h264(24, "")),
            sizes: &[(640, 272), (564, 240)],
            frame_rate: 24.0,
            audio: true,
        },
        Case {
            name: "60 fps",
            encoder: format!("{} {TONE} {} {AAC}", picture("854x480", 60), h264(60, "")),
            sizes: &[(854, 480), (640, 360), (428, 240)],
            frame_rate: 60.0,
            audio: true,
        },
        Case {
            name: "B-frames",
            encoder: format!(
                "{} {TONE} {} {AAC}",
                picture("640x360", 30),
                h264(30, "-bf 3 -b_strategy 0")
            ),
            sizes: &[(640, 360), (426, 240)],
            frame_rate: 30.0,
            audio: true,
        },
    ]
}

#[tokio::test]
async fn sources_of_every_kind_play() -> anyhow::Result<()> {
    let system = System::start().await?;
    for case in cases() {
        let name = case.name;
        let (id, key) = system.create(json!({ "title": name })).await?;
        let arguments: Vec<&str> = case.encoder.split_whitespace().collect();
        let encoder = Encoder::start(&arguments, &format!("{}/{key}", system.rtmp))?;
        let stream = Stream::of(&system, &id, 3).await.map_err(|e| e.context(name))?;

        let mut variants = stream.multivariant.variants.clone();
        variants.sort_by_key(|variant| std::cmp::Reverse(variant.resolution));
        let sizes: Vec<_> = variants.iter().filter_map(|variant| variant.resolution).collect();
        assert_eq!(sizes, case.sizes, "{name}");
        let (pictures, sound): (Vec<_>, Vec<_>) = variants.iter().partition(|v| v.resolution.is_some());
        let sound: Vec<_> = sound.iter().map(|variant| variant.codecs.join(",")).collect();
        let wanted: &[&str] = if case.audio { &["mp4a.40.2"] } else { &[] };
        assert_eq!(sound, wanted, "{name}");
        for variant in pictures {
            let rate = variant.frame_rate.unwrap_or_default();
            assert!((rate - case.frame_rate).abs() < 0.01, "{name}: {rate} frames a second");
            let codecs = variant.codecs.iter().map(|codec| &codec[..4]).collect::<Vec<_>>();
            let wanted: &[&str] = if case.audio { &["avc1", "mp4a"] } else { &["avc1"] };
            assert_eq!(codecs, wanted, "{name}");
        }
        assert_eq!(stream.renditions.contains_key("audio"), case.audio, "{name}");
        for (rendition, url) in &stream.renditions {
            player::ffmpeg(url.as_str())
                .await
                .map_err(|e| e.context(format!("{name}, {rendition}")))?;
            if rendition == "audio" {
                let seen = player::ffprobe(url.as_str()).await?;
                assert!(seen.starts_with("aac,") && seen.ends_with(",2"), "{name}: {seen}");
            }
        }
        aligned(&system, &stream, 1.0 / case.frame_rate)
            .await
            .map_err(|e| e.context(name))?;
        encoder.stop().await?;
        system.reaches(&id, "ended").await?;
    }
    system.stop().await
}

#[tokio::test]
async fn players_that_know_transport_streams_only_play() -> anyhow::Result<()> {
    let system = System::start().await?;
    let (id, key) = system.create(json!({ "title": "old players" })).await?;
    // With pictures that are decoded before others which are shown before them.
    let source = format!(
        "{} {TONE} {} {AAC}",
        picture("640x360", 30),
        h264(30, "-bf 2 -b_strategy 0")
    );
    let encoder = Encoder::start(
        &source.split_whitespace().collect::<Vec<_>>(),
        &format!("{}/{key}", system.rtmp),
    )?;
    let stream = Stream::of(&system, &id, 4).await?;

    let index = Url::parse(&format!("{}/live/{id}/ts.m3u8", system.hls))?;
    let text = system.text(index.as_str()).await?;
    let (multivariant, broken) = check::read_multivariant(&text);
    assert_eq!((broken, text.contains("#EXT-X-VERSION:3\n")), (vec![], true), "{text}");
    assert!(multivariant.renditions.is_empty(), "{text}");
    let sizes: Vec<_> = multivariant.variants.iter().map(|v| v.resolution).collect();
    assert_eq!(sizes, [Some((640, 360)), Some((426, 240)), None]);
    for variant in &multivariant.variants {
        let url = index.join(&variant.uri)?;
        let text = system.text(url.as_str()).await?;
        let (playlist, broken) = check::read_media(&text);
        assert_eq!(broken, [], "{text}");
        assert!(!text.contains("#EXT-X-MAP") && !text.contains("#EXT-X-PART"), "{text}");
        player::ffmpeg(url.as_str()).await?;
        let seen = player::ffprobe(url.as_str()).await?;
        let name = variant.uri.split('/').next().unwrap_or_default();
        match variant.resolution {
            Some((width, height)) => assert_eq!(seen, format!("h264,{width},{height}")),
            None => assert_eq!(seen, "aac,48000,2"),
        }
        if let Some((width, height)) = variant.resolution {
            let frame = usize::try_from(width * height * 3 / 2)?;
            player::hlsdemux_of(url.as_str(), "tsdemux", Track::Video, 75 * frame).await?;
            assert!(
                player::hlsdemux(url.as_str(), Track::Video, 1).await.is_err(),
                "the control: they are no CMAF"
            );
        }
        player::hlsdemux_of(url.as_str(), "tsdemux", Track::Audio, 75 * 1024 * 2 * 4).await?;
        // The same pictures and sound at the same times, a second later than in CMAF.
        let cmaf = stream.starts(&system, name).await?;
        let mut compared = 0;
        for segment in &playlist.segments {
            if let Some(start) = cmaf.get(&segment.sequence) {
                let shown = player::start(url.join(&segment.uri)?, Stream::track(name)).await?;
                assert!((shown - start - 1.0).abs() < 0.001, "{name}: {shown} and {start}");
                compared += 1;
            }
        }
        assert!(compared >= 2, "{name}: {compared} segments");
    }
    encoder.stop().await?;
    system.stop().await
}

#[tokio::test]
async fn a_broadcast_of_sound_alone_plays() -> anyhow::Result<()> {
    let system = System::start().await?;
    let (id, key) = system.create(json!({ "title": "radio" })).await?;
    let source = format!("{TONE} {AAC}");
    let encoder = Encoder::start(
        &source.split_whitespace().collect::<Vec<_>>(),
        &format!("{}/{key}", system.rtmp),
    )?;
    let stream = Stream::of(&system, &id, 2).await?;
    assert_eq!(stream.renditions.keys().collect::<Vec<_>>(), ["audio"]);
    let [variant] = &stream.multivariant.variants[..] else {
        anyhow::bail!("{:?}", stream.multivariant);
    };
    assert_eq!(
        (&variant.codecs[..], &variant.audio),
        (&["mp4a.40.2".to_owned()][..], &None)
    );
    let url = stream.renditions["audio"].as_str();
    player::ffmpeg(url).await?;
    player::hlsdemux(url, Track::Audio, 1).await?;
    encoder.stop().await?;
    system.stop().await
}

#[tokio::test]
async fn what_cannot_be_played_is_refused_with_a_code() -> anyhow::Result<()> {
    let system = System::start().await?;
    let (id, key) = system.create(json!({ "title": "refused" })).await?;
    let url = format!("{}/{key}", system.rtmp);
    // Sorenson H.263 is a codec of FLV's that no HLS player has.
    let old = format!("{} -c:v flv1 -b:v 800k", picture("320x240", 24));
    let (accepted, said) = Encoder::start(&old.split_whitespace().collect::<Vec<_>>(), &url)?
        .outcome()
        .await?;
    assert!(!accepted, "{said}");
    let entries = [
        "sub",
        "media.live_stream.status.>",
        "--all",
        "--count",
        "2",
        "--translate",
    ];
    let said = system
        .nats(&[&entries[..], &["castlog decode {{Subject}}"]].concat())
        .await?;
    assert!(said.contains("R05"), "{said}");

    // The same key with a codec that plays.
    let encoder = Encoder::picture(&url)?;
    system.reaches(&id, "live").await?;
    encoder.stop().await?;
    system.stop().await
}
