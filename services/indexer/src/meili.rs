//! Meilisearch: requests that end, tasks that are waited for, and whose fault
//! a failure is.
//!
//! Meilisearch answers a write with a task and does it later. A write counts
//! here when its task has succeeded, however long that takes.

use std::time::Duration;

use anyhow::Context as _;
use meilisearch_sdk::{
    client::Client,
    errors::{Error, ErrorCode},
    indexes::Index,
    settings::Settings,
    task_info::TaskInfo,
    tasks::Task,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{config::MeilisearchConfig, error::Fault};

/// How long one request may take: Meilisearch only stores a write before it answers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Shortest and longest wait between two looks at a task.
const POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));
/// Attribute that identifies a document.
pub(crate) const PRIMARY_KEY: &str = "id";

/// A Meilisearch server.
#[derive(Debug, Clone)]
pub(crate) struct Meili {
    client: Client,
}

impl Meili {
    pub(crate) fn new(config: &MeilisearchConfig) -> anyhow::Result<Self> {
        let key = config.key.expose();
        let key = (!key.is_empty()).then(|| key.clone());
        let client =
            Client::new(config.url.trim_end_matches('/'), key).context("cannot make a client of Meilisearch")?;
        Ok(Self { client })
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    pub(crate) fn index(&self, name: &str) -> Index {
        self.client.index(name)
    }

    /// Makes a request; one that is not answered in time is a [`Error::Timeout`],
    /// and may have been heard or not.
    pub(crate) async fn call<T>(&self, request: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        tokio::time::timeout(REQUEST_TIMEOUT, request)
            .await
            .unwrap_or(Err(Error::Timeout))
    }

    /// Makes a request for a write and waits until it is done.
    pub(crate) async fn write(&self, request: impl Future<Output = Result<TaskInfo, Error>>) -> Result<(), Error> {
        let task = self.call(request).await?;
        let mut delay = POLL.0;
        loop {
            match self.call(self.client.get_task(&task)).await? {
                Task::Succeeded { .. } => return Ok(()),
                Task::Failed { content } => return Err(Error::Meilisearch(content.error)),
                Task::Enqueued { .. } | Task::Processing { .. } => {}
            }
            tokio::time::sleep(delay).await;
            delay = POLL.1.min(delay * 2);
        }
    }

    /// Makes sure that the index is there and has these settings; returns whether it had.
    pub(crate) async fn ensure(&self, name: &str, settings: &Settings) -> Result<bool, Error> {
        let index = self.index(name);
        let actual = match self.call(index.get_settings()).await {
            Ok(actual) => Some(actual),
            Err(error) if code(&error) == Some(&ErrorCode::IndexNotFound) => None,
            Err(error) => return Err(error),
        };
        if actual
            .as_ref()
            .is_some_and(|actual| differing(settings, actual).is_empty())
        {
            return Ok(true);
        }
        if actual.is_none() {
            match self.write(self.client.create_index(name, Some(PRIMARY_KEY))).await {
                Ok(()) => tracing::info!(index = name, "index created"),
                Err(error) if code(&error) == Some(&ErrorCode::IndexAlreadyExists) => {}
                Err(error) => return Err(error),
            }
        }
        self.write(index.set_settings(settings)).await?;
        tracing::info!(index = name, "index settings set");
        Ok(false)
    }

    /// Writes documents in place of those with the same ids, and waits until
    /// they can be found.
    pub(crate) async fn put<T: Serialize + Sync + Send>(
        &self,
        name: &str,
        documents: &[T],
        id: impl Fn(&T) -> String,
    ) -> Result<(), Fault> {
        if documents.is_empty() {
            return Ok(());
        }
        let index = self.index(name);
        let send = |documents| self.write(index.add_or_replace(documents, Some(PRIMARY_KEY)));
        // Documents are refused as a whole; halving finds the first that is to blame.
        let mut suspects = documents;
        loop {
            match (send(suspects).await, suspects) {
                (Ok(()), _) if suspects.len() == documents.len() => return Ok(()),
                (Ok(()), _) => {
                    return Err(Fault::Passing(anyhow::anyhow!(
                        "a write to index {name} was refused once"
                    )));
                }
                (Err(error), _) if !refuses(&error) => return Err(passing(name, error)),
                (Err(error), [only]) => {
                    return Err(Fault::Refused {
                        id: id(only),
                        reason: error.to_string(),
                    });
                }
                (Err(_), _) => {}
            }
            while suspects.len() > 1 {
                let (left, right) = suspects.split_at(suspects.len() / 2);
                match send(left).await {
                    Ok(()) => suspects = right,
                    Err(error) if refuses(&error) => suspects = left,
                    Err(error) => return Err(passing(name, error)),
                }
            }
        }
    }
}

pub(crate) fn passing(index: &str, error: Error) -> Fault {
    Fault::Passing(anyhow::Error::new(error).context(format!("cannot use index {index}")))
}

pub(crate) const fn code(error: &Error) -> Option<&ErrorCode> {
    match error {
        Error::Meilisearch(error) => Some(&error.error_code),
        _ => None,
    }
}

/// Whether the documents themselves are the reason. A missing id is not: every
/// document has one, so the index was made with another primary key.
fn refuses(error: &Error) -> bool {
    matches!(
        code(error),
        Some(
            ErrorCode::InvalidDocumentId
                | ErrorCode::InvalidDocumentFields
                | ErrorCode::InvalidDocumentGeoField
                | ErrorCode::MaxFieldsLimitExceeded
        )
    )
}

/// Names of the settings that are wanted and are not as the server has them.
pub(crate) fn differing(wanted: &Settings, actual: &Settings) -> Vec<String> {
    let map = |settings| match serde_json::to_value(settings) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let actual = map(actual);
    let same = |name: &str, wanted: &Value| match (wanted, actual.get(name)) {
        (_, None) => false,
        // The order of searchable attributes is their rank; the others are sets.
        (Value::Array(wanted), Some(Value::Array(actual))) if name != "searchableAttributes" => {
            wanted.len() == actual.len() && wanted.iter().all(|one| actual.contains(one))
        }
        // What is left out of an object is the server's default.
        (Value::Object(wanted), Some(Value::Object(actual))) => wanted
            .iter()
            .all(|(key, value)| value.is_null() || actual.get(key) == Some(value)),
        (wanted, Some(actual)) => wanted == actual,
    };
    map(wanted)
        .iter()
        .filter(|(name, wanted)| !same(name, wanted))
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_counts() {
        let settings = || {
            Settings::new()
                .with_searchable_attributes(["title", "tags"])
                .with_sortable_attributes(["a", "b"])
        };
        let same = settings().with_sortable_attributes(["b", "a"]).with_stop_words(["x"]);
        assert!(differing(&settings(), &same).is_empty());
        let other = settings().with_searchable_attributes(["tags", "title"]);
        assert_eq!(differing(&settings(), &other), ["searchableAttributes"]);
        assert_eq!(
            differing(&settings(), &Settings::new()),
            ["searchableAttributes", "sortableAttributes"]
        );
    }
}
