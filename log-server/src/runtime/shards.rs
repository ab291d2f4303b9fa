//! The shards of one kind of coordinator: one for each partition of the internal topic that remembers for it.
//!
//! A name (a group's, a transactional id) belongs to the partition that its hash points to, by Kafka's rule, so that
//! tools that look for a name's records find them. The topic is made when the first name is asked for: a broker that
//! serves none does not have it.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::partition_log::PartitionShardLog;
use super::shard::{Phase, ShardHandle, Unavailable};
use crate::coordinator::machine::StateMachine;
use crate::partition::Registry;
use crate::topic::{NewTopic, TopicManager};

/// Size of a segment of an internal topic. Only whole segments are freed, so this much stays when a log is shortened.
const SEGMENT_BYTES: u64 = 16 << 20;

/// The largest batch of an internal topic: one decision, at worst a group of the largest size with long
/// subscriptions. What is in it has passed the limits on requests before.
const BATCH_BYTES_MAX: i32 = i32::MAX;

/// The internal topic that a kind of coordinator is remembered in.
#[derive(Clone, Copy, Debug)]
pub struct InternalTopic {
    /// Its name.
    pub name: &'static str,
    /// How many partitions it is made with. One that exists keeps what it has.
    pub partitions: i32,
    /// Bytes that a partition may grow by before it is rewritten with what is still needed.
    pub snapshot_bytes: u64,
}

/// What shards are started with and stopped by.
#[derive(Clone)]
pub struct Surroundings {
    /// Makes the internal topic.
    pub topics: Arc<TopicManager>,
    /// Has the internal topic's partitions.
    pub partitions: Arc<Registry>,
    /// What the shards' tasks run on.
    pub tasks: TaskTracker,
    /// Stops them.
    pub shutdown: CancellationToken,
}

/// The shards of a coordinator `M`, which may not be running yet.
pub struct Shards<M: StateMachine> {
    topic: InternalTopic,
    surroundings: Surroundings,
    new_machine: Box<dyn Fn() -> M + Send + Sync>,
    running: OnceLock<Arc<[ShardHandle<M>]>>,
    /// Held while the topic is made and the shards are started, so that both happen once.
    starting: Mutex<()>,
}

