//! Which leader epoch wrote which offsets, for OffsetForLeaderEpoch (KIP-101, KIP-320).
//!
//! A list of epochs with the offset at which each began; an epoch ends where the next one begins.
//! Small and rarely changed, so it is written whole, atomically, before the first batch of a new
//! epoch is appended: no durable batch bears an epoch that the file does not know.
//!
//! ```text
//!  0  magic     u32  "HWLE"            all numbers big-endian
//!  4  version   u32  1
//!  8  count     u32
//! 12  entry...       12 bytes each: epoch i32, start offset i64
//!  .  checksum  u32  CRC-32C of all before
//! ```

use std::io;

use crate::record::crc32c;
use crate::storage::Storage;

const MAGIC: u32 = u32::from_be_bytes(*b"HWLE");
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 12;
const CHECKSUM_BYTES: usize = 4;
const ENTRY_BYTES: usize = 12;

/// The beginning of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The leader epoch, not negative.
    pub epoch: i32,
    /// The first offset that was written in it.
    pub start_offset: i64,
}

/// The epochs of one partition, rising in epoch and in offset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochStart>,
}

impl LeaderEpochs {
    /// The epochs, oldest first.
    pub fn entries(&self) -> &[EpochStart] {
        &self.entries
    }

    /// The newest epoch that has written here.
    pub fn latest(&self) -> Option<i32> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// The epoch that has written `offset`; `None` before the first that is known.
    pub fn epoch_at(&self, offset: i64) -> Option<i32> {
        let begun = self.entries.partition_point(|entry| entry.start_offset <= offset);
        begun.checked_sub(1).map(|index| self.entries[index].epoch)
    }

    /// Notes that `epoch` writes from `start_offset` on. Answers whether that was news, which is then
    /// to be saved before anything is appended.
    ///
    /// An epoch that is not above the latest one changes nothing: the one leader appends in order.
    pub fn begin(&mut self, epoch: i32, start_offset: i64) -> bool {
        if epoch < 0 || self.latest().is_some_and(|latest| latest >= epoch) {
            return false;
        }
        // An epoch that wrote nothing before the next one came has no offset of its own.
        self.entries.retain(|entry| entry.start_offset < start_offset);
        self.entries.push(EpochStart { epoch, start_offset });
        true
    }

    /// The answer to OffsetForLeaderEpoch: the largest epoch that is at most `epoch` and the offset at
    /// which it ended, which is `log_end` for the latest. `None` (on the wire -1, -1) if the epoch is
    /// newer than any that is known here, or none is.
    pub fn end_offset(&self, epoch: i32, log_end: i64) -> Option<(i32, i64)> {
        let latest = self.latest()?;
        if epoch < 0 || epoch > latest {
            return None;
        }
        let after = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end_offset = self.entries.get(after).map_or(log_end, |next| next.start_offset);
        // Before the first epoch: nothing of that one is left, and it ended where the first begins.
        let epoch = after.checked_sub(1).map_or(epoch, |index| self.entries[index].epoch);
        Some((epoch, end_offset))
    }

