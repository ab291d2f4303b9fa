//! Snapshots of the producers' state beside the log: `<offset, 20 digits>.producers`.
//!
//! A snapshot saves reading the log for the producers' sake from its beginning. It may be taken at an
//! offset that is not durable yet, and be worth nothing after a crash; so older ones stay until one at
//! or below the durable end takes their place.
//!
//! It also says how many aborted transactions the [files of them](super::aborted_index) have to hold that
//! ended below its offset. Where one does not, the log is read from its beginning.
//!
//! ```text
//! snapshot                                    producer
//!  0  magic      u32  "HWPS"                   0  producer id        i64
//!  4  version    u32  2                        8  epoch              i16
//!  8  offset     i64  state of all below      10  last timestamp     i64  ms since the epoch
//! 16  producers  u32                          18  coordinator epoch  i32  -1: none
//! 20  files      u32  of aborted ones         22  transaction        i64  first offset, -1: none open
//! 24  producer...     rising by id            30  ended at           i64  its last one here, -1: none has
//!  .  file...         rising, 12 bytes each:  38  follows            u8   1: the epoch came after another
//!       base offset i64, transactions u32      39  batches            u8   0 to 5
//!  .  checksum   u32  CRC-32C of all before    40  batch...                oldest first, 32 bytes each:
//!                                                  first sequence i32, last sequence i32,
//!                                                  base offset i64, last offset i64, timestamp i64
//! ```
//! All numbers are big-endian. Version 1, from before there were transactions, lacks the field at 20 and
//! those at 18, 22, 30 and 38 of a producer, and has no files.

use std::collections::BTreeMap;
use std::io;

use crate::record::crc32c;

use super::producer_state::{BATCHES_REMEMBERED, ProducerBatch, ProducerState, ProducerStates};
use super::segment::PartitionDir;

const MAGIC: u32 = u32::from_be_bytes(*b"HWPS");
const VERSION: u32 = 2;
const VERSION_WITHOUT_TRANSACTIONS: u32 = 1;
const HEADER_BYTES: usize = 24;
const CHECKSUM_BYTES: usize = 4;
const PRODUCER_HEADER_BYTES: usize = 40;
const BATCH_BYTES: usize = 32;
const FILE_BYTES: usize = 12;

const SUFFIX: &str = ".producers";

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerSnapshot {
    /// All below it has led to the state.
    pub offset: i64,
    /// The state.
    pub producers: ProducerStates,
    /// How many aborted transactions that ended below the offset each segment holds the end of, by base
    /// offset; those without any are left out.
    pub aborted: BTreeMap<i64, u32>,
}

/// Writes a snapshot, durably.
pub(super) fn save(dir: &PartitionDir, offset: i64, bytes: &[u8]) -> io::Result<()> {
    dir.storage.write_atomic(&dir.segment_file(offset, SUFFIX), bytes)
}

/// The newest snapshot at or below `log_end` that checks; an empty state at 0 if there is none. Those past the log's end are removed, durably: the log may grow over their offset again
/// with other records.
pub(super) fn load(dir: &PartitionDir, log_end: i64) -> io::Result<ProducerSnapshot> {
    let mut offsets = offsets(dir)?;
    let past = offsets.split_off(offsets.partition_point(|&offset| offset <= log_end));
    for &offset in &past {
        dir.storage.remove_file(&dir.segment_file(offset, SUFFIX))?;
    }
    if !past.is_empty() {
        dir.storage.sync_dir(&dir.path)?;
    }
    for offset in offsets.into_iter().rev() {
        let path = dir.segment_file(offset, SUFFIX);
        match ProducerSnapshot::decode(&dir.storage.read(&path)?) {
            Some(snapshot) if snapshot.offset == offset => return Ok(snapshot),
            _ => {
                tracing::warn!(
                    file = path,
                    "a producer snapshot is damaged: reading the log from an older one"
                );
                dir.storage.remove_file(&path)?;
            }
        }
    }
    Ok(ProducerSnapshot::default())
}

/// Removes the snapshots that a newer one at or below the durable end has taken the place of.
pub(super) fn prune(dir: &PartitionDir, durable_end: i64) -> io::Result<()> {
    let offsets = offsets(dir)?;
    let Some(newest) = offsets.iter().rposition(|&offset| offset <= durable_end) else {
        return Ok(());
    };
    for &offset in &offsets[..newest] {
        dir.storage.remove_file(&dir.segment_file(offset, SUFFIX))?;
    }
    Ok(())
}

