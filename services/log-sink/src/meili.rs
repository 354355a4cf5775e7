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
    task_info::TaskInfo,
    tasks::Task,
};
use serde::Serialize;

use crate::{config::MeilisearchConfig, error::Fault};

/// How long one request may take: Meilisearch only stores a write before it answers.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Shortest and longest wait between two looks at a task.
const POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));

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

    /// Writes documents in place of those with the same ids, and waits until
    /// they can be found.
    pub(crate) async fn put<T: Serialize + Sync + Send>(
        &self,
        name: &str,
        documents: &[T],
        id: impl Fn(&T) -> String,
    ) -> Result<(), Fault> {
        let index = self.client.index(name);
        let send = |documents| self.write(index.add_or_replace(documents, Some("id")));
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

/// Whether the documents themselves are the reason. A missing id is not: every
/// document has one, so the index was made with another primary key.
fn refuses(error: &Error) -> bool {
    let Error::Meilisearch(error) = error else { return false };
    matches!(
        error.error_code,
        ErrorCode::InvalidDocumentId
            | ErrorCode::InvalidDocumentFields
            | ErrorCode::InvalidDocumentGeoField
            | ErrorCode::MaxFieldsLimitExceeded
    )
}

#[cfg(test)]
mod tests {
    use castlog_log::Secret;
    use castlog_testkit::Meilisearch;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn the_document_to_blame_is_found() -> anyhow::Result<()> {
        let server = Meilisearch::start().await?;
        let config = MeilisearchConfig {
            url: server.url(),
            key: Secret::new(server.master_key().to_owned()),
        };
        let meili = Meili::new(&config)?;
        let mut documents: Vec<_> = (0..10).map(|n| json!({ "id": format!("d{n}") })).collect();
        documents[6]["id"] = json!("not an id");
        let id = |document: &serde_json::Value| document["id"].to_string();
        match meili.put("x", &documents, id).await {
            Err(Fault::Refused { id, .. }) => assert_eq!(id, "\"not an id\""),
            other => anyhow::bail!("{other:?}"),
        }
        documents.remove(6);
        meili.put("x", &documents, id).await?;
        assert_eq!(meili.client().index("x").get_stats().await?.number_of_documents, 9);
        // Nobody's documents are to blame for a server that is not there.
        let nowhere = Meili::new(&MeilisearchConfig {
            url: "http://127.0.0.1:9".into(),
            ..config
        })?;
        assert!(matches!(nowhere.put("x", &documents, id).await, Err(Fault::Passing(_))));
        Ok(())
    }
}
