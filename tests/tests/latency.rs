//! A broadcast as it is seen by those who want to see it at once: a real encoder
//! through the whole platform to hls.js in Chromium, which plays it by parts.

use std::collections::BTreeSet;

use anyhow::Context as _;
use castlog_playlist::check;
use castlog_testkit::until;
use castlog_tests::{Browser, Encoder, SOON, System};
use serde_json::json;

/// Seconds that it is watched.
const WATCHED: u64 = 20;

/// The playlist at `url`, once it tells parts of a segment in the making.
async fn with_parts(system: &System, url: &str) -> anyhow::Result<String> {
    until("parts", SOON, || async {
        let text = system.text(url).await.ok()?;
        check::read_media(&text).0.open.is_some().then_some(text)
    })
    .await
}

#[tokio::test]
async fn a_broadcast_is_watched_by_parts_in_a_browser() -> anyhow::Result<()> {
    let system = System::start().await?;
    let (id, key) = system.create(json!({ "title": "at once" })).await?;
    let encoder = Encoder::clock(&format!("{}/{key}", system.rtmp))?;
    system.reaches(&id, "live").await?;
    let url = format!("{}/live/{id}/source/index.m3u8", system.hls);
    let text = until("parts", SOON, || async {
        let text = system.text(&url).await.ok()?;
        let (playlist, _) = check::read_media(&text);
        (playlist.open.is_some() && playlist.segments.len() > 3).then_some(text)
    })
    .await?;
    assert_eq!(check::media(&text), [], "{text}");
    let figures = Browser::new(&system.api)?.lags(&id, WATCHED).await?;
    println!("{figures}");
    let number = |name: &str| figures[name].as_f64().unwrap_or(f64::MAX);
    assert_eq!(figures["errors"], json!([]), "{figures}");
    // A browser that has no time to draw stalls by itself, whatever it is served.
    let drawn = number("frames_read") / (30.0 * number("played_s"));
    if drawn > 0.9 {
        assert_eq!(figures["stalls"], 0, "{figures}");
        // A player of whole segments stays three of two seconds behind.
        assert!(number("glass_to_glass_s") < 3.0, "{figures}");
    }
    assert!(number("played_s") > WATCHED as f64 / 2.0, "{figures}");
    assert!(number("parts") > number("segments"), "{figures}");
    encoder.stop().await?;
    system.stop().await
}

