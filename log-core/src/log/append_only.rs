//! A list that one writer appends to while any number of readers search it without a lock.
//!
//! Entries live in chunks that are allocated when they are reached and never move, each twice as
//! large as the one before; the published length says how many there are.

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::OnceLock;

/// Entries in the first chunk.
const FIRST_CHUNK: usize = 32;
/// Chunks at most: room for 2³² entries, more than 32-bit positions can tell apart.
const CHUNKS: usize = 27;

/// An append-only list of entries of `WORDS` 64-bit words.
pub(crate) struct AppendOnly<const WORDS: usize> {
    chunks: [OnceLock<Box<[[AtomicU64; WORDS]]>>; CHUNKS],
    len: AtomicUsize,
}

impl<const WORDS: usize> AppendOnly<WORDS> {
    pub(crate) fn new() -> Self {
        AppendOnly { chunks: [const { OnceLock::new() }; CHUNKS], len: AtomicUsize::new(0) }
    }

    pub(crate) fn len(&self) -> usize {
        // Acquire: pairs with the release in `push`; the entries below the length are complete.
        self.len.load(Ordering::Acquire)
    }

    /// Appends an entry. By the one writer only: two at a time would overwrite each other's.
    pub(crate) fn push(&self, words: [u64; WORDS]) {
        // Relaxed: the writer sees its own store.
        let index = self.len.load(Ordering::Relaxed);
        let (chunk, at) = place(index);
        let entries = self.chunks[chunk].get_or_init(|| {
            (0..FIRST_CHUNK << chunk).map(|_| [const { AtomicU64::new(0) }; WORDS]).collect()
        });
        for (slot, word) in entries[at].iter().zip(words) {
            // Relaxed: published by the length.
            slot.store(word, Ordering::Relaxed);
        }
        self.len.store(index + 1, Ordering::Release);
    }

    /// # Panics
    /// If `index` is not below the length.
    pub(crate) fn get(&self, index: usize) -> [u64; WORDS] {
        let (chunk, at) = place(index);
        let entries = self.chunks[chunk].get().expect("below the length");
        std::array::from_fn(|word| entries[at][word].load(Ordering::Relaxed))
    }

    /// How many entries from the first on satisfy `holds`, which does so for a prefix of them.
    pub(crate) fn partition_point(&self, holds: impl Fn([u64; WORDS]) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if holds(self.get(middle)) { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// The chunk that an entry lies in, and where in it: chunk `k` starts at `FIRST_CHUNK * (2^k - 1)`.
fn place(index: usize) -> (usize, usize) {
    let chunk = (index / FIRST_CHUNK + 1).ilog2() as usize;
    (chunk, index - FIRST_CHUNK * ((1 << chunk) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_dense_and_in_order() {
        let mut expected = (0, 0);
        for index in 0..10_000 {
            assert_eq!(place(index), expected, "entry {index}");
            expected.1 += 1;
            if expected.1 == FIRST_CHUNK << expected.0 {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn readers_see_whole_entries() {
        let list = AppendOnly::<2>::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while list.len() < 50_000 {
                    let len = list.len();
                    if let Some(last) = len.checked_sub(1) {
                        assert_eq!(list.get(last), [last as u64, !(last as u64)]);
                        assert_eq!(list.partition_point(|[a, _]| a < last as u64), last);
                    }
                }
            });
            for n in 0..50_000u64 {
                list.push([n, !n]);
            }
        });
    }
}
