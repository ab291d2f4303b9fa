//! A bucket of bytes that fills at a client's rate.
//!
//! Kafka averages a client's rate over a window of samples, which comes to the same: a client that was silent for the
//! window may send the whole window's worth at once, and one that has sent more is held up for as long as its rate
//! needs to make up for it.
//!
//! ```text
//! capacity = rate × window     a full bucket: what a silent client may send at once
//! level    = bytes left        below 0: sent ahead of the rate; held up for −level ÷ rate
//! ```

use std::time::{Duration, Instant};

/// The longest time that a client is held up at once. A rate of 1 byte a second would else silence a connection for
/// years over one request.
const HOLD_MAX: Duration = Duration::from_secs(3600);

/// A rate and the window that it is averaged over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    bytes_per_second: f64,
    window: Duration,
}

impl Limit {
    /// At most `bytes_per_second` on average over `window`.
    pub fn new(bytes_per_second: f64, window: Duration) -> Limit {
        Limit { bytes_per_second, window }
    }

    /// Bytes that a full bucket holds.
    pub fn capacity(self) -> f64 {
        self.bytes_per_second * self.window.as_secs_f64()
    }

    fn time_for(self, bytes: f64) -> Duration {
        Duration::try_from_secs_f64(bytes / self.bytes_per_second).unwrap_or(HOLD_MAX).min(HOLD_MAX)
    }
}

/// What a client has left of its rate. The limit is an argument because it may be altered at any time.
#[derive(Clone, Debug)]
pub struct Bucket {
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full one: of a client that was silent.
    pub fn full(limit: Limit, now: Instant) -> Bucket {
        Bucket { level: limit.capacity(), at: now }
    }

    /// Takes bytes that have been sent already, and says how long to hold the client up for it: not at all while
    /// there are bytes left.
    pub fn spend(&mut self, limit: Limit, now: Instant, bytes: u64) -> Duration {
        self.fill(limit, now);
        self.level -= bytes as f64;
        limit.time_for((-self.level).max(0.0))
    }

    /// Takes bytes that are to be sent, if they are there.
    ///
    /// More than fits into the bucket may go when it is full, or it could never go.
    ///
    /// # Errors
    /// How long it takes until they are there; nothing is taken.
    pub fn try_spend(&mut self, limit: Limit, now: Instant, bytes: u64) -> Result<(), Duration> {
        self.fill(limit, now);
        let needed = (bytes as f64).min(limit.capacity());
        if self.level < needed {
            // Clients wait in whole milliseconds; a wait that is rounded down to nothing would be none.
            return Err(limit.time_for(needed - self.level).max(Duration::from_millis(1)));
        }
        self.level -= bytes as f64;
        Ok(())
    }

    /// Whether it is full, so that forgetting it changes nothing.
    pub fn is_full(&mut self, limit: Limit, now: Instant) -> bool {
        self.fill(limit, now);
        self.level >= limit.capacity()
    }

    fn fill(&mut self, limit: Limit, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.level = (self.level + elapsed * limit.bytes_per_second).min(limit.capacity());
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> Limit {
        Limit::new(100.0, Duration::from_secs(10))
    }

    #[test]
    fn a_window_of_bytes_is_free_and_the_rest_takes_its_time() {
        let start = Instant::now();
        let mut bucket = Bucket::full(limit(), start);
        assert_eq!(bucket.spend(limit(), start, 1000), Duration::ZERO);
        assert_eq!(bucket.spend(limit(), start, 250), Duration::from_millis(2500));
        let later = start + Duration::from_secs(2);
        assert_eq!(bucket.spend(limit(), later, 0), Duration::from_millis(500));
        assert_eq!(bucket.spend(limit(), later + Duration::from_millis(500), 0), Duration::ZERO);
    }

    #[test]
    fn over_any_time_the_rate_is_kept() {
        let start = Instant::now();
        let mut bucket = Bucket::full(limit(), start);
        let (mut now, mut sent) = (start, 0);
        while sent < 100_000 {
            now += bucket.spend(limit(), now, 777);
            sent += 777;
        }
        let seconds = (now - start).as_secs_f64();
        assert!((sent as f64 - 1000.0) / seconds <= 100.1, "{sent} bytes in {seconds} s");
    }

    #[test]
    fn what_does_not_fit_waits_and_is_not_taken() {
        let start = Instant::now();
        let mut bucket = Bucket::full(limit(), start);
        assert_eq!(bucket.try_spend(limit(), start, 900), Ok(()));
        assert_eq!(bucket.try_spend(limit(), start, 400), Err(Duration::from_secs(3)));
        assert_eq!(bucket.try_spend(limit(), start + Duration::from_secs(3), 400), Ok(()));
    }

    #[test]
    fn what_never_fits_goes_when_the_bucket_is_full() {
        let start = Instant::now();
        let mut bucket = Bucket::full(limit(), start);
        assert_eq!(bucket.try_spend(limit(), start, 5000), Ok(()));
        assert_eq!(bucket.try_spend(limit(), start, 5000), Err(Duration::from_secs(50)));
        assert!(!bucket.is_full(limit(), start + Duration::from_secs(49)));
        assert!(bucket.is_full(limit(), start + Duration::from_secs(50)));
    }

    #[test]
    fn nobody_is_held_up_for_years_and_an_altered_rate_acts_at_once() {
        let start = Instant::now();
        let slow = Limit::new(1.0, Duration::from_secs(10));
        let mut bucket = Bucket::full(limit(), start);
        assert_eq!(bucket.spend(slow, start, 1 << 40), HOLD_MAX);
        let mut bucket = Bucket::full(limit(), start);
        assert_eq!(
            bucket.spend(slow, start, 11),
            Duration::from_secs(1),
            "no more than the new window's worth"
        );
    }
}
