//! Every setting of the broker: its name, unit, default and meaning, once.
//!
//! A setting is looked for in this order, the last one found wins: the default, the TOML file (`--config`), the
//! environment (`HIGHWATER_` and the name in capitals), the command line (`--` and the name with dashes). An unknown
//! name in the file is an error that lists the known ones, because a setting that is silently ignored is worse than
//! one that is missing.

use std::path::PathBuf;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

/// Declares the settings: the structure, its defaults, and a flag for each one.
macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr;)*) => {
        /// The broker's settings. See the module's documentation for where they come from.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct BrokerConfig {
            $($(#[doc = $doc])+ pub $name: $type,)*
        }

        impl Default for BrokerConfig {
            fn default() -> Self {
                BrokerConfig { $($name: $default,)* }
            }
        }

        /// One optional flag for every setting. What is not given stays as file and environment have it.
        #[derive(Clone, Debug, Default, Serialize, clap::Args)]
        pub struct ConfigFlags {
            $(
                $(#[doc = $doc])+
                #[arg(long, value_name = "VALUE")]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )*
        }

        /// The names of all settings, in the order of their declaration.
        pub const SETTING_NAMES: &[&str] = &[$(stringify!($name),)*];
    };
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

settings! {
    /// Directory that holds the log. Created when missing [default: highwater-data]
    data_dir: PathBuf = PathBuf::from("highwater-data");
    /// HOST:PORT to accept Kafka clients on. Port 0 lets the system choose. Without TLS and authentication anything
    /// but loopback is open to everybody who can reach it [default: 127.0.0.1:9092]
    listen: String = "127.0.0.1:9092".to_owned();
    /// HOST:PORT that clients are told to connect to [default: the address that is listened on]
    advertise: String = String::new();
    /// HOST:PORT to serve metrics, health and the JSON API on; "off" for none [default: 127.0.0.1:9080]
    http: String = "127.0.0.1:9080".to_owned();
    /// This broker's id in the cluster's metadata [default: 1]
    node_id: i32 = 1;
    /// Threads that serve connections; 0 takes one per core, at most 16 [default: 0]
    worker_threads: usize = 0;
    /// What to log, as a tracing filter such as "info,log_server=debug" [default: info]
    log: String = "info".to_owned();

    /// Connections served at a time [default: 20000]
    connections_max: usize = 20_000;
    /// Connections served at a time from one address [default: 20000]
    connections_per_address_max: usize = 20_000;
    /// Milliseconds without a request after which a connection is closed [default: 600000]
    connection_idle_ms: u64 = 10 * MINUTE_MS;
    /// Milliseconds that a request may take from its first byte to its last [default: 30000]
    request_receive_ms: u64 = 30 * SECOND_MS;
    /// Milliseconds that a client may take to accept more of an answer [default: 60000]
    response_send_ms: u64 = MINUTE_MS;
    /// The largest request in bytes; a larger one closes its connection [default: 104857600]
    request_bytes_max: u32 = 100 << 20;
    /// Bytes of requests in flight over all connections; sockets are not read while it is spent
    /// [default: 268435456]
    requests_in_flight_bytes_max: u64 = 256 * MIB;

    /// Create a topic when a client asks for one that does not exist [default: true]
    auto_create_topics: bool = true;
    /// Partitions of a topic that is created without a count [default: 1]
    partitions_default: i32 = 1;
    /// Partitions that all topics together may have [default: 10000]
    partitions_max: usize = 10_000;
    /// Refuse a replication factor above 1 instead of clamping it to the one node [default: false]
    replication_strict: bool = false;

    /// segment.bytes of topics that do not set it: the size at which a segment is rolled [default: 1073741824]
    segment_bytes: u32 = 1 << 30;
    /// segment.ms of topics that do not set it: the age at which a segment is rolled [default: 604800000]
    segment_ms: i64 = 7 * DAY_MS as i64;
    /// retention.ms of topics that do not set it; -1 keeps for ever [default: 604800000]
    retention_ms: i64 = 7 * DAY_MS as i64;
    /// retention.bytes of topics that do not set it; -1 for no limit [default: -1]
    retention_bytes: i64 = -1;
    /// max.message.bytes of topics that do not set it: the largest record batch [default: 1048588]
    message_bytes_max: u32 = 1_048_588;

    /// Threads that sync the log; one sync serves every producer that waits for it [default: 2]
    flush_threads: usize = 2;
    /// Milliseconds that data nobody waits for may stay unsynced, and so unseen by consumers [default: 5]
    flush_linger_ms: u64 = 5;
    /// Milliseconds between two durable checkpoints of a partition that is written to [default: 100]
    checkpoint_interval_ms: u64 = 100;
    /// Milliseconds between two passes of retention and other housekeeping [default: 10000]
    housekeeping_interval_ms: u64 = 10 * SECOND_MS;
    /// Free bytes below which an alarm is raised and old segments may go before their time; 0 takes twice the hard
    /// limit [default: 0]
    disk_free_soft_bytes: u64 = 0;
    /// Free bytes below which produce is answered with a retriable error; 0 takes the larger of 5 % of the disk and
    /// 32 MiB, the two allocation steps that a log may need before it notices [default: 0]
    disk_free_hard_bytes: u64 = 0;
    /// Milliseconds for which a record is kept even if the disk fills up, of a topic with a retention.ms that is
    /// longer; -1 deletes nothing before its time [default: 86400000]
    space_retention_floor_ms: i64 = DAY_MS as i64;
    /// Bytes that each partition with committed offsets or transactions has allocated ahead, to be written to when the
    /// disk has not a block left [default: 1048576]
    group_reserve_bytes: u64 = MIB;
    /// Milliseconds within which all sealed segments are read and checked, again and again; 0 for never
    /// [default: 604800000]
    scrub_period_ms: u64 = 7 * DAY_MS;
    /// Bytes that this reads a second at most, even if it takes longer than its period then [default: 67108864]
    scrub_bytes_per_second_max: u64 = 64 * MIB;
    /// Segments that may be mapped at a time. Above it sealed ones that nobody has read for longest are closed, until
    /// they are read again; 0 takes three eighths of vm.max_map_count [default: 0]
    segments_mapped_max: usize = 0;
    /// Milliseconds between two looks at which logs are to be compacted [default: 15000]
    compaction_interval_ms: u64 = 15 * SECOND_MS;
    /// Bytes of memory for the keys of the log that is being compacted, 24 for each; what does not fit is left for the
    /// next pass [default: 134217728]
    compaction_buffer_bytes: u64 = 128 * MIB;
    /// Bytes that compaction reads and writes a second at most [default: 67108864]
    compaction_bytes_per_second_max: u64 = 64 * MIB;
    /// How the log is written: "mapped" stores through a memory map, "pwrite" calls the system [default: mapped]
    write_mode: WriteMode = WriteMode::Mapped;

    /// Bytes that one Fetch answers at most, whatever it asks for [default: 57671680]
    fetch_bytes_max: u32 = 55 << 20;
    /// Reads of history that is not in memory that wait for the disk at a time; others wait for their turn
    /// [default: 4]
    cold_reads_max: usize = 4;
    /// Incremental fetch sessions kept at a time [default: 1000]
    fetch_sessions_max: usize = 1_000;

    /// Milliseconds that a client's byte rate is averaged over to hold it to its quota: after as long a silence it may
    /// send that much at once [default: 10000]
    quota_window_ms: u64 = 10 * SECOND_MS;

    /// Metrics that clients are asked to push: prefixes of their names, separated by commas; "*" for all, "" for none
    /// [default: *]
    telemetry_metrics: String = "*".to_owned();
    /// Milliseconds between two pushes of a client [default: 60000]
    telemetry_push_interval_ms: u64 = MINUTE_MS;
    /// Clients whose pushed metrics are kept at a time [default: 1000]
    telemetry_clients_max: usize = 1_000;

    /// Partitions of the internal topic that holds committed offsets; fixed once it exists [default: 8]
    group_partitions: i32 = 8;
    /// The shortest session timeout a group's member may ask for, in milliseconds [default: 6000]
    group_session_timeout_min_ms: i32 = 6_000;
    /// The longest session timeout a group's member may ask for, in milliseconds [default: 1800000]
    group_session_timeout_max_ms: i32 = 1_800_000;
    /// Milliseconds that an empty group waits for more members before its first generation [default: 0]
    group_initial_rebalance_delay_ms: i32 = 0;
    /// Members of one group [default: 10000]
    group_members_max: usize = 10_000;
    /// Silence after which a member of a consumer group of the newer protocol counts as gone, in milliseconds
    /// [default: 45000]
    group_consumer_session_timeout_ms: i32 = 45_000;
    /// How often a member of a consumer group of the newer protocol is to send a heartbeat, in milliseconds
    /// [default: 5000]
    group_consumer_heartbeat_interval_ms: i32 = 5_000;
    /// Members of one consumer group of the newer protocol [default: 10000]
    group_consumer_members_max: usize = 10_000;
    /// Which way a consumer group with members may change its protocol: disabled, upgrade (to the newer one),
    /// downgrade, bidirectional [default: bidirectional]
    group_consumer_migration: Migration = Migration::Bidirectional;
    /// Milliseconds that the offsets of a group without members are kept [default: 604800000]
    group_offsets_retention_ms: i64 = 7 * DAY_MS as i64;
    /// Bytes of metadata that a commit may carry per partition [default: 4096]
    group_offset_metadata_bytes_max: usize = 4 * KIB as usize;

    /// Bytes that a partition of that topic may grow by before it is rewritten with what is still needed
    /// [default: 16777216]
    group_snapshot_bytes: u64 = 16 * MIB;

    /// The longest that a producer may ask to have a transaction open, in milliseconds [default: 900000]
    transaction_timeout_max_ms: i32 = 900_000;
    /// Milliseconds that a transactional id without an open transaction is remembered after its last use
    /// [default: 604800000]
    transactional_id_expiration_ms: i64 = 7 * DAY_MS as i64;
    /// Partitions of the internal topic that holds transactions; fixed once it exists [default: 8]
    transaction_partitions: i32 = 8;
    /// Bytes that a partition of that topic may grow by before it is rewritten with what is still needed
    /// [default: 16777216]
    transaction_snapshot_bytes: u64 = 16 * MIB;

    /// Milliseconds that a shutdown waits for requests in flight [default: 10000]
    shutdown_wait_ms: u64 = 10 * SECOND_MS;
}

/// How the log's bytes reach the page cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum WriteMode {
    /// Stores through a memory map of the segment.
    Mapped,
    /// `pwrite`; reads still go through the map.
    Pwrite,
}

/// Which way a consumer group with members may change its protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Migration {
    /// Neither way.
    Disabled,
    /// From the classic protocol to the newer one.
    Upgrade,
    /// Back from there.
    Downgrade,
    /// Both ways.
    Bidirectional,
}

/// A setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A source does not parse, or has a name or a type that does not fit.
    #[error("{0}")]
    Source(Box<figment::Error>),
    /// A value parses but cannot work.
    #[error("{name} = {value}: {reason}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// Why that does not work, and what would.
        reason: String,
    },
}

