//! The group APIs by request values, in every version, against a whole broker.

mod support;

use bytes::Bytes;
use log_core::wire::messages::join_group_request::JoinGroupRequestProtocol;
use log_core::wire::messages::leave_group_request::MemberIdentity;
use log_core::wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use log_core::wire::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use log_core::wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use log_core::wire::messages::sync_group_request::SyncGroupRequestAssignment;
use log_core::wire::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeGroupsRequest, DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse, SyncGroupRequest,
    SyncGroupResponse,
};
use log_core::wire::{ApiKey, ErrorCode, StrBytes, Uuid, message};
use log_server::topic::NewTopic;
use log_server::{Broker, BrokerConfig};
use support::{Rig, Socket, ask, start, start_with};

const GROUP: &str = "readers";
const TOPIC: &str = "flights";

async fn create(rig: &Rig, topic: &str, partitions: i32) -> Uuid {
    let new = NewTopic { partitions: Some(partitions), ..NewTopic::named(topic) };
    rig.broker.context().topics.create(vec![new]).await.remove(0).unwrap().id
}

async fn restart(rig: Rig, adjust: impl FnOnce(&mut BrokerConfig)) -> Rig {
    let Rig { broker, dir } = rig;
    broker.shutdown().await;
    let mut config = BrokerConfig::for_test(dir.path());
    adjust(&mut config);
    let broker = Broker::start(config).await.unwrap();
    Rig { broker, dir }
}

fn join_request(version: i16, group: &str, member_id: &str) -> JoinGroupRequest {
    let protocol = message!(JoinGroupRequestProtocol {
        name: StrBytes::from("range"),
        // Version 0, one topic, no user data.
        metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x07flights\xff\xff\xff\xff"),
    });
    message!(JoinGroupRequest {
        group_id: StrBytes::from(group),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: if version >= 1 { 60_000 } else { -1 },
        member_id: StrBytes::from(member_id),
        protocol_type: StrBytes::from("consumer"),
        protocols: vec![protocol],
    })
}

async fn join(rig: &Rig, version: i16, group: &str, member_id: &str) -> JoinGroupResponse {
    ask(rig, ApiKey::JoinGroup, version, &join_request(version, group, member_id)).await
}

fn sync_request(
    version: i16,
    group: &str,
    member_id: &str,
    generation: i32,
    assign: &[&str],
) -> SyncGroupRequest {
    let assignment = |member: &&str| {
        message!(SyncGroupRequestAssignment {
            member_id: StrBytes::from(*member),
            assignment: Bytes::from(format!("work of {member}")),
        })
    };
    message!(SyncGroupRequest {
        group_id: StrBytes::from(group),
        generation_id: generation,
        member_id: StrBytes::from(member_id),
        protocol_type: (version >= 5).then(|| StrBytes::from("consumer")),
        protocol_name: (version >= 5).then(|| StrBytes::from("range")),
        assignments: assign.iter().map(assignment).collect(),
    })
}

async fn sync(rig: &Rig, version: i16, group: &str, member_id: &str, generation: i32) -> SyncGroupResponse {
    let request = sync_request(version, group, member_id, generation, &[member_id]);
    ask(rig, ApiKey::SyncGroup, version, &request).await
}

async fn heartbeat(rig: &Rig, version: i16, group: &str, member_id: &str, generation: i32) -> ErrorCode {
    let request = message!(HeartbeatRequest {
        group_id: StrBytes::from(group),
        generation_id: generation,
        member_id: StrBytes::from(member_id),
    });
    let answer: HeartbeatResponse = ask(rig, ApiKey::Heartbeat, version, &request).await;
    error(answer.error_code)
}

