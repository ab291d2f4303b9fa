//! What a bench has found, as a table and as JSON.

use std::time::Duration;

use hdrhistogram::{Counter, Histogram};
use serde::Serialize;

use super::meter::{Flow, Measured};
use super::plan::Plan;
use crate::table::table;
use crate::{human, say};

/// How a bench ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// As planned.
    Complete,
    /// By a signal.
    Interrupted,
    /// By an error.
    Failed,
}

/// All figures of a run. Latencies are in milliseconds and lag in seconds.
#[derive(Debug, Serialize)]
pub struct Report {
    pub topic: String,
    pub partitions: usize,
    pub plan: Plan,
    pub end: End,
    pub produced: Direction,
    /// `None` without consumers.
    pub consumed: Option<Direction>,
    /// Records that were given up.
    pub failed: u64,
    /// Records that were due and not sent before the time was over, because the load was behind its schedule.
    pub unsent: u64,
    /// Records that came more than once, beyond the first time.
    pub repeated: u64,
    /// Records that were acknowledged and did not come.
    pub missing: u64,
    pub lag: Lag,
    pub timeline: Vec<Point>,
    /// What `produced` and `consumed` latencies are, by percentile, for a picture.
    #[serde(skip)]
    pub curves: Curves,
}

/// What was acknowledged, or what was received.
#[derive(Debug, Serialize)]
pub struct Direction {
    pub records: u64,
    pub bytes: u64,
    /// From the start of the load to the last of them.
    pub seconds: f64,
    pub records_per_second: f64,
    pub bytes_per_second: f64,
    pub latency_ms: Latency,
}

/// Percentiles in milliseconds; all of them `None` of nothing.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    pub p50: Option<f64>,
    pub p90: Option<f64>,
    pub p99: Option<f64>,
    #[serde(rename = "p99.9")]
    pub p99_9: Option<f64>,
    pub max: Option<f64>,
}

/// The most that any look found.
#[derive(Debug, Serialize)]
pub struct Lag {
    pub records_max: u64,
    pub seconds_max: f64,
}

/// A stretch of the run.
#[derive(Debug, Serialize)]
pub struct Point {
    /// Its end, in seconds since the load began.
    pub second: f64,
    pub produced_records: u64,
    pub consumed_records: u64,
    pub produce_latency_ms: Latency,
    pub end_to_end_latency_ms: Latency,
    pub lag_records: u64,
    pub lag_seconds: f64,
}

/// Pairs of a quantile, 0 to 1, and milliseconds.
#[derive(Debug, Default)]
pub struct Curves {
    pub produced: Vec<(f64, f64)>,
    pub consumed: Vec<(f64, f64)>,
}

impl Report {
    /// Of a load that began at `start` on the meter's clock.
    pub fn new(
        topic: &str,
        partitions: usize,
        plan: &Plan,
        end: End,
        start: Duration,
        found: &Measured<'_>,
    ) -> Report {
        let has_readers = plan.consumers > 0;
        let handled = found.produced.records() + found.failures.records;
        let is_scheduled = plan.rate.is_some() && end == End::Complete;
        let total = plan.records_total().filter(|_| is_scheduled).unwrap_or(0);
        Report {
            topic: topic.to_owned(),
            partitions,
            plan: plan.clone(),
            end,
            produced: Direction::new(found.produced, start),
            consumed: has_readers.then(|| Direction::new(found.consumed, start)),
            failed: found.failures.records,
            unsent: total.saturating_sub(handled),
            repeated: found.repeated,
            missing: if has_readers { found.missing } else { 0 },
            lag: Lag {
                records_max: found
                    .timeline
                    .iter()
                    .map(|it| it.lag_records)
                    .max()
                    .filter(|_| has_readers)
                    .unwrap_or(0),
                seconds_max: found
                    .timeline
                    .iter()
                    .map(|it| it.lag)
                    .max()
                    .filter(|_| has_readers)
                    .unwrap_or_default()
                    .as_secs_f64(),
            },
            timeline: found
                .timeline
                .iter()
                .map(|stretch| Point {
                    second: stretch.end.as_secs_f64(),
                    produced_records: stretch.produced.len(),
                    consumed_records: stretch.consumed.len(),
                    produce_latency_ms: Latency::of(&stretch.produced),
                    end_to_end_latency_ms: Latency::of(&stretch.consumed),
                    lag_records: if has_readers { stretch.lag_records } else { 0 },
                    lag_seconds: if has_readers { stretch.lag.as_secs_f64() } else { 0.0 },
                })
                .collect(),
            curves: Curves {
                produced: curve(&found.produced.latencies),
                consumed: curve(&found.consumed.latencies),
            },
        }
    }

    /// Prints it for people.
    pub fn print(&self) {
        say!("produced    {}", self.produced.throughput());
        if let Some(consumed) = &self.consumed {
            say!("consumed    {}", consumed.throughput());
        }
        for (count, what) in [
            (self.failed, "were not delivered"),
            (self.unsent, "were due and not sent: the broker did not keep up with the rate"),
            (self.repeated, "came more than once"),
            (self.missing, "were acknowledged and did not come"),
        ] {
            if count > 0 {
                say!("{} records {what}", human::count(count as i64));
            }
        }
        let mut latencies = table(&["latency (ms)", "#p50", "#p90", "#p99", "#p99.9", "#max"]);
        latencies.add_row(self.produced.latency_ms.row("produce"));
        if let Some(consumed) = &self.consumed {
            latencies.add_row(consumed.latency_ms.row("end to end"));
        }
        say!("{latencies}");
        if self.consumed.is_some() {
            say!(
                "lag         at most {} records and {:.3} s",
                human::count(self.lag.records_max as i64),
                self.lag.seconds_max
            );
        }
    }
}

impl Direction {
    fn new(flow: &Flow, start: Duration) -> Direction {
        let seconds = flow.last.saturating_sub(start).as_secs_f64();
        let per_second = |amount: u64| if seconds > 0.0 { amount as f64 / seconds } else { 0.0 };
        Direction {
            records: flow.records(),
            bytes: flow.bytes,
            seconds,
            records_per_second: per_second(flow.records()),
            bytes_per_second: per_second(flow.bytes),
            latency_ms: Latency::of(&flow.latencies),
        }
    }

    fn throughput(&self) -> String {
        human::rate(self.records, self.bytes, Duration::from_secs_f64(self.seconds))
    }
}

impl Latency {
    fn of<C: Counter>(latencies: &Histogram<C>) -> Latency {
        let at = |quantile| (!latencies.is_empty()).then(|| ms(latencies.value_at_quantile(quantile)));
        Latency {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            max: (!latencies.is_empty()).then(|| ms(latencies.max())),
        }
    }

    fn row(&self, name: &str) -> Vec<String> {
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"));
        let values = [self.p50, self.p90, self.p99, self.p99_9, self.max];
        [name.to_owned()].into_iter().chain(values.map(cell)).collect()
    }
}

/// Percentiles, ever closer to the last.
fn curve(latencies: &Histogram<u64>) -> Vec<(f64, f64)> {
    let steps = latencies.iter_quantiles(5);
    steps.map(|step| (step.quantile_iterated_to(), ms(step.value_iterated_to()))).collect()
}

fn ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}
