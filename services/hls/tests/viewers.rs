//! How many people watch, as an edge says it in the log.

// The helpers panic with the tests that call them.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

use castlog_hls::Config;
use castlog_log::pb;
use castlog_testkit::until;
use support::{Edge, PATIENCE, Show, Stage};

async fn live(stage: &Stage, edge: &Edge) -> anyhow::Result<Show> {
    let show = Show::new();
    show.open(stage).await?;
    show.store_all(stage, 0..3, 0).await?;
    edge.text(&show.playlist("audio")).await?;
    Ok(show)
}

/// Asks for a playlist on a connection of its own.
async fn watch(edge: &Edge, show: &Show, agent: &str, forwarded_for: &str) -> anyhow::Result<()> {
    let url = format!("{}{}", edge.base, show.playlist("source"));
    let request = reqwest::Client::new().get(url).header("user-agent", agent);
    let answer = request.header("x-forwarded-for", forwarded_for).send().await?;
    answer.error_for_status()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_are_counted_in_the_log_until_they_have_left() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let config = Config {
        edge: "edge-7".to_owned(),
        ..Config::default()
    };
    let edge = stage.edge(config).await?;
    let show = live(&stage, &edge).await?;
    // Who comes back from another port is the same, whatever he says of where he is.
    for n in 1..=3 {
        watch(&edge, &show, "another", &format!("203.0.113.{n}")).await?;
    }
    let counted = until("a count", PATIENCE, || stage.counted(show.broadcast)).await?;
    let expected = |concurrent| pb::viewers::Counted {
        edge: "edge-7".to_owned(),
        concurrent,
    };
    assert_eq!(counted, expected(2));
    let none = until("that nobody watches", PATIENCE * 4, || async {
        let counted = stage.counted(show.broadcast).await?;
        (counted.concurrent == 0).then_some(counted)
    })
    .await?;
    assert_eq!(none, expected(0));
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_a_recording_is_no_viewer_of_what_is_live() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let first = live(&stage, &edge).await?;
    let next = first.again();
    stage.publish(next.broadcast, next.started()).await?;
    stage.publish(next.broadcast, next.produced()).await?;
    next.store_all(&stage, 0..3, 0).await?;
    let is_next = |text: &str| text.contains(&next.session.to_string());
    edge.text_with(&next.playlist("audio"), is_next).await?;
    let load = async |show: &Show, agent: &str| {
        let url = format!("{}/media/{}", edge.base, show.key("source", "1.m4s"));
        let request = edge.client.get(url).header("user-agent", agent);
        request.send().await?.error_for_status()?;
        anyhow::Ok(())
    };
    for agent in ["replay", "another replay"] {
        load(&first, agent).await?;
    }
    // With the one that asked for the playlist of the sound they are two.
    let counted = until("two viewers", PATIENCE * 2, || async {
        load(&next, "player").await.ok()?;
        edge.get(&next.playlist("audio")).await.ok()?;
        let counted = stage.counted(next.broadcast).await?;
        (counted.concurrent >= 2).then_some(counted.concurrent)
    })
    .await?;
    assert_eq!(counted, 2);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_proxy_says_where_viewers_are() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let config = Config {
        trusted_proxies: vec!["127.0.0.0/8".to_owned()],
        ..Config::default()
    };
    let edge = stage.edge(config).await?;
    let show = live(&stage, &edge).await?;
    // With the one that asked for the playlist of the sound they are four.
    until("four viewers", PATIENCE * 4, || async {
        for n in 1..=3 {
            watch(&edge, &show, "player", &format!("198.51.100.{n}, 203.0.113.{n}"))
                .await
                .ok()?;
            watch(&edge, &show, "player", &format!("203.0.113.{n}, 127.0.0.9"))
                .await
                .ok()?;
        }
        edge.get(&show.playlist("audio")).await.ok()?;
        (stage.counted(show.broadcast).await?.concurrent == 4).then_some(())
    })
    .await?;
    edge.stop().await
}
