//! AddPartitionsToTxn (24), versions 0 to 5: which partitions a transaction is about to write to.
//!
//! - Up to v3 a client adds to one transaction. From v4 on brokers ask each other about many at once (KIP-890), and may
//!   only verify: a partition that is not in the open transaction is then TRANSACTION_ABORTABLE. Here the leader and the
//!   coordinator are one process, and nobody has to ask.
//! - All partitions of a transaction are added or none: if one does not exist (UNKNOWN_TOPIC_OR_PARTITION) or is the
//!   broker's own and not only verified (TOPIC_AUTHORIZATION_FAILED), the others are OPERATION_NOT_ATTEMPTED.
//! - CONCURRENT_TRANSACTIONS while the last transaction is being ended: clients ask again.
//! - A fenced producer is PRODUCER_FENCED, up to v1 INVALID_PRODUCER_EPOCH (KIP-588); one that has not the
//!   transactional id, INVALID_PRODUCER_ID_MAPPING.

use std::sync::Arc;

use log_core::wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use log_core::wire::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use log_core::wire::messages::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse};
use log_core::wire::{ErrorCode, StrBytes, message};

use super::transaction_errors::told;
use super::{Context, Request};
use crate::coordinator::transaction::{Producer, Protocol, TopicPartition};
use crate::topic::name;

/// The first version that brokers ask each other with.
const BATCHED_SINCE: i16 = 4;

/// What one transaction is asked for.
struct Asked {
    transactional_id: StrBytes,
    producer: Producer,
    verify_only: bool,
    topics: Vec<AddPartitionsToTxnTopic>,
}

/// Answers one request.
pub async fn handle(
    context: &Arc<Context>,
    request: &Request,
    message: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    if request.version() < BATCHED_SINCE {
        let asked = Asked {
            transactional_id: message.v3_and_below_transactional_id,
            producer: Producer {
                id: message.v3_and_below_producer_id,
                epoch: message.v3_and_below_producer_epoch,
            },
            verify_only: false,
            topics: message.v3_and_below_topics,
        };
        let results = add(context, request, asked).await;
        return message!(AddPartitionsToTxnResponse { results_by_topic_v3_and_below: results });
    }
    let mut results = Vec::with_capacity(message.transactions.len());
    for transaction in message.transactions {
        let transactional_id = transaction.transactional_id.clone();
        let asked = Asked {
            transactional_id: transaction.transactional_id,
            producer: Producer { id: transaction.producer_id, epoch: transaction.producer_epoch },
            verify_only: transaction.verify_only,
            topics: transaction.topics,
        };
        let topic_results = add(context, request, asked).await;
        results.push(message!(AddPartitionsToTxnResult { transactional_id, topic_results }));
    }
    message!(AddPartitionsToTxnResponse { results_by_transaction: results })
}

async fn add(context: &Context, request: &Request, asked: Asked) -> Vec<AddPartitionsToTxnTopicResult> {
    let partitions: Vec<TopicPartition> = (asked.topics.iter())
        .flat_map(|topic| {
            let name: Arc<str> = Arc::from(&*topic.name);
            topic.partitions.iter().map(move |&partition| TopicPartition { topic: name.clone(), partition })
        })
        .collect();
    let outcomes = match unusable(context, request, &asked, &partitions) {
        Some(outcomes) => outcomes,
        None => outcomes(context, request, &asked, partitions).await,
    };
    let mut outcomes = outcomes.into_iter();
    let results = asked.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().zip(&mut outcomes).map(|(&partition_index, outcome)| {
            let partition_error_code = outcome.code();
            message!(AddPartitionsToTxnPartitionResult { partition_index, partition_error_code })
        });
        let results_by_partition = partitions.collect();
        message!(AddPartitionsToTxnTopicResult { name: topic.name, results_by_partition })
    });
    results.collect()
}

/// What each partition is answered if not all of them can be written to.
fn unusable(
    context: &Context,
    request: &Request,
    asked: &Asked,
    partitions: &[TopicPartition],
) -> Option<Vec<ErrorCode>> {
    let unusable = |it: &TopicPartition| {
        // That of a group's offsets comes by AddOffsetsToTxn, or with the offsets.
        if !asked.verify_only && name::is_internal(&it.topic) {
            return Some(ErrorCode::TopicAuthorizationFailed);
        }
        let is_there = context.partitions.get(&it.topic, it.partition).is_some();
        (!is_there).then_some(ErrorCode::UnknownTopicOrPartition)
    };
    let unusable: Vec<_> = partitions.iter().map(unusable).collect();
    if unusable.iter().all(Option::is_none) {
        return None;
    }
    let outcome = |error: Option<ErrorCode>| match error {
        Some(error) => told(context, request, error),
        None => ErrorCode::OperationNotAttempted,
    };
    Some(unusable.into_iter().map(outcome).collect())
}

/// What the coordinator answers for each partition.
async fn outcomes(
    context: &Context,
    request: &Request,
    asked: &Asked,
    partitions: Vec<TopicPartition>,
) -> Vec<ErrorCode> {
    let count = partitions.len();
    let transactions = &context.transactions;
    let answered = match asked.verify_only {
        true => {
            let verified = transactions.verify(&asked.transactional_id, asked.producer, partitions).await;
            verified.map(|verified| {
                let outcome = |is_in| if is_in { ErrorCode::None } else { ErrorCode::TransactionAbortable };
                verified.into_iter().map(outcome).collect()
            })
        }
        false => {
            let added = transactions
                .add_partitions(&asked.transactional_id, asked.producer, partitions, Protocol::V1)
                .await;
            added.map(|()| vec![ErrorCode::None; count])
        }
    };
    answered.unwrap_or_else(|refused| vec![told(context, request, refused); count])
}
