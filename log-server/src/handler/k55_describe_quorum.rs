//! DescribeQuorum (55), versions 0 to 2: who votes on the cluster's metadata (KIP-595, KIP-836, KIP-853).
//!
//! - This node alone does: it is the leader, the only voter, and never behind.
//! - The metadata is no log here but a file that is replaced (`catalog.json`), so there are no offsets to tell:
//!   the high watermark and the log end are 0, and the leader epoch is 0.
//! - Partition 0 of `__cluster_metadata` is all that can be asked for; the rest is UNKNOWN_TOPIC_OR_PARTITION.
//! - Times (version 1 and later) are the broker's clock: the leader has caught up with itself now. Directory ids and
//!   the node's listeners come with version 2.

use std::sync::Arc;

use log_core::wire::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use log_core::wire::messages::{DescribeQuorumRequest, DescribeQuorumResponse};
use log_core::wire::{ErrorCode, message};

use super::{ApiFailure, Context, Request};
use crate::clock::now_ms;
use crate::partition::LEADER_EPOCH;

/// The topic that Kafka keeps the cluster's metadata in.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: DescribeQuorumRequest,
) -> DescribeQuorumResponse {
    let mut topics = Vec::with_capacity(message.topics.len());
    for topic in message.topics {
        let partitions = topic.partitions.iter().map(|partition| match partition.partition_index {
            0 if topic.topic_name.as_str() == METADATA_TOPIC => quorum(context, request.version()),
            index => unknown(context, request, index),
        });
        let partitions = partitions.collect();
        topics.push(message!(TopicData { topic_name: topic.topic_name, partitions }));
    }
    let mut response = message!(DescribeQuorumResponse { topics });
    if request.version() >= 2 {
        let listener = message!(Listener {
            name: "PLAINTEXT".into(),
            host: context.advertised_host.as_str().into(),
            port: context.advertised_port,
        });
        response.nodes = vec![message!(Node { node_id: context.config.node_id, listeners: vec![listener] })];
    }
    response
}

fn quorum(context: &Context, version: i16) -> PartitionData {
    let mut voter = message!(ReplicaState { replica_id: context.config.node_id, log_end_offset: 0 });
    if version >= 1 {
        let now_ms = now_ms();
        voter.last_fetch_timestamp = now_ms;
        voter.last_caught_up_timestamp = now_ms;
    }
    message!(PartitionData {
        leader_id: context.config.node_id,
        leader_epoch: LEADER_EPOCH,
        high_watermark: 0,
        current_voters: vec![voter],
    })
}

fn unknown(context: &Context, request: &Request, partition_index: i32) -> PartitionData {
    let failure = ApiFailure::new(
        ErrorCode::UnknownTopicOrPartition,
        format!("only partition 0 of {METADATA_TOPIC} has a quorum"),
    );
    failure.count(context, request);
    let mut data = message!(PartitionData { partition_index, error_code: failure.code() });
    if request.version() >= 2 {
        data.error_message = failure.message();
    }
    data
}
