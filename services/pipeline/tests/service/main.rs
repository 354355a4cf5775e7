//! The service against a real nats-server, a real folder and a real ffmpeg
//! behind a small HTTP server: jobs, entries, objects, takeover.
#![allow(clippy::unwrap_used)]

mod distance;
mod groups;
mod handover;
mod ingest;
mod outage;
mod retention;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::{collections::BTreeSet, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use castlog_log::{
    Draft, PartHeader, Publisher,
    pb::{Segment, options, segment},
};
use castlog_testkit::until;
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};
use ingest::Ingest;
use support::{AAC, h264, picture, tone};
use world::{World, assert_parts, parts};

/// Bound of every wait: far above what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

fn source(seconds: u32) -> String {
    format!(
        "{} {} {} {AAC}",
        picture("426x240", 25, seconds),
        tone(seconds),
        h264(25, 0)
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_becomes_segments_and_its_job_is_done() {
    let world = World::new().await;
    let ingest = Ingest::start(&source(60)).await;
    let worker = world.worker().await;
    let options = options::Changed {
        ladder: vec![180, 120, 720],
        ..options::Changed::default()
    };
    let options = castlog_log::pb::Options {
        event: Some(options::Event::Changed(options)),
    };
    Publisher::new(&world.log, "test")
        .publish(Draft::new(world.broadcast, options))
        .await
        .unwrap();
    world.started(&ingest.url).await;
    world.wait_for_segments(3).await;

    let produced = world.metadata().await.remove(0);
    assert_eq!(produced.session_id, world.session.to_string());
    let names: Vec<&str> = produced
        .renditions
        .iter()
        .map(|rendition| rendition.name.as_str())
        .collect();
    assert_eq!(names, ["source", "180p", "120p", "audio"]);
    let video = produced.video.unwrap();
    assert_eq!((video.width, video.height, video.frame_rate_milli), (426, 240, 25_000));
    assert!(produced.renditions.iter().all(|rendition| rendition.peak_bitrate > 0));
    assert_eq!((produced.segment_target_ms, produced.part_target_ms), (2000, 200));

    let segments = world.segments().await;
    assert_parts(&world, segments.iter().filter(|stored| stored.media_sequence < 2)).await;

    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    let renditions = world.check().await;
    assert_eq!(renditions.len(), 4);
    let pictures = format!("{}/{}/thumb", world.broadcast, world.session);
    let pictures = world.folder.path().join(pictures);
    assert!(pictures.join("latest.jpg").is_file());
    // The first of the storyboard has the date of the first segment.
    let date = segments[0].program_date_time.unwrap();
    let date = date.seconds * 1000 + i64::from(date.nanos) / 1_000_000;
    let sheet = std::fs::read_dir(pictures)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap());
    let sheet: Vec<String> = sheet.filter(|name| name.ends_with("-10000-5x160x90-1.jpg")).collect();
    let [maker, start] = [0, 1].map(|field| sheet[0].split('-').nth(field).unwrap().parse::<i64>().unwrap());
    assert!(
        sheet.len() == 1 && maker == 0 && (start - date).abs() < 1000,
        "{sheet:?} {date}"
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_worker_is_succeeded_by_another() {
    let world = World::new().await;
    let ingest = Ingest::start(&source(60)).await;
    let first = world.worker().await;
    world.started(&ingest.url).await;
    world.wait_for_segments(2).await;
    // In the middle of a segment, so that parts are out that no segment names.
    until("parts of an open segment", PATIENCE, || async {
        let key = ("source".to_owned(), 2, 2);
        parts(&world).await.contains_key(&key).then_some(())
    })
    .await
    .unwrap();
    first.kill().await;
    let before = world.segments().await.len();
    let second = world.worker().await;
    world.wait_for_segments(before / 4 + 4).await;
    let segments = world.segments().await;
    // What was left of the open segment is one, and the second goes on behind it.
    let (left, own): (Vec<_>, Vec<_>) = segments[before..]
        .iter()
        .filter(|stored| stored.size_bytes > 0)
        .partition(|stored| stored.discontinuity_sequence == 0);
    let of_source = left.iter().filter(|stored| stored.rendition == "source");
    let of_source: Vec<_> = of_source
        .map(|stored| (stored.media_sequence, stored.parts.len()))
        .collect();
    assert!(matches!(of_source[..], [(2, parts)] if parts > 2), "{of_source:?}");
    assert_parts(&world, left.into_iter().chain(own)).await;
    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    let renditions = world.check().await;
    let numbers: BTreeSet<u64> = renditions["source"]
        .iter()
        .map(|stored| stored.discontinuity_sequence)
        .collect();
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), [0, 1]);
    let targets = world.metadata().await.into_iter().map(|said| said.segment_target_ms);
    assert_eq!(targets.collect::<BTreeSet<_>>().len(), 1, "one target for the session");
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_keeps_the_target_that_its_session_announced() {
    let world = World::new().await;
    let ingest = Ingest::start(&source(60)).await;
    world.produced(4000).await;
    let worker = world.worker().await;
    world.started(&ingest.url).await;
    world.wait_for_segments(1).await;
    let said = world.metadata().await;
    let own: Vec<u32> = said[1..].iter().map(|said| said.segment_target_ms).collect();
    assert_eq!(own, [4000, 4000], "a source of one second asks for 2000");
    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    worker.stop().await;
}

/// Clocks differ, and a worker that was held up dates what it makes up for too late.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_worker_has_dated_is_the_past() {
    let ahead = (Utc::now() + TimeDelta::seconds(60)).trunc_subsecs(3);
    for of_segment in [true, false] {
        let world = World::new().await;
        let ingest = Ingest::start(&source(60)).await;
        let init_object_key = format!("{}/{}/source/init-0.mp4", world.broadcast, world.session);
        if of_segment {
            let stored = segment::Stored {
                session_id: world.session.to_string(),
                rendition: "source".to_owned(),
                duration_us: 1_000_000,
                program_date_time: Some(ahead.into()),
                init_object_key,
                next_media_sequence: 1,
                ..segment::Stored::default()
            };
            let event = Some(segment::Event::Stored(stored));
            world.publish(Segment { event }).await;
        } else {
            world.produced(2000).await;
            let part = PartHeader {
                broadcast: world.broadcast,
                session: world.session,
                rendition: "source".to_owned(),
                media_sequence: 0,
                part: 0,
                duration_us: 1_000_000,
                independent: true,
                discontinuity_sequence: 0,
                segment_time: ahead,
                init_object_key,
                init_section: Bytes::new(),
            };
            Publisher::new(&world.log, "test")
                .publish_part(&part, Bytes::from_static(b"part"))
                .await
                .unwrap();
        }
        let worker = world.worker().await;
        world.started(&ingest.url).await;
        world.wait_for(1, |stored| stored.media_sequence > 0).await;
        let segments = world.segments().await;
        let made = segments
            .into_iter()
            .find(|s| s.rendition == "source" && s.media_sequence == 1);
        let begun = made.unwrap().program_date_time.unwrap();
        let begun = DateTime::try_from(begun).unwrap();
        assert_eq!(begun, ahead + TimeDelta::seconds(1), "{of_segment}");
        world.ended().await;
        ingest.over.store(true, Ordering::SeqCst);
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_worker_gives_its_job_back_and_loses_nothing() {
    let world = World::new().await;
    let ingest = Ingest::start(&source(60)).await;
    let first = world.worker().await;
    world.started(&ingest.url).await;
    world.wait_for_segments(1).await;
    first.stop().await;
    let before = world.check().await["source"].len();
    let second = world.worker().await;
    world.wait_for_segments(before + 1).await;
    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    world.check().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_ends_although_the_log_is_gone() {
    let mut world = World::new().await;
    let ingest = Ingest::start(&source(120)).await;
    let worker = world.worker().await;
    world.started(&ingest.url).await;
    world.wait_for_segments(1).await;
    world.nats.kill9();
    tokio::time::timeout(PATIENCE, worker.stop())
        .await
        .expect("it does not wait for the log for ever");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_may_be_away_for_a_while() {
    let mut world = World::new().await;
    let ingest = Ingest::start(&source(60)).await;
    let worker = world.worker().await;
    world.started(&ingest.url).await;
    world.wait_for_segments(2).await;
    world.nats.kill9();
    // Long enough for the job to be offered again.
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.nats.restart().await.unwrap();
    world.wait_for_segments(4).await;
    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    let renditions = world.check().await;
    let whole = renditions["source"]
        .iter()
        .all(|stored| stored.discontinuity_sequence == 0);
    assert!(whole, "nobody else was there to take it over");
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_connection_is_made_again() {
    let world = World::new().await;
    let ingest = Ingest::start(&source(60)).await;
    ingest.cut_after.store(4500, Ordering::SeqCst);
    let worker = world.worker().await;
    world.started(&ingest.url).await;
    world.wait_for_segments(2).await;
    until("a second connection", PATIENCE, || async {
        (ingest.connections.load(Ordering::SeqCst) >= 2).then_some(())
    })
    .await
    .unwrap();
    ingest.cut_after.store(0, Ordering::SeqCst);
    world.wait_for(1, |stored| stored.discontinuity_sequence == 1).await;
    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    let renditions = world.check().await;
    let last = renditions["source"].last().unwrap();
    assert_eq!(last.discontinuity_sequence, 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_cannot_be_followed_is_read_anew() {
    let world = World::new().await;
    let ingest = Ingest::start(&source(60)).await;
    // In the fifth second; behind it, no byte means what it says.
    ingest.damaged_tag.store(300, Ordering::SeqCst);
    let worker = world.worker().await;
    world.started(&ingest.url).await;
    world.wait_for(1, |stored| stored.discontinuity_sequence == 1).await;
    assert_eq!(ingest.connections.load(Ordering::SeqCst), 2);
    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    let renditions = world.check().await;
    let source = &renditions["source"];
    let before: u64 = source
        .iter()
        .filter(|stored| stored.discontinuity_sequence == 0)
        .map(|stored| stored.duration_us)
        .sum();
    assert!((3_000_000..5_000_000).contains(&before), "{before} us came before it");
    assert_eq!(source.last().unwrap().discontinuity_sequence, 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_codec_that_is_not_taken_settles_the_job() {
    let world = World::new().await;
    let ingest = Ingest::start(&format!("{} -c:v flv1 -b:v 300k", picture("320x240", 25, 30))).await;
    let worker = world.worker().await;
    world.started(&ingest.url).await;
    until("a connection", PATIENCE, || async {
        (ingest.connections.load(Ordering::SeqCst) >= 1).then_some(())
    })
    .await
    .unwrap();
    world.wait_for_empty_queue().await;
    assert!(world.metadata().await.is_empty());
    assert!(world.segments().await.is_empty());
    worker.stop().await;
}
