//! DescribeLogDirs (35), versions 1 to 5: the data directory and the size of each partition in it.
//!
//! - No topics (null) asks for all. Partitions that are not here are left out, as in Kafka.
//! - An offline directory carries KAFKA_STORAGE_ERROR, with the partitions all the same.
//! - Size and free bytes of the volume (version 4 and later, KIP-827); -1 where the system does not say.
//! - There is one replica per partition: no lag, no future log.

use std::collections::BTreeMap;
use std::sync::Arc;

use log_core::wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use log_core::wire::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use log_core::wire::{ErrorCode, message};

use super::{Context, Request};
use crate::housekeeping::total_bytes;
use crate::partition::Partition;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    _request: &Request,
    message: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let partitions = match message.topics {
        None => context.partitions.all(),
        Some(topics) => topics
            .iter()
            .flat_map(|topic| topic.partitions.iter().map(|&index| (topic.topic.as_str(), index)))
            .filter_map(|(topic, index)| context.partitions.get(topic, index))
            .collect(),
    };
    let mut by_topic: BTreeMap<Arc<str>, BTreeMap<i32, u64>> = BTreeMap::new();
    for partition in partitions {
        by_topic
            .entry(partition.topic().clone())
            .or_default()
            .insert(partition.index(), size_bytes(&partition));
    }
    let topics = by_topic.into_iter().map(|(name, sizes)| {
        let partitions = sizes.into_iter().map(|(index, size)| {
            message!(DescribeLogDirsPartition {
                partition_index: index,
                partition_size: i64::try_from(size).unwrap_or(i64::MAX),
                offset_lag: 0,
            })
        });
        message!(DescribeLogDirsTopic { name: (&*name).into(), partitions: partitions.collect() })
    });
    let health = context.log_dir.health();
    let error = if health.is_offline() { ErrorCode::KafkaStorageError } else { ErrorCode::None };
    let bytes =
        |bytes: std::io::Result<u64>| bytes.ok().and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1);
    let directory = message!(DescribeLogDirsResult {
        error_code: error.code(),
        log_dir: log_dir_name(context).as_str().into(),
        topics: topics.collect(),
        total_bytes: bytes(total_bytes(&context.config.data_dir)),
        usable_bytes: bytes(context.log_dir.storage().free_bytes()),
    });
    message!(DescribeLogDirsResponse { results: vec![directory] })
}

fn size_bytes(partition: &Partition) -> u64 {
    partition.log().size_bytes()
}

/// The directory as an absolute path, by which an operator finds it whatever the broker was started in.
fn log_dir_name(context: &Context) -> String {
    let dir = &context.config.data_dir;
    std::path::absolute(dir).unwrap_or_else(|_| dir.clone()).display().to_string()
}
