//! Since when a record has waited for a group, as far as the broker has seen it. Pure; time is an argument.
//!
//! A record's timestamp says when it was made. Of a copy of old records that is no measure of a consumer: whoever reads
//! a copy of 2013 is not thirteen years behind. So the time counts from when the record came here, where the timestamp is
//! older; and that is known of what came while somebody looked:
//!
//! ```text
//! marks    (12:00:00, 100)  (12:00:02, 180)  (12:00:03, 260)     at which time the log ended where
//! 200      came after 12:00:02
//! 50       was there at 12:00:00
//! ```
//!
//! Marks are a sixteenth of the objective apart and go back over two objectives, so what is older than all of them is
//! too old, as far as they have been made for so long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Marks to an objective's time.
const MARKS_PER_OBJECTIVE: u32 = 16;

/// Marks that are kept, 24 bytes each.
const MARKS_MAX: usize = 2 * MARKS_PER_OBJECTIVE as usize + 1;

/// Where the part of a log that a group can read has ended, and when.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// The last time that the log was seen to end at an offset; the newest last.
    marks: VecDeque<(Instant, i64)>,
    /// Since when the log has been looked at.
    since: Option<Instant>,
}

impl Arrivals {
    /// Takes in where the log ends now.
    pub fn observe(&mut self, now: Instant, end: i64, objective: Duration) {
        match self.marks.back_mut() {
            Some((at, last)) if *last == end => return *at = now,
            // Other records than before.
            Some((_, last)) if *last > end => *self = Arrivals::default(),
            _ => {}
        }
        self.since.get_or_insert(now);
        let spacing = objective / MARKS_PER_OBJECTIVE;
        if let [.., (before, _), (last, _)] = *self.marks.make_contiguous()
            && last.saturating_duration_since(before) < spacing
        {
            self.marks.pop_back();
        }
        if self.marks.len() == MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back((now, end));
    }

    /// How long the record at `offset` has waited, in seconds, if its timestamp is `age_seconds` old; `None` where it
    /// may be more or less than the objective.
    pub fn waited_seconds(
        &self,
        now: Instant,
        offset: i64,
        age_seconds: f64,
        objective: Duration,
    ) -> Option<f64> {
        let since = |at: Instant| now.saturating_duration_since(at);
        if let Some((at, _)) = self.marks.iter().rev().find(|(_, end)| *end <= offset) {
            return Some(age_seconds.min(since(*at).as_secs_f64()));
        }
        // It was there before the first mark: since the beginning at least, or for longer than marks go back.
        let seen_longer = self.since.is_some_and(|at| since(at) > objective);
        (seen_longer || age_seconds <= objective.as_secs_f64()).then_some(age_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTIVE: Duration = Duration::from_secs(32);
    const YEARS: f64 = 4e8;

    /// Arrivals of so many records a second, looked at each second, from an offset of 1000 on.
    struct Log {
        arrivals: Arrivals,
        now: Instant,
        end: i64,
    }

    impl Log {
        fn new() -> Log {
            let mut log = Log { arrivals: Arrivals::default(), now: Instant::now(), end: 1000 };
            log.run(0, 0);
            log
        }

        fn run(&mut self, seconds: u64, records: i64) {
            for _ in 0..seconds {
                self.now += Duration::from_secs(1);
                self.end += records;
                self.arrivals.observe(self.now, self.end, OBJECTIVE);
            }
            self.arrivals.observe(self.now, self.end, OBJECTIVE);
        }

        fn waited(&self, offset: i64, age_seconds: f64) -> Option<f64> {
            self.arrivals.waited_seconds(self.now, offset, age_seconds, OBJECTIVE)
        }
    }

    #[test]
    fn old_records_that_came_just_now_have_waited_since_they_came() {
        let mut log = Log::new();
        log.run(60, 10);
        for behind in 1..=60 {
            let waited = log.waited(log.end - 10 * behind, YEARS).unwrap();
            let exact = behind as f64;
            assert!((exact..=exact + 2.0).contains(&waited), "{behind} s behind: {waited}");
        }
        assert_eq!(log.waited(log.end - 300, 5.0), Some(5.0), "the timestamp is newer");
        log.run(3600, 0);
        log.run(1, 1);
        assert_eq!(log.waited(log.end - 1, YEARS), Some(1.0), "it came after an hour of none");
    }

    #[test]
    fn what_was_there_before_is_not_known_to_be_too_old_until_it_is() {
        let mut log = Log::new();
        assert_eq!(log.waited(500, YEARS), None);
        assert_eq!(log.waited(500, 20.0), Some(20.0), "it cannot have waited for longer");
        log.run(31, 0);
        log.run(1, 10);
        assert_eq!(log.waited(500, YEARS), None);
        log.run(1, 10);
        assert_eq!(log.waited(500, YEARS), Some(YEARS));
        log.run(1000, 10);
        assert_eq!(log.waited(log.end - 5000, YEARS), Some(YEARS), "older than every mark");
        assert_eq!(log.arrivals.marks.len(), MARKS_MAX);
        assert!(log.now - log.arrivals.marks[0].0 > 2 * OBJECTIVE - OBJECTIVE / MARKS_PER_OBJECTIVE);
    }

    #[test]
    fn a_log_that_is_made_anew_is_another_one() {
        let mut log = Log::new();
        log.run(100, 10);
        log.end = 5;
        log.run(1, 0);
        assert_eq!(log.waited(0, YEARS), None);
        assert_eq!(Arrivals::default().waited_seconds(log.now, 0, 100.0, OBJECTIVE), None);
    }
}
