//! Appending a batch, and rolling to a new segment when the active one is due.
//!
//! The path of an append: no system call but `fallocate` every so often, no allocation, one copy of
//! the payload, into the map. Everything that may fail comes before the first byte is stored, and
//! nothing is published before the last one.

use std::io;
use std::sync::Arc;

use rustix::io::Errno;

use crate::record::{EndOfTransaction, ProducedBatch, TimestampType};
use crate::storage::{SegmentFile, Storage};
use crate::sync::atomic::Ordering;

use super::aborted_index::AbortedTransaction;
use super::checkpoint::LastBatch;
use super::error::AppendError;
use super::index_tail::{BatchPlace, IndexRule};
use super::leader_epoch::LeaderEpochs;
use super::partition_log::PartitionLog;
use super::producer_state::{ProducerBatch, SequenceCheck};
use super::segment::{LEADER_EPOCHS_FILE, LOG_SUFFIX, Segment};
use super::watermarks::{Bounds, LogPosition, Watermarks};

/// Blocks that are allocated ahead of the tail at least, in bytes, so that a small partition stays
/// small on disk.
const ALLOCATE_BYTES_MIN: u64 = 64 << 10;
/// Blocks that are allocated ahead of the tail at most, in bytes. In between the step is what is
/// there already, so it doubles.
const ALLOCATE_BYTES_MAX: u64 = 16 << 20;
/// The address range that is mapped for an active segment at least, in bytes. It costs nothing, and
/// lets a segment outgrow the size that was set when it was created.
const RESERVE_BYTES_MIN: u64 = 1 << 30;

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the batch's first record.
    pub base_offset: i64,
    /// The offset of its last record.
    pub last_offset: i64,
    /// The timestamp that the broker gave all records, in ms; -1 where they keep the producer's.
    pub log_append_time_ms: i64,
    /// The log start offset at that moment.
    pub log_start_offset: i64,
    /// The batch had been appended before; the offsets are those it got then, and nothing was
    /// written.
    pub duplicate: bool,
}

/// The writer's end of the log: the active segment and what is due in it.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) segment: Arc<Segment>,
    /// The segment's file, without the way through it.
    pub(super) file: Arc<dyn SegmentFile>,
    pub(super) rule: IndexRule,
    /// Bytes that may be appended to in all: what has been mapped.
    pub(super) reserved_bytes: u64,
    pub(super) last_batch: Option<LastBatch>,
    /// The largest timestamp of the segment's first batch, in ms.
    pub(super) first_timestamp: Option<i64>,
    /// When the first batch was appended by this process, by the wall clock in ms.
    pub(super) first_append_ms: Option<i64>,
}

impl Tail {
    /// The end of a segment that has just been created.
    pub(super) fn of_new(segment: Arc<Segment>, interval_bytes: u32, reserved_bytes: u64) -> Tail {
        Tail {
            file: Arc::clone(&segment.loaded().file),
            rule: IndexRule::new(segment.base_offset(), interval_bytes),
            segment,
            reserved_bytes,
            last_batch: None,
            first_timestamp: None,
            first_append_ms: None,
        }
    }

    /// Gives back the blocks that were allocated ahead.
    pub(super) fn trim(&self) -> io::Result<()> {
        self.file.trim()
    }

    /// Puts blocks behind the next `size` bytes, and behind some more if the disk has them besides `reserve` bytes
    /// that stay free.
    fn allocate(&self, storage: &dyn Storage, position: u64, size: u64, reserve: u64) -> io::Result<()> {
        let needed = position + size;
        let allocated = self.file.allocated();
        if needed <= allocated {
            return Ok(());
        }
        let ahead = needed + allocated.clamp(ALLOCATE_BYTES_MIN, ALLOCATE_BYTES_MAX);
        let end = ahead.next_multiple_of(4096).min(self.reserved_bytes);
        let end = allocated + spare(storage, needed - allocated, end - allocated, reserve)?;
        match self.file.allocate(end) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && end > needed => {
                // The last blocks of a disk that is nearly full are as good as any.
                self.file.allocate(needed)
            }
            done => done,
        }
    }
}

/// How many bytes may be allocated so that `reserve` bytes stay free: at least `needed`, at most `wanted`.
fn spare(storage: &dyn Storage, needed: u64, wanted: u64, reserve: u64) -> io::Result<u64> {
    if reserve == 0 {
        return Ok(wanted);
    }
    let spare = storage.free_bytes()?.saturating_sub(reserve);
    if needed > spare {
        let why = format!("of the free bytes on the disk, {reserve} are reserved");
        return Err(io::Error::new(io::ErrorKind::StorageFull, why));
    }
    Ok(wanted.min(spare))
}

