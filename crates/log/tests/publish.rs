//! Concurrent publishing against a real nats-server: group commits, and what
//! the server refuses of them.

use std::{collections::HashMap, time::Duration};

use async_nats::header::{NATS_BATCH_ID, NATS_MESSAGE_ID};
use castlog_log::{BroadcastId, Draft, Kind, PublishError, Publisher, Receipt};
use castlog_testkit::{NatsOptions, TestLog, events, until};
use futures::future::join_all;

/// Guards against a hang.
const WITHIN: Duration = Duration::from_secs(60);

fn title(broadcast: BroadcastId, n: usize) -> Draft {
    Draft::new(broadcast, events::title(&format!("title {n}"))).id(format!("{broadcast}-{n}"))
}

/// Ids and batches by sequence, as the server has them.
async fn stored(log: &TestLog, stream: &str) -> anyhow::Result<HashMap<u64, (String, Option<String>)>> {
    let mut stream = log.log.jetstream().get_stream(stream).await?;
    let last = stream.info().await?.state.last_sequence;
    let mut stored = HashMap::new();
    for sequence in 1..=last {
        let headers = stream.get_raw_message(sequence).await?.headers;
        let text = |name| headers.get(name).map(|value| value.as_str().to_owned());
        stored.insert(
            sequence,
            (text(NATS_MESSAGE_ID).unwrap_or_default(), text(NATS_BATCH_ID)),
        );
    }
    Ok(stored)
}

#[tokio::test]
async fn concurrent_publishes_share_a_commit_and_each_learns_its_place() -> anyhow::Result<()> {
    let log = TestLog::start(NatsOptions::default()).await?;
    let (one, other) = (BroadcastId::generate(), BroadcastId::generate());
    let second = Publisher::new(&log.log, "other");
    let outcomes = join_all((0..200).map(|n| {
        // Two services' publishers of one connection, two subjects.
        let publisher = if n % 3 == 0 { &second } else { &log.publisher };
        publisher.publish(title(if n % 2 == 0 { one } else { other }, n))
    }));
    let receipts: Vec<Receipt> = outcomes.await.into_iter().collect::<Result<_, _>>()?;
    let stored = stored(&log, "BROAD_INFO").await?;
    assert_eq!(stored.len(), 200);
    for (n, receipt) in receipts.iter().enumerate() {
        let broadcast = if n % 2 == 0 { one } else { other };
        assert_eq!(stored[&receipt.sequence].0, format!("{broadcast}-{n}"));
        assert!(!receipt.duplicate);
    }
    assert!(
        receipts.is_sorted_by_key(|receipt| receipt.sequence),
        "in the order given"
    );
    let alone = stored.values().filter(|(_, batch)| batch.is_none()).count();
    assert!(alone < 10, "{alone} of 200 entries were sent alone");
    Ok(())
}

#[tokio::test]
async fn a_refused_batch_fails_only_for_the_offenders() -> anyhow::Result<()> {
    let log = TestLog::start(NatsOptions::default()).await?;
    let known = BroadcastId::generate();
    let first = log.publisher.publish(title(known, 0)).await?;
    let subject = BroadcastId::generate();
    let outcomes = join_all((0..60).map(|n| {
        log.publisher.publish(match n {
            // Stored already.
            20 => title(known, 0),
            // Expects what is not there.
            40 | 41 => title(subject, n).expect_last(7),
            // Expects what the entry before it is about to change.
            50 => title(known, n).expect_last(first.sequence),
            51 => title(known, n).expect_last(first.sequence),
            n => title(subject, n),
        })
    }))
    .await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match (n, outcome) {
            (20, Ok(receipt)) => assert!(receipt.duplicate && receipt.sequence == first.sequence),
            (40 | 41 | 51, Err(PublishError::Conflict { .. })) => {}
            (40 | 41 | 51, _) => panic!("entry {n}: {outcome:?}"),
            (_, outcome) => assert!(
                matches!(outcome, Ok(receipt) if !receipt.duplicate),
                "entry {n}: {outcome:?}"
            ),
        }
    }
    assert_eq!(stored(&log, "BROAD_INFO").await?.len(), 1 + 60 - 4);
    let others = outcomes.iter().enumerate().filter(|(n, _)| ![20, 50].contains(n));
    let sequences = others.filter_map(|(_, outcome)| Some(outcome.as_ref().ok()?.sequence));
    assert!(sequences.is_sorted(), "in the order given");
    Ok(())
}

#[tokio::test]
async fn a_caller_that_goes_away_breaks_nothing() -> anyhow::Result<()> {
    let log = TestLog::start(NatsOptions::default()).await?;
    let broadcast = BroadcastId::generate();
    let mut kept = Vec::new();
    for n in 0..50 {
        let mut publish = Box::pin(log.publisher.publish(title(broadcast, n)));
        assert!(futures::poll!(&mut publish).is_pending());
        if n % 2 == 0 {
            kept.push(publish);
        }
    }
    for outcome in join_all(kept).await {
        outcome?;
    }
    log.log.flush().await;
    assert_eq!(
        stored(&log, "BROAD_INFO").await?.len(),
        50,
        "what was given is not withdrawn"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_queued_is_stored_after_the_last_handle_is_gone() -> anyhow::Result<()> {
    let TestLog { nats, log, publisher } = TestLog::start(NatsOptions::default()).await?;
    let broadcast = BroadcastId::generate();
    for n in 0..50 {
        let mut publish = Box::pin(publisher.publish(title(broadcast, n)));
        assert!(futures::poll!(&mut publish).is_pending());
    }
    drop((log, publisher));
    let config = castlog_log::ConnectConfig {
        url: nats.url(),
        ..Default::default()
    };
    let log = castlog_log::Log::connect(&config, "reader").await?;
    until("all 50 entries are stored", WITHIN, || async {
        let stream = log.jetstream().get_stream("BROAD_INFO").await.ok()?;
        (stream.cached_info().state.messages == 50).then_some(())
    })
    .await
}

#[tokio::test]
async fn a_stream_that_takes_no_batches_takes_the_entries() -> anyhow::Result<()> {
    let log = TestLog::start(NatsOptions::default()).await?;
    let mut config = log
        .log
        .jetstream()
        .get_stream("BROAD_INFO")
        .await?
        .cached_info()
        .config
        .clone();
    config.allow_atomic_publish = false;
    log.log.jetstream().update_stream(config).await?;
    let broadcast = BroadcastId::generate();
    let outcomes = join_all((0..30).map(|n| log.publisher.publish(title(broadcast, n)))).await;
    let receipts: Vec<Receipt> = outcomes.into_iter().collect::<Result<_, _>>()?;
    assert!(receipts.iter().map(|receipt| receipt.sequence).eq(1..=30));
    assert!(log.log.last(Kind::Title, broadcast).await?.is_some());
    Ok(())
}
