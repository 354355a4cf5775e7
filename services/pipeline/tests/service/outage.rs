//! The media store is away: the broadcast goes on, and what was made meanwhile comes to
//! the store afterwards, whatever becomes of the worker.

use std::{collections::BTreeSet, path::PathBuf, sync::atomic::Ordering};

use castlog_log::pb::segment::Stored;
use castlog_pipeline::{Config, spool};
use castlog_testkit::{S3Server, until};

use crate::{
    ingest::Ingest,
    source,
    world::{World, assert_parts},
};

impl World {
    fn away(&self) -> PathBuf {
        self.folder.path().with_extension("away")
    }

    /// A file is where the folder of the media was: nothing can be written, whoever asks.
    fn media_goes(&self) {
        std::fs::rename(self.folder.path(), self.away()).unwrap();
        std::fs::write(self.folder.path(), b"").unwrap();
    }

    fn media_comes_back(&self) {
        std::fs::remove_file(self.folder.path()).unwrap();
        std::fs::rename(self.away(), self.folder.path()).unwrap();
    }

    async fn end(&self, ingest: &Ingest) {
        self.ended().await;
        ingest.over.store(true, Ordering::SeqCst);
        self.wait_for_empty_queue().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bucket_may_be_away_for_a_while() {
    let mut s3 = S3Server::start().await.unwrap();
    let world = World::new_on(&s3).await;
    let ingest = Ingest::start(&source(120)).await;
    let worker = world.worker().await;
    world.started(&ingest.url).await;
    world.wait_for_segments(2).await;
    s3.kill9();
    let before = world.segments().await.len();
    world.wait_for_segments(before / 2 + 3).await;
    assert!(!world.waiting().is_empty(), "there is no other way");
    s3.restart().await.unwrap();
    world.stored().await;
    // One that takes requests and answers none.
    s3.process().pause().unwrap();
    let before = world.segments().await.len();
    world.wait_for_segments(before / 2 + 3).await;
    s3.process().resume().unwrap();
    world.stored().await;
    let segments = world.segments().await;
    assert_parts(&world, segments.iter().rev().take(8)).await;
    world.end(&ingest).await;
    let renditions = world.check().await;
    let whole = renditions["source"]
        .iter()
        .all(|stored| stored.discontinuity_sequence == 0);
    assert!(whole, "nothing is missing in between");
    worker.stop().await;
    // The control: one that is not in the bucket is missed.
    let lost = &renditions["source"][0].object_key;
    std::fs::remove_file(s3.folder().join(lost)).unwrap();
    let missed = tokio::spawn(async move { world.check().await }).await;
    assert!(missed.is_err_and(|error| error.is_panic()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_may_begin_and_its_worker_die_while_the_folder_is_away() {
    let world = World::new().await;
    let ingest = Ingest::start(&source(120)).await;
    let first = world.worker().await;
    until("a spool", crate::PATIENCE, || async {
        world.spool_is_there().then_some(())
    })
    .await
    .unwrap();
    world.media_goes();
    world.started(&ingest.url).await;
    world.wait_for_segments(2).await;
    let left: BTreeSet<String> = world.waiting().into_iter().collect();
    first.kill().await;
    let init = |names: &BTreeSet<String>| names.iter().any(|name| name.ends_with("+source+init-0.mp4"));
    assert!(init(&left), "{left:?}");
    // The media folder is opened at a start, and is away again while its successor works.
    world.media_comes_back();
    let second = world.worker().await;
    world.media_goes();
    world.wait_for(2, |stored| stored.discontinuity_sequence == 1).await;
    world.media_comes_back();
    world.end(&ingest).await;
    let renditions = world.check().await;
    assert!(renditions["source"].iter().any(|s| s.discontinuity_sequence == 0));
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_section_that_was_lost_comes_with_a_later_segment() {
    let world = World::new().await;
    let ingest = Ingest::start(&source(120)).await;
    let worker = world.worker().await;
    until("a worker", crate::PATIENCE, || async { worker.ready().then_some(()) })
        .await
        .unwrap();
    world.media_goes();
    world.spool_fails();
    world.started(&ingest.url).await;
    world.wait_for(1, |stored| stored.object_lost).await;
    world.media_comes_back();
    world.wait_for(2, |stored| !stored.object_lost).await;
    world.end(&ingest).await;
    worker.stop().await;
    let is_there = |key: &String| world.folder.path().join(key).is_file();
    let segments = world.segments().await;
    let held: Vec<&Stored> = segments.iter().filter(|stored| !stored.object_lost).collect();
    for stored in &held {
        assert!(is_there(&stored.object_key), "{}", stored.object_key);
        assert!(is_there(&stored.init_object_key), "{}", stored.init_object_key);
    }
    let names: BTreeSet<&str> = held.iter().map(|stored| stored.rendition.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["audio", "source"]));
    assert!(segments.iter().all(|stored| stored.discontinuity_sequence == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_stops_no_broadcast() {
    let world = World::new().await;
    let ingest = Ingest::start(&source(120)).await;
    let small = spool::Config {
        max_bytes: 300_000,
        ..spool::Config::default()
    };
    let worker = world
        .worker_with(Config {
            spool: small,
            ..Config::default()
        })
        .await;
    world.started(&ingest.url).await;
    world.wait_for_segments(1).await;
    world.media_goes();
    until("a full spool", crate::PATIENCE, || async {
        (!worker.ready()).then_some(())
    })
    .await
    .unwrap();
    let lost = world.segments().await.len();
    world.wait_for_segments(lost / 2 + 2).await;
    world.media_comes_back();
    world.stored().await;
    until("room", crate::PATIENCE, || async { worker.ready().then_some(()) })
        .await
        .unwrap();
    world.end(&ingest).await;
    worker.stop().await;
    // What is in the spool stays; what comes after it is lost, until there is room.
    let segments = world.segments().await;
    let video = segments.iter().filter(|stored| stored.rendition == "source");
    let is_there = |s: &Stored| world.folder.path().join(&s.object_key).is_file();
    let there: Vec<bool> = video.map(is_there).collect();
    let runs: Vec<bool> = there.chunk_by(|a, b| a == b).map(|run| run[0]).collect();
    assert_eq!(runs, [true, false, true], "{there:?}");
    // And the log says which.
    assert!(segments.iter().all(|stored| stored.object_lost != is_there(stored)));
}
