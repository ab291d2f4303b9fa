//! The APIs that the broker serves: one table of key, name, versions and encoding.
//!
//! A row here is a promise: ApiVersions advertises exactly these ranges, and log-server's tests hold
//! the table against its dispatch table. The ranges are Kafka 4.3's, narrowed to what is
//! implemented, never copied from a codec's abilities: a client picks the highest version that it
//! sees here and then relies on all of it.

use std::fmt;

/// An inclusive range of versions of one API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The lowest version.
    pub min: i16,
    /// The highest version.
    pub max: i16,
}

impl Versions {
    /// Whether `version` lies within.
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    /// Every version, ascending.
    pub fn iter(self) -> impl Iterator<Item = i16> {
        self.min..=self.max
    }

    /// The versions that both ranges hold, if any: what a client and a broker can speak.
    pub fn intersect(self, other: Versions) -> Option<Versions> {
        let both = Versions { min: self.min.max(other.min), max: self.max.min(other.max) };
        (both.min <= both.max).then_some(both)
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.min, self.max)
    }
}

/// Never flexible: the API predates KIP-482 and was left alone by it.
const NEVER: i16 = i16::MAX;

macro_rules! apis {
    ($($(#[$doc:meta])* $name:ident = $key:literal, $min:literal..=$max:literal, flexible $flexible:expr;)*) => {
        /// An API that the broker serves. The discriminant is its key on the wire.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(i16)]
        pub enum ApiKey {
            $($(#[$doc])* $name = $key,)*
        }

        impl ApiKey {
            /// Every served API, by ascending key.
            pub const ALL: &'static [ApiKey] = &[$(ApiKey::$name,)*];

            /// The API with this key, if it is served.
            pub const fn from_code(code: i16) -> Option<ApiKey> {
                match code {
                    $($key => Some(ApiKey::$name),)*
                    _ => None,
                }
            }

            /// Its name in Kafka's documentation.
            pub const fn name(self) -> &'static str {
                match self {
                    $(ApiKey::$name => stringify!($name),)*
                }
            }

            /// The versions that are served, which are those that ApiVersions advertises.
            pub const fn served(self) -> Versions {
                match self {
                    $(ApiKey::$name => Versions { min: $min, max: $max },)*
                }
            }

            /// The first version in the flexible encoding (KIP-482: compact lengths, tagged fields).
            const fn flexible_from(self) -> i16 {
                match self {
                    $(ApiKey::$name => $flexible,)*
                }
            }
        }
    };
}

apis! {
    /// Append record batches. 0 to 2 are advertised for old librdkafka, which otherwise concludes
    /// that no compression is supported (KAFKA-18659); they carry formats that are refused.
    Produce = 0, 0..=13, flexible 9;
    /// Read record batches, with a long poll.
    Fetch = 1, 4..=18, flexible 12;
    /// Find offsets by timestamp or by special value.
    ListOffsets = 2, 1..=11, flexible 6;
    /// Brokers, topics and partitions.
    Metadata = 3, 0..=13, flexible 9;
    /// Commit a group's offsets.
    OffsetCommit = 8, 2..=10, flexible 8;
    /// Fetch a group's committed offsets.
    OffsetFetch = 9, 1..=10, flexible 6;
    /// Which broker coordinates a group, or a transactional id.
    FindCoordinator = 10, 0..=6, flexible 3;
    /// Join a classic consumer group.
    JoinGroup = 11, 0..=9, flexible 6;
    /// Stay a member of a group.
    Heartbeat = 12, 0..=4, flexible 4;
    /// Leave a group.
    LeaveGroup = 13, 0..=5, flexible 4;
    /// Hand out or receive a group's assignment.
    SyncGroup = 14, 0..=5, flexible 4;
    /// Members and state of groups.
    DescribeGroups = 15, 0..=6, flexible 5;
    /// The groups of a broker.
    ListGroups = 16, 0..=5, flexible 3;
    /// This table.
    ApiVersions = 18, 0..=4, flexible 3;
    /// Create topics.
    CreateTopics = 19, 2..=7, flexible 5;
    /// Delete topics by name or id.
    DeleteTopics = 20, 1..=6, flexible 4;
    /// Move a partition's log start offset.
    DeleteRecords = 21, 0..=2, flexible 2;
    /// Give a producer its id and epoch.
    InitProducerId = 22, 0..=5, flexible 2;
    /// Where a leader epoch ended.
    OffsetForLeaderEpoch = 23, 2..=4, flexible 4;
    /// Which partitions a transaction is about to write to.
    AddPartitionsToTxn = 24, 0..=5, flexible 3;
    /// Add a group's offsets to a transaction.
    AddOffsetsToTxn = 25, 0..=4, flexible 3;
    /// Commit or abort a transaction.
    EndTxn = 26, 0..=5, flexible 3;
    /// End transactions in partitions, for an operator who has found one that hangs.
    WriteTxnMarkers = 27, 1..=2, flexible 1;
    /// Commit a group's offsets within a transaction.
    TxnOffsetCommit = 28, 0..=5, flexible 3;
    /// Access rules, of which there are none without authentication.
    DescribeAcls = 29, 1..=3, flexible 2;
    /// Add access rules, which nothing would enforce.
    CreateAcls = 30, 1..=3, flexible 2;
    /// Remove access rules.
    DeleteAcls = 31, 1..=3, flexible 2;
    /// Read topic and broker configurations.
    DescribeConfigs = 32, 1..=4, flexible 4;
    /// Replace a topic's configuration.
    AlterConfigs = 33, 0..=2, flexible 2;
    /// Log directories and the size of each partition.
    DescribeLogDirs = 35, 1..=5, flexible 2;
    /// Add partitions to topics.
    CreatePartitions = 37, 0..=3, flexible 2;
    /// Delete groups.
    DeleteGroups = 42, 0..=2, flexible 2;
    /// Elect leaders of partitions; there is one candidate, and it leads.
    ElectLeaders = 43, 0..=2, flexible 2;
    /// Change single entries of a topic's configuration.
    IncrementalAlterConfigs = 44, 0..=1, flexible 1;
    /// Move replicas of partitions; there is one broker, and it has them.
    AlterPartitionReassignments = 45, 0..=1, flexible 0;
    /// Replicas that are being moved.
    ListPartitionReassignments = 46, 0..=0, flexible 0;
    /// Delete a group's offsets for some partitions.
    OffsetDelete = 47, 0..=0, flexible NEVER;
    /// Quotas of clients.
    DescribeClientQuotas = 48, 0..=1, flexible 1;
    /// Set and remove quotas of clients.
    AlterClientQuotas = 49, 0..=1, flexible 1;
    /// Passwords of users, of whom there are none.
    DescribeUserScramCredentials = 50, 0..=0, flexible 0;
    /// Who votes on the cluster's metadata.
    DescribeQuorum = 55, 0..=2, flexible 0;
    /// Change the levels of the cluster's features.
    UpdateFeatures = 57, 0..=2, flexible 0;
    /// The brokers of the cluster.
    DescribeCluster = 60, 0..=2, flexible 0;
    /// Producers whose sequences a partition remembers.
    DescribeProducers = 61, 0..=0, flexible 0;
    /// Where transactional ids stand.
    DescribeTransactions = 65, 0..=0, flexible 0;
    /// The transactional ids that are known.
    ListTransactions = 66, 0..=2, flexible 0;
    /// Be a member of a consumer group (KIP-848).
    ConsumerGroupHeartbeat = 68, 0..=1, flexible 0;
    /// Members and state of consumer groups (KIP-848).
    ConsumerGroupDescribe = 69, 0..=1, flexible 0;
    /// Which metrics a client is to push.
    GetTelemetrySubscriptions = 71, 0..=0, flexible 0;
    /// A client's metrics.
    PushTelemetry = 72, 0..=0, flexible 0;
    /// What has a configuration.
    ListConfigResources = 74, 0..=1, flexible 0;
    /// Partitions of topics, a page at a time.
    DescribeTopicPartitions = 75, 0..=0, flexible 0;
}

impl ApiKey {
    /// The key on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// Whether bodies of `version` use the flexible encoding.
    pub const fn is_flexible(self, version: i16) -> bool {
        version >= self.flexible_from()
    }

    /// The request header's version: 2 has tagged fields, 1 has none. (0, without a client id, was
    /// only ever used between brokers.)
    pub const fn request_header_version(self, version: i16) -> i16 {
        if self.is_flexible(version) { 2 } else { 1 }
    }

    /// The response header's version: 1 has tagged fields, 0 has none.
    ///
    /// Always 0 for ApiVersions: its caller may not know yet whether the broker understood the
    /// version that it asked with (KIP-511).
    pub const fn response_header_version(self, version: i16) -> i16 {
        match self {
            ApiKey::ApiVersions => 0,
            _ if self.is_flexible(version) => 1,
            _ => 0,
        }
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_knows_every_served_version_and_agrees_on_its_encoding() {
        for &api in ApiKey::ALL {
            let descriptor = kafka_wire::API_DESCRIPTORS
                .iter()
                .find(|d| d.api_key.value() == api.code())
                .unwrap_or_else(|| panic!("{api} is unknown to the codec"));
            assert_eq!(descriptor.request.name, format!("{api}Request"));
            for version in api.served().iter() {
                // Kafka 4 dropped Produce 0 to 2 from its definitions; our own codec parses them.
                if api == ApiKey::Produce && version < 3 {
                    continue;
                }
                let wire_version = kafka_wire_core::ApiVersion::new(version);
                assert!(descriptor.supported_versions.contains(wire_version), "{api} {version}");
                let flexible = descriptor.flexible_versions.is_some_and(|range| range.contains(wire_version));
                assert_eq!(api.is_flexible(version), flexible, "{api} {version}");
            }
        }
    }

    #[test]
    fn keys_ascend_and_round_trip() {
        assert!(ApiKey::ALL.is_sorted());
        assert!(ApiKey::ALL.iter().all(|&api| ApiKey::from_code(api.code()) == Some(api)));
        assert_eq!(ApiKey::from_code(4), None, "LeaderAndIsr is between brokers");
    }

    #[test]
    fn api_versions_response_header_is_always_v0() {
        assert!((0..=4).all(|version| ApiKey::ApiVersions.response_header_version(version) == 0));
        assert_eq!(ApiKey::ApiVersions.request_header_version(3), 2);
        assert_eq!(ApiKey::Metadata.response_header_version(9), 1);
        assert_eq!(ApiKey::OffsetDelete.request_header_version(0), 1);
    }
}
