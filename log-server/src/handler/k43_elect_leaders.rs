//! ElectLeaders (43), versions 0 to 2: elects leaders of partitions (KIP-460).
//!
//! - Every partition has one replica, which leads it: an election, preferred (0) or unclean (1), is ELECTION_NOT_NEEDED.
//! - Null asks for all partitions, and leaves out of the answer those that need no election: all of them.
//! - A partition that does not exist is UNKNOWN_TOPIC_OR_PARTITION.
//! - Another type of election is INVALID_REQUEST for the whole request; version 0 has no type and means preferred.

use std::sync::Arc;

use log_core::wire::messages::elect_leaders_request::TopicPartitions;
use log_core::wire::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use log_core::wire::messages::{ElectLeadersRequest, ElectLeadersResponse};
use log_core::wire::{ErrorCode, message};

use super::{ApiFailure, Context, Request};

/// Preferred and unclean.
const ELECTION_TYPES: std::ops::RangeInclusive<i8> = 0..=1;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: ElectLeadersRequest,
) -> ElectLeadersResponse {
    if !ELECTION_TYPES.contains(&message.election_type) {
        context.metrics.error_answered(request.api, ErrorCode::InvalidRequest.name());
        return message!(ElectLeadersResponse { error_code: ErrorCode::InvalidRequest.code() });
    }
    let results = message.topic_partitions.unwrap_or_default().into_iter();
    let results = results.map(|topic| elect(context, request, topic));
    message!(ElectLeadersResponse { replica_election_results: results.collect() })
}

fn elect(context: &Context, request: &Request, topic: TopicPartitions) -> ReplicaElectionResult {
    let results = topic.partitions.iter().map(|&partition_id| {
        let failure = match context.partitions.get(&topic.topic, partition_id) {
            Some(_) => ApiFailure::new(
                ErrorCode::ElectionNotNeeded,
                "Leader election not needed for topic partition.",
            ),
            None => ApiFailure::new(
                ErrorCode::UnknownTopicOrPartition,
                format!("there is no partition {}-{partition_id}", topic.topic),
            ),
        };
        failure.count(context, request);
        message!(PartitionResult {
            partition_id,
            error_code: failure.code(),
            error_message: failure.message()
        })
    });
    let partition_result = results.collect();
    message!(ReplicaElectionResult { topic: topic.topic, partition_result })
}
