//! How much of the time an objective was missed, and how fast what may be missed is used up.
//!
//! ```text
//! window   60 buckets, each a sixtieth of it; the oldest is overwritten
//! used     time missed in the window ÷ (window × budget)          1: all that may be missed was
//! burn     part missed of the last 5 buckets ÷ budget             1: as much as may be, for ever
//! ```
//!
//! Time of which nothing is known counts neither way. What was counted does not outlive the process.

use std::time::{Duration, Instant};

/// Buckets of a window.
const BUCKETS: usize = 60;

/// The newest buckets, which the burn rate is taken from: a twelfth of the window.
const BURN_BUCKETS: u64 = 5;

/// The longest time between two readings that the first one speaks for.
const GAP_MAX: Duration = Duration::from_secs(60);

/// What was seen within a sixtieth of the window.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Which one since the beginning. Another one's place is overwritten.
    number: u64,
    known: Duration,
    missed: Duration,
}

/// The budget of one objective.
#[derive(Clone, Debug)]
pub struct Budget {
    /// The part of the window that may be missed.
    allowed: f64,
    bucket: Duration,
    buckets: [Bucket; BUCKETS],
    began: Instant,
    /// The last reading, and whether it was beyond the objective; nothing where it was not known.
    last: Option<(Instant, bool)>,
}

impl Budget {
    /// A budget of which nothing is used: the part `allowed` (above 0) of every `window` may be missed.
    pub fn new(window: Duration, allowed: f64, now: Instant) -> Budget {
        // Not below a millisecond, whatever the window.
        let bucket = (window / BUCKETS as u32).max(Duration::from_millis(1));
        Budget { allowed, bucket, buckets: [Bucket::default(); BUCKETS], began: now, last: None }
    }

    /// Takes a reading: whether the objective is missed, `None` if that is not known. It speaks for the time until the
    /// next one.
    pub fn note(&mut self, now: Instant, missed: Option<bool>) {
        if let Some((then, missed)) = self.last {
            let elapsed = now.saturating_duration_since(then).min(GAP_MAX);
            let number = self.number(now);
            let bucket = &mut self.buckets[(number % BUCKETS as u64) as usize];
            if bucket.number != number {
                *bucket = Bucket { number, ..Bucket::default() };
            }
            bucket.known += elapsed;
            bucket.missed += if missed { elapsed } else { Duration::ZERO };
        }
        self.last = missed.map(|missed| (now, missed));
    }

    /// The part of the budget that is used within the window that ends at `now`: 0 for none, 1 for all of it, more
    /// where it is overdrawn.
    pub fn used(&self, now: Instant) -> f64 {
        let (_, missed) = self.newest(now, BUCKETS as u64);
        missed.as_secs_f64() / (self.bucket.as_secs_f64() * BUCKETS as f64) / self.allowed
    }

    /// How many times as fast as it may be the budget is being used up: at 1 it lasts for just the window.
    pub fn burn_rate(&self, now: Instant) -> f64 {
        let (known, missed) = self.newest(now, BURN_BUCKETS);
        if known.is_zero() {
            return 0.0;
        }
        missed.as_secs_f64() / known.as_secs_f64() / self.allowed
    }

    /// What is known and what was missed of it in the newest `count` buckets.
    fn newest(&self, now: Instant, count: u64) -> (Duration, Duration) {
        let number = self.number(now);
        let newest = self.buckets.iter().filter(|bucket| bucket.number + count > number);
        newest.fold((Duration::ZERO, Duration::ZERO), |(known, missed), bucket| {
            (known + bucket.known, missed + bucket.missed)
        })
    }

    fn number(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.began).as_nanos() / self.bucket.as_nanos();
        u64::try_from(elapsed).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(600);

    /// A budget of a tenth, fed once a second.
    struct Fed {
        budget: Budget,
        now: Instant,
    }

    impl Fed {
        fn new() -> Fed {
            let now = Instant::now();
            Fed { budget: Budget::new(WINDOW, 0.1, now), now }
        }

        fn feed(&mut self, seconds: u64, missed: Option<bool>) {
            for _ in 0..seconds {
                self.budget.note(self.now, missed);
                self.now += Duration::from_secs(1);
            }
            // Ends what the last one speaks for.
            self.budget.note(self.now, missed);
        }

        fn used(&self) -> f64 {
            self.budget.used(self.now)
        }

        fn burn_rate(&self) -> f64 {
            self.budget.burn_rate(self.now)
        }
    }

    #[track_caller]
    fn close(value: f64, expected: f64) {
        assert!((value - expected).abs() < 0.05, "{value} is not about {expected}");
    }

    #[test]
    fn what_is_missed_uses_the_budget_up_and_comes_back_with_the_window() {
        let mut fed = Fed::new();
        fed.feed(300, Some(false));
        assert_eq!((fed.used(), fed.burn_rate()), (0.0, 0.0));
        // A tenth of ten minutes is one minute.
        fed.feed(30, Some(true));
        close(fed.used(), 0.5);
        fed.feed(60, Some(true));
        close(fed.used(), 1.5);
        close(fed.burn_rate(), 10.0);
        fed.feed(60, Some(false));
        close(fed.used(), 1.5);
        assert_eq!(fed.burn_rate(), 0.0, "the last minute was good");
        fed.feed(600, Some(false));
        assert_eq!(fed.used(), 0.0, "all of that is out of the window");
    }

    #[test]
    fn what_is_not_known_counts_neither_way() {
        let mut fed = Fed::new();
        fed.feed(10, Some(true));
        let used = fed.used();
        fed.feed(20, None);
        close(fed.used(), used);
        close(fed.burn_rate(), 10.0);
        // Nobody looked for an hour: the reading before it does not speak for all of it.
        fed.feed(1, Some(true));
        fed.now += Duration::from_secs(3600);
        fed.budget.note(fed.now, Some(false));
        close(fed.used(), 1.0);
    }

    #[test]
    fn what_was_missed_burns_for_five_buckets() {
        let mut fed = Fed::new();
        // The last of ten seconds ends in the second bucket.
        fed.feed(10, Some(true));
        fed.feed(49, Some(false));
        assert!(fed.burn_rate() > 0.0);
        fed.feed(1, Some(false));
        assert_eq!(fed.burn_rate(), 0.0);
    }

    #[test]
    fn a_part_of_the_time_burns_at_its_share() {
        let mut fed = Fed::new();
        for _ in 0..100 {
            fed.feed(9, Some(false));
            fed.feed(1, Some(true));
        }
        close(fed.used(), 1.0);
        // Not a whole number of rounds is in the newest buckets.
        assert!((0.75..1.25).contains(&fed.burn_rate()), "{}", fed.burn_rate());
    }
}
