//! What a partition remembers of idempotent producers, so that a batch that is sent twice is stored
//! once and a batch that is missing is noticed (KIP-98; limits as in KIP-360).
//!
//! Per producer id: the epoch, and sequence numbers and offsets of its last five batches, which is as
//! many as a client may have in flight. [`ProducerStates::check`] decides and changes nothing;
//! [`ProducerStates::update`] notes a batch that has been appended, or is read back at recovery. So
//! the state is a function of the log, and a snapshot of it is only a place to begin.
//!
//! ```text
//! snapshot                                 producer
//!  0  magic     u32  "HWPS"                 0  producer id     i64
//!  4  version   u32  1                      8  epoch           i16
//!  8  offset    i64  state of all below    10  last timestamp  i64  ms since the epoch
//! 16  count     u32  producers             18  batches         u8   1 to 5
//! 20  producer...                          19  batch...             oldest first, 32 bytes each:
//!  .  checksum  u32  CRC-32C of all before      first sequence i32, last sequence i32,
//!                                               base offset i64, last offset i64, timestamp i64
//! ```
//! All numbers are big-endian.

use std::collections::BTreeMap;

use crate::record::crc32c;

const MAGIC: u32 = u32::from_be_bytes(*b"HWPS");
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 20;
const CHECKSUM_BYTES: usize = 4;
const PRODUCER_HEADER_BYTES: usize = 19;
const BATCH_BYTES: usize = 32;

/// Batches that are remembered of each producer: as many as `max.in.flight.requests.per.connection`
/// may be with idempotence.
pub const BATCHES_REMEMBERED: usize = 5;
/// How long a producer that has fallen silent is remembered, in ms.
pub const EXPIRATION_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// Producers that are remembered at most. Past that the ones silent for longest are forgotten, as if
/// they had expired: a client cannot fill the memory by asking for ids.
pub const PRODUCERS_MAX: usize = 16_384;

/// One batch of a producer's, as it lies in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    /// Sequence of its first record.
    pub first_sequence: i32,
    /// Sequence of its last record; below the first one where the numbers wrap.
    pub last_sequence: i32,
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset of its last record.
    pub last_offset: i64,
    /// What was answered as the log append time, or the batch's largest timestamp, in ms.
    pub timestamp: i64,
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceCheck {
    /// It is the next one.
    Accept,
    /// It is in the log already; answer with where it lies.
    Duplicate(ProducerBatch),
}

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceError {
    /// Kafka's OUT_OF_ORDER_SEQUENCE_NUMBER: something before it is missing, or it is older than what
    /// is remembered.
    #[error("sequence {sequence} came where {expected} was due")]
    OutOfOrder {
        /// The first sequence of the batch.
        sequence: i32,
        /// The one that would have been accepted.
        expected: i32,
    },
    /// Kafka's INVALID_PRODUCER_EPOCH: a newer instance of the producer has written here.
    #[error("epoch {epoch} is fenced by {current}")]
    InvalidEpoch {
        /// The epoch of the batch.
        epoch: i16,
        /// The newest one seen.
        current: i16,
    },
}

/// The state of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    epoch: i16,
    last_timestamp: i64,
    /// Oldest first; the first `remembered` ones count, and there is at least one.
    batches: [ProducerBatch; BATCHES_REMEMBERED],
    remembered: usize,
}

impl ProducerState {
    /// The epoch that its newest batch bears.
    pub fn epoch(&self) -> i16 {
        self.epoch
    }

    /// The batches that are remembered, oldest first, never empty.
    pub fn batches(&self) -> &[ProducerBatch] {
        &self.batches[..self.remembered]
    }

    /// When it was last heard of, in ms since the epoch.
    pub fn last_timestamp(&self) -> i64 {
        self.last_timestamp
    }

    fn new(epoch: i16, batch: ProducerBatch) -> ProducerState {
        ProducerState {
            epoch,
            last_timestamp: batch.timestamp,
            batches: [batch; BATCHES_REMEMBERED],
            remembered: 1,
        }
    }

    fn last(&self) -> &ProducerBatch {
        &self.batches[self.remembered - 1]
    }

    fn push(&mut self, batch: ProducerBatch) {
        if self.remembered == BATCHES_REMEMBERED {
            self.batches.rotate_left(1);
        } else {
            self.remembered += 1;
        }
        self.batches[self.remembered - 1] = batch;
        // A clock that went back makes nobody look silent for longer.
        self.last_timestamp = self.last_timestamp.max(batch.timestamp);
    }
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    producers: BTreeMap<i64, ProducerState>,
}

