//! Makes the documents of some broadcasts what the log says at this moment.
//!
//! Meilisearch has no conditional write, so two writers, such as a rebuild beside the
//! indexer, or one whose earlier request was still on its way, can leave a document
//! that is out of date.
//! Hence after every write the log is read again, and what has changed is
//! written again: whoever writes last finds its document up to date.

use std::collections::{BTreeMap, BTreeSet};

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

/// Keeps one index equal to the log.
#[derive(Debug, Clone)]
pub(crate) struct Reconciler {
    pub(crate) meili: Meili,
    pub(crate) log: Log,
    pub(crate) index: String,
    pub(crate) viewers: Viewers,
}

impl Reconciler {
    pub(crate) fn new(config: &Config, log: &Log) -> anyhow::Result<Self> {
        Ok(Self {
            meili: Meili::new(&config.meilisearch)?,
            log: log.clone(),
            index: config.index.clone(),
            viewers: Viewers::default(),
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
            let mut newest = self.wanted(&ids, known).await?;
            newest.retain(|id, document| wanted.get(id) != Some(document));
            wanted = newest;
        }
        Ok(())
    }

    /// What the documents of these broadcasts should be.
    pub(crate) async fn wanted(&self, ids: &BTreeSet<BroadcastId>, known: &[Entry]) -> Result<Wanted, Fault> {
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
        let document = |(id, facts): (_, Facts)| (id, facts.document(id, self.viewers.of(id)));
        Ok(facts.into_iter().map(document).collect())
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
