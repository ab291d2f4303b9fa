//! Noticing who reads history front to back, and asking the disk for what such a reader wants next while
//! it is still busy with what it has.
//!
//! A reader becomes known when it has to wait for the disk. If its next read starts where that one
//! ended, the disk is kept [`AHEAD_BYTES`] ahead of it from then on. Who reads what is in memory anyway
//! is never noticed, and pays for one look at an atomic.
//!
//! ```text
//!   read      read      read                     what was asked for
//! |---------|---------|---------|..............................|
//!                               ^ next           ^ half of it is left: the next half is asked for
//! ```

use std::ops::Range;
use std::sync::Arc;

use crate::storage::{HUGE_BYTES, SegmentFile};
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Bytes that the disk is kept ahead of a reader at most. More than it moves in the time of a request
/// to it, and little enough that many readers at a time do not push each other's out of memory.
pub(crate) const AHEAD_BYTES: u64 = 8 << 20;

/// Readers that are followed in one segment at a time. Beyond that the one that was noticed first is
/// forgotten, and has to wait for the disk to be noticed again.
const READERS_MAX: usize = 16;

/// Bytes that somebody is going to want soon.
#[derive(Clone, Debug)]
pub struct ReadAhead {
    file: Arc<dyn SegmentFile>,
    range: Range<u64>,
}

impl ReadAhead {
    pub(crate) fn new(file: Arc<dyn SegmentFile>, range: Range<u64>) -> ReadAhead {
        ReadAhead { file, range }
    }

    /// Brings them into memory, as far as the disk can. Waits for it.
    pub fn run(&self) {
        // Whoever wants the bytes learns why they are not there.
        let _ = self.file.read_ahead(self.range.clone());
    }
}

/// The readers of one segment that go through it from front to back.
#[derive(Debug, Default)]
pub(crate) struct Readers {
    /// Guards the readers for one look through them. Nobody takes it before one has been noticed.
    list: Mutex<Vec<Reader>>,
    /// Whether there is any.
    any: AtomicBool,
}

#[derive(Debug)]
struct Reader {
    /// Where its next read starts.
    next: u64,
    /// Up to where the disk has been asked.
    asked: u64,
}

impl Readers {
    /// Notes a read, which had to wait for the disk or had not, in a segment that
    /// ends at `end`. Answers what the disk is to be asked for.
    pub(crate) fn note(&self, read: Range<u64>, waited: bool, end: u64) -> Option<Range<u64>> {
        // Relaxed: whoever is missed here is noticed by its next wait.
        if !waited && !self.any.load(Ordering::Relaxed) {
            return None;
        }
        let mut list = self.list.lock();
        let known = list.iter().position(|reader| reader.next == read.start);
        // A reader at the front has most likely come from the segment before.
        let expected = known.is_some() || read.start == 0;
        let index = match known {
            Some(index) => index,
            None if !waited => return None,
            None => {
                if list.len() == READERS_MAX {
                    list.remove(0);
                }
                list.push(Reader { next: 0, asked: 0 });
                self.any.store(true, Ordering::Relaxed);
                list.len() - 1
            }
        };
        let reader = &mut list[index];
        reader.next = read.end;
        if waited || reader.asked < read.end {
            // What had been asked for has not come, or has gone again.
            reader.asked = read.end;
        }
        // Up to where a huge page ends, so that the next one is read whole.
        let wanted = ((read.end + AHEAD_BYTES) / HUGE_BYTES * HUGE_BYTES).min(end);
        let from = reader.asked;
        if !expected || from >= wanted || from - read.end > AHEAD_BYTES / 2 {
            return None;
        }
        reader.asked = wanted;
        Some(from..wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 1 << 30;
    const MIB: u64 = 1 << 20;

    #[test]
    fn the_disk_is_kept_ahead_of_a_reader_in_halves() {
        let readers = Readers::default();
        assert_eq!(readers.note(5 * MIB..6 * MIB, true, END), None, "it may want nothing more");
        let mut asked = 7 * MIB;
        for mib in 6..100 {
            let ahead = readers.note(mib * MIB..(mib + 1) * MIB, mib == 6, END);
            if let Some(ahead) = ahead {
                assert_eq!(ahead.start, asked, "nothing twice and no gap");
                assert!(ahead.end.is_multiple_of(HUGE_BYTES), "whole huge pages");
                let far = ahead.end - (mib + 1) * MIB;
                assert!((AHEAD_BYTES - HUGE_BYTES + 1..=AHEAD_BYTES).contains(&far), "{far} bytes ahead");
                asked = ahead.end;
            }
            assert!(asked - (mib + 1) * MIB >= AHEAD_BYTES / 2, "half of it is always there");
        }
    }

    #[test]
    fn who_is_in_memory_or_jumps_about_is_left_alone() {
        let readers = Readers::default();
        assert_eq!(readers.note(0..MIB, false, END), None);
        assert_eq!(readers.note(MIB..2 * MIB, false, END), None);
        for mib in [7, 3, 90, 5] {
            assert_eq!(readers.note(mib * MIB..(mib + 1) * MIB, true, END), None);
        }
        assert_eq!(readers.note(200 * MIB..201 * MIB, false, END), None, "there are others");
    }

    #[test]
    fn the_front_of_a_segment_is_where_the_one_before_goes_on() {
        let readers = Readers::default();
        assert_eq!(readers.note(0..MIB, true, END), Some(MIB..AHEAD_BYTES));
    }

    #[test]
    fn nothing_is_asked_for_past_the_end() {
        let readers = Readers::default();
        assert_eq!(readers.note(0..MIB, true, 3 * MIB), Some(MIB..3 * MIB));
        assert_eq!(readers.note(MIB..2 * MIB, false, 3 * MIB), None);
        assert_eq!(readers.note(2 * MIB..3 * MIB, false, 3 * MIB), None);
    }

    #[test]
    fn what_has_gone_again_is_asked_for_again() {
        let readers = Readers::default();
        readers.note(0..MIB, true, END);
        assert_eq!(readers.note(MIB..2 * MIB, true, END), Some(2 * MIB..2 * MIB + AHEAD_BYTES));
    }

    #[test]
    fn only_so_many_are_followed() {
        let readers = Readers::default();
        let place = |reader: usize| reader as u64 * 100 * MIB;
        for reader in 0..READERS_MAX + 1 {
            readers.note(place(reader)..place(reader) + MIB, true, u64::MAX);
        }
        let goes_on = |reader| readers.note(place(reader) + MIB..place(reader) + 2 * MIB, false, u64::MAX);
        assert_eq!(goes_on(0), None, "forgotten");
        assert!((1..=READERS_MAX).all(|reader| goes_on(reader).is_some()));
    }
}
