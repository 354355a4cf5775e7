//! Encoders come, go, come back and are refused: real ffmpeg, a real log.

use anyhow::Context as _;
use castlog_flv::TagKind;
use castlog_log::{Event, Kind, PublishKey, Subject, pb};
use castlog_rtmp::Config;
use castlog_testkit::{Process, until};
use tokio::io::AsyncReadExt as _;

use crate::{
    common::{Bench, SOON, end_of, probe, reason, refused, session, url},
    viewer::Viewer,
};

#[tokio::test]
async fn a_publish_from_start_to_end() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    let mut encoder = bench.push(&url(&server, key.expose()), &["-t", "8"])?;

    let started = bench.status(broadcast, "started").await?;
    let live = session(&started);
    assert_eq!(live.server, "rtmp-1");
    assert_eq!(
        live.ingest_url,
        format!("http://{}/flv/{}", server.running.flv, live.session_id)
    );
    let probed = probe(&live.ingest_url, bench.folder.path()).await?;
    assert!(probed.contains("codec_name=h264|width=320|height=180"), "{probed}");
    assert!(probed.contains("codec_name=aac|sample_rate=48000"), "{probed}");
    let first_video = probed
        .lines()
        .find(|line| line.contains("codec_type=video"))
        .unwrap_or_default();
    assert!(
        first_video.contains("flags=K"),
        "the stream opens with a keyframe: {probed}"
    );

    // A reader from the start to the end sees metadata first and time going on.
    let mut viewer = Viewer::open(&live.ingest_url).await?;
    let first = viewer.tag().await?.context("no tag")?;
    assert!(
        first.kind == TagKind::Script && first.data[3..].starts_with(b"onMetaData"),
        "no @setDataFrame"
    );
    let (mut last, mut count) = (0, 0);
    while let Some(tag) = viewer.tag().await? {
        (last, count) = (tag.timestamp, count + 1);
    }
    assert!(count > 50 && last > 4000, "{count} tags until {last} ms");

    let output = end_of(&mut encoder).await?;
    assert!(!output.contains("Error"), "{output}");
    let ended = bench.status(broadcast, "ended").await?;
    assert_eq!(reason(&ended), "the encoder stopped");
    let id = live.session_id.clone();
    assert_eq!(
        bench.statuses(broadcast).await?,
        [("started", id.clone()), ("ended", id.clone())]
    );

    let auth = bench.entries(Kind::Auth, &Kind::Auth.of(broadcast).to_string()).await?;
    let Event::Auth(pb::Auth {
        event: Some(pb::auth::Event::Accepted(accepted)),
    }) = &auth[0].event
    else {
        anyhow::bail!("not accepted: {auth:?}");
    };
    assert_eq!(accepted.session_id, id);
    assert!(accepted.peer.starts_with("127.0.0.1:") && !accepted.encoder.is_empty());
    // Nothing in the log holds the key.
    let json = format!("{:?}", auth.iter().map(castlog_log::Entry::to_json).collect::<Vec<_>>());
    assert!(!json.contains(key.expose()));

    let health = bench
        .log
        .last(Kind::Health, broadcast)
        .await?
        .context("no health sample")?;
    let Event::Health(pb::Health {
        event: Some(pb::health::Event::Sampled(sample)),
    }) = health.event
    else {
        anyhow::bail!("not a sample");
    };
    assert!((20_000..30_000).contains(&sample.frame_rate_milli), "{sample:?}");
    // A keyframe a second; where the clip starts over, a little more.
    assert!((1000..1100).contains(&sample.keyframe_interval_ms), "{sample:?}");

    assert_eq!(reqwest::get(&live.ingest_url).await?.status(), 410);
    let unknown = live
        .ingest_url
        .replace(&id, &castlog_log::SessionId::generate().to_string());
    assert_eq!(reqwest::get(unknown).await?.status(), 404);
    server.stop().await
}

