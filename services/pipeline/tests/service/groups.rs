//! Several workers: they share the jobs, each within its bound, and one takes over
//! the job of another that is killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::Ordering,
    time::Instant,
};

use castlog_pipeline::Config;
use castlog_testkit::until;

use crate::{
    PATIENCE,
    ingest::Ingest,
    source,
    world::{Cast, Worker, World, parts},
};

/// Part targets of two workers, which show in what they say of a session whose it is.
pub(crate) const TARGETS: [u32; 2] = [250, 200];

/// A worker that gives no sign of life is believed dead although it works; it finds
/// that its session is another's, and leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_believed_dead_leaves_its_session_to_the_next() {
    let world = World::new().await;
    let ingest = Ingest::start(&source(120)).await;
    let silent = Config {
        progress_ms: 60_000,
        ..Config::default()
    };
    let first = world.worker_with(silent).await;
    world.started(&ingest.url).await;
    world.wait_for_segments(1).await;
    let second = world.worker().await;
    world.wait_for(4, |stored| stored.discontinuity_sequence == 1).await;
    // Since the second has had its first segment in the log, the first has had none.
    let lines: Vec<u64> = world
        .segments()
        .await
        .iter()
        .map(|stored| stored.discontinuity_sequence)
        .collect();
    let begun = lines.iter().position(|line| *line == 1).unwrap();
    assert!(lines[begun..].iter().all(|line| *line == 1), "{lines:?}");
    let said = world.metadata().await;
    let makers: Vec<&str> = said.iter().map(|said| said.worker.as_str()).collect();
    let [one, other] = [makers[0], *makers.last().unwrap()];
    assert_ne!(one, other);
    let turned = makers.iter().position(|maker| *maker == other).unwrap();
    assert!(makers[turned..].iter().all(|maker| *maker == other), "{makers:?}");
    // The first has no job any more; what it does now is another's job.
    first.stop().await;
    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    second.stop().await;
}

/// A worker with room for one job by their number: beside other tests one takes so little of
/// the processors that there is room for two.
pub(crate) async fn worker(world: &World, part_target_ms: u32) -> Worker {
    let config = Config {
        max_jobs: 1,
        cpu_percent: 0,
        part_target_ms,
        ..Config::default()
    };
    world.worker_with(config).await
}

/// The worker that has a session in work, by its part target.
pub(crate) async fn worker_of(cast: &Cast) -> u32 {
    until("a worker has the job", PATIENCE, || async {
        Some(cast.said().await?.part_target_ms)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_share_the_jobs_and_a_job_waits_for_room() {
    let world = World::new().await;
    let casts = [world.another(), world.another(), world.another()];
    let ingests = [
        Ingest::start(&source(120)).await,
        Ingest::start(&source(120)).await,
        Ingest::start(&source(120)).await,
    ];
    let workers = [worker(&world, TARGETS[0]).await, worker(&world, TARGETS[1]).await];
    for (cast, ingest) in casts.iter().zip(&ingests) {
        cast.started(&ingest.url).await;
    }
    // Two of the three are in work, one each.
    let taken = until("two jobs are in work", PATIENCE, || async {
        let mut taken = BTreeMap::new();
        for (n, cast) in casts.iter().enumerate() {
            if let Some(said) = cast.said().await {
                taken.insert(n, said.part_target_ms);
            }
        }
        (taken.len() >= 2).then_some(taken)
    })
    .await
    .unwrap();
    assert_eq!(
        taken.values().copied().collect::<BTreeSet<_>>(),
        BTreeSet::from(TARGETS)
    );
    for n in taken.keys() {
        casts[*n].wait_for_segments(2).await;
    }
    let waiting = (0..3).find(|n| !taken.contains_key(n)).unwrap();
    assert!(
        casts[waiting].metadata().await.is_empty(),
        "a worker has more than it may"
    );
    assert_eq!(ingests[waiting].connections.load(Ordering::SeqCst), 0);

    // The worker that has finished takes the job that waits.
    let (done, target) = taken.first_key_value().unwrap();
    casts[*done].ended().await;
    ingests[*done].over.store(true, Ordering::SeqCst);
    assert_eq!(worker_of(&casts[waiting]).await, *target);
    casts[waiting].wait_for_segments(1).await;
    for (cast, ingest) in casts.iter().zip(&ingests) {
        cast.ended().await;
        ingest.over.store(true, Ordering::SeqCst);
    }
    world.wait_for_empty_queue().await;
    for cast in &casts {
        let renditions = cast.check().await;
        assert!(
            renditions
                .values()
                .flatten()
                .all(|stored| stored.discontinuity_sequence == 0)
        );
    }
    for worker in workers {
        worker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_workers_job_is_taken_over_by_one_that_runs() {
    let world = World::new().await;
    let ingest = Ingest::start(&source(120)).await;
    let mut workers: BTreeMap<u32, Worker> = BTreeMap::new();
    for target in TARGETS {
        workers.insert(target, worker(&world, target).await);
    }
    world.started(&ingest.url).await;
    let first = worker_of(&world).await;
    world.wait_for_segments(2).await;
    // In the middle of a segment, so that parts are out that no segment names.
    until("parts of an open segment", PATIENCE, || async {
        let key = ("source".to_owned(), 2, 2);
        parts(&world).await.contains_key(&key).then_some(())
    })
    .await
    .unwrap();
    let taken_over = world.first_part(1).await;
    workers.remove(&first).unwrap().kill().await;
    let killed = Instant::now();
    let after = taken_over.await - killed;
    // How long viewers wait is looked at end to end, in tests/tests/latency.rs.
    println!("the first part of the next worker came {after:.2?} after the kill");
    world.wait_for(2, |stored| stored.discontinuity_sequence == 1).await;
    let said = world.metadata().await;
    let by: BTreeSet<u32> = said.iter().map(|said| said.part_target_ms).collect();
    assert_eq!(by, BTreeSet::from(TARGETS));
    assert_ne!(said.last().unwrap().part_target_ms, first);
    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    // Each number once, in order, without a gap.
    let renditions = world.check().await;
    let numbers: BTreeSet<u64> = renditions["source"]
        .iter()
        .map(|stored| stored.discontinuity_sequence)
        .collect();
    assert_eq!(numbers, BTreeSet::from([0, 1]));
    for worker in workers.into_values() {
        worker.stop().await;
    }
}
