//! Makes the documents of some broadcasts what the log says at this moment.
//!
//! Meilisearch has no conditional write, so two writers, such as a rebuild beside the
//! indexer, or one whose earlier request was still on its way, can leave a document
//! that is out of date.
//! Hence after every write the log is read again, and what has changed is
//! written again: whoever writes last finds its document up to date.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use castlog_log::{BroadcastId, Entry, Log, Subject};
use castlog_meili::{Error, Meili};
use meilisearch_sdk::settings::{Settings, TypoToleranceSettings};

use crate::{
    config::Config,
    document::{Document, Facts, KINDS},
    error::Fault,
    viewers::Viewers,
};

/// Broadcasts written at a time: bounds the request and the time of its task.
pub(crate) const CHUNK: usize = 500;

/// What the documents of some broadcasts should be; `None` = absent.
pub(crate) type Wanted = BTreeMap<BroadcastId, Option<Document>>;

/// Entries that are in the index, by broadcast. Cheap to clone.
///
/// Documents are derived from the newest entries, so that one that was behind has
/// nothing to say any more when its turn comes. A replay is full of those. What
/// somebody else does to the index is the sweep's to find.
#[derive(Debug, Clone, Default)]
pub(crate) struct Written(Arc<Mutex<HashMap<BroadcastId, [u64; KINDS.len()]>>>);

impl Written {
    /// Broadcasts that are remembered: some MiB. More begin anew, since the entries of
    /// one stand near to each other in the log.
    const MOST: usize = 20_000;

    /// The document says what these facts say.
    fn learn(&self, facts: &BTreeMap<BroadcastId, Facts>) {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if written.len() + facts.len() > Self::MOST {
            written.clear();
        }
        for (id, facts) in facts {
            let newest = KINDS.map(|kind| facts.sequence(kind));
            written
                .entry(*id)
                .and_modify(|known| *known = std::array::from_fn(|kind| known[kind].max(newest[kind])))
                .or_insert(newest);
        }
    }

    /// Whether an entry, or one that took its place, is in the index.
    pub(crate) fn knows(&self, entry: &Entry) -> bool {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let newest = entry.subject.broadcast.and_then(|id| written.get(&id));
        let kind = KINDS.iter().position(|kind| *kind == entry.subject.kind);
        matches!((newest, kind), (Some(newest), Some(kind)) if entry.sequence() <= newest[kind])
    }
}

/// Keeps one index equal to the log.
#[derive(Debug, Clone)]
pub(crate) struct Reconciler {
    pub(crate) meili: Meili,
    pub(crate) log: Log,
    pub(crate) index: String,
    pub(crate) viewers: Viewers,
    pub(crate) written: Written,
}

impl Reconciler {
    pub(crate) fn new(config: &Config, log: &Log) -> anyhow::Result<Self> {
        Ok(Self {
            meili: Meili::new(&config.meilisearch)?,
            log: log.clone(),
            index: config.index.clone(),
            viewers: Viewers::default(),
            written: Written::default(),
        })
    }

    /// Makes sure that the index is there and can be searched as documented.
    pub(crate) async fn prepare(&self) -> Result<bool, Error> {
        self.meili.ensure(&self.index, &settings()).await
    }

    /// Brings the documents of these broadcasts up to date. `known` are entries
    /// that the caller has seen: a replica that answers from further back is not believed.
    pub(crate) async fn reconcile(&self, ids: &BTreeSet<BroadcastId>, known: &[Entry]) -> Result<(), Fault> {
        let mut wanted = self.wanted(ids, known).await?;
        while !wanted.is_empty() {
            self.write(&wanted).await?;
            let ids = wanted.keys().copied().collect();
            let facts = self.facts(&ids, known).await?;
            let mut newest = self.documents(&facts);
            newest.retain(|id, document| wanted.get(id) != Some(document));
            let equal = facts.into_iter().filter(|(id, _)| !newest.contains_key(id));
            self.written.learn(&equal.collect());
            wanted = newest;
        }
        Ok(())
    }

    /// What the documents of these broadcasts should be.
    pub(crate) async fn wanted(&self, ids: &BTreeSet<BroadcastId>, known: &[Entry]) -> Result<Wanted, Fault> {
        Ok(self.documents(&self.facts(ids, known).await?))
    }

    fn documents(&self, facts: &BTreeMap<BroadcastId, Facts>) -> Wanted {
        let document = |(id, facts): (&BroadcastId, &Facts)| (*id, facts.document(*id, self.viewers.of(*id)));
        facts.iter().map(document).collect()
    }

