//! Every number that castlog's processes count: names, labels and help texts have
//! their one home here, and `docs/grafana/castlog.json` draws them.
//!
//! A process has one set of them. Services count where something happens; the
//! admin listener shows the set at `/metrics`. It knows no service.

use std::sync::LazyLock;

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};

/// Media type of [`text()`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A durable consumer of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Durable {
    /// Durable name.
    pub consumer: &'static str,
    /// The stream.
    pub stream: String,
}

/// A projection, over all of its streams.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct View {
    /// Durable name of its consumers.
    pub consumer: &'static str,
}

/// A stream that is published to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Stream {
    /// The stream.
    pub stream: &'static str,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Publish {
    /// The stream.
    pub stream: &'static str,
    /// `stored`, `duplicate`, `conflict`, `too_large`, `not_permitted` or `unknown`.
    pub outcome: &'static str,
}

/// A refusal by its code of `docs/error-codes.md`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Refusal {
    /// The code.
    pub code: String,
}

/// Why a media object is lost.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Loss {
    /// `spool_full` or `spool_failed`.
    pub reason: &'static str,
}

/// Why a packet of an encoder is left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Skip {
    /// `unreadable`, `out_of_time`, or `undecodable`: then the source alone has it.
    pub reason: &'static str,
}

/// An answer to a viewer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Answer {
    /// `playlist` or `media`.
    pub kind: &'static str,
    /// HTTP status.
    pub status: u16,
}

/// Why a span is in no trace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Dropped {
    /// `queue_full` or `not_taken` by the collector.
    pub reason: &'static str,
}

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The numbers of this process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Entries whose effect is durable in a view.
    pub entries_applied: Family<Durable, Counter>,
    /// Entries of one batch.
    pub batch_entries: Histograms<View>,
    /// How long a batch takes until its effect is durable, retries included.
    pub apply_seconds: Histograms<View>,
    /// Attempts to apply a batch that failed and were repeated.
    pub apply_failures: Family<View, Counter>,
    /// Entries that were given up.
    pub dead_letters: Family<Durable, Counter>,
    /// Dead letters that were applied after all.
    pub redriven: Family<View, Counter>,
    /// Entries that have not been delivered yet.
    pub lag_entries: Family<Durable, Gauge>,
    /// Entries that have been delivered and not acknowledged.
    pub unacked_entries: Family<Durable, Gauge>,
    /// Entries that are being delivered another time.
    pub redelivered_entries: Family<Durable, Gauge>,
    /// Age of the oldest entry that is being applied; 0 when there is none.
    pub oldest_unacked_seconds: Family<View, Gauge>,
    /// Of a projection that one instance works on: 1 for this one, 0 where it stands by.
    pub active: Family<View, Gauge>,
    /// Publishes by what became of them.
    pub publishes: Family<Publish, Counter>,
    /// How long a publish takes until it is acknowledged.
    pub publish_seconds: Histograms<Stream>,
    /// Connections of encoders.
    pub rtmp_connections: Gauge,
    /// Encoders that are on air.
    pub rtmp_sessions: Gauge,
    /// Media bytes taken from encoders.
    pub rtmp_received_bytes: Counter,
    /// Media bytes held for pipelines to start from.
    pub rtmp_gop_bytes: Gauge,
    /// Encoders that were refused or cut.
    pub rtmp_refusals: Family<Refusal, Counter>,
    /// Tags of encoders that are of no use, damaged ones among them.
    pub rtmp_skipped_tags: Counter,
    /// Transcoding jobs in work.
    pub pipeline_jobs: Gauge,
    /// Times that a job was offered to a worker that had no room for it.
    pub pipeline_jobs_refused: Counter,
    /// Packets of encoders that are left out.
    pub pipeline_skipped_packets: Family<Skip, Counter>,
    /// Bytes that wait on the disk for the media store.
    pub spool_bytes: Gauge,
    /// Objects that wait on the disk for the media store.
    pub spool_objects: Gauge,
    /// Objects that had to wait on the disk.
    pub spooled_objects: Counter,
    /// Attempts to store an object that failed and are repeated.
    pub store_failures: Counter,
    /// Objects that neither the media store nor the disk has.
    pub lost_objects: Family<Loss, Counter>,
    /// Answers to viewers.
    pub hls_answers: Family<Answer, Counter>,
    /// Viewers of all broadcasts, as last counted.
    pub hls_viewers: Gauge,
    /// Spans that the collector has taken.
    pub spans_exported: Counter,
    /// Spans that were given up.
    pub spans_dropped: Family<Dropped, Counter>,
}

