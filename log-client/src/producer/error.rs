//! Why a record was not delivered.

use std::sync::Arc;
use std::time::Duration;

use log_core::record::BuildError;
use log_core::wire::ErrorCode;

use super::transaction::TransactionError;
use crate::error::ClientError;
use crate::topic_partition::TopicPartition;

/// Why [`send`](super::Producer::send) did not take a record, or a
/// [`Delivery`](super::Delivery) did not come to an offset.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ProduceError {
    /// The topic or its brokers could not be found, or a request failed in a way that a retry would
    /// not help.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The broker refused the batch that the record was in, for good.
    #[error("{partition} refused the batch: {code}{}", detail(message.as_deref()))]
    Refused {
        /// Which partition.
        partition: TopicPartition,
        /// Why.
        code: ErrorCode,
        /// The broker's words, where it has any.
        message: Option<Arc<str>>,
    },
    /// The record asks for a partition that the topic does not have.
    #[error("topic {topic} has {partitions} partitions, so none of number {partition}")]
    NoSuchPartition {
        /// Which topic.
        topic: Arc<str>,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        partitions: usize,
    },
    /// The record alone is larger than the producer takes.
    #[error("record of {bytes} bytes is larger than the limit of {limit} bytes")]
    RecordTooLarge {
        /// Its size with framing.
        bytes: usize,
        /// `record_bytes_max` or `buffer_bytes_max`, whichever is less.
        limit: usize,
    },
    /// The record cannot be written in Kafka's format.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// No memory became free for it in time: records come faster than the broker takes them.
    #[error("no buffer memory became free within {} ms", waited.as_millis())]
    BufferFull {
        /// How long `send` waited.
        waited: Duration,
    },
    /// It was not acknowledged in time, and the producer has given it up. The broker may have it if
    /// `outcome_unknown`.
    #[error("not acknowledged by {partition} within {} ms; last: {last}", after.as_millis())]
    DeliveryTimeout {
        /// Which partition.
        partition: TopicPartition,
        /// The delivery timeout.
        after: Duration,
        /// What the last attempt came to.
        last: Arc<str>,
        /// Whether an attempt went without an answer, so that the record may be there all the same.
        outcome_unknown: bool,
    },
    /// The record belongs to a transaction that was aborted before the broker had it.
    #[error("the transaction was aborted")]
    Aborted,
    /// A transactional producer takes records only within a transaction that has not failed.
    #[error("{0}")]
    Transaction(#[source] TransactionError),
    /// The producer was closed or dropped before the record was acknowledged.
    #[error("the producer was closed")]
    Closed,
}

fn detail(message: Option<&str>) -> String {
    message.map(|message| format!(": {message}")).unwrap_or_default()
}
