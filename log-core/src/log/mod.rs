//! The log of a partition: segments, what is known about them, and the directory they lie in.

mod checkpoint;
mod health;
mod leader_epoch;
mod producer_state;

pub use checkpoint::{Checkpoint, CheckpointFile, LastBatch};
pub use health::DirHealth;
pub use leader_epoch::{EpochStart, LeaderEpochs};
pub use producer_state::{
    BATCHES_REMEMBERED, EXPIRATION_MS, PRODUCERS_MAX, ProducerBatch, ProducerState, ProducerStates,
    SequenceCheck, SequenceError, next_sequence,
};
