//! Goes through one partition record by record: what consumers would see, and nothing else.
//!
//! Left out are control batches, records of aborted transactions where only committed ones are wanted, what compaction
//! leaves in the place of records, and records without the wanted key. All of that moves the position on, so that who
//! comes back with it never sees the same stretch again.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use log_core::log::{AbortedTransaction, Isolation, LogReader, ReadError, ReadResult};
use log_core::record::{BatchError, DecompressLimits, Record, RecordBatch, Records, TimestampType};

use super::found::Found;
use crate::partition::Partition;

/// Bytes of batches that are taken out of the log at a time: slices of its map, which cost nothing.
const CHUNK_BYTES: usize = 1 << 20;

/// What one batch may unpack to here, where nobody waits for all of a topic.
const LIMITS: DecompressLimits = DecompressLimits { output_bytes_max: 64 << 20, ratio_max: 1024 };

/// How a log is read: waiting for the disk, or not.
pub(super) type ReadLog = fn(&LogReader, i64, usize, Isolation, bool) -> Result<ReadResult, ReadError>;

/// Why records cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScanError {
    /// The log has to be waited for, and this read was not to.
    #[error("not in memory")]
    Cold,
    /// The topic is being deleted.
    #[error("partition {0} is being deleted")]
    Gone(i32),
    /// The log is damaged there, or the disk fails.
    #[error("partition {partition} cannot be read at offset {offset}: {reason}")]
    Unreadable {
        /// Which.
        partition: i32,
        /// Where.
        offset: i64,
        /// What is wrong.
        reason: String,
    },
}

/// What is wanted, and how much may still be looked through for it.
pub(super) struct Scan {
    pub(super) read_log: ReadLog,
    pub(super) isolation: Isolation,
    /// Records with other keys, or without one, are passed over.
    pub(super) key: Option<Bytes>,
    /// Bytes, uncompressed. The batch that begins within them is looked through to its end.
    pub(super) bytes_left: usize,
}

impl Scan {
    /// Whether no further batch is to be begun.
    pub(super) fn is_spent(&self) -> bool {
        self.bytes_left == 0
    }

    fn spend(&mut self, bytes: usize) {
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
    }

    fn wants(&self, record: &Record) -> bool {
        self.key.is_none() || self.key == record.key
    }
}

/// What a cursor stands before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// A record, to be had by [`Cursor::take`].
    Record,
    /// The end of what it was to go through.
    End,
    /// More, which there is no allowance left for.
    Unread,
}

/// A place in a partition.
pub(super) struct Cursor {
    partition: Arc<Partition>,
    /// Everything below has been gone through.
    position: i64,
    /// Where to stop.
    until: i64,
    /// Records before it are left out: the first batch may begin earlier.
    floor: i64,
    /// Batches that are read and not gone through.
    batches: Bytes,
    aborted: Vec<AbortedTransaction>,
    /// What is left of the batch that is being gone through.
    records: Option<(Records, TimestampType)>,
    /// The offset behind that batch.
    batch_end: i64,
    /// Where the first batch began that was read.
    first_batch: Option<i64>,
    head: Option<Found>,
}

impl Cursor {
    /// From `position` up to `until`; both within the log, or behind what was deleted of it.
    pub(super) fn new(partition: Arc<Partition>, position: i64, until: i64) -> Cursor {
        Cursor {
            position,
            until,
            floor: position,
            batches: Bytes::new(),
            aborted: Vec::new(),
            records: None,
            batch_end: position,
            first_batch: None,
            head: None,
            partition,
        }
    }

    /// Takes in the records before the position, too, that are in the same batch, down to `floor`.
    pub(super) fn down_to(mut self, floor: i64) -> Cursor {
        self.floor = floor;
        self
    }

    /// Where to go on later: the offset of the record that it stands before, or behind all that was gone through.
    pub(super) fn position(&self) -> i64 {
        self.head.as_ref().map_or(self.position, |found| found.record.offset)
    }

    /// Where the first batch begins that was read.
    pub(super) fn first_batch(&self) -> Option<i64> {
        self.first_batch
    }

    /// The record that it stands before.
    pub(super) fn head(&self) -> Option<&Found> {
        self.head.as_ref()
    }

