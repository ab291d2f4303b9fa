//! Threads for connections that have one durable request in flight at a time.
//!
//! Such a client waits for every step of its request in turn, and what it waits for most, next to the disk, is threads
//! that have to be woken: one of the runtime's by the socket, one of the flusher's by that, and the other way round. On
//! a lane the socket wakes the thread that appends, syncs and answers.
//!
//! A lane has a runtime of its own, because the socket's readiness is noticed by the runtime that it is registered with.

use std::io;
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lanes there may be. With more such clients at a time there is company at the disk, and one sync for several of them.
const LANES_MAX: usize = 4;

/// The lanes of one listener.
#[derive(Clone)]
pub(super) struct Lanes {
    free: Arc<Semaphore>,
}

impl Default for Lanes {
    fn default() -> Self {
        Lanes { free: Arc::new(Semaphore::new(LANES_MAX)) }
    }
}

impl Lanes {
    /// Starts a lane; `None` if there are enough, or the system has no thread to give.
    ///
    /// What it is to do comes later, so that a connection is not lost with a thread that cannot be had.
    pub(super) fn open(&self) -> Option<Lane> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        let (work, works) = mpsc::channel::<Work>();
        let thread = thread::Builder::new().name("highwater-lane".to_owned()).spawn(move || {
            if let Ok(work) = works.recv() {
                work(Builder::new_current_thread().enable_all().build());
            }
        });
        match thread {
            Ok(_) => Some(Lane { work, _permit: permit }),
            Err(error) => {
                tracing::debug!(%error, "no thread for a connection of its own");
                None
            }
        }
    }
}

/// What a lane does, with its runtime if the system had the means for one.
type Work = Box<dyn FnOnce(io::Result<Runtime>) + Send>;

/// A thread that waits for something to do, and ends with it.
pub(super) struct Lane {
    work: mpsc::Sender<Work>,
    _permit: OwnedSemaphorePermit,
}

impl Lane {
    /// Has the thread do something. There is no room for another lane until this is dropped.
    pub(super) fn start(&self, work: impl FnOnce(io::Result<Runtime>) + Send + 'static) {
        self.work.send(Box::new(work)).expect("the thread waits for it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_lanes_and_no_more() {
        let lanes = Lanes::default();
        let mut open: Vec<Lane> = (0..LANES_MAX).map(|_| lanes.open().expect("a thread")).collect();
        assert!(lanes.open().is_none());
        open.pop();
        let (done, outcome) = mpsc::channel();
        let lane = lanes.open().expect("a place has become free");
        lane.start(move |runtime| {
            done.send(runtime.expect("a runtime").block_on(async { 7 })).expect("received")
        });
        assert_eq!(outcome.recv(), Ok(7));
    }
}
