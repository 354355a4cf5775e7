//! What an encoder costs the RTMP server, beside nginx with its RTMP module: the same
//! streams, sent by the same program, and nobody who watches.
//!
//! Both hold the streams and answer; castlog also writes status and health entries,
//! and keeps what a pipeline that comes needs from the newest keyframe on. How much of
//! its memory that is, it tells itself.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use bytes::{Bytes, BytesMut};
use castlog_flv::{Item, Reader, Tag, TagKind};
use castlog_log::{BroadcastId, Draft, PublishKey, pb};
use castlog_rtmp_core::{Message, amf0::Value, chunk::Writer, type_id};
use castlog_testkit::{NatsOptions, Process, TestLog, tools, until};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

use castlog_tests::usage::{Who, cpu, resident};

/// How long anything may take that takes a moment.
const SOON: Duration = Duration::from_secs(60);
/// From the last encoder that publishes to the beginning of the measurement: a GOP
/// and a health sample of each.
const SETTLE: Duration = Duration::from_secs(6);
/// The module of Debian's package.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_rtmp_module.so";
/// What says that an encoder may publish.
const STARTED: &[u8] = b"NetStream.Publish.Start";
/// What the encoders set, as OBS does.
const CHUNK_SIZE: usize = 4096;
/// Length of the clip that is sent again and again, in milliseconds.
const CLIP_MS: u32 = 10_000;
/// From one of its keyframes to the next, in milliseconds.
const GOP_MS: u32 = 2000;

/// Prints CPU and memory per encoder of both, and their ratios.
pub(crate) async fn run(encoders: &[u32], seconds: u32) -> anyhow::Result<()> {
    println!("ingest: encoders of 2.5 Mbit/s for {seconds} s, nobody watches; CPU in ms a second and MiB, per encoder");
    let folder = tempfile::tempdir()?;
    let clip = Arc::new(clip(folder.path()).await?);
    let nginx = tools::find("nginx").ok().filter(|_| Path::new(MODULE).exists());
    if nginx.is_none() {
        println!("  nginx-rtmp is left out: install it (Debian: nginx-light and libnginx-mod-rtmp)");
    }
    for &count in encoders {
        let (server, keys) = castlog(folder.path(), count).await?;
        let ours = measure(&server, keys, &clip, seconds).await?;
        drop(server);
        println!("  {count:>4} encoders: castlog    {ours}");
        let Some(nginx) = &nginx else { continue };
        let server = nginx_rtmp(nginx, folder.path()).await?;
        let keys = (0..count).map(|n| format!("encoder-{n}")).collect();
        let theirs = measure(&server, keys, &clip, seconds).await?;
        println!("                 nginx-rtmp {theirs}");
        println!(
            "                 ratio CPU {:.2}, memory {:.2}",
            ours.cpu_ms / theirs.cpu_ms,
            ours.mib / theirs.mib
        );
    }
    Ok(())
}

/// Per encoder.
struct Cost {
    /// Milliseconds of CPU a second.
    cpu_ms: f64,
    /// Resident memory over that of the idle server.
    mib: f64,
    /// Media of it that is kept for readers that come, if the server says so.
    gop_mib: Option<f64>,
}

impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CPU {:.2}, memory {:.2}", self.cpu_ms, self.mib)?;
        if let Some(gop) = self.gop_mib {
            write!(f, " ({gop:.2} of it media since the newest keyframe)")?;
        }
        Ok(())
    }
}

/// A server that takes publishes.
struct Server {
    // Before the log, which it needs to its end.
    process: Process,
    address: SocketAddr,
    /// Its process id.
    worker: String,
    /// URL of what it counts.
    metrics: Option<String>,
    _log: Option<TestLog>,
}

