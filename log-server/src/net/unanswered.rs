//! How many requests of a connection were dispatched and are not answered.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The count, shared by the two halves of a connection. They are one task, so nothing is ordered by it.
#[derive(Default)]
pub(super) struct Unanswered {
    count: AtomicUsize,
    none_left: Notify,
    company: AtomicBool,
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

    /// Notes that a request has come while another was answered that had this thread to itself.
    pub(super) fn note_company(&self) {
        self.company.store(true, Ordering::Relaxed);
    }

    /// Whether that was noted since this was last asked.
    pub(super) fn take_company(&self) -> bool {
        self.company.swap(false, Ordering::Relaxed)
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
