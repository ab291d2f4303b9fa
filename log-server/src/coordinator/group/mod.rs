//! Consumer groups: who is in them, what each member works on, and how far the group has read.
//!
//! Groups are of two kinds. *Classic* ones, in this directory, have their membership by JoinGroup, SyncGroup, Heartbeat
//! and LeaveGroup. *Consumer* groups, in `consumer/`, have it by ConsumerGroupHeartbeat (KIP-848). Offsets are the same
//! in both.
//!
//! [`GroupCoordinator`] is the state machine of one shard of all groups. Its rules are those of Kafka's group
//! coordinator, with the KIPs that shaped them: 62 (rebalance timeout), 134 (initial delay), 211 (offset
//! retention), 345 (static members), 394 (member ids are required), 559 (protocol in SyncGroup), 800 (reasons), 814
//! (skipped assignments).
//!
//! **Durable**: for each group the last generation that was stable or empty, with members, subscriptions and
//! assignments; for each group and partition the committed offset; for each transactional producer the offsets that wait
//! for the end of its transaction, and the end of its last one. So members of a stable group go on after a restart
//! of the broker without a rebalance.
//!
//! **Soft, lost on restart**: a rebalance in progress (the group is back in its last stable generation, and members
//! that were told a newer one are sent to join again by ILLEGAL_GENERATION); parked JoinGroup and SyncGroup requests;
//! member ids that were given out and not used; when each member was last heard of (everybody gets a whole session).

mod admin;
mod command;
mod config;
mod consumer;
mod draft;
mod event;
mod expiry;
mod join;
mod member;
mod membership;
mod offsets;
mod overview;
mod pending;
mod pending_record;
mod record;
mod reply;
mod session;
mod subscription;
mod transactional;

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
#[cfg(test)]
mod transactional_model;
#[cfg(test)]
mod transactional_tests;

pub use super::transaction::Outcome;
pub use admin::{GroupDescription, GroupKind, GroupListing, MemberDescription};
pub use command::{
    Command, CommitOffsets, CommitPendingOffsets, CompleteTransaction, DeleteOffsets, Heartbeat, JoinGroup,
    LeaveGroup, MemberIdentity, OffsetToCommit, SyncGroup,
};
pub use config::{GroupConfig, MigrationPolicy};
pub use consumer::{
    Assignment, Assignor, ClassicMember, ConsumerGroup, ConsumerGroupDescription, ConsumerHeartbeat,
    ConsumerMember, ConsumerMemberDescription, ConsumerRecord, Current, HeartbeatAnswer, LEAVE_EPOCH,
    LEAVE_STATIC_EPOCH, MemberMetadata, MemberState, ResolvedRegex, TopicId, TopicImage, TopicInfo,
};
pub use event::{CommittedOffset, Event, GroupRecord, MemberRecord};
pub use member::Member;
pub use membership::{GroupState, InitialDelay, Membership, Phase};
pub use offsets::REMOVALS_PER_DECISION_MAX;
pub use overview::{GroupOverview, GroupProtocol, MemberOverview, OffsetOverview};
pub use pending::{Completion, PendingOffset};
pub use reply::{GroupError, JoinRefused, Joined, JoinedMember, Reply, Synced};

use self::pending::{PendingIndex, Producer};
use super::field;
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
    /// The topics that groups can subscribe to.
    topics: Arc<TopicImage>,
    /// Consumer groups that have not looked at `topics` since it changed.
    stale: BTreeSet<Arc<str>>,
    /// Transactional producers that have committed offsets here, until a while after their last transaction.
    producers: BTreeMap<i64, Producer>,
    /// The order of the next pending offset.
    next_order: i64,
}

/// One group: who is in it, and how far it has read.
#[derive(Debug)]
struct Group {
    membership: Membership,
    /// What the log says of the membership, kept for snapshots, as the membership may be in a rebalance.
    stored: Option<GroupRecord>,
    /// Set in a consumer group, whose `membership` is empty.
    consumers: Option<Box<ConsumerGroup>>,
    offsets: BTreeMap<Arc<str>, BTreeMap<i32, CommittedOffset>>,
    /// Where transactions are open, and whose. The offsets themselves are with the producers.
    pending: PendingIndex,
    /// The group's entry in `deadlines`.
    deadline_ms: Option<u64>,
}

