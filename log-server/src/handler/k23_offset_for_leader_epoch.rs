//! OffsetForLeaderEpoch (23), versions 2 to 4: where a leader epoch ended, by which a consumer notices that records
//! it has read are no longer there (KIP-320).
//!
//! - The answer is the largest epoch at or below the one asked for, and the offset where the next epoch began; for
//!   the newest epoch, the log end.
//! - Nothing known: epoch -1, offset -1, without an error.
//! - The epoch that the consumer believes to be current is checked as in Fetch.

use std::sync::Arc;

use log_core::wire::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use log_core::wire::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use log_core::wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};
use log_core::wire::{ErrorCode, message};

use super::{Context, Request, leader_epoch_error};
use crate::partition::LEADER_EPOCH;

const NONE: (i32, i64) = (-1, -1);

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(message.topics.len());
    for topic in message.topics {
        let partitions = topic.partitions.iter().map(|wanted| {
            let found = find(context, &topic.topic, wanted);
            if let Err(error) = found {
                context.metrics.error_answered(request.api, error.name());
            }
            let (leader_epoch, end_offset) = found.unwrap_or(NONE);
            let error_code = found.err().unwrap_or(ErrorCode::None).code();
            message!(EpochEndOffset { error_code, partition: wanted.partition, leader_epoch, end_offset })
        });
        let partitions = partitions.collect();
        topics.push(message!(OffsetForLeaderTopicResult { topic: topic.topic, partitions }));
    }
    message!(OffsetForLeaderEpochResponse { topics })
}

fn find(context: &Context, topic: &str, wanted: &OffsetForLeaderPartition) -> Result<(i32, i64), ErrorCode> {
    let partition =
        context.partitions.get(topic, wanted.partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    if let Some(error) = leader_epoch_error(wanted.current_leader_epoch) {
        return Err(error);
    }
    let reader = partition.reader();
    // An epoch enters the log's own history with its first record; until then an empty log is its history.
    Ok(match reader.epoch_end_offset(wanted.leader_epoch) {
        Some(found) => found,
        None if wanted.leader_epoch == LEADER_EPOCH => (LEADER_EPOCH, reader.watermarks().log_end()),
        None => NONE,
    })
}
