//! The real disk: a directory of its file system, with the files in it. Those that are mapped are
//! [segments](super::mmap_segment).

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::io::Errno;

use super::direct::{self, Direct};
use super::leftovers::settle_leftovers;
use super::mmap_segment::MmapSegment;
use super::turns::Turns;
use super::whole_sync::WholeSync;
use super::{DirectFile, LockError, READ_BYTES_MAX, RandomFile, ReadAt, SegmentFile, Storage, StorageLock};

/// How appended bytes get into a segment. Reads go through the map in both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Small appends are stored through the map, without a system call. One of [`CALL_BYTES_MIN`] or
    /// more takes the call after all: it gets its pages at once, where stores take a fault for every
    /// few of them and find them write-protected again after every sync.
    Mapped,
    /// `pwritev` to the file: one system call an append; a failing device is an error, not a signal.
    Pwrite,
}

/// Bytes from which on an append by system call is cheaper than one through the map. On fresh files
/// they are about even here; at 16 KiB the call takes nine tenths of the time, at 64 KiB half, at
/// 1 MiB a third (`cargo bench -p benches --bench append`).
pub const CALL_BYTES_MIN: usize = 8 << 10;

/// A directory of the real file system.
#[derive(Debug)]
pub struct MmapStorage {
    root: PathBuf,
    mode: WriteMode,
    call_bytes_min: usize,
    turns: Arc<Turns>,
    whole: WholeSync,
}

impl MmapStorage {
    /// Opens a directory, creating it if it is missing. Its name is durable then, whoever has made it.
    pub fn open(root: impl Into<PathBuf>, mode: WriteMode) -> io::Result<MmapStorage> {
        MmapStorage::opened(root.into(), mode, Turns::default())
    }

    /// As [`open`](MmapStorage::open), and leaves out every sync: they answer `Ok` at once and promise nothing. What is
    /// acknowledged is kept until the machine stops and no longer, which is all that a directory needs that goes with its
    /// process. On a disk that is busy with something else the syncs would be most of its time.
    pub fn open_without_syncs(root: impl Into<PathBuf>, mode: WriteMode) -> io::Result<MmapStorage> {
        MmapStorage::opened(root.into(), mode, Turns::without_syncs())
    }

    fn opened(root: PathBuf, mode: WriteMode, turns: Turns) -> io::Result<MmapStorage> {
        let root = std::path::absolute(root)?;
        let missing = root.ancestors().take_while(|path| !path.exists()).count();
        fs::create_dir_all(&root)?;
        // Each directory that was made is a name in the one above it. So is one that a process has made which was
        // killed before it came to this; where that cannot be looked into, somebody else has made it.
        for (made_in, above) in root.ancestors().skip(1).take(missing.max(1)).enumerate() {
            match File::open(above) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied && made_in >= missing => {}
                opened => turns.sync(|| opened?.sync_all())?,
            }
        }
        let whole = WholeSync::of(&root)?;
        Ok(MmapStorage { root, mode, call_bytes_min: CALL_BYTES_MIN, turns: Arc::new(turns), whole })
    }

    /// With [`WriteMode::Mapped`], has appends of this many bytes or more written by system call instead of
    /// [`CALL_BYTES_MIN`]: `usize::MAX` stores everything through the map. For measuring where the two break even.
    pub fn with_calls_from(mut self, bytes: usize) -> MmapStorage {
        self.call_bytes_min = bytes;
        self
    }

    /// The directory that paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Rejects what could lead out of the root, whoever let such a name get here.
    fn resolve(&self, path: &str) -> io::Result<PathBuf> {
        let path = Path::new(path);
        if path.components().all(|component| matches!(component, Component::Normal(_))) {
            Ok(self.root.join(path))
        } else {
            Err(io::Error::new(
                ErrorKind::InvalidInput,
                format!("{} leads out of the data directory", path.display()),
            ))
        }
    }
}

impl Storage for MmapStorage {
    fn create_dir_all(&self, path: &str) -> io::Result<()> {
        fs::create_dir_all(self.resolve(path)?)
    }

