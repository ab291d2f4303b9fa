//! Opening and creating partitions by the thousand.
//!
//! One after another, each with its own syncs, takes seconds. What can be done for all at once is: a few
//! threads open the logs, and where the disk has a sync of everything, that one stands in for the syncs
//! of each partition's names and checkpoint.
//!
//! ```text
//! open    write every checkpoint's newer slot again ─► sync everything ─► open each, settled
//! create  make every directory, unsynced ─► sync everything ─► hand out the logs
//! ```
//! After a clean shutdown nothing is in doubt, and the first line needs neither of its first two steps.

use std::io;

use super::checkpoint::CheckpointFile;
use super::config::LogConfig;
use super::for_all::for_all;
use super::identity::PartitionIdentity;
use super::log_dir::{LogDir, LogDirError, TOPICS_DIR};
use super::partition_log::PartitionLog;
use super::recovery::{RecoveryReport, Settled};
use super::segment::CHECKPOINT_FILE;

/// A partition to be opened or created, with its settings.
pub type Wanted = (PartitionIdentity, LogConfig);

impl LogDir {
    /// Opens partitions that [`partitions`](LogDir::partitions) has found, in their order, as
    /// [`open_partition`](LogDir::open_partition) does each, on up to `threads` threads.
    ///
    /// # Errors
    /// Of the disk, for all of them; or for each by itself, see [`PartitionLog::open`].
    #[expect(clippy::type_complexity, reason = "what open_partition answers, as many times")]
    pub fn open_partitions(
        &self,
        wanted: &[Wanted],
        threads: usize,
    ) -> Result<Vec<Result<(PartitionLog, RecoveryReport), LogDirError>>, LogDirError> {
        // A broker that stopped cleanly has synced whatever it wrote. Its note is gone, durably, before
        // anything else is written, so it speaks of no later process.
        let clean = |(partition, _): &Wanted| self.clean_log_end(partition).is_some();
        let doubtful: Vec<&Wanted> = wanted.iter().filter(|wanted| !clean(wanted)).collect();
        let together = doubtful.len() > 1 && self.storage().can_sync_all();
        if together {
            self.storage().settle_leftovers();
            let rewritten = for_all(&doubtful, threads, |(partition, _)| {
                let path = format!("{}/{CHECKPOINT_FILE}", self.partition_path(partition));
                CheckpointFile::rewrite(&**self.storage(), &path)
            });
            let synced = rewritten.into_iter().collect::<io::Result<()>>();
            self.written(TOPICS_DIR, synced.and_then(|()| self.storage().sync_all()))?;
        }
        Ok(for_all(wanted, threads, |wanted| {
            let settled = if together || clean(wanted) { Settled::Yes } else { Settled::No };
            let (partition, config) = wanted;
            self.open_settled(partition, config.clone(), settled)
        }))
    }

    /// Creates partitions with empty logs, in their order, as
    /// [`create_partition`](LogDir::create_partition) does each. All are durable on return.
    ///
    /// # Errors
    /// As for one. Any of them may be there then, and what is there may be in part; creating it again or
    /// deleting it is what becomes of that.
    pub fn create_partitions(
        &self,
        wanted: &[Wanted],
        threads: usize,
    ) -> Result<Vec<PartitionLog>, LogDirError> {
        if wanted.len() < 2 || !self.storage().can_sync_all() {
            let created = for_all(wanted, threads, |(partition, config)| {
                self.create_partition(partition, config.clone())
            });
            return created.into_iter().collect();
        }
        let created = for_all(wanted, threads, |(partition, config)| {
            let path = self.make_partition_dir(partition)?;
            self.open_log(&path, config.clone(), Settled::Later).map(|(log, _)| log)
        });
        let created = created.into_iter().collect::<Result<Vec<_>, _>>()?;
        self.written(TOPICS_DIR, self.storage().sync_all())?;
        Ok(created)
    }
}
