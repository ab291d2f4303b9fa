//! Reads that wait for the disk, on threads that may: a few at a time, so that a consumer of old history takes
//! neither the runtime's threads nor the whole of the disk's queue from everybody else.
//!
//! Those threads are nice. Bringing history in costs a processor as much as a disk, and a reader keeps at it without
//! a pause; beside it a producer's request waits for one each time it changes threads.

use std::fmt;
use std::io;
use std::sync::Arc;

use log_core::log::ReadAhead;
use prometheus_client::metrics::counter::Counter;
use tokio::runtime::{self, Runtime};
use tokio::sync::Semaphore;

/// What is added to the nice value of a thread that reads: a third of what others have of a processor that both want.
const NICE: i32 = 5;

/// The gate that reads of the disk pass.
pub struct ColdReads {
    /// One permit a read. Who comes first is served first.
    permits: Arc<Semaphore>,
    threads: Threads,
    count: Counter,
}

/// The blocking threads of a runtime that has nothing else.
struct Threads(Option<Runtime>);

impl ColdReads {
    /// Lets `reads_max` of them wait for the disk at a time, and counts them all in `count`.
    ///
    /// # Errors
    /// The system has no runtime to give.
    pub fn new(reads_max: usize, count: Counter) -> io::Result<Self> {
        let runtime = runtime::Builder::new_current_thread()
            .thread_name("highwater-reads")
            .max_blocking_threads(reads_max)
            .on_thread_start(|| {
                // Where that is forbidden, as in some containers, they are like others.
                let _ = rustix::process::nice(NICE);
            })
            .build()?;
        let threads = Threads(Some(runtime));
        Ok(ColdReads { permits: Arc::new(Semaphore::new(reads_max)), threads, count })
    }

    /// Runs `read` on a thread that may wait, once there is room. If the caller goes away, a read that has begun goes
    /// on to its end, and keeps its place until then.
    pub async fn run<T: Send + 'static>(&self, read: impl FnOnce() -> T + Send + 'static) -> T {
        let permit = self.permits.clone().acquire_owned().await.expect("never closed");
        self.count.inc();
        let done = self.threads.runtime().spawn_blocking(move || {
            let done = read();
            drop(permit);
            done
        });
        match done.await {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        }
    }

    /// Brings in what somebody is going to want, if there is room: who already waits goes first, and without it a
    /// reader has to wait once more.
    pub fn ahead(&self, ahead: ReadAhead) {
        if let Ok(permit) = self.permits.clone().try_acquire_owned() {
            self.threads.runtime().spawn_blocking(move || {
                ahead.run();
                drop(permit);
            });
        }
    }
}

impl Threads {
    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("taken by the drop only")
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // Reads that are under way go on to their end, and nobody waits for them: this may be on a runtime's thread.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for ColdReads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ColdReads({} free)", self.permits.available_permits())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use std::sync::mpsc;

    #[tokio::test]
    async fn reads_beyond_the_limit_wait_for_their_turn() {
        let count = Counter::default();
        let reads = ColdReads::new(1, count.clone()).unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let mut first = Box::pin(reads.run(move || wait.recv().is_ok()));
        assert!((&mut first).now_or_never().is_none(), "it waits for its disk");
        let mut second = Box::pin(reads.run(|| 7));
        assert!((&mut second).now_or_never().is_none());
        assert_eq!(count.get(), 1, "the second has not begun");
        go.send(()).unwrap();
        assert!(first.await);
        assert_eq!(second.await, 7);
        assert_eq!(count.get(), 2);
    }

    #[tokio::test]
    async fn who_goes_away_gives_the_place_back_when_the_read_is_through() {
        let reads = ColdReads::new(1, Counter::default()).unwrap();
        let (go, wait) = mpsc::channel::<()>();
        let mut left = Box::pin(reads.run(move || wait.recv().is_ok()));
        assert!((&mut left).now_or_never().is_none());
        drop(left);
        assert_eq!(format!("{reads:?}"), "ColdReads(0 free)");
        go.send(()).unwrap();
        assert_eq!(reads.run(|| 7).await, 7);
    }

    #[tokio::test]
    async fn a_read_is_nice_and_whoever_waits_for_it_is_not() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let before = nice();
        let reads = ColdReads::new(1, Counter::default()).unwrap();
        assert_eq!(reads.run(nice).await, (before + NICE).min(19));
        assert_eq!(nice(), before);
    }
}
