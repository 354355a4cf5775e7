//! The log against a real nats-server.

use std::time::Duration;

use castlog_log::{
    BroadcastId, ConnectConfig, Draft, Event, Followed, From, Kind, Log, PublishError, Publisher, dead_letter, pb,
    provision,
};
use castlog_testkit::{NatsServer, events::title, until};
use futures::TryStreamExt as _;

/// Longer than the ack wait, so that what comes late is seen as late.
const WITHIN: Duration = Duration::from_secs(75);

async fn connect(nats: &NatsServer) -> anyhow::Result<Log> {
    let config = ConnectConfig {
        url: nats.url(),
        ..Default::default()
    };
    Ok(Log::connect(&config, "test").await?)
}

fn text(event: &Event) -> String {
    match event {
        Event::Title(pb::Title {
            event: Some(pb::title::Event::Changed(c)),
        }) => c.title.clone(),
        other => panic!("not a title: {other:?}"),
    }
}

#[tokio::test]
async fn definitions_are_applied_once_and_drift_is_seen() -> anyhow::Result<()> {
    let nats = NatsServer::start().await?;
    let log = connect(&nats).await?;
    let check = provision::Plan {
        check: true,
        ..Default::default()
    };
    assert!(
        !provision::apply(&log, check).await?.is_empty(),
        "an empty server lacks everything"
    );
    let created = provision::apply(&log, provision::Plan::default()).await?;
    assert!(created.iter().all(|change| change.created));
    assert_eq!(
        provision::apply(&log, check).await?,
        [],
        "what the server echoes is what the files say"
    );

    let stream = log.jetstream().get_stream("LIVE_SEGMENT").await?;
    let mut config = stream.cached_info().config.clone();
    config.max_age = Duration::from_secs(600);
    log.jetstream().update_stream(config).await?;
    let drift = provision::apply(&log, check).await?;
    assert_eq!(drift.len(), 1);
    assert!(
        drift[0].lines.iter().any(|line| line.starts_with("max_age:")),
        "{drift:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_id_is_stored_once_and_a_conflict_is_told() -> anyhow::Result<()> {
    let nats = NatsServer::start().await?;
    let log = connect(&nats).await?;
    provision::apply(&log, provision::Plan::default()).await?;
    let publisher = Publisher::new(&log, "test");
    let id = BroadcastId::generate();

    let first = publisher.publish(Draft::new(id, title("a")).id("one")).await?;
    let again = publisher.publish(Draft::new(id, title("a")).id("one")).await?;
    assert!(again.duplicate && again.sequence == first.sequence);

    let second = publisher
        .publish(Draft::new(id, title("b")).id("two").expect_last(first.sequence))
        .await?;
    // The same draft again, as after a lost ack: the expected sequence is no
    // longer the last, yet the entry is there.
    let retried = publisher
        .publish(Draft::new(id, title("b")).id("two").expect_last(first.sequence))
        .await?;
    assert!(retried.duplicate && retried.sequence == second.sequence);

    let late = publisher
        .publish(Draft::new(id, title("c")).expect_last(first.sequence))
        .await;
    assert!(matches!(late, Err(PublishError::Conflict { .. })), "{late:?}");
    let huge = publisher.publish(Draft::new(id, title(&"x".repeat(70_000)))).await;
    assert!(matches!(huge, Err(PublishError::TooLarge { .. })), "{huge:?}");
    assert_eq!(text(&log.last(Kind::Title, id).await?.unwrap().event), "b");
    assert!(log.last(Kind::Tags, id).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn the_newest_of_many_subjects() -> anyhow::Result<()> {
    let nats = NatsServer::start().await?;
    let log = connect(&nats).await?;
    provision::apply(&log, provision::Plan::default()).await?;
    let publisher = Publisher::new(&log, "test");
    // More than fit one request, of two streams, some without an entry.
    let ids: Vec<BroadcastId> = (0..300).map(|_| BroadcastId::generate()).collect();
    let mut sequences = std::collections::BTreeMap::new();
    for (n, id) in ids.iter().enumerate().skip(1) {
        publisher.publish(Draft::new(*id, title("old"))).await?;
        let newest = publisher.publish(Draft::new(*id, title(&n.to_string()))).await?;
        sequences.insert(*id, newest.sequence);
    }
    let garbage = Kind::Status.of(ids[0]);
    let published = log.jetstream().publish(garbage.to_string(), "garbage".into());
    published.await?.await?;
    let subjects: Vec<_> = ids
        .iter()
        .flat_map(|id| [Kind::Title.of(*id), Kind::Status.of(*id)])
        .collect();

    let (entries, others): (Vec<_>, Vec<_>) = log.newest(&subjects).await?.into_iter().partition(Result::is_ok);
    let found: std::collections::BTreeMap<_, _> = entries
        .into_iter()
        .flatten()
        .map(|entry| {
            assert_eq!(
                text(&entry.event),
                ids.iter()
                    .position(|id| Some(*id) == entry.subject.broadcast)
                    .unwrap()
                    .to_string()
            );
            (entry.subject.broadcast.unwrap(), entry.sequence())
        })
        .collect();
    assert_eq!(found, sequences);
    let others: Vec<_> = others.into_iter().filter_map(Result::err).collect();
    assert_eq!(others.len(), 1, "{others:?}");
    assert_eq!(others[0].subject, garbage.to_string());
    // What cannot be read leaves what was said before, however much of it there is.
    for payload in ["garbage", "more garbage"] {
        let published = log
            .jetstream()
            .publish(Kind::Title.of(ids[1]).to_string(), payload.into());
        published.await?.await?;
    }
    let newest = log.newest(&[Kind::Title.of(ids[1])]).await?;
    let sequence = newest.iter().flatten().map(castlog_log::Entry::sequence);
    assert_eq!(sequence.collect::<Vec<_>>(), [sequences[&ids[1]]]);
    assert_eq!(log.newest(&[Kind::Tags.of(ids[1])]).await?.len(), 0);
    assert_eq!(log.newest(&[]).await?.len(), 0);
    Ok(())
}

#[tokio::test]
async fn what_stands_on_a_subject_is_read_by_pages_and_leaves_no_reader() -> anyhow::Result<()> {
    let nats = NatsServer::start().await?;
    let log = connect(&nats).await?;
    provision::apply(&log, provision::Plan::default()).await?;
    let publisher = Publisher::new(&log, "test");
    let [id, other] = [(); 2].map(|()| BroadcastId::generate());
    let subject = Kind::Title.of(id);
    // More than a page, the entries of another broadcast between them.
    let drafts = (0..1200).flat_map(|n: u32| {
        let of = |id| Draft::new(id, title(&n.to_string()));
        [of(id), of(other)]
    });
    let published: Vec<_> = drafts.map(|draft| publisher.publish(draft)).collect();
    futures::future::try_join_all(published).await?;
    let garbage = log.jetstream().publish(subject.to_string(), "garbage".into());
    garbage.await?.await?;
    publisher.publish(Draft::new(id, title("last"))).await?;

    let history = log.history(subject).await?;
    let mut said: Vec<_> = history.iter().map(|entry| text(&entry.event)).collect();
    assert_eq!(said.pop().unwrap(), "last");
    said.sort_by_key(|n| n.parse::<u32>().unwrap());
    let all: Vec<_> = (0..1200).map(|n| n.to_string()).collect();
    assert_eq!(said, all);
    assert!(history.iter().is_sorted_by_key(castlog_log::Entry::sequence));
    assert_eq!(log.history(Kind::Tags.of(id)).await?.len(), 0);

    let stream = log.jetstream().get_stream("BROAD_INFO").await?;
    let stored_at = stream.get_raw_message(history[1199].sequence()).await?.time;
    let since = chrono::DateTime::from_timestamp_nanos(i64::try_from(stored_at.unix_timestamp_nanos())?);
    let newer: Vec<_> = log.scan(subject, Some(since)).try_collect().await?;
    assert!((2..1200).contains(&newer.len()), "{}", newer.len());
    assert_eq!(text(&newer.last().unwrap().event), "last");
    let later = since + chrono::TimeDelta::hours(1);
    assert_eq!(log.scan(subject, Some(later)).try_collect::<Vec<_>>().await?.len(), 0);

    let info = log.jetstream().get_stream("BROAD_INFO").await?.get_info().await?;
    assert_eq!(
        info.state.consumer_count,
        provision::durables()
            .iter()
            .filter(|(of, _)| of == "BROAD_INFO")
            .count(),
        "only the durable consumers"
    );
    Ok(())
}

#[tokio::test]
async fn readers_and_consumers_outlive_a_killed_server() -> anyhow::Result<()> {
    let mut nats = NatsServer::start().await?;
    let log = connect(&nats).await?;
    provision::apply(&log, provision::Plan::default()).await?;
    let publisher = Publisher::new(&log, "test");
    let id = BroadcastId::generate();
    let mut reader = log.follow("BROAD_INFO", &["media.broad_info.title.*"], From::Beginning);
    let mut durable = log.durable("BROAD_INFO", "live_info", 10);
    assert!(matches!(reader.next().await?, Followed::CaughtUp));

    publisher.publish(Draft::new(id, title("before"))).await?;
    let Followed::Entry(entry) = reader.next().await? else {
        panic!("no entry")
    };
    assert_eq!(text(&entry.event), "before");
    let delivery = durable.next().await?;
    assert_eq!(delivery.delivered, 1);
    delivery.ack().await?;

    nats.kill9();
    nats.restart().await?;
    publisher.publish(Draft::new(id, title("after"))).await?;
    let entry = tokio::time::timeout(WITHIN, async {
        loop {
            if let Ok(Followed::Entry(entry)) = reader.next().await {
                return entry;
            }
        }
    })
    .await?;
    assert_eq!(text(&entry.event), "after", "nothing twice, nothing lost");
    let delivery = tokio::time::timeout(WITHIN, async {
        loop {
            match durable.next().await {
                // The ack of the first may have died with the server.
                Ok(delivery) if delivery.position().sequence == 2 => return delivery,
                Ok(delivery) => delivery.ack().await.unwrap(),
                Err(_) => {}
            }
        }
    })
    .await?;
    assert_eq!(text(&delivery.entry.as_ref().unwrap().event), "after");
    assert_eq!(
        delivery.delivered, 1,
        "nothing is dropped on its way after a reconnection"
    );
    Ok(())
}

#[tokio::test]
async fn what_is_no_entry_becomes_a_dead_letter() -> anyhow::Result<()> {
    let nats = NatsServer::start().await?;
    let log = connect(&nats).await?;
    provision::apply(&log, provision::Plan::default()).await?;
    let subject = Kind::Title.of(BroadcastId::generate()).to_string();
    log.jetstream()
        .publish(subject.clone(), "garbage".into())
        .await?
        .await?;
    let mut durable = log.durable("BROAD_INFO", "indexer", 10);
    let delivery = durable.next().await?;
    assert!(delivery.entry.is_err());
    dead_letter::bury(&log, "indexer", &delivery, "header ce-id is missing").await?;
    let letters = log.jetstream().get_stream(dead_letter::STREAM).await?;
    let letter = letters
        .get_last_raw_message_by_subject("castlog.dead_letter.BROAD_INFO.indexer")
        .await?;
    assert_eq!(letter.payload.as_ref(), b"garbage");
    assert_eq!(
        letter.headers.get(dead_letter::header::SUBJECT).unwrap().as_str(),
        subject
    );
    until("the consumer is done with it", WITHIN, || async {
        let stream = log.jetstream().get_stream("BROAD_INFO").await.ok()?;
        let info = stream.consumer_info("indexer").await.ok()?;
        (info.num_ack_pending == 0).then_some(())
    })
    .await
}