async fn leave(rig: &Rig, version: i16, group: &str, member_id: &str) -> ErrorCode {
    let request = match version {
        ..3 => message!(LeaveGroupRequest {
            group_id: StrBytes::from(group),
            member_id: StrBytes::from(member_id)
        }),
        _ => {
            let member = message!(MemberIdentity {
                member_id: StrBytes::from(member_id),
                reason: (version >= 5).then(|| StrBytes::from("the test is over")),
            });
            message!(LeaveGroupRequest { group_id: StrBytes::from(group), members: vec![member] })
        }
    };
    let answer: LeaveGroupResponse = ask(rig, ApiKey::LeaveGroup, version, &request).await;
    error(answer.members.first().map_or(answer.error_code, |member| member.error_code))
}

struct Commit<'a> {
    version: i16,
    group: &'a str,
    member_id: &'a str,
    generation: i32,
    topic: &'a str,
    topic_id: Uuid,
}

impl Commit<'_> {
    /// By a consumer that assigns itself.
    const SIMPLE: Commit<'static> = Commit {
        version: 8,
        group: GROUP,
        member_id: "",
        generation: -1,
        topic: TOPIC,
        topic_id: Uuid::ZERO,
    };

    async fn at(&self, rig: &Rig, offsets: &[(i32, i64)]) -> Vec<ErrorCode> {
        self.with_metadata(rig, offsets, "note").await
    }

    async fn with_metadata(&self, rig: &Rig, offsets: &[(i32, i64)], metadata: &str) -> Vec<ErrorCode> {
        let partition = |(index, offset): &(i32, i64)| {
            message!(OffsetCommitRequestPartition {
                partition_index: *index,
                committed_offset: *offset,
                committed_leader_epoch: if self.version >= 6 { 0 } else { -1 },
                committed_metadata: Some(StrBytes::from(metadata)),
            })
        };
        let topic = message!(OffsetCommitRequestTopic {
            name: StrBytes::from(if self.version < 10 { self.topic } else { "" }),
            topic_id: if self.version < 10 { Uuid::ZERO } else { self.topic_id },
            partitions: offsets.iter().map(partition).collect(),
        });
        let request = message!(OffsetCommitRequest {
            group_id: StrBytes::from(self.group),
            generation_id_or_member_epoch: self.generation,
            member_id: StrBytes::from(self.member_id),
            topics: vec![topic],
        });
        let answer: OffsetCommitResponse = ask(rig, ApiKey::OffsetCommit, self.version, &request).await;
        answer.topics[0].partitions.iter().map(|partition| error(partition.error_code)).collect()
    }
}

/// The offsets of a group in some partitions of a topic, or in all, in the form that every version has.
async fn fetch(
    rig: &Rig,
    version: i16,
    group: &str,
    partitions: Option<&[i32]>,
    id: Uuid,
) -> Vec<(i32, i64)> {
    if version < 8 {
        let topic = |partitions: &[i32]| {
            vec![message!(OffsetFetchRequestTopic {
                name: StrBytes::from(TOPIC),
                partition_indexes: partitions.to_vec(),
            })]
        };
        let request = message!(OffsetFetchRequest {
            group_id: StrBytes::from(group),
            topics: partitions.map(topic),
            require_stable: version >= 7,
        });
        let answer: OffsetFetchResponse = ask(rig, ApiKey::OffsetFetch, version, &request).await;
        assert_eq!(answer.error_code, 0);
        let rows = answer.topics.iter().flat_map(|topic| &topic.partitions);
        return rows.map(|row| (row.partition_index, row.committed_offset)).collect();
    }
    let topic = |partitions: &[i32]| {
        vec![message!(OffsetFetchRequestTopics {
            name: StrBytes::from(if version < 10 { TOPIC } else { "" }),
            topic_id: if version < 10 { Uuid::ZERO } else { id },
            partition_indexes: partitions.to_vec(),
        })]
    };
    let group =
        message!(OffsetFetchRequestGroup { group_id: StrBytes::from(group), topics: partitions.map(topic) });
    let request = message!(OffsetFetchRequest { groups: vec![group], require_stable: true });
    let answer: OffsetFetchResponse = ask(rig, ApiKey::OffsetFetch, version, &request).await;
    assert_eq!(answer.groups[0].error_code, 0);
    let rows = answer.groups[0].topics.iter().flat_map(|topic| {
        assert!(if version < 10 { &*topic.name == TOPIC } else { topic.topic_id == id });
        &topic.partitions
    });
    rows.map(|row| (row.partition_index, row.committed_offset)).collect()
}

