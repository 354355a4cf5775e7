//! Bringing the view back from the log, and comparing the two.

use std::collections::BTreeSet;

use castlog_log::{Followed, From, Kind, Log};
use serde_json::Value;

use crate::{
    Config, Store,
    state::{self, View},
};

/// What a rebuild did.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    /// Broadcasts in the view.
    pub broadcasts: usize,
    /// Entries that were read.
    pub entries: usize,
    /// Broadcasts removed because the log knows nothing of them.
    pub removed: usize,
}

/// Makes the view equal to the log. Readers see each broadcast either as it
/// was or as it is; a running LiveInfo may go on, since writes are guarded by
/// sequence. Safe to interrupt and to run twice.
///
/// # Errors
/// The log or Redis cannot be reached.
pub async fn rebuild(config: &Config, log: &Log) -> anyhow::Result<Report> {
    let store = Store::new(&config.redis)?;
    let entries = newest(log).await?;
    let wanted = entries.iter().fold(View::default(), |mut view, entry| {
        view.apply(entry);
        view
    });
    let known: BTreeSet<_> = wanted.ids().collect();
    let removed = store.retain(&known).await?;
    for id in damaged(&store.snapshot().await?, &wanted) {
        store.forget(id).await?;
    }
    for batch in entries.chunks(config.batch.max(1)) {
        let writes: Vec<_> = batch.iter().filter_map(state::write).collect();
        store.apply(&writes).await?;
    }
    Ok(Report {
        broadcasts: known.len(),
        entries: entries.len(),
        removed,
    })
}

/// Compares the view with a fresh replay of the log: one line per difference.
///
/// # Errors
/// The log or Redis cannot be reached.
pub async fn verify(config: &Config, log: &Log) -> anyhow::Result<Vec<String>> {
    let store = Store::new(&config.redis)?;
    let mut view = View::default();
    for entry in newest(log).await? {
        view.apply(&entry);
    }
    Ok(differences(&store.snapshot().await?, &view.snapshot()))
}

/// Broadcasts whose stored state is not what the log says, and that guarded
/// writes cannot mend: the stored sequence is as new or newer.
fn damaged(stored: &Value, wanted: &View) -> Vec<castlog_log::BroadcastId> {
    let wanted_view = wanted.snapshot();
    wanted
        .ids()
        .filter(|id| {
            let id = id.to_string();
            stored["broadcasts"]
                .get(&id)
                .is_some_and(|s| s != &wanted_view["broadcasts"][&id])
                || stored["live"].get(&id) != wanted_view["live"].get(&id)
        })
        .collect()
}

fn differences(stored: &Value, wanted: &Value) -> Vec<String> {
    let empty = serde_json::Map::new();
    let mut lines = Vec::new();
    for part in ["broadcasts", "live"] {
        let stored = stored[part].as_object().unwrap_or(&empty);
        let wanted = wanted[part].as_object().unwrap_or(&empty);
        let ids: BTreeSet<&String> = stored.keys().chain(wanted.keys()).collect();
        for id in ids {
            match (stored.get(id), wanted.get(id)) {
                (stored, wanted) if stored == wanted => {}
                (Some(stored), Some(wanted)) => lines.push(format!("{part} {id}: is {stored}, the log says {wanted}")),
                (None, _) => lines.push(format!("{part} {id}: missing")),
                (_, None) => lines.push(format!("{part} {id}: not in the log")),
            }
        }
    }
    lines
}

/// The newest entry of each kind of each broadcast.
async fn newest(log: &Log) -> anyhow::Result<Vec<castlog_log::Entry>> {
    let (status, metadata) = (Kind::Status.filter(), Kind::Metadata.filter());
    let mut entries = Vec::new();
    for (stream, filters) in [
        ("BROAD_INFO", vec!["media.broad_info.>"]),
        ("LIVE_STREAM", vec![status.as_str(), metadata.as_str()]),
    ] {
        let mut reader = log.follow(stream, &filters, From::LastPerSubject);
        loop {
            match reader.next().await? {
                Followed::Entry(entry) => entries.push(*entry),
                Followed::Undecodable(bad) => {
                    tracing::warn!(subject = bad.subject, seq = bad.position.sequence, "entry left out");
                }
                Followed::CaughtUp => break,
            }
        }
    }
    Ok(entries)
}
