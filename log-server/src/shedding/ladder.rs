//! How far load is shed, one step at a time. Pure; time is an argument.
//!
//! ```text
//! level   low         normal      high
//! 0       –           –           –
//! 1       throttled   –           –
//! 2       refused     –           –
//! 3       refused     throttled   –
//! 4       refused     refused     –
//! ```
//!
//! What presses protects a class, and only lower ones are shed for it: a group that reads normal topics has the ladder
//! climbed to 2 at most. The first step is taken at once, since what presses has been judged before; each further one
//! after the last has had the step time to help. Down it goes one step each heal time in which nothing has pressed or
//! held. Steps for a class that no topic is in are passed over.

use std::time::{Duration, Instant};

use crate::topic::Priority;

/// What is done to producers of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Nothing.
    None,
    /// They are taken, and held up.
    Throttled,
    /// They are told to come again.
    Refused,
}

impl Action {
    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Action::None => "none",
            Action::Throttled => "throttled",
            Action::Refused => "refused",
        }
    }
}

/// What is done to a class at a level.
pub fn action_at(level: u8, class: Priority) -> Action {
    if class == Priority::High {
        return Action::None;
    }
    match level.saturating_sub(2 * class as u8) {
        0 => Action::None,
        1 => Action::Throttled,
        _ => Action::Refused,
    }
}

/// The class that the step to a level is about.
fn class_of_step(level: u8) -> Priority {
    Priority::ALL[usize::from(level.saturating_sub(1) / 2).min(1)]
}

/// The highest level that protects a class.
fn level_max(protected: Option<Priority>) -> u8 {
    protected.map_or(0, |class| 2 * class as u8)
}

/// For which classes load is to be shed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// The highest class that suffers now.
    pub presses: Option<Priority>,
    /// The highest class that may soon suffer: what is shed for it stays so.
    pub holds: Option<Priority>,
}

/// How long steps take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two steps up.
    pub step: Duration,
    /// Without pressure before a step down.
    pub heal: Duration,
}

/// Where the ladder stands.
#[derive(Clone, Debug)]
pub struct Ladder {
    pace: Pace,
    level: u8,
    changed_at: Option<Instant>,
    /// Since when this level is not needed.
    calm_since: Option<Instant>,
}

impl Ladder {
    /// At its foot.
    pub fn new(pace: Pace) -> Ladder {
        Ladder { pace, level: 0, changed_at: None, calm_since: None }
    }

    /// How many steps have been taken.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// Takes a step if one is due. `exists` says whether any topic is in a class. Answers with the new level.
    pub fn step(
        &mut self,
        now: Instant,
        pressure: Pressure,
        exists: impl Fn(Priority) -> bool,
    ) -> Option<u8> {
        let since_change = self.changed_at.map(|then| now.saturating_duration_since(then));
        let (top, kept) = (level_max(pressure.presses), level_max(pressure.presses.max(pressure.holds)));
        if self.level < top {
            self.calm_since = None;
            if self.level > 0 && since_change.is_some_and(|since| since < self.pace.step) {
                return None;
            }
            let next = (self.level + 1..=top).find(|level| exists(class_of_step(*level)))?;
            return Some(self.go(now, next));
        }
        if self.level <= kept {
            self.calm_since = None;
            return None;
        }
        let calm = now.saturating_duration_since(*self.calm_since.get_or_insert(now));
        if calm < self.pace.heal || since_change.is_some_and(|since| since < self.pace.heal) {
            return None;
        }
        let next = (1..self.level).rev().find(|level| exists(class_of_step(*level))).unwrap_or(0);
        Some(self.go(now, next))
    }

