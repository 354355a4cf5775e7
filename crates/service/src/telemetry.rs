//! Structured logs on standard error, and traces to a collector of OpenTelemetry.
//!
//! What is logged and what is traced are kept apart: the spans of traces are those
//! on the target [`castlog_log::trace::TARGET`]. Log lines leave them out, and name
//! the trace and the span that they were written in instead. Without a collector no
//! such span is made.

mod export;
mod lines;

use std::{ffi::OsStr, io::IsTerminal as _, time::Duration};

use anyhow::Context as _;
use castlog_log::trace::TARGET;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter,
    filter::{FilterExt as _, LevelFilter, filter_fn},
    prelude::*,
};
use url::Url;

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

/// Logging of the process itself (not the castlog log), and traces.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Filter in the syntax of tracing's `EnvFilter`. Default `info`.
    pub filter: String,
    /// `text` or `json`. Default `text`.
    pub format: LogFormat,
    /// URL of a collector that takes OTLP over HTTP, to which `/v1/traces` is added,
    /// e.g. `http://127.0.0.1:4318`; empty = no traces. Default: none.
    pub otlp_endpoint: String,
    /// Share of all traces that is exported, decided by the trace id: the same in all
    /// services. 0 to 1. Default 1.
    pub sample_ratio: f64,
}

impl Default for TelemetryConfig {
    fn default() -> Self {
        Self {
            filter: "info".to_owned(),
            format: LogFormat::Text,
            otlp_endpoint: String::new(),
            sample_ratio: 1.0,
        }
    }
}

impl TelemetryConfig {
    /// All that is wrong with the values; empty when they can be used.
    #[must_use]
    pub fn validate(&self) -> Vec<String> {
        let mut problems = Vec::new();
        // The URL is logged when the collector is away: it may hold no secret.
        let is_plain = |url: &Url| {
            matches!(url.scheme(), "http" | "https")
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        if !self.otlp_endpoint.is_empty() && !Url::parse(&self.otlp_endpoint).is_ok_and(|url| is_plain(&url)) {
            problems.push(
                "otlp_endpoint is not a URL like http://127.0.0.1:4318, without user, password and query \
                 (headers for the collector go into OTEL_EXPORTER_OTLP_HEADERS)"
                    .to_owned(),
            );
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            problems.push(format!("sample_ratio = {} is not within 0 to 1", self.sample_ratio));
        }
        problems
    }
}

/// What is to be done about telemetry at the end of a process.
#[derive(Debug, Default)]
#[must_use = "spans that wait are lost without `finish`"]
pub struct Telemetry(Option<SdkTracerProvider>);

impl Telemetry {
    /// Exports the spans that wait, for at most `within`.
    pub async fn finish(self, within: Duration) {
        let Some(provider) = self.0 else { return };
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(within)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::warn!("spans that waited are not exported");
        }
    }
}

/// Starts logging. A second call in the same process changes nothing.
///
/// # Errors
/// The filter cannot be read.
pub fn init(config: &TelemetryConfig) -> anyhow::Result<()> {
    install(config, None).map(drop)
}

/// Starts logging, and the export of traces in the name of `service` where a
/// collector is configured. The collector need not be there: until it is, spans
/// are dropped and counted. A second call in the same process changes nothing.
///
/// # Errors
/// The filter cannot be read, or the exporter cannot be made.
///
/// # Panics
/// Outside of a tokio runtime.
pub fn init_traced(config: &TelemetryConfig, service: &str) -> anyhow::Result<Telemetry> {
    if config.otlp_endpoint.is_empty() {
        return install(config, None).map(|_| Telemetry::default());
    }
    let provider = export::provider(&config.otlp_endpoint, config.sample_ratio, service)?;
    let installed = install(config, Some(provider.tracer("castlog")))?;
    Ok(Telemetry(installed.then_some(provider)))
}

