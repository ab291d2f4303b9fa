//! Where one objective stands, as a state machine over readings of the group's lag. No clock and no task: time is an
//! argument.
//!
//! | state | is entered |
//! |---|---|
//! | violated | after [`WORSE_READINGS`] readings beyond the objective |
//! | at risk | after as many beyond 75 % of it, or beyond 50 % and growing so fast that it is missed within half of its own time; or while the budget burns [`FAST_BURN`] times as fast as it may |
//! | ok | after [`BETTER_READINGS`] readings of neither |
//! | unknown | after [`MISSING_READINGS`] times without a reading; left with the first one, for "at risk" at most |
//!
//! A state that was entered is left at 90 % of the lag that it is entered at. So neither a single odd timestamp nor a
//! lag that moves about a limit has the state flap.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::budget::Budget;
use crate::resource_config::objective::Objective;

/// Readings in a row before a state that is worse is entered.
pub const WORSE_READINGS: u32 = 2;
/// Readings in a row before a state that is better is entered.
pub const BETTER_READINGS: u32 = 3;
/// Times in a row without a reading before nothing is known any more.
pub const MISSING_READINGS: u32 = 3;
/// The burn rate from which on an objective is at risk, however low the lag is by now.
pub const FAST_BURN: f64 = 10.0;

/// Of the objective's lag: at risk.
const RISK_PART: f64 = 0.75;
/// Of the objective's lag: at risk if it grows.
const GROWING_PART: f64 = 0.5;
/// Of the objective's time: how far ahead growth is looked at.
const FORECAST_PART: f64 = 0.5;
/// Of the lag that a state is entered at: where it is left.
const LEAVE_PART: f64 = 0.9;
/// Readings that are remembered by what they said.
const RECENT_READINGS: usize = BETTER_READINGS as usize;
/// Readings that growth is taken from.
const GROWTH_READINGS: usize = 6;

/// Where an objective stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// The group has no lag that could be measured.
    #[default]
    Unknown,
    /// It holds.
    Ok,
    /// It holds, and may soon not.
    AtRisk,
    /// It is missed.
    Violated,
}

impl State {
    /// All of them.
    pub const ALL: [State; 4] = [State::Unknown, State::Ok, State::AtRisk, State::Violated];

    /// Its name in the API and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            State::Unknown => "unknown",
            State::Ok => "ok",
            State::AtRisk => "at_risk",
            State::Violated => "violated",
        }
    }
}

/// A change of state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
}

/// One objective and where it stands.
#[derive(Clone, Debug)]
pub struct Monitor {
    objective: Objective,
    budget: Budget,
    /// What the lag alone says; the budget may make more of it.
    by_lag: State,
    state: State,
    since_ms: i64,
    /// What each of the last readings said by itself.
    recent: VecDeque<State>,
    missing: u32,
    /// The last readings, for how fast the lag grows.
    growth: VecDeque<(Instant, f64)>,
}

impl Monitor {
    /// An objective of which nothing is known yet. `wall_ms` is the time of day, in ms since the epoch.
    pub fn new(objective: Objective, now: Instant, wall_ms: i64) -> Monitor {
        Monitor {
            budget: Budget::new(objective.window, objective.budget(), now),
            objective,
            by_lag: State::Unknown,
            state: State::Unknown,
            since_ms: wall_ms,
            recent: VecDeque::with_capacity(RECENT_READINGS),
            missing: 0,
            growth: VecDeque::with_capacity(GROWTH_READINGS),
        }
    }

