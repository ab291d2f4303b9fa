//! The handlers about the cluster as a whole: its leaders, its quorum, its features, its access rules, its producers.
//! Each version walked.

mod support;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use log_core::record::{BatchBuilder, Compression, ValidateOptions, validate_produced};
use log_core::wire::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use log_core::wire::messages::create_acls_request::AclCreation;
use log_core::wire::messages::create_topics_request::CreatableTopic;
use log_core::wire::messages::delete_acls_request::DeleteAclsFilter;
use log_core::wire::messages::describe_producers_request::TopicRequest;
use log_core::wire::messages::describe_quorum_request::{PartitionData, TopicData};
use log_core::wire::messages::describe_user_scram_credentials_request::UserName;
use log_core::wire::messages::elect_leaders_request::TopicPartitions;
use log_core::wire::messages::update_features_request::FeatureUpdateKey;
use log_core::wire::messages::{
    AlterPartitionReassignmentsRequest, ApiVersionsRequest, CreateAclsRequest, CreateTopicsRequest,
    DeleteAclsRequest, DescribeAclsRequest, DescribeProducersRequest, DescribeQuorumRequest,
    DescribeUserScramCredentialsRequest, ElectLeadersRequest, ListPartitionReassignmentsRequest,
    UpdateFeaturesRequest,
};
use log_core::wire::{ApiKey, ErrorCode, message};

use log_server::partition::Partition;
use support::{Rig, call, start};

const SECURITY_DISABLED: i16 = ErrorCode::SecurityDisabled.code();
const UNKNOWN_PARTITION: i16 = ErrorCode::UnknownTopicOrPartition.code();

async fn broker_with_topic() -> Rig {
    let test = start().await;
    let topic = message!(CreatableTopic { name: "t".into(), num_partitions: 2, replication_factor: 1 });
    let response = call(&test, 7, message!(CreateTopicsRequest { topics: vec![topic] })).await;
    assert_eq!(response.topics[0].error_code, 0);
    test
}

/// Appends `count` records of producer 77 in epoch 3, from `sequence` on.
fn append(partition: &Arc<Partition>, sequence: i32, count: usize) {
    let mut builder = BatchBuilder::new(Compression::None).producer(77, 3, sequence);
    for _ in 0..count {
        builder.append(1000, None, Some(b"value"), &[]).unwrap();
    }
    let batch = validate_produced(builder.build(0).unwrap(), &ValidateOptions::default()).unwrap();
    // By the real clock: a producer of 1970 is forgotten at the next look.
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    partition.append(&batch, now_ms, false).unwrap();
}

fn node_id(test: &Rig) -> i32 {
    test.broker.context().config.node_id
}

