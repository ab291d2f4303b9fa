//! Asks the coordinator of transactions about the batches of a Produce request, before any of them is appended: a batch
//! that is part of no open transaction would hold the partition's last stable offset back for good (KIP-890).
//!
//! - The first batch of a transaction in a partition. From Produce version 12 on the partition becomes part of the
//!   transaction by that, which begins if need be; before, the client has to have added it (AddPartitionsToTxn), and one
//!   that has not is TRANSACTION_ABORTABLE, or INVALID_TXN_STATE before version 11. While the transaction is open in the
//!   partition, the coordinator is not asked.
//! - In either case that holds until a transaction of the producer's ends in the partition: a batch that comes after that
//!   is late, and INVALID_TXN_STATE. A transaction that ended while the coordinator was adding the partition may be the
//!   one before, whose end it has waited for; so it is asked once more, and then the next end is the transaction's own.
//! - From version 12 on, the first batch of an epoch in a partition has sequence 0, or is OUT_OF_ORDER_SEQUENCE_NUMBER.
//! - A transactional batch in a request that names no transactional id: TRANSACTIONAL_ID_AUTHORIZATION_FAILED, as in
//!   Kafka. One id has one producer: batches of two are INVALID_RECORD.
//! - A fenced producer is INVALID_PRODUCER_EPOCH, which clients know from Produce, and another's transactional id
//!   INVALID_PRODUCER_ID_MAPPING. While the last transaction is being ended: CONCURRENT_TRANSACTIONS, which clients before
//!   version 12 know as NOT_ENOUGH_REPLICAS only, as they do everything else that passes. As many transactions as may be
//!   open in a partition: likewise.

use std::collections::HashMap;
use std::sync::Arc;

use log_core::record::RecordBatch;
use log_core::wire::{ErrorCode, ProduceRequest};

use super::k00_produce::Refused;
use super::{Context, Request};
use crate::coordinator::transaction::{Producer, Protocol, TopicPartition, TransactionError};
use crate::partition::{Asked, Partition};
use crate::runtime::TransactionRefused;
use crate::topic::name;

/// The first version whose clients know TRANSACTION_ABORTABLE.
const ABORTABLE_SINCE: i16 = 11;
/// The first version in which to write to a partition adds it to the transaction.
const ADDS_PARTITIONS_SINCE: i16 = 12;

/// What is known of the partitions that a request has transactional batches for.
#[derive(Debug, Default)]
pub(super) struct Admitted {
    /// The moment of the question, or why the coordinator refuses them.
    partitions: HashMap<TopicPartition, Result<Asked, Refused>>,
}

impl Admitted {
    /// What the append of a transactional batch to this partition has to come with.
    ///
    /// # Errors
    /// If the coordinator refuses it, or it has not been asked: the partition was not there yet.
    pub(super) fn of(&self, partition: &Partition) -> Result<Asked, Refused> {
        self.of_name(&name_of(partition))
    }

    fn of_name(&self, name: &TopicPartition) -> Result<Asked, Refused> {
        self.partitions.get(name).cloned().unwrap_or_else(|| {
            let why = "the partition was made while the coordinator was asked";
            Err(Refused::new(ErrorCode::UnknownTopicOrPartition, why))
        })
    }
}

