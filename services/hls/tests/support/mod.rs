//! A broadcast with a real log and a real store, and edges to look at it.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use castlog_hls::{Config, Running};
use castlog_log::{
    BroadcastId, ConnectConfig, Draft, Event, Kind, Log, PartHeader, Publisher, SessionId, pb,
    provision::{self, Plan},
};
use castlog_service::{Context, Health, MediaStore, MediaStoreConfig, Shutdown, open_media_store};
use castlog_testkit::{NatsServer, S3Server, until};
use chrono::{DateTime, TimeDelta, Utc};
use object_store::{ObjectStoreExt as _, PutPayload};
use tempfile::TempDir;

/// Long enough for a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// Parts of a segment that has been worked on.
pub(crate) const PARTS: u32 = 8;
const PART_SIZE: u64 = 500;
pub(crate) const RENDITIONS: [&str; 3] = ["source", "480p", "audio"];

pub(crate) struct Stage {
    pub(crate) nats: NatsServer,
    pub(crate) log: Log,
    pub(crate) store: MediaStore,
    _media: Option<TempDir>,
    publisher: Publisher,
    own: Log,
}

impl Stage {
    /// With media in a local folder.
    pub(crate) async fn build() -> anyhow::Result<Self> {
        let media = TempDir::new()?;
        let config = MediaStoreConfig::folder(media.path());
        Self::build_with(&config, Some(media)).await
    }

    /// With media in a bucket.
    pub(crate) async fn build_on(s3: &S3Server) -> anyhow::Result<Self> {
        Self::build_with(&s3.media(), None).await
    }

    async fn build_with(config: &MediaStoreConfig, media: Option<TempDir>) -> anyhow::Result<Self> {
        let nats = NatsServer::start().await?;
        let log = Log::connect(
            &ConnectConfig {
                url: nats.url(),
                ..ConnectConfig::default()
            },
            "test",
        )
        .await?;
        provision::apply(&log, Plan::default()).await?;
        let store = open_media_store(config)?;
        let publisher = Publisher::new(&log, "test");
        let own = nats.log_of("hls").await?;
        Ok(Self {
            nats,
            log,
            store,
            _media: media,
            publisher,
            own,
        })
    }

    pub(crate) async fn edge(&self, config: Config) -> anyhow::Result<Edge> {
        let context = Context {
            log: self.own.clone(),
            media: Arc::clone(&self.store),
            shutdown: Shutdown::new(),
            health: Health::default(),
        };
        let config = Config {
            listen: "127.0.0.1:0".to_owned(),
            ..config
        };
        let running = castlog_hls::start(config, context.clone()).await?;
        let base = format!("http://{}", running.address());
        Ok(Edge {
            running,
            context,
            base,
            client: reqwest::Client::new(),
        })
    }

    /// Applies the definitions again: streams in memory go with their server.
    pub(crate) async fn apply(&self) -> anyhow::Result<()> {
        provision::apply(&self.log, Plan::default()).await?;
        Ok(())
    }

    /// What was counted last of who watches a broadcast.
    pub(crate) async fn counted(&self, broadcast: BroadcastId) -> Option<pb::viewers::Counted> {
        let entry = self.log.last(Kind::Viewers, broadcast).await.ok()??;
        let Event::Viewers(viewers) = entry.event else {
            return None;
        };
        viewers.event.map(|pb::viewers::Event::Counted(counted)| counted)
    }

    pub(crate) async fn publish(&self, broadcast: BroadcastId, event: impl Into<Event>) -> anyhow::Result<u64> {
        Ok(self.publisher.publish(Draft::new(broadcast, event)).await?.sequence)
    }
}

pub(crate) struct Edge {
    pub(crate) running: Running,
    pub(crate) context: Context,
    pub(crate) base: String,
    pub(crate) client: reqwest::Client,
}

impl Edge {
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<reqwest::Response> {
        Ok(self.client.get(format!("{}{path}", self.base)).send().await?)
    }

    /// The text at `path`, once it is there.
    pub(crate) async fn text(&self, path: &str) -> anyhow::Result<String> {
        let probe = || async { self.get(path).await.ok()?.error_for_status().ok()?.text().await.ok() };
        until(path, PATIENCE, probe).await
    }

