//! A consumer's life in its group, driven by its polls.
//!
//! ```text
//!             ┌────────────────────────── join again ◄─────────────────────┐
//!             ▼                                                            │
//! Unjoined ──► Joining ──► Stable ──rebalance──► Committing ──► Revoking ──┘
//!     ▲                      │                   (auto-commit)  (the application
//!     └──────── lost ────────┘                                   has been told)
//! ```
//! An eager member revokes everything before it joins. A cooperative one joins with what it has, and
//! revokes afterwards what the answer lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::FutureExt;
use log_core::wire::ErrorCode;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::config::GroupConfig;
use super::driver::{Done, pause_until};
use super::membership::{Heartbeat, Join, JoinError, Joined, Signal, join};
use super::positions::StartAt;
use super::protocol::Subscription;
use super::{ConsumeError, Consumer, Event};
use crate::client::Role;
use crate::error::ClientError;
use crate::offsets::{ByPartition, CommittedOffset, Committer};
use crate::topic_partition::TopicPartition;

/// A consumer's membership.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) config: Arc<GroupConfig>,
    member_id: String,
    /// The id that it was given in a rebalance that may be under way still.
    noted_id: Arc<Mutex<String>>,
    /// That which it joined, until the heartbeat knows better; -1 outside of the group.
    joined_generation: i32,
    phase: Phase,
    heartbeat: Option<Heartbeat>,
    /// When the application last asked for records. The heartbeat looks at it.
    last_poll: Arc<Mutex<Instant>>,
    /// For the group's leader: partitions of each topic when they were shared out.
    partition_counts: Option<BTreeMap<Arc<str>, usize>>,
    auto_commit_at: Instant,
    is_committing: bool,
    /// What was committed last, so that nothing is committed twice.
    last_committed: BTreeMap<TopicPartition, i64>,
    join_failures: u32,
}

#[derive(Debug)]
enum Phase {
    /// Not subscribed.
    Outside,
    Unjoined,
    Joining,
    Stable,
    Committing(Vec<TopicPartition>),
    Revoking(Vec<TopicPartition>),
}

impl Group {
    pub(super) fn new(config: GroupConfig) -> Group {
        Group {
            config: Arc::new(config),
            member_id: String::new(),
            noted_id: Arc::default(),
            joined_generation: -1,
            phase: Phase::Outside,
            heartbeat: None,
            last_poll: Arc::new(Mutex::new(Instant::now())),
            partition_counts: None,
            auto_commit_at: Instant::now(),
            is_committing: false,
            last_committed: BTreeMap::new(),
            join_failures: 0,
        }
    }

    pub(super) fn is_member(&self) -> bool {
        !matches!(self.phase, Phase::Outside)
    }

    /// The subscription has changed.
    pub(super) fn rejoin(&mut self) {
        match (&self.phase, &mut self.heartbeat) {
            (Phase::Outside, _) => self.phase = Phase::Unjoined,
            // As if the coordinator had called for a rebalance.
            (Phase::Stable, Some(heartbeat)) => heartbeat.is_overruled = true,
            _ => {}
        }
    }

    /// Stops taking part and returns the member's id, to leave with.
    pub(super) fn end(&mut self) -> String {
        self.heartbeat = None;
        self.phase = Phase::Outside;
        self.joined_generation = -1;
        self.member_id.clear();
        // A rebalance that goes on notes its id where nobody looks any more.
        let noted = std::mem::take(&mut self.noted_id);
        noted.lock().clone()
    }

    pub(super) fn touch(&self) {
        *self.last_poll.lock() = Instant::now();
    }

    /// When something is to be done without anything happening.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.config.auto_commit.is_some() && !self.is_committing).then_some(self.auto_commit_at)
    }

    /// What to wait on for the coordinator's word; only where a word would be acted on.
    pub(super) fn signal(&self) -> Option<watch::Receiver<Signal>> {
        let heartbeat = self.heartbeat.as_ref().filter(|_| matches!(self.phase, Phase::Stable))?;
        Some(heartbeat.signal.clone())
    }

    /// -1 outside of the group.
    fn generation(&self) -> i32 {
        self.heartbeat.as_ref().map_or(self.joined_generation, Heartbeat::generation)
    }

    pub(super) fn committer(&self) -> Committer {
        let generation = self.generation();
        Committer {
            generation,
            member_id: self.member_id.clone(),
            instance_id: self.config.instance_id.clone().filter(|_| generation >= 0),
        }
    }

    /// What the member has to say of itself.
    fn member(&self, role: Role, topics: Vec<Arc<str>>, owned: Vec<TopicPartition>) -> Join {
        let generation = self.generation();
        Join {
            config: self.config.clone(),
            role,
            member_id: self.member_id.clone(),
            noted_id: self.noted_id.clone(),
            subscription: Subscription { topics, owned, generation },
        }
    }

    /// Takes note of a commit's answers.
    pub(super) fn committed(
        &mut self,
        offsets: &[(TopicPartition, CommittedOffset)],
        answers: Result<ByPartition<ErrorCode>, ClientError>,
    ) -> Result<(), ConsumeError> {
        for (_, code) in answers? {
            code.into_result()
                .map_err(|code| ConsumeError::Commit { group: self.config.id.as_str().into(), code })?;
        }
        self.last_committed
            .extend(offsets.iter().map(|(partition, offset)| (partition.clone(), offset.offset)));
        Ok(())
    }
}

