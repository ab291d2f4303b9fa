//! AddOffsetsToTxn (25), versions 0 to 4: a transaction is going to commit offsets of a group.
//!
//! - Takes the partition of `__consumer_offsets` that the group belongs to into the transaction (KIP-98). Producers of
//!   the second protocol leave this out: TxnOffsetCommit adds the partition for them (KIP-890).
//! - Answered once that is on disk.
//! - INVALID_GROUP_ID without a group; the rest is what the coordinator of transactions says. A fenced producer is
//!   PRODUCER_FENCED, up to v1 INVALID_PRODUCER_EPOCH (KIP-588).

use std::sync::Arc;

use log_core::wire::messages::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse};
use log_core::wire::{ErrorCode, message};

use super::transaction_errors::told;
use super::{Context, Request};
use crate::coordinator::transaction::{Producer, Protocol};

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: AddOffsetsToTxnRequest,
) -> AddOffsetsToTxnResponse {
    let error = match add(context, &message).await {
        Ok(()) => ErrorCode::None,
        Err(error) => told(context, request, error),
    };
    message!(AddOffsetsToTxnResponse { error_code: error.code() })
}

async fn add(context: &Context, message: &AddOffsetsToTxnRequest) -> Result<(), ErrorCode> {
    if message.group_id.is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let partitions = vec![context.groups.offsets_partition(&message.group_id).await?];
    let producer = Producer { id: message.producer_id, epoch: message.producer_epoch };
    let transactions = &context.transactions;
    Ok(transactions.add_partitions(&message.transactional_id, producer, partitions, Protocol::V1).await?)
}
