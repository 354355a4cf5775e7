//! Start and end of the server, in order.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use castlog_service::{Certificate, Context, Tasks};
use tokio::net::TcpListener;

use crate::{
    Config, http,
    listen::{self, Guests},
    log, refused,
    server::Server,
    threads::Threads,
};

/// How long live sessions get at the end to be logged as interrupted.
const FINISH: Duration = Duration::from_secs(10);
const PART: &str = "rtmp";

/// The server at work, and the addresses that it is bound to.
#[derive(Debug)]
pub struct Running {
    /// RTMP.
    pub rtmp: SocketAddr,
    /// RTMPS, if it is on.
    pub rtmps: Option<SocketAddr>,
    /// HTTP-FLV.
    pub flv: SocketAddr,
    tasks: Tasks,
}

impl Running {
    /// Returns when the shutdown has come and everything in flight is finished.
    ///
    /// # Errors
    /// A part of the server failed.
    pub async fn wait(self) -> anyhow::Result<()> {
        self.tasks.wait().await
    }
}

/// Runs the server until the shutdown.
///
/// # Errors
/// It cannot start, or a part of it failed.
pub async fn run(config: Config, ctx: Context) -> anyhow::Result<()> {
    start(config, ctx).await?.wait().await
}

/// Binds the listeners and starts the server. It is ready, by the context's health,
/// once it has read the publish keys; until then encoders are refused.
///
/// # Errors
/// The configuration is wrong, an address is taken, or the certificate unusable.
pub async fn start(config: Config, ctx: Context) -> anyhow::Result<Running> {
    let problems = config.validate();
    ensure!(problems.is_empty(), "rtmp: {}", problems.join("; "));
    ctx.health.set(PART, false);
    refused::announce();

    let rtmp_listener = bind("rtmp.listen", config.listen).await?;
    let rtmps_listener = match config.tls_listen {
        Some(address) => Some((
            bind("rtmp.tls_listen", address).await?,
            Certificate::open("RTMPS", config.certificate())?,
        )),
        None => None,
    };
    let flv_listener = bind("rtmp.flv_listen", config.flv_listen).await?;
    let rtmp = rtmp_listener.local_addr()?;
    let rtmps = rtmps_listener
        .as_ref()
        .map(|(listener, _)| listener.local_addr())
        .transpose()?;
    let flv = flv_listener.local_addr()?;

    let ingest_base = config.flv_public_url.clone().unwrap_or_else(|| format!("http://{flv}"));
    let guests = Guests::new(config.max_connections, config.max_connections_per_address);
    let threads = Arc::new(Threads::start(config.threads()).context("cannot start the threads of the RTMP server")?);
    let server = Arc::new(Server::new(config, &ctx.log, &ctx.shutdown, ingest_base));

    let mut tasks = Tasks::new(&ctx.shutdown);
    let health = ctx.health.clone();
    tasks.spawn(
        "rtmp keys",
        log::follow_keys(server.clone(), move || health.set(PART, true)),
    );
    tasks.spawn(
        "rtmp listener",
        listen::listen(rtmp_listener, None, server.clone(), guests.clone(), threads.clone()),
    );
    if let Some((listener, certificate)) = rtmps_listener {
        let tls = certificate.acceptor(&[])?;
        let shutdown = ctx.shutdown.clone();
        tasks.spawn("rtmps certificate", async move {
            certificate.follow(&shutdown).await;
            Ok(())
        });
        tasks.spawn(
            "rtmps listener",
            listen::listen(listener, Some(tls), server.clone(), guests, threads.clone()),
        );
    }
    tasks.spawn("rtmp sessions", finish(server, threads, flv_listener, ctx));
    tracing::info!(%rtmp, ?rtmps, %flv, "RTMP server started");
    Ok(Running {
        rtmp,
        rtmps,
        flv,
        tasks,
    })
}

async fn bind(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {name} = {address}"))
}

/// Serves HTTP-FLV until the shutdown; then lets every connection log its end, and
/// only then lets the readers go: they see what the log says.
async fn finish(server: Arc<Server>, threads: Arc<Threads>, flv: TcpListener, ctx: Context) -> anyhow::Result<()> {
    let ended = tokio_util::sync::CancellationToken::new();
    let until = ended.clone();
    let router = http::router(server.clone());
    let http = tokio::spawn(async move {
        axum::serve(flv, router)
            .with_graceful_shutdown(async move { until.cancelled().await })
            .await
    });
    ctx.shutdown.cancelled().await;
    ctx.health.set(PART, false);
    server.tasks.close();
    if tokio::time::timeout(FINISH, server.tasks.wait()).await.is_err() {
        tracing::error!(
            left = server.tasks.len(),
            "the log did not take the last entries in time"
        );
        server.abandon.cancel();
    }
    drop(threads);
    server.streams.close_all();
    ended.cancel();
    // A reader that does not read is no reason to stay.
    match tokio::time::timeout(Duration::from_secs(2), http).await {
        Ok(joined) => joined
            .context("HTTP-FLV listener panicked")?
            .context("HTTP-FLV listener failed"),
        Err(_) => Ok(()),
    }
}