/// Asks about every batch of a request that needs it. The request may be appended in the order of its connection once
/// this returns.
///
/// # Errors
/// What the whole request is refused for.
pub(super) async fn admit(
    context: &Context,
    request: &Request,
    message: &ProduceRequest,
) -> Result<Admitted, Refused> {
    let batches = message.topics.iter().flat_map(|topic| {
        let partitions = topic.partitions.iter();
        partitions.filter_map(move |wanted| {
            let batch = RecordBatch::parse(wanted.records.as_ref()?).ok()?;
            batch.attributes().is_transactional().then(|| (&topic.topic, wanted.index, stamp(&batch)))
        })
    });
    let version = request.version();
    let protocol = if version >= ADDS_PARTITIONS_SINCE { Protocol::V2 } else { Protocol::V1 };
    let mut producer = None;
    let mut known = HashMap::new();
    let mut asked = Vec::new();
    for (topic, index, stamp) in batches {
        if message.transactional_id.is_none() {
            let why = "a transactional batch comes with a transactional id";
            return Err(Refused::new(ErrorCode::TransactionalIdAuthorizationFailed, why));
        }
        if *producer.get_or_insert(stamp) != stamp {
            let why = "a transactional id has one producer";
            return Err(Refused::new(ErrorCode::InvalidRecord, why));
        }
        let partitions = context.partitions.resolve(topic);
        let index = usize::try_from(index).ok();
        // What is not there, or is the broker's own, is refused by the append.
        if let Some(partition) = index.and_then(|index| partitions.as_ref()?.get(index)) {
            let question = partition.ask_about(stamp.id, stamp.epoch, protocol == Protocol::V2);
            if question.needs_coordinator() && !name::is_internal(partition.topic()) {
                asked.push((partition.clone(), question));
            } else {
                known.insert(name_of(partition), Ok(question));
            }
        }
    }
    let (Some(id), Some(producer)) = (&message.transactional_id, producer.filter(|_| !asked.is_empty()))
    else {
        return Ok(Admitted { partitions: known });
    };
    let answers = match protocol {
        Protocol::V1 => context.transactions.verify(id, producer, names_of(&asked)).await,
        Protocol::V2 => {
            let count = asked.len();
            add(context, id, producer, &mut asked).await.map(|()| vec![true; count])
        }
    };
    let answers = answers.map_err(|error| refused(version, &error))?;
    known.extend(asked.into_iter().zip(answers).map(|((partition, question), is_part)| {
        let answer = if is_part { Ok(question) } else { Err(not_part(version)) };
        (name_of(&partition), answer)
    }));
    Ok(Admitted { partitions: known })
}

/// Adds the partitions to the transaction. `asked` has the question that was answered.
async fn add(
    context: &Context,
    id: &str,
    producer: Producer,
    asked: &mut [(Arc<Partition>, Asked)],
) -> Result<(), TransactionRefused> {
    let names = names_of(asked);
    let transactions = &context.transactions;
    transactions.add_partitions(id, producer, names.clone(), Protocol::V2).await?;
    let has_ended =
        |(partition, question): &(Arc<Partition>, Asked)| partition.has_ended_since(producer.id, *question);
    if asked.iter().any(has_ended) {
        for (partition, question) in asked {
            *question = partition.ask_about(producer.id, producer.epoch, true);
        }
        transactions.add_partitions(id, producer, names, Protocol::V2).await?;
    }
    Ok(())
}

fn stamp(batch: &RecordBatch<'_>) -> Producer {
    Producer { id: batch.producer_id(), epoch: batch.producer_epoch() }
}

fn names_of(asked: &[(Arc<Partition>, Asked)]) -> Vec<TopicPartition> {
    asked.iter().map(|(partition, _)| name_of(partition)).collect()
}

fn name_of(partition: &Partition) -> TopicPartition {
    TopicPartition { topic: partition.topic().clone(), partition: partition.index() }
}

fn not_part(version: i16) -> Refused {
    let error =
        if version >= ABORTABLE_SINCE { ErrorCode::TransactionAbortable } else { ErrorCode::InvalidTxnState };
    Refused::new(error, "the partition is not part of the transaction")
}

/// What passes as soon as another transaction ends, in a version of Produce.
pub(super) fn concurrent(version: i16) -> ErrorCode {
    if version >= ADDS_PARTITIONS_SINCE {
        ErrorCode::ConcurrentTransactions
    } else {
        ErrorCode::NotEnoughReplicas
    }
}

fn refused(version: i16, error: &TransactionRefused) -> Refused {
    let code = match error {
        TransactionRefused::Coordinator(error) => match error {
            TransactionError::ProducerFenced => ErrorCode::InvalidProducerEpoch,
            TransactionError::InvalidProducerIdMapping | TransactionError::InvalidTransactionalId => {
                ErrorCode::InvalidProducerIdMapping
            }
            TransactionError::Concurrent => concurrent(version),
            TransactionError::InvalidState | TransactionError::InvalidTimeout => ErrorCode::InvalidTxnState,
        },
        TransactionRefused::Unavailable(_) | TransactionRefused::NoProducerId => ErrorCode::NotEnoughReplicas,
    };
    Refused::new(code, error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_was_not_there_when_the_coordinator_was_asked_is_refused() {
        let name = TopicPartition { topic: "new".into(), partition: 0 };
        let refused = Admitted::default().of_name(&name).unwrap_err();
        assert_eq!(refused.error, ErrorCode::UnknownTopicOrPartition);
    }
}
