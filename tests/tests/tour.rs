//! The tour of the README, with the real binaries: from an encoder to a search
//! result, through the log.

use std::{future::Future, time::Duration};

use anyhow::Context as _;
use castlog_playlist::check;
use castlog_testkit::{redis_connection, until};
use castlog_tests::{
    Browser, Encoder, SOON, System,
    player::{self, Stream},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// What makes the `nats` command print entries as JSON.
const DECODE: &str = "castlog decode {{Subject}}";

/// What the search finds has settled.
async fn found<F: Future<Output = anyhow::Result<Vec<String>>>>(
    what: &str,
    wanted: &[&str],
    search: impl Fn() -> F,
) -> anyhow::Result<()> {
    until(what, SOON, || async {
        search().await.is_ok_and(|ids| ids == wanted).then_some(())
    })
    .await
}

/// Deletes the search index and waits until Meilisearch has done it.
async fn delete_index(system: &System) -> anyhow::Result<()> {
    let (url, key) = (
        system.config(["meilisearch", "url"])?,
        system.config(["meilisearch", "indexer_key"])?,
    );
    let http = reqwest::Client::new();
    let request = http.delete(format!("{url}/indexes/broadcasts")).bearer_auth(&key);
    let task: Value = request.send().await?.error_for_status()?.json().await?;
    let uid = task["taskUid"].as_u64().context("no task")?;
    until("the index is deleted", SOON, || async {
        let request = http.get(format!("{url}/tasks/{uid}")).bearer_auth(&key);
        let task: Value = request.send().await.ok()?.json().await.ok()?;
        (task["status"] == "succeeded").then_some(())
    })
    .await
}

#[tokio::test]
async fn from_an_encoder_to_a_search_result() -> anyhow::Result<()> {
    let system = System::start().await?;

    // 1. Create.
    let body =
        json!({ "title": "한밤의 랭크 게임 stream", "tags": ["game", "korean"], "options": { "language": "ko" } });
    let (status, created) = system.call(Method::POST, "/v1/broadcasts", Some(body)).await?;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let id = created["broadcast"]["id"].as_str().context("no id")?.to_owned();
    let key = created["publish_key"].as_str().context("no key")?.to_owned();
    let (status, refused) = system
        .call(Method::POST, "/v1/broadcasts", Some(json!({ "title": "" })))
        .await?;
    assert!(
        status.is_client_error() && refused["code"].is_string(),
        "{status} {refused}"
    );
    found("not live yet", &[], || async {
        system.search(&[("q", "stream")]).await
    })
    .await?;

    // 2. Push.
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    system.reaches(&id, "live").await?;

    // 4. Watch: a valid multivariant playlist with the source, two lower
    // renditions and audio, each of which a real player decodes.
    let base = format!("{}/live/{id}", system.hls);
    let stream = Stream::of(&system, &id, 2).await?;
    let names: Vec<&str> = stream.renditions.keys().map(String::as_str).collect();
    assert_eq!(names, ["360p", "480p", "audio", "source"]);
    let sizes: Vec<_> = stream.multivariant.variants.iter().map(|v| v.resolution).collect();
    assert_eq!(sizes, [Some((1280, 720)), Some((854, 480)), Some((640, 360)), None]);
    for url in stream.renditions.values() {
        player::ffmpeg(url.as_str()).await?;
    }
    assert!(
        player::ffmpeg(&format!("{base}/1080p/index.m3u8")).await.is_err(),
        "no such rendition"
    );
    // In a browser, through hls.js: decoded pictures, and the quality switched.
    let browser = Browser::new(&system.api)?;
    let watched = browser.watches(&id).await?;
    assert_eq!(watched["qualities"], json!(["720p", "480p", "360p"]), "{watched}");
    assert_ne!(watched["heights"][0], watched["heights"][1], "{watched}");
    let unknown = "01m000000000000000000000zz";
    browser.misses(unknown).await?;
    let said = format!("{:#}", browser.watches(unknown).await.unwrap_err());
    assert!(said.contains("nothing to watch"), "{said}");

    // 5. Search: title in two languages, a typo, tag, resolution.
    for query in [
        ("q", "stream"),
        ("q", "랭크"),
        ("q", "straem"),
        ("tags", "game"),
        ("resolutions", "480"),
    ] {
        found(&format!("{query:?}"), &[&id], || async {
            system.search(&[query]).await
        })
        .await?;
    }
    for query in [("q", "zebra"), ("tags", "cooking"), ("resolutions", "2160")] {
        assert_eq!(system.search(&[query]).await?, [""; 0], "{query:?}");
    }
    // The same in the search page, where the card leads to the watch page.
    for query in ["straem", "랭크"] {
        let seen = browser.finds(query, &id).await?;
        assert_eq!(seen["card"]["heights"], json!(["720p", "480p", "360p"]), "{seen}");
    }
    browser.finds_nothing("zebra").await?;

    // 3. The log, by the real nats command: readable, and without the key.
    let subscribe = |subject, count| ["sub", subject, "--all", "--count", count, "--translate", DECODE];
    let said = system.nats(&subscribe("media.broad_info.>", "5")).await?;
    assert!(said.contains("한밤의") && said.contains("keyHash"), "{said}");
    assert!(!said.contains(&key), "the key is in the log");
    let said = system.nats(&["stream", "ls", "--names"]).await?;
    for stream in ["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT", "LIVE_PART"] {
        assert!(said.contains(stream), "{stream} is not in {said}");
    }
    let said = system.nats(&["consumer", "ls", "LIVE_STREAM", "--names"]).await?;
    for consumer in ["indexer", "live_info", "log_sink", "pipeline"] {
        assert!(said.contains(consumer), "{consumer} is not in {said}");
    }
    let absent = system.nats(&["consumer", "ls", "NO_SUCH_STREAM", "--names"]).await;
    assert!(absent.is_err(), "{absent:?}");

    // 6. Change the title while live.
    let title = json!({ "title": "Chess at noon" });
    let (status, _) = system
        .call(
            Method::PUT,
            &format!("/v1/broadcasts/{id}/title?wait=applied"),
            Some(title),
        )
        .await?;
    assert!(status.is_success(), "{status}");
    found("the new title", &[&id], || async {
        system.search(&[("q", "chess")]).await
    })
    .await?;
    found("the old title is gone", &[], || async {
        system.search(&[("q", "랭크")]).await
    })
    .await?;

    // 8. A wrong key.
    let wrong = format!("{}/ck_{}", system.rtmp, "a".repeat(32));
    let (accepted, said) = Encoder::picture(&wrong)?.outcome().await?;
    assert!(!accepted && said.contains("R01"), "{said}");
    assert_eq!(system.state(&id).await?, "live", "the other encoder does not notice");
    let said = system.nats(&subscribe("media.live_stream.auth.unknown", "1")).await?;
    assert!(
        said.contains("unknown publish key") && !said.contains("ck_aaaa"),
        "{said}"
    );

    // 7. Stop.
    system.equals_the_log(&[]).await?;
    encoder.stop().await?;
    system.reaches(&id, "ended").await?;
    found("it has left the search", &[], || async {
        system.search(&[("q", "chess")]).await
    })
    .await?;
    until("the playlist is closed", SOON, || async {
        let text = system.text(&format!("{base}/source/index.m3u8")).await.ok()?;
        text.contains("#EXT-X-ENDLIST").then_some(())
    })
    .await?;

    // The pipeline is free for the next.
    let again = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    system.reaches(&id, "live").await?;
    found("it is back", &[&id], || async {
        system.search(&[("q", "chess"), ("resolutions", "720")]).await
    })
    .await?;
    again.stop().await?;
    system.stop().await
}

#[tokio::test]
async fn killed_services_come_back_and_views_stay_equal_to_the_log() -> anyhow::Result<()> {
    let system = System::start().await?;
    let body = json!({ "title": "title 0", "tags": ["crash"] });
    let (id, key) = system.create(body).await?;
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    system.reaches(&id, "live").await?;
    let playlist = format!("{}/live/{id}/480p/index.m3u8", system.hls);
    let newest = || async {
        let text = system.text(&playlist).await.ok()?;
        text.lines()
            .rfind(|l| !l.starts_with('#') && l.contains(".m4s"))
            .map(str::to_owned)
    };
    until("a segment", SOON, newest).await?;

    for (n, service) in ["live-info", "indexer", "log-sink", "hls", "pipeline", "live-api"]
        .iter()
        .enumerate()
    {
        let before = until("a segment", SOON, newest).await?;
        system.kill9(service).await?;
        let title = json!({ "title": format!("title {}", n + 1) });
        until("the API takes the title", SOON, || async {
            let path = format!("/v1/broadcasts/{id}/title");
            let (status, _) = system.call(Method::PUT, &path, Some(title.clone())).await.ok()?;
            status.is_success().then_some(())
        })
        .await?;
        until("the stream plays on", SOON, || async {
            newest().await.filter(|now| *now != before)
        })
        .await
        .with_context(|| format!("after {service} was killed"))?;
    }
    let text = system.text(&playlist).await?;
    assert_eq!(check::media(&text), [], "{text}");
    system.equals_the_log(&[]).await?;
    found("the last title", &[&id], || async {
        system.search(&[("q", "\"title 6\"")]).await
    })
    .await?;

    // The RTMP server itself: its session waits for the encoder, which is gone
    // with it, and the broadcast is live again when the encoder is back.
    system.kill9("rtmp").await?;
    let (_, _) = encoder.outcome().await?;
    system.reaches(&id, "interrupted").await?;
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    system.reaches(&id, "live").await?;
    let before = until("a segment", SOON, newest).await?;
    until("the stream plays on", SOON, || async {
        newest().await.filter(|now| *now != before)
    })
    .await?;

    // Redis emptied and the index deleted under the running services.
    let mut redis = redis_connection(&system.config(["redis", "url"])?).await?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await?;
    let (equal, said) = system.castlog(&["verify", "live-info"]).await?;
    assert!(!equal, "an empty Redis is not equal to the log: {said}");
    delete_index(&system).await?;
    for view in ["live-info", "index"] {
        let (done, said) = system.castlog(&["rebuild", view]).await?;
        assert!(done, "{said}");
        system.equals_the_log(&[view]).await?;
    }
    found("the last title", &[&id], || async {
        system.search(&[("q", "\"title 6\"")]).await
    })
    .await?;
    assert_eq!(system.state(&id).await?, "live");
    tokio::time::timeout(Duration::from_secs(60), encoder.stop()).await??;
    system.reaches(&id, "ended").await?;
    system.stop().await
}
