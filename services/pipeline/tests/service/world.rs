//! A nats-server, a folder and workers, and what is in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Deref,
    path::PathBuf,
    time::Instant,
};

use async_nats::jetstream::stream::DirectGetErrorKind;
use castlog_log::{
    BroadcastId, ConnectConfig, Draft, Event, Followed, From, Kind, Log, Publisher, SessionId, header,
    pb::{Metadata, Segment, Status, metadata, segment, status},
    provision,
};
use castlog_pipeline::{Config, inherit, spool};
use castlog_service::{AdminConfig, Context, Health, MediaStoreConfig, Shutdown, open_media_store};
use castlog_testkit::{NatsOptions, NatsServer, S3Server, until};
use futures::StreamExt as _;
use tokio::task::JoinHandle;

use crate::{PATIENCE, support::complaints};

/// A nats-server with the project's streams, a folder, and one broadcast.
pub(crate) struct World {
    pub(crate) nats: NatsServer,
    pub(crate) folder: tempfile::TempDir,
    media: MediaStoreConfig,
    /// Where media waits for the store.
    spool: tempfile::TempDir,
    first: Cast,
}

/// A broadcast with one session.
pub(crate) struct Cast {
    pub(crate) log: Log,
    pub(crate) broadcast: BroadcastId,
    pub(crate) session: SessionId,
    /// The folder of all media.
    root: PathBuf,
    spool: PathBuf,
}

impl Deref for World {
    type Target = Cast;

    fn deref(&self) -> &Cast {
        &self.first
    }
}

pub(crate) struct Worker {
    shutdown: Shutdown,
    health: Health,
    task: JoinHandle<anyhow::Result<()>>,
}

impl World {
    /// With media in a local folder.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let media = MediaStoreConfig::folder(folder.path());
        let root = folder.path().to_owned();
        Self::with(media, folder, root).await
    }

    /// With media in a bucket.
    pub(crate) async fn new_on(s3: &S3Server) -> Self {
        Self::with(s3.media(), tempfile::tempdir().unwrap(), s3.folder()).await
    }

    async fn with(media: MediaStoreConfig, folder: tempfile::TempDir, root: PathBuf) -> Self {
        let nats = NatsServer::start_with(NatsOptions::default().lazy_sync())
            .await
            .unwrap();
        let log = connect(&nats, "test").await;
        provision::apply(&log, provision::Plan::default()).await.unwrap();
        let spool = tempfile::tempdir().unwrap();
        Self {
            first: Cast::new(log, root, spool.path().to_owned()),
            nats,
            folder,
            media,
            spool,
        }
    }

    /// Another broadcast.
    pub(crate) fn another(&self) -> Cast {
        Cast::new(self.log.clone(), self.root.clone(), self.spool.path().to_owned())
    }

    pub(crate) async fn worker(&self) -> Worker {
        self.worker_with(config()).await
    }

    pub(crate) async fn worker_with(&self, config: Config) -> Worker {
        self.worker_on(config, self.nats.log_of("pipeline").await.unwrap())
            .await
    }

    pub(crate) async fn worker_on(&self, config: Config, log: Log) -> Worker {
        let shutdown = Shutdown::new();
        let media = open_media_store(&self.media).unwrap();
        let context = Context::start(log, media, shutdown.clone(), &AdminConfig::default())
            .await
            .unwrap();
        let config = Config {
            preset: "ultrafast".to_owned(),
            spool: spool::Config {
                path: self.spool.path().to_owned(),
                ..config.spool
            },
            ..config
        };
        Worker {
            shutdown,
            health: context.health.clone(),
            task: tokio::spawn(castlog_pipeline::run(config, context)),
        }
    }

    /// Waits until nothing is left in the job queue.
    pub(crate) async fn wait_for_empty_queue(&self) {
        let stream = self.log.jetstream().get_stream("LIVE_STREAM").await.unwrap();
        until("an empty queue", PATIENCE, || async {
            let info = stream.consumer_info("pipeline").await.ok()?;
            (info.num_pending == 0 && info.num_ack_pending == 0).then_some(())
        })
        .await
        .unwrap();
    }
}

/// A worker's, with which others may be in its process.
pub(crate) fn config() -> Config {
    Config {
        cpu_percent: 0,
        ..Config::default()
    }
}

impl Cast {
    fn new(log: Log, root: PathBuf, spool: PathBuf) -> Self {
        Self {
            log,
            broadcast: BroadcastId::generate(),
            session: SessionId::generate(),
            root,
            spool,
        }
    }

