//! Reading what a disk holds and not what the page cache believes, without using the page cache up, and
//! writing what a disk may lack although the page cache believes otherwise.
//!
//! `O_DIRECT` where the file system has it: the device is asked, and nothing that others read is thrown
//! out. It wants buffers, positions and lengths in whole blocks, so what is read goes through an aligned
//! buffer of its own. Elsewhere (tmpfs on older kernels, some network file systems) the pages are given
//! up before and after they are read, which leaves those that somebody has mapped.

use std::fs::{File, OpenOptions};
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use parking_lot::Mutex;
use rustix::fs::{Advice, OFlags, fadvise};
use rustix::io::Errno;

use super::mmap::read_full;
use super::{DirectFile, ReadAt};

/// What positions, lengths and addresses are multiples of: a page, which no block is larger than on the
/// disks that are in use.
const BLOCK_BYTES: u64 = 4096;
/// Bytes that one system call reads at most.
const BUFFER_BYTES: u64 = 1 << 20;

/// A file that is read past the page cache.
#[derive(Debug)]
pub(super) struct Direct {
    file: File,
    len: u64,
    /// The buffer of `O_DIRECT`, `None` without it. Guards one read at a time: a second reader of one
    /// handle would need a buffer of its own, and there is none.
    aligned: Option<Mutex<AlignedBuffer>>,
}

impl Direct {
    pub(super) fn open(path: &Path) -> io::Result<Direct> {
        match OpenOptions::new().read(true).custom_flags(direct_flag()).open(path) {
            Ok(file) => Direct::new(file, Some(Mutex::new(AlignedBuffer::of(BUFFER_BYTES)))),
            // The file is there, and its file system does not know the flag.
            Err(error) if is_invalid(&error) => Direct::cached(File::open(path)?),
            Err(error) => Err(error),
        }
    }

    /// A file that is read through the page cache, and leaves nothing there.
    pub(super) fn cached(file: File) -> io::Result<Direct> {
        Direct::new(file, None)
    }

    fn new(file: File, aligned: Option<Mutex<AlignedBuffer>>) -> io::Result<Direct> {
        let len = file.metadata()?.len();
        Ok(Direct { file, len, aligned })
    }

    /// Makes the kernel forget the pages of a range that nobody else uses.
    fn forget(&self, pos: u64, len: usize) -> io::Result<()> {
        Ok(fadvise(&self.file, pos, NonZeroU64::new(len as u64), Advice::DontNeed)?)
    }
}

impl ReadAt for Direct {
    fn read_at(&self, pos: u64, into: &mut [u8]) -> io::Result<usize> {
        let Some(aligned) = &self.aligned else {
            self.forget(pos, into.len())?;
            let read = read_full(&self.file, pos, into)?;
            self.forget(pos, into.len())?;
            return Ok(read);
        };
        let mut aligned = aligned.lock();
        let mut done = 0;
        while done < into.len() {
            let got = aligned.read(&self.file, pos + done as u64, &mut into[done..])?;
            if got == 0 {
                break;
            }
            done += got;
        }
        Ok(done)
    }
}

impl DirectFile for Direct {
    fn len(&self) -> u64 {
        self.len
    }
}

/// Writes over what a file holds at `pos`, and over the rest of the blocks that this is in with what they hold.
/// See [`Storage::rewrite`](super::Storage::rewrite).
pub(super) fn rewrite(path: &Path, pos: u64, bytes: &[u8]) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    match rewrite_blocks(path, &file, pos, bytes) {
        // A file system that does not know the flag, or a device with larger blocks.
        Err(error) if is_invalid(&error) => file.write_all_at(bytes, pos),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            // The file system may need a block for its own map of the file's, and has some set aside for what
            // goes through the cache only. So it does, and what has arrived is looked at.
            file.write_all_at(bytes, pos)?;
            file.sync_data()?;
            if holds(path, pos, bytes)? { Ok(()) } else { Err(error) }
        }
        done => done,
    }
}

/// Whether these bytes lie at `pos` on the disk.
fn holds(path: &Path, pos: u64, bytes: &[u8]) -> io::Result<bool> {
    let direct = Direct::open(path)?;
    let mut buffer = vec![0; bytes.len().min(BUFFER_BYTES as usize)];
    let mut at = pos;
    for part in bytes.chunks(BUFFER_BYTES as usize) {
        let there = &mut buffer[..part.len()];
        if direct.read_at(at, there)? < part.len() || there != part {
            return Ok(false);
        }
        at += part.len() as u64;
    }
    Ok(true)
}

