//! What of a partition is durable, for recovery to begin at (R7 to R9).
//!
//! The file holds two slots that are written in turn, so that a write that a power cut tears leaves
//! the other one, which is older and as true: recovery then reads a little more of the log.
//!
//! ```text
//! slot, at 0 and at 4096              all numbers big-endian
//!   0  magic                u32  "HWCP"
//!   4  version              u32  1
//!   8  sequence             u64  the higher one counts
//!  16  log start            i64  offset
//!  24  durable end          i64  offset: every record below it has been synced
//!  32  segment              i64  base offset of the segment that holds the durable end
//!  40  position             u64  of the durable end in that segment, in bytes
//!  48  last batch position  u64  of the last durable batch in it; 2^64-1 if there is none
//!  56  last batch checksum  u32  the CRC field of that batch; 0 if there is none
//!  60  checksum             u32  CRC-32C of 0..60
//! ```
//! The slots lie a page apart: writing one never rewrites a sector of the other. Each fits a sector
//! of 512 bytes, but nothing depends on a disk's writing that at once.

use std::io;
use std::sync::Arc;

use crate::sync::Mutex;

use crate::record::crc32c;
use crate::storage::{RandomFile, Storage};

const MAGIC: u32 = u32::from_be_bytes(*b"HWCP");
const VERSION: u32 = 1;
const SLOT_BYTES: usize = 64;
const SLOT_DISTANCE: u64 = 4096;
const NO_BATCH: u64 = u64::MAX;

/// Where a partition's durable part ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The first offset that may be read.
    pub log_start: i64,
    /// The offset after the last durable record.
    pub durable_end: i64,
    /// Base offset of the segment that holds `position`.
    pub segment: i64,
    /// The byte of that segment's file at which the durable part ends.
    pub position: u64,
    /// The last durable batch of that segment, `None` if the segment holds none.
    pub last_batch: Option<LastBatch>,
}

/// A batch by which a segment can be told from another that bears its name (R8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBatch {
    /// Where it starts in the segment's file, in bytes.
    pub position: u64,
    /// The checksum that its header bears.
    pub crc: u32,
}

/// The checkpoint file of one partition.
#[derive(Debug)]
pub struct CheckpointFile {
    file: Arc<dyn RandomFile>,
    /// Guards the order of writes: one at a time, each with the next sequence.
    newest: Mutex<Newest>,
}

/// The slot that counts.
#[derive(Debug)]
struct Newest {
    sequence: u64,
    /// Written, and not known to be on disk: the other slot is the one that a crash would leave.
    unsynced: bool,
}

impl Newest {
    fn synced(sequence: u64) -> Mutex<Newest> {
        Mutex::new(Newest { sequence, unsynced: false })
    }
}

impl CheckpointFile {
    /// Creates the file with its first checkpoint, durable with its name: where there is a file, there
    /// is a checkpoint in it.
    ///
    /// # Errors
    /// Of the disk.
    pub fn create(storage: &dyn Storage, path: &str, first: &Checkpoint) -> io::Result<CheckpointFile> {
        let sequence = 0;
        storage.write_atomic(path, &encode(sequence, first))?;
        Ok(CheckpointFile { file: storage.open_random(path, false)?, newest: Newest::synced(sequence) })
    }

    /// As [`create`](CheckpointFile::create) in a directory that is new itself: nothing is durable before
    /// that is synced as a whole.
    ///
    /// # Errors
    /// Of the disk.
    pub fn create_unsynced(
        storage: &dyn Storage,
        path: &str,
        first: &Checkpoint,
    ) -> io::Result<CheckpointFile> {
        let file = storage.open_random(path, true)?;
        file.write_at(0, &encode(0, first))?;
        Ok(CheckpointFile { file, newest: Newest::synced(0) })
    }

