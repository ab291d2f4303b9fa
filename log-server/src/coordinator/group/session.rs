//! SyncGroup, Heartbeat and LeaveGroup: what a member does between joining and going away.

use super::draft::{Draft, synced};
use super::member::after;
use super::{
    ConsumerGroup, Decision, Event, GroupCoordinator, GroupError, Heartbeat, LeaveGroup, MemberIdentity,
    Membership, Phase, Reply, SyncGroup,
};
use crate::coordinator::machine::{Now, Token};
use std::sync::Arc;

impl GroupCoordinator {
    pub(super) fn sync(&self, now: Now, token: Token, sync: SyncGroup) -> Decision {
        if let Some(consumers) = self.consumers(&sync.group_id) {
            return self.sync_consumers(now, token, sync, consumers);
        }
        let group = match self.check_sync(&sync) {
            Ok(group) => group,
            Err(error) => return Decision::reply(token, Reply::Sync(Err(error))),
        };
        let member_id = sync.member.member_id;
        let mut draft = Draft::new(&self.config, now, group.clone());
        draft.mark_synced(&member_id);
        draft.member_mut(&member_id).extend_session(now);
        match group.phase {
            Phase::CompletingRebalance { sync_deadline_ms } => {
                draft.park_sync(&member_id, token);
                if group.is_leader(&member_id) {
                    draft.assign(sync.assignments, sync_deadline_ms);
                }
            }
            Phase::Stable { .. } => {
                let synced = synced(group, &group.members[&member_id]);
                draft.reply(token, Reply::Sync(Ok(synced)));
            }
            Phase::Empty | Phase::PreparingRebalance { .. } => {
                unreachable!("check_sync refuses these phases")
            }
        }
        draft.finish()
    }

    fn check_sync(&self, sync: &SyncGroup) -> Result<&Membership, GroupError> {
        let group = self.membership(&sync.group_id)?;
        group.member_of_generation(&sync.member, sync.generation)?;
        let differs = |said: &Option<Arc<str>>, is: &Option<Arc<str>>| said.is_some() && said != is;
        if differs(&sync.protocol_type, &group.protocol_type) || differs(&sync.protocol, &group.protocol) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match group.phase {
            Phase::Empty => Err(GroupError::UnknownMemberId),
            Phase::PreparingRebalance { .. } => Err(GroupError::RebalanceInProgress),
            Phase::CompletingRebalance { .. } | Phase::Stable { .. } => Ok(group),
        }
    }

    pub(super) fn heartbeat(&self, now: Now, token: Token, heartbeat: Heartbeat) -> Decision {
        if let Some(consumers) = self.consumers(&heartbeat.group_id) {
            return self.heartbeat_consumers(now, token, heartbeat, consumers);
        }
        let checked = self.membership(&heartbeat.group_id).and_then(|group| {
            let member = group.member_of_generation(&heartbeat.member, heartbeat.generation)?;
            Ok((group, member))
        });
        let (group, member) = match checked {
            Ok(found) => found,
            Err(error) => return Decision::reply(token, Reply::Heartbeat(Err(error))),
        };
        // Members learn from their heartbeat that they are to join again; they are alive all the same.
        let answer = match group.phase {
            Phase::PreparingRebalance { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Empty | Phase::CompletingRebalance { .. } | Phase::Stable { .. } => Ok(()),
        };
        let seen = Event::MemberSeen {
            group_id: heartbeat.group_id,
            session_deadline_ms: after(now, member.session_timeout_ms),
            member_id: heartbeat.member.member_id,
        };
        Decision { events: vec![seen], replies: vec![(token, Reply::Heartbeat(answer))] }
    }

    pub(super) fn leave(&self, now: Now, token: Token, leave: LeaveGroup) -> Decision {
        if let Some(consumers) = self.consumers(&leave.group_id) {
            return self.leave_consumers(now, token, leave, consumers);
        }
        let group = match self.membership(&leave.group_id) {
            Ok(group) => group,
            Err(error) => return Decision::reply(token, Reply::Leave(Err(error))),
        };
        let mut draft = Draft::new(&self.config, now, group.clone());
        let members_before = draft.group.members.len();
        let outcomes = leave.members.iter().map(|member| leave_one(&mut draft, member)).collect();
        if draft.group.members.len() < members_before {
            draft.rebalance();
        } else {
            draft.complete_join_if_ready();
        }
        draft.reply(token, Reply::Leave(Ok(outcomes)));
        draft.finish()
    }

    /// The group, if it is a consumer group.
    fn consumers(&self, group_id: &Arc<str>) -> Option<&ConsumerGroup> {
        self.groups.get(group_id)?.consumers.as_deref()
    }

    /// The group that a member speaks of. Members of a group that is not there are nobody.
    fn membership(&self, group_id: &Arc<str>) -> Result<&Membership, GroupError> {
        if group_id.is_empty() {
            return Err(GroupError::InvalidGroupId);
        }
        self.groups.get(group_id).map(|group| &group.membership).ok_or(GroupError::UnknownMemberId)
    }
}

fn leave_one(draft: &mut Draft<'_>, who: &MemberIdentity) -> Result<(), GroupError> {
    if who.instance_id.is_none() && draft.group.pending.remove(&who.member_id).is_some() {
        return Ok(());
    }
    // An operator removes static members by their instance ids, without knowing the ids of the moment.
    let by_instance = who.instance_id.as_ref().filter(|_| who.member_id.is_empty());
    let member_id = match by_instance {
        Some(instance_id) => draft.group.static_members.get(instance_id).cloned(),
        None => Some(draft.group.member(who)?.member_id.clone()),
    };
    draft.remove_member(&member_id.ok_or(GroupError::UnknownMemberId)?);
    Ok(())
}
