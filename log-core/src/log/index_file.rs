//! How an index lies on disk: entries in blocks that are appended as the log becomes durable.
//!
//! ```text
//! header, 24 bytes                            block, any number of them
//!  0  magic        u32  "HWIX"                 0  entries   u32   1 and up
//!  4  version      u16  1                      4  checksum  u32   CRC-32C of the checksum before
//!  6  kind         u16  0 offsets, 1 times                        (the header's for the first
//!  8  base offset  i64                                            block), the count, the entries
//! 16  reserved     u32  0                      8  entry...        8 or 16 bytes each
//! 20  checksum     u32  CRC-32C of 0..20
//! ```
//! All numbers are big-endian.
//!
//! Each checksum goes on from the one before, so a block counts only behind exactly the blocks it was
//! written behind, and what is left of an older file cannot pass for the rest of this one. An index
//! is a hint that can be made anew: a block that does not check ends the index, and is no error.

use std::io;
use std::sync::Arc;

use crate::record::crc32c;
use crate::storage::{RandomFile, Storage};

const MAGIC: u32 = u32::from_be_bytes(*b"HWIX");
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 24;
const BLOCK_HEADER_BYTES: usize = 8;

/// What an index file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(crate) enum IndexKind {
    Offsets = 0,
    Times = 1,
}

/// The place up to which an index has been written, and how to go on.
#[derive(Debug)]
pub(crate) struct IndexFile {
    path: String,
    header: [u8; HEADER_BYTES],
    /// `None` until the first write, or after an index that did not check: the file is made anew.
    file: Option<Arc<dyn RandomFile>>,
    /// Where the next block goes.
    end: u64,
    /// The checksum it goes on from.
    checksum: u32,
    /// Entries written so far.
    saved: usize,
}

/// An entry of an index as bytes.
pub(crate) trait IndexEntry: Sized {
    /// Bytes on disk.
    const BYTES: usize;
    /// Appends the bytes.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes [`BYTES`](IndexEntry::BYTES) bytes.
    fn take(bytes: &[u8]) -> Self;
}

impl IndexFile {
    /// The file of a new index. Nothing is written yet.
    pub(crate) fn new(path: String, kind: IndexKind, base_offset: i64) -> IndexFile {
        let header = header(kind, base_offset);
        let checksum = crc32c(&header[..20]);
        IndexFile { path, header, file: None, end: HEADER_BYTES as u64, checksum, saved: 0 }
    }

    /// Reads an index, handing each entry to `push`, which refuses those that make no sense behind
    /// the ones before. What does not check, and all after it, is dropped.
    ///
    /// # Errors
    /// Of the device. A file that is missing or no index of this kind is an empty one.
    pub(crate) fn load<E: IndexEntry>(
        storage: &dyn Storage,
        path: String,
        kind: IndexKind,
        base_offset: i64,
        mut push: impl FnMut(E) -> bool,
    ) -> io::Result<IndexFile> {
        let mut index = IndexFile::new(path, kind, base_offset);
        let bytes = match storage.read(&index.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(index),
            Err(error) => return Err(error),
        };
        if bytes.len() < HEADER_BYTES || bytes[..HEADER_BYTES] != index.header {
            return Ok(index);
        }
        index.file = Some(storage.open_random(&index.path, false)?);
        let mut at = HEADER_BYTES;
        while let Some((entries, checksum)) = block(&bytes[at..], E::BYTES, index.checksum) {
            let count = entries.len() / E::BYTES;
            if !entries.chunks_exact(E::BYTES).all(|entry| push(E::take(entry))) {
                break;
            }
            at += BLOCK_HEADER_BYTES + entries.len();
            index.end = at as u64;
            index.checksum = checksum;
            index.saved += count;
        }
        Ok(index)
    }

    /// Entries that are in the file.
    pub(crate) fn saved(&self) -> usize {
        self.saved
    }

    /// Appends the entries from [`saved`](IndexFile::saved) to `upto` as one block. Not synced: a
    /// block that is lost is made anew from the log.
    pub(crate) fn append<E: IndexEntry>(
        &mut self,
        storage: &dyn Storage,
        upto: usize,
        entry: impl Fn(usize) -> E,
    ) -> io::Result<()> {
        if upto <= self.saved {
            return Ok(());
        }
        let count = upto - self.saved;
        let mut block = Vec::with_capacity(BLOCK_HEADER_BYTES + count * E::BYTES);
        block.extend_from_slice(&(count as u32).to_be_bytes());
        block.extend_from_slice(&[0; 4]);
        (self.saved..upto).for_each(|index| entry(index).put(&mut block));
        let checksum = block_checksum(self.checksum, count as u32, &block[BLOCK_HEADER_BYTES..]);
        block[4..8].copy_from_slice(&checksum.to_be_bytes());

        let file = match &self.file {
            Some(file) => file,
            None => {
                if storage.exists(&self.path)? {
                    storage.remove_file(&self.path)?;
                }
                let file = storage.open_random(&self.path, true)?;
                file.write_at(0, &self.header)?;
                self.file.insert(file)
            }
        };
        file.write_at(self.end, &block)?;
        self.end += block.len() as u64;
        self.checksum = checksum;
        self.saved = upto;
        Ok(())
    }
}

