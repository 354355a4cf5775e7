//! What the servers have in common: a temporary folder, a process, and
//! a start that is over when the server answers.

use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::Process;

/// How long a server may take to answer, on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often another port is tried when a server does not come up.
const START_ATTEMPTS: u32 = 5;
/// How long a server may take to end after SIGTERM.
pub(crate) const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What a test does to a running server: methods for a type with a `process`
/// and a `port`, in a module whose `ready` tells whether the server answers.
macro_rules! controls {
    ($server:ident) => {
        impl $server {
            /// The port that it listens on, the same over restarts.
            #[must_use]
            pub const fn port(&self) -> u16 {
                self.port
            }

            /// The process, to pause it or to read what it has printed.
            #[must_use]
            pub const fn process(&self) -> &Process {
                &self.process
            }

            /// SIGKILL: what was not on disk is lost. Does nothing when it is down.
            pub fn kill9(&mut self) {
                self.process.kill9();
            }

            /// SIGTERM, and waits until it has ended.
            ///
            /// # Errors
            /// It was not running or does not end.
            pub async fn stop(&mut self) -> anyhow::Result<()> {
                self.process.stop($crate::server::STOP_TIMEOUT).await.map(drop)
            }

            /// Starts it again on the same port with what it had on disk; kills it
            /// first when it runs.
            ///
            /// # Errors
            /// It does not come up.
            pub async fn restart(&mut self) -> anyhow::Result<()> {
                $crate::server::come_up(&mut self.process, self.port, &ready).await
            }
        }
    };
}
pub(crate) use controls;

/// A temporary folder, kept for inspection when `CASTLOG_TEST_KEEP` is set.
pub(crate) fn folder(name: &str) -> anyhow::Result<TempDir> {
    let mut folder = tempfile::Builder::new().prefix(&format!("castlog-{name}-")).tempdir()?;
    if std::env::var_os("CASTLOG_TEST_KEEP").is_some() {
        folder.disable_cleanup(true);
    }
    Ok(folder)
}

/// Starts what `make` describes for a port and waits until `ready`; takes
/// another port when somebody was quicker to take this one.
pub(crate) async fn start<M, R, F>(mut make: M, ready: R) -> anyhow::Result<(u16, Process)>
where
    M: FnMut(u16) -> anyhow::Result<Process>,
    R: Fn(u16, u32) -> F,
    F: Future<Output = bool>,
{
    let mut last = None;
    for _ in 0..START_ATTEMPTS {
        let port = crate::port::free()?;
        let mut process = make(port)?;
        match come_up(&mut process, port, &ready).await {
            Ok(()) => return Ok((port, process)),
            Err(error) if process.exited().is_some() && port_was_taken(&process) => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.context("no attempt was made")?)
}

/// All say so in the words of the system's error.
fn port_was_taken(process: &Process) -> bool {
    process.last_output().to_lowercase().contains("already in use")
}

/// Starts `process` on the port that it is configured for and waits until `ready`.
pub(crate) async fn come_up<R, F>(process: &mut Process, port: u16, ready: &R) -> anyhow::Result<()>
where
    R: Fn(u16, u32) -> F,
    F: Future<Output = bool>,
{
    process.start()?;
    let pid = process.pid().context("it does not run")?;
    let start = Instant::now();
    loop {
        if let Some(status) = process.exited() {
            anyhow::bail!(
                "the server on port {port} ended at once ({status}):\n{}",
                process.last_output()
            );
        }
        if ready(port, pid).await {
            return Ok(());
        }
        anyhow::ensure!(
            start.elapsed() < START_TIMEOUT,
            "the server on port {port} does not answer within {START_TIMEOUT:?}:\n{}",
            process.last_output()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends `request` and returns what comes back until `end` is in it, at most
/// 64 KiB; `None` when nobody listens or the answer does not come.
pub(crate) async fn ask(port: u16, request: &[u8], end: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    const ANSWER_LIMIT: usize = 64 * 1024;

    let talk = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(request).await.ok()?;
        let mut answer = Vec::new();
        while answer.len() < ANSWER_LIMIT {
            if stream.read_buf(&mut answer).await.ok()? == 0 {
                break;
            }
            if String::from_utf8_lossy(&answer).contains(end) {
                return Some(String::from_utf8_lossy(&answer).into_owned());
            }
        }
        None
    };
    tokio::time::timeout(Duration::from_secs(1), talk).await.ok().flatten()
}

/// A path as text, for configuration files.
pub(crate) fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))
}
