//! What can be set for one partition's log, at creation and while it runs.

use crate::record::{Compression, CompressionLevels, TimestampType};

/// Settings of one log. Names, units and defaults are those of Kafka's topic configuration
/// (<https://kafka.apache.org/documentation/#topicconfigs>).
///
/// [`PartitionLog::set_config`](super::PartitionLog::set_config) replaces them at run time; they
/// act from the next append, roll or retention pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is rolled before it grows beyond this.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is rolled once its first batch is older than this, in milliseconds.
    pub segment_ms: i64,
    /// `retention.ms`: a segment may go once its newest record is older. -1 keeps for ever.
    pub retention_ms: i64,
    /// `retention.bytes`: the oldest segments go while the log is larger. -1 sets no limit.
    pub retention_bytes: i64,
    /// `max.message.bytes`: the largest batch that is accepted, in bytes with its header.
    pub max_message_bytes: u32,
    /// `message.timestamp.type`: whose clock stamps the records.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a record's timestamp may lie in the past.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a record's timestamp may lie in the future.
    pub timestamp_after_max_ms: i64,
    /// `compression.type`: `None` keeps what the producer chose (Kafka's `producer`).
    pub compression_type: Option<Compression>,
    /// `compression.gzip.level` and `compression.zstd.level`: how hard it is compressed, where it is compressed anew.
    pub compression_levels: CompressionLevels,
    /// `index.interval.bytes`: the log bytes between two entries of the offset index.
    pub index_interval_bytes: u32,
    /// `cleanup.policy`: what becomes of old records.
    pub cleanup: CleanupPolicy,
    /// `delete.retention.ms`: how long a tombstone outlives the pass that removed what it deletes.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`: how old the newest record of a segment must be before it is compacted.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: how old a record may become before it is compacted in any case. A segment
    /// is rolled after this time too.
    pub max_compaction_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`: the part of the log that must not be compacted yet before a pass is
    /// worth it, in millionths.
    pub min_cleanable_dirty_millionths: u32,
}

/// `cleanup.policy`. At least one of the two is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Old segments go, by `retention.ms` and `retention.bytes`.
    pub delete: bool,
    /// Older records of a key go.
    pub compact: bool,
}

impl CleanupPolicy {
    /// `delete`.
    pub const DELETE: CleanupPolicy = CleanupPolicy { delete: true, compact: false };
    /// `compact`.
    pub const COMPACT: CleanupPolicy = CleanupPolicy { delete: false, compact: true };
    /// `compact,delete`.
    pub const COMPACT_AND_DELETE: CleanupPolicy = CleanupPolicy { delete: true, compact: true };
}

impl LogConfig {
    /// The largest segment: positions in an index entry have 32 bits, and Kafka's setting is a
    /// signed 32-bit number.
    pub const SEGMENT_BYTES_MAX: u32 = i32::MAX as u32;
    /// The smallest segment that is accepted, so that a slip of the unit does not make a file of
    /// every batch.
    pub const SEGMENT_BYTES_MIN: u32 = 1024;

    /// The segment size that is acted on: `segment_bytes`, held between the two bounds.
    pub(crate) fn segment_bytes_effective(&self) -> u64 {
        u64::from(self.segment_bytes.clamp(Self::SEGMENT_BYTES_MIN, Self::SEGMENT_BYTES_MAX))
    }

    /// The age that is acted on at which a segment is rolled: `segment_ms`, or the time within which a
    /// record must be compacted, which an active segment never is.
    pub(crate) fn segment_ms_effective(&self) -> i64 {
        if self.cleanup.compact { self.segment_ms.min(self.max_compaction_lag_ms) } else { self.segment_ms }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            retention_ms: 7 * DAY_MS,
            retention_bytes: -1,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 60 * 60 * 1000,
            compression_type: None,
            compression_levels: CompressionLevels::default(),
            index_interval_bytes: 4096,
            cleanup: CleanupPolicy::DELETE,
            delete_retention_ms: DAY_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            min_cleanable_dirty_millionths: 500_000,
        }
    }
}
