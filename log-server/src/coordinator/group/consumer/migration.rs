//! A live group changes its protocol (KIP-848, "Migration"): a classic group of consumers becomes a consumer group when
//! a member of the newer protocol enters, and a classic one again when the last such member is gone.
//!
//! Members keep their ids, what they have and their numbers: the generation becomes the epoch, the epoch the generation.
//! They notice nothing but a rebalance.

use super::{Assignment, ClassicMember, ConsumerGroup, ConsumerMember, Current, MemberMetadata, TopicImage};
use crate::coordinator::group::draft::Draft;
use crate::coordinator::group::member::{Member, after};
use crate::coordinator::group::{
    Decision, Event, GroupConfig, GroupError, JoinRefused, Membership, Phase, Reply, subscription,
};
use crate::coordinator::machine::{Now, Token};
use std::sync::Arc;

/// The consumer group that a classic one becomes, or `None` where it cannot: its members are no consumers.
pub(super) fn upgraded(classic: &Membership, topics: &TopicImage, now: Now) -> Option<ConsumerGroup> {
    if classic.protocol_type.as_deref() != Some(subscription::CONSUMER) {
        return None;
    }
    let mut group = ConsumerGroup {
        epoch: classic.generation,
        assignment_epoch: classic.generation,
        ..Default::default()
    };
    let mut said = Vec::with_capacity(classic.members.len());
    for member in classic.members.values() {
        let chosen = classic.protocol.as_deref().map(|protocol| member.subscription(protocol));
        let first = || member.protocols.first().map(|(_, metadata)| metadata.clone());
        said.push(subscription::parse(&chosen.filter(|it| !it.is_empty()).or_else(first)?)?);
    }
    // Two members with one partition would be the fault of a leader; the first keeps it.
    let mut taken = Assignment::default();
    let mut take = |partitions: Vec<(Arc<str>, i32)>| -> Assignment {
        let known = partitions.into_iter().filter_map(|(topic, index)| Some((topics.get(&topic)?.id, index)));
        let free: Assignment = known.filter(|(topic, index)| !taken.contains(*topic, *index)).collect();
        taken.extend(free.iter());
        free
    };
    let assigned = classic.members.values().map(|it| subscription::assigned(&it.assignment));
    let mut held: Vec<Assignment> = assigned.map(|it| take(it.unwrap_or_default())).collect();
    // While a generation is made nobody has been assigned anything in it, and who joined with what it had works on.
    for (held, said) in held.iter_mut().zip(&mut said) {
        held.extend(take(std::mem::take(&mut said.owned)).iter());
    }
    for ((member, said), assigned) in classic.members.values().zip(said).zip(held) {
        let metadata = MemberMetadata {
            instance_id: member.instance_id.clone(),
            rack_id: said.rack_id,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topic_names: said.topics,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            classic: Some(ClassicMember {
                session_timeout_ms: member.session_timeout_ms,
                protocols: member.protocols.clone(),
            }),
            ..MemberMetadata::default()
        };
        group.target.insert(member.member_id.clone(), Arc::new(assigned.clone()));
        let current = Current {
            epoch: classic.generation,
            previous_epoch: classic.generation,
            assignment_epochs: assigned.iter().map(|partition| (partition, classic.generation)).collect(),
            assigned,
            ..Current::default()
        };
        let member = ConsumerMember {
            member_id: member.member_id.clone(),
            metadata,
            current,
            session_deadline_ms: after(now, member.session_timeout_ms),
            rebalance_deadline_ms: None,
        };
        group.members.insert(member.member_id.clone(), Arc::new(member));
    }
    Some(group)
}

/// Answers for whoever waits in a classic group that is one no more: join again.
pub(super) fn call_off(classic: &Membership) -> Vec<(Token, Reply)> {
    let mut replies = Vec::new();
    for member in classic.members.values() {
        let (error, member_id) = (GroupError::RebalanceInProgress, member.member_id.clone());
        let join =
            member.awaiting_join.map(|token| (token, Reply::Join(Err(JoinRefused { error, member_id }))));
        let sync = member.awaiting_sync.map(|token| (token, Reply::Sync(Err(error))));
        replies.extend(join.into_iter().chain(sync));
    }
    replies
}

/// The decision that makes a classic group of a consumer group whose members all speak the classic protocol; they are
/// called to join again. Until they have nobody leads, by which a restart knows that they have yet to be called.
pub(super) fn downgrade(
    config: &GroupConfig,
    now: Now,
    group_id: &Arc<str>,
    group: &ConsumerGroup,
    topics: &TopicImage,
) -> Decision {
    let mut classic = Membership::new(group_id.clone());
    classic.generation = group.epoch;
    classic.protocol_type = Some(subscription::CONSUMER.into());
    classic.phase = Phase::Stable { sync_deadline_ms: None };
    classic.phase_since_ms = Some(now.wall_ms);
    for (id, member) in &group.members {
        let Some(ClassicMember { session_timeout_ms, protocols }) = member.metadata.classic.clone() else {
            continue;
        };
        // What it works on, and not what it was on its way to.
        let held: Assignment = member.current.held().collect();
        classic.insert(Arc::new(Member {
            member_id: id.clone(),
            instance_id: member.metadata.instance_id.clone(),
            client_id: member.metadata.client_id.clone(),
            client_host: member.metadata.client_host.clone(),
            session_timeout_ms,
            rebalance_timeout_ms: member.metadata.rebalance_timeout_ms,
            assignment: subscription::encode_assigned(&named(&held, group, topics)),
            protocols,
            is_new: false,
            session_deadline_ms: after(now, session_timeout_ms),
            awaiting_join: None,
            awaiting_sync: None,
        }));
    }
    classic.protocol = classic.elect_protocol();
    let mut draft = Draft::new(config, now, classic);
    draft.store();
    draft.rebalance();
    draft.finish()
}

/// An assignment with the names of its topics, in their order; what was deleted has none.
pub(super) fn named(
    assignment: &Assignment,
    group: &ConsumerGroup,
    topics: &TopicImage,
) -> Vec<(Arc<str>, Vec<i32>)> {
    let known = group.topics.iter().chain(&topics.by_name);
    let mut named: Vec<(Arc<str>, Vec<i32>)> = Vec::new();
    for (topic, partitions) in assignment.topics() {
        if let Some((name, _)) = known.clone().find(|(_, info)| info.id == topic) {
            named.push((name.clone(), partitions.iter().copied().collect()));
        }
    }
    named.sort();
    named
}

/// The events with which a classic group ends without its offsets.
pub(super) fn end_of_classic(classic: &Membership) -> Vec<Event> {
    vec![Event::GroupRemoved { group_id: classic.group_id.clone() }]
}
