//! The seam between the log and the disk.
//!
//! Everything that the engine asks of a disk goes through [`Storage`], [`SegmentFile`] and
//! [`RandomFile`], so that the same engine runs on [`MmapStorage`] and on the simulated disk of the
//! crash tests ([`sim`]). The promises are those of POSIX, no more:
//!
//! * Bytes are durable after `sync` of their file, and only if it answered `Ok`.
//! * A name (a file created, renamed or removed) is durable after [`Storage::sync_dir`] of the
//!   directory that holds it, whatever was synced in the file.
//! * A failed sync leaves the file in doubt for ever: a second one may answer `Ok` without having
//!   written anything (R4 of the reliability rules). Whoever sees the first failure gives up.
//!
//! Paths are relative to the root, separated by `/`, and never contain `..`.

#[allow(unsafe_code)]
mod bus_error;
mod direct;
mod kernel;
#[allow(unsafe_code)]
mod leftovers;
mod mmap;
mod mmap_segment;
#[allow(unsafe_code)]
mod region;
pub mod sim;
mod turns;
mod whole_sync;

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

pub use bus_error::name_bus_errors;
pub use mmap::{CALL_BYTES_MIN, MmapStorage, WriteMode};
pub(crate) use mmap_segment::HUGE_BYTES;
pub use region::maps;

/// The largest file that [`Storage::read`] hands out, in bytes. The largest honest one is the
/// offset index of a 2 GiB segment with an entry for every batch.
pub const READ_BYTES_MAX: u64 = 256 << 20;

/// A directory tree in which a log lives.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Creates a directory and its missing parents. The new names are durable only after
    /// [`sync_dir`](Storage::sync_dir) of each directory that got one.
    fn create_dir_all(&self, path: &str) -> io::Result<()>;
    /// The names in a directory, sorted. `NotFound` if there is none.
    fn list_dir(&self, path: &str) -> io::Result<Vec<String>>;
    /// Removes a directory with all it holds. Not durable before its parent is synced.
    fn remove_dir_all(&self, path: &str) -> io::Result<()>;
    /// Makes the names in a directory durable. The root is `""`.
    fn sync_dir(&self, path: &str) -> io::Result<()>;
    /// Renames a file or directory, replacing a file that is there. Atomic to other processes;
    /// durable only after both directories are synced.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file. Whoever has it open or mapped keeps it.
    fn remove_file(&self, path: &str) -> io::Result<()>;
    /// Whether a file or directory has this name.
    fn exists(&self, path: &str) -> io::Result<bool>;
    /// Whether [`sync_all`](Storage::sync_all) can be trusted here: not every file system passes it on to
    /// the disk, and not every kernel reports what fails in it.
    fn can_sync_all(&self) -> bool;
    /// Makes everything durable that was done before the call: the bytes and lengths of all files, and
    /// all names. One call whatever the number of files; it waits for what others have written to the
    /// same file system as well.
    ///
    /// # Errors
    /// Something of it could not be written, now or since this storage was opened, and is in doubt as
    /// after a failed sync of its file. Once it has failed it fails for good.
    fn sync_all(&self) -> io::Result<()>;
    /// Has the system write what an earlier process has left to be written, and lets go of what of that
    /// fails, which the first [`sync_all`](Storage::sync_all) would be blamed for. For a start, before it
    /// writes anything: it writes again whatever of the earlier process it counts on.
    fn settle_leftovers(&self) {}
    /// Writes bytes that a file seems to hold over themselves, so that the next sync of it is about them: for
    /// what a start finds past what is known to be durable.
    ///
    /// The page cache may hold such bytes as clean after a write that failed (R4), and to write them through the
    /// cache again is not enough. ext4 marks fresh blocks as written once their first write has succeeded. After
    /// one that failed the cache takes them for marked, a later write fills them and marks nothing, and once
    /// they are out of memory they read as zeros. So this goes past the cache, where a file system can.
    fn rewrite(&self, path: &str, pos: u64, bytes: &[u8]) -> io::Result<()>;
    /// The length of a file in bytes, with what is allocated ahead.
    fn file_len(&self, path: &str) -> io::Result<u64>;
    /// The whole of a small file; `InvalidData` above [`READ_BYTES_MAX`].
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;
    /// Creates or empties a file, writes it and syncs it. Its name is not durable yet, and a crash
    /// on the way leaves anything: [`write_atomic`](Storage::write_atomic) is made of it.
    fn write_synced(&self, path: &str, bytes: &[u8]) -> io::Result<()>;

    /// Replaces a file so that a crash leaves the old one or the new one, whole, and so that the
    /// new one is durable on return (R6): temporary file, sync, rename, sync of the directory.
    fn write_atomic(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = format!("{path}{TEMPORARY_SUFFIX}");
        self.write_synced(&temporary, bytes)?;
        self.rename(&temporary, path)?;
        self.sync_dir(parent(path))
    }

    /// Opens a segment and maps `reserve_bytes` of it, or its length if that is more.
    ///
    /// With `create` the file must not exist (`AlreadyExists`): a file that is used again could
    /// pass old bytes off as new ones (R8). Without, it must; it is then published up to its whole
    /// length, with whatever was allocated ahead, until recovery has found its true end.
    fn open_segment(&self, path: &str, reserve_bytes: u64, create: bool) -> io::Result<Arc<dyn SegmentFile>>;
    /// Opens a small file that is written in place, creating it if `create` says so.
    fn open_random(&self, path: &str, create: bool) -> io::Result<Arc<dyn RandomFile>>;
    /// Opens a file to be read as the disk holds it: for scrubbing, which would learn nothing from the
    /// page cache and is not to push out of it what others read.
    fn open_direct(&self, path: &str) -> io::Result<Box<dyn DirectFile>>;
    /// Bytes that an unprivileged process may still allocate.
    fn free_bytes(&self) -> io::Result<u64>;
    /// Takes the lock that keeps other processes out (R11), leaving `owner` in the file to name the
    /// holder to whoever comes second.
    fn lock(&self, path: &str, owner: &str) -> Result<StorageLock, LockError>;
}

