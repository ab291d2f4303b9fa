//! Finding things in a segment: an offset, a time, the batches that fit into a read.
//!
//! Everything here works on a [`View`]: a segment whose data is loaded, and `[0, end)` of its file. The
//! indexes are hints: an entry says where to start, and the batch there has to confirm it.

use std::ops::Range;

use bytes::Bytes;

use crate::record::{DecompressLimits, RecordBatch, TimestampedOffset};
use crate::storage::SegmentSlice;

use super::error::ReadError;
use super::leader_epoch::LeaderEpochs;
use super::offset_index::OffsetEntry;
use super::read_ahead::ReadAhead;
use super::segment::{NO_TIMESTAMP, Segment};
use super::view::{Boundary, Cold, View};

/// Bytes that are brought in at once on the way to a time. The indexes lead to within one interval.
const SEARCH_WINDOW_BYTES: u64 = 64 << 10;

/// Whole batches that a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Byte positions in the segment's file.
    pub(crate) range: Range<u64>,
    /// The offset after the last of the batches.
    pub(crate) next_offset: i64,
    /// What the disk is to be asked for next, for the sake of a reader that goes on from there.
    pub(crate) ahead: Option<Range<u64>>,
}

impl Segment {
    /// A part of the file that somebody is going to want.
    pub(crate) fn read_ahead(&self, range: Range<u64>) -> ReadAhead {
        ReadAhead::new(self.loaded().file.clone(), range)
    }

    /// A slice of the file that keeps its map alive.
    pub(crate) fn slice(&self, range: Range<u64>) -> Bytes {
        Bytes::from_owner(SegmentSlice::new(self.loaded().file.clone(), range))
    }

    /// The batches from the one that holds `offset` on which lie before `end` and fit `max_bytes`,
    /// checked. `None` if the first does not fit and `at_least_one` does not force it.
    pub(crate) fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
        end: u64,
        cold: Cold,
        epochs: &LeaderEpochs,
    ) -> Result<Option<Found>, ReadError> {
        let max_bytes = max_bytes as u64;
        let view = View::new(self, end, cold, epochs, max_bytes.saturating_add(SEARCH_WINDOW_BYTES));
        let from = self.indexed_before(&view, offset).position;
        view.expect(from..from.saturating_add(max_bytes).saturating_add(self.index_interval_bytes()));
        let Some(start) = self.locate(&view, offset)? else {
            return Err(self.hole(&view, offset));
        };
        let first_end = start.after(&view.batch_at(start)?);
        let limit = start.position.saturating_add(max_bytes).min(end);
        let stop = if first_end.position <= limit {
            match view.need(start.position..limit) {
                Ok(()) => self.last_boundary(&view, start, limit),
                // What the disk cannot bring may lie past the first batch.
                Err(ReadError::Storage(_)) => first_end,
                Err(error) => return Err(error),
            }
        } else if at_least_one {
            first_end
        } else {
            return Ok(None);
        };
        let stop = view.checked(start, stop)?;
        let range = start.position..stop.position;
        let ahead = view.data.readers.note(range.clone(), view.has_waited(), end);
        Ok(Some(Found { range, next_offset: stop.offset, ahead }))
    }

    /// Where the batch starts that holds `offset`, which is one of those before `end`.
    pub(crate) fn position_of(
        &self,
        offset: i64,
        end: u64,
        cold: Cold,
        epochs: &LeaderEpochs,
    ) -> Result<u64, ReadError> {
        let view = View::new(self, end, cold, epochs, SEARCH_WINDOW_BYTES);
        let located = self.locate(&view, offset).and_then(|at| at.ok_or_else(|| self.hole(&view, offset)));
        match located {
            Ok(start) => Ok(start.position),
            // What starts there is damaged, and what ends there is not.
            Err(ReadError::Corrupt(damage)) if damage.offset == offset => Ok(damage.position),
            Err(error) => Err(error),
        }
    }

    /// The first record at or after `log_start` with at least this timestamp.
    pub(crate) fn find_timestamp(
        &self,
        timestamp: i64,
        log_start: i64,
        end: u64,
        epochs: &LeaderEpochs,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let data = self.loaded();
        if data.largest_timestamp() < timestamp {
            return Ok(None);
        }
        // Every record up to the entry's offset is older than `timestamp`.
        let from = match data.times.lookup_below(timestamp) {
            Some(entry) => self.base_offset() + i64::from(entry.relative_offset) + 1,
            None => self.base_offset(),
        };
        self.first_record(from.max(log_start), timestamp, end, epochs)
    }

    /// The largest timestamp of the batches at or after `log_start` and before `end`.
    pub(crate) fn largest_timestamp_before(
        &self,
        log_start: i64,
        end: u64,
        epochs: &LeaderEpochs,
    ) -> Result<Option<i64>, ReadError> {
        let data = self.loaded();
        if log_start <= self.base_offset() && self.sealed_end().is_some_and(|sealed| sealed == end) {
            return Ok(dated(data.largest_timestamp()));
        }
        // What the time index says of everything up to some entry before `end`, and the batches from
        // there on one by one.
        let mut largest = None;
        let mut from = log_start.max(self.base_offset());
        if log_start <= self.base_offset()
            && let Some(near) = data.offsets.lookup_position(end)
            && let Some(entry) = data.times.lookup_before_offset(near.relative_offset)
        {
            largest = dated(entry.timestamp);
            from = self.base_offset() + i64::from(entry.relative_offset) + 1;
        }
        let view = View::new(self, end, Cold::Wait, epochs, SEARCH_WINDOW_BYTES);
        let Some(mut at) = self.locate(&view, from)? else { return Ok(largest) };
        while at.position < end {
            let batch = view.batch_at(at)?;
            let next = at.after(&batch);
            largest = largest.max(if at.offset < log_start {
                view.checked(at, next)?;
                largest_timestamp_from(&batch, log_start)
            } else {
                batch.newest_timestamp()
            });
            at = next;
        }
        Ok(largest)
    }

    /// The first record at or after `offset` with at least this timestamp.
    fn first_record(
        &self,
        offset: i64,
        timestamp: i64,
        end: u64,
        epochs: &LeaderEpochs,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let view = View::new(self, end, Cold::Wait, epochs, SEARCH_WINDOW_BYTES);
        let Some(mut at) = self.locate(&view, offset)? else { return Ok(None) };
        while at.position < end {
            let batch = view.batch_at(at)?;
            let next = at.after(&batch);
            if batch.max_timestamp() >= timestamp {
                view.checked(at, next)?;
                if let Some(found) = first_record_in(&batch, offset, timestamp) {
                    return Ok(Some(found));
                }
            }
            at = next;
        }
        Ok(None)
    }

    /// The last boundary at or before `offset` that the index knows; whether it is one is not certain.
    fn indexed_before(&self, view: &View<'_>, offset: i64) -> Boundary {
        let relative = u32::try_from(offset - self.base_offset()).unwrap_or(0);
        view.data.offsets.lookup(relative).map_or(self.start(), |entry| self.indexed(entry))
    }

    /// Where the batch starts that holds `offset`, or the first one after it; `None` if the batches
    /// before the view's end end before it.
    pub(super) fn locate(&self, view: &View<'_>, offset: i64) -> Result<Option<Boundary>, ReadError> {
        let from = self.indexed_before(view, offset);
        if from.position < view.end {
            match view.batch_at(from) {
                Err(ReadError::Corrupt(_)) => {}
                confirmed => return confirmed.and_then(|_| self.walk(view, from, offset)),
            }
        }
        self.walk(view, self.start(), offset)
    }

    /// Goes from batch to batch, from a boundary on, to the one that ends past `offset`.
    fn walk(&self, view: &View<'_>, from: Boundary, offset: i64) -> Result<Option<Boundary>, ReadError> {
        let mut at = from;
        while at.position < view.end {
            let batch = view.batch_at(at)?;
            if batch.last_offset() >= offset {
                return Ok(Some(at));
            }
            at = at.after(&batch);
        }
        Ok(None)
    }

    /// The last boundary at or before `limit`. What stops the walk early is for the read that starts
    /// there to report.
    fn last_boundary(&self, view: &View<'_>, start: Boundary, limit: u64) -> Boundary {
        let mut at = start;
        // The index saves walking the headers of everything that is read: from its last entry on
        // it is one interval at most.
        if let Some(entry) = view.data.offsets.lookup_position(limit) {
            let near = self.indexed(entry);
            if near.position > start.position && near.position < view.end && view.batch_at(near).is_ok() {
                at = near;
            }
        }
        while at.position < limit {
            let Ok(batch) = view.batch_at(at) else { break };
            let next = at.after(&batch);
            if next.position > limit {
                break;
            }
            at = next;
        }
        at
    }

    fn indexed(&self, entry: OffsetEntry) -> Boundary {
        Boundary {
            position: u64::from(entry.position),
            offset: self.base_offset() + i64::from(entry.relative_offset),
        }
    }

    fn start(&self) -> Boundary {
        Boundary { position: 0, offset: self.base_offset() }
    }

    /// The bounds say that `offset` is in this segment, and its batches end before it.
    fn hole(&self, view: &View<'_>, offset: i64) -> ReadError {
        match &view.data.damage {
            Some(damage) => damage.clone().into(),
            None => view.damage(
                Boundary { position: view.end, offset },
                "the segment ends before the next one begins".to_owned(),
            ),
        }
    }
}

