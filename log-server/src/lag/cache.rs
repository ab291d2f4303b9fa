//! Remembers the timestamps of records that groups wait at, so that a scrape does not read the log again.

use std::collections::HashMap;

use log_core::wire::Uuid;
use parking_lot::Mutex;

/// Entries of each of the two generations. At some 48 bytes each, the cache stays below 10 MiB.
const ENTRIES_MAX: usize = 65_536;

/// A place in a log: topic id, partition, offset. What stands there never changes; a topic that is created again has
/// another id.
pub type Place = (Uuid, i32, i64);

/// Timestamps by place. Bounded, without bookkeeping per use: entries live in two generations, a look-up moves what it
/// finds into the young one, and when that is full it becomes the old one, whose unused entries are dropped.
#[derive(Debug, Default)]
pub struct LagCache {
    /// Guards the maps for one look-up at a time; never held while the log is read.
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Place, i64>,
    old: HashMap<Place, i64>,
}

impl LagCache {
    /// The timestamp at `place`: remembered, or else looked up and then remembered. `None` if there is no record.
    pub fn timestamp(&self, place: Place, look_up: impl FnOnce() -> Option<i64>) -> Option<i64> {
        if let Some(timestamp_ms) = self.generations.lock().find(&place) {
            return Some(timestamp_ms);
        }
        let timestamp_ms = look_up()?;
        self.generations.lock().insert(place, timestamp_ms);
        Some(timestamp_ms)
    }
}

impl Generations {
    fn find(&mut self, place: &Place) -> Option<i64> {
        if let Some(timestamp_ms) = self.young.get(place) {
            return Some(*timestamp_ms);
        }
        let timestamp_ms = self.old.remove(place)?;
        self.insert(*place, timestamp_ms);
        Some(timestamp_ms)
    }

    fn insert(&mut self, place: Place, timestamp_ms: i64) {
        if self.young.len() >= ENTRIES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(place, timestamp_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(offset: i64) -> Place {
        (Uuid::ZERO, 0, offset)
    }

    #[test]
    fn a_place_is_looked_up_once() {
        let cache = LagCache::default();
        assert_eq!(cache.timestamp(place(1), || Some(7)), Some(7));
        assert_eq!(cache.timestamp(place(1), || panic!("it is remembered")), Some(7));
        assert_eq!(cache.timestamp(place(2), || None), None);
        assert_eq!(cache.timestamp(place(2), || Some(8)), Some(8), "that there is none is not remembered");
    }

    #[test]
    fn what_is_used_survives_and_what_is_not_goes() {
        let cache = LagCache::default();
        let fill = |from: i64| {
            for offset in from..from + ENTRIES_MAX as i64 {
                cache.timestamp(place(offset), || Some(0));
            }
        };
        cache.timestamp(place(-1), || Some(5));
        cache.timestamp(place(-2), || Some(6));
        fill(0);
        assert_eq!(cache.timestamp(place(-1), || panic!("it was moved on")), Some(5));
        fill(1_000_000);
        assert_eq!(cache.timestamp(place(-1), || panic!("it was moved on")), Some(5));
        assert_eq!(cache.timestamp(place(-2), || None), None, "nobody has asked for it");
        let generations = cache.generations.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * ENTRIES_MAX);
    }
}
