//! Reading, without a lock: [`LogReader`] takes the published bounds and a snapshot of the segments
//! and answers with slices of the segments' maps.
//!
//! The order of loads matters. The writer publishes a new segment before bounds that reach into it,
//! and a new log start before it takes segments away. A reader loads the bounds first and the
//! segments second, so every offset that the bounds allow lies in a segment of the snapshot, unless
//! it was deleted in between, which shows as an offset before the first segment.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::sync::{ArcSwap, ArcSwapOption};
use bytes::Bytes;

use crate::record::TimestampedOffset;

use super::aborted_index::AbortedTransaction;
use super::error::{Corruption, ReadError};
use super::known_damage;
use super::leader_epoch::LeaderEpochs;
use super::read_ahead::ReadAhead;
use super::segment::PartitionDir;
use super::segments::Segments;
use super::view::Cold;
use super::watermarks::{Bounds, LogPosition, Published, Watermarks};

/// How far a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Up to the high watermark: what is on disk. Kafka's `read_uncommitted`.
    Uncommitted,
    /// Up to the last stable offset. Kafka's `read_committed`.
    Committed,
    /// Up to the log end, what is not durable yet included: for the broker itself.
    LogEnd,
}

/// What one read gave: whole batches of one segment, the first of which holds the offset asked for.
#[derive(Clone, Debug)]
pub struct ReadResult {
    /// The batches, a slice of the segment's map; empty if there is nothing to see at the offset yet.
    /// The map lives as long as the slice.
    pub records: Bytes,
    /// The offset after the last batch of `records`; the offset asked for if they are empty.
    pub next_offset: i64,
    /// The watermarks that bounded the read.
    pub watermarks: Watermarks,
    /// For [`Isolation::Committed`], the aborted transactions that records of the batches may belong to, by
    /// first offset: a producer's records count for nothing from the first offset up to its next control
    /// batch.
    pub aborted: Vec<AbortedTransaction>,
    /// What is to be brought in now, so that a reader who goes on does not wait for it.
    pub ahead: Option<ReadAhead>,
}

/// What the writer shares with the readers.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PartitionDir,
    pub(crate) published: Published,
    pub(crate) segments: ArcSwap<Segments>,
    pub(crate) epochs: ArcSwap<LeaderEpochs>,
    /// Damage found below the durable end, the first of it. Set once, by recovery or by the reader
    /// that came across it; the writer refuses appends from then on.
    pub(crate) corruption: ArcSwapOption<Corruption>,
    /// Records that an operator has given up, as of the start.
    pub(crate) lost_offsets: u64,
    /// Whether a transaction has ever been aborted in what is left of the log.
    pub(crate) has_aborted: AtomicBool,
    /// How many times compaction has put a segment in the place of others.
    pub(crate) compactions: AtomicU64,
    /// The partition was closed or deleted.
    pub(crate) closed: AtomicBool,
}

impl Shared {
    /// Remembers the first damage, for the next process too, and says so loudly.
    pub(crate) fn report(&self, corruption: Corruption) -> Arc<Corruption> {
        let corruption = Arc::new(corruption);
        let before = self.corruption.compare_and_swap(&None::<Arc<Corruption>>, Some(corruption.clone()));
        if before.is_none() {
            tracing::error!(%corruption, "durable data is damaged: the partition is read-only");
            known_damage::remember(&self.dir, &corruption);
        }
        corruption
    }
}

