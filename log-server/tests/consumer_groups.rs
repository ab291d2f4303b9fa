//! Consumer groups of the newer protocol by request values, in every version, against a whole broker.

mod support;

use std::time::Duration;

use log_core::wire::messages::consumer_group_describe_response::DescribedGroup;
use log_core::wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use log_core::wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use log_core::wire::messages::offset_fetch_request::OffsetFetchRequestGroup;
use log_core::wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    DeleteGroupsRequest, DeleteTopicsRequest, DescribeGroupsRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest,
};
use log_core::wire::{ApiKey, ErrorCode, StrBytes, Uuid, message};
use log_server::topic::NewTopic;
use log_server::{Broker, BrokerConfig};
use support::{Rig, call, start, start_with};

const GROUP: &str = "readers";
const TOPIC: &str = "flights";

async fn create(rig: &Rig, topic: &str, partitions: i32) -> Uuid {
    let new = NewTopic { partitions: Some(partitions), ..NewTopic::named(topic) };
    rig.broker.context().topics.create(vec![new]).await.remove(0).unwrap().id
}

fn error(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code of Kafka's")
}

fn entering(member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    message!(ConsumerGroupHeartbeatRequest {
        group_id: StrBytes::from(GROUP),
        member_id: StrBytes::from(member),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(topics.iter().map(|topic| StrBytes::from(*topic)).collect()),
        topic_partitions: Some(Vec::new()),
    })
}

fn alive(member: &str, epoch: i32, owned: Option<(Uuid, &[i32])>) -> ConsumerGroupHeartbeatRequest {
    let owned = owned.map(|(topic_id, partitions)| {
        vec![message!(TopicPartitions { topic_id: topic_id, partitions: partitions.to_vec() })]
    });
    message!(ConsumerGroupHeartbeatRequest {
        group_id: StrBytes::from(GROUP),
        member_id: StrBytes::from(member),
        member_epoch: epoch,
        topic_partitions: owned,
    })
}

async fn beat(
    rig: &Rig,
    version: i16,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    call(rig, version, request).await
}

/// The partitions that an answer assigns, of whichever topic, in order: topics come by their ids, which are random.
fn assigned(answer: &ConsumerGroupHeartbeatResponse) -> Option<Vec<i32>> {
    let assignment = answer.assignment.as_ref()?;
    let mut all: Vec<i32> =
        assignment.topic_partitions.iter().flat_map(|topic| topic.partitions.clone()).collect();
    all.sort_unstable();
    Some(all)
}

async fn describe(rig: &Rig, version: i16, group: &str) -> DescribedGroup {
    let request = message!(ConsumerGroupDescribeRequest { group_ids: vec![StrBytes::from(group)] });
    call(rig, version, request).await.groups.remove(0)
}

