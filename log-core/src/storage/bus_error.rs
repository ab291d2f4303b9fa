//! What a process says before it dies of SIGBUS: which byte of which file it has touched (R3).
//!
//! Readers bring pages in by a call that can fail before they touch them, and the writer stores where blocks have
//! been allocated. What is left is a file that somebody else has cut, and a page that leaves memory between the call
//! and the touch and cannot be read again. The process does not outlive that: what it would store in place of such a
//! page would look appended, be acknowledged, and never reach the disk.

use std::fmt::{self, Write};
use std::io;
use std::mem;
use std::ops::Range;
use std::ptr;

use rustix::fs::{Mode, OFlags, open};

/// Bytes of a line of `/proc/self/maps` that are looked at, with all but the longest paths. It lies on the stack for
/// signals, of which there may be no more than 8 KiB.
const LINE_BYTES: usize = 1024;
/// Bytes read at a time.
const CHUNK_BYTES: usize = 512;

/// From now on a SIGBUS names the file and the byte on standard error before it ends this process.
///
/// # Errors
/// The system does not take the handler.
pub fn name_bus_errors() -> io::Result<()> {
    // SAFETY: all zeros are a valid `sigaction`. The handler has the signature that `SA_SIGINFO` asks for and does
    // what a handler may do: system calls, and no allocation.
    let installed = unsafe {
        let mut action: libc::sigaction = mem::zeroed();
        action.sa_sigaction =
            on_bus_error as extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGBUS, &action, ptr::null_mut())
    };
    if installed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

extern "C" fn on_bus_error(signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands in what is known of the signal.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr() as usize) };
    // Codes of the kernel's are positive: a signal that somebody has sent is about no address.
    if code > 0 {
        report(address);
    }
    // SAFETY: both calls are allowed in a handler. The signal is blocked until it returns, and ends the process then.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}

fn report(address: usize) {
    let (mut line, mut message) = (Line::new(), Line::new());
    // What does not fit is cut off.
    let _ = match mapping_of(address, &mut line) {
        Some(mapping) => writeln!(
            message,
            "SIGBUS at byte {} of {}: the file has been cut, or its device does not bring the page",
            mapping.position_of(address),
            mapping.path,
        ),
        None => writeln!(message, "SIGBUS at address {address:#x}, which belongs to no file"),
    };
    let _ = rustix::io::write(io::stderr(), message.as_bytes());
}

/// A mapped range of memory, as a line of `/proc/self/maps` describes it (proc_pid_maps(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mapping<'a> {
    addresses: Range<usize>,
    /// The byte of the file at the first address.
    position: usize,
    path: &'a str,
}

impl Mapping<'_> {
    /// `None` for a line that is not of a file.
    fn parse(line: &str) -> Option<Mapping<'_>> {
        let mut fields = line.splitn(6, ' ');
        let (start, end) = fields.next()?.split_once('-')?;
        let hex = |digits| usize::from_str_radix(digits, 16).ok();
        let (_permissions, position, _device, _inode) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let path = fields.next()?.trim_start();
        path.starts_with('/').then_some(Mapping {
            addresses: hex(start)?..hex(end)?,
            position: hex(position)?,
            path,
        })
    }

    fn position_of(&self, address: usize) -> usize {
        address - self.addresses.start + self.position
    }
}

/// Looks up what is mapped at an address, with `line` to keep its description in.
fn mapping_of(address: usize, line: &mut Line) -> Option<Mapping<'_>> {
    let maps = open(c"/proc/self/maps", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let holds = |line: &Line| {
        Mapping::parse(line.as_str()).is_some_and(|mapping| mapping.addresses.contains(&address))
    };
    let mut chunk = [0; CHUNK_BYTES];
    'found: loop {
        let read = rustix::io::read(&maps, &mut chunk).ok().filter(|read| *read > 0)?;
        for &byte in &chunk[..read] {
            if byte != b'\n' {
                line.push(byte);
            } else if holds(line) {
                break 'found;
            } else {
                line.clear();
            }
        }
    }
    Mapping::parse(line.as_str())
}

/// Text on the stack.
struct Line {
    bytes: [u8; LINE_BYTES],
    len: usize,
}

impl Line {
    fn new() -> Line {
        Line { bytes: [0; LINE_BYTES], len: 0 }
    }

    /// Adds a byte if there is room.
    fn push(&mut self, byte: u8) {
        if let Some(free) = self.bytes.get_mut(self.len) {
            *free = byte;
            self.len += 1;
        }
    }

    fn clear(&mut self) {
        self.len = 0;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// The text, up to what is no UTF-8.
    fn as_str(&self) -> &str {
        match str::from_utf8(self.as_bytes()) {
            Ok(text) => text,
            Err(error) => str::from_utf8(&self.bytes[..error.valid_up_to()]).unwrap_or_default(),
        }
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(|byte| self.push(byte));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{MmapStorage, Storage, WriteMode};

    #[test]
    fn lines_of_files_are_understood_and_others_are_not() {
        let line =
            "7f0000001000-7f0000004000 rw-s 00002000 fe:00 42                 /data/a b/0.log (deleted)";
        let mapping = Mapping::parse(line).expect("a file's");
        assert_eq!((mapping.path, mapping.position), ("/data/a b/0.log (deleted)", 0x2000));
        assert_eq!(mapping.position_of(0x7f00_0000_1010), 0x2010);
        for other in [
            "",
            "7f00-7f01",
            "7f00-7f01 rw-p 00000000 00:00 0 ",
            "7ffc00-7ffd00 rw-p 00000000 00:00 0                          [stack]",
            "x-y rw-s 00002000 fe:00 42 /data/0.log",
        ] {
            assert_eq!(Mapping::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_byte_of_a_map_is_found_in_its_file() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let storage = MmapStorage::open(root.path(), WriteMode::Mapped).expect("opens");
        let file = storage.open_segment("a.log", 1 << 20, true).expect("room");
        file.allocate(8192).expect("room");
        file.append(0, &[&[7; 5000]]).expect("allocated");
        let address = file.slice(4999..5000).as_ptr() as usize;
        let mut line = Line::new();
        let mapping = mapping_of(address, &mut line).expect("mapped");
        assert_eq!(mapping.position_of(address), 4999);
        assert!(mapping.path.ends_with("/a.log"), "{mapping:?}");
        assert_eq!(mapping_of(0, &mut Line::new()), None);
    }
}
