//! Times and offsets inside one batch: what ListOffsets and lag in seconds ask. A compressed batch is
//! decompressed once, within limits; nothing is allocated for a record.

use super::batch::{RecordBatch, TimestampType};
use super::compression::DecompressLimits;
use super::error::BatchError;
use super::record::RecordRef;

/// A record's place and time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampedOffset {
    /// Offset in the partition.
    pub offset: i64,
    /// In ms since the epoch.
    pub timestamp: i64,
}

impl RecordBatch<'_> {
    /// The first record, by offset, whose timestamp is at least `timestamp`.
    ///
    /// # Errors
    /// Those of decompression and of malformed records.
    pub fn find_timestamp(
        &self,
        timestamp: i64,
        limits: DecompressLimits,
    ) -> Result<Option<TimestampedOffset>, BatchError> {
        self.find_record(limits, |record| record.timestamp >= timestamp)
    }

    /// The first record at or after `offset`, which compaction may have taken out.
    ///
    /// # Errors
    /// Those of decompression and of malformed records.
    pub fn record_at(
        &self,
        offset: i64,
        limits: DecompressLimits,
    ) -> Result<Option<TimestampedOffset>, BatchError> {
        self.find_record(limits, |record| record.offset >= offset)
    }

    /// The record with the largest timestamp, the first of them where several have it; `None` if the
    /// batch has no records.
    ///
    /// # Errors
    /// Those of decompression and of malformed records.
    pub fn max_timestamp_record(
        &self,
        limits: DecompressLimits,
    ) -> Result<Option<TimestampedOffset>, BatchError> {
        if let Some(all) = self.same_time_for_all() {
            return Ok(Some(all));
        }
        let payload = self.decompressed_payload(limits)?;
        let mut max: Option<TimestampedOffset> = None;
        for record in self.record_refs(&payload) {
            let record = record?;
            if max.is_none_or(|max| record.timestamp > max.timestamp) {
                max = Some(place(&record));
            }
        }
        Ok(max)
    }

    fn find_record(
        &self,
        limits: DecompressLimits,
        wanted: impl Fn(&RecordRef<'_>) -> bool,
    ) -> Result<Option<TimestampedOffset>, BatchError> {
        let payload = self.decompressed_payload(limits)?;
        for record in self.record_refs(&payload) {
            let record = record?;
            if wanted(&record) {
                return Ok(Some(place(&record)));
            }
        }
        Ok(None)
    }

    /// With the broker's time and no record missing, the header answers for the first record.
    fn same_time_for_all(&self) -> Option<TimestampedOffset> {
        let broker_time = self.attributes().timestamp_type() == TimestampType::LogAppendTime;
        let complete = i64::from(self.record_count()) == i64::from(self.last_offset_delta()) + 1;
        (broker_time && complete)
            .then(|| TimestampedOffset { offset: self.base_offset(), timestamp: self.max_timestamp() })
    }
}

fn place(record: &RecordRef<'_>) -> TimestampedOffset {
    TimestampedOffset { offset: record.offset, timestamp: record.timestamp }
}
