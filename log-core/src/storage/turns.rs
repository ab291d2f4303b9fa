//! Whose turn it is at the disk, and what the syncs that run at once mean for each other.
//!
//! Syncs, which producers wait for, go before reads of history. A disk serves what has been asked of it
//! more or less in order, and a sync is several requests one after another. If a reader keeps megabytes
//! queued, each of them waits behind those. So reads ask for a little at a time, and for nothing while a
//! sync is running.
//!
//! A disk has one cache, and a flush of it that fails may lose what any file has in it. The system tells
//! only the sync that had asked for it. Another one, whose bytes were in the cache as well, asks for a
//! flush of its own, and that succeeds because nothing is left to be flushed. So a sync that has succeeded
//! waits for those that are running beside it, and if one of them fails it has failed too.
//!
//! ```text
//! sync of a   ├──writes──┤├──────flush: EIO──────┤ failed
//! sync of b       ├──writes──┤├──flush: ok──┤.....┤ failed: b's bytes were in what a's flush lost
//! sync of c                      begins after b's flush, and b does not wait for it
//! ```
//!
//! Nor does a sync count on a file system that has turned read-only. ext4 does so when it cannot write its
//! journal. A file's data may have been written then, and that its blocks have been can no longer be noted,
//! and yet the sync answers `Ok`: it asks for the state of the journal before it waits, and not after.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{StatVfsMountFlags, fstatvfs};
use rustix::io::Errno;

/// How long a read waits for syncs at most, so that a disk that never stops syncing is read all the
/// same: an eighth of a MiB each time, a hundred MiB a second.
pub(super) const PATIENCE: Duration = Duration::from_micros(1250);

/// How long no sync may have run for the disk to count as one that nobody syncs.
const QUIET_AFTER: Duration = Duration::from_secs(1);

/// The syncs that are running on one disk.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Guards the account of syncs; held for as long as it takes to change it. The standard library's: parking_lot's
    /// would be handed to readers that are woken and still wait for a processor, and the next sync would wait for them.
    syncs: Mutex<Syncs>,
    /// Some sync has ended.
    ended: Condvar,
    /// A file that is open for writing, to ask the file system by whether it takes writes.
    witness: OnceLock<File>,
    /// Whether syncs are left out.
    skips: bool,
}

#[derive(Debug, Default)]
struct Syncs {
    /// How many have begun: each has the number of those before it.
    begun: u64,
    /// Whether each of those from the oldest that runs on is running still.
    running: VecDeque<bool>,
    /// When the last one has ended.
    last: Option<Instant>,
    /// Whether one has failed.
    failed: bool,
}

impl Syncs {
    fn begin(&mut self) -> u64 {
        self.running.push_back(true);
        self.begun += 1;
        self.begun - 1
    }

    /// The number of the oldest that is running, or else of the next one.
    fn oldest(&self) -> u64 {
        self.begun - self.running.len() as u64
    }

    fn end(&mut self, number: u64) {
        let place = (number - self.oldest()) as usize;
        self.running[place] = false;
        while self.running.front() == Some(&false) {
            self.running.pop_front();
        }
    }
}

impl Turns {
    /// Turns at a disk that is not synced at all.
    pub(super) fn without_syncs() -> Turns {
        Turns { skips: true, ..Turns::default() }
    }

    /// Runs a sync, ahead of reads.
    ///
    /// # Errors
    /// Its own, and `Other` if one that ran beside it has failed, or any before it, of more than room: what it
    /// should have made durable may be lost.
    pub(super) fn sync(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.skips {
            return Ok(());
        }
        let number = self.account().begin();
        let done = sync().and_then(|()| self.takes_writes());
        let mut syncs = self.account();
        syncs.failed |= done.as_ref().is_err_and(is_of_the_device);
        syncs.end(number);
        syncs.last = Some(Instant::now());
        self.ended.notify_all();
        done?;
        let beside = syncs.begun;
        let runs_beside = |syncs: &mut Syncs| !syncs.failed && syncs.oldest() < beside;
        let syncs = self.ended.wait_while(syncs, runs_beside).unwrap_or_else(PoisonError::into_inner);
        if syncs.failed { Err(io::Error::other("another sync of the same disk has failed")) } else { Ok(()) }
    }

    /// Takes a file that is open for writing, by which a file system that turns read-only is noticed.
    pub(super) fn set_witness(&self, file: File) {
        // A second one would say the same.
        let _ = self.witness.set(file);
    }

