//! Counting the records that a consumer is going to see. Offsets are not records: control batches have offsets, what
//! compaction took out has left some, and a consumer of committed records passes over those of aborted transactions.
//!
//! A count goes over the headers of every segment once, and remembers what it found in the segment's
//! [tallies](super::tally), so that the next one pays for what is new. A segment to which only produced batches were
//! appended since it was made needs not even that. What a count may look through is bounded by a [`CountBudget`].

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::record::{DecompressLimits, RecordBatch, TimestampedOffset};
use crate::sync::atomic::Ordering;

use super::error::ReadError;
use super::leader_epoch::LeaderEpochs;
use super::read::{Isolation, LogReader, limit};
use super::segment::Segment;
use super::segment_read::first_record_of;
use super::segments::Segments;
use super::tally::{Mark, Tally};
use super::view::{Boundary, Cold, View};

/// Bytes that are brought in at once where a header is not in memory.
const WINDOW_BYTES: u64 = 16 << 10;

/// What the header of the smallest batch costs, in bytes: the work, where there is nothing to wait for.
const HEADER_COST_BYTES: u64 = 512;

/// Offsets for which the aborted transactions are held at a time: as many of those at most, and the open ones.
const ABORTED_WINDOW: i64 = 1 << 16;

/// Bytes of log that counts may look through before they are content with what they know.
///
/// A batch of which the header is looked at costs its size, 512 bytes at least and 16 KiB at most; one that is checked
/// and unpacked costs its size once more, and what comes out of it. The last one may cost more than is left, so that a
/// budget of a single byte goes on by a batch.
#[derive(Debug)]
pub struct CountBudget {
    left: Cell<u64>,
    stop: Option<Arc<AtomicBool>>,
}

impl CountBudget {
    /// `bytes` of log.
    #[must_use]
    pub fn bytes(bytes: u64) -> CountBudget {
        CountBudget { left: Cell::new(bytes), stop: None }
    }

    /// No bound.
    #[must_use]
    pub fn unlimited() -> CountBudget {
        CountBudget::bytes(u64::MAX)
    }

    /// The same, spent as soon as `stop` is set.
    #[must_use]
    pub fn until(self, stop: Arc<AtomicBool>) -> CountBudget {
        CountBudget { stop: Some(stop), ..self }
    }

    /// Bytes that may still be looked through.
    #[must_use]
    pub fn left(&self) -> u64 {
        // Relaxed: nothing is published with it, and a batch more does no harm.
        let stopped = self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
        if stopped { 0 } else { self.left.get() }
    }

    /// Whether a batch may be looked at. Takes what its header costs.
    fn allows(&self, batch: &RecordBatch<'_>) -> bool {
        let allowed = self.left() > 0;
        self.spend((batch.size_bytes() as u64).clamp(HEADER_COST_BYTES, WINDOW_BYTES));
        allowed
    }

    /// Takes `bytes`, or all that is left.
    fn spend(&self, bytes: u64) {
        self.left.set(self.left().saturating_sub(bytes));
    }

    /// Takes what it costs to check a batch, which began to be looked at, and what unpacking it has come to.
    fn spend_payload(&self, batch: &RecordBatch<'_>, payload: Option<&Cow<'_, [u8]>>) {
        self.spend(batch.size_bytes() as u64);
        if let Some(Cow::Owned(unpacked)) = payload {
            self.spend(unpacked.len() as u64);
        }
    }
}

/// How many records there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Records; if that is not exact, no less than there are.
    pub records: u64,
    /// Whether all of the log in question has been looked through. If not, what has not counts as if each of its offsets
    /// held a record, and the next count goes on from there.
    pub exact: bool,
}

/// What a search for a record has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// There it is.
    Found(TimestampedOffset),
    /// There is none.
    Nothing,
    /// The budget is spent. There is none before this offset, from where the next search can go on.
    Unfinished(i64),
}

