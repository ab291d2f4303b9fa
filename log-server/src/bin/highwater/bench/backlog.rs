//! What has been acknowledged in one partition and not yet been received: how many records, and how old the oldest is.
//!
//! Pure: times are on the run's clock. Memory is bounded by [`MARKS_MAX`]; what is given up for that is how exactly the
//! age is known, never the count.

use std::collections::VecDeque;
use std::time::Duration;

/// Marks that are kept. Beyond that every second one is dropped.
const MARKS_MAX: usize = 1024;

/// One partition's.
#[derive(Debug, Default)]
pub struct Backlog {
    acknowledged: u64,
    received: u64,
    /// Behind the last record that was received: what lies before has come already.
    next_offset: i64,
    /// How many records had been acknowledged before, and when the next one was due.
    marks: VecDeque<(u64, Duration)>,
}

impl Backlog {
    /// Takes note of `count` records, the oldest of them due at `due`.
    pub fn acknowledge(&mut self, count: u64, due: Duration) {
        if self.marks.len() == MARKS_MAX {
            let mut number = 0;
            self.marks.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        self.marks.push_back((self.acknowledged, due));
        self.acknowledged += count;
        self.forget();
    }

    /// Takes note of the record at `offset`; false if it had come before.
    pub fn receive(&mut self, offset: i64) -> bool {
        if offset < self.next_offset {
            return false;
        }
        self.next_offset = offset + 1;
        self.received += 1;
        self.forget();
        true
    }

    /// Records that are still to come. A record can be received before its acknowledgement is.
    pub fn records(&self) -> u64 {
        self.acknowledged.saturating_sub(self.received)
    }

    /// How long ago the oldest of them was due; zero if there is none.
    pub fn age(&self, now: Duration) -> Duration {
        match self.marks.front() {
            Some(&(_, due)) if self.records() > 0 => now.saturating_sub(due),
            _ => Duration::ZERO,
        }
    }

    /// Drops marks whose records have all been received.
    fn forget(&mut self) {
        while let Some(&(next, _)) = self.marks.get(1)
            && next <= self.received
        {
            self.marks.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_oldest_that_is_missing_says_the_age() {
        let mut backlog = Backlog::default();
        backlog.acknowledge(10, SECOND);
        backlog.acknowledge(10, 2 * SECOND);
        assert_eq!((backlog.records(), backlog.age(5 * SECOND)), (20, 4 * SECOND));
        assert!((0..10).all(|offset| backlog.receive(offset)));
        assert_eq!((backlog.records(), backlog.age(5 * SECOND)), (10, 3 * SECOND));
        assert!(!backlog.receive(3), "it had come before");
        assert!((10..20).all(|offset| backlog.receive(offset)));
        assert_eq!((backlog.records(), backlog.age(5 * SECOND)), (0, Duration::ZERO));
    }

    #[test]
    fn what_comes_before_its_acknowledgement_is_no_lag() {
        let mut backlog = Backlog::default();
        assert!(backlog.receive(0));
        assert_eq!(backlog.records(), 0);
        backlog.acknowledge(1, SECOND);
        assert_eq!((backlog.records(), backlog.age(9 * SECOND)), (0, Duration::ZERO));
    }

    #[test]
    fn however_long_it_gets_the_marks_are_bounded_and_never_too_young() {
        let mut backlog = Backlog::default();
        for number in 0..100_000u64 {
            backlog.acknowledge(1, Duration::from_millis(number));
            if number % 4 == 0 {
                assert!(backlog.receive((number / 4) as i64));
            }
            let oldest = Duration::from_millis(number / 4 + 1);
            let now = Duration::from_millis(number + 1);
            assert!(backlog.records() == 0 || backlog.age(now) >= now.saturating_sub(oldest));
            assert!(backlog.marks.len() <= MARKS_MAX);
        }
        assert_eq!(backlog.records(), 75_000);
    }
}
