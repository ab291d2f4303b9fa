//! Compacts logs in the background, the dirtiest first: one thread, one log at a time, no faster than it may.
//!
//! The engine says how dirty a log is and does the work in steps ([`log_core::log::Compaction`]); here is decided which
//! log is next, how fast it goes, and when to give up. A log's lock is taken for the steps that change it, never while
//! anything is read or written in bulk.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log_core::log::{CompactionError, CompactionReport, Dirtiness};
use parking_lot::{Condvar, Mutex};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::clock::now_ms;
use crate::metrics::Metrics;
use crate::partition::{Partition, Registry};

/// The lowest priority there is: every thread that serves somebody goes first.
const NICE: i32 = 19;
/// How long a pass waits for what had been appended at its begin to become durable. The flusher takes milliseconds.
const SETTLE_WAIT: Duration = Duration::from_secs(10);
/// Between two looks at whether it has.
const SETTLE_POLL: Duration = Duration::from_millis(5);

/// How much compaction may take.
#[derive(Clone, Copy, Debug)]
pub struct CompactionLimits {
    /// Between two looks at all logs.
    pub interval: Duration,
    /// Memory for the keys of one log.
    pub buffer_bytes: usize,
    /// Bytes read and written a second at most.
    pub bytes_per_second_max: u64,
}

/// The thread that compacts.
pub struct Compactor {
    limits: CompactionLimits,
    partitions: Arc<Registry>,
    metrics: CompactionMetrics,
    /// Guards the wish to stop. Pauses wait on it.
    stopping: Mutex<bool>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Compactor {
    /// Starts the thread.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        limits: CompactionLimits,
        partitions: Arc<Registry>,
        metrics: &Metrics,
    ) -> std::io::Result<Arc<Compactor>> {
        let compactor = Arc::new(Compactor {
            limits,
            partitions,
            metrics: CompactionMetrics::register(metrics),
            stopping: Mutex::new(false),
            wake: Condvar::new(),
            thread: Mutex::default(),
        });
        let worker = compactor.clone();
        let thread = std::thread::Builder::new().name("highwater-compact".to_owned()).spawn(move || {
            let _ = worker.run();
        })?;
        *compactor.thread.lock() = Some(thread);
        Ok(compactor)
    }

    /// Has the thread end, without waiting for it.
    pub fn request_stop(&self) {
        *self.stopping.lock() = true;
        self.wake.notify_all();
    }

    /// Ends the thread. A pass that is under way is given up: the next one begins where it did.
    pub fn stop(&self) {
        self.request_stop();
        if let Some(thread) = self.thread.lock().take() {
            // A thread that panicked said so on its way out.
            let _ = thread.join();
        }
    }

    /// Round after round, until the broker stops.
    fn run(&self) -> ControlFlow<()> {
        // Of this thread alone: on Linux each has a priority of its own. Without it things go on as they are.
        let _ = rustix::process::setpriority_process(None, NICE);
        loop {
            let mut uncleanable = 0;
            for (partition, _) in self.due() {
                match self.compact(&partition) {
                    Ok(report) => self.compacted(&partition, &report),
                    Err(CompactionError::Stopped) => return ControlFlow::Break(()),
                    // The log has changed or is on its way out, and nothing is wrong with it.
                    Err(error @ (CompactionError::Overtaken | CompactionError::Unsettled)) => {
                        tracing::debug!(?partition, %error, "compaction is put off");
                    }
                    Err(_) if partition.is_closed() => {}
                    Err(error) => {
                        uncleanable += 1;
                        self.metrics.failures.inc();
                        tracing::warn!(?partition, %error, "compaction failed; it is tried again");
                    }
                }
            }
            self.metrics.uncleanable.set(uncleanable);
            self.pause(self.limits.interval)?;
        }
    }

    /// The logs that a pass is due for: those that hold records older than they may first, then by their dirty part.
    fn due(&self) -> Vec<(Arc<Partition>, Dirtiness)> {
        let now_ms = now_ms();
        let mut due = Vec::new();
        let mut ratio_max = 0;
        for partition in self.partitions.all() {
            if !partition.config().cleanup.compact || partition.is_closed() {
                continue;
            }
            let view = partition.log().compactable(now_ms);
            let Some(dirtiness) = view.and_then(|view| view.dirtiness().ok()) else { continue };
            ratio_max = ratio_max.max(dirtiness.ratio_millionths());
            if dirtiness.is_due() {
                due.push((partition, dirtiness));
            }
        }
        due.sort_by_key(|(_, dirtiness)| {
            std::cmp::Reverse((dirtiness.overdue, dirtiness.ratio_millionths()))
        });
        self.metrics.dirty_ratio_max.set(f64::from(ratio_max) / 1e6);
        self.metrics.due.set(i64::try_from(due.len()).unwrap_or(i64::MAX));
        due
    }