/// Whether this call has set what all spans and events go to.
fn install(config: &TelemetryConfig, tracer: Option<SdkTracer>) -> anyhow::Result<bool> {
    let filter = EnvFilter::try_new(&config.filter)
        .with_context(|| format!("telemetry.filter {:?} cannot be read", config.filter))?;
    let colours = colours(std::io::stderr().is_terminal(), std::env::var_os("NO_COLOR").as_deref());
    // The hints keep what no line is made of as cheap as with `filter` alone.
    let is_logged = filter_fn(|of| of.target() != TARGET).with_max_level_hint(LevelFilter::TRACE);
    let lines = lines::layer(config.format, colours).with_filter(filter.and(is_logged));
    let exports = tracer.is_some();
    // The filter is there without an exporter, too: a layer that is missing wants all spans.
    let is_traced = filter_fn(move |of| exports && of.is_span() && of.target() == TARGET);
    let spans = tracer
        .map(|tracer| {
            tracing_opentelemetry::layer()
                .with_tracer(tracer)
                // Where in the code a span is made says less than its name.
                .with_location(false)
                .with_target(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
        })
        .with_filter(is_traced.with_max_level_hint(if exports { LevelFilter::INFO } else { LevelFilter::OFF }));
    let registry = tracing_subscriber::registry().with(spans).with(lines);
    // `Err` means that a subscriber is set, which a test harness may have done.
    Ok(registry.try_init().is_ok())
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

    /// What this test program writes to standard error when it runs `test` alone.
    fn said(test: &str) -> String {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("telemetry::tests::{test}"), "--nocapture"])
            .env(SPEAKS, "1")
            .env_remove("NO_COLOR")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        text
    }

    /// Writes a line within a span of the log and one of a trace; whether the latter
    /// is made.
    fn speak() -> bool {
        let outer = tracing::info_span!("request", path = "/v1");
        let _outer = outer.enter();
        let traced = tracing::info_span!(target: TARGET, "traced", hidden = "field");
        let _traced = traced.enter();
        tracing::warn!(broadcast_id = "b1", "a line of the log");
        assert_eq!(LevelFilter::current(), LevelFilter::INFO);
        !traced.is_disabled()
    }

    #[test]
    fn only_a_terminal_gets_colours() {
        assert!(colours(true, None) && colours(true, Some(OsStr::new(""))));
        assert!(!colours(true, Some(OsStr::new("1"))) && !colours(false, None));
    }

    #[test]
    fn a_pipe_gets_plain_text() {
        if std::env::var_os(SPEAKS).is_some() {
            init(&TelemetryConfig::default()).unwrap();
            assert!(!speak(), "without a collector, nothing is made of a span");
            return;
        }
        let text = said("a_pipe_gets_plain_text");
        assert!(
            text.contains("WARN request{path=\"/v1\"}: a line of the log broadcast_id=\"b1\"\n"),
            "{text:?}"
        );
        assert!(!text.contains('\u{1b}') && !text.contains("trace"), "{text:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn lines_of_a_trace_name_it() {
        if std::env::var_os(SPEAKS).is_some() {
            let config = TelemetryConfig {
                // Nobody listens there, which the lines do not mind.
                otlp_endpoint: "http://127.0.0.1:9".to_owned(),
                ..TelemetryConfig::default()
            };
            drop(init_traced(&config, "test").unwrap());
            assert!(speak());
            return;
        }
        let text = said("lines_of_a_trace_name_it");
        let line = text.lines().find(|line| line.contains("a line of the log")).unwrap();
        assert!(
            line.contains("WARN request{path=\"/v1\"}: a line of the log broadcast_id=\"b1\" trace_id="),
            "{line:?}"
        );
        let id = |name: &str| line.split_once(name).unwrap().1.split(' ').next().unwrap().len();
        assert_eq!((id("trace_id="), id("span_id=")), (32, 16), "{line:?}");
        assert!(!line.contains("hidden"), "{line:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn so_do_lines_in_json() {
        if std::env::var_os(SPEAKS).is_some() {
            let config = TelemetryConfig {
                format: LogFormat::Json,
                otlp_endpoint: "http://127.0.0.1:9".to_owned(),
                ..TelemetryConfig::default()
            };
            drop(init_traced(&config, "test").unwrap());
            tracing::warn!("outside of a trace");
            assert!(speak());
            return;
        }
        let text = said("so_do_lines_in_json");
        let lines: Vec<serde_json::Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let of = |message: &str| lines.iter().find(|line| line["message"] == message).unwrap();
        let line = of("a line of the log");
        assert_eq!(line["trace_id"].as_str().unwrap().len(), 32, "{line}");
        assert_eq!(line["span_id"].as_str().unwrap().len(), 16, "{line}");
        assert_eq!(line["broadcast_id"], "b1");
        assert!(of("outside of a trace").get("trace_id").is_none());
    }

    #[test]
    fn a_collector_is_named_without_secrets() {
        let problems = |otlp_endpoint: &str, sample_ratio| {
            let config = TelemetryConfig {
                otlp_endpoint: otlp_endpoint.to_owned(),
                sample_ratio,
                ..TelemetryConfig::default()
            };
            config.validate().len()
        };
        assert_eq!(problems("", 1.0), 0);
        assert_eq!(problems("http://127.0.0.1:4318", 0.0), 0);
        assert_eq!(problems("https://collector.example/otlp/", 0.25), 0);
        for bad in [
            "collector:4318",
            "ftp://a/",
            "http://user:pw@a/",
            "http://a/?token=1",
            "here",
        ] {
            assert_eq!(problems(bad, 1.0), 1, "{bad}");
        }
        for bad in [-0.1, 1.1, f64::NAN] {
            assert_eq!(problems("", bad), 1, "{bad}");
        }
    }
}