    /// Takes that record.
    pub(super) fn take(&mut self) -> Option<Found> {
        let found = self.head.take()?;
        self.position = found.record.offset + 1;
        Some(found)
    }

    /// Goes on to the next record that is wanted.
    ///
    /// # Errors
    /// See [`ScanError`].
    pub(super) fn advance(&mut self, scan: &mut Scan) -> Result<Next, ScanError> {
        loop {
            if self.head.is_some() {
                return Ok(Next::Record);
            }
            if self.records.is_some() {
                self.search_batch(scan)?;
                continue;
            }
            if self.position >= self.until {
                return Ok(Next::End);
            }
            if scan.is_spent() {
                return Ok(Next::Unread);
            }
            if self.batches.is_empty() && !self.read(scan)? {
                return Ok(Next::End);
            }
            self.open_batch(scan)?;
        }
    }

    /// Looks for a wanted record in what is left of the batch.
    fn search_batch(&mut self, scan: &Scan) -> Result<(), ScanError> {
        let Some((records, timestamp_type)) = &mut self.records else { return Ok(()) };
        for record in records.by_ref() {
            let record = record.map_err(|error| damaged(&self.partition, self.position, &error))?;
            if record.offset < self.floor || record.offset >= self.until || !scan.wants(&record) {
                continue;
            }
            self.head = Some(Found::new(self.partition.index(), *timestamp_type, record));
            return Ok(());
        }
        self.records = None;
        self.position = self.batch_end;
        Ok(())
    }

    /// Reads batches from the position on. False if there is nothing to be seen.
    fn read(&mut self, scan: &Scan) -> Result<bool, ScanError> {
        let partition = &self.partition;
        let read = loop {
            match (scan.read_log)(partition.reader(), self.position, CHUNK_BYTES, scan.isolation, true) {
                Ok(read) => break read,
                // The log start has passed by.
                Err(ReadError::OutOfRange { watermarks, .. }) if self.position < watermarks.log_start() => {
                    self.position = watermarks.log_start();
                }
                Err(ReadError::OutOfRange { .. }) => return Ok(false),
                Err(ReadError::Cold) => return Err(ScanError::Cold),
                Err(ReadError::Closed) => return Err(ScanError::Gone(partition.index())),
                Err(error @ (ReadError::Corrupt(_) | ReadError::Storage(_))) => {
                    return Err(damaged(partition, self.position, &error));
                }
            }
        };
        self.batches = read.records;
        self.aborted = read.aborted;
        Ok(!self.batches.is_empty())
    }

    /// Begins the next batch, or passes it over if it has no records to show.
    fn open_batch(&mut self, scan: &mut Scan) -> Result<(), ScanError> {
        let error = |error: BatchError| damaged(&self.partition, self.position, &error);
        let batch = RecordBatch::parse(&self.batches).map_err(error)?;
        let (base, end, size) = (batch.base_offset(), batch.next_offset(), batch.size_bytes());
        let (attributes, timestamp_type) = (batch.attributes(), batch.attributes().timestamp_type());
        let aborted = attributes.is_transactional() && self.is_aborted(batch.producer_id(), base);
        let passed_over = attributes.is_control() || aborted || batch.record_count() == 0;
        let opened = match passed_over {
            true => None,
            false => Some(Records::of(&self.batches, LIMITS).map_err(error)?),
        };
        scan.spend(opened.as_ref().map_or(size, |records| records.payload_bytes().max(size)));
        self.first_batch.get_or_insert(base);
        self.batches.advance(size);
        self.batch_end = end.max(self.position);
        match opened {
            Some(records) => self.records = Some((records, timestamp_type)),
            None => self.position = self.batch_end,
        }
        Ok(())
    }

    fn is_aborted(&self, producer_id: i64, base_offset: i64) -> bool {
        self.aborted.iter().any(|aborted| {
            aborted.producer_id == producer_id
                && (aborted.first_offset..aborted.last_offset).contains(&base_offset)
        })
    }
}

fn damaged(partition: &Partition, offset: i64, error: &dyn std::error::Error) -> ScanError {
    ScanError::Unreadable { partition: partition.index(), offset, reason: error.to_string() }
}
