//! From what one sample after another sees of a group in a partition to its rates. Pure: how many records lie between
//! two offsets is asked for.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use log_core::log::Isolation;

use super::rate::{ConsumeRate, ProduceRate};
use super::sample::{GroupLag, PartitionLag, Rates};

/// One group in one partition, as the last sample has seen it.
#[derive(Debug)]
pub(super) struct Meter {
    isolation: Isolation,
    committed_offset: i64,
    committed_at_ms: i64,
    end_offset: i64,
    consume: ConsumeRate,
    produce: ProduceRate,
}

impl Meter {
    /// Begins with what the first sample sees.
    pub(super) fn new(lag: &PartitionLag, now_ms: i64) -> Meter {
        let mut meter = Meter {
            isolation: lag.isolation,
            committed_offset: lag.committed_offset,
            committed_at_ms: lag.committed_at_ms,
            end_offset: lag.log_end_offset,
            consume: ConsumeRate::default(),
            produce: ProduceRate::default(),
        };
        meter.consume.reset(lag.committed_at_ms);
        meter.produce.observe(now_ms, 0);
        meter
    }

    /// Takes in what the next sample sees and tells the rates. `count` tells the records that the group sees in a
    /// range of offsets.
    pub(super) fn observe(
        &mut self,
        lag: &PartitionLag,
        now_ms: i64,
        count: impl Fn(Range<i64>) -> u64,
    ) -> Rates {
        if lag.isolation != self.isolation || lag.log_end_offset < self.end_offset {
            // Other records than before: it was found out how the group reads, or the topic was made anew.
            *self = Meter::new(lag, now_ms);
        }
        if lag.committed_offset < self.committed_offset {
            self.consume.reset(lag.committed_at_ms);
        } else if lag.committed_at_ms != self.committed_at_ms || lag.committed_offset != self.committed_offset
        {
            self.consume.committed(lag.committed_at_ms, count(self.committed_offset..lag.committed_offset));
        }
        self.produce.observe(now_ms, count(self.end_offset..lag.log_end_offset));
        self.committed_offset = lag.committed_offset;
        self.committed_at_ms = lag.committed_at_ms;
        self.end_offset = lag.log_end_offset;
        Rates {
            consume_records_per_second: self.consume.per_second(now_ms),
            produce_records_per_second: self.produce.per_second(),
            catch_up_seconds: None,
            commit_interval_seconds: self.consume.commit_interval_seconds(),
        }
    }
}

/// The meters of all groups: some 700 bytes for each partition of each.
#[derive(Debug, Default)]
pub(super) struct Meters {
    groups: HashMap<Arc<str>, GroupMeters>,
}

#[derive(Debug, Default)]
struct GroupMeters {
    /// The sample that has seen the group last.
    seen: u64,
    partitions: HashMap<(Arc<str>, i32), Meter>,
}

impl Meters {
    /// Takes in what sample `number` sees of a group and sets the rates in it.
    pub(super) fn observe(
        &mut self,
        group: &mut GroupLag,
        number: u64,
        now_ms: i64,
        count: impl Fn(&PartitionLag, Range<i64>) -> u64,
    ) {
        let meters = self.groups.entry(group.group.clone()).or_default();
        meters.seen = number;
        let mut before = std::mem::take(&mut meters.partitions);
        for lag in &mut group.partitions {
            let place = (lag.topic.clone(), lag.partition);
            let mut meter = before.remove(&place).unwrap_or_else(|| Meter::new(lag, now_ms));
            let rates = meter.observe(lag, now_ms, |offsets| count(lag, offsets));
            lag.set_rates(rates);
            meters.partitions.insert(place, meter);
        }
        group.sum_up();
    }

    /// Forgets the groups that sample `number` has not seen.
    pub(super) fn forget_before(&mut self, number: u64) {
        self.groups.retain(|_, meters| meters.seen >= number);
    }
}

#[cfg(test)]
#[path = "meter_tests.rs"]
mod tests;
