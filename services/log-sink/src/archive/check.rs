//! Whether every entry that has been archived is there once, and filling in what is
//! missing.
//!
//! The archive keeps what the streams have dropped, so mending only adds: a file is
//! made again when the log has its entries, and replaced when the log has all of them.
//! A file that belongs to no range goes when all that is in it is in the log. Nothing
//! that is older than the stream's first sequence is touched.
//!
//! What `data` and `event` say follows from `payload`, as the version knew it that
//! wrote them: they are not compared.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use castlog_log::{Entry, Follow, Followed, From, Log};
use castlog_projector::{Differences, Progress};
use futures::TryStreamExt as _;

use super::{
    MAX_BYTES,
    file::{self, Row},
    plan::{self, File, Plan},
    store::Store,
};

/// Ranges whose files are remembered while all files are looked at: some days.
const MAX_REMEMBERED: usize = 4096;

/// What was found, and done.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ArchiveReport {
    /// Entries in the archive.
    pub entries: u64,
    /// Files that were written.
    pub written: u64,
    /// Files that were removed, since all that is in them is elsewhere.
    pub removed: u64,
    /// What is not as it should be, and was not mended.
    pub differences: Differences,
}

/// Goes over the archive of some streams, a range at a time, up to where it has been
/// written. With `mend`, the most entries of a range that is made.
pub(super) async fn check(
    store: &Store,
    log: &Log,
    streams: &[&'static str],
    mend: Option<usize>,
    progress: &Progress,
) -> anyhow::Result<ArchiveReport> {
    let mut report = ArchiveReport::default();
    let mut ends = BTreeMap::new();
    for &stream in streams {
        // Before the ranges are listed: those before it are all there.
        ends.insert(stream, store.progress(stream).await?);
    }
    let total = ends.values().flatten().map(|next| next - 1).sum();
    let mut done = 0;
    for &stream in streams {
        let mut walk = Walk {
            store,
            log,
            stream,
            mend,
            oldest: log.extent(stream).await?.0,
            source: None,
            report: &mut report,
        };
        let end = ends.get(stream).copied().flatten();
        let tell = |at: u64| progress.tell("comparing the archive", done + at, total);
        walk.run(end, tell).await?;
        done += end.map_or(0, |next| next - 1);
    }
    let mut strays = Strays {
        store,
        log,
        ends: &ends,
        mend: mend.is_some(),
        ranges: HashMap::new(),
        report: &mut report,
    };
    strays.run().await?;
    Ok(report)
}

/// Goes along the ranges of a stream.
struct Walk<'a> {
    store: &'a Store,
    log: &'a Log,
    stream: &'static str,
    mend: Option<usize>,
    /// The first sequence that the log has.
    oldest: u64,
    source: Option<Source>,
    report: &'a mut ArchiveReport,
}

/// A reader of the log between two ranges.
struct Source {
    next: u64,
    reader: Follow,
    /// What was read behind the last range: its sequence, and the entry if it is one.
    ahead: Option<(u64, Option<Entry>)>,
}

