//! OffsetCommit, OffsetDelete and what is left when topics or groups are deleted.

use super::member::after;
use super::{
    CommitOffsets, CommittedOffset, Decision, DeleteOffsets, Event, Group, GroupCoordinator, GroupError,
    OffsetToCommit, Phase, Reply,
};
use crate::coordinator::machine::{Now, Token};
use std::sync::Arc;

/// Offsets removed by one decision at most, so that the deletion of a topic that thousands of groups have read does
/// not hold up the others. Who asks for more asks again.
pub const REMOVALS_PER_DECISION_MAX: usize = 2_000;

impl GroupCoordinator {
    pub(super) fn commit_offsets(&self, now: Now, token: Token, commit: CommitOffsets) -> Decision {
        let mut events = Vec::with_capacity(commit.offsets.len() + 1);
        match self.check_commit(now, &commit) {
            Ok(seen) => events.extend(seen),
            Err(error) => return Decision::reply(token, Reply::CommitOffsets(Err(error))),
        }
        let expires_at_ms = commit.retention_ms.map(|retention_ms| now.wall_ms.saturating_add(retention_ms));
        let mut outcomes = Vec::with_capacity(commit.offsets.len());
        for OffsetToCommit { topic, partition, offset, leader_epoch, metadata } in commit.offsets {
            if metadata.len() > self.config.offset_metadata_bytes_max {
                outcomes.push(Err(GroupError::OffsetMetadataTooLarge));
                continue;
            }
            let committed = CommittedOffset {
                offset,
                // No version of the protocol, and no format of the log, has both.
                leader_epoch: if expires_at_ms.is_some() { -1 } else { leader_epoch },
                metadata,
                committed_at_ms: now.wall_ms,
                expires_at_ms,
            };
            events.push(Event::OffsetCommitted {
                group_id: commit.group_id.clone(),
                topic,
                partition,
                committed,
            });
            outcomes.push(Ok(()));
        }
        Decision { events, replies: vec![(token, Reply::CommitOffsets(Ok(outcomes)))] }
    }

    /// Whether the committer may commit; if it is a member, also that it was heard of.
    fn check_commit(&self, now: Now, commit: &CommitOffsets) -> Result<Option<Event>, GroupError> {
        let Some(group) = self.groups.get(&commit.group_id) else {
            return match commit.generation {
                ..0 => Ok(None),
                _ if commit.knows_group_not_found => Err(GroupError::GroupIdNotFound),
                _ => Err(GroupError::IllegalGeneration),
            };
        };
        let group = &group.membership;
        if commit.generation < 0 && group.phase == Phase::Empty {
            return Ok(None);
        }
        if commit.generation < 0 && commit.member.member_id.is_empty() && commit.member.instance_id.is_none()
        {
            return Err(GroupError::UnknownMemberId);
        }
        let member = group.member_of_generation(&commit.member, commit.generation)?;
        // In the join phase commits are let through: a member learns from its heartbeat that it has to join again,
        // and commits what it has done before it does. Once the next generation exists, it is too late.
        if matches!(group.phase, Phase::CompletingRebalance { .. }) {
            return Err(GroupError::RebalanceInProgress);
        }
        Ok(Some(Event::MemberSeen {
            group_id: commit.group_id.clone(),
            member_id: member.member_id.clone(),
            session_deadline_ms: after(now, member.session_timeout_ms),
        }))
    }

    pub(super) fn delete_offsets(&self, token: Token, delete: DeleteOffsets) -> Decision {
        let reply = |outcome| Decision::reply(token, Reply::DeleteOffsets(outcome));
        let Some(group) = self.groups.get(&delete.group_id) else {
            return reply(Err(GroupError::GroupIdNotFound));
        };
        let occupied = group.membership.phase != Phase::Empty;
        if occupied && group.membership.protocol_type.as_deref() != Some(super::subscription::CONSUMER) {
            return reply(Err(GroupError::NonEmptyGroup));
        }
        let mut decision = Decision::none();
        let mut outcomes = Vec::with_capacity(delete.partitions.len());
        for (topic, partition) in delete.partitions {
            if group.membership.is_subscribed_to(&topic) {
                outcomes.push(Err(GroupError::GroupSubscribedToTopic));
                continue;
            }
            if group.offset(&topic, partition).is_some() {
                decision.events.push(Event::OffsetRemoved {
                    group_id: delete.group_id.clone(),
                    topic,
                    partition,
                });
            }
            outcomes.push(Ok(()));
        }
        decision.replies.push((token, Reply::DeleteOffsets(Ok(outcomes))));
        decision
    }

    pub(super) fn delete_group(&self, token: Token, group_id: Arc<str>) -> Decision {
        let reply = |outcome| Decision::reply(token, Reply::DeleteGroup(outcome));
        match self.groups.get(&group_id) {
            None => reply(Err(GroupError::GroupIdNotFound)),
            Some(group) if group.membership.phase != Phase::Empty => reply(Err(GroupError::NonEmptyGroup)),
            Some(group) => {
                let mut decision = reply(Ok(()));
                let group_id = &group.membership.group_id;
                decision.events.extend(group.offsets().map(|(topic, partition, _)| Event::OffsetRemoved {
                    group_id: group_id.clone(),
                    topic: topic.clone(),
                    partition,
                }));
                decision.events.push(forget(group));
                decision
            }
        }
    }

    pub(super) fn forget_topics(&self, token: Token, topics: &[Arc<str>]) -> Decision {
        let events: Vec<Event> = (self.groups.values())
            .flat_map(|group| {
                let offsets = topics.iter().filter_map(|topic| group.offsets.get_key_value(topic));
                offsets.flat_map(|(topic, partitions)| {
                    partitions.keys().map(|partition| Event::OffsetRemoved {
                        group_id: group.membership.group_id.clone(),
                        topic: topic.clone(),
                        partition: *partition,
                    })
                })
            })
            .take(REMOVALS_PER_DECISION_MAX)
            .collect();
        let replies = vec![(token, Reply::ForgetTopics(events.len()))];
        Decision { events, replies }
    }
}

/// The event that ends `group`: a tombstone only where the log knows it.
pub(super) fn forget(group: &Group) -> Event {
    let group_id = group.membership.group_id.clone();
    if group.stored.is_some() { Event::GroupRemoved { group_id } } else { Event::GroupDropped { group_id } }
}
