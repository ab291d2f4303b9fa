//! Why consuming does not go on.

use std::sync::Arc;
use std::time::Duration;

use log_core::record::BatchError;
use log_core::wire::ErrorCode;

use crate::error::ClientError;
use crate::topic_partition::TopicPartition;

/// Why a call on a [`Consumer`](super::Consumer) failed. What passes by itself (a broker that restarts,
/// a leader that moves) is waited for and is none.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConsumeError {
    /// A request failed in a way that a retry would not help.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The position is not in the log, and the consumer is not set to begin elsewhere. Seek, or set
    /// `offset_reset`.
    #[error("offset {offset} of {partition} is not in the log any more, or not yet")]
    OffsetOutOfRange {
        /// Which partition.
        partition: TopicPartition,
        /// The position.
        offset: i64,
    },
    /// The group has committed nothing for the partition, and the consumer is not set to begin
    /// elsewhere.
    #[error("no committed offset for {0}")]
    NoCommittedOffset(TopicPartition),
    /// The broker refuses to serve the partition.
    #[error("cannot fetch from {partition}: {code}")]
    Refused {
        /// Which partition.
        partition: TopicPartition,
        /// Why.
        code: ErrorCode,
    },
    /// Bytes in the log are not what they should be. Seeking past the batch goes on after it.
    #[error("cannot read {partition} at offset {offset}: {source}")]
    Corrupt {
        /// Which partition.
        partition: TopicPartition,
        /// Where the batch begins, or the position if that cannot be told.
        offset: i64,
        /// What is wrong.
        source: BatchError,
    },
    /// The group refuses the member for good.
    #[error("cannot be a member of group {group}: {code}")]
    Group {
        /// Which group.
        group: Arc<str>,
        /// Why.
        code: ErrorCode,
    },
    /// The offsets were not committed: the group has rebalanced, and the partitions may be others' now.
    /// Poll, and commit what is then assigned.
    #[error("offsets of group {group} were not committed: {code}")]
    Commit {
        /// Which group.
        group: Arc<str>,
        /// Why.
        code: ErrorCode,
    },
    /// The partition is not assigned to this consumer.
    #[error("{0} is not assigned to this consumer")]
    NotAssigned(TopicPartition),
    /// The call needs a group, and the consumer has none.
    #[error("the consumer has no group")]
    NoGroup,
    /// No answer in the time that the caller gave.
    #[error("not done within {} ms", .0.as_millis())]
    Timeout(Duration),
}
