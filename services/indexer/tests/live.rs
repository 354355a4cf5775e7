//! What is live and public is found, by everything that it is found by; the rest is not.

mod support;

use castlog_indexer::{Config, rebuild};
use castlog_log::{BroadcastId, Draft, Kind, pb};
use castlog_projector::Progress;
use castlog_testkit::{events::counted, until};
use serde_json::json;
use support::{PATIENCE, Stage, deleted, ended, interrupted, metadata, options, started, title};

#[tokio::test]
async fn a_broadcast_is_found_while_it_is_live_and_public() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let indexer = stage.start()?;
    let (one, session) = stage.go_live("롤 랭크 게임 방송", &["lol", "ranked"]).await?;
    let (two, _) = stage.go_live("Elden Ring speedrun", &["speedrun"]).await?;

    stage.found("", "", &[one, two]).await?;
    stage.found("랭크", "", &[one]).await?;
    stage.found("speedrn", "", &[two]).await?;
    stage.found("", "tags = ranked", &[one]).await?;
    stage.found("", "resolutions = 1080", &[one, two]).await?;
    stage.found("", "resolutions = 360", &[]).await?;
    stage
        .found(
            "ann",
            "category = game AND language = ko AND frame_rate = 60",
            &[one, two],
        )
        .await?;
    assert!(indexer.health.is_ready());
    let document = stage.documents().await?.remove(0);
    assert_eq!(
        document,
        json!({
            "id": one, "title": "롤 랭크 게임 방송", "tags": ["lol", "ranked"], "owner": "ann", "category": "game",
            "language": "ko", "resolutions": [1080, 720, 480], "frame_rate": 60, "viewers": 0,
            "started_at": 1_700_000_000_000_i64, "started_at_text": "2023-11-14T22:13:20.000Z",
        })
    );

    stage.say(one, title("<b>live</b> R&B")).await?;
    stage.found("live", "", &[one]).await?;
    stage.found("r&b", "", &[one]).await?;
    stage.say(one, title("칼바람")).await?;
    stage.found("칼바람", "", &[one]).await?;
    stage.found("랭크", "", &[]).await?;
    stage.say(one, metadata(&session, &[360])).await?;
    stage.found("", "resolutions = 360", &[one]).await?;
    stage.found("", "resolutions = 1080", &[two]).await?;

    stage.say(one, options(pb::Visibility::Private)).await?;
    stage.found("", "", &[two]).await?;
    stage.say(one, options(pb::Visibility::Public)).await?;
    stage.found("", "", &[one, two]).await?;
    stage.say(one, interrupted(&session)).await?;
    stage.say(two, deleted()).await?;
    stage.found("", "", &[one]).await?;
    stage.say(one, ended(&session)).await?;
    stage.found("", "", &[]).await?;

    // Another session has other renditions.
    stage.say(one, started("s2")).await?;
    stage.found("", "", &[one]).await?;
    stage.found("", "resolutions = 360", &[]).await?;
    stage.verified().await?;
    indexer.finish().await
}

#[tokio::test]
async fn duplicates_redelivery_and_what_is_no_entry_change_nothing() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let indexer = stage.start()?;
    let (one, _) = stage.go_live("first", &[]).await?;
    stage.found("first", "", &[one]).await?;
    for _ in 0..2 {
        stage
            .log
            .publisher
            .publish(Draft::new(one, title("second")).id("same"))
            .await?;
    }
    stage.found("second", "", &[one]).await?;
    indexer.finish().await?;

    // A consumer that is made anew delivers everything again.
    for stream in ["BROAD_INFO", "LIVE_STREAM"] {
        stage.log.redeliver(stream, "indexer").await?;
    }
    stage.log.publish_garbage(Kind::Title.of(one)).await?;
    let indexer = stage.start()?;
    until("the dead letter", PATIENCE, || async {
        (stage.log.dead_letters().await.ok()? == 1).then_some(())
    })
    .await?;

    // The broadcast stays, and what comes behind is applied.
    stage.say(one, title("third")).await?;
    stage.found("third", "", &[one]).await?;
    assert_eq!(stage.log.dead_letters().await?, 1);
    stage.verified().await?;
    indexer.finish().await
}

#[tokio::test]
async fn viewers_of_all_edges_are_what_a_search_sorts_by() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let config = Config {
        sweep_s: 1,
        ..stage.config.clone()
    };
    let indexer = stage.start_with(config)?;
    let (one, session) = stage.go_live("one", &[]).await?;
    let (two, _) = stage.go_live("two", &[]).await?;
    let (hidden, _) = stage.go_live("hidden", &[]).await?;
    stage.say(hidden, options(pb::Visibility::Private)).await?;
    stage.found("", "", &[one, two]).await?;
    let counts = [
        (one, "a", 3),
        (one, "b", 4),
        (two, "a", 1),
        (hidden, "a", 9),
        (one, "a", 2),
    ];
    for (id, edge, concurrent) in counts {
        stage.say(id, counted(edge, concurrent)).await?;
    }
    stage.watched(&[(one, 6), (two, 1)]).await?;
    // The count is no difference from the log.
    stage.verified().await?;
    // Another process that builds the index anew knows no counts.
    rebuild(&stage.config, &stage.log.log, &Progress::none()).await?;
    stage.say(one, counted("a", 2)).await?;
    stage.watched(&[(one, 6), (two, 1)]).await?;
    // What is off the air stays so, whoever still counts.
    stage.say(one, ended(&session)).await?;
    stage.found("", "", &[two]).await?;
    stage.say(one, counted("a", 7)).await?;
    stage.say(two, counted("a", 0)).await?;
    stage.watched(&[(two, 0)]).await?;
    indexer.finish().await
}

/// Member 90 of the oneof of each kind, which this schema does not have.
const NEWER: [u8; 5] = [0xd2, 0x05, 2, 0x08, 1];

#[tokio::test]
async fn what_a_newer_producer_says_stops_and_changes_nothing() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let indexer = stage.start()?;
    let (one, _) = stage.go_live("one", &["a"]).await?;
    let (two, _) = stage.go_live("two", &[]).await?;
    let (hidden, _) = stage.go_live("hidden", &[]).await?;
    stage.say(hidden, options(pb::Visibility::Private)).await?;
    stage.found("", "", &[one, two]).await?;
    let before = stage.documents().await?;
    // Twice each, so that what was said before is not the last but one.
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::Part) {
        for id in [one, hidden, one, hidden] {
            stage.log.publish_payload(kind.of(id), &NEWER).await?;
        }
    }
    // Of this one there is nothing else: it may be private, so it is not shown.
    let unheard = BroadcastId::generate();
    stage.log.publish_payload(Kind::Options.of(unheard), &NEWER).await?;
    stage.say(unheard, started("s")).await?;
    stage.say(two, title("still indexed")).await?;
    stage.found("still", "", &[two]).await?;
    stage.found("", "", &[one, two]).await?;
    assert_eq!(stage.log.dead_letters().await?, 0);
    stage.verified().await?;
    assert!(
        stage
            .documents()
            .await?
            .iter()
            .any(|document| before.contains(document))
    );

    // An index that is made anew from the last entries of all is the same.
    rebuild(&stage.config, &stage.log.log, &Progress::none()).await?;
    assert!(
        stage
            .documents()
            .await?
            .iter()
            .any(|document| before.contains(document))
    );
    stage.found("", "", &[one, two]).await?;

    // And what can be read counts again.
    stage.say(one, title("known")).await?;
    stage.found("known", "tags = a", &[one]).await?;
    indexer.finish().await
}
