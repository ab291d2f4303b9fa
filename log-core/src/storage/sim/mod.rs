//! A disk that is allowed to do everything a real one may do, for tests.
//!
//! It holds what a process sees (the page cache) beside what is on the platter, and the changes that
//! lie between the two. A sync moves changes over; [`SimStorage::crash`] cuts the power and answers
//! with a disk on which any part of the rest has arrived: dropped, torn at sectors, out of order.
//! What is promised is only what [the seam](super) promises.
//!
//! * Every change and every sync is one numbered operation. [`SimStorage::cut_at`] cuts the power in
//!   the middle of one; it and everything after it fails with an error that [`is_power_cut`] knows.
//! * [`SimStorage::fail_sync`] makes a sync fail. What was to be synced is lost from then on although
//!   it can still be read, and the next sync answers `Ok`: as Linux does it (R4). Of the pages that were
//!   written for the first time some stay lost whatever is written to them through the cache, as on ext4.
//! * [`SimStorage::set_capacity`] makes it run full.
//! * [`SimStorage::flip_bit`] damages what is at rest.
//! * [`SimStorage::evict`] drops a file from memory, and [`SimStorage::fail_reads`] makes a part of it
//!   unreadable. After a crash nothing is in memory.
//! * [`SimStorage::ignore_syncs`] makes chosen syncs do nothing and answer `Ok`: an engine on such a
//!   disk behaves as if the call were missing from it, which is how a crash test shows that it would
//!   notice.
//!
//! The same seed and the same calls give the same disk.

mod disk;
mod files;
mod node;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::sync::Mutex;

use disk::Disk;
use files::{SimDirect, SimRandom, SimSegment};

use super::{DirectFile, LockError, READ_BYTES_MAX, RandomFile, SegmentFile, Storage, StorageLock};

pub use disk::{SyncPoint, is_power_cut};

/// A simulated disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimStorage {
    /// Guards all of it: a simulation has no use for parallel disks.
    disk: Arc<Mutex<Disk>>,
}

impl SimStorage {
    /// An empty disk without a limit.
    pub fn new(seed: u64) -> SimStorage {
        SimStorage { disk: Arc::new(Mutex::new(Disk::new(seed))) }
    }

    /// How many operations there have been: the next one has this number.
    pub fn operations(&self) -> u64 {
        self.disk.lock().operations
    }

    /// How many syncs there have been, of files and of directories: the next one has this number.
    pub fn syncs(&self) -> u64 {
        self.disk.lock().syncs
    }

    /// Cuts the power in operation number `operation`, which may or may not leave its mark.
    pub fn cut_at(&self, operation: u64) {
        self.disk.lock().cut_at = Some(operation);
    }

    /// Whether the power has been cut.
    pub fn is_cut(&self) -> bool {
        self.disk.lock().cut
    }

    /// Makes sync number `sync` fail with EIO.
    pub fn fail_sync(&self, sync: u64) {
        self.disk.lock().fail_sync = Some(sync);
    }

    /// Whether the sync that was to fail has done so.
    pub fn has_failed_sync(&self) -> bool {
        let disk = self.disk.lock();
        disk.fail_sync.is_some_and(|sync| sync < disk.syncs)
    }

    /// Limits the disk to so many bytes of 4 KiB blocks; ENOSPC past that.
    pub fn set_capacity(&self, bytes: u64) {
        self.disk.lock().capacity = bytes;
    }

    /// Makes the syncs that `which` picks do nothing and answer `Ok`, on this disk and on every one
    /// that comes of it.
    pub fn ignore_syncs(&self, which: impl Fn(&SyncPoint<'_>) -> bool + Send + Sync + 'static) {
        self.disk.lock().ignored = Some(Arc::new(which));
    }

    /// Keeps a line for every operation from now on, see [`trace`](SimStorage::trace).
    pub fn record_trace(&self) {
        self.disk.lock().trace = Some(Vec::new());
    }

    /// Adds a line of the test's own to the trace, if one is kept.
    pub fn note(&self, line: fmt::Arguments<'_>) {
        self.disk.lock().note(line);
    }

    /// The operations since [`record_trace`](SimStorage::record_trace), with their numbers, those
    /// before crashes included.
    pub fn trace(&self) -> Vec<String> {
        self.disk.lock().trace.clone().unwrap_or_default()
    }

    /// Flips one bit of a file at rest. Segments that are open do not notice before they are opened
    /// again.
    pub fn flip_bit(&self, path: &str, bit: u64) -> io::Result<()> {
        self.disk.lock().flip_bit(path, bit)
    }

    /// Flips one bit on the disk alone, while the page cache still holds what it was: only what reads
    /// past the cache can notice.
    pub fn rot_bit(&self, path: &str, bit: u64) -> io::Result<()> {
        self.disk.lock().rot_bit(path, bit)
    }

    /// Drops a file that is durable from memory: what is read of it next has to come from the disk.
    pub fn evict(&self, path: &str) -> io::Result<()> {
        self.disk.lock().evict(path)
    }

    /// Makes the device answer EIO to reads of these bytes from now on, as soon as they are not in
    /// memory.
    pub fn fail_reads(&self, path: &str, range: Range<u64>) -> io::Result<()> {
        self.disk.lock().fail_reads(path, range)
    }

    /// The disk after the power has gone and come back: everything that was synced, and of the rest
    /// what `seed` chooses. This disk stays as it is, so that any number of outcomes can be looked at.
    pub fn crash(&self, seed: u64) -> SimStorage {
        SimStorage { disk: Arc::new(Mutex::new(self.disk.lock().crashed(seed))) }
    }

    /// The disk as the next process finds it after this one was killed: the page cache lives on, with
    /// all that is not durable yet.
    pub fn restart(&self) -> SimStorage {
        SimStorage { disk: Arc::new(Mutex::new(self.disk.lock().restarted())) }
    }
}

impl fmt::Debug for SimStorage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = self.disk.lock();
        write!(f, "SimStorage(after {} operations, {} syncs)", disk.operations, disk.syncs)
    }
}

