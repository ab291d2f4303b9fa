//! Rates, and what follows from them. Pure: time is an argument, in wall-clock milliseconds.
//!
//! A consumer does not commit evenly: librdkafka does every five seconds, Flink at every checkpoint, others after every
//! record. So a [`ConsumeRate`] goes from commit to commit and never divides by a time that ends between two of them:
//!
//! ```text
//! commits     c   c   c   c                    c   c   c  now
//!             └─────── a run ──────┘  silence  └── a run ─┘
//! ```
//! A silence that is much longer than what is usual between two commits ends a run. What is committed after it says
//! nothing about how fast the consumer was meanwhile, and the rate is not known until the second commit of the new run:
//! after a pause it is right within two commits, and not watered down by the pause.

use std::collections::VecDeque;

/// How far back a rate looks, in milliseconds.
const WINDOW_MS: i64 = 20_000;

/// Milliseconds between two points that are kept; the newest is kept in any case. Bounds the points of a window.
const SPACING_MS: i64 = 2_000;

/// Points that are kept however old they are, so that consumers that commit once a minute have a rate.
const POINTS_MIN: usize = 3;

/// The silence, in milliseconds, that no consumer is called stopped before.
const SILENCE_MS: i64 = 15_000;

/// How many times the usual time between two commits a silence has to be before it ends a run.
const SILENCE_FACTOR: i64 = 3;

/// What a time to catch up is at least worth telling: this part of the rate of consumption has to go into catching up.
const HEADWAY_MIN: f64 = 0.01;

/// How many records there were in all at some moment.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    at_ms: i64,
    total: u64,
}

/// A window of points, in the order of time.
#[derive(Clone, Debug, Default, PartialEq)]
struct Window {
    points: VecDeque<Point>,
}

impl Window {
    fn push(&mut self, point: Point) {
        let count = self.points.len();
        let replaces = count >= 2 && point.at_ms - self.points[count - 2].at_ms < SPACING_MS;
        if replaces {
            self.points.pop_back();
        }
        self.points.push_back(point);
        while self.points.len() > POINTS_MIN && self.points[1].at_ms <= point.at_ms - WINDOW_MS {
            self.points.pop_front();
        }
    }

    fn last(&self) -> Option<Point> {
        self.points.back().copied()
    }

    /// Records a second between the first point and the last; `None` without a time between them.
    fn per_second(&self) -> Option<f64> {
        let (first, last) = (self.points.front()?, self.points.back()?);
        let elapsed_ms = last.at_ms - first.at_ms;
        (elapsed_ms > 0).then(|| last.total.saturating_sub(first.total) as f64 * 1_000.0 / elapsed_ms as f64)
    }

    /// Milliseconds from a point to the next on average; 0 with fewer than two.
    fn interval_ms(&self) -> i64 {
        match (self.points.front(), self.points.back(), self.points.len()) {
            (Some(first), Some(last), count @ 2..) => (last.at_ms - first.at_ms) / (count as i64 - 1),
            _ => 0,
        }
    }
}

/// How fast a log grows: a point a sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProduceRate {
    window: Window,
    total: u64,
}

impl ProduceRate {
    /// There are `records` more than when it was told last. A clock that went back begins a new window.
    pub fn observe(&mut self, now_ms: i64, records: u64) {
        self.total += records;
        if self.window.last().is_some_and(|last| now_ms <= last.at_ms) {
            self.window = Window::default();
        }
        self.window.push(Point { at_ms: now_ms, total: self.total });
    }

    /// Records a second; `None` after less than two samples.
    pub fn per_second(&self) -> Option<f64> {
        self.window.per_second()
    }
}

/// How fast a consumer commits: a point a commit, as far as the samples see them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ConsumeRate {
    window: Window,
    total: u64,
    /// How long it was from the last commit but one to the last, in milliseconds: a consumer that commits every minute
    /// is not stopped every minute.
    last_gap_ms: i64,
}

impl ConsumeRate {
    /// A commit at `committed_at_ms`, `records` past the last one that was told.
    pub fn committed(&mut self, committed_at_ms: i64, records: u64) {
        self.total += records;
        let point = Point { at_ms: committed_at_ms, total: self.total };
        if let Some(last) = self.window.last() {
            let gap_ms = committed_at_ms - last.at_ms;
            if gap_ms <= 0 || gap_ms > self.silence_ms() {
                self.window = Window::default();
            }
            self.last_gap_ms = gap_ms.max(0);
        }
        self.window.push(point);
    }

    /// A commit that goes back, or anything else that is no consumption: what is before it does not count.
    pub fn reset(&mut self, committed_at_ms: i64) {
        self.window = Window::default();
        self.window.push(Point { at_ms: committed_at_ms, total: self.total });
    }

    /// Records a second: 0 for a consumer that is stopped, `None` for one that has not committed twice since it began.
    pub fn per_second(&self, now_ms: i64) -> Option<f64> {
        let silent_ms = now_ms - self.window.last()?.at_ms;
        if silent_ms > self.silence_ms() { Some(0.0) } else { self.window.per_second() }
    }

    /// The seconds from a commit to the next on average; 0 where that is not known.
    pub fn commit_interval_seconds(&self) -> f64 {
        self.window.interval_ms() as f64 / 1_000.0
    }

    /// A silence longer than this ends a run.
    fn silence_ms(&self) -> i64 {
        let usual_ms = self.window.interval_ms().max(self.last_gap_ms);
        SILENCE_MS.max(SILENCE_FACTOR.saturating_mul(usual_ms))
    }
}

/// The seconds until `lag_records` are consumed, if both rates stay what they are.
///
/// 0 for a group without lag, and for one that is behind by no more than what comes in between two of its commits:
/// it reads at the end. `None` for one that does not get nearer to the end, or whose rates are not known yet.
pub fn catch_up_seconds(
    lag_records: i64,
    consume_per_second: Option<f64>,
    produce_per_second: Option<f64>,
    commit_interval_seconds: f64,
) -> Option<f64> {
    if lag_records <= 0 {
        return Some(0.0);
    }
    let (consume, produce) = (consume_per_second?, produce_per_second?);
    if consume > 0.0 && lag_records as f64 <= produce * commit_interval_seconds {
        return Some(0.0);
    }
    let headway = consume - produce;
    (headway > 0.0 && headway >= consume * HEADWAY_MIN).then(|| lag_records as f64 / headway)
}

#[cfg(test)]
#[path = "rate_tests.rs"]
mod tests;
