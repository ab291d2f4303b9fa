//! Consuming: by partitions that the application chooses, or as a member of a group.
//!
//! A consumer belongs to one task, which polls it. Between polls the next fetches are on their way, and
//! in a group the heartbeats; everything that changes what the application sees (positions, assignment)
//! happens inside a poll. Cancelling a poll loses nothing.
//!
//! ```no_run
//! # async fn example(client: log_client::Client) -> Result<(), log_client::consumer::ConsumeError> {
//! use log_client::{Consumer, ConsumerConfig};
//! use std::time::Duration;
//!
//! let mut consumer = Consumer::new(&client, ConsumerConfig::in_group("billing"));
//! consumer.subscribe(["orders"])?;
//! loop {
//!     for record in consumer.poll(Duration::from_secs(1)).await? {
//!         println!("{} {}", record.offset, record.partition);
//!     }
//! }
//! # }
//! ```

mod assignor;
mod config;
mod driver;
mod epoch_member;
mod error;
mod fetch;
mod fetched;
mod membership;
mod positions;
pub(crate) mod protocol;
mod rebalance;
mod record;
mod sticky;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use log_core::record::DecompressLimits;
use tokio::time::{Instant, timeout};

pub use assignor::{Assignor, UnknownAssignor};
pub use config::{ConsumerConfig, GroupConfig, GroupProtocol, OffsetReset};
use driver::Done;
pub use error::ConsumeError;
use fetched::ReadOptions;
use positions::Positions;
pub use positions::StartAt;
use rebalance::Group;
pub use record::ConsumerRecord;

use crate::client::Client;
pub use crate::offsets::GroupMember;
pub use crate::offsets::OffsetSpec;
use crate::offsets::{CommittedOffset, Committer, ListedOffset};
use crate::topic_partition::TopicPartition;

/// How long [`Consumer::close`] tries to commit and to leave.
const CLOSE_PATIENCE: Duration = Duration::from_secs(5);

/// What a poll can bring.
#[derive(Clone, Debug)]
pub enum Event {
    /// Records, at least one.
    Records(Vec<ConsumerRecord>),
    /// The group has given this member partitions that it did not have.
    Assigned(Vec<TopicPartition>),
    /// The group takes these partitions away with the next call: the last chance to commit what has
    /// been done with them. With auto-commit, positions have been committed already.
    Revoking(Vec<TopicPartition>),
    /// These partitions are others' already, because the group did not hear of this member for too
    /// long. There is nothing left to commit.
    Lost(Vec<TopicPartition>),
}

/// Reads records. See the [module](self).
#[derive(Debug)]
pub struct Consumer {
    client: Client,
    config: Arc<ConsumerConfig>,
    /// Tells its connections from those of other consumers on the same client: a long poll or a
    /// rebalance holds up what comes after it on a connection.
    id: u64,
    read_options: ReadOptions,
    positions: Positions,
    /// Topics that the group's leader shares out; empty with a manual assignment.
    subscription: Vec<Arc<str>>,
    group: Option<Group>,
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
    /// Brokers that a fetch is on its way to.
    fetching: HashSet<Arc<str>>,
    is_refreshing: bool,
    refresh_failures: u32,
    /// When metadata is to be asked for; sooner after an error.
    refresh_at: Instant,
    events: VecDeque<Event>,
    errors: VecDeque<ConsumeError>,
}

impl Consumer {
    /// A consumer on `client`, without partitions yet: [`assign`](Consumer::assign) or
    /// [`subscribe`](Consumer::subscribe) next.
    pub fn new(client: &Client, config: ConsumerConfig) -> Consumer {
        static NEXT_ID: AtomicU64 = AtomicU64::new(0);
        // Relaxed: only uniqueness matters.
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let limits =
            DecompressLimits { output_bytes_max: config.batch_bytes_max, ..DecompressLimits::default() };
        Consumer {
            client: client.clone(),
            id,
            read_options: ReadOptions { check_crcs: config.check_crcs, limits },
            positions: Positions::default(),
            subscription: Vec::new(),
            group: config.group.clone().map(Group::new),
            tasks: FuturesUnordered::new(),
            fetching: HashSet::new(),
            is_refreshing: false,
            refresh_failures: 0,
            refresh_at: Instant::now(),
            events: VecDeque::new(),
            errors: VecDeque::new(),
            config: Arc::new(config),
        }
    }

    /// Consumes exactly these partitions, from where each is said to start. Ends a subscription.
    pub fn assign(&mut self, partitions: impl IntoIterator<Item = (TopicPartition, StartAt)>) {
        self.end_membership();
        self.subscription.clear();
        self.positions.clear();
        for (partition, start) in partitions {
            self.positions.start(partition, start);
        }
        self.refresh_at = Instant::now();
    }

    /// Consumes a share of these topics, as a member of the configured group.
    ///
    /// # Errors
    /// [`ConsumeError::NoGroup`].
    pub fn subscribe<T: Into<Arc<str>>>(
        &mut self,
        topics: impl IntoIterator<Item = T>,
    ) -> Result<(), ConsumeError> {
        let Some(group) = &mut self.group else { return Err(ConsumeError::NoGroup) };
        self.subscription = topics.into_iter().map(Into::into).collect();
        self.subscription.sort();
        self.subscription.dedup();
        if !group.is_member() {
            self.positions.clear();
        }
        group.rejoin();
        self.refresh_at = Instant::now();
        Ok(())
    }