impl Walk<'_> {
    async fn run(&mut self, end: Option<u64>, tell: impl Fn(u64)) -> anyhow::Result<()> {
        let firsts = self.store.ranges(self.stream).await?;
        // Without a hint, somebody may be at the last range.
        let end = end.or(firsts.last().copied()).unwrap_or(1);
        let mut next = 1;
        for first in firsts.into_iter().take_while(|first| *first < end) {
            if first > next {
                self.gap(next, first - 1).await?;
            }
            match self.store.plan(self.stream, first).await {
                Ok(Some(plan)) if first >= next => {
                    next = plan.last + 1;
                    self.range(plan).await?;
                    tell(next - 1);
                }
                Ok(Some(plan)) => self.tell(&plan, "overlaps the range before it"),
                Ok(None) => {}
                Err(error) => self.report.differences.add(format!("{error:#}")),
            }
        }
        if next < end {
            self.gap(next, end - 1).await?;
        }
        Ok(())
    }

    fn tell(&mut self, plan: &Plan, what: &str) {
        let line = format!("{} {} to {}: {what}", plan.stream, plan.first, plan.last);
        self.report.differences.add(line);
    }

    /// Entries that are in no range.
    async fn gap(&mut self, first: u64, last: u64) -> anyhow::Result<()> {
        let batch = match self.mend {
            Some(batch) if first >= self.oldest => batch,
            _ => {
                let line = format!("{} {first} to {last}: in no range", self.stream);
                self.report.differences.add(line);
                return Ok(());
            }
        };
        let mut next = first;
        while next <= last {
            let (entries, end) = self.read(next, last, batch).await?;
            let wanted = Plan::of(self.stream, next, end, &entries);
            let plan = self.store.claim(&wanted).await?.unwrap_or(wanted);
            next = plan.last + 1;
            self.compare(plan, entries).await?;
        }
        Ok(())
    }

    async fn range(&mut self, plan: Plan) -> anyhow::Result<()> {
        let entries = if plan.last < self.oldest {
            Vec::new()
        } else {
            self.read(plan.first, plan.last, usize::MAX).await?.0
        };
        self.compare(plan, entries).await
    }

    /// Entries of the log between two sequences, at most so many and [`MAX_BYTES`]; and
    /// the sequence up to which they are all.
    async fn read(&mut self, first: u64, last: u64, most: usize) -> anyhow::Result<(Vec<Entry>, u64)> {
        let mut source = match self.source.take() {
            Some(source) if source.next == first => source,
            _ => Source {
                next: first,
                reader: self.log.follow(self.stream, &["media.>"], From::Sequence(first)),
                ahead: None,
            },
        };
        let (mut entries, mut bytes, mut end) = (Vec::new(), 0, last);
        loop {
            let read = match source.ahead.take() {
                Some(ahead) => ahead,
                None => match source.reader.next().await? {
                    Followed::Entry(entry) => (entry.sequence(), Some(*entry)),
                    Followed::Undecodable(other) => (other.position.sequence, None),
                    // Nothing of what is archived comes behind it.
                    Followed::CaughtUp => (u64::MAX, None),
                },
            };
            if read.0 > last {
                source.ahead = Some(read);
                break;
            }
            if let (sequence, Some(entry)) = read {
                bytes += entry.payload.len();
                entries.push(entry);
                if most < usize::MAX && (entries.len() >= most || bytes >= MAX_BYTES) {
                    end = sequence;
                    break;
                }
            }
        }
        source.next = end + 1;
        self.source = Some(source);
        Ok((entries, end))
    }

    /// Compares the files of a range with its entries, of which the log may have
    /// dropped some.
    async fn compare(&mut self, mut plan: Plan, entries: Vec<Entry>) -> anyhow::Result<()> {
        if self.mend.is_some() && plan.first >= self.oldest {
            let wanted = Plan::of(self.stream, plan.first, plan.last, &entries);
            // Whoever has changed it, it is known what it was.
            if wanted != plan && self.is_whole(&plan).await? {
                self.store.replace_plan(&wanted).await?;
                plan = wanted;
            }
        }
        let mut said = plan::partitions(self.stream, plan.first, entries);
        for file in &plan.files {
            let entries = said.remove(&file.path).unwrap_or_default();
            self.file(&plan, file, entries).await?;
        }
        for path in said.into_keys() {
            self.tell(&plan, &format!("{path} is not among its files"));
        }
        Ok(())
    }

    /// Whether the log still has all of a range.
    async fn is_whole(&mut self, plan: &Plan) -> anyhow::Result<bool> {
        self.oldest = self.log.extent(self.stream).await?.0;
        Ok(plan.first >= self.oldest)
    }

    async fn file(&mut self, plan: &Plan, file: &File, entries: Vec<Entry>) -> anyhow::Result<()> {
        let count = u64::try_from(entries.len())?;
        let bytes = self.store.get(&file.path).await?;
        let is_there = bytes.is_some();
        let (mut found, mut problem) = (0, Some("is missing".to_owned()));
        if let Some(bytes) = bytes {
            problem = match tokio::task::spawn_blocking(move || file::rows(bytes)).await? {
                Ok(rows) => {
                    found = u64::try_from(rows.len())?;
                    self.problem(plan, file, &rows, &entries).await?
                }
                Err(error) => Some(format!("cannot be read: {error}")),
            };
        }
        let Some(problem) = problem else {
            self.report.entries += found;
            return Ok(());
        };
        let is_mended = self.mend.is_some() && count > 0 && (count == file.rows || !is_there);
        if is_mended {
            let bytes = tokio::task::spawn_blocking(move || file::write(&entries)).await??;
            self.store.replace(&file.path, bytes).await?;
            self.report.written += 1;
        }
        self.report.entries += if is_mended { count } else { found };
        if !is_mended || count < file.rows {
            let of_log = if count < file.rows && count > 0 {
                format!("; the log has {count} of its {} entries", file.rows)
            } else {
                String::new()
            };
            self.tell(plan, &format!("{} {problem}{of_log}", file.path));
        }
        Ok(())
    }

    /// What is wrong with the rows of a file.
    async fn problem(
        &mut self,
        plan: &Plan,
        file: &File,
        rows: &[Row],
        entries: &[Entry],
    ) -> anyhow::Result<Option<String>> {
        let found = rows.len();
        if u64::try_from(found)? != file.rows {
            return Ok(Some(format!("has {found} rows, and should have {}", file.rows)));
        }
        let mut last = None;
        let mut said: BTreeMap<u64, &Entry> = entries.iter().map(|entry| (entry.sequence(), entry)).collect();
        for row in rows {
            let Some(sequence) = row.sequence() else {
                return Ok(Some("has a row without a sequence".to_owned()));
            };
            if last >= Some(sequence) || !(plan.first..=plan.last).contains(&sequence) {
                return Ok(Some(format!("has entry {sequence} where it does not belong")));
            }
            last = Some(sequence);
            match said.remove(&sequence) {
                Some(entry) => {
                    if let Some(column) = row.differs(entry) {
                        return Ok(Some(format!("has another {column} of entry {sequence}")));
                    }
                }
                None if sequence < self.oldest => {}
                None => {
                    // It may have expired a moment ago.
                    self.oldest = self.log.extent(self.stream).await?.0;
                    if sequence >= self.oldest {
                        return Ok(Some(format!("has entry {sequence} where it does not belong")));
                    }
                }
            }
        }
        Ok(said.keys().next().map(|sequence| format!("lacks entry {sequence}")))
    }
}