/// A handle for reading one partition. Cheap to clone, shared by any number of threads, never blocked
/// by the writer.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> LogReader {
        LogReader { shared }
    }

    /// The watermarks of this moment.
    pub fn watermarks(&self) -> Watermarks {
        self.shared.published.load().watermarks
    }

    /// Reads whole batches from the one that contains `offset` on, up to `max_bytes` and never past
    /// what `isolation` allows. With `at_least_one` the first batch is returned even if it alone is
    /// larger than `max_bytes` (KIP-74). A read ends with its segment; the next goes on in the next.
    ///
    /// Waits for the disk if it has to: to be called where that is no harm. What is returned has been
    /// brought into memory and checked against its checksums.
    ///
    /// # Errors
    /// [`ReadError::OutOfRange`] below the log start or past the log end; an offset between what
    /// `isolation` allows and the log end is no error, there is just nothing to see yet.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        isolation: Isolation,
        at_least_one: bool,
    ) -> Result<ReadResult, ReadError> {
        self.read_with(offset, max_bytes, isolation, at_least_one, Cold::Wait)
    }

    /// The same for a thread that must not wait for the disk.
    ///
    /// # Errors
    /// Those of [`read`](LogReader::read), and [`ReadError::Cold`] if it would have to wait.
    pub fn read_resident(
        &self,
        offset: i64,
        max_bytes: usize,
        isolation: Isolation,
        at_least_one: bool,
    ) -> Result<ReadResult, ReadError> {
        self.read_with(offset, max_bytes, isolation, at_least_one, Cold::Refuse)
    }

    fn read_with(
        &self,
        offset: i64,
        max_bytes: usize,
        isolation: Isolation,
        at_least_one: bool,
        cold: Cold,
    ) -> Result<ReadResult, ReadError> {
        self.look(|bounds, segments, epochs| {
            let watermarks = bounds.watermarks;
            if offset < watermarks.log_start() || offset > watermarks.log_end() {
                return Err(ReadError::OutOfRange { offset, watermarks });
            }
            if offset >= end_offset(bounds, isolation) {
                return Ok(ReadResult {
                    records: Bytes::new(),
                    next_offset: offset,
                    watermarks,
                    aborted: Vec::new(),
                    ahead: None,
                });
            }
            let Some(index) = segments.floor(offset) else { return Err(self.before_first_segment(offset)) };
            let (_, end) = limit(bounds, segments, epochs, isolation, cold)?;
            let segment = &segments.as_slice()[index];
            if cold == Cold::Refuse && !segment.is_open() {
                return Err(ReadError::Cold);
            }
            let end = segment.end_position(segments.end_offset(index), end)?;
            let found = segment.read(offset, max_bytes, at_least_one, end, cold, epochs)?;
            let (records, next_offset, ahead) = match found {
                Some(found) => (segment.slice(found.range), found.next_offset, found.ahead),
                None => (Bytes::new(), offset, None),
            };
            let aborted = match isolation {
                Isolation::Committed => self.aborted(segments, index, offset..next_offset, cold)?,
                Isolation::Uncommitted | Isolation::LogEnd => Vec::new(),
            };
            Ok(ReadResult {
                records,
                next_offset,
                watermarks,
                aborted,
                ahead: ahead.map(|range| segment.read_ahead(range)),
            })
        })
    }

    /// The first record, by offset, whose timestamp is at least `timestamp`, among those that
    /// `isolation` allows; `None` if there is none.
    ///
    /// # Errors
    /// Damage on the way to it.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        isolation: Isolation,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        self.look(|bounds, segments, epochs| {
            let (end_offset, end) = limit(bounds, segments, epochs, isolation, Cold::Wait)?;
            let log_start = bounds.watermarks.log_start();
            for (index, segment) in segments.as_slice().iter().enumerate() {
                let segment_end_offset = segments.end_offset(index);
                if segment_end_offset.is_some_and(|end| end <= log_start) {
                    continue;
                }
                if segment.base_offset() >= end_offset {
                    break;
                }
                if segment.largest_timestamp(segment_end_offset)? < timestamp {
                    continue;
                }
                let end = segment.end_position(segment_end_offset, end)?;
                let found = segment.find_timestamp(timestamp, log_start, end, epochs)?;
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        })
    }

    /// The record with the largest timestamp among those that `isolation` allows, the first of them
    /// if several have it; `None` if there are no records.
    ///
    /// # Errors
    /// Damage on the way to it.
    pub fn max_timestamp(&self, isolation: Isolation) -> Result<Option<TimestampedOffset>, ReadError> {
        let largest = self.look(|bounds, segments, epochs| {
            let (end_offset, end) = limit(bounds, segments, epochs, isolation, Cold::Wait)?;
            let log_start = bounds.watermarks.log_start();
            let mut largest = None;
            for (index, segment) in segments.as_slice().iter().enumerate() {
                let segment_end_offset = segments.end_offset(index);
                if segment_end_offset.is_some_and(|end| end <= log_start) {
                    continue;
                }
                if segment.base_offset() >= end_offset {
                    break;
                }
                let end = segment.end_position(segment_end_offset, end)?;
                largest = largest.max(segment.largest_timestamp_before(log_start, end, epochs)?);
            }
            Ok(largest)
        })?;
        match largest {
            Some(timestamp) => self.offset_for_timestamp(timestamp, isolation),
            None => Ok(None),
        }
    }

    /// The aborted transactions that records of `offsets` may belong to, which lie below the last stable offset
    /// in the segment at `index`. Their ends are there or in later segments.
    pub(super) fn aborted(
        &self,
        segments: &Segments,
        index: usize,
        offsets: Range<i64>,
        cold: Cold,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let mut found = Vec::new();
        // Relaxed: set before the bounds that the caller has loaded let such a transaction be seen.
        if offsets.is_empty() || !self.shared.has_aborted.load(Ordering::Relaxed) {
            return Ok(found);
        }
        for segment in &segments.as_slice()[index..] {
            if segment.search_aborted(&offsets, cold, &mut found)? {
                break;
            }
        }
        found.sort_unstable_by_key(|aborted| aborted.first_offset);
        Ok(found)
    }

    /// Where `epoch` ended: the largest epoch at or below it that this log knows and the offset at
    /// which the next one began, or the log end for the newest. `None` if the epoch is newer than all.
    /// What OffsetForLeaderEpoch asks (KIP-101, KIP-279).
    pub fn epoch_end_offset(&self, epoch: i32) -> Option<(i32, i64)> {
        let log_end = self.watermarks().log_end();
        self.shared.epochs.load().end_offset(epoch, log_end)
    }

    /// The newest leader epoch that has written to the log.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.shared.epochs.load().latest()
    }

    /// The damage that made the partition read-only, if there is any.
    pub fn corruption(&self) -> Option<Arc<Corruption>> {
        self.shared.corruption.load_full()
    }

    /// Looks into the log as it is at one moment. A segment that is deleted before the look has opened
    /// its file is not there any more, nor is an offset in it: then the next moment is looked at.
    pub(super) fn look<T>(
        &self,
        at: impl Fn(&Bounds, &Segments, &LeaderEpochs) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        loop {
            let bounds = self.bounds()?;
            let segments = self.shared.segments.load();
            // After the bounds: an epoch is known before the first bounds that let a batch of it be seen.
            let epochs = self.shared.epochs.load();
            let error = match at(&bounds, &segments, &epochs) {
                Ok(found) => return Ok(found),
                Err(error) => error,
            };
            let missed = match &error {
                ReadError::Storage(error) => error.kind() == io::ErrorKind::NotFound,
                ReadError::OutOfRange { .. } => true,
                _ => false,
            };
            if !missed || Arc::ptr_eq(&segments, &self.shared.segments.load()) {
                return Err(self.reported(error));
            }
        }
    }

    /// Bytes of batches in all segments, what is not durable yet included.
    pub fn size_bytes(&self) -> u64 {
        self.shared.segments.load().as_slice().iter().map(|segment| segment.size_bytes()).sum()
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.shared.segments.load().as_slice().len()
    }

    /// How many times since the start compaction has put a segment in the place of others: as long as that does not
    /// change, there is still a record where there was one, unless it was deleted from the front.
    pub fn compactions(&self) -> u64 {
        self.shared.compactions.load(Ordering::Acquire)
    }

    /// Offsets of which there is no record any more because an operator has given them up, see
    /// [`skip_holes`](super::skip_holes).
    pub fn lost_offsets(&self) -> u64 {
        self.shared.lost_offsets
    }

    fn bounds(&self) -> Result<Bounds, ReadError> {
        // Relaxed: closing is not ordered with what a reader that still runs sees, which stays valid.
        if self.shared.closed.load(Ordering::Relaxed) {
            return Err(ReadError::Closed);
        }
        Ok(self.shared.published.load())
    }

    /// The offset was in bounds when they were loaded, and its segment is gone: either the log start
    /// has passed it since, or the segment was lost.
    pub(super) fn before_first_segment(&self, offset: i64) -> ReadError {
        match self.shared.corruption.load_full() {
            Some(corruption) => ReadError::Corrupt(corruption),
            None => ReadError::OutOfRange { offset, watermarks: self.watermarks() },
        }
    }

    /// Marks the partition as damaged if that is what stopped a read.
    fn reported(&self, error: ReadError) -> ReadError {
        match error {
            ReadError::Corrupt(corruption) => {
                ReadError::Corrupt(self.shared.report(Arc::unwrap_or_clone(corruption)))
            }
            other => other,
        }
    }
}

