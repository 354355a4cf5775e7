//! Child processes: started in a group of their own so that Ctrl-C reaches only
//! the supervisor, started again when they die, and ended in order.

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use castlog_service::Shutdown;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::RngExt as _;
use tokio::{
    process::{Child, Command},
    sync::watch,
    task::JoinHandle,
};

use super::folder::{Folder, write_private};

/// First wait before a process that died is started again.
const FIRST_DELAY: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(10);
/// A process that lived this long is not one that dies over and over.
const HEALTHY: Duration = Duration::from_secs(30);
/// Output of a process beyond this is put aside at its next start; one older file is kept.
const MAX_LOG: u64 = 16 << 20;
/// How long a process may take to finish before it is killed: more than the 25 s that
/// services take at most.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// How long a process of an earlier supervisor may take to end.
const STALE_GRACE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// A program to run.
pub(super) struct Program {
    name: &'static str,
    path: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    folder: PathBuf,
    log: PathBuf,
    pid: PathBuf,
    grace: Duration,
}

impl Program {
    pub(super) fn new(name: &'static str, path: PathBuf, folder: &Folder) -> Self {
        Self {
            name,
            path,
            args: Vec::new(),
            env: Vec::new(),
            folder: folder.path().to_owned(),
            log: folder.logs().join(format!("{name}.log")),
            pid: folder.run().join(format!("{name}.pid")),
            grace: GRACE,
        }
    }

    pub(super) fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the folder that it starts in; without, the data folder.
    pub(super) fn folder(mut self, folder: PathBuf) -> Self {
        self.folder = folder;
        self
    }

