//! Real players: ffmpeg, ffprobe and GStreamer's hlsdemux, on one rendition each.

use std::{
    collections::BTreeMap,
    process::{Output, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use castlog_playlist::check::{self, Multivariant};
use castlog_testkit::{tools, until};
use reqwest::Url;
use tokio::{io::AsyncReadExt as _, process::Command};

use crate::{SOON, System};

/// A player that has not read a few seconds by then hangs.
const LIMIT: Duration = Duration::from_secs(30);

/// A broadcast as its playlists describe it.
pub struct Stream {
    /// What the multivariant playlist says.
    pub multivariant: Multivariant,
    /// Address of the media playlist by the rendition's name, the first part of its path.
    pub renditions: BTreeMap<String, Url>,
}

/// What plays a rendition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Track {
    /// H.264.
    Video,
    /// AAC.
    Audio,
}

impl Stream {
    /// Reads the playlists of a broadcast once each has `segments` segments, and
    /// holds them to RFC 8216bis.
    ///
    /// # Errors
    /// They do not come in time, or break a rule.
    pub async fn of(system: &System, id: &str, segments: usize) -> anyhow::Result<Self> {
        let base = Url::parse(&format!("{}/live/{id}/index.m3u8", system.hls))?;
        let text = until("the multivariant playlist", SOON, || async {
            system.text(base.as_str()).await.ok()
        })
        .await?;
        let (multivariant, broken) = check::read_multivariant(&text);
        ensure!(broken.is_empty(), "{broken:?} in\n{text}");
        let uris = multivariant.variants.iter().map(|variant| &variant.uri);
        let audio = multivariant
            .renditions
            .iter()
            .filter_map(|rendition| rendition.uri.as_ref());
        let mut renditions = BTreeMap::new();
        for uri in uris.chain(audio) {
            let name = uri.split('/').next().unwrap_or_default().to_owned();
            renditions.insert(name, base.join(uri)?);
        }
        for (name, url) in &renditions {
            let text = until(&format!("{segments} segments of {name}"), SOON, || async {
                let text = system.text(url.as_str()).await.ok()?;
                (text.matches("#EXTINF").count() >= segments).then_some(text)
            })
            .await?;
            let broken = check::media(&text);
            ensure!(broken.is_empty(), "{broken:?} in {name}:\n{text}");
        }
        Ok(Self {
            multivariant,
            renditions,
        })
    }

    /// What a rendition's name says that it holds.
    #[must_use]
    pub fn track(name: &str) -> Track {
        if name == "audio" { Track::Audio } else { Track::Video }
    }

    /// Presentation time in seconds at which each of the rendition's present
    /// segments starts, by media sequence number: ffprobe's reading of the
    /// initialization section and the segment.
    ///
    /// # Errors
    /// A segment cannot be fetched or read.
    pub async fn starts(&self, system: &System, name: &str) -> anyhow::Result<BTreeMap<u64, f64>> {
        let url = self
            .renditions
            .get(name)
            .with_context(|| format!("no rendition {name}"))?;
        let (playlist, _) = check::read_media(&system.text(url.as_str()).await?);
        let folder = tempfile::tempdir()?;
        let mut starts = BTreeMap::new();
        for segment in &playlist.segments {
            let map = segment.map.as_ref().context("a segment without EXT-X-MAP")?;
            let mut bytes = bytes(url.join(map)?).await?;
            bytes.extend(self::bytes(url.join(&segment.uri)?).await?);
            let file = folder.path().join(format!("{}.mp4", segment.sequence));
            tokio::fs::write(&file, bytes).await?;
            let start = first_shown(&file, Self::track(name)).await?;
            starts.insert(segment.sequence, start);
        }
        Ok(starts)
    }
}

/// As [`Stream::starts`], of a track in one segment that needs no initialization section.
///
/// # Errors
/// It cannot be fetched or read.
pub async fn start(segment: Url, track: Track) -> anyhow::Result<f64> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("segment");
    tokio::fs::write(&file, bytes(segment).await?).await?;
    first_shown(&file, track).await
}

async fn first_shown(file: &std::path::Path, track: Track) -> anyhow::Result<f64> {
    let stream = match track {
        Track::Video => "v:0",
        Track::Audio => "a:0",
    };
    let entries = ["-show_entries", "packet=pts_time", "-of", "csv=p=0"];
    let arguments = ["-v", "error", "-select_streams", stream].into_iter().chain(entries);
    let file = file.to_string_lossy().into_owned();
    let printed = run(&tools::ffprobe()?, arguments.map(str::to_owned).chain([file.clone()])).await?;
    let times = String::from_utf8(printed.stdout)?;
    let times = times.split([',', '\n']).filter_map(|time| time.parse::<f64>().ok());
    times
        .reduce(f64::min)
        .with_context(|| format!("{file} holds nothing of {track:?}"))
}

