//! How many workers a group needs, from its lag, its rates and its objective. Pure.
//!
//! ```text
//! needed  = records that come in a second + records behind ÷ the objective's seconds
//! workers = needed ÷ what one worker can do, rounded up
//! ```
//!
//! So a group that is behind is sized to work its lag off within one objective's time. It is never more than the
//! partitions that the group consumes, since a partition has one reader; at least 1 while records come in or are
//! waited for; 0 when nothing comes in and nothing is behind.
//!
//! What a worker can do is only seen while the group is busy: the rate of one that keeps up is that of the producers.
//! So it is learned while the group is behind, and otherwise only corrected upwards. And only while the same number of
//! workers has been there for as long as rates are taken over: what three did lately is not what the one that is left
//! can do.

use std::time::{Duration, Instant};

/// The weight of one reading in what a worker is taken to be able to do.
const LEARNING: f64 = 0.3;

/// Of the objective's lag: where a group is taken to be as busy as it can be.
const BUSY_PART: f64 = 0.25;

/// How long the number of workers has to be the same before a rate is theirs: as long as rates look back.
const STEADY: Duration = Duration::from_secs(20);

/// Production rates below this, in records a second, are nothing.
const IDLE_RATE: f64 = 1e-3;

/// What is known of a group at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Records between what is committed and the ends.
    pub lag_records: i64,
    /// Age of the first of them, in seconds.
    pub lag_seconds: f64,
    /// How long such records have waited for the group, in seconds, as far as its objective goes by it.
    pub waited_seconds: Option<f64>,
    /// Records that come in a second, if that is known.
    pub produced_per_second: Option<f64>,
    /// Records that the group consumes a second, if that is known.
    pub consumed_per_second: Option<f64>,
    /// Members of the group.
    pub workers: usize,
    /// Partitions that the group consumes.
    pub partitions: usize,
}

/// What one worker of a group can do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Capacity {
    records_per_second: Option<f64>,
    /// How many workers there are, and since when.
    workers: Option<(usize, Instant)>,
}

impl Capacity {
    /// Records a second that one worker can do; `None` before it was seen at work.
    pub fn records_per_second(&self) -> Option<f64> {
        self.records_per_second
    }

    /// Learns from a moment.
    pub fn observe(&mut self, load: &Load, objective: Duration, now: Instant) {
        let (workers, since) =
            self.workers.filter(|(count, _)| *count == load.workers).unwrap_or((load.workers, now));
        self.workers = Some((workers, since));
        if now.saturating_duration_since(since) < STEADY {
            return;
        }
        let Some(consumed) = load.consumed_per_second.filter(|rate| *rate > IDLE_RATE) else { return };
        if load.workers == 0 {
            return;
        }
        let seen = consumed / load.workers as f64;
        let busy = load.waited_seconds.is_some_and(|waited| waited > objective.as_secs_f64() * BUSY_PART);
        self.records_per_second = Some(match self.records_per_second {
            None => seen,
            Some(known) if busy => known + LEARNING * (seen - known),
            Some(known) => known.max(seen),
        });
    }

