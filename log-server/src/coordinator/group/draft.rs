//! A change of one group's membership while it is being decided: a copy of the group, the answers that the change
//! leads to, and whether the log has to hear of it. Nothing has happened until the decision is applied.

use super::member::after;
use super::{
    Decision, Event, GroupConfig, GroupError, InitialDelay, JoinGroup, JoinRefused, Joined, Member,
    Membership, Phase, Reply, Synced,
};
use crate::coordinator::machine::{Now, Token};
use bytes::Bytes;
use std::mem;
use std::sync::Arc;

pub(super) struct Draft<'a> {
    config: &'a GroupConfig,
    pub(super) now: Now,
    pub(super) group: Membership,
    replies: Vec<(Token, Reply)>,
    store: bool,
}

impl<'a> Draft<'a> {
    pub(super) fn new(config: &'a GroupConfig, now: Now, group: Membership) -> Self {
        Draft { config, now, group, replies: Vec::new(), store: false }
    }

    /// The decision that makes the draft real.
    pub(super) fn finish(self) -> Decision {
        let mut events = Vec::with_capacity(2);
        if self.store {
            let record = self.group.to_record();
            events.push(Event::GroupStored { group_id: self.group.group_id.clone(), record });
        }
        events.push(Event::MembershipChanged(Box::new(self.group)));
        Decision { events, replies: self.replies }
    }

    pub(super) fn reply(&mut self, token: Token, reply: Reply) {
        self.replies.push((token, reply));
    }

    pub(super) fn refuse_join(&mut self, token: Token, error: GroupError, member_id: Arc<str>) {
        self.reply(token, Reply::Join(Err(JoinRefused { error, member_id })));
    }

    /// The member to change, which has to be there.
    pub(super) fn member_mut(&mut self, member_id: &str) -> &mut Member {
        let member =
            self.group.members.get_mut(member_id).expect("the caller found the member in this group");
        Arc::make_mut(member)
    }

    pub(super) fn set_phase(&mut self, phase: Phase) {
        let before = self.group.state();
        self.group.phase = phase;
        if self.group.state() != before {
            self.group.phase_since_ms = Some(self.now.wall_ms);
        }
    }

    /// Gives out `member_id`, to be used within `timeout_ms`.
    pub(super) fn add_pending(&mut self, member_id: Arc<str>, timeout_ms: i32) {
        self.group.pending.insert(member_id, after(self.now, timeout_ms));
    }

    /// Lets a newcomer in, its request parked.
    pub(super) fn add_member(&mut self, join: &JoinGroup, member_id: Arc<str>, token: Token) {
        self.group.pending.remove(&member_id);
        if self.group.members.is_empty() {
            self.group.protocol_type = Some(join.protocol_type.clone());
        }
        if self.group.leader.is_none() {
            self.group.leader = Some(member_id.clone());
        }
        if let Phase::PreparingRebalance { initial: Some(delay), .. } = &mut self.group.phase {
            delay.newcomers = true;
        }
        let deadline_ms = after(self.now, self.config.new_member_join_timeout_ms);
        self.group.insert(Arc::new(Member::joining(join, member_id, token, deadline_ms)));
    }

    /// Takes over what a member that joins again says now, its request parked.
    pub(super) fn update_member(&mut self, join: &JoinGroup, member_id: &str, token: Token) {
        let member = self.member_mut(member_id);
        member.protocols = join.protocols.clone();
        member.session_timeout_ms = join.session_timeout_ms;
        member.rebalance_timeout_ms = join.rebalance_timeout_ms;
        let superseded = member.awaiting_join.replace(token);
        let member_id = member.member_id.clone();
        if let Some(earlier) = superseded {
            self.refuse_join(earlier, GroupError::RebalanceInProgress, member_id);
        }
    }

    /// Puts `new_id` in the place of a static member's old id; whoever still waits under the old one is fenced.
    pub(super) fn replace_static_member(&mut self, old_id: &str, new_id: Arc<str>) {
        let old = self.group.members.remove(old_id).expect("the static member is in this group");
        let mut member = Arc::unwrap_or_clone(old);
        let (join, sync) = (member.awaiting_join.take(), member.awaiting_sync.take());
        if let Some(token) = join {
            self.refuse_join(token, GroupError::FencedInstanceId, member.member_id.clone());
        }
        if let Some(token) = sync {
            self.reply(token, Reply::Sync(Err(GroupError::FencedInstanceId)));
        }
        if self.group.is_leader(old_id) {
            self.group.leader = Some(new_id.clone());
        }
        if self.group.unsynced.remove(old_id) {
            self.group.unsynced.insert(new_id.clone());
        }
        member.member_id = new_id;
        member.extend_session(self.now);
        self.group.insert(Arc::new(member));
    }

