//! Whether the view says what the log says, and the change feed what the view says.
//!
//! Both go over the broadcasts a page at a time. Entries come meanwhile, and each side
//! is read at a moment of its own: what differs is looked at again, a few times, and
//! counts when it differs each time.

mod feed;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    time::Duration,
};

use castlog_log::{BroadcastId, Kind, Log, Subject};
use castlog_projector::{Differences, Progress};
use futures::TryStreamExt as _;

#[cfg(test)]
pub(crate) use feed::told;
pub use feed::verify_feed;

use crate::{
    Config, Store,
    state::{self, View},
    store::Stored,
};

/// Broadcasts compared in one go.
const PAGE: usize = 200;
/// How often what differs is looked at, and the wait in between.
const LOOKS: u32 = 5;
const LOOK_DELAY: Duration = Duration::from_millis(100);

/// Compares the view with what the log says: one line per difference. `progress` is
/// told how far it is.
///
/// # Errors
/// The log or Redis cannot be reached.
pub async fn verify(config: &Config, log: &Log, progress: &Progress) -> anyhow::Result<Differences> {
    let store = Store::new(&config.redis)?;
    let mut differences = Differences::default();
    let (mut done, total) = (0, store.count().await?);
    let mut scan = store.scan_ids();
    while let Some(page) = scan.next().await? {
        done += page.len();
        let ids = known(page, &mut differences);
        compare(&store, log, ids, &mut differences).await?;
        progress.tell("comparing LiveInfo", count(done.min(total)), count(total));
    }
    // What is live and no broadcast of the view, and what only the log knows.
    let mut seen = HashSet::new();
    let mut scan = store.scan_live();
    while let Some(page) = scan.next().await? {
        let ids = known(page, &mut differences);
        strangers(&store, log, ids, &mut seen, &mut differences).await?;
    }
    let (status, metadata) = (Kind::Status.filter(), Kind::Metadata.filter());
    for (stream, filter) in [
        (Kind::Title.stream(), "media.broad_info.>"),
        (Kind::Status.stream(), &status),
        (Kind::Metadata.stream(), &metadata),
    ] {
        let subjects = log.subjects(stream, filter).await?;
        let mut pages = subjects.try_chunks(PAGE);
        while let Some(page) = pages.try_next().await.map_err(|error| error.1)? {
            let ids = page.into_iter().filter_map(|subject: Subject| subject.broadcast);
            strangers(&store, log, ids.collect(), &mut seen, &mut differences).await?;
        }
    }
    Ok(differences)
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The ids of a page; what is none is not from the log.
fn known(page: Vec<String>, differences: &mut Differences) -> Vec<BroadcastId> {
    let mut ids = Vec::with_capacity(page.len());
    for id in page {
        match id.parse() {
            Ok(id) => ids.push(id),
            Err(_) => differences.add(format!("broadcast {id:?}: not in the log")),
        }
    }
    ids
}

/// Compares those of some broadcasts that the view does not know, once each.
async fn strangers(
    store: &Store,
    log: &Log,
    mut ids: Vec<BroadcastId>,
    seen: &mut HashSet<BroadcastId>,
    differences: &mut Differences,
) -> anyhow::Result<()> {
    ids.sort_unstable();
    ids.dedup();
    let known = store.are_known(&ids).await?;
    let strange = ids.into_iter().zip(known).filter(|(_, known)| !known);
    let strange: Vec<_> = strange.map(|(id, _)| id).filter(|id| seen.insert(*id)).collect();
    compare(store, log, strange, differences).await
}

/// Compares broadcasts; what differs is looked at again.
async fn compare(
    store: &Store,
    log: &Log,
    mut ids: Vec<BroadcastId>,
    differences: &mut Differences,
) -> anyhow::Result<()> {
    for look in 1.. {
        if ids.is_empty() {
            break;
        }
        let stored = store.page(&ids).await?;
        let wanted = said(log, &ids).await?;
        let lines = ids.iter().zip(&stored).map(|(id, stored)| lines(*id, stored, &wanted));
        let lines: Vec<_> = lines.collect();
        if look == LOOKS {
            differences.extend(lines.into_iter().flatten());
            break;
        }
        let mut lines = lines.into_iter();
        ids.retain(|_| lines.next().is_some_and(|lines| !lines.is_empty()));
        if !ids.is_empty() {
            tokio::time::sleep(LOOK_DELAY).await;
        }
    }
    Ok(())
}

/// What the log says of broadcasts.
async fn said(log: &Log, ids: &[BroadcastId]) -> anyhow::Result<View> {
    let subjects: Vec<Subject> = ids.iter().flat_map(|id| Kind::STATE.map(|kind| kind.of(*id))).collect();
    let (mut view, mut unsaid) = (View::default(), Vec::new());
    for newest in log.newest(&subjects).await? {
        match newest {
            Ok(entry) => match state::write(&entry) {
                Some(write) => view.put(write),
                None => unsaid.push(entry.subject),
            },
            Err(undecodable) => unsaid.extend(undecodable.subject.parse::<Subject>()),
        }
    }
    // What was said before an entry that says nothing stands.
    for subject in unsaid {
        for entry in log.history(subject).await? {
            view.apply(&entry);
        }
    }
    Ok(view)
}

/// Where a broadcast is not what the log says.
fn lines(id: BroadcastId, stored: &Stored, wanted: &View) -> Vec<String> {
    let mut lines = Vec::new();
    match (&stored.fields, wanted.fields(id)) {
        (None, None) => {}
        (None, Some(_)) => lines.push(format!("broadcast {id}: missing")),
        (Some(_), None) => lines.push(format!("broadcast {id}: not in the log")),
        (Some(stored), Some(wanted)) => {
            let differing = differing(stored, &wanted, "the log says");
            if !differing.is_empty() {
                lines.push(format!("broadcast {id}: {}", differing.join("; ")));
            }
        }
    }
    match (stored.live, wanted.live(id)) {
        (stored, wanted) if stored == wanted => {}
        (Some(stored), Some(wanted)) => lines.push(format!("live {id}: since {stored}, the log says {wanted}")),
        (None, _) => lines.push(format!("live {id}: missing")),
        (_, None) => lines.push(format!("live {id}: not live in the log")),
    }
    lines
}

/// The fields of a broadcast that differ.
fn differing(stored: &BTreeMap<String, String>, wanted: &BTreeMap<String, String>, says: &str) -> Vec<String> {
    let names: BTreeSet<&String> = stored.keys().chain(wanted.keys()).collect();
    let show = |value: Option<&String>| value.map_or_else(|| "nothing".to_owned(), Clone::clone);
    names
        .into_iter()
        .filter(|name| stored.get(*name) != wanted.get(*name))
        .map(|name| {
            format!(
                "{name} is {}, {says} {}",
                show(stored.get(name)),
                show(wanted.get(name))
            )
        })
        .collect()
}
