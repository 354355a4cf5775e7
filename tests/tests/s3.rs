//! The media store in a bucket of a real S3 server: what castlog finds out before it
//! starts, and the whole platform over it.
#![allow(clippy::unwrap_used)]

use std::process::Stdio;

use castlog_log::Secret;
use castlog_service::{
    MediaAccess::{self, Read, Write},
    MediaStoreConfig, MediaStoreError, Shutdown, media_store_ready, open_media_store,
};
use castlog_testkit::{NatsServer, S3Server, tools, until};
use castlog_tests::{
    Encoder, SOON, System,
    player::{self, Stream},
};
use serde_json::json;
use tokio::process::Command;

async fn ready(config: &MediaStoreConfig, access: MediaAccess) -> Result<bool, MediaStoreError> {
    let store = open_media_store(config).unwrap();
    media_store_ready(config, &store, access, &Shutdown::new()).await
}

#[tokio::test]
async fn what_is_wrong_with_a_bucket_is_one_line_before_any_work() -> anyhow::Result<()> {
    let s3 = S3Server::start().await?;
    let right = s3.media();
    let endpoint = right.endpoint.clone();
    let wrong = |change: fn(&mut MediaStoreConfig)| {
        let mut config = right.clone();
        change(&mut config);
        config
    };
    for (config, words) in [
        (
            wrong(|c| c.url = "s3://elsewhere".to_owned()),
            format!("cannot use the media store s3://elsewhere at {endpoint}: "),
        ),
        (
            wrong(|c| c.secret_access_key = Secret::new("a-wrong-secret".to_owned())),
            "SignatureDoesNotMatch".to_owned(),
        ),
        (
            wrong(|c| c.region = "eu-central-1".to_owned()),
            "expecting \"us-east-1\"".to_owned(),
        ),
    ] {
        for access in [Read, Write] {
            let said = ready(&config, access).await.unwrap_err().to_string();
            assert!(said.contains(&words), "{said}");
            assert!(said.contains(&endpoint) && !said.contains('\n'), "{said}");
            assert!(!said.contains(config.secret_access_key.expose()), "{said}");
        }
    }
    // The control, on an empty bucket and on one that has been tried.
    for access in [Read, Write, Write, Read] {
        assert!(ready(&right, access).await?);
    }
    let kept: Vec<_> = std::fs::read_dir(s3.folder())?
        .map(|file| file.unwrap().file_name())
        .collect();
    assert_eq!(kept, ["castlog-store-check"]);
    Ok(())
}

#[tokio::test]
async fn a_store_that_would_overwrite_is_refused_to_writers() -> anyhow::Result<()> {
    let s3 = S3Server::start_without_conditional_writes().await?;
    let said = ready(&s3.media(), Write).await.unwrap_err();
    assert!(matches!(said, MediaStoreError::Overwrites { .. }), "{said:?}");
    assert!(said.to_string().contains("has no conditional writes"), "{said}");
    assert!(ready(&s3.media(), Read).await?);
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_waited_for() -> anyhow::Result<()> {
    let mut s3 = S3Server::start().await?;
    let config = s3.media();
    s3.kill9();
    // It does not give up, but ends with the shutdown.
    let store = open_media_store(&config)?;
    let shutdown = Shutdown::new();
    shutdown.begin();
    assert!(!media_store_ready(&config, &store, Write, &shutdown).await?);
    let waits = tokio::spawn(async move { ready(&config, Write).await });
    s3.restart().await?;
    assert!(tokio::time::timeout(SOON, waits).await???);
    Ok(())
}

#[tokio::test]
async fn a_service_says_why_it_cannot_use_its_bucket() -> anyhow::Result<()> {
    let (s3, nats) = (S3Server::start().await?, NatsServer::start().await?);
    let run = async |service: &str, secret: &str| {
        let media = s3.media();
        let mut command = Command::new(tools::castlog().unwrap());
        for (key, value) in [
            ("nats.url", nats.url().as_str()),
            ("media.url", media.url.as_str()),
            ("media.endpoint", media.endpoint.as_str()),
            ("media.access_key_id", media.access_key_id.as_str()),
            ("media.secret_access_key", secret),
        ] {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.args(["run", service]).stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(SOON, command.output()).await.unwrap().unwrap()
    };
    for service in ["hls", "pipeline", "log-sink"] {
        let output = run(service, "a-wrong-secret").await;
        assert_eq!(output.status.code(), Some(1), "{service}");
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said
            .lines()
            .find(|line| line.starts_with("castlog: cannot use the media store s3://castlog/platform at"));
        assert!(
            line.is_some_and(|line| line.contains("SignatureDoesNotMatch")),
            "{said}"
        );
        let all = [output.stdout, output.stderr].concat();
        assert!(!String::from_utf8_lossy(&all).contains("a-wrong-secret"));
    }
    // A folder and a bucket, and half a key: both are told, before anything is tried.
    let mut command = Command::new(tools::castlog()?);
    command.args([
        "--set",
        "media.path=/srv/media",
        "--set",
        "media.url=s3://castlog",
        "--set",
        "media.access_key_id=x",
    ]);
    let output = command.args(["run", "hls"]).stdin(Stdio::null()).output().await?;
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("media.path and url are both set") && said.contains("media.access_key_id"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn the_platform_runs_over_a_bucket() -> anyhow::Result<()> {
    let s3 = S3Server::start().await?;
    let media = s3.media();
    let settings = [
        "pipeline.preset=ultrafast".to_owned(),
        "pipeline.ladder_rungs=1".to_owned(),
        "log_sink.archive.linger_s=1".to_owned(),
        // What players get comes out of the bucket, but for the newest segments.
        "hls.cache_bytes=0".to_owned(),
        format!("media.url={}", media.url),
        format!("media.endpoint={}", media.endpoint),
        format!("media.access_key_id={}", media.access_key_id),
        format!("media.secret_access_key={}", media.secret_access_key.expose()),
    ];
    let system = System::start_with(&settings.each_ref().map(String::as_str)).await?;
    let (id, key) = system.create(json!({ "title": "in a bucket" })).await?;
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    let stream = Stream::of(&system, &id, 3).await?;
    for (name, seen) in [
        ("source", "h264,1280,720"),
        ("480p", "h264,854,480"),
        ("audio", "aac,48000,2"),
    ] {
        assert_eq!(player::ffprobe(stream.renditions[name].as_str()).await?, seen, "{name}");
    }
    // Where it is, and where it is not.
    assert!(s3.folder().join(&id).is_dir());
    assert!(!system.folder().join("media").exists());
    until("the archive in the bucket", SOON, || async {
        s3.folder().join("archive/_ranges/BROAD_INFO").is_dir().then_some(())
    })
    .await?;
    encoder.stop().await?;
    system.reaches(&id, "ended").await?;
    // The control: without the bucket's objects nothing plays.
    let (id, key) = system.create(json!({ "title": "taken away" })).await?;
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    let stream = Stream::of(&system, &id, 2).await?;
    encoder.stop().await?;
    std::fs::rename(s3.folder().join(&id), s3.folder().join("elsewhere"))?;
    assert!(player::ffprobe(stream.renditions["source"].as_str()).await.is_err());
    system.stop().await
}