    /// The objects that wait for the store.
    pub(crate) fn waiting(&self) -> Vec<String> {
        let folders = std::fs::read_dir(&self.spool).unwrap();
        let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains('+')).collect()
    }

    /// Whether a worker has taken its folder of the spool.
    pub(crate) fn spool_is_there(&self) -> bool {
        self.spool.join("0/lock").is_file()
    }

    /// The disk of the spool fails: nothing can be written to it any more.
    pub(crate) fn spool_fails(&self) {
        std::fs::remove_dir_all(self.spool.join("0")).unwrap();
    }

    /// Waits until the store has all that it was given.
    pub(crate) async fn stored(&self) {
        until("an empty spool", PATIENCE, || async {
            self.waiting().is_empty().then_some(())
        })
        .await
        .unwrap();
    }

    /// Publishes what another has to say of the broadcast: the RTMP server, a former worker.
    pub(crate) async fn publish(&self, entry: impl Into<Event>) {
        Publisher::new(&self.log, "test")
            .publish(Draft::new(self.broadcast, entry))
            .await
            .unwrap();
    }

    /// What a former worker has said that it makes.
    pub(crate) async fn produced(&self, segment_target_ms: u32) {
        let produced = metadata::Produced {
            session_id: self.session.to_string(),
            segment_target_ms,
            ..metadata::Produced::default()
        };
        self.publish(Metadata {
            event: Some(metadata::Event::Produced(produced)),
        })
        .await;
    }

    async fn status(&self, event: fn(status::Session) -> status::Event, url: &str) {
        let session = status::Session {
            session_id: self.session.to_string(),
            ingest_url: url.to_owned(),
            ..status::Session::default()
        };
        self.publish(Status {
            event: Some(event(session)),
        })
        .await;
    }

    pub(crate) async fn started(&self, url: &str) {
        self.status(
            |session| status::Event::Started(status::Started { session: Some(session) }),
            url,
        )
        .await;
    }

    pub(crate) async fn ended(&self) {
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

    pub(crate) async fn segments(&self) -> Vec<segment::Stored> {
        let of = |event| match event {
            Event::Segment(segment) => segment.event.map(|segment::Event::Stored(stored)| stored),
            _ => None,
        };
        self.entries(Kind::Segment).await.into_iter().filter_map(of).collect()
    }

    /// What was said last. Leaves no reader on the server, so that it can be asked again and again.
    pub(crate) async fn said(&self) -> Option<metadata::Produced> {
        let newest = self.log.last(Kind::Metadata, self.broadcast).await.ok()??;
        match newest.event {
            Event::Metadata(metadata) => metadata.event.map(|metadata::Event::Produced(produced)| produced),
            _ => None,
        }
    }

    pub(crate) async fn metadata(&self) -> Vec<metadata::Produced> {
        let of = |event| match event {
            Event::Metadata(metadata) => metadata.event.map(|metadata::Event::Produced(produced)| produced),
            _ => None,
        };
        self.entries(Kind::Metadata).await.into_iter().filter_map(of).collect()
    }

    /// Waits for so many segments of the rendition `source` that are as wanted.
    pub(crate) async fn wait_for(&self, count: usize, wanted: impl Fn(&segment::Stored) -> bool) {
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

    pub(crate) async fn wait_for_segments(&self, count: usize) {
        self.wait_for(count, |_| true).await;
    }

    /// When the first part of this line comes. To be called before it can, and then awaited.
    pub(crate) async fn first_part(&self, line: u64) -> impl Future<Output = Instant> + use<> {
        let client = self.log.jetstream().client();
        let subject = Kind::Part.of(self.broadcast).to_string();
        let mut parts = client.subscribe(subject).await.unwrap();
        client.flush().await.unwrap();
        let line = line.to_string();
        let first = async move {
            while let Some(part) = parts.next().await {
                let headers = part.headers.unwrap();
                if headers.get(header::DISCONTINUITY_SEQUENCE).unwrap().as_str() == line {
                    return Instant::now();
                }
            }
            panic!("the server is gone");
        };
        async { tokio::time::timeout(PATIENCE, first).await.expect("a part comes") }
    }

    /// Every rendition has every media sequence number once, in order; the
    /// discontinuity numbers never fall; every object is there and as large as
    /// its entry says. Answers the segments by rendition.
    pub(crate) async fn check(&self) -> BTreeMap<String, Vec<segment::Stored>> {
        self.stored().await;
        let mut renditions: BTreeMap<String, Vec<segment::Stored>> = BTreeMap::new();
        for stored in self.segments().await {
            renditions.entry(stored.rendition.clone()).or_default().push(stored);
        }
        assert!(!renditions.is_empty());
        let spans: BTreeSet<usize> = renditions.values().map(Vec::len).collect();
        assert_eq!(spans.len(), 1, "as many segments of each rendition");
        for (name, segments) in &renditions {
            let mut last_discontinuity = 0;
            for pair in segments.windows(2) {
                let begun = inherit::end(&segment::Stored {
                    duration_us: 0,
                    ..pair[1].clone()
                });
                let (end, begun) = (inherit::end(&pair[0]).unwrap(), begun.unwrap());
                // A frame of sound belongs where most of it lies.
                assert!(
                    begun - end > chrono::TimeDelta::milliseconds(-25),
                    "{name}: {end} {begun}"
                );
            }
            for (number, stored) in segments.iter().enumerate() {
                assert_eq!(stored.media_sequence, number as u64, "{name}");
                assert_eq!(stored.next_media_sequence, stored.media_sequence + 1);
                assert!(stored.discontinuity_sequence >= last_discontinuity);
                last_discontinuity = stored.discontinuity_sequence;
                let object = self.root.join(&stored.object_key);
                assert!(self.root.join(&stored.init_object_key).is_file());
                assert!(stored.program_date_time.is_some());
                if stored.size_bytes == 0 {
                    assert!(!object.exists(), "a gap has no object");
                    continue;
                }
                assert_eq!(
                    object.metadata().unwrap().len(),
                    stored.size_bytes,
                    "{}",
                    stored.object_key
                );
                let parts: u64 = stored.parts.iter().map(|part| part.duration_us).sum();
                assert_eq!(parts, stored.duration_us);
                assert!(stored.parts[0].independent);
            }
            let held: Vec<_> = segments
                .iter()
                .filter(|stored| stored.size_bytes > 0)
                .cloned()
                .collect();
            self.decode(name, &held);
        }
        renditions
    }

    /// Each run of segments between discontinuities decodes without complaint.
    fn decode(&self, name: &str, segments: &[segment::Stored]) {
        for epoch in segments.chunk_by(|a, b| a.init_object_key == b.init_object_key) {
            let mut bytes = std::fs::read(self.root.join(&epoch[0].init_object_key)).unwrap();
            for stored in epoch {
                bytes.extend(std::fs::read(self.root.join(&stored.object_key)).unwrap());
            }
            let path = self.root.join(format!("{name}.mp4"));
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(complaints(&path), "", "{name}");
        }
    }
}

impl Worker {
    pub(crate) fn ready(&self) -> bool {
        self.health.is_ready()
    }

    pub(crate) async fn stop(self) {
        self.shutdown.begin();
        self.task.await.unwrap().unwrap();
    }

    /// As kill -9 would: nothing is finished, nothing is answered.
    pub(crate) async fn kill(self) {
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

/// The newest parts in the log are what the segments are made of, byte for byte.
pub(crate) async fn assert_parts(cast: &Cast, segments: impl Iterator<Item = &segment::Stored>) {
    let parts = parts(cast).await;
    // What the store was slow to take comes by the disk.
    cast.stored().await;
    for stored in segments {
        let object = std::fs::read(cast.root.join(&stored.object_key)).unwrap();
        let joined: Vec<u8> = (0..stored.parts.len() as u32)
            .flat_map(|part| parts[&(stored.rendition.clone(), stored.media_sequence, part)].clone())
            .collect();
        assert!(joined == object, "{} {}", stored.rendition, stored.media_sequence);
    }
}

/// The parts in the log by rendition, media sequence number and index.
pub(crate) async fn parts(cast: &Cast) -> BTreeMap<(String, u64, u32), Vec<u8>> {
    let stream = cast.log.jetstream().get_stream("LIVE_PART").await.unwrap();
    let state = stream.get_info().await.unwrap().state;
    let mut parts = BTreeMap::new();
    for sequence in state.first_sequence..=state.last_sequence {
        let message = match stream.direct_get(sequence).await {
            Ok(message) => message,
            // The oldest may go meanwhile.
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => continue,
            Err(error) => panic!("part {sequence} cannot be read: {error}"),
        };
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
