//! Whether the last change of each broadcast on the feed is what LiveInfo holds.

use std::collections::{BTreeMap, HashMap, HashSet};

use castlog_log::{BroadcastId, Followed, From, Kind, Log, change::Change};
use castlog_projector::{Differences, Progress};
use chrono::{DateTime, Utc};

use super::{LOOK_DELAY, LOOKS, PAGE, count, differing, known};
use crate::{Config, Store, keys, store::Stored};

/// Compares the last change of each broadcast with what LiveInfo holds: one line per
/// difference. Remembers the ids of the broadcasts, and nothing else of them.
///
/// A value whose change may be past the retention of the feed is none of its business.
///
/// # Errors
/// The log or Redis cannot be reached.
pub async fn verify_feed(config: &Config, log: &Log, progress: &Progress) -> anyhow::Result<Differences> {
    let store = Store::new(&config.redis)?;
    let mut check = Check {
        since: log.changes_since().await?,
        store,
        log,
        differences: Differences::default(),
    };
    let mut on_feed = HashSet::new();
    let mut reader = log.follow_changes(From::LastPerSubject);
    let mut page = HashMap::new();
    loop {
        let read = reader.next().await?;
        let is_end = matches!(read, Followed::CaughtUp);
        match read {
            Followed::Entry(change) => {
                on_feed.insert(change.broadcast);
                page.insert(change.broadcast, Some(*change));
            }
            Followed::Undecodable(other) => check.differences.add(format!(
                "change {}: it cannot be read: {}",
                other.position.sequence, other.error
            )),
            Followed::CaughtUp => {}
        }
        if is_end || page.len() == PAGE {
            check.compare(std::mem::take(&mut page)).await?;
        }
        if is_end {
            break;
        }
        let done = count(on_feed.len());
        progress.tell("comparing the change feed", done, done + reader.pending());
    }
    let mut scan = check.store.scan_ids();
    while let Some(page) = scan.next().await? {
        let mut ids = known(page, &mut check.differences);
        ids.retain(|id| !on_feed.contains(id));
        check.compare(ids.into_iter().map(|id| (id, None)).collect()).await?;
    }
    Ok(check.differences)
}

struct Check<'a> {
    store: Store,
    log: &'a Log,
    /// Changes of before then may be past the retention.
    since: Option<DateTime<Utc>>,
    differences: Differences,
}

impl Check<'_> {
    /// Compares broadcasts with their last changes; what differs is looked at again.
    async fn compare(&mut self, mut page: HashMap<BroadcastId, Option<Change>>) -> anyhow::Result<()> {
        for look in 1.. {
            if page.is_empty() {
                break;
            }
            let ids: Vec<BroadcastId> = page.keys().copied().collect();
            let stored = self.store.page(&ids).await?;
            let mut suspects = Vec::new();
            for (id, stored) in ids.into_iter().zip(stored) {
                let change = page.get(&id).and_then(Option::as_ref);
                suspects.extend(self.difference(id, &stored, change).map(|line| (id, line)));
            }
            if look == LOOKS {
                self.differences.extend(suspects.into_iter().map(|(_, line)| line));
                break;
            }
            page.clear();
            if !suspects.is_empty() {
                tokio::time::sleep(LOOK_DELAY).await;
            }
            for (id, _) in suspects {
                page.insert(id, self.log.last_change(id).await?);
            }
        }
        Ok(())
    }

    fn difference(&self, id: BroadcastId, stored: &Stored, change: Option<&Change>) -> Option<String> {
        let told = change.map(told).unwrap_or_default();
        let mut held = stored.fields.clone().unwrap_or_default();
        for kind in Kind::STATE {
            let sequence = keys::sequence_field(kind);
            if !told.contains_key(&sequence) && self.is_past(held.get(&keys::time_field(kind))) {
                held.retain(|name, _| !fields(kind).contains(name));
            }
        }
        let differing = differing(&held, &told, "the feed says");
        (!differing.is_empty()).then(|| format!("broadcast {id}: {}", differing.join("; ")))
    }

    fn is_past(&self, time: Option<&String>) -> bool {
        let time = time.and_then(|time| DateTime::parse_from_rfc3339(time).ok());
        matches!((time, self.since), (Some(time), Some(since)) if time < since)
    }
}

fn fields(kind: Kind) -> [String; 3] {
    [kind.to_string(), keys::sequence_field(kind), keys::time_field(kind)]
}

/// What a change says, in the fields in which LiveInfo holds it.
pub(crate) fn told(change: &Change) -> BTreeMap<String, String> {
    let mut told = BTreeMap::new();
    for (kind, (event, sequence, time)) in change.state() {
        let values = [event.to_json().to_string(), sequence.to_string(), keys::time(time)];
        told.extend(fields(kind).into_iter().zip(values));
    }
    told
}
