//! HTTPS, HTTP/2 and kept connections, as curl speaks them, and gzip.

// The helpers panic with the tests that call them.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::{io::Read as _, net::SocketAddr, pin::pin, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use castlog_hls::Config;
use flate2::bufread::GzDecoder;
use futures::future::{join_all, try_join_all};
use support::{Edge, RENDITIONS, Show, Stage};
use tokio::{io::AsyncReadExt as _, net::TcpStream, process::Command};

/// An edge with HTTPS, and its address.
async fn edge(stage: &Stage, folder: &tempfile::TempDir, config: Config) -> anyhow::Result<(Edge, SocketAddr)> {
    let config = Config {
        tls_listen: Some(([127, 0, 0, 1], 0).into()),
        dev_cert_dir: folder.path().to_owned(),
        ..config
    };
    let edge = stage.edge(config).await?;
    edge.ready().await?;
    let address = edge.running.https().context("HTTPS is off")?;
    Ok((edge, address))
}

/// A broadcast with segments 0 to 2.
async fn live(stage: &Stage) -> anyhow::Result<Show> {
    let show = Show::new();
    show.open(stage).await?;
    for n in 0..3 {
        show.work(stage, n, 0).await?;
    }
    Ok(show)
}

/// The same with a part of the next one.
async fn live_to_a_part(stage: &Stage, edge: &Edge) -> anyhow::Result<Show> {
    let show = live(stage).await?;
    try_join_all(RENDITIONS.map(|rendition| show.part(stage, rendition, 3, 0, 0))).await?;
    for rendition in RENDITIONS {
        let reported = "LAST-MSN=3,LAST-PART=0";
        let told = |text: &str| text.contains("/3-0-0.m4s\"") && text.matches(reported).count() == 2;
        edge.text_with(&show.playlist(rendition), told).await?;
    }
    Ok(show)
}

/// What curl says of a request, by `%{…}` variables; the certificate has to be the one in
/// the folder.
async fn curl(folder: &tempfile::TempDir, arguments: &[&str], says: &str) -> anyhow::Result<String> {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "60", "--write-out", says])
        .arg("--cacert")
        .arg(folder.path().join("certificate.pem"))
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command.output().await.context("curl does not start")?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "curl {arguments:?}: {error}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_version_is_chosen_by_the_viewer() -> anyhow::Result<()> {
    let (stage, folder) = (Stage::build().await?, tempfile::tempdir()?);
    let (edge, https) = edge(&stage, &folder, Config::default()).await?;
    let show = live(&stage).await?;
    let path = show.playlist("480p");
    let plain = edge.text_with(&path, |text| text.contains("/2-0-")).await?;

    let secure = format!("https://{https}{path}");
    let text = curl(&folder, &["--http2", &secure], "%{http_version} %{content_type}").await?;
    assert_eq!(text, format!("{plain}2 application/vnd.apple.mpegurl"));
    let text = curl(&folder, &["--http1.1", &secure], "%{http_version}").await?;
    assert_eq!(text, format!("{plain}1.1"));
    // A proxy in front that has ended TLS.
    let url = format!("{}{path}", edge.base);
    let text = curl(&folder, &["--http2-prior-knowledge", &url], "%{http_version}").await?;
    assert_eq!(text, format!("{plain}2"));
    let media = format!("https://{https}/media/{}", show.key("480p", "1.m4s"));
    let text = curl(&folder, &["--range", "490-509", &media], "").await?;
    let parts = [0, 1].map(|index| Show::part_bytes("480p", 1, 0, index)).concat();
    assert_eq!(text.as_bytes(), &parts[490..510]);
    // The control: a certificate of somebody else is not taken for this one.
    let other = tempfile::tempdir()?;
    std::fs::copy(
        "/etc/ssl/certs/ca-certificates.crt",
        other.path().join("certificate.pem"),
    )?;
    let error = curl(&other, &[&secure], "").await.unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn many_wait_on_one_connection() -> anyhow::Result<()> {
    let (stage, folder) = (Stage::build().await?, tempfile::tempdir()?);
    let (edge, https) = edge(&stage, &folder, Config::default()).await?;
    let show = live_to_a_part(&stage, &edge).await?;
    let path = show.playlist("480p");
    let url = format!("https://{https}{path}?_HLS_msn=3&_HLS_part=1&viewer=[1-80]");
    let arguments = [
        "--http2",
        "--parallel",
        "--parallel-max",
        "80",
        "--output",
        "/dev/null",
        &url,
    ];
    let mut waiting = pin!(curl(
        &folder,
        &arguments,
        "%{http_code} %{http_version} %{num_connects}\n"
    ));
    // Time to ask: what is there is not waited for.
    let asked = tokio::time::timeout(Duration::from_secs(1), &mut waiting).await;
    assert!(asked.is_err(), "answered before the part was there");
    show.part(&stage, "480p", 3, 0, 1).await?;
    let answers = waiting.await?;
    assert_eq!(answers.lines().count(), 80);
    assert!(answers.lines().all(|line| line.starts_with("200 2 ")), "{answers}");
    let connections: u32 = answers
        .lines()
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok())
        .sum();
    assert!(connections <= 2, "{connections} connections");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_kept_whatever_is_asked_on_it() -> anyhow::Result<()> {
    let (stage, folder) = (Stage::build().await?, tempfile::tempdir()?);
    let (edge, https) = edge(&stage, &folder, Config::default()).await?;
    let show = live_to_a_part(&stage, &edge).await?;
    let (playlist, media) = (show.playlist("480p"), |name: &str| show.key("480p", name));
    for (index, base) in (1..).zip([format!("https://{https}"), edge.base.clone()]) {
        let asked = [
            (format!("{base}{}", show.multivariant()), 200),
            (format!("{base}{playlist}"), 200),
            (format!("{base}/media/{}", media("1.m4s")), 200),
            (format!("{base}{playlist}?_HLS_msn=3&_HLS_part={index}"), 200),
            (format!("{base}/media/{}", media("99.m4s")), 404),
            (format!("{base}{playlist}?_HLS_msn=99"), 400),
            (format!("{base}/media/{}", media(&format!("3-0-{index}.m4s"))), 200),
        ];
        let mut arguments = vec!["--http1.1"];
        for (url, _) in &asked {
            arguments.extend(["--output", "/dev/null", url]);
        }
        let mut answers = pin!(curl(&folder, &arguments, "%{http_code} %{num_connects}\n"));
        let waiting = tokio::time::timeout(Duration::from_secs(1), &mut answers).await;
        assert!(waiting.is_err(), "answered before the part was there");
        show.part(&stage, "480p", 3, 0, index).await?;
        let expected = (0..)
            .zip(&asked)
            .map(|(n, (_, code))| format!("{code} {}\n", u32::from(n == 0)));
        assert_eq!(answers.await?, expected.collect::<String>(), "{base}");
    }
    edge.stop().await
}

