//! What groups were behind by in the last hours, so that a graph needs no other system. Pure: time is an argument, in
//! wall-clock milliseconds.
//!
//! A history is three rings, the finer ones shorter. A slot of a ring is one step of time and keeps the worst lag in
//! it, so that a peak is seen however coarse the step:
//!
//! | step | slots | back to |
//! |---|---|---|
//! | 2 s | 300 | 10 minutes |
//! | 15 s | 240 | 1 hour |
//! | 60 s | 360 | 6 hours |
//!
//! That is 900 slots of 24 bytes, some 21 KiB a group once its rings are full. What is kept is lost with the process.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use serde::Serialize;
use utoipa::ToSchema;

use super::sample::GroupLag;

/// Step in milliseconds and slots of each ring, the finest first.
const RINGS: [(i64, usize); 3] = [(2_000, 300), (15_000, 240), (60_000, 360)];

/// The longest history, in milliseconds.
const HORIZON_MS: i64 = RINGS[2].0 * RINGS[2].1 as i64;

/// A group at one moment of its history.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct HistoryPoint {
    /// When the step begins that this is about, in milliseconds since the epoch.
    pub at_ms: i64,
    /// The most records that the group was behind by within it.
    pub lag_records: i64,
    /// The most seconds, `None` if that was not known.
    pub lag_seconds: Option<f64>,
    /// Records that it consumed a second, at the end of it.
    pub consume_records_per_second: Option<f64>,
    /// Records that came in a second, at the end of it.
    pub produce_records_per_second: Option<f64>,
}

/// A part of a group's history.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct LagHistory {
    /// The group.
    pub group: Arc<str>,
    /// Seconds from one point to the next. Steps in which no sample was taken have no point.
    pub step_seconds: f64,
    /// In the order of time.
    pub points: Vec<HistoryPoint>,
}

impl LagHistory {
    /// Of a group of which nothing is remembered.
    pub fn empty(group: Arc<str>) -> LagHistory {
        LagHistory { group, step_seconds: RINGS[0].0 as f64 / 1_000.0, points: Vec::new() }
    }
}

/// One step of time. What is not known is NaN.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Milliseconds since the epoch, in steps.
    step: u32,
    lag_seconds: f32,
    lag_records: i64,
    consume: f32,
    produce: f32,
}

impl Slot {
    /// Takes in what came later within the same step.
    fn merge(&mut self, later: &Slot) {
        self.lag_records = self.lag_records.max(later.lag_records);
        // Of NaN and a number this is the number.
        self.lag_seconds = self.lag_seconds.max(later.lag_seconds);
        self.consume = later.consume;
        self.produce = later.produce;
    }
}

#[derive(Debug, Default)]
struct Ring {
    slots: VecDeque<Slot>,
}

impl Ring {
    fn push(&mut self, slot: Slot, slots_max: usize) {
        match self.slots.back_mut() {
            Some(last) if last.step == slot.step => return last.merge(&slot),
            // The clock went back: what is there is from a time that is yet to come.
            Some(last) if last.step > slot.step => self.slots.clear(),
            _ => {}
        }
        if self.slots.len() == slots_max {
            self.slots.pop_front();
        }
        self.slots.push_back(slot);
    }
}

/// The history of one group.
#[derive(Debug, Default)]
struct History {
    rings: [Ring; 3],
    /// When it was added to last.
    newest_ms: i64,
}

impl History {
    fn observe(&mut self, group: &GroupLag, now_ms: i64) {
        self.newest_ms = now_ms;
        let known = |number: Option<f64>| number.map_or(f32::NAN, |number| number as f32);
        for (ring, (step_ms, slots_max)) in self.rings.iter_mut().zip(RINGS) {
            let slot = Slot {
                step: u32::try_from(now_ms / step_ms).unwrap_or(0),
                lag_seconds: known(group.lag_seconds()),
                lag_records: group.lag_records(),
                consume: known(group.rates.consume_records_per_second),
                produce: known(group.rates.produce_records_per_second),
            };
            ring.push(slot, slots_max);
        }
    }

    /// The last `seconds` in at most `points_max` points: out of the finest ring that goes back so far, several steps
    /// made into one where they are too many.
    fn read(&self, now_ms: i64, seconds: u32, points_max: u32) -> (i64, Vec<HistoryPoint>) {
        let span_ms = i64::from(seconds.max(1)) * 1_000;
        let fits = |(step_ms, slots): &(i64, usize)| step_ms * *slots as i64 >= span_ms;
        let index = RINGS.iter().position(fits).unwrap_or(RINGS.len() - 1);
        let (step_ms, _) = RINGS[index];
        let span_ms = span_ms.min(HORIZON_MS);
        let together = (span_ms as u64).div_ceil(step_ms as u64 * u64::from(points_max.max(1))).max(1);
        let step_ms = step_ms * together as i64;
        let mut merged: Vec<Slot> = Vec::new();
        for slot in &self.rings[index].slots {
            let slot = Slot { step: slot.step / together as u32, ..*slot };
            if (i64::from(slot.step) + 1) * step_ms <= now_ms - span_ms {
                continue;
            }
            match merged.last_mut() {
                Some(last) if last.step == slot.step => last.merge(&slot),
                _ => merged.push(slot),
            }
        }
        // The first step and the last are there in part only: one more than was asked for.
        let surplus = merged.len().saturating_sub(points_max.max(1) as usize);
        let known = |number: f32| (!number.is_nan()).then_some(f64::from(number));
        let points = merged[surplus..].iter().map(|slot| HistoryPoint {
            at_ms: i64::from(slot.step) * step_ms,
            lag_records: slot.lag_records,
            lag_seconds: known(slot.lag_seconds),
            consume_records_per_second: known(slot.consume),
            produce_records_per_second: known(slot.produce),
        });
        (step_ms, points.collect())
    }
}

/// The histories of all groups, as many as there is room for.
#[derive(Debug, Default)]
pub(super) struct Histories {
    groups: HashMap<Arc<str>, History>,
}

impl Histories {
    /// Takes in a sample's groups. Beyond `groups_max` a group has no history, unless one that is gone makes room.
    pub(super) fn observe(&mut self, groups: &[GroupLag], now_ms: i64, groups_max: usize) {
        self.groups.retain(|_, history| history.newest_ms > now_ms - HORIZON_MS);
        let mut without = Vec::new();
        for group in groups {
            match self.groups.get_mut(&group.group) {
                Some(history) => history.observe(group, now_ms),
                None => without.push(group),
            }
        }
        if without.is_empty() {
            return;
        }
        let mut gone: Vec<(i64, Arc<str>)> = (self.groups.iter())
            .filter(|(_, history)| history.newest_ms != now_ms)
            .map(|(group, history)| (history.newest_ms, group.clone()))
            .collect();
        // The last of them has been gone for longest.
        gone.sort_unstable_by(|a, b| b.cmp(a));
        for group in without {
            if self.groups.len() >= groups_max {
                let Some((_, longest)) = gone.pop() else { return };
                self.groups.remove(&longest);
            }
            if self.groups.len() < groups_max {
                self.groups.entry(group.group.clone()).or_default().observe(group, now_ms);
            }
        }
    }

    /// See [`Board::history`](super::Board::history).
    pub(super) fn read(&self, group: &str, now_ms: i64, seconds: u32, points_max: u32) -> Option<LagHistory> {
        let (group, history) = self.groups.get_key_value(group)?;
        let (step_ms, points) = history.read(now_ms, seconds, points_max);
        Some(LagHistory { group: group.clone(), step_seconds: step_ms as f64 / 1_000.0, points })
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
