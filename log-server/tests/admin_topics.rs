//! The handlers that create, change, delete and describe topics and partitions, each version walked.

mod support;

use std::collections::HashSet;

use log_core::wire::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use log_core::wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use log_core::wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use log_core::wire::messages::delete_topics_request::DeleteTopicState;
use log_core::wire::messages::describe_log_dirs_request::DescribableLogDirTopic;
use log_core::wire::messages::describe_topic_partitions_request::{Cursor, TopicRequest};
use log_core::wire::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use log_core::wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeLogDirsRequest,
    DescribeTopicPartitionsRequest, InitProducerIdRequest, OffsetForLeaderEpochRequest,
};
use log_core::wire::{ApiKey, ErrorCode, Uuid, message};
use log_server::{Broker, BrokerConfig};
use support::{Rig, call, start, start_with};

fn topic(name: &str, num_partitions: i32, replication_factor: i16) -> CreatableTopic {
    message!(CreatableTopic { name: name.into(), num_partitions, replication_factor })
}

fn create(topics: Vec<CreatableTopic>) -> CreateTopicsRequest {
    message!(CreateTopicsRequest { topics })
}

fn errors(response: &CreateTopicsResponse) -> Vec<ErrorCode> {
    response.topics.iter().map(|topic| topic.error_code.into()).collect()
}

