//! What a consumer of committed records gets and is told, against the list.

use std::collections::BTreeMap;

use log_core::log::{CountBudget, Isolation};

use super::consumers::{as_java, as_librdkafka};
use super::history::History;
use crate::process::Stop;

impl History {
    pub(super) fn check(&mut self) -> Result<(), Stop> {
        let watermarks = self.process.log().watermarks();
        let last_stable = watermarks.last_stable();
        let (least, most) = self.held_back();
        if !(least..=most).contains(&last_stable) {
            return Err(format!("{watermarks:?}, and the last stable offset is in {least}..={most}").into());
        }
        let expected = self.committed(last_stable);
        let from = if self.random.bool() {
            self.process.log_start
        } else {
            self.random.i64(self.process.log_start..=last_stable)
        };
        let found = self.read_committed(from, last_stable)?;
        self.check_counts(&found, from, last_stable)?;
        for (offset, record) in &found {
            if expected.get(offset) != Some(record) {
                return Err(format!("{record:?} at {offset} is shown, and does not count").into());
            }
        }
        let mut latest: BTreeMap<&String, i64> = BTreeMap::new();
        for (&offset, (key, _)) in expected.range(from..) {
            latest.insert(key, offset);
            if offset >= self.head && !found.contains_key(&offset) {
                return Err(format!("{offset} counts, and is not shown").into());
            }
        }
        match latest.iter().find(|(_, offset)| !found.contains_key(offset)) {
            Some((key, offset)) => Err(format!("{offset} is the latest of {key}, and is gone").into()),
            None => Ok(()),
        }
    }

    /// What is counted is what a consumer of committed records gets, which was `found` from `from` on.
    fn check_counts(
        &mut self,
        found: &BTreeMap<i64, (String, String)>,
        from: i64,
        last_stable: i64,
    ) -> Result<(), Stop> {
        let reader = self.process.log().reader();
        for _ in 0..4 {
            let start = self.random.i64(from..=last_stable);
            let offsets = start..self.random.i64(start..=last_stable);
            let mut known = Vec::new();
            for budget in [CountBudget::bytes(self.random.u64(0..1 << 14)), CountBudget::unlimited()] {
                let count = reader.count(offsets.clone(), Isolation::Committed, &budget);
                known.push(self.process.certain(count, |_| None)?);
            }
            let expected = found.range(offsets.clone()).count() as u64;
            let sound = known[0].records >= expected && (!known[0].exact || known[0] == known[1]);
            if !sound || !known[1].exact || known[1].records != expected {
                return Err(format!("counted {known:?} in {offsets:?}, and there are {expected}").into());
            }
            let first = reader.first_visible(start, Isolation::Committed, &CountBudget::unlimited());
            let first = self.process.certain(first, |_| None)?.found().map(|first| first.offset);
            let expected = found.range(start..).next().map(|(offset, _)| *offset);
            if first != expected {
                return Err(format!("{first:?} comes first from {start} on, not {expected:?}").into());
            }
        }
        Ok(())
    }

    /// What a consumer of committed records gets.
    fn read_committed(
        &mut self,
        from: i64,
        last_stable: i64,
    ) -> Result<BTreeMap<i64, (String, String)>, Stop> {
        let reader = self.process.log().reader();
        let mut found = BTreeMap::new();
        let mut offset = from;
        while offset < last_stable {
            let max_bytes = self.random.usize(1..4096);
            let read = reader.read(offset, max_bytes, Isolation::Committed, true);
            let read = self.process.certain(read, |_| None)?;
            if read.next_offset <= offset || read.next_offset > last_stable {
                let next = read.next_offset;
                return Err(format!("from {offset} to {next}, {last_stable} is stable").into());
            }
            self.coverage.told += read.aborted.len() as u64;
            let (java, librdkafka) = (as_java(&read)?, as_librdkafka(&read)?);
            if java != librdkafka {
                return Err(format!("at {offset}: {java:?} and {librdkafka:?} of {:?}", read.aborted).into());
            }
            found.extend(java.into_iter().filter(|(at, _)| *at >= offset));
            offset = read.next_offset;
        }
        Ok(found)
    }
}
