//! OffsetDelete (47), version 0: a group forgets how far it has read in some partitions (KIP-496).
//!
//! - GROUP_ID_NOT_FOUND; NON_EMPTY_GROUP for a group with members that are not consumers; GROUP_SUBSCRIBED_TO_TOPIC for
//!   partitions of topics that members read; UNKNOWN_TOPIC_OR_PARTITION for partitions that are not there. An offset
//!   that was not there is no error.

use std::sync::Arc;

use log_core::wire::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use log_core::wire::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use log_core::wire::{ErrorCode, message};

use super::group_errors::code_of;
use super::group_requests::own;
use super::{Context, Request};
use crate::coordinator::group::{Command, DeleteOffsets, Reply};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    _request: &Request,
    message: OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let mut partitions = Vec::new();
    let topics = message.topics.into_iter().map(|topic| {
        let found = context.catalog.get(&topic.name);
        let rows = topic.partitions.into_iter().map(|wanted| {
            let index = wanted.partition_index;
            let error = match &found {
                Some(found) if (0..found.partitions).contains(&index) => {
                    partitions.push((found.name.clone(), index));
                    ErrorCode::None
                }
                _ => ErrorCode::UnknownTopicOrPartition,
            };
            message!(OffsetDeleteResponsePartition { partition_index: index, error_code: error.code() })
        });
        let rows = rows.collect();
        message!(OffsetDeleteResponseTopic { name: topic.name, partitions: rows })
    });
    let mut response = message!(OffsetDeleteResponse { topics: topics.collect() });
    let delete = DeleteOffsets { group_id: own(&message.group_id), partitions };
    let outcomes = match context.groups.submit(&message.group_id, Command::DeleteOffsets(delete)).await {
        Ok(Reply::DeleteOffsets(Ok(outcomes))) => outcomes,
        Ok(Reply::DeleteOffsets(Err(error))) => return refused(error.into()),
        Ok(_) => return refused(ErrorCode::UnknownServerError),
        Err(error) => return refused(error.into()),
    };
    let asked = (response.topics.iter_mut())
        .flat_map(|topic| &mut topic.partitions)
        .filter(|partition| partition.error_code == 0);
    for (partition, outcome) in asked.zip(outcomes) {
        partition.error_code = code_of(outcome);
    }
    response
}

fn refused(error: ErrorCode) -> OffsetDeleteResponse {
    message!(OffsetDeleteResponse { error_code: error.code() })
}
