//! The aborted transactions whose end lies in a segment: what a reader of committed records is told to
//! pass over.
//!
//! ```text
//! <base offset, 20 digits>.aborted          transaction
//!  0  magic          u32  "HWAT"             0  producer id         i64
//!  4  version        u32  1                  8  first offset        i64
//!  8  base offset    i64                    16  last offset         i64  of the control batch
//! 16  transactions   u32                    24  last stable offset  i64
//! 20  transaction...      rising by last offset, 32 bytes each
//!  .  checksum       u32  CRC-32C of all before
//! ```
//! All numbers are big-endian. The last stable offset is what it was once the end was durable: every
//! transaction that ended later began there or after it, so a search that has reached it is over.
//!
//! A segment without any has no file, or one that says so. The file is written as a whole before a
//! [snapshot](super::producer_snapshot) that counts on it; what came since is read out of the log again by
//! the start that needs it. What a closed segment holds is read when somebody asks for it.

use std::io;
use std::ops::Range;

use crate::record::crc32c;
use crate::storage::Storage;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

use super::error::ReadError;
use super::view::Cold;

/// The ending of the file.
pub(crate) const ABORTED_SUFFIX: &str = ".aborted";

const MAGIC: u32 = u32::from_be_bytes(*b"HWAT");
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 20;
const ENTRY_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;

/// A transaction that was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: i64,
    /// The offset of its first record.
    pub first_offset: i64,
    /// The offset of the control batch that ended it.
    pub last_offset: i64,
    /// What ended later began here or after it.
    pub last_stable: i64,
}

/// The aborted transactions of one segment, in the order of their ends.
#[derive(Debug)]
pub(crate) struct AbortedIndex {
    path: String,
    base_offset: i64,
    /// How many there are. Most segments have none, and then nobody looks further.
    count: AtomicUsize,
    /// How many of them the file holds, which holds no others.
    saved: AtomicUsize,
    /// `None` while they are in the file only. Guarded for as long as it takes to search, or to read the file.
    entries: Mutex<Option<Vec<AbortedTransaction>>>,
    /// Guards the file while it is written, and its name: whether that has come to be another segment's, which
    /// compaction has put in this one's place.
    replaced: Mutex<bool>,
}

