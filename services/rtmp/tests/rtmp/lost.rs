//! Encoders that are gone without a word: killed, hung, or behind a line that is cut.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::Context as _;
use castlog_log::{Entry, Kind};
use castlog_rtmp::Config;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    common::{Bench, Server, reason, session, url},
    peer::Peer,
    viewer::Viewer,
};

/// Seconds of silence after which an encoder counts as lost.
const IDLE: u32 = 2;

async fn serve(bench: &Bench) -> anyhow::Result<Server> {
    let config = Config {
        idle_timeout_s: IDLE,
        ..bench.config()
    };
    bench.serve(config).await
}

/// How long after `since` the server has noticed, which it is to do within `limit` and
/// what a busy machine takes longer.
fn noticed(entry: &Entry, since: DateTime<Utc>, limit: u32) -> anyhow::Result<()> {
    let took = entry.time - since;
    let name = entry.event.name().unwrap_or_default();
    println!("{name} after {took}");
    let limit = TimeDelta::seconds(limit.into()) + TimeDelta::milliseconds(1500);
    anyhow::ensure!(took < limit, "{name} after {took}");
    Ok(())
}

/// When the last tag came so far.
async fn watch(url: &str) -> anyhow::Result<Arc<Mutex<DateTime<Utc>>>> {
    let mut viewer = Viewer::open(url).await?;
    viewer.video_header().await?;
    let last = Arc::new(Mutex::new(Utc::now()));
    let seen = last.clone();
    tokio::spawn(async move {
        while let Ok(Some(_)) = viewer.tag().await {
            *seen.lock().expect("nobody panics with it") = Utc::now();
        }
    });
    Ok(last)
}

#[tokio::test]
async fn an_encoder_that_hangs_or_is_killed_is_noticed_and_may_come_back() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = serve(&bench).await?;
    let mut encoder = bench.push(&url(&server, key.expose()), &[])?;
    let live = session(&bench.status(broadcast, "started").await?);
    let last = watch(&live.ingest_url).await?;
    // Its socket stays open, as that of a machine whose cable was pulled.
    encoder.pause()?;
    let interrupted = bench.status(broadcast, "interrupted").await?;
    assert_eq!(reason(&interrupted), "R07: nothing sent for 2 s");
    let last = *last.lock().expect("nobody panics with it");
    noticed(&interrupted, last, IDLE)?;

    encoder.kill9();
    encoder.start()?;
    let resumed = bench.status(broadcast, "resumed").await?;
    assert_eq!(session(&resumed), live, "it is not busy, and the session goes on");

    // Of one that is killed, the system of its machine tells at once.
    let killed = Utc::now();
    encoder.kill9();
    let interrupted = bench.status(broadcast, "interrupted").await?;
    // With or without a reset, as it had read everything or not.
    let said = reason(&interrupted);
    assert!(said.starts_with("the connection was "), "{said}");
    noticed(&interrupted, killed, 0)?;
    server.stop().await
}

/// Passes on what comes in until the line is cut; then both ends stay open, and neither
/// hears of the other again.
async fn line(to: SocketAddr, cut: CancellationToken) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        let (mut here, _) = listener.accept().await?;
        let mut there = TcpStream::connect(to).await?;
        tokio::select! {
            passed = tokio::io::copy_bidirectional(&mut here, &mut there) => passed.map(|_| ()),
            () = cut.cancelled() => std::future::pending().await,
        }
    });
    Ok(address)
}

#[tokio::test]
async fn an_encoder_behind_a_cut_line_is_noticed_and_may_come_back() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = serve(&bench).await?;
    let cut = CancellationToken::new();
    let line = line(server.running.rtmp, cut.clone()).await?;
    let mut encoder = bench.push(&format!("rtmp://{line}/live/{}", key.expose()), &[])?;
    let live = session(&bench.status(broadcast, "started").await?);
    let since = Utc::now();
    cut.cancel();
    let interrupted = bench.status(broadcast, "interrupted").await?;
    assert_eq!(reason(&interrupted), "R07: nothing sent for 2 s");
    noticed(&interrupted, since, IDLE)?;
    assert!(
        encoder.exited().is_none(),
        "it does not know: {}",
        encoder.last_output()
    );

    // By another line.
    let _again = bench.push(&url(&server, key.expose()), &[])?;
    assert_eq!(session(&bench.status(broadcast, "resumed").await?), live);
    server.stop().await
}

#[tokio::test]
async fn an_encoder_that_knocks_before_the_loss_is_noticed_gets_in_once_it_is() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = serve(&bench).await?;
    let encoder = bench.push(&url(&server, key.expose()), &[])?;
    let live = session(&bench.status(broadcast, "started").await?);
    let paused = Utc::now();
    encoder.pause()?;
    let mut refusals = Vec::new();
    let _second = loop {
        match Peer::publish(server.running.rtmp, &key).await {
            Ok(peer) => break peer,
            Err(error) => refusals.push(error.to_string()),
        }
        anyhow::ensure!(refusals.len() < 100, "it never gets in: {:?}", refusals.last());
        sleep(Duration::from_millis(300)).await;
    };
    println!("in after {} refusals", refusals.len());
    let busy = "R03: the broadcast is live from another encoder";
    let first = refusals.first().context("nothing was there to knock at")?;
    assert!(
        first.contains(busy) && refusals.iter().all(|said| said.contains(busy)),
        "{refusals:?}"
    );
    let resumed = bench.status(broadcast, "resumed").await?;
    assert_eq!(session(&resumed), live, "the session goes on");
    // Knocking does not keep the one that is lost alive.
    let statuses = bench
        .entries(Kind::Status, &Kind::Status.of(broadcast).to_string())
        .await?;
    let interrupted = statuses.iter().find(|entry| entry.event.name() == Some("interrupted"));
    noticed(interrupted.context("it was not interrupted")?, paused, IDLE)?;
    server.stop().await
}
