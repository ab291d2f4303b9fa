//! A consumer group: its epochs, members, topics and target, and how records of the log become that.

use super::assignor::{Problem, Subscriber};
use super::{Assignment, Assignor, ConsumerMember, Current, MemberMetadata, TopicInfo};
use crate::coordinator::group::GroupState;
use crate::coordinator::group::member::after;
use crate::coordinator::machine::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// Counts up with each change that asks for a new assignment.
    pub epoch: i32,
    /// The group's epoch that the target was computed for.
    pub assignment_epoch: i32,
    /// By member id. Shared with drafts, copied when one of them changes a member.
    pub members: BTreeMap<Arc<str>, Arc<ConsumerMember>>,
    /// Who is to have what, by member id.
    pub target: BTreeMap<Arc<str>, Arc<Assignment>>,
    /// The topics that members subscribe to, as they were when the target was computed. Those that do not exist are
    /// not in it.
    pub topics: BTreeMap<Arc<str>, TopicInfo>,
    /// What the patterns of members have found.
    pub regexes: BTreeMap<Arc<str>, ResolvedRegex>,
}

/// What a pattern has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedRegex {
    /// Names of topics.
    pub topics: BTreeSet<Arc<str>>,
    /// The version of the topics that were looked at.
    pub version: i64,
    /// When that was, in wall-clock milliseconds.
    pub resolved_at_ms: i64,
}

/// One record of a consumer group: the new state of one of its parts, or `None` where that part is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerRecord {
    /// The group's epoch; without it the group is gone.
    Epoch(Option<i32>),
    /// The topics that members subscribe to.
    Topics(Option<BTreeMap<Arc<str>, TopicInfo>>),
    /// What a member said of itself.
    Member(Arc<str>, Option<MemberMetadata>),
    /// The target's epoch.
    TargetEpoch(Option<i32>),
    /// What a member is to have.
    Target(Arc<str>, Option<Arc<Assignment>>),
    /// How far a member has come.
    Current(Arc<str>, Option<Current>),
    /// What a pattern has found.
    Regex(Arc<str>, Option<ResolvedRegex>),
}

impl ConsumerRecord {
    /// Whether it says that something is gone.
    pub(in crate::coordinator::group) fn is_tombstone(&self) -> bool {
        match self {
            ConsumerRecord::Epoch(value) | ConsumerRecord::TargetEpoch(value) => value.is_none(),
            ConsumerRecord::Topics(value) => value.is_none(),
            ConsumerRecord::Member(_, value) => value.is_none(),
            ConsumerRecord::Target(_, value) => value.is_none(),
            ConsumerRecord::Current(_, value) => value.is_none(),
            ConsumerRecord::Regex(_, value) => value.is_none(),
        }
    }
}

impl ConsumerGroup {
    /// What the group is doing.
    pub fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.assignment_epoch {
            GroupState::Assigning
        } else if self.members.values().all(|it| it.current.is_reconciled_to(self.assignment_epoch)) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// The assignor that most members ask for.
    pub fn assignor(&self) -> Assignor {
        Assignor::elect(self.members.values().filter_map(|it| it.metadata.assignor.as_deref()))
    }

    /// The member with that instance id.
    pub(super) fn static_member(&self, instance_id: &str) -> Option<&Arc<ConsumerMember>> {
        self.members.values().find(|it| it.metadata.instance_id.as_deref() == Some(instance_id))
    }

    /// What the target gives a member.
    pub(super) fn target_of(&self, member_id: &str) -> Option<&Arc<Assignment>> {
        self.target.get(member_id)
    }

    /// Whether members read `topic`, be it by a pattern.
    pub(in crate::coordinator::group) fn is_subscribed_to(&self, topic: &str) -> bool {
        self.members.values().any(|member| {
            let by_pattern = member.metadata.topic_regex.as_ref().and_then(|it| self.regexes.get(it));
            member.metadata.topic_names.contains(topic)
                || by_pattern.is_some_and(|found| found.topics.contains(topic))
        })
    }

    /// Names of all topics that members subscribe to, whether they exist or not.
    pub(super) fn subscribed_names(&self) -> BTreeSet<Arc<str>> {
        let by_name = self.members.values().flat_map(|it| &it.metadata.topic_names);
        let patterns = self.members.values().filter_map(|it| it.metadata.topic_regex.as_ref());
        let patterns: BTreeSet<&Arc<str>> = patterns.collect();
        let found = patterns.into_iter().filter_map(|it| self.regexes.get(it)).flat_map(|it| &it.topics);
        by_name.chain(found).cloned().collect()
    }

    /// What an assignor has to share out.
    pub(super) fn problem(&self) -> Problem {
        let topics = self.topics.values().map(|info| (info.id, info.partitions)).collect();
        let members = self.members.iter().map(|(id, member)| {
            let found = member.metadata.topic_regex.as_ref().and_then(|it| self.regexes.get(it));
            let names = member.metadata.topic_names.iter().chain(found.iter().flat_map(|it| &it.topics));
            let subscriber = Subscriber {
                instance_id: member.metadata.instance_id.clone(),
                topics: names.filter_map(|name| self.topics.get(name)).map(|info| info.id).collect(),
                before: self.target.get(id).cloned().unwrap_or_default(),
            };
            (id.clone(), subscriber)
        });
        Problem { members: members.collect(), topics }
    }

