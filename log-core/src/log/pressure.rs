//! What a log can give up when the disk runs full, and what it holds on to: old segments before their
//! time, and blocks ahead of its end.

use super::append::end_of_blocks;
use super::error::AppendError;
use super::partition_log::PartitionLog;
use super::retention::{Retained, unreadable};

/// A sealed segment at the old end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OldSegment {
    /// The offset of its first record.
    pub base_offset: i64,
    /// Bytes of it.
    pub bytes: u64,
    /// The largest timestamp of its records in ms.
    pub newest_ms: i64,
}

impl PartitionLog {
    /// The segments that could go before their time: from the oldest on, sealed and durable, of `bytes` in
    /// all or a little more, up to the first of which not all records are older than `before_ms`. Records
    /// without a timestamp do not age. Opens what it looks at.
    ///
    /// # Errors
    /// If the log takes no writes, or a segment cannot be read.
    pub fn old_segments(&self, before_ms: i64, bytes: u64) -> Result<Vec<OldSegment>, AppendError> {
        self.check_writable()?;
        let high_watermark = self.watermarks().high_watermark();
        let segments = self.shared.segments.load_full();
        let (mut old, mut sum) = (Vec::new(), 0);
        for (index, segment) in segments.as_slice().iter().enumerate() {
            let Some(end) = segments.end_offset(index).filter(|&end| end <= high_watermark) else { break };
            let newest_ms = segment.largest_timestamp(Some(end)).map_err(unreadable)?;
            if sum >= bytes || newest_ms < 0 || newest_ms >= before_ms {
                break;
            }
            let bytes = segment.size_bytes();
            old.push(OldSegment { base_offset: segment.base_offset(), bytes, newest_ms });
            sum += bytes;
        }
        Ok(old)
    }

    /// Deletes the oldest segment if it is still the one that begins at `base_offset`, sealed and durable.
    ///
    /// # Errors
    /// Of the disk, or if the log takes no writes.
    pub fn delete_oldest(&mut self, base_offset: i64) -> Result<Retained, AppendError> {
        self.check_writable()?;
        let segments = self.shared.segments.load_full();
        let oldest = segments.as_slice()[0].base_offset();
        let durable = segments.end_offset(0).is_some_and(|end| end <= self.watermarks().high_watermark());
        drop(segments);
        self.delete_first(usize::from(oldest == base_offset && durable))
    }

    /// Bytes of segments that are out of the log and not off the disk yet, because somebody reads them.
    pub fn retired_bytes(&mut self) -> u64 {
        self.reap();
        self.retired.iter().map(|segment| segment.size_bytes()).sum()
    }

    /// Makes certain that `bytes` can be appended by the leader of `leader_epoch` when the disk has not a
    /// block left: allocates them ahead of the log's end, and notes the epoch.
    ///
    /// # Errors
    /// Of the disk, a full one above all, or if the log takes no writes; it is as it was.
    pub fn make_room_ahead(&mut self, bytes: u64, leader_epoch: i32) -> Result<(), AppendError> {
        self.check_writable()?;
        self.begin_epoch(leader_epoch)?;
        let end = end_of_blocks(self.bounds.log_end.position, bytes, self.tail.reserved_bytes);
        Ok(self.tail.file.allocate(end)?)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{PARTITION, batch};
    use super::super::{DirHealth, LogConfig};
    use super::*;
    use crate::storage::Storage;
    use crate::storage::sim::SimStorage;
    use std::sync::Arc;

    fn open(sim: &SimStorage) -> PartitionLog {
        let config = LogConfig { segment_bytes: 1024, ..LogConfig::default() };
        sim.create_dir_all(PARTITION).expect("room");
        let health = Arc::<DirHealth>::default();
        PartitionLog::open(Arc::new(sim.clone()), PARTITION, health, config).expect("a healthy disk").0
    }

    fn filled(sim: &SimStorage) -> PartitionLog {
        let mut log = open(sim);
        for n in 0..60 {
            log.append(&batch(1000 + n, &["a value", "another"]), 0, 1).expect("room");
        }
        log
    }

    #[test]
    fn only_what_is_old_sealed_and_durable_can_go() {
        let sim = SimStorage::new(1);
        let mut log = filled(&sim);
        assert_eq!(log.old_segments(i64::MAX, u64::MAX).expect("open"), [], "nothing is durable");
        log.flush().expect("a healthy disk");
        let all = log.segments();
        let old = log.old_segments(i64::MAX, u64::MAX).expect("open");
        let of = |old: &[OldSegment]| old.iter().map(|old| old.base_offset).collect::<Vec<_>>();
        let bases: Vec<i64> = all.iter().map(|segment| segment.base_offset).collect();
        assert_eq!(of(&old), bases[..bases.len() - 1], "all but the active one");
        // By age: the third segment's newest record is at the border.
        assert_eq!(of(&log.old_segments(old[2].newest_ms, u64::MAX).expect("open")), bases[..2]);
        // By size: the segment that reaches it is the last.
        assert_eq!(of(&log.old_segments(i64::MAX, old[0].bytes + 1).expect("open")), bases[..2]);

        assert_eq!(log.delete_oldest(bases[1]).expect("a healthy disk").segments_deleted, 0);
        let gone = log.delete_oldest(bases[0]).expect("a healthy disk");
        assert_eq!((gone.segments_deleted, gone.log_start), (1, bases[1]));
        assert_eq!(log.retired_bytes(), 0);
        let last = *bases.last().expect("active");
        for &base in &bases[1..] {
            log.delete_oldest(base).expect("a healthy disk");
        }
        assert_eq!(log.watermarks().log_start(), last, "the active one stays");
    }

    #[test]
    fn bytes_that_somebody_reads_are_not_free_yet() {
        let sim = SimStorage::new(1);
        let mut log = filled(&sim);
        log.flush().expect("a healthy disk");
        let read = log.reader().read(0, 1 << 20, crate::log::Isolation::Uncommitted, true).expect("there");
        let gone = log.delete_oldest(0).expect("a healthy disk");
        assert_eq!(log.retired_bytes(), gone.bytes_deleted);
        drop(read);
        assert_eq!(log.retired_bytes(), 0);
    }

    #[test]
    fn what_is_allocated_ahead_outlasts_the_disk() {
        let sim = SimStorage::new(1);
        let mut log = open(&sim);
        log.make_room_ahead(256 << 10, 0).expect("room");
        sim.set_capacity(1);
        let size = batch(1, &["a value"]).size_bytes();
        // Far past a segment's size: there is no room for the next one, and what there is goes on being used.
        for n in 0..(200 << 10) / size as i64 {
            log.append(&batch(n, &["a value"]), 0, 1).expect("allocated");
        }
        assert_eq!(log.segments().len(), 1);
        log.flush().expect("a healthy disk");
        assert!(log.make_room_ahead(256 << 10, 0).is_err());
        sim.set_capacity(u64::MAX);
        log.append(&batch(1, &["a value"]), 0, 1).expect("room");
        assert_eq!(log.segments().len(), 2, "and rolls when it can");
    }
}
