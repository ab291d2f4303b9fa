//! Takes what producers ask of transactions to the shard of their transactional id, and producer ids with it.

use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::marker_target::PartitionMarkers;
use super::markers::end_transactions;
use super::router::GroupRouter;
use super::shard::{ShardHandle, Unavailable};
use super::shards::{InternalTopic, Shards, Surroundings, partition_of, shard_of};
use crate::config::BrokerConfig;
use crate::coordinator::transaction::{
    AddPartitions, Command, EndTransaction, InitProducer, Outcome, Producer, Protocol, Reply, TopicPartition,
    TransactionConfig, TransactionCoordinator, TransactionError,
};
use crate::producer_ids::ProducerIds;
use crate::topic::name::TRANSACTION_STATE;

/// How long a request waits for the end of the transaction before, whose markers are being written. Kafka's brokers wait
/// as long among each other (`add.partitions.to.txn.retry.backoff.max.ms`); a client would wait at least that long before
/// it asked again, for what is done in the time of two syncs.
const CONCURRENT_WAIT: Duration = Duration::from_millis(100);

/// The coordinators of all transactions.
pub struct Transactions {
    shards: Shards<TransactionCoordinator>,
    producer_ids: Arc<ProducerIds>,
    surroundings: Surroundings,
    markers: Arc<PartitionMarkers>,
    /// By shard: notified when all markers of a transaction are written.
    completed: OnceLock<Box<[Arc<Notify>]>>,
}

/// Why a request about a transaction is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionRefused {
    /// The coordinator says so.
    #[error(transparent)]
    Coordinator(#[from] TransactionError),
    /// There is no coordinator to ask at the moment.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The disk does not remember that a producer id was given out, so none is.
    #[error("there is no producer id to give out")]
    NoProducerId,
}

impl Transactions {
    /// Starts the shards, if there are any; they replay their logs while this returns.
    pub fn start(
        config: &BrokerConfig,
        surroundings: Surroundings,
        producer_ids: Arc<ProducerIds>,
        groups: Arc<GroupRouter>,
    ) -> Arc<Self> {
        let topic = InternalTopic {
            name: TRANSACTION_STATE,
            partitions: config.transaction_partitions,
            snapshot_bytes: config.transaction_snapshot_bytes,
        };
        let transaction_config = TransactionConfig {
            timeout_max_ms: config.transaction_timeout_max_ms,
            expiration_ms: config.transactional_id_expiration_ms,
            ..TransactionConfig::default()
        };
        let new_machine = move || TransactionCoordinator::new(transaction_config.clone());
        let markers = Arc::new(PartitionMarkers { partitions: surroundings.partitions.clone(), groups });
        let shards = Shards::start(topic, surroundings.clone(), new_machine);
        let transactions =
            Transactions { shards, producer_ids, surroundings, markers, completed: OnceLock::new() };
        if let Some(shards) = transactions.shards.running() {
            transactions.write_markers(shards);
        }
        Arc::new(transactions)
    }

    /// Ends transactions whose outcome is decided, those that an earlier run has left first.
    fn write_markers(&self, shards: &[ShardHandle<TransactionCoordinator>]) {
        let Surroundings { tasks, shutdown, .. } = &self.surroundings;
        let completed = self.completed.get_or_init(|| shards.iter().map(|_| Arc::default()).collect());
        for (shard, completed) in shards.iter().zip(completed) {
            let (markers, completed) = (self.markers.clone(), completed.clone());
            tasks.spawn(end_transactions(shard.clone(), markers, completed, shutdown.clone()));
        }
    }

    /// Has the shards running; makes the internal topic if there is none.
    ///
    /// # Errors
    /// It cannot be made.
    pub async fn ensure_exists(&self) -> Result<(), Unavailable> {
        self.shards.ensure_started(|shards| self.write_markers(shards)).await.map(drop)
    }

    /// Gives a producer its id and epoch under a transactional id (InitProducerId). `expected` is who it was before, if
    /// it goes on after an error.
    ///
    /// # Errors
    /// It may not have it, or not yet.
    pub async fn init(
        &self,
        transactional_id: Arc<str>,
        timeout_ms: i32,
        expected: Option<Producer>,
    ) -> Result<Producer, TransactionRefused> {
        self.ensure_exists().await?;
        let command = |fresh_id| {
            Command::Init(InitProducer {
                transactional_id: transactional_id.clone(),
                timeout_ms,
                expected,
                fresh_id,
            })
        };
        let reply = match expected {
            None => self.submit_patiently(&transactional_id, command).await?,
            // Having aborted its own transaction, a producer that says who it was is fenced by that.
            Some(_) => self.submit_with_id(&transactional_id, &command).await?,
        };
        match reply {
            Reply::Init(outcome) => Ok(outcome?),
            other => unreachable!("InitProducerId is answered with {other:?}"),
        }
    }

    /// Adds partitions to the open transaction of `producer`, and begins one if there is none. What is in it already
    /// stays. Durable when this returns.
    ///
    /// # Errors
    /// It may not write under this id, or not yet ([`TransactionError::Concurrent`]).
    pub async fn add_partitions(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
        protocol: Protocol,
    ) -> Result<(), TransactionRefused> {
        let add = AddPartitions { transactional_id: transactional_id.into(), producer, partitions, protocol };
        match self.submit_patiently(transactional_id, |_| Command::AddPartitions(add.clone())).await? {
            Reply::AddPartitions(outcome) => Ok(outcome?),
            other => unreachable!("AddPartitionsToTxn is answered with {other:?}"),
        }
    }

