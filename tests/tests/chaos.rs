//! Services and servers are killed at random under load: afterwards every view
//! equals a replay of the log, and nothing that was acknowledged is missing.
//!
//! `CASTLOG_CHAOS_ROUNDS` sets the rounds; `just chaos` runs many.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use castlog_log::{ConnectConfig, Log, Secret, provision};
use castlog_playlist::check;
use castlog_service::Shutdown;
use castlog_testkit::{change_consumer, redis_connection, until};
use castlog_tests::{Encoder, SOON, System};
use rand::{RngExt as _, seq::IndexedRandom as _};
use reqwest::Method;
use serde_json::{Value, json};

/// Rounds without the variable: a few, as one test of many.
const ROUNDS: u32 = 2;
/// Broadcasts whose titles and tags change without an encoder.
const OTHERS: usize = 3;
/// Changes of each broadcast in a round.
const CHANGES: u32 = 8;
/// Every so many rounds the stream is waited for: a segment of a new worker takes
/// longer than a round.
const PLAYED: u32 = 10;
/// Every so many rounds, and in the last, every view is compared with the log entry by
/// entry; in between, those for which it takes a moment.
const COMPARED: u32 = 10;
/// Streams that the log sink makes searchable.
const SINK_STREAMS: [&str; 4] = ["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT", "LIVE_TELEMETRY"];

/// What a killed service held comes again after this, in place of 30 s.
const ACK_WAIT: Duration = Duration::from_secs(3);

/// The change of each broadcast that was acknowledged last.
type Acked = BTreeMap<String, u32>;

#[tokio::test]
async fn views_equal_a_replay_whatever_is_killed() -> anyhow::Result<()> {
    let rounds = std::env::var("CASTLOG_CHAOS_ROUNDS").map_or(Ok(ROUNDS), |text| {
        text.parse().context("CASTLOG_CHAOS_ROUNDS is no number")
    })?;
    // The archive is a second late in place of five minutes, so that it is at work.
    let settings = ["pipeline.preset=ultrafast", "log_sink.archive.linger_s=1"];
    let system = System::start_with(&settings).await?;
    let log = log(&system).await?;
    let (live, key) = system.create(json!({ "title": "chaos", "tags": ["chaos"] })).await?;
    let mut acked = Acked::from([(live.clone(), 0)]);
    for _ in 0..OTHERS {
        let (id, _) = system.create(json!({ "title": "chaos", "tags": ["chaos"] })).await?;
        acked.insert(id, 0);
    }
    let url = format!("{}/{key}", system.rtmp);
    let on_air = Shutdown::new();
    let encoder = tokio::spawn(keep_pushing(url, on_air.clone()));
    system.reaches(&live, "live").await?;
    plays_on(&system, &live, None).await?;

    come_again_soon(&log).await?;
    let processes = system.processes()?;
    let mut kills = BTreeMap::<&str, u32>::new();
    for round in 1..=rounds {
        let victims = processes.sample(&mut rand::rng(), rand::rng().random_range(1..=2));
        let victims: Vec<&str> = victims.map(String::as_str).collect();
        let begun = Instant::now();
        let before = newest_segment(&system, &live).await;
        let told = || format!("round {round}, killed: {}", victims.join(", "));
        let changes = futures::future::try_join_all(acked.iter().map(|(id, from)| change(&system, id, *from)));
        let (changed, ()) = tokio::try_join!(changes, kill(&system, &victims)).with_context(told)?;
        acked = changed.into_iter().collect();
        for victim in &victims {
            *kills.entry(victim).or_default() += 1;
        }
        if victims.contains(&"nats-server") {
            are_as_defined(&log).await.with_context(told)?;
            come_again_soon(&log).await.with_context(told)?;
        }

        if round % PLAYED == 0 {
            system.reaches(&live, "live").await.with_context(told)?;
            plays_on(&system, &live, before).await.with_context(told)?;
        }
        nothing_is_missing(&system, &acked).await.with_context(told)?;
        if round % COMPARED == 0 || round == rounds {
            everything_is_archived(&system, &log).await.with_context(told)?;
            system.equals_the_log(&[]).await.with_context(told)?;
        } else {
            let quick = ["live-info", "index", "change-feed"];
            system.equals_the_log(&quick).await.with_context(told)?;
        }
        every_entry_is_searchable(&system, &log).await.with_context(told)?;
        println!("{}: equal after {:.1} s", told(), begun.elapsed().as_secs_f64());
    }
    let total: u32 = kills.values().sum();
    println!("{rounds} rounds, {total} kills: {kills:?}");
    on_air.begin();
    encoder.await??;
    system.reaches(&live, "ended").await?;
    what_is_spoilt_is_told_and_mended(&system, &live).await?;
    system.stop().await
}