/// The environment's prefix.
const ENVIRONMENT_PREFIX: &str = "HIGHWATER_";

impl BrokerConfig {
    /// Settings for a broker inside a test: every port chosen by the system, nothing outside of `data_dir`.
    pub fn for_test(data_dir: impl Into<PathBuf>) -> Self {
        BrokerConfig {
            data_dir: data_dir.into(),
            listen: "127.0.0.1:0".to_owned(),
            http: "127.0.0.1:0".to_owned(),
            ..BrokerConfig::default()
        }
    }

    /// Loads the settings from all sources and checks them.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown name, a value that does not parse or cannot work.
    pub fn load(file: Option<&std::path::Path>, flags: &ConfigFlags) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(BrokerConfig::default()));
        if let Some(path) = file {
            figment = figment.merge(Toml::file_exact(path));
        }
        let config: BrokerConfig = figment
            .merge(Env::prefixed(ENVIRONMENT_PREFIX).only(SETTING_NAMES))
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(|error| ConfigError::Source(Box::new(error)))?;
        config.check()?;
        Ok(config)
    }

    /// Checks what the types do not say.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn check(&self) -> Result<(), ConfigError> {
        fn refuse<T>(
            name: &'static str,
            value: impl ToString,
            reason: impl Into<String>,
        ) -> Result<T, ConfigError> {
            Err(ConfigError::Value { name, value: value.to_string(), reason: reason.into() })
        }
        if self.node_id < 0 {
            return refuse("node_id", self.node_id, "a node's id is 0 or more");
        }
        if self.partitions_default < 1 {
            return refuse(
                "partitions_default",
                self.partitions_default,
                "a topic has at least one partition",
            );
        }
        if self.group_partitions < 1 {
            return refuse("group_partitions", self.group_partitions, "at least one partition is needed");
        }
        if self.transaction_partitions < 1 {
            return refuse(
                "transaction_partitions",
                self.transaction_partitions,
                "at least one partition is needed",
            );
        }
        if self.transaction_timeout_max_ms < 1 {
            return refuse(
                "transaction_timeout_max_ms",
                self.transaction_timeout_max_ms,
                "a transaction needs at least a millisecond",
            );
        }
        if self.transactional_id_expiration_ms < 1 {
            return refuse(
                "transactional_id_expiration_ms",
                self.transactional_id_expiration_ms,
                "an id has to be remembered for at least a millisecond",
            );
        }
        if self.request_bytes_max < 1024 {
            return refuse("request_bytes_max", self.request_bytes_max, "ordinary requests need 1024 bytes");
        }
        if self.requests_in_flight_bytes_max < u64::from(self.request_bytes_max) {
            return refuse(
                "requests_in_flight_bytes_max",
                self.requests_in_flight_bytes_max,
                format!("must be at least request_bytes_max ({})", self.request_bytes_max),
            );
        }
        if self.message_bytes_max >= self.request_bytes_max {
            return refuse(
                "message_bytes_max",
                self.message_bytes_max,
                format!("must be below request_bytes_max ({}), which has to hold it", self.request_bytes_max),
            );
        }
        if self.cold_reads_max == 0 {
            return refuse("cold_reads_max", 0, "history that is not in memory could not be read");
        }
        if self.compaction_buffer_bytes < MIB {
            return refuse(
                "compaction_buffer_bytes",
                self.compaction_buffer_bytes,
                format!("the keys of one batch have to fit: at least {MIB}"),
            );
        }
        if self.compaction_bytes_per_second_max == 0 {
            return refuse("compaction_bytes_per_second_max", 0, "at that rate nothing is ever compacted");
        }
        if self.flush_threads == 0 {
            return refuse("flush_threads", 0, "without a thread that syncs, nothing becomes durable");
        }
        if !(1..=i32::MAX as u64).contains(&self.telemetry_push_interval_ms) {
            return refuse(
                "telemetry_push_interval_ms",
                self.telemetry_push_interval_ms,
                "the protocol has room for 1 to 2147483647",
            );
        }
        if self.quota_window_ms == 0 {
            return refuse("quota_window_ms", 0, "a rate is averaged over some time");
        }
        if self.group_session_timeout_min_ms > self.group_session_timeout_max_ms {
            return refuse(
                "group_session_timeout_min_ms",
                self.group_session_timeout_min_ms,
                format!("is above group_session_timeout_max_ms ({})", self.group_session_timeout_max_ms),
            );
        }
        if !(1..self.group_consumer_session_timeout_ms).contains(&self.group_consumer_heartbeat_interval_ms) {
            return refuse(
                "group_consumer_heartbeat_interval_ms",
                self.group_consumer_heartbeat_interval_ms,
                format!(
                    "must be below group_consumer_session_timeout_ms ({}), or members are put out between heartbeats",
                    self.group_consumer_session_timeout_ms
                ),
            );
        }
        Ok(())
    }

    /// The number of threads that serve connections.
    pub fn worker_threads_effective(&self) -> usize {
        match self.worker_threads {
            0 => std::thread::available_parallelism().map_or(2, usize::from).min(16),
            threads => threads,
        }
    }

    /// The address for HTTP, unless it is switched off.
    pub fn http_address(&self) -> Option<&str> {
        (!matches!(self.http.as_str(), "" | "off" | "none")).then_some(self.http.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_work() {
        BrokerConfig::default().check().unwrap();
    }

    #[test]
    fn flags_win_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("highwater.toml");
        std::fs::write(&file, "partitions_default = 3\nretention_ms = 1000\n").unwrap();
        let flags = ConfigFlags { retention_ms: Some(2000), ..ConfigFlags::default() };
        let config = BrokerConfig::load(Some(&file), &flags).unwrap();
        assert_eq!((config.partitions_default, config.retention_ms), (3, 2000));
    }

    #[test]
    fn unknown_names_and_missing_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("highwater.toml");
        std::fs::write(&file, "partitons_default = 3\n").unwrap();
        let error = BrokerConfig::load(Some(&file), &ConfigFlags::default()).unwrap_err();
        assert!(error.to_string().contains("partitons_default"), "{error}");
        assert!(BrokerConfig::load(Some(&dir.path().join("none.toml")), &ConfigFlags::default()).is_err());
    }

    #[test]
    fn contradictions_are_refused_with_a_reason() {
        let config = BrokerConfig { requests_in_flight_bytes_max: 1, ..BrokerConfig::default() };
        assert!(config.check().unwrap_err().to_string().contains("request_bytes_max"));
    }
}
