//! The service against a real nats-server, a real folder and a real ffmpeg
//! behind a small HTTP server: jobs, entries, objects, takeover.
#![allow(clippy::unwrap_used)]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use castlog_log::{
    BroadcastId, ConnectConfig, Draft, Event, Followed, From, Kind, Log, Publisher, SessionId,
    pb::{Segment, Status, metadata, options, segment, status},
    provision,
};
use castlog_pipeline::Config;
use castlog_service::{AdminConfig, Context, MediaStoreConfig, Shutdown, open_media_store};
use castlog_testkit::{NatsOptions, NatsServer, until};
use support::{AAC, complaints, h264, picture, tone};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinHandle,
};

/// Bound of every wait: far above what a busy machine needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves ffmpeg's output, in real time, to each GET.
struct Ingest {
    url: String,
    /// Ends the running and refuses the coming connections.
    over: Arc<AtomicBool>,
    /// Milliseconds after which a connection is cut; 0 = never.
    cut_after: Arc<AtomicU64>,
    connections: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ingest {
    async fn start(arguments: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/flv/x", listener.local_addr().unwrap());
        let over = Arc::new(AtomicBool::new(false));
        let cut_after = Arc::new(AtomicU64::new(0));
        let connections = Arc::new(AtomicU64::new(0));
        let arguments: Arc<str> = arguments.into();
        let (ended, cut, count) = (over.clone(), cut_after.clone(), connections.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let (arguments, ended, cut) = (arguments.clone(), ended.clone(), cut.clone());
                tokio::spawn(async move {
                    // The reader may hang up at any time.
                    serve(stream, &arguments, &ended, &cut).await.ok();
                });
            }
        });
        Self {
            url,
            over,
            cut_after,
            connections,
            task,
        }
    }
}