    /// The earliest monotonic time at which a member may have to be put out.
    pub(in crate::coordinator::group) fn next_deadline_ms(&self) -> Option<u64> {
        self.members.values().map(|it| it.expires_at_ms()).filter(|at| *at != u64::MAX).min()
    }

    /// Gives every member a whole session, and those that have to give up partitions the whole time for it.
    pub(in crate::coordinator::group) fn start_sessions(&mut self, now: Now, session_timeout_ms: i32) {
        for member in self.members.values_mut() {
            let member = Arc::make_mut(member);
            member.session_deadline_ms = after(now, member.session_timeout_ms(session_timeout_ms));
            member.start_rebalance_timeout(now);
        }
    }

    /// Takes a record of the log in.
    pub(in crate::coordinator::group) fn apply(&mut self, record: ConsumerRecord) {
        match record {
            ConsumerRecord::Epoch(epoch) => self.epoch = epoch.unwrap_or(0),
            ConsumerRecord::Topics(topics) => self.topics = topics.unwrap_or_default(),
            ConsumerRecord::TargetEpoch(epoch) => self.assignment_epoch = epoch.unwrap_or(0),
            ConsumerRecord::Member(id, Some(metadata)) => self.member_mut(id).metadata = metadata,
            ConsumerRecord::Member(id, None) => drop(self.members.remove(&id)),
            ConsumerRecord::Current(id, Some(current)) => self.member_mut(id).current = current,
            ConsumerRecord::Current(id, None) => {
                if let Some(member) = self.members.get_mut(&id) {
                    Arc::make_mut(member).current = Current::default();
                }
            }
            ConsumerRecord::Target(id, Some(target)) => drop(self.target.insert(id, target)),
            ConsumerRecord::Target(id, None) => drop(self.target.remove(&id)),
            ConsumerRecord::Regex(pattern, Some(found)) => drop(self.regexes.insert(pattern, found)),
            ConsumerRecord::Regex(pattern, None) => drop(self.regexes.remove(&pattern)),
        }
    }

    fn member_mut(&mut self, id: Arc<str>) -> &mut ConsumerMember {
        Arc::make_mut(self.members.entry(id.clone()).or_insert_with(|| Arc::new(ConsumerMember::new(id))))
    }

    /// The records that make `after` out of `before`, in an order in which each prefix makes sense to a reader.
    pub(in crate::coordinator::group) fn changes(
        before: Option<&ConsumerGroup>,
        after: Option<&ConsumerGroup>,
    ) -> Vec<ConsumerRecord> {
        let nothing = ConsumerGroup::default();
        let (was, is) = (before.unwrap_or(&nothing), after.unwrap_or(&nothing));
        let mut records = Vec::new();
        for id in was.members.keys().filter(|id| !is.members.contains_key(*id)) {
            records.push(ConsumerRecord::Current(id.clone(), None));
        }
        for id in was.target.keys().filter(|id| !is.target.contains_key(*id)) {
            records.push(ConsumerRecord::Target(id.clone(), None));
        }
        for id in was.members.keys().filter(|id| !is.members.contains_key(*id)) {
            records.push(ConsumerRecord::Member(id.clone(), None));
        }
        for pattern in was.regexes.keys().filter(|pattern| !is.regexes.contains_key(*pattern)) {
            records.push(ConsumerRecord::Regex(pattern.clone(), None));
        }
        if after.is_none() {
            if before.is_some() {
                records.push(ConsumerRecord::TargetEpoch(None));
                records.push(ConsumerRecord::Topics(None));
                records.push(ConsumerRecord::Epoch(None));
            }
            return records;
        }
        for (id, member) in changed(&was.members, &is.members) {
            if was.members.get(id).is_none_or(|it| it.metadata != member.metadata) {
                records.push(ConsumerRecord::Member(id.clone(), Some(member.metadata.clone())));
            }
        }
        for (pattern, found) in changed(&was.regexes, &is.regexes) {
            records.push(ConsumerRecord::Regex(pattern.clone(), Some(found.clone())));
        }
        if was.topics != is.topics {
            records.push(ConsumerRecord::Topics(Some(is.topics.clone())));
        }
        if before.is_none() || was.epoch != is.epoch {
            records.push(ConsumerRecord::Epoch(Some(is.epoch)));
        }
        for (id, target) in changed(&was.target, &is.target) {
            records.push(ConsumerRecord::Target(id.clone(), Some(target.clone())));
        }
        if was.assignment_epoch != is.assignment_epoch {
            records.push(ConsumerRecord::TargetEpoch(Some(is.assignment_epoch)));
        }
        for (id, member) in changed(&was.members, &is.members) {
            if was.members.get(id).is_none_or(|it| it.current != member.current) {
                records.push(ConsumerRecord::Current(id.clone(), Some(member.current.clone())));
            }
        }
        records
    }
}

/// What is new or different in `is`.
fn changed<'a, T: PartialEq>(
    was: &'a BTreeMap<Arc<str>, T>,
    is: &'a BTreeMap<Arc<str>, T>,
) -> impl Iterator<Item = (&'a Arc<str>, &'a T)> {
    is.iter().filter(|(key, value)| was.get(*key) != Some(*value))
}