impl Consumer {
    /// Takes every step that can be taken now.
    pub(super) fn drive_group(&mut self) {
        // An event that has not been fetched yet must be seen before what follows it.
        while self.events.is_empty() {
            let Some(group) = &mut self.group else { return };
            match std::mem::replace(&mut group.phase, Phase::Joining) {
                Phase::Stable => {
                    group.phase = Phase::Stable;
                    if !self.heed_signal() {
                        return;
                    }
                }
                Phase::Revoking(partitions) => {
                    group.phase = Phase::Unjoined;
                    for partition in &partitions {
                        group.last_committed.remove(partition);
                        self.positions.remove(partition);
                    }
                }
                Phase::Unjoined => self.start_join(),
                waiting => {
                    group.phase = waiting;
                    return;
                }
            }
        }
    }

    /// Acts on the coordinator's last word. False if there is nothing to do.
    fn heed_signal(&mut self) -> bool {
        let metadata = self.client.metadata();
        let Some(group) = &mut self.group else { return false };
        let Some(heartbeat) = &group.heartbeat else { return false };
        let has_grown = group.partition_counts.as_ref().is_some_and(|counts| {
            self.subscription.iter().any(|topic| {
                let count = metadata.topics.get(topic).map(|topic| topic.partitions.len());
                count.is_some() && count != counts.get(topic).copied()
            })
        });
        let signal = *heartbeat.signal.borrow();
        match signal {
            Signal::Alive if !has_grown && !heartbeat.is_overruled => return false,
            Signal::Alive | Signal::Rebalance => {
                let revoked = match group.config.is_cooperative() {
                    true => Vec::new(),
                    false => self.positions.partitions().cloned().collect(),
                };
                self.revoke(revoked);
            }
            Signal::Lost(code) => {
                tracing::warn!(group = group.config.id, %code, "lost the membership of the group");
                self.lose(code == ErrorCode::UnknownMemberId);
            }
            Signal::Fatal(code) => {
                let id = group.config.id.as_str().into();
                self.lose(false);
                if let Some(group) = &mut self.group {
                    group.phase = Phase::Outside;
                }
                self.errors.push_back(ConsumeError::Group { group: id, code });
                return false;
            }
        }
        true
    }

    /// Gives partitions up: commits first if that is automatic, tells the application, and with the next
    /// poll joins again.
    fn revoke(&mut self, revoked: Vec<TopicPartition>) {
        let Some(group) = &mut self.group else { return };
        if revoked.is_empty() {
            group.phase = Phase::Unjoined;
        } else if group.config.auto_commit.is_some() {
            group.phase = Phase::Committing(revoked);
            let offsets = self.committable();
            self.start_commit(offsets, true);
        } else {
            group.phase = Phase::Revoking(revoked.clone());
            self.events.push_back(Event::Revoking(revoked));
        }
    }

    /// The partitions are others' already.
    fn lose(&mut self, forget_member: bool) {
        let Some(group) = &mut self.group else { return };
        group.heartbeat = None;
        group.joined_generation = -1;
        group.last_committed.clear();
        if forget_member {
            group.member_id.clear();
            group.noted_id = Arc::default();
        }
        group.phase = Phase::Unjoined;
        let lost: Vec<_> = self.positions.partitions().cloned().collect();
        self.positions.clear();
        if !lost.is_empty() {
            self.events.push_back(Event::Lost(lost));
        }
    }

    fn start_join(&mut self) {
        let role = self.group_role();
        let Some(group) = &mut self.group else { return };
        group.phase = Phase::Joining;
        group.joined_generation = group.generation();
        group.heartbeat = None;
        let owned = match group.config.is_cooperative() {
            true => self.positions.partitions().cloned().collect(),
            false => Vec::new(),
        };
        let join_as = group.member(role, self.subscription.clone(), owned);
        let client = self.client.clone();
        let not_before = Instant::now() + client.config().backoff.delay(group.join_failures);
        let task = async move {
            pause_until(not_before).await;
            Done::Joined(join(&client, join_as).await)
        };
        self.tasks.push(task.boxed());
    }

