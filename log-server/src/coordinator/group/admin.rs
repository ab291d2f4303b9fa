//! Questions about groups: ListGroups, DescribeGroups, OffsetFetch, and what lag is computed from. They change
//! nothing, so they are methods and no commands.

use super::subscription::CONSUMER;
use super::{CommittedOffset, GroupCoordinator, GroupState};
use bytes::Bytes;
use std::sync::Arc;

/// A group in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// The group.
    pub group_id: Arc<str>,
    /// Empty in a group that only holds offsets.
    pub protocol_type: Arc<str>,
    /// What it is doing.
    pub state: GroupState,
    /// Which protocol its members speak.
    pub kind: GroupKind,
}

/// By which protocol a group's members are members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupKind {
    /// JoinGroup and SyncGroup.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848).
    Consumer,
}

impl GroupKind {
    /// The name that Kafka's protocol and tools use.
    pub fn name(self) -> &'static str {
        match self {
            GroupKind::Classic => "Classic",
            GroupKind::Consumer => "Consumer",
        }
    }
}

/// A group in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group.
    pub group_id: Arc<str>,
    /// What it is doing.
    pub state: GroupState,
    /// Empty in a group that only holds offsets.
    pub protocol_type: Arc<str>,
    /// The chosen protocol; empty unless the group is stable.
    pub protocol: Arc<str>,
    /// In the order of their ids.
    pub members: Vec<MemberDescription>,
}

/// A member in detail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberDescription {
    /// Given by the coordinator.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// Its subscription in the terms of the chosen protocol; empty unless the group is stable.
    pub subscription: Bytes,
    /// What the leader gave it; empty unless the group is stable.
    pub assignment: Bytes,
}

impl GroupCoordinator {
    /// All groups of this shard, in no order.
    pub fn list(&self) -> Vec<GroupListing> {
        (self.groups.values())
            .map(|group| {
                let is_consumer = group.consumers.is_some();
                let classic_type = group.membership.protocol_type.clone();
                let protocol_type = if is_consumer { Some(CONSUMER.into()) } else { classic_type };
                GroupListing {
                    group_id: group.membership.group_id.clone(),
                    protocol_type: protocol_type.unwrap_or_else(|| Arc::from("")),
                    state: group.state(),
                    kind: if is_consumer { GroupKind::Consumer } else { GroupKind::Classic },
                }
            })
            .collect()
    }

    /// A classic group in detail; `None` if there is no group of that id and kind.
    pub fn describe(&self, group_id: &str) -> Option<GroupDescription> {
        let group = self.groups.get(group_id).filter(|group| group.consumers.is_none())?;
        let group = &group.membership;
        let state = group.state();
        // Until the leader has assigned, what the members brought is not what they work on.
        let settled = state == GroupState::Stable;
        let protocol = group.protocol.clone().filter(|_| settled).unwrap_or_else(|| Arc::from(""));
        let members = group.members.values().map(|member| MemberDescription {
            member_id: member.member_id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            subscription: if settled { member.subscription(&protocol) } else { Bytes::new() },
            assignment: if settled { member.assignment.clone() } else { Bytes::new() },
        });
        Some(GroupDescription {
            group_id: group.group_id.clone(),
            state,
            protocol_type: group.protocol_type.clone().unwrap_or_else(|| Arc::from("")),
            members: members.collect(),
            protocol,
        })
    }

    /// The offset of a group in a partition.
    pub fn committed(&self, group_id: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.groups.get(group_id)?.offset(topic, partition)
    }

    /// All offsets of a group, ordered by topic and partition; `None` if there is no such group.
    pub fn committed_all(
        &self,
        group_id: &str,
    ) -> Option<impl Iterator<Item = (&Arc<str>, i32, &CommittedOffset)>> {
        Some(self.groups.get(group_id)?.offsets())
    }

    /// The ids of all groups of this shard, in no order.
    pub fn group_ids(&self) -> impl Iterator<Item = &Arc<str>> {
        self.groups.keys()
    }

    /// The topics in which some group has an offset, or may have one when a transaction ends; a topic that several groups read comes several times.
    pub fn topics_with_offsets(&self) -> impl Iterator<Item = &Arc<str>> {
        let pending = self.groups.values().flat_map(|group| group.pending.keys().map(|(topic, _)| topic));
        self.groups.values().flat_map(|group| group.offsets.keys()).chain(pending)
    }
}
