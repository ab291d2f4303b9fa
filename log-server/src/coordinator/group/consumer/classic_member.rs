//! Members of the classic protocol in a consumer group, on its way from one protocol to the other: JoinGroup, SyncGroup,
//! Heartbeat and LeaveGroup mean to them what they always did, and the broker assigns.
//!
//! A member's epoch is its generation. It joins when its heartbeat says so, says in its subscription what it has, and
//! fetches by SyncGroup what it is to have: with nothing to wait for, as the target is there already.

use super::draft::{ConsumerDraft, next_step};
use super::migration::named;
use super::{ClassicMember, ConsumerGroup, ConsumerMember, MemberMetadata, MemberState};
use crate::coordinator::group::member::after;
use crate::coordinator::group::{
    Decision, Event, GroupCoordinator, GroupError, Heartbeat, JoinGroup, JoinRefused, Joined, LeaveGroup,
    MemberIdentity, Reply, SyncGroup, Synced, subscription,
};
use crate::coordinator::machine::{Now, Token};
use std::sync::Arc;

impl GroupCoordinator {
    pub(in crate::coordinator::group) fn join_consumers(
        &self,
        now: Now,
        token: Token,
        join: JoinGroup,
        group: &ConsumerGroup,
    ) -> Decision {
        let refuse = |error, member_id: &Arc<str>| {
            Decision::reply(token, Reply::Join(Err(JoinRefused { error, member_id: member_id.clone() })))
        };
        let asked_with = &join.member.member_id;
        let timeouts = self.config.session_timeout_min_ms..=self.config.session_timeout_max_ms;
        if !timeouts.contains(&join.session_timeout_ms) {
            return refuse(GroupError::InvalidSessionTimeout, asked_with);
        }
        let said = join.protocols.first().and_then(|(_, metadata)| subscription::parse(metadata));
        let Some(said) = said.filter(|_| supports(group, &join)) else {
            return refuse(GroupError::InconsistentGroupProtocol, asked_with);
        };
        let is_newcomer = asked_with.is_empty();
        let owner = join.member.instance_id.as_deref().and_then(|it| group.static_member(it)).cloned();
        let member_id = if is_newcomer { &join.new_member_id } else { asked_with };
        match &owner {
            Some(owner) if !is_newcomer && owner.member_id != *member_id => {
                return refuse(GroupError::FencedInstanceId, asked_with);
            }
            None if !is_newcomer && join.member.instance_id.is_some() => {
                return refuse(GroupError::UnknownMemberId, asked_with);
            }
            _ => {}
        }
        let has_place = group.members.contains_key(member_id) || owner.is_some();
        if !is_newcomer && !has_place && !said.owned.is_empty() {
            // It was put out and has not heard of it; what it works on is others' by now.
            return refuse(GroupError::UnknownMemberId, asked_with);
        }
        if !has_place && group.members.len() >= self.config.consumer_group_size_max {
            return refuse(GroupError::GroupMaxSizeReached, asked_with);
        }
        if is_newcomer && join.require_known_member_id {
            return refuse(GroupError::MemberIdRequired, member_id);
        }
        let is_stale = self.stale.contains(&join.group_id);
        let mut draft = self.consumer_draft(&join.group_id, now, Some(group), is_stale);
        if let Some(owner) = owner.filter(|owner| owner.member_id != *member_id) {
            draft.replace(&owner.member_id, member_id);
        }
        let known = draft.group.members.get(member_id).cloned();
        let mut member = known.map_or_else(|| ConsumerMember::new(member_id.clone()), Arc::unwrap_or_clone);
        let owned =
            said.owned.into_iter().filter_map(|(topic, index)| Some((self.topics.get(&topic)?.id, index)));
        let owned = owned.collect();
        member.metadata = MemberMetadata {
            instance_id: join.member.instance_id.clone(),
            rack_id: said.rack_id,
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            topic_names: said.topics,
            topic_regex: None,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            assignor: None,
            classic: Some(ClassicMember {
                session_timeout_ms: join.session_timeout_ms,
                protocols: join.protocols.clone(),
            }),
        };
        member.session_deadline_ms = after(now, join.session_timeout_ms);
        draft.put(member);
        draft.settle();
        draft.reconcile(member_id, Some(&owned));
        // Until it has fetched what it is to have.
        draft.set_rebalance_deadline(member_id, Some(after(now, join.rebalance_timeout_ms)));
        let generation = draft.group.members[member_id].current.epoch;
        let reply = if draft.is_classic() {
            // The last member of the newer protocol came back by the classic one: they all join anew.
            Err(JoinRefused { error: GroupError::RebalanceInProgress, member_id: member_id.clone() })
        } else {
            Ok(Joined {
                generation,
                protocol_type: Some(join.protocol_type.clone()),
                protocol: join.protocols.first().map(|(name, _)| name.clone()),
                // Nobody leads: the broker assigns.
                leader: Arc::from(""),
                skip_assignment: false,
                member_id: member_id.clone(),
                members: Vec::new(),
            })
        };
        let mut decision = draft.finish();
        decision.replies.push((token, Reply::Join(reply)));
        decision
    }

