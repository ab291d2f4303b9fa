//! Why a compaction stops short.

use std::io;
use std::sync::Arc;

use super::super::error::{AppendError, Corruption, ReadError};

/// Why a pass ended before its end. What it has put in place by then stays and is sound; the next pass
/// begins where this one did.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// Whoever runs the pass wanted it to stop.
    #[error("stopped")]
    Stopped,
    /// The segments are not those any more that the pass began with: some have been deleted since.
    #[error("the segments have changed since the pass began")]
    Overtaken,
    /// What producers had written when the pass began is not durable yet: a power cut could make them be
    /// known by older batches, which are among those that go.
    #[error("what was appended before the pass began is not durable yet")]
    Unsettled,
    /// Not even one batch's keys fit into the map: the buffer is too small.
    #[error("the keys of one batch do not fit into the compaction buffer")]
    MapTooSmall,
    /// A segment would outgrow its 32-bit positions or offsets, or a batch its 31 bits.
    #[error("a compacted segment would outgrow 4 GiB")]
    Outgrown,
    /// What is to be compacted is damaged.
    #[error(transparent)]
    Corrupt(Arc<Corruption>),
    /// The partition takes no writes.
    #[error(transparent)]
    Unwritable(AppendError),
    /// A sync failed; the log directory is offline.
    #[error("sync: {0}")]
    Sync(io::Error),
    /// The disk refused, most often because it is full. The next pass may succeed.
    #[error("storage: {0}")]
    Storage(#[from] io::Error),
}

impl From<ReadError> for CompactionError {
    fn from(error: ReadError) -> CompactionError {
        match error {
            ReadError::Corrupt(corruption) => CompactionError::Corrupt(corruption),
            ReadError::Storage(error) => CompactionError::Storage(io::Error::new(error.kind(), error)),
            _ => CompactionError::Unwritable(AppendError::Closed),
        }
    }
}
