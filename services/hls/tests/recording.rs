//! What is left of a session for those who come after it.

// The helpers panic with the tests that call them.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

use castlog_hls::Config;
use castlog_log::pb::Visibility;
use castlog_playlist::check;
use support::{RENDITIONS, Show, Stage, holds};

async fn refused(edge: &support::Edge, path: &str) -> anyhow::Result<String> {
    let answer = edge.get(path).await?;
    let status = answer.status().as_u16();
    let problem: serde_json::Value = answer.json().await?;
    Ok(format!("{status} {}", problem["code"].as_str().unwrap_or_default()))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_behind_the_end_is_in_a_recording_that_was_asked_for_before() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let show = Show::new();
    show.open(&stage).await?;
    let record = show.options_of(Visibility::Public, true);
    stage.publish(show.broadcast, record).await?;
    show.store_all(&stage, 0..4, 0).await?;
    stage.publish(show.broadcast, show.ended()).await?;
    let edge = stage.edge(Config::default()).await?;
    let path = show.recording("480p/index.m3u8");
    let before = edge.text_with(&path, holds(3)).await?;
    assert_eq!(check::read_media(&before).0.segments.len(), 4);
    let answer = edge.get(&path).await?.error_for_status()?;
    assert_eq!(answer.headers()["cache-control"], "public, max-age=2", "it may grow");
    show.store_all(&stage, 4..6, 0).await?;
    let after = edge.text_with(&path, holds(5)).await?;
    let (media, found) = check::read_media(&after);
    assert_eq!((found, media.ended, media.segments.len()), (vec![], true, 6), "{after}");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_over_is_there_as_a_whole() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let show = Show::new();
    show.open(&stage).await?;
    let record = show.options_of(Visibility::Public, true);
    stage.publish(show.broadcast, record).await?;
    // More than a window holds, in two lines: an encoder that came back.
    show.store_all(&stage, 0..40, 0).await?;
    show.store_all(&stage, 40..49, 1).await?;
    // What the store was away for: live it was there.
    for rendition in RENDITIONS {
        show.lose(&stage, rendition, 49, 1).await?;
    }
    let config = || Config {
        end_grace_s: 0,
        ..Config::default()
    };
    let edge = stage.edge(config()).await?;
    edge.ready().await?;
    let index = show.recording("index.m3u8");
    assert_eq!(refused(&edge, &index).await?, "404 H16", "it is not over");
    let live = edge.text_with(&show.playlist("480p"), holds(49)).await?;
    assert!(!live.contains("#EXT-X-GAP"), "{live}");
    stage.publish(show.broadcast, show.ended()).await?;
    // The next one of the same broadcast is no part of it.
    let next = show.again();
    stage.publish(show.broadcast, next.started()).await?;
    stage.publish(show.broadcast, next.produced()).await?;
    next.store_all(&stage, 0..3, 0).await?;

    let multivariant = edge.text(&index).await?;
    assert_eq!(check::multivariant(&multivariant), [], "{multivariant}");
    let mut texts = Vec::new();
    for rendition in RENDITIONS {
        let text = edge.text(&show.recording(&format!("{rendition}/index.m3u8"))).await?;
        let (media, found) = check::read_media(&text);
        assert_eq!(found, [], "{text}");
        assert!(text.contains("#EXT-X-PLAYLIST-TYPE:VOD\n") && media.ended, "{text}");
        let numbers: Vec<u64> = media.segments.iter().map(|s| s.sequence).collect();
        assert_eq!(numbers, (0..50).collect::<Vec<u64>>());
        assert!(!text.contains("#EXT-X-PART"), "nobody waits for anything");
        let gaps = media.segments.iter().filter(|s| s.gap).map(|s| s.sequence);
        assert_eq!(gaps.collect::<Vec<_>>(), [49]);
        let lines = media.segments.iter().map(|s| s.discontinuity_sequence);
        assert_eq!(lines.collect::<Vec<_>>(), [vec![0; 40], vec![1; 10]].concat());
        texts.push(text);
    }
    // For players that know transport streams only, it is as long.
    let multivariant = edge.text(&show.recording("ts.m3u8")).await?;
    assert_eq!(check::multivariant(&multivariant), [], "{multivariant}");
    assert!(multivariant.contains("480p/ts.m3u8?session="), "{multivariant}");
    for (rendition, last) in [("source", "/48.1.audio.ts"), ("audio", "/48.1.ts")] {
        let text = edge.text(&show.recording(&format!("{rendition}/ts.m3u8"))).await?;
        let (media, found) = check::read_media(&text);
        assert_eq!((found, media.ended, media.segments.len()), (vec![], true, 50), "{text}");
        assert!(media.segments[48].uri.ends_with(last), "{text}");
        let gaps = media.segments.iter().filter(|s| s.gap).map(|s| s.sequence);
        assert_eq!(gaps.collect::<Vec<_>>(), [49]);
    }
    // Another edge tells the same.
    let other = stage.edge(config()).await?;
    other.ready().await?;
    for (rendition, text) in RENDITIONS.into_iter().zip(&texts) {
        let path = show.recording(&format!("{rendition}/index.m3u8"));
        assert_eq!(&other.text(&path).await?, text);
    }
    other.stop().await?;

    assert_eq!(refused(&edge, &next.recording("index.m3u8")).await?, "404 H16");
    assert_eq!(refused(&edge, &show.again().recording("index.m3u8")).await?, "404 H16");
    assert_eq!(refused(&edge, &Show::new().recording("index.m3u8")).await?, "404 H01");
    assert_eq!(refused(&edge, &show.recording("144p/index.m3u8")).await?, "404 H04");
    for (visibility, record, code) in [(Visibility::Public, false, "H16"), (Visibility::Private, true, "H03")] {
        let seen = |text: &str| text.contains(code);
        stage
            .publish(show.broadcast, show.options_of(visibility, record))
            .await?;
        edge.text_with(&index, seen).await?;
    }
    edge.stop().await
}