    /// The workers that the group should have.
    pub fn desired_workers(&self, load: &Load, objective: Duration) -> usize {
        let produced = load.produced_per_second.unwrap_or(0.0).max(0.0);
        let behind = load.lag_records.max(0) as f64;
        if load.partitions == 0 || (behind == 0.0 && produced <= IDLE_RATE) {
            return 0;
        }
        let needed = produced + behind / objective.as_secs_f64().max(1e-3);
        let workers = match self.records_per_second {
            Some(capacity) => (needed / capacity).ceil() as usize,
            // Nobody was seen at work yet: as many as there are, and one to begin with.
            None => load.workers,
        };
        workers.clamp(1, load.partitions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTIVE: Duration = Duration::from_secs(30);

    /// A group of 12 partitions and 2 workers whose workers can do 100 records a second each.
    fn load() -> Load {
        Load {
            lag_records: 3000,
            lag_seconds: 20.0,
            waited_seconds: Some(20.0),
            produced_per_second: Some(300.0),
            consumed_per_second: Some(200.0),
            workers: 2,
            partitions: 12,
        }
    }

    /// What is learned while it is the same for a minute, once a second.
    fn learn(capacity: &mut Learning, load: &Load) {
        for _ in 0..60 {
            capacity.now += Duration::from_secs(1);
            capacity.capacity.observe(load, OBJECTIVE, capacity.now);
        }
    }

    struct Learning {
        capacity: Capacity,
        now: Instant,
    }

    impl Learning {
        fn new() -> Learning {
            Learning { capacity: Capacity::default(), now: Instant::now() }
        }

        fn known(&self) -> Option<f64> {
            self.capacity.records_per_second()
        }
    }

    fn learned() -> Capacity {
        let mut learning = Learning::new();
        learn(&mut learning, &load());
        learning.capacity
    }

    #[test]
    fn it_is_enough_for_what_comes_in_and_to_work_the_lag_off_in_time() {
        // 300 a second and 3000 within 30 s are 400 a second.
        assert_eq!(learned().desired_workers(&load(), OBJECTIVE), 4);
        let caught_up = Load { lag_records: 0, lag_seconds: 0.0, ..load() };
        assert_eq!(learned().desired_workers(&caught_up, OBJECTIVE), 3);
        let far_behind = Load { lag_records: 1_000_000, ..load() };
        assert_eq!(learned().desired_workers(&far_behind, OBJECTIVE), 12, "no more than partitions");
    }

    #[test]
    fn there_is_one_while_there_is_work_and_none_without() {
        let idle =
            Load { lag_records: 0, produced_per_second: Some(0.0), consumed_per_second: Some(0.0), ..load() };
        assert_eq!(learned().desired_workers(&idle, OBJECTIVE), 0);
        assert_eq!(learned().desired_workers(&Load { lag_records: 1, ..idle }, OBJECTIVE), 1);
        let trickle = Load { produced_per_second: Some(0.1), ..idle };
        assert_eq!(learned().desired_workers(&trickle, OBJECTIVE), 1);
        assert_eq!(learned().desired_workers(&Load { partitions: 0, ..load() }, OBJECTIVE), 0);
        assert_eq!(learned().desired_workers(&Load { lag_records: i64::MIN, ..load() }, OBJECTIVE), 3);
    }

    #[test]
    fn before_anybody_was_seen_at_work_it_stays_as_it_is() {
        let unseen = Capacity::default();
        assert_eq!(unseen.desired_workers(&load(), OBJECTIVE), 2);
        assert_eq!(unseen.desired_workers(&Load { workers: 0, ..load() }, OBJECTIVE), 1);
        let mut learning = Learning::new();
        for nothing in [
            Load { workers: 0, ..load() },
            Load { consumed_per_second: Some(0.0), ..load() },
            Load { consumed_per_second: None, ..load() },
        ] {
            learn(&mut learning, &nothing);
            assert_eq!(learning.known(), None);
        }
    }

    #[test]
    fn a_quiet_hour_teaches_nothing_and_a_busy_one_does() {
        let mut learning = Learning::new();
        learn(&mut learning, &load());
        let quiet = Load {
            lag_records: 5,
            waited_seconds: Some(0.5),
            produced_per_second: Some(10.0),
            consumed_per_second: Some(10.0),
            ..load()
        };
        learn(&mut learning, &quiet);
        assert_eq!(learning.known(), Some(100.0), "however old the records were when they came");
        assert_eq!(learning.capacity.desired_workers(&quiet, OBJECTIVE), 1, "it can be sized down");
        learn(&mut learning, &Load { consumed_per_second: Some(50.0), ..load() });
        assert!((learning.known().unwrap() - 25.0).abs() < 0.1);
        learn(&mut learning, &Load { waited_seconds: Some(0.0), consumed_per_second: Some(400.0), ..load() });
        assert_eq!(learning.known(), Some(200.0), "a burst that was kept up with");
    }

    #[test]
    fn what_more_or_fewer_did_a_moment_ago_teaches_nothing_of_those_that_are_there() {
        let mut learning = Learning::new();
        learn(&mut learning, &load());
        // One of two leaves; the rate is over the time when both were there, and comes down.
        for second in 0..60 {
            let consumed_per_second = Some(100.0 + 100.0 * (1.0 - f64::from(second.min(20)) / 20.0));
            let left = Load { workers: 1, consumed_per_second, ..load() };
            learning.now += Duration::from_secs(1);
            learning.capacity.observe(&left, OBJECTIVE, learning.now);
            assert_eq!(learning.known(), Some(100.0), "after {second} s");
        }
    }
}
