//! Letting go of old records: by age, by size, and by order of a client.
//!
//! What goes first is the log start offset, durably (R15): whoever opens the log after a crash at any
//! point finds either the records or a log start past them. Then the segments leave the readers'
//! snapshot, get names that no start takes for segments, and are unlinked when the last reader that
//! came before has gone.

use std::io;
use std::sync::Arc;

use super::append::is_exhaustion;
use super::error::{AppendError, DeleteRecordsError, ReadError};
use super::leader_epoch::LeaderEpochs;
use super::partition_log::PartitionLog;
use super::segment::{CHECKPOINT_FILE, LEADER_EPOCHS_FILE, NO_TIMESTAMP, Segment};
use super::segments::Segments;
use super::watermarks::{Bounds, Watermarks};

/// What a retention pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retained {
    /// Segments that were deleted.
    pub segments_deleted: usize,
    /// Bytes of batches in them.
    pub bytes_deleted: u64,
    /// The log start offset after it.
    pub log_start: i64,
}

impl PartitionLog {
    /// Deletes the segments that the log's settings have no more use for: those whose newest record is
    /// older than `retention.ms`, the oldest while the log is larger than `retention.bytes`, and those
    /// that lie before the log start. Only what is durable is deleted, and an active segment is rolled
    /// first if all that it holds has expired. Where a full disk has no room for that, the segments
    /// before it make some, and it stays for the next pass.
    ///
    /// A wall clock that went back deletes nothing; records without a timestamp do not age.
    ///
    /// # Errors
    /// Of the disk, or if the log takes no writes.
    pub fn enforce_retention(&mut self, now_ms: i64) -> Result<Retained, AppendError> {
        self.check_writable()?;
        self.reap();
        self.producers.expire(now_ms);
        let segments = self.shared.segments.load_full();
        let mut expired = 0;
        let mut left_bytes = self.size_bytes();
        if self.fills_retention(left_bytes.saturating_sub(segments.as_slice()[0].size_bytes())) {
            for (index, segment) in segments.as_slice().iter().enumerate() {
                segment.measure(segments.end_offset(index));
            }
            left_bytes = self.size_bytes();
        }
        for (index, segment) in segments.as_slice().iter().enumerate() {
            if !self.may_go(&segments, index, segment, left_bytes, now_ms)? {
                break;
            }
            left_bytes -= segment.size_bytes();
            expired += 1;
        }
        let all = expired == segments.as_slice().len();
        drop(segments);
        if all {
            match self.roll(0, 0) {
                Err(AppendError::Storage(error)) if expired > 1 && is_exhaustion(&error) => expired -= 1,
                rolled => rolled?,
            }
        }
        self.delete_first(expired)
    }

    /// Moves the log start up to `before`, or to the high watermark if that is -1, and deletes the
    /// segments that lie before it. Answers with the log start, which never goes back.
    ///
    /// # Errors
    /// [`DeleteRecordsError::OutOfRange`] past the high watermark; of the disk.
    pub fn delete_records(&mut self, before: i64) -> Result<i64, DeleteRecordsError> {
        self.check_writable()?;
        let high_watermark = self.bounds.watermarks.high_watermark();
        let before = if before == -1 { high_watermark } else { before };
        if before < 0 || before > high_watermark {
            return Err(DeleteRecordsError::OutOfRange { offset: before, high_watermark });
        }
        if before > self.bounds.watermarks.log_start() {
            self.move_log_start(before)?;
            let segments = self.shared.segments.load_full();
            let gone = (0..segments.as_slice().len())
                .take_while(|&index| segments.end_offset(index).is_some_and(|end| end <= before))
                .count();
            drop(segments);
            self.delete_first(gone)?;
        }
        Ok(self.bounds.watermarks.log_start())
    }

    /// Whether the segment at `index` may be deleted, all before it being deleted already.
    fn may_go(
        &self,
        segments: &Segments,
        index: usize,
        segment: &Segment,
        left_bytes: u64,
        now_ms: i64,
    ) -> Result<bool, AppendError> {
        let watermarks = self.bounds.watermarks;
        let end_offset = segments.end_offset(index);
        if end_offset.unwrap_or(watermarks.log_end()) > watermarks.high_watermark() {
            return Ok(false);
        }
        let active = end_offset.is_none();
        if active && self.bounds.log_end.position == 0 {
            return Ok(false);
        }
        if end_offset.is_some_and(|end| end <= watermarks.log_start()) {
            return Ok(true);
        }
        if !self.config.cleanup.delete {
            return Ok(false);
        }
        if !active && self.fills_retention(left_bytes.saturating_sub(segment.size_bytes())) {
            return Ok(true);
        }
        if self.config.retention_ms < 0 {
            return Ok(false);
        }
        let newest = segment.largest_timestamp(end_offset).map_err(unreadable)?;
        if newest == NO_TIMESTAMP {
            // Compaction has left no record in it that could be too young; or damage hides what there is.
            return Ok(segment.loaded().damage.is_none());
        }
        Ok(newest >= 0 && now_ms.saturating_sub(newest) > self.config.retention_ms)
    }

