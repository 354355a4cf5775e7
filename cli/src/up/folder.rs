//! The data folder: its layout, its lock, and its end.
//!
//! A marker file says that a folder is castlog's, so that nothing else is ever
//! filled or removed. A locked file says that a castlog runs on it; the lock
//! goes with the process that holds it, however that ends.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{process, say};

/// The configuration of the running platform, in the data folder.
pub(crate) const CONFIG_FILE: &str = "config.toml";
const MARKER: &str = "castlog-data";
const LOCK: &str = "lock";
/// Room that the log, media and indexes of a short session need at least.
const MIN_FREE: u64 = 1 << 30;
/// How long `down` waits: the services' grace, then that of three servers, and one more
/// for all else.
const DOWN: Duration = process::GRACE.saturating_mul(5);

/// A data folder that this process has for itself.
pub(super) struct Folder {
    path: PathBuf,
    // Held for its lock.
    _lock: File,
}

impl Folder {
    /// Makes the folder when it is missing, and takes it.
    pub(super) fn claim(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        let mut builder = std::fs::DirBuilder::new();
        builder
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {shown}"))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot open the data folder {shown}"))?;
        let marker = path.join(MARKER);
        if !marker.exists() {
            let empty = std::fs::read_dir(&path)?.next().is_none();
            ensure!(
                empty,
                "{shown} is not empty and not a data folder of castlog: choose another with --data DIR"
            );
            write_private(
                &marker,
                "This folder belongs to castlog; `castlog down --wipe` removes it.\n",
            )?;
        }
        let Some(mut lock) = lock(&path)? else {
            let pid = holder(&path).map_or_else(String::new, |pid| format!(" (process {pid})"));
            bail!(
                "castlog runs on {shown} already{pid}: stop it with `castlog down`, or choose another with --data DIR"
            );
        };
        lock.set_len(0)?;
        write!(lock, "{}", std::process::id())?;
        for sub in ["logs", "run", "nats", "redis", "meilisearch"] {
            builder.create(path.join(sub))?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// The folder, absolute.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.path.join(CONFIG_FILE)
    }

    /// Where process ids are kept.
    pub(super) fn run(&self) -> PathBuf {
        self.path.join("run")
    }

    /// Where the output of processes is kept.
    pub(super) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    pub(super) fn check_space(&self) -> anyhow::Result<()> {
        let stat = nix::sys::statvfs::statvfs(&self.path).context("cannot tell how much disk is free")?;
        // The types differ between systems.
        #[allow(clippy::useless_conversion)]
        let free = u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size()));
        ensure!(
            free >= MIN_FREE,
            "only {} MiB of disk are free at {}, castlog needs at least {} MiB",
            free >> 20,
            self.path.display(),
            MIN_FREE >> 20
        );
        Ok(())
    }
}

/// Takes the lock; `None` when another process has it.
pub(super) fn lock(folder: &Path) -> anyhow::Result<Option<File>> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

/// The process that has the lock.
fn holder(folder: &Path) -> Option<i32> {
    std::fs::read_to_string(folder.join(LOCK)).ok()?.trim().parse().ok()
}

/// Writes a file that only its owner reads, whole or not at all.
pub(super) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let temporary = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        // One that is left over could have another mode.
        std::fs::remove_file(&temporary).or_else(|e| {
            if e.kind() == std::io::ErrorKind::NotFound {
                Ok(())
            } else {
                Err(e)
            }
        })?;
        let mut file = OpenOptions::new()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// `castlog down`.
pub(super) async fn down(data: &Path, wipe: bool) -> anyhow::Result<ExitCode> {
    let shown = data.display();
    if !data.exists() {
        say(&format!("nothing to stop: there is no data folder {shown}"));
        return Ok(ExitCode::SUCCESS);
    }
    let path = data.canonicalize()?;
    ensure!(
        path.join(MARKER).is_file(),
        "{shown} is not a data folder of castlog: nothing is stopped or removed"
    );
    let held = match lock(&path)? {
        Some(held) => {
            process::end_stale(process::stale(&path.join("run"))?).await?;
            say(&format!("no castlog runs on {shown}"));
            held
        }
        None => {
            let held = stop_holder(&path).await?;
            say(&format!("castlog on {shown} has stopped"));
            held
        }
    };
    if wipe {
        std::fs::remove_dir_all(&path).with_context(|| format!("cannot remove {shown}"))?;
        say(&format!("{shown} is removed"));
    }
    drop(held);
    Ok(ExitCode::SUCCESS)
}

async fn stop_holder(path: &Path) -> anyhow::Result<File> {
    let pid = holder(path).context("the running castlog has not written its process id yet: try again")?;
    kill(Pid::from_raw(pid), Signal::SIGTERM).with_context(|| format!("cannot stop process {pid}"))?;
    let began = Instant::now();
    loop {
        if let Some(held) = lock(path)? {
            return Ok(held);
        }
        ensure!(
            began.elapsed() < DOWN,
            "castlog (process {pid}) has not stopped within {} s",
            DOWN.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_castlog_has_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        let first = Folder::claim(&data).unwrap();
        let error = Folder::claim(&data).map(drop).unwrap_err().to_string();
        assert!(
            error.contains(&format!("already (process {})", std::process::id())),
            "{error}"
        );
        drop(first);
        Folder::claim(&data).unwrap();
    }

    #[tokio::test]
    async fn a_folder_of_somebody_else_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("thesis.txt"), "years of work").unwrap();
        assert!(Folder::claim(dir.path()).is_err());
        assert!(down(dir.path(), true).await.is_err());
        assert!(dir.path().join("thesis.txt").exists());
    }

    #[tokio::test]
    async fn a_wiped_folder_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        drop(Folder::claim(&data).unwrap());
        down(&data, false).await.unwrap();
        assert!(data.exists());
        down(&data, true).await.unwrap();
        assert!(!data.exists());
    }
}
