//! One partition: its log under a lock, its reader, and who waits for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use arc_swap::ArcSwap;
use log_core::log::{AppendError, Appended, LogConfig, LogReader, PartitionLog, ProducerState};
use log_core::record::{EndOfTransaction, Marker, ProducedBatch};
use log_core::wire::Uuid;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::flusher::{Flusher, Turn};
use super::readers::Readers;
use super::traffic::Traffic;
use super::waiters::{Awaited, Waiters};

/// The leader epoch of every partition. There is one node, so leadership never moves.
pub const LEADER_EPOCH: i32 = 0;

/// A partition that this broker serves.
pub struct Partition {
    topic: Arc<str>,
    topic_id: Uuid,
    index: i32,
    /// The writer's side of the log. Held for one append, one retention pass or one step of a flush, never across an
    /// await and never while a sync of data runs: requests of all connections queue here.
    log: Mutex<PartitionLog>,
    /// The settings, beside the log so that a batch is checked against them without its lock.
    config: ArcSwap<LogConfig>,
    reader: LogReader,
    traffic: Traffic,
    readers: Readers,
    waiters: Arc<Waiters>,
    flusher: Arc<Flusher>,
    closed: AtomicBool,
    /// Where the partition stands with the flusher, see there.
    pub(super) flush_state: AtomicU8,
    /// Whether a checkpoint is scheduled, see the checkpointer.
    pub(super) checkpoint_scheduled: AtomicBool,
}

/// The moment at which it was asked whether a transactional batch may be appended. Its transaction may end before it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Where the partition's log ended.
    log_end: i64,
    /// Whether the producer's transaction was open in the partition.
    open: bool,
    /// Whether the producer's epoch rises with every transaction.
    epoch_rises: bool,
}

impl Asked {
    /// Whether the coordinator of transactions has to be asked as well: it has not while the producer's transaction is
    /// open in the partition.
    pub fn needs_coordinator(&self) -> bool {
        !self.open
    }
}

/// Why an append will never be acknowledged as durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDurable {
    /// A sync has failed and the log directory is offline, see [`log_core::log::DirHealth`].
    #[error("the log directory is offline")]
    Offline,
    /// The partition was deleted or closed.
    #[error("the partition is closed")]
    Closed,
}

impl Partition {
    /// Takes over an open log.
    pub fn new(
        topic: Arc<str>,
        topic_id: Uuid,
        index: i32,
        log: PartitionLog,
        flusher: Arc<Flusher>,
    ) -> Self {
        let reader = log.reader();
        Partition {
            topic,
            topic_id,
            index,
            config: ArcSwap::from_pointee(log.config().clone()),
            log: Mutex::new(log),
            reader,
            traffic: Traffic::default(),
            readers: Readers::default(),
            waiters: Arc::default(),
            flusher,
            closed: AtomicBool::new(false),
            flush_state: AtomicU8::new(0),
            checkpoint_scheduled: AtomicBool::new(false),
        }
    }

    /// The topic's name.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// The topic's id.
    pub fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    /// The partition's index within its topic.
    pub fn index(&self) -> i32 {
        self.index
    }

    /// For reading. Takes no lock.
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// What clients have written and read.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Which records its consumers ask for.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }

    /// Who waits for the watermarks.
    pub fn waiters(&self) -> &Arc<Waiters> {
        &self.waiters
    }

    /// The settings that appends are checked against.
    pub fn config(&self) -> arc_swap::Guard<Arc<LogConfig>> {
        self.config.load()
    }

    /// Replaces the settings. They act from the next append on.
    pub fn set_config(&self, config: LogConfig) {
        let mut log = self.log.lock();
        log.set_config(config.clone());
        self.config.store(Arc::new(config));
    }

