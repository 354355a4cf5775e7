//! How fast the whole platform is: from a title to a search result, from an
//! encoder's first byte to a segment that a viewer can fetch, and from a picture in the
//! encoder to the same in a browser.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use castlog_testkit::{tools, until};
use castlog_tests::{Browser, Encoder, SOON, System};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    process::Command,
    sync::oneshot,
};

use crate::percentiles::Percentiles;

/// Between two looks at whether it has happened; what a figure can be off by.
const LOOK: Duration = Duration::from_millis(2);

/// Prints how old the picture is that a viewer sees, by the clock that is burnt into it,
/// beside what players of low latency are told to stay behind.
pub(crate) async fn glass(seconds: u32) -> anyhow::Result<()> {
    println!("glass: one encoder of 360p30, one viewer in Chromium, for {seconds} s");
    let system = System::start_with(&["pipeline.ladder_rungs=0"]).await?;
    let (id, key) = create(&system).await?;
    let encoder = Encoder::clock(&format!("{}/{key}", system.rtmp))?;
    system.reaches(&id, "live").await?;
    let seen = Browser::new(&system.api)?.lags(&id, seconds.into()).await?;
    let figure = |name: &str| seen[name].as_f64().with_context(|| format!("no {name} in {seen}"));
    let (glass, target) = (figure("glass_to_glass_s")?, figure("target_s")?);
    println!("  glass to glass     {glass:.2} s (median)");
    println!(
        "  told to stay       {target:.2} s behind the newest part; {:.2} s behind it",
        figure("hls_js_s")?
    );
    println!(
        "  ratio {:.2}; {} stalls in {:.0} s",
        glass / target,
        seen["stalls"],
        figure("played_s")?
    );
    encoder.stop().await?;
    system.stop().await
}

/// Prints the time from a changed title to a search that finds it, beside a
/// document written straight to the same Meilisearch.
pub(crate) async fn findable(changes: u32) -> anyhow::Result<()> {
    println!("findable: {changes} title changes of a live broadcast, one after another");
    let system = System::start_with(&[]).await?;
    let (id, key) = create(&system).await?;
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    until("the broadcast is findable", SOON, || async {
        (system.search(&[("q", "bench")]).await.ok()? == [id.clone()]).then_some(())
    })
    .await?;

    let mut ours = Vec::new();
    for n in 0..changes {
        let word = word("castlog", n);
        let begun = Instant::now();
        let path = format!("/v1/broadcasts/{id}/title");
        let (status, said) = system.call(Method::PUT, &path, Some(json!({ "title": word }))).await?;
        ensure!(status.is_success(), "{status} {said}");
        settle(begun, || async {
            Ok(!system.search(&[("q", &word)]).await?.is_empty())
        })
        .await?;
        ours.push(begun.elapsed());
    }

    let straight = Straight::new(&system)?;
    let mut theirs = Vec::new();
    for n in 0..changes {
        let word = word("straight", n);
        let begun = Instant::now();
        straight.write(&word).await?;
        settle(begun, || straight.finds(&word)).await?;
        theirs.push(begun.elapsed());
    }
    let (ours, theirs) = (Percentiles::of(ours)?, Percentiles::of(theirs)?);
    println!("  castlog, HTTP to search result  {ours}");
    println!("  Meilisearch alone, same server  {theirs}");
    println!(
        "  ratio                           p50 {:.2}, p99 {:.2}",
        ours.p50.as_secs_f64() / theirs.p50.as_secs_f64(),
        ours.p99.as_secs_f64() / theirs.p99.as_secs_f64()
    );
    encoder.stop().await?;
    system.stop().await
}

/// Prints the time from an encoder's first byte to the first segment of each kind
/// of rendition, beside ffmpeg that packages the same file without a network.
pub(crate) async fn first_segment(runs: u32) -> anyhow::Result<()> {
    println!("first segment: {runs} starts of a 720p30 file with a keyframe every 2 s, sent in real time");
    let work = tempfile::tempdir()?;
    let clip = work.path().join("clip.mp4");
    let clip = clip.to_str().context("the temporary folder is not UTF-8")?;
    let picture = "-f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=sample_rate=48000 -t 20 -c:v libx264 \
                   -preset veryfast -pix_fmt yuv420p -b:v 2500k -g 60 -sc_threshold 0 -c:a aac -ac 2";
    run_ffmpeg(picture.split_whitespace().chain([clip])).await?;

    let system = System::start_with(&[]).await?;
    let (mut source, mut encoded, mut limit) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..runs {
        let (id, key) = create(&system).await?;
        let (url, first_byte) = watched_road(&system.rtmp).await?;
        let encoder = Encoder::start(&["-re", "-i", clip, "-c", "copy"], &format!("{url}/{key}"))?;
        let begun = first_byte.await.context("the encoder did not connect")?;
        let base = format!("{}/live/{id}", system.hls);
        let (a, b) = tokio::try_join!(
            playable(&system, &base, "source", begun),
            playable(&system, &base, "480p", begun)
        )?;
        source.push(a);
        encoded.push(b);
        encoder.stop().await?;

        let folder = work.path().join(format!("peer{n}"));
        tokio::fs::create_dir(&folder).await?;
        limit.push(peer(clip, &folder).await?);
    }
    let limit = Percentiles::of(limit)?;
    println!("  ffmpeg to a folder, no network   {limit}");
    for (name, times) in [
        ("castlog, source passed through", source),
        ("castlog, 480p encoded", encoded),
    ] {
        let times = Percentiles::of(times)?;
        println!(
            "  {name:<32} {times}, ratio p50 {:.2}",
            times.p50.as_secs_f64() / limit.p50.as_secs_f64()
        );
    }
    system.stop().await
}