/// The text of an answer, what it was packed with, and its size on the way.
async fn read(answer: reqwest::Response) -> anyhow::Result<(String, String, usize)> {
    let coding = answer
        .headers()
        .get("content-encoding")
        .map_or("", |v| v.to_str().unwrap());
    let coding = coding.to_owned();
    let bytes = answer.bytes().await?;
    let text = match coding.as_str() {
        "gzip" => {
            let (mut packed, mut text) = (GzDecoder::new(&*bytes), String::new());
            // With its checksum and its length.
            packed.read_to_string(&mut text)?;
            ensure!(packed.into_inner().is_empty(), "there is more behind it");
            text
        }
        _ => String::from_utf8(bytes.to_vec())?,
    };
    Ok((text, coding, bytes.len()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_packed_is_the_same_text_and_media_is_not_packed() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = live_to_a_part(&stage, &edge).await?;
    for n in 3..12 {
        show.work(&stage, n, 0).await?;
    }
    for rendition in RENDITIONS {
        let told = |text: &str| text.matches("LAST-MSN=11,LAST-PART=7").count() == 2;
        edge.text_with(&show.playlist(rendition), told).await?;
    }
    let playlist = show.playlist("480p");
    let ask = async |path: &str, takes: &str| {
        let request = edge.client.get(format!("{}{path}", edge.base));
        let answer = request.header("accept-encoding", takes).send().await?;
        read(answer.error_for_status()?).await
    };
    let waits = format!("{playlist}?_HLS_msn=12&_HLS_part=0");
    let waits_for_delta = format!("{waits}&_HLS_skip=YES");
    let (delta, told) = (format!("{playlist}?_HLS_skip=YES"), format!("{playlist}?_HLS_msn=11"));
    for path in [&show.multivariant(), &playlist, &delta, &told] {
        let (plain, coding, size) = ask(path, "identity").await?;
        assert_eq!((coding.as_str(), size), ("", plain.len()), "{path}");
        for takes in ["br", "gzip;q=0"] {
            assert_eq!(ask(path, takes).await?.1, "", "{path} {takes}");
        }
        for takes in ["gzip", "deflate, gzip;q=0.5"] {
            let (packed, coding, size) = ask(path, takes).await?;
            assert_eq!((coding.as_str(), &packed), ("gzip", &plain), "{path} {takes}");
            assert!(size < plain.len(), "{path}: {size} of {}", plain.len());
        }
    }
    let (packed, packed_delta, plain, published) = tokio::join!(
        ask(&waits, "gzip"),
        ask(&waits_for_delta, "gzip"),
        ask(&waits, "identity"),
        show.part(&stage, "480p", 12, 0, 0),
    );
    published?;
    let (packed, packed_delta, plain) = (packed?, packed_delta?, plain?);
    assert_eq!((packed.1.as_str(), packed_delta.1.as_str()), ("gzip", "gzip"));
    assert_eq!(packed.0, plain.0);
    assert!(plain.0.contains("/12-0-0.m4s\"") && packed_delta.0.contains("#EXT-X-SKIP:"));
    assert_eq!(packed_delta.0, ask(&delta, "identity").await?.0);

    for name in ["1.m4s", "init-0.mp4", "12-0-0.m4s"] {
        let url = format!("{}/media/{}", edge.base, show.key("480p", name));
        let answer = edge.client.get(url).header("accept-encoding", "gzip").send().await?;
        assert_eq!(answer.status(), 200, "{name}");
        assert!(!answer.headers().contains_key("content-encoding"), "{name}");
    }
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_never_ends_holds_up_nobody() -> anyhow::Result<()> {
    let (stage, folder) = (Stage::build().await?, tempfile::tempdir()?);
    let config = Config {
        max_connections: 3,
        ..Config::default()
    };
    let (edge, https) = edge(&stage, &folder, config).await?;
    let mut silent = [TcpStream::connect(https).await?, TcpStream::connect(https).await?];
    let url = format!("https://{https}/live/none/index.m3u8");
    let answer = curl(&folder, &["--output", "/dev/null", &url], "%{http_code}").await?;
    assert_eq!(answer, "404");
    // Both listeners share the places; those of the silent come back.
    let third = TcpStream::connect(edge.running.address()).await?;
    let answers = join_all(silent.iter_mut().map(|silent| silent.read_u8())).await;
    assert!(answers.iter().all(Result::is_err), "they are cut");
    let answer = curl(&folder, &["--output", "/dev/null", &url], "%{http_code}").await?;
    assert_eq!(answer, "404");
    drop(third);
    edge.stop().await
}
