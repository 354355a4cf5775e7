//! Structured logs on standard error.

use std::{ffi::OsStr, io::IsTerminal as _};

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
    let colours = colours(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(colours);
    // `Err` means that a subscriber is set, which a test harness may have done.
    let _already_set = match config.format {
        LogFormat::Text => registry.with(lines.with_target(false)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .is_err();
    Ok(())
}

/// Colours are for people who look on: a file or a pipe keeps plain text, and so
/// does who asks for it (<https://no-color.org>).
fn colours(is_terminal: bool, no_color: Option<&OsStr>) -> bool {
    is_terminal && no_color.is_none_or(OsStr::is_empty)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Set for the process whose output is looked at.
    const SPEAKS: &str = "TELEMETRY_TEST_SPEAKS";

    #[test]
    fn only_a_terminal_gets_colours() {
        assert!(colours(true, None) && colours(true, Some(OsStr::new(""))));
        assert!(!colours(true, Some(OsStr::new("1"))) && !colours(false, None));
    }

    #[test]
    fn a_pipe_gets_plain_text() {
        if std::env::var_os(SPEAKS).is_some() {
            init(&TelemetryConfig::default()).unwrap();
            tracing::warn!(broadcast_id = "b1", "a line of the log");
            return;
        }
        let test = "telemetry::tests::a_pipe_gets_plain_text";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(SPEAKS, "1")
            .env_remove("NO_COLOR")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(text.contains("WARN a line of the log broadcast_id=\"b1\""), "{text:?}");
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