async fn castlog(folder: &Path, count: u32) -> anyhow::Result<(Server, Vec<String>)> {
    let log = TestLog::start(NatsOptions::default()).await?;
    let mut keys = Vec::new();
    for _ in 0..count {
        let key = PublishKey::generate();
        let issued = pb::publish_key::Issued {
            key_hash: key.hash().to_string(),
        };
        let event = pb::PublishKey {
            event: Some(pb::publish_key::Event::Issued(issued)),
        };
        log.publisher
            .publish(Draft::new(BroadcastId::generate(), event))
            .await?;
        keys.push(key.expose().to_owned());
    }
    let user = log.nats.user("rtmp")?;
    let [address, flv, admin] = free()?;
    let mut process = Process::new(tools::castlog()?, folder.join("castlog.log"))
        .args(["run", "rtmp"])
        .args(["--set", &format!("nats.url={}", user.url)])
        .args(["--set", &format!("nats.user={}", user.user)])
        .args(["--set", &format!("rtmp.listen={address}")])
        .args(["--set", &format!("rtmp.flv_listen={flv}")])
        .args(["--set", "rtmp.tls_listen=127.0.0.1:0"])
        .args(["--set", "rtmp.max_connections_per_address=2000"])
        .args([
            "--set",
            &format!("rtmp.dev_cert_dir={}", folder.join("rtmps").display()),
        ])
        .args(["--set", &format!("media.path={}", folder.join("media").display())])
        .args(["--set", &format!("admin.listen={admin}")])
        .env("CASTLOG_NATS__PASSWORD", user.password.expose());
    process.start()?;
    let ready = format!("http://{admin}/readyz");
    let up = until("castlog run rtmp", SOON, || async {
        let answer = reqwest::get(&ready).await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    up.with_context(|| process.output())?;
    let worker = process.pid().context("castlog has ended")?.to_string();
    let server = Server {
        process,
        address,
        worker,
        metrics: Some(format!("http://{admin}/metrics")),
        _log: Some(log),
    };
    Ok((server, keys))
}

async fn nginx_rtmp(nginx: &Path, folder: &Path) -> anyhow::Result<Server> {
    let [address] = free()?;
    let config = folder.join("nginx.conf");
    let text = format!(
        "load_module {MODULE};\nmaster_process off;\ndaemon off;\npid {pid};\nerror_log stderr;\n\
         events {{ worker_connections 4096; }}\n\
         rtmp {{ server {{ listen {address}; chunk_size {CHUNK_SIZE}; application live {{ live on; record off; }} }} }}\n",
        pid = folder.join("nginx.pid").display(),
    );
    std::fs::write(&config, text)?;
    let mut process = Process::new(nginx, folder.join("nginx.log"))
        .args(["-e", "stderr", "-c"])
        .args([&config]);
    process.start()?;
    let up = until("nginx", SOON, || async { TcpStream::connect(address).await.ok() }).await;
    up.with_context(|| process.output())?;
    let worker = process.pid().context("nginx has ended")?.to_string();
    Ok(Server {
        process,
        address,
        worker,
        metrics: None,
        _log: None,
    })
}

/// Addresses that are free now.
fn free<const N: usize>() -> anyhow::Result<[SocketAddr; N]> {
    let mut held = Vec::with_capacity(N);
    for _ in 0..N {
        held.push(TcpListener::bind(("127.0.0.1", 0))?);
    }
    let addresses: Vec<SocketAddr> = held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    Ok(std::array::from_fn(|at| addresses[at]))
}

async fn measure(server: &Server, keys: Vec<String>, clip: &Arc<Vec<Tag>>, seconds: u32) -> anyhow::Result<Cost> {
    let count = f64::from(u32::try_from(keys.len())?);
    let idle = resident(&server.worker)?;
    let (go, gone) = watch::channel(false);
    let mut encoders = JoinSet::new();
    let every = Duration::from_millis(GOP_MS.into()) / u32::try_from(keys.len())?;
    for (n, key) in (0..).zip(keys) {
        let encoder = publish(server.address, &key).await?;
        // Their keyframes spread evenly, as those of many encoders are.
        encoders.spawn(send(encoder, clip.clone(), every * n, gone.clone()));
    }
    go.send(true)?;
    let begin = Instant::now() + SETTLE;
    sleep_until(begin).await;
    let before = cpu(&server.worker, Who::Itself)?;
    sleep_until(begin + Duration::from_secs(seconds.into())).await;
    let used = cpu(&server.worker, Who::Itself)?.saturating_sub(before);
    let held = resident(&server.worker)?.saturating_sub(idle);
    let gop = match &server.metrics {
        Some(url) => Some(gop_bytes(url).await?),
        None => None,
    };
    if let Some(ended) = encoders.try_join_next() {
        ended??;
    }
    ensure!(
        server.process.pid().is_some(),
        "the server has ended: {}",
        server.process.last_output()
    );
    #[allow(clippy::cast_precision_loss)] // memory is far below 2^52
    let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0) / count;
    Ok(Cost {
        cpu_ms: used.as_secs_f64() * 1000.0 / f64::from(seconds) / count,
        mib: mib(held),
        gop_mib: gop.map(mib),
    })
}

/// Bytes of media that castlog keeps for readers that come.
async fn gop_bytes(metrics: &str) -> anyhow::Result<u64> {
    const NAME: &str = "castlog_rtmp_gop_bytes ";
    let text = reqwest::get(metrics).await?.error_for_status()?.text().await?;
    let value = text.lines().find_map(|line| line.strip_prefix(NAME));
    Ok(value.context("castlog does not count what it keeps")?.parse()?)
}

fn message(chunk_stream: u8, type_id: u8, stream_id: u32, payload: Bytes, out: &mut BytesMut) {
    let message = Message {
        timestamp: 0,
        type_id,
        stream_id,
        payload,
    };
    Writer::default().write(chunk_stream, &message, out);
}

fn command(stream_id: u32, values: &[Value], out: &mut BytesMut) {
    let mut body = BytesMut::new();
    values.iter().for_each(|value| value.write(&mut body));
    message(3, type_id::COMMAND_AMF0, stream_id, body.freeze(), out);
}

/// Connects and asks to publish; returns once it may.
async fn publish(address: SocketAddr, key: &str) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut hello = vec![3];
    hello.resize(1537, 0);
    stream.write_all(&hello).await?;
    let mut answer = vec![0; 1 + 2 * 1536];
    timeout(SOON, stream.read_exact(&mut answer)).await??;
    stream.write_all(&answer[1..1537]).await?;
    let members = [
        ("app", "live".into()),
        ("flashVer", "FMLE/3.0 (castlog-bench)".into()),
        ("tcUrl", Value::String(format!("rtmp://{address}/live"))),
    ];
    let members = members.map(|(name, value)| (name.to_owned(), value)).to_vec();
    let mut asks = BytesMut::new();
    let size = u32::try_from(CHUNK_SIZE)?.to_be_bytes();
    command(0, &["connect".into(), 1.0.into(), Value::Object(members)], &mut asks);
    command(0, &["createStream".into(), 2.0.into(), Value::Null], &mut asks);
    command(
        1,
        &["publish".into(), 3.0.into(), Value::Null, key.into(), "live".into()],
        &mut asks,
    );
    message(2, type_id::SET_CHUNK_SIZE, 0, Bytes::copy_from_slice(&size), &mut asks);
    stream.write_all(&asks).await?;
    let mut said = Vec::new();
    let granted = async {
        while !said.windows(STARTED.len()).any(|text| text == STARTED) {
            ensure!(
                stream.read_buf(&mut said).await? > 0,
                "the server closed the connection"
            );
            ensure!(said.len() < 64 * 1024, "the server says too much");
        }
        anyhow::Ok(())
    };
    let granted = timeout(SOON, granted).await;
    granted
        .context("no answer to publish")?
        .with_context(|| String::from_utf8_lossy(&said).into_owned())?;
    Ok(stream)
}

