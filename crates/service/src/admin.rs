//! `/healthz` and `/readyz` for supervisors and load balancers, `/metrics` for Prometheus.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::{Health, Shutdown};

/// The listener for health checks and metrics.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdminConfig {
    /// Address of `/healthz`, `/readyz` and `/metrics`, e.g. `127.0.0.1:9640`; empty = none. Default: none.
    pub listen: String,
}

/// `/healthz` (the process lives), `/readyz` (every part is ready: 200, else 503;
/// which are, and which stand by) and `/metrics` (what the process has counted).
pub(crate) fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route(
            "/metrics",
            get(|| async { ([(CONTENT_TYPE, castlog_metrics::CONTENT_TYPE)], castlog_metrics::text()) }),
        )
        .route(
            "/readyz",
            get(|State(health): State<Health>| async move {
                let status = if health.is_ready() {
                    StatusCode::OK
                } else {
                    StatusCode::SERVICE_UNAVAILABLE
                };
                (status, Json(health.report()))
            }),
        )
        .with_state(health)
}

/// Serves the health endpoints until the shutdown; returns at once when there is no listener.
pub(crate) async fn serve(config: &AdminConfig, health: Health, shutdown: Shutdown) -> anyhow::Result<()> {
    use anyhow::Context as _;
    if config.listen.is_empty() {
        return Ok(());
    }
    let listener = TcpListener::bind(&config.listen)
        .await
        .with_context(|| format!("cannot listen on admin.listen = {}", config.listen))?;
    tokio::spawn(async move {
        let server =
            axum::serve(listener, router(health)).with_graceful_shutdown(async move { shutdown.cancelled().await });
        if let Err(error) = server.await {
            tracing::error!(error = %error, "health endpoints ended");
        }
    });
    Ok(())
}
