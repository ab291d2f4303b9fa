//! The table behind [`super::config`]: one row for each topic configuration, by name.

use super::config::{Default, Definition, Effect, Rule};
use super::priority::{PRIORITY_CONFIG, Priority};
use crate::config::word;

const NO_REPLICATION: &str = "Accepted and ignored: there is one replica, so nothing is replicated.";
const NO_TIERING: &str = "Accepted and ignored: all data is local.";
const OWN_SYNC: &str =
    "Accepted and ignored: data is synced as acks=all demands and shown to consumers once it is.";

const fn acts(
    name: &'static str,
    rule: Rule,
    default: Default,
    broker_name: Option<&'static str>,
    doc: &'static str,
) -> Definition {
    Definition { name, broker_name, effect: Effect::Acts, doc, rule, default }
}

const fn ignored(
    name: &'static str,
    rule: Rule,
    default: &'static str,
    broker_name: Option<&'static str>,
    doc: &'static str,
) -> Definition {
    Definition { name, broker_name, effect: Effect::Ignored, doc, rule, default: Default::Fixed(default) }
}

/// Every configuration, sorted by name.
pub(super) const DEFINITIONS: &[Definition] = &[
    acts(
        "cleanup.policy",
        Rule::CleanupPolicy,
        Default::Fixed("delete"),
        Some("log.cleanup.policy"),
        "What becomes of old records: delete removes whole segments by retention.ms and retention.bytes, compact \
         removes records whose key has a later one; both may be given, separated by a comma. A compacted topic takes \
         no record without a key.",
    ),
    acts(
        "compression.gzip.level",
        Rule::UsualOr(1, 9),
        Default::Fixed("-1"),
        Some("compression.gzip.level"),
        "How hard gzip tries where compression.type has batches recompressed with it: 1 is fast, 9 small, -1 is the \
         usual 6. Batches that came as gzip stay as they are.",
    ),
    ignored(
        "compression.lz4.level",
        Rule::Int(1, 17),
        "9",
        Some("compression.lz4.level"),
        "Accepted and ignored: this broker's lz4 has one level, the fast one.",
    ),
    acts(
        "compression.type",
        Rule::OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]),
        Default::Setting("compression_type", |broker| word(&broker.compression_type)),
        Some("compression.type"),
        "How batches are stored: producer keeps them as they came, any other value has them recompressed on arrival.",
    ),
    acts(
        "compression.zstd.level",
        Rule::Int(-131_072, 22),
        Default::Fixed("3"),
        Some("compression.zstd.level"),
        "How hard zstd tries where compression.type has batches recompressed with it; larger is smaller and slower, \
         and the broker's own processors do the work. Batches that came as zstd stay as they are.",
    ),
    acts(
        "delete.retention.ms",
        Rule::Long(0),
        Default::Fixed("86400000"),
        Some("log.cleaner.delete.retention.ms"),
        "How long a record without a value outlives the pass of compaction that removed what it deletes, in \
         milliseconds.",
    ),
    ignored(
        "file.delete.delay.ms",
        Rule::Long(0),
        "60000",
        Some("log.segment.delete.delay.ms"),
        "Accepted and ignored: a segment's file goes when its last reader is done with it.",
    ),
    ignored(
        "flush.messages",
        Rule::Long(1),
        "9223372036854775807",
        Some("log.flush.interval.messages"),
        OWN_SYNC,
    ),
    ignored("flush.ms", Rule::Long(0), "9223372036854775807", Some("log.flush.interval.ms"), OWN_SYNC),
    ignored("follower.replication.throttled.replicas", Rule::List, "", None, NO_REPLICATION),
    acts(
        PRIORITY_CONFIG,
        Rule::OneOf(Priority::NAMES),
        Default::Fixed("normal"),
        None,
        "The class of the topic when load is shed: low, normal or high. While a lag objective is violated or the disk \
         fills up, producers to lower classes are held up, then refused, for the sake of higher ones.",
    ),
    acts(
        "index.interval.bytes",
        Rule::Int(0, i32::MAX),
        Default::Fixed("4096"),
        Some("log.index.interval.bytes"),
        "Log bytes between two entries of the offset index.",
    ),
    ignored("leader.replication.throttled.replicas", Rule::List, "", None, NO_REPLICATION),
    ignored("local.retention.bytes", Rule::Long(-2), "-2", Some("log.local.retention.bytes"), NO_TIERING),
    ignored("local.retention.ms", Rule::Long(-2), "-2", Some("log.local.retention.ms"), NO_TIERING),
    acts(
        "max.compaction.lag.ms",
        Rule::Long(1),
        Default::Fixed("9223372036854775807"),
        Some("log.cleaner.max.compaction.lag.ms"),
        "How old a record of a compacted topic may become before a pass is due whatever the dirty ratio, in \
         milliseconds. A segment is closed at this age too.",
    ),
    acts(
        "max.message.bytes",
        Rule::Int(0, i32::MAX),
        Default::Setting("message_bytes_max", |broker| broker.message_bytes_max.to_string()),
        Some("message.max.bytes"),
        "The largest record batch that is accepted, in bytes as it is sent, after compression.",
    ),
    acts(
        "message.timestamp.after.max.ms",
        Rule::Long(0),
        Default::Setting("timestamp_after_max_ms", |broker| broker.timestamp_after_max_ms.to_string()),
        Some("log.message.timestamp.after.max.ms"),
        "How far a record's timestamp may lie ahead of the broker's clock, in milliseconds.",
    ),
    acts(
        "message.timestamp.before.max.ms",
        Rule::Long(0),
        Default::Setting("timestamp_before_max_ms", |broker| broker.timestamp_before_max_ms.to_string()),
        Some("log.message.timestamp.before.max.ms"),
        "How far a record's timestamp may lie behind the broker's clock, in milliseconds.",
    ),
    acts(
        "message.timestamp.type",
        Rule::OneOf(&["CreateTime", "LogAppendTime"]),
        Default::Setting("timestamp_type", |broker| word(&broker.timestamp_type)),
        Some("log.message.timestamp.type"),
        "Whose clock stamps the records: the producer's (CreateTime) or the broker's (LogAppendTime).",
    ),
    acts(
        "min.cleanable.dirty.ratio",
        Rule::Fraction,
        Default::Fixed("0.5"),
        Some("log.cleaner.min.cleanable.ratio"),
        "The part of a log that must have come since the last pass of compaction for the next one to be due.",
    ),
    acts(
        "min.compaction.lag.ms",
        Rule::Long(0),
        Default::Fixed("0"),
        Some("log.cleaner.min.compaction.lag.ms"),
        "How old the newest record of a segment must be before the segment is compacted, in milliseconds.",
    ),
    ignored("min.insync.replicas", Rule::Int(1, i32::MAX), "1", Some("min.insync.replicas"), NO_REPLICATION),
    ignored(
        "preallocate",
        Rule::Boolean,
        "false",
        Some("log.preallocate"),
        "Accepted and ignored: blocks are always allocated ahead of the log's end, in steps.",
    ),
    ignored(
        "remote.log.copy.disable",
        Rule::OnlyFalse("there is no remote storage whose copying could be disabled"),
        "false",
        None,
        NO_TIERING,
    ),
    ignored(
        "remote.log.delete.on.disable",
        Rule::OnlyFalse("there is no remote storage from which anything could be deleted"),
        "false",
        None,
        NO_TIERING,
    ),
    ignored(
        "remote.storage.enable",
        Rule::OnlyFalse("remote storage is not supported; all data stays in the data directory"),
        "false",
        None,
        NO_TIERING,
    ),
    acts(
        "retention.bytes",
        Rule::Long(-1),
        Default::Setting("retention_bytes", |broker| broker.retention_bytes.to_string()),
        Some("log.retention.bytes"),
        "How large a partition may grow before its oldest segments are removed; -1 sets no limit.",
    ),
    acts(
        "retention.ms",
        Rule::Long(-1),
        Default::Setting("retention_ms", |broker| broker.retention_ms.to_string()),
        Some("log.retention.ms"),
        "How old the newest record of a segment may be before the segment is removed, in milliseconds; -1 keeps it \
         for ever.",
    ),
    acts(
        "segment.bytes",
        // Kafka has asked for 1 MiB since 4.0 and for 14 bytes before; the engine's own bound lies between.
        Rule::Int(log_core::log::LogConfig::SEGMENT_BYTES_MIN as i32, i32::MAX),
        Default::Setting("segment_bytes", |broker| broker.segment_bytes.to_string()),
        Some("log.segment.bytes"),
        "The size at which a segment is closed and the next one begun. Whole segments are what retention removes.",
    ),
    ignored(
        "segment.index.bytes",
        Rule::Int(4, i32::MAX),
        "10485760",
        Some("log.index.size.max.bytes"),
        "Accepted and ignored: indexes grow with their segment.",
    ),
    ignored(
        "segment.jitter.ms",
        Rule::Long(0),
        "0",
        Some("log.roll.jitter.ms"),
        "Accepted and ignored: segments are rolled when they are due.",
    ),
    acts(
        "segment.ms",
        Rule::Long(1),
        Default::Setting("segment_ms", |broker| broker.segment_ms.to_string()),
        Some("log.roll.ms"),
        "The age at which a segment is closed even if it is small, in milliseconds.",
    ),
    ignored(
        "unclean.leader.election.enable",
        Rule::Boolean,
        "false",
        Some("unclean.leader.election.enable"),
        NO_REPLICATION,
    ),
];