    pub(in crate::coordinator::group) fn sync_consumers(
        &self,
        now: Now,
        token: Token,
        sync: SyncGroup,
        group: &ConsumerGroup,
    ) -> Decision {
        let (member, classic) = match classic_member(group, &sync.member, sync.generation) {
            Ok(found) => found,
            Err(error) => return Decision::reply(token, Reply::Sync(Err(error))),
        };
        let protocol = classic.protocols.first().map(|(name, _)| name.clone());
        let differs = |said: &Option<Arc<str>>, is: Option<&str>| said.is_some() && said.as_deref() != is;
        if differs(&sync.protocol_type, Some(subscription::CONSUMER))
            || differs(&sync.protocol, protocol.as_deref())
        {
            return Decision::reply(token, Reply::Sync(Err(GroupError::InconsistentGroupProtocol)));
        }
        // One that has to give up learns that first, and joins again when it has.
        let is_behind =
            group.epoch > member.current.epoch && member.current.state != MemberState::UnrevokedPartitions;
        let mut draft = self.consumer_draft(&sync.group_id, now, Some(group), false);
        draft.set_session_deadline(&member.member_id, after(now, classic.session_timeout_ms));
        let deadline_ms = is_behind.then(|| after(now, member.metadata.rebalance_timeout_ms));
        draft.set_rebalance_deadline(&member.member_id, deadline_ms);
        let mut decision = draft.finish();
        let answer = if is_behind {
            Err(GroupError::RebalanceInProgress)
        } else {
            let assigned = named(&member.current.assigned, group, &self.topics);
            Ok(Synced {
                protocol_type: Some(subscription::CONSUMER.into()),
                protocol,
                assignment: subscription::encode_assigned(&assigned),
            })
        };
        decision.replies.push((token, Reply::Sync(answer)));
        decision
    }

    pub(in crate::coordinator::group) fn heartbeat_consumers(
        &self,
        now: Now,
        token: Token,
        heartbeat: Heartbeat,
        group: &ConsumerGroup,
    ) -> Decision {
        let (member, classic) = match classic_member(group, &heartbeat.member, heartbeat.generation) {
            Ok(found) => found,
            Err(error) => return Decision::reply(token, Reply::Heartbeat(Err(error))),
        };
        let session_deadline_ms = after(now, classic.session_timeout_ms);
        let is_called = match member.current.state {
            _ if member.current.epoch < group.epoch => true,
            MemberState::Stable => false,
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => {
                next_step(group, &member.member_id, None).as_ref() != Some(&member.current)
            }
        };
        if is_called && member.rebalance_deadline_ms.is_none() {
            let mut draft = self.consumer_draft(&heartbeat.group_id, now, Some(group), false);
            draft.set_session_deadline(&member.member_id, session_deadline_ms);
            let deadline_ms = after(now, member.metadata.rebalance_timeout_ms);
            draft.set_rebalance_deadline(&member.member_id, Some(deadline_ms));
            let mut decision = draft.finish();
            decision.replies.push((token, Reply::Heartbeat(Err(GroupError::RebalanceInProgress))));
            return decision;
        }
        let answer = if is_called { Err(GroupError::RebalanceInProgress) } else { Ok(()) };
        let member_id = member.member_id.clone();
        let seen = Event::MemberSeen { group_id: heartbeat.group_id, member_id, session_deadline_ms };
        Decision { events: vec![seen], replies: vec![(token, Reply::Heartbeat(answer))] }
    }

