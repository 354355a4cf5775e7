//! Start order of the log sink, the projection and the retention.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use anyhow::bail;
use async_trait::async_trait;
use castlog_log::Entry;
use castlog_meili::{Error, Meili, apply_error, within_grace};
use castlog_projector::{ApplyError, Options, Projection};
use castlog_service::{Context, Shutdown, Tasks};
use chrono::{Days, NaiveDate, Utc};
use futures::{FutureExt, future::BoxFuture, future::try_join_all};
use meilisearch_sdk::settings::Settings;

use crate::{
    archive,
    config::Config,
    document::{self, Document},
    index,
    template::Template,
};

/// Every stream but that of the media parts.
pub(crate) const STREAMS: [&str; 4] = ["BROAD_INFO", "LIVE_STREAM", "LIVE_SEGMENT", "LIVE_TELEMETRY"];
/// Bytes of documents in one request: far below what Meilisearch takes (100 MB by default).
const MAX_REQUEST: usize = 8 * 1024 * 1024;
/// The settings of an index are set again after this, in case that it was deleted meanwhile.
const SETTINGS_HOLD: Duration = Duration::from_secs(600);
/// Indexes whose settings are remembered: a day has a few.
const MAX_REMEMBERED: usize = 1000;
/// How often old indexes are dropped, and looked for again after a failure.
const RETENTION_INTERVAL: (Duration, Duration) = (Duration::from_secs(24 * 3600), Duration::from_secs(60));

/// Writes entries until the shutdown.
///
/// # Errors
/// The configuration cannot be used, or a task failed. Faults of the log or of
/// Meilisearch do not end it.
pub async fn run(config: Config, ctx: Context) -> anyhow::Result<()> {
    let problems = config.validate();
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    let sink = Sink::new(&config, ctx.shutdown.clone())?;
    let mut tasks = Tasks::new(&ctx.shutdown);
    let retention = Retention {
        meili: sink.meili.clone(),
        template: sink.template.clone(),
        days: config.retention_days,
        shutdown: ctx.shutdown.clone(),
    };
    tasks.spawn("retention", async move {
        retention.run().await;
        Ok(())
    });
    if config.archive.enabled {
        tasks.spawn("archive", archive::run(config.archive.clone(), ctx.clone()));
    }
    tasks.spawn("log_sink", async move {
        let options = Options {
            batch: config.batch,
            linger: Duration::from_millis(config.linger_ms),
        };
        castlog_projector::run(&ctx.log, &STREAMS, sink, options, &ctx.shutdown, &ctx.health).await
    });
    tasks.wait().await
}

/// The projection.
pub(crate) struct Sink {
    pub(crate) meili: Meili,
    pub(crate) template: Template,
    pub(crate) retention_days: u32,
    /// Indexes whose settings have been set, and when.
    settled: HashMap<String, Instant>,
    shutdown: Shutdown,
}

#[async_trait]
impl Projection for Sink {
    fn name(&self) -> &'static str {
        "log_sink"
    }

    async fn apply(&mut self, entries: &[Entry]) -> Result<(), ApplyError> {
        let shutdown = self.shutdown.clone();
        within_grace(&shutdown, async {
            self.write(entries).await.map_err(|error| {
                apply_error(error, |id| {
                    let entry = entries.iter().find(|entry| document::id(&entry.position) == id);
                    entry.map(|entry| entry.position.clone())
                })
            })
        })
        .await
    }
}

impl Sink {
    pub(crate) fn new(config: &Config, shutdown: Shutdown) -> anyhow::Result<Self> {
        Ok(Self {
            meili: Meili::new(&config.meilisearch)?,
            template: config.index.parse().map_err(anyhow::Error::msg)?,
            retention_days: config.retention_days,
            settled: HashMap::new(),
            shutdown,
        })
    }

    /// Writes the documents of entries, and waits until they can be found.
    pub(crate) async fn write(&mut self, entries: &[Entry]) -> Result<(), Error> {
        let today = Utc::now().date_naive();
        let mut indexes = BTreeMap::<String, Vec<Document>>::new();
        for entry in entries {
            let day = entry.time.date_naive();
            if expired(day, today, self.retention_days) {
                continue;
            }
            let index = self.template.name(entry.subject.kind, day);
            indexes.entry(index).or_default().push(Document::of(entry));
        }
        // All are on their way together; Meilisearch does what is of one index in one go.
        let settings = settings();
        let mut writes: Vec<BoxFuture<'_, Result<(), Error>>> = Vec::new();
        let mut unsettled = Vec::new();
        for (index, documents) in &indexes {
            if self
                .settled
                .get(index)
                .is_none_or(|since| since.elapsed() > SETTINGS_HOLD)
            {
                unsettled.push(index.clone());
                writes.push(self.settle(index, &settings).boxed());
            }
            for chunk in chunks(documents) {
                writes.push(
                    self.meili
                        .put(index, chunk, |document| document.id().to_owned())
                        .boxed(),
                );
            }
        }
        try_join_all(writes).await?;
        if self.settled.len() + unsettled.len() > MAX_REMEMBERED {
            self.settled.clear();
        }
        self.settled
            .extend(unsettled.into_iter().map(|index| (index, Instant::now())));
        Ok(())
    }

    async fn settle(&self, index: &str, settings: &Settings) -> Result<(), Error> {
        let handle = self.meili.index(index);
        self.meili.write(index, handle.set_settings(settings)).await
    }
}

/// How the indexes are searched.
pub(crate) fn settings() -> Settings {
    Settings::new()
        .with_searchable_attributes(["text"])
        .with_filterable_attributes(["kind", "class", "subject", "broadcast_id", "type", "source", "stream"])
        .with_sortable_attributes(["seq", "time_ms"])
}

/// Cuts documents into requests of at most [`MAX_REQUEST`].
fn chunks(mut documents: &[Document]) -> Vec<&[Document]> {
    let mut chunks = Vec::new();
    while !documents.is_empty() {
        let mut bytes = 0;
        let fit = documents.iter().take_while(|document| {
            bytes += document.size();
            bytes <= MAX_REQUEST
        });
        let (chunk, rest) = documents.split_at(fit.count().max(1));
        chunks.push(chunk);
        documents = rest;
    }
    chunks
}

/// Whether entries of `day` are not kept any more.
pub(crate) fn expired(day: NaiveDate, today: NaiveDate, retention_days: u32) -> bool {
    let oldest = today.checked_sub_days(Days::new(retention_days.into()));
    retention_days > 0 && oldest.is_some_and(|oldest| day < oldest)
}

/// Drops indexes of days that are past the retention.
struct Retention {
    meili: Meili,
    template: Template,
    days: u32,
    shutdown: Shutdown,
}

impl Retention {
    async fn run(&self) {
        loop {
            let dropped = tokio::select! {
                () = self.shutdown.cancelled() => return,
                dropped = self.drop_expired() => dropped,
            };
            let wait = match dropped {
                Ok(()) => RETENTION_INTERVAL.0,
                Err(error) => {
                    tracing::warn!(error = error.with_cause(), "old indexes are dropped later");
                    RETENTION_INTERVAL.1
                }
            };
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn drop_expired(&self) -> Result<(), Error> {
        if self.days == 0 {
            return Ok(());
        }
        let today = Utc::now().date_naive();
        let mut old = index::named(&self.meili, &self.template).await?;
        old.retain(|(_, day)| expired(*day, today, self.days));
        for (index, _) in old {
            self.meili.delete_index(&index).await?;
            tracing::info!(index, "index dropped after the retention");
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "app_tests.rs"]
mod tests;
