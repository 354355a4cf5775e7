//! Private broadcasts: who has a token watches, and a cache in front serves all of
//! them from one copy.

// The helpers panic with the tests that call them.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    time::Duration,
};

use castlog_hls::Config;
use castlog_log::{BroadcastId, Secret, pb};
use castlog_playlist::check;
use castlog_testkit::{Nginx, until};
use chrono::Utc;
use object_store::{ObjectStoreExt as _, PutPayload};
use reqwest::{Response, Url};
use support::{Edge, PATIENCE, RENDITIONS, Show, Stage, holds};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const HOUR: Duration = Duration::from_secs(3600);

fn keys(key: &str) -> castlog_playback::Config {
    castlog_playback::Config {
        key: Secret::new(key.to_owned()),
        ..Default::default()
    }
}

fn guarded() -> Config {
    Config {
        playback: keys(KEY),
        // What a token opens does not go where the token would be missing.
        media_base: "https://cdn.example/media".to_owned(),
        ..Config::default()
    }
}

/// The same, which goes by what a proxy says of where viewers are.
fn behind_a_proxy() -> Config {
    Config {
        trusted_proxies: vec!["127.0.0.1".to_owned()],
        ..guarded()
    }
}

const fn address(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, n))
}

/// Viewers with addresses of their own, the first with that of [`Edge::client`].
fn viewers() -> Vec<reqwest::Client> {
    let viewer = |n| reqwest::Client::builder().local_address(address(n)).build();
    (1..=20).map(|n| viewer(n).unwrap()).collect()
}

fn token(broadcast: BroadcastId, lifetime: Duration) -> String {
    keys(KEY).issue(broadcast, Utc::now(), lifetime).unwrap().0
}

/// A token that ended a while ago.
fn ended(broadcast: BroadcastId) -> String {
    keys(KEY).issue(broadcast, Utc::now() - HOUR * 2, HOUR).unwrap().0
}

async fn refusal(response: Response) -> anyhow::Result<String> {
    let status = response.status().as_u16();
    let text = response.text().await?;
    let body: serde_json::Value = serde_json::from_str(&text)?;
    Ok(format!("{status} {}", body["code"].as_str().unwrap_or_default()))
}

/// A broadcast with all that its playlists name.
async fn on_air(stage: &Stage, edge: &Edge, segments: u64) -> anyhow::Result<Show> {
    let show = Show::new();
    show.open(stage).await?;
    for rendition in RENDITIONS {
        let init = show.key(rendition, "init-0.mp4").into();
        stage.store.put(&init, PutPayload::from_static(b"init")).await?;
    }
    for n in 0..segments {
        show.work(stage, n, 0).await?;
    }
    for rendition in RENDITIONS {
        edge.text_with(&show.playlist(rendition), holds(segments - 1)).await?;
    }
    Ok(show)
}

async fn hidden(stage: &Stage, edge: &Edge, show: &Show) -> anyhow::Result<()> {
    let private = show.options(pb::Visibility::Private);
    stage.publish(show.broadcast, private).await?;
    until("the broadcast is private", PATIENCE, || async {
        (edge.get(&show.multivariant()).await.ok()?.status() == 403).then_some(())
    })
    .await
}

fn max_age(response: &Response) -> u64 {
    let text = response.headers()["cache-control"].to_str().unwrap();
    let seconds = text.split("max-age=").nth(1).unwrap();
    seconds.split(',').next().unwrap().parse().unwrap()
}

