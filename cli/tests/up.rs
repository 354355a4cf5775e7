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
use castlog_log::{BroadcastId, ConnectConfig, Draft, Kind, Log, PublishError, Publisher, Secret, access, pb};
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

/// `count` free ports in a row, below those that the servers of other tests have.
fn free_ports(count: u16) -> u16 {
    let begin = 12_000 + u16::try_from(std::process::id() % 450).unwrap() * 16;
    (begin..20_000)
        .step_by(usize::from(count))
        .find(|first| (*first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()))
        .unwrap()
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_owned();
        let first = free_ports(21);
        let port = |n: u16| first + n;
        let settings = vec![
            format!("up.nats_port={}", port(15)),
            format!("up.nats_cluster_port={}", port(18)),
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
            nats_port: port(15),
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

    /// What every service has counted, in one text.
    async fn metrics(&self) -> anyhow::Result<String> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let mut all = String::new();
        for n in 0..u16::try_from(SERVICES.len())? {
            let url = format!("http://127.0.0.1:{}/metrics", self.admin_port + n);
            let answer = client.get(&url).send().await?.error_for_status()?;
            let media_type = answer.headers()["content-type"].to_str()?;
            anyhow::ensure!(media_type.starts_with("application/openmetrics-text"), "{media_type}");
            all.push_str(&answer.text().await?);
        }
        Ok(all)
    }

    /// A value of the data folder's `env` file.
    fn env(&self, key: &str) -> anyhow::Result<String> {
        let env = std::fs::read_to_string(self.data.join("env"))?;
        env.lines()
            .find_map(|line| line.strip_prefix(&format!("{key}=")))
            .map(str::to_owned)
            .context("not in env")
    }

    /// The log as one of the platform's users sees it.
    async fn log(&self, user: &str) -> anyhow::Result<Log> {
        self.log_at(user, format!("nats://127.0.0.1:{}", self.nats_port)).await
    }

    async fn log_at(&self, user: &str, url: String) -> anyhow::Result<Log> {
        let text = std::fs::read_to_string(self.data.join("config.toml"))?;
        let config: toml::Value = toml::from_str(&text)?;
        let value = |key: &str| {
            let value = config["nats_users"].get(user).and_then(|user| user.get(key));
            value
                .and_then(toml::Value::as_str)
                .map(str::to_owned)
                .context("not in config.toml")
        };
        let config = ConnectConfig {
            url,
            user: value("user")?,
            password: Secret::new(value("password")?),
            inbox_prefix: access::inbox_prefix(&value("user")?),
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
    for line in [
        "ARCHIVE OF",
        "changes that wait for the change feed: ",
        "jobs: 0 waiting, 0 running",
        "dead letters: 0",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let second = site.up_again();
    assert_eq!(second.status.code(), Some(1), "{}", text(&second));
    assert!(text(&second).contains("runs on"), "{}", text(&second));

    let log = site.log("live_api").await.unwrap();
    let id = BroadcastId::generate();
    let title = pb::Title {
        event: Some(pb::title::Event::Changed(pb::title::Changed { title: "kept".into() })),
    };
    Publisher::new(&log, "test")
        .publish(Draft::new(id, title.clone()))
        .await
        .unwrap();

    every_number_of_the_dashboard_is_counted(&site).await;
    a_poisoned_entry_is_found_and_removed(&site, &log).await;
    for (view, said) in [
        ("live-info", " in place: "),
        ("index", " in place: "),
        ("log", "searchable log: "),
        ("archive", "archive: "),
    ] {
        let rebuilt = site.castlog(&["rebuild", view]);
        assert!(rebuilt.status.success(), "{}", text(&rebuilt));
        // Plain lines, since nobody looks on.
        assert!(text(&rebuilt).contains(said), "{}", text(&rebuilt));
        assert!(!text(&rebuilt).contains('\u{1b}'), "{}", text(&rebuilt));
    }
    let verified = || async {
        let said = site.castlog(&["verify"]);
        let views = text(&said).matches(": equal to the log").count();
        (said.status.success() && views == 5).then_some(())
    };
    until("views that are equal to the log", START, verified).await.unwrap();

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

    // Each service has come this far with the permissions of its own user.
    let said = std::fs::read_to_string(site.data.join("logs/nats-server.log")).unwrap();
    assert!(!said.contains("Violation"), "{said}");
    let id_of_another = BroadcastId::generate();
    let log = site.log("indexer").await.unwrap();
    let refused = Publisher::new(&log, "test")
        .publish(Draft::new(id_of_another, title))
        .await;
    assert!(matches!(refused, Err(PublishError::NotPermitted(_))), "{refused:?}");

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

/// Every metric that the dashboard draws is shown by some service.
async fn every_number_of_the_dashboard_is_counted(site: &Site) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let (api, hls) = (site.admin_port + 11, site.admin_port + 10);
    let created = client
        .post(format!("http://127.0.0.1:{api}/v1/broadcasts"))
        .bearer_auth(site.env("CASTLOG_ADMIN_TOKEN").unwrap())
        .header("content-type", "application/json")
        .body(r#"{"title":"counted"}"#);
    assert_eq!(created.send().await.unwrap().status(), 201);
    let url = format!("http://127.0.0.1:{hls}/live/{}/index.m3u8", BroadcastId::generate());
    assert_eq!(client.get(url).send().await.unwrap().status(), 404);

    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/grafana/castlog.json");
    let dashboard: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            expressions.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names = expressions.iter().flat_map(|expression| {
        let words = expression.split(move |c| !is_name(c));
        words.filter(|word| word.starts_with("castlog_"))
    });
    let names: std::collections::BTreeSet<&str> = names.collect();
    assert!(names.len() > 15, "{names:?}");
    let missing = || async {
        let all = site.metrics().await.ok()?;
        let shown = |name: &&str| {
            let of = |line: &str| {
                line.strip_prefix(*name)
                    .is_some_and(|rest| rest.starts_with(['{', ' ']))
            };
            !all.lines().any(of)
        };
        let missing: Vec<&str> = names.iter().copied().filter(shown).collect();
        missing.is_empty().then_some(())
    };
    until("every metric", START, missing).await.unwrap();
    let all = site.metrics().await.unwrap();
    let applied = all
        .lines()
        .find(|line| line.starts_with(r#"castlog_entries_applied_total{consumer="live_info",stream="BROAD_INFO"}"#));
    assert!(applied.is_some_and(|line| !line.ends_with(" 0")), "{applied:?}");
}

async fn a_poisoned_entry_is_found_and_removed(site: &Site, log: &Log) {
    let healthy = || async { site.castlog(&["status", "--check"]).status.success().then_some(()) };
    until("nothing is stuck", START, healthy).await.unwrap();
    let subject = Kind::Title.of(BroadcastId::generate()).to_string();
    let publish = log.jetstream().publish(subject.clone(), "garbage".into());
    publish.await.unwrap().await.unwrap();

    let letters = || async {
        let listed = site.castlog(&["dead-letter", "list", "--json", "--stream", "BROAD_INFO"]);
        let text = String::from_utf8(listed.stdout).ok()?;
        let letters: Result<Vec<serde_json::Value>, _> = text.lines().map(serde_json::from_str).collect();
        letters.ok().filter(|letters| letters.len() == 3)
    };
    let letters = until("a letter of each projection", START, letters).await.unwrap();
    let of = |consumer: &str| letters.iter().find(|letter| letter["consumer"] == consumer).unwrap();
    let id = of("live_info")["id"].to_string();
    assert_eq!(of("indexer")["subject"], subject);
    let shown = text(&site.castlog(&["dead-letter", "show", &id]));
    assert!(
        shown.contains("garbage") && shown.contains("reason:   L06: header ce-id"),
        "{shown}"
    );

    // Something is stuck, and who asks is told.
    let checked = site.castlog(&["status", "--check", "--json"]);
    assert_eq!(checked.status.code(), Some(1));
    let status: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(status["dead_letters"], 3);
    let consumers = status["consumers"].as_array().unwrap();
    let live_info = consumers
        .iter()
        .find(|consumer| consumer["name"] == "live_info" && consumer["stream"] == "BROAD_INFO");
    assert_eq!(live_info.unwrap()["dead_letters"], 1);
    assert!(site.castlog(&["status"]).status.success(), "only --check judges");

    // It is garbage for good: no consumer takes it, and only what is confirmed is removed.
    let redriven = site.castlog(&["dead-letter", "redrive", &id]);
    assert_eq!(redriven.status.code(), Some(1), "{}", text(&redriven));
    assert!(
        text(&redriven).contains("live_info still cannot apply it"),
        "{}",
        text(&redriven)
    );
    assert!(!site.castlog(&["dead-letter", "discard", &id]).status.success());
    let discarded = site.castlog(&["dead-letter", "discard", &id, "--yes"]);
    assert!(discarded.status.success(), "{}", text(&discarded));
    let table = text(&site.castlog(&["dead-letter", "list", "--consumer", "live_info"]));
    assert_eq!(table, "no dead letters\n");
    let rest = site.castlog(&["dead-letter", "discard", "--all", "--yes"]);
    assert!(rest.status.success(), "{}", text(&rest));
    assert!(site.castlog(&["status", "--check"]).status.success());

    // Who did what is on record.
    let attempts = text(&site.castlog(&["dead-letter", "attempts", "--json"]));
    let attempts: Vec<serde_json::Value> = attempts
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let results: Vec<_> = attempts.iter().map(|attempt| &attempt["result"]["outcome"]).collect();
    assert_eq!(results, ["discarded", "discarded", "discarded", "kept"]);
    assert!(
        attempts
            .iter()
            .all(|attempt| attempt["by"].as_str().unwrap().starts_with("operator"))
    );
    assert_eq!(attempts[3]["letter"].to_string(), id);
    assert!(text(&site.castlog(&["dead-letter", "attempts"])).contains("live_info still cannot apply it"));
}

#[tokio::test]
async fn a_cluster_goes_on_without_any_one_of_its_servers() {
    let mut site = Site::new();
    site.settings.push("up.nats_nodes=3".to_owned());
    let up = site.start(1).await;
    // The replicas are part of the definitions, and of the running configuration.
    let applied = site.castlog(&["apply", "--check"]);
    assert!(applied.status.success(), "{}", text(&applied));
    let one = site.castlog(&["apply", "--check", "--replicas", "1"]);
    assert!(text(&one).contains("num_replicas: 3 -> 1"), "{}", text(&one));

    // One server is gone, the others take entries and serve them.
    let servers: Vec<String> = (0..3)
        .map(|n| format!("nats://127.0.0.1:{}", site.nats_port + n))
        .collect();
    let log = site.log_at("live_api", servers.join(",")).await.unwrap();
    let publisher = Publisher::new(&log, "test");
    let title = pb::Title {
        event: Some(pb::title::Event::Changed(pb::title::Changed { title: "kept".into() })),
    };
    let mut published = Vec::new();
    for server in ["nats-server", "nats-server-2", "nats-server-3"] {
        site.kill9_and_wait(server).await;
        let id = BroadcastId::generate();
        let kept = || async { publisher.publish(Draft::new(id, title.clone())).await.ok() };
        until("an entry", START, kept).await.unwrap();
        published.push(id.to_string());
        let as_defined = || async { site.castlog(&["apply", "--check"]).status.success().then_some(()) };
        until("the server's return", START, as_defined).await.unwrap();
    }
    let tail = text(&site.castlog(&["tail", "--all", "--no-follow"]));
    assert!(
        published.iter().all(|id| tail.matches(id.as_str()).count() >= 1),
        "{tail}"
    );

    // The log of a cluster is not taken for that of a single server.
    drop(up);
    site.castlog(&["down"]);
    site.settings.push("up.nats_nodes=1".to_owned());
    let single = site.up_again();
    assert!(
        text(&single).contains("holds the log of a cluster"),
        "{}",
        text(&single)
    );
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
