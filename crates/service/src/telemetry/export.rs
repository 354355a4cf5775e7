//! Spans to a collector by OTLP over HTTP, in batches, on a thread of their own.
//!
//! The way of a span ends here whatever the collector does: what it does not take
//! is dropped, counted, and told once in a while. Nobody waits for it.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use castlog_log::EntryId;
use castlog_metrics::{Dropped, metrics};
use opentelemetry::{Context, KeyValue};
use opentelemetry_http::{HttpClient, HttpError, Request, Response, ResponseBodyTooLarge};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, ParentBasedSampler, Sampler, SdkTracerProvider, Span, SpanData,
        SpanExporter as ExportsSpans, SpanProcessor,
    },
};
use tokio::runtime::Handle;

/// Spans that wait or are on their way, about 1 KB each: four times what the largest
/// batch of a projection ends at once.
const QUEUE: usize = 8192;
/// Most spans of one request.
const BATCH: usize = 512;
/// How long a span waits for others.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long the collector may take for a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of an answer, which says little more than that all is well.
const ANSWER: usize = 64 * 1024;
/// Between two lines of the log about spans that were dropped.
const TELL_INTERVAL: Duration = Duration::from_secs(60);

/// What makes spans in the name of `service` and exports them.
pub(super) fn provider(endpoint: &str, ratio: f64, service: &str) -> anyhow::Result<SdkTracerProvider> {
    let url = format!("{}/v1/traces", endpoint.trim_end_matches('/'));
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        // A collector is near; one that is far is reached through one that is near.
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .context("cannot make an HTTP client")?;
    let exporter = SpanExporter::builder()
        .with_http()
        .with_endpoint(&url)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(TIMEOUT)
        .with_http_client(Http {
            client,
            runtime: Handle::current(),
        })
        .build()
        .with_context(|| format!("cannot export traces to telemetry.otlp_endpoint = {endpoint}"))?;
    let queue = Arc::new(Queue::default());
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(INTERVAL)
        .build();
    let exporter = Exporter {
        to: exporter,
        url,
        queue: Arc::clone(&queue),
        told: Mutex::new(None),
    };
    let processor = Processor {
        batches: BatchSpanProcessor::new(exporter, batches),
        queue,
    };
    // With what OTEL_RESOURCE_ATTRIBUTES says, but for what is known better here.
    let resource = Resource::builder().with_attributes([
        KeyValue::new("service.name", service.to_owned()),
        KeyValue::new("service.namespace", "castlog"),
        KeyValue::new("service.instance.id", EntryId::generate().to_string()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ]);
    Ok(SdkTracerProvider::builder()
        .with_sampler(sampler(ratio))
        .with_resource(resource.build())
        .with_span_processor(processor)
        .build())
}

/// By the trace id alone, so that all services decide the same of a trace, and so
/// that callers cannot ask for more. What a caller does not want traced is not.
fn sampler(ratio: f64) -> ParentBasedSampler {
    let share = || Sampler::TraceIdRatioBased(ratio);
    Sampler::parent_based(share()).with_remote_parent_sampled(share())
}

/// How many spans wait, and how many have been dropped and not been told of.
#[derive(Debug, Default)]
struct Queue {
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl Queue {
    fn enter(&self) -> bool {
        let entered = self.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE;
        if !entered {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.give_up(1, "queue_full");
        }
        entered
    }

    fn give_up(&self, spans: usize, reason: &'static str) {
        let spans = u64::try_from(spans).unwrap_or(u64::MAX);
        self.dropped.fetch_add(spans, Ordering::Relaxed);
        let counter = metrics().spans_dropped.get_or_create(&Dropped { reason });
        counter.inc_by(spans);
    }
}

/// Bounds what the SDK's processor holds, which drops in silence.
#[derive(Debug)]
struct Processor {
    batches: BatchSpanProcessor,
    queue: Arc<Queue>,
}

impl SpanProcessor for Processor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.batches.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.queue.enter() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// Counts what becomes of spans.
#[derive(Debug)]
struct Exporter {
    to: SpanExporter,
    url: String,
    queue: Arc<Queue>,
    /// When it was last told that spans are dropped.
    told: Mutex<Option<Instant>>,
}

impl Exporter {
    fn tell(&self, outcome: &OTelSdkResult) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told.elapsed() < TELL_INTERVAL) {
            return;
        }
        let dropped = self.queue.dropped.swap(0, Ordering::Relaxed);
        if dropped == 0 {
            return;
        }
        *told = Some(Instant::now());
        let error = outcome.as_ref().err().map(ToString::to_string);
        tracing::warn!(
            url = self.url,
            dropped,
            error,
            "spans are dropped: the collector does not take them"
        );
    }
}