    /// What the log says of these broadcasts.
    async fn facts(&self, ids: &BTreeSet<BroadcastId>, known: &[Entry]) -> Result<BTreeMap<BroadcastId, Facts>, Fault> {
        let mut facts: BTreeMap<BroadcastId, Facts> = ids.iter().map(|id| (*id, Facts::default())).collect();
        for entry in known {
            if let Some(facts) = entry.subject.broadcast.and_then(|id| facts.get_mut(&id)) {
                facts.learn_entry(entry);
            }
        }
        let subjects: Vec<Subject> = ids.iter().flat_map(|id| KINDS.map(|kind| kind.of(*id))).collect();
        for newest in self.log.newest(&subjects).await? {
            let (subject, sequence, event) = match newest {
                Ok(entry) => (Some(entry.subject), entry.position.sequence, Some(entry.event)),
                Err(undecodable) => (undecodable.subject.parse().ok(), undecodable.position.sequence, None),
            };
            if let Some(Subject {
                kind,
                broadcast: Some(id),
            }) = subject
                && let Some(facts) = facts.get_mut(&id)
            {
                facts.learn(kind, sequence, event);
            }
        }
        Ok(facts)
    }

    async fn write(&self, wanted: &Wanted) -> Result<(), Error> {
        let present: Vec<&Document> = wanted.values().flatten().collect();
        let absent: Vec<String> = wanted
            .iter()
            .filter(|(_, document)| document.is_none())
            .map(|(id, _)| id.to_string())
            .collect();
        // Both are on their way together, so that Meilisearch does them in one go.
        let (put, deleted) = tokio::join!(self.put(&self.index, &present), self.delete(&absent));
        put.and(deleted)?;
        self.viewers.wrote(wanted);
        Ok(())
    }

    pub(crate) async fn put(&self, index: &str, documents: &[&Document]) -> Result<(), Error> {
        for chunk in documents.chunks(CHUNK) {
            self.meili.put(index, chunk, |document| document.id.to_string()).await?;
        }
        Ok(())
    }

    pub(crate) async fn delete(&self, ids: &[String]) -> Result<(), Error> {
        let index = self.meili.index(&self.index);
        for chunk in ids.chunks(CHUNK) {
            match self.meili.write(&self.index, index.delete_documents(chunk)).await {
                // Without an index there is no document.
                Err(error) if !error.is_missing_index() => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

/// How the index is searched.
pub(crate) fn settings() -> Settings {
    Settings::new()
        .with_searchable_attributes(["title", "tags", "owner"])
        .with_filterable_attributes([
            "id",
            "tags",
            "category",
            "language",
            "resolutions",
            "frame_rate",
            "owner",
        ])
        .with_sortable_attributes(["viewers", "started_at"])
        // Meilisearch takes what markup is written with for a part of the word beside it.
        .with_separation_tokens(["<", ">", "&"])
        .with_typo_tolerance(TypoToleranceSettings {
            enabled: Some(true),
            ..Default::default()
        })
}

#[cfg(test)]
mod tests {
    use castlog_log::Kind;
    use castlog_testkit::events::{entry, tags, title};

    use super::*;

    fn facts(id: BroadcastId, sequence: u64) -> BTreeMap<BroadcastId, Facts> {
        let mut facts = Facts::default();
        facts.learn(Kind::Title, sequence, Some(title("any")));
        [(id, facts)].into()
    }

    #[test]
    fn what_is_in_the_index_is_known_by_broadcast_and_kind() {
        let (written, id) = (Written::default(), BroadcastId::generate());
        let titled = |id, sequence| entry(id, title("any"), sequence);
        assert!(!written.knows(&titled(id, 1)));
        written.learn(&facts(id, 7));
        // One that was read before another may come to its end after it.
        written.learn(&facts(id, 5));
        assert!(written.knows(&titled(id, 1)) && written.knows(&titled(id, 7)));
        assert!(!written.knows(&titled(id, 8)));
        assert!(!written.knows(&entry(id, tags(&[]), 1)), "another kind");
        assert!(!written.knows(&titled(BroadcastId::generate(), 1)), "another broadcast");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (written, first) = (Written::default(), BroadcastId::generate());
        written.learn(&facts(first, 1));
        for _ in 0..Written::MOST {
            written.learn(&facts(BroadcastId::generate(), 1));
        }
        assert!(!written.knows(&entry(first, title("any"), 1)));
        assert!(written.0.lock().unwrap().len() <= Written::MOST);
    }
}
