//! Takes commands and questions about groups to the shard that a group is in, and keeps the shards up to date about
//! topics.

use std::future::Future;
use std::sync::Arc;

use super::shard::{Phase, ShardHandle, Unavailable};
use super::shards::{InternalTopic, Shards, Surroundings, partition_of, shard_of};
use crate::config::{BrokerConfig, Migration};
use crate::coordinator::group::{
    Command, CompleteTransaction, GroupConfig, GroupCoordinator, MigrationPolicy, Outcome,
    REMOVALS_PER_DECISION_MAX, Reply, TopicId, TopicImage, TopicInfo,
};
use crate::coordinator::transaction::TopicPartition;
use crate::topic::{Catalog, Topic, Topics, name::CONSUMER_OFFSETS};

/// The coordinators of all groups.
pub struct GroupRouter {
    catalog: Arc<Catalog>,
    surroundings: Surroundings,
    shards: Shards<GroupCoordinator>,
}

type Shard = ShardHandle<GroupCoordinator>;

/// Why a transaction has not been ended in a partition of the internal topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCompleted {
    /// The partition's coordinator does not answer.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The coordinator of groups has seen a newer epoch of the producer.
    #[error("the producer's epoch is an old one")]
    Fenced,
}

impl GroupRouter {
    /// Starts the shards, if there are any; they replay their logs while this returns.
    pub fn start(config: &BrokerConfig, surroundings: Surroundings) -> Arc<Self> {
        let catalog = surroundings.topics.catalog().clone();
        let topic = InternalTopic {
            name: CONSUMER_OFFSETS,
            partitions: config.group_partitions,
            snapshot_bytes: config.group_snapshot_bytes,
        };
        let (group_config, known) = (group_config(config), catalog.clone());
        let shards = Shards::start(topic, surroundings.clone(), move || {
            let topics = Arc::new(topic_image(&known.topics(), 0));
            GroupCoordinator::new(group_config.clone()).with_topics(topics)
        });
        let router = Arc::new(GroupRouter { catalog, surroundings, shards });
        if let Some(shards) = router.shards.running().cloned() {
            router.clone().follow_topics(shards.clone());
            let forgetting = router.clone();
            let tasks = &router.surroundings.tasks;
            tasks.spawn(async move { forgetting.forget_deleted_topics(&shards).await });
        }
        router
    }