impl ExportsSpans for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let outcome = self.to.export(batch).await;
        self.queue.waiting.fetch_sub(spans, Ordering::Relaxed);
        if outcome.is_ok() {
            let spans = u64::try_from(spans).unwrap_or(u64::MAX);
            metrics().spans_exported.inc_by(spans);
        } else {
            self.queue.give_up(spans, "not_taken");
        }
        self.tell(&outcome);
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.to.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.to.set_resource(resource);
    }
}

/// The HTTP client of the process for a thread that is none of the runtime's.
#[derive(Debug)]
struct Http {
    client: reqwest::Client,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move { send(&client, request).await });
        sent.await?
    }
}

async fn send(client: &reqwest::Client, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request.try_into()?).await?;
    let mut response = Response::builder().status(answer.status());
    if let Some(headers) = response.headers_mut() {
        *headers = std::mem::take(answer.headers_mut());
    }
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > ANSWER {
            return Err(Box::new(ResponseBodyTooLarge::new()));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(response.body(body.freeze())?)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{
        Span as _, SpanContext, SpanId, SpanKind, TraceContextExt as _, TraceFlags, TraceId, TraceState, Tracer as _,
        TracerProvider as _,
    };
    use opentelemetry_sdk::trace::{SamplingDecision, ShouldSample as _};

    use super::*;

    fn dropped(reason: &'static str) -> u64 {
        metrics().spans_dropped.get_or_create(&Dropped { reason }).get()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_collector_that_fails_costs_its_spans_and_nothing_else() -> anyhow::Result<()> {
        // One that is not there.
        let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let absent = provider(&format!("http://{nobody}"), 1.0, "test")?;
        absent.tracer("test").start("span").end();
        tokio::task::spawn_blocking(move || absent.shutdown_with_timeout(TIMEOUT * 2)).await??;
        assert_eq!((dropped("not_taken"), dropped("queue_full")), (1, 0));

        // One that takes connections and never answers.
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        let silent = provider(&format!("http://{}", listener.local_addr()?), 1.0, "test")?;
        let tracer = silent.tracer("test");
        let made = 3 * QUEUE;
        for _ in 0..made {
            tracer.start("span").end();
        }
        assert_eq!(dropped("queue_full"), u64::try_from(made - QUEUE)?);
        let ended = tokio::task::spawn_blocking(move || silent.shutdown_with_timeout(Duration::from_millis(100)));
        assert!(ended.await?.is_err(), "it is told that spans may be lost");
        Ok(())
    }

    #[test]
    fn the_ratio_bounds_what_callers_ask_for() {
        for (ratio, flags, sampled) in [
            (1.0, TraceFlags::SAMPLED, true),
            (1.0, TraceFlags::NOT_SAMPLED, false),
            (0.0, TraceFlags::SAMPLED, false),
        ] {
            let trace = TraceId::from(1);
            let caller = SpanContext::new(trace, SpanId::from(1), flags, true, TraceState::default());
            let caller = Context::new().with_remote_span_context(caller);
            let result = sampler(ratio).should_sample(Some(&caller), trace, "span", &SpanKind::Server, &[], &[]);
            let is_sampled = result.decision == SamplingDecision::RecordAndSample;
            assert_eq!(is_sampled, sampled, "{ratio} {flags:?}");
        }
    }
}
