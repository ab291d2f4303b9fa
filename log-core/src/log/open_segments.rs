//! Closing sealed segments that nobody reads any more, so that their maps do not add up to what the system
//! allows (R14).
//!
//! A sealed segment is opened by the first who reads it. To close it, the owner puts an unopened one in its
//! place in the list that readers take: who has the old one keeps its map until he lets go of it, and who
//! comes next opens the file again. The files of deleted segments may be unlinked meanwhile; a map outlives
//! its name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::partition_log::PartitionLog;
use super::read::LogReader;
use super::segment::Segment;
use super::segments::Segments;

/// Rises from time to time, and stands for the time at which a segment was read. The real atomic whatever the
/// race checker puts in place of the others: a static outlives what that runs.
static READ_CLOCK: AtomicU64 = AtomicU64::new(0);

/// Lets it be later: what is read from now on was read after all that was read before.
pub fn advance_read_clock() {
    // Relaxed, here and below: no more than an order of reads that lie seconds apart.
    READ_CLOCK.fetch_add(1, Ordering::Relaxed);
}

/// What the clock of [`advance_read_clock`] says.
pub(super) fn read_clock() -> u64 {
    READ_CLOCK.load(Ordering::Relaxed)
}

/// A sealed segment that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenSegment {
    /// The offset of its first record.
    pub base_offset: i64,
    /// When it was last read, by [`advance_read_clock`].
    pub read_at: u64,
}

impl LogReader {
    /// The sealed segments that are open, oldest first.
    pub fn open_segments(&self) -> Vec<OpenSegment> {
        let segments = self.shared.segments.load();
        let open = segments.sealed().iter().filter(|segment| segment.is_open());
        open.map(|segment| OpenSegment { base_offset: segment.base_offset(), read_at: segment.read_at() })
            .collect()
    }
}

impl PartitionLog {
    /// Closes sealed segments by their base offsets, and answers how many. Those that a flush or a checkpoint
    /// has still to do with stay open, and so does a damaged one, whose damage is known only while it is.
    pub fn close_segments(&mut self, base_offsets: &[i64]) -> usize {
        let needed = |segment: &Arc<Segment>| {
            let mut busy = self.unsynced.iter().chain(&self.unindexed);
            busy.any(|other| other.base_offset() == segment.base_offset())
        };
        let mut closed = 0;
        let segments = self.shared.segments.load_full();
        let mut list: Vec<Arc<Segment>> = Vec::with_capacity(segments.as_slice().len());
        for segment in segments.sealed() {
            let wanted = base_offsets.contains(&segment.base_offset()) && !needed(segment);
            let unopened = if wanted { segment.unopened() } else { None };
            closed += usize::from(unopened.is_some());
            list.push(unopened.unwrap_or_else(|| Arc::clone(segment)));
        }
        if closed > 0 {
            list.push(Arc::clone(segments.active()));
            self.shared.segments.store(Arc::new(Segments::new(list)));
        }
        closed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::super::testing::{Disk, batch, read_all, records};
    use super::super::{Isolation, LogConfig};
    use super::*;

    fn value(offset: i64) -> String {
        format!("{offset:0200}")
    }

    /// A log of segments with four records each, of which those of `offsets` are appended and flushed.
    fn append(log: &mut PartitionLog, offsets: std::ops::Range<i64>) {
        for offset in offsets {
            log.append(&batch(1000 + offset, &[&value(offset)]), 0, 1).expect("room");
        }
        log.flush().expect("a healthy disk");
        log.write_checkpoint().expect("a healthy disk");
    }

    fn small() -> LogConfig {
        LogConfig { segment_bytes: 1200, index_interval_bytes: 1, ..LogConfig::default() }
    }

    #[test]
    fn what_nobody_reads_is_closed_and_opened_again() {
        let disk = Disk::new();
        let (mut log, _) = disk.open(&small());
        append(&mut log, 0..40);
        let reader = log.reader();
        let open: Vec<i64> = reader.open_segments().iter().map(|segment| segment.base_offset).collect();
        assert_eq!(
            open.len(),
            log.segments().len() - 1,
            "all but the active one are sealed, none is closed yet"
        );

        advance_read_clock();
        let read = reader.read(0, 1, Isolation::Uncommitted, true).expect("readable");
        let newest = reader.open_segments().into_iter().max_by_key(|segment| segment.read_at);
        assert_eq!(newest.expect("some are open").base_offset, 0, "the one that was read last");

        assert_eq!(log.close_segments(&open), open.len());
        assert_eq!(reader.open_segments(), []);
        let late = reader.offset_for_timestamp(1039, Isolation::Uncommitted).expect("readable");
        assert_eq!(late.expect("the last record").offset, 39);
        assert_eq!(reader.open_segments(), [], "a time opens no segment whose records are all older");
        assert_eq!(records(&read.records), [(0, value(0))], "who reads keeps what he has");
        let all: Vec<(i64, String)> = (0..40).map(|offset| (offset, value(offset))).collect();
        assert_eq!(read_all(&reader, 0), all);
        assert_eq!(reader.open_segments().len(), open.len());
    }

    #[test]
    fn what_is_not_synced_or_indexed_stays_open() {
        let disk = Disk::new();
        let (mut log, _) = disk.open(&small());
        for offset in 0..20 {
            log.append(&batch(1000, &[&value(offset)]), 0, 1).expect("room");
        }
        let every: Vec<i64> = (0..20).collect();
        assert_eq!(log.close_segments(&every), 0, "nothing is synced");
        log.flush().expect("a healthy disk");
        assert_eq!(log.close_segments(&every), 0, "nothing is indexed");
        log.write_checkpoint().expect("a healthy disk");
        assert_eq!(log.close_segments(&every), log.segments().len() - 1);
    }

    /// Segments are appended, closed and deleted at random while others read all of them.
    #[test]
    fn readers_do_not_notice() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = Disk::new();
        let (mut log, _) = disk.open(&LogConfig { retention_bytes: 20_000, retention_ms: -1, ..small() });
        append(&mut log, 0..20);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for reader_seed in 0..3 {
                let (reader, stop) = (log.reader(), &stop);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed ^ reader_seed);
                    while !stop.load(Ordering::Relaxed) {
                        let watermarks = reader.watermarks();
                        let offset = random.i64(watermarks.log_start()..watermarks.high_watermark());
                        let read = match reader.read(offset, 600, Isolation::Uncommitted, true) {
                            Ok(read) => read,
                            // Deleted since.
                            Err(_) if reader.watermarks().log_start() > offset => continue,
                            Err(error) => panic!("seed {seed}: offset {offset}: {error}"),
                        };
                        let records = records(&read.records);
                        assert!(!records.is_empty(), "seed {seed}: nothing at {offset}");
                        for (of, found) in records {
                            assert_eq!(found, value(of), "seed {seed}");
                        }
                    }
                });
            }
            for _ in 0..300 {
                let end = log.watermarks().log_end();
                append(&mut log, end..end + random.i64(1..6));
                let open = log.reader().open_segments();
                let some: Vec<i64> =
                    open.iter().map(|open| open.base_offset).filter(|_| random.bool()).collect();
                log.close_segments(&some);
                log.enforce_retention(1).expect("a healthy disk");
            }
            stop.store(true, Ordering::Relaxed);
        });
        let (start, end) = (log.watermarks().log_start(), log.watermarks().log_end());
        let all: Vec<(i64, String)> = (start..end).map(|offset| (offset, value(offset))).collect();
        assert_eq!(read_all(&log.reader(), start), all, "seed {seed}");
    }
}
