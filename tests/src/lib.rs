//! The whole platform as a user starts it, for tests across services: `castlog
//! up` on free ports with a data folder of its own, real encoders, real clients.

mod browser;
pub mod player;
pub mod usage;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use castlog_testkit::{tools, until};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::{Mutex, MutexGuard},
};

pub use browser::Browser;

/// How long something that takes a moment may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(60);

/// One platform runs at a time: several transcoding ladders do not fit two cores.
static ALONE: Mutex<()> = Mutex::const_new(());

/// A running `castlog up`.
pub struct System {
    // Before `_alone`, so that it ends before the next one starts.
    up: Child,
    data: TempDir,
    castlog: PathBuf,
    settings: Vec<String>,
    env: BTreeMap<String, String>,
    http: reqwest::Client,
    /// Base of the Live API.
    pub api: String,
    /// Base of the HLS server.
    pub hls: String,
    /// RTMP URL without the key.
    pub rtmp: String,
    _alone: MutexGuard<'static, ()>,
}

/// Rows of ports that this process has had: who still looks for a former platform does
/// not find the next one in its place.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

/// Free ports in a row: below those that the system gives to outgoing connections, of
/// which other tests make many at the same time, and above those of the test kit.
fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let ports = |first: u16| std::array::from_fn(|n| first + u16::try_from(n).unwrap_or(u16::MAX));
    (30_000..32_700)
        .step_by(N)
        .cycle()
        .skip(usize::try_from(std::process::id() % 100)? + TAKEN.fetch_add(1, Ordering::Relaxed))
        .take(2700 / N)
        .map(ports)
        .find(|ports| ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()))
        .with_context(|| format!("no {N} free ports in a row"))
}

