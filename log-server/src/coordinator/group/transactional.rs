//! TxnOffsetCommit, and what becomes of its offsets when the transaction coordinator ends the transaction (KIP-98,
//! KIP-447, KIP-890).
//!
//! ```text
//! TxnOffsetCommit ──► pending ──┬── commit ──► the group's offset
//!                               ├── abort ───► as if it had never been
//!                               └── overtaken by a later commit ──► nothing, once the transaction ends
//! ```
//! While an offset is pending, readers that want stable offsets are told to come back, the group's older offset in
//! that partition does not lapse, and neither does the group.

use super::consumer::ConsumerGroup;
use super::pending::{Completion, PendingOffset};
use super::{
    CommitPendingOffsets, CommittedOffset, CompleteTransaction, Decision, Event, GroupCoordinator,
    GroupError, MemberIdentity, Membership, Outcome, Reply,
};
use crate::coordinator::machine::{Now, Token};

impl GroupCoordinator {
    pub(super) fn commit_pending_offsets(
        &self,
        now: Now,
        token: Token,
        commit: CommitPendingOffsets,
    ) -> Decision {
        if let Err(error) = self.check_pending_commit(&commit) {
            return Decision::reply(token, Reply::CommitPendingOffsets(Err(error)));
        }
        let mut order = self.next_order;
        let mut events = Vec::with_capacity(commit.offsets.len());
        let mut outcomes = Vec::with_capacity(commit.offsets.len());
        for offset in commit.offsets {
            if offset.metadata.len() > self.config.offset_metadata_bytes_max {
                outcomes.push(Err(GroupError::OffsetMetadataTooLarge));
                continue;
            }
            let committed = CommittedOffset {
                offset: offset.offset,
                leader_epoch: offset.leader_epoch,
                metadata: offset.metadata,
                committed_at_ms: now.wall_ms,
                expires_at_ms: None,
            };
            events.push(Event::OffsetPending {
                group_id: commit.group_id.clone(),
                topic: offset.topic,
                partition: offset.partition,
                producer_id: commit.producer_id,
                pending: PendingOffset {
                    producer_epoch: commit.producer_epoch,
                    order,
                    committed: Some(committed),
                },
            });
            order += 1;
            outcomes.push(Ok(()));
        }
        Decision { events, replies: vec![(token, Reply::CommitPendingOffsets(Ok(outcomes)))] }
    }

    fn check_pending_commit(&self, commit: &CommitPendingOffsets) -> Result<(), GroupError> {
        if commit.group_id.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        self.check_epoch(commit.producer_id, commit.producer_epoch)?;
        if self.completions(commit.producer_id) != commit.completions {
            // The transaction that the coordinator vouched for has ended in between. Nothing would ever end another
            // one that began with this commit.
            return Err(GroupError::TransactionEnded);
        }
        let Some(group) = self.groups.get(&commit.group_id) else {
            return if commit.generation < 0 { Ok(()) } else { Err(GroupError::IllegalGeneration) };
        };
        // Versions before 3 do not say who commits, and neither does a producer that was given no more than the
        // group's id: both are trusted, as the transactional id fences them.
        let says_who = commit.generation >= 0 || commit.member != MemberIdentity::default();
        if !says_who || (commit.generation < 0 && group.is_empty()) {
            return Ok(());
        }
        match &group.consumers {
            Some(consumers) => self.check_consumer_member(consumers, commit),
            None => check_member(&group.membership, commit),
        }
    }

    /// Whether a member of a consumer group may commit. The error is that of classic groups, which every version knows.
    fn check_consumer_member(
        &self,
        group: &ConsumerGroup,
        commit: &CommitPendingOffsets,
    ) -> Result<(), GroupError> {
        let member = group.members.get(&commit.member.member_id).ok_or(GroupError::UnknownMemberId)?;
        let is_current = member.current.may_commit_at(commit.generation, self.partitions(&commit.offsets));
        if is_current { Ok(()) } else { Err(GroupError::IllegalGeneration) }
    }

    fn check_epoch(&self, producer_id: i64, producer_epoch: i16) -> Result<(), GroupError> {
        let known = self.producers.get(&producer_id).and_then(|producer| producer.epoch());
        match known {
            Some(known) if producer_epoch < known => Err(GroupError::ProducerFenced),
            _ => Ok(()),
        }
    }

    pub(super) fn complete_transaction(
        &self,
        now: Now,
        token: Token,
        complete: CompleteTransaction,
    ) -> Decision {
        let CompleteTransaction { producer_id, producer_epoch, outcome } = complete;
        if let Err(error) = self.check_epoch(producer_id, producer_epoch) {
            return Decision::reply(token, Reply::CompleteTransaction(Err(error)));
        }
        let pending = self.producers.get(&producer_id).into_iter().flat_map(|producer| &producer.pending);
        let mut events = Vec::new();
        for ((group_id, topic, partition), pending) in pending {
            if let (Outcome::Commit, Some(committed)) = (outcome, &pending.committed) {
                events.extend(self.overtake_pending(group_id, topic, *partition, pending.order));
                events.push(Event::OffsetCommitted {
                    group_id: group_id.clone(),
                    topic: topic.clone(),
                    partition: *partition,
                    committed: committed.clone(),
                });
            }
            events.push(Event::PendingOffsetRemoved {
                group_id: group_id.clone(),
                topic: topic.clone(),
                partition: *partition,
                producer_id,
            });
        }
        let completion = Completion { producer_epoch, completed_at_ms: now.wall_ms };
        events.push(Event::ProducerCompleted { producer_id, completion: Some(completion) });
        Decision { events, replies: vec![(token, Reply::CompleteTransaction(Ok(())))] }
    }
}

/// Whether a member of a classic group may commit. Other than without a transaction it may even while the leader
/// assigns: a producer that sends what it has consumed has to be able to finish.
fn check_member(group: &Membership, commit: &CommitPendingOffsets) -> Result<(), GroupError> {
    group.member_of_generation(&commit.member, commit.generation).map(drop)
}