/// Beats until the answer assigns `partitions`: the coordinator hears of topics a moment after they change.
async fn beat_until(
    rig: &Rig,
    member: &str,
    mut epoch: i32,
    owned: (Uuid, &[i32]),
    partitions: &[i32],
) -> i32 {
    let deadline = tokio::time::Instant::now() + support::PATIENCE;
    loop {
        let answer = beat(rig, 1, alive(member, epoch, Some(owned))).await;
        assert_eq!(error(answer.error_code), ErrorCode::None);
        epoch = answer.member_epoch;
        if assigned(&answer).is_some_and(|assigned| assigned == partitions) {
            return epoch;
        }
        assert!(tokio::time::Instant::now() < deadline, "never assigned {partitions:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn members_share_partitions_in_every_version() {
    for version in ApiKey::ConsumerGroupHeartbeat.served().iter() {
        let rig = start().await;
        let id = create(&rig, TOPIC, 2).await;
        let answer = beat(&rig, version, entering("a", &[TOPIC])).await;
        assert_eq!((error(answer.error_code), answer.member_epoch), (ErrorCode::None, 1));
        assert_eq!((assigned(&answer), answer.heartbeat_interval_ms), (Some(vec![0, 1]), 5_000));
        assert_eq!(answer.member_id.as_deref(), Some("a"));
        assert_eq!(answer.assignment.unwrap().topic_partitions[0].topic_id, id);
        let answer = beat(&rig, version, entering("b", &[TOPIC])).await;
        assert_eq!((answer.member_epoch, assigned(&answer)), (2, Some(vec![])));
        let answer = beat(&rig, version, alive("a", 1, None)).await;
        assert_eq!((answer.member_epoch, assigned(&answer)), (1, Some(vec![0])));
        assert_eq!(beat(&rig, version, alive("a", 1, Some((id, &[0])))).await.member_epoch, 2);
        assert_eq!(assigned(&beat(&rig, version, alive("b", 2, None)).await), Some(vec![1]));
        let fenced = beat(&rig, version, alive("b", 9, None)).await;
        assert_eq!(error(fenced.error_code), ErrorCode::FencedMemberEpoch);
        assert!(fenced.error_message.is_some());
        assert_eq!(beat(&rig, version, alive("b", -1, None)).await.member_epoch, -1);
        let gone = beat(&rig, version, alive("b", 2, None)).await;
        assert_eq!(error(gone.error_code), ErrorCode::UnknownMemberId);
    }
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let rig = start().await;
    let base = || entering("a", &[TOPIC]);
    let mut refused: Vec<ConsumerGroupHeartbeatRequest> = Vec::new();
    let mut refuse = |change: fn(&mut ConsumerGroupHeartbeatRequest)| {
        let mut request = base();
        change(&mut request);
        refused.push(request);
    };
    refuse(|it| it.group_id = StrBytes::default());
    refuse(|it| it.instance_id = Some(StrBytes::from(" ")));
    refuse(|it| it.rack_id = Some(StrBytes::default()));
    refuse(|it| it.rebalance_timeout_ms = -1);
    refuse(|it| it.topic_partitions = None);
    refuse(|it| it.topic_partitions = Some(vec![TopicPartitions::default()]));
    refuse(|it| it.subscribed_topic_names = None);
    refuse(|it| it.member_epoch = -3);
    refuse(|it| it.member_epoch = -2);
    refuse(|it| {
        it.member_epoch = 1;
        it.member_id = StrBytes::default();
    });
    for request in refused {
        for version in ApiKey::ConsumerGroupHeartbeat.served().iter() {
            let answer = beat(&rig, version, request.clone()).await;
            assert_eq!(error(answer.error_code), ErrorCode::InvalidRequest, "{request:?}");
        }
    }
    // The first version gives ids to those that have none; later ones expect the client to choose.
    let nameless = entering("", &[TOPIC]);
    let answer = beat(&rig, 0, nameless.clone()).await;
    assert_eq!(error(answer.error_code), ErrorCode::None);
    assert!(answer.member_id.is_some_and(|id| id.len() == 36));
    assert_eq!(error(beat(&rig, 1, nameless).await.error_code), ErrorCode::InvalidRequest);
    let mut request = base();
    request.server_assignor = Some(StrBytes::from("sticky"));
    assert_eq!(error(beat(&rig, 1, request).await.error_code), ErrorCode::UnsupportedAssignor);
    let mut request = base();
    request.subscribed_topic_regex = Some(StrBytes::from("["));
    assert_eq!(error(beat(&rig, 1, request).await.error_code), ErrorCode::InvalidRegularExpression);
}

#[tokio::test]
async fn groups_are_shown_for_what_they_are() {
    let rig = start().await;
    create(&rig, TOPIC, 2).await;
    let mut request = entering("a", &[TOPIC]);
    request.instance_id = Some(StrBytes::from("one"));
    request.rack_id = Some(StrBytes::from("north"));
    request.server_assignor = Some(StrBytes::from("range"));
    beat(&rig, 1, request).await;
    for version in ApiKey::ConsumerGroupDescribe.served().iter() {
        let group = describe(&rig, version, GROUP).await;
        assert_eq!(
            (error(group.error_code), &*group.group_state, &*group.assignor_name),
            (ErrorCode::None, "Stable", "range")
        );
        assert_eq!((group.group_epoch, group.assignment_epoch), (1, 1));
        let member = &group.members[0];
        assert_eq!((&*member.member_id, member.member_epoch, &*member.client_id), ("a", 1, "test"));
        assert_eq!((member.instance_id.as_deref(), member.rack_id.as_deref()), (Some("one"), Some("north")));
        assert_eq!(member.subscribed_topic_names, [StrBytes::from(TOPIC)]);
        assert_eq!(member.member_type, if version >= 1 { 1 } else { -1 });
        for assignment in [&member.assignment, &member.target_assignment] {
            let topic = &assignment.topic_partitions[0];
            assert_eq!((&*topic.topic_name, &topic.partitions), (TOPIC, &vec![0, 1]));
        }
        let none = describe(&rig, version, "nobody").await;
        assert_eq!(error(none.error_code), ErrorCode::GroupIdNotFound);
    }
    for version in ApiKey::DescribeGroups.served().iter() {
        let request = message!(DescribeGroupsRequest { groups: vec![StrBytes::from(GROUP)] });
        assert_eq!(&*call(&rig, version, request).await.groups[0].group_state, "Dead", "no classic group");
    }
    for version in ApiKey::ListGroups.served().iter() {
        let groups = call(&rig, version, ListGroupsRequest::default()).await.groups;
        assert_eq!((&*groups[0].group_id, &*groups[0].protocol_type), (GROUP, "consumer"));
        assert_eq!(&*groups[0].group_type, if version >= 5 { "Consumer" } else { "" });
        assert_eq!(&*groups[0].group_state, if version >= 4 { "Stable" } else { "" });
    }
    for (kind, count) in [("consumer", 1), ("Consumer", 1), ("classic", 0)] {
        let request = message!(ListGroupsRequest { types_filter: vec![StrBytes::from(kind)] });
        assert_eq!(call(&rig, 5, request).await.groups.len(), count, "{kind}");
    }
}

async fn commit(rig: &Rig, version: i16, member: &str, epoch: i32, id: Uuid) -> ErrorCode {
    let partition = message!(OffsetCommitRequestPartition { committed_offset: 7 });
    let topic = message!(OffsetCommitRequestTopic {
        name: StrBytes::from(if version < 10 { TOPIC } else { "" }),
        topic_id: if version < 10 { Uuid::ZERO } else { id },
        partitions: vec![partition],
    });
    let request = message!(OffsetCommitRequest {
        group_id: StrBytes::from(GROUP),
        generation_id_or_member_epoch: epoch,
        member_id: StrBytes::from(member),
        topics: vec![topic],
    });
    error(call(rig, version, request).await.topics[0].partitions[0].error_code)
}

async fn fetch(rig: &Rig, version: i16, member: Option<&str>, epoch: i32) -> ErrorCode {
    let group = message!(OffsetFetchRequestGroup {
        group_id: StrBytes::from(GROUP),
        member_id: member.map(StrBytes::from),
        member_epoch: epoch,
        topics: None,
    });
    let answer = call(rig, version, message!(OffsetFetchRequest { groups: vec![group] })).await;
    error(answer.groups[0].error_code)
}

#[tokio::test]
async fn commits_and_fetches_are_fenced_by_epoch() {
    let rig = start().await;
    let id = create(&rig, TOPIC, 1).await;
    beat(&rig, 1, entering("a", &[TOPIC])).await;
    for version in ApiKey::OffsetCommit.served().iter() {
        let modern = version >= 9;
        let right = if modern { ErrorCode::None } else { ErrorCode::UnsupportedVersion };
        let stale = if modern { ErrorCode::StaleMemberEpoch } else { ErrorCode::UnsupportedVersion };
        assert_eq!(commit(&rig, version, "a", 1, id).await, right, "{version}");
        assert_eq!(commit(&rig, version, "a", 2, id).await, stale, "{version}");
        assert_eq!(commit(&rig, version, "b", 1, id).await, ErrorCode::UnknownMemberId, "{version}");
    }
    for version in 9..=ApiKey::OffsetFetch.served().max {
        assert_eq!(fetch(&rig, version, Some("a"), 1).await, ErrorCode::None);
        assert_eq!(fetch(&rig, version, Some("a"), 2).await, ErrorCode::StaleMemberEpoch);
        assert_eq!(fetch(&rig, version, Some("b"), 1).await, ErrorCode::UnknownMemberId);
        assert_eq!(fetch(&rig, version, None, -1).await, ErrorCode::None, "a tool");
    }
    let delete = message!(DeleteGroupsRequest { groups_names: vec![StrBytes::from(GROUP)] });
    assert_eq!(error(call(&rig, 2, delete.clone()).await.results[0].error_code), ErrorCode::NonEmptyGroup);
    beat(&rig, 1, alive("a", -1, None)).await;
    assert_eq!(error(call(&rig, 2, delete).await.results[0].error_code), ErrorCode::None);
}

#[tokio::test]
async fn topics_that_appear_grow_and_go_change_assignments() {
    let rig = start().await;
    let mut request = entering("a", &[]);
    request.subscribed_topic_names = None;
    request.subscribed_topic_regex = Some(StrBytes::from("fl.*"));
    let answer = beat(&rig, 1, request).await;
    assert_eq!((answer.member_epoch, assigned(&answer)), (1, Some(vec![])));
    let id = create(&rig, TOPIC, 1).await;
    let epoch = beat_until(&rig, "a", 1, (id, &[]), &[0]).await;
    rig.broker.context().topics.grow(TOPIC, 2).await.unwrap();
    let epoch = beat_until(&rig, "a", epoch, (id, &[0]), &[0, 1]).await;
    let delete =
        message!(DeleteTopicsRequest { topic_names: vec![StrBytes::from(TOPIC)], timeout_ms: 1_000 });
    call(&rig, 5, delete).await;
    beat_until(&rig, "a", epoch, (Uuid::ZERO, &[]), &[]).await;
}

#[tokio::test]
async fn groups_survive_a_restart_and_follow_topics_made_meanwhile() {
    let settings = |config: &mut BrokerConfig| {
        config.group_consumer_heartbeat_interval_ms = 1_234;
        config.group_consumer_session_timeout_ms = 20_000;
    };
    let rig = start_with(settings).await;
    let id = create(&rig, TOPIC, 2).await;
    beat(&rig, 1, entering("a", &[TOPIC, "later"])).await;
    assert_eq!(commit(&rig, 9, "a", 1, id).await, ErrorCode::None);
    let Rig { broker, dir } = rig;
    broker.shutdown().await;
    let mut config = BrokerConfig::for_test(dir.path());
    settings(&mut config);
    let rig = Rig { broker: Broker::start(config).await.unwrap(), dir };
    // The shards may still be replaying.
    let answer = loop {
        let answer = beat(&rig, 1, alive("a", 1, Some((id, &[0, 1])))).await;
        if error(answer.error_code) != ErrorCode::CoordinatorLoadInProgress {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!((error(answer.error_code), answer.member_epoch), (ErrorCode::None, 1));
    assert_eq!((assigned(&answer), answer.heartbeat_interval_ms), (None, 1_234));
    create(&rig, "later", 1).await;
    beat_until(&rig, "a", 1, (id, &[0, 1]), &[0, 0, 1]).await;
}