    /// The text at `path`, once it satisfies `wanted`.
    pub(crate) async fn text_with(&self, path: &str, wanted: impl Fn(&str) -> bool) -> anyhow::Result<String> {
        let probe = || async {
            let text = self.get(path).await.ok()?.text().await.ok()?;
            wanted(&text).then_some(text)
        };
        until(path, PATIENCE, probe).await
    }

    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        until("readiness", PATIENCE, || async {
            self.context.health.is_ready().then_some(())
        })
        .await
    }

    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.context.shutdown.begin();
        tokio::time::timeout(PATIENCE, self.running.wait())
            .await
            .context("the edge does not end")?
    }
}

/// One session of a broadcast.
pub(crate) struct Show {
    pub(crate) broadcast: BroadcastId,
    pub(crate) session: SessionId,
    start: DateTime<Utc>,
}

fn stamp(time: DateTime<Utc>) -> Option<pb::Timestamp> {
    let nanos = i32::try_from(time.timestamp_subsec_nanos()).unwrap();
    Some(pb::Timestamp {
        seconds: time.timestamp(),
        nanos,
    })
}

impl Show {
    pub(crate) fn new() -> Self {
        Self {
            broadcast: BroadcastId::generate(),
            session: SessionId::generate(),
            start: Utc::now(),
        }
    }

    /// The next session of the same broadcast.
    pub(crate) fn again(&self) -> Self {
        Self {
            broadcast: self.broadcast,
            session: SessionId::generate(),
            start: Utc::now(),
        }
    }

    /// The address of a playlist of its recording: `index.m3u8`, or that of a rendition.
    pub(crate) fn recording(&self, playlist: &str) -> String {
        format!("/recordings/{}/{}/{playlist}", self.broadcast, self.session)
    }

    pub(crate) fn multivariant(&self) -> String {
        format!("/live/{}/index.m3u8", self.broadcast)
    }

    pub(crate) fn playlist(&self, rendition: &str) -> String {
        format!("/live/{}/{rendition}/index.m3u8", self.broadcast)
    }

    pub(crate) fn key(&self, rendition: &str, file: &str) -> String {
        format!("{}/{}/{rendition}/{file}", self.broadcast, self.session)
    }

    pub(crate) fn session(&self) -> Option<pb::status::Session> {
        Some(pb::status::Session {
            session_id: self.session.to_string(),
            started_at: stamp(self.start),
            ..Default::default()
        })
    }

    pub(crate) fn started(&self) -> pb::Status {
        pb::Status {
            event: Some(pb::status::Event::Started(pb::status::Started {
                session: self.session(),
            })),
        }
    }

    pub(crate) fn interrupted(&self) -> pb::Status {
        let interrupted = pb::status::Interrupted {
            session: self.session(),
            ..Default::default()
        };
        pb::Status {
            event: Some(pb::status::Event::Interrupted(interrupted)),
        }
    }

    pub(crate) fn resumed(&self) -> pb::Status {
        pb::Status {
            event: Some(pb::status::Event::Resumed(pb::status::Resumed {
                session: self.session(),
            })),
        }
    }

    pub(crate) fn ended(&self) -> pb::Status {
        let ended = pb::status::Ended {
            session: self.session(),
            ended_at: stamp(Utc::now()),
            reason: String::new(),
        };
        pb::Status {
            event: Some(pb::status::Event::Ended(ended)),
        }
    }

    pub(crate) fn deleted(&self) -> pb::Registration {
        pb::Registration {
            event: Some(pb::registration::Event::Deleted(Default::default())),
        }
    }

    pub(crate) fn options(&self, visibility: pb::Visibility) -> pb::Options {
        self.options_of(visibility, false)
    }

    pub(crate) fn options_of(&self, visibility: pb::Visibility, record: bool) -> pb::Options {
        let changed = pb::options::Changed {
            visibility: visibility as i32,
            record,
            ..Default::default()
        };
        pb::Options {
            event: Some(pb::options::Event::Changed(changed)),
        }
    }

