//! Rates out of totals: what several totals have risen by, averaged over the last seconds.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long rates are averaged. A shorter time shows every batch as a spike, a longer one hides that something has
/// stopped.
pub const RATE_WINDOW: Duration = Duration::from_secs(10);

/// The shortest time that is averaged over.
const SPAN_MIN: Duration = Duration::from_secs(1);

/// Looks that are kept at most, whoever looks how often.
const LOOKS_MAX: usize = 32;

/// The totals as they were at a few moments.
#[derive(Debug)]
pub(super) struct RateWindow<const N: usize> {
    /// Oldest first. Times rise, never empty.
    looks: VecDeque<(Instant, [u64; N])>,
}

impl<const N: usize> RateWindow<N> {
    /// Of totals that are 0 at `start`.
    pub(super) fn new(start: Instant) -> Self {
        RateWindow { looks: VecDeque::from([(start, [0; N])]) }
    }

    /// Notes the totals of this moment. They only ever rise.
    pub(super) fn look(&mut self, now: Instant, totals: [u64; N]) {
        if self.looks.back().is_some_and(|(last, _)| now <= *last) {
            return;
        }
        self.looks.push_back((now, totals));
        // One look from before the window stays: it is what the window begins with.
        while self.looks.len() > LOOKS_MAX
            || self.looks.get(1).is_some_and(|(second, _)| now - *second >= RATE_WINDOW)
        {
            self.looks.pop_front();
        }
    }

    /// What each total has risen by a second.
    pub(super) fn rates(&self) -> [f64; N] {
        let (Some((from, first)), Some((to, last))) = (self.looks.front(), self.looks.back()) else {
            return [0.0; N];
        };
        // What a new partition gets in its first moments is no rate yet.
        let seconds = (*to - *from).max(SPAN_MIN).as_secs_f64();
        std::array::from_fn(|i| last[i].saturating_sub(first[i]) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_steady_rise_is_its_rate_from_the_first_look_on_and_its_end_shows_within_the_window() {
        let start = Instant::now();
        let mut window = RateWindow::new(start);
        assert_eq!(window.rates(), [0.0, 0.0]);
        for second in 1..=30u32 {
            window.look(start + SECOND * second, [u64::from(second) * 100, 0]);
            assert_eq!(window.rates(), [100.0, 0.0], "after {second} s");
        }
        for second in 31..=40u32 {
            window.look(start + SECOND * second, [3000, 0]);
        }
        assert_eq!(window.rates(), [0.0, 0.0]);
    }

    #[test]
    fn one_burst_is_spread_over_the_window() {
        let start = Instant::now();
        let mut window = RateWindow::new(start);
        for second in 1..=20u32 {
            window.look(start + SECOND * second, [0]);
        }
        window.look(start + SECOND * 21, [500]);
        assert_eq!(window.rates(), [50.0]);
    }

    #[test]
    fn looks_are_bounded_and_a_clock_that_stands_still_does_no_harm() {
        let start = Instant::now();
        let mut window = RateWindow::new(start);
        window.look(start, [7]);
        assert_eq!(window.rates(), [0.0]);
        for tenths in 1..=200u32 {
            window.look(start + SECOND / 10 * tenths, [u64::from(tenths)]);
            assert!(window.looks.len() <= LOOKS_MAX);
        }
        assert_eq!(window.rates(), [10.0]);
    }

    #[test]
    fn the_first_moment_counts_as_a_second() {
        let start = Instant::now();
        let mut window = RateWindow::new(start);
        window.look(start + SECOND / 10, [50]);
        assert_eq!(window.rates(), [50.0]);
    }
}