/// The offsets of all snapshots, rising, and their paths.
pub(super) fn files(dir: &PartitionDir) -> io::Result<Vec<(i64, String)>> {
    Ok(offsets(dir)?.into_iter().map(|offset| (offset, dir.segment_file(offset, SUFFIX))).collect())
}

/// The offsets of all snapshots, rising.
fn offsets(dir: &PartitionDir) -> io::Result<Vec<i64>> {
    let names = dir.storage.list_dir(&dir.path)?;
    let mut offsets: Vec<i64> =
        names.iter().filter_map(|name| name.strip_suffix(SUFFIX)?.parse().ok()).collect();
    offsets.sort_unstable();
    Ok(offsets)
}

impl ProducerSnapshot {
    /// The bytes of a snapshot.
    pub fn encode(offset: i64, producers: &ProducerStates, aborted: &BTreeMap<i64, u32>) -> Vec<u8> {
        let producer_bytes = PRODUCER_HEADER_BYTES + BATCHES_REMEMBERED * BATCH_BYTES;
        let size = HEADER_BYTES + producers.len() * producer_bytes + aborted.len() * FILE_BYTES;
        let mut bytes = Vec::with_capacity(size + CHECKSUM_BYTES);
        bytes.extend_from_slice(&MAGIC.to_be_bytes());
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&(producers.len() as u32).to_be_bytes());
        bytes.extend_from_slice(&(aborted.len() as u32).to_be_bytes());
        for (producer_id, producer) in producers.iter() {
            bytes.extend_from_slice(&producer_id.to_be_bytes());
            bytes.extend_from_slice(&producer.epoch.to_be_bytes());
            bytes.extend_from_slice(&producer.last_timestamp.to_be_bytes());
            bytes.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
            bytes.extend_from_slice(&producer.transaction.unwrap_or(-1).to_be_bytes());
            bytes.extend_from_slice(&producer.ended_at.to_be_bytes());
            bytes.push(u8::from(producer.follows));
            bytes.push(producer.batches().len() as u8);
            for batch in producer.batches() {
                bytes.extend_from_slice(&batch.first_sequence.to_be_bytes());
                bytes.extend_from_slice(&batch.last_sequence.to_be_bytes());
                bytes.extend_from_slice(&batch.base_offset.to_be_bytes());
                bytes.extend_from_slice(&batch.last_offset.to_be_bytes());
                bytes.extend_from_slice(&batch.timestamp.to_be_bytes());
            }
        }
        for (base_offset, count) in aborted {
            bytes.extend_from_slice(&base_offset.to_be_bytes());
            bytes.extend_from_slice(&count.to_be_bytes());
        }
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        bytes
    }

    /// What is in a snapshot; `None` if it is damaged, and then the state is to be made from the log.
    pub fn decode(bytes: &[u8]) -> Option<ProducerSnapshot> {
        let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if u32::from_be_bytes(*checksum) != crc32c(bytes) {
            return None;
        }
        let mut at = Cursor(bytes);
        if at.u32()? != MAGIC {
            return None;
        }
        let version = at.u32()?;
        if !(VERSION_WITHOUT_TRANSACTIONS..=VERSION).contains(&version) {
            return None;
        }
        let mut snapshot = ProducerSnapshot { offset: at.i64()?, ..ProducerSnapshot::default() };
        let producers = at.u32()?;
        let files = if version >= VERSION { at.u32()? } else { 0 };
        for _ in 0..producers {
            let producer_id = at.i64()?;
            let producer = decode_producer(&mut at, version, snapshot.offset)?;
            if !snapshot.producers.restore(producer_id, producer) {
                return None;
            }
        }
        for _ in 0..files {
            let (base_offset, count) = (at.i64()?, at.u32()?);
            if snapshot.aborted.last_key_value().is_some_and(|(&last, _)| last >= base_offset) {
                return None;
            }
            snapshot.aborted.insert(base_offset, count);
        }
        at.0.is_empty().then_some(snapshot)
    }
}

