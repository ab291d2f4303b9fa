//! What the passing of time does: sessions end, phases close, ids lapse, and old offsets are forgotten.

use super::draft::Draft;
use super::offsets::{REMOVALS_PER_DECISION_MAX, forget};
use super::{CommittedOffset, Decision, Event, Group, GroupCoordinator, Phase};
use crate::coordinator::machine::Now;
use std::sync::Arc;

/// Groups whose deadlines are looked at by one decision at most. A decision is one batch in the log; this keeps it,
/// and the time for which commands wait, short when many groups expire at once.
const GROUPS_PER_DECISION_MAX: usize = 16;

impl GroupCoordinator {
    pub(super) fn expire(&self, now: Now) -> Decision {
        let mut decision = Decision::none();
        let due = self.deadlines.range(..(now.monotonic_ms.saturating_add(1), Arc::from("")));
        for (_, group_id) in due.take(GROUPS_PER_DECISION_MAX) {
            decision.extend(self.expire_group(now, &self.groups[group_id]));
        }
        if decision.events.is_empty() && self.sweep_at_ms <= now.monotonic_ms {
            return self.sweep(now);
        }
        decision
    }

    fn expire_group(&self, now: Now, group: &Group) -> Decision {
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
                .filter(|(topic, _, committed)| self.is_expired(now, group, topic, committed))
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
            let unused = group.membership.phase == Phase::Empty && group.membership.pending.is_empty();
            if unused && removed == group.offsets().count() {
                events.push(forget(group));
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
