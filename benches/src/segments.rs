//! Segments a second that an edge serves, beside nginx serving the same files: one
//! worker thread each, in turns, with the same clients. The clients are on the same
//! machine, so the CPU time per request is told as well.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use castlog_log::{BroadcastId, Draft, SessionId, pb};
use castlog_testkit::{NatsOptions, Nginx, Process, TestLog, tools, until};
use castlog_tests::{
    SOON,
    usage::{Who, cpu},
};
use tokio::{task::JoinSet, time::Instant};

use crate::http::Http;

/// Two seconds of 2.5 Mbit/s.
const SEGMENT_BYTES: usize = 625_000;
/// A minute of them, which fits into the edge's memory.
const SEGMENTS: u64 = 30;
const CLIENTS: usize = 64;
/// How often each server has its turn.
const TURNS: u32 = 3;
const WARM_UP: Duration = Duration::from_secs(1);

/// What came of a turn.
#[derive(Clone, Copy)]
struct Turn {
    /// Requests a second.
    rate: f64,
    /// CPU time of the server for one.
    cpu: Duration,
}

impl std::fmt::Display for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        #[allow(clippy::cast_precision_loss)] // a segment is far below 2^52 bytes
        let gigabits = self.rate * SEGMENT_BYTES as f64 * 8.0 / 1e9;
        let micros = self.cpu.as_secs_f64() * 1e6;
        write!(
            f,
            "{:>7.0} requests/s, {gigabits:>5.1} Gbit/s, {micros:>5.0} µs CPU each",
            self.rate
        )
    }
}

/// Prints requests a second of both and their ratio; each is measured for `seconds`
/// in each of its turns, and the best counts.
pub(crate) async fn run(seconds: u32) -> anyhow::Result<()> {
    println!("segments: {SEGMENTS} of {SEGMENT_BYTES} bytes, {CLIENTS} connections, {TURNS} turns of {seconds} s");
    let folder = tempfile::tempdir()?;
    let media = folder.path().join("media");
    let (broadcast, session) = (BroadcastId::generate(), SessionId::generate());
    let place = format!("{broadcast}/{session}/720p");
    std::fs::create_dir_all(media.join(&place))?;
    let bytes: Vec<u8> = (0..SEGMENT_BYTES).map(|n| (n % 251) as u8).collect();
    for n in 0..SEGMENTS {
        std::fs::write(media.join(&place).join(format!("{n}.m4s")), &bytes)?;
    }
    let paths: Vec<String> = (0..SEGMENTS).map(|n| format!("/media/{place}/{n}.m4s")).collect();

    let log = TestLog::start(NatsOptions::default()).await?;
    let created = pb::options::Changed {
        visibility: pb::Visibility::Public.into(),
        ..Default::default()
    };
    let event = pb::Options {
        event: Some(pb::options::Event::Changed(created)),
    };
    log.publisher.publish(Draft::new(broadcast, event)).await?;
    let (edge, address) = edge(&log, folder.path(), &media).await?;
    let nginx = Nginx::start(|port, _| {
        format!(
            "sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000000; open_file_cache max=1000;\n\
             server {{ listen 127.0.0.1:{port}; location /media/ {{ alias {}/; }} }}",
            media.display()
        )
    })
    .await?;
    let servers = [
        ("castlog", address, edge.pid()),
        ("nginx", ([127, 0, 0, 1], nginx.port()).into(), nginx.process().pid()),
    ];
    let mut best = [None::<Turn>; 2];
    for _ in 0..TURNS {
        for ((name, address, pid), best) in servers.iter().zip(&mut best) {
            let pid = pid.with_context(|| format!("{name} has ended"))?.to_string();
            let turn = measure(*address, &pid, &paths, seconds).await?;
            if best.is_none_or(|best| turn.rate > best.rate) {
                *best = Some(turn);
            }
        }
    }
    let [Some(ours), Some(theirs)] = best else {
        anyhow::bail!("nothing was measured")
    };
    println!("  castlog  {ours}");
    println!("  nginx    {theirs}");
    println!(
        "  ratio    {:.2} of its requests/s, {:.2} of its CPU time",
        ours.rate / theirs.rate,
        ours.cpu.as_secs_f64() / theirs.cpu.as_secs_f64()
    );
    drop(edge);
    Ok(())
}

async fn edge(log: &TestLog, folder: &Path, media: &Path) -> anyhow::Result<(Process, SocketAddr)> {
    let user = log.nats.user("hls")?;
    let [address, admin] = [
        TcpListener::bind(("127.0.0.1", 0))?,
        TcpListener::bind(("127.0.0.1", 0))?,
    ]
    .map(|listener| listener.local_addr());
    let (address, admin) = (address?, admin?);
    let mut process = Process::new(tools::castlog()?, folder.join("castlog.log"))
        .args(["run", "hls"])
        .args(["--set", &format!("nats.url={}", user.url)])
        .args(["--set", &format!("nats.user={}", user.user)])
        .args(["--set", &format!("hls.listen={address}")])
        .args(["--set", &format!("media.path={}", media.display())])
        .args(["--set", &format!("admin.listen={admin}")])
        .env("CASTLOG_NATS__PASSWORD", user.password.expose())
        .env("TOKIO_WORKER_THREADS", "1");
    process.start()?;
    let ready = format!("http://{admin}/readyz");
    let up = until("castlog run hls", SOON, || async {
        let answer = reqwest::get(&ready).await.ok()?;
        answer.status().is_success().then_some(())
    })
    .await;
    up.with_context(|| process.output())?;
    Ok((process, address))
}

async fn measure(server: SocketAddr, pid: &str, paths: &[String], seconds: u32) -> anyhow::Result<Turn> {
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs(seconds.into());
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let paths = paths.to_vec();
        clients.spawn(async move {
            let mut http = Http::connect(server).await?;
            let mut counted = 0_u32;
            for path in paths.iter().cycle().skip(client) {
                let (status, length) = http.drain(path).await?;
                ensure!(
                    (status, length) == (200, SEGMENT_BYTES),
                    "{path}: {status}, {length} bytes"
                );
                let now = Instant::now();
                if now >= end {
                    break;
                }
                counted += u32::from(now >= begin);
            }
            anyhow::Ok(counted)
        });
    }
    tokio::time::sleep_until(begin).await;
    let before = cpu(pid, Who::Itself)?;
    tokio::time::sleep_until(end).await;
    let used = cpu(pid, Who::Itself)?.saturating_sub(before);
    let mut requests = 0;
    while let Some(client) = clients.join_next().await {
        requests += client??;
    }
    ensure!(requests > 0, "nothing was served");
    Ok(Turn {
        rate: f64::from(requests) / f64::from(seconds),
        cpu: used / requests,
    })
}