    /// Takes a member out; its parked requests are told that it is nobody now.
    pub(super) fn remove_member(&mut self, member_id: &str) {
        let Some(member) = self.group.members.remove(member_id) else { return };
        if let Some(token) = member.awaiting_join {
            self.refuse_join(token, GroupError::UnknownMemberId, member.member_id.clone());
        }
        if let Some(token) = member.awaiting_sync {
            self.reply(token, Reply::Sync(Err(GroupError::UnknownMemberId)));
        }
        if let Some(instance_id) = &member.instance_id {
            self.group.static_members.remove(instance_id);
        }
        self.group.unsynced.remove(member_id);
        if self.group.is_leader(member_id) {
            self.group.leader = self.group.members.keys().next().cloned();
        }
    }

    /// Something changed that the present generation cannot live with: calls everybody to join again or, in the
    /// join phase already, looks whether it is over.
    pub(super) fn rebalance(&mut self) {
        match self.group.phase {
            Phase::PreparingRebalance { .. } => self.complete_join_if_ready(),
            Phase::Empty | Phase::CompletingRebalance { .. } | Phase::Stable { .. } => {
                self.prepare_rebalance()
            }
        }
    }

    fn prepare_rebalance(&mut self) {
        if matches!(self.group.phase, Phase::CompletingRebalance { .. }) {
            self.cancel_syncs();
        }
        self.group.unsynced.clear();
        let rebalance_timeout_ms = self.group.rebalance_timeout_ms();
        if self.group.phase != Phase::Empty {
            let deadline_ms = after(self.now, rebalance_timeout_ms);
            self.set_phase(Phase::PreparingRebalance { deadline_ms, initial: None });
            return self.complete_join_if_ready();
        }
        let delay_ms = self.config.initial_rebalance_delay_ms.min(rebalance_timeout_ms).max(0);
        let remaining_ms = u64::try_from(rebalance_timeout_ms - delay_ms).unwrap_or(0);
        self.set_phase(Phase::PreparingRebalance {
            deadline_ms: after(self.now, delay_ms),
            initial: Some(InitialDelay { remaining_ms, newcomers: false }),
        });
        if delay_ms == 0 {
            self.complete_join();
        }
    }

    /// Ends the join phase if nobody is missing and nobody is waited for on purpose.
    pub(super) fn complete_join_if_ready(&mut self) {
        let waiting = matches!(self.group.phase, Phase::PreparingRebalance { initial: None, .. });
        if waiting && self.group.all_joined() {
            self.complete_join();
        }
    }

    /// The join phase's time is up.
    pub(super) fn join_deadline(&mut self) {
        let Phase::PreparingRebalance { initial, .. } = self.group.phase else { return };
        match initial {
            Some(InitialDelay { remaining_ms, newcomers: true }) if remaining_ms > 0 => {
                let delay_ms =
                    u64::try_from(self.config.initial_rebalance_delay_ms).unwrap_or(0).min(remaining_ms);
                self.set_phase(Phase::PreparingRebalance {
                    deadline_ms: self.now.monotonic_ms.saturating_add(delay_ms),
                    initial: Some(InitialDelay { remaining_ms: remaining_ms - delay_ms, newcomers: false }),
                });
            }
            Some(_) | None => self.complete_join(),
        }
    }

    /// Ends the join phase: who has not joined is left behind, except static members, who may be restarting; the
    /// others get a new generation.
    fn complete_join(&mut self) {
        let absent: Vec<Arc<str>> = (self.group.members.values())
            .filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|member| member.member_id.clone())
            .collect();
        for member_id in absent {
            self.remove_member(&member_id);
        }
        if self.group.members.is_empty() {
            return self.become_empty();
        }
        if !self.elect_joined_leader() {
            // Only static members are left and none of them is here. Their sessions will end or they will join.
            let deadline_ms = after(self.now, self.group.rebalance_timeout_ms());
            return self.set_phase(Phase::PreparingRebalance { deadline_ms, initial: None });
        }
        self.group.generation = next_generation(self.group.generation);
        self.group.protocol = self.group.elect_protocol();
        let sync_deadline_ms = after(self.now, self.group.rebalance_timeout_ms());
        self.set_phase(Phase::CompletingRebalance { sync_deadline_ms });
        self.group.unsynced = self.group.members.keys().cloned().collect();

