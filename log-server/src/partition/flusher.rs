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
//! Where many partitions wait, one sync of the whole file system may do for all of them, see `sync_choice`. One of
//! those runs at a time, and what is appended meanwhile gathers for the next.
//!
//! Syncs block, so they run on threads of their own and never on the runtime's. Whoever appends to a clean partition,
//! while nothing else waits for the disk, gets a [`Turn`]: if his thread is his alone he may sync by himself, and nobody
//! has to be woken for it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log_core::log::{DirHealth, Flush};
use log_core::storage::Storage;
use parking_lot::{Condvar, Mutex, MutexGuard};

use super::idle_threads::IdleThreads;
use super::sync_choice::SyncChoice;
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
    storage: Arc<dyn Storage>,
    health: Arc<DirHealth>,
    metrics: Arc<Metrics>,
    checkpointer: Arc<Checkpointer>,
    linger: Duration,
    /// Partitions that are queued or being synced.
    busy: AtomicUsize,
    /// Guards the queue. Held to push and to take, never while anything is synced.
    work: Mutex<Work>,
    wake: Condvar,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Work {
    /// To be synced now, in the order in which they asked.
    urgent: VecDeque<Arc<Partition>>,
    /// To be synced when their time has come; by time, because the linger is the same for all.
    lingering: VecDeque<(Instant, Arc<Partition>)>,
    /// Whether to sync what waits one by one or at once.
    choice: SyncChoice,
    /// Whether a thread syncs everything.
    together: bool,
    /// Threads that wait in `wake`.
    idle: IdleThreads,
    stopping: bool,
    /// Whether there are no threads any more.
    ended: bool,
}

/// Lets go of a partition that was synced. Answers it with its state if it has to be put back, for what was appended
/// meanwhile.
fn settled(partition: Arc<Partition>) -> Option<(Arc<Partition>, u8)> {
    let settled = |state| match state {
        SYNCING_THEN_QUEUE => QUEUED,
        SYNCING_THEN_LINGER => LINGERING,
        _ => CLEAN,
    };
    let change = |state| Some(settled(state));
    let before = partition.flush_state.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    let state = before.map_or(CLEAN, settled);
    (state != CLEAN).then_some((partition, state))
}

/// What a thread does next.
enum Task {
    One(Arc<Partition>),
    Together(Vec<Arc<Partition>>),
}