    /// Opens the file and makes certain that the newer of its slots is on disk; `None` if neither
    /// checks, and then nothing is known to be durable.
    ///
    /// What is read may be in the page cache and nowhere else: the last process may have been killed
    /// before its sync, or have died of a sync that failed on just these bytes (R4). To act on it then
    /// (to show its log start, to remove what lies before that, to write over the other slot) would be
    /// wrong after a power cut, so the slot is written again and synced first.
    ///
    /// # Errors
    /// Of the disk; `NotFound` if there is no file.
    pub fn open(storage: &dyn Storage, path: &str) -> io::Result<(CheckpointFile, Option<Checkpoint>)> {
        let (opened, newest) = CheckpointFile::read(storage, path)?;
        if let Some(slot) = &newest {
            opened.file.settle_leftovers();
            slot.rewrite(storage, path)?;
            opened.sync()?;
        }
        Ok((opened, newest.map(|slot| slot.checkpoint)))
    }

    /// As [`open`](CheckpointFile::open), of a file whose newer slot is known to be on disk.
    ///
    /// # Errors
    /// Of the disk; `NotFound` if there is no file.
    pub fn open_settled(
        storage: &dyn Storage,
        path: &str,
    ) -> io::Result<(CheckpointFile, Option<Checkpoint>)> {
        let (opened, newest) = CheckpointFile::read(storage, path)?;
        Ok((opened, newest.map(|slot| slot.checkpoint)))
    }

