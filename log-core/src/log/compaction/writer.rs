//! A compacted segment on its way to disk: batches one after another, gaps in the offsets filled, and the
//! indexes that go with it.
//!
//! Offsets within a segment have no holes ([the scan](super::super::scan) relies on it to tell a batch that
//! belongs from one that does not), so what goes leaves a filler of 61 bytes behind, one for however many
//! batches in a row. The next pass takes it for what it is and makes a wider one of it if it can.

use std::io;
use std::sync::Arc;

use crate::record::{RecordBatch, filler};
use crate::storage::RandomFile;

use super::super::index_tail::{BatchPlace, IndexRule};
use super::super::offset_index::OffsetIndex;
use super::super::segment::{NO_TIMESTAMP, OFFSET_INDEX_SUFFIX, PartitionDir, TIME_INDEX_SUFFIX};
use super::super::time_index::TimeIndex;
use super::error::CompactionError;
use super::swap::Swap;

/// Bytes written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// The file of a compacted segment, which goes unless it comes to count.
#[derive(Debug)]
pub(super) struct CleanedFile {
    pub(super) dir: PartitionDir,
    pub(super) swap: Swap,
    /// Whether it may count by now, and is the next start's affair if it is still there.
    pub(super) committed: bool,
}

impl Drop for CleanedFile {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: a start removes what is left.
            let _ = self.dir.storage.remove_file(&self.swap.cleaned_path(&self.dir));
        }
    }
}

/// Offsets without records that are waiting for what comes behind them.
#[derive(Clone, Copy, Debug)]
struct Gap {
    base_offset: i64,
    last_offset: i64,
    leader_epoch: i32,
}

/// The writer of one compacted segment.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    pub(super) cleaned: CleanedFile,
    file: Arc<dyn RandomFile>,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    position: u64,
    gap: Option<Gap>,
    pub(super) offsets: OffsetIndex,
    pub(super) times: TimeIndex,
    rule: IndexRule,
}

impl SegmentWriter {
    pub(super) fn create(dir: &PartitionDir, swap: Swap, interval_bytes: u32) -> io::Result<SegmentWriter> {
        let path = swap.cleaned_path(dir);
        // What an earlier pass could not remove must not show through behind the end of this one.
        if dir.storage.exists(&path)? {
            dir.storage.remove_file(&path)?;
        }
        let file = dir.storage.open_random(&path, true)?;
        Ok(SegmentWriter {
            cleaned: CleanedFile { dir: dir.clone(), swap, committed: false },
            file,
            buffer: Vec::new(),
            position: 0,
            gap: None,
            offsets: OffsetIndex::new(dir.segment_file(swap.base, OFFSET_INDEX_SUFFIX), swap.base),
            times: TimeIndex::new(dir.segment_file(swap.base, TIME_INDEX_SUFFIX), swap.base),
            rule: IndexRule::new(swap.base, interval_bytes),
        })
    }

    /// Bytes of batches so far.
    pub(super) fn size_bytes(&self) -> u64 {
        self.position + self.buffer.len() as u64
    }

    /// Whether offsets without records have been left out just now.
    pub(super) fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    /// Adds a batch, which starts where the last one or the last gap has ended.
    pub(super) fn put(&mut self, batch: &RecordBatch<'_>) -> Result<(), CompactionError> {
        self.fill_gap()?;
        self.write(batch)
    }

    /// Leaves out a batch.
    pub(super) fn skip(&mut self, batch: &RecordBatch<'_>) -> Result<(), CompactionError> {
        let leader_epoch = batch.partition_leader_epoch();
        match &mut self.gap {
            // The group's offsets differ by less than 2³¹, so the filler's do as well.
            Some(gap) if gap.leader_epoch == leader_epoch => gap.last_offset = batch.last_offset(),
            _ => {
                self.fill_gap()?;
                let (base_offset, last_offset) = (batch.base_offset(), batch.last_offset());
                self.gap = Some(Gap { base_offset, last_offset, leader_epoch });
            }
        }
        Ok(())
    }

    /// Makes all of it durable, but for the name.
    pub(super) fn sync(&mut self) -> Result<(), CompactionError> {
        self.fill_gap()?;
        self.write_buffer()?;
        self.file.sync().map_err(CompactionError::Sync)
    }

    fn fill_gap(&mut self) -> Result<(), CompactionError> {
        let Some(gap) = self.gap.take() else { return Ok(()) };
        let delta =
            i32::try_from(gap.last_offset - gap.base_offset).map_err(|_| CompactionError::Outgrown)?;
        let bytes = filler(gap.base_offset, delta, gap.leader_epoch);
        let batch = RecordBatch::parse(&bytes).map_err(|_| CompactionError::Outgrown)?;
        self.write(&batch)
    }

    fn write(&mut self, batch: &RecordBatch<'_>) -> Result<(), CompactionError> {
        let position = self.size_bytes();
        if position + batch.size_bytes() as u64 > u64::from(u32::MAX) {
            return Err(CompactionError::Outgrown);
        }
        let place = BatchPlace {
            position,
            base_offset: batch.base_offset(),
            last_offset: batch.last_offset(),
            max_timestamp: batch.newest_timestamp().unwrap_or(NO_TIMESTAMP),
        };
        self.rule.add(&self.offsets, &self.times, place);
        self.buffer.extend_from_slice(batch.as_bytes());
        if self.buffer.len() >= WRITE_BYTES { self.write_buffer() } else { Ok(()) }
    }

    fn write_buffer(&mut self) -> Result<(), CompactionError> {
        if !self.buffer.is_empty() {
            self.file.write_at(self.position, &self.buffer)?;
            self.position += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }
}