impl ProducerStates {
    /// Whether a batch may be appended.
    ///
    /// # Errors
    /// If it is fenced, or its sequence is neither the next one nor that of a batch that is
    /// remembered. A producer that is unknown here may begin anywhere: it may have been forgotten.
    pub fn check(
        &self,
        producer_id: i64,
        epoch: i16,
        first_sequence: i32,
        last_sequence: i32,
    ) -> Result<SequenceCheck, SequenceError> {
        let Some(producer) = self.producers.get(&producer_id) else {
            return Ok(SequenceCheck::Accept);
        };
        if epoch < producer.epoch {
            return Err(SequenceError::InvalidEpoch { epoch, current: producer.epoch });
        }
        let expected = if epoch > producer.epoch { 0 } else { next_sequence(producer.last().last_sequence) };
        if epoch == producer.epoch
            && let Some(batch) = producer
                .batches()
                .iter()
                .find(|batch| batch.first_sequence == first_sequence && batch.last_sequence == last_sequence)
        {
            return Ok(SequenceCheck::Duplicate(*batch));
        }
        if first_sequence == expected {
            Ok(SequenceCheck::Accept)
        } else {
            Err(SequenceError::OutOfOrder { sequence: first_sequence, expected })
        }
    }

    /// Notes a batch that is in the log now.
    pub fn update(&mut self, producer_id: i64, epoch: i16, batch: ProducerBatch) {
        match self.producers.get_mut(&producer_id) {
            Some(producer) if producer.epoch == epoch => producer.push(batch),
            Some(producer) => *producer = ProducerState::new(epoch, batch),
            None => {
                if self.producers.len() >= PRODUCERS_MAX {
                    self.forget_oldest();
                }
                self.producers.insert(producer_id, ProducerState::new(epoch, batch));
            }
        }
    }

    /// Forgets whoever has been silent for [`EXPIRATION_MS`]. A clock that went back forgets nobody.
    pub fn expire(&mut self, now_ms: i64) {
        self.producers.retain(|_, producer| now_ms.saturating_sub(producer.last_timestamp) < EXPIRATION_MS);
    }

    /// Forgets every batch that starts at or past the log's end, and producers of no other.
    pub fn truncate_end(&mut self, log_end: i64) {
        self.producers.retain(|_, producer| {
            producer.remembered = producer.batches().partition_point(|batch| batch.last_offset < log_end);
            producer.remembered > 0
        });
    }

    /// How many producers are remembered.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// One producer.
    pub fn get(&self, producer_id: i64) -> Option<&ProducerState> {
        self.producers.get(&producer_id)
    }

    /// All of them, by id.
    pub fn iter(&self) -> impl Iterator<Item = (i64, &ProducerState)> {
        self.producers.iter().map(|(&producer_id, producer)| (producer_id, producer))
    }

    /// Makes room: an eighth at once, so that the search is paid for by the insertions to come.
    fn forget_oldest(&mut self) {
        let mut timestamps: Vec<i64> =
            self.producers.values().map(|producer| producer.last_timestamp).collect();
        let excess = timestamps.len() / 8;
        let (_, &mut limit, _) = timestamps.select_nth_unstable(excess);
        let mut left = excess + 1;
        self.producers.retain(|_, producer| {
            let forget = left > 0 && producer.last_timestamp <= limit;
            left -= usize::from(forget);
            !forget
        });
    }