fn error(code: i16) -> ErrorCode {
    ErrorCode::from_code(code).expect("a code that Kafka has")
}

/// Joins as a client of this version does, and becomes the only member.
async fn enter(rig: &Rig, version: i16, group: &str) -> JoinGroupResponse {
    let first = join(rig, version, group, "").await;
    if version < 4 {
        return first;
    }
    assert_eq!(error(first.error_code), ErrorCode::MemberIdRequired);
    join(rig, version, group, &first.member_id).await
}

#[tokio::test]
async fn a_group_is_served_here_in_every_version() {
    let rig = start().await;
    for version in 0..=6 {
        let request = match version {
            ..4 => message!(FindCoordinatorRequest { key: StrBytes::from(GROUP) }),
            _ => message!(FindCoordinatorRequest {
                coordinator_keys: vec![StrBytes::from(GROUP), StrBytes::from("")]
            }),
        };
        let answer: FindCoordinatorResponse = ask(&rig, ApiKey::FindCoordinator, version, &request).await;
        let port = i32::from(rig.broker.kafka_addr().port());
        if version < 4 {
            assert_eq!((answer.error_code, answer.node_id, answer.port), (0, 1, port), "version {version}");
            assert_eq!(&*answer.host, "127.0.0.1");
        } else {
            let found = &answer.coordinators[0];
            assert_eq!((found.error_code, found.node_id, found.port, &*found.key), (0, 1, port, GROUP));
            assert_eq!(error(answer.coordinators[1].error_code), ErrorCode::InvalidGroupId);
        }
    }
    let request = message!(FindCoordinatorRequest { key: StrBytes::from("t"), key_type: 7 });
    let answer: FindCoordinatorResponse = ask(&rig, ApiKey::FindCoordinator, 3, &request).await;
    assert_eq!(error(answer.error_code), ErrorCode::InvalidRequest);
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn the_first_to_find_a_coordinator_is_not_told_that_it_is_loading() {
    let rig = start().await;
    let request = message!(FindCoordinatorRequest { key: StrBytes::from(GROUP) });
    let found: FindCoordinatorResponse = ask(&rig, ApiKey::FindCoordinator, 3, &request).await;
    assert_eq!(error(found.error_code), ErrorCode::None);
    assert!(rig.broker.context().groups.is_ready());
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn a_member_lives_through_every_version() {
    let rig = start().await;
    create(&rig, TOPIC, 1).await;
    for version in 0..=9 {
        let group = format!("group-{version}");
        let joined = enter(&rig, version, &group).await;
        let (member, generation) = (&*joined.member_id, joined.generation_id);
        assert_eq!((joined.error_code, generation, joined.members.len()), (0, 1, 1), "version {version}");
        assert_eq!(joined.leader, joined.member_id);
        assert!(member.starts_with("test-"), "{member}");
        let later = |newest: i16| version.min(newest);

        let synced = sync(&rig, later(5), &group, member, generation).await;
        assert_eq!((synced.error_code, &synced.assignment[..]), (0, format!("work of {member}").as_bytes()));
        assert_eq!(synced.protocol_name.as_deref(), (later(5) >= 5).then_some("range"));
        assert_eq!(heartbeat(&rig, later(4), &group, member, generation).await, ErrorCode::None);
        assert_eq!(heartbeat(&rig, later(4), &group, member, 7).await, ErrorCode::IllegalGeneration);
        assert_eq!(
            heartbeat(&rig, later(4), &group, "stranger", generation).await,
            ErrorCode::UnknownMemberId
        );
        assert_eq!(leave(&rig, later(5), &group, "stranger").await, ErrorCode::UnknownMemberId);
        assert_eq!(leave(&rig, later(5), &group, member).await, ErrorCode::None);
        assert_eq!(heartbeat(&rig, later(4), &group, member, generation).await, ErrorCode::UnknownMemberId);
    }
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn offsets_are_committed_and_fetched_in_every_version() {
    let rig = start().await;
    let id = create(&rig, TOPIC, 3).await;
    for version in 2..=10 {
        let offset = 100 * i64::from(version);
        let commit = Commit { version, topic_id: id, ..Commit::SIMPLE };
        let outcome = commit.at(&rig, &[(0, offset), (2, offset + 2), (3, 1)]).await;
        let unknown = ErrorCode::UnknownTopicOrPartition;
        assert_eq!(outcome, [ErrorCode::None, ErrorCode::None, unknown], "version {version}");
        for fetch_version in 1..=10 {
            let found = fetch(&rig, fetch_version, GROUP, Some(&[0, 1, 2]), id).await;
            assert_eq!(found, [(0, offset), (1, -1), (2, offset + 2)], "version {fetch_version}");
            if fetch_version >= 2 {
                let all = fetch(&rig, fetch_version, GROUP, None, id).await;
                assert_eq!(all, [(0, offset), (2, offset + 2)], "version {fetch_version}");
                assert_eq!(fetch(&rig, fetch_version, "nobody", None, id).await, []);
            }
        }
    }
    let unknown = Commit { topic: "nothing", ..Commit::SIMPLE };
    assert_eq!(unknown.at(&rig, &[(0, 1)]).await, [ErrorCode::UnknownTopicOrPartition]);
    let unknown = Commit { version: 10, topic_id: Uuid::from_bytes([7; 16]), ..Commit::SIMPLE };
    assert_eq!(unknown.at(&rig, &[(0, 1)]).await, [ErrorCode::UnknownTopicId]);
    let long = Commit::SIMPLE.with_metadata(&rig, &[(0, 1)], &"x".repeat(4_097)).await;
    assert_eq!(long, [ErrorCode::OffsetMetadataTooLarge]);
    let stray = Commit { generation: 3, member_id: "stranger", group: "nobody", ..Commit::SIMPLE };
    assert_eq!(stray.at(&rig, &[(0, 1)]).await, [ErrorCode::IllegalGeneration]);
    let stray = Commit { version: 9, ..stray };
    assert_eq!(stray.at(&rig, &[(0, 1)]).await, [ErrorCode::GroupIdNotFound]);
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn many_groups_are_fetched_at_once_and_unknown_topic_ids_are_named() {
    let rig = start().await;
    let id = create(&rig, TOPIC, 1).await;
    for (group, offset) in [("one", 1), ("two", 2)] {
        Commit { group, ..Commit::SIMPLE }.at(&rig, &[(0, offset)]).await;
    }
    let group = |group: &str, id: Uuid| {
        let topic = message!(OffsetFetchRequestTopics { topic_id: id, partition_indexes: vec![0] });
        message!(OffsetFetchRequestGroup { group_id: StrBytes::from(group), topics: Some(vec![topic]) })
    };
    let groups = vec![group("one", id), group("two", id), group("three", Uuid::from_bytes([9; 16]))];
    let request = message!(OffsetFetchRequest { groups: groups });
    let answer: OffsetFetchResponse = ask(&rig, ApiKey::OffsetFetch, 10, &request).await;
    let rows: Vec<_> = (answer.groups.iter())
        .map(|group| {
            let row = &group.topics[0].partitions[0];
            (&*group.group_id, row.committed_offset, error(row.error_code))
        })
        .collect();
    let expected =
        [("one", 1, ErrorCode::None), ("two", 2, ErrorCode::None), ("three", -1, ErrorCode::UnknownTopicId)];
    assert_eq!(rows, expected);
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn a_restart_keeps_generation_assignment_and_offsets() {
    let rig = start().await;
    create(&rig, TOPIC, 1).await;
    let joined = enter(&rig, 5, GROUP).await;
    let (member, generation) = (joined.member_id.to_string(), joined.generation_id);
    sync(&rig, 3, GROUP, &member, generation).await;
    let commit = Commit { member_id: &member, generation, ..Commit::SIMPLE };
    assert_eq!(commit.at(&rig, &[(0, 42)]).await, [ErrorCode::None]);

    let rig = restart(rig, |_| ()).await;
    let first = loop {
        match heartbeat(&rig, 4, GROUP, &member, generation).await {
            ErrorCode::CoordinatorLoadInProgress => tokio::task::yield_now().await,
            other => break other,
        }
    };
    assert_eq!(first, ErrorCode::None);
    let synced = sync(&rig, 3, GROUP, &member, generation).await;
    assert_eq!(&synced.assignment[..], format!("work of {member}").as_bytes());
    assert_eq!(fetch(&rig, 5, GROUP, Some(&[0]), Uuid::ZERO).await, [(0, 42)]);
    let commit = Commit { member_id: &member, generation, ..Commit::SIMPLE };
    assert_eq!(commit.at(&rig, &[(0, 43)]).await, [ErrorCode::None]);
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn two_members_share_a_generation_over_sockets() {
    let rig = start().await;
    create(&rig, TOPIC, 2).await;
    let (mut one, mut two) = (Socket::connect(&rig).await, Socket::connect(&rig).await);
    let first: JoinGroupResponse = one.ask(ApiKey::JoinGroup, 3, &join_request(3, GROUP, "")).await;
    let work = sync_request(2, GROUP, &first.member_id, 1, &[&first.member_id]);
    let synced: SyncGroupResponse = one.ask(ApiKey::SyncGroup, 2, &work).await;
    assert_eq!(synced.error_code, 0);

    // The second one's answer has to wait for the first one, who learns of it from a heartbeat.
    let body = log_core::wire::encode_request(&join_request(3, GROUP, ""), 3).unwrap();
    let parked = two.send(ApiKey::JoinGroup, 3, vec![body]).await;
    loop {
        let beat = message!(HeartbeatRequest {
            group_id: StrBytes::from(GROUP),
            generation_id: 1,
            member_id: first.member_id.clone(),
        });
        let answer: HeartbeatResponse = one.ask(ApiKey::Heartbeat, 2, &beat).await;
        if error(answer.error_code) == ErrorCode::RebalanceInProgress {
            break;
        }
    }
    let rejoined: JoinGroupResponse =
        one.ask(ApiKey::JoinGroup, 3, &join_request(3, GROUP, &first.member_id)).await;
    let answer = two.receive_body(ApiKey::JoinGroup, 3, parked).await;
    let joined: JoinGroupResponse = log_core::wire::decode_response(answer, 3).unwrap();
    assert_eq!((rejoined.generation_id, joined.generation_id), (2, 2));
    assert_eq!((rejoined.members.len(), joined.members.len()), (2, 0));
    assert_eq!(joined.leader, first.member_id);

    let body = log_core::wire::encode_request(&sync_request(2, GROUP, &joined.member_id, 2, &[]), 2).unwrap();
    let parked = two.send(ApiKey::SyncGroup, 2, vec![body]).await;
    let work = sync_request(2, GROUP, &first.member_id, 2, &[&first.member_id, &joined.member_id]);
    let synced: SyncGroupResponse = one.ask(ApiKey::SyncGroup, 2, &work).await;
    assert_eq!(&synced.assignment[..], format!("work of {}", first.member_id).as_bytes());
    let answer = two.receive_body(ApiKey::SyncGroup, 2, parked).await;
    let synced: SyncGroupResponse = log_core::wire::decode_response(answer, 2).unwrap();
    assert_eq!(&synced.assignment[..], format!("work of {}", joined.member_id).as_bytes());
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_answers_members_that_wait() {
    let rig = start().await;
    let (mut one, mut two) = (Socket::connect(&rig).await, Socket::connect(&rig).await);
    let _: JoinGroupResponse = one.ask(ApiKey::JoinGroup, 3, &join_request(3, GROUP, "")).await;
    let body = log_core::wire::encode_request(&join_request(3, GROUP, ""), 3).unwrap();
    let parked = two.send(ApiKey::JoinGroup, 3, vec![body]).await;
    // The answer to another request of another connection shows that the parked one has arrived.
    loop {
        let described: DescribeGroupsResponse =
            ask(&rig, ApiKey::DescribeGroups, 0, &describe_request()).await;
        if described.groups[0].members.len() == 2 {
            break;
        }
    }
    let stopping = tokio::spawn(rig.broker.shutdown());
    let answer = two.receive_body(ApiKey::JoinGroup, 3, parked).await;
    let answer: JoinGroupResponse = log_core::wire::decode_response(answer, 3).unwrap();
    assert_eq!(error(answer.error_code), ErrorCode::CoordinatorNotAvailable);
    drop((one, two));
    stopping.await.unwrap();
}

fn describe_request() -> DescribeGroupsRequest {
    message!(DescribeGroupsRequest { groups: vec![StrBytes::from(GROUP), StrBytes::from("nobody")] })
}

#[tokio::test]
async fn groups_are_listed_described_and_deleted_in_every_version() {
    let rig = start().await;
    create(&rig, TOPIC, 1).await;
    create(&rig, "weather", 1).await;
    let joined = enter(&rig, 5, GROUP).await;
    let (member, generation) = (&*joined.member_id, joined.generation_id);
    sync(&rig, 3, GROUP, member, generation).await;
    Commit { group: "offsets", ..Commit::SIMPLE }.at(&rig, &[(0, 1)]).await;

    for version in 0..=5 {
        let all: ListGroupsResponse =
            ask(&rig, ApiKey::ListGroups, version, &ListGroupsRequest::default()).await;
        let ids: Vec<_> = all.groups.iter().map(|group| &*group.group_id).collect();
        assert_eq!(ids, ["offsets", GROUP], "version {version}");
        assert_eq!(&*all.groups[1].protocol_type, "consumer");
        if version >= 4 {
            let request = message!(ListGroupsRequest { states_filter: vec![StrBytes::from("stable")] });
            let stable: ListGroupsResponse = ask(&rig, ApiKey::ListGroups, version, &request).await;
            assert_eq!((stable.groups.len(), &*stable.groups[0].group_state), (1, "Stable"));
        }
        if version >= 5 {
            let request = message!(ListGroupsRequest { types_filter: vec![StrBytes::from("consumer")] });
            let none: ListGroupsResponse = ask(&rig, ApiKey::ListGroups, version, &request).await;
            assert!(none.groups.is_empty());
        }
    }
    for version in 0..=6 {
        let answer: DescribeGroupsResponse =
            ask(&rig, ApiKey::DescribeGroups, version, &describe_request()).await;
        let (group, nobody) = (&answer.groups[0], &answer.groups[1]);
        assert_eq!((&*group.group_state, &*group.protocol_data), ("Stable", "range"), "version {version}");
        assert_eq!((&*group.members[0].member_id, &*group.members[0].client_host), (member, "/127.0.0.1"));
        assert_eq!(&group.members[0].member_assignment[..], format!("work of {member}").as_bytes());
        let expected = if version >= 6 { ErrorCode::GroupIdNotFound } else { ErrorCode::None };
        assert_eq!((&*nobody.group_state, error(nobody.error_code)), ("Dead", expected));
    }

    let partition = || vec![message!(OffsetDeleteRequestPartition { partition_index: 0 })];
    let topic = |name: &str| {
        message!(OffsetDeleteRequestTopic { name: StrBytes::from(name), partitions: partition() })
    };
    let topics = vec![topic(TOPIC), topic("weather"), topic("nothing")];
    let request = message!(OffsetDeleteRequest { group_id: StrBytes::from(GROUP), topics: topics });
    let answer: OffsetDeleteResponse = ask(&rig, ApiKey::OffsetDelete, 0, &request).await;
    let outcomes: Vec<_> = answer.topics.iter().map(|topic| error(topic.partitions[0].error_code)).collect();
    let expected = [ErrorCode::GroupSubscribedToTopic, ErrorCode::None, ErrorCode::UnknownTopicOrPartition];
    assert_eq!(outcomes, expected);

    for version in 0..=2 {
        Commit { group: "offsets", ..Commit::SIMPLE }.at(&rig, &[(0, 1)]).await;
        let groups_names = ["offsets", GROUP, "nobody"].map(StrBytes::from).to_vec();
        let request = message!(DeleteGroupsRequest { groups_names: groups_names });
        let answer: DeleteGroupsResponse = ask(&rig, ApiKey::DeleteGroups, version, &request).await;
        let outcomes: Vec<_> = answer.results.iter().map(|result| error(result.error_code)).collect();
        assert_eq!(outcomes, [ErrorCode::None, ErrorCode::NonEmptyGroup, ErrorCode::GroupIdNotFound]);
    }
    assert_eq!(fetch(&rig, 5, "offsets", None, Uuid::ZERO).await, []);
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn the_internal_log_stays_short() {
    let small = |config: &mut BrokerConfig| {
        config.group_snapshot_bytes = 8 << 10;
        config.group_partitions = 2;
    };
    let rig = start_with(small).await;
    create(&rig, TOPIC, 4).await;
    for offset in 0..400 {
        let outcome = Commit::SIMPLE.at(&rig, &[(0, offset), (3, offset)]).await;
        assert_eq!(outcome, [ErrorCode::None; 2]);
    }
    let partitions = rig.broker.context().partitions.topic("__consumer_offsets").unwrap();
    assert_eq!(partitions.len(), 2);
    let index = log_server::runtime::partition_of(GROUP, 2);
    let start = || partitions[index].reader().watermarks().log_start();
    while start() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    let rig = restart(rig, small).await;
    while !rig.broker.context().groups.is_ready() {
        tokio::task::yield_now().await;
    }
    assert_eq!(fetch(&rig, 5, GROUP, None, Uuid::ZERO).await, [(0, 399), (3, 399)]);
    rig.broker.shutdown().await;
}

#[tokio::test]
async fn offsets_in_a_deleted_topic_are_forgotten() {
    let rig = start().await;
    create(&rig, TOPIC, 1).await;
    create(&rig, "kept", 1).await;
    Commit::SIMPLE.at(&rig, &[(0, 1)]).await;
    Commit { topic: "kept", ..Commit::SIMPLE }.at(&rig, &[(0, 2)]).await;
    // As a crash between the two halves of a deletion leaves it: the next start finishes the work.
    rig.broker.context().topics.delete(TOPIC).await.unwrap();
    let rig = restart(rig, |_| ()).await;
    loop {
        let context = rig.broker.context();
        let left = context.groups.query(GROUP, |groups| {
            groups
                .committed_all(GROUP)
                .map(|all| all.map(|(topic, ..)| topic.to_string()).collect::<Vec<_>>())
        });
        if left.await == Ok(Some(vec!["kept".to_owned()])) {
            break;
        }
        tokio::task::yield_now().await;
    }
    create(&rig, TOPIC, 1).await;
    Commit::SIMPLE.at(&rig, &[(0, 1)]).await;
    let request =
        message!(DeleteTopicsRequest { topic_names: vec![StrBytes::from(TOPIC)], timeout_ms: 30_000 });
    let answer: DeleteTopicsResponse = ask(&rig, ApiKey::DeleteTopics, 5, &request).await;
    assert_eq!(answer.responses[0].error_code, 0);
    create(&rig, TOPIC, 1).await;
    assert_eq!(fetch(&rig, 5, GROUP, Some(&[0]), Uuid::ZERO).await, [(0, -1)]);
    rig.broker.shutdown().await;
}
