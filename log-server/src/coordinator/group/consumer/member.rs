//! One member of a consumer group.

use super::{Assignment, TopicId};
use crate::coordinator::group::member::after;
use crate::coordinator::machine::Now;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A member: what it said of itself, how far it has come, and when it has to be heard of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerMember {
    /// Chosen by the client, or by the broker for clients of the first version.
    pub member_id: Arc<str>,
    /// What it said of itself.
    pub metadata: MemberMetadata,
    /// How far it has come.
    pub current: Current,
    /// Soft: monotonic milliseconds at which its silence has lasted too long.
    pub session_deadline_ms: u64,
    /// Soft: monotonic milliseconds until which it has to give up what it was asked for; `None` while it need not.
    pub rebalance_deadline_ms: Option<u64>,
}

/// What a member said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberMetadata {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// `client.rack`. Accepted and shown; every partition is on this one broker, so no assignor looks at it.
    pub rack_id: Option<Arc<str>>,
    /// `client.id`.
    pub client_id: Arc<str>,
    /// Where it connected from.
    pub client_host: Arc<str>,
    /// Topics by name.
    pub topic_names: BTreeSet<Arc<str>>,
    /// Topics by a pattern.
    pub topic_regex: Option<Arc<str>>,
    /// How long it may take to give partitions up, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it would like.
    pub assignor: Option<Arc<str>>,
    /// Set for a member that speaks the classic protocol, in a group that is on its way from one to the other.
    pub classic: Option<ClassicMember>,
}

impl Default for MemberMetadata {
    fn default() -> Self {
        MemberMetadata {
            instance_id: None,
            rack_id: None,
            client_id: Arc::from(""),
            client_host: Arc::from(""),
            topic_names: BTreeSet::new(),
            topic_regex: None,
            rebalance_timeout_ms: -1,
            assignor: None,
            classic: None,
        }
    }
}

impl MemberMetadata {
    /// Whether both read the same.
    pub(super) fn subscribes_like(&self, other: &MemberMetadata) -> bool {
        self.topic_names == other.topic_names && self.topic_regex == other.topic_regex
    }
}

/// What a member of the classic protocol said when it joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassicMember {
    /// Silence after which it counts as gone.
    pub session_timeout_ms: i32,
    /// Assignors that it knows, best first, each with its subscription in the form of `subscription.rs`.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// Where a member stands on its way to the target. The numbers are those of the log.
///
/// ```text
///                      has to give up                   has given up, and waits for others
///   Stable ──────────────────────────► UnrevokedPartitions ─────────────────► UnreleasedPartitions
///     ▲  └──────────────────────────────────┼───────────────────────────────────────┘ │
///     └─────────────────────────────────────┴──────────────────────────────────────────┘
///                                    has all of the target
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum MemberState {
    /// It has what it is to have at its epoch.
    Stable = 0,
    /// It was asked to give partitions up and has not said yet that it did.
    UnrevokedPartitions = 1,
    /// It waits for partitions that others hold yet.
    UnreleasedPartitions = 2,
}

/// How far a member has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current {
    /// The epoch that it has to show; 0 before its first, -2 while a static member is away.
    pub epoch: i32,
    /// The one before, accepted from a member that did not get the last answer.
    pub previous_epoch: i32,
    /// See [`MemberState`].
    pub state: MemberState,
    /// What it may work on.
    pub assigned: Assignment,
    /// What it has to give up, and counts as its own until it has.
    pub pending_revocation: Assignment,
    /// The epoch at which it got each partition that it holds. Empty while a static member is away: it gets them anew
    /// when it comes back.
    pub assignment_epochs: BTreeMap<(TopicId, i32), i32>,
}

impl Default for Current {
    fn default() -> Self {
        Current {
            epoch: 0,
            previous_epoch: 0,
            state: MemberState::Stable,
            assigned: Assignment::default(),
            pending_revocation: Assignment::default(),
            assignment_epochs: BTreeMap::new(),
        }
    }
}

impl Current {
    /// Whether it has all that the target of `epoch` gives it.
    pub(super) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }

    /// All that counts as its own, what it has to give up included.
    pub(super) fn held(&self) -> impl Iterator<Item = (TopicId, i32)> {
        self.assigned.iter().chain(self.pending_revocation.iter())
    }

    /// Whether the member may commit at `epoch` in these partitions. Its epoch moves as soon as an answer is decided,
    /// and a commit may have been sent before that answer arrived: an older epoch will do for what the member has held
    /// without a break since then (KIP-1251).
    pub(in crate::coordinator::group) fn may_commit_at(
        &self,
        epoch: i32,
        mut partitions: impl Iterator<Item = Option<(TopicId, i32)>>,
    ) -> bool {
        let held_since =
            |partition| self.assignment_epochs.get(&partition).is_some_and(|since| *since <= epoch);
        let is_older = (0..self.epoch).contains(&epoch);
        epoch == self.epoch || (is_older && partitions.all(|partition| partition.is_some_and(held_since)))
    }
}

impl ConsumerMember {
    /// A member that is not in the log yet.
    pub(super) fn new(member_id: Arc<str>) -> Self {
        ConsumerMember {
            member_id,
            metadata: MemberMetadata::default(),
            current: Current::default(),
            session_deadline_ms: u64::MAX,
            rebalance_deadline_ms: None,
        }
    }

    /// How long it may be silent: what it asked for by the classic protocol, or else the broker's setting.
    pub(super) fn session_timeout_ms(&self, setting_ms: i32) -> i32 {
        self.metadata.classic.as_ref().map_or(setting_ms, |classic| classic.session_timeout_ms)
    }

    /// Begins or ends the time that the member has to give partitions up.
    pub(super) fn start_rebalance_timeout(&mut self, now: Now) {
        let asked = self.current.state == MemberState::UnrevokedPartitions;
        self.rebalance_deadline_ms = asked.then(|| after(now, self.metadata.rebalance_timeout_ms));
    }

    /// The earliest monotonic time at which it may have to be put out.
    pub(in crate::coordinator::group) fn expires_at_ms(&self) -> u64 {
        self.session_deadline_ms.min(self.rebalance_deadline_ms.unwrap_or(u64::MAX))
    }
}
