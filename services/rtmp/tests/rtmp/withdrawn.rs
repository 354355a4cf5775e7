//! The right to publish goes while an encoder is on air.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use castlog_log::{Event, PublishKey, pb};
use tokio::time::timeout;

use crate::{
    common::{Bench, SOON, end_of, reason, session, url},
    viewer::Viewer,
};

fn key_event(event: pb::publish_key::Event) -> Event {
    pb::PublishKey { event: Some(event) }.into()
}

#[tokio::test]
async fn a_withdrawn_right_cuts_its_encoder_within_a_second() -> anyhow::Result<()> {
    use pb::{publish_key::Event as Key, registration::Event as Registration};
    let bench = Bench::new().await?;
    let server = bench.serve(bench.config()).await?;
    let next = PublishKey::generate();
    let rotated = pb::publish_key::Rotated {
        key_hash: next.hash().to_string(),
    };
    let deleted = pb::Registration {
        event: Some(Registration::Deleted(pb::registration::Deleted::default())),
    };
    for (event, newest, expected) in [
        (
            key_event(Key::Rotated(rotated)),
            Some(&next),
            "R04: the publish key was rotated",
        ),
        (
            key_event(Key::Revoked(pb::publish_key::Revoked {})),
            None,
            "R04: the publish key was revoked",
        ),
        (deleted.into(), None, "R04: the broadcast was deleted"),
    ] {
        let (broadcast, key) = bench.broadcast().await?;
        let mut encoder = bench.push(&url(&server, key.expose()), &[])?;
        let live = session(&bench.status(broadcast, "started").await?);
        let mut viewer = Viewer::open(&live.ingest_url).await?;
        viewer.video_header().await?;

        let kind = event.kind();
        bench.publish(broadcast, event).await?;
        let acknowledged = Instant::now();
        let end = async {
            while viewer.tag().await?.is_some() {}
            anyhow::Ok(())
        };
        timeout(SOON, end).await.context(expected)??;
        let gone = acknowledged.elapsed();
        let ended = bench.status(broadcast, "ended").await?;
        assert_eq!(reason(&ended), expected);
        let withdrawn = bench.log.last(kind, broadcast).await?.context("no entry")?;
        let took = ended.time - withdrawn.time;
        println!("{expected}: ended in the log after {took}, for viewers after {gone:?}");
        assert!(took < chrono::Duration::seconds(1), "{expected}: after {took}");
        // As long as that, and what a busy machine takes to show it.
        assert!(gone < Duration::from_secs(3), "{expected}: after {gone:?}");
        let said = end_of(&mut encoder).await?;
        assert!(said.contains(expected), "{said}");

        let said = end_of(&mut bench.push(&url(&server, key.expose()), &[])?).await?;
        assert!(said.contains("R01: unknown publish key"), "{expected}: {said}");
        if let Some(newest) = newest {
            let _encoder = bench.push(&url(&server, newest.expose()), &[])?;
            bench.status(broadcast, "started").await?;
        }
    }
    server.stop().await
}