async fn log(system: &System) -> anyhow::Result<Log> {
    let config = ConnectConfig {
        url: system.env("NATS_URL")?.to_owned(),
        user: system.env("NATS_OPERATOR_USER")?.to_owned(),
        password: Secret::new(system.env("NATS_OPERATOR_PASSWORD")?.to_owned()),
        ..ConnectConfig::default()
    };
    Ok(Log::connect(&config, "chaos").await?)
}

/// Waits until `castlog up` has applied the definitions again, as it does for each
/// nats-server that starts.
async fn are_as_defined(log: &Log) -> anyhow::Result<()> {
    until("the definitions are applied again", SOON, || async {
        let stream = log.jetstream().get_stream("BROAD_INFO").await.ok()?;
        let info = stream.consumer_info("live_info").await.ok()?;
        (info.config.ack_wait > ACK_WAIT).then_some(())
    })
    .await
}

/// Shortens the ack wait of the consumers that views are made by.
async fn come_again_soon(log: &Log) -> anyhow::Result<()> {
    let keys = json!({ "ack_wait": u64::try_from(ACK_WAIT.as_nanos())? });
    for (stream, consumer) in provision::durables() {
        if consumer != "pipeline" {
            let changed = async || change_consumer(log, &stream, &consumer, &keys).await.ok();
            until("the ack wait is short", SOON, changed).await?;
        }
    }
    Ok(())
}

