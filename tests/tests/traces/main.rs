//! Traces: a command is followed from HTTP through the log to the index, and an
//! encoder's session from RTMP to the first segments, by what a real collector
//! would be sent. With a collector that is away, or none of the traces wanted,
//! everything else works.

mod collector;

use std::{collections::BTreeSet, time::Instant};

use anyhow::Context as _;
use castlog_testkit::until;
use castlog_tests::{Encoder, SOON, System};
use collector::{Collector, Seen};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::{Client, StatusCode};
use serde_json::json;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Sets a title as the admin, in the trace of a caller.
async fn retitle(system: &System, id: &str, title: &str) -> anyhow::Result<()> {
    let request = Client::builder()
        .no_proxy()
        .build()?
        .put(format!("{}/v1/broadcasts/{id}/title?wait=applied", system.api))
        .bearer_auth(system.env("CASTLOG_ADMIN_TOKEN")?)
        .header("traceparent", format!("00-{TRACE}-{CALLER}-01"))
        .json(&json!({ "title": title }));
    let answer = request.send().await?;
    anyhow::ensure!(answer.status() == StatusCode::OK, "{}", answer.text().await?);
    Ok(())
}

/// The one span of a service with this name and parent.
fn child<'a>(spans: &'a [Seen], service: &str, name: &str, parent: &[u8]) -> Option<&'a Seen> {
    spans
        .iter()
        .find(|seen| seen.service == service && seen.span.name == name && seen.span.parent_span_id == parent)
}

/// The span of an entry that was published, and those of the services that took it.
fn taken<'a>(spans: &'a [Seen], entry: &Seen, by: &[&str]) -> Option<Vec<&'a Seen>> {
    let (_, destination) = entry.span.name.split_once(' ')?;
    let name = format!("process {destination}");
    by.iter()
        .map(|service| child(spans, service, &name, &entry.span.span_id))
        .collect()
}

/// Every span in a line, for who looks for one that is missing.
fn listed(collector: &Collector) -> String {
    let line = |seen: &Seen| {
        let span = &seen.span;
        let ids = [&span.trace_id, &span.parent_span_id, &span.span_id].map(hex::encode);
        format!("{} {}: {}\n", ids.join(" "), seen.service, span.name)
    };
    collector.spans().iter().map(line).collect()
}

const TITLE: &str = "publish media.broad_info.title.*";
const STATUS: &str = "publish media.live_stream.status.*";

