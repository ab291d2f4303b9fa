//! The broker's settings under the names that Kafka's tools look for, for DescribeConfigs.
//!
//! A view: the settings themselves are in [`crate::config`], with their own names. Shown are those that clients are
//! known to read, and those for which Kafka has a name with the same meaning. What can be changed while the broker runs is
//! in [`crate::dynamic`].

use super::Context;
use super::config_resource::{Standing, broker_standings};
use crate::config::{BrokerConfig, word};
use crate::coordinator::group::Assignor;
use crate::dynamic::DynamicConfig;
use crate::topic::config::{ConfigType, Source};

/// One of them.
pub struct BrokerEntry {
    /// Kafka's name.
    pub name: &'static str,
    /// Every place where a value stands, the strongest first, never empty.
    pub standings: Vec<Standing>,
    /// Whether it is only read while the broker runs.
    pub read_only: bool,
    /// Its type.
    pub config_type: ConfigType,
    /// What it is called in this broker's settings.
    pub documentation: &'static str,
}

/// A row: Kafka's name, type, documentation, and the value out of the settings.
type Row = (&'static str, ConfigType, &'static str, fn(&BrokerConfig) -> String);

const ROWS: &[Row] = &[
    (
        "auto.create.topics.enable",
        ConfigType::Boolean,
        "Setting auto_create_topics: whether a topic is created when a client asks for one that does not exist.",
        |config| config.auto_create_topics.to_string(),
    ),
    (
        "broker.id",
        ConfigType::Int,
        "Setting node_id: this broker's id in the cluster's metadata.",
        |config| config.node_id.to_string(),
    ),
    (
        "compression.type",
        ConfigType::String,
        "Setting compression_type: compression.type of topics that do not set it.",
        |config| word(&config.compression_type),
    ),
    (
        "connections.max.idle.ms",
        ConfigType::Long,
        "Setting connection_idle_ms: how long a connection may be silent before it is closed.",
        |config| config.connection_idle_ms.to_string(),
    ),
    (
        "default.replication.factor",
        ConfigType::Int,
        "There is one node, so every partition has one replica.",
        |_| "1".to_owned(),
    ),
    ("delete.topic.enable", ConfigType::Boolean, "Topics can always be deleted.", |_| "true".to_owned()),
    (
        "fetch.max.bytes",
        ConfigType::Int,
        "Setting fetch_bytes_max: the most that one Fetch answers.",
        |config| config.fetch_bytes_max.to_string(),
    ),
    (
        "group.consumer.assignors",
        ConfigType::List,
        "The assignors that run in the broker, the default first.",
        |_| Assignor::ALL.map(Assignor::name).join(","),
    ),
    (
        "group.consumer.heartbeat.interval.ms",
        ConfigType::Int,
        "Setting group_consumer_heartbeat_interval_ms: how often a member of a consumer group is to send a heartbeat.",
        |config| config.group_consumer_heartbeat_interval_ms.to_string(),
    ),
    (
        "group.consumer.max.size",
        ConfigType::Int,
        "Setting group_consumer_members_max: members of one consumer group.",
        |config| config.group_consumer_members_max.to_string(),
    ),
    (
        "group.consumer.migration.policy",
        ConfigType::String,
        "Setting group_consumer_migration: which way a consumer group with members may change its protocol.",
        |config| word(&config.group_consumer_migration),
    ),
    (
        "group.consumer.session.timeout.ms",
        ConfigType::Int,
        "Setting group_consumer_session_timeout_ms: silence after which a member of a consumer group is gone.",
        |config| config.group_consumer_session_timeout_ms.to_string(),
    ),
    (
        "group.initial.rebalance.delay.ms",
        ConfigType::Int,
        "Setting group_initial_rebalance_delay_ms: how long an empty group waits for more members.",
        |config| config.group_initial_rebalance_delay_ms.to_string(),
    ),
    (
        "group.max.session.timeout.ms",
        ConfigType::Int,
        "Setting group_session_timeout_max_ms: the longest session timeout of a group's member.",
        |config| config.group_session_timeout_max_ms.to_string(),
    ),
    ("group.max.size", ConfigType::Int, "Setting group_members_max: members of one group.", |config| {
        config.group_members_max.to_string()
    }),
    (
        "group.min.session.timeout.ms",
        ConfigType::Int,
        "Setting group_session_timeout_min_ms: the shortest session timeout of a group's member.",
        |config| config.group_session_timeout_min_ms.to_string(),
    ),
    (
        "highwater.http",
        ConfigType::String,
        "Setting http: where metrics, health and the JSON API are served.",
        |config| config.http.clone(),
    ),
    ("listeners", ConfigType::String, "Setting listen: where clients are accepted.", |config| {
        format!("PLAINTEXT://{}", config.listen)
    }),
    (
        "log.cleaner.backoff.ms",
        ConfigType::Long,
        "Setting compaction_interval_ms: between two looks at what is to be compacted.",
        |config| config.compaction_interval_ms.to_string(),
    ),
    (
        "log.cleaner.dedupe.buffer.size",
        ConfigType::Long,
        "Setting compaction_buffer_bytes: memory for the keys of a log that is compacted.",
        |config| config.compaction_buffer_bytes.to_string(),
    ),
    (
        "log.cleaner.io.max.bytes.per.second",
        ConfigType::Double,
        "Setting compaction_bytes_per_second_max: what compaction reads and writes a second at most.",
        |config| config.compaction_bytes_per_second_max.to_string(),
    ),
    (
        "log.cleanup.policy",
        ConfigType::List,
        "Old segments are deleted, unless a topic says otherwise.",
        |_| "delete".to_owned(),
    ),
    ("log.dirs", ConfigType::String, "Setting data_dir: the directory that holds the log.", |config| {
        config.data_dir.display().to_string()
    }),
    (
        "log.message.timestamp.after.max.ms",
        ConfigType::Long,
        "Setting timestamp_after_max_ms: message.timestamp.after.max.ms of topics that do not set it.",
        |config| config.timestamp_after_max_ms.to_string(),
    ),
    (
        "log.message.timestamp.before.max.ms",
        ConfigType::Long,
        "Setting timestamp_before_max_ms: message.timestamp.before.max.ms of topics that do not set it.",
        |config| config.timestamp_before_max_ms.to_string(),
    ),
    (
        "log.message.timestamp.type",
        ConfigType::String,
        "Setting timestamp_type: message.timestamp.type of topics that do not set it.",
        |config| word(&config.timestamp_type),
    ),
    (
        "log.retention.bytes",
        ConfigType::Long,
        "Setting retention_bytes: retention.bytes of topics that do not set it.",
        |config| config.retention_bytes.to_string(),
    ),
    (
        "log.retention.ms",
        ConfigType::Long,
        "Setting retention_ms: retention.ms of topics that do not set it.",
        |config| config.retention_ms.to_string(),
    ),
    (
        "log.roll.ms",
        ConfigType::Long,
        "Setting segment_ms: segment.ms of topics that do not set it.",
        |config| config.segment_ms.to_string(),
    ),
    (
        "log.segment.bytes",
        ConfigType::Int,
        "Setting segment_bytes: segment.bytes of topics that do not set it.",
        |config| config.segment_bytes.to_string(),
    ),
    ("max.connections", ConfigType::Int, "Setting connections_max: connections at a time.", |config| {
        config.connections_max.to_string()
    }),
    (
        "message.max.bytes",
        ConfigType::Int,
        "Setting message_bytes_max: max.message.bytes of topics that do not set it.",
        |config| config.message_bytes_max.to_string(),
    ),
    (
        "min.insync.replicas",
        ConfigType::Int,
        "There is one replica; acks=all means that it is on disk.",
        |_| "1".to_owned(),
    ),
    ("node.id", ConfigType::Int, "Setting node_id: this broker's id in the cluster's metadata.", |config| {
        config.node_id.to_string()
    }),
    (
        "num.partitions",
        ConfigType::Int,
        "Setting partitions_default: partitions of a topic that is created without a count.",
        |config| config.partitions_default.to_string(),
    ),
    (
        "offset.metadata.max.bytes",
        ConfigType::Int,
        "Setting group_offset_metadata_bytes_max: metadata of a committed offset.",
        |config| config.group_offset_metadata_bytes_max.to_string(),
    ),
    (
        "offsets.retention.minutes",
        ConfigType::Int,
        "Setting group_offsets_retention_ms: how long the offsets of a group without members are kept.",
        |config| (config.group_offsets_retention_ms / 60_000).to_string(),
    ),
    (
        "offsets.topic.num.partitions",
        ConfigType::Int,
        "Setting group_partitions: partitions of the internal topic that holds committed offsets.",
        |config| config.group_partitions.to_string(),
    ),
    (
        "offsets.topic.replication.factor",
        ConfigType::Int,
        "There is one node, so every partition has one replica.",
        |_| "1".to_owned(),
    ),
    (
        "socket.request.max.bytes",
        ConfigType::Int,
        "Setting request_bytes_max: the largest request.",
        |config| config.request_bytes_max.to_string(),
    ),
    (
        "transaction.max.timeout.ms",
        ConfigType::Int,
        "Setting transaction_timeout_max_ms: the longest that a producer may have a transaction open.",
        |config| config.transaction_timeout_max_ms.to_string(),
    ),
    (
        "transaction.state.log.num.partitions",
        ConfigType::Int,
        "Setting transaction_partitions: partitions of the internal topic that holds transactions.",
        |config| config.transaction_partitions.to_string(),
    ),
    (
        "transactional.id.expiration.ms",
        ConfigType::Int,
        "Setting transactional_id_expiration_ms: how long a transactional id is remembered after its last use.",
        |config| config.transactional_id_expiration_ms.to_string(),
    ),
];

