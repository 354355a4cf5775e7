//! Hostile peers, while a good encoder goes on.

use std::time::Duration;

use anyhow::Context as _;
use castlog_rtmp::Config;
use castlog_rtmp_core::type_id;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    common::{Bench, SOON, session, url},
    peer::{connect, handshake, message},
};

/// Bytes without a pattern, the same in every run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// Sends everything and waits until the server has closed.
async fn attack(address: std::net::SocketAddr, name: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    let (mut reader, mut writer) = stream.split();
    let send = async {
        // The server may close before it has taken everything.
        writer.write_all(&bytes).await.ok();
        std::future::pending::<()>().await;
    };
    let closed = async {
        let mut buffer = [0; 4096];
        while matches!(reader.read(&mut buffer).await, Ok(1..)) {}
    };
    timeout(SOON, async {
        tokio::select! { () = send => {}, () = closed => {} }
    })
    .await
    .with_context(|| format!("{name}: the server keeps the connection"))
}

#[tokio::test]
async fn hostile_peers_do_not_disturb_a_good_one() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let config = Config {
        handshake_timeout_s: 2,
        publish_timeout_s: 2,
        max_connections_per_address: 250,
        ..bench.config()
    };
    let server = bench.serve(config).await?;
    let address = server.running.rtmp;
    let mut encoder = bench.push(&url(&server, key.expose()), &[])?;
    let live = session(&bench.status(broadcast, "started").await?);
    let mut stream = reqwest::get(&live.ingest_url).await?;
    stream.chunk().await?.context("no stream")?;

    // 200 that greet and say no more; kept open through all the rest.
    let mut half = Vec::new();
    for _ in 0..200 {
        let mut peer = TcpStream::connect(address).await?;
        peer.write_all(&handshake()[..700]).await?;
        half.push(peer);
    }

    let deep = [10, 0, 0, 0, 1].repeat(13_000);
    let mut many_streams = handshake();
    for id in 0..60_000_u32 {
        many_streams.push(1);
        many_streams.extend([(id % 256) as u8, (id / 256) as u8]);
        many_streams.extend([0, 0, 0, 0, 0x80, 0, 20, 0, 0, 0, 0]);
        many_streams.extend([0; 128]);
    }
    let mut pings = [handshake(), connect()].concat();
    pings.extend(message(type_id::USER_CONTROL, 0, vec![0, 6, 0, 0, 0, 0]).repeat(200_000));
    let attacks = [
        ("noise", noise(1_000_000)),
        ("noise behind the handshake", [handshake(), noise(1_000_000)].concat()),
        (
            "noise behind connect",
            [handshake(), connect(), noise(1_000_000)].concat(),
        ),
        (
            "TLS on the plain port",
            [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise(500)].concat(),
        ),
        (
            "deep AMF",
            [handshake(), message(type_id::COMMAND_AMF0, 0, deep)].concat(),
        ),
        (
            "huge message",
            [handshake(), vec![3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0]].concat(),
        ),
        ("many chunk streams", many_streams),
        (
            "media before publish",
            [handshake(), connect(), message(9, 1, vec![0x17, 1, 0, 0, 0])].concat(),
        ),
        ("pings from a peer that does not read", pings),
        ("silence behind the handshake", handshake()),
        ("silence", Vec::new()),
    ];
    let all = attacks.map(|(name, bytes)| async move { attack(address, name, bytes).await });
    for outcome in futures::future::join_all(all).await {
        outcome?;
    }
    // One byte at a time does not stretch the handshake.
    let mut slow = TcpStream::connect(address).await?;
    let begun = std::time::Instant::now();
    for byte in handshake() {
        if slow.write_all(&[byte]).await.is_err() || begun.elapsed() > SOON {
            break;
        }
        let mut answer = [0; 1];
        if matches!(
            timeout(Duration::from_millis(300), slow.read(&mut answer)).await,
            Ok(Ok(0) | Err(_))
        ) {
            break;
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(half);

    assert!(encoder.exited().is_none(), "{}", encoder.last_output());
    let statuses = bench.statuses(broadcast).await?;
    assert_eq!(statuses, [("started", live.session_id)]);
    timeout(SOON, stream.chunk()).await??.context("the stream ended")?;
    server.stop().await
}
