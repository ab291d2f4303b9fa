//! What there is to compact in a log, and whether a pass over it is due.

use std::sync::Arc;

use super::super::config::LogConfig;
use super::super::error::ReadError;
use super::super::partition_log::PartitionLog;
use super::super::read::Shared;
use super::super::scan::{BatchScanner, Depth, Step};
use super::super::segment::{NO_TIMESTAMP, PartitionDir};
use super::super::segments::Segments;
use super::super::watermarks::Bounds;

/// A log as compaction sees it at one moment.
#[derive(Clone, Debug)]
pub struct Compactable {
    pub(super) dir: PartitionDir,
    pub(super) shared: Arc<Shared>,
    pub(super) config: LogConfig,
    pub(super) segments: Arc<Segments>,
    pub(super) bounds: Bounds,
    pub(super) first_dirty: i64,
    pub(super) now_ms: i64,
}

/// How much of a log is not compacted yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dirtiness {
    /// Bytes of segments that the last pass has left.
    pub clean_bytes: u64,
    /// Bytes of segments that have come since and may be compacted.
    pub dirty_bytes: u64,
    /// Whether a record in them is older than `max.compaction.lag.ms`.
    pub overdue: bool,
    /// `min.cleanable.dirty.ratio`, in millionths.
    min_millionths: u32,
}

impl Dirtiness {
    /// The dirty part of what may be compacted, in millionths.
    pub fn ratio_millionths(&self) -> u32 {
        let all = u128::from(self.clean_bytes) + u128::from(self.dirty_bytes);
        u32::try_from(u128::from(self.dirty_bytes) * 1_000_000 / all.max(1)).unwrap_or(1_000_000)
    }

    /// Whether a pass is worth it by the log's settings.
    pub fn is_due(&self) -> bool {
        self.dirty_bytes > 0 && (self.overdue || self.ratio_millionths() > self.min_millionths)
    }
}

impl PartitionLog {
    /// The log as compaction sees it now; `None` if its settings do not ask for compaction, or it takes no
    /// writes.
    pub fn compactable(&self, now_ms: i64) -> Option<Compactable> {
        (self.config.cleanup.compact && self.check_writable().is_ok()).then(|| Compactable {
            dir: self.dir.clone(),
            shared: Arc::clone(&self.shared),
            config: self.config.clone(),
            segments: self.shared.segments.load_full(),
            bounds: self.bounds,
            first_dirty: self.first_dirty,
            now_ms,
        })
    }
}

impl Compactable {
    /// How much there is to do. Reads from the disk if the settings ask for the age of records.
    ///
    /// # Errors
    /// A segment that cannot be read.
    pub fn dirtiness(&self) -> Result<Dirtiness, ReadError> {
        let mut dirtiness =
            Dirtiness { min_millionths: self.config.min_cleanable_dirty_millionths, ..Dirtiness::default() };
        for index in 0..self.cleanable()? {
            let bytes = self.segments.as_slice()[index].size_bytes();
            if self.is_clean(index) {
                dirtiness.clean_bytes += bytes;
            } else {
                dirtiness.dirty_bytes += bytes;
                dirtiness.overdue = dirtiness.overdue || self.is_overdue(index)?;
            }
        }
        Ok(dirtiness)
    }

    /// How many segments, from the first on, may be compacted.
    pub(super) fn cleanable(&self) -> Result<usize, ReadError> {
        let stable = self.bounds.watermarks.last_stable();
        let list = self.segments.as_slice();
        for (index, segment) in list.iter().enumerate() {
            // The active segment has no end, and the checkpoint may still speak of that of the high watermark.
            let behind = self.segments.end_offset(index).is_some_and(|end| end <= stable)
                && segment.base_offset() < self.bounds.high_watermark.segment;
            if !behind || (!self.is_clean(index) && self.is_young(index)?) {
                return Ok(index);
            }
        }
        Ok(list.len())
    }

    /// The first segment that is not clean.
    pub(super) fn first_dirty_segment(&self) -> usize {
        (0..self.segments.as_slice().len()).take_while(|&index| self.is_clean(index)).count()
    }

    fn is_clean(&self, index: usize) -> bool {
        self.segments.end_offset(index).is_some_and(|end| end <= self.first_dirty)
    }

    fn is_young(&self, index: usize) -> Result<bool, ReadError> {
        let lag_ms = self.config.min_compaction_lag_ms;
        if lag_ms <= 0 {
            return Ok(false);
        }
        let newest = self.segments.as_slice()[index].largest_timestamp(self.segments.end_offset(index))?;
        Ok(newest != NO_TIMESTAMP && newest > self.now_ms.saturating_sub(lag_ms))
    }

    /// By the time of a segment's first batch, as Kafka estimates it.
    fn is_overdue(&self, index: usize) -> Result<bool, ReadError> {
        let lag_ms = self.config.max_compaction_lag_ms;
        if lag_ms == i64::MAX {
            return Ok(false);
        }
        let segment = &self.segments.as_slice()[index];
        let data = segment.load(self.segments.end_offset(index))?;
        let end = data.sealed_end().unwrap_or(0);
        let mut scanner = BatchScanner::new(&*data.file, Depth::Headers, 0, end, segment.base_offset());
        let first = match scanner.step()? {
            Step::Batch { batch, .. } => batch.newest_timestamp(),
            Step::End | Step::Bad { .. } => None,
        };
        Ok(first.is_some_and(|first| first >= 0 && self.now_ms.saturating_sub(first) > lag_ms))
    }
}