/// Sends the clip at its own pace, again and again, beginning `late` after the word.
async fn send(
    stream: TcpStream,
    clip: Arc<Vec<Tag>>,
    late: Duration,
    mut go: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    go.wait_for(|go| *go).await?;
    let (mut answers, mut stream) = stream.into_split();
    let drain = async move {
        let mut buffer = [0; 4096];
        while answers.read(&mut buffer).await? > 0 {}
        anyhow::bail!("the server closed the connection")
    };
    let mut writer = Writer::default();
    writer.set_chunk_size(CHUNK_SIZE);
    let begin = Instant::now() + late;
    let media = async move {
        let mut out = BytesMut::new();
        for round in 0.. {
            for tag in clip.iter() {
                let timestamp = round * CLIP_MS + tag.timestamp;
                sleep_until(begin + Duration::from_millis(timestamp.into())).await;
                let type_id = match tag.kind {
                    TagKind::Audio => type_id::AUDIO,
                    TagKind::Video => type_id::VIDEO,
                    TagKind::Script => type_id::DATA_AMF0,
                };
                let message = Message {
                    timestamp,
                    type_id,
                    stream_id: 1,
                    payload: tag.data.clone(),
                };
                writer.write(4, &message, &mut out);
                stream.write_all(&out.split()).await?;
            }
        }
        Ok(())
    };
    tokio::select! {
        ended = drain => ended,
        ended = media => ended,
    }
}

/// Tags of a clip of 2.5 Mbit/s with a keyframe every two seconds.
async fn clip(folder: &Path) -> anyhow::Result<Vec<Tag>> {
    let path = folder.join("clip.flv");
    let text = "-v error -f lavfi -i testsrc2=size=1280x720:rate=30,noise=alls=20:allf=t \
                -f lavfi -i sine=sample_rate=48000 -t 10 -c:v libx264 -preset ultrafast -pix_fmt yuv420p -g 60 \
                -sc_threshold 0 -b:v 2400k -maxrate 2400k -bufsize 1200k -c:a aac -ac 2 -b:a 100k";
    let made = Command::new(tools::find("ffmpeg")?)
        .args(text.split_whitespace())
        .arg(&path)
        .status()
        .await
        .context("cannot start ffmpeg")?;
    ensure!(made.success(), "ffmpeg made no clip");
    let bytes = std::fs::read(&path)?;
    let bits = bytes.len() as u64 * 8 * 1000 / u64::from(CLIP_MS);
    ensure!((2_200_000..2_800_000).contains(&bits), "the clip has {bits} bit/s");
    let mut reader = Reader::new();
    reader.push(&bytes);
    let mut tags = Vec::new();
    while let Some(item) = reader.next()? {
        match item {
            Item::Tag(tag) if tag.timestamp < CLIP_MS => tags.push(tag),
            _ => {}
        }
    }
    Ok(tags)
}
