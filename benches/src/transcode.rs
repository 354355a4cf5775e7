//! CPU of the pipeline against ffmpeg making the same ladder of the same clip:
//! the same decoder and encoder libraries, x264 settings and bit rates, scalers
//! of the same class (bilinear), source and sound copied. It fails when x264 was
//! told other things. The figure is the least of several runs in turn, so that
//! other work on the machine counts little; the pictures of both are held
//! against the source.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use castlog_pipeline::{folder, plan::Limits, transcode::Settings};
use castlog_testkit::tools;
use tokio::process::Command;

use castlog_tests::usage::{Who, cpu};

/// Runs of each.
const ROUNDS: usize = 3;

/// The rungs: name, size, and the bits per second that the pipeline's plan gives them.
const RUNGS: [(&str, &str, &str); 2] = [("720p", "1280:720", "2800k"), ("480p", "854:480", "1400k")];

/// Prints CPU seconds of both, and their ratio.
pub(crate) async fn run(seconds: u32) -> anyhow::Result<()> {
    let work = tempfile::tempdir()?;
    let clip = work.path().join("clip.flv");
    println!("transcode: {seconds} s of 1080p30 to source copy, 720p and 480p, x264 veryfast, bilinear scaling");
    make(&clip, seconds).await?;
    let theirs_at = |name: &str| work.path().join(format!("{name}.mp4"));
    let (mut ours, mut theirs) = (Duration::MAX, Duration::MAX);
    for round in 0..ROUNDS {
        let folder = work.path().join(round.to_string());
        let before = cpu("self", Who::Itself)?;
        let flv = tokio::fs::File::open(&clip).await?;
        folder::transcode(settings(), flv, &folder).await?;
        ours = ours.min(cpu("self", Who::Itself)?.saturating_sub(before));

        let before = cpu("self", Who::Children)?;
        ladder(&clip, &theirs_at).await?;
        theirs = theirs.min(cpu("self", Who::Children)?.saturating_sub(before));
    }
    for (name, size, _) in RUNGS {
        let joined = join(&work.path().join("0").join(name)).await?;
        let (ours, theirs) = (encoder_options(&joined)?, encoder_options(&theirs_at(name))?);
        ensure!(ours == theirs, "x264 was told different things:\n{ours}\n{theirs}");
        println!(
            "  {name}: SSIM to the source: castlog {}, ffmpeg {}",
            ssim(&joined, &clip, size).await?,
            ssim(&theirs_at(name), &clip, size).await?
        );
    }
    println!(
        "  castlog {:.1} s CPU, ffmpeg {:.1} s CPU, ratio {:.2} (least of {ROUNDS} runs)",
        ours.as_secs_f64(),
        theirs.as_secs_f64(),
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
    Ok(())
}

/// The source: a keyframe every two seconds.
async fn make(clip: &Path, seconds: u32) -> anyhow::Result<()> {
    let duration = seconds.to_string();
    let text = "-f lavfi -i testsrc2=size=1920x1080:rate=30 -f lavfi -i sine=sample_rate=48000 \
                -c:v libx264 -preset veryfast -g 60 -sc_threshold 0 -pix_fmt yuv420p -b:v 5M -c:a aac -ac 2";
    let mut arguments: Vec<&str> = text.split_whitespace().collect();
    let clip = clip.to_string_lossy();
    arguments.extend(["-t", &duration, &clip]);
    ffmpeg("error", &arguments).await?;
    Ok(())
}

fn settings() -> Settings {
    Settings {
        segment_target: 2_000_000,
        announced: None,
        known: None,
        part_target: 250_000,
        limits: Limits {
            ladder: vec![720, 480],
            default_ladder: vec![720, 480],
            default_rungs: 2,
            max_keyframe_interval: 4_400_000,
            force_encode: false,
        },
        preset: "veryfast".to_owned(),
        thumbnails: false,
        first_media_sequence: 0,
        discontinuity_sequence: 0,
        dated_to: None,
    }
}

/// The same by ffmpeg: a file for the copy and for each rung.
async fn ladder(clip: &Path, file: impl Fn(&str) -> PathBuf) -> anyhow::Result<()> {
    let mut arguments: Vec<String> = [
        "-threads",
        "2",
        "-i",
        &clip.to_string_lossy(),
        "-map",
        "0",
        "-c",
        "copy",
    ]
    .map(str::to_owned)
    .to_vec();
    arguments.push(file("source").to_string_lossy().into_owned());
    for (name, size, rate) in RUNGS {
        let text = format!(
            "-map 0:v -fps_mode passthrough -vf scale={size}:flags=bilinear -b:v {rate} -maxrate {rate} -bufsize {rate} \
             -c:v libx264 -preset veryfast -tune zerolatency -profile:v high \
             -x264-params sliced-threads=0:threads=1:scenecut=0:open-gop=0:keyint=1200 \
             -force_key_frames expr:gte(t,n_forced*2)"
        );
        arguments.extend(text.split_whitespace().map(str::to_owned));
        arguments.push(file(name).to_string_lossy().into_owned());
    }
    ffmpeg("error", &arguments).await?;
    Ok(())
}

/// A rendition's segments behind their init section, as one file.
async fn join(rendition: &Path) -> anyhow::Result<PathBuf> {
    let mut bytes = tokio::fs::read(rendition.join("init-0.mp4")).await?;
    for number in 0.. {
        match tokio::fs::read(rendition.join(format!("{number}.m4s"))).await {
            Ok(segment) => bytes.extend(segment),
            Err(_) => break,
        }
    }
    let file = rendition.join("joined.mp4");
    tokio::fs::write(&file, bytes).await?;
    Ok(file)
}

/// How alike pictures are to those of the clip in the same size, 0 to 1.
async fn ssim(file: &Path, clip: &Path, size: &str) -> anyhow::Result<String> {
    // By number, for timestamps are rounded in more than one way.
    let by_number = "settb=1/90000,setpts=N*3000";
    let graph =
        format!("[0:v]{by_number}[made];[1:v]{by_number},scale={size}:flags=bicubic[source];[made][source]ssim");
    let (file, clip) = (file.to_string_lossy(), clip.to_string_lossy());
    let arguments = ["-i", &file, "-i", &clip, "-lavfi", &graph, "-f", "null", "-"];
    let said = ffmpeg("info", &arguments).await?;
    let all = said.rsplit("All:").next().context("ffmpeg measured nothing")?;
    Ok(all.split_whitespace().next().unwrap_or_default().to_owned())
}

/// Runs ffmpeg; what it said.
async fn ffmpeg<A: AsRef<OsStr>>(level: &str, arguments: &[A]) -> anyhow::Result<String> {
    let output = Command::new(tools::ffmpeg()?)
        .args(["-nostdin", "-loglevel", level, "-y"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .context("cannot run ffmpeg")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "ffmpeg failed: {said}");
    Ok(said)
}

/// The settings that x264 writes into its first picture.
fn encoder_options(file: &Path) -> anyhow::Result<String> {
    const MARK: &[u8] = b" - options: ";
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let start = bytes.windows(MARK.len()).position(|window| window == MARK);
    let start = start.with_context(|| format!("no encoder settings in {}", file.display()))? + MARK.len();
    let text = bytes[start..].iter().take_while(|byte| (b' '..=b'~').contains(byte));
    Ok(text.map(|&byte| char::from(byte)).collect())
}
