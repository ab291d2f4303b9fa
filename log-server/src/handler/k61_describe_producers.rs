//! DescribeProducers (61), version 0: the producers whose sequences a partition remembers (KIP-664).
//!
//! - Each with its epoch, the last sequence of its newest batch, and when it was last heard of; the epoch of the
//!   coordinator that ended its last transaction there, and where its open transaction began. -1 for what there is not.
//! - A partition that does not exist is UNKNOWN_TOPIC_OR_PARTITION.

use std::sync::Arc;

use log_core::log::ProducerState as Remembered;
use log_core::wire::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use log_core::wire::messages::{DescribeProducersRequest, DescribeProducersResponse};
use log_core::wire::{ErrorCode, message};

use super::{ApiFailure, Context, Request};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: DescribeProducersRequest,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(message.topics.len());
    for topic in message.topics {
        let partitions =
            topic.partition_indexes.iter().map(|&index| describe(context, request, &topic.name, index));
        let partitions = partitions.collect();
        topics.push(message!(TopicResponse { name: topic.name, partitions }));
    }
    message!(DescribeProducersResponse { topics })
}

fn describe(context: &Context, request: &Request, topic: &str, partition_index: i32) -> PartitionResponse {
    let mut response = message!(PartitionResponse { partition_index, error_message: None });
    match context.partitions.get(topic, partition_index) {
        Some(partition) => {
            response.active_producers =
                partition.log().producers().map(|(id, producer)| row(id, producer)).collect();
        }
        None => {
            let reason = format!("there is no partition {topic}-{partition_index}");
            let failure = ApiFailure::new(ErrorCode::UnknownTopicOrPartition, reason);
            failure.count(context, request);
            response.error_code = failure.code();
            response.error_message = failure.message();
        }
    }
    response
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
