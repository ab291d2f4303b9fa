//! One partition's bytes out of a fetch, read record by record.
//!
//! Batches are opened one at a time, when they are reached: what a seek throws away is never
//! decompressed. Control batches are stepped over, and under read_committed the batches of aborted
//! transactions too.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;
use log_core::record::{BatchError, DecompressLimits, Record, RecordBatch, Records, batches};
use log_core::wire::fetch_response::AbortedTransaction;

/// How to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadOptions {
    pub(super) check_crcs: bool,
    pub(super) limits: DecompressLimits,
}

/// Record batches that have been fetched but not, or not all, been read.
#[derive(Debug)]
pub(super) struct Fetched {
    rest: Bytes,
    records: Option<Records>,
    /// The next offset to give out; what lies before it is skipped.
    next_offset: i64,
    /// The offset after the last complete batch.
    end_offset: i64,
    /// Aborted transactions that begin later, by first offset; none under read_uncommitted.
    aborted_later: VecDeque<AbortedTransaction>,
    /// Producers inside an aborted transaction at this point.
    aborted_now: BTreeSet<i64>,
}

impl Fetched {
    /// Bytes that were answered to a fetch from `offset`; `None` if there is no complete batch.
    pub(super) fn new(
        bytes: Bytes,
        offset: i64,
        aborted: Option<Vec<AbortedTransaction>>,
    ) -> Option<Fetched> {
        let mut end = None;
        let mut complete = 0;
        for batch in batches(&bytes).map_while(Result::ok) {
            end = Some(batch.next_offset());
            complete += batch.size_bytes();
        }
        // A batch that does not parse, cut or corrupt, stays behind the complete ones only if it is at
        // fault: a cut one is fetched again.
        let rest = match RecordBatch::parse(&bytes[complete..]) {
            Err(BatchError::Truncated { .. }) | Ok(_) => bytes.slice(..complete),
            Err(_) => bytes.clone(),
        };
        if rest.is_empty() {
            return None;
        }
        let mut aborted = aborted.unwrap_or_default();
        aborted.sort_by_key(|aborted| aborted.first_offset);
        Some(Fetched {
            rest,
            records: None,
            next_offset: offset,
            end_offset: end.unwrap_or(offset).max(offset),
            aborted_later: aborted.into(),
            aborted_now: BTreeSet::new(),
        })
    }

    /// The offset after the last complete batch: where the next fetch begins.
    pub(super) fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// The offset that has been read up to.
    pub(super) fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Bytes that have not been opened yet.
    pub(super) fn remaining_bytes(&self) -> usize {
        self.rest.len()
    }