    /// A snapshot of the state that all batches below `offset` have led to.
    pub fn encode(&self, offset: i64) -> Vec<u8> {
        let size = PRODUCER_HEADER_BYTES + BATCHES_REMEMBERED * BATCH_BYTES;
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.producers.len() * size + CHECKSUM_BYTES);
        bytes.extend_from_slice(&MAGIC.to_be_bytes());
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&(self.producers.len() as u32).to_be_bytes());
        for (producer_id, producer) in &self.producers {
            bytes.extend_from_slice(&producer_id.to_be_bytes());
            bytes.extend_from_slice(&producer.epoch.to_be_bytes());
            bytes.extend_from_slice(&producer.last_timestamp.to_be_bytes());
            bytes.push(producer.remembered as u8);
            for batch in producer.batches() {
                bytes.extend_from_slice(&batch.first_sequence.to_be_bytes());
                bytes.extend_from_slice(&batch.last_sequence.to_be_bytes());
                bytes.extend_from_slice(&batch.base_offset.to_be_bytes());
                bytes.extend_from_slice(&batch.last_offset.to_be_bytes());
                bytes.extend_from_slice(&batch.timestamp.to_be_bytes());
            }
        }
        bytes.extend_from_slice(&crc32c(&bytes).to_be_bytes());
        bytes
    }

    /// The state in a snapshot and the offset it belongs to; `None` if it is damaged, and then the
    /// state is to be made from the log.
    pub fn decode(bytes: &[u8]) -> Option<(ProducerStates, i64)> {
        let (bytes, checksum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
        if u32::from_be_bytes(*checksum) != crc32c(bytes) {
            return None;
        }
        let mut at = Cursor(bytes);
        if at.u32()? != MAGIC || at.u32()? != VERSION {
            return None;
        }
        let offset = at.i64()?;
        let count = at.u32()?;
        let mut producers = BTreeMap::new();
        for _ in 0..count {
            let producer_id = at.i64()?;
            let producer = decode_producer(&mut at, offset)?;
            if producers.last_key_value().is_some_and(|(&last, _)| last >= producer_id) {
                return None;
            }
            producers.insert(producer_id, producer);
        }
        at.0.is_empty().then_some((ProducerStates { producers }, offset))
    }
}

fn decode_producer(at: &mut Cursor<'_>, offset: i64) -> Option<ProducerState> {
    let epoch = i16::from_be_bytes(at.take()?);
    let last_timestamp = at.i64()?;
    let [remembered] = at.take()?;
    let mut producer: Option<ProducerState> = None;
    if remembered as usize > BATCHES_REMEMBERED {
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
        let before = producer.as_ref().map_or(-1, |producer| producer.last().last_offset);
        let sound = batch.first_sequence >= 0
            && batch.last_sequence >= 0
            && before < batch.base_offset
            && batch.base_offset <= batch.last_offset
            && batch.last_offset < offset;
        if !sound {
            return None;
        }
        match &mut producer {
            Some(producer) => producer.push(batch),
            None => producer = Some(ProducerState::new(epoch, batch)),
        }
    }
    let mut producer = producer?;
    producer.last_timestamp = last_timestamp;
    Some(producer)
}

