//! Writes checkpoints of partitions that are written to: how far each is durable, for recovery to begin at.
//!
//! A partition's checkpoint follows its first sync after the last checkpoint by a fixed interval, so that a steady
//! stream of appends costs one a partition and interval. Rule R9 wants it within 100 ms of the durable end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log_core::log::CheckpointWrite;
use log_core::storage::Storage;
use parking_lot::{Condvar, Mutex};

use super::Partition;
use crate::metrics::Metrics;

/// Checkpoints that are due at the same time from which on one sync of the whole file system does for all of them,
/// where that can be trusted.
const TOGETHER_MIN: usize = 4;

/// The queue of due checkpoints and its thread.
pub struct Checkpointer {
    storage: Arc<dyn Storage>,
    interval: Duration,
    metrics: Arc<Metrics>,
    /// Guards the queue. Held to push and to take, never while anything is written.
    work: Mutex<Work>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Work {
    /// By time, because the interval is the same for all; each partition at most once.
    due: VecDeque<(Instant, Arc<Partition>)>,
    stopping: bool,
}

impl Checkpointer {
    /// Starts the thread, for partitions that lie in `storage`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        storage: Arc<dyn Storage>,
        interval: Duration,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Arc<Checkpointer>> {
        let checkpointer = Arc::new(Checkpointer {
            storage,
            interval,
            metrics,
            work: Mutex::default(),
            wake: Condvar::new(),
            thread: Mutex::default(),
        });
        let worker = checkpointer.clone();
        let thread = std::thread::Builder::new()
            .name("highwater-checkpoint".to_owned())
            .spawn(move || while worker.run_next() {})?;
        *checkpointer.thread.lock() = Some(thread);
        Ok(checkpointer)
    }

    /// Has a checkpoint of `partition` written within the interval.
    pub fn schedule(&self, partition: &Arc<Partition>) {
        // AcqRel: the thread clears the flag before it looks at the log, so a sync that is not in its checkpoint
        // schedules the next one.
        if partition.checkpoint_scheduled.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut work = self.work.lock();
        if work.stopping {
            return;
        }
        let first = work.due.is_empty();
        work.due.push_back((Instant::now() + self.interval, partition.clone()));
        if first {
            self.wake.notify_one();
        }
    }

    /// Has the thread end, without waiting for it.
    pub fn request_stop(&self) {
        self.work.lock().stopping = true;
        self.wake.notify_all();
    }

    /// Ends the thread. What is scheduled is dropped: a clean shutdown writes last checkpoints of its own.
    pub fn stop(&self) {
        self.request_stop();
        if let Some(thread) = self.thread.lock().take() {
            // A thread that panicked said so on its way out.
            let _ = thread.join();
        }
    }

    /// Waits for the next checkpoints and writes them. False when stopping.
    fn run_next(&self) -> bool {
        let mut work = self.work.lock();
        let partitions = loop {
            if work.stopping {
                // Partitions hold the flusher, and that holds this: left in here they would never be given up.
                work.due.clear();
                return false;
            }
            match work.due.front().map(|(due, _)| *due) {
                Some(due) if due <= Instant::now() => {
                    let now = Instant::now();
                    let count = work.due.partition_point(|(due, _)| *due <= now);
                    break work.due.drain(..count).map(|(_, partition)| partition).collect::<Vec<_>>();
                }
                Some(due) => {
                    self.wake.wait_until(&mut work, due);
                }
                None => self.wake.wait(&mut work),
            }
        };
        drop(work);
        let begun = partitions.iter().filter_map(|partition| {
            partition.checkpoint_scheduled.store(false, Ordering::Release);
            partition.log().begin_checkpoint()
        });
        let begun: Vec<CheckpointWrite> = begun.collect();
        let started = Instant::now();
        let done = if begun.len() >= TOGETHER_MIN && self.storage.can_sync_all() {
            CheckpointWrite::run_together(&begun, &*self.storage)
        } else {
            begun.iter().map(CheckpointWrite::run).collect()
        };
        if !begun.is_empty() {
            self.metrics.checkpoint_seconds.observe_duration(started.elapsed());
        }
        for (checkpoint, done) in begun.iter().zip(done) {
            if let Err(error) = done {
                let partition = checkpoint.partition();
                self.metrics.checkpoint_failures.inc();
                tracing::error!(partition, %error, "cannot write a checkpoint; a restart has more to read");
            }
        }
        true
    }
}
