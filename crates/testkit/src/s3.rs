//! S3 servers over a folder: a bucket is a folder in it, an object a file.

use std::path::{Path, PathBuf};

use castlog_log::Secret;
use castlog_service::{MediaStoreConfig, open_media_store};
use futures::TryStreamExt as _;
use object_store::ObjectStore as _;
use tempfile::TempDir;

use crate::{Process, server, tools};

const BUCKET: &str = "castlog";
const PREFIX: &str = "platform";
const ACCESS_KEY_ID: &str = "castlog-test";

/// A running S3 server with one bucket.
#[derive(Debug)]
pub struct S3Server {
    process: Process,
    port: u16,
    folder: TempDir,
}

impl S3Server {
    /// Starts versitygw, which has conditional writes.
    ///
    /// # Errors
    /// There is no versitygw, or it does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        let program = tools::versitygw()?;
        Self::start_as(|port, folder| {
            // Beside the objects, for file systems without extended attributes.
            let metadata = folder.join("metadata");
            std::fs::create_dir_all(&metadata)?;
            let address = format!("127.0.0.1:{port}");
            let args = [
                "--port",
                &address,
                "--quiet",
                "posix",
                "--sidecar",
                server::text(&metadata)?,
            ];
            Ok(Process::new(&program, folder.join("server.log"))
                .args(args)
                .args([server::text(&folder.join("buckets"))?])
                .env("ROOT_ACCESS_KEY", ACCESS_KEY_ID)
                .env("ROOT_SECRET_KEY", secret(port)))
        })
        .await
    }

    /// Starts rclone's S3 server, which takes `If-None-Match` for granted and writes
    /// over what is there.
    ///
    /// # Errors
    /// There is no rclone, or it does not come up.
    pub async fn start_without_conditional_writes() -> anyhow::Result<Self> {
        let program = tools::rclone()?;
        Self::start_as(|port, folder| {
            let address = format!("127.0.0.1:{port}");
            let key = format!("{ACCESS_KEY_ID},{}", secret(port));
            let args = ["serve", "s3", "--config", "", "--addr", &address, "--auth-key", &key];
            Ok(Process::new(&program, folder.join("server.log"))
                .args(args)
                .args([server::text(&folder.join("buckets"))?]))
        })
        .await
    }

    async fn start_as(mut make: impl FnMut(u16, &Path) -> anyhow::Result<Process>) -> anyhow::Result<Self> {
        let folder = server::folder("s3")?;
        std::fs::create_dir_all(folder.path().join("buckets").join(BUCKET))?;
        let (port, process) = server::start(|port| make(port, folder.path()), ready).await?;
        Ok(Self { process, port, folder })
    }

    /// A media store in its bucket.
    #[must_use]
    pub fn media(&self) -> MediaStoreConfig {
        media(self.port)
    }

    /// The folder that holds the objects of that media store.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.path().join("buckets").join(BUCKET).join(PREFIX)
    }
}

server::controls!(S3Server);

fn media(port: u16) -> MediaStoreConfig {
    MediaStoreConfig {
        url: format!("s3://{BUCKET}/{PREFIX}"),
        endpoint: format!("http://127.0.0.1:{port}"),
        region: "us-east-1".to_owned(),
        access_key_id: ACCESS_KEY_ID.to_owned(),
        secret_access_key: Secret::new(secret(port)),
        ..MediaStoreConfig::default()
    }
}

/// One per process and port: another server, one that won the port, refuses it.
fn secret(port: u16) -> String {
    format!("castlog-test-secret-{}-{port}", std::process::id())
}

/// Ready when it lists the bucket for who knows this server's secret.
async fn ready(port: u16, _pid: u32) -> bool {
    let Ok(store) = open_media_store(&media(port)) else {
        return false;
    };
    store.list(None).try_next().await.is_ok()
}
