//! Remembers what was looked up lately, within a bound.

use std::collections::HashMap;
use std::hash::Hash;

use parking_lot::Mutex;

/// Entries of each of the two generations.
const ENTRIES_MAX: usize = 65_536;

/// What was looked up lately. Bounded, without bookkeeping per use: entries live in two generations, a look-up moves
/// what it finds into the young one, and when that is full it becomes the old one, whose unused entries are dropped.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    /// Guards the maps for one look-up at a time; never held while what is to be remembered is found out.
    generations: Mutex<Generations<K, V>>,
}

#[derive(Debug)]
struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Recent { generations: Mutex::new(Generations { young: HashMap::new(), old: HashMap::new() }) }
    }
}

impl<K: Eq + Hash + Clone, V: Copy> Recent<K, V> {
    /// What is remembered of `key`.
    pub(super) fn get(&self, key: &K) -> Option<V> {
        self.generations.lock().find(key)
    }

    /// Remembers `value`.
    pub(super) fn insert(&self, key: K, value: V) {
        self.generations.lock().insert(key, value);
    }
}

impl<K: Eq + Hash + Clone, V: Copy> Generations<K, V> {
    fn find(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(*value);
        }
        let (key, value) = self.old.remove_entry(key)?;
        self.insert(key, value);
        Some(value)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= ENTRIES_MAX {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_survives_and_what_is_not_goes() {
        let recent: Recent<i64, i64> = Recent::default();
        let fill = |from: i64| {
            for key in from..from + ENTRIES_MAX as i64 {
                recent.insert(key, 0);
            }
        };
        recent.insert(-1, 5);
        recent.insert(-2, 6);
        assert_eq!((recent.get(&-1), recent.get(&-3)), (Some(5), None));
        fill(0);
        assert_eq!(recent.get(&-1), Some(5), "it was moved on");
        fill(1_000_000);
        assert_eq!(recent.get(&-1), Some(5), "it was moved on");
        assert_eq!(recent.get(&-2), None, "nobody has asked for it");
        let generations = recent.generations.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * ENTRIES_MAX);
    }
}
