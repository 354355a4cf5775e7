//! The spans of a batch: one for each entry that carries a trace, in that trace,
//! from when the batch is begun until the entry is acknowledged; and one for each
//! attempt to write the batch. A write belongs to the trace of the batch's first
//! entry that is traced, and it and the other entries link to each other.

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

    /// The span of an attempt to write the batch.
    pub(crate) fn write(&self) -> Span {
        let mut traced = self.entries.iter().filter(|span| trace::is_sampled(span));
        let Some(first) = traced.next() else {
            return Span::none();
        };
        let span = tracing::info_span!(
            target: trace::TARGET,
            parent: first,
            "write",
            otel.name = %format_args!("write {}", self.consumer),
            messaging.consumer.group.name = self.consumer,
            messaging.batch.message_count = i64::try_from(self.entries.len()).unwrap_or(i64::MAX),
            "error.type" = field::Empty,
            otel.status_code = field::Empty,
            otel.status_description = field::Empty,
        );
        let own = trace::traceparent(&span);
        for other in traced {
            trace::links(&span, trace::traceparent(other).as_deref());
            trace::links(other, own.as_deref());
        }
        span
    }

    /// Ends the span of an entry that is taken out of the batch.
    pub(crate) fn give_up(&mut self, index: usize, reason: &str) {
        trace::failed(&self.entries.remove(index), "poison", reason);
    }
}

/// Writes down on the span of an attempt what came of it.
pub(crate) fn applied(span: &Span, outcome: &Result<(), ApplyError>) {
    let Err(error) = outcome else { return };
    let kind = match error {
        ApplyError::Transient(_) => "transient",
        ApplyError::Poison { .. } => "poison",
    };
    trace::failed(span, kind, &error.to_string());
}
