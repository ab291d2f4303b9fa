//! Which transactions hold the last stable offset back.
//!
//! A transaction does from its first record in this partition until its end is durable: as long as the
//! end is not, a power cut can take it back, and nobody may have read by it.
//!
//! ```text
//! offset  0   1   2   3   4   5   6   7       a, b: records of producers; B: the end of b's transaction
//!         a   b   .   b   B   .   a   .       the first stays open
//!         ▲                                   last stable offset 0: a has come first
//!             ▲                               1 were a not there, until the high watermark is past 4
//! ```

use std::collections::BTreeSet;

/// The transactions of a partition that are open, or ended and not durably so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Transactions {
    /// First offsets of the open ones.
    open: BTreeSet<i64>,
    /// Those whose end is in the log and was not durable when that was last looked at: first offset, and
    /// offset of the end, rising.
    ended: Vec<(i64, i64)>,
    /// Where damage holds it for good.
    held: Option<i64>,
}

impl Transactions {
    /// How many are open.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Notes one that begins at `first_offset`.
    pub(super) fn begin(&mut self, first_offset: i64) {
        self.open.insert(first_offset);
    }

    /// Notes the end, at offset `end`, of the one that began at `first_offset`. Answers with the last stable
    /// offset once this end is durable and nothing past it is: every transaction that ends later begins
    /// there or after it.
    pub(super) fn end(&mut self, first_offset: i64, end: i64) -> i64 {
        self.open.remove(&first_offset);
        self.ended.push((first_offset, end));
        self.open.first().copied().into_iter().chain(self.held).fold(end + 1, i64::min)
    }

    /// Holds the last stable offset where it is in a log that is durable up to `offset`, at which damage begins. The
    /// first damage counts.
    pub(super) fn hold(&mut self, offset: i64) {
        let stable = self.last_stable(offset);
        self.held.get_or_insert(stable);
    }

    /// The last stable offset of a log that is durable up to `high_watermark`.
    pub(super) fn last_stable(&mut self, high_watermark: i64) -> i64 {
        let durable = self.ended.partition_point(|(_, end)| *end < high_watermark);
        self.ended.drain(..durable);
        let ended = self.ended.iter().map(|(first_offset, _)| *first_offset);
        ended.chain(self.open.first().copied()).chain(self.held).fold(high_watermark, i64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_holds_it_whatever_ends_later() {
        let mut transactions = Transactions::default();
        transactions.begin(3);
        transactions.hold(5);
        transactions.begin(6);
        assert_eq!(transactions.end(3, 7), 3);
        assert_eq!(transactions.end(6, 8), 3);
        assert_eq!(transactions.last_stable(9), 3);
    }

    #[test]
    fn the_oldest_that_is_not_durably_ended_counts() {
        let mut transactions = Transactions::default();
        assert_eq!(transactions.last_stable(5), 5);
        transactions.begin(5);
        transactions.begin(7);
        assert_eq!(transactions.last_stable(5), 5);
        assert_eq!(transactions.last_stable(9), 5);
        assert_eq!(transactions.end(5, 10), 7, "the other one is open");
        assert_eq!(transactions.last_stable(10), 5, "its end is at the high watermark, not below it");
        assert_eq!(transactions.last_stable(11), 7);
        assert_eq!(transactions.end(7, 12), 13);
        assert_eq!(transactions.last_stable(12), 7);
        assert_eq!(transactions.last_stable(13), 13);
        assert_eq!(transactions, Transactions::default());
    }
}