impl AbortedIndex {
    /// The index of a segment without any, whose file is to be `path`.
    pub(crate) fn new(path: String, base_offset: i64) -> AbortedIndex {
        AbortedIndex {
            path,
            base_offset,
            count: AtomicUsize::new(0),
            saved: AtomicUsize::new(0),
            entries: Mutex::new(Some(Vec::new())),
            replaced: Mutex::new(false),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        // Acquire: pairs with the release of who has added the last.
        self.count.load(Ordering::Acquire)
    }

    /// Adds one that has ended behind all others.
    pub(crate) fn push(&self, aborted: AbortedTransaction) {
        let mut entries = self.entries.lock();
        let entries = entries.as_mut().expect("only sealed segments' are left on disk");
        entries.push(aborted);
        self.count.store(entries.len(), Ordering::Release);
    }

    /// Takes over what recovery or compaction knows of them, of which `saved` are in the file, alone.
    pub(crate) fn restore(&self, entries: Vec<AbortedTransaction>, saved: usize) {
        let mut state = self.entries.lock();
        self.saved.store(saved, Ordering::Release);
        self.count.store(entries.len(), Ordering::Release);
        *state = Some(entries);
    }

    /// Forgets what the file can say.
    pub(crate) fn forget(&self) {
        let replaced = self.replaced.lock();
        let mut entries = self.entries.lock();
        if !*replaced && self.saved.load(Ordering::Acquire) == self.len() {
            *entries = None;
        }
    }

    /// Adds to `found` those that records of `offsets` may belong to. Answers whether the search is over.
    ///
    /// # Errors
    /// [`ReadError::Cold`] if it is not to wait for the disk and would have to; of the disk; if the file is
    /// damaged, which the next start makes good.
    pub(crate) fn search(
        &self,
        storage: &dyn Storage,
        offsets: &Range<i64>,
        cold: Cold,
        found: &mut Vec<AbortedTransaction>,
    ) -> Result<bool, ReadError> {
        if self.len() == 0 {
            return Ok(false);
        }
        let mut state = self.entries.lock();
        if state.is_none() && cold == Cold::Refuse {
            return Err(ReadError::Cold);
        }
        let entries = self.loaded(storage, &mut state)?;
        let from = entries.partition_point(|aborted| aborted.last_offset < offsets.start);
        for aborted in &entries[from..] {
            if aborted.first_offset < offsets.end {
                found.push(*aborted);
            }
            if aborted.last_stable >= offsets.end {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// All of them.
    ///
    /// # Errors
    /// Of the disk; if the file is damaged.
    pub(crate) fn all(&self, storage: &dyn Storage) -> io::Result<Vec<AbortedTransaction>> {
        if self.len() == 0 {
            return Ok(Vec::new());
        }
        Ok(self.loaded(storage, &mut self.entries.lock())?.clone())
    }

    fn loaded<'s>(
        &self,
        storage: &dyn Storage,
        entries: &'s mut Option<Vec<AbortedTransaction>>,
    ) -> io::Result<&'s Vec<AbortedTransaction>> {
        if entries.is_none() {
            let loaded = decode(&storage.read(&self.path)?, self.base_offset);
            let whole = loaded.filter(|loaded| loaded.len() == self.len());
            *entries = Some(whole.ok_or_else(|| damaged(&self.path))?);
        }
        Ok(entries.as_ref().expect("just made"))
    }

    /// Writes the file, durably, if there are some that it does not hold.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn save(&self, storage: &dyn Storage) -> io::Result<()> {
        let replaced = self.replaced.lock();
        if *replaced || self.saved.load(Ordering::Acquire) == self.len() {
            return Ok(());
        }
        self.write(storage)
    }

    /// Writes the file, durably, whatever it holds.
    ///
    /// # Errors
    /// Of the disk.
    pub(crate) fn write(&self, storage: &dyn Storage) -> io::Result<()> {
        let (count, bytes) = {
            let entries = self.entries.lock();
            let entries = entries.as_ref().expect("what is not in the file is in memory");
            (entries.len(), encode(self.base_offset, entries))
        };
        storage.write_atomic(&self.path, &bytes)?;
        self.saved.store(count, Ordering::Release);
        Ok(())
    }

    /// Gives the name of the file up to another segment's, once whoever writes it is done. What it holds stays in
    /// memory from then on, for those who still read this segment.
    ///
    /// # Errors
    /// Of the disk; if the file is damaged.
    pub(crate) fn give_up_name(&self, storage: &dyn Storage) -> io::Result<()> {
        let mut replaced = self.replaced.lock();
        self.loaded(storage, &mut self.entries.lock())?;
        *replaced = true;
        Ok(())
    }
}

fn damaged(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{path} is damaged; the next start makes it anew"))
}

/// What the file at `path` holds; `None` if it is missing, damaged or larger than any that is read.
///
/// # Errors
/// Of the device.
pub(crate) fn load(
    storage: &dyn Storage,
    path: &str,
    base_offset: i64,
) -> io::Result<Option<Vec<AbortedTransaction>>> {
    match storage.read(path) {
        Ok(bytes) => Ok(decode(&bytes, base_offset)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The bytes of the file.
fn encode(base_offset: i64, entries: &[AbortedTransaction]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + entries.len() * ENTRY_BYTES + CHECKSUM_BYTES);
    bytes.extend_from_slice(&MAGIC.to_be_bytes());
    bytes.extend_from_slice(&VERSION.to_be_bytes());
    bytes.extend_from_slice(&base_offset.to_be_bytes());
    bytes.extend_from_slice(&(entries.len() as u32).to_be_bytes());
    for entry in entries {
        for field in [entry.producer_id, entry.first_offset, entry.last_offset, entry.last_stable] {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
    bytes
}

/// What the bytes of a file hold; `None` if it is damaged or another segment's.
fn decode(bytes: &[u8], base_offset: i64) -> Option<Vec<AbortedTransaction>> {
    let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    if u32::from_be_bytes(*checksum) != crc32c(bytes) {
        return None;
    }
    let (header, bytes) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    let expected = encode(base_offset, &[]);
    if header[..16] != expected[..16] {
        return None;
    }
    let count = u32::from_be_bytes(header[16..].try_into().expect("four bytes"));
    if bytes.len() as u64 != u64::from(count) * ENTRY_BYTES as u64 {
        return None;
    }
    let field =
        |entry: &[u8], at: usize| i64::from_be_bytes(entry[at..at + 8].try_into().expect("eight bytes"));
    let entries: Vec<AbortedTransaction> = bytes
        .chunks_exact(ENTRY_BYTES)
        .map(|entry| AbortedTransaction {
            producer_id: field(entry, 0),
            first_offset: field(entry, 8),
            last_offset: field(entry, 16),
            last_stable: field(entry, 24),
        })
        .collect();
    let sound = entries.iter().all(|entry| {
        0 <= entry.first_offset && entry.first_offset < entry.last_offset && base_offset <= entry.last_offset
    });
    (sound && entries.is_sorted_by(|a, b| a.last_offset < b.last_offset)).then_some(entries)
}