    /// The next record, or `None` at the end.
    pub(super) fn next(&mut self, options: &ReadOptions) -> Option<Result<Record, BatchError>> {
        loop {
            if let Some(records) = &mut self.records {
                match records.next() {
                    Some(Ok(record)) if record.offset < self.next_offset => continue,
                    Some(Ok(record)) => {
                        self.next_offset = record.offset + 1;
                        return Some(Ok(record));
                    }
                    Some(Err(error)) => return Some(Err(error)),
                    None => self.records = None,
                }
            }
            if self.rest.is_empty() {
                // Past what compaction took from the end of the last batch.
                self.next_offset = self.next_offset.max(self.end_offset);
                return None;
            }
            match self.open(options) {
                Ok(records) => self.records = records,
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Steps to the next batch and opens it, unless its records are not to be seen.
    fn open(&mut self, options: &ReadOptions) -> Result<Option<Records>, BatchError> {
        let bytes = self.rest.clone();
        let batch = RecordBatch::parse(&bytes)?;
        let behind = batch.last_offset() < self.next_offset;
        if options.check_crcs && !behind {
            batch.verify_crc()?;
        }
        let is_hidden = self.is_hidden(&batch, options.limits);
        let records = match behind || is_hidden {
            true => None,
            false => Some(Records::of(&bytes.slice(..batch.size_bytes()), options.limits)?),
        };
        self.rest = bytes.slice(batch.size_bytes()..);
        if records.is_none() {
            self.next_offset = self.next_offset.max(batch.next_offset());
        }
        Ok(records)
    }

    fn is_hidden(&mut self, batch: &RecordBatch<'_>, limits: DecompressLimits) -> bool {
        while let Some(aborted) = self.aborted_later.front().filter(|a| a.first_offset <= batch.last_offset())
        {
            self.aborted_now.insert(aborted.producer_id);
            self.aborted_later.pop_front();
        }
        let attributes = batch.attributes();
        if attributes.is_control() {
            if is_abort_marker(batch, limits) {
                self.aborted_now.remove(&batch.producer_id());
            }
            return true;
        }
        attributes.is_transactional() && self.aborted_now.contains(&batch.producer_id())
    }
}

/// A control record's key is `version i16 │ type i16`; type 0 ends a transaction by aborting it.
fn is_abort_marker(batch: &RecordBatch<'_>, limits: DecompressLimits) -> bool {
    let record = batch.records(limits).ok().and_then(|mut records| records.next()?.ok());
    record.and_then(|record| record.key).is_some_and(|key| key.get(2..4) == Some(&[0, 0]))
}

#[cfg(test)]
mod tests {
    use log_core::record::{BatchBuilder, Compression};

    use super::*;

    const OPTIONS: ReadOptions = ReadOptions {
        check_crcs: true,
        limits: DecompressLimits { output_bytes_max: 1 << 20, ratio_max: 1024 },
    };

    fn batch(builder: BatchBuilder, base_offset: i64, values: &[&str]) -> Vec<u8> {
        let mut builder = builder;
        for value in values {
            builder.append(0, None, Some(value.as_bytes()), &[]).unwrap();
        }
        builder.build(base_offset).unwrap().to_vec()
    }

    fn plain(base_offset: i64, values: &[&str]) -> Vec<u8> {
        batch(BatchBuilder::new(Compression::Lz4), base_offset, values)
    }

    fn marker(base_offset: i64, producer: i64, kind: u8) -> Vec<u8> {
        let mut builder =
            BatchBuilder::new(Compression::None).producer(producer, 0, -1).transactional(true).control(true);
        builder.append(0, Some(&[0, 0, 0, kind]), Some(&[0; 6]), &[]).unwrap();
        builder.build(base_offset).unwrap().to_vec()
    }

    fn read(fetched: &mut Fetched) -> Vec<(i64, String)> {
        let mut seen = Vec::new();
        while let Some(record) = fetched.next(&OPTIONS) {
            let record = record.unwrap();
            seen.push((record.offset, String::from_utf8(record.value.unwrap().to_vec()).unwrap()));
        }
        seen
    }

    #[test]
    fn reading_begins_inside_a_batch_and_ends_before_a_cut_one() {
        let mut bytes = [plain(0, &["a", "b", "c"]), plain(3, &["d"])].concat();
        bytes.extend_from_slice(&plain(4, &["cut"])[..40]);
        let mut fetched = Fetched::new(bytes.into(), 1, None).unwrap();
        assert_eq!(fetched.end_offset(), 4);
        assert_eq!(read(&mut fetched), [(1, "b".into()), (2, "c".into()), (3, "d".into())]);
        assert_eq!(fetched.next_offset(), 4);
        assert!(Fetched::new(plain(0, &["x"])[..30].to_vec().into(), 0, None).is_none());
        assert!(Fetched::new(Bytes::new(), 0, None).is_none());
    }

    #[test]
    fn aborted_transactions_and_markers_are_not_seen() {
        let transactional =
            |producer| BatchBuilder::new(Compression::None).producer(producer, 0, 0).transactional(true);
        let bytes = [
            batch(transactional(1), 0, &["aborted"]),
            batch(transactional(2), 1, &["committed"]),
            marker(2, 1, 0),
            batch(transactional(1), 3, &["later"]),
            marker(4, 2, 1),
        ]
        .concat();
        let aborted = vec![AbortedTransaction { producer_id: 1, first_offset: 0 }];
        let mut fetched = Fetched::new(bytes.clone().into(), 0, Some(aborted)).unwrap();
        assert_eq!(read(&mut fetched), [(1, "committed".into()), (3, "later".into())]);
        assert_eq!(fetched.next_offset(), 5, "past the last marker");
        let mut all = Fetched::new(bytes.into(), 0, None).unwrap();
        assert_eq!(read(&mut all).len(), 3);
    }

    #[test]
    fn a_flipped_bit_is_an_error_where_it_is() {
        let good = plain(0, &["fine"]);
        let mut bytes = [good.clone(), plain(1, &["flipped"])].concat();
        *bytes.last_mut().unwrap() ^= 1;
        let mut fetched = Fetched::new(bytes.into(), 0, None).unwrap();
        assert!(fetched.next(&OPTIONS).unwrap().is_ok());
        assert!(matches!(fetched.next(&OPTIONS), Some(Err(BatchError::CrcMismatch { .. }))));
        assert!(fetched.next(&OPTIONS).unwrap().is_err(), "and stays one");
        assert_eq!(fetched.next_offset(), 1);
    }
}