async fn serve(
    mut stream: TcpStream,
    arguments: &str,
    over: &AtomicBool,
    cut_after: &AtomicU64,
) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    if over.load(Ordering::SeqCst) {
        let answer = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return stream.write_all(answer).await;
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Type: video/x-flv\r\nConnection: close\r\n\r\n";
    stream.write_all(head).await?;
    let mut ffmpeg = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-re"])
        .args(arguments.split_whitespace())
        .args(["-flush_packets", "1", "-f", "flv", "pipe:1"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut output = ffmpeg.stdout.take().expect("stdout is piped");
    let begun = tokio::time::Instant::now();
    let mut buffer = [0; 16 * 1024];
    loop {
        let tick = tokio::time::sleep(Duration::from_millis(50));
        let read = tokio::select! {
            read = output.read(&mut buffer) => read?,
            () = tick => usize::MAX,
        };
        let cut = cut_after.load(Ordering::SeqCst);
        if over.load(Ordering::SeqCst) || (cut > 0 && begun.elapsed() > Duration::from_millis(cut)) || read == 0 {
            return Ok(());
        }
        if read != usize::MAX {
            stream.write_all(&buffer[..read]).await?;
        }
    }
}

/// A nats-server with the project's streams, a folder, and one broadcast.
struct World {
    nats: NatsServer,
    folder: tempfile::TempDir,
    log: Log,
    broadcast: BroadcastId,
    session: SessionId,
}

struct Worker {
    shutdown: Shutdown,
    task: JoinHandle<anyhow::Result<()>>,
}

impl World {
    async fn new() -> Self {
        let nats = NatsServer::start_with(NatsOptions::default().lazy_sync())
            .await
            .unwrap();
        let log = connect(&nats, "test").await;
        provision::apply(&log, provision::Plan::default()).await.unwrap();
        // A short ack wait, so that a dead worker's job comes back soon.
        let stream = log.jetstream().get_stream("LIVE_STREAM").await.unwrap();
        let text = std::fs::read_to_string(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../jetstream/consumers/LIVE_STREAM/pipeline.json"
        ))
        .unwrap();
        let mut consumer: async_nats::jetstream::consumer::Config = serde_json::from_str(&text).unwrap();
        consumer.ack_wait = Duration::from_secs(2);
        stream.create_consumer(consumer).await.unwrap();
        Self {
            nats,
            folder: tempfile::tempdir().unwrap(),
            log,
            broadcast: BroadcastId::generate(),
            session: SessionId::generate(),
        }
    }

    async fn worker(&self) -> Worker {
        let shutdown = Shutdown::new();
        let log = connect(&self.nats, "pipeline").await;
        let media = open_media_store(&MediaStoreConfig {
            path: self.folder.path().to_owned(),
        })
        .unwrap();
        let context = Context::start(log, media, shutdown.clone(), &AdminConfig::default())
            .await
            .unwrap();
        let config = Config {
            preset: "ultrafast".to_owned(),
            progress_ms: 500,
            ..Config::default()
        };
        Worker {
            shutdown,
            task: tokio::spawn(castlog_pipeline::run(config, context)),
        }
    }

    async fn status(&self, event: fn(status::Session) -> status::Event, url: &str) {
        let session = status::Session {
            session_id: self.session.to_string(),
            ingest_url: url.to_owned(),
            ..status::Session::default()
        };
        let status = Status {
            event: Some(event(session)),
        };
        Publisher::new(&self.log, "test")
            .publish(Draft::new(self.broadcast, status))
            .await
            .unwrap();
    }

    async fn started(&self, url: &str) {
        self.status(
            |session| status::Event::Started(status::Started { session: Some(session) }),
            url,
        )
        .await;
    }

    async fn ended(&self) {
        let event = |session| {
            status::Event::Ended(status::Ended {
                session: Some(session),
                ..status::Ended::default()
            })
        };
        self.status(event, "").await;
    }

    /// All entries of a kind so far.
    async fn entries(&self, kind: Kind) -> Vec<Event> {
        let mut follow = self
            .log
            .follow(kind.stream(), &[&kind.of(self.broadcast).to_string()], From::Beginning);
        let mut events = Vec::new();
        loop {
            match follow.next().await.unwrap() {
                Followed::Entry(entry) => events.push(entry.event),
                Followed::Undecodable(entry) => panic!("{entry:?}"),
                Followed::CaughtUp => return events,
            }
        }
    }

    async fn segments(&self) -> Vec<segment::Stored> {
        let of = |event| match event {
            Event::Segment(segment) => segment.event.map(|segment::Event::Stored(stored)| stored),
            _ => None,
        };
        self.entries(Kind::Segment).await.into_iter().filter_map(of).collect()
    }

    async fn metadata(&self) -> Vec<metadata::Produced> {
        let of = |event| match event {
            Event::Metadata(metadata) => metadata.event.map(|metadata::Event::Produced(produced)| produced),
            _ => None,
        };
        self.entries(Kind::Metadata).await.into_iter().filter_map(of).collect()
    }

    /// Waits for so many segments of the rendition `source` that are as wanted.
    async fn wait_for(&self, count: usize, wanted: impl Fn(&segment::Stored) -> bool) {
        let subject = Kind::Segment.of(self.broadcast).to_string();
        let mut follow = self.log.follow(Kind::Segment.stream(), &[&subject], From::Beginning);
        let mut seen = 0;
        let wait = async {
            while seen < count {
                // Errors pass: the server may be away.
                let Ok(Followed::Entry(entry)) = follow.next().await else {
                    continue;
                };
                if let Event::Segment(Segment {
                    event: Some(segment::Event::Stored(stored)),
                }) = entry.event
                    && stored.rendition == "source"
                    && wanted(&stored)
                {
                    seen += 1;
                }
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("segments come");
    }

    async fn wait_for_segments(&self, count: usize) {
        self.wait_for(count, |_| true).await;
    }

    /// Waits until nothing is left in the job queue.
    async fn wait_for_empty_queue(&self) {
        let stream = self.log.jetstream().get_stream("LIVE_STREAM").await.unwrap();
        until("an empty queue", PATIENCE, || async {
            let info = stream.consumer_info("pipeline").await.ok()?;
            (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
        })
        .await
        .unwrap();
    }

    /// Every rendition has every media sequence number once, in order; the
    /// discontinuity numbers never fall; every object is there and as large as
    /// its entry says. Answers the segments by rendition.
    async fn check(&self) -> BTreeMap<String, Vec<segment::Stored>> {
        let mut renditions: BTreeMap<String, Vec<segment::Stored>> = BTreeMap::new();
        for stored in self.segments().await {
            renditions.entry(stored.rendition.clone()).or_default().push(stored);
        }
        assert!(!renditions.is_empty());
        let spans: BTreeSet<usize> = renditions.values().map(Vec::len).collect();
        assert_eq!(spans.len(), 1, "as many segments of each rendition");
        for (name, segments) in &renditions {
            let mut last_discontinuity = 0;
            for (number, stored) in segments.iter().enumerate() {
                assert_eq!(stored.media_sequence, number as u64, "{name}");
                assert_eq!(stored.next_media_sequence, stored.media_sequence + 1);
                assert!(stored.discontinuity_sequence >= last_discontinuity);
                last_discontinuity = stored.discontinuity_sequence;
                let object = self.folder.path().join(&stored.object_key);
                assert_eq!(
                    object.metadata().unwrap().len(),
                    stored.size_bytes,
                    "{}",
                    stored.object_key
                );
                assert!(self.folder.path().join(&stored.init_object_key).is_file());
                let parts: u64 = stored.parts.iter().map(|part| part.duration_us).sum();
                assert_eq!(parts, stored.duration_us);
                assert!(stored.parts[0].independent);
                assert!(stored.program_date_time.is_some());
            }
            self.decode(name, segments);
        }
        renditions
    }

    /// Each run of segments between discontinuities decodes without complaint.
    fn decode(&self, name: &str, segments: &[segment::Stored]) {
        for epoch in segments.chunk_by(|a, b| a.init_object_key == b.init_object_key) {
            let mut bytes = std::fs::read(self.folder.path().join(&epoch[0].init_object_key)).unwrap();
            for stored in epoch {
                bytes.extend(std::fs::read(self.folder.path().join(&stored.object_key)).unwrap());
            }
            let path = self.folder.path().join(format!("{name}.mp4"));
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(complaints(&path), "", "{name}");
        }
    }
}

impl Worker {
    async fn stop(self) {
        self.shutdown.begin();
        self.task.await.unwrap().unwrap();
    }

    /// As kill -9 would: nothing is finished, nothing is answered.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

async fn connect(nats: &NatsServer, name: &str) -> Log {
    let config = ConnectConfig {
        url: nats.url(),
        ..ConnectConfig::default()
    };
    Log::connect(&config, name).await.unwrap()
}

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
    assert_eq!((produced.segment_target_ms, produced.part_target_ms), (2000, 250));

    let segments = world.segments().await;
    assert_parts(&world, segments.iter().filter(|stored| stored.media_sequence < 2)).await;

    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    let renditions = world.check().await;
    assert_eq!(renditions.len(), 4);
    let thumbnail = format!("{}/{}/thumb/latest.jpg", world.broadcast, world.session);
    assert!(world.folder.path().join(thumbnail).is_file());
    worker.stop().await;
}

/// The newest parts in the log are what the segments are made of, byte for byte.
async fn assert_parts(world: &World, segments: impl Iterator<Item = &segment::Stored>) {
    let parts = parts(world).await;
    for stored in segments {
        let object = std::fs::read(world.folder.path().join(&stored.object_key)).unwrap();
        let joined: Vec<u8> = (0..stored.parts.len() as u32)
            .flat_map(|part| parts[&(stored.rendition.clone(), stored.media_sequence, part)].clone())
            .collect();
        assert!(joined == object, "{} {}", stored.rendition, stored.media_sequence);
    }
}

/// The parts in the log by rendition, media sequence number and index.
async fn parts(world: &World) -> BTreeMap<(String, u64, u32), Vec<u8>> {
    use castlog_log::header;
    let stream = world.log.jetstream().get_stream("LIVE_PART").await.unwrap();
    let state = stream.get_info().await.unwrap().state;
    let mut parts = BTreeMap::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let message = stream.direct_get(sequence).await.unwrap();
        let text = |name| message.headers.get(name).unwrap().to_string();
        let key = (
            text(header::RENDITION),
            text(header::MEDIA_SEQUENCE).parse().unwrap(),
            text(header::PART).parse().unwrap(),
        );
        parts.insert(key, message.payload.to_vec());
    }
    parts
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
    world.wait_for_segments(before / 4 + 3).await;
    let segments = world.segments().await;
    assert_parts(
        &world,
        segments.iter().filter(|stored| stored.discontinuity_sequence == 1),
    )
    .await;
    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    let renditions = world.check().await;
    let numbers: BTreeSet<u64> = renditions["source"]
        .iter()
        .map(|stored| stored.discontinuity_sequence)
        .collect();
    assert_eq!(numbers.into_iter().collect::<Vec<_>>(), [0, 1]);
    second.stop().await;
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
async fn the_log_may_be_away_for_a_while() {
    let mut world = World::new().await;
    let ingest = Ingest::start(&source(60)).await;
    let worker = world.worker().await;
    world.started(&ingest.url).await;
    world.wait_for_segments(2).await;
    world.nats.kill9();
    // Long enough for the worker to give its job up.
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.nats.restart().await.unwrap();
    world.wait_for_segments(4).await;
    world.ended().await;
    ingest.over.store(true, Ordering::SeqCst);
    world.wait_for_empty_queue().await;
    world.check().await;
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
