//! Pictures along the time line, with a real store.

// The helpers panic with the tests that call them.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::time::Duration;

use castlog_hls::Config;
use castlog_log::{Secret, pb::Visibility};
use chrono::Utc;
use object_store::ObjectStoreExt as _;
use reqwest::Url;
use support::{Show, Stage, holds};

const KEY: &str = "test-playback-key-0123456789abcdef";

/// Puts a sheet into the store that begins with a segment; its path at the edge.
async fn put(stage: &Stage, show: &Show, segment: u64, tiles: u32) -> anyhow::Result<String> {
    let start = show.time(segment).timestamp_millis();
    let key = show.key("thumb", &format!("0-{start}-10000-5x160x90-{tiles}.jpg"));
    let bytes = format!("{segment} {tiles}").into_bytes();
    stage.store.put(&key.clone().into(), bytes.into()).await?;
    Ok(format!("/media/{key}"))
}

fn header<'a>(response: &'a reqwest::Response, name: &str) -> &'a str {
    response.headers()[name].to_str().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_live_and_what_is_over_has_a_storyboard() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let mut config = Config {
        end_grace_s: 0,
        ..Config::default()
    };
    config.playback.key = Secret::new(KEY.to_owned());
    let edge = stage.edge(config.clone()).await?;
    let show = Show::new();
    let record = |visibility| show.options_of(visibility, true);
    show.open(&stage).await?;
    stage.publish(show.broadcast, record(Visibility::Public)).await?;
    // A window of 60 s, which begins with segment 10.
    show.store_all(&stage, 0..40, 0).await?;
    edge.text_with(&show.playlist("source"), holds(39)).await?;
    let early = put(&stage, &show, 0, 2).await?;
    put(&stage, &show, 8, 1).await?;
    let grown = put(&stage, &show, 8, 2).await?;

    let live = format!("/live/{}/storyboard.vtt", show.broadcast);
    let answer = edge.get(&live).await?.error_for_status()?;
    assert_eq!(header(&answer, "content-type"), "text/vtt; charset=utf-8");
    assert_eq!(header(&answer, "cache-control"), "public, max-age=5");
    let text = answer.text().await?;
    let date = |n| show.time(n).to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let first = format!(
        "WEBVTT\n\n{}\n00:00:00.000 --> 00:00:06.000\n{grown}#xywh=0,0,160,90\n",
        date(10)
    );
    let second = format!(
        "{}\n00:00:06.000 --> 00:00:16.000\n{grown}#xywh=160,0,160,90\n",
        date(13)
    );
    assert_eq!(text, format!("{first}\n{second}"));
    let sheet = edge.get(&grown).await?.error_for_status()?;
    assert_eq!(header(&sheet, "content-type"), "image/jpeg");
    assert_eq!(header(&sheet, "cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(sheet.text().await?, "8 2");
    let other = format!("{live}?session={}", Show::new().session);
    assert_eq!(edge.get(&other).await?.status(), 404);

    // Of the recording all of it, along its own time line.
    let recording = show.recording("storyboard.vtt");
    assert_eq!(edge.get(&recording).await?.status(), 404, "it is not over");
    stage.publish(show.broadcast, show.ended()).await?;
    let text = edge.text(&recording).await?;
    let begin = format!(
        "WEBVTT\n\n{}\n00:00:00.000 --> 00:00:10.000\n{early}#xywh=0,0,160,90\n",
        date(0)
    );
    assert!(text.starts_with(&begin), "{text}");
    // The second picture of the first sheet is cut off by the next one.
    assert!(text.contains("\n00:00:10.000 --> 00:00:16.000\n"), "{text}");
    assert!(
        text.contains(&format!("\n00:00:26.000 --> 00:00:36.000\n{grown}#xywh=160,0")),
        "{text}"
    );

    // Who may not watch sees no picture.
    stage.publish(show.broadcast, record(Visibility::Private)).await?;
    edge.text_with(&live, |text| text.contains("H03")).await?;
    for path in [&recording, &grown] {
        assert_eq!(edge.get(path).await?.status(), 403, "{path}");
    }
    let hour = Duration::from_secs(3600);
    let (token, _) = config.playback.issue(show.broadcast, Utc::now(), hour).unwrap();
    for path in [&live, &recording] {
        let url = Url::parse(&format!("{}/t/{token}{path}", edge.base))?;
        let text = edge
            .client
            .get(url.clone())
            .send()
            .await?
            .error_for_status()?
            .text()
            .await?;
        assert!(!text.contains(&*token), "the same for everybody who may");
        let picture = url.join(text.lines().find(|line| line.contains(".jpg")).unwrap())?;
        assert_eq!(edge.client.get(picture).send().await?.status(), 200, "{text}");
    }
    edge.stop().await
}
