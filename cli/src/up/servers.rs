//! nats-server, Redis and Meilisearch: where their programs are, how they are
//! configured, and whether they answer. Secrets go to them in files and
//! variables, never as arguments, which every user of the machine can read.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use castlog_log::{Secret, access};
use serde::Deserialize;
use serde_json::json;

use super::{
    credentials::Credentials,
    folder::{Folder, write_private},
    process::Program,
};
use crate::config::Config;

/// How long one answer may take while something starts.
const PROBE: Duration = Duration::from_secs(2);
/// How long Meilisearch may take over a key, on a machine that is busy starting.
const KEY_REQUEST: Duration = Duration::from_secs(15);

/// The servers' programs.
pub(super) struct Binaries {
    nats: PathBuf,
    redis: PathBuf,
    meilisearch: PathBuf,
}

impl Binaries {
    /// Finds all three, or tells every one that is missing.
    pub(super) fn find() -> anyhow::Result<Self> {
        let mut missing = Vec::new();
        let mut get = |name: &str| {
            find(name).unwrap_or_else(|problem| {
                missing.push(problem);
                PathBuf::new()
            })
        };
        let found = Self {
            nats: get("nats-server"),
            redis: get("redis-server"),
            meilisearch: get("meilisearch"),
        };
        if missing.is_empty() {
            Ok(found)
        } else {
            bail!("{}", missing.join("\n"))
        }
    }
}

fn find(name: &str) -> Result<PathBuf, String> {
    let variable = format!("{}_BIN", name.to_uppercase().replace('-', "_"));
    let runs = |path: &Path| {
        path.metadata()
            .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    // Children start in the data folder, so a relative path would lead elsewhere.
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    if let Some(path) = std::env::var_os(&variable) {
        let path = PathBuf::from(path);
        return if runs(&path) {
            Ok(absolute(path))
        } else {
            Err(format!(
                "{variable} names {}, which is not an executable file",
                path.display()
            ))
        };
    }
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join(name))
        .find(|path| runs(path))
        .map(absolute)
        .ok_or_else(|| format!("{name} is not on PATH: start with `./dev up`, which brings it, or set {variable}"))
}

/// A path inside double quotes, as the configuration files of NATS and Redis read it.
fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().context("the path of the data folder is not UTF-8")?;
    if text.contains(['"', '\\', '\n']) {
        bail!("the path of the data folder holds a quotation mark, a backslash or a line break");
    }
    Ok(format!("\"{text}\""))
}

/// The names of the nats-servers' processes.
const NATS: [&str; 3] = ["nats-server", "nats-server-2", "nats-server-3"];

/// One nats-server, or the servers of a cluster.
pub(super) fn nats(
    programs: &Binaries,
    folder: &Folder,
    config: &Config,
    credentials: &Credentials,
) -> anyhow::Result<Vec<Program>> {
    let single = folder.path().join("nats");
    let cluster = folder.path().join("nats-cluster");
    let clustered = config.up.nats_nodes > 1;
    // Each would start without a stream, and nobody would see why.
    let other = if clustered {
        single.join("jetstream")
    } else {
        cluster.clone()
    };
    if other.exists() {
        let (holds, wants) = if clustered {
            ("a single nats-server", "a cluster")
        } else {
            ("a cluster", "a single nats-server")
        };
        bail!(
            "the data folder holds the log of {holds}, which {wants} cannot take over: choose another folder with \
             --data DIR, or another up.nats_nodes"
        );
    }
    let users = access::server_users(|user| {
        let (name, password) = credentials.nats(user.name);
        format!("user: \"{name}\", password: \"{}\"", password.expose())
    });
    let routes: Vec<String> = config
        .up
        .nats_cluster_ports()
        .map(|port| format!("\"nats://127.0.0.1:{port}\""))
        .collect();
    let mut cluster_ports = config.up.nats_cluster_ports();
    let nodes = NATS.into_iter().zip(1..).zip(config.up.nats_ports());
    nodes
        .map(|((name, number), port)| {
            let home = if clustered {
                cluster.join(number.to_string())
            } else {
                single.clone()
            };
            std::fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
            let file = home.join("nats-server.conf");
            let route = cluster_ports.next().map_or_else(String::new, |port| {
                format!(
                    "cluster {{ name: castlog, listen: \"127.0.0.1:{port}\", routes: [{}] }}\n",
                    routes.join(", ")
                )
            });
            let server_name = if clustered {
                format!("castlog-{number}")
            } else {
                "castlog".to_owned()
            };
            // Without `always` an acknowledged entry can be lost with the machine's power.
            let text = format!(
                "server_name: {server_name}\n\
                 listen: \"127.0.0.1:{port}\"\n\
                 max_payload: 8MB\n\
                 jetstream {{ store_dir: {store}, sync_interval: always }}\n\
                 {route}\
                 authorization {{\n{users}}}\n",
                store = quoted(&home)?,
            );
            write_private(&file, &text)?;
            Ok(Program::new(name, programs.nats.clone(), folder).args(["-c".into(), file.into_os_string()]))
        })
        .collect()
}

