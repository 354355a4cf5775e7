//! What every castlog process needs: configuration in layers, structured logs, traces,
//! health endpoints, supervised tasks and an orderly end.
//!
//! It knows no service. A service is a function
//! `run(config, Context) -> anyhow::Result<()>` that returns when
//! [`Shutdown`] fires and what was in flight is finished.

mod admin;
mod config;
mod context;
mod health;
mod listener;
mod shutdown;
mod store;
mod supervise;
mod telemetry;
mod tls;

pub use admin::AdminConfig;
pub use config::{ConfigError, load};
pub use context::{Context, connect_log};
pub use health::Health;
pub use listener::{Bounded, Connection, Peer, Places};
pub use shutdown::{Shutdown, on_signals};
pub use store::{
    MediaAccess, MediaStore, MediaStoreConfig, MediaStoreError, media_store_answers, media_store_ready, no_media_store,
    open_media_store,
};
pub use supervise::Tasks;
pub use telemetry::{LogFormat, Telemetry, TelemetryConfig, init as init_telemetry, init_traced};
pub use tls::{Certificate, CertificateFiles, Https};

/// Exit code for a configuration that cannot be used (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: i32 = 64;