    /// Whether so many bytes are all that `retention.bytes` asks to keep.
    fn fills_retention(&self, bytes: u64) -> bool {
        u64::try_from(self.config.retention_bytes).is_ok_and(|limit| bytes >= limit)
    }

    /// Deletes the first `count` segments, none of them active.
    pub(super) fn delete_first(&mut self, count: usize) -> Result<Retained, AppendError> {
        let segments = self.shared.segments.load_full();
        let mut retained = Retained { log_start: self.bounds.watermarks.log_start(), ..Retained::default() };
        if count == 0 {
            return Ok(retained);
        }
        let left = segments.without_first(count);
        let new_start = left.as_slice()[0].base_offset();
        if new_start > retained.log_start {
            self.move_log_start(new_start)?;
            retained.log_start = new_start;
        } else {
            // The checkpoint on disk may still name one of the segments.
            self.write_checkpoint_of(self.bounds)?;
        }
        self.shared.segments.store(Arc::new(left));
        for segment in &segments.as_slice()[..count] {
            retained.segments_deleted += 1;
            retained.bytes_deleted += segment.size_bytes();
            let gone = |other: &Arc<Segment>| other.base_offset() == segment.base_offset();
            self.unsynced.retain(|other| !gone(other));
            self.unindexed.retain(|other| !gone(other));
            self.aborted.remove(&segment.base_offset());
            // A name that stays behind costs its space until the next start, which removes what lies
            // before the log start.
            if let Err(error) = segment.rename_deleted() {
                tracing::warn!(partition = &*self.dir.path, %error, "cannot rename a deleted segment");
            }
            self.retired.push(Arc::clone(segment));
        }
        tracing::info!(
            partition = &*self.dir.path,
            segments = retained.segments_deleted,
            bytes = retained.bytes_deleted,
            log_start = retained.log_start,
            "deleted old segments"
        );
        drop(segments);
        self.reap();
        Ok(retained)
    }

    fn write_checkpoint_of(&mut self, bounds: Bounds) -> Result<(), AppendError> {
        self.write_bounds(bounds).map_err(|error| self.failed(error, &self.dir.file(CHECKPOINT_FILE)))
    }

    /// Makes a higher log start durable, then publishes it.
    fn move_log_start(&mut self, log_start: i64) -> Result<(), AppendError> {
        let watermarks = self.bounds.watermarks;
        let bounds = Bounds {
            watermarks: Watermarks::new(
                log_start,
                watermarks.last_stable().max(log_start),
                watermarks.high_watermark(),
                watermarks.log_end(),
            ),
            ..self.bounds
        };
        self.write_checkpoint_of(bounds)?;
        self.publish(bounds);
        let mut epochs = LeaderEpochs::clone(&self.shared.epochs.load());
        if epochs.truncate_start(log_start) {
            // Recovery cuts the list as well, so it need not be on disk; on a full one there may be
            // no room for it before the deletion that this makes way for.
            let path = self.dir.file(LEADER_EPOCHS_FILE);
            if let Err(error) = epochs.save(&*self.dir.storage, &path)
                && !is_exhaustion(&error)
            {
                return Err(self.failed(error, &path));
            }
            self.shared.epochs.store(Arc::new(epochs));
        }
        Ok(())
    }

    /// Unlinks deleted segments that nobody reads any more.
    pub(super) fn reap(&mut self) {
        self.retired.retain(|segment| {
            // The count can only fall: the segment is in no snapshot that a reader could still take.
            if Arc::strong_count(segment) > 1 || segment.is_read() {
                return true;
            }
            segment
                .unlink_deleted()
                .inspect_err(|error| tracing::warn!(%error, "cannot unlink a segment"))
                .is_err()
        });
    }
}

/// A segment that should have been deleted by its age cannot be read.
pub(super) fn unreadable(error: ReadError) -> AppendError {
    match error {
        ReadError::Corrupt(corruption) => AppendError::Corrupt(corruption),
        ReadError::Storage(error) => AppendError::Storage(io::Error::new(error.kind(), error)),
        ReadError::Closed | ReadError::Cold | ReadError::OutOfRange { .. } => AppendError::Closed,
    }
}
