//! From a time to an offset near it: every few KiB of a segment, the largest timestamp so far.
//!
//! An entry says that every record up to and with its offset has at most its timestamp. So entries
//! rise in offset and never fall in timestamp, in whatever order the records' timestamps come, and
//! the first record with at least a given timestamp lies behind the last entry below it.
//!
//! One writer appends while readers search, without a lock. On disk (see `index_file`) an entry is
//! ```text
//!  0  timestamp        i64   ms since the epoch
//!  8  relative offset  u32   to the segment's base offset
//! 12  reserved         u32   0
//! ```

use std::fmt;
use std::io;

use crate::sync::Mutex;

use crate::storage::Storage;

use super::append_only::AppendOnly;
use super::index_file::{IndexEntry, IndexFile, IndexKind};

/// The largest timestamp up to an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeEntry {
    /// In ms since the epoch.
    pub timestamp: i64,
    /// The last offset it speaks for, relative to the segment's base offset.
    pub relative_offset: u32,
}

/// The time index of one segment.
pub struct TimeIndex {
    entries: AppendOnly<2>,
    /// Guards the place in the file. Only whoever saves the index takes it.
    file: Mutex<IndexFile>,
}

impl TimeIndex {
    /// An empty index that will be saved at `path`.
    pub(crate) fn new(path: String, base_offset: i64) -> TimeIndex {
        let file = IndexFile::new(path, IndexKind::Times, base_offset);
        TimeIndex { entries: AppendOnly::new(), file: Mutex::new(file) }
    }

    /// The first entries of the index at `path`, as far as it checks and `count` at most: as many as
    /// the offset index has, entries being added to both at once.
    ///
    /// # Errors
    /// Of the device.
    pub(crate) fn load(
        storage: &dyn Storage,
        path: String,
        base_offset: i64,
        count: usize,
    ) -> io::Result<TimeIndex> {
        let entries = AppendOnly::<2>::new();
        let mut last: Option<TimeEntry> = None;
        let file = IndexFile::load(storage, path, IndexKind::Times, base_offset, |entry: TimeEntry| {
            let rises = last.is_none_or(|last| {
                entry.relative_offset > last.relative_offset && entry.timestamp >= last.timestamp
            });
            let sound = rises && entries.len() < count;
            if sound {
                entries.push([entry.timestamp as u64, u64::from(entry.relative_offset)]);
                last = Some(entry);
            }
            sound
        })?;
        Ok(TimeIndex { entries, file: Mutex::new(file) })
    }

    /// Appends an entry. By the segment's one writer only.
    pub(crate) fn push(&self, entry: TimeEntry) {
        self.entries.push([entry.timestamp as u64, u64::from(entry.relative_offset)]);
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entry at `index`.
    ///
    /// # Panics
    /// If there are not as many.
    pub fn get(&self, index: usize) -> TimeEntry {
        unpack(self.entries.get(index))
    }

    /// The last entry.
    pub fn last(&self) -> Option<TimeEntry> {
        self.len().checked_sub(1).map(|last| self.get(last))
    }

    /// The last entry whose timestamp is below `timestamp`: up to its offset every record is older.
    pub fn lookup_below(&self, timestamp: i64) -> Option<TimeEntry> {
        let after = self.entries.partition_point(|words| unpack(words).timestamp < timestamp);
        after.checked_sub(1).map(|index| self.get(index))
    }

    /// The last entry that speaks only for offsets before this one.
    pub fn lookup_before_offset(&self, relative_offset: u32) -> Option<TimeEntry> {
        let after = self.entries.partition_point(|words| unpack(words).relative_offset < relative_offset);
        after.checked_sub(1).map(|index| self.get(index))
    }

    /// Appends the first `count` entries to the file, as far as they are not in it yet.
    ///
    /// # Errors
    /// Of the device. The index in memory is whole all the same.
    pub(crate) fn save(&self, storage: &dyn Storage, count: usize) -> io::Result<()> {
        self.file.lock().append(storage, count, |index| self.get(index))
    }
}

impl fmt::Debug for TimeIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeIndex").field("len", &self.len()).field("last", &self.last()).finish()
    }
}

impl IndexEntry for TimeEntry {
    const BYTES: usize = 16;

    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.relative_offset.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
    }

    fn take(bytes: &[u8]) -> TimeEntry {
        TimeEntry {
            timestamp: i64::from_be_bytes(bytes[..8].try_into().expect("eight bytes")),
            relative_offset: u32::from_be_bytes(bytes[8..12].try_into().expect("four bytes")),
        }
    }
}

fn unpack([timestamp, relative_offset]: [u64; 2]) -> TimeEntry {
    TimeEntry { timestamp: timestamp as i64, relative_offset: relative_offset as u32 }
}
