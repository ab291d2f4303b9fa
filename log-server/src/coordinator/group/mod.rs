//! Classic consumer groups: membership by JoinGroup, SyncGroup, Heartbeat and LeaveGroup, and committed offsets.
//!
//! [`GroupCoordinator`] is the state machine of one shard of all groups. Its rules are those of Kafka's group
//! coordinator, with the KIPs that shaped them: 62 (rebalance timeout), 134 (initial delay), 211 (offset
//! retention), 345 (static members), 394 (member ids are required), 559 (protocol in SyncGroup), 800 (reasons), 814
//! (skipped assignments).
//!
//! **Durable**: for each group the last generation that was stable or empty, with members, subscriptions and
//! assignments; for each group and partition the committed offset. So members of a stable group go on after a restart
//! of the broker without a rebalance.
//!
//! **Soft, lost on restart**: a rebalance in progress (the group is back in its last stable generation, and members
//! that were told a newer one are sent to join again by ILLEGAL_GENERATION); parked JoinGroup and SyncGroup requests;
//! member ids that were given out and not used; when each member was last heard of (everybody gets a whole session).

mod admin;
mod command;
mod config;
mod draft;
mod event;
mod expiry;
mod join;
mod member;
mod membership;
mod offsets;
mod record;
mod reply;
mod session;
mod subscription;

#[cfg(test)]
mod expiry_tests;
#[cfg(test)]
mod join_tests;
#[cfg(test)]
mod offset_tests;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod static_tests;
#[cfg(test)]
mod testing;

pub use admin::{GroupDescription, GroupListing, MemberDescription};
pub use command::{
    Command, CommitOffsets, DeleteOffsets, Heartbeat, JoinGroup, LeaveGroup, MemberIdentity, OffsetToCommit,
    SyncGroup,
};
pub use config::GroupConfig;
pub use event::{CommittedOffset, Event, GroupRecord, MemberRecord};
pub use member::Member;
pub use membership::{GroupState, InitialDelay, Membership, Phase};
pub use offsets::REMOVALS_PER_DECISION_MAX;
pub use reply::{GroupError, JoinRefused, Joined, JoinedMember, Reply, Synced};

use super::machine::{self, EntryError, LogEntry, Now, StateMachine, Token};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A decision about groups.
pub type Decision = machine::Decision<Event, Reply>;

/// The groups of one shard.
#[derive(Debug)]
pub struct GroupCoordinator {
    config: GroupConfig,
    groups: HashMap<Arc<str>, Group>,
    /// When to look at a group again, in monotonic milliseconds: never later than its earliest deadline. A heartbeat
    /// moves a deadline back without touching this, which keeps it cheap; the group is looked at once in vain.
    deadlines: BTreeSet<(u64, Arc<str>)>,
    sweep_at_ms: u64,
}

/// One group: who is in it, and how far it has read.
#[derive(Debug)]
struct Group {
    membership: Membership,
    /// What the log says of the membership, kept for snapshots, as the membership may be in a rebalance.
    stored: Option<GroupRecord>,
    offsets: BTreeMap<Arc<str>, BTreeMap<i32, CommittedOffset>>,
    /// The group's entry in `deadlines`.
    deadline_ms: Option<u64>,
}

impl Group {
    fn new(group_id: Arc<str>) -> Self {
        Group {
            membership: Membership::new(group_id),
            stored: None,
            offsets: BTreeMap::new(),
            deadline_ms: None,
        }
    }

    fn offset(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.offsets.get(topic)?.get(&partition)
    }

    fn offsets(&self) -> impl Iterator<Item = (&Arc<str>, i32, &CommittedOffset)> {
        self.offsets.iter().flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(partition, committed)| (topic, *partition, committed))
        })
    }
}

impl GroupCoordinator {
    /// A coordinator of no groups yet.
    pub fn new(config: GroupConfig) -> Self {
        GroupCoordinator { config, groups: HashMap::new(), deadlines: BTreeSet::new(), sweep_at_ms: u64::MAX }
    }

    fn group_mut(&mut self, group_id: &Arc<str>) -> &mut Group {
        self.groups.entry(group_id.clone()).or_insert_with(|| Group::new(group_id.clone()))
    }

