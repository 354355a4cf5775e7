//! The reaper: a process that does nothing but wait for the end of `castlog up`.
//! When that was killed and could stop nothing, the reaper ends the servers,
//! which unlike services do not notice that their supervisor is gone.

use std::{
    io::Read as _,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitCode, Stdio},
};

use anyhow::Context as _;

use super::{
    folder::{Folder, lock},
    process,
};
use crate::args::Global;

/// A running reaper; dropped, it is waited for.
pub(super) struct Reaper(Child);

impl Reaper {
    pub(super) fn start(folder: &Folder) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot tell which program this is")?;
        let child = Command::new(own)
            .arg("--data")
            .arg(folder.path())
            .arg("reap")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start the reaper")?;
        Ok(Self(child))
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        // Waiting closes its standard input, which ends it.
        if let Err(error) = self.0.wait() {
            tracing::debug!(error = %error, "reaper is gone");
        }
    }
}

/// Waits until the other end of standard input closes.
pub(crate) async fn reap(global: &Global) -> anyhow::Result<ExitCode> {
    let mut byte = [0];
    while matches!(std::io::stdin().read(&mut byte), Ok(1..)) {}
    // A lock that is held belongs to the `up` that ends in order, or to the next one, which looks itself.
    let Some(held) = lock(&global.data)? else {
        return Ok(ExitCode::SUCCESS);
    };
    let left = process::stale(&global.data.join("run"))?;
    drop(held);
    process::end_stale(left).await?;
    Ok(ExitCode::SUCCESS)
}
