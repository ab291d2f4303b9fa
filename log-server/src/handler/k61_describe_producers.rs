//! DescribeProducers (61), version 0: the producers whose sequences a partition remembers (KIP-664).
//!
//! - Each with its epoch, the last sequence of its newest batch, and when it was last heard of; the epoch of the
//!   coordinator that ended its last transaction there, and where its open transaction began. -1 for what there is not.
//! - A partition that does not exist is UNKNOWN_TOPIC_OR_PARTITION.
//! - One that is named again is answered once. An answer that has [`ROWS_MAX`] producers takes no further partition that
//!   has any: these are INVALID_REQUEST, to be asked about by themselves.

use std::collections::HashSet;
use std::sync::Arc;

use log_core::log::ProducerState as Remembered;
use log_core::wire::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use log_core::wire::messages::{DescribeProducersRequest, DescribeProducersResponse};
use log_core::wire::{ErrorCode, message};

use super::{ApiFailure, Context, Request};

/// Producers of all partitions from which on an answer takes no more, of 37 bytes each.
const ROWS_MAX: usize = 1 << 17;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(message.topics.len());
    let mut answered = HashSet::new();
    let mut room = ROWS_MAX;
    for topic in message.topics {
        let mut partitions = Vec::new();
        for index in topic.partition_indexes {
            if !answered.insert((topic.name.clone(), index)) {
                continue;
            }
            let mut response = message!(PartitionResponse { partition_index: index, error_message: None });
            match describe(context, &topic.name, index, room) {
                Ok(producers) => {
                    room = room.saturating_sub(producers.len());
                    response.active_producers = producers;
                }
                Err(failure) => {
                    failure.count(context, request);
                    response.error_code = failure.code();
                    response.error_message = failure.message();
                }
            }
            partitions.push(response);
        }
        topics.push(message!(TopicResponse { name: topic.name, partitions }));
    }
    message!(DescribeProducersResponse { topics })
}

/// The producers of one partition, in an answer that has room for so many.
fn describe(
    context: &Context,
    topic: &str,
    partition: i32,
    room: usize,
) -> Result<Vec<ProducerState>, ApiFailure> {
    let found = context.partitions.get(topic, partition).ok_or_else(|| {
        let reason = format!("there is no partition {topic}-{partition}");
        ApiFailure::new(ErrorCode::UnknownTopicOrPartition, reason)
    })?;
    let log = found.log();
    if room == 0 && log.producers().next().is_some() {
        let reason = "the answer is full; ask about fewer partitions at a time";
        return Err(ApiFailure::new(ErrorCode::InvalidRequest, reason));
    }
    Ok(log.producers().map(|(id, producer)| row(id, producer)).collect())
}

fn row(producer_id: i64, producer: &Remembered) -> ProducerState {
    message!(ProducerState {
        producer_id,
        producer_epoch: i32::from(producer.epoch()),
        last_sequence: producer.batches().last().map_or(-1, |batch| batch.last_sequence),
        last_timestamp: producer.last_timestamp(),
        coordinator_epoch: producer.coordinator_epoch().unwrap_or(-1),
        current_txn_start_offset: producer.transaction_start().unwrap_or(-1),
    })
}