impl System {
    /// Starts the platform with a preset that leaves tests something of two cores.
    ///
    /// # Errors
    /// See [`System::start_with`].
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&["pipeline.preset=ultrafast"]).await
    }

    /// Starts the platform with more settings, once no other of this program
    /// runs, and waits until it says where it is.
    ///
    /// # Errors
    /// It does not come up; the message holds what it printed.
    pub async fn start_with(more: &[&str]) -> anyhow::Result<Self> {
        let alone = ALONE.lock().await;
        let data = TempDir::new()?;
        let [nats, redis, meili, rtmp, rtmps, flv, hls, api, admin, ..] = free_ports::<15>()?;
        let mut settings = vec![
            format!("up.nats_port={nats}"),
            format!("up.redis_port={redis}"),
            format!("up.meilisearch_port={meili}"),
            // Seven in a row.
            format!("up.admin_port={admin}"),
            format!("rtmp.listen=127.0.0.1:{rtmp}"),
            format!("rtmp.tls_listen=127.0.0.1:{rtmps}"),
            format!("rtmp.flv_listen=127.0.0.1:{flv}"),
            format!("hls.listen=127.0.0.1:{hls}"),
            format!("live_api.listen=127.0.0.1:{api}"),
            // However small the machine is: a job that does not get its share is late.
            "pipeline.cpu_percent=0".to_owned(),
        ];
        settings.extend(more.iter().map(|&setting| setting.to_owned()));
        let castlog = tools::castlog()?;
        let folder = data.path().join("castlog");
        let log = std::fs::File::create(data.path().join("up.log"))?;
        let mut command = Command::new(&castlog);
        command.arg("--data").arg(&folder);
        for setting in &settings {
            command.arg("--set").arg(setting);
        }
        command
            .arg("up")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        for (variable, binary) in [
            ("NATS_SERVER_BIN", tools::nats_server()?),
            ("REDIS_SERVER_BIN", tools::redis_server()?),
            ("MEILISEARCH_BIN", tools::meilisearch()?),
        ] {
            command.env(variable, binary);
        }
        let mut system = Self {
            up: command.spawn().context("cannot start castlog up")?,
            data,
            castlog,
            settings,
            env: BTreeMap::new(),
            http: reqwest::Client::new(),
            api: format!("http://127.0.0.1:{api}"),
            hls: format!("http://127.0.0.1:{hls}"),
            rtmp: format!("rtmp://127.0.0.1:{rtmp}/live"),
            _alone: alone,
        };
        let printed = system.data.path().join("up.log");
        let ready = until("castlog up", SOON, || async {
            let text = std::fs::read_to_string(&printed).ok()?;
            text.contains("castlog is up").then_some(())
        })
        .await;
        let output = std::fs::read_to_string(&printed).unwrap_or_default();
        ready.with_context(|| format!("castlog up printed:\n{output}"))?;
        system.env = read_env(&system.folder().join("env"))?;
        Ok(system)
    }

    /// The data folder.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.data.path().join("castlog")
    }

    /// A value of the data folder's `env` file.
    ///
    /// # Errors
    /// It has no such value.
    pub fn env(&self, name: &str) -> anyhow::Result<&str> {
        self.env
            .get(name)
            .map(String::as_str)
            .with_context(|| format!("{name} is not in the env file"))
    }

    /// A text of the configuration that `castlog up` wrote, secrets included; for
    /// example `["meilisearch", "url"]`.
    ///
    /// # Errors
    /// There is no such text.
    pub fn config(&self, path: [&str; 2]) -> anyhow::Result<String> {
        let text = std::fs::read_to_string(self.folder().join("config.toml"))?;
        let config: toml::Table = toml::from_str(&text)?;
        config
            .get(path[0])
            .and_then(|table| table.get(path[1])?.as_str())
            .map(str::to_owned)
            .with_context(|| format!("config.toml has no text {}.{}", path[0], path[1]))
    }

    /// Runs a `castlog` command against the platform; the exit status and what it printed.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn castlog(&self, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
        let mut command = Command::new(&self.castlog);
        command.arg("--data").arg(self.folder());
        let output = command.args(arguments).stdin(Stdio::null()).output().await?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    /// Starts one more process of a service beside that of `castlog up`, with the same
    /// configuration. It is killed when dropped.
    ///
    /// # Errors
    /// It cannot be started, or does not become ready; the message holds what it printed.
    pub async fn another(&self, service: &str) -> anyhow::Result<Child> {
        self.another_with(service, &[]).await
    }

    /// Starts one more edge of that name beside that of `castlog up`; it, and its address.
    ///
    /// # Errors
    /// As those of [`System::another`].
    pub async fn another_edge(&self, name: &str) -> anyhow::Result<(Child, String)> {
        let [port] = free_ports::<1>()?;
        let address = format!("127.0.0.1:{port}");
        let settings = [format!("hls.listen={address}"), format!("hls.edge={name}")];
        Ok((self.another_with("hls", &settings).await?, address))
    }

    async fn another_with(&self, service: &str, settings: &[String]) -> anyhow::Result<Child> {
        let [admin] = free_ports::<1>()?;
        let printed = self.data.path().join(format!("another-{service}-{admin}.log"));
        let log = std::fs::File::create(&printed)?;
        let child = Command::new(&self.castlog)
            .arg("--config")
            .arg(self.folder().join("config.toml"))
            .args(["--set", &format!("admin.listen=127.0.0.1:{admin}")])
            .args(settings.iter().flat_map(|setting| ["--set", setting]))
            .args(["run", service])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start another {service}"))?;
        let url = format!("http://127.0.0.1:{admin}/readyz");
        let ready = until(&format!("another {service}"), SOON, || async {
            self.text(&url).await.ok()
        })
        .await;
        let output = std::fs::read_to_string(&printed).unwrap_or_default();
        ready.with_context(|| format!("it printed:\n{output}"))?;
        Ok(child)
    }

    /// Runs the real `nats` command against the platform, as `./dev nats` does; what it printed.
    ///
    /// # Errors
    /// It fails, or does not end in time; the message holds what it printed.
    pub async fn nats(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let tools = tools::nats()?.parent().context("nats is in no folder")?.to_owned();
        let path = std::env::var_os("PATH").unwrap_or_default();
        // tools/nats.sh puts castlog on PATH, from the folder that cargo built it in.
        let target = self
            .castlog
            .ancestors()
            .nth(2)
            .context("castlog is in no target folder")?;
        let output = Command::new(tools::workspace().join("tools/nats.sh"))
            .args(arguments)
            .env("CASTLOG_DATA", self.folder())
            .env("CARGO_TARGET_DIR", target)
            .env(
                "PATH",
                std::env::join_paths(std::iter::once(tools).chain(std::env::split_paths(&path)))?,
            )
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(SOON, output)
            .await
            .context("nats does not end")??;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure!(output.status.success(), "nats {arguments:?} failed: {text}");
        Ok(text)
    }

    /// Sends a request to the Live API as the admin; the status and the JSON of the answer.
    ///
    /// # Errors
    /// There is no answer, or it is not JSON.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> anyhow::Result<(StatusCode, Value)> {
        let token = self.env("CASTLOG_ADMIN_TOKEN")?;
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.api))
            .bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await?;
        let status = answer.status();
        Ok((
            status,
            answer
                .json()
                .await
                .with_context(|| format!("{path} answered {status} without JSON"))?,
        ))
    }

    /// The text behind a URL.
    ///
    /// # Errors
    /// The answer is no success.
    pub async fn text(&self, url: &str) -> anyhow::Result<String> {
        Ok(self.http.get(url).send().await?.error_for_status()?.text().await?)
    }

    /// The ids that a search finds, in order.
    ///
    /// # Errors
    /// The search fails.
    pub async fn search(&self, query: &[(&str, &str)]) -> anyhow::Result<Vec<String>> {
        let request = self.http.get(format!("{}/v1/search", self.api)).query(query);
        let answer: Value = request.send().await?.error_for_status()?.json().await?;
        let hits = answer["hits"].as_array().context("the search answered without hits")?;
        Ok(hits
            .iter()
            .filter_map(|hit| hit["id"].as_str().map(str::to_owned))
            .collect())
    }

    /// Creates a broadcast; its id and publish key.
    ///
    /// # Errors
    /// It is refused.
    pub async fn create(&self, body: Value) -> anyhow::Result<(String, String)> {
        let (status, created) = self.call(Method::POST, "/v1/broadcasts", Some(body)).await?;
        ensure!(status.is_success(), "{status} {created}");
        let id = created["broadcast"]["id"].as_str().context("no id")?;
        let key = created["publish_key"].as_str().context("no publish key")?;
        Ok((id.to_owned(), key.to_owned()))
    }

    /// The state of a broadcast, as the Live API tells it.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn state(&self, id: &str) -> anyhow::Result<String> {
        let (_, broadcast) = self.call(Method::GET, &format!("/v1/broadcasts/{id}"), None).await?;
        Ok(broadcast["status"]["state"].as_str().unwrap_or_default().to_owned())
    }

    /// Waits until a broadcast is in a state.
    ///
    /// # Errors
    /// It is not in time.
    pub async fn reaches(&self, id: &str, wanted: &str) -> anyhow::Result<()> {
        until(wanted, SOON, || async {
            self.state(id).await.is_ok_and(|state| state == wanted).then_some(())
        })
        .await
    }

    /// Waits until views equal a replay of the log; without any, all of them.
    ///
    /// # Errors
    /// They do not become equal; the message holds the differences.
    pub async fn equals_the_log(&self, views: &[&str]) -> anyhow::Result<()> {
        let mut said = String::new();
        let begun = Instant::now();
        while begun.elapsed() < SOON {
            let equal;
            (equal, said) = self.castlog(&[&["verify", "--wait-s", "30"], views].concat()).await?;
            if equal {
                return Ok(());
            }
        }
        anyhow::bail!("{views:?} do not become equal to the log: {said}")
    }

    /// The processes of the platform, by the names of their pid files: services and servers.
    ///
    /// # Errors
    /// The data folder cannot be read.
    pub fn processes(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for file in std::fs::read_dir(self.folder().join("run"))? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "pid") {
                let name = path.file_stem().context("a pid file without a name")?;
                names.push(name.to_string_lossy().into_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// The id of a process of the platform, by the name of its pid file.
    ///
    /// # Errors
    /// There is no such process.
    pub fn pid(&self, name: &str) -> anyhow::Result<u32> {
        let file = self.folder().join("run").join(format!("{name}.pid"));
        let text = std::fs::read_to_string(&file).with_context(|| format!("{name} has no pid file"))?;
        Ok(text.split_whitespace().next().unwrap_or_default().parse()?)
    }

    /// Kills a process of the platform with SIGKILL, by the name of its pid file.
    ///
    /// # Errors
    /// There is no such process.
    pub async fn kill9(&self, name: &str) -> anyhow::Result<u32> {
        let pid = self.pid(name)?;
        let status = Command::new("kill").arg("-9").arg(pid.to_string()).status().await?;
        ensure!(status.success(), "cannot kill {name} ({pid})");
        Ok(pid)
    }

    /// Stops the platform as Ctrl-C does.
    ///
    /// # Errors
    /// It does not end well.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        let pid = self.up.id().context("castlog up has ended")?;
        Command::new("kill").arg("-INT").arg(pid.to_string()).status().await?;
        let status = tokio::time::timeout(SOON, self.up.wait())
            .await
            .context("castlog up does not end")??;
        ensure!(status.success(), "castlog up ended with {status}");
        // Each service is a user of its own, and did nothing that it may not.
        let said = std::fs::read_to_string(self.folder().join("logs/nats-server.log"))?;
        let refused: Vec<&str> = said.lines().filter(|line| line.contains("Violation")).collect();
        ensure!(
            refused.is_empty(),
            "the log does not permit what was tried: {refused:?}"
        );
        Ok(())
    }

    /// The settings that it was started with.
    #[must_use]
    pub fn settings(&self) -> &[String] {
        &self.settings
    }
}

