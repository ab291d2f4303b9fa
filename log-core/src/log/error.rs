//! What can go wrong with a log, one enum per operation.

use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::producer_state::SequenceError;
use super::watermarks::Watermarks;

/// Damage found where data had been durable: in a sealed segment or below the checkpoint.
///
/// The partition turns read-only and nothing is truncated. A fetch across the hole fails; offsets
/// on either side of it can still be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{file} is damaged at byte {position} (first offset lost: {offset}): {reason}")]
pub struct Corruption {
    /// The file, relative to the data directory.
    pub file: String,
    /// The byte at which the damaged batch starts.
    pub position: u64,
    /// The first offset that cannot be read.
    pub offset: i64,
    /// What was found there.
    pub reason: String,
}

/// Why an append was refused. The log is exactly as it was before.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// An idempotent producer's batch that is out of sequence or fenced.
    #[error("producer {producer_id}: {error}")]
    Sequence {
        /// Who sent it.
        producer_id: i64,
        /// What is wrong with it.
        error: SequenceError,
    },
    /// Kafka's RECORD_LIST_TOO_LARGE / MESSAGE_TOO_LARGE: no segment can hold the batch.
    #[error("a batch of {size} bytes does not fit a segment of {segment_bytes}")]
    TooLarge {
        /// The batch's size in bytes.
        size: usize,
        /// `segment.bytes` as it is acted on.
        segment_bytes: u64,
    },
    /// The partition is read-only because of damage below its durable end.
    #[error("the partition is read-only: {0}")]
    Corrupt(Arc<Corruption>),
    /// The log directory is offline: a sync has failed in it, see [`DirHealth`](super::DirHealth).
    #[error("the log directory is offline: {reason}")]
    Offline {
        /// The first failure.
        reason: String,
    },
    /// The partition is closed or deleted.
    #[error("the partition is closed")]
    Closed,
    /// The disk refused, most often because it is full. Later appends may succeed.
    #[error("storage: {0}")]
    Storage(#[from] io::Error),
}

/// Why a read was refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset lies before the log start or past the log end.
    #[error(
        "offset {offset} is outside of [{}, {}]",
        .watermarks.log_start(),
        .watermarks.log_end()
    )]
    OutOfRange {
        /// What was asked for.
        offset: i64,
        /// What there was at that moment.
        watermarks: Watermarks,
    },
    /// The batch that holds the offset is damaged.
    #[error(transparent)]
    Corrupt(Arc<Corruption>),
    /// What is to be read is not in memory, and the read was not to wait for the disk.
    #[error("not in memory")]
    Cold,
    /// The partition is closed or deleted.
    #[error("the partition is closed")]
    Closed,
    /// A segment's file could not be opened or read.
    #[error("storage: {0}")]
    Storage(Arc<io::Error>),
}

impl From<io::Error> for ReadError {
    fn from(error: io::Error) -> Self {
        ReadError::Storage(Arc::new(error))
    }
}

impl From<Corruption> for ReadError {
    fn from(corruption: Corruption) -> Self {
        ReadError::Corrupt(Arc::new(corruption))
    }
}

/// Why [`PartitionLog::delete_records`](super::PartitionLog::delete_records) was refused.
#[derive(Debug, thiserror::Error)]
pub enum DeleteRecordsError {
    /// The offset lies past the high watermark: undurable records cannot be deleted.
    #[error("offset {offset} is past the high watermark {high_watermark}")]
    OutOfRange {
        /// What was asked for.
        offset: i64,
        /// The largest offset that is accepted.
        high_watermark: i64,
    },
    /// The partition, or its directory, takes no writes.
    #[error(transparent)]
    Unwritable(#[from] AppendError),
}

/// Why a partition could not be opened or created.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The log directory is offline.
    #[error("the log directory is offline: {reason}")]
    Offline {
        /// The first failure.
        reason: String,
    },
    /// A file could not be read, written or synced.
    #[error("{path}: {source}")]
    Storage {
        /// The file or directory, relative to the data directory.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    /// Names the file that an error belongs to.
    pub(crate) fn at(path: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
        let path = path.into();
        move |source| OpenError::Storage { path, source }
    }
}