/// Everything that a player loads from a multivariant playlist on: what each URL says.
async fn play(client: &reqwest::Client, start: &str) -> anyhow::Result<Vec<(Url, Response)>> {
    let (mut wanted, mut loaded) = (vec![Url::parse(start)?], Vec::new());
    while let Some(url) = wanted.pop() {
        let response = client.get(url.clone()).send().await?;
        if !url.path().ends_with(".m3u8") || !response.status().is_success() {
            loaded.push((url, response));
            continue;
        }
        let text = response.text().await?;
        let uris = text.lines().flat_map(|line| match line.split_once("URI=\"") {
            Some((tag, rest)) if !tag.starts_with("#EXT-X-PRELOAD") && !tag.starts_with("#EXT-X-RENDITION") => {
                rest.split('"').next()
            }
            Some(_) => None,
            None => Some(line).filter(|line| !line.starts_with('#')),
        });
        for uri in uris {
            let uri = url.join(uri)?;
            // The sound is a rendition and a variant.
            if !wanted.contains(&uri) && !loaded.iter().any(|(url, _)| *url == uri) {
                wanted.push(uri);
            }
        }
    }
    Ok(loaded)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_opens_its_broadcast_and_no_other() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(guarded()).await?;
    let (show, other) = (on_air(&stage, &edge, 3).await?, on_air(&stage, &edge, 3).await?);
    let public = edge.text(&show.playlist("480p")).await?;
    hidden(&stage, &edge, &show).await?;

    let good = format!("/t/{}", token(show.broadcast, HOUR));
    let media = |show: &Show| format!("/media/{}", show.key("480p", "1.m4s"));
    let part = |show: &Show| format!("/media/{}", show.key("480p", "1-0-2.m4s"));
    let transport = |show: &Show, of: &str| format!("/live/{}/{of}ts.m3u8", show.broadcast);
    let paths = |show: &Show| {
        [
            show.multivariant(),
            show.playlist("480p"),
            media(show),
            part(show),
            transport(show, ""),
            transport(show, "480p/"),
        ]
    };
    for path in paths(&show) {
        assert_eq!(edge.get(&format!("{good}{path}")).await?.status(), 200, "{path}");
        let refused = async |prefix: String| refusal(edge.get(&format!("{prefix}{path}")).await?).await;
        assert_eq!(refused(String::new()).await?, "403 H03", "{path}");
        assert_eq!(refused("/t/".to_owned()).await?, "403 H13", "{path}");
        let foreign = format!("/t/{}", token(other.broadcast, HOUR));
        assert_eq!(refused(foreign).await?, "403 H13", "{path}");
        assert_eq!(refused(format!("{good}x")).await?, "403 H13", "{path}");
        let ended = format!("/t/{}", ended(show.broadcast));
        assert_eq!(refused(ended.clone()).await?, "403 H14", "{path}");
        // No refusal repeats what was shown.
        let text = edge.get(&format!("{ended}{path}")).await?.text().await?;
        assert!(!text.contains(&ended[3..20]), "{text}");
    }
    // A token is no matter where nothing is private, and no way to anything else.
    for path in paths(&other) {
        assert_eq!(edge.get(&path).await?.status(), 200, "{path}");
        assert_eq!(edge.get(&format!("/t/x{path}")).await?.status(), 200, "{path}");
    }
    for path in [format!("{good}/"), format!("{good}/t/x{}", media(&other)), good.clone()] {
        assert_eq!(refusal(edge.get(&path).await?).await?, "404 H10", "{path}");
    }
    let access = format!("/live/{}/access", show.broadcast);
    let opened = edge.get(&format!("{good}{access}")).await?;
    assert_eq!((opened.status().as_u16(), max_age(&opened)), (204, 10));
    let refused = edge.get(&access).await?;
    assert_eq!(refused.headers()["cache-control"], "no-store");
    assert_eq!(refusal(refused).await?, "403 H03");
    assert_eq!(
        edge.get(&format!("/live/{}/access", other.broadcast)).await?.status(),
        204
    );

    // All that playlists name is found beside them, and is the same for every token.
    let text = edge.text(&format!("{good}{}", show.playlist("480p"))).await?;
    assert_eq!(check::media(&text), []);
    assert_eq!(text.replace("../../../media/", "https://cdn.example/media/"), public);
    let longer = format!("/t/{}", token(show.broadcast, HOUR * 5));
    assert_ne!(longer, good);
    assert_eq!(edge.text(&format!("{longer}{}", show.playlist("480p"))).await?, text);
    let loaded = play(&edge.client, &format!("{}{good}{}", edge.base, show.multivariant())).await?;
    assert!(loaded.len() > 3 * 4, "{} loaded", loaded.len());
    for (url, response) in loaded {
        assert_eq!(response.status(), 200, "{url}");
        assert!(url.path().starts_with(&good), "{url}");
        // Nothing is kept for longer than the token holds.
        assert!((1..=3600 + 300).contains(&max_age(&response)), "{url}");
    }

    // What has been deleted is for nobody, whoever asks for a cache that still has it.
    stage.publish(show.broadcast, show.deleted()).await?;
    edge.text_with(&format!("{good}{access}"), |text| text.contains("H18"))
        .await?;
    for path in [access, format!("/live/{}/watching", show.broadcast)] {
        for prefix in [good.as_str(), ""] {
            let refused = edge.get(&format!("{prefix}{path}")).await?;
            assert_eq!(refused.headers()["cache-control"], "no-store");
            assert_eq!(refusal(refused).await?, "403 H18", "{prefix}{path}");
        }
    }
    for path in paths(&show) {
        let gone = edge.get(&format!("{good}{path}")).await?;
        assert_eq!(refusal(gone).await?, "404 H01", "{path}");
    }
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_without_a_key_opens_nothing() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = on_air(&stage, &edge, 3).await?;
    hidden(&stage, &edge, &show).await?;
    let path = format!("/t/{}{}", token(show.broadcast, HOUR), show.multivariant());
    assert_eq!(refusal(edge.get(&path).await?).await?, "403 H15");
    edge.stop().await
}

