//! What a partition remembers of producers: so that a batch that is sent twice is stored once, a batch
//! that is missing is noticed, and who has a transaction open here is known (KIP-98, KIP-890; limits as in
//! KIP-360).
//!
//! Per producer id: the epoch, sequence numbers and offsets of its last five batches, which is as many as
//! a client may have in flight, where its open transaction began, and which coordinator ended the last.
//! [`ProducerStates::check`] and [`ProducerStates::check_marker`] decide and change nothing;
//! [`ProducerStates::update`] and [`ProducerStates::end_transaction`] note a batch that has been appended,
//! or is read back at recovery. So the state is a function of the log, and a snapshot of it
//! ([`producer_snapshot`](super::producer_snapshot)) is only a place to begin.

use std::collections::BTreeMap;

use crate::record::{EndOfTransaction, Marker};

use super::aborted_index::AbortedTransaction;
use super::transactions::Transactions;

/// Batches that are remembered of each producer: as many as `max.in.flight.requests.per.connection`
/// may be with idempotence.
pub const BATCHES_REMEMBERED: usize = 5;
/// How long a producer that has fallen silent is remembered, in ms.
pub const EXPIRATION_MS: i64 = 7 * 24 * 60 * 60 * 1000;
/// Producers that are remembered at most. Past that the ones silent for longest are forgotten, as if
/// they had expired: a client cannot fill the memory by asking for ids.
///
/// Whoever has a transaction open is not forgotten, so these are bounded by themselves.
pub const PRODUCERS_MAX: usize = 16_384;
/// Transactions that may be open in a partition at a time.
pub const OPEN_TRANSACTIONS_MAX: usize = PRODUCERS_MAX / 2;
/// No coordinator has ended a transaction of the producer's here yet.
const NO_COORDINATOR_EPOCH: i32 = -1;

/// One batch of a producer's, as it lies in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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

/// Why a batch, or the end of a transaction, is refused.
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
    /// Kafka's INVALID_TXN_STATE: a batch outside of the transaction that the producer has open.
    #[error("the batch is not part of the transaction that is open since offset {first_offset}")]
    OutsideTransaction {
        /// Where the transaction began.
        first_offset: i64,
    },
    /// Kafka's INVALID_TXN_STATE: a batch of a transaction that has ended since it was asked about.
    #[error("the transaction that the batch is part of has ended at offset {offset}")]
    TransactionEnded {
        /// Of the control batch that ended it.
        offset: i64,
    },
    /// Kafka's TRANSACTION_COORDINATOR_FENCED: the end of a transaction, from a coordinator that a newer
    /// one has taken the place of.
    #[error("coordinator epoch {epoch} is fenced by {current}")]
    CoordinatorFenced {
        /// The epoch of the coordinator.
        epoch: i32,
        /// The newest one seen.
        current: i32,
    },
    /// As many transactions are open as may be, see [`OPEN_TRANSACTIONS_MAX`]. Others have to end first.
    #[error("{OPEN_TRANSACTIONS_MAX} transactions are open in the partition")]
    TooManyTransactions,
}

/// The state of one producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerState {
    pub(super) epoch: i16,
    /// Whether the epoch is known to have followed another one, so that its sequences begin at 0. What a log knows
    /// that only the end of a transaction is left of says nothing about the sequences before that.
    pub(super) follows: bool,
    pub(super) coordinator_epoch: i32,
    pub(super) transaction: Option<i64>,
    /// Offset of the control batch that ended its last transaction here, -1 if none has.
    pub(super) ended_at: i64,
    pub(super) last_timestamp: i64,
    /// Oldest first; the first `remembered` ones count.
    batches: [ProducerBatch; BATCHES_REMEMBERED],
    remembered: usize,
}

impl ProducerState {
    /// The epoch of the newest batch or end of a transaction.
    pub fn epoch(&self) -> i16 {
        self.epoch
    }

    /// The batches of this epoch that are remembered, oldest first. None if there has only been the end of
    /// a transaction.
    pub fn batches(&self) -> &[ProducerBatch] {
        &self.batches[..self.remembered]
    }

    /// When it was last heard of, in ms since the epoch.
    pub fn last_timestamp(&self) -> i64 {
        self.last_timestamp
    }

    /// The epoch of the coordinator that ended its last transaction here, `None` if none has.
    pub fn coordinator_epoch(&self) -> Option<i32> {
        (self.coordinator_epoch != NO_COORDINATOR_EPOCH).then_some(self.coordinator_epoch)
    }

    /// Where its open transaction began here, `None` if none is open.
    pub fn transaction_start(&self) -> Option<i64> {
        self.transaction
    }

    /// Offset of the control batch that ended its last transaction here, `None` if none has.
    pub fn ended_at(&self) -> Option<i64> {
        (self.ended_at >= 0).then_some(self.ended_at)
    }

