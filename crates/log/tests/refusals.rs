//! Everything that the log refuses, or that is in it and is no entry, is told by
//! a code, and docs/error-codes.md says what it means.

// The helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use async_nats::{HeaderMap, jetstream::context::PublishErrorKind};
use castlog_log::{
    BroadcastId, Draft, Kind, PublishError, Publisher, Subject, header,
    provision::{self, Plan},
};
use castlog_testkit::{NatsOptions, TestLog, events::title};

const DOCUMENTED: &str = include_str!("../../../docs/error-codes.md");

/// What a reader says of a message: the code and the whole text.
async fn said_of(test: &TestLog, subject: &str, headers: HeaderMap, payload: &str) -> anyhow::Result<String> {
    let jetstream = test.log.jetstream();
    jetstream
        .publish_with_headers(subject.to_owned(), headers, payload.to_owned().into())
        .await?
        .await?;
    let mut durable = test.log.durable("BROAD_INFO", "indexer", 1);
    let delivery = durable.next().await?;
    let error = delivery.entry.as_ref().unwrap_err().error.to_string();
    delivery.ack().await?;
    Ok(error)
}

/// The headers of an entry.
fn envelope(subject: Subject) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (header::SPEC_VERSION, "1.0"),
        (header::ID, "an-id"),
        (header::TYPE, "castlog.broad_info.title.changed"),
        (header::SOURCE, "castlog/test"),
        (header::TIME, "2026-01-31T12:00:00Z"),
        (header::SUBJECT, &subject.broadcast.unwrap().to_string()),
    ] {
        headers.insert(name, value);
    }
    headers
}

#[tokio::test]
async fn a_message_that_is_no_entry_is_told_why() -> anyhow::Result<()> {
    let test = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    let id = BroadcastId::generate();
    let subject = Kind::Title.of(id);
    let without = |name: &str| {
        let mut headers = HeaderMap::new();
        for (kept, values) in envelope(subject).iter().filter(|(kept, _)| kept.to_string() != name) {
            for value in values {
                headers.append(kept.clone(), value.clone());
            }
        }
        headers
    };
    let with = |name: &str, value: &str| {
        let mut headers = envelope(subject);
        headers.insert(name, value);
        headers
    };
    let good = subject.to_string();
    let cases = [
        ("L05", format!("media.broad_info.colour.{id}"), envelope(subject), ""),
        ("L05", format!("media.broad_info.status.{id}"), envelope(subject), ""),
        ("L05", format!("media.broad_info.title.{id}.x"), envelope(subject), ""),
        (
            "L05",
            "media.broad_info.title.unknown".to_owned(),
            envelope(subject),
            "",
        ),
        (
            "L05",
            format!("media.broad_info.title.{id}")
                .to_uppercase()
                .replace("MEDIA.BROAD_INFO.TITLE", "media.broad_info.title"),
            envelope(subject),
            "",
        ),
        ("L06", good.clone(), HeaderMap::new(), ""),
        ("L06", good.clone(), without(header::ID), ""),
        ("L06", good.clone(), without(header::SOURCE), ""),
        ("L06", good.clone(), without(header::TIME), ""),
        ("L06", good.clone(), with(header::TIME, "yesterday"), ""),
        ("L07", good.clone(), envelope(subject), "garbage"),
    ];
    for (code, subject, headers, payload) in cases {
        let said = said_of(&test, &subject, headers, payload).await?;
        assert!(said.starts_with(&format!("{code}: ")), "{subject} {payload:?}: {said}");
    }
    // The control: what has nothing wrong with it is an entry.
    test.publisher.publish(Draft::new(id, title("good"))).await?;
    let mut durable = test.log.durable("BROAD_INFO", "indexer", 1);
    assert!(durable.next().await?.entry.is_ok());
    Ok(())
}

#[tokio::test]
async fn what_may_not_be_published_is_told_why() -> anyhow::Result<()> {
    let test = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    let id = BroadcastId::generate();
    let stranger = Publisher::new(&test.nats.log_of("hls").await?, "hls");
    let refused = [
        ("L01", stranger.publish(Draft::new(id, title("x"))).await),
        (
            "L02",
            test.publisher.publish(Draft::new(id, title("x")).expect_last(9)).await,
        ),
        (
            "L03",
            test.publisher
                .publish(Draft::new(id, title(&"x".repeat(100_000))))
                .await,
        ),
    ];
    for (code, outcome) in refused {
        let said = outcome.unwrap_err().to_string();
        assert!(said.starts_with(&format!("{code}: ")), "{said}");
    }
    // An outage lasts for the half minute in which the publisher tries.
    let unknown = PublishError::Unavailable {
        subject: "s".to_owned(),
        source: Arc::new(PublishErrorKind::TimedOut.into()),
    };
    assert!(unknown.to_string().starts_with("L04: "), "{unknown}");
    Ok(())
}

#[tokio::test]
async fn a_change_that_loses_entries_is_told_why() -> anyhow::Result<()> {
    let test = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    test.change_stream(
        "LIVE_SEGMENT",
        &serde_json::json!({ "max_age": 10_000_000_000_000_000_u64 }),
    )
    .await?;
    let said = provision::apply(&test.log, Plan::default())
        .await
        .unwrap_err()
        .to_string();
    assert!(said.starts_with("L09: ") && said.contains("LIVE_SEGMENT"), "{said}");
    Ok(())
}

#[test]
fn every_code_is_documented() {
    for number in 1..=9 {
        let row = format!("| L{number:02} | ");
        assert_eq!(DOCUMENTED.matches(&row).count(), 1, "{row}");
    }
}
