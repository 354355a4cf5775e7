//! Streams and consumers as data, against a real nats-server and the real `nats` command.

// The helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use async_nats::{HeaderMap, header::NATS_ROLLUP, jetstream::stream::Config};
use castlog_log::{
    BroadcastId, Draft, Kind, Log, pb,
    provision::{self, Plan, ProvisionError},
};
use castlog_testkit::{NatsOptions, NatsServer, TestLog, tools};

const CHECK: Plan = Plan {
    check: true,
    allow_destructive: false,
    replicas: 1,
};
/// The streams that must never lose an entry.
const TRUTH: [&str; 2] = ["BROAD_INFO", "LIVE_STREAM"];

async fn start() -> anyhow::Result<TestLog> {
    TestLog::start(NatsOptions::default().lazy_sync()).await
}

/// The definitions in a folder, with their names.
fn definitions(folder: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    found.sort();
    found
}

fn nats(server: &NatsServer, args: &[&str], config: &Path) {
    let output = Command::new(tools::nats().unwrap())
        .args(["--server", &server.url()])
        .args(args)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn the_nats_command_makes_the_same_of_the_files() -> anyhow::Result<()> {
    let server = NatsServer::start_with(NatsOptions::default().lazy_sync()).await?;
    let folder = tools::workspace().join("jetstream");
    for (stream, file) in definitions(&folder.join("streams")) {
        nats(&server, &["stream", "add", &stream], &file);
    }
    for (stream, consumers) in definitions(&folder.join("consumers")) {
        for (consumer, file) in definitions(&consumers) {
            nats(&server, &["consumer", "add", &stream, &consumer], &file);
        }
    }
    let operator = server.log_of("castlog").await?;
    assert_eq!(provision::apply(&operator, CHECK).await?, []);
    Ok(())
}

async fn age(log: &Log, stream: &str, age: Duration) -> anyhow::Result<()> {
    let mut config = log.jetstream().get_stream(stream).await?.cached_info().config.clone();
    config.max_age = age;
    log.jetstream().update_stream(config).await?;
    Ok(())
}

#[tokio::test]
async fn what_can_lose_entries_is_refused_before_anything_changes() -> anyhow::Result<()> {
    let test = start().await?;
    let day = Duration::from_secs(24 * 3600);
    // Two that would shrink, and one that would grow.
    age(&test.log, "LIVE_SEGMENT", 60 * day).await?;
    age(&test.log, "DEAD_LETTER", 90 * day).await?;
    age(&test.log, "LIVE_STREAM", 300 * day).await?;
    let lines = |changes: Vec<provision::Change>| -> Vec<String> {
        let line = |change: provision::Change| format!("{}: {}", change.name, change.lines.join("; "));
        changes.into_iter().map(line).collect()
    };
    let all = [
        "LIVE_STREAM: max_age: 300d -> 400d",
        "LIVE_SEGMENT: max_age: 60d -> 30d (can lose entries)",
        "DEAD_LETTER: max_age: 90d -> 30d (can lose entries)",
    ];
    assert_eq!(lines(provision::apply(&test.log, CHECK).await?), all);
    let refused = provision::apply(&test.log, Plan::default()).await;
    assert!(
        matches!(&refused, Err(ProvisionError::Destructive { changes })
            if changes == "LIVE_SEGMENT (max_age), DEAD_LETTER (max_age)"),
        "{refused:?}"
    );
    assert_eq!(
        lines(provision::apply(&test.log, CHECK).await?),
        all,
        "nothing has changed"
    );
    let forced = Plan {
        allow_destructive: true,
        ..Plan::default()
    };
    assert_eq!(lines(provision::apply(&test.log, forced).await?), all);
    assert_eq!(provision::apply(&test.log, CHECK).await?, []);
    Ok(())
}

#[tokio::test]
async fn what_somebody_added_is_drift() -> anyhow::Result<()> {
    let test = start().await?;
    let stream = test.log.jetstream().get_stream("LIVE_TELEMETRY").await?;
    let config = Config {
        republish: Some(async_nats::jetstream::stream::Republish {
            source: ">".to_owned(),
            destination: "elsewhere.>".to_owned(),
            headers_only: false,
        }),
        ..stream.cached_info().config.clone()
    };
    test.log.jetstream().update_stream(config).await?;
    let drift = provision::apply(&test.log, CHECK).await?;
    assert!(
        drift.len() == 1 && drift[0].lines[0].starts_with("republish: "),
        "{drift:?}"
    );
    provision::apply(&test.log, Plan::default()).await?;
    assert_eq!(provision::apply(&test.log, CHECK).await?, []);
    Ok(())
}

#[tokio::test]
async fn the_truth_loses_no_entry_to_anybody() -> anyhow::Result<()> {
    let test = start().await?;
    let broadcast = BroadcastId::generate();
    let session = pb::status::Session::default();
    test.publisher
        .publish(Draft::new(
            broadcast,
            pb::Status {
                event: Some(pb::status::Event::Started(pb::status::Started {
                    session: Some(session),
                })),
            },
        ))
        .await?;
    let title = pb::Title {
        event: Some(pb::title::Event::Changed(pb::title::Changed { title: "x".to_owned() })),
    };
    test.publisher.publish(Draft::new(broadcast, title)).await?;

    // As one who may do everything.
    for (name, kind) in TRUTH.into_iter().zip([Kind::Title, Kind::Status]) {
        let stream = test.log.jetstream().get_stream(name).await?;
        assert!(stream.purge().await.is_err(), "{name} is purged");
        assert!(stream.delete_message(1).await.is_err(), "{name} loses a message");
        let mut rollup = HeaderMap::new();
        rollup.insert(NATS_ROLLUP, "sub");
        let subject = kind.of(broadcast).to_string();
        let published = test.log.jetstream().publish_with_headers(subject, rollup, "x".into());
        let rolled = published.await?.await;
        assert!(rolled.is_err(), "{name} takes a rollup: {rolled:?}");
        for lift in [
            Config {
                deny_delete: false,
                ..stream.cached_info().config.clone()
            },
            Config {
                deny_purge: false,
                ..stream.cached_info().config.clone()
            },
        ] {
            let lifted = test.log.jetstream().update_stream(lift).await;
            assert!(lifted.is_err(), "{name} can be made to lose entries");
        }
        let messages = test
            .log
            .jetstream()
            .get_stream(name)
            .await?
            .cached_info()
            .state
            .messages;
        assert_eq!(messages, 1, "{name}");
    }
    // The stream itself is for nobody to delete, the operator included.
    let operator = test.nats.log_of("castlog").await?;
    for name in TRUTH {
        let request = format!("$JS.API.STREAM.DELETE.{name}");
        let delete = operator.jetstream().delete_stream(name);
        assert!(
            operator.unless_refused(&request, delete).await.is_err(),
            "{name} is deleted"
        );
    }
    Ok(())
}