impl Search {
    /// The record, if there is one as far as was searched.
    #[must_use]
    pub fn found(self) -> Option<TimestampedOffset> {
        match self {
            Search::Found(found) => Some(found),
            Search::Nothing | Search::Unfinished(_) => None,
        }
    }
}

impl LogReader {
    /// The records with offsets in `offsets` that a consumer of this isolation is going to see. Offsets before the log
    /// start and past what the isolation allows are none.
    ///
    /// Waits for the disk where headers are not in memory.
    ///
    /// # Errors
    /// Damage on the way.
    pub fn count(
        &self,
        offsets: Range<i64>,
        isolation: Isolation,
        budget: &CountBudget,
    ) -> Result<Count, ReadError> {
        self.look(|bounds, segments, epochs| {
            let (end_offset, end) = limit(bounds, segments, epochs, isolation, Cold::Wait)?;
            let from = offsets.start.max(bounds.watermarks.log_start());
            let to = offsets.end.min(end_offset);
            let mut count = Count { records: 0, exact: true };
            if from >= to {
                return Ok(count);
            }
            let Some(first) = segments.floor(from) else { return Err(self.before_first_segment(from)) };
            for (index, segment) in segments.as_slice().iter().enumerate().skip(first) {
                let segment_end = segments.end_offset(index).unwrap_or(i64::MAX);
                let part = from.max(segment.base_offset())..to.min(segment_end);
                if part.is_empty() {
                    break;
                }
                let look = Look { reader: self, segments, index, segment, epochs, isolation, budget };
                let (hidden, exact) = look.hidden(&part, end)?;
                count.records += u64::try_from(part.end - part.start - hidden).unwrap_or(0);
                count.exact &= exact;
            }
            Ok(count)
        })
    }

    /// The first record at or after `offset` that a consumer of this isolation is going to see, with its timestamp: how
    /// long one that stands at `offset` has been waiting for it.
    ///
    /// # Errors
    /// Damage on the way to it.
    pub fn first_visible(
        &self,
        offset: i64,
        isolation: Isolation,
        budget: &CountBudget,
    ) -> Result<Search, ReadError> {
        self.look(|bounds, segments, epochs| {
            let (end_offset, end) = limit(bounds, segments, epochs, isolation, Cold::Wait)?;
            let mut offset = offset.max(bounds.watermarks.log_start());
            while offset < end_offset {
                let Some(index) = segments.floor(offset) else {
                    return Err(self.before_first_segment(offset));
                };
                let segment = &segments.as_slice()[index];
                let end = segment.end_position(segments.end_offset(index), end)?;
                let look = Look { reader: self, segments, index, segment, epochs, isolation, budget };
                match look.first_visible(offset, end)? {
                    Search::Nothing => {}
                    found_or_unfinished => return Ok(found_or_unfinished),
                }
                let Some(next) = segments.end_offset(index) else { break };
                offset = next;
            }
            Ok(Search::Nothing)
        })
    }
}

/// One look into one segment.
struct Look<'a> {
    reader: &'a LogReader,
    segments: &'a Segments,
    index: usize,
    segment: &'a Segment,
    epochs: &'a LeaderEpochs,
    isolation: Isolation,
    budget: &'a CountBudget,
}

