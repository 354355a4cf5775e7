//! An acknowledged entry is never lost, doubled or reordered: nats-server is
//! killed with SIGKILL at random moments while many publish.
//!
//! `CASTLOG_DURABILITY_ROUNDS` sets the number of kills.

use std::{
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use castlog_log::{BroadcastId, Draft, EntryId, Followed, From, Kind, Log, PublishError, Publisher};
use castlog_testkit::{
    NatsCluster, NatsOptions, NatsServer, TestLog,
    durability::{Acked, Stored, Violation, check},
    events::title,
    until,
};
use futures::{StreamExt as _, stream};
use tokio::sync::watch;

/// Kills when the environment says nothing else: enough to catch a blunder.
const ROUNDS: usize = 10;
/// The same for a cluster, of which each takes the seconds of an election.
const CLUSTER_ROUNDS: usize = 2;
/// Broadcasts that are written to by as many publishes at once as [`IN_FLIGHT`].
const CROWDS: usize = 6;
const IN_FLIGHT: usize = 24;
/// Broadcasts of which each entry expects the one before it.
const CHAINS: usize = 2;
/// A kill comes at most this long after the first acknowledgement of its round.
const MAX_ROUND: Duration = Duration::from_millis(150);
/// Rounds between two checks, each of which reads the whole stream.
const CHECK_EVERY: usize = 50;
/// Guards against a hang.
const WITHIN: Duration = Duration::from_secs(120);

/// What the writers share.
struct Load {
    publisher: Publisher,
    acked: Mutex<Vec<Acked>>,
    given_up: AtomicUsize,
    stop: AtomicBool,
    /// Whether entries may be published.
    run: watch::Sender<bool>,
}

impl Load {
    fn new(publisher: &Publisher) -> Arc<Self> {
        Arc::new(Self {
            publisher: publisher.clone(),
            acked: Mutex::default(),
            given_up: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            run: watch::Sender::new(true),
        })
    }

    /// Publishes until it is acknowledged, and notes the receipt.
    async fn publish(&self, broadcast: BroadcastId, number: u64, expected: Option<u64>) -> anyhow::Result<u64> {
        let id = EntryId::generate().to_string();
        let mut draft = Draft::new(broadcast, title(&format!("title {number}"))).id(id.as_str());
        if let Some(expected) = expected {
            draft = draft.expect_last(expected);
        }
        let mut again = false;
        let sequence = loop {
            match self.publisher.publish(draft.clone()).await {
                Ok(receipt) => break receipt.sequence,
                Err(PublishError::Unavailable { .. }) => {
                    self.given_up.fetch_add(1, Ordering::Relaxed);
                    again = true;
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.acked.lock().expect("no writer panics").push(Acked {
            subject: Kind::Title.of(broadcast).to_string(),
            id,
            number,
            sequence,
            again,
        });
        Ok(sequence)
    }

    /// Many at once on one subject, in order.
    async fn crowd(self: Arc<Self>) -> anyhow::Result<()> {
        let broadcast = BroadcastId::generate();
        let numbers = stream::iter(1..).take_while(|_| std::future::ready(!self.stop.load(Ordering::Relaxed)));
        let run = self.run.subscribe();
        let numbers = numbers.then(|number| {
            let mut run = run.clone();
            async move {
                run.wait_for(|run| *run).await.map(drop).ok();
                number
            }
        });
        let published = numbers
            .map(|number| self.publish(broadcast, number, None))
            .buffer_unordered(IN_FLIGHT);
        let mut published = std::pin::pin!(published);
        while let Some(outcome) = published.next().await {
            outcome?;
        }
        Ok(())
    }

    /// One after the other, each expecting the one before: the only writer never meets a conflict.
    async fn chain(self: Arc<Self>) -> anyhow::Result<()> {
        let broadcast = BroadcastId::generate();
        let (mut number, mut last) = (0, 0);
        while !self.stop.load(Ordering::Relaxed) {
            self.run.subscribe().wait_for(|run| *run).await?;
            number += 1;
            last = self.publish(broadcast, number, Some(last)).await?;
        }
        Ok(())
    }

    fn count(&self) -> usize {
        self.acked.lock().expect("no writer panics").len()
    }
}

async fn stored(log: &Log) -> anyhow::Result<Vec<Stored>> {
    let mut reader = log.follow("BROAD_INFO", &["media.broad_info.>"], From::Beginning);
    let mut stored = Vec::new();
    loop {
        match reader.next().await {
            Ok(Followed::Entry(entry)) => stored.push(Stored {
                subject: entry.subject.to_string(),
                sequence: entry.sequence(),
                id: entry.id,
            }),
            Ok(Followed::CaughtUp) => return Ok(stored),
            Ok(Followed::Undecodable(what)) => anyhow::bail!("not an entry: {what:?}"),
            Err(error) => return Err(error.into()),
        }
    }
}

/// What is killed.
enum Servers {
    One(Box<NatsServer>),
    /// One of three, each time another; the streams have three replicas.
    Cluster(NatsCluster),
}

impl Servers {
    async fn kill(&mut self) -> anyhow::Result<()> {
        match self {
            Self::One(server) => {
                server.kill9();
                server.restart().await
            }
            Self::Cluster(cluster) => {
                let node = rand::random_range(0..cluster.size());
                cluster.node(node).kill9();
                tokio::time::sleep(rand::random_range(Duration::ZERO..MAX_ROUND)).await;
                cluster.node(node).restart().await?;
                Ok(())
            }
        }
    }

    /// Waits until any one server can be killed. Publishing pauses meanwhile: an
    /// election takes seconds, in which nothing is tested but memory grows.
    async fn settled(&self, load: &Load) -> anyhow::Result<()> {
        let Self::Cluster(cluster) = self else { return Ok(()) };
        load.run.send_replace(false);
        cluster.settled().await?;
        load.run.send_replace(true);
        Ok(())
    }
}

/// Kills: as many as the environment says, else `usual`.
fn rounds(usual: usize) -> anyhow::Result<usize> {
    match std::env::var("CASTLOG_DURABILITY_ROUNDS") {
        Ok(rounds) => Ok(rounds.parse()?),
        Err(_) => Ok(usual),
    }
}

async fn outlives_kills(mut servers: Servers, log: &Log, rounds: usize) -> anyhow::Result<()> {
    let load = Load::new(&Publisher::new(log, "test"));
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..CROWDS {
        writers.spawn(load.clone().crowd());
    }
    for _ in 0..CHAINS {
        writers.spawn(load.clone().chain());
    }
    let begun = Instant::now();
    for round in 1..=rounds {
        let before = load.count();
        let acked = async || (load.count() > before).then_some(());
        until("an acknowledgement", WITHIN, acked).await?;
        tokio::time::sleep(rand::random_range(Duration::ZERO..MAX_ROUND)).await;
        servers.kill().await?;
        servers.settled(&load).await?;
        if round == rounds {
            load.stop.store(true, Ordering::Relaxed);
            while let Some(writer) = writers.join_next().await {
                writer??;
            }
        } else if round % CHECK_EVERY != 0 {
            continue;
        }
        let acked = load.acked.lock().expect("no writer panics").clone();
        let stored = stored(log).await?;
        let violations = check(&acked, &stored);
        anyhow::ensure!(violations.is_empty(), "round {round}: {violations:#?}");
        // In the end each publish has been acknowledged.
        anyhow::ensure!(
            round < rounds || stored.len() == acked.len(),
            "of {} entries {} were acknowledged: some are there that nobody was told of",
            stored.len(),
            acked.len()
        );
        println!(
            "round {round}: {} acknowledged, {} stored, {} given up and published again, {:.0?}",
            acked.len(),
            stored.len(),
            load.given_up.load(Ordering::Relaxed),
            begun.elapsed()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_outlives_kills() -> anyhow::Result<()> {
    let TestLog { nats, log, .. } = TestLog::start(NatsOptions::default()).await?;
    outlives_kills(Servers::One(Box::new(nats)), &log, rounds(ROUNDS)?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_cluster_acknowledged_outlives_kills_of_its_servers() -> anyhow::Result<()> {
    let cluster = NatsCluster::start(NatsOptions::default()).await?;
    let log = cluster.log().await?;
    outlives_kills(Servers::Cluster(cluster), &log, rounds(CLUSTER_ROUNDS)?).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loss_planted_in_the_server_is_found() -> anyhow::Result<()> {
    let mut server = TestLog::start(NatsOptions::default()).await?;
    let load = Load::new(&server.publisher);
    let broadcast = BroadcastId::generate();
    let publish = |number| load.publish(broadcast, number, None);
    futures::future::try_join_all((1..=20).map(publish)).await?;
    let acked = load.acked.lock().unwrap().clone();
    assert_eq!(check(&acked, &stored(&server.log).await?), []);

    // What a power cut does to a server that acknowledges before it syncs: the
    // end of the file is not there, and nothing else says so.
    server.nats.kill9();
    let messages = find(&server.nats.store(), "BROAD_INFO")?.join("msgs");
    let block = File::options().write(true).open(messages.join("1.blk"))?;
    block.set_len(block.metadata()?.len() - 10)?;
    std::fs::remove_file(messages.join("index.db")).ok();
    server.nats.restart().await?;
    let violations = check(&acked, &stored(&server.log).await?);
    let last = acked.iter().max_by_key(|entry| entry.sequence).cloned();
    assert_eq!(violations, last.map(Violation::Lost).as_slice());
    Ok(())
}

/// The folder of that name somewhere below.
fn find(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        if folder.ends_with(name) {
            return Ok(folder);
        }
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            folders.extend(path.is_dir().then_some(path));
        }
    }
    anyhow::bail!("no folder {name} in {}", folder.display())
}
