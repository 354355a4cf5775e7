//! A child process that ends with the value that stands for it.

use std::{
    ffi::OsString,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::until;

/// A program that can be started, killed and started again with the same
/// arguments. Its output goes to one file, appended over restarts.
#[derive(Debug)]
pub struct Process {
    program: PathBuf,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Process {
    /// Describes a process; nothing runs before [`Process::start`].
    #[must_use]
    pub fn new(program: impl Into<PathBuf>, log: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            env: Vec::new(),
            log: log.into(),
            child: None,
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<I, S>(mut self, args: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<OsString>,
    {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable.
    #[must_use]
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((key.into(), Some(value.into())));
        self
    }

    /// Takes an environment variable away.
    #[must_use]
    pub fn env_remove(mut self, key: impl Into<OsString>) -> Self {
        self.env.push((key.into(), None));
        self
    }

    /// Starts the program; one that still runs is killed first.
    ///
    /// # Errors
    /// The program or its log file cannot be opened.
    pub fn start(&mut self) -> anyhow::Result<()> {
        self.kill9();
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("cannot open {}", self.log.display()))?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        for (key, value) in &self.env {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// The process id, while a child is held.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// SIGKILL, and waits until the process is gone. Does nothing when none runs.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it is gone already, which is what is wanted.
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGTERM, and waits until the process has ended by itself.
    ///
    /// # Errors
    /// It does not run, or has not ended `within` that time; then it is killed.
    pub async fn stop(&mut self, within: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        let child = self.child.as_mut().context("it does not run")?;
        let status = until("the end of the process", within, || {
            let status = child.try_wait().ok().flatten();
            async move { status }
        })
        .await;
        match &status {
            Ok(_) => self.child = None,
            Err(_) => self.kill9(),
        }
        status.with_context(|| format!("{} ignores SIGTERM", self.program.display()))
    }

    /// SIGSTOP: the process keeps its connections and answers nothing, from when
    /// this returns.
    ///
    /// # Errors
    /// It does not run, or does not stop.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)?;
        // The kernel stops the threads one after another.
        let pid = self.pid().context("the process does not run")?;
        for _ in 0..1000 {
            if stopped(pid)? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        anyhow::bail!("the process does not stop")
    }

    /// SIGCONT: undoes [`Process::pause`].
    ///
    /// # Errors
    /// It does not run.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self
            .pid()
            .with_context(|| format!("{} does not run", self.program.display()))?;
        kill(Pid::from_raw(i32::try_from(pid)?), signal).context("cannot send a signal")
    }

    /// Everything it has printed so far.
    #[must_use]
    pub fn output(&self) -> String {
        read_lossy(&self.log)
    }

    /// The last lines it has printed, for an error message.
    #[must_use]
    pub fn last_output(&self) -> String {
        let output = self.output();
        let lines: Vec<&str> = output.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path)
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// Whether every thread of the process is stopped (proc(5): the field behind the name).
fn stopped(pid: u32) -> anyhow::Result<bool> {
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat"))?;
        let state = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.trim_start().chars().next());
        if state != Some('T') {
            return Ok(false);
        }
    }
    Ok(true)
}
