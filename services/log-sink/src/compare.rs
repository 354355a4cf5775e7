//! The searchable log against the log: what is missing, what differs, and what is
//! there that the log does not have; and mending it in place.
//!
//! A document is a function of its entry and never changes, so there is nothing to
//! build beside and to swap in: what is missing is written, what the log does not have
//! is removed, and whoever searches meanwhile finds ever more of what is right. Two
//! copies of weeks of entries would be the price of anything else.
//!
//! The log is read once, in order; of each entry one bit is remembered. Documents of
//! entries that the streams have dropped already, long before their search does, are
//! left alone.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use castlog_log::{Entry, Followed, From, Log};
use castlog_meili::{Error, PRIMARY_KEY, differing};
use castlog_projector::{Differences, Progress};
use castlog_service::Shutdown;
use chrono::{DateTime, NaiveDate, Utc};
use meilisearch_sdk::documents::DocumentsQuery;
use serde_json::{Map, Value};

use crate::{
    app::{STREAMS, Sink, expired, settings},
    config::Config,
    document::{self, Document},
    index,
};

/// Entries compared in one go, and bytes of their payloads at which fewer are.
const CHUNK: usize = 500;
const CHUNK_BYTES: usize = 4 * 1024 * 1024;
/// Documents listed in one go.
const PAGE: usize = 1000;

/// What a rebuild did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Report {
    /// Entries that can be found.
    pub entries: u64,
    /// Of these, those that had no document, or a wrong one.
    pub written: u64,
    /// Documents that were no entry's.
    pub removed: u64,
}

/// Compares the searchable log with the streams, as far as the log sink has
/// acknowledged them: one line per difference. `progress` is told how far it is.
///
/// # Errors
/// The configuration, the log or Meilisearch cannot be used.
pub async fn verify(config: &Config, log: &Log, progress: &Progress) -> anyhow::Result<Differences> {
    let mut ends = BTreeMap::new();
    for stream in STREAMS {
        ends.insert(stream, log.backlog(stream, "log_sink").await?.acked);
    }
    let mut comparison = Comparison::new(config, log, progress, false)?;
    comparison.run(&ends).await?;
    Ok(comparison.differences)
}

/// Makes the searchable log equal to the streams. Searches, and a log sink that runs,
/// go on meanwhile. Safe to interrupt and to run twice.
///
/// # Errors
/// The configuration, the log or Meilisearch cannot be used.
pub async fn rebuild(config: &Config, log: &Log, progress: &Progress) -> anyhow::Result<Report> {
    let mut ends = BTreeMap::new();
    for stream in STREAMS {
        ends.insert(stream, log.extent(stream).await?.1);
    }
    let mut comparison = Comparison::new(config, log, progress, true)?;
    comparison.run(&ends).await?;
    Ok(comparison.report)
}

struct Comparison<'a> {
    sink: Sink,
    log: &'a Log,
    progress: &'a Progress,
    today: NaiveDate,
    seen: BTreeMap<&'static str, Seen>,
    /// Whether what differs is mended.
    mend: bool,
    differences: Differences,
    report: Report,
}

/// Which sequences of a stream are entries that can be found.
struct Seen {
    first: u64,
    end: u64,
    bits: Vec<u64>,
}

impl Seen {
    /// Of none between two sequences.
    fn new(first: u64, end: u64) -> anyhow::Result<Self> {
        let words = usize::try_from(end.saturating_sub(first) / 64 + 1)?;
        Ok(Self {
            first,
            end,
            bits: vec![0; words],
        })
    }

    fn place(&self, sequence: u64) -> Option<(usize, u64)> {
        let at = sequence.checked_sub(self.first)?;
        Some((usize::try_from(at / 64).ok()?, 1 << (at % 64)))
    }

    fn add(&mut self, sequence: u64) {
        if let Some((word, bit)) = self.place(sequence)
            && let Some(word) = self.bits.get_mut(word)
        {
            *word |= bit;
        }
    }

    fn has(&self, sequence: u64) -> bool {
        self.place(sequence)
            .is_some_and(|(word, bit)| self.bits.get(word).is_some_and(|word| word & bit != 0))
    }
}

