//! What the broker answers: one file per API key, and the table that leads to them.
//!
//! Requests of one connection are dispatched in the order in which they came, and what has to happen in that order
//! (an append, a command to a coordinator) happens before `dispatch` returns. What has to be waited for (a sync, new
//! records, a rebalance) goes into a [`Reply::Pending`], so that the requests behind it can start; `net` sends the
//! answers in order all the same.
//!
//! A handler comes in one of three shapes, which the table names:
//!
//! - `now`: `async fn handle(&Arc<Context>, &Request, M) -> R`, decoded and encoded here. The next request of the
//!   connection waits until it returns.
//! - `later`: `fn handle(&Arc<Context>, &Request, M) -> impl Future<Output = R> + Send + 'static`. What runs before
//!   the future is returned runs in order, the future itself while later requests are dispatched.
//! - `now_counted`, `later_counted`: as these, and what errors the answer has is counted here
//!   ([`answered_errors`]); the others count theirs themselves.
//! - `raw`: `async fn handle(&Arc<Context>, Request) -> Result<Reply, Refusal>`, for bodies that are ours.

mod answered_errors;
mod broker_entries;
mod client_facts;
mod config_resource;
mod connection_info;
mod context;
mod failure;
mod features;
mod mute;
mod quota_entity;
mod request;
mod shed_produce;
mod transaction_errors;
mod transactional_produce;

mod group_errors;
mod group_requests;
mod k00_produce;
mod k01_fetch;
mod k02_list_offsets;
mod k03_metadata;
mod k08_offset_commit;
mod k09_offset_fetch;
mod k10_find_coordinator;
mod k11_join_group;
mod k12_heartbeat;
mod k13_leave_group;
mod k14_sync_group;
mod k15_describe_groups;
mod k16_list_groups;
mod k18_api_versions;
mod k19_create_topics;
mod k20_delete_topics;
mod k21_delete_records;
mod k22_init_producer_id;
mod k23_offset_for_leader_epoch;
mod k24_add_partitions_to_txn;
mod k25_add_offsets_to_txn;
mod k26_end_txn;
mod k27_write_txn_markers;
mod k28_txn_offset_commit;
mod k29_describe_acls;
mod k30_create_acls;
mod k31_delete_acls;
mod k32_describe_configs;
mod k33_alter_configs;
mod k35_describe_log_dirs;
mod k37_create_partitions;
mod k42_delete_groups;
mod k43_elect_leaders;
mod k44_incremental_alter_configs;
mod k45_alter_partition_reassignments;
mod k46_list_partition_reassignments;
mod k47_offset_delete;
mod k48_describe_client_quotas;
mod k49_alter_client_quotas;
mod k50_describe_user_scram_credentials;
mod k55_describe_quorum;
mod k57_update_features;
mod k60_describe_cluster;
mod k61_describe_producers;
mod k65_describe_transactions;
mod k66_list_transactions;
mod k68_consumer_group_heartbeat;
mod k69_consumer_group_describe;
mod k71_get_telemetry_subscriptions;
mod k72_push_telemetry;
mod k74_list_config_resources;
mod k75_describe_topic_partitions;

pub(crate) use k18_api_versions::unsupported_version;

pub use connection_info::ConnectionInfo;
pub use context::Context;
pub use failure::ApiFailure;
pub use mute::Mute;
pub use request::{Frame, PendingFrame, Refusal, Reply, Request};

use std::sync::Arc;

use log_core::wire::{ApiKey, ErrorCode};

use crate::partition::LEADER_EPOCH;

/// Declares which handler serves which API, see the module's documentation.
macro_rules! dispatch_table {
    ($($shape:ident $api:ident => $handler:ident;)*) => {
        /// The APIs that have a handler, which are those that ApiVersions advertises.
        pub const HANDLED: &[ApiKey] = &[$(ApiKey::$api,)*];

        /// Answers one request, or begins to. To be awaited before the connection's next request is dispatched.
        pub async fn dispatch(context: &Arc<Context>, request: Request) -> Reply {
            match request.api {
                $(ApiKey::$api => dispatch_table!(@ $shape $handler, context, request),)*
            }
        }
    };
    (@ now $handler:ident, $context:ident, $request:ident) => {
        match $request.decode() {
            Ok(message) => {
                let answer = $handler::handle($context, &$request, message).await;
                Reply::message(&$request, &answer)
            }
            Err(refusal) => Reply::Close(refusal),
        }
    };
    (@ later $handler:ident, $context:ident, $request:ident) => {
        match $request.decode() {
            Ok(message) => {
                let answer = $handler::handle($context, &$request, message);
                Reply::later(&$request, answer)
            }
            Err(refusal) => Reply::Close(refusal),
        }
    };
    (@ now_counted $handler:ident, $context:ident, $request:ident) => {
        match $request.decode() {
            Ok(message) => {
                let answer = $handler::handle($context, &$request, message).await;
                answered_errors::count($context, $request.api, &answer);
                Reply::message(&$request, &answer)
            }
            Err(refusal) => Reply::Close(refusal),
        }
    };
    (@ later_counted $handler:ident, $context:ident, $request:ident) => {
        match $request.decode() {
            Ok(message) => {
                let answer = $handler::handle($context, &$request, message);
                let (context, api) = ($context.clone(), $request.api);
                Reply::later(&$request, async move {
                    let answer = answer.await;
                    answered_errors::count(&context, api, &answer);
                    answer
                })
            }
            Err(refusal) => Reply::Close(refusal),
        }
    };
    (@ raw $handler:ident, $context:ident, $request:ident) => {
        $handler::handle($context, $request).await.unwrap_or_else(Reply::Close)
    };
}