fn read_env(file: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let pair = |line: &str| {
        line.split_once('=')
            .map(|(k, v)| (k.to_owned(), v.trim_matches(['\'', '"']).to_owned()))
    };
    Ok(text.lines().filter_map(pair).collect())
}

/// A picture that shows the time of its making in a strip of 16 cells.
const CLOCK: &str = "-re -f lavfi -i testsrc2=size=640x360:rate=30 \
    -f lavfi -i color=size=320x8:rate=30,format=gray,geq=lum='if(gte(mod(floor(time(0)*20/pow(2\\,floor(X/20)))\\,2)\\,1)\\,235\\,16)' \
    -re -f lavfi -i sine=sample_rate=48000 \
    -filter_complex [1]scale=640:48:flags=neighbor,format=yuv420p[strip];[0][strip]overlay -map 2:a \
    -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -b:v 1200k -g 30 -sc_threshold 0 \
    -c:a aac -ac 2 -b:a 96k";

/// The end of its filters where pictures are left out, and keyframes that come every second
/// all the same.
const LEFT_OUT: &str = "overlay,select='KEPT' -fps_mode vfr -force_key_frames expr:gte(t,n_forced) ";

/// An ffmpeg that pushes, killed when dropped.
pub struct Encoder(Child);

impl Encoder {
    /// Pushes `source` (ffmpeg input and codec arguments) to an RTMP URL.
    ///
    /// # Errors
    /// ffmpeg cannot be started.
    pub fn start(source: &[&str], url: &str) -> anyhow::Result<Self> {
        let mut command = Command::new(tools::ffmpeg()?);
        command
            .args(["-nostdin", "-loglevel", "error"])
            .args(source)
            .args(["-f", "flv", url]);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Ok(Self(command.spawn()?))
    }

