//! An edge over a real log: what viewers see while a broadcast runs, when
//! things go wrong on the way, and after its end.

// The helpers panic with the tests that call them.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use castlog_hls::Config;
use castlog_log::{Followed, From, Kind, SessionId, pb};
use castlog_playlist::{
    bitrate::Sample,
    check::{self, Watch},
};
use castlog_testkit::until;
use chrono::{DateTime, TimeDelta, Utc};
use futures::{TryStreamExt as _, future::try_join_all};
use support::{PATIENCE, RENDITIONS, Show, Stage, holds};

/// Polls a media playlist until it has ended; each version must be valid and a
/// legal successor of the one before. Returns how many versions there were, and the last.
async fn watch(client: reqwest::Client, url: String) -> anyhow::Result<(usize, String)> {
    let start = Instant::now();
    let mut watch = Watch::new(PATIENCE);
    let (mut versions, mut last) = (0, String::new());
    while start.elapsed() < PATIENCE * 2 {
        let response = client.get(&url).send().await?;
        if response.status().is_success() {
            let text = response.text().await?;
            let mut violations = check::media(&text);
            violations.extend(watch.observe(start.elapsed(), &text));
            anyhow::ensure!(
                violations.is_empty(),
                "{violations:#?}\nbefore:\n{last}\nafter:\n{text}"
            );
            if text != last {
                versions += 1;
            }
            last = text;
            if check::read_media(&last).0.ended {
                return Ok((versions, last));
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    anyhow::bail!("the playlist does not end:\n{last}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_is_valid_in_every_version_that_a_viewer_sees() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage
        .edge(Config {
            dvr_window_s: 20,
            end_grace_s: 1,
            ..Config::default()
        })
        .await?;
    let show = Show::new();
    let watchers: Vec<_> = RENDITIONS
        .map(|r| tokio::spawn(watch(edge.client.clone(), format!("{}{}", edge.base, show.playlist(r)))))
        .into();

    show.open(&stage).await?;
    show.store_all(&stage, 0..6, 0).await?;
    // A worker publishes again what it had published before it died.
    for n in [3, 4, 5] {
        show.announce(&stage, "480p", n, 0, 4_000).await?;
    }
    // Segments that overtake each other, and one that never comes.
    for (rendition, numbers) in [
        ("source", &[7, 6, 8, 9][..]),
        ("480p", &[6, 8, 9]),
        ("audio", &[6, 7, 9, 8]),
    ] {
        for &n in numbers {
            show.store(&stage, rendition, n, 0).await?;
        }
    }
    show.store_all(&stage, 10..25, 2).await?;
    let multivariant = edge.text(&show.multivariant()).await?;
    stage.publish(show.broadcast, show.ended()).await?;

    let mut ended = Vec::new();
    for watcher in watchers {
        let (versions, last) = tokio::time::timeout(PATIENCE * 2, watcher).await???;
        assert!(versions >= 5, "only {versions} versions were seen");
        ended.push(last);
    }
    let aligned: Vec<_> = RENDITIONS.into_iter().zip(ended.iter().map(String::as_str)).collect();
    assert_eq!(check::aligned(&aligned, Duration::from_millis(25)), []);
    for text in &ended {
        let (media, _) = check::read_media(text);
        assert_eq!(
            media.segments.last().map(|s| (s.sequence, s.discontinuity_sequence)),
            Some((24, 2))
        );
    }
    assert_eq!(check::multivariant(&multivariant), []);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_playlist_names_can_be_loaded() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = Show::new();
    show.open(&stage).await?;
    show.store_all(&stage, 0..3, 0).await?;
    show.store_all(&stage, 3..8, 1).await?;
    let (multivariant, violations) = check::read_multivariant(&edge.text(&show.multivariant()).await?);
    assert_eq!(violations, []);
    assert_eq!(
        multivariant.variants.iter().map(|v| v.resolution).collect::<Vec<_>>(),
        [Some((1280, 720)), Some((853, 480)), None]
    );
    let uris: Vec<&String> = multivariant
        .variants
        .iter()
        .filter(|v| v.resolution.is_some())
        .map(|v| &v.uri)
        .chain(multivariant.renditions.iter().filter_map(|r| r.uri.as_ref()))
        .collect();
    assert_eq!(uris.len(), 3);
    let mut weights: Vec<Vec<Sample>> = Vec::new();
    for uri in uris {
        let path = format!("/live/{}/{uri}", show.broadcast);
        let rendition = uri.split('/').next().unwrap();
        let (media, violations) = check::read_media(&edge.text_with(&path, holds(7)).await?);
        assert_eq!(violations, []);
        let mut samples = Vec::new();
        for segment in &media.segments {
            let bytes = edge.get(&segment.uri).await?.error_for_status()?.bytes().await?;
            assert_eq!(bytes, Show::bytes(rendition, segment.sequence));
            samples.push(Sample {
                duration: segment.duration,
                bytes: bytes.len() as u64,
            });
            let map = segment.map.as_ref().unwrap();
            assert_eq!(
                edge.get(map).await?.error_for_status()?.bytes().await?.as_ref(),
                b"init"
            );
        }
        assert_eq!(media.segments.len(), 8);
        weights.push(samples);
    }
    let [source, lower, audio] = &weights[..] else {
        panic!("{} renditions", weights.len())
    };
    // The last variant is the sound alone.
    let together: [&[&[Sample]]; 3] = [&[source, audio], &[lower, audio], &[audio]];
    for (variant, samples) in multivariant.variants.iter().zip(together) {
        assert_eq!(check::bandwidth(variant.bandwidth, samples, 2), []);
    }
    let listening = &multivariant.variants[2];
    assert_eq!(Some(&listening.uri), multivariant.renditions[0].uri.as_ref());
    assert_eq!(listening.codecs, ["mp4a.40.2"]);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_edge_and_a_restarted_log_show_the_same() -> anyhow::Result<()> {
    let mut stage = Stage::build().await?;
    let config = Config {
        dvr_window_s: 30,
        ..Config::default()
    };
    let first = stage.edge(config.clone()).await?;
    let show = Show::new();
    show.open(&stage).await?;
    show.store_all(&stage, 0..20, 0).await?;
    show.store(&stage, "480p", 20, 0).await?;
    show.store(&stage, "source", 20, 0).await?;
    first.text_with(&show.playlist("source"), holds(20)).await?;

    // The log goes away under the edge; what it knows is still served.
    stage.nats.kill9();
    let before = first
        .get(&show.playlist("audio"))
        .await?
        .error_for_status()?
        .text()
        .await?;
    assert!(holds(19)(&before));
    stage.nats.restart().await?;
    show.store_all(&stage, 21..31, 1).await?;
    for path in RENDITIONS.map(|r| show.playlist(r)) {
        first.text_with(&path, holds(30)).await?;
    }
    let mut all = Vec::new();
    // Each tells how far the others are.
    for path in RENDITIONS.map(|r| show.playlist(r)) {
        let text = first.text_with(&path, holds(30)).await?;
        assert_eq!(check::media(&text), []);
        all.push((path, text));
    }
    all.push((show.multivariant(), first.text(&show.multivariant()).await?));
    assert!(all[2].1.contains("#EXT-X-GAP"), "audio lacks segment 20:\n{}", all[2].1);

    let second = stage.edge(config.clone()).await?;
    first.stop().await?;
    let third = stage.edge(config).await?;
    for edge in [&second, &third] {
        edge.ready().await?;
        for (path, text) in &all {
            assert_eq!(&edge.text(path).await?, text, "{path}");
        }
    }
    // Both go on.
    show.store_all(&stage, 31..32, 1).await?;
    for edge in [&second, &third] {
        let text = edge.text_with(&all[0].0, holds(31)).await?;
        assert_eq!(check::reload(&all[0].1, &text), []);
    }
    second.stop().await?;
    third.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_edge_does_not_read_what_no_window_needs() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    // Old sessions, of which no entry may cost memory or time.
    let old = Show::new();
    old.open(&stage).await?;
    old.store_all(&stage, 0..3, 0).await?;
    let mut ended = old.ended();
    if let Some(pb::status::Event::Ended(ended)) = &mut ended.event {
        ended.ended_at.as_mut().unwrap().seconds -= 3600;
    }
    stage.publish(old.broadcast, ended).await?;
    let show = Show::new();
    show.open(&stage).await?;
    show.store_all(&stage, 0..3, 0).await?;
    let edge = stage.edge(Config::default()).await?;
    edge.ready().await?;
    assert_eq!(
        edge.get(&show.multivariant()).await?.status(),
        200,
        "at once when ready"
    );
    assert_eq!(edge.get(&old.multivariant()).await?.status(), 404);
    edge.stop().await
}

/// From when on the edges of a stage read the segments in the log.
async fn read_since(stage: &Stage) -> anyhow::Result<Vec<DateTime<Utc>>> {
    let stream = stage.log.jetstream().get_stream(Kind::Segment.stream()).await?;
    let readers: Vec<_> = stream.consumers().try_collect().await?;
    let mut since = Vec::new();
    for reader in readers {
        if reader.config.description.as_deref() == Some("hls") {
            let config = serde_json::to_value(&reader.config)?;
            anyhow::ensure!(config["deliver_policy"] == "by_start_time", "{config}");
            let start = config["opt_start_time"].as_str().context("no time")?;
            since.push(start.parse()?);
        }
    }
    Ok(since)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_of_history_keeps_a_late_edge_for_less_than_a_second() -> anyhow::Result<()> {
    const LENGTH: u64 = 1800;
    let stage = Stage::build().await?;
    for _ in 0..20 {
        let other = Show::new();
        other.open(&stage).await?;
        other.store_all(&stage, 0..3, 0).await?;
    }
    let show = Show::new();
    show.open(&stage).await?;
    for first in (0..LENGTH - 1).step_by(100) {
        let numbers = first..(first + 100).min(LENGTH - 1);
        let all = numbers.flat_map(|n| RENDITIONS.map(|rendition| (rendition, n)));
        try_join_all(all.map(|(rendition, n)| show.announce(&stage, rendition, n, 0, 4_000))).await?;
    }
    show.store_all(&stage, LENGTH - 1..LENGTH, 0).await?;

    // What reading takes on this machine, as it is now.
    let begun = Instant::now();
    let (mut entries, filter) = (0, Kind::Segment.filter());
    let mut follow = stage.log.follow(Kind::Segment.stream(), &[&filter], From::Beginning);
    while let Followed::Entry(_) = follow.next().await? {
        entries += 1;
    }
    let reading = begun.elapsed();
    assert_eq!(entries, 3 * (LENGTH + 60));

    let (begun, earliest) = (Instant::now(), Utc::now());
    let edge = stage.edge(Config::default()).await?;
    let playlist = loop {
        let answer = edge.get(&show.playlist("480p")).await?;
        if answer.status() == 200 {
            break answer.text().await?;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let newest = format!("/media/{}", show.key("480p", &format!("{}.m4s", LENGTH - 1)));
    let media = edge.get(&newest).await?.error_for_status()?.bytes().await?;
    let starting = begun.elapsed();
    println!("{entries} entries: read in {reading:?}, shown by an edge in {starting:?}");
    // On a machine that is busy with other things reading takes longer as well.
    let most = reading * 4 + Duration::from_secs(1);
    assert!(starting < most, "{starting:?}, {reading:?}");
    edge.ready().await?;
    // All of this was published just now: that it reads no more than it needs, its reader says.
    let reach = TimeDelta::seconds(60 + 300 + 180);
    let (earliest, latest) = (earliest - reach, Utc::now() - reach);
    let since = read_since(&stage).await?;
    assert_eq!(since.len(), 1, "{since:?}");
    // The server may cut the time to whole microseconds.
    let first = earliest - TimeDelta::milliseconds(1);
    assert!(
        (first..=latest).contains(&since[0]),
        "{since:?}, and not {earliest} to {latest}"
    );
    assert_eq!(media, Show::bytes("480p", LENGTH - 1));
    let (media, found) = check::read_media(&playlist);
    assert_eq!(found, []);
    assert_eq!(
        (
            media.media_sequence,
            media.segments.len(),
            media.segments.iter().any(|s| s.gap)
        ),
        (Some(LENGTH - 30), 30, false)
    );
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_session_takes_the_place_of_the_one_before() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage
        .edge(Config {
            end_grace_s: 0,
            ..Config::default()
        })
        .await?;
    let mut show = Show::new();
    show.open(&stage).await?;
    show.store_all(&stage, 0..5, 0).await?;
    let old = format!("{}?session={}", show.playlist("source"), show.session);
    let before = edge.text_with(&old, holds(4)).await?;
    stage.publish(show.broadcast, show.ended()).await?;
    show.session = SessionId::generate();
    stage.publish(show.broadcast, show.started()).await?;
    stage.publish(show.broadcast, show.produced()).await?;
    until("the old session has gone", PATIENCE, || async {
        let status = edge.get(&show.multivariant()).await.ok()?.status();
        (status == 404).then_some(())
    })
    .await?;
    show.store_all(&stage, 0..2, 0).await?;
    let text = edge.text(&show.playlist("source")).await?;
    assert!(text.contains(&show.session.to_string()) && !text.contains("#EXT-X-ENDLIST"));
    let after = edge.text(&old).await?;
    assert_eq!(check::reload(&before, &after), []);
    assert!(after.ends_with("#EXT-X-ENDLIST\n"));
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn edges_tell_the_same_of_titles_and_interruptions_whenever_they_start() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let show = Show::new();
    show.open(&stage).await?;
    let edge = stage.edge(Config::default()).await?;
    show.store_all(&stage, 0..4, 0).await?;
    for title in ["One", "Two"] {
        let changed = pb::title::Changed {
            title: title.to_owned(),
        };
        let event = Some(pb::title::Event::Changed(changed));
        stage.publish(show.broadcast, pb::Title { event }).await?;
    }
    for status in [show.interrupted(), show.resumed()] {
        stage.publish(show.broadcast, status).await?;
    }
    show.store_all(&stage, 4..6, 1).await?;
    let path = show.playlist("480p");
    let whole = |text: &str| holds(5)(text) && text.contains("END-DATE") && text.contains("\"Two\"");
    let text = edge.text_with(&path, whole).await?;
    let (media, found) = check::read_media(&text);
    assert_eq!(found, [], "{text}");
    assert_eq!(media.date_ranges.len(), 3, "{text}");
    // The last entry of each subject tells but a part of it.
    let late = stage.edge(Config::default()).await?;
    late.ready().await?;
    assert_eq!(late.text(&path).await?, text);
    late.stop().await?;
    edge.stop().await
}
