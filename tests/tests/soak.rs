//! Broadcasts that go on for long, whose encoders drop now and then: playlists stay
//! valid, renditions together, players playing, and memory flat.
//!
//! `CASTLOG_SOAK_S` and `CASTLOG_SOAK_STREAMS` say how long and how many; `just soak`
//! runs two hours of five.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use castlog_playlist::check::{self, Media};
use castlog_service::Shutdown;
use castlog_testkit::until;
use castlog_tests::{Browser, Encoder, SOON, System, usage};
use futures::TryFutureExt as _;
use rand::RngExt as _;
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

/// Without the variables: one test of many.
const SECONDS: u64 = 30;
const STREAMS: usize = 2;
/// Least number of times that memory is looked at; in longer runs it is once a minute.
const SAMPLES: u32 = 8;
/// How far apart renditions of one segment may begin, and end: a frame of video at 25
/// a second, and one of sound.
const APART: f64 = 0.04 + 0.024;
/// What dates may be off by: they are told in milliseconds.
const ROUNDING: f64 = 0.002;
/// Growth of a process that is none: what caches fill up with, in bytes.
const SLACK: u64 = 48 << 20;

fn setting<T: std::str::FromStr>(name: &str, otherwise: T) -> anyhow::Result<T> {
    match std::env::var(name) {
        Ok(text) => text.parse().ok().with_context(|| format!("{name} is no number")),
        Err(_) => Ok(otherwise),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn broadcasts_go_on_whatever_their_encoders_do() -> anyhow::Result<()> {
    let seconds: u64 = setting("CASTLOG_SOAK_S", SECONDS)?;
    let streams: usize = setting("CASTLOG_SOAK_STREAMS", STREAMS)?;
    let jobs = format!("pipeline.max_jobs={streams}");
    let system = System::start_with(&[&jobs, "pipeline.preset=ultrafast"]).await?;
    let over = Shutdown::new();
    let (mut encoders, mut ids) = (JoinSet::new(), Vec::new());
    for n in 0..streams {
        let options = json!({ "ladder": [144] });
        let (id, key) = system
            .create(json!({ "title": format!("soak {n}"), "options": options }))
            .await?;
        encoders.spawn(keep_pushing(format!("{}/{key}", system.rtmp), over.clone()));
        ids.push(id);
    }
    for id in &ids {
        system.reaches(id, "live").await?;
    }
    // Their zeroes would be counted as what a process holds.
    let status = std::fs::read_to_string(format!("/proc/{}/status", system.pid("pipeline")?))?;
    ensure!(!status.contains("THP_enabled:\t1"), "pipelines have huge pages");
    let until_end = Instant::now() + Duration::from_secs(seconds);
    // What each has seen is told at once: when another fails it would be lost.
    let viewers = ids
        .iter()
        .map(|id| view(&system, id, until_end).inspect_ok(move |reloads| println!("{id}: {reloads} playlists")));
    let browser = Browser::new(&system.api)?;
    let watchers = ids.iter().map(|id| {
        browser
            .soaks(id, seconds)
            .inspect_ok(move |seen| println!("{id}: in the browser {seen}"))
    });
    let (_, watched, memory) = tokio::try_join!(
        futures::future::try_join_all(viewers),
        futures::future::try_join_all(watchers),
        memory(&system, seconds)
    )?;
    for (id, seen) in ids.iter().zip(&watched) {
        let played = seen["played_s"].as_f64().unwrap_or_default();
        #[allow(clippy::cast_precision_loss)] // seconds
        let wanted = seconds as f64 / 4.0;
        ensure!(played > wanted, "{id} was played for {played} s of {seconds}: {seen}");
    }
    for (name, held) in &memory {
        let (early, late) = (quarter(held, 1), quarter(held, 3));
        println!("{name}: {} MiB, later {} MiB", early >> 20, late >> 20);
        // Servers of others hold what they are given, and map their files into memory.
        let ours = !["meilisearch", "nats-server", "redis-server"].contains(&name.as_str());
        ensure!(!ours || !grows(held), "{name} grows: {early} and later {late} bytes");
    }
    over.begin();
    let mut drops = 0;
    while let Some(dropped) = encoders.join_next().await {
        drops += dropped??;
    }
    println!("{drops} drops");
    for id in &ids {
        system.reaches(id, "ended").await?;
    }
    system.stop().await
}

/// Pushes until the end and loses the connection now and then, as long as the session
/// waits for it; answers how often.
async fn keep_pushing(url: String, over: Shutdown) -> anyhow::Result<u32> {
    const SOURCE: &str = "-re -f lavfi -i testsrc2=size=426x240:rate=25 -re -f lavfi -i sine=sample_rate=48000 \
        -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -b:v 400k -g 50 -sc_threshold 0 \
        -c:a aac -ac 2 -b:a 64k";
    let source: Vec<&str> = SOURCE.split_whitespace().collect();
    let mut drops = 0;
    loop {
        let mut encoder = Encoder::start(&source, &url)?;
        let holds = Duration::from_secs(rand::rng().random_range(8..25));
        tokio::select! {
            () = over.cancelled() => {
                encoder.stop().await?;
                return Ok(drops);
            }
            () = tokio::time::sleep(holds) => drop(encoder),
            ended = encoder.ended() => ended?,
        }
        drops += 1;
        let away = Duration::from_millis(rand::rng().random_range(100..4000));
        tokio::time::sleep(away).await;
    }
}

/// Reads the playlists of a broadcast again and again; answers how often.
async fn view(system: &System, id: &str, end: Instant) -> anyhow::Result<usize> {
    let names = ["source", "144p", "audio"];
    let mut before: BTreeMap<&str, String> = BTreeMap::new();
    let mut reloads = 0;
    while Instant::now() < end {
        let mut newest = Vec::new();
        for name in names {
            let url = format!("{}/live/{id}/{name}/index.m3u8", system.hls);
            let text = match before.get(name) {
                // Until the first segments are there.
                None => until("a playlist", SOON, || async { system.text(&url).await.ok() }).await?,
                Some(_) => system.text(&url).await?,
            };
            let (media, broken) = check::read_media(&text);
            ensure!(broken.is_empty(), "{id} {name}: {broken:?}\n{text}");
            if let Some(before) = before.get(name) {
                let broken = check::reload(before, &text);
                ensure!(broken.is_empty(), "{id} {name}: {broken:?}\n{before}\n{text}");
            }
            before.insert(name, text);
            newest.push((name, media));
            reloads += 1;
        }
        together(&newest).with_context(|| id.to_owned())?;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    Ok(reloads)
}

/// Segments of one number begin together in all renditions, and so those before them end. Where
/// the encoder dropped, the sound is not the one that ends first.
fn together(renditions: &[(&str, Media)]) -> anyhow::Result<()> {
    let Some(((first, reference), others)) = renditions.split_first() else {
        return Ok(());
    };
    for (name, media) in others {
        let mut common = BTreeSet::new();
        for segment in &media.segments {
            let Some(twin) = reference.segments.iter().find(|s| s.sequence == segment.sequence) else {
                continue;
            };
            common.insert(segment.sequence);
            if segment.gap || twin.gap {
                continue;
            }
            let (Some(a), Some(b)) = (twin.program_date_time, segment.program_date_time) else {
                anyhow::bail!("{name} {} has no date", segment.sequence);
            };
            let starts = (a - b).as_seconds_f64().abs();
            // Players lay what comes then behind the picture, and look for sound up to it.
            let dropped = |media: &Media| {
                let next = media.segment(segment.sequence + 1);
                next.is_some_and(|next| next.discontinuity_sequence != segment.discontinuity_sequence)
            };
            if *name == "audio" && dropped(reference) && dropped(media) {
                let short = (a - b).as_seconds_f64() + twin.duration.as_secs_f64() - segment.duration.as_secs_f64();
                ensure!(
                    short <= ROUNDING,
                    "the sound ends {short} s before the picture at {}",
                    segment.sequence
                );
            }
            ensure!(
                starts <= APART && twin.discontinuity_sequence == segment.discontinuity_sequence,
                "{first} and {name} are {starts} s apart at {}",
                segment.sequence
            );
        }
        ensure!(
            !common.is_empty() || media.segments.is_empty(),
            "{first} and {name} have no segment in common"
        );
    }
    Ok(())
}

/// Resident memory of each process of the platform in bytes, sampled until the end.
async fn memory(system: &System, seconds: u64) -> anyhow::Result<BTreeMap<String, Vec<u64>>> {
    let interval = Duration::from_secs(seconds) / SAMPLES.max(u32::try_from(seconds / 60)?);
    let mut found = BTreeMap::<String, Vec<u64>>::new();
    let (start, end) = (Instant::now(), Instant::now() + Duration::from_secs(seconds));
    while Instant::now() + interval <= end {
        tokio::time::sleep(interval).await;
        let mut line = format!("{:.1} min, MiB:", start.elapsed().as_secs_f64() / 60.0);
        for name in system.processes()? {
            let held = usage::resident(&system.pid(&name)?.to_string())?;
            write!(line, " {name} {}", held >> 20)?;
            found.entry(name).or_default().push(held);
        }
        println!("{line}");
    }
    Ok(found)
}

/// Whether a process holds more and more, as far as quarters of a run tell.
fn grows(held: &[u64]) -> bool {
    let (early, late) = (quarter(held, 1), quarter(held, 3));
    late > early + early / 4 + SLACK
}

/// The median of a quarter of the samples, 0 to 3.
fn quarter(samples: &[u64], number: usize) -> u64 {
    let bound = |n: usize| samples.len() * n / 4;
    let mut of = samples[bound(number)..bound(number + 1)].to_vec();
    of.sort_unstable();
    of.get(of.len() / 2).copied().unwrap_or(0)
}

#[test]
fn what_grows_is_noticed() {
    let flat = [5, 9, 7, 7, 8, 7, 6, 7];
    assert_eq!((quarter(&flat, 1), quarter(&flat, 3)), (7, 7));
    let more: Vec<u64> = (0..120).collect();
    assert_eq!((quarter(&more, 1), quarter(&more, 3)), (45, 105));
    // Two mebibytes a minute for two hours, and what is held from the beginning alone.
    let minutes = |each: u64| -> Vec<u64> { (0..120).map(|minute| (20 + minute * each) << 20).collect() };
    assert!(grows(&minutes(2)) && !grows(&minutes(0)));
}

/// The measures can fail.
#[test]
fn what_drifts_is_noticed() {
    // A segment, and one of another encoder.
    let playlist = |date: &str, lasts: &str| {
        let text = format!(
            "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:7\n#EXT-X-DISCONTINUITY-SEQUENCE:3\n\
             #EXT-X-MAP:URI=\"i.mp4\"\n#EXT-X-PROGRAM-DATE-TIME:{date}\n#EXTINF:{lasts},\n7.m4s\n\
             #EXT-X-DISCONTINUITY\n#EXT-X-PROGRAM-DATE-TIME:2026-11-24T10:00:05.000Z\n#EXTINF:2.0,\n8.m4s\n"
        );
        let (media, broken) = check::read_media(&text);
        assert!(broken.is_empty(), "{broken:?}");
        media
    };
    let a = playlist("2026-11-24T10:00:00.000Z", "1.92000");
    let b = |date, lasts| together(&[("source", a.clone()), ("audio", playlist(date, lasts))]);
    assert!(b("2026-11-24T10:00:00.021Z", "1.92000").is_ok());
    assert!(b("2026-11-24T10:00:00.100Z", "1.92000").is_err());
    assert!(b("2026-11-24T10:00:00.000Z", "1.91500").is_err());
    assert!(b("2026-11-24T10:00:00.010Z", "1.91500").is_ok());
}
