//! Offsets that were committed within transactions that are still open: which producer committed what, and up to
//! which epoch each producer has been finished with.
//!
//! Everything here is durable, except how often a producer's transactions were completed, which only guards the time
//! between the check of a commit with the transaction coordinator and the commit itself.

use super::pending_record::{encode_completion, encode_pending};
use super::{CommittedOffset, Event, GroupCoordinator};
use crate::coordinator::machine::LogEntry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An offset that is committed if its transaction is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingOffset {
    /// The producer's epoch when it was committed.
    pub producer_epoch: i16,
    /// Counts up with every pending offset of the shard: of two, the later one is what the group wants to go on from.
    pub order: i64,
    /// What the group's offset will be. `None` once something later has been committed in its place: the transaction
    /// is still to come to its end, and then changes nothing here.
    pub committed: Option<CommittedOffset>,
}

/// Where a pending offset is: group, topic, partition index.
pub(super) type Place = (Arc<str>, Arc<str>, i32);

/// The end of a producer's last transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The epoch that the transaction coordinator ended it with. Older ones are fenced from then on.
    pub producer_epoch: i16,
    /// When, in wall-clock milliseconds.
    pub completed_at_ms: i64,
}

/// What a shard knows of a transactional producer.
#[derive(Clone, Debug, Default)]
pub(super) struct Producer {
    pub(super) completion: Option<Completion>,
    /// Soft: transactions completed since the shard knows the producer.
    pub(super) completions: u64,
    pub(super) pending: BTreeMap<Place, PendingOffset>,
}

impl Producer {
    /// The newest epoch that the producer was seen with.
    pub(super) fn epoch(&self) -> Option<i16> {
        let pending = self.pending.values().map(|pending| pending.producer_epoch);
        pending.chain(self.completion.map(|completion| completion.producer_epoch)).max()
    }

    /// The entries that, replayed, give this producer back.
    pub(super) fn entries(&self, producer_id: i64) -> impl Iterator<Item = LogEntry> {
        let completion =
            self.completion.iter().map(move |completion| encode_completion(producer_id, Some(completion)));
        let pending = self.pending.iter().map(move |((group_id, topic, partition), pending)| {
            encode_pending(producer_id, (group_id, topic, *partition), Some(pending))
        });
        completion.chain(pending)
    }

    fn is_forgotten(&self) -> bool {
        self.completion.is_none() && self.pending.is_empty()
    }
}

/// Producers of a group's pending offsets, by topic and partition.
pub(super) type PendingIndex = BTreeMap<(Arc<str>, i32), BTreeSet<i64>>;

impl GroupCoordinator {
    /// Whether a transaction is open that may yet change the group's offset in a partition.
    pub fn has_pending_offset(&self, group_id: &str, topic: &str, partition: i32) -> bool {
        self.pending_at(group_id, topic, partition).next().is_some()
    }

    /// The pending offsets in a partition, with their producers.
    pub(super) fn pending_at(
        &self,
        group_id: &str,
        topic: &str,
        partition: i32,
    ) -> impl Iterator<Item = (i64, &PendingOffset)> {
        let place: Place = (group_id.into(), topic.into(), partition);
        let index = self.groups.get(group_id).map(|group| &group.pending).filter(|index| !index.is_empty());
        let producers = index.and_then(|index| index.get(&(place.1.clone(), partition)));
        producers.into_iter().flatten().map(move |producer_id| {
            let pending = self.producers.get(producer_id).and_then(|producer| producer.pending.get(&place));
            (*producer_id, pending.expect("the index names what the producer has"))
        })
    }

    /// How often the shard has seen a transaction of the producer come to its end. To be asked before the transaction
    /// coordinator is, and brought along with the commit.
    pub fn completions(&self, producer_id: i64) -> u64 {
        self.producers.get(&producer_id).map_or(0, |producer| producer.completions)
    }

    pub(super) fn put_pending(&mut self, producer_id: i64, place: Place, pending: PendingOffset) {
        self.next_order = self.next_order.max(pending.order.saturating_add(1));
        let (group_id, topic, partition) = place.clone();
        self.group_mut(&group_id).pending.entry((topic, partition)).or_default().insert(producer_id);
        self.producers.entry(producer_id).or_default().pending.insert(place, pending);
    }

    pub(super) fn remove_pending(&mut self, producer_id: i64, place: &Place) {
        let (group_id, topic, partition) = place;
        let key = (topic.clone(), *partition);
        if let Some(group) = self.groups.get_mut(group_id)
            && let Some(producers) = group.pending.get_mut(&key)
        {
            producers.remove(&producer_id);
            if producers.is_empty() {
                group.pending.remove(&key);
            }
        }
        if let Some(producer) = self.producers.get_mut(&producer_id) {
            producer.pending.remove(place);
            if producer.is_forgotten() {
                self.producers.remove(&producer_id);
            }
        }
    }

    pub(super) fn put_completion(&mut self, producer_id: i64, completion: Option<Completion>) {
        let producer = self.producers.entry(producer_id).or_default();
        producer.completion = completion;
        producer.completions += u64::from(completion.is_some());
        if producer.is_forgotten() {
            self.producers.remove(&producer_id);
        }
    }

    /// The events that take all pending offsets in a partition away.
    pub(super) fn pending_removals(
        &self,
        group_id: &Arc<str>,
        topic: &Arc<str>,
        partition: i32,
    ) -> Vec<Event> {
        let removal = |(producer_id, _)| Event::PendingOffsetRemoved {
            group_id: group_id.clone(),
            topic: topic.clone(),
            partition,
            producer_id,
        };
        self.pending_at(group_id, topic, partition).map(removal).collect()
    }

    /// The events that have an offset which is committed now take the place of pending ones from before `order`.
    pub(super) fn overtake_pending(
        &self,
        group_id: &Arc<str>,
        topic: &Arc<str>,
        partition: i32,
        order: i64,
    ) -> Vec<Event> {
        let earlier = self.pending_at(group_id, topic, partition);
        let earlier = earlier.filter(|(_, pending)| pending.order < order && pending.committed.is_some());
        let overtaken = |(producer_id, pending): (i64, &PendingOffset)| Event::OffsetPending {
            group_id: group_id.clone(),
            topic: topic.clone(),
            partition,
            producer_id,
            pending: PendingOffset { committed: None, ..pending.clone() },
        };
        earlier.map(overtaken).collect()
    }
}
