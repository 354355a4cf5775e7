//! `castlog up` with the real servers: everything comes up, dies and comes back,
//! stops in order, and keeps its data.

// The helpers of tests fail as tests do.
#![allow(clippy::unwrap_used)]

use std::{
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use castlog_log::{BroadcastId, ConnectConfig, Draft, Kind, Log, Publisher, Secret, pb};
use castlog_testkit::{Process, tools, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

/// Debug builds on a busy machine take their time.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(60);
const SERVICES: [&str; 7] = [
    "rtmp",
    "pipeline",
    "hls",
    "live-info",
    "live-api",
    "indexer",
    "log-sink",
];
const SERVERS: [&str; 3] = ["nats-server", "redis-server", "meilisearch"];

struct Site {
    _dir: tempfile::TempDir,
    data: PathBuf,
    home: PathBuf,
    settings: Vec<String>,
    admin_port: u16,
    nats_port: u16,
}

/// `count` free ports in a row, below those that the system gives to outgoing connections.
fn free_ports(count: u16) -> u16 {
    let begin = 12_000 + u16::try_from(std::process::id() % 1000).unwrap() * 16;
    (begin..30_000)
        .step_by(usize::from(count))
        .find(|first| (*first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()))
        .unwrap()
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_owned();
        let first = free_ports(15);
        let port = |n: u16| first + n;
        let settings = vec![
            format!("up.nats_port={}", port(0)),
            format!("up.redis_port={}", port(1)),
            format!("up.meilisearch_port={}", port(2)),
            format!("up.admin_port={}", port(3)),
            format!("rtmp.listen=127.0.0.1:{}", port(10)),
            format!("rtmp.tls_listen=127.0.0.1:{}", port(11)),
            format!("rtmp.flv_listen=127.0.0.1:{}", port(12)),
            format!("hls.listen=127.0.0.1:{}", port(13)),
            format!("live_api.listen=127.0.0.1:{}", port(14)),
        ];
        Self {
            data: home.join("data"),
            home,
            _dir: dir,
            settings,
            admin_port: port(3),
            nats_port: port(0),
        }
    }

    fn up(&self) -> Process {
        let settings = self
            .settings
            .iter()
            .flat_map(|setting| ["--set".to_owned(), setting.clone()]);
        Process::new(env!("CARGO_BIN_EXE_castlog"), self.home.join("up.log"))
            .args(["up".into(), "--data".into(), self.data.clone().into_os_string()])
            .args(settings)
            .env("NATS_SERVER_BIN", tools::nats_server().unwrap())
            .env("REDIS_SERVER_BIN", tools::redis_server().unwrap())
            .env("MEILISEARCH_BIN", tools::meilisearch().unwrap())
    }

    /// Starts, and waits until it says that it is up for the `times`-th time.
    async fn start(&self, times: usize) -> Process {
        let mut up = self.up();
        up.start().unwrap();
        let came_up = until("castlog up", START, || {
            let ended = up.exited();
            let there = up.output().matches("castlog is up.").count() >= times;
            async move { (there || ended.is_some()).then_some(ended) }
        });
        let ended = came_up.await.unwrap_or_else(|error| panic!("{error}\n{}", up.output()));
        assert!(ended.is_none(), "{ended:?}\n{}", up.output());
        up
    }

    /// Runs another command on the same data folder.
    fn castlog(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_castlog"))
            .args(args)
            .env("CASTLOG_DATA", &self.data)
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// `up` when it cannot succeed.
    fn up_again(&self) -> Output {
        let settings = self.settings.iter().flat_map(|setting| ["--set", setting]);
        Command::new(env!("CARGO_BIN_EXE_castlog"))
            .arg("up")
            .arg("--data")
            .arg(&self.data)
            .args(settings)
            .env("NATS_SERVER_BIN", tools::nats_server().unwrap())
            .env("REDIS_SERVER_BIN", tools::redis_server().unwrap())
            .env("MEILISEARCH_BIN", tools::meilisearch().unwrap())
            .output()
            .unwrap()
    }

    fn pid(&self, name: &str) -> Option<i32> {
        let text = std::fs::read_to_string(self.data.join(format!("run/{name}.pid"))).ok()?;
        text.lines().next()?.parse().ok()
    }

    fn pids(&self) -> Vec<i32> {
        SERVERS
            .iter()
            .chain(&SERVICES)
            .map(|name| self.pid(name).unwrap())
            .collect()
    }

    async fn kill9_and_wait(&self, name: &str) {
        let pid = self.pid(name).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        let replaced = || async { self.pid(name).filter(|new| *new != pid) };
        until("another process", START, replaced).await.unwrap();
    }

    async fn ready(&self, service: &str) {
        let n = SERVICES.iter().position(|s| *s == service).unwrap();
        let url = format!(
            "http://127.0.0.1:{}/readyz",
            self.admin_port + u16::try_from(n).unwrap()
        );
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let probe = || async {
            client
                .get(&url)
                .send()
                .await
                .ok()
                .filter(|answer| answer.status() == 200)
        };
        until("readiness", START, probe).await.unwrap();
    }

    async fn log(&self) -> anyhow::Result<Log> {
        let env = std::fs::read_to_string(self.data.join("env"))?;
        let value = |key: &str| {
            env.lines()
                .find_map(|line| line.strip_prefix(&format!("{key}=")))
                .map(str::to_owned)
                .context("not in env")
        };
        let password = Secret::new(value("NATS_PASSWORD")?);
        let config = ConnectConfig {
            url: value("NATS_URL")?,
            user: value("NATS_USER")?,
            password,
            ..Default::default()
        };
        Ok(Log::connect(&config, "test").await?)
    }
}

impl Drop for Site {
    /// A test that fails leaves no processes behind.
    fn drop(&mut self) {
        self.castlog(&["down"]);
    }
}

fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

fn lives(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_whole_life_of_a_platform() {
    let site = Site::new();
    let mut up = site.start(1).await;
    for service in SERVICES {
        site.ready(service).await;
    }
    for file in ["env", "config.toml", "credentials.toml"] {
        assert_eq!(mode(&site.data.join(file)), 0o600, "{file}");
    }
    for pid in site.pids() {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let env = std::fs::read_to_string(site.data.join("credentials.toml")).unwrap();
        for secret in env.split('"').skip(1).step_by(2).filter(|value| value.len() == 48) {
            assert!(
                !String::from_utf8_lossy(&line).contains(secret),
                "an argument holds a secret"
            );
        }
    }

    // The tools find the running platform by its data folder.
    let applied = site.castlog(&["apply", "--check"]);
    assert!(applied.status.success(), "{}", text(&applied));
    let status = text(&site.castlog(&["status"]));
    assert!(
        status.contains("LIVE_STREAM") && status.contains("live_info"),
        "{status}"
    );
    assert!(status.contains("dead letters: 0"), "{status}");
    let second = site.up_again();
    assert_eq!(second.status.code(), Some(1), "{}", text(&second));
    assert!(text(&second).contains("runs on"), "{}", text(&second));

    let log = site.log().await.unwrap();
    let id = BroadcastId::generate();
    let title = pb::Title {
        event: Some(pb::title::Event::Changed(pb::title::Changed { title: "kept".into() })),
    };
    Publisher::new(&log, "test")
        .publish(Draft::new(id, title))
        .await
        .unwrap();

    // What is killed comes back: a service, and the log with its streams in memory.
    site.kill9_and_wait("hls").await;
    site.ready("hls").await;
    site.kill9_and_wait("nats-server").await;
    let as_defined = || async { site.castlog(&["apply", "--check"]).status.success().then_some(()) };
    until("the streams' return", START, as_defined).await.unwrap();
    assert!(
        up.output().contains("process ended, starting it again"),
        "{}",
        up.output()
    );

    // Ctrl-C.
    let pids = site.pids();
    kill(Pid::from_raw(i32::try_from(up.pid().unwrap()).unwrap()), Signal::SIGINT).unwrap();
    let exited = until("the end", STOP, || std::future::ready(up.exited()))
        .await
        .unwrap();
    assert!(exited.success(), "{exited}\n{}", up.output());
    assert!(pids.iter().all(|pid| !lives(*pid)));
    assert_eq!(std::fs::read_dir(site.data.join("run")).unwrap().count(), 0);

    // Again on the same folder: the data is there.
    let mut up = site.start(2).await;
    let tail = text(&site.castlog(&["tail", "--all", "--no-follow"]));
    let entry = tail.lines().find(|line| line.contains(&id.to_string())).unwrap();
    assert!(entry.contains("kept"), "{tail}");

    // Nothing outlives a supervisor that is killed, and its data is still there to be removed.
    let pids = site.pids();
    up.kill9();
    let gone = || std::future::ready(pids.iter().all(|pid| !lives(*pid)).then_some(()));
    until("the end of all processes", STOP, gone).await.unwrap();
    let down = site.castlog(&["down", "--wipe"]);
    assert!(down.status.success(), "{}", text(&down));
    assert!(!site.data.exists());
}

#[tokio::test]
async fn a_taken_port_is_one_clear_line() {
    let mut site = Site::new();
    // The other test looks for free ports at the same time.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    site.nats_port = taken.local_addr().unwrap().port();
    site.settings.push(format!("up.nats_port={}", site.nats_port));
    let output = site.up_again();
    assert_eq!(output.status.code(), Some(1));
    let line = format!(
        "port {} (NATS) is taken by another process: choose another with --set up.nats_port=PORT",
        site.nats_port
    );
    assert!(text(&output).contains(&line), "{}", text(&output));
}

#[test]
fn a_bad_configuration_tells_every_problem() {
    let output = Command::new(env!("CARGO_BIN_EXE_castlog"))
        .args(["up", "--set", "hls.listen=here", "--set", "rtmp.idle_timeout_s=0"])
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(64));
    let text = text(&output);
    assert!(
        text.contains("hls.listen") && text.contains("rtmp.idle_timeout_s"),
        "{text}"
    );
}

#[test]
fn a_payload_is_decoded_or_told_why_not() {
    let decode = |subject: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_castlog"))
            .args(["decode", subject])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    };
    assert!(decode("orders.new").0);
    assert!(decode("orders.new").1.starts_with("not an entry: "));
    assert_eq!(
        decode(&Kind::Title.of(BroadcastId::generate()).to_string()),
        (true, "{}\n".to_owned())
    );
}