impl<'a> Comparison<'a> {
    fn new(config: &Config, log: &'a Log, progress: &'a Progress, mend: bool) -> anyhow::Result<Self> {
        let problems = config.validate();
        if !problems.is_empty() {
            bail!("{}", problems.join("\n"));
        }
        Ok(Self {
            sink: Sink::new(config, Shutdown::new())?,
            log,
            progress,
            today: Utc::now().date_naive(),
            seen: BTreeMap::new(),
            mend,
            differences: Differences::default(),
            report: Report::default(),
        })
    }

    async fn run(&mut self, ends: &BTreeMap<&'static str, u64>) -> anyhow::Result<()> {
        let mut firsts = BTreeMap::new();
        let mut total = 0;
        for (&stream, &end) in ends {
            let (first, _) = self.log.extent(stream).await?;
            firsts.insert(stream, first);
            total += (end + 1).saturating_sub(first);
        }
        let mut done = 0;
        for (&stream, &end) in ends {
            let first = firsts.get(stream).copied().unwrap_or(1);
            self.seen.insert(stream, Seen::new(first, end)?);
            if first <= end {
                self.read(stream, first, end, done, total).await?;
            }
            done += (end + 1).saturating_sub(first);
        }
        // What has expired since cannot be told from what never was.
        for (&stream, first) in &mut firsts {
            *first = self.log.extent(stream).await?.0;
        }
        let indexes = index::named(&self.sink.meili, &self.sink.template).await?;
        let count = indexes.len();
        for (at, (name, day)) in indexes.into_iter().enumerate() {
            if !expired(day, self.today, self.sink.retention_days) {
                self.look_through(&name, &firsts).await?;
            }
            self.progress.tell("reading the indexes", number(at + 1), number(count));
        }
        Ok(())
    }

    /// Compares the entries of a stream with their documents.
    async fn read(
        &mut self,
        stream: &'static str,
        first: u64,
        end: u64,
        before: u64,
        total: u64,
    ) -> anyhow::Result<()> {
        let mut reader = self.log.follow(stream, &["media.>"], From::Sequence(first));
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        loop {
            let sequence = match reader.next().await? {
                Followed::Entry(entry) if entry.sequence() <= end => {
                    let sequence = entry.sequence();
                    bytes += entry.payload.len();
                    chunk.push(*entry);
                    sequence
                }
                Followed::Entry(_) | Followed::CaughtUp => end,
                // It is a dead letter.
                Followed::Undecodable(other) => other.position.sequence,
            };
            let is_end = sequence >= end;
            if is_end || chunk.len() == CHUNK || bytes >= CHUNK_BYTES {
                self.compare(&chunk).await?;
                chunk.clear();
                bytes = 0;
            }
            self.progress.tell(
                "comparing the log",
                before + (sequence.min(end) + 1).saturating_sub(first),
                total,
            );
            if is_end {
                return Ok(());
            }
        }
    }

    async fn compare(&mut self, entries: &[Entry]) -> anyhow::Result<()> {
        let mut by_index = BTreeMap::<String, Vec<&Entry>>::new();
        for entry in entries {
            let day = entry.time.date_naive();
            if expired(day, self.today, self.sink.retention_days) {
                continue;
            }
            if let Some(seen) = self.seen.get_mut(entry.position.stream.as_str()) {
                seen.add(entry.sequence());
            }
            let index = self.sink.template.name(entry.subject.kind, day);
            by_index.entry(index).or_default().push(entry);
        }
        for (index, entries) in by_index {
            let stored = self.stored(&index, &entries).await?;
            let mut wrong = Vec::new();
            for &entry in &entries {
                let id = document::id(&entry.position);
                let line = match stored.get(&id) {
                    None => Some(format!("{id}: not in index {index}")),
                    Some(stored) => difference(&id, stored, &Document::of(entry)),
                };
                if let Some(line) = line {
                    wrong.push((entry.clone(), line));
                }
            }
            self.report.entries += number(entries.len());
            self.report.written += number(wrong.len());
            let (wrong, lines): (Vec<Entry>, Vec<String>) = wrong.into_iter().unzip();
            self.differences.extend(lines);
            if self.mend {
                self.sink.write(&wrong).await?;
            }
        }
        Ok(())
    }