    fn go(&mut self, now: Instant, level: u8) -> u8 {
        self.level = level;
        self.changed_at = Some(now);
        level
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { step: Duration::from_secs(10), heal: Duration::from_secs(30) };
    const NORMAL: Pressure = Pressure { presses: Some(Priority::Normal), holds: None };
    const HIGH: Pressure = Pressure { presses: Some(Priority::High), holds: None };
    const HELD: Pressure = Pressure { presses: None, holds: Some(Priority::High) };
    const NONE: Pressure = Pressure { presses: None, holds: None };

    struct Climber {
        ladder: Ladder,
        now: Instant,
        second: u64,
    }

    impl Climber {
        fn new() -> Climber {
            Climber { ladder: Ladder::new(PACE), now: Instant::now(), second: 0 }
        }

        /// Steps once a second, and answers with the seconds at which the level changed, and to what.
        fn run(&mut self, seconds: u64, pressure: Pressure, classes: &[Priority]) -> Vec<(u64, u8)> {
            let mut changes = Vec::new();
            for _ in 0..seconds {
                let change = self.ladder.step(self.now, pressure, |class| classes.contains(&class));
                changes.extend(change.map(|level| (self.second, level)));
                self.second += 1;
                self.now += Duration::from_secs(1);
            }
            changes
        }
    }

    #[test]
    fn it_is_climbed_a_step_at_a_time_and_comes_down_the_same_way() {
        let mut climber = Climber::new();
        assert_eq!(climber.run(60, HIGH, &Priority::ALL), [(0, 1), (10, 2), (20, 3), (30, 4)]);
        assert_eq!(climber.run(150, NONE, &Priority::ALL), [(90, 3), (120, 2), (150, 1), (180, 0)]);
        assert_eq!(climber.run(100, NONE, &Priority::ALL), []);
    }

    #[test]
    fn only_classes_below_the_one_that_suffers_are_shed() {
        let mut climber = Climber::new();
        assert_eq!(climber.run(100, NORMAL, &Priority::ALL), [(0, 1), (10, 2)]);
        let low = Pressure { presses: Some(Priority::Low), holds: None };
        assert_eq!(Climber::new().run(100, low, &Priority::ALL), [], "there is nothing below it");
        for level in 0..=4 {
            assert_eq!(action_at(level, Priority::High), Action::None);
            assert!(action_at(level, Priority::Low) >= action_at(level, Priority::Normal));
        }
        let normal = [0, 1, 2, 3, 4].map(|level| action_at(level, Priority::Normal));
        assert_eq!(normal[..3], [Action::None; 3]);
        assert_eq!(normal[3..], [Action::Throttled, Action::Refused]);
        let low = [0, 1, 2].map(|level| action_at(level, Priority::Low));
        assert_eq!(low, [Action::None, Action::Throttled, Action::Refused]);
    }

    #[test]
    fn a_class_without_topics_takes_no_step() {
        let mut climber = Climber::new();
        let classes = [Priority::Normal, Priority::High];
        assert_eq!(climber.run(60, HIGH, &classes), [(0, 3), (10, 4)]);
        assert_eq!(climber.run(100, NONE, &classes), [(90, 3), (120, 0)]);
        assert_eq!(Climber::new().run(60, NORMAL, &[Priority::Normal]), []);
    }

    #[test]
    fn what_may_suffer_soon_holds_the_level_and_pressure_that_comes_back_climbs_on() {
        let mut climber = Climber::new();
        assert_eq!(climber.run(15, HIGH, &Priority::ALL), [(0, 1), (10, 2)]);
        assert_eq!(climber.run(300, HELD, &Priority::ALL), []);
        assert_eq!(climber.run(20, NONE, &Priority::ALL), [], "not yet calm for long enough");
        assert_eq!(climber.run(1, HELD, &Priority::ALL), []);
        assert_eq!(climber.run(30, NONE, &Priority::ALL), [], "the calm is counted anew");
        assert_eq!(climber.run(1, NONE, &Priority::ALL), [(366, 1)]);
        assert_eq!(climber.run(20, HIGH, &Priority::ALL), [(376, 2), (386, 3)]);
        // The class that suffers is a lower one now.
        assert_eq!(climber.run(100, NORMAL, &Priority::ALL), [(417, 2)]);
    }
}