impl Group {
    fn new(group_id: Arc<str>) -> Self {
        Group {
            membership: Membership::new(group_id),
            stored: None,
            consumers: None,
            offsets: BTreeMap::new(),
            pending: PendingIndex::new(),
            deadline_ms: None,
        }
    }

    /// What the group is doing.
    fn state(&self) -> GroupState {
        self.consumers.as_ref().map_or_else(|| self.membership.state(), |group| group.state())
    }

    /// Whether nobody is in it, be it a group of either kind.
    fn is_empty(&self) -> bool {
        self.state() == GroupState::Empty
    }

    /// Whether members read `topic`.
    fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.consumers {
            Some(group) => group.is_subscribed_to(topic),
            None => self.membership.is_subscribed_to(topic),
        }
    }

    fn next_deadline_ms(&self) -> Option<u64> {
        let consumers = self.consumers.as_ref().and_then(|group| group.next_deadline_ms());
        consumers.into_iter().chain(self.membership.next_deadline_ms()).min()
    }

    /// Whether there is anything that a restart would bring back.
    fn is_remembered(&self) -> bool {
        self.stored.is_some()
            || self.consumers.is_some()
            || !self.offsets.is_empty()
            || !self.pending.is_empty()
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
    /// A coordinator of no groups yet, which knows of no topics.
    pub fn new(config: GroupConfig) -> Self {
        GroupCoordinator {
            config,
            groups: HashMap::new(),
            deadlines: BTreeSet::new(),
            sweep_at_ms: u64::MAX,
            topics: Arc::default(),
            stale: BTreeSet::new(),
            producers: BTreeMap::new(),
            next_order: 0,
        }
    }

    /// The same, knowing these topics.
    pub fn with_topics(self, topics: Arc<TopicImage>) -> Self {
        GroupCoordinator { topics, ..self }
    }

    fn group_mut(&mut self, group_id: &Arc<str>) -> &mut Group {
        self.groups.entry(group_id.clone()).or_insert_with(|| Group::new(group_id.clone()))
    }

    fn remove_group(&mut self, group_id: &Arc<str>) {
        self.stale.remove(group_id);
        if let Some(Group { deadline_ms: Some(deadline_ms), .. }) = self.groups.remove(group_id) {
            self.deadlines.remove(&(deadline_ms, group_id.clone()));
        }
    }

    /// Takes a group out that left nothing behind.
    fn remove_if_forgotten(&mut self, group_id: &Arc<str>) {
        if self.groups.get(group_id).is_some_and(|group| !group.is_remembered()) {
            self.remove_group(group_id);
        } else {
            self.note_deadline(group_id);
        }
    }

    fn consumer_groups(&self) -> BTreeSet<Arc<str>> {
        let consumers = self.groups.iter().filter(|(_, group)| group.consumers.is_some());
        consumers.map(|(group_id, _)| group_id.clone()).collect()
    }

    fn note_deadline(&mut self, group_id: &Arc<str>) {
        let Some(group) = self.groups.get_mut(group_id) else { return };
        let next = group.next_deadline_ms();
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
            Command::ConsumerHeartbeat(heartbeat) => self.consumer_heartbeat(now, token, *heartbeat),
            Command::Heartbeat(heartbeat) => self.heartbeat(now, token, heartbeat),
            Command::Leave(leave) => self.leave(now, token, leave),
            Command::CommitOffsets(commit) => self.commit_offsets(now, token, commit),
            Command::CommitPendingOffsets(commit) => self.commit_pending_offsets(now, token, commit),
            Command::CompleteTransaction(complete) => self.complete_transaction(now, token, complete),
            Command::DeleteOffsets(delete) => self.delete_offsets(token, delete),
            Command::DeleteGroup(group_id) => self.delete_group(token, group_id),
            Command::ForgetTopics(topics) => self.forget_topics(token, &topics),
            Command::SetTopics(topics) => {
                Decision { events: vec![Event::TopicsSet(topics)], replies: vec![(token, Reply::SetTopics)] }
            }
        }
    }

    fn handle_timeout(&self, now: Now) -> Decision {
        self.expire(now)
    }

    fn poll_timeout(&self) -> Option<u64> {
        let group = self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms);
        let is_empty = self.groups.is_empty() && self.producers.is_empty();
        let sweep = (!is_empty).then_some(self.sweep_at_ms);
        let stale = (!self.stale.is_empty()).then_some(0);
        group.into_iter().chain(sweep).chain(stale).min()
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::GroupStored { group_id, record } => {
                let group = self.group_mut(&group_id);
                group.membership = Membership::from_record(group_id.clone(), &record);
                group.stored = Some(record);
                self.note_deadline(&group_id);
            }
            Event::GroupRemoved { group_id } => {
                let group = self.group_mut(&group_id);
                group.membership = Membership::new(group_id.clone());
                group.stored = None;
                self.remove_if_forgotten(&group_id);
            }
            Event::ConsumerStored { group_id, record: ConsumerRecord::Epoch(None) } => {
                self.group_mut(&group_id).consumers = None;
                self.stale.remove(&group_id);
                self.remove_if_forgotten(&group_id);
            }
            Event::ConsumerStored { group_id, record } => {
                // A tombstone of what is gone already makes no group.
                let group = match record.is_tombstone() {
                    true => self.groups.get_mut(&group_id).and_then(|group| group.consumers.as_mut()),
                    false => Some(self.group_mut(&group_id).consumers.get_or_insert_default()),
                };
                if let Some(group) = group {
                    group.apply(record);
                }
            }
            Event::ConsumerChanged { group_id, group } => {
                self.group_mut(&group_id).consumers = Some(group);
                self.stale.remove(&group_id);
                self.note_deadline(&group_id);
            }
            Event::GroupDropped { group_id } => self.remove_group(&group_id),
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
            Event::OffsetPending { group_id, topic, partition, producer_id, pending } => {
                self.put_pending(producer_id, (group_id, topic, partition), pending);
            }
            Event::PendingOffsetRemoved { group_id, topic, partition, producer_id } => {
                self.remove_pending(producer_id, &(group_id, topic, partition));
            }
            Event::ProducerCompleted { producer_id, completion } => {
                self.put_completion(producer_id, completion);
            }
            Event::MembershipChanged(membership) => {
                let group_id = membership.group_id.clone();
                self.group_mut(&group_id).membership = *membership;
                self.note_deadline(&group_id);
            }
            Event::MemberSeen { group_id, member_id, session_deadline_ms } => {
                let Some(group) = self.groups.get_mut(&group_id) else { return };
                if let Some(member) = group.membership.members.get_mut(&member_id) {
                    Arc::make_mut(member).session_deadline_ms = session_deadline_ms;
                } else if let Some(consumers) = &mut group.consumers
                    && let Some(member) = consumers.members.get_mut(&member_id)
                {
                    Arc::make_mut(member).session_deadline_ms = session_deadline_ms;
                }
            }
            Event::DeadlinePassed { group_id } => self.note_deadline(&group_id),
            Event::Swept { next_ms } => self.sweep_at_ms = next_ms,
            Event::TopicsSet(topics) => {
                self.topics = topics;
                self.stale = self.consumer_groups();
            }
        }
    }

    fn encode(event: &Event) -> Option<LogEntry> {
        record::encode(event)
    }

    fn decode(entry: &LogEntry) -> Result<Option<Event>, EntryError> {
        record::decode(entry)
    }

    fn snapshot(&self) -> Box<dyn Iterator<Item = LogEntry> + '_> {
        let producers =
            self.producers.iter().flat_map(|(producer_id, producer)| producer.entries(*producer_id));
        let groups = self.groups.values().flat_map(|group| {
            let group_id = &group.membership.group_id;
            let stored = group.stored.iter().map(|record| record::encode_group(group_id, record));
            let offsets = group.offsets().map(|(topic, partition, committed)| {
                record::encode_offset(group_id, topic, partition, committed)
            });
            let consumers = ConsumerGroup::changes(None, group.consumers.as_deref()).into_iter();
            stored.chain(consumers.map(|record| consumer::encode(group_id, &record))).chain(offsets)
        });
        Box::new(groups.chain(producers))
    }

    fn loaded(&mut self, now: Now) {
        self.groups.retain(|_, group| group.is_remembered());
        let group_ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        for group_id in group_ids {
            let session_timeout_ms = self.config.consumer_session_timeout_ms;
            let group = self.group_mut(&group_id);
            group.membership.start_sessions(now);
            if let Some(consumers) = &mut group.consumers {
                consumers.start_sessions(now, session_timeout_ms);
            }
            self.note_deadline(&group_id);
        }
        self.stale = self.consumer_groups();
        self.sweep_at_ms = now.monotonic_ms.saturating_add(self.config.offsets_retention_check_interval_ms);
    }
}