/// Where blocks end of which `ahead` bytes lie past `position`, within what is mapped.
pub(super) fn end_of_blocks(position: u64, ahead: u64, reserved_bytes: u64) -> u64 {
    position.saturating_add(ahead).next_multiple_of(4096).min(reserved_bytes)
}

/// The address range to map for an active segment.
pub(super) fn reserve_bytes(segment_bytes: u64) -> u64 {
    segment_bytes.max(RESERVE_BYTES_MIN)
}

impl PartitionLog {
    /// Appends a batch as the leader of `leader_epoch`. The records are in the log, but neither
    /// durable nor visible to consumers, until a flush that began later has completed.
    ///
    /// # Errors
    /// Whatever the error, the log is as it was before. See [`AppendError`].
    pub fn append(
        &mut self,
        batch: &ProducedBatch,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.check_writable()?;
        let log_start_offset = self.bounds.watermarks.log_start();
        if let SequenceCheck::Duplicate(first) = self.check_sequence(batch)? {
            let by_broker = batch.attributes().timestamp_type() == TimestampType::LogAppendTime;
            return Ok(Appended {
                base_offset: first.base_offset,
                last_offset: first.last_offset,
                log_append_time_ms: if by_broker { first.timestamp } else { -1 },
                log_start_offset,
                duplicate: true,
            });
        }

        let (base_offset, last_offset) = self.store(batch, leader_epoch, now_ms)?;
        if batch.producer_id() >= 0 {
            self.note_producer(batch, base_offset, last_offset, now_ms);
        }
        let log_append_time_ms = batch.log_append_time_ms();
        Ok(Appended { base_offset, last_offset, log_append_time_ms, log_start_offset, duplicate: false })
    }

    /// As [`append`](PartitionLog::append), of a batch of a transaction that was open when the log ended at `asked_at`:
    /// in this partition, or as far as the coordinator has said. `epoch_rises` in the second version of the protocol,
    /// where the producer's epoch does with every transaction, so that the first sequence of each is known.
    ///
    /// # Errors
    /// Those of `append`, and [`SequenceError::TransactionEnded`](super::SequenceError::TransactionEnded): such a
    /// batch would begin a transaction that nobody ends (KIP-890).
    pub fn append_transactional(
        &mut self,
        batch: &ProducedBatch,
        leader_epoch: i32,
        now_ms: i64,
        asked_at: i64,
        epoch_rises: bool,
    ) -> Result<Appended, AppendError> {
        let producer_id = batch.producer_id();
        self.producers
            .check_open(producer_id, asked_at)
            .and_then(|()| {
                let (epoch, sequence) = (batch.producer_epoch(), batch.base_sequence());
                if epoch_rises { self.producers.check_first(producer_id, epoch, sequence) } else { Ok(()) }
            })
            .map_err(|error| AppendError::Sequence { producer_id, error })?;
        self.append(batch, leader_epoch, now_ms)
    }

    /// Ends the transaction that a producer has open in this partition, by a control batch of the producer's.
    /// `producer_epoch` is that of the transaction, or the next one (KIP-890); from then on older ones are
    /// fenced. To end what has not begun, or has ended, is no error: a coordinator repeats itself.
    ///
    /// Readers of committed records see the end, and what comes after it, once it is durable.
    ///
    /// # Errors
    /// Whatever the error, the log is as it was before. [`AppendError::Sequence`] if the producer or the
    /// coordinator is fenced by a newer one.
    pub fn append_marker(
        &mut self,
        producer_id: i64,
        producer_epoch: i16,
        end: EndOfTransaction,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.check_writable()?;
        self.producers
            .check_marker(producer_id, producer_epoch, end.coordinator_epoch)
            .map_err(|error| AppendError::Sequence { producer_id, error })?;
        let log_start_offset = self.bounds.watermarks.log_start();
        let batch = end.to_batch(producer_id, producer_epoch, now_ms);
        let (base_offset, last_offset) = self.store(&batch, leader_epoch, now_ms)?;
        let aborted = self.producers.end_transaction(producer_id, producer_epoch, end, base_offset, now_ms);
        if let Some(aborted) = aborted {
            self.note_aborted(aborted);
        }
        Ok(Appended { base_offset, last_offset, log_append_time_ms: -1, log_start_offset, duplicate: false })
    }

