//! What the broker counts. Every number has one place that changes it; `/metrics` encodes the registry.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use log_core::wire::ApiKey;
use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Latency buckets in seconds: 50 µs to 13 s, doubling.
const LATENCY_BUCKETS: [f64; 18] = {
    let mut buckets = [0.000_05; 18];
    let mut i = 1;
    while i < buckets.len() {
        buckets[i] = buckets[i - 1] * 2.0;
        i += 1;
    }
    buckets
};

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
    registry: Mutex<Registry>,
    /// Handles per API key, so that counting a request takes no lock and hashes no label.
    apis: Vec<Option<ApiMetrics>>,
    errors: Family<ErrorLabels, Counter>,
    closed: Family<CloseLabels, Counter>,
    throttled: Family<ThrottleLabels, Counter<f64, AtomicU64>>,
    /// The client ids that have a series in `throttled`, up to [`THROTTLED_CLIENTS_MAX`]. Locked for a look-up.
    throttled_clients: Mutex<HashSet<Box<str>>>,
    /// Connections open now.
    pub connections: Gauge,
    /// Connections accepted so far.
    pub connections_accepted: Counter,
    /// Connections refused because a cap was reached.
    pub connections_refused: Counter,
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
    /// Syncs, each of one partition or of everything, and how long they took in seconds.
    pub flush_seconds: Histogram,
    /// Partitions that were synced together with others, by a sync of everything.
    pub flushed_together: Counter,
    /// Syncs that failed. The first one takes the log directory offline.
    pub flush_failures: Counter,
    /// Incremental fetch sessions kept now.
    pub fetch_sessions: Gauge,
    /// Bytes of all logs on disk, as of the last housekeeping.
    pub log_bytes: Gauge,
    /// Partitions with a log here, as of the last housekeeping.
    pub partitions: Gauge,
    /// Files and sockets that are open, as of the last housekeeping.
    pub open_files: Gauge,
    /// Files and sockets that may be open.
    pub open_files_max: Gauge,
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

struct ApiMetrics {
    requests: Counter,
    seconds: Histogram,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ApiLabels {
    api: &'static str,
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
struct ThrottleLabels {
    quota: &'static str,
    client_id: String,
}

impl Metrics {
    /// A registry with every metric at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("highwater");
        let requests = Family::<ApiLabels, Counter>::default();
        let seconds =
            Family::<ApiLabels, Histogram>::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS));
        registry.register("requests", "Requests answered", requests.clone());
        registry.register("request_seconds", "From a request's last byte to its answer", seconds.clone());
        let keys = ApiKey::ALL.iter().map(|api| api.code() as usize).max().unwrap_or(0) + 1;
        let mut apis: Vec<Option<ApiMetrics>> = (0..keys).map(|_| None).collect();
        for &api in ApiKey::ALL {
            let labels = ApiLabels { api: api.name() };
            apis[api.code() as usize] = Some(ApiMetrics {
                requests: requests.get_or_create_owned(&labels),
                seconds: seconds.get_or_create_owned(&labels),
            });
        }

        macro_rules! register {
            ($name:literal, $help:literal, $metric:expr) => {{
                let metric = $metric;
                registry.register($name, $help, metric.clone());
                metric
            }};
        }
        Metrics {
            apis,
            errors: register!("errors", "Kafka errors answered", Family::default()),
            closed: register!("connections_closed", "Connections that the broker closed", Family::default()),
            throttled: register!(
                "throttle_seconds",
                "Time that clients were held up because of a quota",
                Family::default()
            ),
            throttled_clients: Mutex::default(),
            connections: register!("connections", "Open connections", Gauge::default()),
            connections_accepted: register!(
                "connections_accepted",
                "Accepted connections",
                Counter::default()
            ),
            connections_refused: register!("connections_refused", "Refused connections", Counter::default()),
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
                Histogram::new(LATENCY_BUCKETS)
            ),
            flushed_together: register!(
                "flushed_together",
                "Partitions that were synced with others at once",
                Counter::default()
            ),
            flush_failures: register!("flush_failures", "Failed syncs", Counter::default()),
            fetch_sessions: register!("fetch_sessions", "Fetch sessions kept", Gauge::default()),
            log_bytes: register!("log_bytes", "Bytes of all logs", Gauge::default()),
            partitions: register!("partitions", "Partitions", Gauge::default()),
            open_files: register!("open_files", "Open files and sockets", Gauge::default()),
            open_files_max: register!("open_files_max", "Open files and sockets allowed", Gauge::default()),
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

    /// Counts an answered request and the time it took.
    pub fn request_answered(&self, api: ApiKey, took: Duration) {
        if let Some(Some(metrics)) = self.apis.get(api.code() as usize) {
            metrics.requests.inc();
            metrics.seconds.observe(took.as_secs_f64());
        }
    }

    /// Counts a Kafka error that a client was answered with. `error` is one of a bounded set of names.
    pub fn error_answered(&self, api: ApiKey, error: &'static str) {
        let labels = ErrorLabels { api: api.name(), error };
        self.errors.get_or_create(&labels).inc();
    }

    /// Counts a connection that the broker closed, by a reason out of a bounded set.
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
        encode(&mut text, &self.registry.lock()).expect("a String takes whatever is written to it");
        text
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
        metrics.request_answered(ApiKey::Produce, Duration::from_millis(1));
        metrics.error_answered(ApiKey::Fetch, "OFFSET_OUT_OF_RANGE");
        metrics.connection_closed("malformed");
        let text = metrics.encode();
        assert!(text.contains("{api=\"Fetch\",error=\"OFFSET_OUT_OF_RANGE\"} 1"), "{text}");
        assert!(text.contains("highwater_requests_total{api=\"Produce\"} 1"), "{text}");
        assert!(text.contains("highwater_connections_closed_total{reason=\"malformed\"} 1"), "{text}");
    }
}
