//! One RTMP server against a real log, and ffmpeg as its encoder.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use castlog_log::{
    BroadcastId, ConnectConfig, Draft, Entry, Event, Followed, From, Kind, Log, PublishKey, Publisher, pb,
};
use castlog_rtmp::{Config, Running};
use castlog_service::{AdminConfig, Context, MediaStoreConfig, Shutdown};
use castlog_testkit::{NatsServer, Process, tools, until};
use tempfile::TempDir;

/// Long enough for two busy cores; passing tests do not wait for it.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// The RTMP server under test, in this process.
pub(crate) struct Server {
    pub(crate) running: Running,
    pub(crate) shutdown: Shutdown,
}

impl Server {
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        self.shutdown.begin();
        self.running.wait().await
    }
}

/// What a test needs: a log, a folder and the clip to push.
pub(crate) struct Bench {
    pub(crate) nats: NatsServer,
    pub(crate) log: Log,
    pub(crate) publisher: Publisher,
    pub(crate) folder: TempDir,
    encoders: std::cell::Cell<u32>,
}

impl Bench {
    pub(crate) async fn new() -> anyhow::Result<Self> {
        crate::lines::record();
        let nats = NatsServer::start().await?;
        let log = connect(&nats, "test").await?;
        let plan = castlog_log::provision::Plan {
            check: false,
            allow_destructive: false,
            replicas: 1,
        };
        castlog_log::provision::apply(&log, plan).await?;
        let publisher = Publisher::new(&log, "test");
        let bench = Self {
            nats,
            log,
            publisher,
            folder: tempfile::tempdir()?,
            encoders: std::cell::Cell::new(0),
        };
        bench.make_clip()?;
        Ok(bench)
    }

    /// Starts the RTMP server and waits until it is ready.
    pub(crate) async fn serve(&self, config: Config) -> anyhow::Result<Server> {
        self.serve_as("rtmp", config).await
    }

    /// Starts the RTMP server with the rights of any user of the log.
    pub(crate) async fn serve_as(&self, user: &str, config: Config) -> anyhow::Result<Server> {
        let log = self.nats.log_of(user).await?;
        let media = castlog_service::open_media_store(&MediaStoreConfig::folder(self.folder.path().join("media")))?;
        let shutdown = Shutdown::new();
        let context = Context::start(log, media, shutdown.clone(), &AdminConfig::default()).await?;
        let health = context.health.clone();
        let running = castlog_rtmp::start(config, context).await?;
        until("the server's readiness", SOON, || async {
            health.is_ready().then_some(())
        })
        .await?;
        Ok(Server { running, shutdown })
    }

    /// A configuration on free ports, with a short reconnect window.
    pub(crate) fn config(&self) -> Config {
        let free = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        Config {
            listen: free,
            tls_listen: None,
            flv_listen: free,
            dev_cert_dir: self.folder.path().join("tls"),
            reconnect_window_s: 20,
            ..Config::default()
        }
    }

    /// A broadcast with a key.
    pub(crate) async fn broadcast(&self) -> anyhow::Result<(BroadcastId, PublishKey)> {
        let (broadcast, key) = (BroadcastId::generate(), PublishKey::generate());
        let issued = pb::publish_key::Issued {
            key_hash: key.hash().to_string(),
        };
        self.publish(
            broadcast,
            pb::PublishKey {
                event: Some(pb::publish_key::Event::Issued(issued)),
            },
        )
        .await?;
        Ok((broadcast, key))
    }

    pub(crate) async fn publish(&self, broadcast: BroadcastId, event: impl Into<Event>) -> anyhow::Result<u64> {
        Ok(self.publisher.publish(Draft::new(broadcast, event)).await?.sequence)
    }

    fn clip(&self) -> PathBuf {
        self.folder.path().join("clip.mp4")
    }

    fn make_clip(&self) -> anyhow::Result<()> {
        let made = std::process::Command::new(tools::find("ffmpeg")?)
            .args([
                "-v",
                "error",
                "-y",
                "-f",
                "lavfi",
                "-i",
                "testsrc2=size=320x180:rate=25",
            ])
            .args(["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000", "-t", "4"])
            .args([
                "-c:v",
                "libx264",
                "-preset",
                "ultrafast",
                "-pix_fmt",
                "yuv420p",
                "-g",
                "25",
            ])
            .args(["-c:a", "aac", "-b:a", "64k", "-ac", "2"])
            .arg(self.clip())
            .status()
            .context("cannot start ffmpeg")?;
        anyhow::ensure!(made.success(), "ffmpeg made no clip");
        Ok(())
    }