#[tokio::test]
async fn refusals_reach_the_encoder_and_the_log() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    let wrong = PublishKey::generate();
    let host = server.running.rtmp;
    for (url, told) in [
        (url(&server, wrong.expose()), "R01: unknown publish key"),
        (url(&server, "hello"), "R02: not a publish key"),
        (
            format!("rtmp://{host}/other/{}", key.expose()),
            "R02: the URL is not rtmp://HOST/live/<publish key>",
        ),
    ] {
        let output = end_of(&mut bench.push(&url, &[])?).await?;
        assert!(output.contains(told), "ffmpeg does not show {told:?}: {output}");
    }
    let unknown = Subject::UNKNOWN_AUTH.to_string();
    let codes = until("three refusals in the log", SOON, || async {
        let entries = bench.entries(Kind::Auth, &unknown).await.ok()?;
        let code = |entry: &castlog_log::Entry| match &entry.event {
            Event::Auth(pb::Auth {
                event: Some(pb::auth::Event::Rejected(e)),
            }) => e.code.clone(),
            _ => String::new(),
        };
        (entries.len() == 3).then(|| entries.iter().map(code).collect::<Vec<_>>())
    })
    .await?;
    assert_eq!(codes, ["R01", "R02", "R02"]);
    assert_eq!(bench.statuses(broadcast).await?, []);

    // Codecs that are not taken are named. FLV's own are H.263 and MP3.
    let clip = url(&server, key.expose());
    let old = ["-c:v", "flv1", "-an", "-f", "flv", clip.as_str()];
    let output = end_of(&mut bench.push("-", &old)?).await?;
    let ended = bench.status(broadcast, "ended").await?;
    assert_eq!(
        reason(&ended),
        "R05: video codec FLV video codec 2 is not taken, send H.264",
        "{output}"
    );
    server.stop().await
}

#[tokio::test]
async fn a_lost_encoder_resumes_its_session_or_ends_it() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    let target = url(&server, key.expose());

    let mut encoder = bench.push(&target, &[])?;
    let live = session(&bench.status(broadcast, "started").await?);
    let mut viewer = Viewer::open(&live.ingest_url).await?;
    viewer.video_header().await?;
    encoder.kill9();
    let interrupted = bench.status(broadcast, "interrupted").await?;
    // With or without a reset, as it had read everything or not.
    let said = reason(&interrupted);
    assert!(said.starts_with("the connection was "), "{said}");

    encoder.start()?;
    let resumed = bench.status(broadcast, "resumed").await?;
    assert_eq!(session(&resumed), live, "the same session, unchanged");
    viewer
        .video_header()
        .await
        .context("the reader stays, and gets the new configuration")?;

    // With a window of a second, the next loss is final.
    let options = pb::options::Changed {
        reconnect_window_s: 1,
        ..Default::default()
    };
    bench
        .publish(
            broadcast,
            pb::Options {
                event: Some(pb::options::Event::Changed(options)),
            },
        )
        .await?;
    // Entries are read in order, so a second broadcast's key tells when the options are known.
    let (marker, marker_key) = bench.broadcast().await?;
    until("the options to be read", SOON, || async {
        let mut probe = bench.push(&url(&server, marker_key.expose()), &["-t", "0.1"]).ok()?;
        end_of(&mut probe).await.ok()?;
        bench.log.last(Kind::Status, marker).await.ok().flatten()
    })
    .await?;
    encoder.kill9();
    let ended = bench.status(broadcast, "ended").await?;
    assert_eq!(reason(&ended), "the encoder did not come back in time");
    while viewer.tag().await?.is_some() {}
    let names: Vec<_> = bench
        .statuses(broadcast)
        .await?
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, ["started", "interrupted", "resumed", "interrupted", "ended"]);

    // Behind the end, the same key starts a new session.
    encoder.start()?;
    let next = session(&bench.status(broadcast, "started").await?);
    assert_ne!(next.session_id, live.session_id);
    server.stop().await
}

#[tokio::test]
async fn a_second_encoder_is_refused_or_takes_over() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    let target = url(&server, key.expose());
    let mut first = bench.push(&target, &[])?;
    let live = session(&bench.status(broadcast, "started").await?);
    let output = end_of(&mut bench.push(&target, &[])?).await?;
    assert!(
        output.contains("R03: the broadcast is live from another encoder"),
        "{output}"
    );
    assert!(first.exited().is_none(), "the first goes on");

    let options = pb::options::Changed {
        second_publisher: pb::SecondPublisher::TakeOver.into(),
        ..Default::default()
    };
    bench
        .publish(
            broadcast,
            pb::Options {
                event: Some(pb::options::Event::Changed(options)),
            },
        )
        .await?;
    let _second = until("the second to take over", SOON, || async {
        let mut second = bench.push(&target, &[]).ok()?;
        let taken = until("resumption", std::time::Duration::from_secs(3), || async {
            let last = bench.log.last(Kind::Status, broadcast).await.ok().flatten()?;
            (last.event.name() == Some("resumed")).then_some(())
        });
        if taken.await.is_err() {
            second.kill9();
            return None;
        }
        Some(second)
    })
    .await?;
    end_of(&mut first).await.context("the first is cut")?;
    assert_eq!(
        session(&bench.status(broadcast, "resumed").await?).session_id,
        live.session_id
    );
    server.stop().await
}

