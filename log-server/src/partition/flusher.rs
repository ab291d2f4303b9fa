//! Group commit: a few threads that sync whatever was appended, one sync for everybody who waits for it.
//!
//! ```text
//! clean ── append, nobody waits ──► lingering ── append that is waited for ──► queued ──► syncing ──► clean
//!   └───── append that is waited for ────────────────────────────────────────► queued       └─ appended to meanwhile:
//!                                                                                              lingering or queued
//! ```
//! A partition is in the queue at most once and is synced by one thread at a time: what is appended during a sync
//! gathers for the next one, so the slower the disk, the larger the groups. (Two syncs of one file at a time wait for
//! each other's pages in the kernel; the second gains nothing and splits the group.)
//!
//! Syncs block, so they run on threads of their own and never on the runtime's.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log_core::log::DirHealth;
use parking_lot::{Condvar, Mutex};

use super::{Checkpointer, Partition};
use crate::metrics::Metrics;

/// Everything that was appended is synced.
const CLEAN: u8 = 0;
/// Waits for its linger to pass.
const LINGERING: u8 = 1;
/// Waits for the next free thread.
const QUEUED: u8 = 2;
/// A thread is at it, and nothing was appended since.
const SYNCING: u8 = 3;
/// A thread is at it; what was appended since has to linger.
const SYNCING_THEN_LINGER: u8 = 4;
/// A thread is at it; what was appended since is being waited for.
const SYNCING_THEN_QUEUE: u8 = 5;

/// What an append makes of a partition's state.
fn appended(state: u8, urgent: bool) -> u8 {
    match (state, urgent) {
        (CLEAN, false) => LINGERING,
        (CLEAN | LINGERING, true) => QUEUED,
        (SYNCING, false) => SYNCING_THEN_LINGER,
        (SYNCING | SYNCING_THEN_LINGER, true) => SYNCING_THEN_QUEUE,
        (unchanged, _) => unchanged,
    }
}

