//! Behind the real RTMP server: a worker that stops in the middle of a broadcast and the
//! one that goes on have every picture of the encoder between them, and none twice.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use castlog_log::{
    Draft, PublishKey, Publisher,
    pb::{self, segment},
};
use castlog_rtmp::Running;
use castlog_service::{AdminConfig, Context, MediaStoreConfig, Shutdown, open_media_store};
use castlog_testkit::{Process, tools, until};

use crate::{
    PATIENCE,
    groups::{TARGETS, worker, worker_of},
    support::{AAC, h264, samples, tone},
    world::{Worker, World},
};

/// Fields of a picture, each as bright as a bit of its number says.
const BITS: usize = 16;

/// A picture that shows its number: of 25 a second, with a keyframe in each four seconds,
/// which leave a busy machine time to go on before the next one.
fn numbered(seconds: u32) -> String {
    let bit = "if(mod(floor(N/pow(2,X)),2),235,16)";
    format!(
        "-re -f lavfi -i nullsrc=s={BITS}x9:r=25:d={seconds},geq=lum='{bit}':cb=128:cr=128,scale=640:360:flags=neighbor \
         -re {} {} {AAC}",
        tone(seconds),
        h264(100, 0)
    )
}

/// The numbers of a file's pictures, in order.
fn numbers(path: &Path) -> Vec<u64> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-xerror", "-i"])
        .arg(path)
        .args(["-vf", &format!("scale={BITS}:1:flags=area,format=gray")])
        .args(["-f", "rawvideo", "-"])
        .output()
        .expect("ffmpeg runs");
    assert!(output.status.success());
    let number = |picture: &[u8]| {
        picture
            .iter()
            .rev()
            .fold(0, |number, bit| number * 2 + u64::from(*bit > 128))
    };
    output.stdout.chunks_exact(BITS).map(number).collect()
}

/// Samples of 50 ms.
const WINDOW: usize = 48_000 / 20;

/// Windows at the beginning in which a decoder lacks the frame before.
const FIRST: usize = 2;

/// Windows at the end of a broadcast, where an encoder may end the sound before the picture.
const LAST: usize = 10;

/// The RMS of a file's sound, window by window, without the first ones.
fn loudness(path: &Path) -> Vec<f32> {
    let rms = |window: &[[f32; 2]]| {
        let power: f32 = window.iter().flatten().map(|sample| sample * sample).sum();
        (power / (2 * window.len()) as f32).sqrt()
    };
    samples(path).chunks_exact(WINDOW).skip(FIRST).map(rms).collect()
}

impl World {
    /// The RTMP server, and a key for the broadcast.
    async fn rtmp(&self) -> (Running, Shutdown, String) {
        let key = PublishKey::generate();
        let issued = pb::publish_key::Issued {
            key_hash: key.hash().to_string(),
        };
        let issued = pb::PublishKey {
            event: Some(pb::publish_key::Event::Issued(issued)),
        };
        Publisher::new(&self.log, "test")
            .publish(Draft::new(self.broadcast, issued))
            .await
            .unwrap();
        let free = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        let config = castlog_rtmp::Config {
            listen: free,
            tls_listen: None,
            flv_listen: free,
            reconnect_window_s: 1,
            ..castlog_rtmp::Config::default()
        };
        let log = self.nats.log_of("rtmp").await.unwrap();
        let media = open_media_store(&MediaStoreConfig::folder(self.folder.path())).unwrap();
        let shutdown = Shutdown::new();
        let context = Context::start(log, media, shutdown.clone(), &AdminConfig::default())
            .await
            .unwrap();
        let health = context.health.clone();
        let running = castlog_rtmp::start(config, context).await.unwrap();
        until("the RTMP server's readiness", PATIENCE, || async {
            health.is_ready().then_some(())
        })
        .await
        .unwrap();
        let url = format!("rtmp://{}/live/{}", running.rtmp, key.expose());
        (running, shutdown, url)
    }

