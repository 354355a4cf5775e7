//! Compares the whole index with the whole log, and mends what differs.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use castlog_log::BroadcastId;
use castlog_meili::{PRIMARY_KEY, differing};
use castlog_projector::Progress;
use meilisearch_sdk::documents::DocumentsQuery;
use serde_json::{Map, Value};

use crate::{
    document::{Document, Facts},
    error::Fault,
    fold,
    reconcile::{CHUNK, Reconciler, settings},
};

/// Documents of the index by id, as they are stored.
type Stored = BTreeMap<String, Map<String, Value>>;

/// The attribute that is no function of the log alone, and is not compared.
const VIEWERS: &str = "viewers";
/// Documents read at a time.
const PAGE: usize = 500;

/// A document that is not what the log says.
#[derive(Debug)]
struct Difference {
    id: String,
    /// One per attribute, or one for the whole document.
    lines: Vec<String>,
}

impl Reconciler {
    /// Where the index is not what the log says, one line each.
    pub(crate) async fn verify(&self) -> Result<Vec<String>, Fault> {
        let index = self.meili.index(&self.index);
        let mut lines = match self.meili.call(&self.index, index.get_settings()).await {
            Ok(actual) => differing(&settings(), &actual)
                .into_iter()
                .map(|name| format!("index {}: the setting {name} differs", self.index))
                .collect(),
            Err(error) if error.is_missing_index() => vec![format!("index {}: it is not there", self.index)],
            Err(error) => return Err(error.into()),
        };
        lines.extend(
            self.differences()
                .await?
                .into_iter()
                .flat_map(|difference| difference.lines),
        );
        Ok(lines)
    }

    /// Makes the index what the log says; returns how many documents were not.
    pub(crate) async fn mend(&self) -> Result<usize, Fault> {
        self.prepare().await?;
        let differences = self.differences().await?;
        let mut broadcasts = Vec::new();
        let mut foreign = Vec::new();
        for difference in &differences {
            tracing::debug!(index = self.index, lines = ?difference.lines, "document differs from the log");
            match difference.id.parse::<BroadcastId>() {
                Ok(id) => broadcasts.push(id),
                Err(_) => foreign.push(difference.id.clone()),
            }
        }
        for chunk in broadcasts.chunks(CHUNK) {
            self.reconcile(&chunk.iter().copied().collect(), &[]).await?;
        }
        self.delete(&foreign).await?;
        Ok(differences.len())
    }

    async fn differences(&self) -> Result<Vec<Difference>, Fault> {
        let facts = fold::live(&self.log, &Progress::none()).await?;
        let documents: BTreeMap<String, Document> = documents(&facts).map(|d| (d.id.to_string(), d)).collect();
        let stored = self.stored(None).await?;
        self.viewers.read(viewers(&stored));
        let suspects = compare(&documents, &stored);
        // The two were read one after the other, while entries came. What still
        // differs when the suspects alone are looked at does differ.
        let mut confirmed = Vec::new();
        for chunk in suspects.chunks(CHUNK) {
            let ids: Vec<&str> = chunk.iter().map(|difference| difference.id.as_str()).collect();
            let broadcasts: BTreeSet<BroadcastId> = ids.iter().filter_map(|id| id.parse().ok()).collect();
            let stored = self.stored(Some(&ids)).await?;
            let wanted = self.wanted(&broadcasts, &[]).await?;
            let documents = wanted.into_values().flatten().map(|d| (d.id.to_string(), d)).collect();
            confirmed.extend(compare(&documents, &stored));
        }
        Ok(confirmed)
    }

    /// The documents of the index, all or those with the given ids.
    async fn stored(&self, ids: Option<&[&str]>) -> Result<Stored, Fault> {
        let index = self.meili.index(&self.index);
        let mut stored = Stored::new();
        let mut offset = 0;
        loop {
            let mut query = DocumentsQuery::new(&index);
            query.with_limit(PAGE).with_offset(offset);
            query.ids = ids.map(<[&str]>::to_vec);
            let page = match self
                .meili
                .call(&self.index, index.get_documents_with::<Map<String, Value>>(&query))
                .await
            {
                Ok(page) => page,
                Err(error) if error.is_missing_index() => return Ok(stored),
                Err(error) => return Err(error.into()),
            };
            offset += page.results.len();
            let done = page.results.is_empty() || offset >= usize::try_from(page.total).unwrap_or(usize::MAX);
            for document in page.results {
                let id = match document.get(PRIMARY_KEY) {
                    Some(Value::String(id)) => id.clone(),
                    other => other.map(Value::to_string).unwrap_or_default(),
                };
                stored.insert(id, document);
            }
            if done {
                return Ok(stored);
            }
        }
    }
}

/// The documents of broadcasts that are in the index by right, as if nobody watched.
pub(crate) fn documents(facts: &BTreeMap<BroadcastId, Facts>) -> impl Iterator<Item = Document> {
    facts.iter().filter_map(|(id, facts)| facts.document(*id, 0))
}

fn viewers(stored: &Stored) -> HashMap<BroadcastId, u64> {
    let viewers = |(id, document): (&String, &Map<String, Value>)| {
        Some((
            id.parse().ok()?,
            document.get(VIEWERS).and_then(Value::as_u64).unwrap_or_default(),
        ))
    };
    stored.iter().filter_map(viewers).collect()
}

fn compare(wanted: &BTreeMap<String, Document>, stored: &Stored) -> Vec<Difference> {
    let ids: BTreeSet<&String> = wanted.keys().chain(stored.keys()).collect();
    ids.into_iter()
        .filter_map(|id| {
            let lines = match (wanted.get(id), stored.get(id)) {
                (Some(_), None) => vec![format!("{id}: live and public, and not in the index")],
                (None, Some(_)) => vec![format!("{id}: in the index, and not live and public")],
                (Some(wanted), Some(stored)) => attributes(id, wanted, stored),
                (None, None) => Vec::new(),
            };
            (!lines.is_empty()).then(|| Difference { id: id.clone(), lines })
        })
        .collect()
}

fn attributes(id: &str, wanted: &Document, stored: &Map<String, Value>) -> Vec<String> {
    let Ok(Value::Object(wanted)) = serde_json::to_value(wanted) else {
        return Vec::new();
    };
    let names: BTreeSet<&String> = wanted.keys().chain(stored.keys()).collect();
    let show =
        |map: &Map<String, Value>, name: &str| map.get(name).map_or_else(|| "nothing".to_owned(), Value::to_string);
    names
        .into_iter()
        .filter(|name| *name != VIEWERS && wanted.get(*name) != stored.get(*name))
        .map(|name| {
            format!(
                "{id}: {name} is {} and should be {}",
                show(stored, name),
                show(&wanted, name)
            )
        })
        .collect()
}