/// The flusher's queue and its threads.
pub struct Flusher {
    health: Arc<DirHealth>,
    metrics: Arc<Metrics>,
    checkpointer: Arc<Checkpointer>,
    linger: Duration,
    /// Guards the queue. Held to push and to take, never while anything is synced.
    work: Mutex<Work>,
    wake: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Work {
    /// To be synced now, in the order in which they asked.
    urgent: VecDeque<Arc<Partition>>,
    /// To be synced when their time has come; by time, because the linger is the same for all.
    lingering: VecDeque<(Instant, Arc<Partition>)>,
    /// Threads that wait in `wake`.
    idle: usize,
    stopping: bool,
}

impl Flusher {
    /// Starts `threads` threads.
    pub fn start(
        threads: usize,
        linger: Duration,
        health: Arc<DirHealth>,
        checkpointer: Arc<Checkpointer>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Arc<Flusher>> {
        let flusher = Arc::new(Flusher {
            health,
            metrics,
            checkpointer,
            linger,
            work: Mutex::default(),
            wake: Condvar::new(),
            threads: Mutex::default(),
        });
        for number in 0..threads {
            let worker = flusher.clone();
            let thread = std::thread::Builder::new()
                .name(format!("highwater-sync{number}"))
                .spawn(move || worker.run())?;
            flusher.threads.lock().push(thread);
        }
        Ok(flusher)
    }

    /// Whether a sync has failed: nothing will become durable any more.
    pub fn is_offline(&self) -> bool {
        self.health.is_offline()
    }

    /// Has `partition` synced: at once if `urgent`, or else when the linger has passed.
    pub(super) fn dirty(&self, partition: &Arc<Partition>, urgent: bool) {
        // AcqRel: the thread that takes the partition changes the state and then reads the log's end under the log's
        // lock. Either it sees this append, or the state was "syncing" here and the partition is queued again.
        let change = |state| Some(appended(state, urgent)).filter(|&next| next != state);
        let changed = partition.flush_state.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
        if let Ok(before) = changed {
            self.enter(partition, appended(before, urgent));
        }
    }

    /// Puts a partition where its new state says it is.
    fn enter(&self, partition: &Arc<Partition>, state: u8) {
        match state {
            QUEUED => {
                let mut work = self.work.lock();
                work.urgent.push_back(partition.clone());
                self.wake_one(&work);
            }
            LINGERING => {
                let mut work = self.work.lock();
                let first = work.lingering.is_empty();
                work.lingering.push_back((Instant::now() + self.linger, partition.clone()));
                // Idle threads sleep until the first one's time; they do not know of a first one that is new.
                if first {
                    self.wake_one(&work);
                }
            }
            _ => {}
        }
    }

    /// Has the threads end once there is nothing left for them, without waiting for it.
    pub fn request_stop(&self) {
        self.work.lock().stopping = true;
        self.wake.notify_all();
    }

    /// Syncs what is left and ends the threads. Blocks until they have.
    pub fn stop(&self) {
        self.request_stop();
        for thread in self.threads.lock().drain(..) {
            // A thread that panicked has nothing left to sync, and said so on its way out.
            let _ = thread.join();
        }
    }

    fn wake_one(&self, work: &Work) {
        if work.idle > 0 {
            self.wake.notify_one();
        }
    }

    fn run(&self) {
        while let Some(partition) = self.next() {
            self.flush(&partition);
            let done = |state| match state {
                SYNCING_THEN_QUEUE => QUEUED,
                SYNCING_THEN_LINGER => LINGERING,
                _ => CLEAN,
            };
            let change = |state| Some(done(state));
            let before = partition.flush_state.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
            self.enter(&partition, before.map_or(CLEAN, done));
        }
    }

    /// The next partition to sync; `None` when the flusher is stopping and nothing is left.
    fn next(&self) -> Option<Arc<Partition>> {
        let mut work = self.work.lock();
        loop {
            if let Some(partition) = work.urgent.pop_front() {
                partition.flush_state.store(SYNCING, Ordering::Release);
                return Some(partition);
            }
            let due = work.lingering.front().map(|(due, _)| *due);
            match due {
                Some(due) if work.stopping || due <= Instant::now() => {
                    let (_, partition) = work.lingering.pop_front().expect("it has a first one");
                    // Not lingering any more: it was queued in the meantime, and perhaps synced.
                    let taken = partition.flush_state.compare_exchange(
                        LINGERING,
                        SYNCING,
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    );
                    if taken.is_ok() {
                        return Some(partition);
                    }
                }
                Some(due) => {
                    work.idle += 1;
                    self.wake.wait_until(&mut work, due);
                    work.idle -= 1;
                }
                None if work.stopping => return None,
                None => {
                    work.idle += 1;
                    self.wake.wait(&mut work);
                    work.idle -= 1;
                }
            }
        }
    }

    /// One group commit: what was appended becomes durable, the watermark moves, waiters wake.
    fn flush(&self, partition: &Arc<Partition>) {
        if self.is_offline() {
            partition.waiters().wake_all();
            return;
        }
        let Some(flush) = partition.log().begin_flush() else { return };
        let started = Instant::now();
        match flush.run() {
            Ok(()) => {
                self.metrics.flush_seconds.observe(started.elapsed().as_secs_f64());
                partition.log().complete_flush(flush);
                partition.waiters().advance(partition.reader().watermarks().high_watermark());
                self.checkpointer.schedule(partition);
            }
            Err(error) => {
                self.metrics.flush_failures.inc();
                self.metrics.log_dir_offline.set(1);
                tracing::error!(
                    ?partition, %error,
                    "a sync failed: the log directory is offline. Nothing more is acknowledged, what is durable can \
                     still be read. Check the disk and restart"
                );
                partition.waiters().wake_all();
            }
        }
    }
}
