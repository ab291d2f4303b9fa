//! What load is asked for: how many records, when each is due, and when it is enough.
//!
//! Pure: times are since the load began.

use std::time::Duration;

use serde::Serialize;

/// How long a load at a rate may go on beyond its time to send what was due before.
const OVERRUN_MAX: Duration = Duration::from_secs(1);

/// The load of all producers together.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// How many send at the same time.
    pub producers: usize,
    /// How many members the group of readers has; 0 for no readers.
    pub consumers: usize,
    /// Bytes of each value.
    pub record_bytes: usize,
    /// Records a second; `None` for as fast as it goes.
    pub rate: Option<u64>,
    /// For how long.
    pub seconds: Option<u64>,
    /// How many records, if it is not the time that ends it.
    pub records: Option<u64>,
}

impl Plan {
    /// When a record is due, by its number among those of all producers; `None` for at once.
    pub fn due(&self, number: u64) -> Option<Duration> {
        let rate = self.rate?;
        let nanos = u128::from(number) * 1_000_000_000 / u128::from(rate);
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    /// How many records there are to be, where that is known beforehand.
    pub fn records_total(&self) -> Option<u64> {
        let by_rate = self.rate.zip(self.seconds).map(|(rate, seconds)| rate.saturating_mul(seconds));
        [self.records, by_rate].into_iter().flatten().min()
    }

    /// When nothing more is sent, whether or not it was due.
    pub fn end(&self) -> Duration {
        let Some(seconds) = self.seconds else { return Duration::MAX };
        let end = Duration::from_secs(seconds);
        if self.rate.is_some() { end + OVERRUN_MAX } else { end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rate: Option<u64>, seconds: Option<u64>, records: Option<u64>) -> Plan {
        Plan { producers: 1, consumers: 1, record_bytes: 100, rate, seconds, records }
    }

    #[test]
    fn what_comes_first_ends_it() {
        assert_eq!(plan(Some(100), Some(3), None).records_total(), Some(300));
        assert_eq!(plan(Some(100), Some(3), Some(50)).records_total(), Some(50));
        assert_eq!(plan(None, Some(3), None).records_total(), None);
        assert_eq!(plan(None, Some(3), None).end(), Duration::from_secs(3));
        assert_eq!(plan(Some(1), None, Some(3)).end(), Duration::MAX);
    }

    #[test]
    fn records_are_due_evenly() {
        let plan = plan(Some(4), Some(3), None);
        assert_eq!(plan.due(0), Some(Duration::ZERO));
        assert_eq!(plan.due(6), Some(Duration::from_millis(1500)));
        assert!(plan.due(11).unwrap() < Duration::from_secs(3));
        assert!(plan.due(u64::MAX).is_some());
    }
}
