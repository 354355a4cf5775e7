//! Hostile peers, while a good encoder goes on.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use castlog_flv::TagKind;
use castlog_metrics::metrics;
use castlog_rtmp::Config;
use castlog_rtmp_core::{amf0::Value, type_id};
use castlog_testkit::until;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{
    common::{Bench, SOON, reason, refused, session, url},
    lines::refusal,
    peer::{Peer, command, connect, create_stream, handshake, message, publish},
    viewer::Viewer,
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

/// Sends everything and waits until the server has closed; why it did.
async fn attack(address: SocketAddr, name: &str, bytes: Vec<u8>) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let peer = stream.local_addr()?;
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
    .with_context(|| format!("{name}: the server keeps the connection"))?;
    refusal(peer).with_context(|| format!("{name}: the server does not say why it closed"))
}

/// Asks and asks and reads nothing until the server has closed; why it did.
async fn attack_deaf(address: SocketAddr, bytes: Vec<u8>) -> anyhow::Result<String> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(4096)?;
    let mut stream = socket.connect(address).await?;
    let peer = stream.local_addr()?;
    stream.write_all(&bytes).await?;
    let pings = message(type_id::USER_CONTROL, 0, vec![0, 6, 0, 0, 0, 0]).repeat(10_000);
    timeout(SOON, async { while stream.write_all(&pings).await.is_ok() {} })
        .await
        .context("the server keeps a peer that does not read")?;
    refusal(peer).context("the server does not say why it closed")
}

/// What a viewer has seen.
#[derive(Debug, Default)]
struct Seen {
    frames: usize,
    /// Longest wait for a tag.
    wait: Duration,
    /// Longest time from one frame to the next, by their timestamps.
    step: u32,
}

/// Watches a stream that must not end until it is told to stop.
async fn watch(mut viewer: Viewer, mut stop: oneshot::Receiver<()>) -> anyhow::Result<Seen> {
    let (mut seen, mut last, mut waiting) = (Seen::default(), None, Instant::now());
    loop {
        let tag = tokio::select! {
            tag = viewer.tag() => tag?.context("the stream ended")?,
            _ = &mut stop => return Ok(seen),
        };
        seen.wait = seen.wait.max(waiting.elapsed());
        waiting = Instant::now();
        if tag.kind == TagKind::Video {
            seen.frames += 1;
            seen.step = seen.step.max(last.map_or(0, |last| tag.timestamp.wrapping_sub(last)));
            last = Some(tag.timestamp);
        }
    }
}