    /// The writer's side of the log, for what is not an append: retention, deletion of records, a description.
    /// Not to be held for long.
    pub fn log(&self) -> MutexGuard<'_, PartitionLog> {
        self.log.lock()
    }

    /// Ends all use of the partition, which is being deleted: reads and appends are refused from now on and who
    /// waits learns of it.
    pub fn close(&self) {
        self.log.lock().mark_closed();
        // Release: pairs with the acquire in `is_closed`; a waiter that is woken below sees it.
        self.closed.store(true, Ordering::Release);
        self.waiters.wake_all();
    }

    /// Whether the partition was closed.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Appends a checked batch and has it synced soon: at once if `urgent` says that somebody is going to wait for it
    /// or a consumer is already waiting, within the flusher's linger otherwise.
    ///
    /// # Errors
    /// The engine's; the log is as it was before.
    pub fn append(
        self: &Arc<Self>,
        batch: &ProducedBatch,
        now_ms: i64,
        urgent: bool,
    ) -> Result<Appended, AppendError> {
        self.append_asked(batch, None, now_ms, urgent)
    }

    /// As [`append`](Partition::append), of a batch that is transactional if `asked`, as from
    /// [`ask_about`](Partition::ask_about), is there.
    ///
    /// # Errors
    /// The engine's; the log is as it was before.
    pub fn append_asked(
        self: &Arc<Self>,
        batch: &ProducedBatch,
        asked: Option<Asked>,
        now_ms: i64,
        urgent: bool,
    ) -> Result<Appended, AppendError> {
        let appended = self.store(batch, asked, now_ms)?;
        self.flusher.dirty(self, urgent || !self.waiters.is_empty());
        Ok(appended)
    }

    /// As an urgent [`append_asked`](Partition::append_asked) of somebody who waits for nothing else: the sync may be his to make,
    /// if nobody else has one under way.
    ///
    /// # Errors
    /// The engine's; the log is as it was before.
    pub fn append_alone(
        self: &Arc<Self>,
        batch: &ProducedBatch,
        asked: Option<Asked>,
        now_ms: i64,
    ) -> Result<(Appended, Option<Turn>), AppendError> {
        let appended = self.store(batch, asked, now_ms)?;
        Ok((appended, self.flusher.dirty_or_turn(self)))
    }

    fn store(
        &self,
        batch: &ProducedBatch,
        asked: Option<Asked>,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let mut log = self.log.lock();
        match asked {
            None => log.append(batch, LEADER_EPOCH, now_ms),
            Some(Asked { log_end, epoch_rises, .. }) => {
                log.append_transactional(batch, LEADER_EPOCH, now_ms, log_end, epoch_rises)
            }
        }
    }

    /// What a transactional batch of this producer's is to be appended with: the end of its transaction may come
    /// before the append, whether or not the coordinator has to be asked. `epoch_rises` in the second version of the
    /// protocol, see [`PartitionLog::append_transactional`].
    pub fn ask_about(&self, producer_id: i64, producer_epoch: i16, epoch_rises: bool) -> Asked {
        let log = self.log.lock();
        let open = log.producer(producer_id).is_some_and(|producer| {
            producer.epoch() == producer_epoch && producer.transaction_start().is_some()
        });
        Asked { log_end: log.watermarks().log_end(), open, epoch_rises }
    }

    /// Whether a transaction of the producer's has ended here since that moment, so that an append with `asked` is
    /// refused.
    pub fn has_ended_since(&self, producer_id: i64, asked: Asked) -> bool {
        self.log
            .lock()
            .producer(producer_id)
            .is_some_and(|producer| producer.ended_at() >= Some(asked.log_end))
    }

    /// Whether the producer has a transaction open here, in this epoch or a later one.
    pub fn is_in_transaction(&self, producer_id: i64, producer_epoch: i16) -> bool {
        self.log.lock().producer(producer_id).is_some_and(|producer| {
            producer.epoch() >= producer_epoch && producer.transaction_start().is_some()
        })
    }

    /// Ends the transaction that a producer has open here, see [`PartitionLog::append_marker`], and has that synced at
    /// once. It counts once everything up to its offset is durable.
    ///
    /// # Errors
    /// The engine's; the log is as it was before.
    pub fn append_marker(
        self: &Arc<Self>,
        producer_id: i64,
        producer_epoch: i16,
        end: EndOfTransaction,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let appended =
            self.log.lock().append_marker(producer_id, producer_epoch, end, LEADER_EPOCH, now_ms)?;
        self.flusher.dirty(self, true);
        Ok(appended)
    }

    /// As [`append_marker`](Partition::append_marker), by this broker's own coordinator. There is no newer one that could
    /// fence it: an epoch above its own is what an operator has ended a transaction with, and it goes on in that one.
    ///
    /// # Errors
    /// The engine's; the log is as it was before.
    pub fn append_own_marker(
        self: &Arc<Self>,
        producer_id: i64,
        producer_epoch: i16,
        marker: Marker,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let mut log = self.log.lock();
        let seen = log.producer(producer_id).and_then(ProducerState::coordinator_epoch);
        let coordinator_epoch = seen.map_or(LEADER_EPOCH, |seen| seen.max(LEADER_EPOCH));
        let end = EndOfTransaction { marker, coordinator_epoch };
        let appended = log.append_marker(producer_id, producer_epoch, end, LEADER_EPOCH, now_ms)?;
        drop(log);
        self.flusher.dirty(self, true);
        Ok(appended)
    }

    /// Waits until everything below `offset` is on disk.
    ///
    /// # Errors
    /// It never will be, see [`NotDurable`].
    pub async fn wait_durable(&self, offset: i64) -> Result<(), NotDurable> {
        if self.reader.watermarks().high_watermark() >= offset {
            return Ok(());
        }
        let wake = Arc::new(Notify::new());
        let _registration = self.waiters.register(offset, Awaited::HighWatermark, wake.clone());
        loop {
            if self.reader.watermarks().high_watermark() >= offset {
                return Ok(());
            }
            if self.flusher.is_offline() {
                return Err(NotDurable::Offline);
            }
            if self.is_closed() {
                return Err(NotDurable::Closed);
            }
            wake.notified().await;
        }
    }
}

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}