/// 1 to 1000: the most that a batch may hold anywhere.
fn sizes() -> Histogram {
    Histogram::new([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0])
}

/// From a write to memory to a server that is away for a while.
fn seconds() -> Histogram {
    Histogram::new([
        0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
    ])
}

impl Metrics {
    fn new() -> Self {
        let mut this = Self {
            registry: Registry::with_prefix("castlog"),
            entries_applied: Family::default(),
            batch_entries: Family::new_with_constructor(sizes),
            apply_seconds: Family::new_with_constructor(seconds),
            apply_failures: Family::default(),
            dead_letters: Family::default(),
            redriven: Family::default(),
            lag_entries: Family::default(),
            unacked_entries: Family::default(),
            redelivered_entries: Family::default(),
            oldest_unacked_seconds: Family::default(),
            active: Family::default(),
            publishes: Family::default(),
            publish_seconds: Family::new_with_constructor(seconds),
            rtmp_connections: Gauge::default(),
            rtmp_sessions: Gauge::default(),
            rtmp_received_bytes: Counter::default(),
            rtmp_gop_bytes: Gauge::default(),
            rtmp_refusals: Family::default(),
            rtmp_skipped_tags: Counter::default(),
            pipeline_jobs: Gauge::default(),
            pipeline_jobs_refused: Counter::default(),
            pipeline_skipped_packets: Family::default(),
            spool_bytes: Gauge::default(),
            spool_objects: Gauge::default(),
            spooled_objects: Counter::default(),
            store_failures: Counter::default(),
            lost_objects: Family::default(),
            hls_answers: Family::default(),
            hls_viewers: Gauge::default(),
            spans_exported: Counter::default(),
            spans_dropped: Family::default(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        let r = &mut this.registry;
        r.register("build", "The version that runs", build);
        let name = "entries_applied";
        r.register(
            name,
            "Entries whose effect is durable in a view",
            this.entries_applied.clone(),
        );
        r.register("batch_entries", "Entries of one batch", this.batch_entries.clone());
        let help = "Seconds until the effect of a batch is durable, retries included";
        r.register("apply_seconds", help, this.apply_seconds.clone());
        let help = "Attempts to apply a batch that failed and were repeated";
        r.register("apply_failures", help, this.apply_failures.clone());
        r.register("dead_letters", "Entries that were given up", this.dead_letters.clone());
        r.register(
            "redriven",
            "Dead letters that were applied after all",
            this.redriven.clone(),
        );
        let help = "Entries that have not been delivered yet";
        r.register("consumer_lag_entries", help, this.lag_entries.clone());
        let help = "Entries that have been delivered and not acknowledged";
        r.register("consumer_unacked_entries", help, this.unacked_entries.clone());
        let help = "Entries that are being delivered another time";
        r.register("consumer_redelivered_entries", help, this.redelivered_entries.clone());
        let help = "Age of the oldest entry that is being applied, 0 when there is none";
        let name = "consumer_oldest_unacked_seconds";
        r.register(name, help, this.oldest_unacked_seconds.clone());
        let help = "Of a view that one instance works on: 1 for this one, 0 where it stands by";
        r.register("consumer_active", help, this.active.clone());
        r.register("publishes", "Publishes by what became of them", this.publishes.clone());
        let help = "Seconds until a publish is acknowledged";
        r.register("publish_seconds", help, this.publish_seconds.clone());
        r.register(
            "rtmp_connections",
            "Connections of encoders",
            this.rtmp_connections.clone(),
        );
        r.register("rtmp_sessions", "Encoders that are on air", this.rtmp_sessions.clone());
        let help = "Media bytes taken from encoders";
        r.register("rtmp_received_bytes", help, this.rtmp_received_bytes.clone());
        let help = "Media bytes held since the newest keyframe of each stream, for readers that come";
        r.register("rtmp_gop_bytes", help, this.rtmp_gop_bytes.clone());
        let help = "Encoders that were refused or cut, by the code of the reason";
        r.register("rtmp_refusals", help, this.rtmp_refusals.clone());
        let help = "Tags of encoders that are of no use, damaged ones among them";
        r.register("rtmp_skipped_tags", help, this.rtmp_skipped_tags.clone());
        r.register("pipeline_jobs", "Transcoding jobs in work", this.pipeline_jobs.clone());
        let help = "Times that a job was offered to a worker that had no room for it";
        r.register("pipeline_jobs_refused", help, this.pipeline_jobs_refused.clone());
        let help = "Packets of encoders that are left out: damaged, or of another time than the rest";
        r.register("pipeline_skipped_packets", help, this.pipeline_skipped_packets.clone());
        let help = "Bytes that wait on the disk for the media store";
        r.register("pipeline_spool_bytes", help, this.spool_bytes.clone());
        let help = "Objects that wait on the disk for the media store";
        r.register("pipeline_spool_objects", help, this.spool_objects.clone());
        let help = "Objects that had to wait on the disk for the media store";
        r.register("pipeline_spooled_objects", help, this.spooled_objects.clone());
        let help = "Attempts to store a media object that failed and are repeated";
        r.register("pipeline_store_failures", help, this.store_failures.clone());
        let help = "Media objects that neither the store nor the disk has";
        r.register("pipeline_lost_objects", help, this.lost_objects.clone());
        r.register("hls_answers", "Answers to viewers", this.hls_answers.clone());
        let help = "Viewers of all broadcasts, as last counted";
        r.register("hls_viewers", help, this.hls_viewers.clone());
        let help = "Spans that the collector of traces has taken";
        r.register("spans_exported", help, this.spans_exported.clone());
        let help = "Spans that were given up: the collector did not take them, or not fast enough";
        r.register("spans_dropped", help, this.spans_dropped.clone());
        // A rate needs a zero to begin with.
        for reason in ["queue_full", "not_taken"] {
            this.spans_dropped.get_or_create(&Dropped { reason }).inc_by(0);
        }
        for reason in ["unreadable", "out_of_time", "undecodable"] {
            this.pipeline_skipped_packets.get_or_create(&Skip { reason }).inc_by(0);
        }
        for reason in ["spool_full", "spool_failed"] {
            this.lost_objects.get_or_create(&Loss { reason }).inc_by(0);
        }
        this
    }
}

/// The numbers of this process.
#[must_use]
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

/// All numbers in the text format of OpenMetrics, which Prometheus reads.
#[must_use]
pub fn text() -> String {
    let mut buffer = String::new();
    // A `String` takes whatever is written.
    if text::encode(&mut buffer, &metrics().registry).is_err() {
        buffer.clear();
    }
    buffer
}

/// Counts one more for as long as it lives.
#[derive(Debug)]
pub struct Counted(&'static Gauge);

impl Counted {
    /// One more of what `gauge` counts.
    #[must_use]
    pub fn new(gauge: &'static Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let stream = "BROAD_INFO";
        let publish = Publish {
            stream,
            outcome: "stored",
        };
        metrics().publishes.get_or_create(&publish).inc();
        metrics()
            .publish_seconds
            .get_or_create(&Stream { stream })
            .observe(0.003);
        let held = Counted::new(&metrics().pipeline_jobs);
        let text = text();
        for line in [
            r#"castlog_publishes_total{stream="BROAD_INFO",outcome="stored"} 1"#,
            r#"castlog_publish_seconds_bucket{le="0.005",stream="BROAD_INFO"} 1"#,
            "castlog_pipeline_jobs 1",
            "# TYPE castlog_rtmp_sessions gauge",
            "castlog_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        drop(held);
        assert_eq!(metrics().pipeline_jobs.get(), 0);
    }
}
