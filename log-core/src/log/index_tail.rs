//! When a batch gets index entries, and the walk over a segment's batches that makes the ones that
//! are missing.
//!
//! Both indexes get an entry for the same batch, at most one every `index_interval_bytes`:
//!
//! * offset index: where the batch starts, as offset and as position;
//! * time index: the largest timestamp of all records up to the batch's last, and that offset.
//!
//! So what lies between two entries, which is what a look-up walks, is one interval and one batch at
//! most, for offsets and for timestamps that arrive in whatever order.

use std::io;

use crate::record::RecordBatch;
use crate::storage::SegmentFile;

use super::offset_index::{OffsetEntry, OffsetIndex};
use super::scan::{BatchScanner, Depth, Step};
use super::segment::NO_TIMESTAMP;
use super::time_index::{TimeEntry, TimeIndex};

/// Decides which batches are indexed. Belongs to whoever appends: the writer, or a scan.
#[derive(Clone, Debug)]
pub(crate) struct IndexRule {
    base_offset: i64,
    interval_bytes: u64,
    last_entry_position: u64,
    largest_timestamp: i64,
}

/// What the indexes take from a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchPlace {
    pub(crate) position: u64,
    pub(crate) base_offset: i64,
    pub(crate) last_offset: i64,
    pub(crate) max_timestamp: i64,
}

impl IndexRule {
    /// The rule at the beginning of a segment. Its first batch needs no entry.
    pub(crate) fn new(base_offset: i64, interval_bytes: u32) -> IndexRule {
        IndexRule {
            base_offset,
            interval_bytes: u64::from(interval_bytes),
            last_entry_position: 0,
            largest_timestamp: NO_TIMESTAMP,
        }
    }

    pub(crate) fn set_interval_bytes(&mut self, interval_bytes: u32) {
        self.interval_bytes = u64::from(interval_bytes);
    }

    /// The largest timestamp of all batches seen.
    pub(crate) fn largest_timestamp(&self) -> i64 {
        self.largest_timestamp
    }

    /// Takes note of a batch and adds its entries if they are due.
    pub(crate) fn add(&mut self, offsets: &OffsetIndex, times: &TimeIndex, batch: BatchPlace) {
        self.largest_timestamp = self.largest_timestamp.max(batch.max_timestamp);
        if batch.position < self.last_entry_position + self.interval_bytes.max(1) {
            return;
        }
        // A segment is rolled before an offset or a position in it outgrows 32 bits.
        let relative = |offset: i64| u32::try_from(offset - self.base_offset).expect("rolled in time");
        offsets.push(OffsetEntry {
            relative_offset: relative(batch.base_offset),
            position: u32::try_from(batch.position).expect("rolled in time"),
        });
        times.push(TimeEntry {
            timestamp: self.largest_timestamp,
            relative_offset: relative(batch.last_offset),
        });
        self.last_entry_position = batch.position;
    }
}

/// Why a walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the end of the range, or at the offset it was to stop at.
    End { position: u64, next_offset: i64 },
    /// At bytes that are not the next batch.
    Bad { position: u64, next_offset: i64, reason: String },
}

/// The indexes of a segment and the place up to which they are complete.
#[derive(Debug)]
pub(crate) struct IndexTail {
    pub(crate) offsets: OffsetIndex,
    pub(crate) times: TimeIndex,
    pub(crate) rule: IndexRule,
    position: u64,
    next_offset: i64,
}

impl IndexTail {
    /// Indexes as they were loaded; those of a new segment are empty. The walk begins at the last
    /// entry's batch.
    pub(crate) fn new(
        offsets: OffsetIndex,
        times: TimeIndex,
        base_offset: i64,
        interval_bytes: u32,
    ) -> IndexTail {
        let mut rule = IndexRule::new(base_offset, interval_bytes);
        let (mut position, mut next_offset) = (0, base_offset);
        if let (Some(offset), Some(time)) = (offsets.last(), times.last()) {
            position = u64::from(offset.position);
            next_offset = base_offset + i64::from(offset.relative_offset);
            rule.last_entry_position = position;
            rule.largest_timestamp = time.timestamp;
        }
        IndexTail { offsets, times, rule, position, next_offset }
    }

    /// Where the walk is.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The offset that the batch there has.
    pub(crate) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Goes on at a batch boundary that is known from elsewhere.
    pub(crate) fn jump(&mut self, position: u64, next_offset: i64) {
        (self.position, self.next_offset) = (position, next_offset);
    }

    /// Walks on to `end`, or to the batch that starts at `stop_at`, and shows every batch to `visit`
    /// with its position.
    ///
    /// # Errors
    /// Of the device.
    pub(crate) fn walk(
        &mut self,
        file: &dyn SegmentFile,
        depth: Depth,
        end: u64,
        stop_at: Option<i64>,
        visit: &mut dyn FnMut(u64, &RecordBatch<'_>),
    ) -> io::Result<Stop> {
        let mut scanner = BatchScanner::new(file, depth, self.position, end, self.next_offset);
        loop {
            if stop_at.is_some_and(|stop_at| scanner.next_offset() >= stop_at) {
                break;
            }
            match scanner.step()? {
                Step::Batch { position, batch } => {
                    self.rule.add(
                        &self.offsets,
                        &self.times,
                        BatchPlace {
                            position,
                            base_offset: batch.base_offset(),
                            last_offset: batch.last_offset(),
                            max_timestamp: batch.newest_timestamp().unwrap_or(NO_TIMESTAMP),
                        },
                    );
                    visit(position, &batch);
                }
                Step::End => break,
                Step::Bad { position, next_offset, reason } => {
                    (self.position, self.next_offset) = (position, next_offset);
                    return Ok(Stop::Bad { position, next_offset, reason });
                }
            }
        }
        (self.position, self.next_offset) = (scanner.position(), scanner.next_offset());
        Ok(Stop::End { position: self.position, next_offset: self.next_offset })
    }
}
