//! Who waits for a partition's watermarks: producers with acks=all, consumers in a long poll.
//!
//! The order that loses no wake-up: register, check, wait. A waiter that registers after the watermark has moved sees
//! the new watermark when it checks; one that registers before is woken. [`Notify`] keeps one wake-up for a waiter
//! that is not waiting yet.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Which watermark somebody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Everything below is durable.
    HighWatermark,
    /// Everything below is decided, and that is durable.
    LastStable,
}

/// The waiters of one partition.
#[derive(Default)]
pub struct Waiters {
    /// Guards the list for as long as it takes to add, remove or scan. Never held across an await.
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    next_id: u64,
    waiting: Vec<Waiting>,
}

struct Waiting {
    id: u64,
    /// What satisfies the waiter.
    until: i64,
    awaited: Awaited,
    wake: Arc<Notify>,
}

impl Waiters {
    /// Has `wake` notified each time what is awaited is found at or above `until`, for as long as the
    /// registration lives. One `wake` may be registered with many partitions.
    pub fn register(self: &Arc<Self>, until: i64, awaited: Awaited, wake: Arc<Notify>) -> Registration {
        let mut list = self.list.lock();
        let id = list.next_id;
        list.next_id += 1;
        list.waiting.push(Waiting { id, until, awaited, wake });
        Registration { waiters: self.clone(), id }
    }

    /// Wakes whom these watermarks satisfy.
    pub fn advance(&self, high_watermark: i64, last_stable: i64) {
        for waiting in &self.list.lock().waiting {
            let reached = match waiting.awaited {
                Awaited::HighWatermark => high_watermark,
                Awaited::LastStable => last_stable,
            };
            if waiting.until <= reached {
                waiting.wake.notify_one();
            }
        }
    }

    /// Wakes everybody, because waiting has become pointless: the partition is offline or deleted.
    pub fn wake_all(&self) {
        self.advance(i64::MAX, i64::MAX);
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.list.lock().waiting.is_empty()
    }
}

impl fmt::Debug for Waiters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Waiters({})", self.list.lock().waiting.len())
    }
}

/// A place among the waiters, given up when dropped.
#[derive(Debug)]
pub struct Registration {
    waiters: Arc<Waiters>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut list = self.waiters.list.lock();
        if let Some(at) = list.waiting.iter().position(|waiting| waiting.id == self.id) {
            list.waiting.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn woken(wake: &Notify) -> bool {
        wake.notified().now_or_never().is_some()
    }

    #[test]
    fn a_waiter_is_woken_once_its_offset_is_reached() {
        let waiters = Arc::new(Waiters::default());
        let (early, late) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let stable = Arc::new(Notify::new());
        let _early = waiters.register(5, Awaited::HighWatermark, early.clone());
        let _late = waiters.register(9, Awaited::HighWatermark, late.clone());
        let _stable = waiters.register(5, Awaited::LastStable, stable.clone());
        waiters.advance(4, 4);
        assert!(!woken(&early));
        waiters.advance(5, 4);
        assert!(woken(&early) && !woken(&late) && !woken(&stable));
        waiters.advance(5, 5);
        assert!(woken(&stable) && !woken(&late));
        waiters.wake_all();
        assert!(woken(&early) && woken(&late));
    }

    #[test]
    fn a_dropped_registration_is_forgotten() {
        let waiters = Arc::new(Waiters::default());
        let wake = Arc::new(Notify::new());
        let registrations: Vec<_> =
            (0..3).map(|until| waiters.register(until, Awaited::HighWatermark, wake.clone())).collect();
        drop(registrations);
        assert!(waiters.is_empty());
        waiters.wake_all();
        assert!(!woken(&wake));
    }
}
