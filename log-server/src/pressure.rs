//! Which records go before their time when the disk runs full, and in what order.
//!
//! Below the soft limit, every time the disk is looked at:
//!
//! 1. What retention does not keep goes at once, and not with the next pass of housekeeping.
//! 2. If that was not enough, the oldest sealed segments of topics that are kept for a time go before it is over: the
//!    one that would have expired next first, whatever its topic, until so much is free as the soft limit asks for.
//!
//! A segment stays while it holds a record younger than `space_retention_floor_ms`, and -1 there switches the second
//! step off. Nobody agreed to the deletion of what has no time limit, so topics with retention.ms=-1 are not touched,
//! even if they have a size limit; nor are compacted ones, the broker's own, and what is not sealed or not durable. A
//! clock that went back makes everything younger and deletes nothing (R13).

use std::collections::VecDeque;
use std::sync::Arc;

use log_core::log::{AppendError, CleanupPolicy, LogConfig, OldSegment};

use crate::metrics::Metrics;
use crate::partition::{Partition, Registry};
use crate::topic::name;

/// A segment that may go, of a partition that is known by its index in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    partition: usize,
    segment: OldSegment,
    /// When retention would have deleted it.
    expires_ms: i64,
}

/// Whether a topic's records may go before their time.
fn may_tighten(topic: &str, config: &LogConfig) -> bool {
    !name::is_internal(topic) && config.cleanup == CleanupPolicy::DELETE && config.retention_ms >= 0
}

/// The order in which segments go so that `needed_bytes` become free: of all partitions' oldest segments the one that
/// expires next, then what is the oldest after that, until it is enough or there are no more.
fn choose(mut queues: Vec<VecDeque<Candidate>>, needed_bytes: u64) -> Vec<Candidate> {
    let mut chosen = Vec::new();
    let mut freed = 0;
    while freed < needed_bytes {
        // Within a partition the order is that of the log, whatever the records' timestamps say.
        let next = queues
            .iter_mut()
            .filter(|queue| !queue.is_empty())
            .min_by_key(|queue| (queue[0].expires_ms, queue[0].partition));
        let Some(candidate) = next.and_then(VecDeque::pop_front) else { break };
        freed += candidate.segment.bytes;
        chosen.push(candidate);
    }
    chosen
}

/// Deletes segments before their time until `needed_bytes` are free, or there is nothing left that may go. Answers
/// with what it has freed, or will have once readers are done with it.
pub fn relieve(
    partitions: &Registry,
    metrics: &Metrics,
    needed_bytes: u64,
    floor_ms: i64,
    now_ms: i64,
) -> u64 {
    let mut all = partitions.all();
    all.sort_unstable_by(|a, b| (a.topic(), a.index()).cmp(&(b.topic(), b.index())));
    // Space that readers hold on to comes free without any doing of ours.
    let retired: u64 = all.iter().map(|partition| partition.log().retired_bytes()).sum();
    let needed_bytes = needed_bytes.saturating_sub(retired);
    if needed_bytes == 0 || floor_ms < 0 {
        return 0;
    }
    let mut queues = Vec::new();
    for (index, partition) in all.iter().enumerate() {
        let config = partition.config();
        if !may_tighten(partition.topic(), &config) || partition.is_closed() {
            continue;
        }
        match partition.log().old_segments(now_ms.saturating_sub(floor_ms), needed_bytes) {
            Ok(old) => queues.push(
                old.into_iter()
                    .map(|segment| Candidate {
                        partition: index,
                        segment,
                        expires_ms: segment.newest_ms.saturating_add(config.retention_ms),
                    })
                    .collect(),
            ),
            // A partition that is damaged or offline gives up nothing.
            Err(error) => tracing::debug!(?partition, %error, "cannot be relieved of old segments"),
        }
    }
    let chosen = choose(queues, needed_bytes);
    if chosen.is_empty() {
        tracing::debug!(needed_bytes, "nothing may be deleted before its time");
    }
    chosen.iter().map(|candidate| delete(&all[candidate.partition], metrics, candidate, now_ms)).sum()
}

