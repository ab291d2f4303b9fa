//! A change of one consumer group while it is being decided. What the log has to hear of is found by comparing, so that
//! it hears of everything and of nothing twice.

use super::migration::downgrade;
use super::reconcile::{Target, reconcile};
use super::{
    Assignment, ConsumerGroup, ConsumerMember, ConsumerRecord, Current, ResolvedRegex, TopicId, TopicImage,
};
use super::{MemberState, regex};
use crate::coordinator::group::{Decision, Event, GroupConfig, GroupCoordinator};
use crate::coordinator::machine::Now;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

pub(in crate::coordinator::group) struct ConsumerDraft<'a> {
    group_id: Arc<str>,
    now: Now,
    config: &'a GroupConfig,
    topics: &'a TopicImage,
    before: Option<&'a ConsumerGroup>,
    pub(in crate::coordinator::group) group: ConsumerGroup,
    /// Something changed that asks for a new assignment.
    unsettled: bool,
    /// The topics may have changed since patterns were resolved.
    topics_changed: bool,
}

impl<'a> ConsumerDraft<'a> {
    /// The draft in which a group that is no consumer group yet becomes `group`.
    pub(super) fn becoming(self, group: ConsumerGroup) -> Self {
        ConsumerDraft { group, before: None, ..self }
    }

    /// Whether only members of the classic protocol are left, so that the group becomes a classic one.
    pub(super) fn is_classic(&self) -> bool {
        let mut members = self.group.members.values();
        self.config.consumer_migration.downgrades()
            && !self.group.members.is_empty()
            && members.all(|it| it.metadata.classic.is_some())
    }

    /// The decision that makes the draft real, without answers.
    pub(in crate::coordinator::group) fn finish(self) -> Decision {
        if self.is_classic() {
            let records = ConsumerGroup::changes(self.before, None);
            let mut decision =
                Decision { events: record_events(&self.group_id, records), replies: Vec::new() };
            decision.extend(downgrade(self.config, self.now, &self.group_id, &self.group, self.topics));
            return decision;
        }
        let records = ConsumerGroup::changes(self.before, Some(&self.group));
        let mut events = record_events(&self.group_id, records);
        events.push(Event::ConsumerChanged { group_id: self.group_id, group: Box::new(self.group) });
        Decision { events, replies: Vec::new() }
    }

    /// Puts a member in, or in the place of what is known of it.
    pub(super) fn put(&mut self, member: ConsumerMember) {
        let same = self.group.members.get(&member.member_id).is_some_and(|it| {
            it.metadata.subscribes_like(&member.metadata) && it.metadata.assignor == member.metadata.assignor
        });
        self.unsettled |= !same;
        self.group.members.insert(member.member_id.clone(), Arc::new(member));
    }

    /// Takes a member out, and with it what it had.
    pub(in crate::coordinator::group) fn remove(&mut self, member_id: &str) -> Option<Arc<ConsumerMember>> {
        self.group.target.remove(member_id);
        let removed = self.group.members.remove(member_id);
        self.unsettled |= removed.is_some();
        removed
    }

    /// Gives a static member's place, what it has and what it is to have, to its next incarnation.
    pub(super) fn replace(&mut self, old_id: &str, new_id: &Arc<str>) {
        let Some(old) = self.group.members.remove(old_id) else { return };
        let mut member = Arc::unwrap_or_clone(old);
        member.member_id = new_id.clone();
        member.current.epoch = 0;
        member.current.previous_epoch = 0;
        member.current.assignment_epochs.clear();
        if let Some(target) = self.group.target.remove(old_id) {
            self.group.target.insert(new_id.clone(), target);
        }
        self.group.members.insert(new_id.clone(), Arc::new(member));
    }

    /// Looks at patterns and topics, and computes a new target if the group needs one.
    pub(in crate::coordinator::group) fn settle(&mut self) {
        if self.is_classic() {
            // Its leader will assign. The epoch stays the generation that members live in, so that they are called to
            // join again and do not lose what they have.
            return;
        }
        if self.unsettled || self.topics_changed {
            self.resolve_patterns();
            let names = self.group.subscribed_names();
            let known = names.into_iter().filter_map(|name| Some((name.clone(), *self.topics.get(&name)?)));
            let topics: BTreeMap<_, _> = known.collect();
            self.unsettled |= topics != self.group.topics;
            self.group.topics = topics;
            self.topics_changed = false;
        }
        if std::mem::take(&mut self.unsettled) {
            self.group.epoch = self.group.epoch.saturating_add(1);
        }
        if self.group.epoch > self.group.assignment_epoch {
            let targets = self.group.assignor().assign(&self.group.problem());
            let before = std::mem::take(&mut self.group.target);
            let kept = |member: &Arc<str>, target: Assignment| match before.get(member) {
                Some(before) if **before == target => before.clone(),
                _ => Arc::new(target),
            };
            self.group.target =
                targets.into_iter().map(|(member, target)| (member.clone(), kept(&member, target))).collect();
            self.group.assignment_epoch = self.group.epoch;
        }
    }

