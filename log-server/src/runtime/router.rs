//! Knows which shard a group is in, and starts the shards.
//!
//! A group belongs to the partition of the internal topic that the hash of its id points to, by Kafka's rule, so that
//! tools that look for a group's records find them. The topic is made when the first group is asked for: a broker that
//! serves no groups does not have it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::partition_log::PartitionShardLog;
use super::shard::{Phase, ShardHandle, Unavailable};
use crate::config::{BrokerConfig, Migration};
use crate::coordinator::group::{
    Command, GroupConfig, GroupCoordinator, MigrationPolicy, REMOVALS_PER_DECISION_MAX, Reply, TopicId,
    TopicImage, TopicInfo,
};
use crate::partition::Registry;
use crate::topic::{Catalog, NewTopic, Topic, TopicManager, Topics, name::CONSUMER_OFFSETS};

/// Size of a segment of the internal topic. Only whole segments are freed, so this much stays when a log is shortened.
const SEGMENT_BYTES: u64 = 16 << 20;

/// The largest batch of the internal topic: one decision, at worst a group of the largest size with long
/// subscriptions. What is in it has passed the limits on requests before.
const BATCH_BYTES_MAX: i32 = i32::MAX;

/// The coordinators of all groups.
pub struct GroupRouter {
    config: Arc<BrokerConfig>,
    catalog: Arc<Catalog>,
    topics: Arc<TopicManager>,
    partitions: Arc<Registry>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    shards: OnceLock<Arc<[Shard]>>,
    /// Held while the topic is made and the shards are started, so that both happen once.
    starting: Mutex<()>,
}

type Shard = ShardHandle<GroupCoordinator>;

impl GroupRouter {
    /// Starts the shards, if there are any, on `tasks`; they replay their logs while this returns.
    pub fn start(
        config: Arc<BrokerConfig>,
        topics: Arc<TopicManager>,
        partitions: Arc<Registry>,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Arc<Self> {
        let router = Arc::new(GroupRouter {
            config,
            catalog: topics.catalog().clone(),
            topics,
            partitions,
            tasks,
            shutdown,
            shards: OnceLock::new(),
            starting: Mutex::new(()),
        });
        if let Some(shards) = router.spawn_shards() {
            let shards = router.shards.get_or_init(|| shards).clone();
            router.clone().follow_topics(shards.clone());
            let forgetting = router.clone();
            router.tasks.spawn(async move { forgetting.forget_deleted_topics(&shards).await });
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
        if let Some(shards) = self.shards.get() {
            return Ok(shards.clone());
        }
        let _in_turn = self.starting.lock().await;
        if self.catalog.get(CONSUMER_OFFSETS).is_none() {
            let for_ever = |name: &str| (name.to_owned(), "-1".to_owned());
            let config = BTreeMap::from([
                for_ever("retention.ms"),
                for_ever("retention.bytes"),
                ("segment.bytes".to_owned(), SEGMENT_BYTES.to_string()),
                ("max.message.bytes".to_owned(), BATCH_BYTES_MAX.to_string()),
            ]);
            let topic = NewTopic {
                name: CONSUMER_OFFSETS.to_owned(),
                partitions: Some(self.config.group_partitions),
                config,
            };
            for created in self.topics.create(vec![topic]).await {
                if let Err(error) = created {
                    tracing::error!(%error, "cannot make the topic that groups are kept in");
                    return Err(Unavailable::NotWritten);
                }
            }
        }
        let shards = self.spawn_shards().ok_or(Unavailable::NotWritten)?;
        // Until these empty logs are replayed there are no groups, and nobody is to be told that groups are loading.
        for shard in shards.iter() {
            shard.loaded().await;
        }
        let shards = self.shards.get_or_init(|| shards).clone();
        self.clone().follow_topics(shards.clone());
        Ok(shards)
    }

    /// Tells the shards whenever topics change: groups that read them get a new assignment.
    fn follow_topics(self: Arc<Self>, shards: Arc<[Shard]>) {
        let mut changes = self.catalog.changes();
        // What changed since the shards were spawned.
        changes.mark_changed();
        self.tasks.clone().spawn(async move {
            let mut version = 0;
            loop {
                tokio::select! {
                    () = self.shutdown.cancelled() => return,
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

    /// Spawns a shard for each partition of the internal topic; `None` if there is no such topic.
    fn spawn_shards(&self) -> Option<Arc<[Shard]>> {
        let partitions = self.partitions.topic(CONSUMER_OFFSETS)?;
        let topics = Arc::new(topic_image(&self.catalog.topics(), 0));
        let spawn = |partition| {
            let log = PartitionShardLog::new(Arc::clone(partition));
            ShardHandle::spawn(
                format!("{partition:?}"),
                GroupCoordinator::new(group_config(&self.config)).with_topics(topics.clone()),
                Arc::new(log),
                self.config.group_snapshot_bytes,
                &self.tasks,
                self.shutdown.clone(),
            )
        };
        Some(partitions.iter().map(spawn).collect())
    }

    /// Sends a command to the shard of `group_id`. It is in the shard's mailbox when this returns, unless the mailbox
    /// is full or the shards are yet to be started: then it gets there when the future is polled.
    pub fn submit(
        self: &Arc<Self>,
        group_id: &str,
        command: Command,
    ) -> impl Future<Output = Result<Reply, Unavailable>> + Send + use<> {
        let sent = match self.shards.get() {
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
        let asked = match self.shards.get() {
            Some(shards) => Ok(shard_of(shards, group_id).query(question)),
            None => Err(question(&GroupCoordinator::new(GroupConfig::default()))),
        };
        async move {
            match asked {
                Ok(answer) => answer.await,
                Err(answer) => Ok(answer),
            }
        }
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
        let Some(shards) = self.shards.get() else { return Ok(Vec::new()) };
        let asked: Vec<_> = shards.iter().map(|shard| shard.query(question.clone())).collect();
        let mut answers = Vec::with_capacity(asked.len());
        for answer in asked {
            answers.push(answer.await?);
        }
        Ok(answers)
    }

    /// Whether groups are served, as far as there are any.
    pub fn is_ready(&self) -> bool {
        self.shards.get().is_none_or(|shards| shards.iter().all(|shard| shard.phase() == Phase::Serving))
    }

    /// Has every group forget its offsets in `topics`, which are deleted. What a failure leaves is forgotten at the next
    /// start.
    pub async fn forget_topics(&self, topics: Vec<Arc<str>>) {
        let Some(shards) = self.shards.get() else { return };
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
        write!(f, "GroupRouter({} shards)", self.shards.get().map_or(0, |shards| shards.len()))
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

fn shard_of<'a>(shards: &'a [Shard], group_id: &str) -> &'a Shard {
    &shards[partition_of(group_id, shards.len())]
}

/// The partition that a group belongs to among `count`: the hash that Java gives its id, without the sign.
pub fn partition_of(group_id: &str, count: usize) -> usize {
    let hash =
        group_id.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) as usize % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_where_kafka_would_put_them() {
        // By Java's String.hashCode: 3556498, -1906497762, 98762257 and -2147483648.
        assert_eq!(partition_of("test", 50), 3_556_498 % 50);
        assert_eq!(partition_of("my-group", 50), 1_906_497_762 % 50);
        assert_eq!(partition_of("größe", 50), 98_762_257 % 50);
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("polygenelubricants", 7), 0);
        assert_eq!(partition_of("anything", 1), 0);
    }
}
