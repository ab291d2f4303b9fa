//! AlterPartitionReassignments (45), versions 0 to 1: moves partitions to other brokers (KIP-455).
//!
//! - There is one broker, and it has every partition. Reassigning to it changes nothing and succeeds at once; a broker
//!   that does not exist, one that is listed twice, and an empty list are INVALID_REPLICA_ASSIGNMENT.
//! - Null replicas cancel a reassignment that is under way: NO_REASSIGNMENT_IN_PROGRESS, since none ever is.
//! - A partition that does not exist is UNKNOWN_TOPIC_OR_PARTITION.
//! - `allow_replication_factor_change` (version 1) makes no difference: there is one replica before and after.

use std::sync::Arc;

use log_core::wire::messages::alter_partition_reassignments_request::ReassignablePartition;
use log_core::wire::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use log_core::wire::messages::{AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse};
use log_core::wire::{ErrorCode, message};

use super::{ApiFailure, Context, Request};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let mut responses = Vec::with_capacity(message.topics.len());
    for topic in message.topics {
        let partitions = topic.partitions.iter().map(|wanted| {
            let mut response = message!(ReassignablePartitionResponse {
                partition_index: wanted.partition_index,
                error_message: None,
            });
            if let Err(failure) = reassign(context, &topic.name, wanted) {
                failure.count(context, request);
                response.error_code = failure.code();
                response.error_message = failure.message();
            }
            response
        });
        let partitions = partitions.collect();
        responses.push(message!(ReassignableTopicResponse { name: topic.name, partitions }));
    }
    let mut response = message!(AlterPartitionReassignmentsResponse { responses, error_message: None });
    if request.version() >= 1 {
        response.allow_replication_factor_change = message.allow_replication_factor_change;
    }
    response
}

fn reassign(context: &Context, topic: &str, wanted: &ReassignablePartition) -> Result<(), ApiFailure> {
    let index = wanted.partition_index;
    if context.partitions.get(topic, index).is_none() {
        let reason = format!("there is no partition {topic}-{index}");
        return Err(ApiFailure::new(ErrorCode::UnknownTopicOrPartition, reason));
    }
    let invalid = |reason: String| ApiFailure::new(ErrorCode::InvalidReplicaAssignment, reason);
    let node_id = context.config.node_id;
    match wanted.replicas.as_deref() {
        None => Err(ApiFailure::new(ErrorCode::NoReassignmentInProgress, "no partition is being reassigned")),
        Some([]) => Err(invalid("the assignment has no replica".to_owned())),
        Some(replicas) => match replicas.iter().find(|&&replica| replica != node_id) {
            Some(other) => Err(invalid(format!("there is no broker {other}, only broker {node_id}"))),
            None if replicas.len() > 1 => Err(invalid(format!("broker {node_id} is listed more than once"))),
            None => Ok(()),
        },
    }
}
