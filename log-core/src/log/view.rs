//! A segment as one read looks at it: nothing is touched before it is known to be in memory, and
//! nothing is handed out before its checksum.
//!
//! A byte of the map that is not in memory stops the thread that touches it until the disk has brought
//! it, and is a SIGBUS if the disk cannot (R3). So a [`View`] asks first, and either waits for the disk
//! by a call that can fail, or refuses with [`ReadError::Cold`], as its caller has chosen.

use std::cell::Cell;
use std::ops::Range;

use crate::record::{OVERHEAD, RecordBatch};

use super::error::ReadError;
use super::leader_epoch::LeaderEpochs;
use super::segment::{Segment, SegmentData};

/// What a read does about bytes that are not in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cold {
    /// It waits until the disk has brought them.
    Wait,
    /// It fails with [`ReadError::Cold`].
    Refuse,
}

/// A batch boundary: where a batch starts, or will, and the offset it starts at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Boundary {
    pub(crate) position: u64,
    pub(crate) offset: i64,
}

impl Boundary {
    /// The boundary at the end of the batch that starts at this one.
    pub(crate) fn after(self, batch: &RecordBatch<'_>) -> Boundary {
        Boundary { position: self.position + batch.size_bytes() as u64, offset: batch.next_offset() }
    }
}

/// `[0, end)` of a segment's file, for one read.
pub(crate) struct View<'a> {
    pub(crate) segment: &'a Segment,
    pub(crate) data: &'a SegmentData,
    /// A batch boundary that the caller took from the published bounds.
    pub(crate) end: u64,
    cold: Cold,
    epochs: &'a LeaderEpochs,
    /// Bytes that are brought in from where the read first misses one: what it is going to want.
    window_bytes: u64,
    /// What is known to be in memory, as start and end.
    resident: Cell<(u64, u64)>,
    /// Whether the disk had to be waited for.
    waited: Cell<bool>,
}

impl<'a> View<'a> {
    /// # Panics
    /// If the segment is not open.
    pub(crate) fn new(
        segment: &'a Segment,
        end: u64,
        cold: Cold,
        epochs: &'a LeaderEpochs,
        window_bytes: u64,
    ) -> View<'a> {
        View {
            segment,
            data: segment.loaded(),
            end,
            cold,
            epochs,
            window_bytes,
            resident: Cell::new((0, 0)),
            waited: Cell::new(false),
        }
    }

    /// Whether the disk had to be waited for so far.
    pub(crate) fn has_waited(&self) -> bool {
        self.waited.get()
    }

    /// Asks once for everything that is probably going to be touched, to save asking for its parts.
    pub(crate) fn expect(&self, range: Range<u64>) {
        let range = range.start..range.end.min(self.end);
        if range.start < range.end && self.data.file.is_resident(range.clone()) {
            self.resident.set((range.start, range.end));
        }
    }

    /// Sees to it that a range is in memory.
    ///
    /// # Errors
    /// [`ReadError::Cold`] if it is not and the read does not wait, [`ReadError::Storage`] if the disk
    /// cannot bring it.
    pub(crate) fn need(&self, range: Range<u64>) -> Result<(), ReadError> {
        let (from, to) = self.resident.get();
        if from <= range.start && range.end <= to {
            return Ok(());
        }
        let mut range = range;
        if !self.data.file.is_resident(range.clone()) {
            if self.cold == Cold::Refuse {
                return Err(ReadError::Cold);
            }
            self.waited.set(true);
            let wide =
                range.start..range.end.max(range.start.saturating_add(self.window_bytes)).min(self.end);
            if self.data.file.bring_in(wide.clone()).is_ok() {
                range = wide;
            } else {
                // What cannot be read may lie past what is needed.
                self.data.file.bring_in(range.clone())?;
            }
        }
        let joins = range.start <= to && from <= range.end;
        self.resident.set(if joins {
            (from.min(range.start), to.max(range.end))
        } else {
            (range.start, range.end)
        });
        Ok(())
    }

    /// The header of the batch at a boundary, if it is the one that belongs there. The records are
    /// neither in memory for certain nor checked.
    ///
    /// # Errors
    /// Those of [`need`](View::need), and damage.
    pub(crate) fn batch_at(&self, at: Boundary) -> Result<RecordBatch<'a>, ReadError> {
        self.need(at.position..(at.position + OVERHEAD as u64).min(self.end))?;
        let batch = RecordBatch::parse(self.data.file.slice(at.position..self.end))
            .map_err(|error| self.damage(at, error.to_string()))?;
        if batch.base_offset() != at.offset {
            return Err(
                self.damage(at, format!("offset {} where {} was due", batch.base_offset(), at.offset))
            );
        }
        Ok(batch)
    }

    /// Checks the batches of `[start, stop)` and returns where the sound ones end, past the first: their
    /// checksums, and what those leave out, which is the offset, the length and the leader epoch (R8).
    ///
    /// Every read does so, also of what was checked before: a page may have been dropped since, and
    /// what the disk brings back is not what was checked.
    ///
    /// # Errors
    /// The first batch is damaged, or those of [`need`](View::need).
    pub(crate) fn checked(&self, start: Boundary, stop: Boundary) -> Result<Boundary, ReadError> {
        self.need(start.position..stop.position)?;
        let mut at = start;
        while at.position < stop.position {
            match self.checked_batch(at) {
                Ok(batch) => at = at.after(&batch),
                Err(error) if at.position == start.position => return Err(error),
                // For the read that starts there to report.
                Err(_) => break,
            }
        }
        Ok(at)
    }

    fn checked_batch(&self, at: Boundary) -> Result<RecordBatch<'a>, ReadError> {
        let batch = self.batch_at(at)?;
        batch.verify_crc().map_err(|error| self.damage(at, error.to_string()))?;
        let epoch = batch.partition_leader_epoch();
        match self.epochs.epoch_at(batch.last_offset()) {
            Some(due) if epoch != due => {
                Err(self.damage(at, format!("leader epoch {epoch} where {due} was due")))
            }
            _ => Ok(batch),
        }
    }

    /// Damage at a boundary.
    pub(crate) fn damage(&self, at: Boundary, reason: String) -> ReadError {
        self.segment.damage(at.position, at.offset, reason).into()
    }
}