fn header(kind: IndexKind, base_offset: i64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(&MAGIC.to_be_bytes());
    header[4..6].copy_from_slice(&VERSION.to_be_bytes());
    header[6..8].copy_from_slice(&(kind as u16).to_be_bytes());
    header[8..16].copy_from_slice(&base_offset.to_be_bytes());
    let checksum = crc32c(&header[..20]);
    header[20..24].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// The entries of the block at the front of `bytes` and its checksum, if it checks.
fn block(bytes: &[u8], entry_bytes: usize, before: u32) -> Option<(&[u8], u32)> {
    let (head, rest) = bytes.split_first_chunk::<BLOCK_HEADER_BYTES>()?;
    let count = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
    let checksum = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
    let entries = rest.get(..(count as usize).checked_mul(entry_bytes)?)?;
    (count > 0 && block_checksum(before, count, entries) == checksum).then_some((entries, checksum))
}

fn block_checksum(before: u32, count: u32, entries: &[u8]) -> u32 {
    let mut head = [0; 12];
    head[0..4].copy_from_slice(&before.to_be_bytes());
    head[4..8].copy_from_slice(&count.to_be_bytes());
    head[8..12].copy_from_slice(&crc32c(entries).to_be_bytes());
    crc32c(&head)
}

#[cfg(test)]
mod tests {
    use super::super::offset_index::{OffsetEntry, OffsetIndex};
    use super::super::testing::{Disk, PARTITION};
    use super::*;

    fn entry(n: u32) -> OffsetEntry {
        OffsetEntry { relative_offset: n * 3 + 1, position: n * 100 + 50 }
    }

    fn path() -> String {
        format!("{PARTITION}/00000000000000000007.index")
    }

    /// An index saved in three blocks: entries 0 to 3, 4 to 9 and 10 to 11.
    fn saved(disk: &Disk) -> Vec<u8> {
        disk.storage.create_dir_all(PARTITION).expect("room");
        let index = OffsetIndex::new(path(), 7);
        for n in 0..12 {
            index.push(entry(n));
        }
        for (upto, holds) in [(4, 4), (10, 10), (12, 12)] {
            let end = u64::from(entry(upto - 1).position) + 1;
            assert_eq!(index.save(&*disk.storage, end).expect("room"), holds);
        }
        disk.storage.read(&path()).expect("there")
    }

    fn loaded(disk: &Disk, end: u64) -> OffsetIndex {
        OffsetIndex::load(&*disk.storage, path(), 7, end, usize::MAX).expect("readable")
    }

    #[test]
    fn what_is_saved_piece_by_piece_is_loaded_whole() {
        let disk = Disk::new();
        assert_eq!(saved(&disk).len(), HEADER_BYTES + 3 * BLOCK_HEADER_BYTES + 12 * OffsetEntry::BYTES);
        let index = loaded(&disk, u64::MAX);
        assert_eq!((index.len(), index.last()), (12, Some(entry(11))));
        assert_eq!(index.lookup(entry(5).relative_offset + 1), Some(entry(5)));
        assert_eq!(index.lookup(0), None);
        assert_eq!(index.lookup_position(u64::from(entry(8).position) - 1), Some(entry(7)));
    }

    #[test]
    fn a_flipped_bit_costs_its_block_and_what_follows_and_can_be_written_over() {
        let disk = Disk::new();
        let bytes = saved(&disk);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            disk.storage.write_synced(&path(), &flipped).expect("room");
            let index = loaded(&disk, u64::MAX);
            let kept = index.len();
            assert!([0, 4, 10].contains(&kept), "bit {bit}: {kept} entries");
            assert!((0..kept as u32).all(|n| index.get(n as usize) == entry(n)), "bit {bit}");
            if bit % 61 == 0 {
                (kept as u32..12).for_each(|n| index.push(entry(n)));
                index.save(&*disk.storage, u64::MAX).expect("room");
                assert_eq!(loaded(&disk, u64::MAX).len(), 12, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_block_of_another_history_does_not_follow() {
        let disk = Disk::new();
        let old = saved(&disk);
        // The same file begun anew with other entries in its first block, and the old blocks behind it.
        disk.storage.remove_file(&path()).expect("there");
        let index = OffsetIndex::new(path(), 7);
        for n in 0..4 {
            index.push(OffsetEntry { relative_offset: n + 1, position: n + 1 });
        }
        index.save(&*disk.storage, u64::MAX).expect("room");
        let mut bytes = disk.storage.read(&path()).expect("there");
        bytes.extend_from_slice(&old[bytes.len()..]);
        disk.storage.write_synced(&path(), &bytes).expect("room");
        assert_eq!(loaded(&disk, u64::MAX).len(), 4);
    }

    #[test]
    fn entries_past_the_log_and_files_of_another_segment_are_not_taken() {
        let disk = Disk::new();
        saved(&disk);
        assert_eq!(loaded(&disk, u64::from(entry(6).position)).len(), 6);
        let other = OffsetIndex::load(&*disk.storage, path(), 8, u64::MAX, usize::MAX).expect("readable");
        assert_eq!(other.len(), 0);
    }
}
