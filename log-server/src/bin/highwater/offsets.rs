//! What the subcommands ask of a log before they read it: where a place is in each partition, and what is visible.

use std::collections::BTreeMap;

use clap::ValueEnum;
use log_client::{Admin, IsolationLevel, OffsetSpec, TopicPartition};

use crate::connect::text;

/// What to read of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Isolation {
    /// Everything
    ReadUncommitted,
    /// What has been committed, up to the first transaction that is still open
    ReadCommitted,
}

impl From<Isolation> for IsolationLevel {
    fn from(isolation: Isolation) -> IsolationLevel {
        match isolation {
            Isolation::ReadUncommitted => IsolationLevel::ReadUncommitted,
            Isolation::ReadCommitted => IsolationLevel::ReadCommitted,
        }
    }
}

/// The offset of `spec` in each partition; those are left out where no record is as late.
///
/// # Errors
/// Of the first partition that has one.
pub async fn look_up(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
    isolation: IsolationLevel,
) -> Result<BTreeMap<TopicPartition, i64>, String> {
    let asked: Vec<_> = partitions.iter().map(|partition| (partition.clone(), spec)).collect();
    let mut found = BTreeMap::new();
    for (partition, answer) in admin.list_offsets_as(&asked, isolation).await {
        if let Some(offset) = answer.map_err(text)?.offset {
            found.insert(partition, offset);
        }
    }
    Ok(found)
}