fn rewrite_blocks(path: &Path, file: &File, pos: u64, bytes: &[u8]) -> io::Result<()> {
    let direct = OpenOptions::new().write(true).custom_flags(direct_flag()).open(path)?;
    let end = pos + bytes.len() as u64;
    let (start, blocks_end) = (pos / BLOCK_BYTES * BLOCK_BYTES, end.next_multiple_of(BLOCK_BYTES));
    let len = file.metadata()?.len();
    let mut aligned = AlignedBuffer::of((blocks_end - start).min(BUFFER_BYTES));
    let mut at = start;
    while at < blocks_end {
        let blocks = aligned.blocks((blocks_end - at).min(BUFFER_BYTES) as usize);
        blocks.fill(0);
        read_full(file, at, blocks)?;
        let (from, to) = (pos.max(at), end.min(at + blocks.len() as u64));
        blocks[(from - at) as usize..(to - at) as usize]
            .copy_from_slice(&bytes[(from - pos) as usize..(to - pos) as usize]);
        direct.write_all_at(blocks, at)?;
        at += blocks.len() as u64;
    }
    if blocks_end > len.max(end) {
        // The last block was filled up.
        file.set_len(len.max(end))?;
    }
    Ok(())
}

fn direct_flag() -> i32 {
    i32::try_from(OFlags::DIRECT.bits()).expect("a flag of open(2)")
}

fn is_invalid(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::INVAL.raw_os_error())
}

/// A buffer that begins at a block's border.
#[derive(Debug)]
struct AlignedBuffer {
    bytes: Vec<u8>,
    start: usize,
}

impl AlignedBuffer {
    /// For up to `capacity` bytes.
    fn of(capacity: u64) -> AlignedBuffer {
        let bytes = vec![0; (capacity + BLOCK_BYTES) as usize];
        let start = bytes.as_ptr().align_offset(BLOCK_BYTES as usize);
        AlignedBuffer { bytes, start }
    }

    fn blocks(&mut self, len: usize) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + len]
    }

    /// Reads the blocks around `pos` and copies what was wanted of them. 0 at the end of the file.
    fn read(&mut self, file: &File, pos: u64, into: &mut [u8]) -> io::Result<usize> {
        let before = pos % BLOCK_BYTES;
        let wanted = (before + into.len() as u64).next_multiple_of(BLOCK_BYTES).min(BUFFER_BYTES) as usize;
        let blocks = self.blocks(wanted);
        let got = loop {
            match rustix::io::pread(file, &mut *blocks, pos - before) {
                Err(Errno::INTR) => {}
                done => break done?,
            }
        };
        let Some(read) = blocks[..got].get(before as usize..) else { return Ok(0) };
        let count = read.len().min(into.len());
        into[..count].copy_from_slice(&read[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_is_read_either_way() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        let bytes: Vec<u8> = (0..(BUFFER_BYTES as usize * 2 + 777)).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &bytes).expect("room");
        let cached = Direct::cached(File::open(&path).expect("there")).expect("there");
        for file in [Direct::open(&path).expect("there"), cached] {
            assert_eq!(file.len(), bytes.len() as u64);
            for (pos, len) in [(0, 10), (0, bytes.len() + 50), (4095, 2), (5000, 1 << 20), (777, 100_000)] {
                let mut into = vec![0; len];
                let read = file.read_at(pos as u64, &mut into).expect("readable");
                let there = &bytes[pos..bytes.len().min(pos + len)];
                assert_eq!(read, there.len(), "{file:?}");
                assert!(into[..read] == *there, "{file:?} from {pos}");
            }
            let past = file.read_at(bytes.len() as u64 + 1, &mut [0; 10]).expect("nothing there");
            assert_eq!(past, 0);
        }
        let missing = Direct::open(&dir.path().join("none")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn any_range_is_written_over_and_the_rest_stays() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("file");
        let mut expected: Vec<u8> =
            (0..(BUFFER_BYTES as usize * 2 + 777)).map(|at| (at % 251) as u8).collect();
        std::fs::write(&path, &expected).expect("room");
        let end = expected.len();
        for (pos, len) in
            [(0, 10), (5000, 4096), (4096, (1 << 20) + 5000), (end - 100, 100), (end - 5000, 5000)]
        {
            let bytes: Vec<u8> = (0..len).map(|at| (at % 241) as u8).collect();
            expected[pos..pos + len].copy_from_slice(&bytes);
            rewrite(&path, pos as u64, &bytes).expect("room");
            assert!(std::fs::read(&path).expect("there") == expected, "{len} bytes at {pos}");
        }
    }
}