pub(super) fn redis(
    programs: &Binaries,
    folder: &Folder,
    config: &Config,
    credentials: &Credentials,
) -> anyhow::Result<Program> {
    let home = folder.path().join("redis");
    let file = home.join("redis.conf");
    // Without `always` an entry that LiveInfo has acknowledged can be missing from its
    // view, and its change from the feed, after the machine has lost its power.
    let text = format!(
        "bind 127.0.0.1\n\
         port {port}\n\
         dir {home}\n\
         requirepass {password}\n\
         appendonly yes\n\
         appendfsync always\n\
         maxmemory-policy noeviction\n\
         daemonize no\n",
        port = config.up.redis_port,
        home = quoted(&home)?,
        password = credentials.redis_password.expose(),
    );
    write_private(&file, &text)?;
    Ok(Program::new("redis-server", programs.redis.clone(), folder).args([file]))
}

pub(super) async fn redis_answers(config: &Config) -> Option<()> {
    let ping = async {
        let client = redis::Client::open(config.redis.url.expose().as_str()).ok()?;
        let mut connection = client.get_multiplexed_async_connection().await.ok()?;
        // An error also while it still reads its data.
        redis::cmd("PING").query_async::<()>(&mut connection).await.ok()
    };
    tokio::time::timeout(PROBE, ping).await.ok()?
}

/// What Meilisearch sets aside for each batch of documents. Its default is two
/// thirds of the machine's memory: mapping that takes up to seconds while
/// encoders are busy, for documents of a kilobyte.
const INDEXING_MEMORY: &str = "256MiB";

pub(super) fn meilisearch(
    programs: &Binaries,
    folder: &Folder,
    config: &Config,
    credentials: &Credentials,
) -> anyhow::Result<Program> {
    let home = folder.path().join("meilisearch");
    Ok(Program::new("meilisearch", programs.meilisearch.clone(), folder)
        .args(["--env", "development", "--no-analytics", "--http-addr"])
        .args([format!("127.0.0.1:{}", config.up.meilisearch_port)])
        .args(["--db-path".into(), home.join("data")])
        .args(["--dump-dir".into(), home.join("dumps")])
        .args(["--snapshot-dir".into(), home.join("snapshots")])
        .args(["--max-indexing-memory", INDEXING_MEMORY])
        .env("MEILI_MASTER_KEY", credentials.meilisearch_master_key.expose())
        .env_remove("MEILI_CONFIG_FILE_PATH")
        // It reads any config.toml of the folder that it starts in.
        .folder(home))
}

fn client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    // The servers are on this machine: a proxy could not reach them.
    reqwest::Client::builder().timeout(timeout).no_proxy().build()
}