    fn compact(&self, partition: &Partition) -> Result<CompactionReport, CompactionError> {
        let mut throttle = Throttle::new(self.limits.bytes_per_second_max);
        let mut pace = |bytes: u64| {
            self.metrics.processed_bytes.inc_by(bytes);
            self.pause(throttle.wait_after(bytes)).is_continue()
        };
        let mut pass = {
            let mut log = partition.log();
            let Some(view) = log.compactable(now_ms()) else { return Err(CompactionError::Overtaken) };
            log.begin_compaction(view)
        };
        pass.prepare(self.limits.buffer_bytes, &mut pace)?;
        let patience = Instant::now() + SETTLE_WAIT;
        while !pass.is_settled() && Instant::now() < patience {
            if self.pause(SETTLE_POLL).is_break() {
                return Err(CompactionError::Stopped);
            }
        }
        while let Some(cleaned) = pass.next(&mut pace)? {
            partition.log().take_cleaned(cleaned)?;
        }
        let report = pass.finish()?;
        partition.log().finish_compaction(&report);
        Ok(report)
    }

    fn compacted(&self, partition: &Partition, report: &CompactionReport) {
        let removed = report.replaced_bytes.saturating_sub(report.written_bytes);
        self.metrics.passes.inc();
        self.metrics.removed_bytes.inc_by(removed);
        self.metrics.last_pass_seconds.set(now_ms() / 1000);
        tracing::info!(
            ?partition,
            read_bytes = report.read_bytes,
            written_bytes = report.written_bytes,
            removed_bytes = removed,
            keys = report.keys,
            compacted_to = report.first_dirty,
            undecodable_batches = report.undecodable_batches,
            "compacted"
        );
    }

    /// Waits, unless the broker stops.
    fn pause(&self, pause: Duration) -> ControlFlow<()> {
        let mut stopping = self.stopping.lock();
        if !pause.is_zero() {
            let until = Instant::now() + pause;
            while !*stopping && !self.wake.wait_until(&mut stopping, until).timed_out() {}
        }
        if *stopping { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Spreads bytes over time.
#[derive(Debug)]
struct Throttle {
    began: Instant,
    bytes: u64,
    bytes_per_second_max: u64,
}

impl Throttle {
    /// The shortest wait that is worth one.
    const WAIT_MIN: Duration = Duration::from_millis(20);

    fn new(bytes_per_second_max: u64) -> Throttle {
        Throttle { began: Instant::now(), bytes: 0, bytes_per_second_max }
    }

    /// How long to wait after so many bytes more.
    fn wait_after(&mut self, bytes: u64) -> Duration {
        self.bytes += bytes;
        self.wait_at(self.began.elapsed())
    }

    fn wait_at(&self, elapsed: Duration) -> Duration {
        let earliest = Duration::from_secs_f64(self.bytes as f64 / self.bytes_per_second_max as f64);
        let wait = earliest.saturating_sub(elapsed);
        if wait < Self::WAIT_MIN { Duration::ZERO } else { wait }
    }
}

/// The compactor's metrics.
#[derive(Debug, Default)]
struct CompactionMetrics {
    passes: Counter,
    failures: Counter,
    processed_bytes: Counter,
    removed_bytes: Counter,
    dirty_ratio_max: Gauge<f64, AtomicU64>,
    due: Gauge,
    uncleanable: Gauge,
    last_pass_seconds: Gauge,
}

impl CompactionMetrics {
    fn register(metrics: &Metrics) -> CompactionMetrics {
        let all = CompactionMetrics::default();
        metrics.register(|registry| {
            registry.register("compaction_passes", "Logs compacted", all.passes.clone());
            registry.register(
                "compaction_failures",
                "Passes of compaction that failed",
                all.failures.clone(),
            );
            registry.register(
                "compaction_processed_bytes",
                "Bytes read and written by compaction",
                all.processed_bytes.clone(),
            );
            registry.register(
                "compaction_removed_bytes",
                "Bytes by which compaction has shrunk logs",
                all.removed_bytes.clone(),
            );
            registry.register(
                "compaction_dirty_ratio_max",
                "The largest part of a log that is not compacted yet, as of the last look",
                all.dirty_ratio_max.clone(),
            );
            registry.register(
                "compaction_due_partitions",
                "Logs that a pass was due for at the last look",
                all.due.clone(),
            );
            registry.register(
                "compaction_uncleanable_partitions",
                "Logs among them whose pass failed",
                all.uncleanable.clone(),
            );
            registry.register(
                "compaction_last_pass_timestamp_seconds",
                "When the last pass ended, 0 before the first",
                all.last_pass_seconds.clone(),
            );
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_spreads_bytes_over_time() {
        let mut throttle = Throttle::new(1000);
        throttle.bytes = 2000;
        assert_eq!(throttle.wait_at(Duration::ZERO), Duration::from_secs(2));
        assert_eq!(throttle.wait_at(Duration::from_millis(1500)), Duration::from_millis(500));
        assert_eq!(throttle.wait_at(Duration::from_millis(1990)), Duration::ZERO, "too short to wait for");
        assert_eq!(throttle.wait_at(Duration::from_secs(9)), Duration::ZERO);
    }
}