    fn remove_group(&mut self, group_id: &Arc<str>) {
        if let Some(Group { deadline_ms: Some(deadline_ms), .. }) = self.groups.remove(group_id) {
            self.deadlines.remove(&(deadline_ms, group_id.clone()));
        }
    }

    fn note_deadline(&mut self, group_id: &Arc<str>) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        let next = group.membership.next_deadline_ms();
        if let Some(before) = std::mem::replace(&mut group.deadline_ms, next) {
            self.deadlines.remove(&(before, group_id.clone()));
        }
        self.deadlines.extend(next.map(|deadline_ms| (deadline_ms, group_id.clone())));
    }
}

impl StateMachine for GroupCoordinator {
    type Command = Command;
    type Event = Event;
    type Reply = Reply;

    fn handle(&self, now: Now, token: Token, command: Command) -> Decision {
        match command {
            Command::Join(join) => self.join(now, token, join),
            Command::Sync(sync) => self.sync(now, token, sync),
            Command::Heartbeat(heartbeat) => self.heartbeat(now, token, heartbeat),
            Command::Leave(leave) => self.leave(now, token, leave),
            Command::CommitOffsets(commit) => self.commit_offsets(now, token, commit),
            Command::DeleteOffsets(delete) => self.delete_offsets(token, delete),
            Command::DeleteGroup(group_id) => self.delete_group(token, group_id),
            Command::ForgetTopics(topics) => self.forget_topics(token, &topics),
        }
    }

    fn handle_timeout(&self, now: Now) -> Decision {
        self.expire(now)
    }

    fn poll_timeout(&self) -> Option<u64> {
        let group = self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms);
        let sweep = (!self.groups.is_empty()).then_some(self.sweep_at_ms);
        group.into_iter().chain(sweep).min()
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::GroupStored { group_id, record } => {
                let group = self.group_mut(&group_id);
                group.membership = Membership::from_record(group_id.clone(), &record);
                group.stored = Some(record);
                self.note_deadline(&group_id);
            }
            Event::GroupRemoved { group_id } | Event::GroupDropped { group_id } => {
                self.remove_group(&group_id)
            }
            Event::OffsetCommitted { group_id, topic, partition, committed } => {
                self.group_mut(&group_id).offsets.entry(topic).or_default().insert(partition, committed);
            }
            Event::OffsetRemoved { group_id, topic, partition } => {
                let Some(group) = self.groups.get_mut(&group_id) else { return };
                let Some(partitions) = group.offsets.get_mut(&topic) else { return };
                partitions.remove(&partition);
                if partitions.is_empty() {
                    group.offsets.remove(&topic);
                }
            }
            Event::MembershipChanged(membership) => {
                let group_id = membership.group_id.clone();
                self.group_mut(&group_id).membership = *membership;
                self.note_deadline(&group_id);
            }
            Event::MemberSeen { group_id, member_id, session_deadline_ms } => {
                let group = self.groups.get_mut(&group_id);
                if let Some(member) = group.and_then(|group| group.membership.members.get_mut(&member_id)) {
                    Arc::make_mut(member).session_deadline_ms = session_deadline_ms;
                }
            }
            Event::DeadlinePassed { group_id } => self.note_deadline(&group_id),
            Event::Swept { next_ms } => self.sweep_at_ms = next_ms,
        }
    }

    fn encode(event: &Event) -> Option<LogEntry> {
        record::encode(event)
    }

    fn decode(entry: &LogEntry) -> Result<Option<Event>, EntryError> {
        record::decode(entry)
    }

    fn snapshot(&self) -> Box<dyn Iterator<Item = LogEntry> + '_> {
        Box::new(self.groups.values().flat_map(|group| {
            let group_id = &group.membership.group_id;
            let stored = group.stored.iter().map(|record| record::encode_group(group_id, record));
            let offsets = group.offsets().map(|(topic, partition, committed)| {
                record::encode_offset(group_id, topic, partition, committed)
            });
            stored.chain(offsets)
        }))
    }

    fn loaded(&mut self, now: Now) {
        self.groups.retain(|_, group| group.stored.is_some() || !group.offsets.is_empty());
        let group_ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for group_id in group_ids {
            self.group_mut(&group_id).membership.start_sessions(now);
            self.note_deadline(&group_id);
        }
        self.sweep_at_ms = now.monotonic_ms.saturating_add(self.config.offsets_retention_check_interval_ms);
    }
}
