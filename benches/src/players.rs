//! Many low-latency players on one edge of a whole platform, with one real encoder.
//!
//! Each follows the playlists of the video and of the audio, over a connection each:
//! it asks for the version that tells the part behind the newest one (`_HLS_msn`,
//! `_HLS_part`, `_HLS_skip`), and then for each part that it tells. What is measured is
//! from the moment at which a reader of the log in this process has a part to the
//! one at which a player has its last byte: the wait for the playlist, the playlist and
//! the part. Players, edge, encoder and all else are on one machine.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context as _, ensure};
use castlog_log::{ConnectConfig, Followed, Log, Secret};
use castlog_testkit::until;
use castlog_tests::{
    Encoder, SOON, System,
    usage::{Who, cpu, resident},
};
use serde_json::json;
use tokio::{
    process::Command,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{http::Http, percentiles::Percentiles};

const RENDITIONS: [&str; 2] = ["source", "audio"];
/// Until all players have come and the window has filled.
const SETTLE: Duration = Duration::from_secs(10);
/// Players come over this time, as people do.
const ARRIVAL: Duration = Duration::from_secs(5);
/// How long a player that gets no answer waits.
const PAUSE: Duration = Duration::from_millis(250);

/// When this process's reader of the log had a part, by the part's key.
type Known = Arc<Mutex<HashMap<String, Instant>>>;

#[derive(Default)]
struct Counts {
    refused: AtomicU64,
}

/// Prints the delay of parts, and what the edge takes for it.
pub(crate) async fn run(players: u32, seconds: u32) -> anyhow::Result<()> {
    println!(
        "players: {players} of low latency for {seconds} s, each with video and audio; parts of a fifth of a second"
    );
    let work = tempfile::tempdir()?;
    let clip = clip(&work.path().join("clip.mp4")).await?;
    let most = format!("hls.max_connections={}", players * 2 + 1000);
    let system = System::start_with(&["pipeline.ladder_rungs=0", "pipeline.thumbnails=false", &most]).await?;
    let (id, key) = system.create(json!({ "title": "bench", "tags": ["bench"] })).await?;
    let source = ["-re", "-stream_loop", "-1", "-i", &clip, "-c", "copy"];
    let encoder = Encoder::start(&source, &format!("{}/{key}", system.rtmp))?;
    let multivariant = format!("{}/live/{id}/index.m3u8", system.hls);
    let playlist = until("the broadcast can be watched", SOON, || async {
        system.text(&multivariant).await.ok()
    })
    .await?;
    let session = playlist.split("?session=").nth(1).and_then(|rest| rest.get(..26));
    let session = session.context("the playlist names no session")?.to_owned();
    let server: SocketAddr = system.hls.trim_start_matches("http://").parse()?;
    let pid = std::fs::read_to_string(system.folder().join("run/hls.pid"))?;
    let pid = pid.split_whitespace().next().context("the edge has no id")?.to_owned();

    let known = Known::default();
    let log = Log::connect(
        &ConnectConfig {
            url: system.env("NATS_URL")?.to_owned(),
            user: system.env("NATS_OPERATOR_USER")?.to_owned(),
            password: Secret::new(system.env("NATS_OPERATOR_PASSWORD")?.to_owned()),
            ..ConnectConfig::default()
        },
        "bench",
    )
    .await?;
    let reader = tokio::spawn(note(log, Arc::clone(&known)));

    let idle = resident(&pid)?;
    let start = Instant::now();
    let (begin, counts) = (start + ARRIVAL + SETTLE, Arc::<Counts>::default());
    let end = begin + Duration::from_secs(seconds.into());
    let mut watching = JoinSet::new();
    for n in 0..players {
        let arrival = start + ARRIVAL * n / players;
        for rendition in RENDITIONS {
            let path = format!("/live/{id}/{rendition}/index.m3u8?session={session}");
            watching.spawn(follow(server, path, arrival, begin, end, Arc::clone(&counts)));
        }
    }
    sleep_until(begin).await;
    let (before, own) = (cpu(&pid, Who::Itself)?, cpu("self", Who::Itself)?);
    sleep_until(end).await;
    let used = cpu(&pid, Who::Itself)?.saturating_sub(before);
    let own = cpu("self", Who::Itself)?.saturating_sub(own);
    let held = resident(&pid)?;
    let mut delays = Vec::new();
    let mut unknown = 0_u32;
    while let Some(player) = watching.join_next().await {
        let got = player??;
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, at) in got {
            match known.get(&part) {
                Some(there) => delays.push(at.saturating_duration_since(*there)),
                None => unknown += 1,
            }
        }
    }
    reader.abort();
    let parts = delays.len();
    ensure!(unknown == 0, "{unknown} parts were not in the log");
    let share = |time: Duration| time.as_secs_f64() * 100.0 / f64::from(seconds);
    #[allow(clippy::cast_precision_loss)] // memory is far below 2^52
    let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
    println!("  from the log to the player      {}", Percentiles::of(delays)?);
    println!(
        "  {parts} parts delivered, {} requests refused or cut off",
        counts.refused.load(Ordering::Relaxed)
    );
    println!(
        "  the edge: {:.0} % of a core, {:.0} MiB of memory, {:.1} KiB a player; the players: {:.0} % of a core",
        share(used),
        mib(held),
        mib(held.saturating_sub(idle)) * 1024.0 / f64::from(players),
        share(own)
    );
    encoder.stop().await?;
    system.stop().await
}

