//! The real disk: segments are mapped once and written through the map or beside it.
//!
//! What is mapped is a [`Region`]; its picture says who may touch what.

use crate::sync::atomic::{AtomicU64, Ordering};
use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, FlockOperation, fadvise, fallocate, flock, statvfs};
use rustix::io::Errno;
use rustix::mm::Advice;

use super::direct::{self, Direct};
use super::leftovers::settle_leftovers;
use super::region::Region;
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

/// Bytes that are asked of the disk at a time where history is brought in. The kernel cuts a larger call
/// down to what it reads ahead by itself (`read_ahead_kb`, 128 unless somebody has set it).
const CHUNK_BYTES: u64 = 128 << 10;
/// How many of these are under way while others sync: few enough not to keep a sync waiting.
const CHUNKS_BESIDE_SYNCS: usize = 4;
/// The same while nobody does: enough to keep any disk busy.
const CHUNKS_MAX: usize = 16;

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

/// A segment of the real disk.
#[derive(Debug)]
struct MmapSegment {
    path: String,
    file: File,
    /// Appends of at least this many bytes are written by system call, smaller ones through the map.
    call_bytes_min: usize,
    region: Region,
    turns: Arc<Turns>,
    /// Written by the writer alone; others only look at it.
    allocated: AtomicU64,
}

impl MmapSegment {
    fn new(
        path: &str,
        file: File,
        reserve_bytes: u64,
        call_bytes_min: usize,
        turns: Arc<Turns>,
    ) -> io::Result<MmapSegment> {
        let len = file.metadata()?.len();
        let region = Region::map_file(&file, to_usize(reserve_bytes.max(len))?)?;
        if reserve_bytes <= len {
            // A sealed segment. What a fault would read around itself by a guess of the kernel's is
            // either asked for by name or not wanted at all.
            region.advise(0..region.len(), Advice::Random)?;
        }
        region.publish(0, to_usize(len)?);
        let (path, allocated) = (path.to_owned(), AtomicU64::new(len));
        Ok(MmapSegment { path, file, call_bytes_min, region, turns, allocated })
    }

    /// Has the disk begin to read a chunk, without waiting for it.
    fn ask_for(&self, range: Range<u64>) {
        let len = NonZeroU64::new(range.end - range.start);
        // A hint: who waits for the bytes learns what is wrong with them.
        let _ = fadvise(&self.file, range.start, len, rustix::fs::Advice::WillNeed);
    }

    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        self.region.populate(range.start as usize..range.end as usize)
    }

    fn pwrite(&self, pos: u64, parts: &[&[u8]]) -> io::Result<()> {
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut written = match rustix::io::pwritev(&self.file, &slices, pos) {
            Ok(written) => written,
            Err(Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        // A regular file takes it all at once but for a signal or a full disk; finish by hand.
        let mut at = pos;
        for part in parts {
            let done = written.min(part.len());
            self.file.write_all_at(&part[done..], at + done as u64)?;
            written -= done;
            at += part.len() as u64;
        }
        Ok(())
    }
}

impl ReadAt for MmapSegment {
    fn read_at(&self, pos: u64, into: &mut [u8]) -> io::Result<usize> {
        read_full(&self.file, pos, into)
    }
}

impl SegmentFile for MmapSegment {
    fn path(&self) -> &str {
        &self.path
    }

    fn allocate(&self, end: u64) -> io::Result<()> {
        // Relaxed: only the writer allocates, and it sees its own store.
        let start = self.allocated.load(Ordering::Relaxed);
        if end <= start {
            return Ok(());
        }
        assert!(end <= self.region.len() as u64, "{}: blocks past the reserved range", self.path);
        let done = match fallocate(&self.file, FallocateFlags::empty(), start, end - start) {
            Err(Errno::OPNOTSUPP) => write_zeros(&self.file, start, end),
            done => done.map_err(io::Error::from),
        };
        if let Err(error) = done {
            // What a failed allocation got hold of would stay with the file (R2). Nothing past
            // `start` is published, so nobody looks there.
            let _ = self.file.set_len(start);
            return Err(error);
        }
        self.allocated.store(end, Ordering::Relaxed);
        Ok(())
    }

    fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    fn append(&self, pos: u64, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        assert!(pos + len as u64 <= self.allocated(), "{}: append past the allocated blocks", self.path);
        let pos_in_map = pos as usize;
        if len < self.call_bytes_min {
            self.region.append(pos_in_map, parts);
        } else {
            assert_eq!(pos_in_map, self.region.published(), "{}: append beside the end", self.path);
            self.pwrite(pos, parts)?;
            self.region.publish(pos_in_map, pos_in_map + len);
        }
        Ok(())
    }

    fn published(&self) -> u64 {
        self.region.published() as u64
    }

    fn slice(&self, range: Range<u64>) -> &[u8] {
        self.region.slice(range.start as usize..range.end as usize)
    }

    fn is_resident(&self, range: Range<u64>) -> bool {
        self.region.is_resident(range.start as usize..range.end as usize)
    }

    fn bring_in(&self, range: Range<u64>) -> io::Result<()> {
        let mut asked = VecDeque::with_capacity(CHUNKS_MAX);
        for at in range.clone().step_by(CHUNK_BYTES as usize) {
            let chunk = at..range.end.min(at + CHUNK_BYTES);
            if !self.is_resident(chunk.clone()) {
                let under_way_max = if self.turns.is_quiet() { CHUNKS_MAX } else { CHUNKS_BESIDE_SYNCS };
                while asked.len() >= under_way_max
                    && let Some(first) = asked.pop_front()
                {
                    self.populate(first)?;
                }
                self.turns.wait_for_syncs();
                self.ask_for(chunk.clone());
            }
            asked.push_back(chunk);
        }
        asked.into_iter().try_for_each(|chunk| self.populate(chunk))
    }

    fn map_in(&self, range: Range<u64>) {
        // Whoever reads the bytes learns what is wrong with them.
        let _ = self.populate(range);
    }

    fn sync(&self) -> io::Result<()> {
        // Writes back what was stored through the map as well, and the length with it.
        self.turns.sync(|| self.file.sync_data())
    }

    fn settle_leftovers(&self) {
        settle_leftovers(&self.file);
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        assert!(len <= self.published(), "{}: truncation cannot grow a segment", self.path);
        self.file.set_len(len)?;
        self.region.unpublish(len as usize);
        self.allocated.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn trim(&self) -> io::Result<()> {
        let published = self.published();
        if published < self.allocated() {
            // No reader is past `published`, so this cannot raise SIGBUS under one.
            self.file.set_len(published)?;
            self.allocated.store(published, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Allocates the slow way, where the file system knows no `fallocate`.
fn write_zeros(file: &File, start: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; 1 << 20];
    let mut at = start;
    while at < end {
        let step = (end - at).min(zeros.len() as u64);
        file.write_all_at(&zeros[..step as usize], at)?;
        at += step;
    }
    Ok(())
}

fn to_usize(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes)
        .map_err(|_| io::Error::new(ErrorKind::InvalidInput, "larger than the address space"))
}

#[cfg(test)]
#[path = "mmap_tests.rs"]
mod tests;
