//! The live end over HTTP: parts, blocking requests, delta updates, and edges that
//! start late or come back.

// The helpers panic with the tests that call them.
#![allow(clippy::unwrap_used)]

#[path = "support/mod.rs"]
#[allow(dead_code)]
mod support;

use std::time::{Duration, Instant};

use anyhow::Context as _;
use castlog_hls::Config;
use castlog_log::pb;
use castlog_playlist::check;
use castlog_testkit::until;
use futures::{TryStreamExt as _, future::try_join_all};
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use reqwest::Response;
use support::{Edge, PARTS, PATIENCE, RENDITIONS, Show, Stage, holds};

fn header<'r>(response: &'r Response, name: &str) -> &'r str {
    response.headers().get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

/// A broadcast with segments 0 to 9 and two parts of the next one.
async fn live(stage: &Stage) -> anyhow::Result<Show> {
    let show = Show::new();
    show.open(stage).await?;
    for n in 0..10 {
        show.work(stage, n, 0).await?;
    }
    for index in 0..2 {
        try_join_all(RENDITIONS.map(|r| show.part(stage, r, 10, 0, index))).await?;
    }
    Ok(show)
}

fn tells(part: &str) -> impl Fn(&str) -> bool {
    let name = format!("/{part}.m4s\"");
    move |text| {
        text.lines()
            .any(|line| line.starts_with("#EXT-X-PART:") && line.contains(&name))
    }
}

async fn code(response: Response) -> anyhow::Result<(u16, String)> {
    let status = response.status().as_u16();
    let problem: serde_json::Value = response.json().await?;
    Ok((status, problem["code"].as_str().context("no code")?.to_owned()))
}

