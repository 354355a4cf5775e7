//! Meilisearch with a master key and without telemetry.

use std::time::Duration;

use anyhow::Context as _;
use meilisearch_sdk::{client::Client, documents::DocumentsQuery, indexes::IndexesQuery, task_info::TaskInfo};
use serde_json::Value;
use tempfile::TempDir;

use crate::{Process, server, tools};

/// Long enough for Meilisearch's own check, and worth nothing elsewhere.
const MASTER_KEY_PREFIX: &str = "castlog-test-master-key";

/// How long a task may take, on a busy machine.
const TASK_TIMEOUT: Duration = Duration::from_secs(60);
/// Documents or indexes read at a time.
const PAGE: usize = 1000;

/// A running Meilisearch.
#[derive(Debug)]
pub struct Meilisearch {
    process: Process,
    port: u16,
    master_key: String,
    // Held for its files, which must outlive the process.
    _folder: TempDir,
}

impl Meilisearch {
    /// Starts an empty server.
    ///
    /// # Errors
    /// There is no Meilisearch, or it does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        let program = tools::meilisearch()?;
        let folder = server::folder("meili")?;
        let path = folder.path();
        let make = |port: u16| {
            let args = [
                "--env".to_owned(),
                "development".to_owned(),
                "--no-analytics".to_owned(),
                "--http-addr".to_owned(),
                format!("127.0.0.1:{port}"),
                "--master-key".to_owned(),
                master_key(port),
                "--db-path".to_owned(),
                server::text(&path.join("data"))?.to_owned(),
                "--dump-dir".to_owned(),
                server::text(&path.join("dumps"))?.to_owned(),
                "--snapshot-dir".to_owned(),
                server::text(&path.join("snapshots"))?.to_owned(),
                // Tests run side by side on few cores.
                "--max-indexing-threads".to_owned(),
                "1".to_owned(),
                // The default is two thirds of the machine's, for each of them.
                "--max-indexing-memory".to_owned(),
                "64MiB".to_owned(),
            ];
            Ok(Process::new(&program, path.join("server.log"))
                .args(args)
                .env_remove("MEILI_CONFIG_FILE_PATH")
                .env("NO_COLOR", "1"))
        };
        let (port, process) = server::start(make, ready).await?;
        Ok(Self {
            process,
            port,
            master_key: master_key(port),
            _folder: folder,
        })
    }

    /// `http://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The master key.
    #[must_use]
    pub fn master_key(&self) -> &str {
        &self.master_key
    }

    /// A client that may do everything.
    ///
    /// # Errors
    /// There is no HTTP client on this machine.
    pub fn client(&self) -> anyhow::Result<Client> {
        Client::new(self.url(), Some(self.master_key())).context("cannot make a client of Meilisearch")
    }

    /// Names of all indexes, sorted.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn indexes(&self) -> anyhow::Result<Vec<String>> {
        let client = self.client()?;
        let mut query = IndexesQuery::new(&client);
        query.with_limit(PAGE);
        let found = client.list_all_indexes_with(&query).await?.results;
        let mut names: Vec<String> = found.into_iter().map(|index| index.uid).collect();
        names.sort();
        Ok(names)
    }

    /// All documents of an index, sorted by their ids.
    ///
    /// # Errors
    /// It does not answer, or there is no such index.
    pub async fn documents(&self, index: &str) -> anyhow::Result<Vec<Value>> {
        let index = self.client()?.index(index);
        let mut documents: Vec<Value> = Vec::new();
        loop {
            let mut query = DocumentsQuery::new(&index);
            query.with_offset(documents.len()).with_limit(PAGE);
            let page = index.get_documents_with(&query).await?.results;
            let last = page.len() < PAGE;
            documents.extend(page);
            if last {
                break;
            }
        }
        documents.sort_by_key(|document| document["id"].to_string());
        Ok(documents)
    }

    /// The documents that a search finds; `filter` may be empty.
    ///
    /// # Errors
    /// It does not answer, there is no such index, or the filter cannot be used.
    pub async fn search(&self, index: &str, words: &str, filter: &str) -> anyhow::Result<Vec<Value>> {
        let index = self.client()?.index(index);
        let mut search = index.search();
        search.with_query(words);
        if !filter.is_empty() {
            search.with_filter(filter);
        }
        let found = search.execute::<Value>().await?;
        Ok(found.hits.into_iter().map(|hit| hit.result).collect())
    }

    /// Waits until a task has succeeded.
    ///
    /// # Errors
    /// It failed, or takes too long.
    pub async fn done(&self, task: TaskInfo) -> anyhow::Result<()> {
        let task = task
            .wait_for_completion(&self.client()?, None, Some(TASK_TIMEOUT))
            .await?;
        anyhow::ensure!(task.is_success(), "{task:?}");
        Ok(())
    }
}

server::controls!(Meilisearch);

/// One key per process and port: a request that another server answers, one
/// that won the port, is refused there.
fn master_key(port: u16) -> String {
    format!("{MASTER_KEY_PREFIX}-{}-{port}", std::process::id())
}

/// Ready when it is healthy and knows this server's key.
async fn ready(port: u16, _pid: u32) -> bool {
    let Ok(client) = reqwest::Client::builder()
        .timeout(Duration::from_secs(2))
        .no_proxy()
        .build()
    else {
        return false;
    };
    let base = format!("http://127.0.0.1:{port}");
    let ok = |response: Result<reqwest::Response, reqwest::Error>| response.is_ok_and(|r| r.status().is_success());
    ok(client.get(format!("{base}/health")).send().await)
        && ok(client
            .get(format!("{base}/version"))
            .bearer_auth(master_key(port))
            .send()
            .await)
}
