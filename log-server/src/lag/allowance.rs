//! How much of the logs one look may go through, and who gets how much of that.
//!
//! Each turn gets an equal part of what is left, and what it does not need is there for those behind it:
//!
//! ```text
//! 64 MiB, 4 turns   16 MiB, needs 1   21 MiB, needs nothing   32 MiB, needs all   32 MiB
//! ```
//! A part is never too small to come to something. So where very many turns need all of theirs, nothing is left for the
//! last ones: the next look has to begin with them.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use log_core::log::CountBudget;

/// The least that a turn gets, in bytes, unless there is less left.
const PART_BYTES_MIN: u64 = 256 << 10;

/// What is left of one look.
#[derive(Debug)]
pub(super) struct Allowance {
    left: Cell<u64>,
    turns: Cell<u64>,
    /// Once it is set there is nothing left.
    stop: Arc<AtomicBool>,
}

impl Allowance {
    /// `bytes` of the logs for so many turns.
    pub(super) fn new(bytes: u64, turns: usize, stop: Arc<AtomicBool>) -> Allowance {
        Allowance { left: Cell::new(bytes), turns: Cell::new(turns as u64), stop }
    }

    /// Whether those whose turn is now get nothing.
    pub(super) fn is_spent(&self) -> bool {
        self.left.get() == 0
    }

    /// So many turns are to share what is left.
    pub(super) fn share_out(&self, turns: usize) {
        self.turns.set(turns as u64);
    }

    /// The next turn.
    pub(super) fn turn<T>(&self, look: impl FnOnce(&CountBudget) -> T) -> T {
        let (left, turns) = (self.left.get(), self.turns.get().max(1));
        let part = (left / turns).max(PART_BYTES_MIN).min(left);
        let budget = CountBudget::bytes(part).until(self.stop.clone());
        let found = look(&budget);
        self.left.set(left - part + budget.left());
        self.turns.set(turns - 1);
        found
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn allowance(bytes: u64, turns: usize) -> Allowance {
        Allowance::new(bytes, turns, Arc::default())
    }

    #[test]
    fn what_one_does_not_need_is_there_for_those_behind_it() {
        let allowance = allowance(64 * MIB, 4);
        let part = || allowance.turn(CountBudget::left);
        assert_eq!(part(), 16 * MIB);
        assert_eq!(part(), 64 * MIB / 3);
        assert_eq!(part(), 32 * MIB);
        assert_eq!(part(), 64 * MIB);
        assert_eq!(part(), 64 * MIB, "a turn more than was thought");
    }

    #[test]
    fn a_part_comes_to_something_or_to_nothing() {
        let stop = Arc::new(AtomicBool::new(false));
        let allowance = Allowance::new(4 * PART_BYTES_MIN + 1, 1000, stop.clone());
        // A look that is stopped has spent its part.
        let spend = || {
            stop.store(false, Relaxed);
            allowance.turn(|budget| {
                let part = budget.left();
                stop.store(true, Relaxed);
                part
            })
        };
        let parts: Vec<u64> = (0..6).map(|_| spend()).collect();
        assert_eq!(parts, [PART_BYTES_MIN, PART_BYTES_MIN, PART_BYTES_MIN, PART_BYTES_MIN, 1, 0]);
        assert!(allowance.is_spent());
    }
}