    /// Writes the newer slot again without a sync, for one sync of everything to follow: then the file is
    /// settled. Does nothing if there is no file, or no slot that checks.
    ///
    /// # Errors
    /// Of the disk.
    pub fn rewrite(storage: &dyn Storage, path: &str) -> io::Result<()> {
        match CheckpointFile::read(storage, path) {
            Ok((opened, Some(slot))) => {
                opened.file.settle_leftovers();
                slot.rewrite(storage, path)
            }
            Ok((_, None)) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read(storage: &dyn Storage, path: &str) -> io::Result<(CheckpointFile, Option<Slot>)> {
        let file = storage.open_random(path, false)?;
        let newest = read_newest(&*file)?;
        let sequence = newest.as_ref().map_or(0, |slot| slot.sequence);
        Ok((CheckpointFile { file, newest: Newest::synced(sequence) }, newest))
    }

    /// What [`open`](CheckpointFile::open) would answer, without writing anything: for tools that look
    /// into a directory.
    ///
    /// # Errors
    /// Of the disk; `NotFound` if there is no file.
    pub fn peek(storage: &dyn Storage, path: &str) -> io::Result<Option<Checkpoint>> {
        let file = storage.open_random(path, false)?;
        Ok(read_newest(&*file)?.map(|slot| slot.checkpoint))
    }

    /// Makes a checkpoint the one that counts. The log has been synced up to it (R7).
    ///
    /// # Errors
    /// Of the disk. The checkpoint before this one still counts then.
    pub fn write(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let mut newest = self.newest.lock();
        let sequence = self.next(&mut newest)?;
        self.write_slot(sequence, &encode(sequence, checkpoint))?;
        newest.sequence = sequence;
        Ok(())
    }

    /// Writes a checkpoint that is to count once a sync of everything has followed and been noted with
    /// [`settle`](CheckpointFile::settle). Answers with its sequence.
    ///
    /// # Errors
    /// Of the disk. The checkpoint before this one still counts then.
    pub fn write_unsynced(&self, checkpoint: &Checkpoint) -> io::Result<u64> {
        let mut newest = self.newest.lock();
        let sequence = self.next(&mut newest)?;
        self.write_slot_unsynced(sequence, &encode(sequence, checkpoint))?;
        *newest = Newest { sequence, unsynced: true };
        Ok(sequence)
    }

    /// Notes that what was written with this sequence is on disk.
    pub fn settle(&self, sequence: u64) {
        let mut newest = self.newest.lock();
        newest.unsynced &= newest.sequence != sequence;
    }

    /// Makes certain that the newest checkpoint is on disk.
    ///
    /// # Errors
    /// Of the disk.
    pub fn sync_newest(&self) -> io::Result<()> {
        self.next(&mut self.newest.lock()).map(drop)
    }

    /// The sequence to write next, into the slot of the older checkpoint: the newer one stays whole whatever
    /// happens, and is on disk before the older one goes.
    fn next(&self, newest: &mut Newest) -> io::Result<u64> {
        if newest.unsynced {
            self.sync()?;
            newest.unsynced = false;
        }
        Ok(newest.sequence + 1)
    }

    fn write_slot(&self, sequence: u64, bytes: &[u8; SLOT_BYTES]) -> io::Result<()> {
        self.write_slot_unsynced(sequence, bytes)?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync().map_err(in_doubt)
    }

    fn write_slot_unsynced(&self, sequence: u64, bytes: &[u8; SLOT_BYTES]) -> io::Result<()> {
        self.file.write_at(slot_position(sequence), bytes)
    }
}

/// The error of a failed sync, which is never one of room alone: the slot is in doubt, and passes for
/// written when it is read again.
fn in_doubt(error: io::Error) -> io::Error {
    io::Error::other(format!("the sync of a checkpoint: {error}"))
}

/// A slot that checks.
struct Slot {
    sequence: u64,
    checkpoint: Checkpoint,
    bytes: [u8; SLOT_BYTES],
}

impl Slot {
    /// Writes it over itself, unsynced.
    fn rewrite(&self, storage: &dyn Storage, path: &str) -> io::Result<()> {
        storage.rewrite(path, slot_position(self.sequence), &self.bytes)
    }
}

/// Where in the file a checkpoint lies.
fn slot_position(sequence: u64) -> u64 {
    (sequence % 2) * SLOT_DISTANCE
}

/// The newer of the slots that check.
fn read_newest(file: &dyn RandomFile) -> io::Result<Option<Slot>> {
    let mut newest: Option<Slot> = None;
    for slot in 0..2 {
        let mut bytes = [0; SLOT_BYTES];
        if file.read_at(slot * SLOT_DISTANCE, &mut bytes)? < SLOT_BYTES {
            continue;
        }
        if let Some((sequence, checkpoint)) = decode(&bytes)
            && sequence % 2 == slot
            && newest.as_ref().is_none_or(|newer| newer.sequence < sequence)
        {
            newest = Some(Slot { sequence, checkpoint, bytes });
        }
    }
    Ok(newest)
}

fn encode(sequence: u64, checkpoint: &Checkpoint) -> [u8; SLOT_BYTES] {
    let (batch_position, batch_crc) =
        checkpoint.last_batch.map_or((NO_BATCH, 0), |batch| (batch.position, batch.crc));
    let mut bytes = [0; SLOT_BYTES];
    bytes[0..4].copy_from_slice(&MAGIC.to_be_bytes());
    bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
    bytes[8..16].copy_from_slice(&sequence.to_be_bytes());
    bytes[16..24].copy_from_slice(&checkpoint.log_start.to_be_bytes());
    bytes[24..32].copy_from_slice(&checkpoint.durable_end.to_be_bytes());
    bytes[32..40].copy_from_slice(&checkpoint.segment.to_be_bytes());
    bytes[40..48].copy_from_slice(&checkpoint.position.to_be_bytes());
    bytes[48..56].copy_from_slice(&batch_position.to_be_bytes());
    bytes[56..60].copy_from_slice(&batch_crc.to_be_bytes());
    let checksum = crc32c(&bytes[..60]);
    bytes[60..64].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8; SLOT_BYTES]) -> Option<(u64, Checkpoint)> {
    let u32_at = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    if u32_at(0) != MAGIC || u32_at(4) != VERSION || u32_at(60) != crc32c(&bytes[..60]) {
        return None;
    }
    let last_batch = (u64_at(48) != NO_BATCH).then(|| LastBatch { position: u64_at(48), crc: u32_at(56) });
    let checkpoint = Checkpoint {
        log_start: u64_at(16) as i64,
        durable_end: u64_at(24) as i64,
        segment: u64_at(32) as i64,
        position: u64_at(40),
        last_batch,
    };
    let sound = 0 <= checkpoint.log_start
        && checkpoint.log_start <= checkpoint.durable_end
        && 0 <= checkpoint.segment
        && checkpoint.segment <= checkpoint.durable_end
        && last_batch.is_none_or(|batch| batch.position < checkpoint.position);
    sound.then(|| (u64_at(8), checkpoint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sim::SimStorage;
    use crate::storage::{MmapStorage, WriteMode};

    fn at(durable_end: i64) -> Checkpoint {
        Checkpoint {
            log_start: 3,
            durable_end,
            segment: 3,
            position: durable_end as u64 * 100,
            last_batch: Some(LastBatch { position: durable_end as u64 * 100 - 80, crc: 0xfeed_beef }),
        }
    }

    fn storage() -> (tempfile::TempDir, MmapStorage) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let storage = MmapStorage::open(dir.path(), WriteMode::Pwrite).expect("an empty directory opens");
        (dir, storage)
    }

    #[test]
    fn the_last_one_written_counts() {
        let (_dir, storage) = storage();
        let file = CheckpointFile::create(&storage, "checkpoint", &at(4)).expect("room");
        for durable_end in 5..10 {
            file.write(&at(durable_end)).expect("room");
            let (_, read) = CheckpointFile::open(&storage, "checkpoint").expect("there");
            assert_eq!(read, Some(at(durable_end)));
        }
        let without = Checkpoint { last_batch: None, ..at(10) };
        let (reopened, _) = CheckpointFile::open(&storage, "checkpoint").expect("there");
        reopened.write(&without).expect("room");
        assert_eq!(CheckpointFile::open(&storage, "checkpoint").expect("there").1, Some(without));
    }

    #[test]
    fn a_torn_slot_falls_back_on_the_other_and_is_the_next_to_be_written() {
        let (_dir, storage) = storage();
        let file = CheckpointFile::create(&storage, "checkpoint", &at(4)).expect("room");
        file.write(&at(5)).expect("room");
        let random = storage.open_random("checkpoint", false).expect("there");
        // The second checkpoint has sequence 1 and so lies in the second slot.
        random.write_at(SLOT_DISTANCE + 30, &[0xff; 20]).expect("room");
        let (reopened, read) = CheckpointFile::open(&storage, "checkpoint").expect("there");
        assert_eq!(read, Some(at(4)));
        reopened.write(&at(6)).expect("room");
        random.write_at(0, &[0; SLOT_BYTES]).expect("room");
        assert_eq!(CheckpointFile::open(&storage, "checkpoint").expect("there").1, Some(at(6)));
    }

    /// What is left of a file with one checkpoint that is on disk, 5, and a newer one that may not be, 6, after
    /// `then` and a power cut in its operation number `cut`.
    fn after_a_cut(seed: u64, cut: u64, then: impl Fn(&CheckpointFile)) -> Option<Checkpoint> {
        let sim = SimStorage::new(seed);
        let file = CheckpointFile::create(&sim, "checkpoint", &at(4)).expect("room");
        file.write(&at(5)).expect("healthy");
        file.write_unsynced(&at(6)).expect("room");
        sim.cut_at(sim.operations() + cut);
        then(&file);
        CheckpointFile::open(&sim.crash(seed), "checkpoint").expect("there").1
    }

    #[test]
    fn the_only_one_on_disk_is_not_written_over() {
        for seed in 0..400 {
            // In the sync of 6, the store of 7, the sync of that, or after it.
            let left = after_a_cut(seed, seed % 4, |file| drop(file.write(&at(7))));
            assert!(left.is_some_and(|left| left.durable_end >= 5), "seed {seed}: {left:?}");
        }
    }

    #[test]
    fn the_newest_one_is_on_disk_once_it_has_been_synced() {
        for seed in 0..100 {
            let left = after_a_cut(seed, 9, |file| file.sync_newest().expect("healthy"));
            assert_eq!(left, Some(at(6)), "seed {seed}");
        }
    }

    #[test]
    fn every_single_flipped_bit_is_seen() {
        let bytes = encode(7, &at(9));
        assert_eq!(decode(&bytes), Some((7, at(9))));
        for bit in 0..SLOT_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
    }

    #[test]
    fn a_file_that_is_short_or_no_checkpoint_says_nothing() {
        let (_dir, storage) = storage();
        for bytes in [&[][..], &[0; 40], &[0xaa; 5000]] {
            storage.write_synced("checkpoint", bytes).expect("room");
            let (file, read) = CheckpointFile::open(&storage, "checkpoint").expect("there");
            assert_eq!(read, None);
            file.write(&at(4)).expect("room");
            assert_eq!(CheckpointFile::open(&storage, "checkpoint").expect("there").1, Some(at(4)));
        }
        let missing = CheckpointFile::open(&storage, "none").unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }
}