#[tokio::test(flavor = "multi_thread")]
async fn no_partition_needs_an_election() {
    let test = broker_with_topic().await;
    for version in ApiKey::ElectLeaders.served().iter() {
        let topics = vec![
            message!(TopicPartitions { topic: "t".into(), partitions: vec![1, 2] }),
            message!(TopicPartitions { topic: "none".into(), partitions: vec![0] }),
        ];
        let request = message!(ElectLeadersRequest { topic_partitions: Some(topics), timeout_ms: 1000 });
        let response = call(&test, version, request.clone()).await;
        assert_eq!(response.error_code, 0);
        let codes: Vec<Vec<i16>> = response
            .replica_election_results
            .iter()
            .map(|topic| topic.partition_result.iter().map(|partition| partition.error_code).collect())
            .collect();
        let not_needed = ErrorCode::ElectionNotNeeded.code();
        assert_eq!(codes, [vec![not_needed, UNKNOWN_PARTITION], vec![UNKNOWN_PARTITION]], "{version}");

        let all = message!(ElectLeadersRequest { topic_partitions: None });
        assert!(call(&test, version, all).await.replica_election_results.is_empty());
        if version >= 1 {
            let mut strange = request;
            strange.election_type = 2;
            let response = call(&test, version, strange).await;
            assert_eq!(response.error_code, ErrorCode::InvalidRequest.code());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_are_reassigned_to_the_only_broker_or_not_at_all() {
    let test = broker_with_topic().await;
    let node = node_id(&test);
    let cases: [(i32, Option<Vec<i32>>, ErrorCode); 6] = [
        (0, Some(vec![node]), ErrorCode::None),
        (0, Some(vec![node, node + 1]), ErrorCode::InvalidReplicaAssignment),
        (0, Some(vec![node, node]), ErrorCode::InvalidReplicaAssignment),
        (0, Some(vec![]), ErrorCode::InvalidReplicaAssignment),
        (1, None, ErrorCode::NoReassignmentInProgress),
        (2, Some(vec![node]), ErrorCode::UnknownTopicOrPartition),
    ];
    for version in ApiKey::AlterPartitionReassignments.served().iter() {
        for (partition_index, replicas, expected) in cases.clone() {
            let partitions = vec![message!(ReassignablePartition { partition_index, replicas })];
            let topic = message!(ReassignableTopic { name: "t".into(), partitions });
            let request = message!(AlterPartitionReassignmentsRequest { topics: vec![topic] });
            let response = call(&test, version, request).await;
            assert_eq!(response.error_code, 0);
            assert_eq!(response.responses[0].partitions[0].error_code, expected.code());
        }
    }
    for version in ApiKey::ListPartitionReassignments.served().iter() {
        let response = call(&test, version, ListPartitionReassignmentsRequest::default()).await;
        assert!(response.error_code == 0 && response.topics.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_voter_leads_the_quorum() {
    let test = start().await;
    for version in ApiKey::DescribeQuorum.served().iter() {
        let topic = |name: &str, index: i32| {
            let partitions = vec![message!(PartitionData { partition_index: index })];
            message!(TopicData { topic_name: name.into(), partitions })
        };
        let topics = vec![topic("__cluster_metadata", 0), topic("__cluster_metadata", 1), topic("t", 0)];
        let response = call(&test, version, message!(DescribeQuorumRequest { topics })).await;
        assert_eq!(response.error_code, 0);
        let quorum = &response.topics[0].partitions[0];
        assert_eq!((quorum.error_code, quorum.leader_id), (0, node_id(&test)));
        let voters: Vec<i32> = quorum.current_voters.iter().map(|voter| voter.replica_id).collect();
        assert_eq!(voters, [node_id(&test)]);
        assert_eq!(quorum.current_voters[0].last_caught_up_timestamp > 0, version >= 1);
        assert!(quorum.observers.is_empty());
        for other in &response.topics[1..] {
            assert_eq!(other.partitions[0].error_code, UNKNOWN_PARTITION);
        }
        assert_eq!(response.nodes.len(), usize::from(version >= 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn features_stay_at_the_level_that_is_served() {
    let test = start().await;
    let request = message!(ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    });
    let told = call(&test, 4, request).await;
    let levels: Vec<(&str, i16)> =
        told.finalized_features.iter().map(|f| (f.name.as_str(), f.max_version_level)).collect();
    assert_eq!(told.supported_features.len(), levels.len());
    assert_eq!(levels, [("group.version", 1), ("transaction.version", 2)]);

    for version in ApiKey::UpdateFeatures.served().iter() {
        let update = |feature: &str, level: i16| {
            let update = message!(FeatureUpdateKey { feature: feature.into(), max_version_level: level });
            message!(UpdateFeaturesRequest { feature_updates: vec![update], timeout_ms: 1000 })
        };
        for &(name, level) in &levels {
            let response = call(&test, version, update(name, level)).await;
            assert_eq!(response.error_code, 0);
            assert!(response.results.iter().all(|result| result.error_code == 0));
        }
        for (name, level) in [("metadata.version", 25), ("group.version", 9), ("transaction.version", 1)] {
            let response = call(&test, version, update(name, level)).await;
            let code = match version {
                0..=1 => response.results[0].error_code,
                _ => response.error_code,
            };
            assert_eq!(code, ErrorCode::InvalidUpdateVersion.code());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_authentication_security_is_disabled() {
    let test = start().await;
    for version in ApiKey::DescribeAcls.served().iter() {
        let response = call(&test, version, DescribeAclsRequest::default()).await;
        assert_eq!(response.error_code, SECURITY_DISABLED);
    }
    for version in ApiKey::CreateAcls.served().iter() {
        let creations = vec![AclCreation::default(), AclCreation::default()];
        let response = call(&test, version, message!(CreateAclsRequest { creations })).await;
        let codes: Vec<i16> = response.results.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [SECURITY_DISABLED; 2]);
    }
    for version in ApiKey::DeleteAcls.served().iter() {
        let filters = vec![DeleteAclsFilter::default()];
        let response = call(&test, version, message!(DeleteAclsRequest { filters })).await;
        assert_eq!(response.filter_results[0].error_code, SECURITY_DISABLED);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_no_users_with_passwords() {
    let test = start().await;
    for version in ApiKey::DescribeUserScramCredentials.served().iter() {
        let all = call(&test, version, message!(DescribeUserScramCredentialsRequest { users: None })).await;
        assert!(all.error_code == 0 && all.results.is_empty());
        let ask = |names: &[&str]| {
            let users = names.iter().map(|&name| message!(UserName { name: name.into() })).collect();
            message!(DescribeUserScramCredentialsRequest { users: Some(users) })
        };
        let one = call(&test, version, ask(&["alice"])).await;
        assert_eq!(one.results[0].error_code, ErrorCode::ResourceNotFound.code());
        let twice = call(&test, version, ask(&["alice", "alice"])).await;
        assert_eq!(twice.results.len(), 1);
        assert_eq!(twice.results[0].error_code, ErrorCode::DuplicateResource.code());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_are_those_whose_sequences_are_remembered() {
    let test = broker_with_topic().await;
    let partition = test.broker.context().partitions.get("t", 0).unwrap();
    append(&partition, 0, 5);
    append(&partition, 5, 2);
    for version in ApiKey::DescribeProducers.served().iter() {
        let topic = message!(TopicRequest { name: "t".into(), partition_indexes: vec![0, 1, 2] });
        let response = call(&test, version, message!(DescribeProducersRequest { topics: vec![topic] })).await;
        let partitions = &response.topics[0].partitions;
        let producers = &partitions[0].active_producers;
        assert_eq!(producers.len(), 1);
        let producer = &producers[0];
        assert_eq!((producer.producer_id, producer.producer_epoch, producer.last_sequence), (77, 3, 6));
        assert!(producer.last_timestamp > 0);
        assert_eq!((producer.coordinator_epoch, producer.current_txn_start_offset), (-1, -1));
        assert!(partitions[1].active_producers.is_empty() && partitions[1].error_code == 0);
        assert_eq!(partitions[2].error_code, UNKNOWN_PARTITION);
    }
}
