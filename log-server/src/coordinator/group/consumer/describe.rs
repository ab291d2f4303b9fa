//! A consumer group as it is shown: ConsumerGroupDescribe.

use super::{Assignment, ConsumerGroup, MemberMetadata, TopicId};
use crate::coordinator::group::{GroupCoordinator, GroupState};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A group in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    /// What it is doing.
    pub state: GroupState,
    /// See [`ConsumerGroup::epoch`].
    pub epoch: i32,
    /// See [`ConsumerGroup::assignment_epoch`].
    pub assignment_epoch: i32,
    /// The assignor that most members ask for.
    pub assignor: &'static str,
    /// In the order of their ids.
    pub members: Vec<ConsumerMemberDescription>,
    /// Names of the topics that members subscribe to.
    pub topic_names: BTreeMap<TopicId, Arc<str>>,
}

/// A member in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMemberDescription {
    /// Its id.
    pub member_id: Arc<str>,
    /// What it said of itself.
    pub metadata: MemberMetadata,
    /// How far it has come.
    pub epoch: i32,
    /// What it works on.
    pub assigned: Assignment,
    /// What it is to work on.
    pub target: Assignment,
}

impl GroupCoordinator {
    /// A consumer group in detail; `None` if there is no group of that id and kind.
    pub fn describe_consumers(&self, group_id: &str) -> Option<ConsumerGroupDescription> {
        let group = self.groups.get(group_id)?.consumers.as_deref()?;
        Some(describe(group))
    }
}

fn describe(group: &ConsumerGroup) -> ConsumerGroupDescription {
    let members = group.members.values().map(|member| ConsumerMemberDescription {
        member_id: member.member_id.clone(),
        metadata: member.metadata.clone(),
        epoch: member.current.epoch,
        assigned: member.current.assigned.clone(),
        target: group
            .target_of(&member.member_id)
            .map(|target| Assignment::clone(target))
            .unwrap_or_default(),
    });
    ConsumerGroupDescription {
        state: group.state(),
        epoch: group.epoch,
        assignment_epoch: group.assignment_epoch,
        assignor: group.assignor().name(),
        members: members.collect(),
        topic_names: group.topics.iter().map(|(name, info)| (info.id, name.clone())).collect(),
    }
}