    pub(super) fn joined(&mut self, outcome: Result<Joined, JoinError>, now: Instant) {
        let role = self.group_role();
        let Some(group) = &mut self.group else { return };
        // Unsubscribed meanwhile: the session ends by itself.
        if !matches!(group.phase, Phase::Joining) {
            return;
        }
        let joined = match outcome {
            Ok(joined) => joined,
            Err(failed) => {
                group.member_id = failed.member_id;
                return self.join_failed(&failed.error);
            }
        };
        group.join_failures = 0;
        group.member_id = joined.member_id;
        group.joined_generation = joined.generation;
        group.partition_counts = joined.partition_counts;
        group.auto_commit_at = now + group.config.auto_commit.unwrap_or_default();
        group.phase = Phase::Stable;
        let assigned: BTreeSet<TopicPartition> = joined.assignment.into_iter().collect();
        let owned: BTreeSet<TopicPartition> = self.positions.partitions().cloned().collect();
        let added: Vec<_> = assigned.difference(&owned).cloned().collect();
        let revoked: Vec<_> = owned.difference(&assigned).cloned().collect();
        for partition in &added {
            self.positions.start(partition.clone(), StartAt::Committed);
        }
        // Those to be revoked are given up only with the next rebalance.
        let owned = self.positions.partitions().cloned().collect();
        let member = group.member(role, self.subscription.clone(), owned);
        let (interval, last_poll) = (joined.heartbeat_interval, group.last_poll.clone());
        group.heartbeat = Some(Heartbeat::start(&self.client, member, interval, last_poll));
        if !added.is_empty() {
            // Their leaders may not be known yet.
            self.refresh_at = now;
            self.events.push_back(Event::Assigned(added));
        }
        if !revoked.is_empty() {
            self.revoke(revoked);
        }
    }

    fn join_failed(&mut self, error: &ClientError) {
        let Some(group) = &mut self.group else { return };
        group.phase = Phase::Unjoined;
        match error.code() {
            // The group has moved on; so does the member.
            Some(ErrorCode::RebalanceInProgress) => {}
            Some(
                code @ (ErrorCode::UnknownMemberId
                | ErrorCode::IllegalGeneration
                | ErrorCode::FencedMemberEpoch),
            ) => {
                self.lose(code == ErrorCode::UnknownMemberId);
            }
            _ => {
                group.join_failures = group.join_failures.saturating_add(1);
                self.client.forget_coordinator(&group.config.id);
                if error.is_retriable() {
                    tracing::debug!(group = group.config.id, %error, "cannot join the group yet");
                    return;
                }
                let group = group.config.id.as_str().into();
                self.errors.push_back(match error.code() {
                    Some(code) => ConsumeError::Group { group, code },
                    None => error.clone().into(),
                });
            }
        }
    }

    /// Positions that differ from what was committed last.
    pub(super) fn committable(&self) -> Vec<(TopicPartition, CommittedOffset)> {
        let Some(group) = &self.group else { return Vec::new() };
        let changed = self
            .positions
            .positions()
            .filter(|(partition, offset)| group.last_committed.get(*partition) != Some(offset));
        changed.map(|(partition, offset)| (partition.clone(), CommittedOffset::at(offset))).collect()
    }

    /// Commits what the application has polled, when it is time.
    pub(super) fn auto_commit(&mut self) {
        let Some(group) = &mut self.group else { return };
        let Some(interval) = group.config.auto_commit else { return };
        let now = Instant::now();
        if now < group.auto_commit_at || group.is_committing {
            return;
        }
        group.auto_commit_at = now + interval;
        let offsets = self.committable();
        self.start_commit(offsets, false);
    }

    pub(super) fn start_commit(
        &mut self,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
        before_revocation: bool,
    ) {
        let Some(group) = &mut self.group else { return };
        if offsets.is_empty() && !before_revocation {
            return;
        }
        group.is_committing = true;
        let (client, id, committer) = (self.client.clone(), group.config.id.clone(), group.committer());
        let task = async move {
            let answers = match offsets.is_empty() {
                true => Ok(Vec::new()),
                false => client.commit_offsets(&id, &committer, &offsets).await,
            };
            Done::Commit { offsets, answers, before_revocation }
        };
        self.tasks.push(task.boxed());
    }

    pub(super) fn commit_done(
        &mut self,
        offsets: &[(TopicPartition, CommittedOffset)],
        answers: Result<ByPartition<ErrorCode>, ClientError>,
        before_revocation: bool,
    ) {
        let Some(group) = &mut self.group else { return };
        group.is_committing = false;
        if let Err(error) = group.committed(offsets, answers) {
            tracing::warn!(group = group.config.id, %error, "offsets were not committed");
        }
        if !before_revocation {
            return;
        }
        if let Phase::Committing(revoked) = std::mem::replace(&mut group.phase, Phase::Joining) {
            group.phase = Phase::Revoking(revoked.clone());
            self.events.push_back(Event::Revoking(revoked));
        }
    }
}
