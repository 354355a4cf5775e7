//! The web pages, point by point, in a real Chromium: `tests/browser/ui.test.mjs`
//! against the whole platform, and the event explorer with very many rows.

use anyhow::Context as _;
use castlog_live_api::Config;
use castlog_log::{BroadcastId, Kind, Secret, header};
use castlog_service::{Health, MediaStoreConfig, Shutdown, open_media_store};
use castlog_testkit::{NatsOptions, TestLog, until};
use castlog_tests::{Browser, SOON, System};

#[tokio::test]
async fn what_a_picky_user_checks() -> anyhow::Result<()> {
    // Its broadcasts are on air at the same time.
    let system = System::start_with(&["pipeline.preset=ultrafast", "pipeline.max_jobs=4"]).await?;
    println!("{}", Browser::new(&system.api)?.checks_the_pages(&system).await?);
    system.stop().await
}

/// As many as the explorer keeps.
const ROWS: u64 = 100_000;
const TOKEN: &str = "test-token-0123456789";

#[tokio::test]
async fn the_explorer_scrolls_through_a_hundred_thousand_rows() -> anyhow::Result<()> {
    let test = TestLog::start(NatsOptions::default().lazy_sync()).await?;
    let media = tempfile::TempDir::new()?;
    let shutdown = Shutdown::new();
    let context = castlog_service::Context {
        log: test.nats.log_of("live-api").await?,
        media: open_media_store(&MediaStoreConfig::folder(media.path()))?,
        shutdown: shutdown.clone(),
        health: Health::default(),
    };
    let config = Config {
        listen: "127.0.0.1:0".to_owned(),
        admin_token: Secret::new(TOKEN.to_owned()),
        ..Config::default()
    };
    let api = castlog_live_api::start(config, context).await?;
    let browser = Browser::new(&format!("http://{}", api.address()))?;
    fill(&test, 0..1000).await?;
    let error = browser.scrolls(TOKEN, ROWS).await.unwrap_err();
    assert!(format!("{error:#}").contains("has 1000 rows"), "{error:#}");
    fill(&test, 1000..ROWS).await?;
    println!("{}", browser.scrolls(TOKEN, ROWS).await?);
    shutdown.begin();
    tokio::time::timeout(SOON, api.wait())
        .await
        .context("the API does not end")?
}

/// Counts of viewers, sent without waiting for each: what is measured is the reader.
async fn fill(test: &TestLog, rows: std::ops::Range<u64>) -> anyhow::Result<()> {
    let subject = Kind::Viewers.of(BroadcastId::generate()).to_string();
    let mut headers = async_nats::HeaderMap::new();
    for (name, value) in [
        (header::SPEC_VERSION, "1.0"),
        (header::ID, "e"),
        (header::TYPE, "castlog.live_stream.viewers.counted"),
        (header::SOURCE, "castlog/hls"),
        (header::TIME, "2026-01-31T12:00:00Z"),
    ] {
        headers.insert(name, value);
    }
    let client = test.log.jetstream().client();
    for first in rows.step_by(1000) {
        for _ in 0..1000 {
            // The protobuf message of one viewer at edge "a".
            let payload = bytes::Bytes::from_static(&[0x0a, 5, 0x0a, 1, b'a', 0x10, 1]);
            #[allow(clippy::disallowed_methods)]
            client
                .publish_with_headers(subject.clone(), headers.clone(), payload)
                .await?;
        }
        let wanted = first + 1000;
        until("the entries are stored", SOON, || async {
            let stored = test.log.last_sequence(Kind::Viewers.stream()).await.ok()?;
            (stored >= wanted).then_some(())
        })
        .await?;
    }
    Ok(())
}
