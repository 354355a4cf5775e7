//! Start order of the HLS server, and its orderly end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use axum::{
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use castlog_log::Publisher;
use castlog_service::{Bounded, Certificate, Context, Https, Peer, Places, Shutdown, Tasks};
use chrono::Utc;
use tokio::net::TcpListener;

use crate::{
    cache::Cache,
    config::Config,
    follow::{self, Shared},
    http::{self, Edge},
    recording::Recordings,
    viewers::{self, Audience},
};

/// How long transfers in flight may take to finish after the shutdown began.
const GRACE: Duration = Duration::from_secs(10);
/// How often broadcasts that ended long enough ago are freed.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(5);

/// A running HLS server.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    https: Option<SocketAddr>,
    tasks: Tasks,
}

impl Running {
    /// The address that viewers connect to.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that viewers connect to by HTTPS, if it is on.
    #[must_use]
    pub const fn https(&self) -> Option<SocketAddr> {
        self.https
    }

    /// Waits until the server has finished after a shutdown.
    ///
    /// # Errors
    /// A task failed.
    pub async fn wait(self) -> anyhow::Result<()> {
        self.tasks.wait().await
    }
}

/// Starts the HLS server. It answers at once, with 503 until it has read what is live.
///
/// # Errors
/// The configuration cannot be used, an address is taken, or the certificate unusable.
pub async fn start(config: Config, ctx: Context) -> anyhow::Result<Running> {
    let problems = config.validate();
    if !problems.is_empty() {
        bail!("{}", problems.join("\n"));
    }
    let listener = bind("hls.listen", &config.listen).await?;
    let address = listener.local_addr()?;
    let places = Places::new(config.max_connections);
    let listener = Bounded::new(listener, places.clone(), config.idle_timeout());
    let https = match config.tls_listen {
        None => None,
        Some(address) => {
            let listener = bind("hls.tls_listen", &address.to_string()).await?;
            let certificate = Certificate::open("HTTPS", config.certificate())?;
            Some((
                Https::new(Bounded::new(listener, places, config.idle_timeout()), &certificate)?,
                certificate,
            ))
        }
    };
    let shared = Shared::new(config.rules(), Cache::new(config.cache_bytes));
    let audience = Arc::new(Audience::default());
    let edge = Edge::new(
        shared.clone(),
        Recordings::new(ctx.log.clone(), &config.media_base),
        ctx.media.clone(),
        &config,
        Arc::clone(&audience),
        ctx.shutdown.clone(),
    );
    ctx.health.set(follow::PART, false);
    let mut tasks = Tasks::new(&ctx.shutdown);
    let (log, health, shutdown) = (ctx.log.clone(), ctx.health.clone(), ctx.shutdown.clone());
    let followed = shared.clone();
    tasks.spawn("follow", async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = follow::follow(log, followed, health) => {}
        }
        Ok(())
    });
    let shutdown = ctx.shutdown.clone();
    tasks.spawn("expire", async move {
        let mut interval = tokio::time::interval(EXPIRY_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = interval.tick() => shared.expire(Utc::now()),
            }
        }
    });
    let (publisher, shutdown) = (Publisher::new(&ctx.log, "hls"), ctx.shutdown.clone());
    tasks.spawn("viewers", async move {
        viewers::publish(&audience, &publisher, &config.edge, &shutdown).await;
        Ok(())
    });
    let service = http::service(edge);
    let mut https_address = None;
    if let Some((listener, certificate)) = https {
        https_address = Some(Listener::local_addr(&listener)?);
        let shutdown = ctx.shutdown.clone();
        tasks.spawn("https certificate", async move {
            certificate.follow(&shutdown).await;
            Ok(())
        });
        tasks.spawn("https", serve(listener, service.clone(), ctx.shutdown.clone()));
    }
    tasks.spawn("http", serve(listener, service, ctx.shutdown.clone()));
    tracing::info!(address = %address, https = ?https_address, "hls listens");
    Ok(Running {
        address,
        https: https_address,
        tasks,
    })
}

async fn bind(name: &str, address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {name} = {address}"))
}

/// Runs the HLS server until the shutdown.
///
/// # Errors
/// See [`start`] and [`Running::wait`].
pub async fn run(config: Config, ctx: Context) -> anyhow::Result<()> {
    start(config, ctx).await?.wait().await
}

async fn serve<L>(listener: L, service: http::Service, shutdown: Shutdown) -> anyhow::Result<()>
where
    L: Listener<Addr = SocketAddr>,
    Peer: for<'a> Connected<IncomingStream<'a, L>>,
{
    let begun = shutdown.clone();
    let server = axum::serve(listener, service).with_graceful_shutdown(async move { begun.cancelled().await });
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        ended = server => ended.context("the HTTP server ended"),
        () = too_late => {
            tracing::warn!("transfers cut off at shutdown");
            Ok(())
        }
    }
}
