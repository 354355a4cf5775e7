//! The media store is away under a running broadcast: viewers see no error and no gap,
//! and the store has all that they saw once it is back.
#![allow(clippy::unwrap_used)]

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use castlog_playlist::check;
use castlog_testkit::{S3Server, until};
use castlog_tests::{Encoder, SOON, System};
use reqwest::Url;
use serde_json::json;

async fn start(s3: &S3Server) -> anyhow::Result<System> {
    let media = s3.media();
    let settings = [
        "pipeline.preset=ultrafast".to_owned(),
        "pipeline.ladder_rungs=1".to_owned(),
        "log_sink.archive.enabled=false".to_owned(),
        format!("media.url={}", media.url),
        format!("media.endpoint={}", media.endpoint),
        format!("media.access_key_id={}", media.access_key_id),
        format!("media.secret_access_key={}", media.secret_access_key.expose()),
    ];
    System::start_with(&settings.each_ref().map(String::as_str)).await
}

/// A player of one rendition, which is told nothing of what goes on.
struct Viewer {
    url: Url,
    client: reqwest::Client,
    /// Media sequence number behind what it has played.
    next: AtomicU64,
    stop: AtomicBool,
}

/// What it has played, by object key.
type Played = BTreeMap<String, Vec<u8>>;

impl Viewer {
    fn of(system: &System, id: &str, rendition: &str) -> anyhow::Result<Self> {
        Ok(Self {
            url: Url::parse(&format!("{}/live/{id}/{rendition}/index.m3u8", system.hls))?,
            client: reqwest::Client::new(),
            next: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        })
    }

    async fn get(&self, url: Url) -> anyhow::Result<Vec<u8>> {
        let answer = self.client.get(url.clone()).send().await?;
        ensure!(answer.status() == 200, "{} for {url}", answer.status());
        Ok(answer.bytes().await?.to_vec())
    }

    /// Plays until it is stopped: each version of the playlist as it comes, each part and
    /// each segment in it. One that can `seek` looks back to the begin of the window as well.
    async fn play(&self, seek: bool) -> anyhow::Result<Played> {
        let (mut played, mut parts) = (Played::new(), BTreeSet::new());
        let mut text = String::from_utf8(self.get(self.url.clone()).await?)?;
        let newest = check::read_media(&text).0.segments.last().map_or(0, |s| s.sequence);
        // As players do, from some segments behind the end on.
        let begin = newest.saturating_sub(3);
        self.next.store(begin, Ordering::SeqCst);
        let (mut asked, mut longest) = (Instant::now(), Duration::ZERO);
        while !self.stop.load(Ordering::SeqCst) {
            let (playlist, broken) = check::read_media(&text);
            ensure!(broken.is_empty(), "{broken:?} in\n{text}");
            for segment in playlist
                .segments
                .iter()
                .filter(|s| s.sequence >= self.next.load(Ordering::SeqCst))
            {
                let next = self.next.load(Ordering::SeqCst);
                ensure!(!segment.gap && segment.sequence == next, "a gap at {next} in\n{text}");
                for uri in segment.map.iter().chain([&segment.uri]) {
                    let url = self.url.join(uri)?;
                    let key = url
                        .path()
                        .strip_prefix("/media/")
                        .context("media elsewhere")?
                        .to_owned();
                    if let Entry::Vacant(new) = played.entry(key) {
                        new.insert(self.get(url).await?);
                    }
                }
                self.next.store(next + 1, Ordering::SeqCst);
            }
            if let Some(first) = playlist.segments.first().filter(|_| seek) {
                self.get(self.url.join(&first.uri)?).await?;
            }
            let open = playlist.open.as_ref();
            for part in open.map_or(&[][..], |open| &open.parts) {
                if parts.insert(part.uri.clone()) {
                    self.get(self.url.join(&part.uri)?).await?;
                }
            }
            let end = playlist.segments.last().context("no segment")?.sequence + 1;
            let mut url = self.url.clone();
            url.set_query(Some(&format!(
                "_HLS_msn={end}&_HLS_part={}",
                open.map_or(0, |open| open.parts.len())
            )));
            let after = String::from_utf8(self.get(url).await?)?;
            let broken = check::reload(&text, &after);
            ensure!(broken.is_empty(), "{broken:?}\n{text}\n{after}");
            text = after;
            longest = longest.max(asked.elapsed());
            asked = Instant::now();
        }
        println!("{}: {longest:?} at most from one version to the next", self.url);
        Ok(played)
    }

    /// Waits until it has played `count` more segments.
    async fn goes_on(&self, count: u64) -> anyhow::Result<()> {
        let wanted = self.next.load(Ordering::SeqCst) + count;
        until(&format!("segment {wanted} of {}", self.url), SOON, || async {
            (self.next.load(Ordering::SeqCst) >= wanted).then_some(())
        })
        .await
    }
}

/// The objects that wait in the spool, by their keys.
fn waiting(system: &System) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let files = |folder: &Path| std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    for path in files(&system.folder().join("spool")).flat_map(|folder| files(&folder).collect::<Vec<_>>()) {
        let name = path.file_name().unwrap().to_str().unwrap();
        if let Some((_, key)) = name.split_once('+').filter(|_| !name.ends_with(".tmp")) {
            found.insert(key.replace('+', "/"), path.clone());
        }
    }
    found
}