    /// Waits for records up to `wait` and returns what has come, at most
    /// [`poll_records_max`](ConsumerConfig::poll_records_max) records; none is no error. In a group, poll
    /// at least every [`poll_interval_max`](GroupConfig::poll_interval_max).
    ///
    /// # Errors
    /// What does not pass by itself; polling again goes on.
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<ConsumerRecord>, ConsumeError> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.event(left).await? {
                Some(Event::Records(records)) => return Ok(records),
                Some(_) => {}
                None => return Ok(Vec::new()),
            }
        }
    }

    /// The partitions that are assigned now, ordered.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.positions.partitions().cloned().collect()
    }

    /// The offset of the next record that a poll returns from `partition`; `None` while it is being
    /// looked up, and for a partition that is not assigned.
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.positions.get(partition)?.position()
    }

    /// The offset after the last record that could be seen at the last answer, once there was one.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<i64> {
        self.positions.get(partition)?.high_watermark
    }

    /// Goes on elsewhere in an assigned partition.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn seek(&mut self, partition: &TopicPartition, to: StartAt) -> Result<(), ConsumeError> {
        self.assigned(partition)?;
        self.positions.start(partition.clone(), to);
        Ok(())
    }

    /// Returns no records of `partition` until it is resumed.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn pause(&mut self, partition: &TopicPartition) -> Result<(), ConsumeError> {
        self.assigned(partition)?.is_paused = true;
        Ok(())
    }

    /// Ends a pause.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn resume(&mut self, partition: &TopicPartition) -> Result<(), ConsumeError> {
        self.assigned(partition)?.is_paused = false;
        Ok(())
    }

    fn assigned(&mut self, partition: &TopicPartition) -> Result<&mut positions::State, ConsumeError> {
        self.positions.get_mut(partition).ok_or_else(|| ConsumeError::NotAssigned(partition.clone()))
    }

    /// Looks up offsets in the log, whether or not the partitions are assigned.
    ///
    /// # Errors
    /// Of the first partition that has one.
    pub async fn list_offsets(
        &self,
        asked: &[(TopicPartition, OffsetSpec)],
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>, ConsumeError> {
        for (partition, _) in asked {
            self.client.topic(&partition.topic, self.client.config().request_timeout, false).await?;
        }
        let answers = self.client.list_offsets(asked, self.config.isolation).await;
        answers.into_iter().map(|(partition, answer)| Ok((partition, answer?))).collect()
    }

    /// What the group has committed for these partitions; those without a commit are left out.
    ///
    /// # Errors
    /// [`ConsumeError::NoGroup`], or no answer of the coordinator.
    pub async fn committed(
        &self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, CommittedOffset>, ConsumeError> {
        let group = self.group.as_ref().ok_or(ConsumeError::NoGroup)?;
        Ok(self.client.committed_offsets(&group.config.id, Some(partitions)).await?.into_iter().collect())
    }

    /// Who the consumer is in its group now: what a transactional producer needs to commit for it.
    ///
    /// # Errors
    /// [`ConsumeError::NoGroup`].
    pub fn group_member(&self) -> Result<GroupMember, ConsumeError> {
        let group = self.group.as_ref().ok_or(ConsumeError::NoGroup)?;
        let Committer { generation, member_id, instance_id } = group.committer();
        Ok(GroupMember { group: group.config.id.clone(), generation, member_id, instance_id })
    }

    /// Commits the positions of all assigned partitions and waits for the answer: what has been polled
    /// counts as done.
    ///
    /// # Errors
    /// [`ConsumeError::Commit`] when the group has rebalanced meanwhile, [`ConsumeError::NoGroup`], or no
    /// answer of the coordinator.
    pub async fn commit(&mut self) -> Result<(), ConsumeError> {
        let positions = self.committable();
        self.commit_offsets(&positions).await
    }

    /// Commits the given offsets, each that of the next record to be consumed.
    ///
    /// # Errors
    /// As [`commit`](Consumer::commit).
    pub async fn commit_offsets(
        &mut self,
        offsets: &[(TopicPartition, CommittedOffset)],
    ) -> Result<(), ConsumeError> {
        let group = self.group.as_mut().ok_or(ConsumeError::NoGroup)?;
        if offsets.is_empty() {
            return Ok(());
        }
        let answers = self.client.commit_offsets(&group.config.id, &group.committer(), offsets).await;
        group.committed(offsets, answers)
    }

    /// Commits the positions of all assigned partitions without waiting; a failure is logged, and made
    /// good by the next commit.
    pub fn commit_async(&mut self) {
        let offsets = self.committable();
        self.start_commit(offsets, false);
    }

    /// Ends the consumer: commits what has been polled, if that is automatic, and leaves the group.
    ///
    /// # Errors
    /// The commit failed. The group has been left all the same, or will be when the session times out.
    pub async fn close(mut self) -> Result<(), ConsumeError> {
        let Some(group) = &self.group else { return Ok(()) };
        let config = group.config.clone();
        let committed = match config.auto_commit {
            Some(_) => timeout(CLOSE_PATIENCE, self.commit())
                .await
                .unwrap_or(Err(ConsumeError::Timeout(CLOSE_PATIENCE))),
            None => Ok(()),
        };
        let member_id = self.end_membership();
        let role = self.group_role();
        let left = membership::leave(&self.client, role, &config, &member_id);
        if let Ok(Err(error)) = timeout(CLOSE_PATIENCE, left).await {
            tracing::debug!(group = config.id, %error, "could not leave the group");
        }
        committed
    }

    fn end_membership(&mut self) -> String {
        self.group.as_mut().map(Group::end).unwrap_or_default()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.client.release(self.fetch_role());
        self.client.release(self.group_role());
    }
}