impl<M> Shards<M>
where
    M: StateMachine + Send + 'static,
    M::Command: Send,
    M::Event: Send,
    M::Reply: Send,
{
    /// Starts the shards if their topic exists; they replay their logs into what `new_machine` makes while this
    /// returns.
    pub fn start(
        topic: InternalTopic,
        surroundings: Surroundings,
        new_machine: impl Fn() -> M + Send + Sync + 'static,
    ) -> Self {
        let new_machine = Box::new(new_machine);
        let shards =
            Shards { topic, surroundings, new_machine, running: OnceLock::new(), starting: Mutex::new(()) };
        if let Some(spawned) = shards.spawn() {
            shards.running.get_or_init(|| spawned);
        }
        shards
    }

    /// The shards that are running, by partition.
    pub fn running(&self) -> Option<&Arc<[ShardHandle<M>]>> {
        self.running.get()
    }

    /// Has the shards running; makes the internal topic if there is none. Only logs that were there at the start may
    /// still be being replayed. `first_started` is called by the one caller who started them.
    ///
    /// # Errors
    /// The topic cannot be made.
    pub async fn ensure_started(
        &self,
        first_started: impl FnOnce(&Arc<[ShardHandle<M>]>),
    ) -> Result<Arc<[ShardHandle<M>]>, Unavailable> {
        if let Some(shards) = self.running.get() {
            return Ok(shards.clone());
        }
        let _in_turn = self.starting.lock().await;
        if let Some(shards) = self.running.get() {
            return Ok(shards.clone());
        }
        if self.surroundings.topics.catalog().get(self.topic.name).is_none() {
            self.make_topic().await?;
        }
        let shards = self.spawn().ok_or(Unavailable::NotWritten)?;
        // Until these empty logs are replayed there is nothing in them, and nobody is to be told that they are loading.
        for shard in shards.iter() {
            shard.loaded().await;
        }
        first_started(&shards);
        Ok(self.running.get_or_init(|| shards).clone())
    }

    async fn make_topic(&self) -> Result<(), Unavailable> {
        let for_ever = |name: &str| (name.to_owned(), "-1".to_owned());
        let config = BTreeMap::from([
            for_ever("retention.ms"),
            for_ever("retention.bytes"),
            ("segment.bytes".to_owned(), SEGMENT_BYTES.to_string()),
            ("max.message.bytes".to_owned(), BATCH_BYTES_MAX.to_string()),
        ]);
        let name = self.topic.name;
        let topic = NewTopic { name: name.to_owned(), partitions: Some(self.topic.partitions), config };
        for created in self.surroundings.topics.create(vec![topic]).await {
            if let Err(error) = created {
                tracing::error!(%error, "cannot make the internal topic {name}");
                return Err(Unavailable::NotWritten);
            }
        }
        Ok(())
    }

    /// Spawns a shard for each partition of the internal topic; `None` if there is no such topic.
    fn spawn(&self) -> Option<Arc<[ShardHandle<M>]>> {
        let partitions = self.surroundings.partitions.topic(self.topic.name)?;
        let spawn = |partition| {
            let log = PartitionShardLog::new(Arc::clone(partition));
            ShardHandle::spawn(
                format!("{partition:?}"),
                (self.new_machine)(),
                Arc::new(log),
                self.topic.snapshot_bytes,
                &self.surroundings.tasks,
                self.surroundings.shutdown.clone(),
            )
        };
        Some(partitions.iter().map(spawn).collect())
    }

    /// Asks the shard of `name`. Where no shards are running there is nothing, and an empty machine answers.
    pub fn query<T, Q>(
        &self,
        name: &str,
        question: Q,
    ) -> impl Future<Output = Result<T, Unavailable>> + Send + use<M, T, Q>
    where
        T: Send + 'static,
        Q: FnOnce(&M) -> T + Send + 'static,
    {
        let asked = match self.running.get() {
            Some(shards) => Ok(shard_of(shards, name).query(question)),
            None => Err(question(&(self.new_machine)())),
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
        Q: Fn(&M) -> T + Clone + Send + 'static,
    {
        let Some(shards) = self.running.get() else { return Ok(Vec::new()) };
        query_each(shards, question).await.into_iter().collect()
    }

    /// Asks every shard, and does with the answers that there are.
    ///
    /// # Errors
    /// None of them answers.
    pub async fn query_reachable<T, Q>(&self, question: Q) -> Result<Vec<T>, Unavailable>
    where
        T: Send + 'static,
        Q: Fn(&M) -> T + Clone + Send + 'static,
    {
        let Some(shards) = self.running.get() else { return Ok(Vec::new()) };
        reachable(query_each(shards, question).await)
    }

    /// Whether all shards are serving, as far as there are any.
    pub fn is_ready(&self) -> bool {
        self.running.get().is_none_or(|shards| shards.iter().all(|shard| shard.phase() == Phase::Serving))
    }
}

/// Asks each of `shards`, all at once.
pub(super) async fn query_each<M, T, Q>(shards: &[ShardHandle<M>], question: Q) -> Vec<Result<T, Unavailable>>
where
    M: StateMachine + Send + 'static,
    M::Command: Send,
    M::Event: Send,
    M::Reply: Send,
    T: Send + 'static,
    Q: Fn(&M) -> T + Clone + Send + 'static,
{
    let asked: Vec<_> = shards.iter().map(|shard| shard.query(question.clone())).collect();
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        answers.push(answer.await);
    }
    answers
}

/// The answers that there are.
///
/// # Errors
/// There are none.
pub(super) fn reachable<T>(answers: Vec<Result<T, Unavailable>>) -> Result<Vec<T>, Unavailable> {
    let mut reason = None;
    let answers: Vec<_> = (answers.into_iter())
        .filter_map(|answer| answer.inspect_err(|error| reason = Some(*error)).ok())
        .collect();
    match reason {
        Some(reason) if answers.is_empty() => Err(reason),
        _ => Ok(answers),
    }
}

/// The shard that `name` belongs to.
pub fn shard_of<'a, M: StateMachine>(shards: &'a [ShardHandle<M>], name: &str) -> &'a ShardHandle<M> {
    &shards[partition_of(name, shards.len())]
}

/// The partition that a name belongs to among `count`: the hash that Java gives it, without the sign.
pub fn partition_of(name: &str, count: usize) -> usize {
    let hash =
        name.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    hash.checked_abs().unwrap_or(0) as usize % count.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_where_kafka_would_put_them() {
        // By Java's String.hashCode: 3556498, -1906497762, 98762257 and -2147483648.
        assert_eq!(partition_of("test", 50), 3_556_498 % 50);
        assert_eq!(partition_of("my-group", 50), 1_906_497_762 % 50);
        assert_eq!(partition_of("größe", 50), 98_762_257 % 50);
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("polygenelubricants", 7), 0);
        assert_eq!(partition_of("anything", 1), 0);
    }
}
