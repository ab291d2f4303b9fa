//! Which batches of idempotent producers were refused, so that none that was sent after one of them is taken first.
//!
//! A producer has up to five batches of a partition on their way. If the first is refused and refusing ends before the
//! second comes, the log would take the second from a producer that it does not know (it may begin anywhere, see
//! [`ProducerStates::check`](log_core::log)), and the first, sent again, would be out of order for good. So the sequence
//! of the earliest refused batch is kept, and what comes behind it is refused as well until it is there.
//!
//! The same holds for a batch that a full disk has refused.
//!
//! A gap is closed once its batch is in the log, by a newer epoch of the producer (it has given the batch up), or
//! [`GAP_MAX`] after it was last refused.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use log_core::wire::Uuid;

/// How long a gap is kept open: longer than clients go on sending a batch, which is 5 minutes in librdkafka and 2 in
/// Kafka's own.
pub const GAP_MAX: Duration = Duration::from_secs(600);

/// Gaps that are kept. Beyond it new ones are not, and their producers may have to begin a new epoch.
pub const GAPS_MAX: usize = 65_536;

/// How often the gaps are gone through for those that are over.
const SWEEP_EACH: Duration = Duration::from_secs(60);

/// Whose batches: topic, partition, producer id.
pub type Place = (Uuid, i32, i64);

/// A batch by its producer's epoch and the sequence of its first record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// The producer's epoch.
    pub epoch: i16,
    /// The sequence of the first record.
    pub sequence: i32,
}

impl Sent {
    /// Whether it comes after `other`, by sequences that go round at 2³¹.
    fn is_behind(self, other: Sent) -> bool {
        let distance = self.sequence.wrapping_sub(other.sequence) & i32::MAX;
        distance != 0 && distance < 1 << 30
    }
}

/// The earliest refused batch of every producer and partition that has one.
#[derive(Debug, Default)]
pub struct Gaps {
    first: HashMap<Place, (Sent, Instant)>,
    swept_at: Option<Instant>,
}

impl Gaps {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.first.is_empty()
    }

    /// Notes a batch that is refused.
    pub fn open(&mut self, place: Place, sent: Sent, now: Instant) {
        let known = self.first.get(&place).copied().filter(|(_, then)| !is_over(*then, now));
        let is_earliest = known.is_none_or(|(first, _)| {
            sent.epoch > first.epoch || sent.epoch == first.epoch && !sent.is_behind(first)
        });
        // No look for one that is over where there is no room: it would be one through all of them for each refusal.
        if is_earliest && (self.first.len() < GAPS_MAX || self.first.contains_key(&place)) {
            self.first.insert(place, (sent, now));
        }
    }

    /// Whether a batch may be taken. One from before the gap, of this epoch or an older one, is the log's to judge.
    pub fn admits(&self, place: Place, sent: Sent, now: Instant) -> bool {
        let Some((first, then)) = self.first.get(&place).copied() else { return true };
        first.epoch != sent.epoch || !sent.is_behind(first) || is_over(then, now)
    }

    /// Notes a batch that is in the log, which closes the gap that it was missing from.
    pub fn close(&mut self, place: Place, sent: Sent) {
        if self.first.get(&place).is_some_and(|(first, _)| sent == *first || sent.epoch > first.epoch) {
            self.first.remove(&place);
        }
    }

    /// Forgets the gaps that are over, if it is time to look for them.
    pub fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_some_and(|then| now.saturating_duration_since(then) < SWEEP_EACH) {
            return;
        }
        self.swept_at = Some(now);
        self.first.retain(|_, (_, then)| !is_over(*then, now));
    }
}

