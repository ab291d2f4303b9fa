//! Who waits for a partition's high watermark: producers with acks=all, consumers in a long poll.
//!
//! The order that loses no wake-up: register, check, wait. A waiter that registers after the watermark has moved sees
//! the new watermark when it checks; one that registers before is woken. [`Notify`] keeps one wake-up for a waiter
//! that is not waiting yet.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

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
    /// The high watermark that satisfies the waiter.
    until: i64,
    wake: Arc<Notify>,
}

impl Waiters {
    /// Has `wake` notified each time the high watermark is found at or above `until`, for as long as the
    /// registration lives. One `wake` may be registered with many partitions.
    pub fn register(self: &Arc<Self>, until: i64, wake: Arc<Notify>) -> Registration {
        let mut list = self.list.lock();
        let id = list.next_id;
        list.next_id += 1;
        list.waiting.push(Waiting { id, until, wake });
        Registration { waiters: self.clone(), id }
    }

    /// Wakes whom `high_watermark` satisfies.
    pub fn advance(&self, high_watermark: i64) {
        for waiting in self.list.lock().waiting.iter().filter(|waiting| waiting.until <= high_watermark) {
            waiting.wake.notify_one();
        }
    }

    /// Wakes everybody, because waiting has become pointless: the partition is offline or deleted.
    pub fn wake_all(&self) {
        self.advance(i64::MAX);
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
        let _early = waiters.register(5, early.clone());
        let _late = waiters.register(9, late.clone());
        waiters.advance(4);
        assert!(!woken(&early));
        waiters.advance(5);
        assert!(woken(&early) && !woken(&late));
        waiters.wake_all();
        assert!(woken(&early) && woken(&late));
    }

    #[test]
    fn a_dropped_registration_is_forgotten() {
        let waiters = Arc::new(Waiters::default());
        let wake = Arc::new(Notify::new());
        let registrations: Vec<_> = (0..3).map(|until| waiters.register(until, wake.clone())).collect();
        drop(registrations);
        assert!(waiters.is_empty());
        waiters.wake_all();
        assert!(!woken(&wake));
    }
}
