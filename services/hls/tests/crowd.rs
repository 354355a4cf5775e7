//! Many viewers at a time, slow ones among them: what they cost.

// The helpers panic with the tests that call them.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::{future::Future, time::Duration};

use anyhow::Context as _;
use castlog_hls::Config;
use futures::future::{join_all, try_join_all};
use object_store::ObjectStoreExt as _;
use support::{Edge, PATIENCE, RENDITIONS, Show, Stage, holds};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Mutex,
};

/// Held by who looks at the memory of the process, which the tests share.
static MEMORY: Mutex<()> = Mutex::const_new(());

/// Bytes of the process in memory.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib << 10
}

/// How many bytes more than `before` are in memory at most within a second.
async fn growth(before: u64) -> u64 {
    let mut most = 0;
    for _ in 0..20 {
        most = most.max(resident().saturating_sub(before));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    most
}

/// A connection on which something has been asked for.
async fn ask(edge: &Edge, path: &str) -> anyhow::Result<TcpStream> {
    let mut socket = TcpStream::connect(edge.running.address()).await?;
    again(&mut socket, path).await?;
    Ok(socket)
}

async fn again(socket: &mut TcpStream, path: &str) -> anyhow::Result<()> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: edge\r\n\r\n");
    Ok(socket.write_all(request.as_bytes()).await?)
}

/// Reads an answer with all of its body.
async fn answer(socket: &mut TcpStream) -> anyhow::Result<String> {
    let mut answer = Vec::new();
    loop {
        anyhow::ensure!(socket.read_buf(&mut answer).await? > 0, "cut");
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.context("no length")?.parse()? {
            return Ok(text.into_owned());
        }
    }
}

async fn all<T>(of: impl Iterator<Item = impl Future<Output = anyhow::Result<T>>>) -> anyhow::Result<Vec<T>> {
    try_join_all(of).await
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_who_do_not_read_cost_little_and_lose_their_places() -> anyhow::Result<()> {
    const SILENT: usize = 20;
    const SIZE: usize = 30_000_000;
    let _alone = MEMORY.lock().await;
    let stage = Stage::build().await?;
    let config = Config {
        cache_bytes: 0,
        idle_timeout_s: 10,
        max_connections: SILENT + 1,
        ..Config::default()
    };
    let edge = stage.edge(config).await?;
    let show = Show::new();
    show.open(&stage).await?;
    let large = show.key("source", "0.m4s");
    stage.store.put(&large.clone().into(), vec![7; SIZE].into()).await?;
    show.store_all(&stage, 1..3, 0).await?;
    let playlist = show.playlist("audio");
    edge.text_with(&playlist, holds(2)).await?;

    let before = resident();
    let large = format!("/media/{large}");
    let silent = all((0..SILENT).map(|_| ask(&edge, &large))).await?;
    let grown = growth(before).await;
    println!("{SILENT} viewers who do not read: {} KiB more", grown >> 10);
    assert!(grown < (SILENT * SIZE / 10) as u64, "{grown} bytes");
    // Who is there is served, and who comes waits for a place.
    assert_eq!(edge.get(&playlist).await?.status(), 200);
    let newcomers = all((0..SILENT).map(|_| ask(&edge, &playlist))).await?;
    let answers = all(newcomers.into_iter().map(async |mut newcomer| {
        let answered = tokio::time::timeout(PATIENCE * 2, answer(&mut newcomer));
        // Each keeps its place.
        Ok((answered.await??, newcomer))
    }))
    .await?;
    assert!(answers.iter().all(|(text, _)| text.starts_with("HTTP/1.1 200 ")));
    let lengths = join_all(silent.into_iter().map(async |mut silent| {
        let mut got = Vec::new();
        let _cut = silent.read_to_end(&mut got).await.is_err();
        got.len()
    }))
    .await;
    assert!(lengths.iter().all(|length| (1..SIZE).contains(length)), "{lengths:?}");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_who_wait_cost_little() -> anyhow::Result<()> {
    const WAITING: usize = 400;
    let _alone = MEMORY.lock().await;
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = Show::new();
    show.open(&stage).await?;
    for n in 0..30 {
        show.work(&stage, n, 0).await?;
    }
    for rendition in RENDITIONS {
        edge.text_with(&show.playlist(rendition), holds(29)).await?;
    }
    let playlist = show.playlist("480p");
    let before = resident();
    let mut viewers = all((0..WAITING).map(|_| ask(&edge, &playlist))).await?;
    let texts = all(viewers.iter_mut().map(answer)).await?;
    assert!(texts.iter().all(|text| text.starts_with("HTTP/1.1 200 ")));
    drop(texts);
    let next = format!("{playlist}?_HLS_msn=30&_HLS_part=0");
    all(viewers.iter_mut().map(|viewer| again(viewer, &next))).await?;
    let grown = growth(before).await / WAITING as u64;
    println!("{WAITING} viewers who wait: {grown} bytes each");
    assert!(grown < 64 << 10, "{grown} bytes");
    show.part(&stage, "480p", 30, 0, 0).await?;
    for text in all(viewers.iter_mut().map(answer)).await? {
        assert!(
            text.starts_with("HTTP/1.1 200 ") && text.contains("/30-0-0.m4s\""),
            "{text}"
        );
    }
    edge.stop().await
}
