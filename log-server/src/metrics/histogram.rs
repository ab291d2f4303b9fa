//! A histogram that costs an observer two relaxed additions: no lock, no search, no allocation.
//!
//! Its buckets double, so the bucket of a value is a count of leading zeros. Values are whole numbers (nanoseconds,
//! bytes, records); the exposition shows them in the unit of the metric's name.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// Buckets with a bound of their own; one without follows them.
const BOUNDED: usize = 18;

/// How often values fell into each of 18 buckets whose bounds double, and what lies above them. A handle: clones count
/// together.
#[derive(Clone)]
pub struct Histogram {
    cells: Arc<Cells>,
}

struct Cells {
    /// The bound of the first bucket, inclusive.
    first: u64,
    /// What a value is divided by to be shown.
    divisor: f64,
    buckets: [AtomicU64; BOUNDED + 1],
    sum: AtomicU64,
}

/// What a histogram holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Values in each bucket alone, the last of which has no bound.
    pub buckets: [u64; BOUNDED + 1],
    /// The sum of all values.
    pub sum: u64,
}

impl Snapshot {
    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Histogram {
    /// Of times: nanoseconds inside, seconds in the exposition, from 50 µs to 6.5 s.
    pub fn of_seconds() -> Histogram {
        Histogram::new(50_000, 1e9)
    }

    /// Of sizes in bytes, from 512 to 64 Mi.
    pub fn of_bytes() -> Histogram {
        Histogram::new(512, 1.0)
    }

    /// Of numbers of things, from 1 to 131,072.
    pub fn of_count() -> Histogram {
        Histogram::new(1, 1.0)
    }

    fn new(first: u64, divisor: f64) -> Histogram {
        let cells = Cells { first, divisor, buckets: Default::default(), sum: AtomicU64::new(0) };
        Histogram { cells: Arc::new(cells) }
    }

    /// Counts a duration.
    pub fn observe_duration(&self, took: Duration) {
        self.observe(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Counts a value.
    pub fn observe(&self, value: u64) {
        // Relaxed: nothing is concluded from one number about another. A scrape may see a value in its bucket and not
        // yet in the sum.
        self.cells.buckets[self.cells.bucket(value)].fetch_add(1, Ordering::Relaxed);
        self.cells.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> Snapshot {
        let buckets = std::array::from_fn(|index| self.cells.buckets[index].load(Ordering::Relaxed));
        Snapshot { buckets, sum: self.cells.sum.load(Ordering::Relaxed) }
    }

    /// Writes a snapshot as the samples of a histogram.
    pub fn encode_into(&self, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        let held = self.snapshot();
        let buckets: [(f64, u64); BOUNDED + 1] =
            std::array::from_fn(|index| (self.cells.bound(index), held.buckets[index]));
        encoder.encode_histogram::<NoLabelSet>(
            held.sum as f64 / self.cells.divisor,
            held.count(),
            &buckets,
            None,
        )
    }
}

impl Cells {
    /// The bucket whose bound is the first that is not below `value`.
    fn bucket(&self, value: u64) -> usize {
        let steps = value.div_ceil(self.first).saturating_sub(1);
        ((u64::BITS - steps.leading_zeros()) as usize).min(BOUNDED)
    }

    fn bound(&self, index: usize) -> f64 {
        match index {
            BOUNDED.. => f64::MAX,
            index => (self.first << index) as f64 / self.divisor,
        }
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        self.encode_into(&mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Histogram({} values)", self.snapshot().count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_whose_bound_it_does_not_exceed() {
        for histogram in [Histogram::of_seconds(), Histogram::of_bytes(), Histogram::of_count()] {
            let bounds: Vec<u64> = (0..BOUNDED).map(|index| histogram.cells.first << index).collect();
            for (index, &bound) in bounds.iter().enumerate() {
                for value in [bound - 1, bound, bound + 1] {
                    let expected = bounds.partition_point(|&bound| bound < value);
                    assert_eq!(histogram.cells.bucket(value), expected, "{value}, beside bound {index}");
                }
            }
            assert_eq!((histogram.cells.bucket(0), histogram.cells.bucket(u64::MAX)), (0, BOUNDED));
        }
    }

    #[test]
    fn the_sum_and_the_count_are_of_all_values() {
        let histogram = Histogram::of_count();
        for value in [1, 2, 3, 1 << 40] {
            histogram.observe(value);
        }
        let held = histogram.snapshot();
        assert_eq!((held.count(), held.sum), (4, 6 + (1 << 40)));
        assert_eq!((held.buckets[0], held.buckets[1], held.buckets[2], held.buckets[BOUNDED]), (1, 1, 1, 1));
    }
}
