//! The archive in the object store. What decides is only ever created, never
//! replaced: every store can do that atomically, a local folder included.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use backon::{ConstantBuilder, Retryable as _};
use bytes::Bytes;
use castlog_service::MediaStore;
use futures::{StreamExt as _, TryStreamExt as _, future::ready, stream::BoxStream};
use object_store::{Error, ObjectStoreExt as _, PutMode, PutOptions, path::Path};
use serde::{Deserialize, Serialize};

use super::plan::Plan;

/// Looks at an object that is being made by somebody else, and the wait between two.
const LOOKS: usize = 50;
const LOOK: Duration = Duration::from_millis(100);

#[derive(Debug, thiserror::Error)]
#[error("it is there and cannot be found")]
struct InTheMaking;

#[derive(Clone)]
pub(crate) struct Store {
    store: MediaStore,
    prefix: String,
}

/// Where the next range of a stream begins, at least: a hint that saves walking
/// along all plans.
#[derive(Serialize, Deserialize)]
struct Progress {
    next: u64,
}

impl Store {
    pub(crate) fn new(store: &MediaStore, prefix: &str) -> Self {
        Self {
            store: store.clone(),
            prefix: prefix.to_owned(),
        }
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }

    fn plan_path(&self, stream: &str, first: u64) -> Path {
        self.path(&format!("_ranges/{stream}/{first:020}.json"))
    }

    fn progress_path(&self, stream: &str) -> Path {
        self.path(&format!("_progress/{stream}.json"))
    }

    /// The plan of the range that begins there, if somebody has claimed it.
    pub(crate) async fn plan(&self, stream: &str, first: u64) -> anyhow::Result<Option<Plan>> {
        self.read(&self.plan_path(stream, first)).await
    }

    /// Where the ranges of a stream begin that somebody has claimed, in order.
    pub(crate) async fn ranges(&self, stream: &str) -> anyhow::Result<Vec<u64>> {
        let folder = self.path(&format!("_ranges/{stream}"));
        let first = |meta: object_store::ObjectMeta| meta.location.filename()?.strip_suffix(".json")?.parse().ok();
        let listed = self.store.list(Some(&folder)).map_ok(first);
        let listed: Vec<Option<u64>> = listed.try_collect().await.context("cannot list the ranges")?;
        let mut firsts: Vec<u64> = listed.into_iter().flatten().collect();
        firsts.sort_unstable();
        Ok(firsts)
    }

    /// The paths of all files of entries, in no particular order.
    pub(crate) fn files(&self) -> BoxStream<'static, anyhow::Result<String>> {
        let folder = Path::from(self.prefix.as_str());
        let prefix = format!("{}/", self.prefix);
        let listed = self.store.list(Some(&folder)).map(move |listed| {
            let location = listed.context("cannot list the files")?.location;
            Ok(location.as_ref().strip_prefix(&prefix).unwrap_or_default().to_owned())
        });
        let is_file = |path: &String| path.starts_with("date=");
        listed.try_filter(move |path| ready(is_file(path))).boxed()
    }

    /// Claims a range; returns the plan of whoever came first, if somebody has.
    pub(crate) async fn claim(&self, plan: &Plan) -> anyhow::Result<Option<Plan>> {
        let path = self.plan_path(&plan.stream, plan.first);
        // Of two who create it at once, one may be refused before that of the other can
        // be read, which may fail yet.
        let attempt = || async {
            if self.put(&path, serde_json::to_vec(plan)?, PutMode::Create).await? {
                return Ok(None);
            }
            let stands = self.read(&path).await?;
            stands.map(Some).ok_or_else(|| InTheMaking.into())
        };
        let refused = attempt
            .retry(ConstantBuilder::default().with_delay(LOOK).with_max_times(LOOKS))
            .when(anyhow::Error::is::<InTheMaking>)
            .await;
        refused.with_context(|| format!("cannot claim {path}"))
    }

    /// The files of a plan that are not there.
    pub(crate) async fn missing(&self, plan: &Plan) -> anyhow::Result<BTreeSet<String>> {
        let mut missing = BTreeSet::new();
        for file in &plan.files {
            let path = self.path(&file.path);
            match self.store.head(&path).await {
                Ok(_) => {}
                Err(Error::NotFound { .. }) => {
                    missing.insert(file.path.clone());
                }
                Err(error) => return Err(error).with_context(|| format!("cannot look for {path}")),
            }
        }
        Ok(missing)
    }

    /// Creates a file, unless it is there.
    pub(crate) async fn create(&self, path: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.put(&self.path(path), bytes, PutMode::Create).await.map(drop)
    }

    /// The bytes of a file; `None` when it is not there.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<Option<Bytes>> {
        self.bytes(&self.path(path)).await
    }

    /// Puts a file in the place of one that is spoilt: readers see the one or the other.
    pub(crate) async fn replace(&self, path: &str, bytes: Vec<u8>) -> anyhow::Result<()> {
        self.put(&self.path(path), bytes, PutMode::Overwrite).await.map(drop)
    }

    /// As [`Self::replace`], for a plan.
    pub(crate) async fn replace_plan(&self, plan: &Plan) -> anyhow::Result<()> {
        let path = self.plan_path(&plan.stream, plan.first);
        let bytes = serde_json::to_vec(plan)?;
        self.put(&path, bytes, PutMode::Overwrite).await.map(drop)
    }

    pub(crate) async fn remove(&self, path: &str) -> anyhow::Result<()> {
        let path = self.path(path);
        match self.store.delete(&path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot remove {path}")),
        }
    }

    pub(crate) async fn progress(&self, stream: &str) -> anyhow::Result<Option<u64>> {
        let progress: Option<Progress> = self.read(&self.progress_path(stream)).await?;
        Ok(progress.map(|progress| progress.next))
    }

    pub(crate) async fn set_progress(&self, stream: &str, next: u64) -> anyhow::Result<()> {
        let bytes = serde_json::to_vec(&Progress { next })?;
        let path = self.progress_path(stream);
        self.put(&path, bytes, PutMode::Overwrite).await.map(drop)
    }

    async fn read<T: for<'d> Deserialize<'d>>(&self, path: &Path) -> anyhow::Result<Option<T>> {
        let read = |bytes: Bytes| serde_json::from_slice(&bytes).with_context(|| format!("{path} cannot be read"));
        self.bytes(path).await?.map(read).transpose()
    }

    async fn bytes(&self, path: &Path) -> anyhow::Result<Option<Bytes>> {
        let found = match self.store.get(path).await {
            Ok(found) => found.bytes().await,
            Err(error) => Err(error),
        };
        match found {
            Ok(bytes) => Ok(Some(bytes)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {path}")),
        }
    }

    /// Writes an object; `false` when it is there and only to be created.
    async fn put(&self, path: &Path, bytes: Vec<u8>, mode: PutMode) -> anyhow::Result<bool> {
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        match self.store.put_opts(path, bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot write {path}")),
        }
    }
}
