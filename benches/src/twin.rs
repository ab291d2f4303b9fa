//! The bare-hardware twins: the same bytes over the same socket and into the same kind of file, with no broker between.
//!
//! A ratio against a twin that ran a moment ago in the same process holds on any machine; an absolute figure does not.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use memmap2::{MmapMut, MmapOptions};
use rustix::fs::{FallocateFlags, fallocate};

/// What a receiver asks of the kernel at a time, here and in the client beside the broker.
pub const RECEIVE_BYTES: usize = 256 << 10;

/// A file of `len` bytes with real blocks, mapped for writing: what a segment is to the operating system.
pub fn allocated_map(dir: &Path, len: usize) -> io::Result<(File, MmapMut)> {
    let file = tempfile::tempfile_in(dir)?;
    fallocate(&file, FallocateFlags::empty(), 0, len as u64)?;
    // SAFETY: the file is anonymous, so nobody else can shorten or write it while it is mapped.
    let map = unsafe { MmapOptions::new().len(len).map_mut(&file)? };
    Ok((file, map))
}

/// How a twin's bytes get from its buffer into its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// Copied into a map of the file.
    Map,
    /// Written by `pwrite`.
    Call,
    /// The same, and synced by another thread every [`SYNC_INTERVAL`], as a broker does whose consumers wait for what is
    /// on disk.
    SyncedCall,
}

/// The time between two syncs: the broker's default linger.
pub const SYNC_INTERVAL: Duration = Duration::from_millis(5);

/// Receives `total` bytes over loopback, `block` bytes a read, and puts them into a fresh file. The floor of a produce.
pub fn socket_to_file(dir: &Path, total: usize, block: usize, store: Store) -> io::Result<Duration> {
    let (file, mut map) = allocated_map(dir, total)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let syncing = (store == Store::SyncedCall).then(|| sync_regularly(&file)).transpose()?;
    let started = Instant::now();
    let sending = std::thread::spawn(move || -> io::Result<()> {
        let bytes = vec![0x5a_u8; block];
        let mut left = total;
        while left > 0 {
            let n = left.min(block);
            sender.write_all(&bytes[..n])?;
            left -= n;
        }
        Ok(())
    });
    let mut buffer = vec![0_u8; block];
    let mut at = 0;
    while at < total {
        let n = receiver.read(&mut buffer)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match store {
            Store::Map => map[at..at + n].copy_from_slice(&buffer[..n]),
            Store::Call | Store::SyncedCall => file.write_all_at(&buffer[..n], at as u64)?,
        }
        at += n;
    }
    let took = started.elapsed();
    sending.join().expect("the sender does not panic")?;
    if let Some((stop, syncing)) = syncing {
        drop(stop);
        syncing.join().expect("syncing does not panic")?;
    }
    drop((map, file));
    Ok(took)
}

/// Syncs the file every [`SYNC_INTERVAL`] until the sender is dropped.
fn sync_regularly(file: &File) -> io::Result<(Sender<()>, JoinHandle<io::Result<()>>)> {
    let file = file.try_clone()?;
    let (stop, stopped) = std::sync::mpsc::channel();
    let syncing = std::thread::spawn(move || {
        while stopped.recv_timeout(SYNC_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            file.sync_data()?;
        }
        Ok(())
    });
    Ok((stop, syncing))
}

/// Answers each block of `block` bytes with one byte once it is in the file and synced: what a producer with one request
/// in flight has to wait for at least. Returns the client's end.
pub fn echo_when_synced(dir: &Path, total: usize, block: usize) -> io::Result<TcpStream> {
    let (file, mut map) = allocated_map(dir, total)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let client = TcpStream::connect(listener.local_addr()?)?;
    client.set_nodelay(true)?;
    let (mut server, _) = listener.accept()?;
    server.set_nodelay(true)?;
    // Ends when the client goes.
    std::thread::spawn(move || -> io::Result<()> {
        for at in (0..total).step_by(block) {
            server.read_exact(&mut map[at..at + block])?;
            file.sync_data()?;
            server.write_all(&[1])?;
        }
        Ok(())
    });
    Ok(client)
}

/// Sends `total` bytes from a map that is in memory over loopback, `block` bytes a write. The floor of a hot fetch.
pub fn map_to_socket(dir: &Path, total: usize, block: usize) -> io::Result<Duration> {
    let (file, mut map) = allocated_map(dir, total)?;
    map.fill(0x5a);
    // What a broker serves has been synced; writing it back must not run beside the clock.
    file.sync_data()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut receiver = TcpStream::connect(listener.local_addr()?)?;
    let (mut sender, _) = listener.accept()?;
    let started = Instant::now();
    let sending = std::thread::spawn(move || -> io::Result<()> {
        map.chunks(block).try_for_each(|chunk| sender.write_all(chunk))
    });
    let mut buffer = vec![0_u8; RECEIVE_BYTES];
    let mut left = total;
    while left > 0 {
        match receiver.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => left -= n,
        }
    }
    let took = started.elapsed();
    sending.join().expect("the sender does not panic")?;
    Ok(took)
}
