//! Producing: records are gathered into batches by partition, and sent by one task for each producer.
//!
//! `send` puts a record into its partition's open batch and returns a [`Delivery`]; the sender task
//! takes batches when they are full or have waited long enough, compresses and sends them, and resolves
//! their deliveries. Memory is bounded: when records come faster than they are acknowledged, `send`
//! waits.

mod accumulator;
mod batch;
mod config;
mod delivery;
mod error;
mod queue;
mod record;
mod sender;
mod transaction;
mod transactional;
mod verdict;

#[cfg(test)]
mod transactional_tests;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use accumulator::Accumulator;
use batch::Batch;
pub use config::{Acks, ProducerConfig, UnknownAcks};
use delivery::Ack;
pub use delivery::Delivery;
pub use error::ProduceError;
pub use record::{ProducerRecord, RecordMetadata};
use sender::Sender;
pub use transaction::TransactionError;
use transactional::Transactional;

use crate::client::Client;

/// What a record takes in memory beyond its own bytes: its share of a batch's bookkeeping and framing.
const RECORD_OVERHEAD_BYTES: usize = 32;

/// Sends records. Clones share batches, memory and order; when the last is dropped, what was not sent
/// is given up, so [`flush`](Producer::flush) or [`close`](Producer::close) first.
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    _end: Arc<DropGuard>,
}

/// What `send` and the sender task have in common.
#[derive(Debug)]
struct Shared {
    client: Client,
    config: ProducerConfig,
    /// Set in a transactional producer. Its lock is taken within the accumulator's, never the other way round.
    transactional: Option<Transactional>,
    /// Guards the batches. Held for one append, one draining or one answer, and never across an await.
    accumulator: Mutex<Accumulator>,
    /// Bytes of buffer memory that are free.
    memory: Semaphore,
    /// The sender has to look at the accumulator.
    wake: Notify,
    ended: CancellationToken,
}

impl Producer {
    /// A producer on `client`, with a task of its own in the current runtime.
    pub fn new(client: &Client, config: ProducerConfig) -> Producer {
        let ended = CancellationToken::new();
        let shared = Arc::new(Shared {
            client: client.clone(),
            accumulator: Mutex::new(Accumulator::new(&config, client.config().backoff)),
            memory: Semaphore::new(config.buffer_bytes_max.min(Semaphore::MAX_PERMITS)),
            wake: Notify::new(),
            ended: ended.clone(),
            transactional: (config.transactional_id.as_deref())
                .map(|id| Transactional::new(id, config.transaction_timeout)),
            config,
        });
        tokio::spawn(Sender::new(shared.clone()).run());
        Producer { shared, _end: Arc::new(ended.drop_guard()) }
    }

    /// Hands a record over. Waits only while its topic is not yet known or the buffer is full; the
    /// returned [`Delivery`] resolves when the broker has answered. Records sent one after the other to
    /// one partition keep their order.
    ///
    /// # Errors
    /// The record cannot be sent as it is, its topic does not exist, or neither topic nor memory came
    /// within `block_max`.
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ProduceError> {
        let shared = &*self.shared;
        let transaction = shared.open_transaction()?;
        let bytes = record_bytes(&record);
        let limit = shared.config.record_bytes_max.min(shared.config.buffer_bytes_max);
        if bytes > limit {
            return Err(ProduceError::RecordTooLarge { bytes, limit });
        }
        let topic = match shared.client.cached_topic(&record.topic) {
            Some(topic) => topic,
            None => {
                let (patience, create) = (shared.config.block_max, shared.config.create_topics);
                shared.client.topic(&record.topic, patience, create).await?
            }
        };
        self.reserve(bytes).await?;
        let timestamp_ms = record.timestamp_ms.unwrap_or_else(now_ms);
        let appended = {
            let mut accumulator = shared.accumulator.lock();
            // Under the lock: whoever ends the transaction finds the record, or has been seen here.
            shared
                .check_still_open(transaction)
                .and_then(|()| accumulator.append(Instant::now(), &topic, &record, timestamp_ms, bytes))
        };
        match appended {
            Ok((delivery, wake)) => {
                if wake {
                    shared.wake.notify_one();
                }
                Ok(delivery)
            }
            Err(error) => {
                shared.memory.add_permits(bytes);
                Err(error)
            }
        }
    }

    /// Takes buffer memory. It is given back when the batch that the record went into is resolved.
    async fn reserve(&self, bytes: usize) -> Result<(), ProduceError> {
        let shared = &*self.shared;
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = match shared.memory.try_acquire_many(permits) {
            Ok(permit) => permit,
            Err(_) => {
                // What fills the memory has to go out, full or not.
                shared.accumulator.lock().relieve();
                shared.wake.notify_one();
                let waited = shared.config.block_max;
                let permit = timeout(waited, shared.memory.acquire_many(permits));
                permit
                    .await
                    .map_err(|_| ProduceError::BufferFull { waited })?
                    .map_err(|_| ProduceError::Closed)?
            }
        };
        permit.forget();
        Ok(())
    }

    /// Waits until everything that was sent before has been acknowledged or given up.
    ///
    /// # Errors
    /// The first failure among them; each [`Delivery`] tells its own.
    pub async fn flush(&self) -> Result<(), ProduceError> {
        let mut outstanding = self.shared.accumulator.lock().flush();
        self.shared.wake.notify_one();
        let mut outcome = Ok(());
        while let Some(ack) = outstanding.pop() {
            match ack.await.unwrap_or(Err(ProduceError::Closed)) {
                Ok(Ack::Appended { .. }) => {}
                Ok(Ack::Split(pieces)) => outstanding.extend(pieces.iter().map(|(_, ack)| ack.clone())),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome
    }

    /// Flushes, and ends the producer for all its clones.
    ///
    /// # Errors
    /// As [`flush`](Producer::flush).
    pub async fn close(self) -> Result<(), ProduceError> {
        let outcome = self.flush().await;
        self.shared.ended.cancel();
        outcome
    }
}

impl Shared {
    /// The number of the transaction that takes records now; `None` in a producer without transactions.
    fn open_transaction(&self) -> Result<Option<u64>, ProduceError> {
        let number = self.transactional.as_ref().map(|it| it.state.lock().check_open("send a record"));
        number.transpose().map_err(ProduceError::Transaction)
    }

    /// Whether a record that came for that transaction may still become part of it.
    fn check_still_open(&self, transaction: Option<u64>) -> Result<(), ProduceError> {
        let Some((transactional, number)) = self.transactional.as_ref().zip(transaction) else {
            return Ok(());
        };
        let state = transactional.state.lock();
        state.check_still_open("send a record", number).map_err(ProduceError::Transaction)
    }

    /// Tells what became of a batch, and gives its memory back.
    fn resolve(&self, batch: Batch, outcome: Result<Ack, ProduceError>) {
        self.memory.add_permits(batch.reserved_bytes);
        if let (Err(error), Some(transactional)) = (&outcome, &self.transactional) {
            transactional.state.lock().failed(error);
        }
        batch.resolve(outcome);
    }
}

/// Bytes that a record takes of the buffer.
fn record_bytes(record: &ProducerRecord) -> usize {
    let len = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = record.headers.iter().map(|header| header.key.len() + len(&header.value) + 4).sum();
    len(&record.key) + len(&record.value) + headers + RECORD_OVERHEAD_BYTES
}

fn now_ms() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}
