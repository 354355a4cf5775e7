//! An indexer that says it is ready has an index that can be searched as documented.

mod support;

use std::time::Duration;

use castlog_testkit::until;
use support::{PATIENCE, Stage};

#[tokio::test]
async fn it_is_ready_when_its_index_can_be_searched_and_not_before() -> anyhow::Result<()> {
    let mut stage = Stage::build().await?;
    let (one, _) = stage.go_live("one", &["a"]).await?;
    stage.meili.kill9();
    let indexer = stage.start()?;
    // Without Meilisearch it waits, ready for nothing: a first attempt and more have failed by then.
    until("the index is waited for", PATIENCE, || async {
        (indexer.health.parts().get("index") == Some(&false)).then_some(())
    })
    .await?;
    let early = until("it is ready without an index", Duration::from_secs(2), || async {
        indexer.health.is_ready().then_some(())
    });
    assert!(early.await.is_err());

    stage.meili.restart().await?;
    let ready = || async { indexer.health.is_ready().then_some(()) };
    until("the indexer is ready", PATIENCE, ready).await?;
    // All facets and sorts work at once, also when nothing is live yet.
    stage
        .meili
        .search("broadcasts", "", "tags = a AND resolutions = 1080")
        .await?;
    stage.found("", "tags = a", &[one]).await?;
    indexer.finish().await?;

    // An end before Meilisearch is there is in order, too.
    stage.meili.kill9();
    let indexer = stage.start()?;
    tokio::time::timeout(Duration::from_secs(10), indexer.finish()).await?
}
