//! A segment: one file of batches, the two indexes of it, and where they lie on disk.
//!
//! ```text
//! <base offset, 20 digits>.log        batches one after another; what is allocated ahead is zeros
//! <base offset, 20 digits>.index      offset index, see `offset_index`
//! <base offset, 20 digits>.timeindex  time index, see `time_index`
//! <base offset, 20 digits>.aborted    aborted transactions, see `aborted_index`
//! ```
//!
//! The active segment is loaded from its creation on. A sealed one that was found at start is opened
//! when somebody first reads it, so that a start costs nothing a sealed segment.

use crate::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::io;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::sync::Mutex;

use crate::storage::{DirectFile, SegmentFile, Storage, create_segment, truncate_segment};

use super::aborted_index::{ABORTED_SUFFIX, AbortedIndex, AbortedTransaction};
use super::error::{Corruption, ReadError};
use super::index_tail::{IndexTail, Stop};
use super::offset_index::OffsetIndex;
use super::open_segments::read_clock;
use super::read_ahead::Readers;
use super::scan::{BatchScanner, Depth, Step};
use super::tally::Tallies;
use super::time_index::TimeIndex;
use super::view::Cold;
use super::watermarks::LogPosition;

/// The timestamp of a segment without records: below every real one, -1 ("none") included.
pub(crate) const NO_TIMESTAMP: i64 = i64::MIN;

/// The directory of one partition.
#[derive(Clone, Debug)]
pub(crate) struct PartitionDir {
    pub(crate) storage: Arc<dyn Storage>,
    /// Relative to the data directory.
    pub(crate) path: Arc<str>,
}

impl PartitionDir {
    pub(crate) fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    pub(crate) fn segment_file(&self, base_offset: i64, suffix: &str) -> String {
        format!("{}/{base_offset:020}{suffix}", self.path)
    }
}

/// The file of the leader epochs.
pub(crate) const LEADER_EPOCHS_FILE: &str = "leader-epochs";
/// The file of the checkpoint.
pub(crate) const CHECKPOINT_FILE: &str = "checkpoint";
/// The endings of a segment's files.
pub(crate) const LOG_SUFFIX: &str = ".log";
pub(crate) const OFFSET_INDEX_SUFFIX: &str = ".index";
pub(crate) const TIME_INDEX_SUFFIX: &str = ".timeindex";
/// All of them.
const SUFFIXES: [&str; 4] = [LOG_SUFFIX, OFFSET_INDEX_SUFFIX, TIME_INDEX_SUFFIX, ABORTED_SUFFIX];
/// What is appended to the name of a file that is out of the log and waits for its last reader.
pub(crate) const DELETED_SUFFIX: &str = ".deleted";

/// One segment of a partition's log.
#[derive(Debug)]
pub(crate) struct Segment {
    dir: PartitionDir,
    base_offset: i64,
    /// Log bytes between two entries of the indexes, should they have to be built anew.
    index_interval_bytes: u32,
    /// Bytes on disk, while the file has not been opened.
    bytes_on_disk: u64,
    /// The largest timestamp, if the file was open before and has been closed.
    noted_timestamp: Option<i64>,
    /// Whether the file's name is known to be durable. Nothing in a segment counts as durable before.
    named: AtomicBool,
    data: OnceLock<SegmentData>,
    /// When it was last read, by the clock of `open_segments`.
    read_at: AtomicU64,
    /// Guards the segment's names: whether they have come to speak of another one, which compaction has
    /// put in this one's place. Taken to open a sealed segment, by a reader at most once, and to save the
    /// indexes. Shared with a copy that takes this one's place unopened.
    replaced: Arc<Mutex<bool>>,
    /// The aborted transactions that end in it. Shared with such a copy as well.
    aborted: Arc<AbortedIndex>,
    /// What is known of offsets without a record. Shared with such a copy as well.
    tallies: Arc<Tallies>,
}

