//! WriteTxnMarkers (27), versions 1 and 2: ends transactions in the partitions that it names.
//!
//! - This broker's coordinator needs no request for that; whoever sends one is an operator with a transaction that
//!   hangs (`kafka-transactions.sh abort`, KIP-664), which he knows from DescribeProducers.
//! - In a partition with records a control batch is appended, in one of `__consumer_offsets` pending offsets are
//!   committed or dropped; answered once that is durable. To end what has ended is no error.
//! - A producer epoch older than the partition's is INVALID_PRODUCER_EPOCH, a coordinator epoch older than that of the
//!   last end TRANSACTION_COORDINATOR_FENCED (one above this broker's fences no end of its own), a partition that does not exist UNKNOWN_TOPIC_OR_PARTITION.
//! - `transaction_version` (version 2, KIP-1228): from 2 on the producer's epoch has risen with the end of the
//!   transaction, so one that is not above the epoch of the transaction that is open is INVALID_PRODUCER_EPOCH.

use std::future::Future;
use std::sync::Arc;

use log_core::log::AppendError;
use log_core::record::{EndOfTransaction, Marker};
use log_core::wire::messages::write_txn_markers_request::WritableTxnMarker;
use log_core::wire::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use log_core::wire::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};
use log_core::wire::{ApiKey, ErrorCode, message};

use super::k00_produce::sequence_error;
use super::{Context, Request};
use crate::clock::now_ms;
use crate::coordinator::group::Outcome;
use crate::runtime::NotCompleted;
use crate::topic::name::CONSUMER_OFFSETS;

/// The first version of the protocol in which the end of a transaction bumps its producer's epoch.
const EPOCH_BUMPED_SINCE: i8 = 2;

/// Answers one request.
pub fn handle(
    context: &Arc<Context>,
    _request: &Request,
    message: WriteTxnMarkersRequest,
) -> impl Future<Output = WriteTxnMarkersResponse> + Send + use<> {
    let context = context.clone();
    async move {
        let mut markers = Vec::with_capacity(message.markers.len());
        for marker in message.markers {
            let mut topics = Vec::with_capacity(marker.topics.len());
            for topic in &marker.topics {
                let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
                for &partition_index in &topic.partition_indexes {
                    let ended = end(&context, &marker, &topic.name, partition_index).await;
                    if let Err(error) = ended {
                        context.metrics.error_answered(ApiKey::WriteTxnMarkers, error.name());
                    }
                    partitions.push(message!(WritableTxnMarkerPartitionResult {
                        partition_index,
                        error_code: ended.err().unwrap_or(ErrorCode::None).code(),
                    }));
                }
                topics.push(message!(WritableTxnMarkerTopicResult { name: topic.name.clone(), partitions }));
            }
            markers.push(message!(WritableTxnMarkerResult { producer_id: marker.producer_id, topics }));
        }
        message!(WriteTxnMarkersResponse { markers })
    }
}

/// Ends one transaction in one partition.
async fn end(
    context: &Context,
    marker: &WritableTxnMarker,
    topic: &str,
    partition: i32,
) -> Result<(), ErrorCode> {
    let (producer_id, epoch) = (marker.producer_id, marker.producer_epoch);
    if producer_id < 0 || epoch < 0 {
        return Err(ErrorCode::InvalidProducerEpoch);
    }
    if topic == CONSUMER_OFFSETS {
        let outcome = if marker.transaction_result { Outcome::Commit } else { Outcome::Abort };
        let done = context.groups.complete_transaction(partition, producer_id, epoch, outcome).await;
        return done.map_err(|error| match error {
            NotCompleted::Fenced => ErrorCode::InvalidProducerEpoch,
            NotCompleted::Unavailable(_) => ErrorCode::NotLeaderOrFollower,
        });
    }
    let partition = context.partitions.get(topic, partition).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let end = EndOfTransaction {
        marker: if marker.transaction_result { Marker::Commit } else { Marker::Abort },
        coordinator_epoch: marker.coordinator_epoch,
    };
    if marker.transaction_version >= EPOCH_BUMPED_SINCE && partition.is_in_transaction(producer_id, epoch) {
        return Err(ErrorCode::InvalidProducerEpoch);
    }
    let appended = partition.append_marker(producer_id, epoch, end, now_ms()).map_err(|error| {
        tracing::warn!(?partition, producer_id, epoch, %error, "cannot end a transaction");
        match error {
            AppendError::Sequence { error, .. } => sequence_error(&error),
            AppendError::Closed => ErrorCode::NotLeaderOrFollower,
            _ => ErrorCode::KafkaStorageError,
        }
    })?;
    partition.wait_durable(appended.last_offset + 1).await.map_err(|_| ErrorCode::KafkaStorageError)
}
