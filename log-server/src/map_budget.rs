//! Keeps the number of mapped segments within a limit (R14) by closing those that nobody has read for longest.
//!
//! The limit is looked at every second, not at every read: a segment costs the disk more to open than that would
//! save. It lies far enough below the system's own for what readers open within a second.

use std::collections::HashMap;
use std::sync::Arc;

use log_core::log::{OpenSegment, advance_read_clock};
use log_core::storage::maps;

use crate::metrics::Metrics;
use crate::partition::{Partition, Registry};

/// Closes segments when there are too many maps. Asked again and again.
pub struct MapBudget {
    partitions: Arc<Registry>,
    metrics: Arc<Metrics>,
    segments_max: usize,
}

impl MapBudget {
    /// For at most `segments_max` mapped segments.
    pub fn new(partitions: Arc<Registry>, metrics: Arc<Metrics>, segments_max: usize) -> MapBudget {
        MapBudget { partitions, metrics, segments_max }
    }

    /// Lets time pass, and closes what is over the limit and some more, so that it is not reached again at once.
    /// Waits for partitions' locks, and not for the disk.
    pub fn keep(&self) {
        advance_read_clock();
        let mapped = maps();
        self.metrics.maps.set(i64::try_from(mapped).unwrap_or(i64::MAX));
        if mapped <= self.segments_max {
            return;
        }
        let all = self.partitions.all();
        let open = all.iter().flat_map(|partition| {
            partition.reader().open_segments().into_iter().map(move |segment| (partition, segment))
        });
        let count = mapped - self.segments_max + self.segments_max / 8;
        let mut by_partition: HashMap<*const Partition, (&Partition, Vec<i64>)> = HashMap::new();
        for (partition, segment) in longest_unread(open.collect(), count) {
            let entry = by_partition.entry(Arc::as_ptr(partition)).or_insert((&**partition, Vec::new()));
            entry.1.push(segment.base_offset);
        }
        let closed: usize = by_partition
            .into_values()
            .map(|(partition, base_offsets)| partition.log().close_segments(&base_offsets))
            .sum();
        self.metrics.segments_closed.inc_by(closed as u64);
        tracing::debug!(mapped, closed, limit = self.segments_max, "closed segments that nobody reads");
    }
}

/// The `count` that were read longest ago.
fn longest_unread<P>(mut open: Vec<(P, OpenSegment)>, count: usize) -> Vec<(P, OpenSegment)> {
    open.sort_by_key(|(_, segment)| segment.read_at);
    open.truncate(count);
    open
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_were_read_last_stay() {
        let open = [5, 1, 9, 1, 7].map(|read_at| ((), OpenSegment { base_offset: read_at as i64, read_at }));
        let closed = longest_unread(open.to_vec(), 3);
        assert_eq!(closed.iter().map(|(_, segment)| segment.read_at).collect::<Vec<_>>(), [1, 1, 5]);
        assert_eq!(longest_unread(open.to_vec(), 10).len(), 5);
    }
}