    /// Asks in two ways, because kernels differ in how they turn ext4 read-only: up to 6.14 as a mount can be as well,
    /// and since then by a mark of its own, which a write meets before it looks at how many bytes there are.
    fn takes_writes(&self) -> io::Result<()> {
        let Some(witness) = self.witness.get() else { return Ok(()) };
        // What else either may say tells nothing about the sync.
        if let Err(errno @ (Errno::ROFS | Errno::IO)) = rustix::io::pwrite(witness, &[], 0) {
            return Err(errno.into());
        }
        match fstatvfs(witness) {
            Ok(stat) if stat.f_flag.contains(StatVfsMountFlags::RDONLY) => Err(Errno::ROFS.into()),
            _ => Ok(()),
        }
    }

    /// Waits until no sync is running, or for as long as a read has patience.
    pub(super) fn wait_for_syncs(&self) {
        let running = |syncs: &mut Syncs| !syncs.running.is_empty();
        drop(self.ended.wait_timeout_while(self.account(), PATIENCE, running));
    }

    /// Whether no sync has run for a while, so that it is likely that nobody is kept waiting by what is asked of the disk.
    pub(super) fn is_quiet(&self) -> bool {
        let syncs = self.account();
        syncs.running.is_empty() && syncs.last.is_none_or(|last| last.elapsed() >= QUIET_AFTER)
    }

    fn account(&self) -> MutexGuard<'_, Syncs> {
        self.syncs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error may have cost what is in the disk's cache. For lack of room a file is not written, and no more.
fn is_of_the_device(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::thread;

    #[test]
    fn a_read_waits_for_a_sync_and_not_for_ever() {
        let turns = Turns::default();
        turns.wait_for_syncs();
        assert!(turns.is_quiet(), "there has been none");
        let synced = AtomicBool::new(false);
        let done = turns.sync(|| {
            let started = Instant::now();
            turns.wait_for_syncs();
            assert!(started.elapsed() >= PATIENCE, "a sync is running");
            assert!(!turns.is_quiet());
            synced.store(true, Ordering::Relaxed);
            Ok(())
        });
        done.expect("it does nothing");
        assert!(synced.load(Ordering::Relaxed));
        assert!(turns.account().running.is_empty(), "and has ended");
        assert!(!turns.is_quiet(), "just now");
        turns.account().last = Instant::now().checked_sub(QUIET_AFTER);
        assert!(turns.is_quiet());
    }

    /// What a sync answers that succeeds while another runs, which ends with `other`. A third begins afterwards
    /// and ends after both.
    fn beside(other: io::Result<()>) -> io::Result<()> {
        let turns = &Turns::default();
        let (first_ends, first) = channel::<io::Result<()>>();
        let (third_ends, third) = channel::<io::Result<()>>();
        let ended = |number: usize| turns.account().running.get(number) == Some(&false);
        let running = |count: usize| turns.account().running.len() == count;
        let until = |condition: &dyn Fn() -> bool| {
            while !condition() {
                thread::yield_now();
            }
        };
        thread::scope(|scope| {
            scope.spawn(move || turns.sync(|| first.recv().expect("sent")));
            until(&|| running(1));
            let second = scope.spawn(|| turns.sync(|| Ok(())));
            until(&|| ended(1));
            assert!(!second.is_finished(), "it does not know yet what the first one has lost");
            scope.spawn(move || turns.sync(|| third.recv().expect("sent")));
            until(&|| running(3));
            first_ends.send(other).expect("received");
            let answer = second.join().expect("no panic");
            third_ends.send(Ok(())).expect("received");
            answer
        })
    }

    #[test]
    fn a_sync_waits_for_those_that_run_beside_it_and_fails_with_them() {
        beside(Ok(())).expect("both have succeeded");
        beside(Err(io::ErrorKind::StorageFull.into())).expect("what lacked room is another file's");
        let error = beside(Err(io::Error::from_raw_os_error(5))).unwrap_err();
        assert_eq!(error.to_string(), "another sync of the same disk has failed");
    }

    #[test]
    fn no_sync_succeeds_after_one_has_failed() {
        let turns = Turns::default();
        turns.sync(|| Err(io::Error::from_raw_os_error(5))).unwrap_err();
        turns.sync(|| Ok(())).unwrap_err();
    }

    #[test]
    fn without_syncs_none_is_run() {
        Turns::without_syncs().sync(|| panic!("a sync has run")).unwrap();
    }
}
