//! Drives the coordinators: a shard is one task with one state machine over one partition of an internal topic, the
//! router knows which shard a group is in.

mod partition_log;
mod router;
mod shard;
mod shard_log;

#[cfg(test)]
mod memory_log;
#[cfg(test)]
mod shard_tests;

pub use partition_log::PartitionShardLog;
pub use router::{GroupRouter, partition_of};
pub use shard::{Phase, ShardHandle, Unavailable};
pub use shard_log::{Chunk, NotWritten, Offline, ReadFailed, ShardLog, Written};
