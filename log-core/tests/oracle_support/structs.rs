//! The fields of every structure that the served messages are made of, as the oracle names them:
//! what [`random_structs!`] turns into generators. Module, then structures, the message first.

use kafka_protocol::messages::*;

use super::random::random_structs;

random_structs! { produce_request:
    ProduceRequest { transactional_id, acks, timeout_ms, topic_data, unknown_tagged_fields }
    PartitionProduceData { index, records, unknown_tagged_fields }
    TopicProduceData { name, topic_id, partition_data, unknown_tagged_fields }
}
random_structs! { produce_response:
    ProduceResponse { responses, throttle_time_ms, node_endpoints, unknown_tagged_fields }
    BatchIndexAndErrorMessage { batch_index, batch_index_error_message, unknown_tagged_fields }
    LeaderIdAndEpoch { leader_id, leader_epoch, unknown_tagged_fields }
    NodeEndpoint { node_id, host, port, rack, unknown_tagged_fields }
    PartitionProduceResponse { index, error_code, base_offset, log_append_time_ms, log_start_offset, record_errors, error_message, current_leader, unknown_tagged_fields }
    TopicProduceResponse { name, topic_id, partition_responses, unknown_tagged_fields }
}
random_structs! { fetch_request:
    FetchRequest { cluster_id, replica_id, replica_state, max_wait_ms, min_bytes, max_bytes, isolation_level, session_id, session_epoch, topics, forgotten_topics_data, rack_id, unknown_tagged_fields }
    FetchPartition { partition, current_leader_epoch, fetch_offset, last_fetched_epoch, log_start_offset, partition_max_bytes, replica_directory_id, high_watermark, unknown_tagged_fields }
    FetchTopic { topic, topic_id, partitions, unknown_tagged_fields }
    ForgottenTopic { topic, topic_id, partitions, unknown_tagged_fields }
    ReplicaState { replica_id, replica_epoch, unknown_tagged_fields }
}
random_structs! { fetch_response:
    FetchResponse { throttle_time_ms, error_code, session_id, responses, node_endpoints, unknown_tagged_fields }
    AbortedTransaction { producer_id, first_offset, unknown_tagged_fields }
    EpochEndOffset { epoch, end_offset, unknown_tagged_fields }
    FetchableTopicResponse { topic, topic_id, partitions, unknown_tagged_fields }
    LeaderIdAndEpoch { leader_id, leader_epoch, unknown_tagged_fields }
    NodeEndpoint { node_id, host, port, rack, unknown_tagged_fields }
    PartitionData { partition_index, error_code, high_watermark, last_stable_offset, log_start_offset, diverging_epoch, current_leader, snapshot_id, aborted_transactions, preferred_read_replica, records, unknown_tagged_fields }
    SnapshotId { end_offset, epoch, unknown_tagged_fields }
}
random_structs! { list_offsets_request:
    ListOffsetsRequest { replica_id, isolation_level, topics, timeout_ms, unknown_tagged_fields }
    ListOffsetsPartition { partition_index, current_leader_epoch, timestamp, unknown_tagged_fields }
    ListOffsetsTopic { name, partitions, unknown_tagged_fields }
}
random_structs! { list_offsets_response:
    ListOffsetsResponse { throttle_time_ms, topics, unknown_tagged_fields }
    ListOffsetsPartitionResponse { partition_index, error_code, timestamp, offset, leader_epoch, unknown_tagged_fields }
    ListOffsetsTopicResponse { name, partitions, unknown_tagged_fields }
}
random_structs! { metadata_request:
    MetadataRequest { topics, allow_auto_topic_creation, include_cluster_authorized_operations, include_topic_authorized_operations, unknown_tagged_fields }
    MetadataRequestTopic { topic_id, name, unknown_tagged_fields }
}
random_structs! { metadata_response:
    MetadataResponse { throttle_time_ms, brokers, cluster_id, controller_id, topics, cluster_authorized_operations, error_code, unknown_tagged_fields }
    MetadataResponseBroker { node_id, host, port, rack, unknown_tagged_fields }
    MetadataResponsePartition { error_code, partition_index, leader_id, leader_epoch, replica_nodes, isr_nodes, offline_replicas, unknown_tagged_fields }
    MetadataResponseTopic { error_code, name, topic_id, is_internal, partitions, topic_authorized_operations, unknown_tagged_fields }
}
random_structs! { offset_commit_request:
    OffsetCommitRequest { group_id, generation_id_or_member_epoch, member_id, group_instance_id, retention_time_ms, topics, unknown_tagged_fields }
    OffsetCommitRequestPartition { partition_index, committed_offset, committed_leader_epoch, committed_metadata, unknown_tagged_fields }
    OffsetCommitRequestTopic { name, topic_id, partitions, unknown_tagged_fields }
}
random_structs! { offset_commit_response:
    OffsetCommitResponse { throttle_time_ms, topics, unknown_tagged_fields }
    OffsetCommitResponsePartition { partition_index, error_code, unknown_tagged_fields }
    OffsetCommitResponseTopic { name, topic_id, partitions, unknown_tagged_fields }
}
random_structs! { offset_fetch_request:
    OffsetFetchRequest { group_id, topics, groups, require_stable, unknown_tagged_fields }
    OffsetFetchRequestGroup { group_id, member_id, member_epoch, topics, unknown_tagged_fields }
    OffsetFetchRequestTopic { name, partition_indexes, unknown_tagged_fields }
    OffsetFetchRequestTopics { name, topic_id, partition_indexes, unknown_tagged_fields }
}
random_structs! { offset_fetch_response:
    OffsetFetchResponse { throttle_time_ms, topics, error_code, groups, unknown_tagged_fields }
    OffsetFetchResponseGroup { group_id, topics, error_code, unknown_tagged_fields }
    OffsetFetchResponsePartition { partition_index, committed_offset, committed_leader_epoch, metadata, error_code, unknown_tagged_fields }
    OffsetFetchResponsePartitions { partition_index, committed_offset, committed_leader_epoch, metadata, error_code, unknown_tagged_fields }
    OffsetFetchResponseTopic { name, partitions, unknown_tagged_fields }
    OffsetFetchResponseTopics { name, topic_id, partitions, unknown_tagged_fields }
}
random_structs! { find_coordinator_request:
    FindCoordinatorRequest { key, key_type, coordinator_keys, unknown_tagged_fields }
}
random_structs! { find_coordinator_response:
    FindCoordinatorResponse { throttle_time_ms, error_code, error_message, node_id, host, port, coordinators, unknown_tagged_fields }
    Coordinator { key, node_id, host, port, error_code, error_message, unknown_tagged_fields }
}
random_structs! { join_group_request:
    JoinGroupRequest { group_id, session_timeout_ms, rebalance_timeout_ms, member_id, group_instance_id, protocol_type, protocols, reason, unknown_tagged_fields }
    JoinGroupRequestProtocol { name, metadata, unknown_tagged_fields }
}
random_structs! { join_group_response:
    JoinGroupResponse { throttle_time_ms, error_code, generation_id, protocol_type, protocol_name, leader, skip_assignment, member_id, members, unknown_tagged_fields }
    JoinGroupResponseMember { member_id, group_instance_id, metadata, unknown_tagged_fields }
}
random_structs! { heartbeat_request:
    HeartbeatRequest { group_id, generation_id, member_id, group_instance_id, unknown_tagged_fields }
}
random_structs! { heartbeat_response:
    HeartbeatResponse { throttle_time_ms, error_code, unknown_tagged_fields }
}
random_structs! { leave_group_request:
    LeaveGroupRequest { group_id, member_id, members, unknown_tagged_fields }
    MemberIdentity { member_id, group_instance_id, reason, unknown_tagged_fields }
}
random_structs! { leave_group_response:
    LeaveGroupResponse { throttle_time_ms, error_code, members, unknown_tagged_fields }
    MemberResponse { member_id, group_instance_id, error_code, unknown_tagged_fields }
}
random_structs! { sync_group_request:
    SyncGroupRequest { group_id, generation_id, member_id, group_instance_id, protocol_type, protocol_name, assignments, unknown_tagged_fields }
    SyncGroupRequestAssignment { member_id, assignment, unknown_tagged_fields }
}
random_structs! { sync_group_response:
    SyncGroupResponse { throttle_time_ms, error_code, protocol_type, protocol_name, assignment, unknown_tagged_fields }
}
random_structs! { describe_groups_request:
    DescribeGroupsRequest { groups, include_authorized_operations, unknown_tagged_fields }
}
random_structs! { describe_groups_response:
    DescribeGroupsResponse { throttle_time_ms, groups, unknown_tagged_fields }
    DescribedGroup { error_code, error_message, group_id, group_state, protocol_type, protocol_data, members, authorized_operations, unknown_tagged_fields }
    DescribedGroupMember { member_id, group_instance_id, client_id, client_host, member_metadata, member_assignment, unknown_tagged_fields }
}
random_structs! { list_groups_request:
    ListGroupsRequest { states_filter, types_filter, unknown_tagged_fields }
}
random_structs! { list_groups_response:
    ListGroupsResponse { throttle_time_ms, error_code, groups, unknown_tagged_fields }
    ListedGroup { group_id, protocol_type, group_state, group_type, unknown_tagged_fields }
}
random_structs! { api_versions_request:
    ApiVersionsRequest { client_software_name, client_software_version, unknown_tagged_fields }
}
random_structs! { api_versions_response:
    ApiVersionsResponse { error_code, api_keys, throttle_time_ms, supported_features, finalized_features_epoch, finalized_features, zk_migration_ready, unknown_tagged_fields }
    ApiVersion { api_key, min_version, max_version, unknown_tagged_fields }
    FinalizedFeatureKey { name, max_version_level, min_version_level, unknown_tagged_fields }
    SupportedFeatureKey { name, min_version, max_version, unknown_tagged_fields }
}
random_structs! { create_topics_request:
    CreateTopicsRequest { topics, timeout_ms, validate_only, unknown_tagged_fields }
    CreatableReplicaAssignment { partition_index, broker_ids, unknown_tagged_fields }
    CreatableTopic { name, num_partitions, replication_factor, assignments, configs, unknown_tagged_fields }
    CreatableTopicConfig { name, value, unknown_tagged_fields }
}
random_structs! { create_topics_response:
    CreateTopicsResponse { throttle_time_ms, topics, unknown_tagged_fields }
    CreatableTopicConfigs { name, value, read_only, config_source, is_sensitive, unknown_tagged_fields }
    CreatableTopicResult { name, topic_id, error_code, error_message, topic_config_error_code, num_partitions, replication_factor, configs, unknown_tagged_fields }
}
random_structs! { delete_topics_request:
    DeleteTopicsRequest { topics, topic_names, timeout_ms, unknown_tagged_fields }
    DeleteTopicState { name, topic_id, unknown_tagged_fields }
}
random_structs! { delete_topics_response:
    DeleteTopicsResponse { throttle_time_ms, responses, unknown_tagged_fields }
    DeletableTopicResult { name, topic_id, error_code, error_message, unknown_tagged_fields }
}
random_structs! { delete_records_request:
    DeleteRecordsRequest { topics, timeout_ms, unknown_tagged_fields }
    DeleteRecordsPartition { partition_index, offset, unknown_tagged_fields }
    DeleteRecordsTopic { name, partitions, unknown_tagged_fields }
}
random_structs! { delete_records_response:
    DeleteRecordsResponse { throttle_time_ms, topics, unknown_tagged_fields }
    DeleteRecordsPartitionResult { partition_index, low_watermark, error_code, unknown_tagged_fields }
    DeleteRecordsTopicResult { name, partitions, unknown_tagged_fields }
}
random_structs! { init_producer_id_request:
    InitProducerIdRequest { transactional_id, transaction_timeout_ms, producer_id, producer_epoch, enable_2_pc, keep_prepared_txn, unknown_tagged_fields }
}
random_structs! { init_producer_id_response:
    InitProducerIdResponse { throttle_time_ms, error_code, producer_id, producer_epoch, ongoing_txn_producer_id, ongoing_txn_producer_epoch, unknown_tagged_fields }
}
random_structs! { offset_for_leader_epoch_request:
    OffsetForLeaderEpochRequest { replica_id, topics, unknown_tagged_fields }
    OffsetForLeaderPartition { partition, current_leader_epoch, leader_epoch, unknown_tagged_fields }
    OffsetForLeaderTopic { topic, partitions, unknown_tagged_fields }
}
random_structs! { offset_for_leader_epoch_response:
    OffsetForLeaderEpochResponse { throttle_time_ms, topics, unknown_tagged_fields }
    EpochEndOffset { error_code, partition, leader_epoch, end_offset, unknown_tagged_fields }
    OffsetForLeaderTopicResult { topic, partitions, unknown_tagged_fields }
}
random_structs! { describe_configs_request:
    DescribeConfigsRequest { resources, include_synonyms, include_documentation, unknown_tagged_fields }
    DescribeConfigsResource { resource_type, resource_name, configuration_keys, unknown_tagged_fields }
}
random_structs! { describe_configs_response:
    DescribeConfigsResponse { throttle_time_ms, results, unknown_tagged_fields }
    DescribeConfigsResourceResult { name, value, read_only, config_source, is_sensitive, synonyms, config_type, documentation, unknown_tagged_fields }
    DescribeConfigsResult { error_code, error_message, resource_type, resource_name, configs, unknown_tagged_fields }
    DescribeConfigsSynonym { name, value, source, unknown_tagged_fields }
}
random_structs! { alter_configs_request:
    AlterConfigsRequest { resources, validate_only, unknown_tagged_fields }
    AlterConfigsResource { resource_type, resource_name, configs, unknown_tagged_fields }
    AlterableConfig { name, value, unknown_tagged_fields }
}
random_structs! { alter_configs_response:
    AlterConfigsResponse { throttle_time_ms, responses, unknown_tagged_fields }
    AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name, unknown_tagged_fields }
}
random_structs! { describe_log_dirs_request:
    DescribeLogDirsRequest { topics, unknown_tagged_fields }
    DescribableLogDirTopic { topic, partitions, unknown_tagged_fields }
}
random_structs! { describe_log_dirs_response:
    DescribeLogDirsResponse { throttle_time_ms, error_code, results, unknown_tagged_fields }
    DescribeLogDirsPartition { partition_index, partition_size, offset_lag, is_future_key, unknown_tagged_fields }
    DescribeLogDirsResult { error_code, log_dir, topics, total_bytes, usable_bytes, unknown_tagged_fields }
    DescribeLogDirsTopic { name, partitions, unknown_tagged_fields }
}
random_structs! { create_partitions_request:
    CreatePartitionsRequest { topics, timeout_ms, validate_only, unknown_tagged_fields }
    CreatePartitionsAssignment { broker_ids, unknown_tagged_fields }
    CreatePartitionsTopic { name, count, assignments, unknown_tagged_fields }
}
random_structs! { create_partitions_response:
    CreatePartitionsResponse { throttle_time_ms, results, unknown_tagged_fields }
    CreatePartitionsTopicResult { name, error_code, error_message, unknown_tagged_fields }
}
random_structs! { delete_groups_request:
    DeleteGroupsRequest { groups_names, unknown_tagged_fields }
}
random_structs! { delete_groups_response:
    DeleteGroupsResponse { throttle_time_ms, results, unknown_tagged_fields }
    DeletableGroupResult { group_id, error_code, unknown_tagged_fields }
}
random_structs! { incremental_alter_configs_request:
    IncrementalAlterConfigsRequest { resources, validate_only, unknown_tagged_fields }
    AlterConfigsResource { resource_type, resource_name, configs, unknown_tagged_fields }
    AlterableConfig { name, config_operation, value, unknown_tagged_fields }
}
random_structs! { incremental_alter_configs_response:
    IncrementalAlterConfigsResponse { throttle_time_ms, responses, unknown_tagged_fields }
    AlterConfigsResourceResponse { error_code, error_message, resource_type, resource_name, unknown_tagged_fields }
}
random_structs! { offset_delete_request:
    OffsetDeleteRequest { group_id, topics }
    OffsetDeleteRequestPartition { partition_index }
    OffsetDeleteRequestTopic { name, partitions }
}
random_structs! { offset_delete_response:
    OffsetDeleteResponse { error_code, throttle_time_ms, topics }
    OffsetDeleteResponsePartition { partition_index, error_code }
    OffsetDeleteResponseTopic { name, partitions }
}
random_structs! { describe_cluster_request:
    DescribeClusterRequest { include_cluster_authorized_operations, endpoint_type, include_fenced_brokers, unknown_tagged_fields }
}
random_structs! { describe_cluster_response:
    DescribeClusterResponse { throttle_time_ms, error_code, error_message, endpoint_type, cluster_id, controller_id, brokers, cluster_authorized_operations, unknown_tagged_fields }
    DescribeClusterBroker { broker_id, host, port, rack, is_fenced, unknown_tagged_fields }
}
random_structs! { describe_topic_partitions_request:
    DescribeTopicPartitionsRequest { topics, response_partition_limit, cursor, unknown_tagged_fields }
    Cursor { topic_name, partition_index, unknown_tagged_fields }
    TopicRequest { name, unknown_tagged_fields }
}
random_structs! { describe_topic_partitions_response:
    DescribeTopicPartitionsResponse { throttle_time_ms, topics, next_cursor, unknown_tagged_fields }
    Cursor { topic_name, partition_index, unknown_tagged_fields }
    DescribeTopicPartitionsResponsePartition { error_code, partition_index, leader_id, leader_epoch, replica_nodes, isr_nodes, eligible_leader_replicas, last_known_elr, offline_replicas, unknown_tagged_fields }
    DescribeTopicPartitionsResponseTopic { error_code, name, topic_id, is_internal, partitions, topic_authorized_operations, unknown_tagged_fields }
}
random_structs! { write_txn_markers_request:
    WriteTxnMarkersRequest { markers, unknown_tagged_fields }
    WritableTxnMarker { producer_id, producer_epoch, transaction_result, topics, coordinator_epoch, unknown_tagged_fields }
    WritableTxnMarkerTopic { name, partition_indexes, unknown_tagged_fields }
}
random_structs! { write_txn_markers_response:
    WriteTxnMarkersResponse { markers, unknown_tagged_fields }
    WritableTxnMarkerResult { producer_id, topics, unknown_tagged_fields }
    WritableTxnMarkerTopicResult { name, partitions, unknown_tagged_fields }
    WritableTxnMarkerPartitionResult { partition_index, error_code, unknown_tagged_fields }
}
random_structs! { describe_acls_request:
    DescribeAclsRequest { resource_type_filter, resource_name_filter, pattern_type_filter, principal_filter, host_filter, operation, permission_type, unknown_tagged_fields }
}
random_structs! { describe_acls_response:
    DescribeAclsResponse { throttle_time_ms, error_code, error_message, resources, unknown_tagged_fields }
    AclDescription { principal, host, operation, permission_type, unknown_tagged_fields }
    DescribeAclsResource { resource_type, resource_name, pattern_type, acls, unknown_tagged_fields }
}
random_structs! { create_acls_request:
    CreateAclsRequest { creations, unknown_tagged_fields }
    AclCreation { resource_type, resource_name, resource_pattern_type, principal, host, operation, permission_type, unknown_tagged_fields }
}
random_structs! { create_acls_response:
    CreateAclsResponse { throttle_time_ms, results, unknown_tagged_fields }
    AclCreationResult { error_code, error_message, unknown_tagged_fields }
}
random_structs! { delete_acls_request:
    DeleteAclsRequest { filters, unknown_tagged_fields }
    DeleteAclsFilter { resource_type_filter, resource_name_filter, pattern_type_filter, principal_filter, host_filter, operation, permission_type, unknown_tagged_fields }
}
random_structs! { delete_acls_response:
    DeleteAclsResponse { throttle_time_ms, filter_results, unknown_tagged_fields }
    DeleteAclsFilterResult { error_code, error_message, matching_acls, unknown_tagged_fields }
    DeleteAclsMatchingAcl { error_code, error_message, resource_type, resource_name, pattern_type, principal, host, operation, permission_type, unknown_tagged_fields }
}
random_structs! { elect_leaders_request:
    ElectLeadersRequest { election_type, topic_partitions, timeout_ms, unknown_tagged_fields }
    TopicPartitions { topic, partitions, unknown_tagged_fields }
}
random_structs! { elect_leaders_response:
    ElectLeadersResponse { throttle_time_ms, error_code, replica_election_results, unknown_tagged_fields }
    PartitionResult { partition_id, error_code, error_message, unknown_tagged_fields }
    ReplicaElectionResult { topic, partition_result, unknown_tagged_fields }
}
random_structs! { alter_partition_reassignments_request:
    AlterPartitionReassignmentsRequest { timeout_ms, allow_replication_factor_change, topics, unknown_tagged_fields }
    ReassignablePartition { partition_index, replicas, unknown_tagged_fields }
    ReassignableTopic { name, partitions, unknown_tagged_fields }
}
random_structs! { alter_partition_reassignments_response:
    AlterPartitionReassignmentsResponse { throttle_time_ms, allow_replication_factor_change, error_code, error_message, responses, unknown_tagged_fields }
    ReassignablePartitionResponse { partition_index, error_code, error_message, unknown_tagged_fields }
    ReassignableTopicResponse { name, partitions, unknown_tagged_fields }
}
random_structs! { list_partition_reassignments_request:
    ListPartitionReassignmentsRequest { timeout_ms, topics, unknown_tagged_fields }
    ListPartitionReassignmentsTopics { name, partition_indexes, unknown_tagged_fields }
}
random_structs! { list_partition_reassignments_response:
    ListPartitionReassignmentsResponse { throttle_time_ms, error_code, error_message, topics, unknown_tagged_fields }
    OngoingPartitionReassignment { partition_index, replicas, adding_replicas, removing_replicas, unknown_tagged_fields }
    OngoingTopicReassignment { name, partitions, unknown_tagged_fields }
}
random_structs! { describe_user_scram_credentials_request:
    DescribeUserScramCredentialsRequest { users, unknown_tagged_fields }
    UserName { name, unknown_tagged_fields }
}
random_structs! { describe_user_scram_credentials_response:
    DescribeUserScramCredentialsResponse { throttle_time_ms, error_code, error_message, results, unknown_tagged_fields }
    CredentialInfo { mechanism, iterations, unknown_tagged_fields }
    DescribeUserScramCredentialsResult { user, error_code, error_message, credential_infos, unknown_tagged_fields }
}
random_structs! { describe_quorum_request:
    DescribeQuorumRequest { topics, unknown_tagged_fields }
    PartitionData { partition_index, unknown_tagged_fields }
    TopicData { topic_name, partitions, unknown_tagged_fields }
}
random_structs! { describe_quorum_response:
    DescribeQuorumResponse { error_code, error_message, topics, nodes, unknown_tagged_fields }
    Listener { name, host, port, unknown_tagged_fields }
    Node { node_id, listeners, unknown_tagged_fields }
    PartitionData { partition_index, error_code, error_message, leader_id, leader_epoch, high_watermark, current_voters, observers, unknown_tagged_fields }
    ReplicaState { replica_id, replica_directory_id, log_end_offset, last_fetch_timestamp, last_caught_up_timestamp, unknown_tagged_fields }
    TopicData { topic_name, partitions, unknown_tagged_fields }
}
random_structs! { update_features_request:
    UpdateFeaturesRequest { timeout_ms, feature_updates, validate_only, unknown_tagged_fields }
    FeatureUpdateKey { feature, max_version_level, allow_downgrade, upgrade_type, unknown_tagged_fields }
}
random_structs! { update_features_response:
    UpdateFeaturesResponse { throttle_time_ms, error_code, error_message, results, unknown_tagged_fields }
    UpdatableFeatureResult { feature, error_code, error_message, unknown_tagged_fields }
}
random_structs! { describe_producers_request:
    DescribeProducersRequest { topics, unknown_tagged_fields }
    TopicRequest { name, partition_indexes, unknown_tagged_fields }
}
random_structs! { describe_producers_response:
    DescribeProducersResponse { throttle_time_ms, topics, unknown_tagged_fields }
    PartitionResponse { partition_index, error_code, error_message, active_producers, unknown_tagged_fields }
    ProducerState { producer_id, producer_epoch, last_sequence, last_timestamp, coordinator_epoch, current_txn_start_offset, unknown_tagged_fields }
    TopicResponse { name, partitions, unknown_tagged_fields }
}
random_structs! { consumer_group_heartbeat_request:
    ConsumerGroupHeartbeatRequest { group_id, member_id, member_epoch, instance_id, rack_id, rebalance_timeout_ms, subscribed_topic_names, subscribed_topic_regex, server_assignor, topic_partitions, unknown_tagged_fields }
    TopicPartitions { topic_id, partitions, unknown_tagged_fields }
}
random_structs! { consumer_group_heartbeat_response:
    ConsumerGroupHeartbeatResponse { throttle_time_ms, error_code, error_message, member_id, member_epoch, heartbeat_interval_ms, assignment, unknown_tagged_fields }
    Assignment { topic_partitions, unknown_tagged_fields }
    TopicPartitions { topic_id, partitions, unknown_tagged_fields }
}
random_structs! { consumer_group_describe_request:
    ConsumerGroupDescribeRequest { group_ids, include_authorized_operations, unknown_tagged_fields }
}
random_structs! { consumer_group_describe_response:
    ConsumerGroupDescribeResponse { throttle_time_ms, groups, unknown_tagged_fields }
    DescribedGroup { error_code, error_message, group_id, group_state, group_epoch, assignment_epoch, assignor_name, members, authorized_operations, unknown_tagged_fields }
    Member { member_id, instance_id, rack_id, member_epoch, client_id, client_host, subscribed_topic_names, subscribed_topic_regex, assignment, target_assignment, member_type, unknown_tagged_fields }
    Assignment { topic_partitions, unknown_tagged_fields }
    TopicPartitions { topic_id, topic_name, partitions, unknown_tagged_fields }
}
random_structs! { describe_client_quotas_request:
    DescribeClientQuotasRequest { components, strict, unknown_tagged_fields }
    ComponentData { entity_type, match_type, _match, unknown_tagged_fields }
}
random_structs! { describe_client_quotas_response:
    DescribeClientQuotasResponse { throttle_time_ms, error_code, error_message, entries, unknown_tagged_fields }
    EntityData { entity_type, entity_name, unknown_tagged_fields }
    EntryData { entity, values, unknown_tagged_fields }
    ValueData { key, value, unknown_tagged_fields }
}
random_structs! { alter_client_quotas_request:
    AlterClientQuotasRequest { entries, validate_only, unknown_tagged_fields }
    EntityData { entity_type, entity_name, unknown_tagged_fields }
    EntryData { entity, ops, unknown_tagged_fields }
    OpData { key, value, remove, unknown_tagged_fields }
}
random_structs! { alter_client_quotas_response:
    AlterClientQuotasResponse { throttle_time_ms, entries, unknown_tagged_fields }
    EntityData { entity_type, entity_name, unknown_tagged_fields }
    EntryData { error_code, error_message, entity, unknown_tagged_fields }
}
random_structs! { get_telemetry_subscriptions_request:
    GetTelemetrySubscriptionsRequest { client_instance_id, unknown_tagged_fields }
}
random_structs! { get_telemetry_subscriptions_response:
    GetTelemetrySubscriptionsResponse { throttle_time_ms, error_code, client_instance_id, subscription_id, accepted_compression_types, push_interval_ms, telemetry_max_bytes, delta_temporality, requested_metrics, unknown_tagged_fields }
}
random_structs! { push_telemetry_request:
    PushTelemetryRequest { client_instance_id, subscription_id, terminating, compression_type, metrics, unknown_tagged_fields }
}
random_structs! { push_telemetry_response:
    PushTelemetryResponse { throttle_time_ms, error_code, unknown_tagged_fields }
}
random_structs! { list_config_resources_request:
    ListConfigResourcesRequest { resource_types, unknown_tagged_fields }
}
random_structs! { list_config_resources_response:
    ListConfigResourcesResponse { throttle_time_ms, error_code, config_resources, unknown_tagged_fields }
    ConfigResource { resource_name, resource_type, unknown_tagged_fields }
}
random_structs! { add_partitions_to_txn_request:
    AddPartitionsToTxnRequest { transactions, v3_and_below_transactional_id, v3_and_below_producer_id, v3_and_below_producer_epoch, v3_and_below_topics, unknown_tagged_fields }
    AddPartitionsToTxnTopic { name, partitions, unknown_tagged_fields }
    AddPartitionsToTxnTransaction { transactional_id, producer_id, producer_epoch, verify_only, topics, unknown_tagged_fields }
}
random_structs! { add_partitions_to_txn_response:
    AddPartitionsToTxnResponse { throttle_time_ms, error_code, results_by_transaction, results_by_topic_v3_and_below, unknown_tagged_fields }
    AddPartitionsToTxnPartitionResult { partition_index, partition_error_code, unknown_tagged_fields }
    AddPartitionsToTxnResult { transactional_id, topic_results, unknown_tagged_fields }
    AddPartitionsToTxnTopicResult { name, results_by_partition, unknown_tagged_fields }
}
random_structs! { end_txn_request:
    EndTxnRequest { transactional_id, producer_id, producer_epoch, committed, unknown_tagged_fields }
}
random_structs! { end_txn_response:
    EndTxnResponse { throttle_time_ms, error_code, producer_id, producer_epoch, unknown_tagged_fields }
}
random_structs! { describe_transactions_request:
    DescribeTransactionsRequest { transactional_ids, unknown_tagged_fields }
}
random_structs! { describe_transactions_response:
    DescribeTransactionsResponse { throttle_time_ms, transaction_states, unknown_tagged_fields }
    TopicData { topic, partitions, unknown_tagged_fields }
    TransactionState { error_code, transactional_id, transaction_state, transaction_timeout_ms, transaction_start_time_ms, producer_id, producer_epoch, topics, unknown_tagged_fields }
}
random_structs! { list_transactions_request:
    ListTransactionsRequest { state_filters, producer_id_filters, duration_filter, transactional_id_pattern, unknown_tagged_fields }
}
random_structs! { list_transactions_response:
    ListTransactionsResponse { throttle_time_ms, error_code, unknown_state_filters, transaction_states, unknown_tagged_fields }
    TransactionState { transactional_id, producer_id, transaction_state, unknown_tagged_fields }
}
random_structs! { add_offsets_to_txn_request:
    AddOffsetsToTxnRequest { transactional_id, producer_id, producer_epoch, group_id, unknown_tagged_fields }
}
random_structs! { add_offsets_to_txn_response:
    AddOffsetsToTxnResponse { throttle_time_ms, error_code, unknown_tagged_fields }
}
random_structs! { txn_offset_commit_request:
    TxnOffsetCommitRequest { transactional_id, group_id, producer_id, producer_epoch, generation_id, member_id, group_instance_id, topics, unknown_tagged_fields }
    TxnOffsetCommitRequestPartition { partition_index, committed_offset, committed_leader_epoch, committed_metadata, unknown_tagged_fields }
    TxnOffsetCommitRequestTopic { name, partitions, unknown_tagged_fields }
}
random_structs! { txn_offset_commit_response:
    TxnOffsetCommitResponse { throttle_time_ms, topics, unknown_tagged_fields }
    TxnOffsetCommitResponsePartition { partition_index, error_code, unknown_tagged_fields }
    TxnOffsetCommitResponseTopic { name, partitions, unknown_tagged_fields }
}
