//! Several servers on one log, as behind a load balancer.

use anyhow::Context as _;
use castlog_log::{BroadcastId, SessionId, pb};
use castlog_rtmp::Config;
use castlog_rtmp_core::type_id;
use chrono::{TimeDelta, Utc};

use crate::{
    common::{Bench, Server, session},
    peer::Peer,
    viewer::Viewer,
};

const KEYFRAME: &[u8] = &[0x17, 1, 0, 0, 0, 0, 0, 0, 2, 0x65, 0x88];

async fn serve(bench: &Bench, name: &str) -> anyhow::Result<Server> {
    let config = Config {
        name: name.to_owned(),
        reconnect_window_s: 8,
        // Who is on air here sends next to nothing.
        idle_timeout_s: 300,
        ..bench.config()
    };
    bench.serve(config).await
}

async fn names(bench: &Bench, broadcast: BroadcastId) -> anyhow::Result<Vec<&'static str>> {
    let statuses = bench.statuses(broadcast).await?;
    Ok(statuses.into_iter().map(|(name, _)| name).collect())
}

#[tokio::test]
async fn a_lost_encoder_may_come_back_to_another_server() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let one = serve(&bench, "rtmp-1").await?;
    let two = serve(&bench, "rtmp-2").await?;
    let encoder = Peer::publish(one.running.rtmp, &key).await?;
    let live = session(&bench.status(broadcast, "started").await?);
    let busy = Peer::publish(two.running.rtmp, &key).await.err();
    let busy = busy.context("it is live twice")?.to_string();
    assert!(busy.contains("R03: the broadcast is live at another server"), "{busy}");

    drop(encoder);
    bench.status(broadcast, "interrupted").await?;
    let mut encoder = Peer::publish(two.running.rtmp, &key).await?;
    let moved = session(&bench.status(broadcast, "resumed").await?);
    let expected = pb::status::Session {
        server: "rtmp-2".to_owned(),
        ingest_url: format!("http://{}/flv/{}", two.running.flv, live.session_id),
        ..live.clone()
    };
    assert_eq!(moved, expected, "the same session");
    let mut viewer = Viewer::open(&moved.ingest_url).await?;
    encoder.send(type_id::VIDEO, KEYFRAME).await?;
    let tag = viewer.tag().await?.context("the stream ended")?;
    assert_eq!(tag.data, KEYFRAME);

    // Back again, while the first one still has its part of the session in mind.
    drop(encoder);
    bench.status(broadcast, "interrupted").await?;
    let _encoder = Peer::publish(one.running.rtmp, &key).await?;
    assert_eq!(session(&bench.status(broadcast, "resumed").await?), live);

    // The other finds that out when it is to end the session, and does not call it over.
    while viewer.tag().await?.is_some() {}
    assert_eq!(reqwest::get(&moved.ingest_url).await?.status(), 404);
    let expected = ["started", "interrupted", "resumed", "interrupted", "resumed"];
    assert_eq!(names(&bench, broadcast).await?, expected);
    one.stop().await?;
    two.stop().await
}

#[tokio::test]
async fn a_session_that_its_server_did_not_end_in_time_is_ended_by_another() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (broadcast, key) = bench.broadcast().await?;
    let now = Utc::now();
    let left = pb::status::Session {
        session_id: SessionId::generate().to_string(),
        started_at: Some((now - TimeDelta::seconds(60)).into()),
        server: "rtmp-9".into(),
        ingest_url: "http://127.0.0.1:1/flv/x".into(),
    };
    let interrupted = pb::status::Interrupted {
        session: Some(left.clone()),
        reason: "gone".into(),
        deadline: Some((now - TimeDelta::seconds(1)).into()),
    };
    let interrupted = pb::Status {
        event: Some(pb::status::Event::Interrupted(interrupted)),
    };
    bench.publish(broadcast, interrupted).await?;
    let server = serve(&bench, "rtmp-1").await?;
    let _encoder = Peer::publish(server.running.rtmp, &key).await?;
    let started = session(&bench.status(broadcast, "started").await?);
    assert_ne!(started.session_id, left.session_id);
    assert_eq!(names(&bench, broadcast).await?, ["interrupted", "ended", "started"]);
    server.stop().await
}
