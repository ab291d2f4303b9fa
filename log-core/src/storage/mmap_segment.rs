//! A segment of the real disk: mapped once, written through the map or beside it, and brought in from the disk for who
//! reads what is not in memory.
//!
//! What is mapped is a [`Region`]; its picture says who may touch what.

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fadvise, fallocate};
use rustix::io::Errno;
use rustix::mm::Advice;
use rustix::param::page_size;

use super::kernel;
use super::leftovers::settle_leftovers;
use super::mmap::read_full;
use super::region::Region;
use super::turns::Turns;
use super::{ReadAt, SegmentFile};

/// Bytes that are asked of the disk at a time where history is brought in. The kernel cuts a larger call
/// down to what it reads ahead by itself (`read_ahead_kb`, 128 unless somebody has set it).
const CHUNK_BYTES: u64 = 128 << 10;
/// How many of these are under way while others sync: few enough not to keep a sync waiting.
const CHUNKS_BESIDE_SYNCS: usize = 4;
/// The same while nobody does: enough to keep any disk busy.
const CHUNKS_MAX: usize = 16;
/// Bytes that are read at a time for who goes from front to back: what a huge page holds.
pub(crate) const HUGE_BYTES: u64 = 2 << 20;

/// A segment of the real disk.
#[derive(Debug)]
pub(super) struct MmapSegment {
    path: String,
    file: File,
    /// Appends of at least this many bytes are written by system call, smaller ones through the map.
    call_bytes_min: usize,
    region: Region,
    /// Whether a page that is populated brings in all that its huge page holds.
    reads_huge: AtomicBool,
    turns: Arc<Turns>,
    /// Written by the writer alone; others only look at it.
    allocated: AtomicU64,
}

impl MmapSegment {
    pub(super) fn new(
        path: &str,
        file: File,
        reserve_bytes: u64,
        call_bytes_min: usize,
        turns: Arc<Turns>,
    ) -> io::Result<MmapSegment> {
        let len = file.metadata()?.len();
        let region = Region::map_file(&file, to_usize(reserve_bytes.max(len))?)?;
        region.publish(0, to_usize(len)?);
        let (path, allocated) = (path.to_owned(), AtomicU64::new(len));
        let reads_huge = AtomicBool::new(false);
        let segment = MmapSegment { path, file, call_bytes_min, region, reads_huge, turns, allocated };
        if reserve_bytes <= len {
            segment.advise_sealed();
        }
        Ok(segment)
    }

    /// Tells the kernel how what will not grow any more is read.
    fn advise_sealed(&self) {
        let advise = |advice| self.region.advise(0..self.region.len(), advice).is_ok();
        // What a fault would read around itself by a guess of the kernel's is either asked for by name or not wanted at
        // all. But a fault that has to read may read a huge page, in one piece of memory where the file system can: page
        // by page, as `fadvise` reads it, a MiB took 560 us of a processor here; so it takes 20 to 40.
        let is_known = page_size() == 4096 && kernel::is_at_least(5, 18);
        let reads_huge = advise(Advice::Random) && is_known && advise(Advice::LinuxHugepage);
        // Relaxed: nothing else is read because of it.
        self.reads_huge.store(reads_huge, Ordering::Relaxed);
    }

    fn reads_huge(&self) -> bool {
        // Relaxed: as above.
        self.reads_huge.load(Ordering::Relaxed)
    }

    /// Whether a piece of what is read ahead is all of a huge page, and is to be read as one.
    fn is_to_be_whole(&self, piece: &Range<u64>) -> bool {
        let is_full = piece.end - piece.start == HUGE_BYTES || piece.end == self.published();
        // A sync would wait for all of it.
        piece.start.is_multiple_of(HUGE_BYTES) && is_full && self.reads_huge() && self.turns.is_quiet()
    }

