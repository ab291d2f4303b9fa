//! Which of the flusher's threads are idle, and whether one has to be woken for what is in the queue.
//!
//! A thread that has been woken runs some time later. Until then it counts as one that is about to look, so that a
//! second thread is not woken for the same partition, nor the first one twice.

/// The account of idle threads. It lies in the queue, and whoever holds that holds this.
#[derive(Debug, Default)]
pub(super) struct IdleThreads {
    /// Threads that sleep, those included that have been woken and do not run yet.
    idle: usize,
    /// How many of them get up by themselves when the first partition that lingers is due.
    watching: usize,
    /// How many of them have been woken and have not looked yet.
    woken: usize,
}

impl IdleThreads {
    /// A thread goes to sleep, until the first partition that lingers is due if it `watches`.
    pub(super) fn lie_down(&mut self, watches: bool) {
        self.idle += 1;
        self.watching += usize::from(watches);
    }

    /// It is awake again, woken or not: if not, it looks all the same, and the one that was woken finds nothing.
    pub(super) fn get_up(&mut self, watched: bool) {
        self.idle -= 1;
        self.watching -= usize::from(watched);
        self.woken = self.woken.saturating_sub(1);
    }

    /// Whether to wake a thread while so many partitions are queued and some linger or none does. If so it is woken.
    pub(super) fn wakes_one(&mut self, queued: usize, lingers: bool) -> bool {
        let unwatched = lingers && self.watching == 0 && self.woken == 0;
        let wakes = self.idle > self.woken && (queued > self.woken || unwatched);
        self.woken += usize::from(wakes);
        wakes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asleep(count: usize) -> IdleThreads {
        let mut threads = IdleThreads::default();
        (0..count).for_each(|_| threads.lie_down(false));
        threads
    }

    #[test]
    fn one_thread_is_woken_for_each_that_is_queued_and_none_twice() {
        let mut threads = asleep(2);
        assert!(!threads.wakes_one(0, false), "there is nothing");
        assert!(threads.wakes_one(1, false));
        assert!(!threads.wakes_one(1, false), "it is on its way");
        assert!(threads.wakes_one(2, false));
        assert!(!threads.wakes_one(3, false), "nobody sleeps");
        threads.get_up(false);
        assert!(!threads.wakes_one(2, false), "the other one is on its way");
        threads.lie_down(false);
        assert!(threads.wakes_one(2, false));
    }

    #[test]
    fn somebody_watches_those_that_linger() {
        let mut threads = asleep(2);
        assert!(threads.wakes_one(0, true));
        assert!(!threads.wakes_one(0, true), "it is about to watch");
        threads.get_up(false);
        threads.lie_down(true);
        assert!(!threads.wakes_one(0, true), "it watches");
        assert!(threads.wakes_one(1, true), "for what does not linger");
        // Whoever was woken, the one that watches gets up for it.
        threads.get_up(true);
        assert!(threads.wakes_one(0, true), "nobody watches any more");
    }

    #[test]
    fn a_thread_that_gets_up_by_itself_does_not_leave_the_account_wrong() {
        let mut threads = asleep(1);
        threads.lie_down(true);
        assert!(threads.wakes_one(1, true));
        threads.get_up(true);
        threads.get_up(false);
        assert!(!threads.wakes_one(1, true), "nobody sleeps");
        threads.lie_down(false);
        assert!(threads.wakes_one(1, true), "and nobody counts as woken");
    }
}