/// The offset that a read stops before.
fn end_offset(bounds: &Bounds, isolation: Isolation) -> i64 {
    match isolation {
        Isolation::Uncommitted => bounds.watermarks.high_watermark(),
        Isolation::Committed => bounds.watermarks.last_stable(),
        Isolation::LogEnd => bounds.watermarks.log_end(),
    }
}

/// The same, and where in the files that is.
pub(super) fn limit(
    bounds: &Bounds,
    segments: &Segments,
    epochs: &LeaderEpochs,
    isolation: Isolation,
    cold: Cold,
) -> Result<(i64, LogPosition), ReadError> {
    let end_offset = end_offset(bounds, isolation);
    let position = match isolation {
        Isolation::Uncommitted => bounds.high_watermark,
        Isolation::LogEnd => bounds.log_end,
        // No transaction is open.
        Isolation::Committed if end_offset == bounds.watermarks.high_watermark() => bounds.high_watermark,
        Isolation::Committed => match segments.floor(end_offset) {
            Some(index) => {
                let segment = &segments.as_slice()[index];
                if cold == Cold::Refuse && !segment.is_open() {
                    return Err(ReadError::Cold);
                }
                let end = segment.end_position(segments.end_offset(index), bounds.high_watermark)?;
                let position = segment.position_of(end_offset, end, cold, epochs)?;
                LogPosition { segment: segment.base_offset(), position }
            }
            // Deleted since the bounds were loaded, and everything before it.
            None => LogPosition { segment: end_offset, position: 0 },
        },
    };
    Ok((end_offset, position))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
