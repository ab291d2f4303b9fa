//! `syncfs`: one sync for everything that lies on the data directory's file system.
//!
//! The kernel reports what could not be written to each descriptor once, from the moment on at which
//! the descriptor was opened (Linux 5.8). So there is one, opened before anything is written, and an
//! error of it is never forgotten.

use std::fs::File;
use std::io;
use std::path::Path;

use parking_lot::Mutex;
use rustix::fs::{fstatfs, syncfs};

use super::kernel;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct WholeSync {
    root: File,
    trusted: bool,
    /// Whether one has failed. Held while one runs: of two at a time the kernel would tell only one that
    /// something is lost, and the other would pass for good.
    failed: Mutex<bool>,
}

/// Magic numbers of the file systems whose `syncfs` reaches the disk (`man 2 statfs`). FUSE, for one,
/// answers that all is well and asks nobody.
const SYNCED_AS_A_WHOLE: [u64; 5] = [
    0xef53,      /* ext4 */
    0x5846_5342, /* XFS */
    0x9123_683e, /* Btrfs */
    0xf2f5_2010, /* F2FS */
    0x0102_1994, /* tmpfs */
];

impl WholeSync {
    /// For the file system of `root`, before anything in it is written.
    pub(super) fn of(root: &Path) -> io::Result<WholeSync> {
        let root = File::open(root)?;
        let kind = fstatfs(&root)?.f_type as u64;
        // The first whose `syncfs` answers with an error when something was not written.
        let trusted = SYNCED_AS_A_WHOLE.contains(&kind) && kernel::is_at_least(5, 8);
        Ok(WholeSync { root, trusted, failed: Mutex::new(false) })
    }

    /// Whether [`sync`](WholeSync::sync) does what it says here.
    pub(super) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Syncs what others have written, and takes note of what has failed of that, so that
    /// [`sync`](WholeSync::sync) speaks of what comes after this: an error that nobody has been told of is
    /// the next descriptor's, whoever it was that wrote.
    pub(super) fn settle_leftovers(&self) {
        if self.trusted && syncfs(&self.root).is_err() {
            tracing::warn!(
                "something that was written to this file system before the start has not reached the disk"
            );
        }
    }

    /// Syncs it, and fails for good once it has failed.
    pub(super) fn sync(&self) -> io::Result<()> {
        let mut failed = self.failed.lock();
        if *failed {
            return Err(io::Error::other("a sync of the whole file system has failed before"));
        }
        syncfs(&self.root).map_err(|errno| {
            *failed = true;
            errno.into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_can_be_synced_as_a_whole() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let whole = WholeSync::of(dir.path()).expect("it opens");
        whole.sync().expect("a healthy disk");
    }
}