        let now = self.now;
        let member_ids: Vec<Arc<str>> = self.group.members.keys().cloned().collect();
        for member_id in member_ids {
            let member = self.member_mut(&member_id);
            member.is_new = false;
            member.assignment = Bytes::new();
            member.extend_session(now);
            if let Some(token) = member.awaiting_join.take() {
                let joined = self.joined(&member_id);
                self.reply(token, Reply::Join(Ok(joined)));
            }
        }
    }

    fn become_empty(&mut self) {
        self.group.generation = next_generation(self.group.generation);
        self.group.protocol = None;
        self.group.leader = None;
        self.set_phase(Phase::Empty);
        self.store = true;
    }

    /// Keeps the leader if it has joined; otherwise the first member that has. False if nobody has.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |member: &Arc<Member>| member.awaiting_join.is_some();
        let leader = self.group.leader.as_ref().and_then(|leader| self.group.members.get(leader));
        if leader.is_some_and(has_joined) {
            return true;
        }
        let successor = self.group.members.values().find(|member| has_joined(member));
        let successor = successor.map(|member| member.member_id.clone());
        let found = successor.is_some();
        if found {
            self.group.leader = successor;
        }
        found
    }

    /// The present generation as `member_id` is told of it.
    pub(super) fn joined(&self, member_id: &str) -> Joined {
        joined(&self.group, member_id)
    }

    /// Whoever waits for an assignment will not get one in this generation.
    fn cancel_syncs(&mut self) {
        let now = self.now;
        let member_ids: Vec<Arc<str>> = self.group.members.keys().cloned().collect();
        for member_id in member_ids {
            let member = self.member_mut(&member_id);
            member.assignment = Bytes::new();
            if let Some(token) = member.awaiting_sync.take() {
                // It was spared while it waited for us; from now on it has to be heard of again.
                member.extend_session(now);
                self.reply(token, Reply::Sync(Err(GroupError::RebalanceInProgress)));
            }
        }
    }

    /// The leader has spoken: the generation is stable, and whoever waits for its assignment gets it. Members that
    /// the leader forgot get nothing; ids that are no members are ignored.
    pub(super) fn assign(&mut self, assignments: Vec<(Arc<str>, Bytes)>, sync_deadline_ms: u64) {
        for (member_id, assignment) in assignments {
            if self.group.members.contains_key(&member_id) {
                self.member_mut(&member_id).assignment = assignment;
            }
        }
        let now = self.now;
        let member_ids: Vec<Arc<str>> = self.group.members.keys().cloned().collect();
        for member_id in member_ids {
            let member = self.member_mut(&member_id);
            if let Some(token) = member.awaiting_sync.take() {
                member.extend_session(now);
                let synced = synced(&self.group, &self.group.members[&member_id]);
                self.reply(token, Reply::Sync(Ok(synced)));
            }
        }
        let all_synced = self.group.unsynced.is_empty();
        self.set_phase(Phase::Stable { sync_deadline_ms: (!all_synced).then_some(sync_deadline_ms) });
        self.store = true;
    }

    /// The log has to hear of this draft.
    pub(super) fn store(&mut self) {
        self.store = true;
    }

    /// A member has asked for its assignment.
    pub(super) fn mark_synced(&mut self, member_id: &str) {
        self.group.unsynced.remove(member_id);
        if self.group.unsynced.is_empty() && matches!(self.group.phase, Phase::Stable { .. }) {
            self.set_phase(Phase::Stable { sync_deadline_ms: None });
        }
    }

    /// The sync phase's time is up: who has not asked for its assignment is removed.
    pub(super) fn sync_deadline(&mut self) {
        for member_id in mem::take(&mut self.group.unsynced) {
            self.remove_member(&member_id);
        }
        self.rebalance();
    }

    /// The earlier of a member's parked SyncGroups has been overtaken by `token`.
    pub(super) fn park_sync(&mut self, member_id: &str, token: Token) {
        if let Some(earlier) = self.member_mut(member_id).awaiting_sync.replace(token) {
            self.reply(earlier, Reply::Sync(Err(GroupError::RebalanceInProgress)));
        }
    }

    /// The draft's answers are complete and the request that led to it was not parked: answer it as well.
    pub(super) fn take_join(&mut self, member_id: &str) -> Option<Token> {
        self.member_mut(member_id).awaiting_join.take()
    }
}

/// The present generation of `group` as `member_id` is told of it: with all members if it leads.
pub(super) fn joined(group: &Membership, member_id: &str) -> Joined {
    let leads = group.is_leader(member_id);
    Joined {
        generation: group.generation,
        protocol_type: group.protocol_type.clone(),
        protocol: group.protocol.clone(),
        leader: group.leader.clone().unwrap_or_else(|| Arc::from("")),
        skip_assignment: false,
        member_id: Arc::from(member_id),
        members: if leads { group.joined_members() } else { Vec::new() },
    }
}

/// The assignment of `member` as it is told.
pub(super) fn synced(group: &Membership, member: &Member) -> Synced {
    Synced {
        protocol_type: group.protocol_type.clone(),
        protocol: group.protocol.clone(),
        assignment: member.assignment.clone(),
    }
}

/// Generations are positive; after the last comes the first.
fn next_generation(generation: i32) -> i32 {
    if generation == i32::MAX { 1 } else { generation + 1 }
}