/// A largest timestamp, if there are records that it is of.
fn dated(timestamp: i64) -> Option<i64> {
    (timestamp != NO_TIMESTAMP).then_some(timestamp)
}

/// The first record of the batch at or after `offset` with at least this timestamp.
///
/// A broker stores what producers send without looking into it, so records that cannot be decoded
/// are no damage. The header answers for them: a consumer that seeks there learns about it.
pub(super) fn first_record_in(
    batch: &RecordBatch<'_>,
    offset: i64,
    timestamp: i64,
) -> Option<TimestampedOffset> {
    let payload = batch.decompressed_payload(DecompressLimits::default()).ok();
    first_record_of(batch, payload.as_deref(), offset, timestamp)
}

/// The same of a batch that is unpacked already; `None` if it cannot be.
pub(super) fn first_record_of(
    batch: &RecordBatch<'_>,
    payload: Option<&[u8]>,
    offset: i64,
    timestamp: i64,
) -> Option<TimestampedOffset> {
    let by_header =
        TimestampedOffset { offset: batch.base_offset().max(offset), timestamp: batch.max_timestamp() };
    let Some(payload) = payload else { return Some(by_header) };
    for record in batch.record_refs(payload) {
        match record {
            Ok(record) if record.offset >= offset && record.timestamp >= timestamp => {
                return Some(TimestampedOffset { offset: record.offset, timestamp: record.timestamp });
            }
            Ok(_) => {}
            Err(_) => return Some(by_header),
        }
    }
    None
}

/// The largest timestamp of the batch's records at or after `offset`; the header's if they cannot be
/// decoded.
fn largest_timestamp_from(batch: &RecordBatch<'_>, offset: i64) -> Option<i64> {
    let Ok(payload) = batch.decompressed_payload(DecompressLimits::default()) else {
        return Some(batch.max_timestamp());
    };
    let records = batch.record_refs(&payload).map_while(Result::ok);
    records.filter(|record| record.offset >= offset).map(|record| record.timestamp).max()
}