    pub(super) fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), Some(value.into())));
        self
    }

    pub(super) fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        self.env.push((key.into(), None));
        self
    }

    fn open_log(&self) -> std::io::Result<File> {
        if self.log.metadata().is_ok_and(|meta| meta.len() > MAX_LOG) {
            std::fs::rename(&self.log, self.log.with_extension("log.old"))?;
        }
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log)
    }

    fn spawn(&self) -> anyhow::Result<Child> {
        let log = self
            .open_log()
            .with_context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = Command::new(&self.path);
        command
            .args(&self.args)
            .current_dir(&self.folder)
            // Its end closes with this process; services take that as the order to finish.
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            // The output goes to a file.
            .env("NO_COLOR", "1")
            .process_group(0);
        for (key, value) in &self.env {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.path.display()))?;
        if let Err(error) = self.note(&child) {
            // Nobody would know of it: neither this supervisor nor the next one.
            if let Err(error) = child.start_kill() {
                tracing::error!(name = self.name, error = %error, "process cannot be killed");
            }
            return Err(error);
        }
        Ok(child)
    }

    /// Keeps the id of a process, by which a later supervisor finds it.
    fn note(&self, child: &Child) -> anyhow::Result<()> {
        let Some(pid) = child.id() else { return Ok(()) };
        write_private(&self.pid, &format!("{pid}\n{}\n", identity(pid).unwrap_or_default()))
    }

    fn last_output(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

/// A program that runs until it is told to stop.
pub(super) struct Supervised {
    program: Arc<Program>,
    stop: Shutdown,
    starts: watch::Receiver<u32>,
    task: JoinHandle<()>,
}

impl Supervised {
    /// Starts a program, and again whenever it ends.
    pub(super) fn start(program: Program) -> anyhow::Result<Self> {
        let child = program.spawn()?;
        let program = Arc::new(program);
        let (started, starts) = watch::channel(1);
        let stop = Shutdown::new();
        let task = tokio::spawn(supervise(program.clone(), child, started, stop.clone()));
        Ok(Self {
            program,
            stop,
            starts,
            task,
        })
    }

    /// How often it has been started.
    pub(super) fn starts(&self) -> watch::Receiver<u32> {
        self.starts.clone()
    }

    /// Asks the process to end, kills it when its grace is over, and waits until it is gone.
    pub(super) async fn stop(self) {
        self.stop.begin();
        if let Err(error) = self.task.await {
            tracing::error!(name = self.program.name, error = %error, "supervision failed");
        }
    }
}

/// Waits until `probe` yields something.
pub(super) async fn ready<T, F>(process: &Supervised, within: Duration, probe: impl Fn() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Option<T>>,
{
    let began = Instant::now();
    loop {
        let trouble = if *process.starts.borrow() > 1 {
            Some("ended while it started".to_owned())
        } else if began.elapsed() > within {
            Some(format!("was not ready within {} s", within.as_secs()))
        } else {
            None
        };
        if let Some(trouble) = trouble {
            let (name, log) = (process.program.name, process.program.log.display());
            bail!("{name} {trouble}; the end of {log}:\n{}", process.program.last_output());
        }
        if let Ok(Some(found)) = tokio::time::timeout(within, probe()).await {
            return Ok(found);
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn supervise(program: Arc<Program>, mut child: Child, started: watch::Sender<u32>, stop: Shutdown) {
    let name = program.name;
    let mut delay = FIRST_DELAY;
    loop {
        // Waiting for a child closes its standard input, which is to stay open.
        let stdin = child.stdin.take();
        let began = Instant::now();
        let ended = tokio::select! {
            ended = child.wait() => ended,
            () = stop.cancelled() => {
                end(name, &mut child, program.grace).await;
                drop(stdin);
                forget(&program.pid);
                return;
            }
        };
        if began.elapsed() > HEALTHY {
            delay = FIRST_DELAY;
        }
        let how = ended.map_or_else(|e| e.to_string(), |status| status.to_string());
        child = loop {
            let wait = delay.mul_f64(rand::rng().random_range(0.5..1.5)).min(MAX_DELAY);
            delay = (delay * 2).min(MAX_DELAY);
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(name, how, wait_ms, "process ended, starting it again");
            tokio::select! {
                () = stop.cancelled() => return forget(&program.pid),
                () = tokio::time::sleep(wait) => {}
            }
            match program.spawn() {
                Ok(child) => break child,
                Err(error) => tracing::error!(name, error = format!("{error:#}"), "process cannot be started"),
            }
        };
        started.send_modify(|count| *count += 1);
    }
}

async fn end(name: &str, child: &mut Child, grace: Duration) {
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It fails only when the process has just ended, which is what is wanted.
        kill(Pid::from_raw(pid), Signal::SIGTERM).ok();
    }
    if tokio::time::timeout(grace, child.wait()).await.is_err() {
        tracing::warn!(
            name,
            grace_s = grace.as_secs(),
            "process did not finish in time, killed"
        );
        if let Err(error) = child.kill().await {
            tracing::error!(name, error = %error, "process cannot be killed");
        }
    }
}

fn forget(pid_file: &Path) {
    if let Err(error) = std::fs::remove_file(pid_file) {
        tracing::debug!(error = %error, "pid file is not removed");
    }
}

/// What tells a process from a later one with the same id: when it started. Not its
/// name, which a server may change, and which is another one before it executes.
fn identity(pid: u32) -> Option<String> {
    if let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The name is in parentheses and may hold any character; the start time is the 22nd field.
        let (_, fields) = stat.rsplit_once(')')?;
        let state = fields.split_whitespace().next()?;
        // A zombie has ended and only waits for its parent to look.
        return (state != "Z")
            .then(|| fields.split_whitespace().nth(19).map(str::to_owned))
            .flatten();
    }
    let output = std::process::Command::new("ps")
        .args(["-o", "lstart=", "-p", &pid.to_string()])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// A process that a supervisor has left behind.
pub(super) struct Stale {
    file: PathBuf,
    text: String,
    pid: u32,
    identity: String,
}

/// What a killed supervisor has left behind, by the process ids in `run`: the
/// servers last, as services write to them to the end.
pub(super) fn stale(run: &Path) -> anyhow::Result<Vec<Stale>> {
    let Ok(files) = std::fs::read_dir(run) else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for file in files {
        let file = file?.path();
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let mut lines = text.lines();
        let pid = lines.next().and_then(|pid| pid.parse::<u32>().ok());
        let known = lines.next().unwrap_or_default().to_owned();
        match pid {
            Some(pid) if !known.is_empty() && identity(pid).as_ref() == Some(&known) => {
                found.push(Stale {
                    file,
                    text,
                    pid,
                    identity: known,
                });
            }
            _ => forget(&file),
        }
    }
    let rank = |file: &Path| match file.file_stem().and_then(|name| name.to_str()) {
        Some("nats-server") => 3,
        Some("redis-server") => 2,
        Some("meilisearch") => 1,
        _ => 0,
    };
    found.sort_by_key(|one| rank(&one.file));
    Ok(found)
}

/// Ends what was left behind.
pub(super) async fn end_stale(stale: Vec<Stale>) -> anyhow::Result<()> {
    for Stale {
        file,
        text,
        pid,
        identity: known,
    } in stale
    {
        let raw = Pid::from_raw(i32::try_from(pid)?);
        tracing::warn!(pid, file = %file.display(), "ending a process of an earlier castlog");
        kill(raw, Signal::SIGTERM).ok();
        let began = Instant::now();
        while identity(pid).as_ref() == Some(&known) {
            if began.elapsed() > STALE_GRACE {
                kill(raw, Signal::SIGKILL).ok();
            }
            if began.elapsed() > STALE_GRACE * 2 {
                bail!("process {pid} of an earlier castlog does not end");
            }
            tokio::time::sleep(POLL).await;
        }
        // By now the file may be that of the next castlog.
        if std::fs::read_to_string(&file).is_ok_and(|new| new == text) {
            forget(&file);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Folder, script: &str) -> Program {
        Program::new("sleeper", "/bin/sh".into(), folder).args(["-c", script])
    }

    fn folder() -> (tempfile::TempDir, Folder) {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::claim(&dir.path().join("data")).unwrap();
        (dir, folder)
    }

    #[tokio::test]
    async fn what_dies_is_started_again() {
        let (_dir, folder) = folder();
        let process = Supervised::start(sleeper(&folder, "exit 3")).unwrap();
        process.starts().wait_for(|starts| *starts >= 3).await.unwrap();
        let error = ready(&process, Duration::from_secs(5), || async { None::<()> })
            .await
            .unwrap_err();
        assert!(error.to_string().contains("sleeper ended while it started"), "{error}");
        process.stop().await;
        assert!(!folder.run().join("sleeper.pid").exists());
    }

    #[tokio::test]
    async fn what_cannot_be_noted_down_does_not_run() {
        let (_dir, folder) = folder();
        // Nothing can be written in the place of a folder.
        std::fs::create_dir(folder.run().join("sleeper.pid")).unwrap();
        let program = sleeper(&folder, "sleep 0.5; echo still here");
        assert!(program.spawn().is_err());
        // Longer than it would take to say so.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(std::fs::read_to_string(folder.logs().join("sleeper.log")).unwrap(), "");
    }

    #[tokio::test]
    async fn what_ignores_the_signal_is_killed() {
        let (_dir, folder) = folder();
        let script = "trap '' TERM; echo up; while :; do sleep 0.1; done";
        let mut program = sleeper(&folder, script);
        program.grace = Duration::from_millis(100);
        let process = Supervised::start(program).unwrap();
        let log = folder.logs().join("sleeper.log");
        let is_up = || async {
            std::fs::read_to_string(&log)
                .is_ok_and(|text| text == "up\n")
                .then_some(())
        };
        ready(&process, Duration::from_secs(10), is_up).await.unwrap();
        process.stop().await;
    }

    #[tokio::test]
    async fn what_was_left_behind_is_ended_and_nothing_else() {
        let (_dir, folder) = folder();
        let mut left = sleeper(&folder, "exec sleep 60").spawn().unwrap();
        // This process stands for one that has been given the id of a process that is gone.
        let own = std::process::id();
        std::fs::write(folder.run().join("other.pid"), format!("{own}\n1\n")).unwrap();
        end_stale(stale(&folder.run()).unwrap()).await.unwrap();
        assert!(!left.wait().await.unwrap().success());
        assert_eq!(std::fs::read_dir(folder.run()).unwrap().count(), 0);
    }
}
