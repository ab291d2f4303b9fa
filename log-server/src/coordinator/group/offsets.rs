//! OffsetCommit, OffsetDelete and what is left when topics or groups are deleted.

use super::consumer::{TopicId, record_events};
use super::member::after;
use super::{
    CommitOffsets, CommittedOffset, ConsumerGroup, Decision, DeleteOffsets, Event, Group, GroupCoordinator,
    GroupError, OffsetToCommit, Phase, Reply,
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
            // What transactions have pending here is older than this.
            events.extend(self.overtake_pending(&commit.group_id, &topic, partition, i64::MAX));
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

    /// Whether a member may read the group's offsets. Only consumer groups check that, and only of members that say who
    /// they are: `member_id` is `None` for tools and for older versions.
    ///
    /// # Errors
    /// `UnknownMemberId`, `StaleMemberEpoch`; `IllegalGeneration` for a member of the classic protocol.
    pub fn check_fetch(&self, group_id: &str, member_id: Option<&str>, epoch: i32) -> Result<(), GroupError> {
        let group = self.groups.get(group_id).and_then(|group| group.consumers.as_ref());
        let Some(group) = group.filter(|_| member_id.is_some() || epoch >= 0) else { return Ok(()) };
        let member = member_id.and_then(|member_id| group.members.get(member_id));
        let member = member.ok_or(GroupError::UnknownMemberId)?;
        match &member.metadata.classic {
            _ if member.current.epoch == epoch => Ok(()),
            Some(_) => Err(GroupError::IllegalGeneration),
            None => Err(GroupError::StaleMemberEpoch),
        }
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
        if commit.generation < 0 && group.is_empty() {
            return Ok(None);
        }
        if let Some(consumers) = &group.consumers {
            return self.check_consumer_commit(consumers, commit).map(|()| None);
        }
        let group = &group.membership;
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

    /// Whether a member of a consumer group may commit: at its epoch, which older versions of the request do not know.
    fn check_consumer_commit(&self, group: &ConsumerGroup, commit: &CommitOffsets) -> Result<(), GroupError> {
        let member = group.members.get(&commit.member.member_id).ok_or(GroupError::UnknownMemberId)?;
        let is_current = member.current.may_commit_at(commit.generation, self.partitions(&commit.offsets));
        match &member.metadata.classic {
            Some(_) if !is_current => Err(GroupError::IllegalGeneration),
            None if !commit.knows_group_not_found => Err(GroupError::UnsupportedVersion),
            None if !is_current => Err(GroupError::StaleMemberEpoch),
            _ => Ok(()),
        }
    }

    /// The partitions of `offsets` by the ids of their topics; `None` for what does not exist.
    pub(super) fn partitions(
        &self,
        offsets: &[OffsetToCommit],
    ) -> impl Iterator<Item = Option<(TopicId, i32)>> {
        offsets.iter().map(|it| Some((self.topics.get(&it.topic)?.id, it.partition)))
    }

    pub(super) fn delete_offsets(&self, token: Token, delete: DeleteOffsets) -> Decision {
        let reply = |outcome| Decision::reply(token, Reply::DeleteOffsets(outcome));
        let Some(group) = self.groups.get(&delete.group_id) else {
            return reply(Err(GroupError::GroupIdNotFound));
        };
        let classic = group.consumers.is_none();
        if classic
            && !group.is_empty()
            && group.membership.protocol_type.as_deref() != Some(super::subscription::CONSUMER)
        {
            return reply(Err(GroupError::NonEmptyGroup));
        }
        let mut decision = Decision::none();
        let mut outcomes = Vec::with_capacity(delete.partitions.len());
        for (topic, partition) in delete.partitions {
            if group.is_subscribed_to(&topic) {
                outcomes.push(Err(GroupError::GroupSubscribedToTopic));
                continue;
            }
            decision.events.extend(self.pending_removals(&delete.group_id, &topic, partition));
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
            Some(group) if !group.is_empty() => reply(Err(GroupError::NonEmptyGroup)),
            Some(group) => {
                let mut decision = reply(Ok(()));
                let group_id = &group.membership.group_id;
                decision.events.extend(group.offsets().map(|(topic, partition, _)| Event::OffsetRemoved {
                    group_id: group_id.clone(),
                    topic: topic.clone(),
                    partition,
                }));
                for (topic, partition) in group.pending.keys() {
                    decision.events.extend(self.pending_removals(group_id, topic, *partition));
                }
                decision.events.extend(forget(group));
                decision
            }
        }
    }

    pub(super) fn forget_topics(&self, token: Token, topics: &[Arc<str>]) -> Decision {
        let pending = self.groups.values().flat_map(|group| {
            let places = group.pending.keys().filter(|(topic, _)| topics.contains(topic));
            places.flat_map(|(topic, partition)| {
                self.pending_removals(&group.membership.group_id, topic, *partition)
            })
        });
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
            .chain(pending)
            .take(REMOVALS_PER_DECISION_MAX)
            .collect();
        let replies = vec![(token, Reply::ForgetTopics(events.len()))];
        Decision { events, replies }
    }
}

/// The events that end `group`: tombstones only where the log knows it.
pub(super) fn forget(group: &Group) -> Vec<Event> {
    let group_id = group.membership.group_id.clone();
    if let Some(consumers) = &group.consumers {
        return record_events(&group_id, ConsumerGroup::changes(Some(consumers), None));
    }
    let known = group.stored.is_some();
    vec![if known { Event::GroupRemoved { group_id } } else { Event::GroupDropped { group_id } }]
}
