//! From an offset to a position near it: every few KiB of a segment, where a batch starts.
//!
//! One writer appends while readers search, without a lock. On disk (see `index_file`) an entry is
//! ```text
//! 0  relative offset  u32   of the batch's first record, to the segment's base offset
//! 4  position         u32   of the batch's first byte in the segment's file
//! ```

use std::fmt;
use std::io;

use crate::sync::Mutex;

use crate::storage::Storage;

use super::append_only::AppendOnly;
use super::index_file::{IndexEntry, IndexFile, IndexKind};

/// Where a batch starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetEntry {
    /// The batch's base offset, relative to that of the segment.
    pub relative_offset: u32,
    /// Byte position in the segment's file.
    pub position: u32,
}

/// The offset index of one segment. Entries rise in both of their fields.
pub struct OffsetIndex {
    entries: AppendOnly<1>,
    /// Guards the place in the file. Only whoever saves the index takes it.
    file: Mutex<IndexFile>,
}

impl OffsetIndex {
    /// An empty index that will be saved at `path`.
    pub(crate) fn new(path: String, base_offset: i64) -> OffsetIndex {
        let file = IndexFile::new(path, IndexKind::Offsets, base_offset);
        OffsetIndex { entries: AppendOnly::new(), file: Mutex::new(file) }
    }

    /// The first entries of the index at `path`: as far as it checks and speaks of positions below
    /// `end`, and `count` at most.
    ///
    /// # Errors
    /// Of the device.
    pub(crate) fn load(
        storage: &dyn Storage,
        path: String,
        base_offset: i64,
        end: u64,
        count: usize,
    ) -> io::Result<OffsetIndex> {
        let entries = AppendOnly::<1>::new();
        let mut last: Option<OffsetEntry> = None;
        let file = IndexFile::load(storage, path, IndexKind::Offsets, base_offset, |entry: OffsetEntry| {
            let rises = last.is_none_or(|last| {
                entry.relative_offset > last.relative_offset && entry.position > last.position
            });
            let sound = rises && u64::from(entry.position) < end && entries.len() < count;
            if sound {
                entries.push([pack(entry)]);
                last = Some(entry);
            }
            sound
        })?;
        Ok(OffsetIndex { entries, file: Mutex::new(file) })
    }

    /// Appends an entry. By the segment's one writer only.
    pub(crate) fn push(&self, entry: OffsetEntry) {
        self.entries.push([pack(entry)]);
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry at `index`.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn get(&self, index: usize) -> OffsetEntry {
        let [word] = self.entries.get(index);
        unpack(word)
    }

    /// The last entry.
    pub fn last(&self) -> Option<OffsetEntry> {
        self.len().checked_sub(1).map(|last| self.get(last))
    }

    /// The last entry whose batch starts at or before the offset.
    pub fn lookup(&self, relative_offset: u32) -> Option<OffsetEntry> {
        let after = self.entries.partition_point(|[word]| unpack(word).relative_offset <= relative_offset);
        after.checked_sub(1).map(|index| self.get(index))
    }

    /// The last entry whose batch starts at or before the position.
    pub fn lookup_position(&self, position: u64) -> Option<OffsetEntry> {
        let after = self.entries.partition_point(|[word]| u64::from(unpack(word).position) <= position);
        after.checked_sub(1).map(|index| self.get(index))
    }

    /// Appends to the file the entries that are not in it yet and lie below `end`, a position up to
    /// which the log is durable. Returns how many the file holds then.
    ///
    /// # Errors
    /// Of the device. The index in memory is whole all the same.
    pub(crate) fn save(&self, storage: &dyn Storage, end: u64) -> io::Result<usize> {
        let durable = self.entries.partition_point(|[word]| u64::from(unpack(word).position) < end);
        let mut file = self.file.lock();
        file.append(storage, durable, |index| self.get(index))?;
        Ok(file.saved())
    }
}

impl fmt::Debug for OffsetIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffsetIndex").field("len", &self.len()).field("last", &self.last()).finish()
    }
}

impl IndexEntry for OffsetEntry {
    const BYTES: usize = 8;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&pack(*self).to_be_bytes());
    }

    fn take(bytes: &[u8]) -> OffsetEntry {
        unpack(u64::from_be_bytes(bytes.try_into().expect("as many as were asked for")))
    }
}

fn pack(entry: OffsetEntry) -> u64 {
    u64::from(entry.relative_offset) << 32 | u64::from(entry.position)
}

fn unpack(word: u64) -> OffsetEntry {
    OffsetEntry { relative_offset: (word >> 32) as u32, position: word as u32 }
}
