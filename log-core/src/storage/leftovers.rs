//! What the writes of an earlier process have failed of, and nobody has been told.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Has the system report to `file` what could not be written of it so far, and write what has not been.
pub(super) fn settle_leftovers(file: &File) {
    let everything =
        libc::SYNC_FILE_RANGE_WAIT_BEFORE | libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    // The first error ends a call: what has failed before is one, what fails now another.
    for flags in [libc::SYNC_FILE_RANGE_WAIT_BEFORE, everything] {
        // SAFETY: a descriptor that is open, and no memory.
        if unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, flags) } != 0 {
            let error = io::Error::last_os_error();
            tracing::warn!(%error, "something that was written to a file before the start has not reached the disk");
        }
    }
}