    /// Has the disk begin to read a chunk, without waiting for it.
    fn ask_for(&self, range: Range<u64>) {
        let len = NonZeroU64::new(range.end - range.start);
        // A hint: who waits for the bytes learns what is wrong with them.
        let _ = fadvise(&self.file, range.start, len, rustix::fs::Advice::WillNeed);
    }

    /// Brings a range into memory and into the page table.
    fn populate(&self, range: Range<u64>) -> io::Result<()> {
        let in_map = range.start as usize..range.end as usize;
        let done = self.region.populate(in_map.clone());
        if done.is_ok() {
            return done;
        }
        // Of a huge page all or nothing is in memory. Once it is gone, and no other is read in its place, what can be read
        // of it comes page by page. Relaxed: as above.
        if self.reads_huge.swap(false, Ordering::Relaxed) {
            let _ = self.region.advise(0..self.region.len(), Advice::LinuxNoHugepage);
        }
        let huge = range.start / HUGE_BYTES * HUGE_BYTES..range.end.next_multiple_of(HUGE_BYTES);
        let len = NonZeroU64::new(huge.end - huge.start);
        let _ = fadvise(&self.file, huge.start, len, rustix::fs::Advice::DontNeed);
        self.ask_for(range);
        self.region.populate(in_map)
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

    fn read_ahead(&self, range: Range<u64>) -> io::Result<()> {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at + 1).next_multiple_of(HUGE_BYTES));
            if !self.is_to_be_whole(&(at..end)) {
                self.bring_in(at..end)?;
            } else if !self.is_resident(at..end) {
                self.populate(at..end)?;
            }
            at = end;
        }
        Ok(())
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
        self.advise_sealed();
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
mod tests {
    use super::*;

    #[test]
    fn one_page_brings_in_all_that_its_huge_page_holds() {
        let dir = tempfile::tempdir().expect("room");
        let path = dir.path().join("a.log");
        std::fs::write(&path, vec![7; 2 * HUGE_BYTES as usize]).expect("room");
        let file = File::options().read(true).write(true).open(&path).expect("there");
        file.sync_all().expect("a healthy disk");
        fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("a file");
        let segment = MmapSegment::new("a.log", file, 0, 0, Arc::new(Turns::default())).expect("there");
        if segment.is_resident(0..2 * HUGE_BYTES) || !segment.reads_huge() {
            return; // A file system in memory has nothing to bring in, and some kernels know no huge pages.
        }
        segment.populate(HUGE_BYTES..HUGE_BYTES + 1).expect("a healthy disk");
        assert!(segment.is_resident(HUGE_BYTES..2 * HUGE_BYTES));
        assert!(!segment.is_resident(0..1), "of the one before nothing was asked for");
        segment.read_ahead(1..2 * HUGE_BYTES).expect("a healthy disk");
        assert!(segment.is_resident(0..2 * HUGE_BYTES));

        let whole = HUGE_BYTES..2 * HUGE_BYTES;
        assert!(segment.is_to_be_whole(&whole));
        assert!(!segment.is_to_be_whole(&(1..HUGE_BYTES)) && !segment.is_to_be_whole(&(0..HUGE_BYTES - 1)));
        let beside_a_sync = || {
            assert!(!segment.is_to_be_whole(&whole));
            Ok(())
        };
        segment.turns.sync(beside_a_sync).expect("it does nothing");
    }

    #[test]
    fn a_segment_that_is_sealed_reads_huge_pages() {
        let dir = tempfile::tempdir().expect("room");
        let file = File::options().read(true).write(true).create_new(true).open(dir.path().join("a.log"));
        let (turns, bytes) = (Arc::new(Turns::default()), HUGE_BYTES);
        let segment = MmapSegment::new("a.log", file.expect("room"), bytes, 0, turns).expect("room");
        segment.allocate(bytes).expect("room");
        segment.append(0, &[b"bytes"]).expect("room");
        assert!(!segment.reads_huge(), "it is written to");
        segment.trim().expect("a healthy disk");
        assert!(segment.reads_huge() || page_size() != 4096 || !kernel::is_at_least(5, 18));
    }
}