    /// An encoder that pushes the clip in real time, for ever unless `extra` bounds it.
    pub(crate) fn push(&self, url: &str, extra: &[&str]) -> anyhow::Result<Process> {
        self.encoders.set(self.encoders.get() + 1);
        let log = self.folder.path().join(format!("ffmpeg-{}.log", self.encoders.get()));
        let clip = self.clip();
        let clip = clip.to_str().context("the folder's path is not text")?;
        let mut process = Process::new(tools::find("ffmpeg")?, log)
            .args(["-v", "info", "-nostdin", "-re", "-stream_loop", "-1", "-i", clip])
            .args(extra)
            .args(["-c", "copy", "-f", "flv", url]);
        process.start()?;
        Ok(process)
    }

    /// All entries of a subject, in order.
    pub(crate) async fn entries(&self, kind: Kind, subject: &str) -> anyhow::Result<Vec<Entry>> {
        let mut follow = self.log.follow(kind.stream(), &[subject], From::Beginning);
        let mut entries = Vec::new();
        loop {
            match follow.next().await? {
                Followed::Entry(entry) => entries.push(*entry),
                Followed::Undecodable(message) => anyhow::bail!("{}", message.error),
                Followed::CaughtUp => return Ok(entries),
            }
        }
    }

    /// The names of the status events of a broadcast, in order, and their sessions.
    pub(crate) async fn statuses(&self, broadcast: BroadcastId) -> anyhow::Result<Vec<(&'static str, String)>> {
        let entries = self
            .entries(Kind::Status, &Kind::Status.of(broadcast).to_string())
            .await?;
        Ok(entries
            .iter()
            .map(|entry| (entry.event.name().unwrap_or("?"), session(entry).session_id))
            .collect())
    }

    /// Waits for the newest status to be `name`.
    pub(crate) async fn status(&self, broadcast: BroadcastId, name: &str) -> anyhow::Result<Entry> {
        until(&format!("status {name}"), SOON, || async {
            let last = self.log.last(Kind::Status, broadcast).await.ok().flatten()?;
            (last.event.name() == Some(name)).then_some(last)
        })
        .await
    }
}

async fn connect(nats: &NatsServer, name: &str) -> anyhow::Result<Log> {
    let config = ConnectConfig {
        url: nats.url(),
        ..ConnectConfig::default()
    };
    Ok(Log::connect(&config, name).await?)
}

/// The session in a status entry.
pub(crate) fn session(entry: &Entry) -> pb::status::Session {
    use pb::status::Event as E;
    let Event::Status(status) = &entry.event else {
        return pb::status::Session::default();
    };
    let session = match &status.event {
        Some(E::Started(e)) => &e.session,
        Some(E::Interrupted(e)) => &e.session,
        Some(E::Resumed(e)) => &e.session,
        Some(E::Ended(e)) => &e.session,
        None => &None,
    };
    session.clone().unwrap_or_default()
}

/// The reason in a status entry.
pub(crate) fn reason(entry: &Entry) -> String {
    use pb::status::Event as E;
    match &entry.event {
        Event::Status(pb::Status {
            event: Some(E::Interrupted(e)),
        }) => e.reason.clone(),
        Event::Status(pb::Status {
            event: Some(E::Ended(e)),
        }) => e.reason.clone(),
        _ => String::new(),
    }
}

/// How many encoders were refused or cut with a code, by all servers of this process.
pub(crate) fn refused(code: &str) -> u64 {
    let code = castlog_metrics::Refusal { code: code.to_owned() };
    castlog_metrics::metrics().rtmp_refusals.get_or_create(&code).get()
}

pub(crate) fn url(server: &Server, key: &str) -> String {
    format!("rtmp://{}/live/{key}", server.running.rtmp)
}

/// Waits for an encoder to end by itself and returns what it printed.
pub(crate) async fn end_of(encoder: &mut Process) -> anyhow::Result<String> {
    until("the encoder's end", SOON, || {
        let ended = encoder.exited();
        async move { ended }
    })
    .await?;
    Ok(encoder.output())
}

/// Runs ffprobe on the stream and returns its streams as text.
pub(crate) async fn probe(url: &str, folder: &Path) -> anyhow::Result<String> {
    let mut probe = Process::new(tools::find("ffprobe")?, folder.join("ffprobe.log")).args([
        "-v",
        "error",
        "-read_intervals",
        "%+#20",
        "-show_entries",
        "stream=codec_name,width,height,sample_rate:packet=codec_type,flags",
        "-of",
        "compact",
        url,
    ]);
    probe.start()?;
    end_of(&mut probe).await
}
