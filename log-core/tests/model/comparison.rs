//! What the log answers to reads, look-ups and counts, against what the model holds.

use std::collections::{BTreeMap, HashMap, HashSet};

use fastrand::Rng;
use log_core::log::{CountBudget, Isolation, LogReader, ReadError, Search, Watermarks};
use log_core::record::{TimestampedOffset, batches};

use crate::history::History;
use crate::model::{Batch, Record};

impl History {
    pub fn read(&mut self) {
        let isolation = self.random_isolation();
        let offset = self.rng.i64(-1..self.model.log_end + 3);
        let max_bytes = if self.rng.bool() { self.rng.usize(0..400) } else { self.rng.usize(0..20_000) };
        let force = self.rng.bool();
        let reader = self.log.reader();
        let read = match reader.read(offset, max_bytes, isolation, force) {
            Ok(read) => read,
            Err(ReadError::OutOfRange { .. }) => {
                assert!(offset < self.model.log_start || offset > self.model.log_end, "offset {offset}");
                return;
            }
            Err(error) => panic!("read at {offset}: {error}"),
        };
        assert!((self.model.log_start..=self.model.log_end).contains(&offset));
        let bound = self.model.bound(isolation);
        if read.records.is_empty() {
            assert_eq!(read.next_offset, offset);
            assert!(offset >= bound || !force, "nothing at {offset} although there is something");
            return;
        }
        let mut at = None;
        for batch in batches(&read.records) {
            let batch = batch.expect("whole batches");
            let found = Batch::found(&batch);
            let expected = &self.model.batches[&found.base];
            assert!(at.is_none_or(|at| at == batch.base_offset()), "batches follow each other");
            if at.is_none() {
                assert!((expected.base..expected.next).contains(&offset), "starts at the right batch");
            }
            assert_eq!(found.leader_epoch, expected.leader_epoch);
            assert_eq!(found.records, expected.records);
            at = Some(expected.next);
        }
        assert_eq!(at, Some(read.next_offset));
        assert!(read.next_offset <= bound);
        let single = self.model.batches.range(..=offset).next_back().expect("there").1.next;
        assert!(read.records.len() <= max_bytes || (force && read.next_offset == single));
    }

    pub fn find_times(&mut self) {
        let isolation = self.random_isolation();
        let visible = self.model.log_start..self.model.bound(isolation);
        let reader = self.log.reader();
        let timestamp = self.clock_ms - self.rng.i64(-10..20_000);
        let found = reader.offset_for_timestamp(timestamp, isolation).expect("sound");
        let expected = self.model.records(visible.clone()).find(|record| record.timestamp >= timestamp);
        assert_eq!(
            found.map(|found| (found.offset, found.timestamp)),
            expected.map(|record| (record.offset, record.timestamp)),
            "first record at or after {timestamp}"
        );

        let found = reader.max_timestamp(isolation).expect("sound");
        let newest = self.model.records(visible.clone()).map(|record| record.timestamp).max();
        let expected = self.model.records(visible.clone()).find(|record| Some(record.timestamp) == newest);
        assert_eq!(
            found.map(|found| (found.offset, found.timestamp)),
            expected.map(|record| (record.offset, record.timestamp)),
            "the largest timestamp"
        );

        let offset = self.rng.i64(0..self.model.log_end + 2);
        let found = first_visible(&reader, offset, isolation, &mut self.rng);
        let expected = self.model.records(visible.clone()).find(|record| record.offset >= offset);
        assert_eq!(
            found.map(|found| (found.offset, found.timestamp)),
            expected.map(|record| (record.offset, record.timestamp)),
            "the record at {offset}"
        );

        let offsets = offset..self.rng.i64(0..self.model.log_end + 2);
        let expected = self.model.records(visible).filter(|record| offsets.contains(&record.offset)).count();
        let count = reader.count(offsets.clone(), isolation, &CountBudget::unlimited()).expect("sound");
        assert_eq!((count.records, count.exact), (expected as u64, true), "records in {offsets:?}");
    }