    /// A row of segments of one worker as a file.
    fn joined(&self, segments: &[segment::Stored]) -> PathBuf {
        let object = |key: &String| std::fs::read(self.folder.path().join(key)).unwrap();
        let mut bytes = object(&segments[0].init_object_key);
        bytes.extend(segments.iter().flat_map(|stored| object(&stored.object_key)));
        let path = self.folder.path().join("joined.mp4");
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_worker_goes_on_with_the_next_picture() {
    let world = World::new().await;
    let (rtmp, shutdown, url) = world.rtmp().await;
    let mut workers: BTreeMap<u32, Worker> = BTreeMap::new();
    for target in TARGETS {
        workers.insert(target, worker(&world, target).await);
    }
    let log = world.folder.path().join("encoder.log");
    let mut encoder = Process::new(tools::find("ffmpeg").unwrap(), log)
        .args(["-v", "error", "-nostdin"])
        .args(numbered(600).split_whitespace())
        .args(["-f", "flv", &url]);
    encoder.start().unwrap();
    world.wait_for_segments(1).await;
    let first = worker_of(&world).await;
    let goes_on = world.first_part(1).await;
    workers.remove(&first).unwrap().stop().await;
    let stopped = Instant::now();
    let after = goes_on.await.saturating_duration_since(stopped);
    println!("the first part of the next worker came {after:.2?} after the end of the other");
    // It knows the source, and does not wait for the keyframe in four seconds.
    assert!(after < Duration::from_secs(3), "{after:?}");
    world.wait_for(1, |stored| stored.discontinuity_sequence == 1).await;
    encoder.stop(PATIENCE).await.unwrap();
    world.wait_for_empty_queue().await;
    let renditions = world.check().await;
    assert_eq!(renditions.keys().collect::<Vec<_>>(), ["240p", "audio", "source"]);
    let date = |stored: &segment::Stored| {
        let date = stored.program_date_time.unwrap();
        date.seconds * 1_000_000 + i64::from(date.nanos) / 1000
    };
    let span = |segments: &[segment::Stored]| segments.iter().map(|stored| stored.duration_us).sum::<u64>();
    for (name, segments) in &renditions {
        let epochs: Vec<&[segment::Stored]> = segments
            .chunk_by(|a, b| a.discontinuity_sequence == b.discontinuity_sequence)
            .collect();
        let lines: Vec<u64> = epochs.iter().map(|epoch| epoch[0].discontinuity_sequence).collect();
        assert_eq!(lines, [0, 1], "{name}");
        // No picture is missing where one worker ends, nor is one there twice.
        if name == "audio" {
            let apart = span(epochs[0]).abs_diff(span(&renditions["source"][..epochs[0].len()]));
            assert!(apart <= 2 * 21_334, "the sound ends {apart} us from the picture");
            // The tone is heard all the time, also where one worker ends and the next begins.
            for (epoch, end) in epochs.iter().zip([0, LAST]) {
                let loudness = loudness(&world.joined(epoch));
                let judged = &loudness[..loudness.len() - end];
                let heard = judged.iter().all(|rms| *rms > 0.02);
                assert!(heard && !judged.is_empty(), "{loudness:?}");
            }
            let picture = &renditions["source"][epochs[0].len()];
            let late = date(&epochs[1][0]) - date(picture);
            assert!(late.abs() <= 25_000, "the next worker dates the sound {late} us later");
            continue;
        }
        let end = &epochs[0][epochs[0].len() - 1];
        let apart = date(&epochs[1][0]) - date(end) - end.duration_us.cast_signed();
        println!("{name}: the next worker dates it {apart} us later");
        let [one, other] = [0, 1].map(|epoch| numbers(&world.joined(epochs[epoch])));
        println!(
            "{name}: {}..={} and {}..={}",
            one[0],
            one[one.len() - 1],
            other[0],
            other[other.len() - 1]
        );
        let seen = [one, other].concat();
        let wanted: Vec<u64> = (seen[0]..).take(seen.len()).collect();
        assert_eq!(seen, wanted, "{name}");
    }
    for worker in workers.into_values() {
        worker.stop().await;
    }
    shutdown.begin();
    rtmp.wait().await.unwrap();
}
