//! A mapped range of memory with one writer and any number of readers.
//!
//! Nearly all of the engine's `unsafe` is here; the simulated disk uses a [`Region`] over anonymous memory.
//!
//! ```text
//!   0            published            allocated                       reserve
//!   |--------------|--------------------|--------------------------------|
//!     immutable:      blocks are there:    address space only: touching it
//!     slices of it    the writer stores    would raise SIGBUS, so nothing
//!     are handed out  here                 ever does
//! ```

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::Ordering::Relaxed;

use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};
use rustix::param::page_size;

use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many ranges this process has mapped here: what the system's limit on maps counts, and more than
/// one data directory may share. The real atomic whatever the tests put in place of the others: a
/// static outlives what a race checker runs.
static MAPS: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);

/// Segments that are mapped in this process now.
pub fn maps() -> usize {
    // A figure to look at: nothing is read because of it.
    MAPS.load(Relaxed)
}

/// A mapped range of memory that is written once, front to back, and read behind the writer.
///
/// Invariant that all `unsafe` here rests on: bytes below `published` are not written while `self`
/// can be shared, and bytes at or above it are touched by one writer at a time, which `writing`
/// enforces.
#[derive(Debug)]
pub(super) struct Region {
    base: NonNull<u8>,
    len: usize,
    published: AtomicUsize,
    writing: AtomicBool,
}

// SAFETY: the memory belongs to the value and not to a thread; it is unmapped only on drop.
unsafe impl Send for Region {}
// SAFETY: shared access reads bytes below `published` only, which never change (see the invariant),
// and `append` lets in one writer at a time.
unsafe impl Sync for Region {}

impl Region {
    /// Maps `len` bytes of a file, shared, past its end too.
    pub(super) fn map_file(file: &File, len: usize) -> io::Result<Region> {
        let len = len.max(1);
        // SAFETY: a fresh mapping at an address of the kernel's choice aliases nothing of ours.
        let base = unsafe {
            mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file.as_fd(), 0)?
        };
        Region::new(base, len)
    }

    /// Maps `len` bytes of zeros that no file is behind.
    pub(super) fn anonymous(len: usize) -> io::Result<Region> {
        let len = len.max(1);
        // SAFETY: as above.
        let base = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                len,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )?
        };
        Region::new(base, len)
    }

    fn new(base: *mut std::ffi::c_void, len: usize) -> io::Result<Region> {
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at address zero"))?;
        MAPS.fetch_add(1, Relaxed);
        Ok(Region { base, len, published: AtomicUsize::new(0), writing: AtomicBool::new(false) })
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn published(&self) -> usize {
        // Acquire: pairs with the release in `publish`, so that whoever sees the length sees the
        // bytes below it.
        self.published.load(Ordering::Acquire)
    }

    /// Stores `parts` at `pos` and publishes them. The caller has seen to it that the memory is
    /// backed up to their end.
    pub(super) fn append(&self, pos: usize, parts: &[&[u8]]) {
        // Acquire/release on `writing`: a writer on another thread, later, sees these stores.
        assert!(!self.writing.swap(true, Ordering::Acquire), "two threads append to one segment");
        assert_eq!(pos, self.published(), "append beside the end of the segment");
        let mut at = pos;
        for part in parts {
            assert!(part.len() <= self.len - at, "append past the reserved range");
            // SAFETY: the destination lies in the mapping (asserted) at or above `published`, where
            // this thread is the only one to look (`writing`). The source cannot overlap it: a
            // slice of this region lies below `published`.
            unsafe { ptr::copy_nonoverlapping(part.as_ptr(), self.base.as_ptr().add(at), part.len()) };
            at += part.len();
        }
        self.publish(pos, at);
        self.writing.store(false, Ordering::Release);
    }

    /// Publishes bytes that got there by other means than [`append`](Region::append).
    pub(super) fn publish(&self, from: usize, to: usize) {
        assert!(from <= to && to <= self.len, "published past the reserved range");
        // Release: the bytes are stored before the length says so.
        self.published.store(to, Ordering::Release);
    }

    /// Takes back what was published from `to` on. `&mut`: no slice of it can be alive.
    pub(super) fn unpublish(&mut self, to: usize) {
        let published = self.published.get_mut();
        assert!(to <= *published);
        *published = to;
    }

    pub(super) fn slice(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.published(), "read past what is published");
        // SAFETY: the range lies in the mapping, was stored before it was published, and is not
        // written again while `self` is borrowed.
        unsafe { slice::from_raw_parts(self.base.as_ptr().add(range.start), range.len()) }
    }

    /// Whether touching the range would not wait for the disk. A system that does not say is taken to
    /// have it in memory.
    pub(super) fn is_resident(&self, range: Range<usize>) -> bool {
        let range = self.pages(range);
        let mut pages = [0_u8; 1024];
        let page_bytes = page_size();
        range.clone().step_by(pages.len() * page_bytes).all(|at| {
            let len = (range.end - at).min(pages.len() * page_bytes);
            // SAFETY: the range lies in the mapping (`pages`), and the vector has a byte for each of
            // its pages. Nothing but the vector is written.
            let answered =
                unsafe { libc::mincore(self.base.as_ptr().add(at).cast(), len, pages.as_mut_ptr()) };
            answered != 0 || pages[..len / page_bytes].iter().all(|page| page & 1 == 1)
        })
    }

    /// Brings the range into memory and into the page table.
    pub(super) fn populate(&self, range: Range<usize>) -> io::Result<()> {
        match self.advise(self.pages(range), Advice::LinuxPopulateRead) {
            // What would have been a SIGBUS.
            Err(Errno::FAULT) => Err(io::Error::other("the device or the file does not have these bytes")),
            done => done.map_err(io::Error::from),
        }
    }

    /// Gives advice that changes neither the bytes nor what may be done with them.
    pub(super) fn advise(&self, range: Range<usize>, advice: Advice) -> Result<(), Errno> {
        let harmless = matches!(
            advice,
            Advice::Random | Advice::LinuxHugepage | Advice::LinuxNoHugepage | Advice::LinuxPopulateRead
        );
        assert!(harmless, "advice that may change bytes");
        assert!(range.end <= self.len.next_multiple_of(page_size()), "advice past the reserved range");
        // SAFETY: the range lies in the mapping (asserted), and none of these kinds of advice changes it.
        unsafe { madvise(self.base.as_ptr().add(range.start).cast(), range.len(), advice) }
    }

    /// The whole pages that published bytes lie in.
    fn pages(&self, range: Range<usize>) -> Range<usize> {
        assert!(range.start <= range.end && range.end <= self.published(), "pages past what is published");
        range.start / page_size() * page_size()..range.end.next_multiple_of(page_size())
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        MAPS.fetch_sub(1, Relaxed);
        // SAFETY: this is the mapping made in the constructor, and nobody can borrow it any more.
        // It cannot fail for such a range, and there would be nothing to do if it did.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
