//! Bringing the view back from the log.

use castlog_log::{Followed, From, Kind, Log, Subject};
use castlog_projector::Progress;

use crate::{
    Config, Store,
    beside::{Beside, Known, Taken},
    relay,
    state::{self, View},
};

/// What a rebuild did.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Broadcasts in the view.
    pub broadcasts: usize,
    /// Entries that were read.
    pub entries: usize,
    /// Broadcasts of the old view that the log knows nothing of.
    pub removed: usize,
}

/// Makes the view equal to the log. It is built beside the view that readers use
/// and put in its place in one step, so that they see the one or the other, never a
/// mixture. A LiveInfo that runs may go on meanwhile. Safe to interrupt and to run
/// twice: what was not put in place goes away by itself.
///
/// The change feed gets what it lacks of the view and nothing else: a commit that
/// it has is recognised, whoever commits it again. `progress` is told how far it is.
///
/// # Errors
/// The log or Redis cannot be reached.
pub async fn rebuild(config: &Config, log: &Log, progress: &Progress) -> anyhow::Result<Report> {
    let replay = Replay::read(log, progress).await?;
    let beside = Beside::new(&config.redis)?;
    let broadcasts = replay.view.broadcasts().count();
    let tell = |done: usize| progress.tell("writing the view", count(done), count(broadcasts));
    beside.write(&replay.view, tell).await?;
    let (removed, taken) = beside.swap(&replay.view, &replay.known).await?;
    progress.tell("view in place", count(broadcasts), count(broadcasts));
    mend(&Store::new(&config.redis)?, &beside, log, &taken).await?;
    relay::reconcile(&config.redis, log).await?;
    Ok(Report {
        broadcasts,
        entries: replay.entries,
        removed,
    })
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What was taken over from the old view came from entries behind those that the new
/// one was made from. A value from beyond the end of the log did not: it is of another
/// log, or somebody's invention.
async fn mend(store: &Store, beside: &Beside, log: &Log, taken: &[Taken]) -> anyhow::Result<()> {
    let mut ends = Known::new();
    for value in taken {
        let stream = value.kind.stream();
        let end = match ends.get(stream) {
            Some(end) => *end,
            None => *ends.entry(stream).or_insert(log.last_sequence(stream).await?),
        };
        if value.sequence > end {
            beside.drop(value).await?;
            let history = log.history(value.kind.of(value.broadcast)).await?;
            let writes: Vec<_> = history.iter().filter_map(state::write).collect();
            store.apply(&writes).await?;
        }
    }
    Ok(())
}

/// The view as the log has it.
struct Replay {
    view: View,
    known: Known,
    entries: usize,
}

impl Replay {
    /// Reads the newest entry of each kind of each broadcast. Where that one says
    /// nothing that is known, the one before it stands, as it does in a LiveInfo that
    /// came by both.
    async fn read(log: &Log, progress: &Progress) -> anyhow::Result<Self> {
        let (status, metadata) = (Kind::Status.filter(), Kind::Metadata.filter());
        let mut replay = Self {
            view: View::default(),
            known: Known::new(),
            entries: 0,
        };
        let mut unsaid = Vec::new();
        for (stream, filters) in [
            (Kind::Title.stream(), vec!["media.broad_info.>"]),
            (Kind::Status.stream(), vec![status.as_str(), metadata.as_str()]),
        ] {
            let mut reader = log.follow(stream, &filters, From::LastPerSubject);
            let mut last = 0;
            loop {
                match reader.next().await? {
                    Followed::Entry(entry) => {
                        last = entry.sequence();
                        match state::write(&entry) {
                            Some(write) => replay.view.put(write),
                            None => unsaid.push(entry.subject),
                        }
                    }
                    Followed::Undecodable(bad) => {
                        tracing::warn!(subject = bad.subject, seq = bad.position.sequence, "entry left out");
                        last = bad.position.sequence;
                        unsaid.extend(bad.subject.parse::<Subject>());
                    }
                    Followed::CaughtUp => break,
                }
                replay.entries += 1;
                let done = count(replay.entries);
                progress.tell("reading the log", done, done + reader.pending());
            }
            replay.known.insert(stream, last);
        }
        for subject in unsaid {
            for entry in log.history(subject).await? {
                // What has come since the view was read counts with the next look.
                let known = replay.known.get(subject.kind.stream()).copied().unwrap_or_default();
                if entry.sequence() <= known {
                    replay.view.apply(&entry);
                }
            }
        }
        Ok(replay)
    }
}
