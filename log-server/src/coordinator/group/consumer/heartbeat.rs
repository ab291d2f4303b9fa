//! ConsumerGroupHeartbeat: members enter, say what changed and what they hold, learn what to hold, and go away.

use super::draft::next_step;
use super::migration::{call_off, end_of_classic, upgraded};
use super::{Assignment, Assignor, ConsumerGroup, ConsumerMember, Current, MemberMetadata, MemberState};
use crate::coordinator::group::member::after;
use crate::coordinator::group::{Decision, Event, GroupCoordinator, GroupError, Reply};
use crate::coordinator::machine::{Now, Token};
use crate::coordinator::pattern::compile;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The epoch of a member that leaves.
pub const LEAVE_EPOCH: i32 = -1;

/// The epoch of a static member that leaves and will be back.
pub const LEAVE_STATIC_EPOCH: i32 = -2;

/// ConsumerGroupHeartbeat. What is `None` has not changed since the member last said it.
#[derive(Clone, Debug)]
pub struct ConsumerHeartbeat {
    /// Whose group.
    pub group_id: Arc<str>,
    /// Who; never empty.
    pub member_id: Arc<str>,
    /// The member's epoch: 0 to enter, [`LEAVE_EPOCH`] or [`LEAVE_STATIC_EPOCH`] to leave.
    pub epoch: i32,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// `client.rack`.
    pub rack_id: Option<Arc<str>>,
    /// How long the member may take to give partitions up, in milliseconds.
    pub rebalance_timeout_ms: Option<i32>,
    /// Topics by name.
    pub topic_names: Option<BTreeSet<Arc<str>>>,
    /// Topics by a pattern; an empty one is none.
    pub topic_regex: Option<Arc<str>>,
    /// The assignor that it would like.
    pub assignor: Option<Arc<str>>,
    /// What it holds.
    pub owned: Option<Assignment>,
    /// `client.id` of the request.
    pub client_id: Arc<str>,
    /// Where the request came from, as Kafka prints it: `/127.0.0.1`.
    pub client_host: Arc<str>,
    /// `consumer.session.timeout.ms` of the group, where it differs from the coordinator's setting.
    pub session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms` of the group, where it differs from the coordinator's setting.
    pub heartbeat_interval_ms: Option<i32>,
}

impl ConsumerHeartbeat {
    fn enters(&self) -> bool {
        self.epoch == 0
    }

    /// Whether the member said everything, and so is to be told everything.
    fn is_full(&self) -> bool {
        let subscribes = self.topic_names.is_some() || self.topic_regex.is_some();
        self.enters() || (self.rebalance_timeout_ms.is_some() && subscribes && self.owned.is_some())
    }

    /// What is known of the member once it has said this.
    fn update(&self, known: &MemberMetadata) -> MemberMetadata {
        let or = |said: &Option<Arc<str>>, known: &Option<Arc<str>>| said.clone().or_else(|| known.clone());
        let regex = or(&self.topic_regex, &known.topic_regex);
        MemberMetadata {
            instance_id: or(&self.instance_id, &known.instance_id),
            rack_id: or(&self.rack_id, &known.rack_id),
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            topic_names: self.topic_names.as_ref().unwrap_or(&known.topic_names).clone(),
            topic_regex: regex.filter(|regex| !regex.is_empty()),
            rebalance_timeout_ms: self.rebalance_timeout_ms.unwrap_or(known.rebalance_timeout_ms),
            assignor: or(&self.assignor, &known.assignor),
            classic: None,
        }
    }
}

/// What a member is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    /// Who.
    pub member_id: Arc<str>,
    /// The epoch to show from now on.
    pub epoch: i32,
    /// When to send the next heartbeat, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// What to hold, if that changed or the member asked by saying everything.
    pub assignment: Option<Assignment>,
}

/// Who sends a heartbeat.
enum Sender {
    /// A member; its epoch is right, or it enters again.
    Member(Arc<ConsumerMember>),
    /// A newcomer.
    Newcomer,
    /// The next incarnation of a static member that is away.
    Successor(Arc<ConsumerMember>),
}

impl GroupCoordinator {
    pub(in crate::coordinator::group) fn consumer_heartbeat(
        &self,
        now: Now,
        token: Token,
        heartbeat: ConsumerHeartbeat,
    ) -> Decision {
        let outcome = match heartbeat.epoch {
            LEAVE_EPOCH | LEAVE_STATIC_EPOCH => self.consumer_leave(now, &heartbeat),
            _ => self.consumer_alive(now, &heartbeat),
        };
        match outcome {
            Ok((mut decision, answer)) => {
                decision.replies.push((token, Reply::ConsumerHeartbeat(Ok(answer))));
                decision
            }
            Err(error) => Decision::reply(token, Reply::ConsumerHeartbeat(Err(error))),
        }
    }

    fn consumer_alive(
        &self,
        now: Now,
        heartbeat: &ConsumerHeartbeat,
    ) -> Result<(Decision, HeartbeatAnswer), GroupError> {
        if heartbeat.assignor.as_deref().is_some_and(|name| Assignor::by_name(name).is_none()) {
            return Err(GroupError::UnsupportedAssignor);
        }
        let found = self.groups.get(&heartbeat.group_id);
        let consumers = found.and_then(|group| group.consumers.as_deref());
        if consumers.is_none() && !heartbeat.enters() {
            return Err(GroupError::UnknownMemberId);
        }
        let classic = found.filter(|group| group.consumers.is_none()).map(|group| &group.membership);
        let upgraded = match classic {
            Some(classic) if !classic.members.is_empty() => {
                let fits = classic.members.len() < self.config.consumer_group_size_max;
                let policy = self.config.consumer_migration;
                let upgraded = upgraded(classic, &self.topics, now).filter(|_| fits && policy.upgrades());
                Some(upgraded.ok_or(GroupError::GroupIdNotFound)?)
            }
            _ => None,
        };
        let nobody = ConsumerGroup::default();
        let group = consumers.or(upgraded.as_ref()).unwrap_or(&nobody);
        let sender = sender(group, heartbeat)?;
        let known = match &sender {
            Sender::Member(member) | Sender::Successor(member) => member.metadata.clone(),
            Sender::Newcomer => MemberMetadata::default(),
        };
        let is_newcomer = matches!(sender, Sender::Newcomer);
        if is_newcomer && group.members.len() >= self.config.consumer_group_size_max {
            return Err(GroupError::GroupMaxSizeReached);
        }
        let metadata = heartbeat.update(&known);
        if metadata.topic_regex != known.topic_regex
            && metadata.topic_regex.as_deref().is_some_and(|pattern| compile(pattern).is_err())
        {
            return Err(GroupError::InvalidRegularExpression);
        }
        let session_timeout_ms = heartbeat.session_timeout_ms;
        let session_deadline_ms =
            after(now, session_timeout_ms.unwrap_or(self.config.consumer_session_timeout_ms));
        let is_stale = self.stale.contains(&heartbeat.group_id);
        if let Sender::Member(member) = &sender
            && !is_stale
            && metadata == member.metadata
            && group.epoch == group.assignment_epoch
            && next_step(group, &member.member_id, heartbeat.owned.as_ref()).as_ref() == Some(&member.current)
        {
            let seen = Event::MemberSeen {
                group_id: heartbeat.group_id.clone(),
                member_id: member.member_id.clone(),
                session_deadline_ms,
            };
            let answer = self.answer(member, heartbeat, heartbeat.is_full());
            return Ok((Decision { events: vec![seen], replies: Vec::new() }, answer));
        }

        let mut draft = self.consumer_draft(&heartbeat.group_id, now, consumers, is_stale);
        if let Some(group) = &upgraded {
            draft = draft.becoming(group.clone());
        }
        let mut member = match sender {
            Sender::Member(member) => Arc::unwrap_or_clone(member),
            Sender::Newcomer => ConsumerMember::new(heartbeat.member_id.clone()),
            Sender::Successor(before) => {
                draft.replace(&before.member_id, &heartbeat.member_id);
                Arc::unwrap_or_clone(draft.group.members[&heartbeat.member_id].clone())
            }
        };
        let assigned_before = member.current.assigned.clone();
        if known.classic.is_some() {
            // What it was called to by the other protocol.
            member.rebalance_deadline_ms = None;
        }
        member.metadata = metadata;
        member.session_deadline_ms = session_deadline_ms;
        draft.put(member);
        draft.settle();
        draft.reconcile(&heartbeat.member_id, heartbeat.owned.as_ref());
        let member = &draft.group.members[&heartbeat.member_id];
        let tell = heartbeat.is_full() || member.current.assigned != assigned_before;
        let answer = self.answer(member, heartbeat, tell);
        let mut decision = Decision::none();
        if let Some(classic) = classic {
            decision = Decision { events: end_of_classic(classic), replies: call_off(classic) };
        }
        decision.extend(draft.finish());
        Ok((decision, answer))
    }

    fn answer(&self, member: &ConsumerMember, heartbeat: &ConsumerHeartbeat, tell: bool) -> HeartbeatAnswer {
        let heartbeat_interval_ms = heartbeat.heartbeat_interval_ms;
        HeartbeatAnswer {
            member_id: member.member_id.clone(),
            epoch: member.current.epoch,
            heartbeat_interval_ms: heartbeat_interval_ms
                .unwrap_or(self.config.consumer_heartbeat_interval_ms),
            assignment: tell.then(|| member.current.assigned.clone()),
        }
    }

    fn consumer_leave(
        &self,
        now: Now,
        heartbeat: &ConsumerHeartbeat,
    ) -> Result<(Decision, HeartbeatAnswer), GroupError> {
        let found = self.groups.get(&heartbeat.group_id).and_then(|group| group.consumers.as_deref());
        let group = found.ok_or(GroupError::UnknownMemberId)?;
        let member = match &heartbeat.instance_id {
            Some(instance_id) => owner(group, instance_id, &heartbeat.member_id)?,
            None => group.members.get(&heartbeat.member_id).ok_or(GroupError::UnknownMemberId)?,
        };
        let is_stale = self.stale.contains(&heartbeat.group_id);
        let mut draft = self.consumer_draft(&heartbeat.group_id, now, Some(group), is_stale);
        if heartbeat.epoch == LEAVE_EPOCH {
            draft.remove(&heartbeat.member_id);
        } else {
            // What it has is kept for it; what it was to give up is given up, as it holds nothing any more.
            let mut away = ConsumerMember::clone(member);
            away.current = Current {
                epoch: LEAVE_STATIC_EPOCH,
                state: MemberState::Stable,
                pending_revocation: Assignment::default(),
                assignment_epochs: BTreeMap::new(),
                ..away.current
            };
            away.rebalance_deadline_ms = None;
            draft.put(away);
        }
        draft.settle();
        let answer = HeartbeatAnswer {
            member_id: heartbeat.member_id.clone(),
            epoch: heartbeat.epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        Ok((draft.finish(), answer))
    }
}

/// Who sends `heartbeat`, or why nobody may send it.
fn sender(group: &ConsumerGroup, heartbeat: &ConsumerHeartbeat) -> Result<Sender, GroupError> {
    let known = group.members.get(&heartbeat.member_id);
    let Some(instance_id) = &heartbeat.instance_id else {
        return match known {
            Some(member) if heartbeat.enters() => Ok(Sender::Member(member.clone())),
            Some(member) => checked(member, heartbeat),
            None if heartbeat.enters() => Ok(Sender::Newcomer),
            None => Err(GroupError::UnknownMemberId),
        };
    };
    if !heartbeat.enters() {
        return checked(owner(group, instance_id, &heartbeat.member_id)?, heartbeat);
    }
    match group.static_member(instance_id) {
        None if known.is_some() => Err(GroupError::FencedInstanceId),
        None => Ok(Sender::Newcomer),
        Some(member) if member.member_id == heartbeat.member_id => Ok(Sender::Member(member.clone())),
        // One of the classic protocol says nothing when it goes; the newer one takes its place.
        Some(member) if member.current.epoch == LEAVE_STATIC_EPOCH || member.metadata.classic.is_some() => {
            Ok(Sender::Successor(member.clone()))
        }
        Some(_) => Err(GroupError::UnreleasedInstanceId),
    }
}

/// The member that has an instance id, which has to be this one.
fn owner<'a>(
    group: &'a ConsumerGroup,
    instance_id: &str,
    member_id: &str,
) -> Result<&'a Arc<ConsumerMember>, GroupError> {
    let owner = group.static_member(instance_id).ok_or(GroupError::UnknownMemberId)?;
    if *owner.member_id == *member_id { Ok(owner) } else { Err(GroupError::FencedInstanceId) }
}

/// A member's epoch is the one that it was last told, or the one before if it did not hear: then it can only hold what
/// it had before, or what it was told.
fn checked(member: &Arc<ConsumerMember>, heartbeat: &ConsumerHeartbeat) -> Result<Sender, GroupError> {
    let current = &member.current;
    let unheard = || {
        let owned = heartbeat.owned.as_ref();
        heartbeat.epoch == current.previous_epoch
            && heartbeat.epoch < current.epoch
            && owned.is_some_and(|owned| owned.is_subset_of(&current.assigned))
    };
    if heartbeat.epoch == current.epoch || unheard() {
        Ok(Sender::Member(member.clone()))
    } else {
        Err(GroupError::FencedMemberEpoch)
    }
}
