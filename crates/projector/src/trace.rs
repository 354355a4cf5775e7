//! The spans of a batch: one for each entry that carries a trace, in that trace,
//! from when the batch is begun until the entry is acknowledged; and one for each
//! attempt to write the batch, in each trace that has entries in it. So a trace
//! shows all that became of its entries, whatever else was written with them.

use std::collections::HashSet;

use castlog_log::{Entry, trace};
use tracing::{Span, field};

use crate::ApplyError;

/// The spans of the entries that are being applied, in their order.
pub(crate) struct Batch {
    consumer: &'static str,
    entries: Vec<Span>,
}

impl Batch {
    pub(crate) fn of(consumer: &'static str, entries: &[Entry]) -> Self {
        Self {
            consumer,
            entries: entries.iter().map(|entry| trace::process(consumer, entry)).collect(),
        }
    }

    /// An attempt to write the batch.
    pub(crate) fn write(&self) -> Attempt {
        let mut traces = HashSet::new();
        let mut begins_trace = |span: &&Span| trace::exported_in(span).is_some_and(|trace| traces.insert(trace));
        let spans = self.entries.iter().filter(|span| begins_trace(span));
        Attempt(spans.map(|span| self.write_of(span)).collect())
    }

    fn write_of(&self, entry: &Span) -> Span {
        tracing::info_span!(
            target: trace::TARGET,
            parent: entry,
            "write",
            otel.name = %format_args!("write {}", self.consumer),
            messaging.consumer.group.name = self.consumer,
            messaging.batch.message_count = i64::try_from(self.entries.len()).unwrap_or(i64::MAX),
            "error.type" = field::Empty,
            otel.status_code = field::Empty,
            otel.status_description = field::Empty,
        )
    }

    /// Ends the span of an entry that is taken out of the batch.
    pub(crate) fn give_up(&mut self, index: usize, reason: &str) {
        trace::failed(&self.entries.remove(index), "poison", reason);
    }
}

/// The spans of one write, a trace each.
pub(crate) struct Attempt(Vec<Span>);

impl Attempt {
    /// The span that the write runs in: that of the first trace.
    pub(crate) fn span(&self) -> Span {
        self.0.first().cloned().unwrap_or_else(Span::none)
    }

    pub(crate) fn end(self, outcome: &Result<(), ApplyError>) {
        for span in self.0 {
            ended(&span, outcome);
        }
    }
}

/// Writes down on a span what came of applying.
pub(crate) fn ended(span: &Span, outcome: &Result<(), ApplyError>) {
    let Err(error) = outcome else { return };
    let kind = match error {
        ApplyError::Transient(_) => "transient",
        ApplyError::Poison { .. } => "poison",
    };
    trace::failed(span, kind, &error.to_string());
}

#[cfg(test)]
mod tests {
    use castlog_log::{BroadcastId, Kind, Position, pb};
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::prelude::*;

    use super::*;

    fn entry(traceparent: Option<String>) -> Entry {
        Entry {
            id: "e".into(),
            source: "castlog/test".into(),
            time: chrono::Utc::now(),
            subject: Kind::Title.of(BroadcastId::generate()),
            event: pb::Title::default().into(),
            position: Position {
                stream: "BROAD_INFO".into(),
                sequence: 1,
            },
            traceparent,
            payload: Default::default(),
        }
    }

    /// Entries of two traces, of none, and of one that nobody wants.
    fn entries() -> [Entry; 5] {
        let of = |trace: u8, flags: u8| Some(format!("00-{trace:032x}-00000000000000ff-{flags:02x}"));
        [of(1, 0), None, of(2, 1), of(2, 1), of(3, 1)].map(entry)
    }

    #[test]
    fn each_trace_of_a_batch_has_the_write() {
        // Without an exporter there are no spans.
        let batch = Batch::of("test", &entries());
        assert!(batch.entries.iter().all(Span::is_disabled));
        assert!(batch.write().0.is_empty() && batch.write().span().is_disabled());

        let provider = SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let mut batch = Batch::of("test", &entries());
            let traces = |batch: &Batch| -> Vec<u128> {
                let attempt = batch.write();
                attempt.0.iter().filter_map(trace::exported_in).collect()
            };
            assert_eq!(traces(&batch), [2, 3]);
            batch.give_up(4, "no entry");
            assert_eq!(traces(&batch), [2]);
            let write = batch.write().span();
            assert_ne!(trace::traceparent(&write), trace::traceparent(&batch.entries[2]));
        });
    }
}