/// Looks for files that belong to no range.
struct Strays<'a> {
    store: &'a Store,
    log: &'a Log,
    ends: &'a BTreeMap<&'static str, Option<u64>>,
    mend: bool,
    /// Files by stream and first sequence.
    ranges: HashMap<(String, u64), BTreeSet<String>>,
    report: &'a mut ArchiveReport,
}

impl Strays<'_> {
    async fn run(&mut self) -> anyhow::Result<()> {
        let mut files = self.store.files();
        while let Some(path) = files.try_next().await? {
            if !self.belongs(&path).await? && !self.remove(&path).await? {
                self.report
                    .differences
                    .add(format!("{path} belongs to no range: its entries may be there twice"));
            }
        }
        Ok(())
    }

    async fn belongs(&mut self, path: &str) -> anyhow::Result<bool> {
        let Some((stream, first)) = plan::place(path) else {
            return Ok(false);
        };
        let key = (stream.to_owned(), first);
        if !self.ranges.contains_key(&key) {
            if self.ranges.len() >= MAX_REMEMBERED {
                self.ranges.clear();
            }
            // A plan that cannot be read has been told of.
            let plan = self.store.plan(stream, first).await.ok().flatten();
            let files = plan.map(|plan| plan.files.into_iter().map(|file| file.path).collect());
            self.ranges.insert(key.clone(), files.unwrap_or_default());
        }
        Ok(self.ranges.get(&key).is_some_and(|files| files.contains(path)))
    }

    /// Removes a file of which all entries are in the log, and so in other files.
    async fn remove(&mut self, path: &str) -> anyhow::Result<bool> {
        let Some((stream, _)) = plan::place(path).filter(|_| self.mend) else {
            return Ok(false);
        };
        let Some(end) = self.ends.get(stream).copied().flatten() else {
            return Ok(false);
        };
        let Some(bytes) = self.store.get(path).await? else {
            return Ok(true);
        };
        let Ok(rows) = tokio::task::spawn_blocking(move || file::rows(bytes)).await? else {
            return Ok(false);
        };
        let (oldest, _) = self.log.extent(stream).await?;
        let is_elsewhere = |row: &Row| row.sequence().is_some_and(|sequence| (oldest..end).contains(&sequence));
        if !rows.iter().all(is_elsewhere) {
            return Ok(false);
        }
        self.store.remove(path).await?;
        self.report.removed += 1;
        Ok(true)
    }
}