    pub(in crate::coordinator::group) fn leave_consumers(
        &self,
        now: Now,
        token: Token,
        leave: LeaveGroup,
        group: &ConsumerGroup,
    ) -> Decision {
        let is_stale = self.stale.contains(&leave.group_id);
        let mut draft = self.consumer_draft(&leave.group_id, now, Some(group), is_stale);
        let outcomes: Vec<Result<(), GroupError>> =
            leave.members.iter().map(|who| leave_one(&mut draft, who)).collect();
        if outcomes.iter().all(Result::is_err) {
            return Decision::reply(token, Reply::Leave(Ok(outcomes)));
        }
        draft.settle();
        let mut decision = draft.finish();
        decision.replies.push((token, Reply::Leave(Ok(outcomes))));
        decision
    }
}

fn leave_one(draft: &mut ConsumerDraft<'_>, who: &MemberIdentity) -> Result<(), GroupError> {
    // An operator removes static members by their instance ids, whichever protocol they speak.
    let by_instance = who.instance_id.as_ref().filter(|_| who.member_id.is_empty());
    let member_id = match by_instance {
        Some(instance_id) => draft.group.static_member(instance_id).map(|it| it.member_id.clone()),
        None => {
            let member = identified(&draft.group, who)?;
            member.metadata.classic.is_some().then(|| member.member_id.clone())
        }
    };
    draft.remove(&member_id.ok_or(GroupError::UnknownMemberId)?);
    Ok(())
}

/// Whether a member with these protocols can be in the group: it shares one with every other classic member.
fn supports(group: &ConsumerGroup, join: &JoinGroup) -> bool {
    let others = || {
        let others = group.members.values().filter(|it| it.member_id != join.member.member_id);
        others.filter_map(|it| it.metadata.classic.as_ref())
    };
    let spoken = |name: &Arc<str>| others().all(|it| it.protocols.iter().any(|(other, _)| other == name));
    *join.protocol_type == *subscription::CONSUMER && join.protocols.iter().any(|(name, _)| spoken(name))
}

fn identified<'a>(
    group: &'a ConsumerGroup,
    who: &MemberIdentity,
) -> Result<&'a Arc<ConsumerMember>, GroupError> {
    if let Some(instance_id) = &who.instance_id {
        let owner = group.static_member(instance_id).ok_or(GroupError::UnknownMemberId)?;
        return if owner.member_id == who.member_id { Ok(owner) } else { Err(GroupError::FencedInstanceId) };
    }
    group.members.get(&who.member_id).ok_or(GroupError::UnknownMemberId)
}

/// A member of the classic protocol in its generation.
fn classic_member<'a>(
    group: &'a ConsumerGroup,
    who: &MemberIdentity,
    generation: i32,
) -> Result<(&'a Arc<ConsumerMember>, &'a ClassicMember), GroupError> {
    let member = identified(group, who)?;
    let classic = member.metadata.classic.as_ref().ok_or(GroupError::UnknownMemberId)?;
    if member.current.epoch == generation {
        Ok((member, classic))
    } else {
        Err(GroupError::IllegalGeneration)
    }
}