/// A file that can be read by system call, so that a device's error is an `Err` and not a SIGBUS (R3).
pub trait ReadAt: Send + Sync + fmt::Debug {
    /// Fills `into` from `pos` on; stops short at the end of the file.
    fn read_at(&self, pos: u64, into: &mut [u8]) -> io::Result<usize>;
}

/// A file that is read as the disk holds it, see [`Storage::open_direct`].
#[expect(clippy::len_without_is_empty, reason = "the length of a file, which bounds reads of it")]
pub trait DirectFile: ReadAt {
    /// Bytes of the file when it was opened, with what was allocated ahead.
    fn len(&self) -> u64;
}

/// One append-only file, written by one writer and read by many.
///
/// Bytes below [`published`](SegmentFile::published) never change again while anybody can read
/// them, which is what makes it sound to hand out plain slices of the map.
pub trait SegmentFile: ReadAt {
    /// The path it was opened by, for messages.
    fn path(&self) -> &str;
    /// Puts real blocks behind the file up to `end` (R1). On failure, most often a full disk, the
    /// file is as it was (R2). Does nothing if they are there already.
    fn allocate(&self, end: u64) -> io::Result<()>;
    /// Bytes that have blocks behind them.
    fn allocated(&self) -> u64;
    /// Stores `parts` one after another at `pos` and publishes them.
    ///
    /// # Panics
    /// If `pos` is not the published length, if blocks are missing, or if two threads append at
    /// once: bugs of the caller's.
    fn append(&self, pos: u64, parts: &[&[u8]]) -> io::Result<()>;
    /// The length up to which bytes may be read.
    fn published(&self) -> u64;
    /// Bytes of the map.
    ///
    /// # Panics
    /// If the range does not lie below the published length.
    fn slice(&self, range: Range<u64>) -> &[u8];
    /// Whether a range of published bytes is in memory, so that touching it does not wait for the disk.
    /// True of this moment only: what is clean may be dropped at any time.
    ///
    /// # Panics
    /// If the range does not lie below the published length, here and in the next two.
    fn is_resident(&self, range: Range<u64>) -> bool;
    /// Brings a range of published bytes into memory, waiting for the disk. What a device cannot
    /// bring, or a file that has become too short does not have, is an `Err` here, and would be a
    /// SIGBUS to whoever touched it (R3). Syncs of the same disk go first.
    fn bring_in(&self, range: Range<u64>) -> io::Result<()>;
    /// The same for a reader that goes on from front to back: what lies around the range may come with it.
    fn read_ahead(&self, range: Range<u64>) -> io::Result<()> {
        self.bring_in(range)
    }
    /// Puts a range of published bytes that is in memory into the page table, so that touching it takes no fault. A
    /// hint.
    fn map_in(&self, _range: Range<u64>) {}
    /// Makes every published byte durable. Any number of threads may call it beside the writer.
    fn sync(&self) -> io::Result<()>;
    /// Lets go of what writes of an earlier process to this file have failed of, which the first
    /// [`sync`](SegmentFile::sync) would be blamed for. See [`Storage::settle_leftovers`].
    fn settle_leftovers(&self) {}
    /// Cuts the file to `len` and publishes that. Only for recovery, hence `&mut`: nobody can hold
    /// a slice of what is cut. See [`truncate_segment`].
    fn truncate(&mut self, len: u64) -> io::Result<()>;
    /// Gives back the blocks past the published length, once the segment is sealed.
    fn trim(&self) -> io::Result<()>;
}

