//! What clients have written to a partition and read from it, counted since the broker started, and the rates of that.

use std::fmt;
use std::ops::Add;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::rate_window::RateWindow;
use super::registry::Registry;

/// How often the totals of all partitions are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Totals of one partition. They only rise, so a rate is the difference of two looks.
///
/// All of it is relaxed: each number stands alone, and whoever looks at two of them may see one of a moment later.
pub struct Traffic {
    produced_records: AtomicU64,
    produced_bytes: AtomicU64,
    fetched_bytes: AtomicU64,
    /// The totals at the last looks. Locked for a look, never by who counts.
    window: Mutex<RateWindow<3>>,
}

/// What goes through a partition, or several of them, averaged over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TrafficRates {
    /// Records appended by producers.
    pub produce_records_per_second: f64,
    /// Bytes of their batches.
    pub produce_bytes_per_second: f64,
    /// Bytes of batches handed to consumers.
    pub fetch_bytes_per_second: f64,
}

impl Traffic {
    /// Counts an appended batch.
    pub fn produced(&self, records: u64, bytes: u64) {
        self.produced_records.fetch_add(records, Ordering::Relaxed);
        self.produced_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes of record batches that were handed to a consumer.
    pub fn fetched(&self, bytes: u64) {
        self.fetched_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records that producers have appended.
    pub fn produced_records(&self) -> u64 {
        self.produced_records.load(Ordering::Relaxed)
    }

    /// Bytes of the batches that producers have appended.
    pub fn produced_bytes(&self) -> u64 {
        self.produced_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of the batches that consumers were handed.
    pub fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes.load(Ordering::Relaxed)
    }

    /// The rates as of the last look.
    pub fn rates(&self) -> TrafficRates {
        let [records, bytes, fetched] = self.window.lock().rates();
        TrafficRates {
            produce_records_per_second: records,
            produce_bytes_per_second: bytes,
            fetch_bytes_per_second: fetched,
        }
    }

    fn look(&self, now: Instant) {
        let totals = [self.produced_records(), self.produced_bytes(), self.fetched_bytes()];
        self.window.lock().look(now, totals);
    }
}

/// Looks at the totals of all partitions once a second, until `shutdown`, so that there are rates.
pub async fn watch_traffic(partitions: Arc<Registry>, shutdown: CancellationToken) {
    let mut interval = tokio::time::interval(LOOK_INTERVAL);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(interval.tick()).await.is_some() {
        let now = Instant::now();
        for partition in partitions.all() {
            partition.traffic().look(now);
        }
    }
}

impl Default for Traffic {
    fn default() -> Self {
        Traffic {
            produced_records: AtomicU64::new(0),
            produced_bytes: AtomicU64::new(0),
            fetched_bytes: AtomicU64::new(0),
            window: Mutex::new(RateWindow::new(Instant::now())),
        }
    }
}

impl fmt::Debug for Traffic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (records, bytes, fetched) =
            (self.produced_records(), self.produced_bytes(), self.fetched_bytes());
        write!(f, "Traffic({records} records, {bytes} bytes in, {fetched} bytes out)")
    }
}

impl Add for TrafficRates {
    type Output = TrafficRates;

    fn add(self, other: TrafficRates) -> TrafficRates {
        TrafficRates {
            produce_records_per_second: self.produce_records_per_second + other.produce_records_per_second,
            produce_bytes_per_second: self.produce_bytes_per_second + other.produce_bytes_per_second,
            fetch_bytes_per_second: self.fetch_bytes_per_second + other.fetch_bytes_per_second,
        }
    }
}
