//! The client.

use std::{fmt, sync::Arc, time::Duration};

use meilisearch_sdk::{
    client::{Client, SwapIndexes},
    errors::{Error as Sdk, ErrorCode},
    indexes::Index,
    settings::Settings,
    task_info::TaskInfo,
    tasks::Task,
};
use serde::Serialize;
use tokio::time::Instant;

use crate::{Config, Error, differing, error::refuses};

/// How long one request may take: Meilisearch only stores a write before it answers.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);
/// How long a task is waited for. Tasks wait for those before them, so that one
/// takes long on a busy server; but one that a restored server has forgotten, or
/// that somebody has paused, must not hold its writer for ever.
const TASK_LIMIT: Duration = Duration::from_secs(600);
/// Shortest and longest wait between two looks at a task.
const POLL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(250));
/// Between them a look comes after such a part of the time that the task has taken
/// so far: what it is noticed late by.
const POLL_PART: u32 = 4;
/// What the name of an index ends with until it has its settings.
const FRESH: &str = "_fresh";
/// Attribute that identifies a document.
pub const PRIMARY_KEY: &str = "id";

/// A Meilisearch server.
#[derive(Debug, Clone)]
pub struct Meili {
    client: Client,
    request_limit: Duration,
    task_limit: Duration,
    fence: Option<Fence>,
}

/// Says whether this process may write at this moment.
#[derive(Clone)]
struct Fence(Arc<dyn Fn() -> bool + Send + Sync>);

impl fmt::Debug for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fence").field(&(self.0)()).finish()
    }
}