fn decode_producer(at: &mut Cursor<'_>, version: u32, offset: i64) -> Option<ProducerState> {
    let mut producer = ProducerState::new(i16::from_be_bytes(at.take()?));
    let last_timestamp = at.i64()?;
    if version >= VERSION {
        producer.coordinator_epoch = at.u32()? as i32;
        let first_offset = at.i64()?;
        if first_offset >= offset {
            return None;
        }
        producer.transaction = (first_offset >= 0).then_some(first_offset);
        producer.ended_at = at.i64()?;
        producer.follows = at.take::<1>()? == [1];
    }
    let [remembered] = at.take()?;
    if usize::from(remembered) > BATCHES_REMEMBERED {
        return None;
    }
    for _ in 0..remembered {
        let batch = ProducerBatch {
            first_sequence: at.u32()? as i32,
            last_sequence: at.u32()? as i32,
            base_offset: at.i64()?,
            last_offset: at.i64()?,
            timestamp: at.i64()?,
        };
        let before = producer.batches().last().map_or(-1, |before| before.last_offset);
        let sound = batch.first_sequence >= 0
            && batch.last_sequence >= 0
            && before < batch.base_offset
            && batch.base_offset <= batch.last_offset
            && batch.last_offset < offset;
        if !sound {
            return None;
        }
        producer.push(batch);
    }
    producer.last_timestamp = last_timestamp;
    Some(producer)
}

/// What is left to decode.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.take().map(i64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{EndOfTransaction, Marker};

    fn batch(first_sequence: i32, base_offset: i64) -> ProducerBatch {
        ProducerBatch {
            first_sequence,
            last_sequence: first_sequence + 9,
            base_offset,
            last_offset: base_offset + 9,
            timestamp: 1000 + base_offset,
        }
    }

    /// Three producers, one with a transaction open and one of which no batch of its epoch is known.
    fn state() -> ProducerStates {
        let mut producers = ProducerStates::default();
        for i in 0..20 {
            producers.update(i % 3, i as i16 % 3, i % 3 == 1, batch(i as i32 * 10, i * 10));
        }
        let end = EndOfTransaction { marker: Marker::Commit, coordinator_epoch: 4 };
        assert_eq!(producers.end_transaction(2, 9, end, 200, 1200), None, "nothing was written");
        producers
    }

    #[test]
    fn a_snapshot_is_the_state_and_damage_is_seen() {
        let nothing = ProducerSnapshot::encode(0, &ProducerStates::default(), &BTreeMap::new());
        assert_eq!(ProducerSnapshot::decode(&nothing), Some(ProducerSnapshot::default()));
        let snapshot =
            ProducerSnapshot { offset: 201, producers: state(), aborted: [(0, 3), (100, 1)].into() };
        let bytes = ProducerSnapshot::encode(201, &snapshot.producers, &snapshot.aborted);
        let decoded = ProducerSnapshot::decode(&bytes).expect("sound");
        assert_eq!(decoded, snapshot);
        assert_eq!(decoded.producers.get(1).and_then(ProducerState::transaction_start), Some(10));
        assert_eq!(decoded.producers.get(2).and_then(ProducerState::coordinator_epoch), Some(4));
        assert_eq!(decoded.producers.get(2).map(|producer| producer.batches().len()), Some(0));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ProducerSnapshot::decode(&flipped), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(ProducerSnapshot::decode(&bytes[..len]), None, "cut to {len}");
        }
    }

    fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        bytes
    }

    #[test]
    fn a_snapshot_from_before_transactions_is_read() {
        let mut bytes = [&MAGIC.to_be_bytes()[..], &1u32.to_be_bytes(), &50i64.to_be_bytes()].concat();
        bytes.extend_from_slice(&1u32.to_be_bytes());
        bytes.extend_from_slice(&7i64.to_be_bytes());
        bytes.extend_from_slice(&3i16.to_be_bytes());
        bytes.extend_from_slice(&1040i64.to_be_bytes());
        bytes.push(1);
        bytes.extend_from_slice(&[0i32.to_be_bytes(), 9i32.to_be_bytes()].concat());
        bytes.extend_from_slice(&[40i64, 49, 1040].map(i64::to_be_bytes).concat());
        let mut producers = ProducerStates::default();
        producers.update(7, 3, false, batch(0, 40));
        let expected = ProducerSnapshot { offset: 50, producers, aborted: BTreeMap::new() };
        assert_eq!(ProducerSnapshot::decode(&with_checksum(bytes)), Some(expected));
    }

    #[test]
    fn hostile_counts_allocate_nothing() {
        for count_at in [16, 20] {
            let mut bytes = ProducerSnapshot::encode(0, &ProducerStates::default(), &BTreeMap::new());
            bytes.truncate(HEADER_BYTES);
            bytes[count_at..count_at + 4].copy_from_slice(&u32::MAX.to_be_bytes());
            assert_eq!(ProducerSnapshot::decode(&with_checksum(bytes)), None);
        }
    }
}