    /// Has the shards running; makes the internal topic if there is none. Only logs that were there at the start may
    /// still be being replayed.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn ensure_exists(self: &Arc<Self>) -> Result<(), Unavailable> {
        self.ensure_started().await.map(drop)
    }

    async fn ensure_started(self: &Arc<Self>) -> Result<Arc<[Shard]>, Unavailable> {
        self.shards.ensure_started(|shards| self.clone().follow_topics(shards.clone())).await
    }

    /// Tells the shards whenever topics change: groups that read them get a new assignment.
    fn follow_topics(self: Arc<Self>, shards: Arc<[Shard]>) {
        let mut changes = self.catalog.changes();
        // What changed since the shards were spawned.
        changes.mark_changed();
        self.surroundings.tasks.clone().spawn(async move {
            let mut version = 0;
            loop {
                tokio::select! {
                    () = self.surroundings.shutdown.cancelled() => return,
                    changed = changes.changed() => if changed.is_err() { return },
                }
                version += 1;
                let image = Arc::new(topic_image(&self.catalog.topics(), version));
                for shard in shards.iter() {
                    if shard.loaded().await == Phase::Serving
                        && let Err(error) = shard.submit(Command::SetTopics(image.clone())).await
                    {
                        tracing::debug!(%error, "a shard was not told of a change of topics");
                    }
                }
            }
        });
    }

    /// Sends a command to the shard of `group_id`. It is in the shard's mailbox when this returns, unless the mailbox
    /// is full or the shards are yet to be started: then it gets there when the future is polled.
    pub fn submit(
        self: &Arc<Self>,
        group_id: &str,
        command: Command,
    ) -> impl Future<Output = Result<Reply, Unavailable>> + Send + use<> {
        let sent = match self.shards.running() {
            Some(shards) => Ok(shard_of(shards, group_id).submit(command)),
            None => Err((self.clone(), Arc::<str>::from(group_id), command)),
        };
        async move {
            match sent {
                Ok(answer) => answer.await,
                Err((router, group_id, command)) => {
                    let shards = router.ensure_started().await?;
                    shard_of(&shards, &group_id).submit(command).await
                }
            }
        }
    }

    /// The partition of the internal topic that `group_id` belongs to. Makes the topic if there is none.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn offsets_partition(self: &Arc<Self>, group_id: &str) -> Result<TopicPartition, Unavailable> {
        let shards = self.ensure_started().await?;
        let partition = i32::try_from(partition_of(group_id, shards.len())).expect("partitions are i32s");
        Ok(TopicPartition { topic: CONSUMER_OFFSETS.into(), partition })
    }

    /// Ends a producer's transaction in one partition of the internal topic: what it has pending there is committed or
    /// dropped, and older epochs of the producer are fenced. Durable when this is answered; to be told again changes
    /// nothing. A partition that there is not has nothing to end.
    ///
    /// # Errors
    /// [`NotCompleted::Unavailable`]: to be told again. [`NotCompleted::Fenced`]: never to be told again.
    pub async fn complete_transaction(
        &self,
        offsets_partition: i32,
        producer_id: i64,
        producer_epoch: i16,
        outcome: Outcome,
    ) -> Result<(), NotCompleted> {
        let index = usize::try_from(offsets_partition).ok();
        let Some(shard) = self.shards.running().zip(index).and_then(|(shards, index)| shards.get(index))
        else {
            return Ok(());
        };
        let complete = CompleteTransaction { producer_id, producer_epoch, outcome };
        match shard.submit(Command::CompleteTransaction(complete)).await? {
            Reply::CompleteTransaction(Err(_)) => Err(NotCompleted::Fenced),
            _ => Ok(()),
        }
    }

    /// Asks the shard of `group_id`. Where no shards are running, no group exists, and an empty one answers.
    pub fn query<T, Q>(
        &self,
        group_id: &str,
        question: Q,
    ) -> impl Future<Output = Result<T, Unavailable>> + Send + use<T, Q>
    where
        T: Send + 'static,
        Q: FnOnce(&GroupCoordinator) -> T + Send + 'static,
    {
        self.shards.query(group_id, question)
    }

    /// Asks every shard, one answer each.
    ///
    /// # Errors
    /// One of them does not answer.
    pub async fn query_all<T, Q>(&self, question: Q) -> Result<Vec<T>, Unavailable>
    where
        T: Send + 'static,
        Q: Fn(&GroupCoordinator) -> T + Clone + Send + 'static,
    {
        self.shards.query_all(question).await
    }

    /// Asks every shard, and does with the answers that there are.
    ///
    /// # Errors
    /// None of them answers.
    pub async fn query_reachable<T, Q>(&self, question: Q) -> Result<Vec<T>, Unavailable>
    where
        T: Send + 'static,
        Q: Fn(&GroupCoordinator) -> T + Clone + Send + 'static,
    {
        self.shards.query_reachable(question).await
    }

    /// Whether groups are served, as far as there are any.
    pub fn is_ready(&self) -> bool {
        self.shards.is_ready()
    }

    /// Has every group forget its offsets in `topics`, which are deleted. What a failure leaves is forgotten at the next
    /// start.
    pub async fn forget_topics(&self, topics: Vec<Arc<str>>) {
        let Some(shards) = self.shards.running() else { return };
        for shard in shards.iter() {
            if let Err(error) = forget_in(shard, &topics).await {
                tracing::warn!(%error, ?topics, "offsets of a deleted topic stay until the next start");
            }
        }
    }

    /// A crash between the deletion of a topic and of the offsets in it leaves the offsets.
    async fn forget_deleted_topics(&self, shards: &[Shard]) {
        for shard in shards {
            if shard.loaded().await == Phase::Failed {
                continue;
            }
            let catalog = self.catalog.clone();
            let deleted = shard.query(move |groups| {
                let topics = catalog.topics();
                let mut deleted: Vec<Arc<str>> = groups
                    .topics_with_offsets()
                    .filter(|topic| topics.get(topic).is_none())
                    .cloned()
                    .collect();
                deleted.sort_unstable();
                deleted.dedup();
                deleted
            });
            if let Ok(deleted) = deleted.await
                && !deleted.is_empty()
                && let Err(error) = forget_in(shard, &deleted).await
            {
                tracing::warn!(%error, "offsets of deleted topics stay until the next start");
            }
        }
    }
}

impl std::fmt::Debug for GroupRouter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "GroupRouter({} shards)", self.shards.running().map_or(0, |shards| shards.len()))
    }
}

async fn forget_in(shard: &Shard, topics: &[Arc<str>]) -> Result<(), Unavailable> {
    loop {
        match shard.submit(Command::ForgetTopics(topics.to_vec())).await? {
            Reply::ForgetTopics(REMOVALS_PER_DECISION_MAX) => {}
            _ => return Ok(()),
        }
    }
}

/// What coordinators are to know about topics.
fn topic_image(topics: &Topics, version: i64) -> TopicImage {
    let info = |topic: &Topic| TopicInfo { id: TopicId(topic.id.to_bytes()), partitions: topic.partitions };
    TopicImage {
        version,
        by_name: topics.iter().map(|topic| (topic.name.clone(), info(topic))).collect(),
        internal: topics.iter().filter(|it| it.is_internal()).map(|it| it.name.clone()).collect(),
    }
}

/// The settings of the broker that are about groups.
fn group_config(config: &BrokerConfig) -> GroupConfig {
    GroupConfig {
        session_timeout_min_ms: config.group_session_timeout_min_ms,
        session_timeout_max_ms: config.group_session_timeout_max_ms,
        initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms,
        group_size_max: config.group_members_max,
        consumer_session_timeout_ms: config.group_consumer_session_timeout_ms,
        consumer_heartbeat_interval_ms: config.group_consumer_heartbeat_interval_ms,
        consumer_group_size_max: config.group_consumer_members_max,
        consumer_migration: match config.group_consumer_migration {
            Migration::Disabled => MigrationPolicy::Disabled,
            Migration::Upgrade => MigrationPolicy::Upgrade,
            Migration::Downgrade => MigrationPolicy::Downgrade,
            Migration::Bidirectional => MigrationPolicy::Bidirectional,
        },
        offset_metadata_bytes_max: config.group_offset_metadata_bytes_max,
        offsets_retention_ms: config.group_offsets_retention_ms,
        ..GroupConfig::default()
    }
}