/// Pushes until it is told to stop, as an encoder that connects again by itself.
async fn keep_pushing(url: String, on_air: Shutdown) -> anyhow::Result<()> {
    loop {
        let mut encoder = Encoder::picture(&url)?;
        tokio::select! {
            () = on_air.cancelled() => return encoder.stop().await,
            ended = encoder.ended() => ended?,
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Kills after a moment of load, and again when it catches one that is only starting.
async fn kill(system: &System, victims: &[&str]) -> anyhow::Result<()> {
    let pause = rand::rng().random_range(0..800);
    tokio::time::sleep(Duration::from_millis(pause)).await;
    for victim in victims {
        until("the victim runs", SOON, || async { system.kill9(victim).await.ok() }).await?;
    }
    Ok(())
}

/// Changes title and tags until each change is acknowledged, however often it
/// takes; returns the last.
async fn change(system: &System, id: &str, from: u32) -> anyhow::Result<(String, u32)> {
    for n in from + 1..=from + CHANGES {
        put(system, id, "title", json!({ "title": title(n) })).await?;
        put(system, id, "tags", json!({ "tags": ["chaos", format!("tag{n}")] })).await?;
    }
    Ok((id.to_owned(), from + CHANGES))
}

fn title(n: u32) -> String {
    format!("chaos {n}")
}

async fn put(system: &System, id: &str, what: &str, body: Value) -> anyhow::Result<()> {
    let path = format!("/v1/broadcasts/{id}/{what}");
    until("a change is acknowledged", SOON, || async {
        match system.call(Method::PUT, &path, Some(body.clone())).await {
            Ok((status, _)) if status.is_success() => Some(Ok(())),
            // Only an outage may refuse it.
            Ok((status, said)) if status.is_client_error() => Some(Err(anyhow::anyhow!("{status} {said}"))),
            Ok(_) | Err(_) => None,
        }
    })
    .await?
}

/// The newest title and tags of each broadcast are those acknowledged last.
async fn nothing_is_missing(system: &System, acked: &Acked) -> anyhow::Result<()> {
    for (id, n) in acked {
        until("the last change is told", SOON, || async {
            let (_, broadcast) = system
                .call(Method::GET, &format!("/v1/broadcasts/{id}"), None)
                .await
                .ok()?;
            let tags = broadcast["tags"].as_array()?;
            (broadcast["title"] == title(*n) && tags.contains(&json!(format!("tag{n}")))).then_some(())
        })
        .await?;
    }
    Ok(())
}

/// As many entries can be searched as the streams hold.
async fn every_entry_is_searchable(system: &System, log: &Log) -> anyhow::Result<()> {
    let mut counts = (0, 0);
    let deadline = tokio::time::Instant::now() + SOON;
    while tokio::time::Instant::now() < deadline {
        // Telemetry goes on meanwhile: the two are equal in some moment, not in each.
        counts = (searchable(system).await?, stored(log).await?);
        if counts.0 == counts.1 {
            return Ok(());
        }
        ensure!(
            counts.0 <= counts.1,
            "more entries are searchable than stored: {counts:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("of {} entries only {} are searchable", counts.1, counts.0)
}

async fn stored(log: &Log) -> anyhow::Result<u64> {
    let mut entries = 0;
    for stream in SINK_STREAMS {
        entries += log.jetstream().get_stream(stream).await?.cached_info().state.messages;
    }
    Ok(entries)
}

async fn searchable(system: &System) -> anyhow::Result<u64> {
    Ok(indexes(system).await?.iter().map(|(_, documents)| documents).sum())
}

/// The indexes of the log, and how many documents each has.
async fn indexes(system: &System) -> anyhow::Result<Vec<(String, u64)>> {
    let all = meilisearch(system, Method::GET, "indexes?limit=1000").await?;
    let mut indexes = Vec::new();
    for index in all["results"].as_array().context("no list of indexes")? {
        if let Some(name) = index["uid"].as_str().filter(|name| name.starts_with("log-")) {
            let path = format!("indexes/{name}/documents?limit=0");
            let page = meilisearch(system, Method::GET, &path).await?;
            indexes.push((name.to_owned(), page["total"].as_u64().context("no total")?));
        }
    }
    Ok(indexes)
}

async fn meilisearch(system: &System, method: Method, path: &str) -> anyhow::Result<Value> {
    let url = system.config(["meilisearch", "url"])?;
    let key = system.config(["meilisearch", "indexer_key"])?;
    let request = reqwest::Client::new().request(method, format!("{url}/{path}"));
    let answer = request.bearer_auth(&key).send().await?.error_for_status()?;
    Ok(answer.json().await?)
}

/// The archive has come to where the log is now.
async fn everything_is_archived(system: &System, log: &Log) -> anyhow::Result<()> {
    let mut ends = BTreeMap::new();
    for stream in SINK_STREAMS {
        ends.insert(stream, log.extent(stream).await?.1);
    }
    let mut said = String::new();
    let deadline = Instant::now() + SOON;
    while Instant::now() < deadline {
        said = system.castlog(&["status", "--json"]).await?.1;
        let status: Value = serde_json::from_str(&said).unwrap_or_default();
        let archive = status["archive"].as_array().cloned().unwrap_or_default();
        let is_there = |end: (&&str, &u64)| {
            let mut of = archive.iter().filter(|of| of["stream"] == **end.0);
            of.any(|of| of["archived"].as_u64() >= Some(*end.1))
        };
        if ends.iter().all(is_there) {
            return Ok(());
        }
    }
    bail!("the archive does not come to {ends:?}: {said}")
}

/// The comparison is not blind: what is spoilt is told, and a rebuild mends it.
async fn what_is_spoilt_is_told_and_mended(system: &System, id: &str) -> anyhow::Result<()> {
    let mut redis = redis_connection(&system.config(["redis", "url"])?).await?;
    let hash = format!("castlog:live_info:{id}");
    redis::cmd("HSET")
        .arg(&[&hash, "title", "spoilt"])
        .exec_async(&mut redis)
        .await?;
    let (equal, said) = system.castlog(&["verify"]).await?;
    ensure!(
        !equal && said.contains("not equal to the log: live-info, change-feed;"),
        "{said}"
    );

    let of_info = |(name, _): &(String, u64)| name.starts_with("log-broad_info-");
    for (index, _) in indexes(system).await?.iter().filter(|index| of_info(index)) {
        meilisearch(system, Method::DELETE, &format!("indexes/{index}/documents")).await?;
    }
    for day in std::fs::read_dir(system.folder().join("media/archive"))? {
        let titles = day?.path().join("kind=title");
        if titles.is_dir() {
            std::fs::remove_dir_all(titles)?;
        }
    }
    for view in ["live-info", "log", "archive"] {
        until("it is told that the view is spoilt", SOON, || async {
            let (equal, _) = system.castlog(&["verify", view]).await.ok()?;
            (!equal).then_some(())
        })
        .await?;
        let (done, said) = system.castlog(&["rebuild", view]).await?;
        ensure!(done, "{said}");
    }
    system.equals_the_log(&[]).await
}

async fn newest_segment(system: &System, id: &str) -> Option<String> {
    let text = system
        .text(&format!("{}/live/{id}/480p/index.m3u8", system.hls))
        .await
        .ok()?;
    let (playlist, _) = check::read_media(&text);
    // Not of a part, which tells of a segment that may never be finished.
    playlist.segments.last().map(|segment| segment.uri.clone())
}

/// There are segments after `before`, and the playlist is right.
async fn plays_on(system: &System, id: &str, before: Option<String>) -> anyhow::Result<()> {
    until("the stream plays on", SOON, || async {
        let newest = newest_segment(system, id).await?;
        (Some(newest) != before).then_some(())
    })
    .await?;
    let text = system
        .text(&format!("{}/live/{id}/480p/index.m3u8", system.hls))
        .await?;
    ensure!(check::media(&text).is_empty(), "{:?} in\n{text}", check::media(&text));
    Ok(())
}
