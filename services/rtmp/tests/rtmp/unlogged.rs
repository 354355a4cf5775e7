//! Encoders that come while the log does not answer, or does not take what is said of them.

use std::net::SocketAddr;

use anyhow::Context as _;
use castlog_log::{PublishKey, pb};
use castlog_rtmp::Config;
use castlog_testkit::until;

use crate::{
    common::{Bench, SOON},
    peer::Peer,
};

/// What an encoder is told that is not let in.
async fn sent_away(address: SocketAddr, key: &PublishKey) -> anyhow::Result<String> {
    let error = Peer::publish(address, key).await.err().context("it is on air")?;
    Ok(error.to_string())
}

#[tokio::test]
async fn an_encoder_that_was_sent_away_takes_nothing_over_later() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let options = pb::options::Changed {
        second_publisher: pb::SecondPublisher::TakeOver.into(),
        ..Default::default()
    };
    let options = pb::Options {
        event: Some(pb::options::Event::Changed(options)),
    };
    bench.publish(broadcast, options).await?;
    // Who is on air here sends nothing.
    let config = Config {
        idle_timeout_s: 300,
        ..bench.config()
    };
    let server = bench.serve(config).await?;
    let address = server.running.rtmp;
    let mut first = Peer::publish(address, &key).await?;

    bench.nats.process().pause()?;
    // One of them waits for the log, the other for its turn behind it.
    let told = tokio::try_join!(sent_away(address, &key), sent_away(address, &key));
    bench.nats.process().resume()?;
    let (one, other) = told?;
    for said in [one, other] {
        assert!(said.contains("R08: the log does not answer, try again"), "{said}");
    }

    // Its turn comes when both are through.
    let _next = until("the log's return", SOON, || async {
        Peer::publish(address, &key).await.ok()
    })
    .await?;
    let statuses = bench.statuses(broadcast).await?;
    let names: Vec<_> = statuses.into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["started", "resumed"], "they cut the one on air");
    let said = first.hear("another encoder took over").await?;
    assert!(said.contains("R03: another encoder took over"), "{said}");
    server.stop().await
}

#[tokio::test]
async fn an_entry_that_the_log_refuses_leaves_nothing_live() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    // One that reads what the server reads, and publishes nothing of sessions.
    let server = bench.serve_as("live-api", bench.config()).await?;
    for attempt in ["first", "second"] {
        let said = sent_away(server.running.rtmp, &key).await?;
        assert!(said.contains("R08: the log refuses the entry"), "{attempt}: {said}");
    }
    assert_eq!(bench.statuses(broadcast).await?, []);
    server.stop().await
}
