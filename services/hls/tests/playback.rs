//! Real clients play what the edge serves: ffmpeg and GStreamer.

// The helpers panic with the tests that call them.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use castlog_hls::Config;
use castlog_playlist::check;
use castlog_testkit::tools;
use object_store::ObjectStoreExt as _;
use support::{RENDITIONS, Show, Stage};
use tempfile::TempDir;
use tokio::process::Command;

/// Longest run of a client; a playlist of eight seconds is played at once.
const PLAYTIME: Duration = Duration::from_secs(60);

async fn output(program: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PLAYTIME, command.output())
        .await
        .context("the client does not end")??;
    anyhow::ensure!(
        output.status.success(),
        "{}: {}",
        program.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}

/// How many packets a client finds in the streams of a kind.
async fn packets(ffprobe: &Path, url: &str, kind: &str) -> anyhow::Result<Vec<u32>> {
    let wanted = [
        "-v",
        "error",
        "-count_packets",
        "-select_streams",
        kind,
        "-show_entries",
    ];
    let wanted = [&wanted[..], &["stream=nb_read_packets", "-of", "csv=p=0", url]].concat();
    let counted = String::from_utf8(output(ffprobe, &wanted).await?.stdout)?;
    let mut counts: Vec<u32> = counted
        .split_whitespace()
        .filter_map(|n| n.trim_matches(',').parse().ok())
        .collect();
    // Some versions list a stream once more under its program.
    counts.dedup();
    Ok(counts)
}

/// Makes eight seconds of fMP4 segments for each rendition.
async fn encode(folder: &Path) -> anyhow::Result<()> {
    let ffmpeg = tools::ffmpeg()?;
    for rendition in RENDITIONS {
        let out = folder.join(rendition);
        std::fs::create_dir(&out)?;
        let size = if rendition == "source" {
            "testsrc2=s=320x180:r=30"
        } else {
            "testsrc2=s=160x90:r=30"
        };
        let video = [
            "-f",
            "lavfi",
            "-i",
            size,
            "-c:v",
            "libx264",
            "-preset",
            "ultrafast",
            "-g",
            "60",
            "-bf",
            "0",
        ];
        let audio = ["-f", "lavfi", "-i", "sine=f=440:r=48000", "-c:a", "aac", "-ac", "2"];
        let source: &[&str] = if rendition == "audio" { &audio } else { &video };
        let (init, segments, list) = ("init-0.mp4", out.join("%d.m4s"), out.join("list.m3u8"));
        let hls = [
            "-t",
            "8",
            "-f",
            "hls",
            "-hls_time",
            "2",
            "-hls_segment_type",
            "fmp4",
            "-hls_list_size",
            "0",
            "-hls_fmp4_init_filename",
            init,
            "-hls_segment_filename",
        ];
        let mut arguments = vec!["-v", "error"];
        arguments.extend_from_slice(source);
        arguments.extend_from_slice(&hls);
        arguments.extend([segments.to_str().context("path")?, list.to_str().context("path")?]);
        output(&ffmpeg, &arguments).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_and_gstreamer_play_every_rendition() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage
        .edge(Config {
            end_grace_s: 0,
            ..Config::default()
        })
        .await?;
    let media = TempDir::new()?;
    encode(media.path()).await?;
    let show = Show::new();
    show.open(&stage).await?;
    let record = show.options_of(castlog_log::pb::Visibility::Public, true);
    stage.publish(show.broadcast, record).await?;
    for rendition in RENDITIONS {
        for entry in std::fs::read_dir(media.path().join(rendition))? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).context("name")?;
            if name != "list.m3u8" {
                stage
                    .store
                    .put(&show.key(rendition, name).into(), std::fs::read(&path)?.into())
                    .await?;
            }
        }
    }
    for n in 0..4 {
        for rendition in RENDITIONS {
            let bytes = std::fs::metadata(media.path().join(rendition).join(format!("{n}.m4s")))?.len();
            show.announce(&stage, rendition, n, 0, bytes).await?;
        }
    }
    stage.publish(show.broadcast, show.ended()).await?;
    for rendition in RENDITIONS {
        edge.text_with(&show.playlist(rendition), |text| check::read_media(text).0.ended)
            .await?;
    }

    let url = format!("{}{}", edge.base, show.multivariant());
    let (ffmpeg, ffprobe) = (tools::ffmpeg()?, tools::ffprobe()?);
    let wanted = [
        "-v",
        "error",
        "-show_entries",
        "stream=codec_name,width",
        "-of",
        "csv=p=0",
        &url,
    ];
    let streams = String::from_utf8(output(&ffprobe, &wanted).await?.stdout)?;
    let mut found: Vec<&str> = streams.split_whitespace().collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, ["aac", "h264,160", "h264,320"]);
    let low = show.playlist("480p");
    for (url, kind, expected) in [
        (&url, "v:0", 240..=240),
        (&format!("{}{low}", edge.base), "v:0", 240..=240),
        (&format!("{}{}", edge.base, show.playlist("audio")), "a:0", 375..=377),
    ] {
        let counts = packets(&ffprobe, url, kind).await?;
        assert!(
            counts.iter().all(|n| expected.contains(n)) && !counts.is_empty(),
            "{url}: {counts:?}"
        );
    }
    let decoded = output(
        &ffmpeg,
        &[
            "-v", "error", "-i", &url, "-map", "0:v", "-map", "0:a", "-f", "null", "-",
        ],
    )
    .await?;
    assert_eq!(String::from_utf8_lossy(&decoded.stderr), "", "ffmpeg complains");

    // And what was recorded of it, whole.
    edge.text(&show.recording("index.m3u8")).await?;
    let recording = format!("{}{}", edge.base, show.recording("index.m3u8"));
    let counts = packets(&ffprobe, &recording, "v:0").await?;
    assert_eq!(counts, [240], "{recording}");

    let gst = tools::find("gst-launch-1.0")?;
    let video = format!("{}{}", edge.base, show.playlist("source"));
    let location = format!("location={video}");
    output(
        &gst,
        &[
            "-q",
            "souphttpsrc",
            &location,
            "!",
            "hlsdemux",
            "!",
            "qtdemux",
            "!",
            "h264parse",
            "!",
            "avdec_h264",
            "!",
            "fakesink",
            "sync=false",
        ],
    )
    .await?;
    // The control: the count tells when a segment is not what it should be.
    stage
        .store
        .put(&show.key("480p", "2.m4s").into(), b"nothing".to_vec().into())
        .await?;
    let fresh = stage
        .edge(Config {
            end_grace_s: 0,
            ..Config::default()
        })
        .await?;
    fresh.text(&show.multivariant()).await?;
    let broken = packets(&ffprobe, &format!("{}{low}", fresh.base), "v:0").await?;
    assert!(broken.iter().all(|&n| n <= 180), "{broken:?}");
    fresh.stop().await?;
    edge.stop().await
}
