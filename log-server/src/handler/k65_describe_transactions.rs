//! DescribeTransactions (65), version 0: where transactional ids stand (KIP-664).
//!
//! - Each with its producer, state, timeout, the begin of its last transaction (-1 before the first), and the partitions
//!   that are yet to be ended.
//! - TRANSACTIONAL_ID_NOT_FOUND for one that is unknown or was not used for too long; INVALID_REQUEST for an empty one.

use std::sync::Arc;

use log_core::wire::messages::describe_transactions_response::{TopicData, TransactionState};
use log_core::wire::messages::{DescribeTransactionsRequest, DescribeTransactionsResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::transaction_errors::told;
use super::{Context, Request};
use crate::coordinator::transaction::TransactionDescription;

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let mut transaction_states = Vec::with_capacity(message.transactional_ids.len());
    for transactional_id in message.transactional_ids {
        transaction_states.push(match describe(context, &transactional_id).await {
            Ok(description) => row(transactional_id, description),
            Err(error) => {
                let error_code = told(context, request, error).code();
                message!(TransactionState { transactional_id, error_code })
            }
        });
    }
    message!(DescribeTransactionsResponse { transaction_states })
}

async fn describe(context: &Context, transactional_id: &str) -> Result<TransactionDescription, ErrorCode> {
    if transactional_id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    let name: Arc<str> = transactional_id.into();
    let asked = context.transactions.query(transactional_id, move |machine| machine.describe(&name));
    asked.await?.ok_or(ErrorCode::TransactionalIdNotFound)
}

fn row(transactional_id: StrBytes, description: TransactionDescription) -> TransactionState {
    let topics = description.partitions.into_iter().map(|(topic, indexes)| {
        message!(TopicData { topic: StrBytes::from(&*topic), partitions: indexes.into_iter().collect() })
    });
    message!(TransactionState {
        transactional_id,
        transaction_state: StrBytes::from(description.state.name()),
        transaction_timeout_ms: description.timeout_ms,
        transaction_start_time_ms: description.started_at_ms.unwrap_or(-1),
        producer_id: description.producer.id,
        producer_epoch: description.producer.epoch,
        topics: topics.collect(),
    })
}
