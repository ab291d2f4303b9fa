//! The four offsets that say what a partition holds and what may be shown of it.
//!
//! [`Watermarks`] is one checked value: it cannot be built out of order. The writer publishes it,
//! with the file positions that belong to it, through a [`Published`] cell that any number of
//! readers read without a lock and never see half of.

use crate::sync::atomic::{AtomicI64, AtomicU64, Ordering, fence};
use crate::sync::spin_loop;

/// `log_start <= last_stable <= high_watermark <= log_end`, all offsets of one partition at one
/// moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    log_start: i64,
    last_stable: i64,
    high_watermark: i64,
    log_end: i64,
}

impl Watermarks {
    /// # Panics
    /// If the offsets are negative or out of order: only a bug of the engine can make them so.
    pub fn new(log_start: i64, last_stable: i64, high_watermark: i64, log_end: i64) -> Self {
        assert!(
            0 <= log_start
                && log_start <= last_stable
                && last_stable <= high_watermark
                && high_watermark <= log_end,
            "watermarks out of order: log start {log_start}, last stable {last_stable}, \
             high watermark {high_watermark}, log end {log_end}"
        );
        Watermarks { log_start, last_stable, high_watermark, log_end }
    }

    /// The first offset that may be read. Moves up by retention and by DeleteRecords.
    pub fn log_start(&self) -> i64 {
        self.log_start
    }

    /// The first offset that a `read_committed` consumer may not see yet. Equal to the high
    /// watermark while no transaction is open.
    pub fn last_stable(&self) -> i64 {
        self.last_stable
    }

    /// The first offset that no consumer may see yet: everything below it is on disk.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// The offset that the next record will get.
    pub fn log_end(&self) -> i64 {
        self.log_end
    }
}

/// A place in the log: a segment, named by its base offset, and a byte position in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogPosition {
    pub(crate) segment: i64,
    pub(crate) position: u64,
}

/// The watermarks and where in the files the two of them lie that bound a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) watermarks: Watermarks,
    /// Where the batch at the high watermark starts or will start.
    pub(crate) high_watermark: LogPosition,
    /// Where the next batch will be stored.
    pub(crate) log_end: LogPosition,
}

/// A sequence lock over [`Bounds`]: one writer, readers that never wait for it and retry in the
/// few nanoseconds in which it is writing.
///
/// The values are atomics, so a torn read is a stale value and not undefined behaviour; `version`
/// tells the reader whether what it read belongs together.
#[derive(Debug)]
pub(crate) struct Published {
    /// Even: stable. Odd: the writer is between its first and its last store.
    version: AtomicU64,
    log_start: AtomicI64,
    last_stable: AtomicI64,
    high_watermark: AtomicI64,
    log_end: AtomicI64,
    high_watermark_segment: AtomicI64,
    high_watermark_position: AtomicU64,
    log_end_segment: AtomicI64,
    log_end_position: AtomicU64,
}

impl Published {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let w = bounds.watermarks;
        Published {
            version: AtomicU64::new(0),
            log_start: AtomicI64::new(w.log_start),
            last_stable: AtomicI64::new(w.last_stable),
            high_watermark: AtomicI64::new(w.high_watermark),
            log_end: AtomicI64::new(w.log_end),
            high_watermark_segment: AtomicI64::new(bounds.high_watermark.segment),
            high_watermark_position: AtomicU64::new(bounds.high_watermark.position),
            log_end_segment: AtomicI64::new(bounds.log_end.segment),
            log_end_position: AtomicU64::new(bounds.log_end.position),
        }
    }

    /// Publishes new bounds. To be called by the one writer only (the partition's owner holds
    /// `&mut PartitionLog`): two writers at a time would break the protocol.
    pub(crate) fn store(&self, bounds: Bounds) {
        let w = bounds.watermarks;
        let version = self.version.load(Ordering::Relaxed);
        debug_assert!(version.is_multiple_of(2), "two writers");
        self.version.store(version + 1, Ordering::Relaxed);
        // Release fence: a reader that sees any of the stores below also sees the odd version
        // when it loads the version again after its acquire fence, and retries.
        fence(Ordering::Release);
        self.log_start.store(w.log_start, Ordering::Relaxed);
        self.last_stable.store(w.last_stable, Ordering::Relaxed);
        self.high_watermark.store(w.high_watermark, Ordering::Relaxed);
        self.log_end.store(w.log_end, Ordering::Relaxed);
        self.high_watermark_segment.store(bounds.high_watermark.segment, Ordering::Relaxed);
        self.high_watermark_position.store(bounds.high_watermark.position, Ordering::Relaxed);
        self.log_end_segment.store(bounds.log_end.segment, Ordering::Relaxed);
        self.log_end_position.store(bounds.log_end.position, Ordering::Relaxed);
        // Release: pairs with the acquire in `load`. Whoever reads this version reads the values
        // above, and everything the writer did before (bytes, index entries, a new segment list).
        self.version.store(version + 2, Ordering::Release);
    }

    /// The bounds as of one moment.
    pub(crate) fn load(&self) -> Bounds {
        loop {
            // Acquire: the loads below cannot move before it, see the release in `store`.
            let before = self.version.load(Ordering::Acquire);
            if before.is_multiple_of(2) {
                let log_start = self.log_start.load(Ordering::Relaxed);
                let last_stable = self.last_stable.load(Ordering::Relaxed);
                let high_watermark = self.high_watermark.load(Ordering::Relaxed);
                let log_end = self.log_end.load(Ordering::Relaxed);
                let high_position = LogPosition {
                    segment: self.high_watermark_segment.load(Ordering::Relaxed),
                    position: self.high_watermark_position.load(Ordering::Relaxed),
                };
                let end_position = LogPosition {
                    segment: self.log_end_segment.load(Ordering::Relaxed),
                    position: self.log_end_position.load(Ordering::Relaxed),
                };
                // Acquire fence: pairs with the release fence in `store`; the version is loaded
                // after all the values.
                fence(Ordering::Acquire);
                if self.version.load(Ordering::Relaxed) == before {
                    return Bounds {
                        watermarks: Watermarks::new(log_start, last_stable, high_watermark, log_end),
                        high_watermark: high_position,
                        log_end: end_position,
                    };
                }
            }
            spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicBool;
    use std::sync::Arc;

    fn bounds(n: i64) -> Bounds {
        let place = LogPosition { segment: n, position: n as u64 };
        Bounds { watermarks: Watermarks::new(n, n, n, n), high_watermark: place, log_end: place }
    }

    #[test]
    #[should_panic(expected = "watermarks out of order")]
    fn a_high_watermark_past_the_end_cannot_be_built() {
        Watermarks::new(0, 5, 11, 10);
    }

    #[test]
    #[should_panic(expected = "watermarks out of order")]
    fn a_log_start_past_the_last_stable_offset_cannot_be_built() {
        Watermarks::new(6, 5, 10, 10);
    }

    #[test]
    fn readers_never_see_half_of_an_update() {
        let cell = Arc::new(Published::new(bounds(0)));
        let done = Arc::new(AtomicBool::new(false));
        let reader = {
            let (cell, done) = (cell.clone(), done.clone());
            std::thread::spawn(move || {
                let mut last = 0;
                while !done.load(Ordering::Relaxed) {
                    let seen = cell.load();
                    let n = seen.watermarks.log_end();
                    assert_eq!(seen, bounds(n));
                    assert!(n >= last, "went back from {last} to {n}");
                    last = n;
                }
            })
        };
        for n in 1..200_000 {
            cell.store(bounds(n));
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    }
}
