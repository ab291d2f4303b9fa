//! Who is in a group, in which generation, and what phase the group is in: the state that JoinGroup, SyncGroup,
//! Heartbeat and LeaveGroup work on. This file has the data and the questions about it; how it changes is in
//! `draft.rs` and the files of the commands.

use super::member::after;
use super::{GroupError, GroupRecord, JoinedMember, Member, MemberIdentity, MemberRecord, subscription};
use crate::coordinator::machine::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a group is doing. The names that clients and tools see are Kafka's; a group that does not exist is `Dead`.
///
/// ```text
///            join                 all joined            leader synced
///   Empty ─────────► Preparing ───────────► Completing ──────────────► Stable
///     ▲                │    ▲                    │                       │
///     └────────────────┘    └────────────────────┴───────────────────────┘
///        nobody is left         a member joins, leaves or falls silent
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No members. Offsets may be there.
    Empty,
    /// The join phase: members are called to join again.
    PreparingRebalance {
        /// Monotonic milliseconds at which members that have not joined are left behind.
        deadline_ms: u64,
        /// Set while an empty group waits for its first members on purpose.
        initial: Option<InitialDelay>,
    },
    /// The generation exists and waits for the leader's assignment.
    CompletingRebalance {
        /// Monotonic milliseconds at which members that have not synced are removed.
        sync_deadline_ms: u64,
    },
    /// Members work.
    Stable {
        /// As in `CompletingRebalance`, as long as somebody has not fetched the assignment.
        sync_deadline_ms: Option<u64>,
    },
}

/// The wait of `group.initial.rebalance.delay.ms`, which each newcomer prolongs up to the rebalance timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitialDelay {
    /// By how much the wait may be prolonged yet.
    pub remaining_ms: u64,
    /// Whether somebody came since it was last prolonged.
    pub newcomers: bool,
}

/// A phase without its data, for filters and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// See [`Phase::Empty`].
    Empty,
    /// See [`Phase::PreparingRebalance`].
    PreparingRebalance,
    /// See [`Phase::CompletingRebalance`].
    CompletingRebalance,
    /// See [`Phase::Stable`]; in a consumer group: every member has what the target gives it.
    Stable,
    /// A consumer group has yet to compute a target.
    Assigning,
    /// Members of a consumer group are on their way to the target.
    Reconciling,
    /// The group does not exist.
    Dead,
}

impl GroupState {
    /// The name that Kafka's protocol and tools use.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::PreparingRebalance => "PreparingRebalance",
            GroupState::CompletingRebalance => "CompletingRebalance",
            GroupState::Stable => "Stable",
            GroupState::Assigning => "Assigning",
            GroupState::Reconciling => "Reconciling",
            GroupState::Dead => "Dead",
        }
    }
}

/// The members of one group and their generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The group.
    pub group_id: Arc<str>,
    /// What it is doing.
    pub phase: Phase,
    /// Since when, in wall-clock milliseconds; `None` in a group that only ever held offsets.
    pub phase_since_ms: Option<i64>,
    /// Counts up with each rebalance; 0 before the first.
    pub generation: i32,
    /// Of all members; outlives them. `None` in a group that only ever held offsets.
    pub protocol_type: Option<Arc<str>>,
    /// The one chosen for this generation.
    pub protocol: Option<Arc<str>>,
    /// Member id of who assigns.
    pub leader: Option<Arc<str>>,
    /// By member id. Shared with drafts, copied when one of them changes a member.
    pub members: BTreeMap<Arc<str>, Arc<Member>>,
    /// Member ids by instance id, for static members.
    pub static_members: BTreeMap<Arc<str>, Arc<str>>,
    /// Soft: ids that were given out and have not been used, with the monotonic time at which they lapse.
    pub pending: BTreeMap<Arc<str>, u64>,
    /// Soft: members that have been told the generation and have not asked for their assignment.
    pub unsynced: BTreeSet<Arc<str>>,
}

impl Membership {
    /// A group without members or history.
    pub fn new(group_id: Arc<str>) -> Self {
        Membership {
            group_id,
            phase: Phase::Empty,
            phase_since_ms: None,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            unsynced: BTreeSet::new(),
        }
    }

    /// What the log remembered. Sessions have no deadline until [`start_sessions`](Self::start_sessions).
    pub(super) fn from_record(group_id: Arc<str>, record: &GroupRecord) -> Self {
        let mut group = Membership::new(group_id);
        group.generation = record.generation;
        group.protocol_type = record.protocol_type.clone();
        group.phase_since_ms = record.state_since_ms;
        if record.members.is_empty() {
            return group;
        }
        group.phase = match &record.leader {
            Some(_) => Phase::Stable { sync_deadline_ms: None },
            // It was a consumer group until a moment ago, and nobody has joined it yet.
            None => Phase::PreparingRebalance { deadline_ms: u64::MAX, initial: None },
        };
        group.protocol = record.protocol.clone();
        group.leader = record.leader.clone();
        for stored in &record.members {
            let protocols =
                record.protocol.iter().map(|name| (name.clone(), stored.subscription.clone())).collect();
            group.insert(Arc::new(Member {
                member_id: stored.member_id.clone(),
                instance_id: stored.instance_id.clone(),
                client_id: stored.client_id.clone(),
                client_host: stored.client_host.clone(),
                session_timeout_ms: stored.session_timeout_ms,
                rebalance_timeout_ms: stored.rebalance_timeout_ms,
                protocols,
                assignment: stored.assignment.clone(),
                is_new: false,
                session_deadline_ms: u64::MAX,
                awaiting_join: None,
                awaiting_sync: None,
            }));
        }
        group
    }