/// An open segment.
#[derive(Debug)]
pub(crate) struct SegmentData {
    pub(crate) file: Arc<dyn SegmentFile>,
    pub(crate) offsets: OffsetIndex,
    pub(crate) times: TimeIndex,
    largest_timestamp: AtomicI64,
    /// Where the last batch ends, once the segment is sealed.
    sealed_end: AtomicU64,
    sealed: AtomicBool,
    /// Who goes through it from front to back.
    pub(crate) readers: Readers,
    /// Why the segment ends before the next one begins, if it does.
    pub(crate) damage: Option<Corruption>,
}

impl Segment {
    /// Creates the file of a new active segment. [`settle_name`](Segment::settle_name) has to follow, or
    /// [`note_named`](Segment::note_named) once its directory has been synced for another reason.
    pub(crate) fn create(
        dir: &PartitionDir,
        base_offset: i64,
        reserve_bytes: u64,
        allocate_bytes: u64,
        index_interval_bytes: u32,
    ) -> io::Result<Arc<Segment>> {
        let path = dir.segment_file(base_offset, LOG_SUFFIX);
        let file = create_segment(&*dir.storage, &path, reserve_bytes, allocate_bytes)?;
        let offsets = OffsetIndex::new(dir.segment_file(base_offset, OFFSET_INDEX_SUFFIX), base_offset);
        let times = TimeIndex::new(dir.segment_file(base_offset, TIME_INDEX_SUFFIX), base_offset);
        let indexes = IndexTail::new(offsets, times, base_offset, index_interval_bytes);
        let data = SegmentData::new(file, indexes);
        let segment = Segment::opened(dir, base_offset, index_interval_bytes, data, true);
        segment.named.store(false, Ordering::Release);
        Ok(segment)
    }

    /// A segment that recovery has opened and read, or a new one; `empty` if there is no batch in it yet.
    pub(crate) fn opened(
        dir: &PartitionDir,
        base_offset: i64,
        index_interval_bytes: u32,
        data: SegmentData,
        empty: bool,
    ) -> Arc<Segment> {
        Arc::new(Segment {
            dir: dir.clone(),
            base_offset,
            index_interval_bytes,
            bytes_on_disk: 0,
            noted_timestamp: None,
            named: AtomicBool::new(true),
            data: OnceLock::from(data),
            read_at: AtomicU64::new(read_clock()),
            replaced: Arc::new(Mutex::new(false)),
            aborted: aborted_index(dir, base_offset),
            tallies: Arc::new(Tallies::new(base_offset, empty)),
        })
    }

    /// A sealed segment that is left closed until somebody reads it.
    pub(crate) fn closed(
        dir: &PartitionDir,
        base_offset: i64,
        index_interval_bytes: u32,
        bytes_on_disk: u64,
    ) -> Arc<Segment> {
        Arc::new(Segment {
            dir: dir.clone(),
            base_offset,
            index_interval_bytes,
            bytes_on_disk,
            noted_timestamp: None,
            named: AtomicBool::new(true),
            data: OnceLock::new(),
            read_at: AtomicU64::new(read_clock()),
            replaced: Arc::new(Mutex::new(false)),
            aborted: aborted_index(dir, base_offset),
            tallies: Arc::new(Tallies::new(base_offset, false)),
        })
    }

    /// Whether the file's name is known to be durable.
    pub(crate) fn is_named(&self) -> bool {
        // Acquire: pairs with the release in `note_named`, after the sync.
        self.named.load(Ordering::Acquire)
    }

    /// Notes that the directory has been synced since the file was created.
    pub(crate) fn note_named(&self) {
        self.named.store(true, Ordering::Release);
    }

    /// Makes the file's name durable, if it is not yet. Any number of threads may.
    pub(crate) fn settle_name(&self) -> io::Result<()> {
        if !self.is_named() {
            self.dir.storage.sync_dir(&self.dir.path)?;
            self.note_named();
        }
        Ok(())
    }

    pub(crate) fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// The aborted transactions that end in the segment.
    pub(crate) fn aborted(&self) -> &Arc<AbortedIndex> {
        &self.aborted
    }