    /// The documents of entries, by id.
    async fn stored(&self, index: &str, entries: &[&Entry]) -> Result<BTreeMap<String, Map<String, Value>>, Error> {
        let ids: Vec<String> = entries.iter().map(|entry| document::id(&entry.position)).collect();
        let handle = self.sink.meili.index(index);
        let mut query = DocumentsQuery::new(&handle);
        query.with_limit(ids.len());
        query.ids = Some(ids.iter().map(String::as_str).collect());
        let found = handle.get_documents_with::<Map<String, Value>>(&query);
        match self.sink.meili.call(index, found).await {
            Ok(page) => Ok(page
                .results
                .into_iter()
                .map(|document| (text(&document, PRIMARY_KEY), document))
                .collect()),
            Err(error) if error.is_missing_index() => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    /// Finds documents of an index that are no entry's, and settings that are not ours.
    async fn look_through(&mut self, index: &str, firsts: &BTreeMap<&'static str, u64>) -> anyhow::Result<()> {
        let meili = self.sink.meili.clone();
        let handle = meili.index(index);
        let wanted = settings();
        let actual = meili.call(index, handle.get_settings()).await?;
        let differing = differing(&wanted, &actual);
        if self.mend && !differing.is_empty() {
            meili.write(index, handle.set_settings(&wanted)).await?;
        }
        let named = |name| format!("index {index}: the setting {name} differs");
        self.differences.extend(differing.into_iter().map(named));
        let mut offset = 0;
        loop {
            let mut query = DocumentsQuery::new(&handle);
            query.with_offset(offset).with_limit(PAGE);
            query.with_fields([PRIMARY_KEY, "stream", "seq", "kind", "time_ms"]);
            let page = meili
                .call(index, handle.get_documents_with::<Map<String, Value>>(&query))
                .await?
                .results;
            let last = page.len() < PAGE;
            offset += page.len();
            let mut strays = BTreeSet::new();
            for document in page {
                if let Some(line) = self.stray(index, &document, firsts).await? {
                    self.differences.add(line);
                    strays.insert(text(&document, PRIMARY_KEY));
                }
            }
            if self.mend && !strays.is_empty() {
                // What is behind them moves up.
                offset -= strays.len();
                self.report.removed += number(strays.len());
                let strays: Vec<String> = strays.into_iter().collect();
                meili.write(index, handle.delete_documents(&strays)).await?;
            }
            if last {
                return Ok(());
            }
        }
    }

    /// Why a document is no entry's, if it is none.
    async fn stray(
        &self,
        index: &str,
        document: &Map<String, Value>,
        firsts: &BTreeMap<&'static str, u64>,
    ) -> anyhow::Result<Option<String>> {
        let id = text(document, PRIMARY_KEY);
        let (stream, kind) = (text(document, "stream"), text(document, "kind").parse());
        let sequence = document.get("seq").and_then(Value::as_u64);
        let time = document.get("time_ms").and_then(Value::as_i64);
        let day = time.and_then(|time| Some(DateTime::from_timestamp_millis(time)?.date_naive()));
        let (Ok(kind), Some(sequence), Some(day), Some(seen)) = (kind, sequence, day, self.seen.get(stream.as_str()))
        else {
            return Ok(Some(format!("{id} in index {index}: no entry's document")));
        };
        if id != format!("{stream}-{sequence}") || index != self.sink.template.name(kind, day) {
            return Ok(Some(format!("{id} in index {index}: another entry's place")));
        }
        let first = firsts.get(stream.as_str()).copied().unwrap_or_default();
        let in_log = if sequence <= seen.end {
            sequence < first || seen.has(sequence)
        } else {
            // The log sink goes on.
            sequence <= self.log.last_sequence(&stream).await?
        };
        Ok((!in_log).then(|| format!("{id} in index {index}: not in the log")))
    }
}

fn number(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn text(document: &Map<String, Value>, name: &str) -> String {
    match document.get(name) {
        Some(Value::String(text)) => text.clone(),
        other => other.map(Value::to_string).unwrap_or_default(),
    }
}

/// Where a document is not what its entry makes it.
fn difference(id: &str, stored: &Map<String, Value>, wanted: &Document) -> Option<String> {
    let Ok(Value::Object(wanted)) = serde_json::to_value(wanted) else {
        return None;
    };
    let names: BTreeSet<&String> = wanted.keys().chain(stored.keys()).collect();
    let show = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    let differing: Vec<String> = names
        .into_iter()
        .filter(|name| wanted.get(*name) != stored.get(*name))
        .map(|name| {
            let (is, said) = (show(stored.get(name)), show(wanted.get(name)));
            format!("{name} is {is}, the log says {said}")
        })
        .collect();
    (!differing.is_empty()).then(|| format!("{id}: {}", differing.join("; ")))
}