/// What docs/operations.md shows.
fn nginx(edge: &str, folder: &Path, port: u16) -> String {
    let document = include_str!("../../../docs/operations.md");
    let (_, block) = document.split_once("```nginx\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    block
        .replace("http://127.0.0.1:8081", edge)
        .replace("/var/cache/nginx/castlog", folder.join("cache").to_str().unwrap())
        .replace("listen 80;", &format!("listen 127.0.0.1:{port};"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_in_front_holds_one_copy_for_all_tokens() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(behind_a_proxy()).await?;
    let show = on_air(&stage, &edge, 5).await?;
    hidden(&stage, &edge, &show).await?;
    let cache = Nginx::start(|port, folder| nginx(&edge.base, folder, port)).await?;
    let front = format!("http://127.0.0.1:{}", cache.port());

    let mut seen: HashMap<String, u64> = HashMap::new();
    let (mut urls, mut tokens) = (0, Vec::new());
    let viewers = viewers();
    for (hours, viewer) in (1..).zip(&viewers) {
        let token = token(show.broadcast, HOUR * hours);
        let loaded = play(viewer, &format!("{front}/t/{token}{}", show.multivariant())).await?;
        urls = loaded.len() as u64;
        for (url, response) in loaded {
            assert_eq!(response.status(), 200, "{url}");
            let status = response.headers()["x-cache"].to_str()?.to_owned();
            *seen.entry(status).or_default() += 1;
        }
        tokens.push(token);
    }
    tokens.dedup();
    assert_eq!(tokens.len(), 20, "each viewer has a token of its own");
    let hits = seen.get("HIT").copied().unwrap_or_default();
    println!("20 viewers with 20 tokens, {urls} objects each: {seen:?}");
    assert_eq!(
        hits,
        urls * 19,
        "of {seen:?}: one copy of each object, for all but the first viewer"
    );

    until("20 viewers are counted", PATIENCE * 4, || async {
        for (viewer, token) in viewers.iter().zip(&tokens) {
            let url = format!("{front}/t/{token}{}", show.playlist("480p"));
            viewer.get(url).send().await.ok()?;
        }
        (stage.counted(show.broadcast).await?.concurrent == 20).then_some(())
    })
    .await?;

    // What is in the cache is for those who may, all the same.
    let media = format!("/media/{}", show.key("480p", "1.m4s"));
    let ask = async |prefix: &str| -> anyhow::Result<u16> {
        let url = format!("{front}{prefix}{media}");
        Ok(edge.client.get(url).send().await?.status().as_u16())
    };
    assert_eq!(ask(&format!("/t/{}", tokens[0])).await?, 200);
    assert_eq!(ask(&format!("/t/{}", ended(show.broadcast))).await?, 403);
    assert_eq!(ask("/t/x").await?, 403);
    assert_eq!(ask("").await?, 403);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_viewers_of_a_public_broadcast_behind_a_cache_are_counted() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(behind_a_proxy()).await?;
    let show = on_air(&stage, &edge, 5).await?;
    let cache = Nginx::start(|port, folder| nginx(&edge.base, folder, port)).await?;
    let front = format!("http://127.0.0.1:{}", cache.port());
    let urls = [
        format!("{front}{}?_HLS_msn=4", show.playlist("480p")),
        format!("{front}/media/{}", show.key("480p", "4.m4s")),
    ];
    let viewers = viewers();
    let mut hits = 0;
    for viewer in &viewers {
        for url in &urls {
            let answer = viewer.get(url).send().await?.error_for_status()?;
            hits += u32::from(answer.headers()["x-cache"] == "HIT");
        }
    }
    assert_eq!(hits, 2 * 19, "for all but the first viewer");
    until("20 viewers are counted", PATIENCE * 4, || async {
        for viewer in &viewers {
            viewer.get(&urls[0]).send().await.ok()?;
        }
        (stage.counted(show.broadcast).await?.concurrent == 20).then_some(())
    })
    .await?;
    // Pictures of it in lists are not watched.
    let picture = show.key("thumb", "latest.jpg");
    stage
        .store
        .put(&picture.clone().into(), PutPayload::from_static(b"jpeg"))
        .await?;
    let guest = reqwest::Client::builder().local_address(address(99)).build()?;
    let answer = guest.get(format!("{front}/media/{picture}")).send().await?;
    assert_eq!(answer.status(), 200);
    assert_eq!(
        guest
            .get(format!("{front}{}", show.multivariant()))
            .send()
            .await?
            .status(),
        200
    );

    // It is private for the cache as well, with all that lies there.
    hidden(&stage, &edge, &show).await?;
    until("the cache refuses it", PATIENCE, || async {
        (viewers[0].get(&urls[0]).send().await.ok()?.status() == 403).then_some(())
    })
    .await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_recording_takes_a_token_of_its_broadcast() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage
        .edge(Config {
            end_grace_s: 0,
            ..guarded()
        })
        .await?;
    let show = on_air(&stage, &edge, 4).await?;
    let record = |visibility| show.options_of(visibility, true);
    stage.publish(show.broadcast, record(pb::Visibility::Private)).await?;
    stage.publish(show.broadcast, show.ended()).await?;
    let index = show.recording("index.m3u8");
    let with_token = format!("/t/{}{index}", token(show.broadcast, HOUR));
    edge.text(&with_token).await?;
    let loaded = play(&edge.client, &format!("{}{with_token}", edge.base)).await?;
    assert!(loaded.len() >= 4 * RENDITIONS.len());
    for (url, response) in loaded {
        assert!(response.status().is_success(), "{url}");
        assert!(url.path().starts_with("/t/"), "{url}");
    }
    assert_eq!(refusal(edge.get(&index).await?).await?, "403 H03");
    let late = format!("/t/{}{index}", ended(show.broadcast));
    assert_eq!(refusal(edge.get(&late).await?).await?, "403 H14");
    // It does not come out through a broadcast that everybody may watch.
    let open = Show::new();
    open.open(&stage).await?;
    stage.publish(open.broadcast, record(pb::Visibility::Public)).await?;
    let around = format!("/recordings/{}/{}/index.m3u8", open.broadcast, show.session);
    edge.text_with(&around, |text| text.contains("H16")).await?;
    edge.stop().await
}