    /// What is known of offsets without a record.
    pub(crate) fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    /// Adds to `found` the aborted transactions that end in the segment and that records of `offsets` may belong
    /// to. Answers whether none can in a later segment.
    ///
    /// # Errors
    /// See [`AbortedIndex::search`].
    pub(crate) fn search_aborted(
        &self,
        offsets: &Range<i64>,
        cold: Cold,
        found: &mut Vec<AbortedTransaction>,
    ) -> Result<bool, ReadError> {
        self.aborted.search(&*self.dir.storage, offsets, cold, found)
    }

    /// Log bytes between two entries of the indexes.
    pub(crate) fn index_interval_bytes(&self) -> u64 {
        u64::from(self.index_interval_bytes)
    }

    /// When it was last read, by the clock of `open_segments`.
    pub(crate) fn read_at(&self) -> u64 {
        self.read_at.load(Ordering::Relaxed)
    }

    /// The same segment with its file closed, to be opened again by who reads it next. `None` if it is not open, or
    /// damaged.
    pub(crate) fn unopened(&self) -> Option<Arc<Segment>> {
        let data = self.data.get().filter(|data| data.damage.is_none())?;
        self.aborted.forget();
        Some(Arc::new(Segment {
            dir: self.dir.clone(),
            base_offset: self.base_offset,
            index_interval_bytes: self.index_interval_bytes,
            bytes_on_disk: data.file.published(),
            noted_timestamp: Some(data.largest_timestamp()),
            named: AtomicBool::new(self.is_named()),
            data: OnceLock::new(),
            read_at: AtomicU64::new(self.read_at()),
            replaced: Arc::clone(&self.replaced),
            aborted: Arc::clone(&self.aborted),
            tallies: Arc::clone(&self.tallies),
        }))
    }

    /// Whether the file is open, so that [`load`](Segment::load) does not wait for the disk.
    pub(crate) fn is_open(&self) -> bool {
        self.data.get().is_some()
    }

    /// Bytes of batches; of the file while it has not been opened, see [`measure`](Segment::measure).
    pub(crate) fn size_bytes(&self) -> u64 {
        self.data.get().map_or(self.bytes_on_disk, |data| data.file.published())
    }

    /// Has [`size_bytes`](Segment::size_bytes) say what the batches have, by opening the file if that has not been
    /// done: what was allocated ahead and not given back before a crash makes it longer than they are. A file
    /// that cannot be read counts as it is.
    pub(crate) fn measure(&self, end_offset: Option<i64>) {
        let known = self.is_open() || self.noted_timestamp.is_some();
        if !known && let Err(error) = self.load(end_offset) {
            tracing::warn!(file = self.log_path(), %error, "cannot measure a segment");
        }
    }

    /// Where this segment's batches end for a read that is bounded by `bound`: there, or at the
    /// segment's own end if the bound lies in a later one. Opens the segment if need be.
    pub(crate) fn end_position(&self, end_offset: Option<i64>, bound: LogPosition) -> Result<u64, ReadError> {
        let data = self.load(end_offset)?;
        if bound.segment == self.base_offset {
            return Ok(bound.position);
        }
        Ok(data.sealed_end().expect("a bound past a segment means that it is sealed"))
    }

    /// The data of a segment that has been opened.
    ///
    /// # Panics
    /// If it has not: every way to a reader leads through [`end_position`](Segment::end_position).
    pub(crate) fn loaded(&self) -> &SegmentData {
        self.data.get().expect("opened before it is looked into")
    }

    /// Whether somebody holds a slice of the file.
    pub(crate) fn is_read(&self) -> bool {
        self.data.get().is_some_and(|data| Arc::strong_count(&data.file) > 1)
    }

    /// Opens the file and its indexes, once. `end_offset` is where the next segment begins.
    pub(crate) fn load(&self, end_offset: Option<i64>) -> Result<&SegmentData, ReadError> {
        let now = read_clock();
        // Relaxed: a hint. Looked at first, so that readers of one segment do not fight for its line.
        if self.read_at.load(Ordering::Relaxed) != now {
            self.read_at.store(now, Ordering::Relaxed);
        }
        if let Some(data) = self.data.get() {
            return Ok(data);
        }
        let replaced = self.replaced.lock();
        if let Some(data) = self.data.get() {
            return Ok(data);
        }
        if *replaced {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        }
        let end_offset = end_offset.expect("only sealed segments are left closed");
        let data = self.open_sealed(end_offset)?;
        Ok(self.data.get_or_init(|| data))
    }

