//! What is measured while a load runs: told by those who send and receive, read by the report.
//!
//! All times are on one clock, which begins with the meter; a record's stamp is on it too.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use log_client::ConsumerRecord;
use parking_lot::Mutex;

use super::backlog::Backlog;
use super::payload;
use super::timeline::{Coarse, LATENCY_MAX_US, Stretch, Timeline, coarse};

/// One direction: what was acknowledged, or what was received.
pub struct Flow {
    /// Latencies in microseconds, to within a thousandth.
    pub latencies: Histogram<u64>,
    /// Those since the last look.
    recent: Coarse,
    /// Bytes of values.
    pub bytes: u64,
    /// When the last of them came, on the meter's clock.
    pub last: Duration,
}

impl Flow {
    fn new() -> Flow {
        let latencies = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3);
        Flow {
            latencies: latencies.expect("the bounds are constants that are valid"),
            recent: coarse(),
            bytes: 0,
            last: Duration::ZERO,
        }
    }

    /// How many records.
    pub fn records(&self) -> u64 {
        self.latencies.len()
    }

    fn add(&mut self, due: Duration, at: Duration, bytes: usize) {
        let micros = u64::try_from(at.saturating_sub(due).as_micros()).unwrap_or(u64::MAX);
        self.latencies.saturating_record(micros);
        self.recent.saturating_record(micros);
        self.bytes += bytes as u64;
        self.last = self.last.max(at);
    }

    fn take_recent(&mut self) -> Coarse {
        std::mem::replace(&mut self.recent, coarse())
    }
}

/// A record that was acknowledged.
pub struct Acknowledged {
    /// When it was to be sent.
    pub due: Duration,
    /// When its acknowledgement came.
    pub at: Duration,
    /// Bytes of its value.
    pub bytes: usize,
}

/// What could not be delivered.
#[derive(Default)]
pub struct Failures {
    /// How many records.
    pub records: u64,
    /// What the first of them came to.
    pub first: Option<String>,
}

/// The measurements of one run.
pub struct Meter {
    run: u64,
    origin: Instant,
    /// Each lock guards one direction, one partition or one list, and is held for a group of records or one look. Only
    /// `with_all` takes more than one, in this order.
    produced: Mutex<Flow>,
    consumed: Mutex<Flow>,
    backlogs: Vec<Mutex<Backlog>>,
    repeated: Mutex<u64>,
    failures: Mutex<Failures>,
    timeline: Mutex<Timeline>,
}

impl Meter {
    /// A meter of the run, over a topic of so many partitions. Its clock starts.
    pub fn new(run: u64, partitions: usize) -> Meter {
        Meter {
            run,
            origin: Instant::now(),
            produced: Mutex::new(Flow::new()),
            consumed: Mutex::new(Flow::new()),
            backlogs: (0..partitions).map(|_| Mutex::default()).collect(),
            repeated: Mutex::new(0),
            failures: Mutex::default(),
            timeline: Mutex::new(Timeline::new()),
        }
    }

    /// The time on the meter's clock.
    pub fn now(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Takes note of records of one partition, in the order of sending.
    pub fn acknowledged(&self, partition: usize, records: &[Acknowledged]) {
        let Some(oldest) = records.iter().map(|record| record.due).min() else { return };
        if let Some(backlog) = self.backlogs.get(partition) {
            backlog.lock().acknowledge(records.len() as u64, oldest);
        }
        let mut produced = self.produced.lock();
        for record in records {
            produced.add(record.due, record.at, record.bytes);
        }
    }

    /// Takes note of what a poll has brought. Records of others are passed over.
    pub fn received(&self, records: &[ConsumerRecord]) {
        let at = self.now();
        for of_partition in records.chunk_by(|a, b| a.partition == b.partition) {
            let Some(backlog) = self.backlogs.get(of_partition[0].partition as usize) else { continue };
            let mut new = Vec::with_capacity(of_partition.len());
            let mut repeated = 0;
            {
                let mut backlog = backlog.lock();
                for record in of_partition {
                    let value = record.value.as_deref().unwrap_or_default();
                    match payload::due(self.run, value) {
                        Some(due) if backlog.receive(record.offset) => new.push((due, value.len())),
                        Some(_) => repeated += 1,
                        None => {}
                    }
                }
            }
            *self.repeated.lock() += repeated;
            let mut consumed = self.consumed.lock();
            for (due, bytes) in new {
                consumed.add(due, at, bytes);
            }
        }
    }

    /// Takes note of a record that was given up.
    pub fn failed(&self, error: impl ToString) {
        let mut failures = self.failures.lock();
        failures.records += 1;
        failures.first.get_or_insert_with(|| error.to_string());
    }

    /// Looks how things stand, for the timeline. `start` is when the load began.
    pub fn look(&self, start: Duration) {
        let now = self.now();
        let (mut lag_records, mut lag) = (0, Duration::ZERO);
        for backlog in &self.backlogs {
            let backlog = backlog.lock();
            lag_records += backlog.records();
            lag = lag.max(backlog.age(now));
        }
        let produced = self.produced.lock().take_recent();
        let consumed = self.consumed.lock().take_recent();
        let end = now.saturating_sub(start);
        self.timeline.lock().add(Stretch { end, produced, consumed, lag_records, lag });
    }

    /// Whether anything that was acknowledged is still to come.
    pub fn is_behind(&self) -> bool {
        self.backlogs.iter().any(|backlog| backlog.lock().records() > 0)
    }

    /// Records acknowledged and records received so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.produced.lock().records(), self.consumed.lock().records())
    }

    /// All that was measured.
    pub fn with_all<T>(&self, read: impl FnOnce(Measured<'_>) -> T) -> T {
        read(Measured {
            produced: &self.produced.lock(),
            consumed: &self.consumed.lock(),
            missing: self.backlogs.iter().map(|backlog| backlog.lock().records()).sum(),
            repeated: *self.repeated.lock(),
            failures: &self.failures.lock(),
            timeline: self.timeline.lock().stretches(),
        })
    }
}

/// What a [`Meter`] holds.
pub struct Measured<'a> {
    /// What was acknowledged.
    pub produced: &'a Flow,
    /// What was received, each record once.
    pub consumed: &'a Flow,
    /// Records that were received again.
    pub repeated: u64,
    /// Records that were acknowledged and not received.
    pub missing: u64,
    /// What was given up.
    pub failures: &'a Failures,
    /// In order of time.
    pub timeline: &'a [Stretch],
}
