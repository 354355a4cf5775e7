//! Every entry is found, once, whatever happens to Meilisearch.

mod support;

use castlog_log::{BroadcastId, Draft, Event, Kind};
use castlog_log_sink::Config;
use castlog_testkit::{events::every_event, until};
use chrono::{Days, Utc};
use meilisearch_sdk::settings::Settings;
use serde_json::{Value, json};
use support::{PATIENCE, Stage, title};

#[tokio::test]
async fn every_event_is_found() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let sink = stage.start(stage.config.clone())?;
    let id = BroadcastId::generate();
    for event in every_event() {
        stage.log.publisher.publish(Draft::new(id, event)).await?;
    }
    let attempt = castlog_log::pb::Auth {
        event: Some(castlog_log::pb::auth::Event::Rejected(
            castlog_log::pb::auth::Rejected {
                code: "R01".into(),
                reason: "unknown key".into(),
                ..Default::default()
            },
        )),
    };
    stage.log.publisher.publish(Draft::unknown_auth(attempt)).await?;

    let documents = stage.documents(every_event().len() + 1).await?;
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Part) {
        let found = documents
            .iter()
            .filter(|d| d["kind"] == kind.token() && d["class"] == kind.class())
            .count();
        let attempts = usize::from(kind == Kind::Auth);
        assert_eq!(found, Event::names(kind).len() + attempts, "{kind}");
    }
    let today = Utc::now().format("%Y-%m-%d");
    assert_eq!(
        stage.meili.indexes().await?,
        [format!("log-broad_info-{today}"), format!("log-live_stream-{today}")]
    );
    let titles = stage
        .meili
        .search(&format!("log-broad_info-{today}"), "랭크", "kind = title")
        .await?;
    assert_eq!(titles.len(), 1);
    let wanted = json!({ "changed": { "title": "롤 랭크" } });
    assert_eq!((&titles[0]["data"], &titles[0]["broadcast_id"]), (&wanted, &json!(id)));
    assert_eq!(titles[0]["id"], format!("BROAD_INFO-{}", titles[0]["seq"]));
    let index = format!("log-live_stream-{today}");
    let unknown = stage.meili.search(&index, "R01", "broadcast_id IS NULL").await?;
    assert_eq!(unknown[0]["subject"], "media.live_stream.auth.unknown");
    let of_broadcast = stage
        .meili
        .search(
            &index,
            "",
            &format!("broadcast_id = {id} AND type = castlog.live_stream.status.started"),
        )
        .await?;
    assert_eq!(of_broadcast.len(), 1);
    let index = stage.meili.client()?.index(&index);
    let mut search = index.search();
    search.with_sort(&["seq:desc", "time_ms:asc"]);
    assert_eq!(search.execute::<Value>().await?.hits.len(), 11);
    assert!(sink.health.is_ready());
    sink.finish().await
}

#[tokio::test]
async fn redelivery_and_what_is_no_entry() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let sink = stage.start(stage.config.clone())?;
    let id = BroadcastId::generate();
    stage.log.publisher.publish(Draft::new(id, title("one"))).await?;
    stage.log.publish_garbage(Kind::Title.of(id)).await?;
    stage.log.publisher.publish(Draft::new(id, title("two"))).await?;
    let wanted = stage.documents(2).await?;
    until("the dead letter", PATIENCE, || async {
        (stage.log.dead_letters().await.ok()? == 1).then_some(())
    })
    .await?;
    sink.finish().await?;

    // A consumer that is made anew delivers everything again.
    stage.log.redeliver("BROAD_INFO", "log_sink").await?;
    let sink = stage.start(stage.config.clone())?;
    stage.log.publisher.publish(Draft::new(id, title("three"))).await?;
    let documents = stage.documents(3).await?;
    assert_eq!(documents[..2], wanted[..]);
    sink.finish().await
}

#[tokio::test]
async fn what_a_newer_producer_says_stops_nothing() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    // However long ago it says that was.
    let sink = stage.start(Config {
        retention_days: 0,
        ..stage.config.clone()
    })?;
    let id = BroadcastId::generate();
    // Member 90 of the oneof of each kind, which this schema does not have.
    let kinds: Vec<Kind> = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Part).collect();
    for kind in &kinds {
        stage
            .log
            .publish_payload(kind.of(id), &[0xd2, 0x05, 2, 0x08, 1])
            .await?;
    }
    stage.log.publisher.publish(Draft::new(id, title("known"))).await?;
    let documents = stage.documents(kinds.len() + 1).await?;
    let known = documents
        .iter()
        .filter(|document| document["data"] != json!({}))
        .count();
    assert_eq!((documents.len(), known), (kinds.len() + 1, 1));
    assert_eq!(stage.log.dead_letters().await?, 0);
    sink.finish().await
}

#[tokio::test]
async fn nothing_is_lost_while_meilisearch_is_down() -> anyhow::Result<()> {
    let mut stage = Stage::build().await?;
    let sink = stage.start(stage.config.clone())?;
    let id = BroadcastId::generate();
    for n in 0..1500 {
        stage
            .log
            .publisher
            .publish(Draft::new(id, title(&format!("title {n}"))))
            .await?;
        match n {
            300 => {
                stage.documents(1).await?;
                stage.meili.kill9();
            }
            900 => stage.meili.restart().await?,
            _ => {}
        }
    }
    assert_eq!(stage.documents(1500).await?.len(), 1500);
    assert_eq!(stage.log.dead_letters().await?, 0);
    sink.finish().await
}

#[tokio::test]
async fn indexes_past_the_retention_are_dropped() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let day = |age| {
        Utc::now()
            .checked_sub_days(Days::new(age))
            .map(|time| time.format("%Y-%m-%d").to_string())
    };
    let name = |age| day(age).map(|day| format!("log-broad_info-{day}")).unwrap_or_default();
    // Another's index is none of the sink's business, however old it looks.
    let other = "log-other-2001-01-01".to_owned();
    for index in [name(3), name(2), other.clone()] {
        let task = stage
            .meili
            .client()?
            .index(index)
            .set_settings(&Settings::new())
            .await?;
        stage.meili.done(task).await?;
    }
    let sink = stage.start(Config {
        retention_days: 2,
        ..stage.config.clone()
    })?;
    let id = BroadcastId::generate();
    for age in [3, 1] {
        let time = Utc::now().checked_sub_days(Days::new(age)).unwrap_or_default();
        stage
            .log
            .publisher
            .publish(Draft::new(id, title("old")).time(time))
            .await?;
    }
    let mut wanted = vec![name(2), name(1), other];
    wanted.sort();
    until("old indexes are dropped", PATIENCE, || async {
        (stage.meili.indexes().await.ok()? == wanted).then_some(())
    })
    .await?;
    sink.finish().await
}
