//! From a key to the offset of its last record, for more keys than would fit as they are.
//!
//! A key is held as 128 bits: two hashes of 64 bits under two random keys of this process. Two keys of a
//! log that hash alike would cost the older one its record. Among a billion keys the odds of that are
//! below 10⁻²⁰, which is less than those of a bit that flips in memory; and nobody can look for such a
//! pair without the random keys, which leave neither the process nor the pass.
//!
//! ```text
//! slot, 24 bytes: hash u64, hash u64, offset + 1 u64 (0: free)
//! ```
//! Open addressing with linear probing, three quarters full at most. The slots are allocated once, zeroed,
//! and take memory as they are touched.

use std::hash::{BuildHasher, RandomState};

/// Bytes of a slot.
const SLOT_BYTES: usize = 24;

/// The last offset of each key, within a fixed number of bytes.
#[derive(Debug)]
pub struct OffsetMap {
    slots: Box<[[u64; 3]]>,
    keys: usize,
    keys_max: usize,
    hashers: [RandomState; 2],
}

/// The map is full, and the key is not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl OffsetMap {
    /// The smallest budget that is worth a map, in bytes.
    pub const BUDGET_BYTES_MIN: usize = 1 << 10;

    /// An empty map of `budget_bytes` at most, and of no more than `keys` keys need.
    #[must_use]
    pub fn new(budget_bytes: usize, keys: u64) -> OffsetMap {
        let wanted = keys.saturating_add(1).saturating_mul(4) / 3 + 1;
        let slots = (budget_bytes.max(Self::BUDGET_BYTES_MIN) / SLOT_BYTES)
            .min(usize::try_from(wanted).unwrap_or(usize::MAX));
        OffsetMap {
            slots: vec![[0; 3]; slots].into_boxed_slice(),
            keys: 0,
            keys_max: slots * 3 / 4,
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// Notes that `key` has a record at `offset`. Offsets come in rising order.
    ///
    /// # Errors
    /// [`Full`]; the map is as it was.
    pub fn insert(&mut self, key: &[u8], offset: i64) -> Result<(), Full> {
        let hash = self.hash(key);
        let slot = self.find(hash);
        if self.slots[slot][2] == 0 {
            if self.keys == self.keys_max {
                return Err(Full);
            }
            self.keys += 1;
        }
        // Offsets are not negative, so neither is one more.
        self.slots[slot] = [hash[0], hash[1], offset as u64 + 1];
        Ok(())
    }

    /// The offset that was noted last for `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let slot = self.find(self.hash(key));
        self.slots[slot][2].checked_sub(1).map(|offset| offset as i64)
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    fn hash(&self, key: &[u8]) -> [u64; 2] {
        [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)]
    }

    /// The slot of a key, or the free one where it belongs. There is one: a quarter of them stays free.
    fn find(&self, hash: [u64; 2]) -> usize {
        let count = self.slots.len();
        let mut slot = ((u128::from(hash[0]) * count as u128) >> 64) as usize;
        loop {
            let [first, second, offset] = self.slots[slot];
            if offset == 0 || [first, second] == hash {
                return slot;
            }
            slot = if slot + 1 == count { 0 } else { slot + 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_every_key_counts() {
        let mut map = OffsetMap::new(1 << 20, 1000);
        for offset in 0..3000i64 {
            map.insert(&(offset % 1000).to_be_bytes(), offset).expect("room for all keys");
        }
        assert_eq!(map.len(), 1000);
        for key in 0..1000i64 {
            assert_eq!(map.get(&key.to_be_bytes()), Some(2000 + key));
        }
        assert_eq!(map.get(b"unknown"), None);
        assert_eq!(map.get(b""), None);
    }

    #[test]
    fn a_full_map_takes_no_new_key_and_still_takes_the_old_ones() {
        let mut map = OffsetMap::new(0, u64::MAX);
        let mut offset = 0;
        while map.insert(&offset.to_string().into_bytes(), offset).is_ok() {
            offset += 1;
        }
        assert_eq!(offset as usize, OffsetMap::BUDGET_BYTES_MIN / SLOT_BYTES * 3 / 4);
        assert_eq!(map.len(), offset as usize);
        assert_eq!(map.insert(b"0", offset), Ok(()));
        assert_eq!((map.get(b"0"), map.get(b"1")), (Some(offset), Some(1)));
        assert_eq!(map.insert(b"another", offset), Err(Full));
    }

    #[test]
    fn a_map_is_no_larger_than_its_keys_need() {
        assert!(OffsetMap::new(128 << 20, 10).slots.len() < 32);
        let mut map = OffsetMap::new(128 << 20, 10);
        for offset in 0..10 {
            map.insert(&[offset as u8], offset).expect("room for as many as were announced");
        }
        let mut none = OffsetMap::new(128 << 20, 0);
        assert_eq!(none.get(b"a"), None);
        none.insert(b"a", 1).expect("room for one");
    }
}