    /// Puts a batch at the log's end, and publishes it. Answers with its first and its last offset.
    fn store(
        &mut self,
        batch: &ProducedBatch,
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<(i64, i64), AppendError> {
        let size = batch.size_bytes() as u64;
        self.make_room(batch, size)?;
        self.begin_epoch(leader_epoch)?;
        let base_offset = self.bounds.watermarks.log_end();
        let position = self.bounds.log_end.position;
        let header = batch.header(base_offset, leader_epoch);
        self.tail.file.append(position, &[&header, batch.payload()])?;

        let last_offset = base_offset + i64::from(batch.last_offset_delta());
        self.note_in_indexes(
            batch,
            BatchPlace { position, base_offset, last_offset, max_timestamp: batch.max_timestamp() },
        );
        self.tail.first_append_ms.get_or_insert(now_ms);
        self.checkpoints.bytes_since_snapshot += size;
        let watermarks = self.bounds.watermarks;
        self.publish(Bounds {
            watermarks: Watermarks::new(
                watermarks.log_start(),
                watermarks.last_stable(),
                watermarks.high_watermark(),
                last_offset + 1,
            ),
            log_end: LogPosition { position: position + size, ..self.bounds.log_end },
            ..self.bounds
        });
        Ok((base_offset, last_offset))
    }

    /// Notes an aborted transaction whose end has just been stored, before a reader can see records of it:
    /// they lie past the last stable offset until the end is durable.
    fn note_aborted(&mut self, aborted: AbortedTransaction) {
        let segment = &self.tail.segment;
        segment.aborted().push(aborted);
        *self.aborted.entry(segment.base_offset()).or_default() += 1;
        // Relaxed: published with the bounds, see `Published::store`.
        self.shared.has_aborted.store(true, Ordering::Relaxed);
    }

    /// Rolls to a new segment if the active one holds anything and its first batch was appended longer
    /// ago than `segment.ms`, so that retention and compaction get at the data of a partition that has
    /// fallen silent. What was appended before a restart counts as appended when this is first called.
    /// Answers whether it rolled.
    ///
    /// # Errors
    /// Of the disk; the log goes on in the old segment.
    pub fn roll_if_due(&mut self, now_ms: i64) -> Result<bool, AppendError> {
        self.check_writable()?;
        if self.bounds.log_end.position > 0 {
            self.tail.first_append_ms.get_or_insert(now_ms);
        }
        let due = self
            .tail
            .first_append_ms
            .is_some_and(|first| now_ms.saturating_sub(first) > self.config.segment_ms_effective());
        if due {
            self.roll(0, 0)?;
        }
        Ok(due)
    }

    fn check_sequence(&self, batch: &ProducedBatch) -> Result<SequenceCheck, AppendError> {
        let producer_id = batch.producer_id();
        if producer_id < 0 {
            return Ok(SequenceCheck::Accept);
        }
        self.producers
            .check(
                producer_id,
                batch.producer_epoch(),
                batch.base_sequence(),
                batch.last_sequence(),
                batch.attributes().is_transactional(),
            )
            .map_err(|error| AppendError::Sequence { producer_id, error })
    }

    fn note_producer(&mut self, batch: &ProducedBatch, base_offset: i64, last_offset: i64, now_ms: i64) {
        let timestamp = match batch.attributes().timestamp_type() {
            TimestampType::LogAppendTime => batch.max_timestamp(),
            // Records may be about any time; how long a producer has been silent is about ours.
            TimestampType::CreateTime => now_ms,
        };
        self.producers.update(
            batch.producer_id(),
            batch.producer_epoch(),
            batch.attributes().is_transactional(),
            ProducerBatch {
                first_sequence: batch.base_sequence(),
                last_sequence: batch.last_sequence(),
                base_offset,
                last_offset,
                timestamp,
            },
        );
    }

    fn note_in_indexes(&mut self, batch: &ProducedBatch, place: BatchPlace) {
        let tail = &mut self.tail;
        let data = tail.segment.loaded();
        tail.rule.add(&data.offsets, &data.times, place);
        data.raise_largest_timestamp(place.max_timestamp);
        if batch.attributes().is_control() || batch.record_count() <= batch.last_offset_delta() {
            tail.segment.tallies().note_hidden();
        }
        tail.last_batch = Some(LastBatch { position: place.position, crc: batch.crc() });
        tail.first_timestamp.get_or_insert(place.max_timestamp);
    }

    /// Notes a new leader epoch, durably, before the first batch that bears it.
    pub(super) fn begin_epoch(&mut self, leader_epoch: i32) -> Result<(), AppendError> {
        let current = self.shared.epochs.load();
        if leader_epoch < 0 || current.latest() >= Some(leader_epoch) {
            return Ok(());
        }
        let mut epochs = LeaderEpochs::clone(&current);
        if epochs.begin(leader_epoch, self.bounds.watermarks.log_end()) {
            let path = self.dir.file(LEADER_EPOCHS_FILE);
            epochs.save(&*self.dir.storage, &path).map_err(|error| self.failed(error, &path))?;
            self.shared.epochs.store(Arc::new(epochs));
        }
        Ok(())
    }

    /// Seals the active segment and goes on in a new one, of which `first_bytes` are needed at once. Leaves `reserve`
    /// bytes of the disk free.
    ///
    /// Nothing is synced here, under the owner's lock: the new name becomes durable with the first flush that reaches
    /// into the segment, or the first checkpoint that speaks of it.
    pub(super) fn roll(&mut self, first_bytes: u64, reserve: u64) -> Result<(), AppendError> {
        let base_offset = self.bounds.watermarks.log_end();
        let reserved_bytes = reserve_bytes(self.config.segment_bytes_effective());
        let before = self.bounds.log_end.position;
        let allocate = first_bytes.max(before.clamp(ALLOCATE_BYTES_MIN, ALLOCATE_BYTES_MAX));
        let interval_bytes = self.config.index_interval_bytes;
        let allocate = allocate.next_multiple_of(4096).min(reserved_bytes);
        let allocate = spare(&*self.dir.storage, first_bytes, allocate, reserve)?;
        let segment = Segment::create(&self.dir, base_offset, reserved_bytes, allocate, interval_bytes)
            .map_err(|error| self.failed(error, &self.dir.segment_file(base_offset, LOG_SUFFIX)))?;

        let tail = Tail::of_new(Arc::clone(&segment), interval_bytes, reserved_bytes);
        let sealed = std::mem::replace(&mut self.tail, tail).segment;
        sealed.loaded().seal(before);
        self.unsynced.push(sealed);
        let segments = self.shared.segments.load().rolled(segment);
        // Before any bounds that reach into it: a reader loads them in the other order.
        self.shared.segments.store(Arc::new(segments));
        let log_end = LogPosition { segment: base_offset, position: 0 };
        let mut bounds = Bounds { log_end, ..self.bounds };
        if bounds.watermarks.high_watermark() == base_offset {
            // All that was sealed is durable. Its segment may be deleted, so nothing points there.
            bounds.high_watermark = log_end;
            self.last_durable_batch = None;
        }
        self.publish(bounds);
        tracing::debug!(partition = &*self.dir.path, base_offset, "rolled to a new segment");
        Ok(())
    }

    /// What a failed operation on the disk means: out of room, it can be tried again; anything else
    /// may have been a sync, and takes the directory offline.
    pub(super) fn failed(&self, error: io::Error, path: &str) -> AppendError {
        if !is_exhaustion(&error) {
            self.health.poison(format!("{path}: {error}"));
        }
        AppendError::Storage(error)
    }

    /// Rolls if the active segment is due, and puts blocks behind the batch.
    fn make_room(&mut self, batch: &ProducedBatch, size: u64) -> Result<(), AppendError> {
        let segment_bytes = self.config.segment_bytes_effective();
        let empty = self.bounds.log_end.position == 0;
        if size > segment_bytes || (empty && size > self.tail.reserved_bytes) {
            return Err(AppendError::TooLarge { size: batch.size_bytes(), segment_bytes });
        }
        let reserve = if batch.is_internal() { 0 } else { self.health.reserve_bytes() };
        if !empty && self.is_full_for(batch, size) {
            match self.roll(size, reserve) {
                // The broker's own records go on where they have blocks already: committed offsets are
                // not to wait for a disk that others have filled.
                Err(AppendError::Storage(error))
                    if is_exhaustion(&error) && batch.is_internal() && self.has_blocks_for(batch, size) => {}
                rolled => rolled?,
            }
        }
        self.tail.allocate(&*self.dir.storage, self.bounds.log_end.position, size, reserve)?;
        Ok(())
    }

    /// Whether the batch fits into the blocks that are allocated, and into what a segment can hold.
    fn has_blocks_for(&self, batch: &ProducedBatch, size: u64) -> bool {
        let last_relative = self.bounds.watermarks.log_end() + i64::from(batch.last_offset_delta())
            - self.tail.segment.base_offset();
        self.bounds.log_end.position + size <= self.tail.file.allocated()
            && last_relative <= i64::from(i32::MAX)
    }

    /// Whether the batch belongs into a new segment: for size, for age by the records' own time (the
    /// batch's against that of the segment's first, so that a log of old events is cut by their time),
    /// or because relative offsets would outgrow Kafka's 31 bits.
    fn is_full_for(&self, batch: &ProducedBatch, size: u64) -> bool {
        let end = self.bounds.log_end.position + size;
        let last_relative = self.bounds.watermarks.log_end() + i64::from(batch.last_offset_delta())
            - self.tail.segment.base_offset();
        end > self.config.segment_bytes_effective().min(self.tail.reserved_bytes)
            || last_relative > i64::from(i32::MAX)
            || self.tail.first_timestamp.is_some_and(|first| {
                batch.max_timestamp().saturating_sub(first) > self.config.segment_ms_effective()
            })
    }
}

/// Whether an error says that there is no more of something of which there may be again.
pub(super) fn is_exhaustion(error: &io::Error) -> bool {
    let exhausted = [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory
    ) || error.raw_os_error().is_some_and(|code| exhausted.iter().any(|errno| errno.raw_os_error() == code))
}
