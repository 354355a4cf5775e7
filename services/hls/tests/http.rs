//! What the edge says over HTTP: types, lifetimes, ranges, refusals.

// The helpers panic with the tests that call them.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

use bytes::Bytes;
use castlog_cmaf as cmaf;
use castlog_hls::Config;
use castlog_log::{BroadcastId, pb};
use castlog_testkit::{S3Server, until};
use object_store::ObjectStoreExt as _;
use reqwest::{Method, Response, StatusCode, header};
use support::{PATIENCE, Show, Stage, holds};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).map_or("", |v| v.to_str().unwrap())
}

async fn code(response: Response) -> anyhow::Result<(StatusCode, String)> {
    assert_eq!(header(&response, "content-type"), "application/problem+json");
    assert_eq!(header(&response, "access-control-allow-origin"), "*");
    let status = response.status();
    let body: serde_json::Value = serde_json::from_str(&response.text().await?)?;
    assert_eq!(body["status"], status.as_u16());
    Ok((status, body["code"].as_str().unwrap_or_default().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn playlists_and_media_carry_their_headers() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = Show::new();
    show.open(&stage).await?;
    show.store_all(&stage, 0..4, 0).await?;
    edge.text_with(&show.playlist("audio"), holds(3)).await?;

    for (path, lifetime) in [
        (show.multivariant(), "public, max-age=2"),
        (show.playlist("480p"), "public, max-age=1"),
    ] {
        let response = edge.get(&path).await?;
        assert_eq!(response.status(), 200);
        assert_eq!(header(&response, "content-type"), "application/vnd.apple.mpegurl");
        assert_eq!(header(&response, "cache-control"), lifetime);
        assert_eq!(header(&response, "access-control-allow-origin"), "*");
        let tag = header(&response, "etag").to_owned();
        let plain = response.bytes().await?;
        let url = format!("{}{path}", edge.base);
        let again = edge
            .client
            .get(&url)
            .header("if-none-match", format!("\"x\", {tag}"))
            .send()
            .await?;
        assert_eq!(
            (again.status(), header(&again, "etag")),
            (StatusCode::NOT_MODIFIED, tag.as_str())
        );
        let packed = edge.client.get(&url).header("accept-encoding", "gzip").send().await?;
        assert_eq!(
            (header(&packed, "content-encoding"), header(&packed, "vary")),
            ("gzip", "accept-encoding")
        );
        let packed = packed.bytes().await?;
        assert!(packed.starts_with(&[0x1f, 0x8b]) && packed.len() < plain.len());
    }

    for (key, kind) in [
        ("480p/1.m4s", "video/mp4"),
        ("480p/init-0.mp4", "video/mp4"),
        ("audio/1.m4s", "audio/mp4"),
    ] {
        let (rendition, file) = key.split_once('/').unwrap();
        let response = edge.get(&format!("/media/{}", show.key(rendition, file))).await?;
        assert_eq!(header(&response, "content-type"), kind);
        assert_eq!(
            header(&response, "cache-control"),
            "public, max-age=31536000, immutable"
        );
        assert_eq!(header(&response, "accept-ranges"), "bytes");
        assert_eq!(header(&response, "content-encoding"), "");
    }
    let head = edge
        .client
        .head(format!("{}/media/{}", edge.base, show.key("480p", "1.m4s")))
        .send()
        .await?;
    assert_eq!(
        header(&head, "content-length"),
        Show::bytes("480p", 1).len().to_string()
    );

    stage
        .store
        .put(&show.key("thumb", "latest.jpg").into(), b"jpeg".to_vec().into())
        .await?;
    let thumbnail = edge.get(&format!("/media/{}", show.key("thumb", "latest.jpg"))).await?;
    assert_eq!(header(&thumbnail, "content-type"), "image/jpeg");
    assert_eq!(header(&thumbnail, "cache-control"), "public, max-age=5");
    assert_eq!(header(&thumbnail, "accept-ranges"), "", "it is replaced");
    stage
        .store
        .put(&show.key("thumb", "latest.jpg").into(), b"other".to_vec().into())
        .await?;
    let thumbnail = edge.get(&format!("/media/{}", show.key("thumb", "latest.jpg"))).await?;
    assert_eq!(thumbnail.bytes().await?.as_ref(), b"other");

    let preflight = edge
        .client
        .request(
            Method::OPTIONS,
            format!("{}/media/{}", edge.base, show.key("480p", "1.m4s")),
        )
        .header("origin", "https://elsewhere.example")
        .header("access-control-request-method", "GET")
        .header("access-control-request-headers", "range")
        .send()
        .await?;
    assert_eq!(preflight.status(), 200);
    assert!(header(&preflight, "access-control-allow-headers").contains("range"));
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_are_the_same_from_memory_and_from_the_store() -> anyhow::Result<()> {
    let s3 = S3Server::start().await?;
    ranges_are_the_same(&Stage::build().await?).await?;
    ranges_are_the_same(&Stage::build_on(&s3).await?).await
}

async fn ranges_are_the_same(stage: &Stage) -> anyhow::Result<()> {
    let show = Show::new();
    show.open(stage).await?;
    show.store_all(stage, 0..2, 0).await?;
    let whole = Show::bytes("480p", 1);
    let size = whole.len();
    for cache_bytes in [1 << 20, 0] {
        let edge = stage
            .edge(Config {
                cache_bytes,
                ..Config::default()
            })
            .await?;
        edge.ready().await?;
        let url = format!("{}/media/{}", edge.base, show.key("480p", "1.m4s"));
        for (range, expected) in [
            ("bytes=0-99", 0..100),
            ("bytes=100-", 100..size),
            ("bytes=-7", size - 7..size),
        ] {
            let response = edge.client.get(&url).header(header::RANGE, range).send().await?;
            assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT);
            let told = format!("bytes {}-{}/{size}", expected.start, expected.end - 1);
            assert_eq!(header(&response, "content-range"), told);
            assert_eq!(header(&response, "content-length"), expected.len().to_string());
            assert_eq!(response.bytes().await?, whole[expected]);
        }
        let response = edge
            .client
            .get(&url)
            .header(header::RANGE, "bytes=999999-")
            .send()
            .await?;
        assert_eq!(header(&response, "content-range"), format!("bytes */{size}"));
        assert_eq!(
            code(response).await?,
            (StatusCode::RANGE_NOT_SATISFIABLE, "H09".to_owned())
        );
        let response = edge.client.get(&url).send().await?;
        assert_eq!(header(&response, "content-length"), size.to_string());
        assert_eq!(response.bytes().await?, whole);
        edge.stop().await?;
    }
    Ok(())
}

/// The section of a track of sound, and a segment of it.
fn sound() -> anyhow::Result<(Bytes, Bytes)> {
    let track = cmaf::Track::Audio(cmaf::Audio {
        config: Bytes::from_static(&[0x11, 0x90]),
        sample_rate: 48_000,
        channels: 2,
    });
    let sample = cmaf::Sample {
        duration: 1024,
        composition_offset: 0,
        sync: true,
        data: Bytes::from_static(&[7; 300]),
    };
    Ok((cmaf::init_section(&track)?, cmaf::chunk(1, 0, &vec![sample; 94])?))
}

#[tokio::test(flavor = "multi_thread")]
async fn transport_streams_are_made_of_what_is_too_large_for_the_memory() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let show = Show::new();
    show.open(&stage).await?;
    show.store_all(&stage, 0..3, 0).await?;
    let (section, segment) = sound()?;
    for (name, bytes) in [("init-0.mp4", section), ("0.m4s", segment)] {
        stage.store.put(&show.key("audio", name).into(), bytes.into()).await?;
    }
    let mut made = Vec::new();
    for cache_bytes in [1 << 20, 64 << 10, 0] {
        let config = Config {
            cache_bytes,
            ..Config::default()
        };
        let edge = stage.edge(config).await?;
        edge.ready().await?;
        // Again, when it may be in memory.
        for _ in 0..2 {
            let answer = edge.get(&format!("/media/{}", show.key("audio", "0.0.ts"))).await?;
            assert_eq!(answer.status(), 200, "with {cache_bytes} bytes of memory");
            assert_eq!(header(&answer, "content-type"), "video/mp2t");
            made.push(answer.bytes().await?);
        }
        edge.stop().await?;
    }
    assert!(made.iter().all(|bytes| *bytes == made[0]), "the same bytes");
    let made = &made[0];
    assert!(made.len() > 94 * 300 && made.len().is_multiple_of(188) && made[0] == 0x47);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_say_why() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    edge.ready().await?;
    let show = Show::new();
    let is = |status: u16, code: &str| (StatusCode::from_u16(status).unwrap(), code.to_owned());
    let ask = |path: String| async {
        let path = path;
        code(edge.get(&path).await?).await
    };
    assert_eq!(ask(show.multivariant()).await?, is(404, "H01"));
    assert_eq!(ask("/live/unknown/index.m3u8".to_owned()).await?, is(404, "H01"));
    assert_eq!(ask("/elsewhere".to_owned()).await?, is(404, "H10"));

    show.open(&stage).await?;
    until("the broadcast is starting", PATIENCE, || async {
        (ask(show.multivariant()).await.ok()? == is(404, "H02")).then_some(())
    })
    .await?;
    show.store_all(&stage, 0..3, 0).await?;
    edge.text_with(&show.playlist("audio"), holds(2)).await?;
    assert_eq!(ask(show.playlist("1080p")).await?, is(404, "H04"));
    assert_eq!(
        ask(format!("{}?session=x", show.playlist("audio"))).await?,
        is(404, "H01")
    );
    assert_eq!(
        ask(format!("/media/{}", show.key("480p", "9.m4s"))).await?,
        is(404, "H05")
    );
    let foreign = format!("/media/{}", show.key("480p", "1.m4s"))
        .replace(&show.broadcast.to_string(), &BroadcastId::generate().to_string());
    assert_eq!(ask(foreign).await?, is(404, "H01"));

    stage
        .publish(show.broadcast, show.options(pb::Visibility::Private))
        .await?;
    until("the broadcast is private", PATIENCE, || async {
        (edge.get(&show.multivariant()).await.ok()?.status() == 403).then_some(())
    })
    .await?;
    assert_eq!(ask(show.multivariant()).await?, is(403, "H03"));
    assert_eq!(ask(show.playlist("audio")).await?, is(403, "H03"));
    assert_eq!(
        ask(format!("/media/{}", show.key("480p", "1.m4s"))).await?,
        is(403, "H03"),
        "although it was cached or stored"
    );
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broadcast_more_than_an_edge_may_show_is_refused() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let config = Config {
        max_broadcasts: 1,
        ..Config::default()
    };
    let edge = stage.edge(config).await?;
    let (shown, refused) = (Show::new(), Show::new());
    shown.open(&stage).await?;
    shown.store_all(&stage, 0..3, 0).await?;
    edge.text_with(&shown.playlist("audio"), holds(2)).await?;
    refused.open(&stage).await?;
    until("the other is refused", PATIENCE, || async {
        let (_, code) = code(edge.get(&refused.multivariant()).await.ok()?).await.ok()?;
        (code == "H08").then_some(())
    })
    .await?;
    edge.text_with(&shown.playlist("audio"), holds(2)).await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_private_stays_so_behind_options_of_a_newer_schema() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let show = Show::new();
    show.open(&stage).await?;
    show.store_all(&stage, 0..3, 0).await?;
    for event in [show.options(pb::Visibility::Private), pb::Options { event: None }] {
        stage.publish(show.broadcast, event).await?;
    }
    let edge = stage.edge(Config::default()).await?;
    edge.ready().await?;
    let (_, refused) = code(edge.get(&show.multivariant()).await?).await?;
    assert_eq!(refused, "H03");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_outside_of_the_store_can_be_read() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    edge.ready().await?;
    let show = Show::new();
    show.open(&stage).await?;
    show.store_all(&stage, 0..1, 0).await?;
    edge.text(&show.playlist("audio")).await?;
    let folder = show.key("480p", "");
    // Written to the socket as they are: an HTTP client would tidy the paths first.
    for path in [
        "/media/../../../../etc/passwd".to_owned(),
        "/media/%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd".to_owned(),
        "/media//etc/passwd".to_owned(),
        format!("/media/{folder}../480p/0.m4s"),
        format!("/media/{folder}%2e%2e%2f480p%2f0.m4s"),
        format!("/media/{folder}0.m4s%00"),
        format!("/media/{folder}"),
        format!("/media/{}", show.broadcast),
        format!("/live/../media/{folder}0.m4s"),
    ] {
        let mut socket = tokio::net::TcpStream::connect(edge.running.address()).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        assert!(
            answer.starts_with("HTTP/1.1 404") || answer.starts_with("HTTP/1.1 400"),
            "{path}: {answer}"
        );
        assert!(!answer.contains("root:"), "{path}: {answer}");
    }
    let control = edge.get(&format!("/media/{folder}0.m4s")).await?;
    assert_eq!(control.status(), 200);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_without_a_log_asks_for_patience() -> anyhow::Result<()> {
    let mut stage = Stage::build().await?;
    let show = Show::new();
    show.open(&stage).await?;
    show.store_all(&stage, 0..3, 0).await?;
    stage.nats.kill9();
    let edge = stage.edge(Config::default()).await?;
    for path in [
        show.multivariant(),
        show.playlist("audio"),
        format!("/media/{}", show.key("480p", "1.m4s")),
    ] {
        let response = edge.get(&path).await?;
        assert_eq!(header(&response, "retry-after"), "1");
        assert_eq!(header(&response, "cache-control"), "no-store");
        assert_eq!(
            code(response).await?,
            (StatusCode::SERVICE_UNAVAILABLE, "H06".to_owned())
        );
    }
    assert!(!edge.context.health.is_ready());
    stage.nats.restart().await?;
    edge.ready().await?;
    assert_eq!(edge.get(&show.multivariant()).await?.status(), 200);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_finished_before_the_edge_ends() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage
        .edge(Config {
            cache_bytes: 0,
            ..Config::default()
        })
        .await?;
    let show = Show::new();
    show.open(&stage).await?;
    let large: Vec<u8> = (0..30_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
    stage
        .store
        .put(&show.key("source", "0.m4s").into(), large.clone().into())
        .await?;
    show.store_all(&stage, 1..3, 0).await?;
    edge.text(&show.playlist("audio")).await?;
    let mut download = edge.get(&format!("/media/{}", show.key("source", "0.m4s"))).await?;
    let mut got = download.chunk().await?.unwrap_or_default().to_vec();
    edge.context.shutdown.begin();
    until("no new connections", PATIENCE, || async {
        tokio::net::TcpStream::connect(edge.running.address())
            .await
            .err()
            .map(drop)
    })
    .await?;
    while let Some(chunk) = download.chunk().await? {
        got.extend_from_slice(&chunk);
    }
    assert!(got == large, "{} of {} bytes", got.len(), large.len());
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_is_refused_with_all_its_problems() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let wrong = Config {
        dvr_window_s: 1,
        max_connections: 0,
        ..Config::default()
    };
    let error = stage.edge(wrong).await.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(
        error.contains("hls.dvr_window_s = 1") && error.contains("hls.max_connections = 0"),
        "{error}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_told_and_does_not_keep_viewers_away_after() -> anyhow::Result<()> {
    let mut s3 = S3Server::start().await?;
    let stage = Stage::build_on(&s3).await?;
    let edge = stage.edge(Config::default()).await?;
    let show = Show::new();
    show.open(&stage).await?;
    show.store_all(&stage, 0..4, 0).await?;
    edge.text_with(&show.playlist("480p"), holds(3)).await?;
    let path = |n: u64| format!("/media/{}", show.key("480p", &format!("{n}.m4s")));
    let fine = async |n: u64| {
        let response = edge.get(&path(n)).await?.error_for_status()?;
        assert_eq!(response.bytes().await?, Show::bytes("480p", n));
        anyhow::Ok(())
    };
    let away = (StatusCode::SERVICE_UNAVAILABLE, "H07".to_owned());
    let picture = show.key("thumb", "latest.jpg");
    stage.store.put(&picture.clone().into(), "older".into()).await?;
    let shown = async || {
        let response = edge.get(&format!("/media/{picture}")).await?.error_for_status()?;
        anyhow::Ok(response.bytes().await?)
    };
    assert_eq!(shown().await?, "older");
    stage.store.put(&picture.clone().into(), "newer".into()).await?;
    assert_eq!(shown().await?, "newer");
    fine(0).await?;
    s3.kill9();
    assert_eq!(shown().await?, "newer");
    let response = edge.get(&path(1)).await?;
    assert_eq!(header(&response, "cache-control"), "no-store");
    assert_eq!(header(&response, "retry-after"), "1");
    assert_eq!(code(response).await?, away);
    // What is in memory is served on.
    fine(0).await?;
    s3.restart().await?;
    fine(1).await?;
    // A server that takes requests and answers none.
    s3.process().pause()?;
    let response = edge.get(&path(2)).await?;
    assert_eq!(code(response).await?, away);
    s3.process().resume()?;
    fine(2).await?;
    // What a playlist names is on its way; what none names is not there.
    std::fs::remove_file(s3.folder().join(show.key("480p", "3.m4s")))?;
    assert_eq!(code(edge.get(&path(3)).await?).await?, away);
    let init = |line: u64| format!("/media/{}", show.key("480p", &format!("init-{line}.mp4")));
    std::fs::remove_file(s3.folder().join(show.key("480p", "init-0.mp4")))?;
    assert_eq!(code(edge.get(&init(0)).await?).await?, away);
    let absent = (StatusCode::NOT_FOUND, "H05".to_owned());
    for other in [path(4), init(1)] {
        assert_eq!(code(edge.get(&other).await?).await?, absent);
    }
    edge.stop().await
}