/// The sequence after `sequence`: 2³¹-1 is followed by 0.
pub fn next_sequence(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
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

    fn batch(first_sequence: i32, last_sequence: i32, base_offset: i64) -> ProducerBatch {
        let last_offset = base_offset + i64::from(last_sequence.wrapping_sub(first_sequence) & i32::MAX);
        ProducerBatch {
            first_sequence,
            last_sequence,
            base_offset,
            last_offset,
            timestamp: 1000 + base_offset,
        }
    }

    fn out_of_order(sequence: i32, expected: i32) -> Result<SequenceCheck, SequenceError> {
        Err(SequenceError::OutOfOrder { sequence, expected })
    }

    #[test]
    fn the_next_is_accepted_and_the_last_five_are_known() {
        let mut states = ProducerStates::default();
        assert_eq!(states.check(7, 0, 40, 49), Ok(SequenceCheck::Accept), "unknown: may begin anywhere");
        for i in 0..7 {
            let (first, last) = (40 + i * 10, 49 + i * 10);
            assert_eq!(states.check(7, 0, first, last), Ok(SequenceCheck::Accept));
            states.update(7, 0, batch(first, last, i64::from(i) * 10));
        }
        for i in 2..7 {
            let known = batch(40 + i * 10, 49 + i * 10, i64::from(i) * 10);
            assert_eq!(states.check(7, 0, 40 + i * 10, 49 + i * 10), Ok(SequenceCheck::Duplicate(known)));
        }
        assert_eq!(states.check(7, 0, 50, 59), out_of_order(50, 110), "forgotten");
        assert_eq!(states.check(7, 0, 100, 104), out_of_order(100, 110), "not the same batch");
        assert_eq!(states.check(7, 0, 111, 120), out_of_order(111, 110), "a gap");
        assert_eq!(states.check(8, 0, 111, 120), Ok(SequenceCheck::Accept), "another producer");
    }

    #[test]
    fn sequences_wrap() {
        let mut states = ProducerStates::default();
        states.update(7, 0, batch(i32::MAX - 4, i32::MAX, 0));
        assert_eq!(states.check(7, 0, 0, 9), Ok(SequenceCheck::Accept));
        states.update(7, 0, batch(0, 9, 5));
        let across = batch(i32::MAX - 1, 2, 100);
        assert_eq!(across.last_offset, 104);
        states.update(8, 0, across);
        assert_eq!(states.check(8, 0, i32::MAX - 1, 2), Ok(SequenceCheck::Duplicate(across)));
        assert_eq!(states.check(8, 0, 3, 3), Ok(SequenceCheck::Accept));
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old() {
        let mut states = ProducerStates::default();
        states.update(7, 3, batch(0, 9, 0));
        assert_eq!(states.check(7, 2, 10, 19), Err(SequenceError::InvalidEpoch { epoch: 2, current: 3 }));
        assert_eq!(states.check(7, 4, 10, 19), out_of_order(10, 0));
        assert_eq!(states.check(7, 4, 0, 9), Ok(SequenceCheck::Accept), "no duplicate of the old epoch's");
        states.update(7, 4, batch(0, 4, 10));
        assert_eq!(states.get(7).expect("known").batches(), [batch(0, 4, 10)]);
        assert_eq!(states.check(7, 3, 10, 19), Err(SequenceError::InvalidEpoch { epoch: 3, current: 4 }));
    }

    #[test]
    fn the_silent_are_forgotten_and_a_clock_that_went_back_forgets_nobody() {
        let mut states = ProducerStates::default();
        states.update(7, 0, ProducerBatch { timestamp: 1_000_000, ..batch(0, 0, 0) });
        states.update(8, 0, ProducerBatch { timestamp: 2_000_000, ..batch(0, 0, 1) });
        states.update(8, 0, ProducerBatch { timestamp: 0, ..batch(1, 1, 2) });
        states.expire(0);
        states.expire(i64::MIN);
        assert_eq!(states.len(), 2);
        states.expire(1_000_000 + EXPIRATION_MS);
        assert_eq!(states.iter().map(|(id, _)| id).collect::<Vec<_>>(), [8]);
    }

    #[test]
    fn their_number_is_bounded_and_the_silent_go_first() {
        let mut states = ProducerStates::default();
        for id in 0..PRODUCERS_MAX as i64 + 1 {
            states.update(id, 0, batch(0, 0, id));
        }
        assert!(states.len() < PRODUCERS_MAX);
        assert_eq!(states.get(0), None);
        assert!(states.get(PRODUCERS_MAX as i64).is_some());
        // All of one age, where the age alone cannot tell whom to keep.
        let mut states = ProducerStates::default();
        for id in 0..PRODUCERS_MAX as i64 + 1 {
            states.update(id, 0, ProducerBatch { timestamp: 5, ..batch(0, 0, id) });
        }
        assert!(states.len() > PRODUCERS_MAX / 2 && states.len() < PRODUCERS_MAX);
    }

    #[test]
    fn truncation_forgets_what_is_gone() {
        let mut states = ProducerStates::default();
        states.update(7, 0, batch(0, 9, 0));
        states.update(7, 0, batch(10, 19, 10));
        states.update(8, 0, batch(0, 9, 20));
        states.truncate_end(15);
        assert_eq!(states.get(7).expect("known").batches(), [batch(0, 9, 0)]);
        assert_eq!(states.get(8), None);
    }

    #[test]
    fn a_snapshot_is_the_state_and_damage_is_seen() {
        let mut states = ProducerStates::default();
        assert_eq!(ProducerStates::decode(&states.encode(0)), Some((states.clone(), 0)));
        for i in 0..20 {
            states.update(i % 3, i as i16 % 3, batch(i as i32 * 10, i as i32 * 10 + 9, i * 10));
        }
        let bytes = states.encode(200);
        assert_eq!(ProducerStates::decode(&bytes), Some((states, 200)));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ProducerStates::decode(&flipped), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(ProducerStates::decode(&bytes[..len]), None, "cut to {len}");
        }
    }

    #[test]
    fn a_hostile_count_allocates_nothing() {
        let mut bytes = ProducerStates::default().encode(0);
        bytes[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        let end = bytes.len() - CHECKSUM_BYTES;
        let checksum = crc32c(&bytes[..end]);
        bytes[end..].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(ProducerStates::decode(&bytes), None);
    }
}