    /// Forgets what began at or past the log's end. Answers whether that was anything.
    pub fn truncate_end(&mut self, log_end: i64) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| entry.start_offset < log_end);
        self.entries.len() != before
    }

    /// Forgets epochs that ended before the log's start; the one that goes on across it begins there
    /// from now on. Answers whether anything changed.
    pub fn truncate_start(&mut self, log_start: i64) -> bool {
        let below = self.entries.partition_point(|entry| entry.start_offset <= log_start);
        let Some(last_below) = below.checked_sub(1) else {
            return false;
        };
        if last_below == 0 && self.entries[0].start_offset == log_start {
            return false;
        }
        self.entries.drain(..last_below);
        self.entries[0].start_offset = log_start;
        true
    }

    /// Writes the list so that it is durable on return.
    ///
    /// # Errors
    /// Of the disk.
    pub fn save(&self, storage: &dyn Storage, path: &str) -> io::Result<()> {
        storage.write_atomic(path, &self.encode())
    }

    /// Reads what [`save`](LeaderEpochs::save) wrote; empty if there is no such file.
    ///
    /// # Errors
    /// Of the disk; `InvalidData` if the file is damaged.
    pub fn load(storage: &dyn Storage, path: &str) -> io::Result<LeaderEpochs> {
        match storage.read(path) {
            Ok(bytes) => LeaderEpochs::decode(&bytes)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, format!("{path} is damaged"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(LeaderEpochs::default()),
            Err(error) => Err(error),
        }
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.entries.len() * ENTRY_BYTES + CHECKSUM_BYTES);
        bytes.extend_from_slice(&MAGIC.to_be_bytes());
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&(self.entries.len() as u32).to_be_bytes());
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.epoch.to_be_bytes());
            bytes.extend_from_slice(&entry.start_offset.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        bytes
    }

    /// What [`save`](LeaderEpochs::save) wrote, `None` if it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<LeaderEpochs> {
        let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        let (header, rest) = bytes.split_first_chunk::<HEADER_BYTES>()?;
        let u32_at = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().expect("four bytes"));
        if u32_at(0) != MAGIC || u32_at(4) != VERSION || u32::from_be_bytes(*checksum) != crc32c(bytes) {
            return None;
        }
        if rest.len() != (u32_at(8) as usize).checked_mul(ENTRY_BYTES)? {
            return None;
        }
        let entries: Vec<EpochStart> = rest
            .chunks_exact(ENTRY_BYTES)
            .map(|entry| EpochStart {
                epoch: i32::from_be_bytes(entry[..4].try_into().expect("four bytes")),
                start_offset: i64::from_be_bytes(entry[4..].try_into().expect("eight bytes")),
            })
            .collect();
        let rises = entries
            .windows(2)
            .all(|pair| pair[0].epoch < pair[1].epoch && pair[0].start_offset < pair[1].start_offset);
        let not_negative = entries.first().is_none_or(|first| first.epoch >= 0 && first.start_offset >= 0);
        (rises && not_negative).then_some(LeaderEpochs { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MmapStorage, WriteMode};

    fn epochs(list: &[(i32, i64)]) -> LeaderEpochs {
        let entries = list.iter().map(|&(epoch, start_offset)| EpochStart { epoch, start_offset }).collect();
        LeaderEpochs { entries }
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let epochs = epochs(&[(2, 10), (5, 40), (6, 90)]);
        assert_eq!(epochs.end_offset(0, 100), Some((0, 10)), "older than all: ended at the first");
        assert_eq!(epochs.end_offset(2, 100), Some((2, 40)));
        assert_eq!(epochs.end_offset(4, 100), Some((2, 40)), "unknown between two: the one below");
        assert_eq!(epochs.end_offset(5, 100), Some((5, 90)));
        assert_eq!(epochs.end_offset(6, 100), Some((6, 100)), "the latest ends at the log's end");
        assert_eq!(epochs.end_offset(7, 100), None, "from the future");
        assert_eq!(epochs.end_offset(-1, 100), None);
        assert_eq!(LeaderEpochs::default().end_offset(0, 100), None);
        let written = [(9, None), (10, Some(2)), (39, Some(2)), (40, Some(5)), (1000, Some(6))];
        assert_eq!(written.map(|(offset, _)| (offset, epochs.epoch_at(offset))), written);
    }

    #[test]
    fn only_a_newer_epoch_begins() {
        let mut list = LeaderEpochs::default();
        assert!(list.begin(3, 0));
        assert!(!list.begin(3, 5));
        assert!(!list.begin(2, 5));
        assert!(!list.begin(-1, 5));
        assert!(list.begin(4, 5));
        assert!(list.begin(5, 5), "epoch 4 wrote nothing and has no place in the list");
        assert_eq!(list, epochs(&[(3, 0), (5, 5)]));
    }

    #[test]
    fn both_ends_can_be_cut() {
        let mut list = epochs(&[(2, 10), (5, 40), (6, 90)]);
        assert!(!list.truncate_end(91));
        assert!(list.truncate_end(90));
        assert_eq!(list, epochs(&[(2, 10), (5, 40)]));
        assert!(!list.truncate_start(5));
        assert!(!list.truncate_start(10));
        assert!(list.truncate_start(20));
        assert_eq!(list, epochs(&[(2, 20), (5, 40)]));
        assert!(list.truncate_start(40));
        assert_eq!(list, epochs(&[(5, 40)]));
        assert!(list.truncate_start(1000));
        assert_eq!(list, epochs(&[(5, 1000)]));
    }

    #[test]
    fn saved_is_loaded_and_damage_is_seen() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let storage = MmapStorage::open(dir.path(), WriteMode::Pwrite).expect("an empty directory opens");
        assert_eq!(LeaderEpochs::load(&storage, "leader-epochs").expect("none"), LeaderEpochs::default());
        let list = epochs(&[(0, 0), (5, 40), (6, 90)]);
        list.save(&storage, "leader-epochs").expect("room");
        assert_eq!(LeaderEpochs::load(&storage, "leader-epochs").expect("there"), list);

        let bytes = list.encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(LeaderEpochs::decode(&flipped), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(LeaderEpochs::decode(&bytes[..len]), None, "cut to {len}");
        }
    }
}