/// Attacks with what the server is to say of them.
fn attacks() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let deep = [10, 0, 0, 0, 1].repeat(13_000);
    let mut many_streams = handshake();
    for id in 0..60_000_u32 {
        many_streams.push(1);
        many_streams.extend([(id % 256) as u8, (id / 256) as u8]);
        many_streams.extend([0, 0, 0, 0, 0x80, 0, 20, 0, 0, 0, 0]);
        many_streams.extend([0; 128]);
    }
    let no_chunks = message(type_id::SET_CHUNK_SIZE, 0, vec![0; 4]);
    let unknown = command(0, &["x".into(), 0.0.into(), Value::Null]);
    let plain = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &noise(500)].concat();
    let shaken = |bytes: &[u8]| [&handshake(), bytes].concat();
    let connected = |bytes: &[u8]| [&handshake(), &connect(), bytes].concat();
    vec![
        ("noise", noise(1_000_000), "R02: not RTMP: the first byte is "),
        ("noise behind the handshake", shaken(&noise(1_000_000)), "R0"),
        ("noise behind connect", connected(&noise(1_000_000)), "R0"),
        (
            "TLS on the plain port",
            plain,
            "R02: not RTMP: the first byte is 0x16, not 0x03",
        ),
        (
            "deep AMF",
            shaken(&message(type_id::COMMAND_AMF0, 0, deep)),
            "R06: AMF0 nesting of ",
        ),
        (
            "huge message",
            shaken(&[3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0]),
            "R06: message length of 16777215 is over the limit of 65536",
        ),
        (
            "many chunk streams",
            many_streams,
            "R06: number of chunk streams of 17 is over the limit of 16",
        ),
        (
            "chunks of nothing",
            connected(&no_chunks),
            "R02: chunk size is malformed",
        ),
        (
            "many message streams",
            connected(&create_stream().repeat(100)),
            "R06: number of message streams of 9 is over the limit of 8",
        ),
        (
            "many commands",
            connected(&unknown.repeat(1000)),
            "R06: number of commands of 65 is over the limit of 64",
        ),
        (
            "media before publish",
            connected(&message(type_id::VIDEO, 1, vec![0x17, 1, 0, 0, 0])),
            "R02: media before publish came out of order",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_peers_do_not_disturb_a_good_one() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let (deaf, deaf_key) = bench.broadcast().await?;
    // So long that each attack ends by what is wrong with it.
    let config = Config {
        handshake_timeout_s: 60,
        publish_timeout_s: 60,
        write_timeout_s: 1,
        max_connections_per_address: 250,
        ..bench.config()
    };
    let server = bench.serve(config).await?;
    let address = server.running.rtmp;
    let mut encoder = bench.push(&url(&server, key.expose()), &[])?;
    let live = session(&bench.status(broadcast, "started").await?);
    let mut viewer = Viewer::open(&live.ingest_url).await?;
    viewer.video_header().await?;
    let (stop, stopped) = oneshot::channel();
    let watching = tokio::spawn(watch(viewer, stopped));

    // 200 that greet and say no more; kept open through all the rest.
    let mut half = Vec::new();
    for _ in 0..200 {
        let mut peer = TcpStream::connect(address).await?;
        peer.write_all(&handshake()[..700]).await?;
        half.push(peer);
    }

    let codes = ["R02", "R06", "R07"];
    let before = codes.map(refused);
    let all = attacks().into_iter().map(|(name, bytes, expected)| async move {
        let said = attack(address, name, bytes).await?;
        anyhow::ensure!(said.starts_with(expected), "{name}: {said}");
        Ok(said)
    });
    let all = futures::future::try_join_all(all);
    let connected = attack_deaf(address, [handshake(), connect()].concat());
    let on_air = attack_deaf(address, publish(&deaf_key));
    let (mut said, connected, on_air) = tokio::try_join!(all, connected, on_air)?;
    assert_eq!([&*connected, &*on_air], ["R07: nothing read for 1 s"; 2]);
    assert_eq!(reason(&bench.status(deaf, "interrupted").await?), on_air);
    said.extend([connected, on_air]);
    for (code, before) in codes.into_iter().zip(before) {
        let attacks = said.iter().filter(|said| said.starts_with(code)).count();
        assert!(
            attacks > 0 && refused(code) - before >= attacks as u64,
            "{code}: {said:?}"
        );
    }

    assert!(metrics().rtmp_connections.get() > 200, "the half-open ones are there");
    drop(half);
    // What other tests have open at the same time is far less.
    until("the half-open ones to be gone", SOON, || async {
        (metrics().rtmp_connections.get() < 100).then_some(())
    })
    .await?;

    stop.send(()).ok();
    let seen = watching.await??;
    println!("beside the attacks: {seen:?}");
    assert!(seen.frames > 20 && seen.step < 200, "frames are missing: {seen:?}");
    assert!(seen.wait < Duration::from_secs(3), "the stream stood still: {seen:?}");
    assert!(encoder.exited().is_none(), "{}", encoder.last_output());
    let statuses = bench.statuses(broadcast).await?;
    assert_eq!(statuses, [("started", live.session_id)]);
    server.stop().await
}

#[tokio::test]
async fn silence_ends_in_every_phase() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let config = Config {
        handshake_timeout_s: 1,
        publish_timeout_s: 1,
        idle_timeout_s: 60,
        ..bench.config()
    };
    let server = bench.serve(config).await?;
    let address = server.running.rtmp;
    let before = refused("R07");
    for (name, bytes, expected) in [
        ("silence", Vec::new(), "R07: no handshake for 1 s"),
        ("half a handshake", vec![3; 700], "R07: no handshake for 1 s"),
        ("no connect", handshake(), "R07: no publish for 1 s"),
        (
            "no publish",
            [handshake(), connect()].concat(),
            "R07: no publish for 1 s",
        ),
    ] {
        assert_eq!(attack(address, name, bytes).await?, expected, "{name}");
    }
    // One byte at a time does not stretch the handshake.
    let mut slow = TcpStream::connect(address).await?;
    let peer = slow.local_addr()?;
    let mut sent = 0;
    for byte in handshake() {
        if refusal(peer).is_some() || slow.write_all(&[byte]).await.is_err() {
            break;
        }
        sent += 1;
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(
        refusal(peer).as_deref(),
        Some("R07: no handshake for 1 s"),
        "{sent} bytes"
    );
    assert!(refused("R07") - before >= 5);
    server.stop().await
}

#[tokio::test]
async fn silence_in_the_tls_handshake_ends_and_is_counted() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let config = Config {
        tls_listen: Some(([127, 0, 0, 1], 0).into()),
        handshake_timeout_s: 1,
        max_connections: 1,
        ..bench.config()
    };
    let server = bench.serve(config).await?;
    let before = refused("R07");
    let mut silent = TcpStream::connect(server.running.rtmps.context("no RTMPS")?).await?;
    let peer = silent.local_addr()?;
    let read = timeout(SOON, silent.read(&mut [0; 16])).await?;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    // It is said just behind the close.
    let said = until("the refusal", SOON, || async { refusal(peer) }).await?;
    assert_eq!(said, "R07: no TLS handshake for 1 s");
    assert!(refused("R07") > before, "it is not counted");
    let _encoder = until("the only place to be free", SOON, || async {
        Peer::publish(server.running.rtmp, &key).await.ok()
    })
    .await?;
    bench.status(broadcast, "started").await?;
    server.stop().await
}