impl Meili {
    /// A client; it connects with its first request.
    ///
    /// # Errors
    /// The address or the key cannot be used.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let key = config.key.expose();
        let key = (!key.is_empty()).then(|| key.clone());
        Ok(Self {
            client: Client::new(config.url.trim_end_matches('/'), key).map_err(Error::Client)?,
            request_limit: REQUEST_LIMIT,
            task_limit: TASK_LIMIT,
            fence: None,
        })
    }

    /// The same client with another limit on one request, for what somebody waits for.
    #[must_use]
    pub const fn with_request_limit(mut self, limit: Duration) -> Self {
        self.request_limit = limit;
        self
    }

    /// The same client with another limit on the wait for a task.
    #[must_use]
    pub const fn with_task_limit(mut self, limit: Duration) -> Self {
        self.task_limit = limit;
        self
    }

    /// The same client for a writer of several, of which one at a time may write: it
    /// asks `may_write` directly before each, and writes nothing without.
    #[must_use]
    pub fn fenced(mut self, may_write: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.fence = Some(Fence(Arc::new(may_write)));
        self
    }

    /// The SDK's client, to make requests of.
    #[must_use]
    pub const fn client(&self) -> &Client {
        &self.client
    }

    /// An index, to make requests of.
    #[must_use]
    pub fn index(&self, name: &str) -> Index {
        self.client.index(name)
    }

    /// Makes a request about an index.
    ///
    /// # Errors
    /// It failed, or was not answered within the limit.
    pub async fn call<T>(&self, index: &str, request: impl Future<Output = Result<T, Sdk>>) -> Result<T, Error> {
        self.request(request).await.map_err(|error| Error::of(index, error))
    }

    /// Makes a request for a write and waits until it is done.
    ///
    /// # Errors
    /// It failed, was not answered, or not done within the limit: then it may
    /// still be done later.
    pub async fn write(&self, index: &str, request: impl Future<Output = Result<TaskInfo, Sdk>>) -> Result<(), Error> {
        self.done(request).await.map_err(|error| Error::of(index, error))
    }

    /// Makes sure that the index is there and has these settings; returns whether
    /// it had. A new index has its settings from its first moment.
    ///
    /// # Errors
    /// Meilisearch cannot be used.
    pub async fn ensure(&self, name: &str, settings: &Settings) -> Result<bool, Error> {
        loop {
            match self.call(name, self.index(name).get_settings()).await {
                Ok(actual) if differing(settings, &actual).is_empty() => return Ok(true),
                Ok(_) => {
                    self.write(name, self.index(name).set_settings(settings)).await?;
                    tracing::info!(index = name, "index settings set");
                    return Ok(false);
                }
                Err(error) if error.is_missing_index() => {
                    if self.create(name, settings).await? {
                        tracing::info!(index = name, "index created");
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Makes an index with settings; `false` when somebody else was quicker.
    ///
    /// Meilisearch shows an index some milliseconds before it has the settings,
    /// also when one task makes both. So it gets them under another name.
    async fn create(&self, name: &str, settings: &Settings) -> Result<bool, Error> {
        let fresh = format!("{name}{FRESH}");
        self.write(&fresh, self.index(&fresh).set_settings(settings)).await?;
        let rename = SwapIndexes {
            indexes: (fresh.clone(), name.to_owned()),
            rename: Some(true),
        };
        match self.write(&fresh, self.client.swap_indexes([&rename])).await {
            Ok(()) => Ok(true),
            Err(error) if error.is_missing_index() || error.code() == Some(&ErrorCode::IndexAlreadyExists) => {
                self.delete_index(&fresh).await?;
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until everything is done that has been asked of an index before, by
    /// whomever: Meilisearch does what is of one index in the order of the requests.
    ///
    /// # Errors
    /// Meilisearch cannot be used.
    pub async fn settled(&self, name: &str) -> Result<(), Error> {
        let index = self.index(name);
        // It deletes nothing, in its turn.
        match self.write(name, index.delete_documents::<&str>(&[])).await {
            Err(error) if error.is_missing_index() => Ok(()),
            outcome => outcome,
        }
    }

    /// Deletes an index, unless it is not there.
    ///
    /// # Errors
    /// Meilisearch cannot be used.
    pub async fn delete_index(&self, name: &str) -> Result<(), Error> {
        match self.write(name, self.client.delete_index(name)).await {
            Err(error) if error.is_missing_index() => Ok(()),
            outcome => outcome,
        }
    }

    /// Writes documents in place of those with the same ids, and waits until
    /// they can be found.
    ///
    /// # Errors
    /// Meilisearch cannot be used, or refuses a document: the first is named.
    pub async fn put<T: Serialize + Sync + Send>(
        &self,
        name: &str,
        documents: &[T],
        id: impl Fn(&T) -> String,
    ) -> Result<(), Error> {
        if documents.is_empty() {
            return Ok(());
        }
        let index = self.index(name);
        let send = |documents| self.done(index.add_or_replace(documents, Some(PRIMARY_KEY)));
        let Err(mut error) = send(documents).await else {
            return Ok(());
        };
        // Documents are refused as a whole; halving finds the first that is to blame.
        let mut suspects = documents;
        while suspects.len() > 1 && refuses(&error) {
            let (left, right) = suspects.split_at(suspects.len() / 2);
            (suspects, error) = match send(left).await {
                Ok(()) => (right, error),
                Err(error) => (left, error),
            };
        }
        match (suspects, refuses(&error)) {
            ([only], true) => match send(suspects).await {
                Err(error) if refuses(&error) => Err(Error::Refused {
                    id: id(only),
                    reason: error.to_string(),
                }),
                // What was refused once and is taken alone is no document's fault.
                Err(error) => Err(Error::of(name, error)),
                Ok(()) => Err(Error::Transient {
                    index: name.to_owned(),
                    source: error,
                }),
            },
            _ => Err(Error::of(name, error)),
        }
    }

    async fn request<T>(&self, request: impl Future<Output = Result<T, Sdk>>) -> Result<T, Sdk> {
        tokio::time::timeout(self.request_limit, request)
            .await
            .unwrap_or(Err(Sdk::Timeout))
    }

    async fn done(&self, request: impl Future<Output = Result<TaskInfo, Sdk>>) -> Result<(), Sdk> {
        if self.fence.as_ref().is_some_and(|fence| !(fence.0)()) {
            return Err(Sdk::Other(
                "another instance may write now, and this one may not".into(),
            ));
        }
        let task = self.request(request).await?;
        let begun = Instant::now();
        loop {
            match self.request(self.client.get_task(&task)).await? {
                Task::Succeeded { .. } => return Ok(()),
                Task::Failed { content } => return Err(Sdk::Meilisearch(content.error)),
                Task::Enqueued { .. } | Task::Processing { .. } => {}
            }
            let taken = begun.elapsed();
            if taken >= self.task_limit {
                return Err(Sdk::Timeout);
            }
            tokio::time::sleep((taken / POLL_PART).clamp(POLL.0, POLL.1)).await;
        }
    }
}