/// The next picture may come when a part should long have ended: parts keep to what players
/// count on all the same, so that none has to be held back.
#[tokio::test]
async fn pictures_that_an_encoder_leaves_out_hold_no_part_back() -> anyhow::Result<()> {
    let system = System::start().await?;
    let options = json!({ "ladder": [144] });
    let (id, key) = system
        .create(json!({ "title": "left out", "options": options }))
        .await?;
    let url = format!("{}/{key}", system.rtmp);
    // In the middle of a second.
    let encoder = Encoder::leaving_out(&url, 230, 290)?;
    let look = async |rendition: &str| {
        let url = format!("{}/live/{id}/{rendition}/index.m3u8", system.hls);
        let mut text = with_parts(&system, &url).await?;
        let mut numbers = BTreeSet::new();
        while numbers.len() < 6 {
            let (playlist, broken) = check::read_media(&text);
            assert_eq!(broken, [], "{text}");
            assert!(playlist.hint.is_some(), "{rendition}: a part is held back\n{text}");
            let last = playlist.segments.last().context("no segment")?;
            assert!(!last.parts.is_empty(), "{rendition}: its parts are not told\n{text}");
            numbers.insert(last.sequence);
            let part = playlist.open.as_ref().map_or(0, |open| open.parts.len());
            let next = format!("{url}?_HLS_msn={}&_HLS_part={part}", last.sequence + 1);
            text = system.text(&next).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(look("source"), look("144p"))?;
    encoder.stop().await?;
    system.reaches(&id, "ended").await?;
    // Up to a keyframe, as where a line is too slow, for longer than the next segment has room:
    // those parts cannot be told, and players go on by those of the next one.
    let encoder = Encoder::leaving_out(&url, 400, 500)?;
    system.reaches(&id, "live").await?;
    let figures = Browser::new(&system.api)?.lags(&id, WATCHED).await?;
    println!("{figures}");
    let number = |name: &str| figures[name].as_f64().unwrap_or(f64::MAX);
    assert!(!figures["errors"].to_string().contains("(fatal)"), "{figures}");
    assert!(number("played_s") > WATCHED as f64 / 2.0, "{figures}");
    assert!(
        number("playlists") < 10.0 * WATCHED as f64,
        "asked for in vain: {figures}"
    );
    encoder.stop().await?;
    system.stop().await
}

/// A worker that dies leaves parts that players hold. Another, its successor, closes their
/// segment where they end, so that players go on without beginning anew.
#[tokio::test]
async fn a_player_goes_on_when_a_pipeline_dies() -> anyhow::Result<()> {
    /// What a viewer misses at most.
    const MISSED_S: f64 = 3.0;
    let system = System::start().await?;
    let (id, key) = system.create(json!({ "title": "goes on" })).await?;
    let encoder = Encoder::clock(&format!("{}/{key}", system.rtmp))?;
    system.reaches(&id, "live").await?;
    let _other = system.another("pipeline").await?;
    let url = format!("{}/live/{id}/source/index.m3u8", system.hls);
    let media = || async {
        let text = system.text(&url).await.ok()?;
        let (media, found) = check::read_media(&text);
        found.is_empty().then_some(media)
    };
    let folder = tempfile::tempdir()?;
    let mark = folder.path().join("plays");
    let killed = async {
        until("it plays", SOON, || async { mark.exists().then_some(()) }).await?;
        // In the middle of a segment, whose parts players hold by then.
        let open = until("an open segment", SOON, || async {
            media().await?.open.filter(|open| open.parts.len() > 2)
        })
        .await?;
        system.kill9("pipeline").await?;
        anyhow::Ok(open)
    };
    let browser = Browser::new(&system.api)?;
    let (seen, open) = tokio::join!(browser.outlives(&id, &mark), killed);
    let (seen, open) = (seen?, open?);
    let media = media().await.context("a valid playlist")?;
    let closed = media.segments.iter().position(|s| s.sequence == open.sequence);
    let (closed, heir) = closed
        .and_then(|at| Some((media.segments.get(at)?, media.segments.get(at + 1)?)))
        .context("the segment is gone, or nothing comes behind it")?;
    assert_eq!(closed.discontinuity_sequence, open.discontinuity_sequence);
    assert_eq!(heir.discontinuity_sequence, open.discontinuity_sequence + 1);
    let lost = closed
        .program_date_time
        .zip(heir.program_date_time)
        .map(|(closed_at, heir_at)| (heir_at - closed_at).as_seconds_f64() - closed.duration.as_secs_f64())
        .context("segments have no dates")?;
    println!("{seen}, {lost:.2} s of the broadcast are lost");
    assert!(lost <= MISSED_S, "{lost} s of the broadcast are lost: {seen}");
    encoder.stop().await?;
    system.stop().await
}

/// What a client sees that asks for each version as it comes.
#[tokio::test]
async fn every_version_that_is_waited_for_is_a_valid_successor() -> anyhow::Result<()> {
    let system = System::start().await?;
    let (id, key) = system.create(json!({ "title": "versions" })).await?;
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    for rendition in ["source", "480p", "audio"] {
        let url = format!("{}/live/{id}/{rendition}/index.m3u8", system.hls);
        let mut before = with_parts(&system, &url).await?;
        let mut hints = BTreeSet::new();
        for _ in 0..40 {
            let (playlist, broken) = check::read_media(&before);
            assert_eq!(broken, [], "{before}");
            let end = playlist.segments.last().context("no segment")?.sequence + 1;
            let part = playlist.open.as_ref().map_or(0, |open| open.parts.len());
            hints.extend(playlist.hint);
            // Behind the last part of a segment comes the next segment.
            let text = system.text(&format!("{url}?_HLS_msn={end}&_HLS_part={part}")).await?;
            let broken = check::reload(&before, &text);
            assert_eq!(broken, [], "{rendition}\n{before}\n{text}");
            assert_ne!(text, before, "{rendition}: answered without news");
            before = text;
        }
        assert!(hints.len() > 20, "{hints:?}");
    }
    encoder.stop().await?;
    system.stop().await
}

/// Edges and pipelines that die in the middle of a segment leave players with valid
/// playlists, in which low latency comes back.
#[tokio::test]
async fn who_dies_in_the_middle_of_a_segment_breaks_no_playlist() -> anyhow::Result<()> {
    let system = System::start().await?;
    let (id, key) = system.create(json!({ "title": "broken off" })).await?;
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    let url = format!("{}/live/{id}/480p/index.m3u8", system.hls);
    let mut before = with_parts(&system, &url).await?;
    for victim in ["hls", "pipeline"] {
        let line = |text: &str| check::read_media(text).0.open.map(|open| open.discontinuity_sequence);
        let old = line(&before);
        system.kill9(victim).await?;
        let after = until("parts again", SOON * 2, || async {
            let text = system.text(&url).await.ok()?;
            let (playlist, broken) = check::read_media(&text);
            assert_eq!(broken, [], "{text}");
            let again = victim == "hls" || line(&text) > old;
            (again && playlist.open.is_some()).then_some(text)
        })
        .await
        .with_context(|| format!("after the death of {victim}"))?;
        assert_eq!(check::reload(&before, &after), [], "{victim}\n{before}\n{after}");
        before = after;
    }
    encoder.stop().await?;
    system.stop().await
}
