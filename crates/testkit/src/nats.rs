//! nats-server with JetStream, set up as castlog runs it: an acknowledged
//! entry is on disk, payloads up to 8 MiB pass, and each service is a user with
//! its own permissions. Who says nothing of who it is may do everything, as a
//! test does that plays all parts.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use castlog_log::{ConnectConfig, Log, Secret, access};
use tempfile::TempDir;

use crate::{Process, server, tools};

/// What can differ between two test servers.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct NatsOptions {
    /// User and password that [`NatsServer::client_url`] carries; the server
    /// asks for them, and knows no other user, unless `extra` defines accounts or
    /// users of its own.
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
    /// Starts a server with the users of the log.
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

    /// How a user of the log connects, such as a service by its name.
    ///
    /// # Errors
    /// There is no such user.
    pub fn user(&self, name: &str) -> anyhow::Result<ConnectConfig> {
        access::user(name).with_context(|| format!("there is no user {name}"))?;
        Ok(ConnectConfig {
            url: self.url(),
            user: name.to_owned(),
            password: Secret::new(password(name)),
            inbox_prefix: access::inbox_prefix(name),
            ..ConnectConfig::default()
        })
    }

    /// The log as a user of it sees it.
    ///
    /// # Errors
    /// There is no such user, or the server refuses it.
    pub async fn log_of(&self, name: &str) -> anyhow::Result<Log> {
        Ok(Log::connect(&self.user(name)?, name).await?)
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

/// Any will do: the server listens on loopback and holds a test's data.
fn password(user: &str) -> String {
    format!("password-of-{user}")
}

/// The users of the log, and one that is taken for whoever does not say who it is.
fn users() -> String {
    const EVERYTHING: &str = "test";
    let users = access::server_users(|user| format!("user: \"{}\", password: \"{}\"", user.name, password(user.name)));
    let others = users.strip_suffix("]\n").unwrap_or(&users);
    format!(
        "no_auth_user: {EVERYTHING}\nauthorization {{\n{others}  {{ user: {EVERYTHING}, password: \"{}\" }}\n]\n}}\n",
        password(EVERYTHING)
    )
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
        _ if options.extra.contains("accounts") || options.extra.contains("authorization") => String::new(),
        _ => users(),
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
