//! CPU of the pipeline against ffmpeg making the same ladder of the same clip.

use std::{process::Stdio, time::Duration};

use anyhow::Context as _;
use castlog_pipeline::{folder, plan::Limits, transcode::Settings};
use castlog_testkit::tools;
use tokio::process::Command;

/// Prints CPU seconds of both, and their ratio.
pub(crate) async fn run(seconds: u32) -> anyhow::Result<()> {
    let work = tempfile::tempdir()?;
    let clip = work.path().join("clip.flv");
    println!("transcode: {seconds} s of 1080p30 to source copy, 720p and 480p, x264 veryfast");
    let duration = seconds.to_string();
    ffmpeg(&[
        "-f",
        "lavfi",
        "-i",
        "testsrc2=size=1920x1080:rate=30",
        "-f",
        "lavfi",
        "-i",
        "sine=sample_rate=48000",
        "-t",
        &duration,
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-g",
        "60",
        "-sc_threshold",
        "0",
        "-pix_fmt",
        "yuv420p",
        "-b:v",
        "5M",
        "-c:a",
        "aac",
        "-ac",
        "2",
        &clip.to_string_lossy(),
    ])
    .await?;

    let before = cpu(Who::Myself)?;
    let settings = Settings {
        segment_target: 2_000_000,
        announced: None,
        part_target: 250_000,
        limits: Limits {
            ladder: vec![720, 480],
            default_ladder: vec![720, 480],
            default_rungs: 2,
            max_keyframe_interval: 4_000_000,
            force_encode: false,
        },
        preset: "veryfast".to_owned(),
        thumbnails: false,
        first_media_sequence: 0,
        discontinuity_sequence: 0,
    };
    let flv = tokio::fs::File::open(&clip).await?;
    folder::transcode(settings, flv, &work.path().join("ours")).await?;
    let ours = cpu(Who::Myself)?.saturating_sub(before);

    let before = cpu(Who::Children)?;
    let input = clip.to_string_lossy().into_owned();
    let (a, b, c) = (
        work.path().join("a.mp4"),
        work.path().join("b.mp4"),
        work.path().join("c.mp4"),
    );
    let x264 = [
        "-c:v",
        "libx264",
        "-preset",
        "veryfast",
        "-tune",
        "zerolatency",
        "-x264-params",
        "sliced-threads=0:threads=1:scenecut=0:open-gop=0:keyint=300",
    ];
    let mut arguments = vec!["-i", &input, "-map", "0", "-c", "copy"];
    let (a, b, c) = (
        a.to_string_lossy().into_owned(),
        b.to_string_lossy().into_owned(),
        c.to_string_lossy().into_owned(),
    );
    arguments.extend([a.as_str(), "-map", "0:v", "-vf", "scale=1280:720", "-b:v", "2500k"]);
    arguments.extend(x264);
    arguments.extend([
        "-force_key_frames",
        "expr:gte(t,n_forced*2)",
        b.as_str(),
        "-map",
        "0:v",
        "-vf",
        "scale=854:480",
        "-b:v",
        "1200k",
    ]);
    arguments.extend(x264);
    arguments.extend(["-force_key_frames", "expr:gte(t,n_forced*2)", c.as_str()]);
    ffmpeg(&arguments).await?;
    let theirs = cpu(Who::Children)?.saturating_sub(before);

    println!(
        "  castlog {:.1} s CPU, ffmpeg {:.1} s CPU, ratio {:.2}",
        ours.as_secs_f64(),
        theirs.as_secs_f64(),
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
    Ok(())
}

async fn ffmpeg(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(tools::ffmpeg()?)
        .args(["-nostdin", "-loglevel", "error", "-y"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run ffmpeg")?;
    anyhow::ensure!(
        output.status.success(),
        "ffmpeg failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

enum Who {
    Myself,
    Children,
}

/// User and system CPU time so far, from `/proc/self/stat` (proc(5): fields 14 to 17, in ticks of 10 ms).
fn cpu(who: Who) -> anyhow::Result<Duration> {
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The name in parentheses can hold spaces; the fields behind it cannot.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let first = match who {
        Who::Myself => 11,
        Who::Children => 13,
    };
    let mut ticks = 0;
    for field in fields.get(first..first + 2).context("/proc/self/stat is short")? {
        ticks += field.parse::<u32>()?;
    }
    Ok(TICK * ticks)
}
