//! Every setting of the broker: its name, unit, default and meaning, once.
//!
//! A setting is looked for in this order, the last one found wins: the default, the TOML file (`--config`), the
//! environment (`HIGHWATER_` and the name in capitals), the command line (`--` and the name with dashes). An unknown
//! name in the file is an error that lists the known ones, because a setting that is silently ignored is worse than
//! one that is missing.

use std::path::PathBuf;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use log_core::log::LogConfig;
use serde::{Deserialize, Serialize};

use crate::resource_config::objective::webhook_reason;

pub use setting::{Setting, word};

mod reference;
mod setting;

pub use reference::toml;

/// Declares the settings: the structure, its defaults, a flag for each one, and what the reference says of it. A title in
/// brackets begins a section of the reference; behind a default can stand the range of values and why it is that.
macro_rules! settings {
    ($(
        [$section:literal]
        $($(#[doc = $doc:literal])+ $name:ident: $type:ty = $default:expr $(, in $range:expr, $reason:literal)?;)*
    )*) => {
        /// The broker's settings. See the module's documentation for where they come from.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct BrokerConfig {
            $($($(#[doc = $doc])+ pub $name: $type,)*)*
        }

        impl Default for BrokerConfig {
            fn default() -> Self {
                BrokerConfig { $($($name: $default,)*)* }
            }
        }

        /// One optional flag for every setting. What is not given stays as file and environment have it.
        #[derive(Clone, Debug, Default, Serialize, clap::Args)]
        pub struct ConfigFlags {
            $($(
                $(#[doc = $doc])+
                #[arg(long, value_name = "VALUE")]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $name: Option<$type>,
            )*)*
        }

        /// The names of all settings, in the order of their declaration.
        pub const SETTING_NAMES: &[&str] = &[$($(stringify!($name),)*)*];

        /// What the reference says of every setting, in the order of their declaration.
        pub fn settings() -> Vec<Setting> {
            let default = BrokerConfig::default();
            vec![$($(
                Setting::new::<$type>(
                    $section,
                    stringify!($name),
                    concat!($($doc),+),
                    &default.$name,
                    setting::range!($($range)?),
                ),
            )*)*]
        }

        impl BrokerConfig {
            fn check_ranges(&self) -> Result<(), ConfigError> {
                $($($(setting::check(stringify!($name), &self.$name, $range, $reason)?;)?)*)*
                Ok(())
            }
        }
    };
}

/// The most that Kafka's type INT holds.
const MAX_INT: u32 = i32::MAX as u32;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const SECOND_MS: u64 = 1000;
const MINUTE_MS: u64 = 60 * SECOND_MS;
const DAY_MS: u64 = 24 * 60 * MINUTE_MS;

settings! {
    ["The process and its addresses"]
    /// Directory that holds the log. Created when missing [default: highwater-data]
    data_dir: PathBuf = PathBuf::from("highwater-data");
    /// HOST:PORT to accept Kafka clients on. Port 0 lets the system choose. Without TLS and authentication anything
    /// but loopback is open to everybody who can reach it [default: 127.0.0.1:9092]
    listen: String = "127.0.0.1:9092".to_owned();
    /// HOST:PORT that clients are told to connect to [default: the address that is listened on]
    advertise: String = String::new();
    /// HOST:PORT to serve metrics, health and the JSON API on; "off" for none [default: 127.0.0.1:9080]
    http: String = "127.0.0.1:9080".to_owned();
    /// Names, separated by commas, by which HTTP may be asked besides addresses and localhost: those of a proxy in front
    /// of it. Beyond loopback none stands for any [default: empty]
    http_hosts: String = String::new();
    /// HTTP connections served at a time, those that follow records included [default: 512]
    http_connections_max: usize = 512, in 1.., "at least one connection is needed";
    /// The largest body of an HTTP request in bytes [default: 8388608]
    http_body_bytes_max: u64 = 8 * MIB, in 1024.., "ordinary requests need 1024 bytes";
    /// This broker's id in the cluster's metadata [default: 1]
    node_id: i32 = 1, in 0.., "a node's id is 0 or more";
    /// Threads that serve connections; 0 takes one per core, at most 16 [default: 0]
    worker_threads: usize = 0;
    /// What to log, as a tracing filter such as "info,log_server=debug" [default: info]
    log: String = "info".to_owned();

    ["Connections and requests"]
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
    request_bytes_max: u32 = 100 << 20, in 1024.., "ordinary requests need 1024 bytes";
    /// Bytes of requests in flight over all connections; sockets are not read while it is spent
    /// [default: 268435456]
    requests_in_flight_bytes_max: u64 = 256 * MIB;

    ["Topics"]
    /// Create a topic when a client asks for one that does not exist [default: true]
    auto_create_topics: bool = true;
    /// Partitions of a topic that is created without a count [default: 1]
    partitions_default: i32 = 1, in 1.., "a topic has at least one partition";
    /// Partitions that all topics together may have [default: 10000]
    partitions_max: usize = 10_000;
    /// Refuse a replication factor above 1 instead of clamping it to the one node [default: false]
    replication_strict: bool = false;

    ["What topics do not set"]
    /// segment.bytes of topics that do not set it: the size at which a segment is rolled [default: 1073741824]
    segment_bytes: u32 = 1 << 30,
        in LogConfig::SEGMENT_BYTES_MIN..=MAX_INT, "a segment holds at least one batch, and positions in it have 31 bits";
    /// segment.ms of topics that do not set it: the age at which a segment is rolled [default: 604800000]
    segment_ms: i64 = 7 * DAY_MS as i64, in 1.., "a segment has to live for at least a millisecond";
    /// retention.ms of topics that do not set it; -1 keeps for ever [default: 604800000]
    retention_ms: i64 = 7 * DAY_MS as i64, in -1.., "-1 keeps records for ever, 0 and more are milliseconds";
    /// retention.bytes of topics that do not set it; -1 for no limit [default: -1]
    retention_bytes: i64 = -1, in -1.., "-1 sets no limit, 0 and more are bytes";
    /// max.message.bytes of topics that do not set it: the largest record batch [default: 1048588]
    message_bytes_max: u32 = 1_048_588, in 0..=MAX_INT, "the protocol counts a batch's bytes with 31 bits";
    /// compression.type of topics that do not set it: the codec that batches are stored with; producer keeps them as
    /// they came [default: producer]
    compression_type: CompressionType = CompressionType::Producer;
    /// message.timestamp.type of topics that do not set it: whose clock stamps the records, the producer's (CreateTime)
    /// or the broker's (LogAppendTime) [default: CreateTime]
    timestamp_type: TimestampType = TimestampType::CreateTime;
    /// message.timestamp.before.max.ms of topics that do not set it: how far a record's timestamp may lie behind the
    /// broker's clock [default: 9223372036854775807]
    timestamp_before_max_ms: i64 = i64::MAX, in 0.., "a record that is stamped now has to be taken";
    /// message.timestamp.after.max.ms of topics that do not set it: how far a record's timestamp may lie ahead of the
    /// broker's clock [default: 3600000]
    timestamp_after_max_ms: i64 = 60 * MINUTE_MS as i64, in 0.., "a record that is stamped now has to be taken";

    ["The log and the disk"]
    /// Threads that sync the log; one sync serves every producer that waits for it [default: 2]
    flush_threads: usize = 2, in 1.., "without a thread that syncs, nothing becomes durable";
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
    space_retention_floor_ms: i64 = DAY_MS as i64,
        in -1.., "-1 deletes nothing before its time, 0 and more are milliseconds";
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
    compaction_buffer_bytes: u64 = 128 * MIB, in MIB.., "the keys of one batch have to fit";
    /// Bytes that compaction reads and writes a second at most [default: 67108864]
    compaction_bytes_per_second_max: u64 = 64 * MIB, in 1.., "at that rate nothing is ever compacted";
    /// How the log is written: "mapped" stores through a memory map, "pwrite" calls the system [default: mapped]
    write_mode: WriteMode = WriteMode::Mapped;

    ["Consumers"]
    /// Bytes that one Fetch answers at most, whatever it asks for [default: 57671680]
    fetch_bytes_max: u32 = 55 << 20;
    /// Reads of history that is not in memory that wait for the disk at a time; others wait for their turn
    /// [default: 4]
    cold_reads_max: usize = 4, in 1.., "history that is not in memory could not be read";
    /// Incremental fetch sessions kept at a time [default: 1000]
    fetch_sessions_max: usize = 1_000;

    ["Clients' quotas and metrics"]
    /// Milliseconds that a client's byte rate is averaged over to hold it to its quota: after as long a silence it may
    /// send that much at once [default: 10000]
    quota_window_ms: u64 = 10 * SECOND_MS, in 1.., "a rate is averaged over some time";

    /// Metrics that clients are asked to push: prefixes of their names, separated by commas; "*" for all, "" for none
    /// [default: *]
    telemetry_metrics: String = "*".to_owned();
    /// Milliseconds between two pushes of a client [default: 60000]
    telemetry_push_interval_ms: u64 = MINUTE_MS, in 1..=i32::MAX as u64, "the protocol has room for 31 bits";
    /// Clients whose pushed metrics are kept at a time [default: 1000]
    telemetry_clients_max: usize = 1_000;

    ["Metrics and traces of the broker"]
    /// Partitions that have metrics of their own, first by name; the others are in their topics' sums only
    /// [default: 1000]
    metrics_partitions_max: usize = 1_000;
    /// Where traces are sent by OTLP over HTTP, such as "http://127.0.0.1:4318", to which /v1/traces is added; "" sends
    /// none [default: ]
    otlp_endpoint: String = String::new();

    ["Groups"]
    /// Partitions of the internal topic that holds committed offsets; fixed once it exists [default: 8]
    group_partitions: i32 = 8, in 1.., "at least one partition is needed";
    /// The shortest session timeout a group's member may ask for, in milliseconds [default: 6000]
    group_session_timeout_min_ms: i32 = 6_000, in 1.., "a session lasts at least a millisecond";
    /// The longest session timeout a group's member may ask for, in milliseconds [default: 1800000]
    group_session_timeout_max_ms: i32 = 1_800_000, in 1.., "a session lasts at least a millisecond";
    /// Milliseconds that an empty group waits for more members before its first generation [default: 0]
    group_initial_rebalance_delay_ms: i32 = 0, in 0.., "a group cannot wait for less than no time";
    /// Members of one group [default: 10000]
    group_members_max: usize = 10_000;
    /// Silence after which a member of a consumer group of the newer protocol counts as gone, in milliseconds
    /// [default: 45000]
    group_consumer_session_timeout_ms: i32 = 45_000, in 1.., "a session lasts at least a millisecond";
    /// How often a member of a consumer group of the newer protocol is to send a heartbeat, in milliseconds
    /// [default: 5000]
    group_consumer_heartbeat_interval_ms: i32 = 5_000, in 1.., "a heartbeat takes at least a millisecond";
    /// Members of one consumer group of the newer protocol [default: 10000]
    group_consumer_members_max: usize = 10_000;
    /// Which way a consumer group with members may change its protocol: disabled, upgrade (to the newer one),
    /// downgrade, bidirectional [default: bidirectional]
    group_consumer_migration: Migration = Migration::Bidirectional;
    /// Milliseconds that the offsets of a group without members are kept [default: 604800000]
    group_offsets_retention_ms: i64 = 7 * DAY_MS as i64,
        in 0.., "offsets cannot be kept for less than no time";
    /// Bytes of metadata that a commit may carry per partition [default: 4096]
    group_offset_metadata_bytes_max: usize = 4 * KIB as usize;

    /// Bytes that a partition of that topic may grow by before it is rewritten with what is still needed
    /// [default: 16777216]
    group_snapshot_bytes: u64 = 16 * MIB;

    ["Lag"]
    /// Milliseconds between two samples of every group's lag, which rates and history are made of; longer where one
    /// takes more than a twentieth of it [default: 1000]
    lag_sample_interval_ms: u64 = SECOND_MS, in 1.., "a sample takes at least a millisecond";
    /// Groups whose lag of the last hours is kept, some 21 KiB each [default: 500]
    lag_history_groups_max: usize = 500;

    ["Lag objectives and load shedding"]
    /// The http URL that changes of a lag objective's state are posted to, of objectives without one of their own
    /// [default: none]
    slo_webhook: String = String::new();
    /// Hosts that webhooks of groups may name, separated by commas, and no others; without any, all but those on the
    /// broker's machine or link [default: none]
    slo_webhook_hosts: String = String::new();
    /// Hold up and then refuse producers to topics of lower priority while a lag objective is violated or the disk is
    /// past its soft limit [default: true]
    shedding: bool = true;
    /// Milliseconds that a step of shedding has to help before the next one [default: 10000]
    shedding_step_ms: u64 = 10 * SECOND_MS, in 1.., "a step lasts at least a millisecond";
    /// Milliseconds without need of a step of shedding before it is taken back [default: 30000]
    shedding_heal_ms: u64 = 30 * SECOND_MS, in 1.., "a step lasts at least a millisecond";
    /// Milliseconds for which load is shed for a group that does not get better by it, before the group has to wait as
    /// long, and longer each further time, for the next try [default: 300000]
    shedding_patience_ms: u64 = 300 * SECOND_MS, in 1.., "a try lasts at least a millisecond";
    /// Milliseconds that a client is held up for each produce request to topics of a class that is throttled
    /// [default: 1000]
    shedding_throttle_ms: u64 = SECOND_MS, in 1..=60_000, "a client that waits for longer takes the broker for dead";

    ["Transactions"]
    /// The longest that a producer may ask to have a transaction open, in milliseconds [default: 900000]
    transaction_timeout_max_ms: i32 = 900_000, in 1.., "a transaction needs at least a millisecond";
    /// Milliseconds that a transactional id without an open transaction is remembered after its last use
    /// [default: 604800000]
    transactional_id_expiration_ms: i64 = 7 * DAY_MS as i64,
        in 1.., "an id has to be remembered for at least a millisecond";
    /// Partitions of the internal topic that holds transactions; fixed once it exists [default: 8]
    transaction_partitions: i32 = 8, in 1.., "at least one partition is needed";
    /// Bytes that a partition of that topic may grow by before it is rewritten with what is still needed
    /// [default: 16777216]
    transaction_snapshot_bytes: u64 = 16 * MIB;

    ["Shutdown"]
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

/// The codec that batches are stored with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "they are their names")]
pub enum CompressionType {
    Uncompressed,
    Zstd,
    Lz4,
    Snappy,
    Gzip,
    /// Whichever the producer has chosen.
    Producer,
}

/// Whose clock stamps the records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The broker's.
    LogAppendTime,
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
        self.check_ranges()?;
        if !self.otlp_endpoint.is_empty() && !is_http_address(&self.otlp_endpoint) {
            let reason = "write http://HOST:PORT; a collector beside the broker can add TLS";
            return refuse("otlp_endpoint", &self.otlp_endpoint, reason);
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
        if self.group_session_timeout_min_ms > self.group_session_timeout_max_ms {
            return refuse(
                "group_session_timeout_min_ms",
                self.group_session_timeout_min_ms,
                format!("is above group_session_timeout_max_ms ({})", self.group_session_timeout_max_ms),
            );
        }
        if self.group_consumer_heartbeat_interval_ms >= self.group_consumer_session_timeout_ms {
            return refuse(
                "group_consumer_heartbeat_interval_ms",
                self.group_consumer_heartbeat_interval_ms,
                format!(
                    "must be below group_consumer_session_timeout_ms ({}), or members are put out between heartbeats",
                    self.group_consumer_session_timeout_ms
                ),
            );
        }
        if let Some(reason) = webhook_reason(&self.slo_webhook) {
            return refuse("slo_webhook", &self.slo_webhook, reason);
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

/// Whether requests can be sent to it: an absolute URL of HTTP, without TLS.
fn is_http_address(url: &str) -> bool {
    let parsed = url.parse::<axum::http::Uri>();
    parsed.is_ok_and(|url| {
        url.scheme_str() == Some("http") && url.authority().is_some() && url.query().is_none()
    })
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
    fn traces_go_to_an_address_of_http() {
        let with =
            |endpoint: &str| BrokerConfig { otlp_endpoint: endpoint.to_owned(), ..BrokerConfig::default() };
        for endpoint in ["", "http://127.0.0.1:4318", "http://collector:4318/prefix/"] {
            with(endpoint).check().unwrap();
        }
        for endpoint in ["collector:4318", "https://collector", "/v1/traces", "http://", "http://a/?b=c"] {
            assert!(
                with(endpoint).check().unwrap_err().to_string().contains("http://HOST:PORT"),
                "{endpoint}"
            );
        }
    }

    #[test]
    fn contradictions_are_refused_with_a_reason() {
        let config = BrokerConfig { requests_in_flight_bytes_max: 1, ..BrokerConfig::default() };
        assert!(config.check().unwrap_err().to_string().contains("request_bytes_max"));
    }

    #[test]
    fn a_value_outside_of_its_range_is_refused_with_the_range() {
        let config = BrokerConfig { segment_bytes: 1023, ..BrokerConfig::default() };
        let refused = config.check().unwrap_err().to_string();
        assert!(
            refused.contains("segment_bytes = 1023") && refused.contains("1024 to 2147483647"),
            "{refused}"
        );
        let config = BrokerConfig { retention_ms: -1, retention_bytes: -1, ..BrokerConfig::default() };
        config.check().unwrap();
    }
}
