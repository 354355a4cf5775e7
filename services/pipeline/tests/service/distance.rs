//! A log that is far away: its answers take their time, or do not come.

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use castlog_log::Log;
use castlog_testkit::until;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::{
    PATIENCE,
    ingest::Ingest,
    source,
    world::{World, config, parts},
};

/// A way to a server on which answers can be held back.
struct Way {
    url: String,
    held: watch::Sender<bool>,
}

impl Way {
    async fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("nats://{}", listener.local_addr().unwrap());
        let server = server.trim_start_matches("nats://").to_owned();
        let held = watch::Sender::new(false);
        let watched = held.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let mut held = watched.subscribe();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { copy(&mut from_client, &mut to_server).await });
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 << 10];
                    loop {
                        let count = from_server.read(&mut buffer).await.unwrap_or(0);
                        if held.wait_for(|held| !held).await.is_err() || count == 0 {
                            return;
                        }
                        if to_client.write_all(&buffer[..count]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { url, held }
    }
}

/// The longest run of parts of one segment that are in the log now and were not before.
async fn longest_run(world: &World, before: &BTreeSet<(String, u64, u32)>) -> usize {
    let new: Vec<_> = parts(world)
        .await
        .into_keys()
        .filter(|key| !before.contains(key))
        .collect();
    let runs = new.chunk_by(|a, b| (&a.0, a.1, a.2 + 1) == (&b.0, b.1, b.2));
    runs.map(<[_]>::len).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_do_not_wait_for_those_before_to_be_acknowledged() {
    let world = World::new().await;
    let way = Way::to(&world.nats.url()).await;
    let mut user = world.nats.user("pipeline").unwrap();
    user.url.clone_from(&way.url);
    let log = Log::connect(&user, "pipeline").await.unwrap();
    let ingest = Ingest::start(&source(120)).await;
    let worker = world.worker_on(config(), log).await;
    world.started(&ingest.url).await;
    world.wait_for_segments(1).await;
    let mut longest = 0;
    for segment in 2..7 {
        // In the middle of a segment: for its entry all waits.
        let key = ("source".to_owned(), segment, 2);
        until("parts of an open segment", PATIENCE, || async {
            parts(&world).await.contains_key(&key).then_some(())
        })
        .await
        .unwrap();
        way.held.send_replace(true);
        let before = parts(&world).await.into_keys().collect();
        // Until those that are on their way are given up.
        tokio::time::sleep(Duration::from_secs(1)).await;
        longest = longest_run(&world, &before).await;
        way.held.send_replace(false);
        if longest >= 3 {
            break;
        }
        println!("only {longest} parts: the machine is busy");
    }
    // One at a time, there would be one.
    assert!(longest >= 3, "{longest} parts in a row while none was acknowledged");
    let made = world.segments().await.len();
    world.wait_for_segments(made / 3 + 2).await;
    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    world.check().await;
    worker.stop().await;
}