/// Whether a URL answers with success.
pub(super) async fn http_ok(url: String) -> Option<()> {
    let answer = client(PROBE).ok()?.get(url).send().await.ok()?;
    answer.status().is_success().then_some(())
}

/// Keys of Meilisearch, each for one purpose.
pub(super) struct MeilisearchKeys {
    pub(super) search: Secret<String>,
    pub(super) indexer: Secret<String>,
}

/// Meilisearch as the holder of the master key sees it.
pub(super) struct MeilisearchAdmin {
    client: reqwest::Client,
    url: String,
    master_key: Secret<String>,
}

/// The part of Meilisearch's answer that matters.
#[derive(Deserialize)]
struct Key {
    key: String,
    indexes: Vec<String>,
}

impl MeilisearchAdmin {
    pub(super) fn new(config: &Config, credentials: &Credentials) -> anyhow::Result<Self> {
        Ok(Self {
            client: client(KEY_REQUEST)?,
            url: config.meilisearch.url.clone(),
            master_key: credentials.meilisearch_master_key.clone(),
        })
    }

    fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client
            .request(method, format!("{}{path}", self.url))
            .bearer_auth(self.master_key.expose())
    }

    /// Whether it serves, and takes the master key.
    pub(super) async fn answers(&self) -> Option<()> {
        http_ok(format!("{}/health", self.url)).await?;
        let answer = self.request(reqwest::Method::GET, "/version").send().await.ok()?;
        answer.status().is_success().then_some(())
    }

    /// The keys of the services, made when they are not there.
    pub(super) async fn keys(&self, config: &Config, credentials: &Credentials) -> anyhow::Result<MeilisearchKeys> {
        let index = config.live_api.search_index.as_str();
        let writes = [
            "search",
            "documents.*",
            "indexes.*",
            "settings.*",
            "tasks.*",
            "stats.get",
            "version",
        ]
        .as_slice();
        let search = self.key(
            &credentials.meilisearch_search_uid,
            "castlog search",
            &["search"],
            index,
        );
        let indexer = self.key(&credentials.meilisearch_indexer_uid, "castlog indexer", writes, "*");
        Ok(MeilisearchKeys {
            search: search.await?,
            indexer: indexer.await?,
        })
    }

    async fn key(&self, uid: &str, name: &str, actions: &[&str], index: &str) -> anyhow::Result<Secret<String>> {
        let failed = || format!("cannot make the key {name:?} of Meilisearch");
        let path = format!("/keys/{uid}");
        let there = self
            .request(reqwest::Method::GET, &path)
            .send()
            .await
            .with_context(failed)?;
        if there.status().is_success() {
            let key: Key = there.json().await.with_context(failed)?;
            if key.indexes == [index] {
                return Ok(Secret::new(key.key));
            }
            // The indexes of a key cannot be changed.
            let removed = self.request(reqwest::Method::DELETE, &path).send().await;
            removed
                .and_then(reqwest::Response::error_for_status)
                .with_context(failed)?;
        }
        let body = json!({ "uid": uid, "name": name, "actions": actions, "indexes": [index], "expiresAt": null });
        let made = self
            .request(reqwest::Method::POST, "/keys")
            .json(&body)
            .send()
            .await
            .with_context(failed)?;
        if !made.status().is_success() {
            bail!("{}: {}", failed(), made.text().await.unwrap_or_default());
        }
        let key: Key = made.json().await.with_context(failed)?;
        Ok(Secret::new(key.key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_the_remedy() {
        let problem = find("no-such-server").unwrap_err();
        assert!(
            problem.contains("./dev up") && problem.contains("NO_SUCH_SERVER_BIN"),
            "{problem}"
        );
    }

    #[test]
    fn a_path_cannot_break_out_of_a_configuration_file() {
        assert_eq!(quoted(Path::new("/a b/c")).unwrap(), "\"/a b/c\"");
        assert!(quoted(Path::new("/a\"\nrequirepass x")).is_err());
    }
}
