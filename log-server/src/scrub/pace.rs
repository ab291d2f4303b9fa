//! How fast a scrub reads: so that a pass is through within its period, and no faster.

use std::time::Duration;

/// The part of a period that a pass plans to take. What is left over is for segments that come while it runs.
const PLANNED: f64 = 0.9;
/// What is read a second at least. Less would save nothing, and would keep files open for hours.
const BYTES_PER_SECOND_MIN: u64 = 1 << 20;

/// The pace of one pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// What was left of the planned time when this process went about it.
    planned: Duration,
    bytes_per_second_max: u64,
}

impl Pace {
    /// For a pass that began `since_begin` ago, in an earlier process perhaps.
    pub(super) fn new(period: Duration, since_begin: Duration, bytes_per_second_max: u64) -> Pace {
        Pace { planned: period.mul_f64(PLANNED).saturating_sub(since_begin), bytes_per_second_max }
    }

    /// The rate at which `left_bytes` are through in time, `elapsed` after the pace was set; within bounds, of which
    /// the upper one counts.
    pub(super) fn bytes_per_second(&self, left_bytes: u64, elapsed: Duration) -> u64 {
        let left = self.planned.saturating_sub(elapsed).as_secs_f64();
        // A float to an integer saturates, so no time at all is as fast as may be.
        let needed = (left_bytes as f64 / left) as u64;
        needed.max(BYTES_PER_SECOND_MIN).min(self.bytes_per_second_max.max(1))
    }
}

/// How long `bytes` take at a rate.
pub(super) fn duration(bytes: u64, bytes_per_second: u64) -> Duration {
    Duration::from_secs_f64(bytes as f64 / bytes_per_second as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    const GIB: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    #[test]
    fn the_rate_follows_from_what_is_left_and_the_time_there_is() {
        let pace = Pace::new(10 * DAY, Duration::ZERO, 100 * MIB);
        let nine_days = 9 * 24 * 60 * 60;
        assert_eq!(pace.bytes_per_second(10 * MIB * nine_days, Duration::ZERO), 10 * MIB);
        // Half of the time is over: what is left of the bytes decides.
        assert_eq!(pace.bytes_per_second(10 * MIB * nine_days, 9 * DAY / 2), 20 * MIB);
        assert_eq!(pace.bytes_per_second(5 * MIB * nine_days, 9 * DAY / 2), 10 * MIB);
        // The time that passed before a restart counts.
        let resumed = Pace::new(10 * DAY, 9 * DAY / 2, 100 * MIB);
        assert_eq!(resumed.bytes_per_second(10 * MIB * nine_days, Duration::ZERO), 20 * MIB);
    }

    #[test]
    fn the_rate_has_bounds() {
        let pace = Pace::new(7 * DAY, Duration::ZERO, 64 * MIB);
        assert_eq!(pace.bytes_per_second(GIB, Duration::ZERO), MIB, "a little is not stretched over a week");
        assert_eq!(pace.bytes_per_second(GIB << 20, Duration::ZERO), 64 * MIB, "too much for a week");
        assert_eq!(pace.bytes_per_second(GIB, 8 * DAY), 64 * MIB, "late");
        assert_eq!(pace.bytes_per_second(0, 8 * DAY), MIB);
        let slow = Pace::new(7 * DAY, Duration::ZERO, 1000);
        assert_eq!(slow.bytes_per_second(GIB, Duration::ZERO), 1000, "who sets a maximum means it");
        assert_eq!(duration(500, 1000), Duration::from_millis(500));
    }

    #[test]
    fn a_pass_that_keeps_to_the_pace_is_through_in_time() {
        let period = 7 * DAY;
        let pace = Pace::new(period, Duration::ZERO, 64 * MIB);
        let (mut left, mut elapsed) = (2000 * GIB, Duration::ZERO);
        while left > 0 {
            let chunk = left.min(64 * MIB);
            elapsed += duration(chunk, pace.bytes_per_second(left, elapsed));
            left -= chunk;
            // A fiftieth comes to it on the way.
            if left.is_multiple_of(10 * GIB) && left > 1000 * GIB {
                left += 400 * MIB;
            }
        }
        assert!(elapsed < period, "{elapsed:?}");
    }
}