dispatch_table! {
    raw Produce => k00_produce;
    raw Fetch => k01_fetch;
    later ListOffsets => k02_list_offsets;
    now_counted Metadata => k03_metadata;
    later_counted OffsetCommit => k08_offset_commit;
    later_counted OffsetFetch => k09_offset_fetch;
    now_counted FindCoordinator => k10_find_coordinator;
    later JoinGroup => k11_join_group;
    later_counted Heartbeat => k12_heartbeat;
    later_counted LeaveGroup => k13_leave_group;
    later_counted SyncGroup => k14_sync_group;
    now_counted DescribeGroups => k15_describe_groups;
    now ListGroups => k16_list_groups;
    now ApiVersions => k18_api_versions;
    now CreateTopics => k19_create_topics;
    now DeleteTopics => k20_delete_topics;
    now DeleteRecords => k21_delete_records;
    now InitProducerId => k22_init_producer_id;
    now OffsetForLeaderEpoch => k23_offset_for_leader_epoch;
    now AddPartitionsToTxn => k24_add_partitions_to_txn;
    now AddOffsetsToTxn => k25_add_offsets_to_txn;
    now EndTxn => k26_end_txn;
    later WriteTxnMarkers => k27_write_txn_markers;
    later TxnOffsetCommit => k28_txn_offset_commit;
    now DescribeAcls => k29_describe_acls;
    now CreateAcls => k30_create_acls;
    now DeleteAcls => k31_delete_acls;
    now DescribeConfigs => k32_describe_configs;
    now AlterConfigs => k33_alter_configs;
    now DescribeLogDirs => k35_describe_log_dirs;
    now CreatePartitions => k37_create_partitions;
    now_counted DeleteGroups => k42_delete_groups;
    now ElectLeaders => k43_elect_leaders;
    now IncrementalAlterConfigs => k44_incremental_alter_configs;
    now AlterPartitionReassignments => k45_alter_partition_reassignments;
    now ListPartitionReassignments => k46_list_partition_reassignments;
    now_counted OffsetDelete => k47_offset_delete;
    now DescribeClientQuotas => k48_describe_client_quotas;
    now AlterClientQuotas => k49_alter_client_quotas;
    now DescribeUserScramCredentials => k50_describe_user_scram_credentials;
    now DescribeQuorum => k55_describe_quorum;
    now UpdateFeatures => k57_update_features;
    now DescribeCluster => k60_describe_cluster;
    now DescribeProducers => k61_describe_producers;
    now DescribeTransactions => k65_describe_transactions;
    now ListTransactions => k66_list_transactions;
    later ConsumerGroupHeartbeat => k68_consumer_group_heartbeat;
    now_counted ConsumerGroupDescribe => k69_consumer_group_describe;
    now GetTelemetrySubscriptions => k71_get_telemetry_subscriptions;
    now PushTelemetry => k72_push_telemetry;
    now ListConfigResources => k74_list_config_resources;
    now_counted DescribeTopicPartitions => k75_describe_topic_partitions;
}

/// What is wrong with the leader epoch that a client believes in (KIP-320); -1 stands for none.
fn leader_epoch_error(epoch: i32) -> Option<ErrorCode> {
    match epoch {
        ..0 => None,
        _ if epoch < LEADER_EPOCH => Some(ErrorCode::FencedLeaderEpoch),
        _ if epoch > LEADER_EPOCH => Some(ErrorCode::UnknownLeaderEpoch),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advertised_is_what_is_handled() {
        assert_eq!(HANDLED, ApiKey::ALL, "by key, each once");
    }
}
