//! What is known of every group's lag at one moment.

use std::sync::Arc;

use log_core::log::Isolation;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::rate::catch_up_seconds;
use crate::coordinator::group::{GroupProtocol, GroupState, MemberOverview};

/// The lag of every group at one moment, as the [`Board`](super::Board) publishes it. Never changed once published.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LagSample {
    /// Counts up from 1 with each sample since the broker's start; 0 before the first.
    pub number: u64,
    /// When it was taken, in milliseconds since the epoch by the broker's clock.
    pub sampled_at_ms: i64,
    /// Every group there is, ordered by name.
    pub groups: Vec<GroupLag>,
}

impl LagSample {
    /// One group, if there is one of that name.
    pub fn group(&self, group: &str) -> Option<&GroupLag> {
        let index = self.groups.binary_search_by(|other| (*other.group).cmp(group)).ok()?;
        Some(&self.groups[index])
    }
}

/// How fast a group goes on, and what it would have to catch up with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct Rates {
    /// Records that the group commits a second, over the last 20 seconds or the last commits; 0 while it does not
    /// consume, `None` until it has committed twice since it began.
    pub consume_records_per_second: Option<f64>,
    /// Records that come in a second, over the last 20 seconds; `None` in the first two samples.
    pub produce_records_per_second: Option<f64>,
    /// Seconds until the lag is consumed, at these rates. 0 without lag, and for a group that is no further behind than
    /// what comes in between two of its commits. `None` for a group that does not get nearer to the end, or whose rates
    /// are not known.
    pub catch_up_seconds: Option<f64>,
    /// Seconds between two commits, 0 if not known.
    #[serde(skip)]
    pub(super) commit_interval_seconds: f64,
}

/// What a group is behind by.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupLag {
    /// The group.
    pub group: Arc<str>,
    /// What it is doing.
    pub state: GroupState,
    /// Empty in a group that only holds offsets.
    pub protocol_type: Arc<str>,
    /// How its members are members.
    pub protocol: GroupProtocol,
    /// Who is in it and what each works on, in the order of their ids.
    pub members: Vec<MemberOverview>,
    /// Ordered by topic and partition. Partitions in which the group has no offset are not among them.
    pub partitions: Vec<PartitionLag>,
    /// Over all partitions. The time to catch up is that of all of them together: a consumer may well take them one
    /// after another.
    pub rates: Rates,
}

impl GroupLag {
    /// Records that the group has not consumed, over all partitions.
    pub fn lag_records(&self) -> i64 {
        self.partitions.iter().map(|partition| partition.lag_records).fold(0, i64::saturating_add)
    }

    /// The largest lag of a partition, in seconds; `None` if it is not known of all of them.
    pub fn lag_seconds(&self) -> Option<f64> {
        self.partitions.iter().try_fold(0.0, |most, partition| Some(partition.lag_seconds?.max(most)))
    }

    /// Whether the count of records is exact in every partition, see [`PartitionLag::exact`].
    pub fn is_exact(&self) -> bool {
        self.partitions.iter().all(|partition| partition.exact)
    }

    /// One of its partitions.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionLag> {
        let index = self.partitions.binary_search_by(|other| other.place().cmp(&(topic, partition))).ok()?;
        Some(&self.partitions[index])
    }

    /// Takes over the rates that `sample` has of the group, and tells the time to catch up from them.
    pub(super) fn with_rates_of(mut self, sample: &LagSample) -> GroupLag {
        let known = sample.group(&self.group);
        for partition in &mut self.partitions {
            let found = known.and_then(|group| group.partition(&partition.topic, partition.partition));
            partition.set_rates(found.map_or(Rates::default(), |found| found.rates));
        }
        self.sum_up();
        self
    }

    /// The group's rates from those of its partitions.
    pub(super) fn sum_up(&mut self) {
        let sum = |rate: fn(&Rates) -> Option<f64>| {
            self.partitions
                .iter()
                .filter_map(|partition| rate(&partition.rates))
                .reduce(|sum, rate| sum + rate)
        };
        let consume_records_per_second = sum(|rates| rates.consume_records_per_second);
        let produce_records_per_second = sum(|rates| rates.produce_records_per_second);
        let intervals = self.partitions.iter().map(|partition| partition.rates.commit_interval_seconds);
        let commit_interval_seconds = intervals.fold(0.0, f64::max);
        self.rates = Rates {
            consume_records_per_second,
            produce_records_per_second,
            catch_up_seconds: catch_up_seconds(
                self.lag_records(),
                consume_records_per_second,
                produce_records_per_second,
                commit_interval_seconds,
            ),
            commit_interval_seconds,
        };
    }
}

/// What a group is behind by in one partition.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct PartitionLag {
    /// Topic name.
    pub topic: Arc<str>,
    /// Partition index.
    pub partition: i32,
    /// The next offset that the group wants to read.
    pub committed_offset: i64,
    /// When it said so, in milliseconds since the epoch.
    pub committed_at_ms: i64,
    /// The first offset that is left in the log.
    pub log_start_offset: i64,
    /// The offset up to which the group can read: the high watermark, or the last stable offset for a group that reads
    /// committed records only.
    pub log_end_offset: i64,
    /// Which records the group sees.
    #[serde(serialize_with = "isolation_name")]
    #[schema(value_type = String)]
    pub isolation: Isolation,
    /// Records in between that the group will see.
    pub lag_records: i64,
    /// Whether that is exact. If not, it counts offsets of which some may hold no record, or the first of them is not
    /// found yet, and will be exact once the log has been looked through.
    pub exact: bool,
    /// Age of the first of them, in seconds. While the log is being looked through for it, no less than that: what it
    /// was, and the time since. `None` if nothing is known of it, or the log is damaged there.
    pub lag_seconds: Option<f64>,
    /// Where that record is, if it is known.
    #[serde(skip)]
    pub first_offset: Option<i64>,
    /// How fast that changes.
    #[serde(flatten)]
    pub rates: Rates,
    /// The member that the partition is assigned to, if there is one.
    pub member_id: Option<Arc<str>>,
    /// Its `client.id`.
    pub client_id: Option<Arc<str>>,
}

impl PartitionLag {
    fn place(&self) -> (&str, i32) {
        (&self.topic, self.partition)
    }

    /// Sets the rates, and the time to catch up that they give with this lag.
    pub(super) fn set_rates(&mut self, rates: Rates) {
        let catch_up_seconds = catch_up_seconds(
            self.lag_records,
            rates.consume_records_per_second,
            rates.produce_records_per_second,
            rates.commit_interval_seconds,
        );
        self.rates = Rates { catch_up_seconds, ..rates };
    }
}

fn isolation_name<S: Serializer>(isolation: &Isolation, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match isolation {
        Isolation::Committed => "read_committed",
        Isolation::Uncommitted | Isolation::LogEnd => "read_uncommitted",
    })
}