/// A hundred viewers wait for a part of segment 10: how long after it was in the log the
/// last one had an answer, and their answers.
async fn crowd(stage: &Stage, edge: &Edge, show: &Show, part: u32) -> anyhow::Result<(Duration, Vec<Response>)> {
    let url = |part: u32| format!("{}?_HLS_msn=10&_HLS_part={part}", show.playlist("480p"));
    let (next, last) = (url(part), url(part - 1));
    let mut waiting = Box::pin(async {
        let answers = try_join_all((0..100).map(|_| edge.get(&next))).await;
        (answers, Instant::now())
    });
    // They wait: nothing but the part answers them.
    tokio::select! {
        biased;
        _ = &mut waiting => anyhow::bail!("answered before the part was there"),
        answer = edge.get(&last) => assert_eq!(answer?.status(), 200, "what is there is not waited for"),
    }
    let published = async {
        // Each time at another moment of a second.
        tokio::time::sleep(Duration::from_millis(50) * part).await;
        show.part(stage, "480p", 10, 0, part).await?;
        anyhow::Ok(Instant::now())
    };
    let (published, (answers, answered)) = tokio::join!(published, waiting);
    Ok((answered.saturating_duration_since(published?), answers?))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_viewers_are_answered_by_the_part_that_they_wait_for() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = live(&stage).await?;
    let path = show.playlist("480p");
    let before = edge.text_with(&path, tells("10-0-1")).await?;
    assert_eq!(check::media(&before), []);

    let (took, answers) = crowd(&stage, &edge, &show, 2).await?;
    let mut texts = Vec::new();
    for answer in answers {
        let answer = answer.error_for_status()?;
        assert_eq!(
            header(&answer, "cache-control"),
            "public, max-age=12",
            "six target durations"
        );
        texts.push(answer.text().await?);
    }
    assert!(texts.iter().all(|text| *text == texts[0]), "one rendering for all");
    assert!(tells("10-0-2")(&texts[0]), "{}", texts[0]);
    assert_eq!(
        (check::media(&texts[0]), check::reload(&before, &texts[0])),
        (vec![], vec![])
    );
    assert!(!tells("10-0-2")(&before), "the control");

    // It is the part that wakes them: who looked each second would be later than this.
    let mut all = vec![took];
    for part in 3..7 {
        all.push(crowd(&stage, &edge, &show, part).await?.0);
    }
    all.sort();
    println!("the last of 100 viewers was answered {all:?} after a part");
    assert!(all[0] < Duration::from_millis(300), "{all:?}");
    assert!(all[2] < Duration::from_millis(500), "{all:?}");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hinted_part_is_served_as_soon_as_it_exists_and_for_ever_after() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = live(&stage).await?;
    let (read, _) = check::read_media(&edge.text_with(&show.playlist("480p"), tells("10-0-1")).await?);
    let hint = read.hint.context("no hint")?;
    assert!(hint.ends_with("/480p/10-0-2.m4s"), "{hint}");
    let (answer, published) = tokio::join!(edge.get(&hint), show.part(&stage, "480p", 10, 0, 2));
    published?;
    let answer = answer?.error_for_status()?;
    assert_eq!(header(&answer, "cache-control"), "public, max-age=31536000, immutable");
    assert_eq!(header(&answer, "content-type"), "video/mp4");
    let part = answer.bytes().await?;
    assert_eq!(part, Show::part_bytes("480p", 10, 0, 2));
    // The control: another part that is not there, and not the next one.
    let far = hint.replace("10-0-2", "10-0-5");
    assert_eq!(code(edge.get(&far).await?).await?, (404, "H05".to_owned()));

    // From the segment, once it is far behind.
    for index in 3..PARTS {
        show.part(&stage, "480p", 10, 0, index).await?;
    }
    for n in 10..18 {
        show.work(&stage, n, 0).await?;
    }
    edge.text_with(&show.playlist("480p"), holds(17)).await?;
    let fresh = stage.edge(Config::default()).await?;
    fresh.ready().await?;
    for edge in [&edge, &fresh] {
        let later = edge.get(&hint).await?.error_for_status()?;
        assert_eq!(later.bytes().await?, part);
        let url = format!("{}{hint}", edge.base);
        let range = edge.client.get(url).header("range", "bytes=1-3").send().await?;
        assert_eq!((range.status().as_u16(), range.bytes().await?), (206, part.slice(1..4)));
    }
    fresh.stop().await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_or_may_not_be_asked_for_is_told() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = live(&stage).await?;
    let path = show.playlist("audio");
    edge.text_with(&path, tells("10-0-1")).await?;
    for query in [
        "_HLS_part=1",
        "_HLS_msn=12",
        "_HLS_msn=11&_HLS_part=40",
        "_HLS_msn=10&_HLS_part=40",
        "_HLS_msn=ten",
        "_HLS_msn=-1",
        "_HLS_msn=10&_HLS_part=x",
        "_HLS_msn=18446744073709551616",
    ] {
        let answer = edge.get(&format!("{path}?{query}")).await?;
        assert_eq!(header(&answer, "content-type"), "application/problem+json", "{query}");
        assert_eq!(code(answer).await?, (400, "H11".to_owned()), "{query}");
    }
    // Three target durations of two seconds.
    let begun = Instant::now();
    let answer = edge.get(&format!("{path}?_HLS_msn=10&_HLS_part=2")).await?;
    assert!(begun.elapsed() >= Duration::from_secs(6), "after {:?}", begun.elapsed());
    assert_eq!(header(&answer, "cache-control"), "no-store");
    assert_eq!(header(&answer, "retry-after"), "1");
    assert_eq!(code(answer).await?, (503, "H12".to_owned()));
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_over_an_interruption_is_answered_by_the_first_part_after_it() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = live(&stage).await?;
    let path = show.playlist("480p");
    let before = edge.text_with(&path, tells("10-0-1")).await?;
    let next = format!("{path}?_HLS_msn=10&_HLS_part=2");
    let (waited, published) = tokio::join!(edge.get(&next), stage.publish(show.broadcast, show.interrupted()));
    published?;
    assert_eq!(code(waited?).await?, (503, "H12".to_owned()));

    // The player asks again and again, while the worker closes what was open.
    let mut waiting = Box::pin(async {
        loop {
            let answer = edge.get(&next).await?;
            if answer.status() != 503 {
                return anyhow::Ok(answer.error_for_status()?.text().await?);
            }
        }
    });
    let back = async {
        for rendition in RENDITIONS {
            show.announce_left(&stage, rendition, 10, 0, 2).await?;
        }
        stage.publish(show.broadcast, show.resumed()).await?;
        let told = |text: &str| holds(10)(text) && text.contains("END-DATE");
        edge.text_with(&path, told).await
    };
    let between = tokio::select! {
        answer = &mut waiting => anyhow::bail!("answered before there was media: {answer:?}"),
        text = back => text?,
    };
    let (after, published) = tokio::join!(waiting, show.part(&stage, "480p", 11, 1, 0));
    published?;
    let after = after?;
    assert!(tells("11-1-0")(&after) && !tells("11-1-1")(&after), "{after}");
    assert_eq!(check::media(&after), []);
    for held in [&before, &between] {
        assert_eq!(check::reload(held, &after), [], "{held}\n{after}");
    }
    assert!(after.contains("#EXT-X-DISCONTINUITY\n"), "{after}");
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_who_wait_are_answered_when_the_broadcast_ends_and_when_the_edge_does() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let config = Config {
        end_grace_s: 0,
        ..Config::default()
    };
    let edge = stage.edge(config).await?;
    let show = live(&stage).await?;
    let path = format!("{}?_HLS_msn=10&_HLS_part=2", show.playlist("480p"));
    edge.text_with(&show.playlist("480p"), tells("10-0-1")).await?;
    let (waited, published) = tokio::join!(edge.get(&path), stage.publish(show.broadcast, show.ended()));
    published?;
    let text = waited?.error_for_status()?.text().await?;
    assert!(
        text.ends_with("#EXT-X-ENDLIST\n") && !text.contains("/10-0-1.m4s"),
        "{text}"
    );
    assert_eq!(check::media(&text), []);

    let other = live(&stage).await?;
    let playlist = other.playlist("480p");
    let control = stage.edge(Config::default()).await?;
    for edge in [&edge, &control] {
        edge.text_with(&playlist, tells("10-0-1")).await?;
    }
    let path = format!("{playlist}?_HLS_msn=11");
    let waits = async |edge: &Edge| {
        let begun = Instant::now();
        let answer = edge.get(&path).await?;
        anyhow::Ok((code(answer).await?, begun.elapsed()))
    };
    let (mut let_go, mut patient) = (Box::pin(waits(&edge)), Box::pin(waits(&control)));
    let idle = async {
        for edge in [&edge, &control] {
            edge.get(&playlist).await?.error_for_status()?;
        }
        // What was asked before these is there as well.
        tokio::time::sleep(Duration::from_millis(500)).await;
        anyhow::Ok(())
    };
    tokio::select! {
        biased;
        answer = &mut let_go => anyhow::bail!("answered without an end: {answer:?}"),
        answer = &mut patient => anyhow::bail!("answered without an end: {answer:?}"),
        idle = idle => idle?,
    }
    edge.context.shutdown.begin();
    let (let_go, patient) = tokio::join!(let_go, patient);
    let ((let_go, waited), (patient, longest)) = (let_go?, patient?);
    assert_eq!([let_go, patient], [(503, "H12".to_owned()), (503, "H12".to_owned())]);
    assert!(
        waited * 2 < longest,
        "let go after {waited:?}, and not after {longest:?}"
    );
    control.stop().await?;
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_rendition_that_leaves_the_ladder_is_told_at_once() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = live(&stage).await?;
    let playlist = show.playlist("480p");
    edge.text_with(&playlist, tells("10-0-1")).await?;
    let mut smaller = show.produced();
    if let Some(pb::metadata::Event::Produced(produced)) = &mut smaller.event {
        produced.renditions.retain(|rendition| rendition.name != "480p");
    }
    let path = format!("{playlist}?_HLS_msn=10&_HLS_part=2");
    let gone = (404, "H04".to_owned());
    let mut waiting = Box::pin(edge.get(&path));
    tokio::select! {
        biased;
        answer = &mut waiting => anyhow::bail!("answered at once: {answer:?}"),
        answer = edge.get(&playlist) => assert_eq!(answer?.status(), 200),
    }
    let (answer, published) = tokio::join!(waiting, stage.publish(show.broadcast, smaller));
    published?;
    assert_eq!(code(answer?).await?, gone);
    for path in [&playlist, &path] {
        assert_eq!(code(edge.get(path).await?).await?, gone, "{path}");
    }
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delta_update_is_what_is_new() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = live(&stage).await?;
    let path = show.playlist("source");
    // With what it reports of the two others, whose parts come beside its own.
    let all = |text: &str| tells("10-0-1")(text) && text.matches("LAST-MSN=10,LAST-PART=1").count() == 2;
    let whole = edge.text_with(&path, all).await?;
    for skip in ["YES", "v2"] {
        let delta = edge
            .text(&format!("{path}?_HLS_skip={skip}&_HLS_msn=10&_HLS_part=1"))
            .await?;
        assert_eq!((check::media(&delta), check::reload(&whole, &delta)), (vec![], vec![]));
        assert!(
            delta.contains("#EXT-X-SKIP:SKIPPED-SEGMENTS=4\n") && delta.len() < whole.len(),
            "{delta}"
        );
    }
    assert_eq!(edge.text(&format!("{path}?_HLS_skip=NO")).await?, whole);
    edge.stop().await
}

