//! Whether a log directory can still be written to.

use crate::sync::atomic::{AtomicU64, Ordering};
use std::fmt;
use std::sync::OnceLock;

/// Goes bad once and for ever.
///
/// A sync that fails says that some data did not reach the disk, and the next one may answer `Ok`
/// all the same (R4). So the first failure takes the directory offline: no append, no flush and no
/// checkpoint after it, in any partition. What had been durable can be read until the restart.
#[derive(Default)]
pub struct DirHealth {
    reason: OnceLock<String>,
    reserve_bytes: AtomicU64,
}

impl DirHealth {
    /// Sets how many free bytes of the disk are not for clients' records: committed offsets, checkpoints and indexes
    /// are still written when there is no more room for those (R12). 0, as at first, is no reserve.
    pub fn set_reserve_bytes(&self, bytes: u64) {
        // Relaxed: a limit, and nothing else is read because of it.
        self.reserve_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The free bytes that are not for clients' records.
    pub fn reserve_bytes(&self) -> u64 {
        self.reserve_bytes.load(Ordering::Relaxed)
    }

    /// Takes the directory offline. The first reason stays.
    pub fn poison(&self, reason: impl Into<String>) {
        let reason = reason.into();
        if self.reason.set(reason.clone()).is_ok() {
            tracing::error!(
                reason,
                "the log directory is offline: nothing more is written to it; check the disk, then restart"
            );
        }
    }

    /// Why the directory is offline, `None` while it is not.
    pub fn reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }

    /// Whether the directory is offline.
    pub fn is_offline(&self) -> bool {
        self.reason.get().is_some()
    }
}

impl fmt::Debug for DirHealth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_offline() { "DirHealth(offline)" } else { "DirHealth(online)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays() {
        let health = DirHealth::default();
        assert!(!health.is_offline());
        health.poison("sync of a.log: input/output error");
        health.poison("sync of b.log: input/output error");
        assert_eq!(health.reason(), Some("sync of a.log: input/output error"));
    }
}
