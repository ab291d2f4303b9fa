//! How many requests of a connection were dispatched and are not answered.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The count, shared by the two halves of a connection. They are one task, so nothing is ordered by it.
#[derive(Default)]
pub(super) struct Unanswered {
    count: AtomicUsize,
    none_left: Notify,
}

impl Unanswered {
    /// One more will be answered.
    pub(super) fn add(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// The answers to so many have been sent.
    pub(super) fn sent(&self, answers: usize) {
        if self.count.fetch_sub(answers, Ordering::Relaxed) == answers {
            self.none_left.notify_waiters();
        }
    }

    /// Whether all are answered.
    pub(super) fn is_none(&self) -> bool {
        self.count.load(Ordering::Relaxed) == 0
    }

    /// Waits until all are answered.
    pub(super) async fn none(&self) {
        loop {
            let none_left = self.none_left.notified();
            if self.is_none() {
                return;
            }
            none_left.await;
        }
    }
}
