//! nats-server with JetStream, set up as castlog runs it: an acknowledged
//! entry is on disk, and payloads up to 8 MiB pass.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{Process, server, tools};

/// What can differ between two test servers.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct NatsOptions {
    /// User and password that [`NatsServer::client_url`] carries; the server
    /// asks for them unless `extra` defines accounts or users of its own.
    pub credentials: Option<(String, String)>,
    /// More text for the configuration file, such as an `accounts` block.
    pub extra: String,
    /// Leaves syncing to the server's own timer. Faster, and an acknowledged
    /// entry can be lost to a power cut: not what castlog promises.
    pub lazy_sync: bool,
}

impl NatsOptions {
    /// The same options with a user and a password.
    #[must_use]
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// The same options with more configuration text.
    #[must_use]
    pub fn extra(mut self, extra: &str) -> Self {
        extra.clone_into(&mut self.extra);
        self
    }

    /// The same options without a sync per entry.
    #[must_use]
    pub const fn lazy_sync(mut self) -> Self {
        self.lazy_sync = true;
        self
    }
}

/// A running nats-server.
#[derive(Debug)]
pub struct NatsServer {
    // Before the folder: the process must be gone when its files are removed.
    process: Process,
    port: u16,
    options: NatsOptions,
    folder: TempDir,
}

impl NatsServer {
    /// Starts a server without accounts.
    ///
    /// # Errors
    /// There is no nats-server, or it does not come up.
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(NatsOptions::default()).await
    }

    /// Starts a server with options.
    ///
    /// # Errors
    /// There is no nats-server, or it does not come up.
    pub async fn start_with(options: NatsOptions) -> anyhow::Result<Self> {
        let program = tools::nats_server()?;
        let folder = server::folder("nats")?;
        let path = folder.path();
        let make = |port| {
            let config = path.join("nats.conf");
            std::fs::write(&config, configuration(path, port, &options)?)?;
            Ok(Process::new(&program, path.join("server.log")).args([Path::new("--config"), &config]))
        };
        let (port, process) = server::start(make, ready).await?;
        Ok(Self {
            process,
            port,
            options,
            folder,
        })
    }

    /// `nats://127.0.0.1:<port>`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The URL with the credentials of the options in it, as the `nats` command
    /// line client reads it. async-nats ignores credentials in a URL: give them
    /// in its options.
    #[must_use]
    pub fn client_url(&self) -> String {
        match &self.options.credentials {
            Some((user, password)) => format!("nats://{user}:{password}@127.0.0.1:{}", self.port),
            None => self.url(),
        }
    }

    /// The folder of the streams.
    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.folder.path().join("jetstream")
    }
}

server::controls!(NatsServer);

/// The server greets with `INFO {…}`; JetStream has recovered its streams by
/// the time that clients are let in.
async fn ready(port: u16, _pid: u32) -> bool {
    server::ask(port, b"", "\r\n").await.is_some_and(|info| {
        info.contains(&format!("\"server_name\":\"{}\"", server_name(port))) && info.contains("\"jetstream\":true")
    })
}

/// Tells this server from another test's that may have won the port.
fn server_name(port: u16) -> String {
    format!("castlog-test-{}-{port}", std::process::id())
}

fn configuration(folder: &Path, port: u16, options: &NatsOptions) -> anyhow::Result<String> {
    let store = serde_json::to_string(server::text(&folder.join("jetstream"))?)?;
    let sync = if options.lazy_sync { "2m" } else { "always" };
    let name = server_name(port);
    let authorization = match &options.credentials {
        Some((user, password)) if !options.extra.contains("accounts") && !options.extra.contains("authorization") => {
            format!(
                "authorization {{ user: {}, password: {} }}\n",
                serde_json::to_string(user)?,
                serde_json::to_string(password)?
            )
        }
        _ => String::new(),
    };
    // The limits are no reservation; they keep a small disk or memory from
    // making the server refuse the streams' own bounds.
    Ok(format!(
        "host: 127.0.0.1\nport: {port}\nserver_name: {name}\nmax_payload: 8388608\n\
         jetstream {{ store_dir: {store}, sync_interval: {sync}, max_memory_store: 2GB, max_file_store: 16GB }}\n\
         {authorization}{}\n",
        options.extra
    ))
}
