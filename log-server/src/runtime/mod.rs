//! Drives the coordinators: a shard is one task with one state machine over one partition of an internal topic, the
//! shards of a kind of coordinator are started together, and a router takes commands to them.

mod marker_target;
mod markers;
mod partition_log;
mod router;
mod shard;
mod shard_log;
mod shards;
mod transactions;

#[cfg(test)]
mod marker_tests;
#[cfg(test)]
mod memory_log;
#[cfg(test)]
mod shard_tests;

pub use partition_log::PartitionShardLog;
pub use router::{GroupRouter, NotCompleted};
pub use shard::{Phase, ShardHandle, Unavailable};
pub use shard_log::{Chunk, NotWritten, Offline, ReadFailed, ShardLog, Written};
pub use shards::{InternalTopic, Shards, Surroundings, partition_of, shard_of};
pub use transactions::{TransactionRefused, Transactions};