impl Look<'_> {
    /// The hidden offsets of `part`, and whether that is all of them. The log is read up to `bound`.
    fn hidden(
        &self,
        part: &Range<i64>,
        bound: super::watermarks::LogPosition,
    ) -> Result<(i64, bool), ReadError> {
        let skips_aborted = self.skips_aborted();
        let tallies = self.segment.tallies();
        if tallies.is_dense() && !skips_aborted {
            return Ok((0, true));
        }
        let mut tally = tallies.of(skips_aborted).lock();
        if let (Some(before), Some(after)) = (tally.settled(part.start), tally.settled(part.end)) {
            return Ok((after - before, true));
        }
        let end = self.segment.end_position(self.segments.end_offset(self.index), bound)?;
        let view = self.view(end);
        let mut judge = Judge::new(self, skips_aborted);
        let before = self.hidden_before(&view, &mut judge, &mut tally, part.start)?;
        let after = self.hidden_before(&view, &mut judge, &mut tally, part.end)?;
        // What is not known counts as records: no more is hidden than that.
        Ok(((after.start() - before.end()).max(0), is_exact(&before) && is_exact(&after)))
    }

    /// The hidden offsets of the segment before `offset`: the fewest and the most that they can be, as far as the budget
    /// allows to know.
    fn hidden_before(
        &self,
        view: &View<'_>,
        judge: &mut Judge<'_>,
        tally: &mut Tally,
        offset: i64,
    ) -> Result<RangeInclusive<i64>, ReadError> {
        loop {
            let at = tally.reached().at;
            if at.offset >= offset || at.position >= view.end {
                break;
            }
            let batch = view.batch_at(at)?;
            if batch.last_offset() >= offset {
                break;
            }
            if !self.budget.allows(&batch) {
                return Ok(unknown_from(tally.reached(), offset));
            }
            tally.advance(at.after(&batch), judge.hidden_in(&batch)?);
        }
        if let Some(hidden) = tally.settled(offset) {
            return Ok(hidden..=hidden);
        }
        let mut mark = tally.floor(offset);
        while mark.at.offset < offset {
            if mark.at.position >= view.end {
                // Records that were lost: nobody will see them.
                let hidden = mark.hidden + offset - mark.at.offset;
                return Ok(hidden..=hidden);
            }
            let batch = view.batch_at(mark.at)?;
            if !self.budget.allows(&batch) {
                return Ok(unknown_from(mark, offset));
            }
            if batch.last_offset() >= offset {
                let hidden = mark.hidden + judge.hidden_in_part(view, mark.at, &batch, offset)?;
                return Ok(hidden..=hidden);
            }
            mark = Mark { at: mark.at.after(&batch), hidden: mark.hidden + judge.hidden_in(&batch)? };
        }
        Ok(mark.hidden..=mark.hidden)
    }

    fn first_visible(&self, offset: i64, end: u64) -> Result<Search, ReadError> {
        let skips_aborted = self.skips_aborted();
        let view = self.view(end);
        let mut judge = Judge::new(self, skips_aborted);
        let Some(start) = self.segment.locate(&view, offset)? else { return Ok(Search::Nothing) };
        let silence = self.segment.tallies().of(skips_aborted).lock().silence(offset);
        if let Some((first, last)) = silence {
            let near = self.first_visible_in(&view, &mut judge, start, first.at.position.min(end), offset)?;
            if !matches!(near, Search::Nothing) {
                return Ok(near);
            }
            return self.first_visible_in(&view, &mut judge, last.at, end, offset);
        }
        self.first_visible_in(&view, &mut judge, start, end, offset)
    }

    /// The same between two boundaries.
    fn first_visible_in(
        &self,
        view: &View<'_>,
        judge: &mut Judge<'_>,
        start: Boundary,
        end: u64,
        offset: i64,
    ) -> Result<Search, ReadError> {
        let mut at = start;
        while at.position < end {
            let batch = view.batch_at(at)?;
            let next = at.after(&batch);
            if !self.budget.allows(&batch) {
                return Ok(Search::Unfinished(at.offset.max(offset)));
            }
            if batch.record_count() > 0 && !judge.passes_over(&batch)? {
                view.checked(at, next)?;
                let payload = batch.decompressed_payload(DecompressLimits::default()).ok();
                self.budget.spend_payload(&batch, payload.as_ref());
                if let Some(found) = first_record_of(&batch, payload.as_deref(), offset, i64::MIN) {
                    return Ok(Search::Found(found));
                }
            }
            at = next;
        }
        Ok(Search::Nothing)
    }

    /// Whether there may be records of aborted transactions to be passed over.
    fn skips_aborted(&self) -> bool {
        // Relaxed: set before the bounds that the caller has loaded let such a transaction be seen.
        self.isolation == Isolation::Committed && self.reader.shared.has_aborted.load(Ordering::Relaxed)
    }

    fn view(&self, end: u64) -> View<'_> {
        View::new(self.segment, end, Cold::Wait, self.epochs, WINDOW_BYTES)
    }
}