impl Storage for SimStorage {
    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        self.disk.lock().create_dir_all(path)
    }

    fn list_dir(&self, path: &str) -> io::Result<Vec<String>> {
        self.disk.lock().list_dir(path)
    }

    fn remove_dir_all(&self, path: &str) -> io::Result<()> {
        self.disk.lock().remove_dir_all(path)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        self.disk.lock().sync_dir(path)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.lock().rename(from, to)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        self.disk.lock().remove_file(path)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.disk.lock().exists(path)
    }

    fn can_sync_all(&self) -> bool {
        true
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk.lock().sync_all()
    }

    fn rewrite(&self, path: &str, pos: u64, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let id = disk.find_file(path)?;
        disk.rewrite(id, path, pos, bytes)
    }

    fn file_len(&self, path: &str) -> io::Result<u64> {
        let disk = self.disk.lock();
        Ok(disk.file(disk.find_file(path)?).live.len())
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut disk = self.disk.lock();
        let id = disk.find_file(path)?;
        let len = disk.file(id).live.len();
        if len > READ_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        disk.bring_in(id, 0..len)?;
        let content = &disk.file(id).live;
        let mut bytes = vec![0; content.len() as usize];
        content.read_at(0, &mut bytes);
        Ok(bytes)
    }

    fn write_synced(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock();
        let id = match disk.find_file(path) {
            Ok(id) => {
                disk.set_len(id, path, 0)?;
                id
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create_file(path)?,
            Err(error) => return Err(error),
        };
        disk.store(id, path, 0, &[bytes])?;
        disk.sync_file(id, path)
    }

    fn open_segment(&self, path: &str, reserve_bytes: u64, create: bool) -> io::Result<Arc<dyn SegmentFile>> {
        let id = {
            let mut disk = self.disk.lock();
            match (create, disk.find_file(path)) {
                (true, Ok(_)) => return Err(io::ErrorKind::AlreadyExists.into()),
                (true, Err(error)) if error.kind() == io::ErrorKind::NotFound => disk.create_file(path)?,
                (_, found) => found?,
            }
        };
        Ok(Arc::new(SimSegment::open(Arc::clone(&self.disk), id, path, reserve_bytes)?))
    }

    fn open_random(&self, path: &str, create: bool) -> io::Result<Arc<dyn RandomFile>> {
        let mut disk = self.disk.lock();
        let id = match disk.find_file(path) {
            Err(error) if create && error.kind() == io::ErrorKind::NotFound => disk.create_file(path)?,
            found => found?,
        };
        Ok(Arc::new(SimRandom::new(Arc::clone(&self.disk), id, path)))
    }

    fn open_direct(&self, path: &str) -> io::Result<Box<dyn DirectFile>> {
        let id = self.disk.lock().find_file(path)?;
        Ok(Box::new(SimDirect::new(Arc::clone(&self.disk), id, path)))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = self.disk.lock();
        disk.powered()?;
        Ok(disk.capacity.saturating_sub(disk.used_bytes()))
    }

    fn lock(&self, path: &str, owner: &str) -> Result<StorageLock, LockError> {
        let mut disk = self.disk.lock();
        if let Some(owner) = &disk.lock_owner {
            return Err(LockError::Held { owner: owner.clone() });
        }
        if !disk.exists(path)? {
            disk.create_file(path)?;
        }
        disk.lock_owner = Some(owner.to_owned());
        drop(disk);
        Ok(StorageLock::new(Unlock(Arc::clone(&self.disk))))
    }
}

/// Releases the lock of a disk.
struct Unlock(Arc<Mutex<Disk>>);

impl Drop for Unlock {
    fn drop(&mut self) {
        self.0.lock().lock_owner = None;
    }
}

#[cfg(test)]
mod tests;
