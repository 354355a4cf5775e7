//! Which entries go to which file. Pure: the same range of the log is the same plan.

use std::collections::BTreeMap;

use castlog_log::Entry;
use serde::{Deserialize, Serialize};

/// A range of a stream, and the files that hold it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) stream: String,
    /// First and last sequence; all in between that are entries are in the files.
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) files: Vec<File>,
}

/// A file of a range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct File {
    /// Below the prefix of the archive.
    pub(crate) path: String,
    pub(crate) rows: u64,
}

impl Plan {
    pub(crate) fn of(stream: &str, first: u64, last: u64, entries: &[Entry]) -> Self {
        let mut files = BTreeMap::<String, u64>::new();
        for entry in entries {
            *files.entry(path(stream, first, entry)).or_default() += 1;
        }
        Self {
            stream: stream.to_owned(),
            first,
            last,
            files: files.into_iter().map(|(path, rows)| File { path, rows }).collect(),
        }
    }
}

/// The entries of a range by the path of their file.
pub(crate) fn partitions(stream: &str, first: u64, entries: Vec<Entry>) -> BTreeMap<String, Vec<Entry>> {
    let mut files = BTreeMap::<String, Vec<Entry>>::new();
    for entry in entries {
        files.entry(path(stream, first, &entry)).or_default().push(entry);
    }
    files
}

/// Readers such as DuckDB take `date` and `kind` for columns.
fn path(stream: &str, first: u64, entry: &Entry) -> String {
    let date = entry.time.date_naive();
    format!("date={date}/kind={}/{stream}-{first:020}.parquet", entry.subject.kind)
}

/// The stream of a file, and the first sequence of its range.
pub(crate) fn place(path: &str) -> Option<(&str, u64)> {
    let (_, name) = path.rsplit_once('/')?;
    let (stream, first) = name.strip_suffix(".parquet")?.rsplit_once('-')?;
    Some((stream, first.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_its_range() {
        let path = "date=2026-01-31/kind=status/LIVE_STREAM-00000000000000000042.parquet";
        assert_eq!(place(path), Some(("LIVE_STREAM", 42)));
        for other in [
            "LIVE_STREAM-1.parquet",
            "date=x/LIVE_STREAM.parquet",
            "a/b-c.parquet",
            "a/b-1.txt",
        ] {
            assert_eq!(place(other), None, "{other}");
        }
    }
}
