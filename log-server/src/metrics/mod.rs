//! What the broker counts. Every number has one place that changes it; `/metrics` encodes the registries.
//!
//! What is counted for every request costs a relaxed addition: handles are looked up by index, histograms have no lock.
//! Every metric has a line in docs/metrics.md, which a test holds against a running broker.

mod exposition;
mod histogram;
mod process;
mod requests;
mod spans;

pub use exposition::{END, Format};
pub use histogram::{Histogram, Snapshot};
pub use process::Memory;
pub use requests::{Phase, RequestMetrics};
pub use spans::SpanMetrics;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use log_core::wire::ApiKey;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use process::ProcessMetrics;

/// Client ids that have a series of their own. Clients choose their ids, so their number has to be bounded here.
const THROTTLED_CLIENTS_MAX: usize = 1000;

/// The label that all others share.
const OTHER_CLIENTS: &str = "(others)";

/// A label's value as it stands between quotes: clients choose what goes into some of them.
pub fn escaped(label: &str) -> String {
    label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// The broker's metrics. Other rooms add theirs through [`Metrics::register`].
pub struct Metrics {
    /// Locked to add to it and to encode it, not to count. Its names begin with `highwater_`.
    registry: Mutex<Registry>,
    /// Collectors that write whole names. Of this file alone.
    whole_names: Registry,
    /// Requests by API.
    pub requests: Arc<RequestMetrics>,
    errors: Family<ErrorLabels, Counter>,
    closed: Family<CloseLabels, Counter>,
    throttled: Family<ThrottleLabels, Counter<f64, AtomicU64>>,
    /// The client ids that have a series in `throttled`, up to [`THROTTLED_CLIENTS_MAX`]. Locked for a look-up.
    throttled_clients: Mutex<HashSet<Box<str>>>,
    /// Connections open now.
    pub connections: Gauge,
    /// Connections that have a thread of their own now.
    pub connections_on_lanes: Gauge,
    /// Connections accepted so far.
    pub connections_accepted: Counter,
    /// Connections refused, by the cap that was reached.
    refused: Family<CapLabels, Counter>,
    /// Bytes of request frames received.
    pub received_bytes: Counter,
    /// Bytes of response frames sent.
    pub sent_bytes: Counter,
    /// Handlers that panicked. Anything but 0 is a bug.
    pub handler_panics: Counter,
    /// Bytes of record batches appended.
    pub produced_bytes: Counter,
    /// Records appended.
    pub produced_records: Counter,
    /// Bytes of record batches handed to consumers.
    pub fetched_bytes: Counter,
    /// Reads that were given to a blocking thread because they have to wait for the disk, or may have to.
    pub cold_reads: Counter,
    /// Syncs, each of one partition or of everything, and how long they took.
    pub flush_seconds: Histogram,
    /// Bytes that each of them has made durable.
    pub flush_bytes: Histogram,
    /// Records that each of them has made durable.
    pub flush_records: Histogram,
    /// Partitions that were synced together with others, by a sync of everything.
    pub flushed_together: Counter,
    /// Checkpoints that were written, and how long each took, or all of those that were written at once.
    pub checkpoint_seconds: Histogram,
    /// Checkpoints that could not be written.
    pub checkpoint_failures: Counter,
    /// Segments that retention has deleted.
    pub retention_deleted_segments: Counter,
    /// Bytes of them.
    pub retention_deleted_bytes: Counter,
    /// The broker's own spans.
    pub spans: SpanMetrics,
    /// Syncs that failed. The first one takes the log directory offline.
    pub flush_failures: Counter,
    /// Incremental fetch sessions kept now.
    pub fetch_sessions: Gauge,
    /// Bytes of all logs on disk, as of the last housekeeping.
    pub log_bytes: Gauge,
    /// Partitions with a log here, as of the last housekeeping.
    pub partitions: Gauge,
    /// Segments that are mapped, as of the last housekeeping.
    pub maps: Gauge,
    /// Sealed segments that were closed because too many were mapped. The next read opens them again.
    pub segments_closed: Counter,
    /// Maps that the system allows this process, those of segments and all others.
    pub maps_max: Gauge,
    /// Free bytes of the data directory's filesystem, as of the last housekeeping.
    pub disk_free_bytes: Gauge,
    /// 1 while free space is below the soft limit.
    pub disk_low: Gauge,
    /// Segments deleted before their retention was over, for want of space.
    pub space_deleted_segments: Counter,
    /// Bytes of them.
    pub space_deleted_bytes: Counter,
    /// 1 while free space is below the hard limit and produce is refused.
    pub disk_full: Gauge,
    /// 1 while the log directory is offline after a failed sync.
    pub log_dir_offline: Gauge,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ErrorLabels {
    api: &'static str,
    error: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CloseLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CapLabels {
    cap: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ThrottleLabels {
    quota: &'static str,
    client_id: String,
}

impl Metrics {
    /// A registry with every metric at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("highwater");
        let build = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The version that runs", Info::new(build));
        let requests = Arc::new(RequestMetrics::new());
        let mut whole_names = Registry::default();
        whole_names.register_collector(Box::new(requests.clone()));
        whole_names.register_collector(Box::new(ProcessMetrics));

        macro_rules! register {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        let refused = Family::<CapLabels, Counter>::default();
        for cap in ["total", "address"] {
            // There from the start, so that a rate has something to begin with.
            refused.get_or_create_owned(&CapLabels { cap });
        }
        Metrics {
            requests,
            whole_names,
            errors: register!("errors", "Kafka errors answered", Family::default()),
            closed: register!("connections_closed", "Connections that have ended", Family::default()),
            throttled: register!(
                "throttle_seconds",
                "Time that clients were held up because of a quota",
                Family::default()
            ),
            throttled_clients: Mutex::default(),
            connections: register!("connections", "Open connections", Gauge::default()),
            connections_on_lanes: register!(
                "connections_on_lanes",
                "Open connections that have a thread of their own",
                Gauge::default()
            ),
            connections_accepted: register!(
                "connections_accepted",
                "Accepted connections",
                Counter::default()
            ),
            refused: register!("connections_refused", "Connections refused by a cap", refused),
            received_bytes: register!("received_bytes", "Bytes of requests received", Counter::default()),
            sent_bytes: register!("sent_bytes", "Bytes of responses sent", Counter::default()),
            handler_panics: register!("handler_panics", "Handlers that panicked", Counter::default()),
            produced_bytes: register!("produced_bytes", "Bytes of batches appended", Counter::default()),
            produced_records: register!("produced_records", "Records appended", Counter::default()),
            fetched_bytes: register!("fetched_bytes", "Bytes of batches fetched", Counter::default()),
            cold_reads: register!("cold_reads", "Reads that were not served from memory", Counter::default()),
            flush_seconds: register!(
                "flush_seconds",
                "Duration of a sync, of one partition or of everything",
                Histogram::of_seconds()
            ),
            flush_bytes: register!(
                "flush_bytes",
                "Bytes made durable by a sync: the size of a group commit",
                Histogram::of_bytes()
            ),
            flush_records: register!(
                "flush_records",
                "Records made durable by a sync: the size of a group commit",
                Histogram::of_count()
            ),
            flushed_together: register!(
                "flushed_together",
                "Partitions that were synced with others at once",
                Counter::default()
            ),
            checkpoint_seconds: register!(
                "checkpoint_seconds",
                "Duration of writing a checkpoint, or several at once",
                Histogram::of_seconds()
            ),
            checkpoint_failures: register!(
                "checkpoint_failures",
                "Checkpoints that could not be written",
                Counter::default()
            ),
            retention_deleted_segments: register!(
                "retention_deleted_segments",
                "Segments deleted because their retention was over",
                Counter::default()
            ),
            retention_deleted_bytes: register!(
                "retention_deleted_bytes",
                "Bytes deleted because their retention was over",
                Counter::default()
            ),
            spans: SpanMetrics::register(&mut registry),
            flush_failures: register!("flush_failures", "Failed syncs", Counter::default()),
            fetch_sessions: register!("fetch_sessions", "Fetch sessions kept", Gauge::default()),
            log_bytes: register!("log_bytes", "Bytes of all logs", Gauge::default()),
            partitions: register!("partitions", "Partitions", Gauge::default()),
            maps: register!("maps", "Mapped segments", Gauge::default()),
            segments_closed: register!(
                "segments_closed",
                "Segments closed to spare maps",
                Counter::default()
            ),
            maps_max: register!("maps_max", "Memory maps allowed", Gauge::default()),
            disk_free_bytes: register!("disk_free_bytes", "Free bytes of the disk", Gauge::default()),
            disk_low: register!("disk_low", "1 while the disk is filling up", Gauge::default()),
            space_deleted_segments: register!(
                "space_deleted_segments",
                "Segments deleted before their retention was over, for want of space",
                Counter::default()
            ),
            space_deleted_bytes: register!(
                "space_deleted_bytes",
                "Bytes deleted before their retention was over, for want of space",
                Counter::default()
            ),
            disk_full: register!(
                "disk_full",
                "1 while produce is refused for want of space",
                Gauge::default()
            ),
            log_dir_offline: register!(
                "log_dir_offline",
                "1 while the log directory is offline",
                Gauge::default()
            ),
            registry: Mutex::new(registry),
        }
    }

    /// Adds metrics or a collector of another room.
    pub fn register(&self, add: impl FnOnce(&mut Registry)) {
        add(&mut self.registry.lock());
    }

    /// Counts a Kafka error that a client was answered with. `error` is one of a bounded set of names.
    pub fn error_answered(&self, api: ApiKey, error: &'static str) {
        let labels = ErrorLabels { api: api.name(), error };
        self.errors.get_or_create(&labels).inc();
    }

    /// Counts a connection that was not let in, by the cap that was reached: `total` or `address`.
    pub fn connection_refused(&self, cap: &'static str) {
        self.refused.get_or_create(&CapLabels { cap }).inc();
    }

    /// Counts a connection that has ended, by a reason out of a bounded set.
    pub fn connection_closed(&self, reason: &'static str) {
        self.closed.get_or_create(&CloseLabels { reason }).inc();
    }

    /// Counts the time that a client is held up for because of a quota.
    pub fn throttled(&self, quota: &'static str, client_id: &str, time: Duration) {
        let mut clients = self.throttled_clients.lock();
        let own = clients.contains(client_id) || clients.len() < THROTTLED_CLIENTS_MAX;
        if own {
            clients.insert(client_id.into());
        }
        drop(clients);
        let client_id = if own { escaped(client_id) } else { OTHER_CLIENTS.to_owned() };
        self.throttled.get_or_create(&ThrottleLabels { quota, client_id }).inc_by(time.as_secs_f64());
    }

    /// All metrics in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        for registry in [&self.whole_names, &*self.registry.lock()] {
            encode_registry(&mut text, registry).expect("a String takes whatever is written to it");
        }
        text + END
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_requests_show_up_in_the_text() {
        let metrics = Metrics::new();
        metrics.requests.answered(ApiKey::Produce, Duration::from_millis(1));
        metrics.requests.spent(ApiKey::Produce, Phase::Wait, Duration::from_micros(60));
        metrics.error_answered(ApiKey::Fetch, "OFFSET_OUT_OF_RANGE");
        metrics.connection_closed("malformed");
        let text = metrics.encode();
        assert!(text.contains("{api=\"Fetch\",error=\"OFFSET_OUT_OF_RANGE\"} 1"), "{text}");
        assert!(text.contains("highwater_requests_total{api=\"Produce\"} 1"), "{text}");
        let wait = r#"highwater_request_phase_seconds_bucket{le="0.0001",api="Produce",phase="wait"} 1"#;
        assert!(text.contains(wait), "{text}");
        assert!(!text.contains("highwater_request_seconds_count{api=\"Fetch\"}"), "nobody fetched: {text}");
        assert!(text.contains("highwater_connections_closed_total{reason=\"malformed\"} 1"), "{text}");
    }
}