#[tokio::test]
async fn a_peer_that_leaves_in_the_handshake_is_let_go() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    // One place, and no time limit that could free it within the test.
    let config = Config {
        handshake_timeout_s: 60,
        publish_timeout_s: 60,
        max_connections: 1,
        ..bench.config()
    };
    let server = bench.serve(config).await?;
    let address = server.running.rtmp;
    for sent in [0, 1, 700, 1537, 3073] {
        // The place of the one before is free as soon as the server has seen it go.
        until("the server to close what is closed", SOON, || async {
            let mut peer = TcpStream::connect(address).await.ok()?;
            let name = peer.local_addr().ok()?;
            peer.write_all(&handshake()[..sent]).await.ok()?;
            peer.shutdown().await.ok()?;
            let mut answer = Vec::new();
            peer.read_to_end(&mut answer).await.ok()?;
            refusal(name).is_none().then_some(())
        })
        .await
        .with_context(|| format!("{sent} bytes"))?;
    }
    let _encoder = until("the last place to be free", SOON, || async {
        Peer::publish(address, &key).await.ok()
    })
    .await?;
    bench.status(broadcast, "started").await?;
    server.stop().await
}

#[tokio::test]
async fn connections_are_bounded_per_address_and_in_all() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for (config, expected) in [
        (
            Config {
                max_connections_per_address: 2,
                ..bench.config()
            },
            "R06: number of connections from one address of 3 is over the limit of 2",
        ),
        (
            Config {
                max_connections: 2,
                ..bench.config()
            },
            "R06: number of connections in all of 3 is over the limit of 2",
        ),
    ] {
        let (broadcast, key) = bench.broadcast().await?;
        let config = Config {
            handshake_timeout_s: 60,
            ..config
        };
        let server = bench.serve(config).await?;
        let address = server.running.rtmp;
        let before = refused("R06");
        let (first, _second) = (TcpStream::connect(address).await?, TcpStream::connect(address).await?);
        assert_eq!(attack(address, "a third", handshake()).await?, expected);
        assert!(refused("R06") > before, "it is not counted");
        drop(first);
        let _encoder = until("a place to be free", SOON, || async {
            Peer::publish(address, &key).await.ok()
        })
        .await?;
        bench.status(broadcast, "started").await?;
        server.stop().await?;
    }
    Ok(())
}
