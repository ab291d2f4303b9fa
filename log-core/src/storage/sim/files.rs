//! Open files of the simulated disk.

use crate::sync::atomic::{AtomicU64, Ordering};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::sync::Mutex;

use super::super::region::Region;
use super::super::{DirectFile, RandomFile, ReadAt, SegmentFile};
use super::disk::Disk;
use super::node::NodeId;

/// A segment. Its map is a copy of the file in memory, so that slices of it can be handed out.
pub(super) struct SimSegment {
    disk: Arc<Mutex<Disk>>,
    id: NodeId,
    path: String,
    region: Region,
    allocated: AtomicU64,
}

impl SimSegment {
    pub(super) fn open(
        disk: Arc<Mutex<Disk>>,
        id: NodeId,
        path: &str,
        reserve_bytes: u64,
    ) -> io::Result<SimSegment> {
        let (region, len) = {
            let disk = disk.lock();
            let content = &disk.file(id).live;
            let region = Region::anonymous(reserve_bytes.max(content.len()) as usize)?;
            let stored = content.stored();
            region.append(0, &[stored]);
            // The rest is zeros, as in the file.
            region.publish(stored.len(), content.len() as usize);
            (region, content.len())
        };
        Ok(SimSegment { disk, id, path: path.to_owned(), region, allocated: AtomicU64::new(len) })
    }
}

impl ReadAt for SimSegment {
    fn read_at(&self, pos: u64, into: &mut [u8]) -> io::Result<usize> {
        read_at(&self.disk, self.id, pos, into)
    }
}

impl SegmentFile for SimSegment {
    fn path(&self) -> &str {
        &self.path
    }

    fn allocate(&self, end: u64) -> io::Result<()> {
        if end <= self.allocated() {
            return Ok(());
        }
        assert!(end <= self.region.len() as u64, "{}: blocks past the reserved range", self.path);
        self.disk.lock().set_len(self.id, &self.path, end)?;
        // Relaxed, here and below: one writer, which sees its own stores.
        self.allocated.store(end, Ordering::Relaxed);
        Ok(())
    }

    fn allocated(&self) -> u64 {
        self.allocated.load(Ordering::Relaxed)
    }

    fn append(&self, pos: u64, parts: &[&[u8]]) -> io::Result<()> {
        let len: usize = parts.iter().map(|part| part.len()).sum();
        assert!(pos + len as u64 <= self.allocated(), "{}: append past the allocated blocks", self.path);
        self.disk.lock().store(self.id, &self.path, pos, parts)?;
        self.region.append(pos as usize, parts);
        Ok(())
    }

    fn published(&self) -> u64 {
        self.region.published() as u64
    }

    fn slice(&self, range: Range<u64>) -> &[u8] {
        self.region.slice(range.start as usize..range.end as usize)
    }

    fn is_resident(&self, range: Range<u64>) -> bool {
        assert!(range.end <= self.published(), "{}: pages past what is published", self.path);
        self.disk.lock().file(self.id).is_resident(range)
    }

    fn bring_in(&self, range: Range<u64>) -> io::Result<()> {
        assert!(range.end <= self.published(), "{}: pages past what is published", self.path);
        self.disk.lock().bring_in(self.id, range)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.lock().sync_file(self.id, &self.path)
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        assert!(len <= self.published(), "{}: truncation cannot grow a segment", self.path);
        self.disk.lock().set_len(self.id, &self.path, len)?;
        self.region.unpublish(len as usize);
        self.allocated.store(len, Ordering::Relaxed);
        Ok(())
    }

    fn trim(&self) -> io::Result<()> {
        let published = self.published();
        if published < self.allocated() {
            self.disk.lock().set_len(self.id, &self.path, published)?;
            self.allocated.store(published, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl fmt::Debug for SimSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimSegment({}, {} of {} bytes)", self.path, self.published(), self.allocated())
    }
}

/// A file that is written in place.
pub(super) struct SimRandom {
    disk: Arc<Mutex<Disk>>,
    id: NodeId,
    path: String,
}

impl SimRandom {
    pub(super) fn new(disk: Arc<Mutex<Disk>>, id: NodeId, path: &str) -> SimRandom {
        SimRandom { disk, id, path: path.to_owned() }
    }
}

impl ReadAt for SimRandom {
    fn read_at(&self, pos: u64, into: &mut [u8]) -> io::Result<usize> {
        read_at(&self.disk, self.id, pos, into)
    }
}

impl RandomFile for SimRandom {
    fn write_at(&self, pos: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.lock().store(self.id, &self.path, pos, &[bytes])
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.lock().sync_file(self.id, &self.path)
    }
}

impl fmt::Debug for SimRandom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimRandom({})", self.path)
    }
}

/// A file that is read past the page cache: what is dirty there is written back first, and pages that a
/// failed sync has left clean are not what is read.
pub(super) struct SimDirect {
    disk: Arc<Mutex<Disk>>,
    id: NodeId,
    path: String,
    len: u64,
}

impl SimDirect {
    pub(super) fn new(disk: Arc<Mutex<Disk>>, id: NodeId, path: &str) -> SimDirect {
        let len = disk.lock().file(id).live.len();
        SimDirect { disk, id, path: path.to_owned(), len }
    }
}

impl ReadAt for SimDirect {
    fn read_at(&self, pos: u64, into: &mut [u8]) -> io::Result<usize> {
        let disk = self.disk.lock();
        disk.readable(self.id, pos..pos + into.len() as u64)?;
        Ok(disk.file(self.id).written_back().read_at(pos, into))
    }
}

impl DirectFile for SimDirect {
    fn len(&self) -> u64 {
        self.len
    }
}

impl fmt::Debug for SimDirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDirect({})", self.path)
    }
}

fn read_at(disk: &Mutex<Disk>, id: NodeId, pos: u64, into: &mut [u8]) -> io::Result<usize> {
    let mut disk = disk.lock();
    disk.bring_in(id, pos..pos + into.len() as u64)?;
    Ok(disk.file(id).live.read_at(pos, into))
}
