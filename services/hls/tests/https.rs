//! HTTPS and HTTP/2, as curl speaks them.

// The helpers panic with the tests that call them.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::{net::SocketAddr, pin::pin, process::Stdio, time::Duration};

use anyhow::{Context as _, ensure};
use castlog_hls::Config;
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
    let show = live(&stage).await?;
    try_join_all(RENDITIONS.map(|rendition| show.part(&stage, rendition, 3, 0, 0))).await?;
    let path = show.playlist("480p");
    edge.text_with(&path, |text| text.contains("/3-0-0.m4s\"")).await?;

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