    fn resolve_patterns(&mut self) {
        let patterns: BTreeSet<Arc<str>> =
            self.group.members.values().filter_map(|it| it.metadata.topic_regex.clone()).collect();
        self.group.regexes.retain(|pattern, _| patterns.contains(pattern));
        for pattern in patterns {
            if !self.topics_changed && self.group.regexes.contains_key(&pattern) {
                continue;
            }
            let topics = regex::resolve(&pattern, self.topics);
            if self.group.regexes.get(&pattern).is_none_or(|before| before.topics != topics) {
                self.unsettled = true;
                let found =
                    ResolvedRegex { topics, version: self.topics.version, resolved_at_ms: self.now.wall_ms };
                self.group.regexes.insert(pattern, found);
            }
        }
    }

    /// Sets when a member's silence has lasted too long.
    pub(super) fn set_session_deadline(&mut self, member_id: &str, deadline_ms: u64) {
        if let Some(member) = self.group.members.get_mut(member_id) {
            Arc::make_mut(member).session_deadline_ms = deadline_ms;
        }
    }

    /// Sets until when a member has to do what it was asked to.
    pub(super) fn set_rebalance_deadline(&mut self, member_id: &str, deadline_ms: Option<u64>) {
        if let Some(member) = self.group.members.get_mut(member_id) {
            Arc::make_mut(member).rebalance_deadline_ms = deadline_ms;
        }
    }

    /// Moves a member one step towards the target, after it said that it holds `owned`.
    pub(super) fn reconcile(&mut self, member_id: &str, owned: Option<&Assignment>) {
        let Some(next) = next_step(&self.group, member_id, owned) else { return };
        if let Some(member) = self.group.members.get_mut(member_id)
            && member.current != next
        {
            let member = Arc::make_mut(member);
            let was_asked = member.current.state == MemberState::UnrevokedPartitions
                && next.state == MemberState::UnrevokedPartitions
                && member.current.epoch == next.epoch;
            member.current = next;
            if !was_asked {
                member.start_rebalance_timeout(self.now);
            }
        }
    }
}

impl GroupCoordinator {
    /// A draft of `before`, or of a new group where there is none. `topics_changed` says that the topics may have
    /// changed since the group last looked at them.
    pub(in crate::coordinator::group) fn consumer_draft<'a>(
        &'a self,
        group_id: &Arc<str>,
        now: Now,
        before: Option<&'a ConsumerGroup>,
        topics_changed: bool,
    ) -> ConsumerDraft<'a> {
        ConsumerDraft {
            group_id: group_id.clone(),
            now,
            config: &self.config,
            topics: &self.topics,
            before,
            group: before.cloned().unwrap_or_default(),
            unsettled: false,
            topics_changed,
        }
    }
}

/// Where a member of `group` stands after a heartbeat in which it said that it holds `owned`; `None` for a stranger.
pub(super) fn next_step(
    group: &ConsumerGroup,
    member_id: &str,
    owned: Option<&Assignment>,
) -> Option<Current> {
    let member = group.members.get(member_id)?;
    let nothing = Arc::default();
    let target =
        Target { epoch: group.assignment_epoch, partitions: group.target_of(member_id).unwrap_or(&nothing) };
    let held: OnceCell<HashSet<(TopicId, i32)>> = OnceCell::new();
    let others = || {
        let others = group.members.values().filter(|it| *it.member_id != *member_id);
        others.flat_map(|it| it.current.held()).collect()
    };
    let is_held = |topic, index| held.get_or_init(others).contains(&(topic, index));
    Some(reconcile(&member.current, target, owned, is_held))
}

/// The events of a group's records.
pub(in crate::coordinator::group) fn record_events(
    group_id: &Arc<str>,
    records: Vec<ConsumerRecord>,
) -> Vec<Event> {
    let event = |record| Event::ConsumerStored { group_id: group_id.clone(), record };
    records.into_iter().map(event).collect()
}
