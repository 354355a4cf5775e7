//! Three nats-servers, one killed with -9 after another while entries are
//! published: what was acknowledged is there, once, in the order of its subject.
//!
//! Each round kills one server. `CASTLOG_CLUSTER_ROUNDS` asks for more of them.

// The helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use castlog_log::{BroadcastId, Draft, EntryId, Event, Followed, From, Kind, Log, Publisher, pb};
use castlog_testkit::{NatsCluster, NatsOptions, until};

const ROUNDS: usize = 3;
const PUBLISHERS: usize = 4;
/// Entries that must be acknowledged between a kill and the next.
const PER_ROUND: usize = 40;
/// A guard against hanging: elections, reconnections and acks on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// An acknowledged entry: its id, subject and sequence.
type Acked = (String, String, u64);
/// What the stream holds, in its order.
type Stored = (String, String, u64);

/// What is wrong with a stream, given what its publishers were told. The acks of
/// a subject are in the order in which they were given.
fn problems(acked: &[Acked], stored: &[Stored]) -> Vec<String> {
    let mut problems = Vec::new();
    let mut places: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for (id, _, sequence) in stored {
        places.entry(id).or_default().push(*sequence);
    }
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (id, subject, sequence) in acked {
        match places.get(id.as_str()).map(Vec::as_slice) {
            None => problems.push(format!("{id} was acknowledged and is lost")),
            Some([place]) if place == sequence => {}
            Some(places) => problems.push(format!("{id} was acknowledged as {sequence} and is at {places:?}")),
        }
        if last
            .insert(subject, *sequence)
            .is_some_and(|before| before >= *sequence)
        {
            problems.push(format!("{id} is not behind the entry that was acknowledged before it"));
        }
    }
    problems
}

async fn publish(log: Log, acked: Arc<Mutex<Vec<Acked>>>, count: Arc<AtomicUsize>, done: Arc<AtomicBool>) {
    let publisher = Publisher::new(&log, "live-api");
    let broadcast = BroadcastId::generate();
    let mut n = 0;
    while !done.load(Ordering::Acquire) {
        n += 1;
        let title = pb::title::Changed {
            title: format!("title {n}"),
        };
        let id = EntryId::generate().to_string();
        let draft = Draft::new(
            broadcast,
            pb::Title {
                event: Some(pb::title::Event::Changed(title)),
            },
        )
        .id(&id);
        // What cannot be had while servers are away is asked for again, under the same id.
        let receipt = loop {
            match publisher.publish(draft.clone()).await {
                Ok(receipt) => break receipt,
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        };
        let subject = Kind::Title.of(broadcast).to_string();
        acked.lock().unwrap().push((id, subject, receipt.sequence));
        count.fetch_add(1, Ordering::AcqRel);
    }
}

async fn read_all(log: &Log) -> anyhow::Result<Vec<Stored>> {
    let mut follow = log.follow("BROAD_INFO", &[], From::Beginning);
    let mut stored = Vec::new();
    loop {
        match follow.next().await? {
            Followed::Entry(entry) => {
                assert!(matches!(entry.event, Event::Title(_)));
                stored.push((entry.id.clone(), entry.subject.to_string(), entry.sequence()));
            }
            Followed::Undecodable(other) => anyhow::bail!("{other:?}"),
            Followed::CaughtUp => return Ok(stored),
        }
    }
}

#[tokio::test]
async fn what_a_cluster_acknowledged_outlives_any_server() -> anyhow::Result<()> {
    let rounds = match std::env::var("CASTLOG_CLUSTER_ROUNDS") {
        Ok(rounds) => rounds.parse()?,
        Err(_) => ROUNDS,
    };
    let mut cluster = NatsCluster::start(NatsOptions::default()).await?;
    let acked = Arc::new(Mutex::new(Vec::new()));
    let (count, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..PUBLISHERS {
        let log = cluster.log().await?;
        tasks.spawn(publish(log, Arc::clone(&acked), Arc::clone(&count), Arc::clone(&done)));
    }
    let progress = async |what: &str| {
        let wanted = count.load(Ordering::Acquire) + PER_ROUND;
        until(what, PATIENCE, async || {
            (count.load(Ordering::Acquire) >= wanted).then_some(())
        })
        .await
    };
    progress("entries").await?;
    for round in 0..rounds {
        let node = round % cluster.size();
        cluster.node(node).kill9();
        progress("entries with a server gone").await?;
        cluster.node(node).restart().await?;
        cluster.settled().await?;
        progress("entries with all servers").await?;
        println!(
            "round {}: {} entries acknowledged",
            round + 1,
            count.load(Ordering::Acquire)
        );
    }
    done.store(true, Ordering::Release);
    while let Some(task) = tasks.join_next().await {
        task?;
    }
    let acked = acked.lock().unwrap().clone();
    let stored = read_all(&cluster.log().await?).await?;
    assert_eq!(problems(&acked, &stored), Vec::<String>::new());
    assert_eq!(stored.len(), acked.len(), "nothing is there that nobody was told of");
    Ok(())
}

#[test]
fn the_check_sees_what_it_is_for() {
    let entry = |id: &str, sequence| (id.to_owned(), "s".to_owned(), sequence);
    let acked = [entry("a", 1), entry("b", 2), entry("c", 3)];
    assert!(problems(&acked, &acked).is_empty());
    let lost = problems(&acked, &[entry("a", 1), entry("c", 3)]);
    assert!(
        lost.len() == 1 && lost[0].contains("b was acknowledged and is lost"),
        "{lost:?}"
    );
    let twice = problems(&acked, &[entry("a", 1), entry("b", 2), entry("c", 3), entry("b", 4)]);
    assert!(twice.len() == 1 && twice[0].contains("[2, 4]"), "{twice:?}");
    let moved = problems(&[entry("b", 2), entry("a", 1)], &acked);
    assert_eq!(moved.len(), 1, "{moved:?}");
}
