//! One member of a group.

use super::{JoinGroup, JoinedMember};
use crate::coordinator::machine::{Now, Token};
use bytes::Bytes;
use std::sync::Arc;

/// A member: what the log remembers of it, and what only this run of the broker knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Given by the coordinator.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// `client.id` of the request that made it a member.
    pub client_id: Arc<str>,
    /// Where that request came from.
    pub client_host: Arc<str>,
    /// Silence after which it counts as gone.
    pub session_timeout_ms: i32,
    /// How long it may take to join again.
    pub rebalance_timeout_ms: i32,
    /// Protocol names, best first, with the subscription in the terms of each. After a restart only the one that
    /// the group had chosen.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// What the leader gave it in this generation.
    pub assignment: Bytes,
    /// Soft: has not seen a generation yet, so it does not send heartbeats and is not spared for waiting.
    pub is_new: bool,
    /// Soft: monotonic milliseconds at which its silence has lasted too long.
    pub session_deadline_ms: u64,
    /// Soft: the JoinGroup that waits for the end of the join phase.
    pub awaiting_join: Option<Token>,
    /// Soft: the SyncGroup that waits for the leader.
    pub awaiting_sync: Option<Token>,
}

impl Member {
    /// The member that `join` makes, with its request parked.
    pub(super) fn joining(join: &JoinGroup, member_id: Arc<str>, token: Token, deadline_ms: u64) -> Self {
        Member {
            member_id,
            instance_id: join.member.instance_id.clone(),
            client_id: join.client_id.clone(),
            client_host: join.client_host.clone(),
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols.clone(),
            assignment: Bytes::new(),
            is_new: true,
            session_deadline_ms: deadline_ms,
            awaiting_join: Some(token),
            awaiting_sync: None,
        }
    }

    /// The first of its protocols that is among `candidates`.
    pub(super) fn vote<'a>(&'a self, candidates: &[&Arc<str>]) -> Option<&'a Arc<str>> {
        self.protocols.iter().map(|(name, _)| name).find(|name| candidates.contains(name))
    }

    /// Its subscription in the terms of `protocol`; empty if it does not speak it.
    pub fn subscription(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| &**name == protocol)
            .map(|(_, bytes)| bytes.clone())
            .unwrap_or_default()
    }

    pub(super) fn as_joined(&self, protocol: &str) -> JoinedMember {
        JoinedMember {
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            subscription: self.subscription(protocol),
        }
    }

    /// The member was heard of: its session starts anew.
    pub(super) fn extend_session(&mut self, now: Now) {
        self.session_deadline_ms = after(now, self.session_timeout_ms);
    }

    /// When its session ends, unless it is the broker that keeps the member waiting: a parked request is a sign
    /// of life that lasts. A new member is not spared, since nothing else bounds how long it may be parked.
    pub(super) fn expires_at_ms(&self) -> Option<u64> {
        let spared = !self.is_new && (self.awaiting_join.is_some() || self.awaiting_sync.is_some());
        (!spared).then_some(self.session_deadline_ms)
    }
}

/// `timeout_ms` from now on the monotonic clock; a negative timeout is over at once.
pub(super) fn after(now: Now, timeout_ms: i32) -> u64 {
    now.monotonic_ms.saturating_add(u64::try_from(timeout_ms).unwrap_or(0))
}
