//! DescribeTopicPartitions (75), version 0: topics with their partitions, a page at a time (KIP-966).
//!
//! - No names asks for all topics. Topics come by name, partitions by index, and the cursor says where the next page
//!   begins: at the first partition that did not fit.
//! - A page holds as many partitions as were asked for, at most [`PARTITIONS_MAX`], at least one.
//! - The replica lists are empty arrays rather than null, on which the Java client 4.3 fails.
//! - An unknown name is UNKNOWN_TOPIC_OR_PARTITION, one that breaks the rule INVALID_TOPIC_EXCEPTION; a name that the
//!   cursor has passed is left out.

use std::collections::BTreeSet;
use std::sync::Arc;

use log_core::wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use log_core::wire::messages::{DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse};
use log_core::wire::{ErrorCode, message};

use super::{Context, Request};
use crate::partition::LEADER_EPOCH;
use crate::topic::{Topic, name};

/// Partitions in one answer; Kafka's default for max.request.partition.size.limit.
const PARTITIONS_MAX: i32 = 2000;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    _request: &Request,
    message: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let all = context.catalog.topics();
    let wanted: BTreeSet<&str> = if message.topics.is_empty() {
        all.iter().map(|topic| &*topic.name).collect()
    } else {
        message.topics.iter().map(|topic| topic.name.as_str()).collect()
    };
    let (first_name, first_index) = message
        .cursor
        .as_ref()
        .map_or(("", 0), |cursor| (cursor.topic_name.as_str(), cursor.partition_index));
    let mut room = message.response_partition_limit.clamp(1, PARTITIONS_MAX);
    let mut topics = Vec::new();
    let mut next_cursor = None;
    for name in wanted.into_iter().filter(|name| *name >= first_name) {
        if room == 0 {
            next_cursor = Some(message!(Cursor { topic_name: name.into(), partition_index: 0 }));
            break;
        }
        let Some(topic) = all.get(name) else {
            topics.push(missing(name));
            continue;
        };
        let first = if name == first_name { first_index.clamp(0, topic.partitions) } else { 0 };
        let end = topic.partitions.min(first.saturating_add(room));
        room -= end - first;
        topics.push(found(context, topic, first..end));
        if end < topic.partitions {
            next_cursor = Some(message!(Cursor { topic_name: name.into(), partition_index: end }));
            break;
        }
    }
    message!(DescribeTopicPartitionsResponse { topics, next_cursor })
}

fn found(
    context: &Context,
    topic: &Topic,
    indexes: std::ops::Range<i32>,
) -> DescribeTopicPartitionsResponseTopic {
    let node = context.config.node_id;
    let partition = |index| {
        message!(DescribeTopicPartitionsResponsePartition {
            partition_index: index,
            leader_id: node,
            leader_epoch: LEADER_EPOCH,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
        })
    };
    message!(DescribeTopicPartitionsResponseTopic {
        name: Some((&*topic.name).into()),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: indexes.map(partition).collect(),
    })
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let error = match name::check(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(_) => ErrorCode::InvalidTopic,
    };
    message!(DescribeTopicPartitionsResponseTopic { error_code: error.code(), name: Some(name.into()) })
}
