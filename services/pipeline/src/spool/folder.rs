//! The spool on the disk: a file per object, named by its place in the order and its
//! key. A file is whole or not there, whatever ends the process or the machine.
//!
//! Each process has a folder of its own, held by a lock that goes with the process.
//! What is in a folder that nobody holds is moved to whoever comes by.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};

/// Folders of one spool: more than the pipelines of a machine.
const FOLDERS: usize = 256;

const LOCK: &str = "lock";
/// Of files that are being written.
const UNFINISHED: &str = ".tmp";
/// Stands for the slash in file names; no key has one.
const SLASH: &str = "+";
/// Longest file name of usual file systems, in bytes.
const LONGEST: usize = 255 - UNFINISHED.len();

/// An object on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) order: u64,
    pub(super) key: String,
    pub(super) size: u64,
}

/// A folder that this process has for itself.
#[derive(Debug)]
pub(super) struct Folder {
    root: PathBuf,
    path: PathBuf,
    // Held for its lock.
    _lock: File,
}

impl Folder {
    /// Takes the first folder below `root` that nobody holds; both are made when missing.
    pub(super) fn claim(root: &Path) -> anyhow::Result<Self> {
        for number in 0..FOLDERS {
            let path = root.join(number.to_string());
            let cannot = || format!("cannot use the spool folder {}", path.display());
            fs::create_dir_all(&path).with_context(cannot)?;
            if let Some(lock) = hold(&path).with_context(cannot)? {
                sweep(&path).with_context(cannot)?;
                sync(root).with_context(cannot)?;
                return Ok(Self {
                    root: root.to_owned(),
                    path,
                    _lock: lock,
                });
            }
        }
        bail!("all {FOLDERS} folders of the spool {} are in use", root.display())
    }

    /// The objects in it, in their order.
    pub(super) fn objects(&self) -> io::Result<Vec<Found>> {
        objects(&self.path)
    }

    /// Writes an object, which is on the disk afterwards.
    pub(super) fn write(&self, order: u64, key: &str, bytes: &[u8]) -> io::Result<()> {
        let name = name(order, key)?;
        let unfinished = self.path.join(format!("{name}{UNFINISHED}"));
        let write = || {
            let mut file = File::create(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, self.path.join(&name))?;
            sync(&self.path)
        };
        let written = write();
        if written.is_err() {
            // Its room is needed; it may not even be there.
            fs::remove_file(&unfinished).ok();
        }
        written
    }

    pub(super) fn read(&self, order: u64, key: &str) -> io::Result<Vec<u8>> {
        fs::read(self.path.join(name(order, key)?))
    }

    pub(super) fn remove(&self, order: u64, key: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name(order, key)?))
    }

    /// Moves here, from `next` on, what is in folders that nobody holds, as far as it can.
    pub(super) fn adopt(&self, mut next: u64, adopted: &mut Vec<Found>) -> io::Result<()> {
        for other in fs::read_dir(&self.root)? {
            let path = other?.path();
            if path == self.path || !path.join(LOCK).is_file() {
                continue;
            }
            let Some(_lock) = hold(&path)? else { continue };
            for found in objects(&path)? {
                let from = path.join(name(found.order, &found.key)?);
                fs::rename(from, self.path.join(name(next, &found.key)?))?;
                adopted.push(Found { order: next, ..found });
                next += 1;
            }
        }
        if !adopted.is_empty() {
            sync(&self.path)?;
        }
        Ok(())
    }
}

/// The lock of a folder, unless another process has it.
fn hold(path: &Path) -> io::Result<Option<File>> {
    let lock = File::create(path.join(LOCK))?;
    match lock.try_lock() {
        Ok(()) => Ok(Some(lock)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Removes what was being written when its process died.
fn sweep(path: &Path) -> io::Result<()> {
    for file in fs::read_dir(path)? {
        let file = file?;
        if file.file_name().to_string_lossy().ends_with(UNFINISHED) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

fn objects(path: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for file in fs::read_dir(path)? {
        let file = file?;
        let name = file.file_name();
        if let Some((order, key)) = name.to_str().and_then(parse) {
            let size = file.metadata()?.len();
            found.push(Found { order, key, size });
        }
    }
    found.sort_unstable_by_key(|found| found.order);
    Ok(found)
}

fn name(order: u64, key: &str) -> io::Result<String> {
    let name = format!("{order:016x}{SLASH}{}", key.replace('/', SLASH));
    if key.contains(SLASH) || name.len() > LONGEST {
        return Err(io::Error::new(
            io::ErrorKind::InvalidFilename,
            "not the key of a media object",
        ));
    }
    Ok(name)
}

fn parse(name: &str) -> Option<(u64, String)> {
    let (order, key) = name.split_once(SLASH)?;
    if order.len() != 16 || name.ends_with(UNFINISHED) {
        return None;
    }
    Some((u64::from_str_radix(order, 16).ok()?, key.replace(SLASH, "/")))
}

/// Makes the names in a folder last.
fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(folder: &Folder) -> Vec<(u64, String, u64)> {
        let found = folder.objects().unwrap();
        found.into_iter().map(|f| (f.order, f.key, f.size)).collect()
    }

    #[test]
    fn objects_are_there_in_order_after_a_crash_and_unfinished_ones_are_not() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::claim(root.path()).unwrap();
        folder.write(10, "b/s/source/1-0.m4s", b"one").unwrap();
        folder.write(9, "b/s/source/init-0.mp4", b"init").unwrap();
        let half = format!("{}{UNFINISHED}", name(11, "b/s/source/2-0.m4s").unwrap());
        fs::write(folder.path.join(&half), b"tw").unwrap();
        assert!(folder.write(12, "b+s", b"").is_err());
        drop(folder);
        let folder = Folder::claim(root.path()).unwrap();
        let expected = [
            (9, "b/s/source/init-0.mp4".to_owned(), 4),
            (10, "b/s/source/1-0.m4s".to_owned(), 3),
        ];
        assert_eq!(keys(&folder), expected);
        assert!(!folder.path.join(&half).exists());
        assert_eq!(folder.read(10, "b/s/source/1-0.m4s").unwrap(), b"one");
        folder.remove(10, "b/s/source/1-0.m4s").unwrap();
        assert_eq!(keys(&folder), expected[..1]);
    }

    #[test]
    fn what_nobody_holds_is_adopted_and_what_another_holds_is_not() {
        let root = tempfile::tempdir().unwrap();
        let [first, second, third] = std::array::from_fn(|_| Folder::claim(root.path()).unwrap());
        first.write(0, "b/s/source/0-0.m4s", b"0").unwrap();
        second.write(5, "b/s/source/5-1.m4s", b"5").unwrap();
        second.write(6, "b/s/source/6-1.m4s", b"6").unwrap();
        let mut adopted = Vec::new();
        third.adopt(3, &mut adopted).unwrap();
        assert_eq!(adopted, []);
        drop(second);
        third.adopt(3, &mut adopted).unwrap();
        assert_eq!(adopted, third.objects().unwrap());
        let expected = [
            (3, "b/s/source/5-1.m4s".to_owned(), 1),
            (4, "b/s/source/6-1.m4s".to_owned(), 1),
        ];
        assert_eq!(keys(&third), expected);
        assert_eq!(keys(&first).len(), 1);
        // The folder is free for the next one, and empty.
        let next = Folder::claim(root.path()).unwrap();
        assert_eq!((keys(&next), next.path), (vec![], root.path().join("1")));
    }
}