/// Deletes one segment and says so. Answers with its bytes.
fn delete(partition: &Arc<Partition>, metrics: &Metrics, candidate: &Candidate, now_ms: i64) -> u64 {
    let segment = candidate.segment;
    let deleted = partition.log().delete_oldest(segment.base_offset);
    match deleted {
        Ok(deleted) if deleted.segments_deleted > 0 => {
            metrics.space_deleted_segments.inc();
            metrics.space_deleted_bytes.inc_by(deleted.bytes_deleted);
            tracing::warn!(
                ?partition,
                base_offset = segment.base_offset,
                bytes = deleted.bytes_deleted,
                log_start = deleted.log_start,
                age_ms = now_ms - segment.newest_ms,
                early_ms = candidate.expires_ms - now_ms,
                "deleted a segment before its retention was over, for want of space"
            );
            deleted.bytes_deleted
        }
        // Retention or a client was faster.
        Ok(_) | Err(AppendError::Closed) => 0,
        Err(error) => {
            tracing::warn!(?partition, %error, "cannot delete a segment for want of space");
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A partition's queue: bytes and expiry of its segments, oldest first.
    fn queue(partition: usize, segments: &[(u64, i64)]) -> VecDeque<Candidate> {
        let candidate = |(at, &(bytes, expires_ms)): (usize, &(u64, i64))| Candidate {
            partition,
            segment: OldSegment { base_offset: at as i64, bytes, newest_ms: 0 },
            expires_ms,
        };
        segments.iter().enumerate().map(candidate).collect()
    }

    /// Partition and base offset of what goes.
    fn order(queues: Vec<VecDeque<Candidate>>, needed: u64) -> Vec<(usize, i64)> {
        choose(queues, needed).iter().map(|gone| (gone.partition, gone.segment.base_offset)).collect()
    }

    #[test]
    fn what_would_have_expired_next_goes_first() {
        let queues = || vec![queue(0, &[(10, 500), (10, 900)]), queue(1, &[(10, 300), (10, 700), (10, 800)])];
        let all = [(1, 0), (0, 0), (1, 1), (1, 2), (0, 1)];
        assert_eq!(order(queues(), 1000), all);
        // And no more than is needed.
        assert_eq!(order(queues(), 0), []);
        assert_eq!(order(queues(), 1), all[..1]);
        assert_eq!(order(queues(), 10), all[..1]);
        assert_eq!(order(queues(), 11), all[..2]);
        assert_eq!(order(queues(), 35), all[..4]);
    }

    #[test]
    fn within_a_partition_the_order_is_that_of_the_log() {
        // The first segment holds a record from the future and blocks those behind it.
        let queues = vec![queue(0, &[(10, i64::MAX), (10, 1)]), queue(1, &[(10, 50), (10, 60)])];
        assert_eq!(order(queues, 100), [(1, 0), (1, 1), (0, 0), (0, 1)]);
        // Ties go by name, so that two looks at the same disk choose the same.
        assert_eq!(order(vec![queue(1, &[(1, 5)]), queue(0, &[(1, 5)])], 2), [(0, 0), (1, 0)]);
    }

    #[test]
    fn only_topics_that_are_kept_for_a_time_are_touched() {
        let config = |retention_ms, retention_bytes| LogConfig {
            retention_ms,
            retention_bytes,
            ..LogConfig::default()
        };
        assert!(may_tighten("orders", &config(1000, -1)));
        assert!(may_tighten("orders", &config(1000, 500)));
        assert!(!may_tighten("orders", &config(-1, -1)));
        assert!(!may_tighten("orders", &config(-1, 500)), "a size limit is no time limit");
        assert!(!may_tighten("__consumer_offsets", &config(1000, -1)));
        let compacted = LogConfig { cleanup: CleanupPolicy::COMPACT_AND_DELETE, ..config(1000, -1) };
        assert!(!may_tighten("orders", &compacted));
    }
}
