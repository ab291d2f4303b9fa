//! What can be set about groups.

/// Which way a group with members may change its protocol. Without members it always may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// Neither way.
    Disabled,
    /// From the classic protocol to the newer one.
    Upgrade,
    /// Back from there.
    Downgrade,
    /// Both ways, as in Kafka.
    Bidirectional,
}

impl MigrationPolicy {
    /// Whether a classic group may become a consumer group.
    pub fn upgrades(self) -> bool {
        matches!(self, MigrationPolicy::Upgrade | MigrationPolicy::Bidirectional)
    }

    /// Whether a consumer group may become a classic one.
    pub fn downgrades(self) -> bool {
        matches!(self, MigrationPolicy::Downgrade | MigrationPolicy::Bidirectional)
    }
}

/// Settings of a [`GroupCoordinator`](super::GroupCoordinator), fixed while it lives. The names in the
/// descriptions are those of Kafka's broker settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`: a member may not ask for a shorter session, which would make the broker
    /// busy with heartbeats.
    pub session_timeout_min_ms: i32,
    /// `group.max.session.timeout.ms`: a member may not ask for a longer session, which would keep its partitions
    /// idle for as long after a crash.
    pub session_timeout_max_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members before its first
    /// generation. Kafka's default is 3000; 0 here gives a lone consumer its partitions at once.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: members of one group, pending ones included.
    pub group_size_max: usize,
    /// `group.consumer.session.timeout.ms`: silence after which a member of a consumer group counts as gone.
    pub consumer_session_timeout_ms: i32,
    /// `group.consumer.heartbeat.interval.ms`: how often a member of a consumer group is to send a heartbeat.
    pub consumer_heartbeat_interval_ms: i32,
    /// `group.consumer.max.size`: members of one consumer group.
    pub consumer_group_size_max: usize,
    /// `group.consumer.migration.policy`: whether a group with members may change its protocol.
    pub consumer_migration: MigrationPolicy,
    /// How long a member that has joined for the first time may wait for its first generation. Such a member sends
    /// no heartbeats yet, so this bounds what a client that went away leaves behind. KIP-394 fixes it at 5 minutes.
    pub new_member_join_timeout_ms: i32,
    /// `offset.metadata.max.bytes`: the text that a client may store beside an offset.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`, in milliseconds: how long the offsets of an empty group are kept.
    pub offsets_retention_ms: i64,
    /// `producer.id.expiration.ms`: how long the last epoch of a transactional producer is remembered.
    pub producer_expiration_ms: i64,
    /// `offsets.retention.check.interval.ms`: how often offsets and groups to forget are looked for.
    pub offsets_retention_check_interval_ms: u64,
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            initial_rebalance_delay_ms: 0,
            group_size_max: 10_000,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_group_size_max: 10_000,
            consumer_migration: MigrationPolicy::Bidirectional,
            new_member_join_timeout_ms: 300_000,
            offset_metadata_bytes_max: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            producer_expiration_ms: 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 600_000,
        }
    }
}