async fn create(system: &System) -> anyhow::Result<(String, String)> {
    system.create(json!({ "title": "bench", "tags": ["bench"] })).await
}

/// A word that no other search finds, even with a typo: its letters come from a
/// number that is spread over 64 bits.
fn word(prefix: &str, n: u32) -> String {
    let spread = u64::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    format!("{prefix}{spread:016x}")
}

/// Looks again and again until it has happened.
async fn settle<F: Future<Output = anyhow::Result<bool>>>(
    begun: Instant,
    happened: impl Fn() -> F,
) -> anyhow::Result<()> {
    while !happened().await? {
        ensure!(begun.elapsed() < SOON, "it did not happen in {SOON:?}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// The platform's Meilisearch, written to without the platform.
struct Straight {
    http: reqwest::Client,
    index: String,
    key: String,
}

impl Straight {
    fn new(system: &System) -> anyhow::Result<Self> {
        Ok(Self {
            http: reqwest::Client::new(),
            // One of the log sink's names, which its key may write.
            index: format!("{}/indexes/broadcasts-bench", system.config(["meilisearch", "url"])?),
            key: system.config(["meilisearch", "indexer_key"])?,
        })
    }

    async fn write(&self, word: &str) -> anyhow::Result<()> {
        let documents = json!([{ "id": "one", "title": word }]);
        let url = format!("{}/documents?primaryKey=id", self.index);
        let request = self.http.post(url).bearer_auth(&self.key).json(&documents);
        request.send().await?.error_for_status()?;
        Ok(())
    }

    async fn finds(&self, word: &str) -> anyhow::Result<bool> {
        let url = format!("{}/search", self.index);
        let request = self.http.post(url).bearer_auth(&self.key).json(&json!({ "q": word }));
        // Until its first document is indexed there is no index.
        let answer: Value = request.send().await?.json().await?;
        Ok(answer["hits"].as_array().is_some_and(|hits| !hits.is_empty()))
    }
}

/// An RTMP address that leads to the server's and tells when an encoder's first byte has come.
async fn watched_road(rtmp: &str) -> anyhow::Result<(String, oneshot::Receiver<Instant>)> {
    let rest = rtmp.strip_prefix("rtmp://").context("not an RTMP address")?;
    let (server, app) = rest.split_once('/').context("no application in the RTMP address")?;
    let server = server.to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let url = format!("rtmp://{}/{app}", listener.local_addr()?);
    let (told, first_byte) = oneshot::channel();
    tokio::spawn(async move {
        let (mut encoder, _) = listener.accept().await?;
        let mut server = TcpStream::connect(server).await?;
        encoder.readable().await?;
        // Nobody waits any more when the measurement has failed.
        told.send(Instant::now()).ok();
        copy_bidirectional(&mut encoder, &mut server).await
    });
    Ok((url, first_byte))
}

/// Time from `begun` until a rendition's playlist has a segment and the segment is fetched whole.
async fn playable(system: &System, base: &str, rendition: &str, begun: Instant) -> anyhow::Result<Duration> {
    let url = format!("{base}/{rendition}/index.m3u8");
    let segment = || async {
        let text = system.text(&url).await.ok()?;
        text.lines()
            .find(|line| !line.starts_with('#') && line.contains(".m4s"))
            .map(str::to_owned)
    };
    loop {
        if let Some(uri) = segment().await {
            let url = reqwest::Url::parse(&url)?.join(&uri)?;
            let bytes = reqwest::get(url).await?.error_for_status()?.bytes().await?;
            ensure!(!bytes.is_empty(), "the first segment of {rendition} is empty");
            return Ok(begun.elapsed());
        }
        ensure!(begun.elapsed() < SOON, "no segment of {rendition} in {SOON:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Time from the start of an ffmpeg that reads the file in real time until its HLS playlist has a segment.
async fn peer(clip: &str, folder: &std::path::Path) -> anyhow::Result<Duration> {
    let playlist = folder.join("index.m3u8");
    let begun = Instant::now();
    let mut ffmpeg = Command::new(tools::ffmpeg()?)
        .args(["-nostdin", "-loglevel", "error", "-re", "-i", clip, "-c", "copy"])
        .args(["-f", "hls", "-hls_segment_type", "fmp4", "-hls_time", "2"])
        .arg(&playlist)
        .kill_on_drop(true)
        .spawn()?;
    settle(begun, || async {
        Ok(std::fs::read_to_string(&playlist).is_ok_and(|text| text.contains("#EXTINF")))
    })
    .await?;
    let took = begun.elapsed();
    ffmpeg.kill().await?;
    Ok(took)
}

async fn run_ffmpeg<'a>(arguments: impl Iterator<Item = &'a str>) -> anyhow::Result<()> {
    let output = Command::new(tools::ffmpeg()?)
        .args(["-nostdin", "-loglevel", "error", "-y"])
        .args(arguments)
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "ffmpeg failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
