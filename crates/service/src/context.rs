//! What a service is given when it starts.

use std::time::Duration;

use castlog_log::{ConnectConfig, ConnectError, Log};

use crate::{AdminConfig, Health, MediaStore, Shutdown, admin};

/// Handles that all services of a process share. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Context {
    /// The log.
    pub log: Log,
    /// Where media is stored.
    pub media: MediaStore,
    /// When to finish.
    pub shutdown: Shutdown,
    /// Where a service says that it is ready.
    pub health: Health,
}

impl Context {
    /// Puts a context together and starts the health endpoints.
    ///
    /// # Errors
    /// The address of the health endpoints is taken.
    pub async fn start(log: Log, media: MediaStore, shutdown: Shutdown, admin: &AdminConfig) -> anyhow::Result<Self> {
        let health = Health::default();
        admin::serve(admin, health.clone(), shutdown.clone()).await?;
        Ok(Self {
            log,
            media,
            shutdown,
            health,
        })
    }
}

/// Connects to the log, waiting for a server that is not there yet; `None` when
/// the shutdown came first.
///
/// # Errors
/// The server refuses the credentials, or they cannot be read.
pub async fn connect_log(config: &ConnectConfig, name: &str, shutdown: &Shutdown) -> Result<Option<Log>, ConnectError> {
    /// Wait between two attempts.
    const DELAY: Duration = Duration::from_millis(500);
    loop {
        match Log::connect(config, name).await {
            Ok(log) => return Ok(Some(log)),
            Err(ConnectError::Connect { url, source })
                if !matches!(
                    source.kind(),
                    async_nats::ConnectErrorKind::Authentication
                        | async_nats::ConnectErrorKind::AuthorizationViolation
                        | async_nats::ConnectErrorKind::ServerParse
                ) =>
            {
                tracing::warn!(url, error = %source, "waiting for NATS");
            }
            Err(error) => return Err(error),
        }
        tokio::select! {
            () = shutdown.cancelled() => return Ok(None),
            () = tokio::time::sleep(DELAY) => {}
        }
    }
}
