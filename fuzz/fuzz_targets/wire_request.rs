//! Whole request frames, header included, into the decoder of the API and version they name.
//!
//! What decodes must encode again and decode to the same value: a request that the codec reads
//! differently from how it writes it would be answered wrongly without any error.

#![no_main]

use std::fmt::Debug;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use log_core::wire::messages::*;
use log_core::wire::{ApiKey, FetchRequest, KafkaRequest, ProduceRequest, RequestHeader, decode_request, encode_request};

fuzz_target!(|data: &[u8]| {
    let Ok((header, body)) = RequestHeader::decode(Bytes::copy_from_slice(data)) else { return };
    let Some(api) = header.served() else { return };
    let version = header.api_version;
    let again: Vec<u8> = header.frame(api, vec![]).expect("a decoded header encodes").concat();
    let (header_again, _) = RequestHeader::decode(Bytes::from(again).slice(4..)).expect("an encoded header decodes");
    assert_eq!(header_again, header);
    match api {
        ApiKey::Produce => produce(body, version),
        ApiKey::Fetch => fetch(body, version),
        ApiKey::ListOffsets => library::<ListOffsetsRequest>(body, version),
        ApiKey::Metadata => library::<MetadataRequest>(body, version),
        ApiKey::OffsetCommit => library::<OffsetCommitRequest>(body, version),
        ApiKey::OffsetFetch => library::<OffsetFetchRequest>(body, version),
        ApiKey::FindCoordinator => library::<FindCoordinatorRequest>(body, version),
        ApiKey::JoinGroup => library::<JoinGroupRequest>(body, version),
        ApiKey::Heartbeat => library::<HeartbeatRequest>(body, version),
        ApiKey::LeaveGroup => library::<LeaveGroupRequest>(body, version),
        ApiKey::SyncGroup => library::<SyncGroupRequest>(body, version),
        ApiKey::DescribeGroups => library::<DescribeGroupsRequest>(body, version),
        ApiKey::ListGroups => library::<ListGroupsRequest>(body, version),
        ApiKey::ApiVersions => library::<ApiVersionsRequest>(body, version),
        ApiKey::CreateTopics => library::<CreateTopicsRequest>(body, version),
        ApiKey::DeleteTopics => library::<DeleteTopicsRequest>(body, version),
        ApiKey::DeleteRecords => library::<DeleteRecordsRequest>(body, version),
        ApiKey::InitProducerId => library::<InitProducerIdRequest>(body, version),
        ApiKey::OffsetForLeaderEpoch => library::<OffsetForLeaderEpochRequest>(body, version),
        ApiKey::AddPartitionsToTxn => library::<AddPartitionsToTxnRequest>(body, version),
        ApiKey::AddOffsetsToTxn => library::<AddOffsetsToTxnRequest>(body, version),
        ApiKey::EndTxn => library::<EndTxnRequest>(body, version),
        ApiKey::TxnOffsetCommit => library::<TxnOffsetCommitRequest>(body, version),
        ApiKey::WriteTxnMarkers => library::<WriteTxnMarkersRequest>(body, version),
        ApiKey::DescribeAcls => library::<DescribeAclsRequest>(body, version),
        ApiKey::CreateAcls => library::<CreateAclsRequest>(body, version),
        ApiKey::DeleteAcls => library::<DeleteAclsRequest>(body, version),
        ApiKey::DescribeConfigs => library::<DescribeConfigsRequest>(body, version),
        ApiKey::AlterConfigs => library::<AlterConfigsRequest>(body, version),
        ApiKey::DescribeLogDirs => library::<DescribeLogDirsRequest>(body, version),
        ApiKey::CreatePartitions => library::<CreatePartitionsRequest>(body, version),
        ApiKey::DeleteGroups => library::<DeleteGroupsRequest>(body, version),
        ApiKey::ElectLeaders => library::<ElectLeadersRequest>(body, version),
        ApiKey::IncrementalAlterConfigs => library::<IncrementalAlterConfigsRequest>(body, version),
        ApiKey::AlterPartitionReassignments => library::<AlterPartitionReassignmentsRequest>(body, version),
        ApiKey::ListPartitionReassignments => library::<ListPartitionReassignmentsRequest>(body, version),
        ApiKey::OffsetDelete => library::<OffsetDeleteRequest>(body, version),
        ApiKey::DescribeClientQuotas => library::<DescribeClientQuotasRequest>(body, version),
        ApiKey::AlterClientQuotas => library::<AlterClientQuotasRequest>(body, version),
        ApiKey::DescribeUserScramCredentials => library::<DescribeUserScramCredentialsRequest>(body, version),
        ApiKey::DescribeQuorum => library::<DescribeQuorumRequest>(body, version),
        ApiKey::UpdateFeatures => library::<UpdateFeaturesRequest>(body, version),
        ApiKey::DescribeCluster => library::<DescribeClusterRequest>(body, version),
        ApiKey::DescribeProducers => library::<DescribeProducersRequest>(body, version),
        ApiKey::DescribeTransactions => library::<DescribeTransactionsRequest>(body, version),
        ApiKey::ListTransactions => library::<ListTransactionsRequest>(body, version),
        ApiKey::ConsumerGroupHeartbeat => library::<ConsumerGroupHeartbeatRequest>(body, version),
        ApiKey::ConsumerGroupDescribe => library::<ConsumerGroupDescribeRequest>(body, version),
        ApiKey::GetTelemetrySubscriptions => library::<GetTelemetrySubscriptionsRequest>(body, version),
        ApiKey::PushTelemetry => library::<PushTelemetryRequest>(body, version),
        ApiKey::ListConfigResources => library::<ListConfigResourcesRequest>(body, version),
        ApiKey::DescribeTopicPartitions => library::<DescribeTopicPartitionsRequest>(body, version),
    }
});

fn produce(body: Bytes, version: i16) {
    let Ok(request) = ProduceRequest::decode(body, version) else { return };
    let bytes = request.encode(version).expect("a decoded request encodes").concat();
    assert_eq!(ProduceRequest::decode(bytes.into(), version).as_ref(), Ok(&request));
}

fn fetch(body: Bytes, version: i16) {
    let Ok(request) = FetchRequest::decode(body, version) else { return };
    let bytes = request.encode(version).expect("a decoded request encodes");
    assert_eq!(FetchRequest::decode(bytes, version).as_ref(), Ok(&request));
}

fn library<T: KafkaRequest + PartialEq + Debug>(body: Bytes, version: i16) {
    let Ok(request) = decode_request::<T>(body, version) else { return };
    let bytes = encode_request(&request, version).expect("a decoded request encodes");
    let again = decode_request::<T>(bytes, version).expect("what was encoded decodes");
    // A rate that is not a number differs from itself, and is printed alike.
    assert!(again == request || format!("{again:?}") == format!("{request:?}"), "{request:?} became {again:?}");
}