    /// A producer of which nothing is known but its epoch.
    pub(super) fn new(epoch: i16) -> ProducerState {
        ProducerState {
            epoch,
            follows: false,
            coordinator_epoch: NO_COORDINATOR_EPOCH,
            transaction: None,
            ended_at: -1,
            last_timestamp: i64::MIN,
            batches: [ProducerBatch::default(); BATCHES_REMEMBERED],
            remembered: 0,
        }
    }

    pub(super) fn push(&mut self, batch: ProducerBatch) {
        if self.remembered == BATCHES_REMEMBERED {
            self.batches.rotate_left(1);
        } else {
            self.remembered += 1;
        }
        self.batches[self.remembered - 1] = batch;
        self.heard_of(batch.timestamp);
    }

    /// A clock that went back makes nobody look silent for longer.
    fn heard_of(&mut self, timestamp: i64) {
        self.last_timestamp = self.last_timestamp.max(timestamp);
    }

    /// Goes on in `epoch`. What was remembered of another one's batches says nothing about this one's.
    fn enter(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.follows = true;
            self.batches = [ProducerBatch::default(); BATCHES_REMEMBERED];
            self.remembered = 0;
        }
    }
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerStates {
    producers: BTreeMap<i64, ProducerState>,
    /// Those of their transactions that hold the last stable offset back.
    transactions: Transactions,
}

impl ProducerStates {
    /// Whether a batch of data may be appended.
    ///
    /// # Errors
    /// If it is fenced, its sequence is neither the next one nor that of a batch that is remembered, or it
    /// has no place in a transaction. A producer that is unknown here may begin anywhere: it may have been
    /// forgotten.
    pub fn check(
        &self,
        producer_id: i64,
        epoch: i16,
        first_sequence: i32,
        last_sequence: i32,
        transactional: bool,
    ) -> Result<SequenceCheck, SequenceError> {
        let Some(producer) = self.producers.get(&producer_id) else {
            return self.check_room(transactional);
        };
        if epoch < producer.epoch {
            return Err(SequenceError::InvalidEpoch { epoch, current: producer.epoch });
        }
        let expected = match producer.batches().last() {
            Some(last) if epoch == producer.epoch => next_sequence(last.last_sequence),
            None if epoch == producer.epoch && !producer.follows => first_sequence,
            _ => 0,
        };
        if epoch == producer.epoch
            && let Some(batch) = producer
                .batches()
                .iter()
                .find(|batch| batch.first_sequence == first_sequence && batch.last_sequence == last_sequence)
        {
            return Ok(SequenceCheck::Duplicate(*batch));
        }
        if first_sequence != expected {
            return Err(SequenceError::OutOfOrder { sequence: first_sequence, expected });
        }
        match producer.transaction {
            Some(first_offset) if !transactional => Err(SequenceError::OutsideTransaction { first_offset }),
            Some(_) => Ok(SequenceCheck::Accept),
            None => self.check_room(transactional),
        }
    }

    /// Whether a batch may still be part of the transaction that was open when the log ended at `asked_at`.
    ///
    /// # Errors
    /// If a transaction of the producer's has ended here since: it was that one, and the batch would begin another.
    pub fn check_open(&self, producer_id: i64, asked_at: i64) -> Result<(), SequenceError> {
        match self.producers.get(&producer_id) {
            Some(producer) if producer.ended_at >= asked_at => {
                Err(SequenceError::TransactionEnded { offset: producer.ended_at })
            }
            _ => Ok(()),
        }
    }

    /// Whether a batch may come, where it is the first of its epoch that is known here, of a producer whose epoch rises
    /// with every transaction: its sequences begin at 0 in each. Without that, of two batches on their way the second
    /// would be taken if the first had to be sent again, which then is out of order for good.
    ///
    /// # Errors
    /// If there has to be one before it.
    pub fn check_first(
        &self,
        producer_id: i64,
        epoch: i16,
        first_sequence: i32,
    ) -> Result<(), SequenceError> {
        let producer = self.producers.get(&producer_id);
        let is_first =
            producer.is_none_or(|producer| producer.epoch == epoch && producer.batches().is_empty());
        if is_first && first_sequence != 0 {
            return Err(SequenceError::OutOfOrder { sequence: first_sequence, expected: 0 });
        }
        Ok(())
    }

    /// Whether the end of a producer's transaction may be appended. One that is repeated is, and so is one
    /// of a transaction that has written nothing here.
    ///
    /// # Errors
    /// If a newer instance of the producer, or a newer coordinator, has been here.
    pub fn check_marker(
        &self,
        producer_id: i64,
        epoch: i16,
        coordinator_epoch: i32,
    ) -> Result<(), SequenceError> {
        let Some(producer) = self.producers.get(&producer_id) else { return Ok(()) };
        if epoch < producer.epoch {
            return Err(SequenceError::InvalidEpoch { epoch, current: producer.epoch });
        }
        if coordinator_epoch < producer.coordinator_epoch {
            let current = producer.coordinator_epoch;
            return Err(SequenceError::CoordinatorFenced { epoch: coordinator_epoch, current });
        }
        Ok(())
    }

