//! How long to wait before trying again: doubling, with jitter, up to a bound.

use std::time::Duration;

/// Delays that grow with the count of failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first delay.
    pub initial: Duration,
    /// No delay is longer.
    pub max: Duration,
}

impl Default for Backoff {
    /// 50 ms doubling to 1 s: a broker that restarts is found again soon, and a thousand clients do not
    /// keep it from starting.
    fn default() -> Self {
        Backoff { initial: Duration::from_millis(50), max: Duration::from_secs(1) }
    }
}

impl Backoff {
    /// The delay after `failures` failures in a row, zero for none.
    ///
    /// A fifth of it is random either way, so that clients that failed together return apart.
    pub fn delay(&self, failures: u32) -> Duration {
        if failures == 0 {
            return Duration::ZERO;
        }
        let doublings = (failures - 1).min(20);
        let delay = self.initial.saturating_mul(1 << doublings).min(self.max);
        delay.mul_f64(0.8 + 0.4 * fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_bound() {
        let backoff = Backoff { initial: Duration::from_millis(100), max: Duration::from_secs(1) };
        assert_eq!(backoff.delay(0), Duration::ZERO);
        for (failures, nominal) in [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (u32::MAX, 1000)] {
            let delay = backoff.delay(failures).as_millis();
            assert!((nominal * 4 / 5..=nominal * 6 / 5).contains(&delay), "{failures}: {delay}");
        }
    }
}
