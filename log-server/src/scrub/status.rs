//! What the scrub shows of itself: as JSON and as metrics.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;
use utoipa::ToSchema;

use super::findings::{Finding, Findings, Holes};
use super::progress::Progress;
use crate::metrics::Metrics;

/// Where the scrub is and what it has found. Times are ms since the epoch, by the wall clock.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ScrubStatus {
    /// Whether a pass is under way.
    pub running: bool,
    /// When the pass began that is under way or was the last.
    pub begun_ms: i64,
    /// Bytes that it has read.
    pub bytes: u64,
    /// Bytes that it has still to read, as of the last count.
    pub left_bytes: u64,
    /// How much of the pass is done, in percent.
    pub percent: f64,
    /// How fast it reads.
    pub bytes_per_second: u64,
    /// When the last whole pass ended; `None` before the first.
    pub last_pass_ended_ms: Option<i64>,
    /// The holes that are known, in the order of their topics; those that there are too many of are left out.
    pub holes: Vec<Finding>,
}

impl ScrubStatus {
    pub(super) fn new(
        progress: &Progress,
        findings: &Findings,
        left_bytes: u64,
        bytes_per_second: u64,
    ) -> Self {
        let running = progress.next.is_some();
        ScrubStatus {
            running,
            begun_ms: progress.begun_ms,
            bytes: progress.bytes,
            left_bytes,
            percent: if running { percent(progress.bytes, left_bytes) } else { 100.0 },
            bytes_per_second: if running { bytes_per_second } else { 0 },
            last_pass_ended_ms: progress.last.as_ref().map(|pass| pass.ended_ms),
            holes: findings.named().cloned().collect(),
        }
    }
}

/// How much is done, in percent.
pub(super) fn percent(done: u64, left: u64) -> f64 {
    match done + left {
        0 => 0.0,
        all => done as f64 / all as f64 * 100.0,
    }
}

/// The scrub's metrics.
#[derive(Debug, Default)]
pub(super) struct ScrubMetrics {
    pub(super) bytes: Counter,
    pub(super) pass_percent: Gauge<f64, AtomicU64>,
    pub(super) bytes_per_second: Gauge,
    pub(super) last_pass_seconds: Gauge,
    pub(super) flaky_reads: Counter,
    pub(super) failures: Counter,
    holes: Family<PartitionLabels, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PartitionLabels {
    topic: String,
    partition: i32,
}

impl ScrubMetrics {
    pub(super) fn register(metrics: &Metrics) -> ScrubMetrics {
        let scrub = ScrubMetrics::default();
        metrics.register(|registry| {
            registry.register(
                "scrub_bytes",
                "Bytes of sealed segments read by the scrub",
                scrub.bytes.clone(),
            );
            registry.register(
                "scrub_pass_percent",
                "How much of the pass is done",
                scrub.pass_percent.clone(),
            );
            registry.register(
                "scrub_bytes_per_second",
                "How fast the scrub reads",
                scrub.bytes_per_second.clone(),
            );
            registry.register(
                "scrub_last_pass_timestamp_seconds",
                "When the last whole pass of the scrub ended, 0 before the first",
                scrub.last_pass_seconds.clone(),
            );
            registry.register(
                "scrub_flaky_reads",
                "Places that were damaged when read once and sound when read again",
                scrub.flaky_reads.clone(),
            );
            registry.register(
                "scrub_failures",
                "Segments that could not be scrubbed",
                scrub.failures.clone(),
            );
            registry.register("scrub_holes", "Damaged places of a partition", scrub.holes.clone());
        });
        scrub
    }

    /// Shows how many holes partitions have now, where they had those of `before`.
    pub(super) fn show_holes(&self, before: &Holes, now: &Holes) {
        let labels = |(topic, partition): &(Arc<str>, i32)| PartitionLabels {
            topic: topic.to_string(),
            partition: *partition,
        };
        // One by one: whoever reads the metrics in between is not to believe that all is well.
        for partition in before.keys().filter(|partition| !now.contains_key(*partition)) {
            self.holes.remove(&labels(partition));
        }
        for (partition, holes) in
            now.iter().filter(|(partition, holes)| before.get(*partition) != Some(*holes))
        {
            self.holes.get_or_create(&labels(partition)).set(i64::try_from(*holes).unwrap_or(i64::MAX));
        }
    }
}
