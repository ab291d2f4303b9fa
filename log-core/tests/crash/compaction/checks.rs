//! What a compacted log has to hold, after each pass and each start.

use std::collections::BTreeMap;

use log_core::log::{CountBudget, Isolation, LogReader};
use log_core::record::{Compression, batches};

use super::PRODUCERS;
use super::history::History;
use super::list::{Sent, Stamped, produced};
use crate::process::{Stop, append_error};

impl History {
    pub(super) fn check(&mut self) -> Result<(), Stop> {
        let reader = self.process.log().reader();
        let there = read_all(&reader, self.process.log_start, self.process.high_watermark)?;
        for (offset, record) in &there {
            if self.sent.get(offset) != Some(record) {
                return Err(format!("at {offset}: {record:?}, sent was {:?}", self.sent.get(offset)).into());
            }
        }
        let (mut latest, mut latest_there) = (BTreeMap::new(), BTreeMap::new());
        for (&offset, sent) in self.sent.range(self.process.log_start..self.process.high_watermark) {
            latest.extend(sent.key.clone().map(|key| (key, offset)));
            if offset >= self.head && !there.contains_key(&offset) {
                return Err(format!("{offset} is gone from the head, which begins at {}", self.head).into());
            }
        }
        for (&offset, record) in &there {
            latest_there.extend(record.key.clone().map(|key| (key, offset)));
        }
        for (key, offset) in latest {
            let is_tombstone = self.sent[&offset].value.is_none();
            match latest_there.get(&key) {
                Some(found) if *found == offset => {}
                None if is_tombstone => {
                    let since = self.tombstones.get(&offset).copied().unwrap_or(i64::MAX);
                    if since.saturating_add(self.process.config.delete_retention_ms) > self.last_pass_ms {
                        return Err(format!("the tombstone at {offset} is gone too early").into());
                    }
                    self.coverage.tombstones_removed += 1;
                }
                found => {
                    let sent = &self.sent[&offset];
                    return Err(format!("the latest of its key is {offset} {sent:?}, not {found:?}").into());
                }
            }
        }
        self.check_lookups(&reader, &there).map_err(Stop::from)
    }

    fn check_lookups(&mut self, reader: &LogReader, there: &BTreeMap<i64, Sent>) -> Result<(), String> {
        let isolation = Isolation::Uncommitted;
        for _ in 0..4 {
            let time = self.now_ms + self.random.i64(-3000..1000);
            let found = reader.offset_for_timestamp(time, isolation).map_err(|error| error.to_string())?;
            let expected = there.iter().find(|(_, record)| record.timestamp >= time);
            if found.map(|found| (found.offset, found.timestamp))
                != expected.map(|(offset, record)| (*offset, record.timestamp))
            {
                return Err(format!("time {time} is at {found:?}, not {expected:?}"));
            }
            let offset = self.random.i64(self.process.log_start..=self.process.high_watermark);
            let found = reader
                .first_visible(offset, isolation, &CountBudget::unlimited())
                .map_err(|error| error.to_string())?;
            let expected = there.range(offset..).next();
            if found.found().map(|found| found.offset) != expected.map(|(offset, _)| *offset) {
                return Err(format!("from {offset} on comes {found:?}, not {expected:?}"));
            }
            self.check_count(reader, there, offset)?;
        }
        let found = reader.max_timestamp(isolation).map_err(|error| error.to_string())?;
        let largest = there.values().map(|record| record.timestamp).max();
        if found.map(|found| found.timestamp) != largest {
            return Err(format!("the largest timestamp is {largest:?}, not {found:?}"));
        }
        Ok(())
    }

    /// What is counted from `offset` on is what is there, whether or not a first look could see all of it.
    fn check_count(
        &mut self,
        reader: &LogReader,
        there: &BTreeMap<i64, Sent>,
        offset: i64,
    ) -> Result<(), String> {
        let offsets =
            offset..self.random.i64(self.process.log_start..=self.process.high_watermark).max(offset);
        let expected = there.range(offsets.clone()).count() as u64;
        let budget = CountBudget::bytes(self.random.u64(0..1 << 16));
        let count = |budget: &CountBudget| {
            reader.count(offsets.clone(), Isolation::Uncommitted, budget).map_err(|error| error.to_string())
        };
        let (some, all) = (count(&budget)?, count(&CountBudget::unlimited())?);
        if !all.exact || all.records != expected || some.records < expected {
            return Err(format!("in {offsets:?} are {some:?} and {all:?}, not {expected}"));
        }
        if some.exact && some.records != expected {
            return Err(format!("in {offsets:?} are {some:?}, not {expected}"));
        }
        Ok(())
    }

    /// Producers are known by their last five batches, whatever is left of them.
    pub(super) fn check_producers(&mut self) -> Result<(), Stop> {
        for producer in 0..PRODUCERS {
            let known: Vec<Stamped> = self
                .stamped
                .iter()
                .rev()
                .filter(|batch| batch.producer == producer)
                .take(5)
                .take_while(|batch| batch.base >= self.process.log_start)
                .cloned()
                .collect();
            for batch in known {
                let again = produced(Compression::None, None, Some(&batch), &batch.records);
                let now_ms = self.now_ms;
                let appended = self.process.log().append(&again, 0, now_ms);
                let appended = self.process.done(appended, append_error)?;
                if !appended.is_some_and(|appended| appended.duplicate && appended.base_offset == batch.base)
                {
                    return Err(format!("{batch:?} was stored again: {appended:?}").into());
                }
            }
        }
        Ok(())
    }
}

/// Every record from `from` on, read batch by batch: offsets rise, and no batch leaves a hole.
pub(super) fn read_all(reader: &LogReader, from: i64, end: i64) -> Result<BTreeMap<i64, Sent>, String> {
    let mut there = BTreeMap::new();
    let (mut offset, mut next) = (from, None);
    while offset < end {
        let read =
            reader.read(offset, 700, Isolation::Uncommitted, true).map_err(|error| error.to_string())?;
        for batch in batches(&read.records) {
            let batch = batch.map_err(|error| error.to_string())?;
            batch.verify_crc().map_err(|error| error.to_string())?;
            if next.is_some_and(|next| next != batch.base_offset()) {
                return Err(format!("{next:?} was due, and {batch:?} came"));
            }
            next = Some(batch.next_offset());
            for record in batch.records(Default::default()).map_err(|error| error.to_string())? {
                let record = record.map_err(|error| error.to_string())?;
                let owned = |bytes: Option<bytes::Bytes>| bytes.map(|bytes| bytes.to_vec());
                let sent =
                    Sent { timestamp: record.timestamp, key: owned(record.key), value: owned(record.value) };
                if record.offset >= from && there.insert(record.offset, sent).is_some() {
                    return Err(format!("{} comes twice", record.offset));
                }
            }
        }
        if read.next_offset <= offset {
            return Err(format!("nothing at {offset}, the high watermark is {end}"));
        }
        offset = read.next_offset;
    }
    Ok(there)
}