    /// A 720p test picture with a tone, a keyframe every second.
    ///
    /// # Errors
    /// ffmpeg cannot be started.
    pub fn picture(url: &str) -> anyhow::Result<Self> {
        let source = "-re -f lavfi -i testsrc2=size=1280x720:rate=30 -re -f lavfi -i sine=sample_rate=48000 \
                      -c:v libx264 -preset ultrafast -tune zerolatency -pix_fmt yuv420p -b:v 1500k -g 30 -sc_threshold 0 \
                      -c:a aac -ac 2 -b:a 96k";
        Self::start(&source.split_whitespace().collect::<Vec<_>>(), url)
    }

    /// A 360p test picture with a tone and the time of its making, which
    /// [`Browser::lags`] reads from the screen.
    ///
    /// # Errors
    /// ffmpeg cannot be started.
    pub fn clock(url: &str) -> anyhow::Result<Self> {
        Self::start(&CLOCK.split_whitespace().collect::<Vec<_>>(), url)
    }

    /// The same from an encoder that leaves out one picture of twelve by chance, and every
    /// five seconds those `from` so many hundredths of a second up to others.
    ///
    /// # Errors
    /// ffmpeg cannot be started.
    pub fn leaving_out(url: &str, from: u32, to: u32) -> anyhow::Result<Self> {
        let [from, to] = [from, to].map(|hundredths| hundredths * 3 / 10);
        let kept = format!("gt(random(0)\\,1/12)*not(between(mod(n\\,150)\\,{from}\\,{}))", to - 1);
        let leaving_out = CLOCK
            .replace("overlay ", &LEFT_OUT.replace("KEPT", &kept))
            .replace("-g 30", "-g 300");
        Self::start(&leaving_out.split_whitespace().collect::<Vec<_>>(), url)
    }

    /// Ends it as a person does: ffmpeg says goodbye to the server.
    ///
    /// # Errors
    /// It cannot be told, or does not end.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        /// Where the signal is ignored by what runs in the background, ffmpeg does not
        /// hear it before it listens for it, and has to be told again.
        const AGAIN: Duration = Duration::from_secs(5);
        let pid = self.0.id().context("the encoder has ended")?.to_string();
        let stopped = async {
            loop {
                Command::new("kill").args(["-INT", &pid]).status().await?;
                if let Ok(ended) = tokio::time::timeout(AGAIN, self.0.wait()).await {
                    return ended;
                }
            }
        };
        tokio::time::timeout(SOON, stopped)
            .await
            .context("the encoder does not end")??;
        Ok(())
    }

    /// Waits until it ends by itself, however long it takes. Cancel-safe.
    ///
    /// # Errors
    /// It cannot be waited for.
    pub async fn ended(&mut self) -> anyhow::Result<()> {
        self.0.wait().await?;
        Ok(())
    }

    /// Waits for its end; whether it succeeded, and what it said.
    ///
    /// # Errors
    /// It does not end.
    pub async fn outcome(self) -> anyhow::Result<(bool, String)> {
        let output = tokio::time::timeout(SOON, self.0.wait_with_output())
            .await
            .context("the encoder does not end")??;
        Ok((
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))
    }
}