    pub(crate) fn produced(&self) -> pb::Metadata {
        let video = |name: &str, height: u32, peak_bitrate: u64| pb::Rendition {
            name: name.to_owned(),
            kind: pb::RenditionKind::Video as i32,
            codec: "avc1.64001f".to_owned(),
            width: height * 16 / 9,
            height,
            frame_rate_milli: 30_000,
            peak_bitrate,
            average_bitrate: peak_bitrate,
            ..Default::default()
        };
        let audio = pb::Rendition {
            name: "audio".to_owned(),
            kind: pb::RenditionKind::Audio as i32,
            codec: "mp4a.40.2".to_owned(),
            channels: 2,
            peak_bitrate: 8_000,
            ..Default::default()
        };
        let produced = pb::metadata::Produced {
            session_id: self.session.to_string(),
            renditions: vec![video("source", 720, 20_000), video("480p", 480, 10_000), audio],
            segment_target_ms: 2000,
            part_target_ms: 250,
            ..Default::default()
        };
        pb::Metadata {
            event: Some(pb::metadata::Event::Produced(produced)),
        }
    }

    pub(crate) fn bytes(rendition: &str, n: u64) -> Vec<u8> {
        let size = if rendition == "audio" {
            1_000
        } else {
            4_000 + usize::try_from(n).unwrap()
        };
        let seed = rendition.len() + usize::try_from(n).unwrap();
        (0..size).map(|i| u8::try_from((i + seed) % 251).unwrap()).collect()
    }

    /// Puts a segment into the store, with the section that it names, and then into the log.
    pub(crate) async fn store(
        &self,
        stage: &Stage,
        rendition: &str,
        n: u64,
        discontinuity: u64,
    ) -> anyhow::Result<u64> {
        let (segment, init) = (format!("{n}.m4s"), format!("init-{discontinuity}.mp4"));
        let bytes = Self::bytes(rendition, n);
        let size_bytes = bytes.len() as u64;
        let put =
            |key: String, bytes: Vec<u8>| async move { stage.store.put(&key.into(), PutPayload::from(bytes)).await };
        put(self.key(rendition, &init), b"init".to_vec()).await?;
        put(self.key(rendition, &segment), bytes).await?;
        self.announce(stage, rendition, n, discontinuity, size_bytes).await
    }

    /// The initialization section that a part brings.
    fn section(index: u32) -> bytes::Bytes {
        bytes::Bytes::from_static(if index == 0 { b"init" } else { b"" })
    }

    pub(crate) fn part_bytes(rendition: &str, n: u64, line: u64, index: u32) -> Vec<u8> {
        let seed = u8::try_from((n + line * 50 + u64::from(index) * 7 + rendition.len() as u64) % 251).unwrap();
        vec![seed; PART_SIZE as usize]
    }

    /// Publishes a part as the pipeline does.
    pub(crate) async fn part(
        &self,
        stage: &Stage,
        rendition: &str,
        n: u64,
        line: u64,
        index: u32,
    ) -> anyhow::Result<u64> {
        let header = PartHeader {
            broadcast: self.broadcast,
            session: self.session,
            rendition: rendition.to_owned(),
            media_sequence: n,
            part: index,
            duration_us: 250_000,
            independent: index == 0,
            discontinuity_sequence: line,
            segment_time: self.time(n),
            init_object_key: self.key(rendition, &format!("init-{line}.mp4")),
            init_section: Self::section(index),
        };
        let bytes = Self::part_bytes(rendition, n, line, index);
        Ok(stage.publisher.publish_part(&header, bytes.into()).await?.sequence)
    }

    /// Publishes the parts of a segment in all renditions, and stores the segment.
    pub(crate) async fn work(&self, stage: &Stage, n: u64, line: u64) -> anyhow::Result<()> {
        let of = (0..PARTS).flat_map(|index| RENDITIONS.map(|r| (r, index)));
        let parts = of.map(|(rendition, index)| self.part(stage, rendition, n, line, index));
        futures::future::try_join_all(parts).await?;
        for rendition in RENDITIONS {
            let bytes: Vec<u8> = (0..PARTS)
                .flat_map(|i| Self::part_bytes(rendition, n, line, i))
                .collect();
            let key = self.key(rendition, &format!("{n}.m4s"));
            stage.store.put(&key.into(), PutPayload::from(bytes)).await?;
            self.announce_parts(stage, rendition, n, line).await?;
        }
        Ok(())
    }

