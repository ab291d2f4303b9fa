//! Latencies and lag over the time of a run, in as many stretches as fit a picture.
//!
//! A run may be long, and its memory is bounded all the same: when there are [`STRETCHES_MAX`] stretches, each two
//! neighbours become one, and from then on stretches are twice as long.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Stretches that are kept, of 26 KiB each.
const STRETCHES_MAX: usize = 120;

/// The longest latency that is told apart, an hour, in microseconds.
pub const LATENCY_MAX_US: u64 = 3_600_000_000;

/// Latencies in microseconds, to within a hundredth.
pub type Coarse = Histogram<u32>;

/// An empty [`Coarse`].
pub fn coarse() -> Coarse {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 2).expect("the bounds are constants that are valid")
}

/// What happened from the end of the stretch before to this one's.
#[derive(Clone, Debug)]
pub struct Stretch {
    /// Since the load began.
    pub end: Duration,
    /// Latencies of what was acknowledged, in microseconds.
    pub produced: Coarse,
    /// Latencies of what was received.
    pub consumed: Coarse,
    /// The most records that a look found to be acknowledged and not received.
    pub lag_records: u64,
    /// The greatest age of one of them that a look found.
    pub lag: Duration,
}

impl Stretch {
    fn merge(&mut self, later: &Stretch) {
        self.end = later.end;
        for (mine, theirs) in [(&mut self.produced, &later.produced), (&mut self.consumed, &later.consumed)] {
            mine.add(theirs).expect("both have the same bounds");
        }
        self.lag_records = self.lag_records.max(later.lag_records);
        self.lag = self.lag.max(later.lag);
    }
}

/// A run's stretches so far.
#[derive(Debug)]
pub struct Timeline {
    stretches: Vec<Stretch>,
    /// Looks that make a stretch.
    looks_each: u32,
    looks_in_last: u32,
}

impl Timeline {
    /// Nothing so far.
    pub fn new() -> Timeline {
        Timeline { stretches: Vec::new(), looks_each: 1, looks_in_last: 0 }
    }

    /// Adds what one look found.
    pub fn add(&mut self, look: Stretch) {
        match self.stretches.last_mut() {
            Some(last) if self.looks_in_last < self.looks_each => {
                last.merge(&look);
                self.looks_in_last += 1;
                return;
            }
            _ => {}
        }
        if self.stretches.len() == STRETCHES_MAX {
            let pairs = self.stretches.chunks(2).map(|pair| {
                let mut merged = pair[0].clone();
                pair[1..].iter().for_each(|later| merged.merge(later));
                merged
            });
            self.stretches = pairs.collect();
            self.looks_each *= 2;
        }
        self.stretches.push(look);
        self.looks_in_last = 1;
    }

    /// In order of time.
    pub fn stretches(&self) -> &[Stretch] {
        &self.stretches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_keeps_everything_in_bounded_room() {
        let mut timeline = Timeline::new();
        for number in 1..=10_000u64 {
            let mut look = Stretch {
                end: Duration::from_millis(number * 100),
                produced: coarse(),
                consumed: coarse(),
                lag_records: number % 777,
                lag: Duration::from_millis(number % 555),
            };
            look.produced.record(number).unwrap();
            timeline.add(look);
            assert!(timeline.stretches().len() <= STRETCHES_MAX);
        }
        let stretches = timeline.stretches();
        assert!(stretches.len() > STRETCHES_MAX / 2, "{}", stretches.len());
        assert_eq!(stretches.iter().map(|it| it.produced.len()).sum::<u64>(), 10_000);
        assert_eq!(stretches.last().unwrap().end, Duration::from_secs(1000));
        assert!(stretches.is_sorted_by_key(|it| it.end));
        assert_eq!(stretches.iter().map(|it| it.lag_records).max(), Some(776));
        assert_eq!(stretches.iter().map(|it| it.lag).max(), Some(Duration::from_millis(554)));
    }
}
