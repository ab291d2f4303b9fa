//! What becomes of each batch of a log that is compacted.
//!
//! * A record whose key has a later one goes, and so does one without a key.
//! * A record without a value (a tombstone) stays until the delete horizon of its batch, which the first
//!   pass that comes by it sets: whoever reads the log from its beginning within that time learns of the
//!   deletion.
//! * Records of aborted transactions go. A transaction's end stays while records of it do, and until its
//!   delete horizon after that.
//! * A batch that the producers' state remembers stays, without records if need be.
//! * What cannot be decoded stays as it is: a broker stores what it is sent, and damage would not have
//!   passed the checksum.
//! * What lies past the end of the map is not looked at.

use std::collections::HashSet;

use bytes::Bytes;

use crate::record::{BatchError, DecompressLimits, Marker, RecordBatch, RecordRef, Remnant, empty_batch};

use super::offset_map::OffsetMap;
use super::transactions::Transactions;

/// What a pass knows when it goes through the segments, from the oldest on.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) map: OffsetMap,
    /// The keys of every record from `map_start` up to here are in the map.
    pub(super) map_start: i64,
    pub(super) map_end: i64,
    pub(super) now_ms: i64,
    pub(super) delete_retention_ms: i64,
    /// Base offsets of the batches that producers are known by.
    pub(super) remembered: HashSet<i64>,
    /// Ends of the transactions past `map_start`.
    pub(super) transactions: Transactions,
    /// Producers of which records of a transaction have stayed that has not come to its end yet.
    pub(super) unfinished: HashSet<i64>,
    /// Batches that could not be decoded.
    pub(super) undecodable: u64,
    /// Whether each record of the batch at hand stays.
    pub(super) stays: Vec<bool>,
}

/// What becomes of one batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is.
    Stays,
    /// This takes its place, over the same offsets.
    Becomes(Bytes),
    /// Nothing is left but the gap in the offsets.
    Goes,
}

impl Rules {
    /// # Errors
    /// If what is left cannot be made a batch of.
    pub(super) fn fate(&mut self, batch: &RecordBatch<'_>) -> Result<Fate, BatchError> {
        let attributes = batch.attributes();
        if batch.base_offset() >= self.map_end {
            return Ok(Fate::Stays);
        }
        if batch.record_count() == 0 {
            let known = batch.producer_id() >= 0 && self.remembered.contains(&batch.base_offset());
            return Ok(if known { Fate::Stays } else { Fate::Goes });
        }
        if attributes.is_control() {
            return self.fate_of_marker(batch);
        }
        if attributes.is_transactional()
            && batch.base_offset() >= self.map_start
            && self.transactions.outcome(batch) == Some(Marker::Abort)
        {
            return Ok(self.without_records(batch));
        }
        let fate = self.fate_of_data(batch)?;
        let has_records = match &fate {
            Fate::Stays => true,
            Fate::Becomes(bytes) => RecordBatch::parse(bytes)?.record_count() > 0,
            Fate::Goes => false,
        };
        if attributes.is_transactional() && has_records {
            self.unfinished.insert(batch.producer_id());
        }
        Ok(fate)
    }

    fn fate_of_data(&mut self, batch: &RecordBatch<'_>) -> Result<Fate, BatchError> {
        let Ok(payload) = batch.decompressed_payload(DecompressLimits::default()) else {
            self.undecodable += 1;
            return Ok(Fate::Stays);
        };
        let horizon = horizon_of(batch);
        // What could not be decoded lies below, may hold an older value of any key, and clients may know how to read it.
        let tombstones_stay = self.undecodable > 0 || horizon.is_none_or(|horizon| horizon > self.now_ms);
        self.stays.clear();
        let (mut kept, mut tombstones) = (0, 0);
        for record in batch.record_refs(&payload) {
            let Ok(record) = record else {
                self.undecodable += 1;
                return Ok(Fate::Stays);
            };
            let stays = (record.value.is_some() || tombstones_stay) && self.is_latest(&record);
            kept += usize::from(stays);
            tombstones += usize::from(stays && record.value.is_none());
            self.stays.push(stays);
        }
        let new_horizon = (tombstones > 0 && horizon.is_none())
            .then(|| self.now_ms.saturating_add(self.delete_retention_ms));
        if kept == 0 {
            return Ok(self.without_records(batch));
        }
        if kept == self.stays.len() && new_horizon.is_none() {
            return Ok(Fate::Stays);
        }
        let mut remnant = Remnant::of(batch, new_horizon);
        for (record, _) in batch.record_refs(&payload).zip(&self.stays).filter(|(_, stays)| **stays) {
            remnant.keep(&record?)?;
        }
        remnant.build().map(Fate::Becomes)
    }

    fn is_latest(&self, record: &RecordRef<'_>) -> bool {
        record.key.is_some_and(|key| self.map.get(key).is_none_or(|latest| record.offset >= latest))
    }

    fn fate_of_marker(&mut self, batch: &RecordBatch<'_>) -> Result<Fate, BatchError> {
        if self.unfinished.remove(&batch.producer_id()) {
            return Ok(Fate::Stays);
        }
        match horizon_of(batch) {
            Some(horizon) if horizon > self.now_ms => Ok(Fate::Stays),
            Some(_) => Ok(self.without_records(batch)),
            None => {
                let Ok(payload) = batch.decompressed_payload(DecompressLimits::default()) else {
                    return Ok(Fate::Stays);
                };
                let horizon = self.now_ms.saturating_add(self.delete_retention_ms);
                let mut remnant = Remnant::of(batch, Some(horizon));
                for record in batch.record_refs(&payload) {
                    remnant.keep(&record?)?;
                }
                remnant.build().map(Fate::Becomes)
            }
        }
    }

    fn without_records(&self, batch: &RecordBatch<'_>) -> Fate {
        if batch.producer_id() >= 0 && self.remembered.contains(&batch.base_offset()) {
            Fate::Becomes(Bytes::copy_from_slice(&empty_batch(batch)))
        } else {
            Fate::Goes
        }
    }
}

fn horizon_of(batch: &RecordBatch<'_>) -> Option<i64> {
    batch.attributes().has_delete_horizon().then(|| batch.base_timestamp())
}