impl Flusher {
    /// Starts `threads` threads for partitions that lie in `storage`.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        threads: usize,
        linger: Duration,
        storage: Arc<dyn Storage>,
        health: Arc<DirHealth>,
        checkpointer: Arc<Checkpointer>,
        metrics: Arc<Metrics>,
    ) -> std::io::Result<Arc<Flusher>> {
        let work = Work {
            urgent: VecDeque::new(),
            lingering: VecDeque::new(),
            choice: SyncChoice::new(storage.can_sync_all(), threads),
            together: false,
            idle: IdleThreads::default(),
            stopping: false,
            ended: false,
        };
        let flusher = Arc::new(Flusher {
            storage,
            health,
            metrics,
            checkpointer,
            linger,
            busy: AtomicUsize::new(0),
            work: Mutex::new(work),
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

    /// As an urgent [`dirty`](Flusher::dirty), unless the partition was clean and nothing else is queued or being
    /// synced: then whoever has appended may sync it.
    pub(super) fn dirty_or_turn(self: &Arc<Self>, partition: &Arc<Partition>) -> Option<Turn> {
        // Relaxed: a hint. Two that take a turn at the same time do each other no harm.
        if self.busy.load(Ordering::Relaxed) == 0 {
            // AcqRel: as in `dirty`.
            let taken =
                partition.flush_state.compare_exchange(CLEAN, SYNCING, Ordering::AcqRel, Ordering::Acquire);
            if taken.is_ok() {
                self.busy.fetch_add(1, Ordering::Relaxed);
                return Some(Turn { flusher: self.clone(), partition: partition.clone(), done: false });
            }
        }
        self.dirty(partition, true);
        None
    }

    /// Puts a partition where its new state says it is, and has a thread look there.
    fn enter(&self, partition: &Arc<Partition>, state: u8) {
        if !matches!(state, QUEUED | LINGERING) {
            return;
        }
        let mut work = self.work.lock();
        self.put(&mut work, partition.clone(), state);
        self.let_go(work);
    }

    /// Puts a partition where its new state says it is.
    fn put(&self, work: &mut Work, partition: Arc<Partition>, state: u8) {
        // Partitions hold the flusher: left in here they would never be given up.
        if work.ended {
            return;
        }
        match state {
            QUEUED => {
                self.busy.fetch_add(1, Ordering::Relaxed);
                work.urgent.push_back(partition);
            }
            LINGERING => work.lingering.push_back((Instant::now() + self.linger, partition)),
            _ => {}
        }
    }

    /// Lets go of the queue, and wakes a thread for what is in there if nobody is about to look.
    fn let_go(&self, mut work: MutexGuard<'_, Work>) {
        let (queued, lingers) = (work.urgent.len(), !work.lingering.is_empty());
        let wake = work.idle.wakes_one(queued, lingers);
        // First: a thread that is woken under the lock would be handed it by parking_lot while it still waits for a
        // processor, and everybody else would wait for that.
        drop(work);
        if wake {
            self.wake.notify_one();
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
        let mut work = self.work.lock();
        work.ended = true;
        work.urgent.clear();
        work.lingering.clear();
    }

    fn run(&self) {
        let mut work = self.work.lock();
        while let Some(task) = self.next(&mut work) {
            self.let_go(work);
            // What a task holds is let go of before the queue is locked: it may be the last of a deleted log.
            work = match task {
                Task::One(partition) => {
                    let took = self.flush(&partition).map(|(flush, took)| {
                        flush.map_in();
                        took
                    });
                    let back = settled(partition);
                    let mut work = self.work.lock();
                    if let Some(took) = took {
                        work.choice.synced_one(took);
                    }
                    if let Some((partition, state)) = back {
                        self.put(&mut work, partition, state);
                    }
                    self.busy.fetch_sub(1, Ordering::Relaxed);
                    work
                }
                Task::Together(partitions) => {
                    let took = self.flush_together(&partitions);
                    let count = partitions.len();
                    let back: Vec<_> = partitions.into_iter().filter_map(settled).collect();
                    let mut work = self.work.lock();
                    work.together = false;
                    if let Some(took) = took {
                        work.choice.synced_everything(took);
                    }
                    // What has gathered meanwhile was left for the next sync of everything.
                    if work.stopping {
                        self.wake.notify_all();
                    }
                    for (partition, state) in back {
                        self.put(&mut work, partition, state);
                    }
                    self.busy.fetch_sub(count, Ordering::Relaxed);
                    work
                }
            };
        }
    }

    /// Waits for what to sync next; `None` when the flusher is stopping and nothing is left.
    fn next(&self, work: &mut MutexGuard<'_, Work>) -> Option<Task> {
        loop {
            let waiting = work.urgent.len();
            if work.choice.together(waiting) {
                if !work.together {
                    return Some(self.take_all(work));
                }
                // They gather until the one that runs is through, whose thread looks here next.
            } else if let Some(partition) = work.urgent.pop_front() {
                partition.flush_state.store(SYNCING, Ordering::Release);
                return Some(Task::One(partition));
            }
            let due = work.lingering.front().map(|(due, _)| *due);
            match due {
                Some(due) if work.stopping || due <= Instant::now() => {
                    if let Some(partition) = self.take_lingering(work) {
                        return Some(Task::One(partition));
                    }
                }
                None if work.stopping && work.urgent.is_empty() => return None,
                due => self.sleep(work, due),
            }
        }
    }

    /// Waits until woken, or until something is due.
    fn sleep(&self, work: &mut MutexGuard<'_, Work>, due: Option<Instant>) {
        work.idle.lie_down(due.is_some());
        match due {
            Some(due) => {
                self.wake.wait_until(work, due);
            }
            None => self.wake.wait(work),
        }
        work.idle.get_up(due.is_some());
    }

    /// All that waits, what lingers included: a sync of everything makes no difference between them.
    fn take_all(&self, work: &mut Work) -> Task {
        work.together = true;
        let mut partitions: Vec<Arc<Partition>> = work.urgent.drain(..).collect();
        for partition in &partitions {
            partition.flush_state.store(SYNCING, Ordering::Release);
        }
        while !work.lingering.is_empty() {
            partitions.extend(self.take_lingering(work));
        }
        Task::Together(partitions)
    }

    /// The first of those that linger; `None` if it does not linger any more: it was queued in the meantime, and
    /// perhaps synced.
    fn take_lingering(&self, work: &mut Work) -> Option<Arc<Partition>> {
        let (_, partition) = work.lingering.pop_front()?;
        let taken =
            partition.flush_state.compare_exchange(LINGERING, SYNCING, Ordering::AcqRel, Ordering::Acquire);
        taken.is_ok().then(|| {
            self.busy.fetch_add(1, Ordering::Relaxed);
            partition
        })
    }

    /// One group commit: what was appended becomes durable, the watermark moves, waiters wake. Answers what was synced
    /// and how long that took, if it was a success.
    fn flush(&self, partition: &Arc<Partition>) -> Option<(Flush, Duration)> {
        let flush = if self.is_offline() { None } else { partition.log().begin_flush() };
        let Some(flush) = flush else {
            // Offline, or durable already.
            partition.waiters().wake_all();
            return None;
        };
        let started = Instant::now();
        if let Err(error) = flush.run() {
            self.failed(&error);
            partition.waiters().wake_all();
            return None;
        }
        let took = self.observe(started, std::slice::from_ref(&flush));
        self.complete(partition, &flush);
        Some((flush, took))
    }

    /// The group commit of many partitions by one sync.
    fn flush_together(&self, partitions: &[Arc<Partition>]) -> Option<Duration> {
        let wake_all = || partitions.iter().for_each(|partition| partition.waiters().wake_all());
        if self.is_offline() {
            wake_all();
            return None;
        }
        let begun =
            partitions.iter().filter_map(|partition| Some((partition, partition.log().begin_flush()?)));
        let (begun, flushes): (Vec<&Arc<Partition>>, Vec<Flush>) = begun.unzip();
        let started = Instant::now();
        if let Err(error) = Flush::run_together(&flushes, &*self.storage) {
            self.failed(&error);
            wake_all();
            return None;
        }
        let took = self.observe(started, &flushes);
        self.metrics.flushed_together.inc_by(flushes.len() as u64);
        for (partition, flush) in begun.into_iter().zip(&flushes) {
            self.complete(partition, flush);
        }
        flushes.iter().for_each(Flush::map_in);
        Some(took)
    }

    /// Counts one sync, which has made all of `flushes` durable.
    fn observe(&self, started: Instant, flushes: &[Flush]) -> Duration {
        let took = started.elapsed();
        self.metrics.flush_seconds.observe_duration(took);
        self.metrics.flush_bytes.observe(flushes.iter().map(Flush::bytes).sum());
        self.metrics.flush_records.observe(flushes.iter().map(Flush::records).sum());
        took
    }

    fn complete(&self, partition: &Arc<Partition>, flush: &Flush) {
        partition.log().complete_flush(flush);
        let watermarks = partition.reader().watermarks();
        partition.waiters().advance(watermarks.high_watermark(), watermarks.last_stable());
        self.checkpointer.schedule(partition);
    }

    fn failed(&self, error: &std::io::Error) {
        self.metrics.flush_failures.inc();
        self.metrics.log_dir_offline.set(1);
        tracing::error!(
            %error,
            "a sync failed: the log directory is offline. Nothing more is acknowledged, what is durable can still be \
             read. Check the disk and restart"
        );
    }
}

/// A partition that was appended to by somebody who is alone, and may sync it. Nobody else does as long as he holds
/// this, so he does it or drops this, which leaves it to the flusher's threads, before he waits for anything.
pub struct Turn {
    flusher: Arc<Flusher>,
    partition: Arc<Partition>,
    done: bool,
}

impl Turn {
    /// Syncs the partition on this thread. Who waits for it learns whether that was a success. What was synced is to be
    /// [mapped in](Flush::map_in) when there is nothing more urgent to do.
    pub fn sync(mut self) -> Option<Flush> {
        let synced = self.flusher.flush(&self.partition);
        if let Some((partition, state)) = settled(self.partition.clone()) {
            self.flusher.enter(&partition, state);
        }
        self.flusher.busy.fetch_sub(1, Ordering::Relaxed);
        self.done = true;
        synced.map(|(flush, _)| flush)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.done {
            // Whatever was appended meanwhile is in the queue with it.
            self.partition.flush_state.store(QUEUED, Ordering::Release);
            self.flusher.enter(&self.partition, QUEUED);
            self.flusher.busy.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Turn({:?})", self.partition)
    }
}