/// Twenty seconds of 720p30 at 2.5 Mbit/s, so that sending it costs no encoding.
async fn clip(file: &std::path::Path) -> anyhow::Result<String> {
    let file = file.to_str().context("the temporary folder is not UTF-8")?;
    let picture = "-y -nostdin -loglevel error -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i \
                   sine=sample_rate=48000 -t 20 -c:v libx264 -preset veryfast -pix_fmt yuv420p -b:v 2500k -g 60 \
                   -sc_threshold 0 -bf 0 -c:a aac -ac 2";
    let ffmpeg = castlog_testkit::tools::ffmpeg()?;
    let status = Command::new(ffmpeg)
        .args(picture.split_whitespace())
        .arg(file)
        .status()
        .await?;
    ensure!(status.success(), "ffmpeg ended with {status}");
    Ok(file.to_owned())
}

/// Notes when parts come out of the log.
async fn note(log: Log, known: Known) -> anyhow::Result<()> {
    let mut parts = log.follow_parts();
    loop {
        if let Followed::Entry(part) = parts.next().await? {
            let h = part.header;
            let key = format!(
                "{}/{}-{}-{}",
                h.rendition, h.media_sequence, h.discontinuity_sequence, h.part
            );
            let now = Instant::now();
            known.lock().unwrap_or_else(PoisonError::into_inner).insert(key, now);
        }
    }
}

/// The parts that a playlist tells, by path, and the path of the one to come.
fn read(text: &str) -> (Vec<&str>, Option<&str>) {
    let uri = |line: &'_ str| -> Option<(usize, usize)> {
        let start = line.find("URI=\"")? + 5;
        Some((start, start + line[start..].find('"')?))
    };
    let (mut parts, mut hint) = (Vec::new(), None);
    for line in text.lines() {
        let Some((start, end)) = uri(line) else { continue };
        if line.starts_with("#EXT-X-PART:") {
            parts.push(&line[start..end]);
        } else if line.starts_with("#EXT-X-PRELOAD-HINT:") {
            hint = Some(&line[start..end]);
        }
    }
    (parts, hint)
}

/// Of `…/source/17-0-3.m4s`: the key of the part, its segment and its index.
fn place(path: &str) -> Option<(String, u64, u64)> {
    let mut back = path.trim_end_matches(".m4s").rsplit('/');
    let (name, rendition) = (back.next()?, back.next()?);
    let mut numbers = name.split('-');
    let (segment, _, index) = (numbers.next()?, numbers.next()?, numbers.next()?);
    Some((
        format!("{rendition}/{name}"),
        segment.parse().ok()?,
        index.parse().ok()?,
    ))
}

/// Follows one playlist; the parts that came between `begin` and `end`, and when.
async fn follow(
    server: SocketAddr,
    playlist: String,
    arrival: Instant,
    begin: Instant,
    end: Instant,
    counts: Arc<Counts>,
) -> anyhow::Result<Vec<(String, Instant)>> {
    sleep_until(arrival).await;
    let mut http = Http::connect(server).await?;
    let mut got = Vec::new();
    let mut newest: Option<(u64, u64)> = None;
    let mut wanted: Option<(u64, u64)> = None;
    while Instant::now() < end {
        let path = match wanted {
            Some((segment, part)) => format!("{playlist}&_HLS_msn={segment}&_HLS_part={part}&_HLS_skip=YES"),
            None => playlist.clone(),
        };
        let (status, text) = match http.get(&path).await {
            Ok(answer) => answer,
            Err(_) => {
                counts.refused.fetch_add(1, Ordering::Relaxed);
                http = Http::connect(server).await?;
                continue;
            }
        };
        if status != 200 {
            counts.refused.fetch_add(1, Ordering::Relaxed);
            wanted = None;
            sleep(PAUSE).await;
            continue;
        }
        let text = std::str::from_utf8(&text)?;
        let (parts, hint) = read(text);
        wanted = hint.and_then(place).map(|(_, segment, part)| (segment, part));
        if wanted.is_none() {
            sleep(PAUSE).await;
        }
        for path in parts {
            let Some((key, segment, part)) = place(path) else {
                continue;
            };
            // Who has just come begins with what comes next.
            if newest.is_none_or(|newest| newest >= (segment, part)) {
                continue;
            }
            let (status, _) = http.drain(path).await?;
            let now = Instant::now();
            newest = Some((segment, part));
            if status != 200 {
                counts.refused.fetch_add(1, Ordering::Relaxed);
            } else if now >= begin && now < end {
                got.push((key, now));
            }
        }
        if newest.is_none() {
            newest = wanted.map(|(segment, part)| match part {
                0 => (segment - 1, u64::MAX),
                part => (segment, part - 1),
            });
        }
    }
    Ok(got)
}