/// All of them, by name.
pub fn broker_entries(context: &Context) -> Vec<BrokerEntry> {
    let defaults = BrokerConfig::default();
    let overrides = context.dynamic.overrides();
    let address = format!("PLAINTEXT://{}:{}", context.advertised_host, context.advertised_port);
    let source = if context.config.advertise.is_empty() { Source::Default } else { Source::Broker };
    let advertised = BrokerEntry {
        name: "advertised.listeners",
        standings: vec![("advertised.listeners", address, source)],
        read_only: true,
        config_type: ConfigType::String,
        documentation: "Setting advertise: what clients are told to connect to.",
    };
    let rows = ROWS.iter().map(|&(name, config_type, documentation, value)| {
        let (set, default) = (value(&context.config), value(&defaults));
        let mut fixed = Vec::new();
        if set != default {
            fixed.push((name, set, Source::Broker));
        }
        fixed.push((name, default, Source::Default));
        let standings = broker_standings(&overrides, name, fixed);
        let read_only = !DynamicConfig::can_change(name);
        BrokerEntry { name, standings, read_only, config_type, documentation }
    });
    std::iter::once(advertised).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_sorted_and_unique() {
        assert!(ROWS.is_sorted_by(|a, b| a.0 < b.0));
        assert!("advertised.listeners" < ROWS[0].0);
    }
}
