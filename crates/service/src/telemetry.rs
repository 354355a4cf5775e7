//! Structured logs on standard error.

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, fmt, prelude::*};

/// How log lines look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Text,
    /// One JSON object per event.
    Json,
}

/// Logging of the process itself (not the castlog log).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Filter in the syntax of tracing's `EnvFilter`. Default `info`.
    pub filter: String,
    /// `text` or `json`. Default `text`.
    pub format: LogFormat,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// Starts logging. A second call in the same process changes nothing.
///
/// # Errors
/// The filter cannot be read.
pub fn init(config: &TelemetryConfig) -> anyhow::Result<()> {
    use anyhow::Context as _;
    let filter = EnvFilter::try_new(&config.filter)
        .with_context(|| format!("telemetry.filter {:?} cannot be read", config.filter))?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = fmt::layer().with_writer(std::io::stderr);
    // `Err` means that a subscriber is set, which a test harness may have done.
    let _already_set = match config.format {
        LogFormat::Text => registry.with(lines.with_target(false)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .is_err();
    Ok(())
}
