//! Whether load is to be shed for a group that is too far behind: as long as it helps. Pure; time is an argument.
//!
//! | state | while | left |
//! |---|---|---|
//! | idle | the objective is not missed | with the first reading that misses it |
//! | pressing | the lag has shrunk by a tenth, from its worst, within the patience | when it has not |
//! | resting | as long as the patience, twice as long each further time, up to [`RESTS_MAX`] times | when that is over |
//!
//! So load that is shed in vain, for a consumer that is dead or waits for what is refused, is taken again, and what can be
//! helped is helped for as long as it takes. The lag counts in records: timestamps say little of what shrinks.

use std::time::{Duration, Instant};

/// Of the worst lag: what is left of it where it has become better.
const BETTER_PART: f64 = 0.9;

/// The longest rest, in times of the patience.
const RESTS_MAX: u32 = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Phase {
    #[default]
    Idle,
    Pressing {
        /// Since when, or since it became better last.
        since: Instant,
        worst_records: i64,
    },
    Resting {
        since: Instant,
    },
}

/// What shedding does for one group.
#[derive(Clone, Copy, Debug, Default)]
pub struct Relief {
    phase: Phase,
    /// Rests since the group was well, in times of the patience: the length of the last one.
    rests: u32,
}

impl Relief {
    /// Takes a reading of a group that misses its objective: its lag in records.
    pub fn missed(&mut self, now: Instant, lag_records: i64, patience: Duration) {
        let begin = Phase::Pressing { since: now, worst_records: lag_records };
        self.phase = match self.phase {
            Phase::Idle => begin,
            Phase::Pressing { worst_records, .. } if is_better(lag_records, worst_records) => begin,
            Phase::Pressing { since, .. } if now.saturating_duration_since(since) >= patience => {
                self.rests = (self.rests * 2).clamp(1, RESTS_MAX);
                Phase::Resting { since: now }
            }
            Phase::Pressing { since, worst_records } => {
                Phase::Pressing { since, worst_records: worst_records.max(lag_records) }
            }
            Phase::Resting { since } if now.saturating_duration_since(since) >= patience * self.rests => {
                begin
            }
            resting => resting,
        };
    }

    /// Takes a reading of a group that does not miss its objective, or of which nothing is known.
    pub fn held(&mut self) {
        *self = Relief::default();
    }

    /// Whether load is to be shed for the group.
    pub fn is_due(&self) -> bool {
        matches!(self.phase, Phase::Pressing { .. })
    }
}

fn is_better(lag_records: i64, worst_records: i64) -> bool {
    (lag_records as f64) < worst_records as f64 * BETTER_PART
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(300);

    /// Feeds a lag in records each second, and answers with the seconds at which it changed whether load is shed.
    fn changes(seconds: u64, lag: impl Fn(u64) -> i64) -> Vec<(u64, bool)> {
        let (mut relief, start) = (Relief::default(), Instant::now());
        let mut changes = Vec::new();
        for second in 0..seconds {
            let before = relief.is_due();
            relief.missed(start + Duration::from_secs(second), lag(second), PATIENCE);
            if relief.is_due() != before {
                changes.push((second, relief.is_due()));
            }
        }
        changes
    }

    #[test]
    fn what_does_not_help_is_given_up_and_tried_again_more_and_more_rarely() {
        let expected = [(0, true), (300, false), (600, true), (900, false), (1500, true), (1800, false)];
        assert_eq!(changes(1900, |second| 1000 + second as i64), expected, "it grows");
        assert_eq!(changes(1900, |_| 1000), expected, "it stays");
        let last = changes(40_000, |_| 1000);
        let rests: Vec<u64> = last[1..].chunks_exact(2).map(|pair| pair[1].0 - pair[0].0).collect();
        assert_eq!(rests[..6], [300, 600, 1200, 2400, 4800, 4800]);
    }

    #[test]
    fn what_helps_goes_on_for_as_long_as_it_takes() {
        // A tenth of what is left takes less than the patience all the way down.
        assert_eq!(changes(2400, |second| 1_000_000 - 400 * second as i64), [(0, true)]);
        let worse_first = |second: u64| 3000 - 10 * (second as i64 - 200).abs();
        assert_eq!(changes(400, worse_first), [(0, true)], "the steps take their time");
    }

    #[test]
    fn a_group_that_was_well_in_between_begins_anew() {
        let (mut relief, now) = (Relief::default(), Instant::now());
        assert!(!relief.is_due());
        relief.missed(now, 10, PATIENCE);
        relief.missed(now + PATIENCE, 10, PATIENCE);
        assert!(!relief.is_due());
        relief.held();
        relief.missed(now + PATIENCE, 10, PATIENCE);
        assert!(relief.is_due());
        relief.missed(now + 2 * PATIENCE, 10, PATIENCE);
        relief.missed(now + 3 * PATIENCE, 10, PATIENCE);
        assert!(relief.is_due(), "the first rest is the shortest again");
    }
}
