//! The scrub: reads all sealed segments off the disk, over and over, to find what has gone bad while nobody read it.
//!
//! One thread of low priority takes one segment at a time, partitions in the order of their names. A pass has
//! `scrub_period_ms` until the next one begins, and how fast it reads follows from what there is to read ([`pace`]).
//! Where it is survives a restart ([`progress`]). What it finds is named in the log, in the metrics and at
//! `/api/v1/scrub`, and the engine takes no more writes to that partition until somebody has decided about it (R9).

mod findings;
mod pace;
mod pass;
mod progress;
mod status;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log_core::log::{DirHealth, SealedSegment};
use log_core::storage::Storage;
use parking_lot::{Condvar, Mutex};

use crate::clock::now_ms;
use crate::metrics::Metrics;
use crate::partition::Registry;

use findings::Findings;
use pace::Pace;
use pass::Pass;
use progress::Progress;
use status::ScrubMetrics;

pub use findings::Finding;
pub use status::ScrubStatus;

/// The lowest priority there is: every thread that serves somebody goes first.
const NICE: i32 = 19;

/// How often findings in what has been deleted are forgotten.
const FORGET_INTERVAL: Duration = Duration::from_secs(2);

/// How much a scrub may take.
#[derive(Clone, Copy, Debug)]
pub struct ScrubLimits {
    /// From the beginning of a pass to that of the next. Zero is no scrub at all.
    pub period: Duration,
    /// Bytes read a second at most.
    pub bytes_per_second_max: u64,
}

/// The thread and what is known of its work.
pub struct Scrubber {
    limits: ScrubLimits,
    partitions: Arc<Registry>,
    storage: Arc<dyn Storage>,
    /// An offline directory is not scrubbed: it says nothing about what a restart will find.
    health: Arc<DirHealth>,
    metrics: ScrubMetrics,
    /// Guards progress and findings. Held to look and to change, never while anything is read or written.
    state: Mutex<State>,
    /// Guards the wish to stop. Pauses wait on it.
    stopping: Mutex<bool>,
    wake: Condvar,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct State {
    progress: Progress,
    findings: Findings,
    left_bytes: u64,
    bytes_per_second: u64,
}

impl Scrubber {
    /// Starts the thread, unless the period is zero.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        limits: ScrubLimits,
        partitions: Arc<Registry>,
        storage: Arc<dyn Storage>,
        health: Arc<DirHealth>,
        metrics: &Metrics,
    ) -> std::io::Result<Arc<Scrubber>> {
        let progress = Progress::load(&*storage);
        let metrics = ScrubMetrics::register(metrics);
        metrics.last_pass_seconds.set(progress.last.as_ref().map_or(0, |pass| pass.ended_ms / 1000));
        let scrubber = Arc::new(Scrubber {
            limits,
            partitions,
            storage,
            health,
            metrics,
            state: Mutex::new(State { progress, ..State::default() }),
            stopping: Mutex::new(false),
            wake: Condvar::new(),
            thread: Mutex::default(),
        });
        if !limits.period.is_zero() {
            let worker = scrubber.clone();
            let thread = std::thread::Builder::new().name("highwater-scrub".to_owned());
            *scrubber.thread.lock() = Some(thread.spawn(move || {
                let _ = worker.run();
            })?);
        }
        Ok(scrubber)
    }

    /// Where the scrub is and what it has found.
    pub fn status(&self) -> ScrubStatus {
        let state = self.state.lock();
        ScrubStatus::new(&state.progress, &state.findings, state.left_bytes, state.bytes_per_second)
    }

    /// Has the thread end, without waiting for it.
    pub fn request_stop(&self) {
        *self.stopping.lock() = true;
        self.wake.notify_all();
    }

    /// Ends the thread and writes down where it was.
    pub fn stop(&self) {
        self.request_stop();
        if let Some(thread) = self.thread.lock().take() {
            // A thread that panicked said so on its way out.
            let _ = thread.join();
            self.save();
        }
    }

    /// Pass after pass, until the broker stops.
    fn run(&self) -> ControlFlow<()> {
        // Of this thread alone: on Linux each has a priority of its own. Without it things go on as they are.
        let _ = rustix::process::setpriority_process(None, NICE);
        let period = self.limits.period;
        pass::revisit(self)?;
        loop {
            let rest = self.state.lock().progress.rest(now_ms(), period);
            self.rest(rest)?;
            let since_begin = self.state.lock().progress.begin_or_resume(now_ms());
            Pass::new(self, Pace::new(period, since_begin, self.limits.bytes_per_second_max)).run()?;
        }
    }

    /// Waits for the next pass to be due, unless the broker stops.
    fn rest(&self, rest: Duration) -> ControlFlow<()> {
        let until = Instant::now() + rest;
        loop {
            self.forget_what_is_gone();
            let left = until.saturating_duration_since(Instant::now());
            self.pause(left.min(FORGET_INTERVAL))?;
            if left <= FORGET_INTERVAL {
                return ControlFlow::Continue(());
            }
        }
    }

    /// Forgets the findings in topics and segments that have been deleted.
    fn forget_what_is_gone(&self) {
        self.with_findings(|findings| {
            findings.retain(|key| {
                let partition = self.partitions.get(&key.topic, key.partition);
                let partition = partition.filter(|partition| partition.topic_id() == key.topic_id);
                let sealed = partition.map(|partition| partition.reader().sealed_segments());
                sealed.iter().flatten().map(SealedSegment::base_offset).collect()
            });
        });
    }

    /// Waits, unless the broker stops.
    fn pause(&self, pause: Duration) -> ControlFlow<()> {
        let mut stopping = self.stopping.lock();
        let until = Instant::now() + pause;
        while !*stopping && !self.wake.wait_until(&mut stopping, until).timed_out() {}
        if *stopping { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn save(&self) {
        let progress = self.state.lock().progress.clone();
        if let Err(error) = progress.save(&*self.storage) {
            // A hint: without it a restart reads more than it has to.
            tracing::debug!(%error, "cannot write down how far the scrub is");
        }
    }

    /// Changes what is known to be damaged, and shows it.
    fn with_findings(&self, change: impl FnOnce(&mut Findings)) {
        let mut state = self.state.lock();
        let before = state.findings.counts();
        change(&mut state.findings);
        self.metrics.show_holes(&before, &state.findings.counts());
    }
}
