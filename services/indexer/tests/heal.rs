//! Whatever happens to the index or to Meilisearch, the index ends up as the log says.

mod support;

use castlog_indexer::{Config, rebuild, verify};
use castlog_projector::Progress;
use castlog_testkit::until;
use meilisearch_sdk::{client::SwapIndexes, settings::Settings};
use serde_json::json;
use support::{PATIENCE, Stage, ended, title};

#[tokio::test]
async fn an_index_is_rebuilt_from_the_log_alone() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let indexer = stage.start()?;
    let (one, _) = stage.go_live("one", &["a"]).await?;
    let (two, _) = stage.go_live("two", &["b"]).await?;
    let (three, _) = stage.go_live("three", &["c"]).await?;
    until("the index equals the log", PATIENCE, || async {
        stage.verified().await.ok()
    })
    .await?;
    stage.found("", "", &[one, two, three]).await?;
    indexer.finish().await?;
    let wanted = stage.documents().await?;
    assert_eq!(wanted.len(), 3);

    // Without an index, and with one.
    let client = stage.meili.client()?;
    stage.meili.done(client.delete_index("broadcasts").await?).await?;
    for _ in 0..2 {
        let report = rebuild(&stage.config, &stage.log.log, &Progress::none()).await?;
        assert_eq!(report.documents, 3);
        assert_eq!(stage.documents().await?, wanted);
        stage.verified().await?;
    }
    assert_eq!(stage.meili.indexes().await?, ["broadcasts"]);
    Ok(())
}

#[tokio::test]
async fn a_rebuild_beside_a_running_indexer_loses_nothing() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let indexer = stage.start()?;
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(stage.go_live(&format!("number {n}"), &[]).await?);
    }
    let change = async {
        for n in 0..40 {
            for (id, _) in &ids {
                stage.say(*id, title(&format!("changed {n}"))).await?;
            }
        }
        let (id, session) = &ids[0];
        stage.say(*id, ended(session)).await
    };
    let (changed, built) = tokio::join!(change, async {
        rebuild(&stage.config, &stage.log.log, &Progress::none()).await?;
        rebuild(&stage.config, &stage.log.log, &Progress::none()).await
    });
    changed?;
    built?;
    let live: Vec<_> = ids[1..].iter().map(|(id, _)| *id).collect();
    stage.found("\"changed 39\"", "", &live).await?;
    until("the index equals the log", PATIENCE, || async {
        stage.verified().await.ok()
    })
    .await?;
    indexer.finish().await
}

#[tokio::test]
async fn verify_names_what_differs_and_the_sweep_mends_it() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let lines = verify(&stage.config, &stage.log.log).await?;
    assert_eq!(lines, ["index broadcasts: it is not there"]);
    let (one, _) = stage.go_live("one", &["a"]).await?;
    let (two, session) = stage.go_live("two", &["b"]).await?;
    let (three, _) = stage.go_live("three", &["c"]).await?;
    rebuild(&stage.config, &stage.log.log, &Progress::none()).await?;
    stage.verified().await?;

    let client = stage.meili.client()?;
    let index = client.index("broadcasts");
    let planted = [
        json!({ "id": one, "title": "wrong" }),
        json!({ "id": "planted", "title": "nobody's" }),
    ];
    stage.meili.done(index.add_or_update(&planted, None).await?).await?;
    stage.meili.done(index.delete_document(three).await?).await?;
    stage
        .meili
        .done(
            index
                .set_settings(&Settings::new().with_sortable_attributes(["viewers"]))
                .await?,
        )
        .await?;
    stage.say(two, ended(&session)).await?;
    let mut lines = verify(&stage.config, &stage.log.log).await?;
    lines.sort();
    let mut wanted = [
        format!("{one}: title is \"wrong\" and should be \"one\""),
        format!("{two}: in the index, and not live and public"),
        format!("{three}: live and public, and not in the index"),
        "index broadcasts: the setting sortableAttributes differs".to_owned(),
        "planted: in the index, and not live and public".to_owned(),
    ];
    wanted.sort();
    assert_eq!(lines, wanted);

    let indexer = stage.start_with(Config {
        sweep_s: 1,
        ..stage.config.clone()
    })?;
    until("the first sweep", PATIENCE, || async { stage.verified().await.ok() }).await?;
    // The index goes away under a running indexer.
    stage.meili.done(client.delete_index("broadcasts").await?).await?;
    until("the index is back", PATIENCE, || async { stage.verified().await.ok() }).await?;
    stage.found("thre", "tags = c", &[three]).await?;
    indexer.finish().await
}

#[tokio::test]
async fn nothing_is_lost_while_meilisearch_is_down() -> anyhow::Result<()> {
    let mut stage = Stage::build().await?;
    let indexer = stage.start()?;
    let (one, _) = stage.go_live("before", &[]).await?;
    let (two, session) = stage.go_live("ends meanwhile", &[]).await?;
    stage.found("", "", &[one, two]).await?;
    stage.meili.kill9();
    stage.say(one, title("meanwhile")).await?;
    stage.say(two, ended(&session)).await?;
    let (three, _) = stage.go_live("new", &[]).await?;
    stage.meili.restart().await?;
    stage.found("", "", &[one, three]).await?;
    stage.found("meanwhile", "", &[one]).await?;
    stage.verified().await?;
    assert_eq!(stage.log.dead_letters().await?, 0);
    indexer.finish().await
}

#[tokio::test]
async fn verify_looks_at_the_index_that_is_searched() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    stage.go_live("one", &[]).await?;
    rebuild(&stage.config, &stage.log.log, &Progress::none()).await?;
    let client = stage.meili.client()?;
    stage
        .meili
        .done(client.create_index("other", Some("id")).await?)
        .await?;
    let swap = SwapIndexes {
        indexes: ("broadcasts".into(), "other".into()),
        rename: None,
    };
    stage.meili.done(client.swap_indexes([&swap]).await?).await?;
    assert!(!verify(&stage.config, &stage.log.log).await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_end_does_not_wait_for_meilisearch() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let indexer = stage.start()?;
    let (one, _) = stage.go_live("one", &[]).await?;
    stage.found("one", "", &[one]).await?;
    // It keeps its connections and answers nothing.
    stage.meili.process().pause()?;
    stage.say(one, title("two")).await?;
    // Above the indexer's grace of 5 s, below the 15 s after which a request is
    // given up: an end that waits for the answer is caught.
    tokio::time::timeout(std::time::Duration::from_secs(12), indexer.finish()).await??;
    stage.meili.process().resume()?;
    let indexer = stage.start()?;
    stage.found("two", "", &[one]).await?;
    indexer.finish().await
}