    /// Makes the model what a pass has left, which has gone over all records below `first_dirty`, and perhaps over
    /// others below `end`.
    pub fn take_over(&mut self, first_dirty: i64, end: i64) {
        let found = all_batches(&self.log.reader(), self.model.log_start);
        let Some(first) = found.first() else { return };
        let before = self.model.batches.split_off(&first.base);
        let records: BTreeMap<i64, &Record> =
            before.values().flat_map(|batch| &batch.records).map(|record| (record.offset, record)).collect();
        // A map that is full may know some records of the batch that had no more room in it, and none behind that.
        let known_end = before.get(&first_dirty).map_or(first_dirty, |batch| batch.next).max(end);
        let (latest, latest_gone_over) =
            (last_of_keys(&records, known_end), last_of_keys(&records, first_dirty));
        let mut left_keys: HashSet<&[u8]> = HashSet::new();
        let mut left: BTreeMap<i64, &Record> = BTreeMap::new();
        let mut at = first.base;
        for batch in &found {
            assert_eq!(batch.base, at, "no hole in the offsets");
            at = batch.next;
            for record in &batch.records {
                assert_eq!(Some(&record), records.get(&record.offset), "nothing changes but for what goes");
                left.insert(record.offset, record);
            }
        }
        assert_eq!(at, self.model.log_end);
        for (offset, record) in records.range(self.model.log_start..) {
            let stays = left.contains_key(offset);
            let is_in = |latest: &HashMap<&[u8], i64>| {
                record.key.as_deref().is_some_and(|key| latest.get(key) == Some(offset))
            };
            if stays {
                left_keys.extend(record.key.as_deref());
                assert!(is_in(&latest_gone_over) || *offset >= first_dirty, "{record:?} has stayed");
            } else {
                assert!(*offset < end, "{record:?} has gone");
                let is_older_left = record.key.as_deref().is_some_and(|key| left_keys.contains(key));
                assert!(!is_older_left, "{record:?} has gone before what it stands for");
                let horizon_ms = before.range(..=*offset).next_back().and_then(|(_, batch)| batch.horizon_ms);
                let due = record.value.is_none() && horizon_ms.is_some_and(|due| due <= self.clock_ms);
                assert!(!is_in(&latest) || due, "the last of a key has gone: {record:?}");
            }
        }
        for batch in found {
            let known = before.get(&batch.base).and_then(|before| before.horizon_ms);
            let from_now = self.clock_ms + self.config.delete_retention_ms;
            assert!(batch.horizon_ms.is_none_or(|horizon| horizon == known.unwrap_or(from_now)));
            self.model.batches.insert(batch.base, batch);
        }
    }

    pub fn check_watermarks(&self) {
        let model = &self.model;
        assert_eq!(
            self.log.watermarks(),
            Watermarks::new(model.log_start, model.high_watermark, model.high_watermark, model.log_end)
        );
        assert_eq!(self.log.reader().watermarks(), self.log.watermarks());
    }

    pub fn read_everything(&mut self) {
        self.log.flush().expect("a healthy disk");
        self.model.high_watermark = self.model.log_end;
        let found = all_batches(&self.log.reader(), self.model.log_start);
        let read: Vec<&Record> = found
            .iter()
            .flat_map(|batch| &batch.records)
            .filter(|record| record.offset >= self.model.log_start)
            .collect();
        let expected: Vec<&Record> = self.model.records(self.model.log_start..self.model.log_end).collect();
        assert_eq!(read, expected);
        let epochs = self.log.reader();
        if let Some(batch) =
            self.model.batches.range(self.model.log_start..).next_back().map(|(_, batch)| batch)
        {
            assert_eq!(
                epochs.epoch_end_offset(batch.leader_epoch),
                Some((batch.leader_epoch, self.model.log_end))
            );
        }
    }
}

/// The first visible record, searched for a piece at a time.
fn first_visible(
    reader: &LogReader,
    offset: i64,
    isolation: Isolation,
    rng: &mut Rng,
) -> Option<TimestampedOffset> {
    let mut from = offset;
    loop {
        let budget = CountBudget::bytes(rng.u64(1..1 << 14));
        match reader.first_visible(from, isolation, &budget).expect("sound") {
            Search::Found(found) => return Some(found),
            Search::Nothing => return None,
            Search::Unfinished(next) => {
                assert!(next > from, "every search goes on by a batch");
                from = next;
            }
        }
    }
}

/// The last offset of each key before `end`.
fn last_of_keys<'a>(records: &BTreeMap<i64, &'a Record>, end: i64) -> HashMap<&'a [u8], i64> {
    let keyed = |(offset, record): (&i64, &&'a Record)| Some((record.key.as_deref()?, *offset));
    records.range(..end).filter_map(keyed).collect()
}

/// The batches from the one that holds `from` on.
fn all_batches(reader: &LogReader, from: i64) -> Vec<Batch> {
    let mut all = Vec::new();
    let mut offset = from;
    loop {
        let read = reader.read(offset, 700, Isolation::Uncommitted, true).expect("in range");
        if read.records.is_empty() {
            return all;
        }
        all.extend(batches(&read.records).map(|batch| Batch::found(&batch.expect("whole"))));
        offset = read.next_offset;
    }
}
