//! How much room the disk has left, and what follows from it (R12).
//!
//! Below the soft limit the log and the metrics say so, and old segments may go before their time
//! ([`pressure`](crate::pressure)). Below the hard limit produce is answered with a retriable error while fetch
//! and commits go on, because a log that runs into the last block can neither roll a segment nor write a checkpoint.
//! Retention runs all the while; when there is room again produce resumes by itself. Between two looks at the disk a
//! fast producer may go past the hard limit; the log itself holds it at half of that.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use log_core::log::DirHealth;
use log_core::storage::Storage;
use parking_lot::Mutex;

use crate::config::BrokerConfig;
use crate::metrics::Metrics;

/// The least that is kept free: two steps in which a log allocates blocks ahead.
const HARD_BYTES_MIN: u64 = 32 << 20;

/// The gate that produce passes.
pub struct Space {
    exhausted: AtomicBool,
    low: AtomicBool,
    /// What the last look found. Locked for a copy.
    seen: Mutex<Option<SpaceSeen>>,
    config: Arc<BrokerConfig>,
    metrics: Arc<Metrics>,
    health: Arc<DirHealth>,
}

/// The disk as the last look found it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceSeen {
    /// The size of the file system.
    pub total_bytes: u64,
    /// What is free of it.
    pub free_bytes: u64,
    /// Less free space than this raises an alarm.
    pub soft_limit_bytes: u64,
    /// With less free space than this produce is refused.
    pub hard_limit_bytes: u64,
}

impl Space {
    /// A gate that is open until the first [`check`](Space::check).
    pub fn new(config: Arc<BrokerConfig>, metrics: Arc<Metrics>, health: Arc<DirHealth>) -> Self {
        Space {
            exhausted: AtomicBool::new(false),
            low: AtomicBool::new(false),
            seen: Mutex::default(),
            config,
            metrics,
            health,
        }
    }

    /// Whether produce has to be refused.
    pub fn is_exhausted(&self) -> bool {
        // Relaxed: a hint, and nothing else is read because of it.
        self.exhausted.load(Ordering::Relaxed)
    }

    /// Whether there is less free space than the soft limit.
    pub fn is_low(&self) -> bool {
        // Relaxed: as above.
        self.low.load(Ordering::Relaxed)
    }

    /// What the last look at the disk found; `None` before the first.
    pub fn seen(&self) -> Option<SpaceSeen> {
        *self.seen.lock()
    }

    /// Shuts the gate if `error` says that the disk is full, until the next check finds room. False for other errors.
    pub fn note_failure(&self, error: &io::Error) -> bool {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if full {
            self.set(true, || error.to_string());
        }
        full
    }

    fn set(&self, exhausted: bool, why: impl FnOnce() -> String) {
        if self.exhausted.swap(exhausted, Ordering::Relaxed) == exhausted {
            return;
        }
        self.metrics.disk_full.set(i64::from(exhausted));
        let why = why();
        if exhausted {
            tracing::error!(why, "the disk is full: produce is refused until there is space again");
        } else {
            tracing::info!(why, "there is space again: produce resumes");
        }
    }

    /// Looks at the disk, `total_bytes` large, and opens or shuts the gate. Answers how many bytes are missing to the
    /// soft limit.
    ///
    /// # Errors
    /// The file system does not say; the gate stays as it is.
    pub fn check(&self, storage: &dyn Storage, total_bytes: u64) -> io::Result<u64> {
        let free = storage.free_bytes()?;
        self.metrics.disk_free_bytes.set(i64::try_from(free).unwrap_or(i64::MAX));
        let hard = match self.config.disk_free_hard_bytes {
            0 => (total_bytes / 20).max(HARD_BYTES_MIN),
            bytes => bytes,
        };
        self.health.set_reserve_bytes(hard / 2);
        let soft = match self.config.disk_free_soft_bytes {
            0 => hard.saturating_mul(2),
            bytes => bytes.max(hard),
        };
        *self.seen.lock() =
            Some(SpaceSeen { total_bytes, free_bytes: free, soft_limit_bytes: soft, hard_limit_bytes: hard });
        let exhausted = free < hard;
        self.set(exhausted, || format!("{free} bytes are free, the hard limit is {hard}"));
        let low = free < soft;
        if self.low.swap(low, Ordering::Relaxed) != low {
            self.metrics.disk_low.set(i64::from(low));
            match low {
                true => tracing::warn!(
                    free,
                    soft,
                    hard,
                    "the disk is filling up; produce stops at the hard limit"
                ),
                false => tracing::info!(free, soft, "the disk has enough room again"),
            }
        }
        Ok(soft.saturating_sub(free))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log_core::storage::{MmapStorage, WriteMode};

    #[test]
    fn the_gate_shuts_below_the_hard_limit_and_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let storage = MmapStorage::open(dir.path(), WriteMode::Mapped).unwrap();
        let config = |hard| Arc::new(BrokerConfig { disk_free_hard_bytes: hard, ..BrokerConfig::default() });
        let metrics = Arc::<Metrics>::default();
        let space = Space::new(config(u64::MAX), metrics.clone(), Arc::default());
        assert!(space.check(&storage, 0).unwrap() > 0);
        assert!(space.is_exhausted());
        assert_eq!((metrics.disk_full.get(), metrics.disk_low.get()), (1, 1));
        assert!(space.is_low());
        let space = Space::new(config(1), Arc::default(), Arc::default());
        assert!(space.note_failure(&io::Error::from(io::ErrorKind::StorageFull)));
        assert!(space.is_exhausted());
        space.check(&storage, 0).unwrap();
        assert!(!space.is_exhausted(), "there was room after all");
        assert!(!space.note_failure(&io::Error::from(io::ErrorKind::PermissionDenied)));
        assert!(!space.is_exhausted());
    }
}