fn is_over(then: Instant, now: Instant) -> bool {
    now.saturating_duration_since(then) >= GAP_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = (Uuid::ZERO, 0, 7);

    fn sent(epoch: i16, sequence: i32) -> Sent {
        Sent { epoch, sequence }
    }

    #[test]
    fn nothing_overtakes_a_refused_batch() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        assert!(gaps.admits(PLACE, sent(0, 5), now));
        gaps.open(PLACE, sent(0, 10), now);
        gaps.open(PLACE, sent(0, 20), now);
        assert!(!gaps.admits(PLACE, sent(0, 20), now), "10 is not there yet");
        assert!(gaps.admits(PLACE, sent(0, 5), now), "sent again because its answer was lost");
        assert!(gaps.admits((Uuid::ZERO, 1, 7), sent(0, 20), now), "another partition");
        assert!(gaps.admits(PLACE, sent(0, 10), now));
        assert!(
            !gaps.admits(PLACE, sent(0, 20), now),
            "10 was let by, and may yet have failed to be appended"
        );
        gaps.close(PLACE, sent(0, 5));
        assert!(!gaps.admits(PLACE, sent(0, 20), now));
        gaps.close(PLACE, sent(0, 10));
        assert!(gaps.admits(PLACE, sent(0, 20), now));
        assert!(gaps.is_empty());
    }

    #[test]
    fn the_earliest_one_counts_also_where_sequences_go_round() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        gaps.open(PLACE, sent(0, 3), now);
        gaps.open(PLACE, sent(0, i32::MAX - 2), now);
        assert!(!gaps.admits(PLACE, sent(0, 3), now));
        assert!(gaps.admits(PLACE, sent(0, i32::MAX - 2), now));
        gaps.close(PLACE, sent(0, i32::MAX - 2));
        assert!(gaps.admits(PLACE, sent(0, 3), now));
    }

    #[test]
    fn a_producer_that_gives_up_or_falls_silent_closes_its_gap() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        gaps.open(PLACE, sent(0, 10), now);
        gaps.open(PLACE, sent(0, 10), now + GAP_MAX / 2);
        assert!(!gaps.admits(PLACE, sent(0, 20), now + GAP_MAX), "it was refused again in between");
        assert!(gaps.admits(PLACE, sent(0, 20), now + GAP_MAX * 2));
        gaps.open(PLACE, sent(0, 10), now);
        assert!(gaps.admits(PLACE, sent(1, 0), now), "a new epoch begins at 0");
        gaps.close(PLACE, sent(1, 0));
        assert!(gaps.is_empty());
        gaps.open(PLACE, sent(1, 10), now);
        gaps.open(PLACE, sent(0, 5), now);
        assert!(gaps.admits(PLACE, sent(0, 7), now), "of the old epoch the log knows");
        assert!(!gaps.admits(PLACE, sent(1, 20), now));
        gaps.close(PLACE, sent(0, 10));
        assert!(!gaps.is_empty(), "10 of the old epoch is another batch");
        gaps.open(PLACE, sent(2, 30), now);
        assert!(gaps.admits(PLACE, sent(1, 20), now), "the newest epoch's is the one that counts");
        gaps.open(PLACE, sent(2, 40), now + GAP_MAX);
        assert!(!gaps.admits(PLACE, sent(2, 50), now + GAP_MAX), "30 was given up, and 40 is missing");
    }

    #[test]
    fn their_number_is_bounded_and_those_of_the_dead_are_swept_each_minute() {
        let (mut gaps, now) = (Gaps::default(), Instant::now());
        for producer in 0..=GAPS_MAX as i64 {
            gaps.open((Uuid::ZERO, 0, producer), sent(0, 0), now);
        }
        assert_eq!(gaps.first.len(), GAPS_MAX);
        gaps.sweep(now);
        gaps.sweep(now + GAP_MAX - SWEEP_EACH / 2);
        assert_eq!(gaps.first.len(), GAPS_MAX);
        gaps.sweep(now + GAP_MAX);
        assert_eq!(gaps.first.len(), GAPS_MAX, "half a minute after the last look");
        gaps.sweep(now + GAP_MAX + SWEEP_EACH);
        assert!(gaps.is_empty());
    }
}