#[tokio::test]
async fn a_restart_keeps_the_session() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let (crashed, _) = bench.broadcast().await?;
    // A broadcast that an earlier run left live, without a word, long ago.
    let left = pb::status::Session {
        session_id: castlog_log::SessionId::generate().to_string(),
        started_at: Some(
            chrono::DateTime::from_timestamp(1_700_000_000, 0)
                .context("a time")?
                .into(),
        ),
        server: "rtmp-1".into(),
        ingest_url: "http://127.0.0.1:1/flv/x".into(),
    };
    let started = pb::status::Started {
        session: Some(left.clone()),
    };
    bench
        .publish(
            crashed,
            pb::Status {
                event: Some(pb::status::Event::Started(started)),
            },
        )
        .await?;

    let config = Config {
        reconnect_window_s: 8,
        ..bench.config()
    };
    let server = bench.serve(config.clone()).await?;
    let recovered = bench.status(crashed, "interrupted").await?;
    assert_eq!(reason(&recovered), "the server was restarted");
    assert_eq!(session(&recovered).session_id, left.session_id);
    assert!(
        session(&recovered)
            .ingest_url
            .starts_with(&format!("http://{}/flv/", server.running.flv))
    );

    let mut encoder = bench.push(&url(&server, key.expose()), &[])?;
    let live = session(&bench.status(broadcast, "started").await?);
    let mut viewer = Viewer::open(&live.ingest_url).await?;
    viewer.video_header().await?;
    server.stop().await?;
    let interrupted = bench.log.last(Kind::Status, broadcast).await?.context("no status")?;
    assert_eq!(
        interrupted.event.name(),
        Some("interrupted"),
        "it is in the log before the server is gone"
    );
    while viewer.tag().await?.is_some() {}
    end_of(&mut encoder).await?;

    let server = bench.serve(config).await?;
    let _encoder = bench.push(&url(&server, key.expose()), &[])?;
    let resumed = session(&bench.status(broadcast, "resumed").await?);
    assert_eq!(resumed.session_id, live.session_id);
    Viewer::open(&resumed.ingest_url).await?.video_header().await?;
    // Nobody came back for the other.
    assert_eq!(
        reason(&bench.status(crashed, "ended").await?),
        "the encoder did not come back in time"
    );
    server.stop().await
}

#[tokio::test]
async fn without_the_log_nothing_goes_live() -> anyhow::Result<()> {
    let mut bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let server = bench.serve(bench.config()).await?;
    bench.nats.kill9();
    let output = end_of(&mut bench.push(&url(&server, key.expose()), &[])?).await?;
    assert!(output.contains("R08: the log"), "{output}");
    bench.nats.restart().await?;
    let encoder: Process = until("the log's return", SOON, || async {
        let mut encoder = bench.push(&url(&server, key.expose()), &[]).ok()?;
        let started = until("a start", std::time::Duration::from_secs(3), || async {
            bench.log.last(Kind::Status, broadcast).await.ok().flatten()
        });
        if started.await.is_err() {
            encoder.kill9();
            return None;
        }
        Some(encoder)
    })
    .await?;
    bench.status(broadcast, "started").await?;
    drop(encoder);
    server.stop().await
}

#[tokio::test]
async fn rtmps_with_the_development_certificate() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let config = Config {
        tls_listen: Some(([127, 0, 0, 1], 0).into()),
        ..bench.config()
    };
    let server = bench.serve(config).await?;
    let address = server.running.rtmps.context("no RTMPS")?;
    let target = format!("rtmps://{address}/live/{}", key.expose());
    let _encoder = bench.push(&target, &[])?;
    let live = session(&bench.status(broadcast, "started").await?);
    Viewer::open(&live.ingest_url).await?.video_header().await?;
    server.stop().await
}

#[tokio::test]
async fn limits_are_told_by_their_codes() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let config = Config {
        max_bitrate_kbps: 100,
        handshake_timeout_s: 1,
        ..bench.config()
    };
    let server = bench.serve(config).await?;

    let mut encoder = bench.push(&url(&server, key.expose()), &[])?;
    bench.status(broadcast, "started").await?;
    let said = end_of(&mut encoder).await?;
    assert!(said.contains("R06: bit rate of "), "{said}");
    let ended = reason(&bench.status(broadcast, "ended").await?);
    assert!(
        ended.starts_with("R06: bit rate of ") && ended.ends_with("limit of 100"),
        "{ended}"
    );

    // A peer that says nothing: there is no RTMP yet to answer in.
    let before = refused("R07");
    let mut silent = tokio::net::TcpStream::connect(server.running.rtmp).await?;
    let read = tokio::time::timeout(SOON, silent.read(&mut [0; 16])).await?;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    until("the refusal is counted", SOON, || async {
        (refused("R07") > before).then_some(())
    })
    .await?;
    server.stop().await
}
