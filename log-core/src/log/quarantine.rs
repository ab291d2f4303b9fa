//! Keeping what recovery cuts: a torn tail may be the only trace of how a disk or a bug behaves, or
//! of records that somebody would rather have than not.

use std::io;

use crate::storage::{RandomFile, ReadAt, Storage};

use super::scan::read_exact_at;

/// The directory, beside the partitions'.
pub(crate) const QUARANTINE_DIR: &str = "quarantine";

/// Bytes copied at a time.
const COPY_BYTES: u64 = 1 << 20;

/// Copies `[from, to)` of the segment that bears the name `origin` into a new file of the quarantine, durable on return, and answers
/// with its path.
///
/// # Errors
/// Of the disk, a full one included: what cannot be kept must not be cut.
pub(super) fn keep(
    storage: &dyn Storage,
    file: &dyn ReadAt,
    origin: &str,
    from: u64,
    to: u64,
) -> io::Result<String> {
    if !storage.exists(QUARANTINE_DIR)? {
        storage.create_dir_all(QUARANTINE_DIR)?;
        storage.sync_dir("")?;
    }
    let path = free_name(storage, origin, from)?;
    let copy = storage.open_random(&path, true)?;
    let copied = copy_range(file, from, to, &*copy).and_then(|()| storage.sync_dir(QUARANTINE_DIR));
    match copied {
        Ok(()) => Ok(path),
        Err(error) => {
            // Best effort: the error that matters is the one above.
            let _ = storage.remove_file(&path);
            Err(error)
        }
    }
}

fn copy_range(file: &dyn ReadAt, from: u64, to: u64, copy: &dyn RandomFile) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES.min(to - from) as usize];
    let mut at = from;
    while at < to {
        let chunk = &mut buffer[..COPY_BYTES.min(to - at) as usize];
        read_exact_at(file, at, chunk)?;
        copy.write_at(at - from, chunk)?;
        at += chunk.len() as u64;
    }
    copy.sync()
}

/// `topics/orders-0/00000000000000000000.log` from byte 512 on becomes
/// `quarantine/topics.orders-0.00000000000000000000.log.512`, with a number behind it if that is
/// taken.
fn free_name(storage: &dyn Storage, path: &str, from: u64) -> io::Result<String> {
    let name = format!("{QUARANTINE_DIR}/{}.{from}", path.replace('/', "."));
    let mut candidate = name.clone();
    let mut count = 1;
    while storage.exists(&candidate)? {
        candidate = format!("{name}-{count}");
        count += 1;
    }
    Ok(candidate)
}