#[tokio::test]
async fn a_command_is_one_trace_from_http_to_the_index() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let endpoint = format!("telemetry.otlp_endpoint={}", collector.url());
    let system = System::start_with(&["pipeline.preset=ultrafast", &endpoint]).await?;
    let (id, key) = system.create(json!({ "title": "before" })).await?;
    retitle(&system, &id, "a title in a trace").await?;

    // The caller's trace goes on: HTTP, the entry, and every service that took it.
    let (trace, caller) = (hex::decode(TRACE)?, hex::decode(CALLER)?);
    let whole = || async {
        let mut spans = collector.spans();
        spans.retain(|seen| seen.span.trace_id == trace);
        let request = child(&spans, "live-api", "PUT /v1/broadcasts/{id}/title", &caller)?;
        let entry = child(&spans, "live-api", TITLE, &request.span.span_id)?;
        let taken = taken(&spans, entry, &["live-info", "indexer", "log-sink"])?;
        for (process, write) in taken.iter().zip(["write live_info", "write indexer"]) {
            child(&spans, &process.service, write, &process.span.span_id)?;
        }
        Some(spans)
    };
    let spans = until("the trace of the command", SOON, whole)
        .await
        .with_context(|| listed(&collector))?;
    let services: BTreeSet<&str> = spans.iter().map(|seen| seen.service.as_str()).collect();
    assert_eq!(
        services,
        BTreeSet::from(["live-api", "live-info", "indexer", "log-sink"])
    );
    let instances: BTreeSet<&str> = spans.iter().map(|seen| seen.instance.as_str()).collect();
    assert_eq!(instances.len(), services.len(), "{instances:?}");
    let request = child(&spans, "live-api", "PUT /v1/broadcasts/{id}/title", &caller).context("no request")?;
    let entry = child(&spans, "live-api", TITLE, &request.span.span_id).context("no entry")?;
    let process = taken(&spans, entry, &["indexer"]).context("not taken")?[0];
    for (seen, kind, attributes) in [
        (
            request,
            SpanKind::Server,
            &[("http.request.method", "PUT"), ("http.response.status_code", "200")][..],
        ),
        (
            entry,
            SpanKind::Producer,
            &[
                ("messaging.system", "nats"),
                ("messaging.operation.type", "send"),
                ("castlog.duplicate", "false"),
            ][..],
        ),
        (
            process,
            SpanKind::Consumer,
            &[
                ("messaging.system", "nats"),
                ("messaging.operation.type", "process"),
                ("messaging.consumer.group.name", "indexer"),
                ("castlog.stream", "BROAD_INFO"),
            ][..],
        ),
    ] {
        assert_eq!(seen.span.kind(), kind, "{seen:?}");
        for (key, value) in attributes {
            assert_eq!(seen.attribute(key).as_deref(), Some(*value), "{key} of {seen:?}");
        }
        assert_eq!(seen.attribute("castlog.broadcast_id").as_ref(), Some(&id), "{seen:?}");
    }
    for attribute in ["castlog.seq", "messaging.message.id"] {
        assert_eq!(entry.attribute(attribute), process.attribute(attribute), "{attribute}");
        assert!(entry.attribute(attribute).is_some(), "{attribute}");
    }
    // Its log lines name it.
    let lines = std::fs::read_to_string(system.folder().join("logs/live-api.log"))?;
    let line = lines.lines().find(|line| line.contains("broadcast changed"));
    let named = line.is_some_and(|line| line.contains(&format!("trace_id={TRACE} span_id=")));
    assert!(named, "{line:?}");

    // A request without a trace begins one.
    let spans = collector.spans();
    let created = child(&spans, "live-api", "POST /v1/broadcasts", &[]).context("no creation")?;
    let other = &created.span.trace_id;
    assert_ne!(*other, trace);
    let published = |seen: &&Seen| seen.span.trace_id == *other && seen.span.kind() == SpanKind::Producer;
    assert_eq!(spans.iter().filter(published).count(), 5, "the entries of a creation");

    // An encoder's session: RTMP, Started, the job, its first segments, and the views.
    let encoder = Encoder::picture(&format!("{}/{key}", system.rtmp))?;
    system.reaches(&id, "live").await?;
    let session = || async {
        let spans = collector.spans();
        let asked = child(&spans, "rtmp", "RTMP publish", &[])?;
        let started = child(&spans, "rtmp", STATUS, &asked.span.span_id)?;
        let taken = taken(&spans, started, &["pipeline", "live-info", "indexer"])?;
        let job = &taken[0].span.span_id;
        child(&spans, "pipeline", "publish media.live_stream.metadata.*", job)?;
        let row = child(&spans, "pipeline", "store segments", job)?;
        child(
            &spans,
            "pipeline",
            "publish media.live_stream.segment.*",
            &row.span.span_id,
        )?;
        // What comes later is in traces of its own that link to the job.
        let later = child(&spans, "pipeline", "store segments", &[])?;
        Some((later.span.links.first()?.span_id == *job, taken[0].clone()))
    };
    let (linked, job) = until("the trace of the session", SOON, session)
        .await
        .with_context(|| listed(&collector))?;
    assert!(linked && job.span.trace_id != trace, "{job:?}");

    // What may be nowhere: what people type, and every secret there is.
    let typed = "zebra-in-a-query";
    let wrong = format!("ck_{}", "a".repeat(32));
    system.search(&[("q", typed)]).await?;
    let (_, answer) = system
        .call(reqwest::Method::GET, &format!("/v1/broadcasts/{typed}"), None)
        .await?;
    assert_eq!(answer["status"], 404, "{answer}");
    let (accepted, _) = Encoder::picture(&format!("{}/{wrong}", system.rtmp))?.outcome().await?;
    assert!(!accepted);
    encoder.stop().await?;
    system.reaches(&id, "ended").await?;
    let mut secrets = vec![key, wrong, typed.to_owned(), "Bearer".to_owned()];
    for name in ["CASTLOG_ADMIN_TOKEN", "NATS_PASSWORD", "NATS_OPERATOR_PASSWORD"] {
        secrets.push(system.env(name)?.to_owned());
    }
    secrets.push(system.config(["meilisearch", "indexer_key"])?);
    secrets.push(system.config(["meilisearch", "search_key"])?);
    let redis = system.config(["redis", "url"])?;
    secrets.push(redis.split([':', '@']).nth(2).context("no password")?.to_owned());
    // What waits is exported at the end.
    system.stop().await?;

    let spans = collector.spans();
    let searched = child(&spans, "live-api", "GET /v1/search", &[]);
    assert!(searched.is_some(), "the search is traced");
    let refused = |seen: &Seen| seen.span.name == "publish media.live_stream.auth.*";
    assert!(
        spans.iter().filter(|seen| refused(seen)).count() > 1,
        "a refusal is traced"
    );
    assert!(spans.iter().all(|seen| seen.service != "hls"), "viewers are not traced");
    let bodies = collector.bodies();
    let holds = |text: &str| {
        bodies
            .iter()
            .any(|body| body.windows(text.len()).any(|window| window == text.as_bytes()))
    };
    // The search is not blind.
    assert!(holds(&id));
    for secret in secrets {
        assert!(secret.len() > 5 && !holds(&secret), "a secret is in a trace");
    }
    Ok(())
}

#[tokio::test]
async fn nothing_is_exported_that_is_not_asked_for() -> anyhow::Result<()> {
    let collector = Collector::start().await?;
    let endpoint = format!("telemetry.otlp_endpoint={}", collector.url());
    let system = System::start_with(&[&endpoint, "telemetry.sample_ratio=0.0"]).await?;
    let (id, _) = system.create(json!({ "title": "before" })).await?;
    // Not even by a caller who wants its trace.
    retitle(&system, &id, "after").await?;
    system.equals_the_log(&["live-info", "index"]).await?;
    system.stop().await?;
    assert_eq!(collector.bodies(), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_collector_that_is_away_is_told_of_once_a_minute_and_holds_nothing_up() -> anyhow::Result<()> {
    let nobody = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let endpoint = format!("telemetry.otlp_endpoint=http://{nobody}");
    let begun = Instant::now();
    let system = System::start_with(&[&endpoint]).await?;
    let (id, _) = system.create(json!({ "title": "before" })).await?;
    let log = system.folder().join("logs/live-api.log");
    let told = || {
        let lines = std::fs::read_to_string(&log).unwrap_or_default();
        lines.lines().filter(|line| line.contains("spans are dropped")).count()
    };
    until("the fault is told", SOON, || async { (told() > 0).then_some(()) }).await?;
    for n in 0..20 {
        retitle(&system, &id, &format!("title {n}")).await?;
    }
    system.equals_the_log(&["live-info", "index"]).await?;
    let (told, minutes) = (told(), usize::try_from(begun.elapsed().as_secs())? / 60);
    assert!(told <= 1 + minutes, "told {told} times in {minutes} minutes");
    system.stop().await
}
