//! ListOffsets (2), versions 1 to 11: offsets by timestamp, or by what a special value stands for.
//!
//! | timestamp | since | answer |
//! |---|---|---|
//! | 0 and above | 1 | the first record with that timestamp or a later one; none: offset -1, timestamp -1, no error |
//! | -1 | 1 | the high watermark, or the last stable offset for read_committed |
//! | -2 | 1 | the log start |
//! | -3 | 7 | the record with the largest timestamp (KIP-734) |
//! | -4 | 8 | the start of what is stored locally (KIP-405): all of it, so the log start |
//! | -5 | 9 | the end of what is tiered (KIP-1005): nothing is, so -1 |
//! | -6 | 11 | the first offset that still has to be tiered (KIP-1023): nothing will be, so -1 |
//!
//! A special value below its version, or an unknown one, is UNSUPPORTED_VERSION for its partition. The leader epoch
//! (version 4 and later) is checked as in Fetch.

use std::sync::Arc;

use log_core::log::{Isolation, ReadError};
use log_core::wire::fetch::IsolationLevel;
use log_core::wire::messages::list_offsets_request::ListOffsetsPartition;
use log_core::wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use log_core::wire::messages::{ListOffsetsRequest, ListOffsetsResponse};
use log_core::wire::{ApiKey, ErrorCode, message};

use super::{Context, Request, leader_epoch_error};
use crate::partition::{LEADER_EPOCH, Partition};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// What is answered where there is no such offset or timestamp.
const NONE: i64 = -1;

/// Answers one request. What has to be looked for in the log is looked for on a blocking thread.
pub fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: ListOffsetsRequest,
) -> impl Future<Output = ListOffsetsResponse> + Send + 'static {
    let (context, version) = (context.clone(), request.version());
    let mut wanted = message.topics.iter().flat_map(|topic| &topic.partitions);
    let answered = match wanted.any(|wanted| is_searched(wanted.timestamp)) {
        true => Err(message),
        false => Ok(answer(&context, version, message)),
    };
    async move {
        match answered {
            Ok(answer) => answer,
            Err(message) => {
                let on_thread = context.clone();
                context.cold_reads.run(move || answer(&on_thread, version, message)).await
            }
        }
    }
}

/// Whether an answer is not known without looking into the log.
fn is_searched(timestamp: i64) -> bool {
    timestamp >= 0 || timestamp == MAX_TIMESTAMP
}

fn answer(context: &Context, version: i16, message: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = match IsolationLevel::from_code(message.isolation_level) {
        Some(IsolationLevel::ReadUncommitted) => Ok(Isolation::Uncommitted),
        Some(IsolationLevel::ReadCommitted) => Ok(Isolation::Committed),
        None => Err(ErrorCode::InvalidRequest),
    };
    let mut topics = Vec::with_capacity(message.topics.len());
    for topic in message.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let found = isolation.and_then(|isolation| {
                let partition = context
                    .partitions
                    .get(&topic.name, wanted.partition_index)
                    .ok_or(ErrorCode::UnknownTopicOrPartition)?;
                find(&partition, &wanted, isolation, version)
            });
            partitions.push(match found {
                Ok(found) => message!(ListOffsetsPartitionResponse {
                    partition_index: wanted.partition_index,
                    timestamp: found.timestamp,
                    offset: found.offset,
                    leader_epoch: if version >= 4 { found.leader_epoch } else { -1 },
                }),
                Err(error) => {
                    context.metrics.error_answered(ApiKey::ListOffsets, error.name());
                    message!(ListOffsetsPartitionResponse {
                        partition_index: wanted.partition_index,
                        error_code: error.code(),
                        timestamp: NONE,
                        offset: NONE,
                    })
                }
            });
        }
        topics.push(message!(ListOffsetsTopicResponse { name: topic.name, partitions }));
    }
    message!(ListOffsetsResponse { topics })
}

struct Found {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

impl Found {
    const NOTHING: Found = Found { offset: NONE, timestamp: NONE, leader_epoch: -1 };

    fn offset(offset: i64) -> Found {
        Found { offset, timestamp: NONE, leader_epoch: LEADER_EPOCH }
    }
}

fn find(
    partition: &Partition,
    wanted: &ListOffsetsPartition,
    isolation: Isolation,
    version: i16,
) -> Result<Found, ErrorCode> {
    if let Some(error) = leader_epoch_error(wanted.current_leader_epoch) {
        return Err(error);
    }
    let reader = partition.reader();
    let watermarks = reader.watermarks();
    let record = match wanted.timestamp {
        LATEST if isolation == Isolation::Committed => return Ok(Found::offset(watermarks.last_stable())),
        LATEST => return Ok(Found::offset(watermarks.high_watermark())),
        EARLIEST => return Ok(Found::offset(watermarks.log_start())),
        EARLIEST_LOCAL if version >= 8 => return Ok(Found::offset(watermarks.log_start())),
        LATEST_TIERED if version >= 9 => return Ok(Found::NOTHING),
        EARLIEST_PENDING_UPLOAD if version >= 11 => return Ok(Found::NOTHING),
        MAX_TIMESTAMP if version >= 7 => reader.max_timestamp(isolation),
        timestamp if timestamp >= 0 => reader.offset_for_timestamp(timestamp, isolation),
        _ => return Err(ErrorCode::UnsupportedVersion),
    };
    match record {
        Ok(Some(record)) => {
            Ok(Found { offset: record.offset, timestamp: record.timestamp, leader_epoch: LEADER_EPOCH })
        }
        Ok(None) => Ok(Found::NOTHING),
        Err(error) => {
            tracing::warn!(?partition, %error, "cannot look a timestamp up");
            Err(match error {
                ReadError::OutOfRange { .. } => ErrorCode::OffsetNotAvailable,
                ReadError::Closed => ErrorCode::NotLeaderOrFollower,
                ReadError::Corrupt(_) => ErrorCode::CorruptMessage,
                ReadError::Cold | ReadError::Storage(_) => ErrorCode::KafkaStorageError,
            })
        }
    }
}