    /// The objective.
    pub fn objective(&self) -> &Objective {
        &self.objective
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Since when, in ms since the epoch.
    pub fn since_ms(&self) -> i64 {
        self.since_ms
    }

    /// What the lag says, without regard to what of the budget was used before: for whoever acts on it.
    pub fn state_by_lag(&self) -> State {
        self.by_lag
    }

    /// See [`Budget::used`].
    pub fn budget_used(&self, now: Instant) -> f64 {
        self.budget.used(now)
    }

    /// See [`Budget::burn_rate`].
    pub fn burn_rate(&self, now: Instant) -> f64 {
        self.budget.burn_rate(now)
    }

    /// Goes on with another objective. What is known of the state is kept, for the next reading to judge; the budget
    /// is counted anew where it is another one.
    pub fn set_objective(&mut self, objective: Objective, now: Instant) {
        if objective.window != self.objective.window || objective.target != self.objective.target {
            self.budget = Budget::new(objective.window, objective.budget(), now);
        }
        self.objective = objective;
    }

    /// Takes a reading: the group's lag in seconds, `None` if it has none that can be measured. Answers with the change
    /// of state, if there is one.
    pub fn observe(&mut self, now: Instant, wall_ms: i64, lag_seconds: Option<f64>) -> Option<Change> {
        let beyond = lag_seconds.map(|lag| lag > self.objective.lag.as_secs_f64());
        self.budget.note(now, beyond);
        match lag_seconds {
            Some(lag) => self.judge(now, lag),
            None => self.miss(),
        }
        let burning = self.budget.burn_rate(now) >= FAST_BURN;
        let state = match self.by_lag {
            State::Ok if burning => State::AtRisk,
            by_lag => by_lag,
        };
        let from = std::mem::replace(&mut self.state, state);
        if from == state {
            return None;
        }
        self.since_ms = wall_ms;
        Some(Change { from, to: state })
    }

    fn miss(&mut self) {
        self.missing += 1;
        if self.missing >= MISSING_READINGS {
            self.by_lag = State::Unknown;
            self.growth.clear();
            self.recent.clear();
        }
    }

    fn judge(&mut self, now: Instant, lag: f64) {
        self.missing = 0;
        if self.growth.len() == GROWTH_READINGS {
            self.growth.pop_front();
        }
        self.growth.push_back((now, lag));
        let reading = self.read(lag);
        if self.by_lag == State::Unknown {
            // One reading is no ground for what a violation has done.
            self.by_lag = reading.min(State::AtRisk);
        }
        if self.recent.len() == RECENT_READINGS {
            self.recent.pop_front();
        }
        self.recent.push_back(reading);
        let last = |count: u32| {
            let count = count as usize;
            let last = self.recent.iter().rev().take(count).copied();
            (self.recent.len() >= count).then_some(last)
        };
        if let Some(worse) = last(WORSE_READINGS).and_then(Iterator::min).filter(|least| *least > self.by_lag)
        {
            self.by_lag = worse;
        } else if let Some(better) =
            last(BETTER_READINGS).and_then(Iterator::max).filter(|most| *most < self.by_lag)
        {
            self.by_lag = better;
        }
    }

    /// What one reading says by itself.
    fn read(&self, lag: f64) -> State {
        let limit = self.objective.lag.as_secs_f64();
        // A state that was entered is left lower than it was entered.
        let scale = |entered: State| if self.by_lag >= entered { LEAVE_PART } else { 1.0 };
        if lag > limit * scale(State::Violated) {
            return State::Violated;
        }
        let scale = scale(State::AtRisk);
        let forecast = lag + self.growth_per_second() * limit * FORECAST_PART;
        let growing = lag > limit * GROWING_PART * scale && forecast > limit;
        if growing || lag > limit * RISK_PART * scale { State::AtRisk } else { State::Ok }
    }

    /// Seconds of lag a second, over the last readings; 0 if there are too few to tell.
    fn growth_per_second(&self) -> f64 {
        match (self.growth.front(), self.growth.back()) {
            (Some((first, then)), Some((last, now))) if self.growth.len() == GROWTH_READINGS => {
                let elapsed = last.saturating_duration_since(*first).max(Duration::from_millis(1));
                (now - then) / elapsed.as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

#[cfg(test)]
#[path = "monitor_tests.rs"]
mod tests;