/// The playlists of all renditions, once they tell a part.
async fn shown(edge: &Edge, show: &Show, part: &str) -> anyhow::Result<Vec<String>> {
    try_join_all(RENDITIONS.map(|r| {
        let path = show.playlist(r);
        async move { edge.text_with(&path, tells(part)).await }
    }))
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_that_starts_or_comes_back_while_live_tells_the_same_at_once() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let first = stage.edge(Config::default()).await?;
    let show = live(&stage).await?;
    // The reports are about the same moment.
    let before = shown(&first, &show, "10-0-1").await?;
    let settled = until("all renditions are reported", PATIENCE, || async {
        let again = shown(&first, &show, "10-0-1").await.ok()?;
        again
            .iter()
            .all(|t| t.matches("LAST-MSN=10,LAST-PART=1").count() == 2)
            .then_some(again)
    })
    .await?;
    assert_eq!(check::reload(&before[0], &settled[0]), []);
    first.stop().await?;
    let second = stage.edge(Config::default()).await?;
    second.ready().await?;
    for (rendition, text) in RENDITIONS.iter().zip(&settled) {
        // At the first request, without waiting.
        let again = second.get(&show.playlist(rendition)).await?.text().await?;
        assert_eq!(again, *text, "{rendition}");
        let part = format!("/media/{}", show.key(rendition, "10-0-1.m4s"));
        let part = second.get(&part).await?.error_for_status()?.bytes().await?;
        assert_eq!(part, Show::part_bytes(rendition, 10, 0, 1));
    }
    // It goes on.
    show.part(&stage, "480p", 10, 0, 2).await?;
    second.text_with(&show.playlist("480p"), tells("10-0-2")).await?;
    second.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_come_again_after_their_stream_was_lost() -> anyhow::Result<()> {
    let mut stage = Stage::build().await?;
    let edge = stage.edge(Config::default()).await?;
    let show = live(&stage).await?;
    let before = edge.text_with(&show.playlist("480p"), tells("10-0-1")).await?;
    stage.nats.kill9();
    stage.nats.restart().await?;
    until("the stream of parts is there again", PATIENCE, || async {
        stage.apply().await.ok()
    })
    .await?;
    // Its sequences begin anew, far below those that the edge has read.
    show.part(&stage, "480p", 10, 0, 2).await?;
    let after = edge.text_with(&show.playlist("480p"), tells("10-0-2")).await?;
    assert_eq!(check::reload(&before, &after), []);
    edge.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_have_yet_is_served_out_of_the_parts() -> anyhow::Result<()> {
    let stage = Stage::build().await?;
    let early = stage.edge(Config::default()).await?;
    early.ready().await?;
    let show = live(&stage).await?;
    // Of one segment a part is missing, and nothing of it is in the store either.
    for index in 2..PARTS - 1 {
        try_join_all(RENDITIONS.map(|r| show.part(&stage, r, 10, 0, index))).await?;
    }
    for rendition in RENDITIONS {
        show.announce_parts(&stage, rendition, 10, 0).await?;
    }
    for rendition in RENDITIONS {
        let folder = show.key(rendition, "");
        let mut objects = stage.store.list(Some(&folder.into()));
        while let Some(object) = objects.try_next().await? {
            stage.store.delete(&object.location).await?;
        }
    }
    let late = stage.edge(Config::default()).await?;
    let without_memory = stage
        .edge(Config {
            cache_bytes: 0,
            ..Config::default()
        })
        .await?;
    let media = |rendition: &str, name: &str| format!("/media/{}", show.key(rendition, name));
    for (edge, first) in [(&early, 0), (&late, 0), (&without_memory, 8)] {
        for rendition in RENDITIONS {
            edge.text_with(&show.playlist(rendition), holds(10)).await?;
            for n in first..10 {
                let answer = edge.get(&media(rendition, &format!("{n}.m4s"))).await?;
                let bytes = answer.error_for_status()?.bytes().await?;
                let parts = (0..PARTS).map(|index| Show::part_bytes(rendition, n, 0, index));
                assert_eq!(bytes, parts.collect::<Vec<_>>().concat(), "{rendition} {n}");
            }
            let gone = (503, "H07".to_owned());
            assert_eq!(code(edge.get(&media(rendition, "10.m4s")).await?).await?, gone);
        }
    }
    for edge in [&early, &late] {
        let section = edge.get(&media("480p", "init-0.mp4")).await?;
        assert_eq!(section.error_for_status()?.bytes().await?, "init");
    }
    // The last part comes after the entry.
    try_join_all(RENDITIONS.map(|r| show.part(&stage, r, 10, 0, PARTS - 1))).await?;
    for rendition in RENDITIONS {
        until("the segment whose last part was late", PATIENCE, || async {
            let answer = early.get(&media(rendition, "10.m4s")).await.ok()?;
            (answer.status() == 200).then_some(())
        })
        .await?;
    }
    for edge in [early, late, without_memory] {
        edge.stop().await?;
    }
    Ok(())
}
