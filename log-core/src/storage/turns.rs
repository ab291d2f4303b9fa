//! Whose turn it is at the disk: syncs, which producers wait for, go before reads of history.
//!
//! A disk serves what has been asked of it more or less in order, and a sync is several requests one
//! after another. If a reader keeps megabytes queued, each of them waits behind those. So reads ask for
//! a little at a time, and for nothing while a sync is running.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// How long a read waits for syncs at most, so that a disk that never stops syncing is read all the
/// same: half a MiB each time, a hundred MiB a second.
const PATIENCE: Duration = Duration::from_millis(5);

/// The syncs that are running on one disk.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Guards the count of syncs; held for as long as it takes to change it.
    syncing: Mutex<usize>,
    idle: Condvar,
}

impl Turns {
    /// Runs a sync, ahead of reads.
    pub(super) fn sync<T>(&self, sync: impl FnOnce() -> T) -> T {
        struct Running<'a>(&'a Turns);
        impl Drop for Running<'_> {
            fn drop(&mut self) {
                let mut syncing = self.0.syncing.lock();
                *syncing -= 1;
                if *syncing == 0 {
                    self.0.idle.notify_all();
                }
            }
        }
        *self.syncing.lock() += 1;
        let _running = Running(self);
        sync()
    }

    /// Waits until no sync is running, or for as long as a read has patience.
    pub(super) fn wait_for_syncs(&self) {
        let mut syncing = self.syncing.lock();
        self.idle.wait_while_for(&mut syncing, |syncing| *syncing > 0, PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    #[test]
    fn a_read_waits_for_a_sync_and_not_for_ever() {
        let turns = Turns::default();
        turns.wait_for_syncs();
        let synced = AtomicBool::new(false);
        turns.sync(|| {
            let started = Instant::now();
            turns.wait_for_syncs();
            assert!(started.elapsed() >= PATIENCE, "a sync is running");
            synced.store(true, Ordering::Relaxed);
        });
        assert!(synced.load(Ordering::Relaxed));
        assert_eq!(*turns.syncing.lock(), 0, "and has ended");
    }
}
