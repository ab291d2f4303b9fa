//! How fast a replay may go: so many records and so many bytes a second.
//!
//! Pure: the clock is an argument. What was not used because the source was slow is forgotten after
//! [`CREDIT`], so that a pause is not followed by a burst.

use std::time::Duration;

/// For how long unused rate may be used later.
const CREDIT: Duration = Duration::from_millis(100);

/// One limit.
#[derive(Clone, Debug)]
pub struct Pace {
    per_second: f64,
    /// When the next unit may go, on the clock that is passed in.
    next: Duration,
}

impl Pace {
    /// `per_second` units a second.
    pub fn new(per_second: u64) -> Pace {
        Pace { per_second: per_second.max(1) as f64, next: Duration::ZERO }
    }

    /// Takes `units` at `now`, and says how long to wait before they may go.
    pub fn take(&mut self, units: u64, now: Duration) -> Duration {
        self.next = self.next.max(now.saturating_sub(CREDIT));
        let wait = self.next.saturating_sub(now);
        self.next += Duration::from_secs_f64(units as f64 / self.per_second);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_goes() {
        let mut pace = Pace::new(1000);
        let mut now = Duration::ZERO;
        for _ in 0..5000 {
            now += pace.take(1, now);
        }
        assert!((4.85..5.01).contains(&now.as_secs_f64()), "{now:?}");
    }

    #[test]
    fn a_pause_is_not_made_good() {
        let mut pace = Pace::new(1000);
        pace.take(1, Duration::ZERO);
        let late = Duration::from_secs(60);
        let burst = (0..5000).take_while(|_| pace.take(1, late).is_zero()).count();
        assert!((90..=110).contains(&burst), "{burst}");
    }
}
