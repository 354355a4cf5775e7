//! Several instances of the log sink: they share the entries, and what a killed one
//! held comes to another. The archive has a test of its own beside it.

mod support;

use std::collections::BTreeSet;

use castlog_log::{BroadcastId, Draft, Kind};
use castlog_log_sink::Config;
use castlog_testkit::{Meilisearch, Service, until};
use serde_json::json;
use support::{PATIENCE, Stage, title};

const STREAM: &str = Kind::Title.stream();

/// The ids of the documents of so many entries.
fn ids(sequences: std::ops::RangeInclusive<u64>) -> BTreeSet<String> {
    sequences.map(|sequence| format!("{STREAM}-{sequence}")).collect()
}

async fn publish(stage: &Stage, count: u64) -> anyhow::Result<()> {
    let id = BroadcastId::generate();
    for n in 0..count {
        let draft = Draft::new(id, title(&format!("title {n}")));
        stage.log.publisher.publish(draft).await?;
    }
    Ok(())
}

async fn ready(sink: &Service) -> anyhow::Result<()> {
    until("the log sink is ready", PATIENCE, || async {
        sink.health.is_ready().then_some(())
    })
    .await
}

/// The ids of all documents, each as often as it is there.
async fn found(server: &Meilisearch) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for index in server.indexes().await? {
        let documents = server.documents(&index).await?;
        found.extend(
            documents
                .iter()
                .filter_map(|document| Some(document["id"].as_str()?.to_owned())),
        );
    }
    Ok(found)
}

async fn settled(stage: &Stage) -> anyhow::Result<()> {
    until("every entry is acknowledged", PATIENCE, || async {
        let backlog = stage.log.log.backlog(STREAM, "log_sink").await.ok()?;
        (backlog.pending + backlog.unacked == 0).then_some(())
    })
    .await
}

#[tokio::test]
async fn two_instances_share_the_entries() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    // Each with a Meilisearch of its own, which shows who has written.
    let other = Meilisearch::start().await?;
    let second = Config {
        meilisearch: castlog_meili::Config::new(&other.url(), other.master_key()),
        ..stage.config.clone()
    };
    let first = stage.start(stage.config.clone())?;
    let second = stage.start_another(second).await?;
    ready(&first).await?;
    ready(&second).await?;
    publish(&stage, 200).await?;
    settled(&stage).await?;
    let [a, b]: [BTreeSet<String>; 2] = [
        found(&stage.meili).await?.into_iter().collect(),
        found(&other).await?.into_iter().collect(),
    ];
    assert!(a.len() >= 20 && b.len() >= 20, "{} and {}", a.len(), b.len());
    assert!(a.is_disjoint(&b), "an entry went to both");
    assert_eq!(&a | &b, ids(1..=200));

    first.finish().await?;
    publish(&stage, 50).await?;
    settled(&stage).await?;
    let left: BTreeSet<String> = found(&other).await?.into_iter().collect();
    assert_eq!(left, &b | &ids(201..=250));
    second.finish().await
}

#[tokio::test]
async fn what_a_killed_instance_held_is_written_by_another_and_nothing_twice() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    // Sooner than after half a minute, and later than the signs of life of who holds them.
    let sooner = json!({ "ack_wait": 6_000_000_000_u64 });
    stage.log.change_consumer(STREAM, "log_sink", &sooner).await?;
    let first = stage.start(stage.config.clone())?;
    let second = stage.start_another(stage.config.clone()).await?;
    ready(&first).await?;
    ready(&second).await?;
    publish(&stage, 50).await?;
    settled(&stage).await?;
    // It keeps its connections and answers nothing: both hold what they were given.
    stage.meili.process().pause()?;
    publish(&stage, 100).await?;
    until("all are handed out", PATIENCE, || async {
        let backlog = stage.log.log.backlog(STREAM, "log_sink").await.ok()?;
        (backlog.unacked == 100).then_some(())
    })
    .await?;
    first.kill().await;
    stage.meili.process().resume()?;
    publish(&stage, 50).await?;
    settled(&stage).await?;
    let documents = found(&stage.meili).await?;
    assert_eq!(documents.len(), 200, "an entry is there twice, or lost");
    assert_eq!(documents.into_iter().collect::<BTreeSet<_>>(), ids(1..=200));
    assert_eq!(stage.log.dead_letters().await?, 0);
    second.finish().await
}
