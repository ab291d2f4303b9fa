//! How many offsets of a segment a consumer never sees, as far as somebody has looked: what makes a count of
//! records cost a subtraction.
//!
//! ```text
//! batches   ████ ██ c ████ c ░░░ ████ ██ c ████        c: control batches, ░: left by compaction
//! marks     0      ▲        ▲          ▲     ▲ reached
//! hidden    0      1        2+3        5     6
//! ```
//! A tally is made by going over the headers of a segment once, and goes on where it has stopped. What lies below
//! it does not change: compaction puts another segment, with a tally of its own, in the place of this one. The
//! records before an offset are the offsets before it less the hidden ones, of which the mark before it knows all but
//! those of a few batches.

use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

use super::view::Boundary;

/// Marks of one tally, 24 bytes each. When there are more, every second one goes, and they are set half as often.
const MARKS_MAX: usize = 256;

/// Batches between two marks to begin with.
const STRIDE_BATCHES: u32 = 16;

/// A boundary, and the offsets of the segment before it that a consumer does not see.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    pub(crate) at: Boundary,
    pub(crate) hidden: i64,
}

impl Mark {
    /// The records before it, and the segment's base offset.
    fn visible(&self) -> i64 {
        self.at.offset - self.hidden
    }
}

/// The hidden offsets of a segment's first batches, for consumers of one isolation.
#[derive(Debug)]
pub(crate) struct Tally {
    /// Rising, the segment's start first.
    marks: Vec<Mark>,
    reached: Mark,
    stride: u32,
    /// Batches since the last mark.
    since: u32,
}

impl Tally {
    fn new(base_offset: i64) -> Tally {
        let start = Mark { at: Boundary { position: 0, offset: base_offset }, hidden: 0 };
        Tally { marks: vec![start], reached: start, stride: STRIDE_BATCHES, since: 0 }
    }

    /// How far somebody has looked.
    pub(crate) fn reached(&self) -> Mark {
        self.reached
    }

    /// Takes in the next batch, which ends at `end` and in which `hidden` offsets are.
    pub(crate) fn advance(&mut self, end: Boundary, hidden: i64) {
        self.reached = Mark { at: end, hidden: self.reached.hidden + hidden };
        self.since += 1;
        if self.since < self.stride {
            return;
        }
        self.since = 0;
        self.marks.push(self.reached);
        if self.marks.len() > MARKS_MAX {
            let mut number = 0;
            self.marks.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.stride = self.stride.saturating_mul(2);
        }
    }

    /// The last mark at or before `offset`.
    pub(crate) fn floor(&self, offset: i64) -> Mark {
        if self.reached.at.offset <= offset {
            return self.reached;
        }
        let after = self.marks.partition_point(|mark| mark.at.offset <= offset);
        self.marks[after.saturating_sub(1)]
    }

    /// The hidden offsets before `offset`, if the marks alone can tell.
    pub(crate) fn settled(&self, offset: i64) -> Option<i64> {
        let floor = self.floor(offset);
        if floor.at.offset == offset {
            return Some(floor.hidden);
        }
        let next = self.next(offset)?;
        let gap = next.hidden - floor.hidden;
        // Between the two either nothing is hidden or everything.
        if gap == 0 {
            return Some(floor.hidden);
        }
        (gap == next.at.offset - floor.at.offset).then(|| floor.hidden + offset - floor.at.offset)
    }

    /// The stretch without a record that begins at the first mark at or after `offset`, if it is known to be one.
    pub(crate) fn silence(&self, offset: i64) -> Option<(Mark, Mark)> {
        let first = self.next(offset)?;
        let end = self.marks.partition_point(|mark| mark.visible() <= first.visible());
        let last = if self.reached.visible() == first.visible() { self.reached } else { self.marks[end - 1] };
        (first.at.offset < last.at.offset).then_some((first, last))
    }

    /// The first mark at or after `offset`.
    fn next(&self, offset: i64) -> Option<Mark> {
        let index = self.marks.partition_point(|mark| mark.at.offset < offset);
        let mark = self.marks.get(index).copied().unwrap_or(self.reached);
        (mark.at.offset >= offset).then_some(mark)
    }
}

/// The tallies of one segment.
#[derive(Debug)]
pub(crate) struct Tallies {
    /// Whether every offset holds a record that is not one of control, which is certain for as long as nothing but
    /// produced batches went into a segment that was made by this process.
    dense: AtomicBool,
    /// Guards what consumers of everything do not see. Held while the segment is looked through, within a budget.
    uncommitted: Mutex<Tally>,
    /// The same for consumers of committed records.
    committed: Mutex<Tally>,
}

impl Tallies {
    /// Of a segment that nobody has looked at.
    pub(crate) fn new(base_offset: i64, dense: bool) -> Tallies {
        Tallies {
            dense: AtomicBool::new(dense),
            uncommitted: Mutex::new(Tally::new(base_offset)),
            committed: Mutex::new(Tally::new(base_offset)),
        }
    }

    pub(crate) fn is_dense(&self) -> bool {
        // Relaxed: published with the bounds, see `Published::store`.
        self.dense.load(Ordering::Relaxed)
    }

    /// Notes that an offset without a record has been appended, before bounds that let it be seen.
    pub(crate) fn note_hidden(&self) {
        self.dense.store(false, Ordering::Relaxed);
    }

    /// The tally for consumers that pass over the records of aborted transactions, or do not.
    pub(crate) fn of(&self, skips_aborted: bool) -> &Mutex<Tally> {
        if skips_aborted { &self.committed } else { &self.uncommitted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_tell_what_lies_between_them_as_far_as_they_can() {
        let mut tally = Tally::new(100);
        let mut offset = 100;
        // Batches of ten: 64 of records, 64 hidden, 64 of which a half is hidden.
        let hidden_of = |number| [0, 10, 5][number / 64];
        for number in 0..192usize {
            offset += 10;
            tally.advance(Boundary { position: (offset - 100) as u64, offset }, hidden_of(number));
        }
        assert_eq!(tally.settled(100), Some(0));
        assert_eq!(tally.settled(333), Some(0), "dense");
        assert_eq!(tally.settled(747), Some(7), "all hidden from 740 on");
        assert_eq!(tally.settled(1_383), None, "some of it");
        assert_eq!((tally.floor(1_383).at.offset, tally.settled(2_020)), (1_380, Some(960)));
        assert_eq!(tally.settled(2_021), None, "nobody has looked there");
        let (first, last) = tally.silence(750).expect("a silence");
        assert_eq!((first.at.offset, last.at.offset), (900, 1_380));
        assert!(tally.silence(110).is_none());
    }

    #[test]
    fn marks_are_bounded_however_long_the_segment() {
        let mut tally = Tally::new(0);
        for number in 1..1_000_000 {
            tally.advance(Boundary { position: number, offset: number as i64 }, (number % 2) as i64);
            assert!(tally.marks.len() <= MARKS_MAX);
        }
        assert!(tally.marks.is_sorted_by(|a, b| a.at.offset < b.at.offset));
        let mark = tally.floor(777_777);
        assert_eq!(mark.hidden, (mark.at.offset + 1) / 2);
        assert!(777_777 - mark.at.offset < 1_000_000 / MARKS_MAX as i64 * 4);
    }
}