    /// What the log is to remember: the generation, its members and their assignments.
    pub(super) fn to_record(&self) -> GroupRecord {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        GroupRecord {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_since_ms: self.phase_since_ms,
            members: self
                .members
                .values()
                .map(|member| MemberRecord {
                    member_id: member.member_id.clone(),
                    instance_id: member.instance_id.clone(),
                    client_id: member.client_id.clone(),
                    client_host: member.client_host.clone(),
                    rebalance_timeout_ms: member.rebalance_timeout_ms,
                    session_timeout_ms: member.session_timeout_ms,
                    subscription: member.subscription(protocol),
                    assignment: member.assignment.clone(),
                })
                .collect(),
        }
    }

    /// Gives every member a whole session from `now`, as after a restart nobody knows when each was last heard of; and
    /// all their time to join where they are called to.
    pub(super) fn start_sessions(&mut self, now: Now) {
        let join_deadline_ms = after(now, self.rebalance_timeout_ms());
        if let Phase::PreparingRebalance { deadline_ms, .. } = &mut self.phase {
            *deadline_ms = join_deadline_ms;
        }
        for member in self.members.values_mut() {
            Arc::make_mut(member).extend_session(now);
        }
    }

    /// The phase's name.
    pub fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::PreparingRebalance { .. } => GroupState::PreparingRebalance,
            Phase::CompletingRebalance { .. } => GroupState::CompletingRebalance,
            Phase::Stable { .. } => GroupState::Stable,
        }
    }

    /// Whether `member_id` assigns.
    pub fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    /// The member that `identity` names, or why it names none: an instance id that is somebody else's by now is
    /// fenced, whatever the member id.
    pub(super) fn member(&self, identity: &MemberIdentity) -> Result<&Arc<Member>, GroupError> {
        if let Some(instance_id) = &identity.instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(GroupError::UnknownMemberId),
                Some(owner) if *owner != identity.member_id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        self.members.get(&identity.member_id).ok_or(GroupError::UnknownMemberId)
    }

    /// [`member`](Self::member), and it lives in the group's generation.
    pub(super) fn member_of_generation(
        &self,
        identity: &MemberIdentity,
        generation: i32,
    ) -> Result<&Arc<Member>, GroupError> {
        let member = self.member(identity)?;
        if generation == self.generation { Ok(member) } else { Err(GroupError::IllegalGeneration) }
    }

    pub(super) fn insert(&mut self, member: Arc<Member>) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member.member_id.clone());
        }
        self.members.insert(member.member_id.clone(), member);
    }

    /// Whether a member with these protocols can be in the group: it shares one with everybody.
    pub(super) fn supports(&self, protocol_type: &str, protocols: &[(Arc<str>, bytes::Bytes)]) -> bool {
        if self.members.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|(name, _)| self.spoken_by_all(name))
    }

    fn spoken_by_all(&self, protocol: &str) -> bool {
        self.members.values().all(|member| member.protocols.iter().any(|(name, _)| &**name == protocol))
    }

    /// The protocol that the next generation would use: of those that everybody speaks, the one that most members
    /// like best; of equals, the first in the alphabet, so that a replay or a retry chooses alike.
    pub(super) fn elect_protocol(&self) -> Option<Arc<str>> {
        let any = self.members.values().next()?;
        let candidates: Vec<&Arc<str>> =
            any.protocols.iter().map(|(name, _)| name).filter(|name| self.spoken_by_all(name)).collect();
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for choice in self.members.values().filter_map(|member| member.vote(&candidates)) {
            *votes.entry(choice).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.clone())
    }

    /// Whether nobody is missing from the join phase. An id that was given out may be used any moment, so it counts.
    pub(super) fn all_joined(&self) -> bool {
        self.pending.is_empty() && self.members.values().all(|member| member.awaiting_join.is_some())
    }

    /// The longest that any member may take to join again.
    pub(super) fn rebalance_timeout_ms(&self) -> i32 {
        self.members.values().map(|member| member.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// Everybody, as the leader is told.
    pub(super) fn joined_members(&self) -> Vec<JoinedMember> {
        let protocol = self.protocol.as_deref().unwrap_or_default();
        self.members.values().map(|member| member.as_joined(protocol)).collect()
    }

    /// Whether members read `topic`. When that cannot be known of a group of consumers, it counts as yes.
    pub(super) fn is_subscribed_to(&self, topic: &str) -> bool {
        if self.members.is_empty() || self.protocol_type.as_deref() != Some(subscription::CONSUMER) {
            return false;
        }
        let Some(protocol) = &self.protocol else { return true };
        self.members.values().any(|member| {
            subscription::topics(&member.subscription(protocol)).is_none_or(|topics| topics.contains(&topic))
        })
    }

    /// The earliest monotonic time at which something in the group lapses.
    pub(super) fn next_deadline_ms(&self) -> Option<u64> {
        let phase = match self.phase {
            Phase::Empty => None,
            Phase::PreparingRebalance { deadline_ms, .. } => Some(deadline_ms),
            Phase::CompletingRebalance { sync_deadline_ms } => Some(sync_deadline_ms),
            Phase::Stable { sync_deadline_ms } => sync_deadline_ms,
        };
        let sessions = self.members.values().filter_map(|member| member.expires_at_ms());
        sessions.chain(self.pending.values().copied()).chain(phase).filter(|at| *at != u64::MAX).min()
    }
}