fn is_exact(hidden: &RangeInclusive<i64>) -> bool {
    hidden.start() == hidden.end()
}

/// The hidden offsets before `offset` if nothing is known from a mark on.
fn unknown_from(mark: Mark, offset: i64) -> RangeInclusive<i64> {
    mark.hidden..=mark.hidden + offset - mark.at.offset
}

/// Says which batches hold nothing for a consumer.
struct Judge<'a> {
    look: &'a Look<'a>,
    skips_aborted: bool,
    /// Offsets whose aborted transactions are known.
    window: Range<i64>,
    /// Those, by producer: first and last offset, rising.
    aborted: HashMap<i64, Vec<(i64, i64)>>,
}

impl<'a> Judge<'a> {
    fn new(look: &'a Look<'a>, skips_aborted: bool) -> Judge<'a> {
        Judge { look, skips_aborted, window: 0..0, aborted: HashMap::new() }
    }

    /// Whether a consumer passes over the whole batch.
    fn passes_over(&mut self, batch: &RecordBatch<'_>) -> Result<bool, ReadError> {
        let attributes = batch.attributes();
        Ok(attributes.is_control()
            || self.skips_aborted && attributes.is_transactional() && self.is_aborted(batch)?)
    }

    fn is_aborted(&mut self, batch: &RecordBatch<'_>) -> Result<bool, ReadError> {
        let offset = batch.base_offset();
        if !self.window.contains(&offset) {
            self.window = offset..offset.saturating_add(ABORTED_WINDOW);
            self.aborted.clear();
            let Look { reader, segments, index, .. } = self.look;
            for aborted in reader.aborted(segments, *index, self.window.clone(), Cold::Wait)? {
                let of_producer = self.aborted.entry(aborted.producer_id).or_default();
                of_producer.push((aborted.first_offset, aborted.last_offset));
            }
        }
        let Some(of_producer) = self.aborted.get(&batch.producer_id()) else { return Ok(false) };
        let begun = of_producer.partition_point(|(first_offset, _)| *first_offset <= offset);
        Ok(begun > 0 && offset < of_producer[begun - 1].1)
    }

    /// The offsets of a batch that hold no record for a consumer.
    fn hidden_in(&mut self, batch: &RecordBatch<'_>) -> Result<i64, ReadError> {
        let offsets = i64::from(batch.last_offset_delta()) + 1;
        Ok(if self.passes_over(batch)? { offsets } else { offsets - i64::from(batch.record_count()) })
    }

    /// Those before `offset`, which lies in the batch.
    fn hidden_in_part(
        &mut self,
        view: &View<'_>,
        at: Boundary,
        batch: &RecordBatch<'_>,
        offset: i64,
    ) -> Result<i64, ReadError> {
        let before = offset - batch.base_offset();
        let hidden = self.hidden_in(batch)?;
        if hidden == 0 || hidden == i64::from(batch.last_offset_delta()) + 1 {
            return Ok(hidden.min(before));
        }
        view.checked(at, at.after(batch))?;
        let payload = batch.decompressed_payload(DecompressLimits::default()).ok();
        self.look.budget.spend_payload(batch, payload.as_ref());
        // What is not to be decoded its consumer will learn. The records may be anywhere in it.
        let Some(payload) = payload else { return Ok(hidden.min(before)) };
        let records = batch.record_refs(&payload).map_while(Result::ok);
        let records = records.take_while(|record| record.offset < offset).count();
        Ok(before - records as i64)
    }
}

#[cfg(test)]
#[path = "count_tests.rs"]
mod tests;
