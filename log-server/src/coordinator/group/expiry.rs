//! What the passing of time does: sessions end, phases close, ids lapse, and old offsets are forgotten.

use super::draft::Draft;
use super::offsets::{REMOVALS_PER_DECISION_MAX, forget};
use super::{
    CommittedOffset, ConsumerGroup, ConsumerMember, Decision, Event, Group, GroupCoordinator, Phase,
};
use crate::coordinator::machine::Now;
use std::sync::Arc;

/// Groups whose deadlines are looked at by one decision at most. A decision is one batch in the log; this keeps it,
/// and the time for which commands wait, short when many groups expire at once.
const GROUPS_PER_DECISION_MAX: usize = 16;

impl GroupCoordinator {
    pub(super) fn expire(&self, now: Now) -> Decision {
        let mut decision = Decision::none();
        for group_id in self.stale.iter().take(GROUPS_PER_DECISION_MAX) {
            decision.extend(self.look_at_topics(now, group_id));
        }
        if !decision.events.is_empty() {
            return decision;
        }
        let due = self.deadlines.range(..(now.monotonic_ms.saturating_add(1), Arc::from("")));
        for (_, group_id) in due.take(GROUPS_PER_DECISION_MAX) {
            decision.extend(self.expire_group(now, &self.groups[group_id]));
        }
        if decision.events.is_empty() && self.sweep_at_ms <= now.monotonic_ms {
            return self.sweep(now);
        }
        decision
    }

    /// A consumer group compares the topics that it subscribes to with those that there are.
    fn look_at_topics(&self, now: Now, group_id: &Arc<str>) -> Decision {
        let consumers = self.groups[group_id].consumers.as_deref();
        let mut draft = self.consumer_draft(group_id, now, consumers, true);
        draft.settle();
        draft.finish()
    }

    /// Members of a consumer group that were silent for too long, or took too long to give partitions up, are put out.
    fn expire_consumers(&self, now: Now, group_id: &Arc<str>, consumers: &ConsumerGroup) -> Decision {
        let is_due = |member: &&Arc<ConsumerMember>| member.expires_at_ms() <= now.monotonic_ms;
        let due: Vec<Arc<str>> =
            consumers.members.values().filter(is_due).map(|member| member.member_id.clone()).collect();
        if due.is_empty() {
            let passed = Event::DeadlinePassed { group_id: group_id.clone() };
            return Decision { events: vec![passed], replies: Vec::new() };
        }
        let is_stale = self.stale.contains(group_id);
        let mut draft = self.consumer_draft(group_id, now, Some(consumers), is_stale);
        for member_id in &due {
            draft.remove(member_id);
        }
        draft.settle();
        draft.finish()
    }

    fn expire_group(&self, now: Now, group: &Group) -> Decision {
        if let Some(consumers) = &group.consumers {
            return self.expire_consumers(now, &group.membership.group_id, consumers);
        }
        let mut draft = Draft::new(&self.config, now, group.membership.clone());
        let is_due = |deadline_ms: u64| deadline_ms <= now.monotonic_ms;
        let mut changed = false;

        let pending_before = draft.group.pending.len();
        draft.group.pending.retain(|_, deadline_ms| !is_due(*deadline_ms));
        changed |= draft.group.pending.len() < pending_before;

        let silent: Vec<Arc<str>> = (draft.group.members.values())
            .filter(|member| member.expires_at_ms().is_some_and(is_due))
            .map(|member| member.member_id.clone())
            .collect();
        for member_id in &silent {
            draft.remove_member(member_id);
        }
        if !silent.is_empty() {
            changed = true;
            draft.rebalance();
        } else if changed {
            draft.complete_join_if_ready();
        }

        match draft.group.phase {
            Phase::PreparingRebalance { deadline_ms, .. } if is_due(deadline_ms) => {
                changed = true;
                draft.join_deadline();
            }
            Phase::CompletingRebalance { sync_deadline_ms }
            | Phase::Stable { sync_deadline_ms: Some(sync_deadline_ms) }
                if is_due(sync_deadline_ms) =>
            {
                changed = true;
                draft.sync_deadline();
            }
            _ => {}
        }
        if changed {
            draft.finish()
        } else {
            let group_id = group.membership.group_id.clone();
            Decision { events: vec![Event::DeadlinePassed { group_id }], replies: Vec::new() }
        }
    }

    /// Forgets offsets past their retention, and groups that have neither members nor offsets left.
    fn sweep(&self, now: Now) -> Decision {
        let mut events = Vec::new();
        for group in self.groups.values() {
            let group_id = &group.membership.group_id;
            let expired = group
                .offsets()
                .filter(|(topic, partition, committed)| {
                    self.is_expired(now, group, topic, committed)
                        && !group.pending.contains_key(&((*topic).clone(), *partition))
                })
                .map(|(topic, partition, _)| (topic.clone(), partition));
            let mut removed = 0;
            for (topic, partition) in expired {
                removed += 1;
                events.push(Event::OffsetRemoved { group_id: group_id.clone(), topic, partition });
                if events.len() >= REMOVALS_PER_DECISION_MAX {
                    events.push(Event::Swept { next_ms: now.monotonic_ms });
                    return Decision { events, replies: Vec::new() };
                }
            }
            let unused = group.is_empty() && group.membership.pending.is_empty() && group.pending.is_empty();
            if unused && removed == group.offsets().count() {
                events.extend(forget(group));
            }
        }
        for (producer_id, producer) in &self.producers {
            let Some(completion) = producer.completion.filter(|_| producer.pending.is_empty()) else {
                continue;
            };
            let idle_ms = now.wall_ms.saturating_sub(completion.completed_at_ms);
            if idle_ms >= self.config.producer_expiration_ms {
                events.push(Event::ProducerCompleted { producer_id: *producer_id, completion: None });
            }
        }
        let next_ms = now.monotonic_ms.saturating_add(self.config.offsets_retention_check_interval_ms.max(1));
        events.push(Event::Swept { next_ms });
        Decision { events, replies: Vec::new() }
    }

    /// Whether the broker may forget an offset (KIP-211): its own time of expiry has passed or, without one, the
    /// retention since the group became empty; in a group that only holds offsets, and in a stable one that does not
    /// read the topic any more, the retention since the commit. A clock that was set back forgets nothing early.
    fn is_expired(&self, now: Now, group: &Group, topic: &str, committed: &CommittedOffset) -> bool {
        let membership = &group.membership;
        let since_ms = match (&membership.protocol_type, membership.phase) {
            _ if group.consumers.is_some() && group.is_subscribed_to(topic) => return false,
            (None, _) => committed.committed_at_ms,
            (Some(_), Phase::Empty) => membership.phase_since_ms.unwrap_or(committed.committed_at_ms),
            (Some(kind), Phase::Stable { .. })
                if &**kind == super::subscription::CONSUMER && !membership.is_subscribed_to(topic) =>
            {
                committed.committed_at_ms
            }
            (Some(_), _) => return false,
        };
        match committed.expires_at_ms {
            Some(expires_at_ms) => expires_at_ms <= now.wall_ms,
            None => now.wall_ms.saturating_sub(since_ms) >= self.config.offsets_retention_ms,
        }
    }
}