    fn list_dir(&self, path: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.resolve(path)?)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        names.sort_unstable();
        Ok(names)
    }

    fn remove_dir_all(&self, path: &str) -> io::Result<()> {
        fs::remove_dir_all(self.resolve(path)?)
    }

    fn sync_dir(&self, path: &str) -> io::Result<()> {
        let directory = File::open(self.resolve(path)?)?;
        self.turns.sync(|| directory.sync_all())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.resolve(from)?, self.resolve(to)?)
    }

    fn remove_file(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.resolve(path)?)
    }

    fn exists(&self, path: &str) -> io::Result<bool> {
        self.resolve(path)?.try_exists()
    }

    fn can_sync_all(&self) -> bool {
        self.whole.is_trusted()
    }

    fn settle_leftovers(&self) {
        self.whole.settle_leftovers();
    }

    fn sync_all(&self) -> io::Result<()> {
        self.turns.sync(|| self.whole.sync())
    }

    fn rewrite(&self, path: &str, pos: u64, bytes: &[u8]) -> io::Result<()> {
        direct::rewrite(&self.resolve(path)?, pos, bytes)
    }

    fn file_len(&self, path: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.resolve(path)?)?.len())
    }

    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let file = File::open(self.resolve(path)?)?;
        let len = file.metadata()?.len();
        if len > READ_BYTES_MAX {
            return Err(io::Error::new(
                ErrorKind::InvalidData,
                format!("{path}: {len} bytes is no size for this file"),
            ));
        }
        let mut bytes = Vec::with_capacity(len as usize);
        file.take(READ_BYTES_MAX).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn write_synced(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = File::create(self.resolve(path)?)?;
        file.write_all(bytes)?;
        self.turns.sync(|| file.sync_all())
    }

    fn open_segment(&self, path: &str, reserve_bytes: u64, create: bool) -> io::Result<Arc<dyn SegmentFile>> {
        let file = OpenOptions::new().read(true).write(true).create_new(create).open(self.resolve(path)?)?;
        let call_bytes_min = match self.mode {
            WriteMode::Mapped => self.call_bytes_min,
            WriteMode::Pwrite => 0,
        };
        let turns = Arc::clone(&self.turns);
        Ok(Arc::new(MmapSegment::new(path, file, reserve_bytes, call_bytes_min, turns)?))
    }

    fn open_random(&self, path: &str, create: bool) -> io::Result<Arc<dyn RandomFile>> {
        let path = self.resolve(path)?;
        let file = OpenOptions::new().read(true).write(true).create(create).truncate(false).open(path)?;
        Ok(Arc::new(MmapRandom { file, turns: Arc::clone(&self.turns) }))
    }

    fn open_direct(&self, path: &str) -> io::Result<Box<dyn DirectFile>> {
        Ok(Box::new(Direct::open(&self.resolve(path)?)?))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let stat = statvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &str, owner: &str) -> Result<StorageLock, LockError> {
        let path = self.resolve(path)?;
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o644).open(&path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Only a hint: the holder may be about to write it.
                let _ = file.take(256).read_to_string(&mut text);
                let owner =
                    if text.trim().is_empty() { "another process".into() } else { text.trim().into() };
                return Err(LockError::Held { owner });
            }
            Err(errno) => return Err(LockError::Io(errno.into())),
        }
        file.set_len(0)?;
        file.write_all(owner.as_bytes())?;
        // Opened anew: a copy of this descriptor would keep the lock.
        self.turns.set_witness(OpenOptions::new().write(true).open(&path)?);
        // The kernel releases the lock when the descriptor is closed, by kill -9 too.
        Ok(StorageLock::new(file))
    }
}

/// A file of checkpoint slots.
#[derive(Debug)]
struct MmapRandom {
    file: File,
    turns: Arc<Turns>,
}

impl ReadAt for MmapRandom {
    fn read_at(&self, pos: u64, into: &mut [u8]) -> io::Result<usize> {
        read_full(&self.file, pos, into)
    }
}

impl RandomFile for MmapRandom {
    fn write_at(&self, pos: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, pos)
    }

    fn sync(&self) -> io::Result<()> {
        self.turns.sync(|| self.file.sync_data())
    }

    fn settle_leftovers(&self) {
        settle_leftovers(&self.file);
    }
}

/// Fills as much of `into` as the file has.
pub(super) fn read_full(file: &File, pos: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < into.len() {
        match file.read_at(&mut into[read..], pos + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

#[cfg(test)]
#[path = "mmap_tests.rs"]
mod tests;
