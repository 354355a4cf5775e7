//! Sessions by measured CPU: what a worker's process takes of the processors decides whether
//! it has room for another one. One test, for all threads of the process count.
#![allow(clippy::unwrap_used)]

// Not all that the tests of the service need.
#[allow(dead_code)]
#[path = "service/ingest.rs"]
mod ingest;
mod support;
#[allow(dead_code)]
#[path = "service/world.rs"]
mod world;

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use castlog_metrics::metrics;
use castlog_pipeline::Config;
use castlog_testkit::until;
use ingest::Ingest;
use nix::sys::resource::{UsageWho, getrusage};
use support::{AAC, h264, picture, tone};
use world::World;

/// Bound of every wait: far above what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(180);

/// As far as a worker looks back.
const SPAN: Duration = Duration::from_secs(6);

/// Threads that do nothing as fast as they can, until this is dropped.
struct Spin(Arc<AtomicBool>);

impl Spin {
    fn start(threads: usize) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        for _ in 0..threads {
            let over = Arc::clone(&over);
            thread::spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(over)
    }
}

impl Drop for Spin {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Seconds of CPU time that this process has used so far.
fn cpu_time() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let times = [usage.user_time(), usage.system_time()];
    times
        .iter()
        .map(|time| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6)
        .sum()
}

/// Waits until this process has had so many processors for as long as a worker looks back:
/// it may have to share them with other tests.
async fn busy(processors: f64) {
    until("a busy process", PATIENCE, || async {
        let (from, before) = (Instant::now(), cpu_time());
        tokio::time::sleep(SPAN).await;
        (cpu_time() - before >= processors * from.elapsed().as_secs_f64()).then_some(())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_waits_while_the_processors_are_taken() {
    let processors = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    // Little: two sessions fit only once the first one has shown how small it is, and other
    // tests may have the rest of the machine.
    let percent = 60_usize.div_ceil(processors).max(10);
    let limit = (processors * percent) as f64 / 100.0;
    let config = Config {
        cpu_percent: percent.try_into().unwrap(),
        // What is only passed through takes next to nothing.
        thumbnails: false,
        ..Config::default()
    };
    let source = format!("{} {} {} {AAC}", picture("256x144", 25, 180), tone(180), h264(25, 0));
    let ingests = [Ingest::start(&source).await, Ingest::start(&source).await];
    let world = World::new().await;
    let worker = world.worker_with(config).await;
    world.started(&ingests[0].url).await;
    // Until it has shown what it takes, after ten seconds.
    world.wait_for_segments(6).await;

    // So many that they have their share beside other tests.
    let spin = Spin::start(16.max(2 * processors));
    // All of it is taken for what the first one needs, and the second is expected to need as much.
    busy(limit * 0.6).await;
    let (second, connections) = (world.another(), &ingests[1].connections);
    let refused = metrics().pipeline_jobs_refused.get();
    second.started(&ingests[1].url).await;
    until("the second session is offered", PATIENCE, || async {
        let seen = metrics().pipeline_jobs_refused.get() > refused || connections.load(Ordering::SeqCst) > 0;
        seen.then_some(())
    })
    .await
    .unwrap();
    assert_eq!(connections.load(Ordering::SeqCst), 0, "there was no room for it");

    drop(spin);
    second.wait_for_segments(1).await;
    for (cast, ingest) in [&*world, &second].into_iter().zip(&ingests) {
        cast.ended().await;
        ingest.over.store(true, Ordering::SeqCst);
    }
    world.wait_for_empty_queue().await;
    worker.stop().await;
}
