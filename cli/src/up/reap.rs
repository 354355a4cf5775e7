//! The reaper: a process that does nothing but wait for the end of `castlog up`.
//! When that was killed and could stop nothing, the reaper ends the servers,
//! which unlike services do not notice that their supervisor is gone.

use std::{
    io::{Read as _, Write as _},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::Context as _;

use super::{
    folder::{Folder, lock},
    process,
};
use crate::args::Global;

/// Looks at the lock of a killed `up`, and the time between two: a dying process
/// lets go of what it has open one thing after another.
const LOOKS: u32 = 100;
const LOOK: Duration = Duration::from_millis(100);

/// A running reaper; dropped, it is told that nothing is left to do, and waited for.
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
        let told = self.0.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(b"."));
        if let Err(error) = told.and_then(|()| self.0.wait()) {
            tracing::debug!(error = %error, "reaper is gone");
        }
    }
}

/// Waits for the byte of an `up` that ends in order; when its end comes without
/// one, `up` was killed.
pub(crate) async fn reap(global: &Global) -> anyhow::Result<ExitCode> {
    if std::io::stdin().read_exact(&mut [0]).is_ok() {
        return Ok(ExitCode::SUCCESS);
    }
    for _ in 0..LOOKS {
        if let Some(held) = lock(&global.data)? {
            let left = process::stale(&global.data.join("run"))?;
            drop(held);
            process::end_stale(left).await?;
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(LOOK).await;
    }
    // Who holds the lock for that long is the next `up`, which looks itself.
    Ok(ExitCode::SUCCESS)
}
