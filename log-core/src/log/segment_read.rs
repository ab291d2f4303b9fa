//! Finding things in a segment: an offset, a time, the batches that fit into a read.
//!
//! Everything here works on a segment whose data is loaded, and on `[0, end)` of its file, where
//! `end` is a batch boundary that the caller took from the published bounds. The indexes are hints:
//! an entry says where to start, and the batch there has to confirm it.

use crate::sync::atomic::Ordering;
use std::ops::Range;

use bytes::Bytes;

use crate::record::{DecompressLimits, RecordBatch, TimestampedOffset};
use crate::storage::SegmentSlice;

use super::error::{Corruption, ReadError};
use super::segment::{Segment, SegmentData};

/// Whole batches that a read found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Byte positions in the segment's file.
    pub(crate) range: Range<u64>,
    /// The offset after the last of the batches.
    pub(crate) next_offset: i64,
}

/// A batch boundary: where a batch starts, or will, and the offset it starts at.
#[derive(Clone, Copy, Debug)]
struct Boundary {
    position: u64,
    offset: i64,
}

impl Segment {
    /// A slice of the file that keeps its map alive.
    pub(crate) fn slice(&self, range: Range<u64>) -> Bytes {
        Bytes::from_owner(SegmentSlice::new(self.loaded().file.clone(), range))
    }

