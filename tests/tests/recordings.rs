//! What was on the air is there afterwards, as one, over a reconnect of its encoder, whose
//! picture is of another size by then.

use anyhow::Context as _;
use castlog_playlist::check;
use castlog_testkit::until;
use castlog_tests::{Browser, Encoder, SOON, System, player};
use reqwest::{Method, Url};
use serde_json::{Value, json};

#[tokio::test]
async fn a_session_is_a_recording_after_its_end() -> anyhow::Result<()> {
    let system = System::start().await?;
    let body = json!({ "title": "kept", "options": { "record": true, "reconnect_window_s": 10 } });
    let (id, key) = system.create(body).await?;
    let path = format!("/v1/broadcasts/{id}/recordings");
    let recordings = async || {
        let (status, said) = system.call(Method::GET, &path, None).await?;
        anyhow::ensure!(status.is_success(), "{status} {said}");
        anyhow::Ok(said["items"].as_array().cloned().unwrap_or_default())
    };
    let live = format!("{}/live/{id}/480p/index.m3u8", system.hls);
    let reaches = |line: u64, segments: usize| {
        let (system, live) = (&system, &live);
        until("segments", SOON, move || async move {
            let (media, _) = check::read_media(&system.text(live).await.ok()?);
            let of = media.segments.iter().filter(|s| s.discontinuity_sequence == line);
            (of.count() >= segments).then_some(media.segments.last()?.sequence)
        })
    };
    let url = format!("{}/{key}", system.rtmp);
    let encoder = Encoder::picture(&url)?;
    reaches(0, 2).await?;
    // As one whose connection breaks.
    drop(encoder);
    system.reaches(&id, "interrupted").await?;
    let smaller = "-re -f lavfi -i testsrc2=size=960x540:rate=30 -re -f lavfi -i sine=sample_rate=48000 \
                   -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -b:v 1000k -g 30 -sc_threshold 0 \
                   -c:a aac -ac 2 -b:a 96k";
    let encoder = Encoder::start(&smaller.split_whitespace().collect::<Vec<_>>(), &url)?;
    let last = reaches(1, 2).await?;
    assert_eq!(recordings().await?, Vec::<Value>::new(), "it is on the air");
    encoder.stop().await?;
    system.reaches(&id, "ended").await?;

    let items = recordings().await?;
    assert_eq!(items.len(), 1, "one session: {items:?}");
    let index = items[0]["playback_url"].as_str().context("no URL")?;
    let text = until("the recording", SOON, || async { system.text(index).await.ok() }).await?;
    assert_eq!(check::multivariant(&text), [], "{text}");
    for rendition in ["source", "480p", "audio"] {
        let url = index.replace("index.m3u8", &format!("{rendition}/index.m3u8"));
        let text = system.text(&url).await?;
        let (media, found) = check::read_media(&text);
        assert_eq!(found, [], "{text}");
        assert!(media.ended && text.contains("#EXT-X-PLAYLIST-TYPE:VOD"), "{text}");
        let numbers: Vec<u64> = media.segments.iter().map(|s| s.sequence).collect();
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{numbers:?}");
        assert!(numbers.last() >= Some(&last), "{numbers:?}, and {last} was on the air");
        player::ffmpeg(&url).await?;
        let rows = match rendition {
            "source" => ["h264,1280,720", "h264,960,540"],
            "480p" => ["h264,854,480"; 2],
            _ => ["aac,48000,2"; 2],
        };
        assert_eq!(player::rows(&text, &Url::parse(&url)?).await?, rows, "{rendition}");
    }
    let seen = Browser::new(&system.api)?.replays(&id).await?;
    println!("{seen}");
    // Who keeps nothing shows nothing.
    let path = format!("/v1/broadcasts/{id}/options");
    let (status, said) = system
        .call(Method::PUT, &path, Some(json!({ "record": false })))
        .await?;
    assert!(status.is_success(), "{status} {said}");
    until("it is gone", SOON, || async {
        system.text(index).await.is_err().then_some(())
    })
    .await?;
    assert_eq!(recordings().await?, Vec::<Value>::new());
    system.stop().await
}