    /// Whether each of `partitions` is in the open transaction of `producer`, in their order.
    ///
    /// # Errors
    /// It may not write under this id, or not yet.
    pub async fn verify(
        &self,
        transactional_id: &str,
        producer: Producer,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<bool>, TransactionRefused> {
        let name: Arc<str> = transactional_id.into();
        let verified = self
            .shards
            .query(transactional_id, move |machine| machine.verify(&name, producer, &partitions))
            .await?;
        Ok(verified?)
    }

    /// Decides how the open transaction of `producer` ends (EndTxn). The outcome is durable when this returns, the
    /// markers may still be on their way. Returns who the producer is from now on.
    ///
    /// # Errors
    /// It has no such transaction, or not yet.
    pub async fn end(
        &self,
        transactional_id: Arc<str>,
        producer: Producer,
        outcome: Outcome,
        protocol: Protocol,
    ) -> Result<Producer, TransactionRefused> {
        let command = |fresh_id| {
            Command::End(EndTransaction {
                transactional_id: transactional_id.clone(),
                producer,
                outcome,
                protocol,
                fresh_id,
            })
        };
        match self.submit_with_id(&transactional_id, &command).await? {
            Reply::End(outcome) => Ok(outcome?),
            other => unreachable!("EndTxn is answered with {other:?}"),
        }
    }

    /// Asks the shard of `transactional_id`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn query<T: Send + 'static>(
        &self,
        transactional_id: &str,
        question: impl FnOnce(&TransactionCoordinator) -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        self.shards.query(transactional_id, question).await
    }

    /// Asks every shard, one answer each.
    ///
    /// # Errors
    /// One of them does not answer.
    pub async fn query_all<T: Send + 'static>(
        &self,
        question: impl Fn(&TransactionCoordinator) -> T + Clone + Send + 'static,
    ) -> Result<Vec<T>, Unavailable> {
        self.shards.query_all(question).await
    }

    /// Whether transactions are served, as far as there are any.
    pub fn is_ready(&self) -> bool {
        self.shards.is_ready()
    }

    /// Sends a command to the shard of `transactional_id`. Where none is running there are no transactional ids.
    async fn submit(&self, transactional_id: &str, command: Command) -> Result<Reply, TransactionRefused> {
        let Some(shards) = self.shards.running() else {
            return Err(match transactional_id {
                "" => TransactionError::InvalidTransactionalId.into(),
                _ => TransactionError::InvalidProducerIdMapping.into(),
            });
        };
        Ok(shard_of(shards, transactional_id).submit(command).await?)
    }

    /// As [`submit`](Self::submit), with a producer id if the coordinator wants one.
    async fn submit_with_id(
        &self,
        transactional_id: &str,
        command: &impl Fn(Option<i64>) -> Command,
    ) -> Result<Reply, TransactionRefused> {
        match self.submit(transactional_id, command(None)).await? {
            Reply::FreshIdWanted => {}
            reply => return Ok(reply),
        }
        let id = self.fresh_producer_id().await.ok_or(TransactionRefused::NoProducerId)?;
        self.submit(transactional_id, command(Some(id))).await
    }

    /// As [`submit_with_id`](Self::submit_with_id), and again when a transaction of the shard is complete, while the answer
    /// is that the last one still is not.
    async fn submit_patiently(
        &self,
        transactional_id: &str,
        command: impl Fn(Option<i64>) -> Command,
    ) -> Result<Reply, TransactionRefused> {
        let Some(completed) = self.completed.get() else {
            return self.submit_with_id(transactional_id, &command).await;
        };
        let of_shard = &completed[partition_of(transactional_id, completed.len())];
        let until = Instant::now() + CONCURRENT_WAIT;
        loop {
            // Listened to before asking: it may be complete before the answer is here.
            let mut completed = pin!(of_shard.notified());
            completed.as_mut().enable();
            let reply = self.submit_with_id(transactional_id, &command).await?;
            let is_concurrent = matches!(
                reply,
                Reply::Init(Err(TransactionError::Concurrent))
                    | Reply::AddPartitions(Err(TransactionError::Concurrent))
            );
            if !is_concurrent || tokio::time::timeout_at(until, completed).await.is_err() {
                return Ok(reply);
            }
        }
    }

    /// A producer id that nobody has; `None` if the disk refuses to remember it, which is logged.
    pub async fn fresh_producer_id(&self) -> Option<i64> {
        let producer_ids = self.producer_ids.clone();
        // Reserving a block of ids syncs, which a thread of the runtime must not wait for.
        match tokio::task::spawn_blocking(move || producer_ids.allocate()).await {
            Ok(Ok(id)) => Some(id),
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot allocate a producer id");
                None
            }
            Err(_) => None,
        }
    }
}

impl std::fmt::Debug for Transactions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Transactions({} shards)", self.shards.running().map_or(0, |shards| shards.len()))
    }
}
