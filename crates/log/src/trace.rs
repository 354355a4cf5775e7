//! Traces: entries carry a W3C `traceparent`, so that what a command caused is
//! told as one trace, through the log.
//!
//! Spans are those of `tracing` on a target of their own, [`TARGET`]: an exporter
//! of OpenTelemetry takes these and no others, and log lines leave them out. While
//! there is no exporter they are disabled, nothing is made of them, and an entry
//! carries the context that its caller gave. Names and attributes follow the
//! semantic conventions of OpenTelemetry; ids of broadcasts are attributes and
//! never part of a name. No attribute may hold a key, a token, a query or a URL
//! of a stream.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::{Span, field};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{Entry, Kind, PublishError, Receipt, Subject};

/// Target of the spans that make up traces.
pub const TARGET: &str = "castlog::trace";

/// Whether a text is a W3C `traceparent` that a trace can go on from.
#[must_use]
pub fn is_traceparent(text: &str) -> bool {
    parse(text).is_some()
}

/// <https://www.w3.org/TR/trace-context/#traceparent-header-field-values>
fn parse(traceparent: &str) -> Option<SpanContext> {
    let mut fields = traceparent.split('-');
    let mut hex = |length| {
        let is_hex = |field: &&str| {
            field.len() == length && field.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        };
        fields.next().filter(is_hex)
    };
    let (version, trace, parent, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
    // A later version may have more fields.
    if version == "ff" || (version == "00" && fields.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, parent) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(parent).ok()?);
    let context = SpanContext::new(trace, parent, flags, true, TraceState::default());
    context.is_valid().then_some(context)
}

fn written(context: &SpanContext) -> String {
    let flags = context.trace_flags().to_u8();
    format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
}

/// The `traceparent` by which others go on from `span`; `None` when nothing is exported.
#[must_use]
pub fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span();
    let context = context.span_context();
    context.is_valid().then(|| written(context))
}

/// The id of the trace that `span` is exported in, if it is.
#[must_use]
pub fn exported_in(span: &Span) -> Option<u128> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context();
    let context = context.span();
    let context = context.span_context();
    context
        .is_sampled()
        .then(|| u128::from_be_bytes(context.trace_id().to_bytes()))
}

/// Makes `span`, which has not been entered yet, a child of the context that
/// `traceparent` names. What is no context changes nothing.
pub fn continues(span: &Span, traceparent: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    if let Some(parent) = traceparent.and_then(parse) {
        // It fails where no span is exported, which is as good.
        span.set_parent(Context::new().with_remote_span_context(parent)).ok();
    }
}

/// Lets `span` point to the context that `traceparent` names.
pub fn links(span: &Span, traceparent: Option<&str>) {
    if span.is_disabled() {
        return;
    }
    if let Some(other) = traceparent.and_then(parse) {
        span.add_link(other);
    }
}

/// Marks `span` as failed. `kind` is one of few words, `reason` a text without secrets.
pub fn failed(span: &Span, kind: &str, reason: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", reason);
}

/// The span of taking an entry from a consumer, a child of the context that the
/// entry carries. It ends when its last clone is dropped. An entry without a
/// context begins no trace.
#[must_use]
pub fn process(consumer: &str, entry: &Entry) -> Span {
    let Some(parent) = entry.traceparent.as_deref().filter(|text| is_traceparent(text)) else {
        return Span::none();
    };
    let span = tracing::info_span!(
        target: TARGET,
        parent: None,
        "process",
        otel.name = %format_args!("process {}", entry.subject.kind.filter()),
        otel.kind = "consumer",
        messaging.system = "nats",
        "messaging.operation.type" = "process",
        "messaging.operation.name" = "process",
        messaging.destination.name = entry.subject.kind.filter(),
        messaging.consumer.group.name = consumer,
        messaging.message.id = entry.id,
        castlog.broadcast_id = entry.subject.broadcast.map(field::display),
        castlog.stream = entry.position.stream,
        castlog.seq = entry.position.sequence.cast_signed(),
        "error.type" = field::Empty,
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
    );
    continues(&span, Some(parent));
    span
}

/// The span of publishing an entry: a child of the span that is open, else of the
/// context that the caller gave. Samples of health and viewers come all the time
/// and are caused by nobody: they have none.
pub(crate) fn publish(subject: Subject, id: &str, source: &str, traceparent: Option<&str>) -> Span {
    if matches!(subject.kind, Kind::Health | Kind::Viewers) {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TARGET,
        "publish",
        otel.name = %format_args!("publish {}", subject.kind.filter()),
        otel.kind = "producer",
        messaging.system = "nats",
        "messaging.operation.type" = "send",
        "messaging.operation.name" = "publish",
        messaging.destination.name = subject.kind.filter(),
        messaging.message.id = id,
        castlog.broadcast_id = subject.broadcast.map(field::display),
        castlog.source = source,
        castlog.stream = subject.kind.stream(),
        castlog.seq = field::Empty,
        castlog.duplicate = field::Empty,
        "error.type" = field::Empty,
        otel.status_code = field::Empty,
        otel.status_description = field::Empty,
    );
    if !span.is_disabled() && !Context::map_current(|context| context.has_active_span()) {
        continues(&span, traceparent);
    }
    span
}

/// Writes down on the span of a publish what became of it.
pub(crate) fn published(span: &Span, outcome: &Result<Receipt, PublishError>, kind: &'static str) {
    if span.is_disabled() {
        return;
    }
    match outcome {
        Ok(receipt) => {
            span.record("castlog.seq", receipt.sequence.cast_signed());
            span.record("castlog.duplicate", receipt.duplicate);
        }
        Err(error) => failed(span, kind, &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_read_and_written() {
        assert_eq!(written(&parse(GOOD).unwrap()), GOOD);
        assert!(parse(GOOD).unwrap().is_sampled() && parse(GOOD).unwrap().is_remote());
        // Flags that this version does not know are not passed on.
        let unsampled = GOOD.replace("-01", "-fe");
        assert_eq!(written(&parse(&unsampled).unwrap()), GOOD.replace("-01", "-00"));
        let later = format!("cc-{}-more", &GOOD[3..]);
        assert_eq!(written(&parse(&later).unwrap()), GOOD);
    }

    #[test]
    fn what_is_no_context_is_refused() {
        for bad in [
            "",
            "00-0af7",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

    #[test]
    fn without_an_exporter_there_is_no_span_and_no_context() {
        let span = publish(
            Kind::Title.of(crate::BroadcastId::generate()),
            "id",
            "castlog/test",
            Some(GOOD),
        );
        assert!(span.is_disabled());
        assert_eq!(traceparent(&span), None);
    }
}
