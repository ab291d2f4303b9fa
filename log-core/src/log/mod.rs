//! The log of a partition: segments, what is known about them, and the directory they lie in.

mod checkpoint;
mod clean_shutdown;
mod health;
mod identity;
mod leader_epoch;
mod log_dir;
mod producer_state;

pub use checkpoint::{Checkpoint, CheckpointFile, LastBatch};
pub use clean_shutdown::CleanShutdown;
pub use health::DirHealth;
pub use identity::{DIRECTORY_FORMAT, DirectoryIdentity, PartitionIdentity, kafka_id};
pub use leader_epoch::{EpochStart, LeaderEpochs};
pub use log_dir::{Discovery, LogDir, LogDirError, LogDirOptions};
pub use producer_state::{
    BATCHES_REMEMBERED, EXPIRATION_MS, PRODUCERS_MAX, ProducerBatch, ProducerState, ProducerStates,
    SequenceCheck, SequenceError, next_sequence,
};