/// Where segments of two renditions start more than `frame` seconds apart.
#[must_use]
pub fn apart(a: &BTreeMap<u64, f64>, b: &BTreeMap<u64, f64>, frame: f64) -> Vec<(u64, f64, f64)> {
    a.iter()
        .filter_map(|(sequence, a)| Some((*sequence, *a, *b.get(sequence)?)))
        .filter(|(_, a, b)| (a - b).abs() > frame)
        .collect()
}

/// Decodes two seconds with ffmpeg, which must not say a word about it.
///
/// # Errors
/// It cannot, or it complains.
pub async fn ffmpeg(url: &str) -> anyhow::Result<()> {
    decodes(url, &["-t", "2"]).await
}

async fn decodes(url: &str, bound: &[&str]) -> anyhow::Result<()> {
    let arguments = ["-nostdin", "-loglevel", "error", "-i", url];
    let arguments = arguments.iter().chain(bound).chain(&["-f", "null", "-"]);
    let output = run(&tools::ffmpeg()?, arguments.map(|&argument| argument.to_owned())).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(said.trim().is_empty(), "{url}: {said}");
    Ok(())
}

/// What ffprobe says of a rendition: codec, and width and height or sample rate and channels.
///
/// # Errors
/// It cannot read it.
pub async fn ffprobe(url: &str) -> anyhow::Result<String> {
    let entries = "stream=codec_name,width,height,sample_rate,channels";
    let arguments = ["-v", "error", "-show_entries", entries, "-of", "csv=p=0", url];
    let output = run(&tools::ffprobe()?, arguments.map(str::to_owned)).await?;
    let text = String::from_utf8(output.stdout)?;
    // It prints a stream for the program and once more for the file.
    Ok(text.lines().next().unwrap_or_default().trim_end_matches(',').to_owned())
}

/// What ffprobe says of each row of a rendition's segments with one initialization
/// section, see [`ffprobe`]; ffmpeg must decode all of it without a word.
///
/// # Errors
/// It cannot be fetched or read, or ffmpeg complains.
pub async fn rows(text: &str, url: &Url) -> anyhow::Result<Vec<String>> {
    let (playlist, _) = check::read_media(text);
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("row.mp4");
    let path = file.to_string_lossy();
    let mut rows = Vec::new();
    for row in playlist.segments.chunk_by(|a, b| a.map == b.map) {
        let map = row[0].map.as_ref().context("a segment without EXT-X-MAP")?;
        let mut bytes = bytes(url.join(map)?).await?;
        for segment in row {
            bytes.extend(self::bytes(url.join(&segment.uri)?).await?);
        }
        tokio::fs::write(&file, bytes).await?;
        decodes(&path, &[]).await?;
        rows.push(ffprobe(&path).await?);
    }
    Ok(rows)
}

/// Decodes with GStreamer's hlsdemux until `size` bytes of raw video (4:2:0) or
/// audio (32-bit samples) have come out.
///
/// # Errors
/// It ends before, or takes too long.
pub async fn hlsdemux(url: &str, track: Track, size: usize) -> anyhow::Result<()> {
    hlsdemux_of(url, "qtdemux", track, size).await
}

/// The same of segments that this element takes apart.
///
/// # Errors
/// See [`hlsdemux`].
pub async fn hlsdemux_of(url: &str, demuxer: &str, track: Track, size: usize) -> anyhow::Result<()> {
    let location = format!("location={url}");
    let decoder = match track {
        Track::Video => ["h264parse", "avdec_h264"],
        Track::Audio => ["aacparse", "avdec_aac"],
    };
    let mut gst = Command::new(tools::find("gst-launch-1.0")?)
        .args(["-q", "souphttpsrc", &location, "!", "hlsdemux", "!", demuxer, "!"])
        .args([decoder[0], "!", decoder[1], "!", "fdsink", "fd=1", "sync=false"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let mut decoded = gst.stdout.take().context("no output of gst-launch-1.0")?;
    // A live stream has no end, so the reader stops when it has enough.
    let mut bytes = vec![0; size];
    tokio::time::timeout(LIMIT, decoded.read_exact(&mut bytes))
        .await
        .with_context(|| format!("hlsdemux plays too little of {url}"))?
        .with_context(|| format!("hlsdemux does not play {url}"))?;
    gst.kill().await?;
    Ok(())
}

async fn bytes(url: Url) -> anyhow::Result<Vec<u8>> {
    Ok(reqwest::get(url).await?.error_for_status()?.bytes().await?.to_vec())
}

async fn run(program: &std::path::Path, arguments: impl IntoIterator<Item = String>) -> anyhow::Result<Output> {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output();
    let name = program.display();
    let output = tokio::time::timeout(LIMIT, output)
        .await
        .with_context(|| format!("{name} does not end"))??;
    ensure!(
        output.status.success(),
        "{name} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}