    /// The largest timestamp of all records, [`NO_TIMESTAMP`] if there are none. Opens a segment that has
    /// not been open before.
    pub(crate) fn largest_timestamp(&self, end_offset: Option<i64>) -> Result<i64, ReadError> {
        match (self.data.get(), self.noted_timestamp) {
            (Some(data), _) => Ok(data.largest_timestamp()),
            (None, Some(noted)) => Ok(noted),
            (None, None) => Ok(self.load(end_offset)?.largest_timestamp()),
        }
    }

    pub(crate) fn sealed_end(&self) -> Option<u64> {
        self.loaded().sealed_end()
    }

    /// Where the last batch ends, if the segment has been opened and is sealed.
    pub(crate) fn sealed_end_if_loaded(&self) -> Option<u64> {
        self.data.get().and_then(SegmentData::sealed_end)
    }

    /// The path of the file of batches.
    pub(crate) fn log_path(&self) -> String {
        self.dir.segment_file(self.base_offset, LOG_SUFFIX)
    }

    /// The file of batches as the disk holds it. [`NotFound`](io::ErrorKind::NotFound) once its name is
    /// given up, as if it were removed already.
    pub(crate) fn open_direct(&self) -> io::Result<Box<dyn DirectFile>> {
        let replaced = self.replaced.lock();
        if *replaced {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.dir.storage.open_direct(&self.log_path())
    }

    /// Damage at a place in this segment.
    pub(crate) fn damage(&self, position: u64, offset: i64, reason: String) -> Corruption {
        Corruption { file: self.log_path(), position, offset, reason }
    }

    /// Writes to disk the index entries that speak of positions below `end`, up to which the log is
    /// durable. Nothing waits for them to be durable themselves: they can be made anew.
    pub(crate) fn save_indexes(&self, end: u64) -> io::Result<()> {
        let replaced = self.replaced.lock();
        if *replaced {
            return Ok(());
        }
        let data = self.loaded();
        let saved = data.offsets.save(&*self.dir.storage, end)?;
        data.times.save(&*self.dir.storage, saved)
    }

    /// Gives up the names of the segment's files: another one is about to bear them. Whoever has it open
    /// goes on; to open it now is [`NotFound`](io::ErrorKind::NotFound).
    pub(crate) fn give_up_names(&self) {
        *self.replaced.lock() = true;
    }

    /// Whether the segment has given up its names, so that it is about to leave the log.
    pub(crate) fn is_replaced(&self) -> bool {
        *self.replaced.lock()
    }

    /// Takes the segment's files out of the log by name; the bytes stay for whoever reads them.
    pub(crate) fn rename_deleted(&self) -> io::Result<()> {
        for suffix in SUFFIXES {
            let path = self.dir.segment_file(self.base_offset, suffix);
            if self.dir.storage.exists(&path)? {
                self.dir.storage.rename(&path, &format!("{path}{DELETED_SUFFIX}"))?;
            }
        }
        Ok(())
    }

    /// Removes the files that [`rename_deleted`](Segment::rename_deleted) has renamed.
    pub(crate) fn unlink_deleted(&self) -> io::Result<()> {
        for suffix in SUFFIXES {
            let path = format!("{}{DELETED_SUFFIX}", self.dir.segment_file(self.base_offset, suffix));
            if self.dir.storage.exists(&path)? {
                self.dir.storage.remove_file(&path)?;
            }
        }
        Ok(())
    }

    /// Opens a segment that lies below the checkpoint: the indexes as they are on disk if they are
    /// sound, else made from the log, and the batches after the last entry to find the end.
    fn open_sealed(&self, end_offset: i64) -> Result<SegmentData, ReadError> {
        let path = self.dir.segment_file(self.base_offset, LOG_SUFFIX);
        let mut file = self.dir.storage.open_segment(&path, 0, false)?;
        let file_len = file.published();
        let mut tail = load_tail(&self.dir, self.base_offset, self.index_interval_bytes, &*file, file_len)?;
        let stop = tail.walk(&*file, Depth::Headers, file_len, Some(end_offset), &mut |_, _| {})?;
        let (end, damage) = match stop {
            Stop::End { position, next_offset } if next_offset == end_offset => (position, None),
            Stop::End { position, next_offset } => {
                let reason = format!("the segment ends here, the next one begins at offset {end_offset}");
                (position, Some(self.damage(position, next_offset, reason)))
            }
            Stop::Bad { position, next_offset, reason } => {
                (position, Some(self.damage(position, next_offset, reason)))
            }
        };
        if damage.is_none() && end < file_len {
            // What was allocated ahead and not given back before a crash.
            truncate_segment(&mut file, end)?;
        }
        let mut data = SegmentData::new(file, tail);
        data.damage = damage;
        data.seal(end);
        Ok(data)
    }
}

fn aborted_index(dir: &PartitionDir, base_offset: i64) -> Arc<AbortedIndex> {
    Arc::new(AbortedIndex::new(dir.segment_file(base_offset, ABORTED_SUFFIX), base_offset))
}

/// The indexes of a segment as they are on disk, if the log bears them out, else empty ones; either
/// way to be completed by walking the batches before `end`.
///
/// # Errors
/// Of the device.
pub(crate) fn load_tail(
    dir: &PartitionDir,
    base_offset: i64,
    interval_bytes: u32,
    file: &dyn SegmentFile,
    end: u64,
) -> io::Result<IndexTail> {
    let storage = &*dir.storage;
    let offsets_path = dir.segment_file(base_offset, OFFSET_INDEX_SUFFIX);
    let times_path = dir.segment_file(base_offset, TIME_INDEX_SUFFIX);
    let mut offsets = OffsetIndex::load(storage, offsets_path.clone(), base_offset, end, usize::MAX)?;
    let times = TimeIndex::load(storage, times_path.clone(), base_offset, offsets.len())?;
    if times.len() < offsets.len() {
        offsets = OffsetIndex::load(storage, offsets_path.clone(), base_offset, end, times.len())?;
    }
    let tail = IndexTail::new(offsets, times, base_offset, interval_bytes);
    let mut scanner = BatchScanner::new(file, Depth::Headers, tail.position(), end, tail.next_offset());
    if tail.position() == 0 || matches!(scanner.step()?, Step::Batch { .. }) {
        return Ok(tail);
    }
    tracing::warn!(file = offsets_path, "the index does not fit its log and is made anew");
    let (offsets, times) =
        (OffsetIndex::new(offsets_path, base_offset), TimeIndex::new(times_path, base_offset));
    Ok(IndexTail::new(offsets, times, base_offset, interval_bytes))
}

impl SegmentData {
    /// An open segment.
    pub(crate) fn new(file: Arc<dyn SegmentFile>, indexes: IndexTail) -> SegmentData {
        SegmentData {
            file,
            largest_timestamp: AtomicI64::new(indexes.rule.largest_timestamp()),
            offsets: indexes.offsets,
            times: indexes.times,
            sealed_end: AtomicU64::new(0),
            sealed: AtomicBool::new(false),
            readers: Readers::default(),
            damage: None,
        }
    }

    pub(crate) fn largest_timestamp(&self) -> i64 {
        // Relaxed: published with the bounds, see `Published::store`.
        self.largest_timestamp.load(Ordering::Relaxed)
    }

    /// Raises the largest timestamp. Only the writer calls it.
    pub(crate) fn raise_largest_timestamp(&self, timestamp: i64) {
        if timestamp > self.largest_timestamp() {
            self.largest_timestamp.store(timestamp, Ordering::Relaxed);
        }
    }

    /// Says where the last batch ends. Before the next segment is published.
    pub(crate) fn seal(&self, end: u64) {
        self.sealed_end.store(end, Ordering::Relaxed);
        // Release: whoever sees the flag sees the position.
        self.sealed.store(true, Ordering::Release);
    }

    pub(crate) fn sealed_end(&self) -> Option<u64> {
        self.sealed.load(Ordering::Acquire).then(|| self.sealed_end.load(Ordering::Relaxed))
    }
}