fn grow_errors(response: &CreatePartitionsResponse) -> Vec<ErrorCode> {
    response.results.iter().map(|topic| topic.error_code.into()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_in_every_version() {
    let test = start().await;
    for version in ApiKey::CreateTopics.served().iter() {
        let name = format!("v{version}");
        let response = call(&test, version, create(vec![topic(&name, 3, 1)])).await;
        assert_eq!(errors(&response), [ErrorCode::None], "{version}");
        let made = test.broker.context().catalog.get(&name).expect("it is in the catalog");
        assert_eq!(made.partitions, 3);
        assert!(test.broker.context().partitions.get(&name, 2).is_some());
        let answer = &response.topics[0];
        if version >= 5 {
            assert_eq!((answer.num_partitions, answer.replication_factor), (3, 1));
            let configs = answer.configs.as_ref().expect("never null");
            assert!(configs.iter().any(|config| config.name.as_str() == "retention.ms"));
            assert!(configs.iter().all(|config| config.config_source > 0));
        }
        if version >= 7 {
            assert_eq!(answer.topic_id, made.id);
        }
        let again = call(&test, version, create(vec![topic(&name, 3, 1)])).await;
        assert_eq!(errors(&again), [ErrorCode::TopicAlreadyExists]);
        assert_eq!(again.topics[0].configs, Some(vec![]), "empty, not null");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_topic_of_a_request_stands_for_itself() {
    let test = start_with(|config| {
        config.partitions_default = 4;
        config.partitions_max = 20;
    })
    .await;
    let mut bad_config = topic("bad-config", 1, 1);
    bad_config.configs =
        vec![message!(CreatableTopicConfig { name: "nonsense".into(), value: Some("1".into()) })];
    let mut burnt = topic("burnt", 1, 1);
    burnt.configs =
        vec![message!(CreatableTopicConfig { name: "cleanup.policy".into(), value: Some("burn".into()) })];
    let response = call(
        &test,
        7,
        create(vec![
            topic("default", -1, -1),
            topic("clamped", 1, 3),
            topic("../escape", 1, 1),
            topic("none", 0, 1),
            topic("no-replica", 1, 0),
            topic("twice", 1, 1),
            topic("twice", 2, 1),
            topic("many", 100, 1),
            bad_config,
            burnt,
        ]),
    )
    .await;
    assert_eq!(
        errors(&response),
        [
            ErrorCode::None,
            ErrorCode::None,
            ErrorCode::InvalidTopic,
            ErrorCode::InvalidPartitions,
            ErrorCode::InvalidReplicationFactor,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
            ErrorCode::PolicyViolation,
            ErrorCode::InvalidConfig,
            ErrorCode::InvalidConfig,
        ]
    );
    let message = |index: usize| response.topics[index].error_message.clone().unwrap_or_default();
    assert!(message(8).contains("nonsense"), "{}", message(8));
    assert!(message(9).contains("compact, delete"), "{}", message(9));
    assert_eq!(test.broker.context().catalog.get("default").unwrap().partitions, 4);
    let created: Vec<String> =
        test.broker.context().catalog.topics().iter().map(|topic| topic.name.to_string()).collect();
    assert!(["twice", "many", "burnt"].iter().all(|name| !created.iter().any(|topic| topic == name)));
}

#[tokio::test(flavor = "multi_thread")]
async fn assignments_name_this_broker_and_count_from_zero() {
    let test = start().await;
    let node = test.broker.context().config.node_id;
    let assigned = |name: &str, assignments: &[(i32, &[i32])]| {
        let mut topic = topic(name, -1, -1);
        topic.assignments = assignments
            .iter()
            .map(|&(partition_index, brokers)| {
                message!(CreatableReplicaAssignment { partition_index, broker_ids: brokers.to_vec() })
            })
            .collect();
        topic
    };
    let mut counted = assigned("counted", &[(0, &[node])]);
    counted.num_partitions = 1;
    let response = call(
        &test,
        7,
        create(vec![
            assigned("good", &[(1, &[node]), (0, &[node])]),
            assigned("gap", &[(0, &[node]), (2, &[node])]),
            assigned("elsewhere", &[(0, &[node + 1])]),
            counted,
        ]),
    )
    .await;
    let expected = [
        ErrorCode::None,
        ErrorCode::InvalidReplicaAssignment,
        ErrorCode::InvalidReplicaAssignment,
        ErrorCode::InvalidRequest,
    ];
    assert_eq!(errors(&response), expected);
    assert_eq!(test.broker.context().catalog.get("good").unwrap().partitions, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn validate_only_creates_nothing() {
    let test = start().await;
    for version in ApiKey::CreateTopics.served().iter() {
        let mut request = create(vec![topic("dry", 2, 1), topic("dry run", 2, 1)]);
        request.validate_only = true;
        let response = call(&test, version, request).await;
        assert_eq!(errors(&response), [ErrorCode::None, ErrorCode::InvalidTopic]);
        assert!(test.broker.context().catalog.topics().iter().all(|topic| &*topic.name != "dry"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replication_can_be_refused_by_a_setting() {
    let test = start_with(|config| config.replication_strict = true).await;
    let response = call(&test, 5, create(vec![topic("three", 1, 3), topic("one", 1, 1)])).await;
    assert_eq!(errors(&response), [ErrorCode::InvalidReplicationFactor, ErrorCode::None]);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_deleted_by_name_and_by_id() {
    let test = start().await;
    for version in ApiKey::DeleteTopics.served().iter() {
        call(&test, 7, create(vec![topic("a", 1, 1), topic("b", 1, 1)])).await;
        let id = test.broker.context().catalog.get("b").unwrap().id;
        let by_name = |name: &str| message!(DeleteTopicState { name: Some(name.into()) });
        let request = if version >= 6 {
            let by_id = |topic_id| message!(DeleteTopicState { topic_id });
            let both = message!(DeleteTopicState { name: Some("a".into()), topic_id: id });
            let topics = vec![by_name("a"), by_name("x"), by_id(id), by_id(Uuid::from_bytes([9; 16])), both];
            message!(DeleteTopicsRequest { topics })
        } else {
            message!(DeleteTopicsRequest { topic_names: vec!["a".into(), "x".into(), "b".into()] })
        };
        let response = call(&test, version, request).await;
        let mut expected = vec![ErrorCode::None, ErrorCode::UnknownTopicOrPartition, ErrorCode::None];
        if version >= 6 {
            expected.extend([ErrorCode::UnknownTopicId, ErrorCode::InvalidRequest]);
            assert_eq!(response.responses[2].name.as_deref(), Some("b"));
        }
        let errors: Vec<ErrorCode> = response.responses.iter().map(|topic| topic.error_code.into()).collect();
        assert_eq!(errors, expected, "{version}");
        assert!(
            test.broker.context().catalog.get("a").is_none()
                && test.broker.context().partitions.get("b", 0).is_none()
        );
    }
    call(&test, 7, create(vec![topic("a", 1, 1)])).await;
    let twice = message!(DeleteTopicsRequest { topic_names: vec!["a".into(), "a".into()] });
    let response = call(&test, 5, twice).await;
    assert!(response.responses.iter().all(|topic| topic.error_code == ErrorCode::InvalidRequest.code()));
    assert!(test.broker.context().catalog.get("a").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_grow_and_never_shrink() {
    let test = start().await;
    let node = test.broker.context().config.node_id;
    call(&test, 7, create(vec![topic("t", 1, 1)])).await;
    let wanted = |name: &str, count: i32, brokers: Option<&[i32]>| {
        let assignments = brokers.map(|brokers| {
            brokers.iter().map(|&id| message!(CreatePartitionsAssignment { broker_ids: vec![id] })).collect()
        });
        message!(CreatePartitionsTopic { name: name.into(), count, assignments })
    };
    for version in ApiKey::CreatePartitions.served().iter() {
        let have = test.broker.context().catalog.get("t").unwrap().partitions;
        let grow = |topics, validate_only| message!(CreatePartitionsRequest { topics, validate_only });
        let dry = call(&test, version, grow(vec![wanted("t", have + 1, None)], true)).await;
        assert_eq!(grow_errors(&dry), [ErrorCode::None]);
        assert_eq!(test.broker.context().catalog.get("t").unwrap().partitions, have);

        let request = grow(vec![wanted("t", have, None), wanted("x", 5, None)], false);
        let refused = call(&test, version, request).await;
        assert_eq!(grow_errors(&refused), [ErrorCode::InvalidPartitions, ErrorCode::UnknownTopicOrPartition]);

        let elsewhere = grow(vec![wanted("t", have + 1, Some(&[node + 1]))], false);
        let refused = call(&test, version, elsewhere).await;
        assert_eq!(grow_errors(&refused), [ErrorCode::InvalidReplicaAssignment]);

        let request = grow(vec![wanted("t", have + 2, Some(&[node, node]))], false);
        assert_eq!(grow_errors(&call(&test, version, request).await), [ErrorCode::None]);
        assert!(test.broker.context().partitions.get("t", have + 1).is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_described_a_page_at_a_time() {
    let test = start().await;
    call(&test, 7, create(vec![topic("a", 2, 1), topic("b", 3, 1), topic("c", 1, 1)])).await;
    let mut cursor = None;
    let mut seen = Vec::new();
    for _page in 0..10 {
        let names = ["a", "b", "c", "missing"].map(|name| message!(TopicRequest { name: name.into() }));
        let request = message!(DescribeTopicPartitionsRequest {
            topics: names.to_vec(),
            response_partition_limit: 2,
            cursor,
        });
        let page = call(&test, 0, request).await;
        let mut count = 0;
        for topic in &page.topics {
            for partition in &topic.partitions {
                assert_eq!(partition.eligible_leader_replicas, Some(vec![]), "empty, not null");
                assert_eq!(partition.last_known_elr, Some(vec![]));
                seen.push((topic.name.as_ref().unwrap().to_string(), partition.partition_index));
                count += 1;
            }
            if topic.error_code != 0 {
                assert_eq!(topic.error_code, ErrorCode::UnknownTopicOrPartition.code());
                seen.push((topic.name.as_ref().unwrap().to_string(), -1));
            }
        }
        assert!(count <= 2);
        let Some(next) = page.next_cursor else { break };
        cursor = Some(message!(Cursor {
            topic_name: next.topic_name.clone(),
            partition_index: next.partition_index,
        }));
    }
    let expected = [("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("c", 0), ("missing", -1)];
    assert_eq!(seen, expected.map(|(name, index)| (name.to_owned(), index)));

    let all = call(&test, 0, message!(DescribeTopicPartitionsRequest {})).await;
    assert_eq!(all.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_dir_shows_each_partition() {
    let test = start().await;
    call(&test, 7, create(vec![topic("a", 2, 1), topic("b", 1, 1)])).await;
    for version in ApiKey::DescribeLogDirs.served().iter() {
        let all = call(&test, version, message!(DescribeLogDirsRequest { topics: None })).await;
        let names: Vec<&str> = all.results[0].topics.iter().map(|topic| topic.name.as_str()).collect();
        assert!(names.ends_with(&["a", "b"]), "{names:?}");
        assert!(std::path::Path::new(all.results[0].log_dir.as_str()).is_absolute());
        if version >= 4 {
            assert!(all.results[0].usable_bytes > 0);
            assert!(all.results[0].total_bytes >= all.results[0].usable_bytes);
        }
        let some = vec![message!(DescribableLogDirTopic { topic: "a".into(), partitions: vec![1, 7] })];
        let some = call(&test, version, message!(DescribeLogDirsRequest { topics: Some(some) })).await;
        let found = &some.results[0].topics;
        assert_eq!((found.len(), found[0].partitions.len()), (1, 1));
        assert_eq!(found[0].partitions[0].partition_index, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_up_to_the_high_watermark_only() {
    let test = start().await;
    call(&test, 7, create(vec![topic("t", 1, 1)])).await;
    for version in ApiKey::DeleteRecords.served().iter() {
        let delete = |topic: &str, offsets: &[(i32, i64)]| {
            let partitions = offsets.iter().map(|&(partition_index, offset)| {
                message!(DeleteRecordsPartition { partition_index, offset })
            });
            let topic = message!(DeleteRecordsTopic { name: topic.into(), partitions: partitions.collect() });
            message!(DeleteRecordsRequest { topics: vec![topic] })
        };
        let response = call(&test, version, delete("t", &[(0, -1), (0, 10), (5, 0)])).await;
        let answers: Vec<(i64, ErrorCode)> = response.topics[0]
            .partitions
            .iter()
            .map(|partition| (partition.low_watermark, partition.error_code.into()))
            .collect();
        let expected = [
            (0, ErrorCode::None),
            (-1, ErrorCode::OffsetOutOfRange),
            (-1, ErrorCode::UnknownTopicOrPartition),
        ];
        assert_eq!(answers, expected, "{version}");
        let internal = call(&test, version, delete("__consumer_offsets", &[(0, -1)])).await;
        assert_eq!(internal.topics[0].partitions[0].error_code, ErrorCode::InvalidTopic.code());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leader_epochs_end_at_the_log_end() {
    let test = start().await;
    call(&test, 7, create(vec![topic("t", 1, 1)])).await;
    for version in ApiKey::OffsetForLeaderEpoch.served().iter() {
        let wanted = |partition: i32, current_leader_epoch: i32, leader_epoch: i32| {
            message!(OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch })
        };
        let partitions = vec![wanted(0, -1, 0), wanted(0, 0, -1), wanted(0, 9, 0), wanted(3, -1, 0)];
        let topic = message!(OffsetForLeaderTopic { topic: "t".into(), partitions });
        let response =
            call(&test, version, message!(OffsetForLeaderEpochRequest { topics: vec![topic] })).await;
        let answers: Vec<(ErrorCode, i32, i64)> = response.topics[0]
            .partitions
            .iter()
            .map(|end| (end.error_code.into(), end.leader_epoch, end.end_offset))
            .collect();
        let expected = [
            (ErrorCode::None, 0, 0),
            (ErrorCode::None, -1, -1),
            (ErrorCode::UnknownLeaderEpoch, -1, -1),
            (ErrorCode::UnknownTopicOrPartition, -1, -1),
        ];
        assert_eq!(answers, expected, "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_are_unique() {
    let mut test = start().await;
    let mut ids = HashSet::new();
    for _restart in 0..3 {
        for version in ApiKey::InitProducerId.served().iter() {
            let response =
                call(&test, version, message!(InitProducerIdRequest { transactional_id: None })).await;
            assert_eq!((response.error_code, response.producer_epoch), (0, 0), "{version}");
            assert!(ids.insert(response.producer_id));
        }
        let Rig { broker, dir } = test;
        broker.shutdown().await;
        test = Rig { broker: Broker::start(BrokerConfig::for_test(dir.path())).await.unwrap(), dir };
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_this_broker() {
    let test = start().await;
    for version in ApiKey::DescribeCluster.served().iter() {
        let response = call(&test, version, message!(DescribeClusterRequest {})).await;
        assert_eq!(response.cluster_id.as_str(), test.broker.context().cluster_id);
        assert_eq!(response.controller_id, response.brokers[0].broker_id);
        assert_eq!(response.brokers[0].port, i32::from(test.broker.kafka_addr().port()));
        if version >= 1 {
            let controllers =
                call(&test, version, message!(DescribeClusterRequest { endpoint_type: 2 })).await;
            assert_eq!(controllers.error_code, ErrorCode::MismatchedEndpointType.code());
        }
    }
}
