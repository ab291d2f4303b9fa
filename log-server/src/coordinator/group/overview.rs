//! A group as lag looks at it: who is in it, who works on what, and how far it has read. One shape for groups of both
//! kinds and for groups that only commit.

use super::subscription::{self, CONSUMER};
use super::{ConsumerMemberDescription, GroupCoordinator, GroupState};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A group at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupOverview {
    /// The group.
    pub group_id: Arc<str>,
    /// What it is doing.
    pub state: GroupState,
    /// Empty in a group that only holds offsets.
    pub protocol_type: Arc<str>,
    /// How its members are members.
    pub protocol: GroupProtocol,
    /// In the order of their ids.
    pub members: Vec<MemberOverview>,
    /// Ordered by topic and partition.
    pub offsets: Vec<OffsetOverview>,
}

/// How a group's members are members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupProtocol {
    /// By JoinGroup and SyncGroup.
    Classic,
    /// By ConsumerGroupHeartbeat (KIP-848).
    Consumer,
    /// There never was one: consumers that assign themselves partitions commit to it.
    OffsetsOnly,
}

impl GroupProtocol {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            GroupProtocol::Classic => "classic",
            GroupProtocol::Consumer => "consumer",
            GroupProtocol::OffsetsOnly => "offsets only",
        }
    }
}

/// A member and what it works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberOverview {
    /// Given by the coordinator, or by the member where the protocol lets it.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// Partitions by topic. Nothing while a classic group is between two generations, or where the assignment has a
    /// form that is not a consumer's.
    pub assignment: BTreeMap<Arc<str>, Vec<i32>>,
}

/// What a group has committed in a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OffsetOverview {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition index.
    pub partition: i32,
    /// The next offset that the group wants to read.
    pub offset: i64,
    /// When that was committed, in wall-clock milliseconds.
    pub committed_at_ms: i64,
}

impl GroupCoordinator {
    /// The group as lag looks at it; `None` if there is no such group.
    pub fn overview(&self, group_id: &str) -> Option<GroupOverview> {
        let group = self.groups.get(group_id)?;
        let offsets = group.offsets().map(|(topic, partition, committed)| OffsetOverview {
            topic: topic.clone(),
            partition,
            offset: committed.offset,
            committed_at_ms: committed.committed_at_ms,
        });
        let protocol_type = group.membership.protocol_type.clone();
        let (protocol, protocol_type) = match (&group.consumers, protocol_type) {
            (Some(_), _) => (GroupProtocol::Consumer, CONSUMER.into()),
            (None, Some(protocol_type)) => (GroupProtocol::Classic, protocol_type),
            (None, None) => (GroupProtocol::OffsetsOnly, Arc::from("")),
        };
        Some(GroupOverview {
            group_id: group.membership.group_id.clone(),
            state: group.state(),
            members: match protocol {
                GroupProtocol::Consumer => self.consumer_members(group_id),
                GroupProtocol::Classic | GroupProtocol::OffsetsOnly => self.classic_members(group_id),
            },
            protocol_type,
            protocol,
            offsets: offsets.collect(),
        })
    }

    /// All groups of this shard, in no order.
    pub fn overviews(&self) -> Vec<GroupOverview> {
        self.groups.keys().filter_map(|group_id| self.overview(group_id)).collect()
    }

    fn classic_members(&self, group_id: &str) -> Vec<MemberOverview> {
        let Some(group) = self.describe(group_id) else { return Vec::new() };
        let is_consumer = &*group.protocol_type == CONSUMER;
        let members = group.members.into_iter().map(|member| {
            let assigned = is_consumer.then(|| subscription::assigned(&member.assignment)).flatten();
            MemberOverview {
                member_id: member.member_id,
                instance_id: member.instance_id,
                client_id: member.client_id,
                client_host: member.client_host,
                assignment: by_topic(assigned.unwrap_or_default()),
            }
        });
        members.collect()
    }

    fn consumer_members(&self, group_id: &str) -> Vec<MemberOverview> {
        let Some(group) = self.describe_consumers(group_id) else { return Vec::new() };
        let names = group.topic_names;
        let member = |member: ConsumerMemberDescription| {
            let assigned = member.assigned.iter();
            let named =
                assigned.filter_map(|(topic, partition)| Some((names.get(&topic)?.clone(), partition)));
            MemberOverview {
                member_id: member.member_id,
                assignment: by_topic(named.collect()),
                instance_id: member.metadata.instance_id,
                client_id: member.metadata.client_id,
                client_host: member.metadata.client_host,
            }
        };
        group.members.into_iter().map(member).collect()
    }
}

fn by_topic(partitions: Vec<(Arc<str>, i32)>) -> BTreeMap<Arc<str>, Vec<i32>> {
    let mut by_topic: BTreeMap<Arc<str>, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in partitions {
        by_topic.entry(topic).or_default().push(partition);
    }
    for partitions in by_topic.values_mut() {
        partitions.sort_unstable();
    }
    by_topic
}