    /// Puts a segment with parts into the log only.
    pub(crate) async fn announce_parts(
        &self,
        stage: &Stage,
        rendition: &str,
        n: u64,
        line: u64,
    ) -> anyhow::Result<u64> {
        self.announce_left(stage, rendition, n, line, PARTS).await
    }

    /// The same of a segment that was closed behind so many parts.
    pub(crate) async fn announce_left(
        &self,
        stage: &Stage,
        rendition: &str,
        n: u64,
        line: u64,
        count: u32,
    ) -> anyhow::Result<u64> {
        let parts = vec![
            pb::segment::Part {
                duration_us: 250_000,
                size_bytes: PART_SIZE,
                independent: false,
            };
            count as usize
        ];
        let mut stored = self.stored(rendition, n, line, PART_SIZE * u64::from(count));
        (stored.parts, stored.duration_us) = (parts, 250_000 * u64::from(count));
        stored.parts[0].independent = true;
        let event = pb::Segment {
            event: Some(pb::segment::Event::Stored(stored)),
        };
        stage.publish(self.broadcast, event).await
    }

    pub(crate) fn time(&self, n: u64) -> DateTime<Utc> {
        self.start + TimeDelta::milliseconds(2000 * i64::try_from(n).unwrap())
    }

    pub(crate) async fn announce(
        &self,
        stage: &Stage,
        rendition: &str,
        n: u64,
        discontinuity: u64,
        size_bytes: u64,
    ) -> anyhow::Result<u64> {
        let event = pb::Segment {
            event: Some(pb::segment::Event::Stored(self.stored(
                rendition,
                n,
                discontinuity,
                size_bytes,
            ))),
        };
        stage.publish(self.broadcast, event).await
    }

    /// Puts a segment into the log whose object is lost.
    pub(crate) async fn lose(&self, stage: &Stage, rendition: &str, n: u64, discontinuity: u64) -> anyhow::Result<u64> {
        let mut stored = self.stored(rendition, n, discontinuity, 4_000);
        stored.object_lost = true;
        let event = pb::Segment {
            event: Some(pb::segment::Event::Stored(stored)),
        };
        stage.publish(self.broadcast, event).await
    }

    fn stored(&self, rendition: &str, n: u64, discontinuity: u64, size_bytes: u64) -> pb::segment::Stored {
        pb::segment::Stored {
            session_id: self.session.to_string(),
            rendition: rendition.to_owned(),
            media_sequence: n,
            discontinuity_sequence: discontinuity,
            duration_us: if rendition == "audio" { 2_005_333 } else { 2_000_000 },
            program_date_time: stamp(self.time(n)),
            object_key: self.key(rendition, &format!("{n}.m4s")),
            init_object_key: self.key(rendition, &format!("init-{discontinuity}.mp4")),
            size_bytes,
            parts: Vec::new(),
            next_media_sequence: n + 1,
            object_lost: false,
        }
    }

    pub(crate) async fn open(&self, stage: &Stage) -> anyhow::Result<()> {
        stage
            .publish(self.broadcast, self.options(pb::Visibility::Public))
            .await?;
        stage.publish(self.broadcast, self.started()).await?;
        stage.publish(self.broadcast, self.produced()).await?;
        Ok(())
    }

    pub(crate) async fn store_all(
        &self,
        stage: &Stage,
        numbers: std::ops::Range<u64>,
        line: u64,
    ) -> anyhow::Result<()> {
        for n in numbers {
            for rendition in RENDITIONS {
                self.store(stage, rendition, n, line).await?;
            }
        }
        Ok(())
    }
}

/// Whether a playlist holds a segment.
pub(crate) fn holds(n: u64) -> impl Fn(&str) -> bool {
    move |text| {
        text.lines()
            .any(|line| !line.starts_with('#') && line.ends_with(&format!("/{n}.m4s")))
    }
}
