//! redis-server. Nothing is persisted unless the test asks for it.

use std::time::Duration;

use ::redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};
use tempfile::TempDir;

use crate::{Process, server, tools};

/// How long a command of a test may take: the client's own half second is soon over
/// where the machine is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to the Redis at `url`, for a look that does not give up early.
///
/// # Errors
/// The URL is none, or nothing answers there.
pub async fn redis_connection(url: &str) -> anyhow::Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(PATIENCE))
        .set_response_timeout(Some(PATIENCE));
    Ok(Client::open(url)?
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}

/// A running redis-server.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: u16,
    // Held for its files, which must outlive the process.
    _folder: TempDir,
}

impl RedisServer {
    /// Starts a server that keeps everything in memory: a restart empties it.
    ///
    /// # Errors
    /// There is no redis-server, or it does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// Starts a server with settings of its configuration file, such as
    /// `("appendonly", "yes"), ("appendfsync", "always")`.
    ///
    /// # Errors
    /// There is no redis-server, or it does not come up with these settings.
    pub async fn start_with(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let program = tools::redis_server()?;
        let folder = server::folder("redis")?;
        let path = folder.path();
        let directory = server::text(path)?.to_owned();
        let make = |port: u16| {
            let port = port.to_string();
            let mut args = vec![
                "--port",
                &port,
                "--bind",
                "127.0.0.1",
                "--dir",
                &directory,
                "--save",
                "",
            ];
            args.extend(["--daemonize", "no", "--appendonly", "no"]);
            let mut args: Vec<String> = args.into_iter().map(str::to_owned).collect();
            for (key, value) in settings {
                args.extend([format!("--{key}"), (*value).to_owned()]);
            }
            Ok(Process::new(&program, path.join("server.log")).args(args))
        };
        let (port, process) = server::start(make, ready).await?;
        Ok(Self {
            process,
            port,
            _folder: folder,
        })
    }

    /// `redis://127.0.0.1:<port>/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.port)
    }
}

server::controls!(RedisServer);

/// Ready when it reports itself by its process id (another server may have won
/// the port) and has read its files.
async fn ready(port: u16, pid: u32) -> bool {
    let Some(info) = server::ask(port, b"INFO server\r\nINFO persistence\r\n", "\r\naof_enabled:").await else {
        return false;
    };
    info.contains(&format!("process_id:{pid}\r\n")) && info.contains("\r\nloading:0\r\n")
}
