//! JoinGroup: newcomers get an id and enter; members answer the call of a rebalance or cause one.

use super::consumer::record_events;
use super::draft::{self, Draft};
use super::{
    ConsumerGroup, Decision, Event, GroupCoordinator, GroupError, JoinGroup, JoinRefused, Joined, Membership,
    Phase, Reply,
};
use crate::coordinator::group::member::after;
use crate::coordinator::machine::{Now, Token};
use std::sync::Arc;

impl GroupCoordinator {
    pub(super) fn join(&self, now: Now, token: Token, join: JoinGroup) -> Decision {
        let consumers = self.groups.get(&join.group_id).and_then(|group| group.consumers.as_deref());
        let Some(consumers) = consumers else { return self.join_classic(now, token, join) };
        if !consumers.members.is_empty() {
            return self.join_consumers(now, token, join, consumers);
        }
        // Nobody is left who speaks the other protocol: the first to come decides.
        let group_id = join.group_id.clone();
        let joined = self.join_classic(now, token, join);
        if joined.events.is_empty() {
            return joined;
        }
        let records = ConsumerGroup::changes(Some(consumers), None);
        let mut decision = Decision { events: record_events(&group_id, records), replies: Vec::new() };
        decision.extend(joined);
        decision
    }

    fn join_classic(&self, now: Now, token: Token, join: JoinGroup) -> Decision {
        let refuse = |error| {
            let member_id = join.member.member_id.clone();
            Decision::reply(token, Reply::Join(Err(JoinRefused { error, member_id })))
        };
        if join.group_id.is_empty() {
            return refuse(GroupError::InvalidGroupId);
        }
        let timeouts = self.config.session_timeout_min_ms..=self.config.session_timeout_max_ms;
        if !timeouts.contains(&join.session_timeout_ms) {
            return refuse(GroupError::InvalidSessionTimeout);
        }
        let newcomer = join.member.member_id.is_empty();
        let group = match self.groups.get(&join.group_id) {
            Some(group) => group.membership.clone(),
            None if newcomer => Membership::new(join.group_id.clone()),
            None => return refuse(GroupError::UnknownMemberId),
        };
        let mut draft = Draft::new(&self.config, now, group);
        if !self.has_room(&draft.group, &join) {
            if newcomer {
                return refuse(GroupError::GroupMaxSizeReached);
            }
            draft.refuse_join(token, GroupError::GroupMaxSizeReached, join.member.member_id.clone());
            draft.remove_member(&join.member.member_id);
            draft.complete_join_if_ready();
            return draft.finish();
        }
        if !draft.group.supports(&join.protocol_type, &join.protocols) {
            return refuse(GroupError::InconsistentGroupProtocol);
        }
        if newcomer { enter(draft, token, &join) } else { self.rejoin(draft, token, &join) }
    }

    /// Whether the group may have this member. Ids that were given out count, so that they cannot be collected
    /// without end. A member that the group knows always has its place, except in a join phase that is full
    /// already, which happens when the limit was lowered.
    fn has_room(&self, group: &Membership, join: &JoinGroup) -> bool {
        let max = self.config.group_size_max;
        let member_id = &join.member.member_id;
        if group.pending.contains_key(member_id) {
            return true;
        }
        if let Some(member) = group.members.get(member_id) {
            let joined = group.members.values().filter(|member| member.awaiting_join.is_some()).count();
            let full = matches!(group.phase, Phase::PreparingRebalance { .. }) && joined >= max;
            return member.awaiting_join.is_some() || !full;
        }
        let replaces =
            join.member.instance_id.as_ref().is_some_and(|id| group.static_members.contains_key(id));
        replaces || group.members.len() + group.pending.len() < max
    }

    fn rejoin(&self, mut draft: Draft<'_>, token: Token, join: &JoinGroup) -> Decision {
        let member_id = join.member.member_id.clone();
        if draft.group.pending.contains_key(&member_id) && join.member.instance_id.is_none() {
            draft.add_member(join, member_id, token);
            draft.rebalance();
            return draft.finish();
        }
        let member = match draft.group.member(&join.member) {
            Ok(member) => member,
            Err(error) => return Decision::reply(token, Reply::Join(Err(JoinRefused { error, member_id }))),
        };
        let unchanged = member.protocols == join.protocols;
        let current = match draft.group.phase {
            Phase::PreparingRebalance { .. } | Phase::Empty => false,
            // The member did not get the answer that ended the join phase, and asks again.
            Phase::CompletingRebalance { .. } => unchanged,
            // A leader that joins again wants to assign anew, because topics have changed.
            Phase::Stable { .. } => unchanged && !draft.group.is_leader(&member_id),
        };
        if current {
            let seen = Event::MemberSeen {
                group_id: join.group_id.clone(),
                session_deadline_ms: after(draft.now, member.session_timeout_ms),
                member_id: member_id.clone(),
            };
            let joined = draft::joined(&draft.group, &member_id);
            return Decision { events: vec![seen], replies: vec![(token, Reply::Join(Ok(joined)))] };
        }
        draft.update_member(join, &member_id, token);
        draft.rebalance();
        draft.finish()
    }
}

/// A newcomer, static or dynamic.
fn enter(mut draft: Draft<'_>, token: Token, join: &JoinGroup) -> Decision {
    let new_id = join.new_member_id.clone();
    if let Some(instance_id) = &join.member.instance_id {
        if let Some(old_id) = draft.group.static_members.get(instance_id).cloned() {
            return take_over(draft, token, join, &old_id, new_id);
        }
    } else if join.require_known_member_id {
        draft.add_pending(new_id.clone(), join.session_timeout_ms);
        draft.refuse_join(token, GroupError::MemberIdRequired, new_id);
        return draft.finish();
    }
    draft.add_member(join, new_id, token);
    draft.rebalance();
    draft.finish()
}

/// A static member starts again under a new id. In a stable group it gets its place and its assignment back without
/// a rebalance, unless the group would choose another protocol because of it (KIP-345).
fn take_over(
    mut draft: Draft<'_>,
    token: Token,
    join: &JoinGroup,
    old_id: &Arc<str>,
    new_id: Arc<str>,
) -> Decision {
    let leader_before = draft.group.leader.clone();
    draft.replace_static_member(old_id, new_id.clone());
    draft.update_member(join, &new_id, token);
    let stays = matches!(draft.group.phase, Phase::Stable { .. })
        && draft.group.protocol.is_some()
        && draft.group.elect_protocol() == draft.group.protocol;
    if !stays {
        draft.rebalance();
        return draft.finish();
    }
    let told = draft.joined(&new_id);
    let leads = draft.group.is_leader(&new_id);
    let joined = match (leads, join.supports_skip_assignment) {
        // The assignment stands, and it knows that it may be asked to compute the next one.
        (true, true) => Joined { skip_assignment: true, ..told },
        // A client that cannot be told to skip would assign anew. Naming the old id as the leader keeps it from it.
        (true, false) => {
            Joined { leader: leader_before.unwrap_or_else(|| Arc::from("")), members: Vec::new(), ..told }
        }
        (false, _) => told,
    };
    if let Some(token) = draft.take_join(&new_id) {
        draft.reply(token, Reply::Join(Ok(joined)));
    }
    draft.store();
    draft.finish()
}
