//! How a consumer fetches, starts, commits and takes part in a group.

use std::time::Duration;

use log_core::wire::IsolationLevel;

use super::assignor::Assignor;

/// Where to begin in a partition for which the group has committed nothing, or when the position is no
/// longer in the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the first record that is there.
    Earliest,
    /// At what comes from now on.
    #[default]
    Latest,
    /// Nowhere: it is an error.
    None,
}

/// Settings of a [`Consumer`](super::Consumer).
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The group to be a member of, or to commit for.
    pub group: Option<GroupConfig>,
    /// Where to begin. Default latest.
    pub offset_reset: OffsetReset,
    /// Whether records of unfinished and aborted transactions are seen. Default uncommitted.
    pub isolation: IsolationLevel,
    /// Records that one poll returns at most. Default 500.
    pub poll_records_max: usize,
    /// How long the broker may wait for records. Default 500 ms.
    pub fetch_wait_max: Duration,
    /// How many bytes make an answer worth sending. Default 1.
    pub fetch_bytes_min: i32,
    /// Bytes that one answer holds at most, a single larger batch excepted. Default 50 MiB.
    pub fetch_bytes_max: i32,
    /// Bytes that one partition has in an answer at most, a single larger batch excepted. Default 1 MiB.
    pub partition_bytes_max: i32,
    /// While more than this many fetched bytes have not been polled, nothing more is fetched. Default
    /// 16 MiB.
    pub buffer_bytes_max: usize,
    /// Whether each batch's checksum is verified. Default true.
    pub check_crcs: bool,
    /// Bytes that one batch may decompress to. Default 128 MiB.
    pub batch_bytes_max: usize,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        ConsumerConfig {
            group: None,
            offset_reset: OffsetReset::default(),
            isolation: IsolationLevel::default(),
            poll_records_max: 500,
            fetch_wait_max: Duration::from_millis(500),
            fetch_bytes_min: 1,
            fetch_bytes_max: 50 << 20,
            partition_bytes_max: 1 << 20,
            buffer_bytes_max: 16 << 20,
            check_crcs: true,
            batch_bytes_max: 128 << 20,
        }
    }
}

impl ConsumerConfig {
    /// The defaults, in a group.
    pub fn in_group(id: impl Into<String>) -> ConsumerConfig {
        ConsumerConfig { group: Some(GroupConfig::new(id)), ..ConsumerConfig::default() }
    }
}

/// Who shares out a group's partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GroupProtocol {
    /// A member, by one of [`GroupConfig::assignors`].
    #[default]
    Classic,
    /// The broker (KIP-848), which has to be Highwater or Apache Kafka 4.0 and later. Members move partitions one by
    /// one, without stopping the others. Session timeout and heartbeat interval are the broker's.
    Consumer {
        /// `uniform` or `range`; `None` leaves it to the broker.
        assignor: Option<String>,
    },
}

/// Settings of a group's member.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The group's name.
    pub id: String,
    /// Who shares out the partitions. Default classic.
    pub protocol: GroupProtocol,
    /// The member's own name, which makes it a static member (KIP-345): it keeps its share while it is
    /// away for less than the session timeout. Default none.
    pub instance_id: Option<String>,
    /// How long the member may be silent before it is taken for dead. Default 45 s.
    pub session_timeout: Duration,
    /// How often it says that it is alive. Default 3 s.
    pub heartbeat_interval: Duration,
    /// How long a rebalance waits for its members, and how long a member may go without polling before
    /// it leaves. Default 5 min.
    pub poll_interval_max: Duration,
    /// Strategies of the classic protocol, in order of preference. Default range, then round robin.
    pub assignors: Vec<Assignor>,
    /// How often positions are committed by themselves; `None` for never. Default 5 s.
    pub auto_commit: Option<Duration>,
}

impl GroupConfig {
    /// The defaults for the group `id`.
    pub fn new(id: impl Into<String>) -> GroupConfig {
        GroupConfig {
            id: id.into(),
            protocol: GroupProtocol::default(),
            instance_id: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            poll_interval_max: Duration::from_secs(300),
            assignors: vec![Assignor::Range, Assignor::RoundRobin],
            auto_commit: Some(Duration::from_secs(5)),
        }
    }

    /// Whether the broker shares out.
    pub(super) fn is_epochal(&self) -> bool {
        matches!(self.protocol, GroupProtocol::Consumer { .. })
    }

    /// Whether the member keeps its partitions while the group is rebalancing: only if no strategy of
    /// its list would have it give them up.
    pub(super) fn is_cooperative(&self) -> bool {
        self.is_epochal() || self.assignors.iter().all(|&assignor| assignor == Assignor::CooperativeSticky)
    }
}
