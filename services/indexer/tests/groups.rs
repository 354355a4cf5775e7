//! Several instances of the indexer: one works, the others stand by, and one of them
//! takes over.

mod support;

use castlog_indexer::{Config, rebuild, verify};
use castlog_log::lease::{self, Standing};
use castlog_projector::Progress;
use castlog_testkit::{Meilisearch, Service, until};
use serde_json::json;
use support::{PATIENCE, Stage, ended, title};

async fn works(indexer: &Service) -> anyhow::Result<()> {
    until("the indexer works", PATIENCE, || async {
        (indexer.health.is_ready() && !indexer.health.stands_by("indexer")).then_some(())
    })
    .await
}

async fn stands_by(indexer: &Service) -> anyhow::Result<()> {
    until("the indexer stands by, ready", PATIENCE, || async {
        (indexer.health.is_ready() && indexer.health.stands_by("indexer")).then_some(())
    })
    .await
}

async fn lease(stage: &Stage) -> anyhow::Result<Option<Standing>> {
    Ok(stage.log.log.lease_standing("indexer").await?)
}

/// Waits until the index of this configuration is what the log says.
async fn equal(stage: &Stage, config: &Config) -> anyhow::Result<()> {
    until("the index equals the log", PATIENCE, || async {
        let differences = verify(config, &stage.log.log).await.ok()?;
        differences.is_empty().then_some(())
    })
    .await
}

#[tokio::test]
async fn one_works_and_another_takes_over_what_a_killed_one_leaves() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    // Each with an index of its own, which shows who has written.
    let other = Meilisearch::start().await?;
    let standby = Config {
        meilisearch: castlog_meili::Config::new(&other.url(), other.master_key()),
        ..stage.config.clone()
    };
    let first = stage.start()?;
    works(&first).await?;
    let second = stage.start_another(standby.clone()).await?;
    stands_by(&second).await?;

    let (one, session) = stage.go_live("one", &["a"]).await?;
    let (two, _) = stage.go_live("two", &[]).await?;
    stage.found("", "", &[one, two]).await?;
    stage.verified().await?;
    assert!(other.indexes().await?.is_empty(), "the standby has written");
    assert!(second.health.stands_by("indexer"));

    first.kill().await;
    // Nobody works. What comes now is the other's.
    stage.say(one, ended(&session)).await?;
    stage.say(two, title("changed")).await?;
    let (three, _) = stage.go_live("three", &[]).await?;
    let left = stage.documents().await?;
    assert!(lease(&stage).await?.is_some_and(|lease| lease.holder.is_some()));
    works(&second).await?;
    equal(&stage, &standby).await?;
    let mut titles: Vec<_> = other.documents("broadcasts").await?;
    titles.sort_by_key(|document| document["title"].to_string());
    assert_eq!(
        titles.iter().map(|document| &document["title"]).collect::<Vec<_>>(),
        ["changed", "three"]
    );
    assert_eq!(stage.documents().await?, left, "the killed one has written");
    assert_eq!(stage.log.dead_letters().await?, 0);

    // It goes on as the only one.
    stage.say(three, title("drei")).await?;
    until("the change is found", PATIENCE, || async {
        let found = other.search("broadcasts", "drei", "").await.ok()?;
        (found.len() == 1).then_some(())
    })
    .await?;
    second.finish().await
}

#[tokio::test]
async fn an_orderly_end_lets_the_next_one_in_and_nothing_of_the_last_one_stays() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let first = stage.start()?;
    works(&first).await?;
    let second = stage.start_another(stage.config.clone()).await?;
    stands_by(&second).await?;
    let (one, _) = stage.go_live("one", &[]).await?;
    let (two, session) = stage.go_live("two", &[]).await?;
    stage.found("", "", &[one, two]).await?;

    let before = lease(&stage).await?.and_then(|lease| lease.holder);
    assert!(before.is_some());
    first.finish().await?;
    // Freed, or the next one's already: nobody waits until it has run out.
    let after = lease(&stage).await?.and_then(|lease| lease.holder);
    assert_ne!(after, before);
    works(&second).await?;
    equal(&stage, &stage.config).await?;

    // The next one is killed, and what it had sent before is done only now: a
    // document that is out of date, and one that is over.
    let third = stage.start_another(stage.config.clone()).await?;
    stands_by(&third).await?;
    let stale = stage.documents().await?;
    second.kill().await;
    stage.say(one, title("changed")).await?;
    stage.say(two, ended(&session)).await?;
    let index = stage.meili.client()?.index("broadcasts");
    stage.meili.done(index.add_or_replace(&stale, None).await?).await?;
    stage.found("changed", "", &[]).await?;
    assert!(stage.verified().await.is_err(), "nothing is there to mend");
    works(&third).await?;
    stage.found("changed", "", &[one]).await?;
    equal(&stage, &stage.config).await?;
    stage.found("", "", &[one]).await?;

    // A rebuild beside the one that works needs no lease.
    let planted = [json!({ "id": "planted", "title": "nobody's" })];
    stage.meili.done(index.add_or_replace(&planted, None).await?).await?;
    rebuild(&stage.config, &stage.log.log, &Progress::none()).await?;
    stage.verified().await?;
    stage.say(one, title("after")).await?;
    stage.found("after", "", &[one]).await?;
    third.finish().await
}

#[tokio::test]
async fn without_the_stream_of_the_leases_none_works_until_it_is_there() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    // As in a log that an older version has made.
    stage.log.log.jetstream().delete_stream(lease::STREAM).await?;
    let (one, _) = stage.go_live("one", &[]).await?;
    let indexer = stage.start()?;
    let early = tokio::time::timeout(std::time::Duration::from_secs(3), works(&indexer)).await;
    assert!(early.is_err() && !indexer.health.is_ready());
    assert!(stage.meili.indexes().await?.is_empty());
    castlog_log::provision::apply(&stage.log.log, castlog_log::provision::Plan::default()).await?;
    works(&indexer).await?;
    stage.found("", "", &[one]).await?;
    indexer.finish().await
}
