//! DeleteRecords (21), versions 0 to 2: moves a partition's log start, so that what lies before it is gone.
//!
//! - Offset -1 stands for the high watermark. Beyond that is OFFSET_OUT_OF_RANGE; an offset below the log start
//!   changes nothing. The answer is the new log start, -1 with an error.
//! - The broker's own topics are INVALID_TOPIC_EXCEPTION: their records are the state of groups.
//! - The log start is durable before the answer, so this does not run on the runtime's threads.

use std::sync::Arc;

use log_core::log::DeleteRecordsError;
use log_core::wire::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use log_core::wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};
use log_core::wire::{ApiKey, ErrorCode, message};

use super::{Context, Request};
use crate::topic::name;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    _request: &Request,
    message: DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let shared = context.clone();
    let done = tokio::task::spawn_blocking(move || delete_all(&shared, message));
    match done.await {
        Ok(response) => response,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

fn delete_all(context: &Context, message: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let topics = message.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            let deleted = delete(context, &topic.name, partition.partition_index, partition.offset);
            if let Err(error) = deleted {
                context.metrics.error_answered(ApiKey::DeleteRecords, error.name());
            }
            message!(DeleteRecordsPartitionResult {
                partition_index: partition.partition_index,
                low_watermark: deleted.unwrap_or(-1),
                error_code: deleted.err().unwrap_or(ErrorCode::None).code(),
            })
        });
        let partitions = partitions.collect();
        message!(DeleteRecordsTopicResult { name: topic.name, partitions })
    });
    message!(DeleteRecordsResponse { topics: topics.collect() })
}

fn delete(context: &Context, topic: &str, index: i32, before: i64) -> Result<i64, ErrorCode> {
    if name::is_internal(topic) {
        return Err(ErrorCode::InvalidTopic);
    }
    let partition = context.partitions.get(topic, index).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let log_start = partition.log().delete_records(before).map_err(|error| match error {
        DeleteRecordsError::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        DeleteRecordsError::Unwritable(error) => {
            tracing::warn!(?partition, %error, "cannot delete records");
            ErrorCode::KafkaStorageError
        }
    })?;
    tracing::info!(?partition, log_start, "deleted records on request");
    Ok(log_start)
}
