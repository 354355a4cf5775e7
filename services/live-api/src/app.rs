//! Start order of the Live API, and its orderly end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use castlog_service::{Bounded, Context, Places, Shutdown, Tasks};
use tokio::{net::TcpListener, sync::Semaphore};

use crate::{
    auth::Tokens,
    command::Commands,
    config::Config,
    http::{self, Api},
    info::Info,
    search::Search,
    statistics::LiveStatistics,
};

/// How long requests in flight may take to finish after the shutdown began.
const GRACE: Duration = Duration::from_secs(10);

/// A running Live API.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    tasks: Tasks,
}

impl Running {
    /// The address of the API and the web UI.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the server has finished after a shutdown.
    ///
    /// # Errors
    /// A task failed.
    pub async fn wait(self) -> anyhow::Result<()> {
        self.tasks.wait().await
    }
}

/// Starts the Live API. It needs neither Redis nor Meilisearch to start: what
/// reads them answers 503 until they are there.
///
/// # Errors
/// The configuration cannot be used, or the address is taken.
pub async fn start(config: Config, ctx: Context) -> anyhow::Result<Running> {
    let problems = config.validate();
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    let listener = TcpListener::bind(&config.listen)
        .await
        .with_context(|| format!("cannot listen on live_api.listen = {}", config.listen))?;
    let address = listener.local_addr()?;
    if config.admin_token.expose().is_empty() {
        tracing::warn!("no admin token is configured: the Live API takes no commands");
    }
    let statistics = LiveStatistics::default();
    let api = Arc::new(Api {
        statistics: statistics.clone(),
        tokens: Tokens::new(&config.admin_token),
        commands: Commands::new(&ctx.log, &config.owner),
        info: Info::new(&config.redis).context("live_api.redis cannot be used")?,
        search: Search::new(&config.meilisearch, &config.search_index)
            .context("live_api.meilisearch cannot be used")?,
        log: ctx.log.clone(),
        health: ctx.health.clone(),
        shutdown: ctx.shutdown.clone(),
        event_readers: Arc::new(Semaphore::new(config.max_event_readers)),
        config,
    });
    let listener = Bounded::new(
        listener,
        Places::new(api.config.max_connections),
        api.config.idle_timeout(),
    );
    let mut tasks = Tasks::new(&ctx.shutdown);
    tasks.spawn("http", serve(listener, api, ctx.shutdown.clone()));
    tasks.spawn("statistics", statistics.follow(ctx.log.clone(), ctx.shutdown.clone()));
    ctx.health.set("live_api", true);
    tracing::info!(address = %address, "live-api listens");
    Ok(Running { address, tasks })
}

/// Runs the Live API until the shutdown.
///
/// # Errors
/// See [`start`] and [`Running::wait`].
pub async fn run(config: Config, ctx: Context) -> anyhow::Result<()> {
    start(config, ctx).await?.wait().await
}

async fn serve(listener: Bounded, api: Arc<Api>, shutdown: Shutdown) -> anyhow::Result<()> {
    let begun = shutdown.clone();
    let server =
        axum::serve(listener, http::router(api)).with_graceful_shutdown(async move { begun.cancelled().await });
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = server => ended.context("the HTTP server ended"),
        () = too_late => {
            tracing::warn!("requests cut off at shutdown");
            Ok(())
        }
    }
}