    /// Notes a batch of data that is in the log now.
    pub fn update(&mut self, producer_id: i64, epoch: i16, transactional: bool, batch: ProducerBatch) {
        let producer = self.producer(producer_id, epoch);
        producer.push(batch);
        if transactional && producer.transaction.is_none() {
            producer.transaction = Some(batch.base_offset);
            self.transactions.begin(batch.base_offset);
        }
    }

    /// Notes the end of a producer's transaction, which is in the log at `offset` now. Answers with the
    /// transaction if readers have to be told to pass over it.
    pub fn end_transaction(
        &mut self,
        producer_id: i64,
        epoch: i16,
        end: EndOfTransaction,
        offset: i64,
        timestamp: i64,
    ) -> Option<AbortedTransaction> {
        let producer = self.producer(producer_id, epoch);
        producer.coordinator_epoch = producer.coordinator_epoch.max(end.coordinator_epoch);
        producer.ended_at = offset;
        producer.heard_of(timestamp);
        let first_offset = producer.transaction.take()?;
        let last_stable = self.transactions.end(first_offset, offset);
        (end.marker == Marker::Abort).then_some(AbortedTransaction {
            producer_id,
            first_offset,
            last_offset: offset,
            last_stable,
        })
    }

    /// The last stable offset of a log that is durable up to `high_watermark`, which has grown to that: the
    /// first offset of the transactions that are open, or whose end is not durable; the high watermark if
    /// there are none.
    pub fn last_stable(&mut self, high_watermark: i64) -> i64 {
        self.transactions.last_stable(high_watermark)
    }

    /// Notes that nothing is known of what the log holds at `offset`: the last stable offset stays where it is
    /// there, whatever ends of transactions follow.
    pub(super) fn hold(&mut self, offset: i64) {
        self.transactions.hold(offset);
    }

    /// A transaction may only begin where there is room for one more.
    fn check_room(&self, transactional: bool) -> Result<SequenceCheck, SequenceError> {
        if transactional && self.transactions.open() >= OPEN_TRANSACTIONS_MAX {
            return Err(SequenceError::TooManyTransactions);
        }
        Ok(SequenceCheck::Accept)
    }

    /// The producer, in this epoch.
    fn producer(&mut self, producer_id: i64, epoch: i16) -> &mut ProducerState {
        if self.producers.len() >= PRODUCERS_MAX && !self.producers.contains_key(&producer_id) {
            self.forget_oldest();
        }
        let producer = self.producers.entry(producer_id).or_insert_with(|| ProducerState::new(epoch));
        producer.enter(epoch);
        producer
    }

    /// Forgets whoever has been silent for [`EXPIRATION_MS`] and has no transaction open. A clock that went
    /// back forgets nobody.
    pub fn expire(&mut self, now_ms: i64) {
        self.producers.retain(|_, producer| {
            producer.transaction.is_some() || now_ms.saturating_sub(producer.last_timestamp) < EXPIRATION_MS
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

    /// Makes room: an eighth at once, so that the search is paid for by the insertions to come. At least
    /// half of all have no transaction open.
    fn forget_oldest(&mut self) {
        let idle = self.producers.values().filter(|producer| producer.transaction.is_none());
        let mut timestamps: Vec<i64> = idle.map(|producer| producer.last_timestamp).collect();
        let excess = timestamps.len() / 8;
        if excess == 0 {
            return;
        }
        let (_, &mut limit, _) = timestamps.select_nth_unstable(excess);
        let mut left = excess + 1;
        self.producers.retain(|_, producer| {
            let forget = left > 0 && producer.transaction.is_none() && producer.last_timestamp <= limit;
            left -= usize::from(forget);
            !forget
        });
    }

    /// Takes a producer out of a snapshot, whose ids rise; answers whether they do.
    pub(super) fn restore(&mut self, producer_id: i64, producer: ProducerState) -> bool {
        if self.producers.last_key_value().is_some_and(|(&last, _)| last >= producer_id) {
            return false;
        }
        if let Some(first_offset) = producer.transaction {
            self.transactions.begin(first_offset);
        }
        self.producers.insert(producer_id, producer);
        true
    }
}

/// The sequence after `sequence`: 2³¹-1 is followed by 0.
pub fn next_sequence(sequence: i32) -> i32 {
    sequence.checked_add(1).unwrap_or(0)
}

#[cfg(test)]
#[path = "producer_state_tests.rs"]
mod tests;
