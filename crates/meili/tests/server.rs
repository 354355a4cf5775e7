//! The client against a real Meilisearch.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use castlog_meili::{Config, Error, Meili, differing};
use castlog_testkit::{Meilisearch, until};
use meilisearch_sdk::{settings::Settings, tasks::Task};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);

fn client(server: &Meilisearch) -> anyhow::Result<Meili> {
    Ok(Meili::new(&Config::new(&server.url(), server.master_key()))?)
}

fn documents(count: usize) -> Vec<Value> {
    (0..count).map(|n| json!({ "id": format!("d{n}") })).collect()
}

fn id(document: &Value) -> String {
    document["id"].to_string()
}

fn settings() -> Settings {
    Settings::new()
        .with_filterable_attributes(["tags"])
        .with_sortable_attributes(["n"])
}

#[tokio::test]
async fn the_document_to_blame_is_found() -> anyhow::Result<()> {
    let server = Meilisearch::start().await?;
    let meili = client(&server)?;
    for place in [0, 6, 9] {
        let mut documents = documents(10);
        documents[place]["id"] = json!("not an id");
        match meili.put("x", &documents, id).await {
            Err(Error::Refused { id, .. }) => assert_eq!(id, "\"not an id\""),
            other => anyhow::bail!("{other:?}"),
        }
        documents.remove(place);
        meili.put("x", &documents, id).await?;
        assert_eq!(server.documents("x").await?.len(), 9);
        meili.delete_index("x").await?;
    }
    meili.put("x", &[], id).await?;
    assert!(server.indexes().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_server_that_fails_and_a_request_that_is_wrong_are_told_apart() -> anyhow::Result<()> {
    let mut server = Meilisearch::start().await?;
    let meili = client(&server)?;
    let settings_of = |meili: Meili| async move { meili.call("x", meili.index("x").get_settings()).await.map(drop) };
    assert!(settings_of(meili.clone()).await.is_err_and(|e| e.is_missing_index()));
    meili.delete_index("x").await?;

    // The key, and an index whose documents are known by another attribute.
    let stranger = Meili::new(&Config::new(&server.url(), "not-the-key-of-this-server"))?;
    let refused = stranger.put("x", &documents(1), id).await;
    assert!(matches!(refused, Err(Error::Config { .. })), "{refused:?}");
    meili
        .write("other", meili.client().create_index("other", Some("name")))
        .await?;
    let refused = meili.put("other", &documents(2), id).await;
    assert!(matches!(refused, Err(Error::Config { .. })), "{refused:?}");

    // A server that hears nothing, one that takes too long, and none.
    server.process().pause()?;
    let hurried = meili.clone().with_request_limit(Duration::from_millis(200));
    let timeout = hurried.put("x", &documents(1), id).await;
    assert!(matches!(timeout, Err(Error::Transient { .. })), "{timeout:?}");
    server.process().resume()?;
    let hurried = meili.clone().with_task_limit(Duration::ZERO);
    let timeout = hurried.put("y", &documents(20_000), id).await;
    assert!(matches!(timeout, Err(Error::Transient { .. })), "{timeout:?}");
    until("the write that was given up is made", PATIENCE, || async {
        (server.documents("y").await.ok()?.len() == 20_000).then_some(())
    })
    .await?;
    server.kill9();
    let nobody = meili.put("x", &documents(1), id).await;
    assert!(matches!(nobody, Err(Error::Transient { .. })), "{nobody:?}");
    Ok(())
}

#[tokio::test]
async fn an_index_has_its_settings_from_its_first_moment() -> anyhow::Result<()> {
    let server = Meilisearch::start().await?;
    let meili = client(&server)?;
    // Several make it at once, and whenever there is an index, it can be filtered and sorted.
    let searches = async {
        until("a search succeeds", PATIENCE, || async {
            let index = meili.index("x");
            let mut search = index.search();
            search.with_filter("tags = a").with_sort(&["n:asc"]);
            match meili.call("x", search.execute::<Value>()).await {
                Err(error) if error.is_missing_index() => None,
                outcome => Some(outcome.map(|found| found.hits.len())),
            }
        })
        .await
    };
    let settings = settings();
    let ensure = || meili.ensure("x", &settings);
    let (found, one, two, three) = tokio::join!(searches, ensure(), ensure(), ensure());
    assert_eq!(found??, 0);
    let there = [one?, two?, three?];
    assert!(there.contains(&false), "{there:?}");
    assert_eq!(server.indexes().await?, ["x"]);
    assert!(meili.ensure("x", &settings).await?);
    meili.put("x", &documents(3), id).await?;

    // What somebody has changed is set again, and the documents stay.
    let other = Settings::new().with_sortable_attributes(["m"]);
    meili.write("x", meili.index("x").set_settings(&other)).await?;
    assert!(!meili.ensure("x", &settings).await?);
    let actual = meili.call("x", meili.index("x").get_settings()).await?;
    assert!(differing(&settings, &actual).is_empty());
    assert_eq!(server.documents("x").await?.len(), 3);
    Ok(())
}

#[tokio::test]
async fn what_others_asked_for_before_is_waited_for() -> anyhow::Result<()> {
    let server = Meilisearch::start().await?;
    let (meili, other) = (client(&server)?, client(&server)?);
    meili.settled("y").await?;
    assert!(server.indexes().await?.is_empty(), "it makes nothing");
    // Another writer, which does not wait for what it has asked for.
    let index = other.index("y");
    index.add_or_replace(&documents(20_000), Some("id")).await?;
    // A setting in between, with which it is not all done in one go.
    index.set_settings(&settings()).await?;
    let last = index
        .add_or_replace(&[json!({ "id": "d1", "last": true })], Some("id"))
        .await?;
    let is_open = async || {
        let task = meili.client().get_task(&last).await;
        task.map(|task| matches!(task, Task::Enqueued { .. } | Task::Processing { .. }))
    };
    assert!(is_open().await?, "there is something to wait for");
    meili.settled("y").await?;
    assert!(!is_open().await?);
    let documents = server.documents("y").await?;
    assert_eq!(documents.len(), 20_000);
    assert!(documents.iter().any(|document| document["last"] == true));
    Ok(())
}

#[tokio::test]
async fn who_may_not_write_does_not() -> anyhow::Result<()> {
    let server = Meilisearch::start().await?;
    let may = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&may);
    let meili = client(&server)?.fenced(move || asked.load(Ordering::SeqCst));
    meili.put("x", &documents(1), id).await?;
    may.store(false, Ordering::SeqCst);
    let refused = [
        meili.put("x", &documents(2), id).await,
        meili.delete_index("x").await,
        meili.ensure("z", &settings()).await.map(drop),
        meili.settled("x").await,
    ];
    for refused in refused {
        assert!(matches!(refused, Err(Error::Transient { .. })), "{refused:?}");
    }
    assert_eq!(server.documents("x").await?.len(), 1);
    assert_eq!(server.indexes().await?, ["x"]);
    may.store(true, Ordering::SeqCst);
    meili.put("x", &documents(2), id).await?;
    assert_eq!(server.documents("x").await?.len(), 2);
    Ok(())
}