    /// The batches from the one that holds `offset` on which lie before `end` and fit `max_bytes`.
    /// `None` if the first does not fit and `at_least_one` does not force it.
    pub(crate) fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        end: u64,
        at_least_one: bool,
    ) -> Result<Option<Found>, ReadError> {
        let data = self.loaded();
        let Some(start) = self.locate(data, offset, end)? else {
            return Err(self.hole(data, end, offset).into());
        };
        let first = self.batch_at(data, start, end)?;
        let first_end = start.position + first.size_bytes() as u64;
        let limit = start.position.saturating_add(max_bytes as u64).min(end);
        let stop = if first_end <= limit {
            self.last_boundary(data, start, limit, end)
        } else if at_least_one {
            Boundary { position: first_end, offset: first.next_offset() }
        } else {
            return Ok(None);
        };
        let stop = self.verified(data, start, stop)?;
        Ok(Some(Found { range: start.position..stop.position, next_offset: stop.offset }))
    }

    /// The first record at or after `log_start` with at least this timestamp.
    pub(crate) fn find_timestamp(
        &self,
        timestamp: i64,
        log_start: i64,
        end: u64,
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
        self.first_record(data, from.max(log_start), timestamp, end)
    }

    /// The first record at or after `offset`.
    pub(crate) fn record_at(&self, offset: i64, end: u64) -> Result<Option<TimestampedOffset>, ReadError> {
        self.first_record(self.loaded(), offset, i64::MIN, end)
    }

    /// The largest timestamp of the batches at or after `log_start` and before `end`.
    pub(crate) fn largest_timestamp_before(
        &self,
        log_start: i64,
        end: u64,
    ) -> Result<Option<i64>, ReadError> {
        let data = self.loaded();
        if log_start <= self.base_offset() && self.sealed_end().is_some_and(|sealed| sealed == end) {
            return Ok((end > 0).then(|| data.largest_timestamp()));
        }
        // What the time index says of everything up to some entry before `end`, and the batches from
        // there on one by one.
        let mut largest = None;
        let mut from = log_start.max(self.base_offset());
        if log_start <= self.base_offset()
            && let Some(near) = data.offsets.lookup_position(end)
            && let Some(entry) = data.times.lookup_before_offset(near.relative_offset)
        {
            largest = Some(entry.timestamp);
            from = self.base_offset() + i64::from(entry.relative_offset) + 1;
        }
        let Some(mut at) = self.locate(data, from, end)? else { return Ok(largest) };
        while at.position < end {
            let batch = self.batch_at(data, at, end)?;
            largest = largest.max(if at.offset < log_start {
                largest_timestamp_from(&batch, log_start)
            } else {
                Some(batch.max_timestamp())
            });
            at = after(at, &batch);
        }
        Ok(largest)
    }

    /// The first record at or after `offset` with at least this timestamp.
    fn first_record(
        &self,
        data: &SegmentData,
        offset: i64,
        timestamp: i64,
        end: u64,
    ) -> Result<Option<TimestampedOffset>, ReadError> {
        let Some(mut at) = self.locate(data, offset, end)? else { return Ok(None) };
        while at.position < end {
            let batch = self.batch_at(data, at, end)?;
            let next = after(at, &batch);
            if batch.max_timestamp() >= timestamp {
                self.verified(data, at, next)?;
                if let Some(found) = first_record_in(&batch, offset, timestamp) {
                    return Ok(Some(found));
                }
            }
            at = next;
        }
        Ok(None)
    }

    /// Where the batch starts that holds `offset`, or the first one after it; `None` if the batches
    /// before `end` end before it.
    fn locate(&self, data: &SegmentData, offset: i64, end: u64) -> Result<Option<Boundary>, Corruption> {
        let relative = u32::try_from(offset - self.base_offset()).unwrap_or(0);
        if let Some(entry) = data.offsets.lookup(relative) {
            let from = Boundary {
                position: u64::from(entry.position),
                offset: self.base_offset() + i64::from(entry.relative_offset),
            };
            if from.position < end && self.batch_at(data, from, end).is_ok() {
                return self.walk(data, from, offset, end);
            }
        }
        self.walk(data, self.start(), offset, end)
    }

    /// Goes from batch to batch, from a boundary on, to the one that ends past `offset`.
    fn walk(
        &self,
        data: &SegmentData,
        from: Boundary,
        offset: i64,
        end: u64,
    ) -> Result<Option<Boundary>, Corruption> {
        let mut at = from;
        while at.position < end {
            let batch = self.batch_at(data, at, end)?;
            if batch.last_offset() >= offset {
                return Ok(Some(at));
            }
            at = after(at, &batch);
        }
        Ok(None)
    }

    /// The last boundary at or before `limit`, itself at or before `end`. What stops the walk early
    /// is for the read that starts there to report.
    fn last_boundary(&self, data: &SegmentData, start: Boundary, limit: u64, end: u64) -> Boundary {
        let mut at = start;
        // The index saves walking the headers of everything that is read: from its last entry on
        // it is one interval at most.
        if let Some(entry) = data.offsets.lookup_position(limit) {
            let near = Boundary {
                position: u64::from(entry.position),
                offset: self.base_offset() + i64::from(entry.relative_offset),
            };
            if near.position > start.position && near.position < end && self.batch_at(data, near, end).is_ok()
            {
                at = near;
            }
        }
        while at.position < limit {
            let Ok(batch) = self.batch_at(data, at, end) else { break };
            let next = after(at, &batch);
            if next.position > limit {
                break;
            }
            at = next;
        }
        at
    }

    /// Checks the batches of `[start, stop)` against their checksums unless that has been done since
    /// the file was opened, and returns where the sound ones end.
    ///
    /// What this process has written was checked before it was, so the path of a consumer that keeps
    /// up pays nothing; what lay on disk is checked on the first way through.
    fn verified(&self, data: &SegmentData, start: Boundary, stop: Boundary) -> Result<Boundary, Corruption> {
        // Relaxed: the mark only saves work, and the bytes it speaks of have not changed since the
        // file was opened.
        let verified_to = data.verified_to.load(Ordering::Relaxed);
        if start.position >= data.trusted_from || stop.position <= verified_to {
            return Ok(stop);
        }
        let mut at = start;
        while at.position < stop.position {
            let batch = match self.batch_at(data, at, stop.position) {
                Ok(batch) => batch,
                Err(corruption) if at.position == start.position => return Err(corruption),
                Err(_) => return Ok(at),
            };
            if let Err(error) = batch.verify_crc() {
                if at.position > start.position {
                    return Ok(at);
                }
                return Err(self.damage(at.position, at.offset, error.to_string()));
            }
            at = after(at, &batch);
        }
        if start.position <= verified_to {
            data.verified_to.fetch_max(stop.position, Ordering::Relaxed);
        }
        Ok(stop)
    }

    /// The batch at a boundary, if it is the one that belongs there.
    fn batch_at<'a>(
        &self,
        data: &'a SegmentData,
        at: Boundary,
        end: u64,
    ) -> Result<RecordBatch<'a>, Corruption> {
        let batch = RecordBatch::parse(data.file.slice(at.position..end))
            .map_err(|error| self.damage(at.position, at.offset, error.to_string()))?;
        if batch.base_offset() != at.offset {
            let reason = format!("offset {} where {} was due", batch.base_offset(), at.offset);
            return Err(self.damage(at.position, at.offset, reason));
        }
        Ok(batch)
    }

    fn start(&self) -> Boundary {
        Boundary { position: 0, offset: self.base_offset() }
    }

    /// The bounds say that `offset` is in this segment, and its batches end before it.
    fn hole(&self, data: &SegmentData, end: u64, offset: i64) -> Corruption {
        match &data.damage {
            Some(damage) => damage.clone(),
            None => self.damage(end, offset, "the segment ends before the next one begins".to_owned()),
        }
    }
}

fn after(at: Boundary, batch: &RecordBatch<'_>) -> Boundary {
    Boundary { position: at.position + batch.size_bytes() as u64, offset: batch.next_offset() }
}

/// The first record of the batch at or after `offset` with at least this timestamp.
///
/// A broker stores what producers send without looking into it, so records that cannot be decoded
/// are no damage. The header answers for them: a consumer that seeks there learns about it.
fn first_record_in(batch: &RecordBatch<'_>, offset: i64, timestamp: i64) -> Option<TimestampedOffset> {
    let by_header =
        TimestampedOffset { offset: batch.base_offset().max(offset), timestamp: batch.max_timestamp() };
    let Ok(payload) = batch.decompressed_payload(DecompressLimits::default()) else {
        return Some(by_header);
    };
    for record in batch.record_refs(&payload) {
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
