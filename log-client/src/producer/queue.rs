//! One partition's batches, from the first record to the acknowledgement: what may be sent next, and
//! what follows from an answer. Pure: no clock, no socket.
//!
//! ```text
//! open ──full, lingered, flushed──► sealed ──take──► in flight ──appended──► done
//!                                              ▲         │
//!                                              └─retries─┘ retriable, in the order they were made
//! ```
//! Order is kept in this way. While anything waits in `retries`, nothing new is sent, and a retry goes
//! out only when nothing else is in flight. A batch that fails for good after it was numbered leaves a
//! hole in the sequence, past which the broker takes nothing: once nothing is in flight, the partition
//! goes on under the next epoch, from sequence 0 (KIP-360). Batches whose outcome is not known then fail
//! with it, because numbered anew they could not be recognised as sent before. Within a transaction the epoch is the
//! coordinator's to raise: there nothing goes out any more until the transaction has been aborted.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use log_core::record::ProducerStamp;
use tokio::time::Instant;

use super::batch::{Batch, advance_sequence};
use super::delivery::AckReceiver;
use crate::backoff::Backoff;

/// A partition's batches.
#[derive(Debug, Default)]
pub(super) struct Queue {
    open: Option<Batch>,
    sealed: VecDeque<Batch>,
    /// By batch id, which is their order.
    retries: BTreeMap<u64, Batch>,
    /// What was taken and has not come back, with who waits for it.
    in_flight: BTreeMap<u64, AckReceiver>,
    /// Where the partition stands in the producer's sequence; `None` before the first stamp, and always
    /// without idempotence.
    sequence: Option<Sequence>,
    /// Set when a numbered batch was lost, until the epoch is raised.
    has_hole: bool,
    failures: u32,
    blocked_until: Option<Instant>,
}

/// Who an idempotent producer is to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) producer_id: i64,
    /// The first epoch; a partition raises its own.
    pub(super) epoch: i16,
}

#[derive(Clone, Copy, Debug)]
struct Sequence {
    identity: Identity,
    next: i32,
}

/// When a queue can next be taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// At once.
    Now,
    /// Not before this.
    At(Instant),
    /// Not before an answer or a record comes.
    Never,
}

/// What bounds a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    pub(super) linger: Duration,
    pub(super) batch_bytes_max: usize,
    pub(super) in_flight_max: usize,
    /// Whether a partition may go on under an epoch of its own choice.
    pub(super) may_renew: bool,
    /// Delays after failures.
    pub(super) backoff: Backoff,
}

impl Queue {
    pub(super) fn open(&mut self) -> Option<&mut Batch> {
        self.open.as_mut()
    }

    pub(super) fn set_open(&mut self, batch: Batch) {
        debug_assert!(self.open.is_none());
        self.open = Some(batch);
    }

    /// Closes the open batch to further records.
    pub(super) fn seal(&mut self) {
        self.sealed.extend(self.open.take());
    }

    /// Whether there is nothing but, perhaps, a batch that still takes records.
    pub(super) fn is_filling(&self) -> bool {
        self.in_flight.is_empty() && self.retries.is_empty() && self.sealed.is_empty()
    }

    /// The acknowledgements of everything that is here or on its way.
    pub(super) fn unacknowledged(&self) -> impl Iterator<Item = AckReceiver> {
        let waiting = self.retries.values().chain(&self.sealed).chain(&self.open);
        self.in_flight.values().cloned().chain(waiting.map(Batch::receiver))
    }

    /// When [`take`](Queue::take) gives a batch.
    pub(super) fn due(&self, now: Instant, limits: &QueueLimits) -> Due {
        if let Some(blocked_until) = self.blocked_until.filter(|&until| until > now) {
            return Due::At(blocked_until);
        }
        if self.has_hole && !limits.may_renew {
            return Due::Never;
        }
        if self.has_hole || !self.retries.is_empty() {
            let has_work = !self.retries.is_empty() || !self.sealed.is_empty() || self.open.is_some();
            return if self.in_flight.is_empty() && has_work { Due::Now } else { Due::Never };
        }
        if self.in_flight.len() >= limits.in_flight_max {
            return Due::Never;
        }
        match (&self.open, self.sealed.is_empty()) {
            (_, false) => Due::Now,
            (Some(open), true) if open.estimated_bytes() >= limits.batch_bytes_max => Due::Now,
            (Some(open), true) if now >= open.created_at + limits.linger => Due::Now,
            (Some(open), true) => Due::At(open.created_at + limits.linger),
            (None, true) => Due::Never,
        }
    }

    /// The next batch to send, numbered if there is an `identity`. Batches that cannot be sent any more,
    /// because of a hole, are moved to `lost`; an identity whose epochs are used up is taken away.
    pub(super) fn take(
        &mut self,
        now: Instant,
        limits: &QueueLimits,
        identity: &mut Option<Identity>,
        lost: &mut Vec<Batch>,
    ) -> Option<Batch> {
        if self.due(now, limits) != Due::Now {
            return None;
        }
        if self.has_hole && !self.raise_epoch(lost) {
            *identity = None;
            return None;
        }
        let retry = self.retries.pop_first().map(|(_, batch)| batch);
        let mut batch = retry.or_else(|| self.sealed.pop_front()).or_else(|| self.open.take())?;
        if let (Some(identity), None) = (identity, batch.stamp()) {
            let sequence = self.sequence.get_or_insert(Sequence { identity: *identity, next: 0 });
            batch.set_stamp(sequence.advance(batch.record_count()));
        }
        self.in_flight.insert(batch.id, batch.receiver());
        Some(batch)
    }

