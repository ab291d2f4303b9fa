//! CreatePartitions (37), versions 0 to 3: more partitions for topics, `count` in all.
//!
//! - Not more than there are is INVALID_PARTITIONS; more than the broker is set to have, POLICY_VIOLATION.
//! - A manual assignment names this node for each new partition, or is INVALID_REPLICA_ASSIGNMENT.
//! - A name given twice is INVALID_REQUEST, each time. Otherwise every topic stands for itself.
//! - `validate_only` answers the same and changes nothing.

use std::collections::HashMap;
use std::sync::Arc;

use log_core::wire::messages::create_partitions_request::CreatePartitionsTopic;
use log_core::wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use log_core::wire::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::{ApiFailure, Context, Request};
use crate::topic::{GrowError, TopicError};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut times: HashMap<StrBytes, usize> = HashMap::new();
    for topic in &message.topics {
        *times.entry(topic.name.clone()).or_default() += 1;
    }
    let mut results = Vec::with_capacity(message.topics.len());
    for topic in message.topics {
        let grown = if times[&topic.name] > 1 {
            Err(ApiFailure::new(ErrorCode::InvalidRequest, "the topic is in this request more than once"))
        } else {
            grow(context, &topic, message.validate_only).await
        };
        results.push(match grown {
            Ok(()) => message!(CreatePartitionsTopicResult { name: topic.name }),
            Err(failure) => {
                failure.count(context, request);
                message!(CreatePartitionsTopicResult {
                    name: topic.name,
                    error_code: failure.code(),
                    error_message: failure.message(),
                })
            }
        });
    }
    message!(CreatePartitionsResponse { results })
}

async fn grow(
    context: &Context,
    topic: &CreatePartitionsTopic,
    validate_only: bool,
) -> Result<(), ApiFailure> {
    context.topics.check_grow(&topic.name, topic.count).map_err(failure)?;
    if let Some(assignments) = &topic.assignments {
        let have = context.catalog.get(&topic.name).map_or(0, |topic| topic.partitions);
        let (added, here) = (topic.count - have, [context.config.node_id]);
        if assignments.len() as i64 != i64::from(added)
            || assignments.iter().any(|assignment| assignment.broker_ids != here)
        {
            return Err(ApiFailure::new(
                ErrorCode::InvalidReplicaAssignment,
                format!(
                    "each of the {added} new partitions must be assigned to broker {}, the only one",
                    here[0]
                ),
            ));
        }
    }
    if validate_only {
        return Ok(());
    }
    context.topics.grow(&topic.name, topic.count).await.map_err(failure)
}

fn failure(error: GrowError) -> ApiFailure {
    let code = match &error {
        GrowError::NotMore { .. } => ErrorCode::InvalidPartitions,
        GrowError::TooManyPartitions { .. } => ErrorCode::PolicyViolation,
        GrowError::Topic(TopicError::Unknown(_)) => ErrorCode::UnknownTopicOrPartition,
        GrowError::Topic(TopicError::Internal(_)) => ErrorCode::InvalidRequest,
        GrowError::Topic(TopicError::Config(_)) => ErrorCode::InvalidConfig,
        GrowError::Topic(TopicError::Storage(_)) => ErrorCode::KafkaStorageError,
    };
    ApiFailure::new(code, error)
}
