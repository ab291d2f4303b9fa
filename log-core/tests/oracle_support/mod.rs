//! What the oracle's and the hostile tests share: random messages, and the table of messages.

pub mod random;
mod structs;

/// Calls `$visit!(Api)` for every served API whose messages are the library's. The messages are
/// called `ApiRequest` and `ApiResponse` by the library and by the oracle alike.
macro_rules! for_each_control_api {
    ($visit:ident) => {
        $visit!(ListOffsets, ListOffsetsRequest, ListOffsetsResponse);
        $visit!(Metadata, MetadataRequest, MetadataResponse);
        $visit!(OffsetCommit, OffsetCommitRequest, OffsetCommitResponse);
        $visit!(OffsetFetch, OffsetFetchRequest, OffsetFetchResponse);
        $visit!(FindCoordinator, FindCoordinatorRequest, FindCoordinatorResponse);
        $visit!(JoinGroup, JoinGroupRequest, JoinGroupResponse);
        $visit!(Heartbeat, HeartbeatRequest, HeartbeatResponse);
        $visit!(LeaveGroup, LeaveGroupRequest, LeaveGroupResponse);
        $visit!(SyncGroup, SyncGroupRequest, SyncGroupResponse);
        $visit!(DescribeGroups, DescribeGroupsRequest, DescribeGroupsResponse);
        $visit!(ListGroups, ListGroupsRequest, ListGroupsResponse);
        $visit!(ApiVersions, ApiVersionsRequest, ApiVersionsResponse);
        $visit!(CreateTopics, CreateTopicsRequest, CreateTopicsResponse);
        $visit!(DeleteTopics, DeleteTopicsRequest, DeleteTopicsResponse);
        $visit!(DeleteRecords, DeleteRecordsRequest, DeleteRecordsResponse);
        $visit!(InitProducerId, InitProducerIdRequest, InitProducerIdResponse);
        $visit!(OffsetForLeaderEpoch, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse);
        $visit!(AddPartitionsToTxn, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse);
        $visit!(AddOffsetsToTxn, AddOffsetsToTxnRequest, AddOffsetsToTxnResponse);
        $visit!(EndTxn, EndTxnRequest, EndTxnResponse);
        $visit!(WriteTxnMarkers, WriteTxnMarkersRequest, WriteTxnMarkersResponse);
        $visit!(TxnOffsetCommit, TxnOffsetCommitRequest, TxnOffsetCommitResponse);
        $visit!(DescribeAcls, DescribeAclsRequest, DescribeAclsResponse);
        $visit!(CreateAcls, CreateAclsRequest, CreateAclsResponse);
        $visit!(DeleteAcls, DeleteAclsRequest, DeleteAclsResponse);
        $visit!(DescribeConfigs, DescribeConfigsRequest, DescribeConfigsResponse);
        $visit!(AlterConfigs, AlterConfigsRequest, AlterConfigsResponse);
        $visit!(DescribeLogDirs, DescribeLogDirsRequest, DescribeLogDirsResponse);
        $visit!(CreatePartitions, CreatePartitionsRequest, CreatePartitionsResponse);
        $visit!(DeleteGroups, DeleteGroupsRequest, DeleteGroupsResponse);
        $visit!(ElectLeaders, ElectLeadersRequest, ElectLeadersResponse);
        $visit!(IncrementalAlterConfigs, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse);
        $visit!(
            AlterPartitionReassignments,
            AlterPartitionReassignmentsRequest,
            AlterPartitionReassignmentsResponse
        );
        $visit!(
            ListPartitionReassignments,
            ListPartitionReassignmentsRequest,
            ListPartitionReassignmentsResponse
        );
        $visit!(OffsetDelete, OffsetDeleteRequest, OffsetDeleteResponse);
        $visit!(
            DescribeUserScramCredentials,
            DescribeUserScramCredentialsRequest,
            DescribeUserScramCredentialsResponse
        );
        $visit!(DescribeClientQuotas, DescribeClientQuotasRequest, DescribeClientQuotasResponse);
        $visit!(AlterClientQuotas, AlterClientQuotasRequest, AlterClientQuotasResponse);
        $visit!(DescribeQuorum, DescribeQuorumRequest, DescribeQuorumResponse);
        $visit!(UpdateFeatures, UpdateFeaturesRequest, UpdateFeaturesResponse);
        $visit!(DescribeCluster, DescribeClusterRequest, DescribeClusterResponse);
        $visit!(DescribeProducers, DescribeProducersRequest, DescribeProducersResponse);
        $visit!(DescribeTransactions, DescribeTransactionsRequest, DescribeTransactionsResponse);
        $visit!(ListTransactions, ListTransactionsRequest, ListTransactionsResponse);
        $visit!(ConsumerGroupHeartbeat, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse);
        $visit!(ConsumerGroupDescribe, ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse);
        $visit!(
            GetTelemetrySubscriptions,
            GetTelemetrySubscriptionsRequest,
            GetTelemetrySubscriptionsResponse
        );
        $visit!(PushTelemetry, PushTelemetryRequest, PushTelemetryResponse);
        $visit!(ListConfigResources, ListConfigResourcesRequest, ListConfigResourcesResponse);
        $visit!(DescribeTopicPartitions, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse);
    };
}
pub(crate) use for_each_control_api;
