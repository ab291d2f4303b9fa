//! What must hold of a consumer group at every moment, and requests to make one with.

use super::*;
use crate::coordinator::group::testing::{Driver, GROUP, commit_offsets};
use crate::coordinator::group::{
    Command, CommitOffsets, GroupConfig, GroupError, OffsetToCommit, Reply, subscription,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// No partition has two owners, and the target gives every partition to exactly one member that subscribes to it.
pub(in crate::coordinator::group) fn check(group: &ConsumerGroup) {
    let mut owners: BTreeMap<(TopicId, i32), &str> = BTreeMap::new();
    for (id, member) in &group.members {
        assert_eq!(*id, member.member_id);
        for partition in member.current.held() {
            let before = owners.insert(partition, id);
            assert!(before.is_none(), "{partition:?} belongs to {before:?} and to {id}");
        }
        let pending = !member.current.pending_revocation.is_empty();
        assert_eq!(pending, member.current.state == MemberState::UnrevokedPartitions);
        assert!(member.current.epoch <= group.assignment_epoch);
        let classic = member.metadata.classic.is_some();
        let timed = member.rebalance_deadline_ms.is_some() || member.session_deadline_ms == u64::MAX;
        assert!(!pending || classic || timed);
    }
    assert_eq!(group.epoch, group.assignment_epoch, "a target is computed at once");
    assert!(group.target.keys().eq(group.members.keys()), "everybody has a target, and nobody else has");
    let problem = group.problem();
    let mut given: BTreeSet<(TopicId, i32)> = BTreeSet::new();
    for (id, target) in &group.target {
        for (topic, index) in target.iter() {
            assert!(problem.members[id].topics.contains(&topic), "{id} does not subscribe to {topic:?}");
            assert!(given.insert((topic, index)), "{topic:?}-{index} is given twice");
        }
    }
    let wanted = group.topics.values().flat_map(|info| (0..info.partitions).map(|index| (info.id, index)));
    assert_eq!(given, wanted.collect(), "all of what is subscribed to is given away");
    let instances: Vec<_> =
        group.members.values().filter_map(|it| it.metadata.instance_id.as_ref()).collect();
    assert_eq!(
        instances.iter().collect::<BTreeSet<_>>().len(),
        instances.len(),
        "an instance id is in use twice"
    );
}

pub(super) fn id(topic: u8) -> TopicId {
    TopicId([topic; 16])
}

/// Topics `t1`, `t2`, … with these numbers of partitions; none where the number is 0.
pub(super) fn image(partitions: &[i32]) -> Arc<TopicImage> {
    let topics = (1u8..).zip(partitions).filter(|(_, count)| **count > 0);
    let by_name = topics
        .map(|(topic, count)| (format!("t{topic}").into(), TopicInfo { id: id(topic), partitions: *count }));
    let by_name: BTreeMap<Arc<str>, TopicInfo> = by_name.collect();
    Arc::new(TopicImage { version: 1, by_name, internal: BTreeSet::new() })
}

/// A driver that knows these topics.
pub(super) fn driver(partitions: &[i32]) -> Driver {
    driver_with(partitions, GroupConfig::default())
}

pub(super) fn driver_with(partitions: &[i32], config: GroupConfig) -> Driver {
    let mut driver = Driver::new(config);
    driver.call(Command::SetTopics(image(partitions)));
    driver
}

/// One that enters and subscribes to `topics`.
pub(super) fn entering(member_id: &str, topics: &[&str]) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        rebalance_timeout_ms: Some(60_000),
        topic_names: Some(topics.iter().map(|name| Arc::from(*name)).collect()),
        owned: Some(Assignment::default()),
        ..alive(member_id, 0)
    }
}

/// A heartbeat in which nothing changed.
pub(super) fn alive(member_id: &str, epoch: i32) -> ConsumerHeartbeat {
    ConsumerHeartbeat {
        group_id: GROUP.into(),
        member_id: member_id.into(),
        epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: None,
        topic_names: None,
        topic_regex: None,
        assignor: None,
        owned: None,
        client_id: "test".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: None,
        heartbeat_interval_ms: None,
    }
}

/// A heartbeat that says what the member holds.
pub(super) fn holding(member_id: &str, epoch: i32, owned: &Assignment) -> ConsumerHeartbeat {
    ConsumerHeartbeat { owned: Some(owned.clone()), ..alive(member_id, epoch) }
}

pub(super) fn send(driver: &mut Driver, heartbeat: ConsumerHeartbeat) -> Result<HeartbeatAnswer, GroupError> {
    match driver.call(Command::ConsumerHeartbeat(Box::new(heartbeat))) {
        Reply::ConsumerHeartbeat(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// Sends what has to be accepted: the epoch, and what is assigned if that is told.
pub(super) fn told(driver: &mut Driver, heartbeat: ConsumerHeartbeat) -> (i32, Option<Assignment>) {
    let answer = send(driver, heartbeat).expect("to be accepted");
    (answer.epoch, answer.assignment)
}

/// A commit in partitions of `t1`, `t2`, ….
pub(super) fn commit_in(member_id: &str, epoch: i32, partitions: &Assignment) -> CommitOffsets {
    let offset = |(topic, partition): (TopicId, i32)| OffsetToCommit {
        topic: format!("t{}", topic.0[0]).into(),
        partition,
        offset: 5,
        leader_epoch: -1,
        metadata: "".into(),
    };
    CommitOffsets {
        knows_group_not_found: true,
        offsets: partitions.iter().map(offset).collect(),
        ..commit_offsets(member_id, epoch, 5)
    }
}

/// Partitions of `t1`.
pub(super) fn of(partitions: &[i32]) -> Assignment {
    partitions.iter().map(|index| (id(1), *index)).collect()
}

/// What a classic member that reads `t1` says, holding `owned`.
pub(super) fn said(owned: &[i32]) -> Bytes {
    let mut bytes = subscription::encode(&["t1"]).to_vec();
    bytes[1] = 1;
    if owned.is_empty() {
        bytes.extend([0; 4]);
    } else {
        let assigned = subscription::encode_assigned(&[("t1".into(), owned.to_vec())]);
        bytes.extend(&assigned[2..assigned.len() - 4]);
    }
    bytes.into()
}

pub(super) fn group(driver: &Driver) -> &ConsumerGroup {
    driver.machine.groups[GROUP].consumers.as_deref().expect("a consumer group")
}
