//! How many partitions at once are cheaper to sync: one by one, or all of them by one sync of the file system.
//!
//! One sync of the file system costs about as much as two or three of single files and covers any number of them,
//! but it also waits for whatever other programs have written to the same file system. So neither is always right,
//! and what decides is how long the last ones took. Pure: durations come in as arguments.

use std::time::Duration;

/// Partitions from which on a sync of everything is thought of.
const TOGETHER_MIN: usize = 4;
/// How much of an average a new measurement is.
const WEIGHT: f64 = 0.1;
/// What is left of the estimate of a sync of everything each time it is passed over, so that it is tried again even if
/// it was dear once: after about 700 partitions that were synced by themselves a thousandth is left of it.
const FORGOTTEN: f64 = 0.99;

/// What syncs have taken of late, in seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct SyncChoice {
    /// Whether there is a choice: the disk has a sync of everything that can be trusted.
    possible: bool,
    /// Threads among which single syncs are divided.
    threads: f64,
    one: f64,
    everything: f64,
}

impl SyncChoice {
    pub(super) fn new(possible: bool, threads: usize) -> SyncChoice {
        SyncChoice { possible, threads: threads as f64, one: 100e-6, everything: 0.0 }
    }

    /// Whether to sync `waiting` partitions together. Asked before each sync.
    pub(super) fn together(&mut self, waiting: usize) -> bool {
        if !self.possible || waiting < TOGETHER_MIN {
            return false;
        }
        let together = self.everything <= self.one * waiting as f64 / self.threads;
        if !together {
            self.everything *= FORGOTTEN;
        }
        together
    }

    /// A partition was synced by itself.
    pub(super) fn synced_one(&mut self, took: Duration) {
        self.one += WEIGHT * (took.as_secs_f64() - self.one);
    }

    /// Everything was synced.
    pub(super) fn synced_everything(&mut self, took: Duration) {
        // The first measurement and one after a long time count in full: what is left of the average is no average.
        let took = took.as_secs_f64();
        self.everything = if self.everything < took / 10.0 {
            took
        } else {
            self.everything + WEIGHT * (took - self.everything)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn many_are_synced_together_and_few_are_not() {
        let mut choice = SyncChoice::new(true, 2);
        choice.synced_everything(MS);
        (0..100).for_each(|_| choice.synced_one(MS / 10));
        assert!(!choice.together(3));
        assert!(!choice.together(10));
        assert!(choice.together(30));
    }

    #[test]
    fn somebody_elses_writes_make_it_turn_away_and_come_back() {
        let mut choice = SyncChoice::new(true, 2);
        assert!(choice.together(100), "it is tried");
        choice.synced_everything(2000 * MS);
        let passed_over = (0..10_000).position(|_| choice.together(100)).expect("it is tried again");
        assert!((100..2000).contains(&passed_over), "{passed_over}");
        choice.synced_everything(MS);
        assert!(choice.together(100));
    }

    #[test]
    fn where_there_is_no_choice_none_is_made() {
        assert!(!SyncChoice::new(false, 2).together(1000));
    }
}