    /// Returns false when there is no next epoch: the producer needs a new id.
    fn raise_epoch(&mut self, lost: &mut Vec<Batch>) -> bool {
        debug_assert!(self.in_flight.is_empty());
        self.has_hole = false;
        let Some(sequence) = &mut self.sequence else { return true };
        let (unknown, known) =
            std::mem::take(&mut self.retries).into_values().partition(|batch| batch.outcome_unknown);
        lost.append(&mut { unknown });
        let known: Vec<Batch> = known;
        let next_epoch = sequence.identity.epoch.checked_add(1);
        if let Some(epoch) = next_epoch {
            *sequence = Sequence { identity: Identity { epoch, ..sequence.identity }, next: 0 };
        }
        for mut batch in known {
            match next_epoch {
                Some(_) => batch.set_stamp(sequence.advance(batch.record_count())),
                None => batch.clear_stamp(),
            }
            self.retries.insert(batch.id, batch);
        }
        if next_epoch.is_none() {
            self.sequence = None;
        }
        next_epoch.is_some()
    }

    /// A batch was appended.
    pub(super) fn succeeded(&mut self, batch: &Batch) {
        self.in_flight.remove(&batch.id);
        self.failures = 0;
        self.blocked_until = None;
    }

    /// A batch was not appended, or nobody knows, and may be sent again.
    pub(super) fn failed(&mut self, batch: Batch, now: Instant, limits: &QueueLimits) {
        self.in_flight.remove(&batch.id);
        if self.retries.is_empty() {
            self.failures = self.failures.saturating_add(1);
        }
        self.blocked_until = Some(now + limits.backoff.delay(self.failures));
        self.retries.insert(batch.id, batch);
    }

    /// The broker no longer knows this producer, so the batch was not appended and goes out again under
    /// the next epoch.
    pub(super) fn disowned(&mut self, batch: Batch, now: Instant, limits: &QueueLimits) {
        self.has_hole = true;
        self.failed(batch, now, limits);
    }

    /// A batch was too large and comes back in pieces, to be sent at once.
    pub(super) fn split(&mut self, id: u64, pieces: [Batch; 2]) {
        self.in_flight.remove(&id);
        self.retries.extend(pieces.map(|piece| (piece.id, piece)));
    }

    /// A batch that was taken, or that waited here, will not be sent again.
    pub(super) fn gave_up(&mut self, batch: &Batch) {
        self.in_flight.remove(&batch.id);
        let Some(stamp) = batch.stamp() else { return };
        let Some(sequence) = &mut self.sequence else { return };
        let is_last = advance_sequence(stamp.base_sequence, batch.record_count()) == sequence.next
            && stamp.epoch == sequence.identity.epoch;
        if is_last && !batch.outcome_unknown {
            // Nothing was numbered after it: its numbers can be used again.
            sequence.next = stamp.base_sequence;
        } else {
            self.has_hole = true;
        }
    }

    /// Whether a batch older than this one may not have been appended yet. If so, "out of order" says
    /// nothing but that; if not, the broker has lost what it acknowledged.
    pub(super) fn has_older(&self, id: u64) -> bool {
        self.in_flight.keys().next().into_iter().chain(self.retries.keys().next()).any(|&first| first < id)
    }

    /// When the first of the waiting batches is given up.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let first = [self.retries.values().next(), self.sealed.front(), self.open.as_ref()];
        first.into_iter().flatten().map(|batch| batch.deadline).min()
    }

    /// Takes out the waiting batches whose deadline has passed.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Batch> {
        let mut expired = Vec::new();
        while let Some(entry) = self.retries.first_entry() {
            if entry.get().deadline > now {
                break;
            }
            expired.push(entry.remove());
        }
        while self.sealed.front().is_some_and(|batch| batch.deadline <= now) {
            expired.extend(self.sealed.pop_front());
        }
        if self.open.as_ref().is_some_and(|batch| batch.deadline <= now) {
            expired.extend(self.open.take());
        }
        for batch in &expired {
            self.gave_up(batch);
        }
        expired
    }

    /// Begins the sequence anew, for a producer with another epoch and nothing on its way.
    pub(super) fn restart(&mut self) {
        debug_assert!(self.in_flight.is_empty());
        self.sequence = None;
        self.has_hole = false;
        self.failures = 0;
        self.blocked_until = None;
    }

    /// Takes out everything that waits, for a producer that ends or aborts.
    pub(super) fn drain(&mut self) -> Vec<Batch> {
        let retries = std::mem::take(&mut self.retries).into_values();
        retries.chain(std::mem::take(&mut self.sealed)).chain(self.open.take()).collect()
    }
}

impl Sequence {
    /// The stamp of the next `count` records.
    fn advance(&mut self, count: i32) -> ProducerStamp {
        let stamp = ProducerStamp {
            id: self.identity.producer_id,
            epoch: self.identity.epoch,
            base_sequence: self.next,
        };
        self.next = advance_sequence(self.next, count);
        stamp
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