async fn nothing_waits(system: &System) -> anyhow::Result<()> {
    until("an empty spool", SOON, || async {
        waiting(system).is_empty().then_some(())
    })
    .await
}

/// The store has what was played, byte for byte.
fn stored(s3: &S3Server, played: &Played) -> anyhow::Result<()> {
    for (key, bytes) in played {
        let object = std::fs::read(s3.folder().join(key)).with_context(|| key.clone())?;
        ensure!(object == *bytes, "{key} differs from what was played");
    }
    Ok(())
}

#[tokio::test]
async fn viewers_notice_nothing_and_nothing_is_lost() -> anyhow::Result<()> {
    let mut s3 = S3Server::start().await?;
    let system = start(&s3).await?;
    let (id, key) = system.create(json!({ "title": "goes on" })).await?;
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    let viewers = [
        Viewer::of(&system, &id, "source")?,
        Viewer::of(&system, &id, "480p")?,
        Viewer::of(&system, &id, "audio")?,
    ];
    for viewer in &viewers {
        until("the first segments", SOON, || async {
            let text = system.text(viewer.url.as_str()).await.ok()?;
            (check::read_media(&text).0.segments.len() > 4).then_some(())
        })
        .await?;
    }
    let [one, two, three] = &viewers;
    let outage = async {
        for viewer in &viewers {
            viewer.goes_on(2).await?;
        }
        s3.kill9();
        for viewer in &viewers {
            viewer.goes_on(6).await?;
        }
        ensure!(waiting(&system).len() > 6, "nothing waits");
        s3.restart().await?;
        nothing_waits(&system).await?;
        // And one that takes requests and answers none.
        s3.process().pause()?;
        for viewer in &viewers {
            viewer.goes_on(4).await?;
        }
        s3.process().resume()?;
        nothing_waits(&system).await?;
        for viewer in &viewers {
            viewer.goes_on(1).await?;
            viewer.stop.store(true, Ordering::SeqCst);
        }
        anyhow::Ok(())
    };
    let (a, b, c, ()) = tokio::try_join!(one.play(true), two.play(false), three.play(false), outage)?;
    for played in [&a, &b, &c] {
        ensure!(played.len() > 13, "{:?}", played.keys());
        stored(&s3, played)?;
    }
    encoder.stop().await?;
    // The control: what is not in the store, or is something else there, is seen.
    let (lost, other) = (a.keys().next().unwrap(), a.keys().last().unwrap());
    std::fs::write(s3.folder().join(other), b"other")?;
    assert!(stored(&s3, &a).is_err());
    std::fs::remove_file(s3.folder().join(lost))?;
    assert!(stored(&s3, &a).is_err());
    system.stop().await
}

/// Whoever dies meanwhile comes back without the store, and has lost nothing.
#[tokio::test]
async fn pipeline_and_edge_may_die_and_begin_anew_while_the_store_is_away() -> anyhow::Result<()> {
    let mut s3 = S3Server::start().await?;
    let system = start(&s3).await?;
    let (id, key) = system.create(json!({ "title": "begins anew" })).await?;
    s3.kill9();
    // Even its first initialization sections are not in the store.
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    let url = format!("{}/live/{id}/source/index.m3u8", system.hls);
    let media = || async {
        let text = system.text(&url).await.ok()?;
        let (media, broken) = check::read_media(&text);
        broken.is_empty().then_some(media)
    };
    until("segments", SOON, || async {
        (media().await?.segments.len() > 3).then_some(())
    })
    .await?;
    let left: BTreeMap<String, Vec<u8>> = waiting(&system)
        .into_iter()
        .map(|(key, path)| (key, std::fs::read(path).unwrap()))
        .collect();
    ensure!(left.keys().any(|key| key.ends_with("/source/init-0.mp4")), "{left:?}");
    system.kill9("hls").await?;
    system.kill9("pipeline").await?;
    let begun = until("segments of the next worker", SOON, || async {
        let segments = media().await?.segments;
        let own: Vec<_> = segments.into_iter().filter(|s| s.discontinuity_sequence > 0).collect();
        (own.len() > 3).then_some(own)
    })
    .await?;
    let viewer = Viewer::of(&system, &id, "source")?;
    let rest = async {
        viewer.goes_on(6).await?;
        s3.restart().await?;
        nothing_waits(&system).await?;
        viewer.goes_on(1).await?;
        viewer.stop.store(true, Ordering::SeqCst);
        anyhow::Ok(())
    };
    let (played, ()) = tokio::try_join!(viewer.play(false), rest)?;
    stored(&s3, &played)?;
    // Thumbnails are made anew.
    let left = left.into_iter().filter(|(key, _)| !key.ends_with(".jpg")).collect();
    stored(&s3, &left)?;
    let named = begun.iter().map(|segment| segment.uri.trim_start_matches("/media/"));
    for key in named {
        ensure!(s3.folder().join(key).is_file(), "{key} is not in the store");
    }
    encoder.stop().await?;
    system.stop().await
}
