//! Pacing by the clock, and the percentiles that come of it.

use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Latencies above this many microseconds count as this many.
const LATENCY_US_MAX: u64 = 60_000_000;

/// Microseconds, to three digits.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Latencies {
        Latencies(Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("sound bounds"))
    }

    pub fn record(&mut self, latency_us: u64) {
        self.0.saturating_record(latency_us);
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The figures of a paced load.
    pub fn figures(&self) -> Value {
        let at = |quantile| self.0.value_at_quantile(quantile);
        json!({
            "records": self.0.len(),
            "p50_us": at(0.5), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": self.0.max(),
        })
    }
}

/// Says when each record is due. A record that is late counts from when it was due, so that a stall of the broker
/// is seen by every record that had to wait for its end.
pub struct Pace {
    start: Instant,
    interval: Duration,
}

impl Pace {
    pub fn new(start: Instant, rate: u32) -> Pace {
        Pace { start, interval: Duration::from_secs(1) / rate.max(1) }
    }

    /// Waits until the record with this number is due; returns that moment in microseconds since the start.
    pub fn wait(&self, number: u32) -> u64 {
        let due = self.interval * number;
        let now = self.start.elapsed();
        if due > now {
            thread::sleep(due - now);
        }
        due.as_micros() as u64
    }
}
