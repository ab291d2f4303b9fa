//! Computes lag from committed offsets and the state of the logs.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use log_core::log::Isolation;
use serde::Serialize;

use super::LagCache;
use crate::coordinator::group::GroupCoordinator;
use crate::handler::Context;
use crate::partition::{Partition, Registry};
use crate::runtime::Unavailable;

/// What a group is behind by in one partition.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PartitionLag {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition index.
    pub partition: i32,
    /// The next offset that the group wants to read.
    pub committed_offset: i64,
    /// The offset up to which it could.
    pub log_end_offset: i64,
    /// Records in between.
    pub lag_records: i64,
    /// Age of the first of them, in seconds.
    pub lag_seconds: f64,
}

/// What a group is behind by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupLag {
    /// The group.
    pub group: Arc<str>,
    /// Ordered by topic and partition. Partitions in which the group has no offset are not among them.
    pub partitions: Vec<PartitionLag>,
}

/// A committed offset: topic, partition, offset.
type Offset = (Arc<str>, i32, i64);

/// The lag of one group; `None` if there is no such group.
///
/// # Errors
/// The group's coordinator does not answer.
pub async fn of_group(context: &Arc<Context>, group: &str) -> Result<Option<GroupLag>, Unavailable> {
    let group: Arc<str> = group.into();
    let asked = group.clone();
    let offsets = context.groups.query(&group, move |groups| {
        let offsets = groups.committed_all(&asked)?;
        Some(
            offsets
                .map(|(topic, partition, committed)| (topic.clone(), partition, committed.offset))
                .collect(),
        )
    });
    let Some(offsets) = offsets.await? else { return Ok(None) };
    Ok(compute(context, vec![(group, offsets)]).await.pop())
}

/// The lag of every group, ordered by group.
///
/// # Errors
/// A coordinator does not answer.
pub async fn of_all_groups(context: &Arc<Context>) -> Result<Vec<GroupLag>, Unavailable> {
    let shards = context.groups.query_all(offsets_of_all).await?;
    let mut groups: Vec<_> = shards.into_iter().flatten().collect();
    groups.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    Ok(compute(context, groups).await)
}

fn offsets_of_all(groups: &GroupCoordinator) -> Vec<(Arc<str>, Vec<Offset>)> {
    let offsets = |group: &Arc<str>| {
        let offsets = groups.committed_all(group).into_iter().flatten();
        offsets.map(|(topic, partition, committed)| (topic.clone(), partition, committed.offset)).collect()
    };
    groups.group_ids().map(|group| (group.clone(), offsets(group))).collect()
}

/// Off the runtime's threads: timestamps that are not remembered are read from the log, perhaps from the disk.
async fn compute(context: &Arc<Context>, groups: Vec<(Arc<str>, Vec<Offset>)>) -> Vec<GroupLag> {
    let (partitions, cache) = (context.partitions.clone(), context.lag_cache.clone());
    let computed = tokio::task::spawn_blocking(move || {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = i64::try_from(wall.as_millis()).unwrap_or(i64::MAX);
        groups
            .into_iter()
            .map(|(group, offsets)| group_lag(&partitions, &cache, group, offsets, now_ms))
            .collect()
    });
    match computed.await {
        Ok(lags) => lags,
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn group_lag(
    partitions: &Registry,
    cache: &LagCache,
    group: Arc<str>,
    offsets: Vec<Offset>,
    now_ms: i64,
) -> GroupLag {
    // An offset may outlive its partition for a moment: the topic is being deleted.
    let lags = offsets.into_iter().filter_map(|(topic, index, offset)| {
        let partition = partitions.get(&topic, index)?;
        Some(partition_lag(&partition, cache, offset, now_ms))
    });
    GroupLag { group, partitions: lags.collect() }
}

fn partition_lag(
    partition: &Partition,
    cache: &LagCache,
    committed_offset: i64,
    now_ms: i64,
) -> PartitionLag {
    let watermarks = partition.reader().watermarks();
    let log_end_offset = watermarks.high_watermark();
    // An offset below the log start continues at the log start, one beyond the end has nothing before it.
    let next = committed_offset.max(watermarks.log_start());
    let lag_records = (log_end_offset - next).max(0);
    let first_timestamp = || {
        let found = partition.reader().record_timestamp(next, Isolation::Uncommitted);
        found.inspect_err(|error| tracing::debug!(?partition, %error, "no lag in seconds")).ok()?
    };
    let place = (partition.topic_id(), partition.index(), next);
    let timestamp_ms = (lag_records > 0)
        .then(|| cache.timestamp(place, || first_timestamp().map(|record| record.timestamp)))
        .flatten();
    PartitionLag {
        topic: partition.topic().clone(),
        partition: partition.index(),
        committed_offset,
        log_end_offset,
        lag_records,
        lag_seconds: age_seconds(timestamp_ms, now_ms),
    }
}

/// How long ago `timestamp_ms` was. Never negative: clocks differ between machines, and go back.
fn age_seconds(timestamp_ms: Option<i64>, now_ms: i64) -> f64 {
    let age_ms = timestamp_ms.filter(|at| *at >= 0).map_or(0, |at| now_ms.saturating_sub(at).max(0));
    age_ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_never_negative() {
        assert_eq!(age_seconds(Some(1_000), 31_500), 30.5);
        assert_eq!(age_seconds(Some(1_000), 1_000), 0.0);
        assert_eq!(age_seconds(Some(5_000), 1_000), 0.0, "the clock went back, or the producer's is ahead");
        assert_eq!(age_seconds(Some(-1), 1_000), 0.0, "the record has no timestamp");
        assert_eq!(age_seconds(None, 1_000), 0.0);
    }
}