/// A small file that is written in place: the checkpoint's slots.
pub trait RandomFile: ReadAt {
    /// Writes at `pos`, growing the file if need be. Not durable, and not atomic.
    fn write_at(&self, pos: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content durable; the name is the directory's affair.
    fn sync(&self) -> io::Result<()>;
    /// As [`SegmentFile::settle_leftovers`].
    fn settle_leftovers(&self) {}
}

/// The ending of a file that [`Storage::write_atomic`] has not renamed yet. One that is found at
/// start was left by a crash and can go.
pub const TEMPORARY_SUFFIX: &str = ".tmp";

/// Cuts a segment that nobody else holds.
///
/// # Errors
/// `ResourceBusy` if somebody does: the engine opened readers before recovery was through.
pub fn truncate_segment(file: &mut Arc<dyn SegmentFile>, len: u64) -> io::Result<()> {
    match Arc::get_mut(file) {
        Some(file) => file.truncate(len),
        None => {
            Err(io::Error::new(io::ErrorKind::ResourceBusy, "a segment that is being read was to be cut"))
        }
    }
}

/// Creates a segment with blocks for `allocate_bytes`. Its name is not durable yet: its directory is synced before
/// anything in the segment counts (R6).
///
/// The file itself is synced with its first data: that sync makes length and blocks durable too, and
/// until then a name over an empty file says all there is to say.
///
/// # Errors
/// Of the disk; the file is removed again.
pub fn create_segment(
    storage: &dyn Storage,
    path: &str,
    reserve_bytes: u64,
    allocate_bytes: u64,
) -> io::Result<Arc<dyn SegmentFile>> {
    let file = storage.open_segment(path, reserve_bytes, true)?;
    file.allocate(allocate_bytes.min(reserve_bytes)).inspect_err(|_| remove_quietly(storage, path))?;
    Ok(file)
}

/// Best effort: the error that matters is the one that led here.
fn remove_quietly(storage: &dyn Storage, path: &str) {
    let _ = storage.remove_file(path);
}

/// The directory of a path; `""` for a name in the root.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// A range of published bytes that keeps its segment's map alive.
#[derive(Clone, Debug)]
pub struct SegmentSlice {
    file: Arc<dyn SegmentFile>,
    range: Range<u64>,
}

impl SegmentSlice {
    /// # Panics
    /// If the range does not lie below the published length.
    pub fn new(file: Arc<dyn SegmentFile>, range: Range<u64>) -> Self {
        assert!(range.start <= range.end && range.end <= file.published(), "slice past what is published");
        SegmentSlice { file, range }
    }

    /// Bytes in the slice.
    pub fn len(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The file that the bytes are of.
    pub fn file(&self) -> &Arc<dyn SegmentFile> {
        &self.file
    }

    /// Where in the file they lie.
    pub fn range(&self) -> Range<u64> {
        self.range.clone()
    }
}

impl AsRef<[u8]> for SegmentSlice {
    fn as_ref(&self) -> &[u8] {
        self.file.slice(self.range.clone())
    }
}

impl From<SegmentSlice> for Bytes {
    /// Copies nothing: the bytes stay in the map, which lives as long as they do.
    fn from(slice: SegmentSlice) -> Bytes {
        Bytes::from_owner(slice)
    }
}

/// Holds the lock of a directory tree until it is dropped.
pub struct StorageLock {
    _guard: Box<dyn Send + Sync>,
}

impl StorageLock {
    /// Wraps whatever releases the lock when it is dropped.
    pub fn new(guard: impl Send + Sync + 'static) -> Self {
        StorageLock { _guard: Box::new(guard) }
    }
}

impl fmt::Debug for StorageLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StorageLock")
    }
}

/// Why [`Storage::lock`] did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("held by {owner}")]
    Held {
        /// What the holder wrote into the lock file.
        owner: String,
    },
    /// The lock file cannot be created or locked.
    #[error(transparent)]
    Io(#[from] io::Error),
}
