//! The log of one partition: the public face, owned by one writer.
//!
//! A [`PartitionLog`] is what its owner holds under a lock, for one append at a time and never across
//! a sync: what takes long is handed out as a value ([`Flush`], [`CheckpointWrite`]) that runs without
//! it. Everybody else reads through a [`LogReader`], which never waits for the owner.
//!
//! ```text
//! append ──► log end ──► begin_flush · run · complete_flush ──► high watermark
//!                                                        └────► checkpoint, indexes, snapshots
//! ```

use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::sync::{ArcSwap, ArcSwapOption};

use crate::storage::Storage;

use super::append::{Tail, is_exhaustion};
use super::checkpoint::LastBatch;
use super::compaction;
use super::config::LogConfig;
use super::error::{AppendError, OpenError};
use super::flush::Checkpointer;
use super::health::DirHealth;
use super::known_damage;
use super::losses;
use super::producer_state::{ProducerState, ProducerStates};
use super::read::{LogReader, Shared};
use super::recovery::{self, RecoveryReport, Settled};
use super::segment::{PartitionDir, Segment};
use super::watermarks::{Bounds, Published, Watermarks};

/// One partition's log, open for writing. See the module's documentation.
#[derive(Debug)]
pub struct PartitionLog {
    pub(super) dir: PartitionDir,
    pub(super) config: LogConfig,
    pub(super) health: Arc<DirHealth>,
    pub(super) shared: Arc<Shared>,
    /// The writer's copy of what is published.
    pub(super) bounds: Bounds,
    pub(super) tail: Tail,
    /// The last batch below the high watermark, if it is in the segment that holds that.
    pub(super) last_durable_batch: Option<LastBatch>,
    pub(super) producers: ProducerStates,
    /// How many aborted transactions end in each segment, by base offset; those without any are left out.
    pub(super) aborted: BTreeMap<i64, u32>,
    /// Segments that were rolled and that no completed flush has covered yet, oldest first.
    pub(super) unsynced: Vec<Arc<Segment>>,
    /// Sealed and synced segments whose indexes are not complete on disk yet.
    pub(super) unindexed: Vec<Arc<Segment>>,
    /// Segments out of the log whose files wait for their last reader.
    pub(super) retired: Vec<Arc<Segment>>,
    pub(super) checkpoints: Checkpoints,
    /// The offset from which on the log is not compacted yet, as far as is known.
    pub(super) first_dirty: i64,
}

/// What is known to be on disk about the log beside the log.
#[derive(Debug)]
pub(super) struct Checkpoints {
    pub(super) file: Arc<Checkpointer>,
    /// Rises with every checkpoint that is begun.
    pub(super) generation: u64,
    /// High watermark and log start of the last checkpoint that was begun.
    pub(super) last: (i64, i64),
    /// The offset of the newest producer snapshot.
    pub(super) last_snapshot: i64,
    /// Log bytes appended since.
    pub(super) bytes_since_snapshot: u64,
    /// Recovery has found damage below the checkpoint. The log takes no writes and the checkpoint stays as it
    /// is: it says what was durable. Damage that a reader finds later does not stop checkpoints: what was
    /// durable then and is not below one would be cut for a torn tail by the next start.
    pub(super) frozen: bool,
}

/// One segment as tools see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The offset of its first record.
    pub base_offset: i64,
    /// Bytes of batches in it.
    pub size_bytes: u64,
    /// Whether it is the one that is appended to.
    pub active: bool,
}

impl PartitionLog {
    /// Creates the log of a new partition in the directory `path` of `storage`, durable on return
    /// except for the name of the directory itself, which its parent's sync makes so.
    ///
    /// # Errors
    /// Of the disk. A directory that holds a log already is opened instead: a creation that a crash
    /// interrupted is finished by repeating it.
    pub fn create(
        storage: Arc<dyn Storage>,
        path: &str,
        health: Arc<DirHealth>,
        config: LogConfig,
    ) -> Result<PartitionLog, OpenError> {
        storage.create_dir_all(path).map_err(OpenError::at(path))?;
        PartitionLog::open(storage, path, health, config).map(|(log, _)| log)
    }

    /// Opens a partition's log: reads what lies past its last checkpoint, cuts a torn tail, and makes
    /// what it found durable. A directory without a log becomes an empty one.
    ///
    /// # Errors
    /// Of the disk. Damage is no error: what is torn is cut and reported, and a partition whose
    /// durable part is damaged is open for reading, see [`RecoveryReport::corruption`].
    pub fn open(
        storage: Arc<dyn Storage>,
        path: &str,
        health: Arc<DirHealth>,
        config: LogConfig,
    ) -> Result<(PartitionLog, RecoveryReport), OpenError> {
        PartitionLog::open_settled(storage, path, health, config, Settled::No)
    }

    /// As [`open`](PartitionLog::open), with what is known of the directory.
    pub(super) fn open_settled(
        storage: Arc<dyn Storage>,
        path: &str,
        health: Arc<DirHealth>,
        config: LogConfig,
        settled: Settled,
    ) -> Result<(PartitionLog, RecoveryReport), OpenError> {
        if let Some(reason) = health.reason() {
            return Err(OpenError::Offline { reason: reason.to_owned() });
        }
        let dir = PartitionDir { storage, path: path.into() };
        let first_dirty = compaction::first_dirty(&dir).map_err(OpenError::at(path))?;
        let recovered = recovery::recover(&dir, &config, &health, settled)?;
        let report = recovered.report;
        let bounds = recovered.bounds;
        let shared = Arc::new(Shared {
            dir: dir.clone(),
            published: Published::new(bounds),
            segments: ArcSwap::from_pointee(recovered.segments),
            epochs: ArcSwap::from_pointee(recovered.epochs),
            corruption: ArcSwapOption::empty(),
            lost_offsets: losses::lost_offsets(&dir).map_err(OpenError::at(path))?,
            has_aborted: AtomicBool::new(!recovered.aborted.is_empty()),
            compactions: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        });
        match &report.corruption {
            Some(corruption) => drop(shared.report(corruption.clone())),
            None => {
                let reader = LogReader::new(Arc::clone(&shared));
                known_damage::look_again(&dir, &reader).map_err(OpenError::at(path))?;
            }
        }
        let mut log = PartitionLog {
            tail: recovered.tail,
            dir,
            config,
            health,
            shared,
            bounds,
            last_durable_batch: recovered.last_batch,
            producers: recovered.producers,
            aborted: recovered.aborted,
            unsynced: Vec::new(),
            unindexed: recovered.unindexed,
            retired: Vec::new(),
            checkpoints: Checkpoints {
                file: Arc::new(Checkpointer::new(recovered.checkpoint_file)),
                generation: 0,
                last: recovered.checkpointed,
                last_snapshot: recovered.last_snapshot,
                bytes_since_snapshot: recovered.bytes_since_snapshot,
                frozen: report.corruption.is_some(),
            },
            first_dirty,
        };
        // What recovery has found durable must not be searched again, and must not count as torn if
        // it is damaged later.
        if report.corruption.is_none()
            && let Err(error) = log.write_checkpoint()
        {
            if !is_exhaustion(&error) {
                return Err(OpenError::at(path)(error));
            }
            // What is there can be served all the same. The next start reads again what this one has read.
            tracing::warn!(partition = path, %error, "no room for a checkpoint");
        }
        Ok((log, report))
    }

    /// A handle for reading. Cheap, and good for as long as anybody wants it.
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.shared))
    }

    /// The watermarks of this moment.
    pub fn watermarks(&self) -> Watermarks {
        self.bounds.watermarks
    }

    /// The settings that are acted on.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// Replaces the settings. They act from the next call on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.tail.rule.set_interval_bytes(config.index_interval_bytes);
        self.config = config;
    }

    /// Bytes of batches in all segments.
    pub fn size_bytes(&self) -> u64 {
        self.shared.segments.load().as_slice().iter().map(|segment| segment.size_bytes()).sum()
    }

    /// The producers that are remembered, by id.
    pub fn producers(&self) -> impl Iterator<Item = (i64, &ProducerState)> {
        self.producers.iter()
    }

    /// One producer, if it is remembered.
    pub fn producer(&self, producer_id: i64) -> Option<&ProducerState> {
        self.producers.get(producer_id)
    }

    /// The segments, oldest first.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let segments = self.shared.segments.load();
        let active = segments.active().base_offset();
        segments
            .as_slice()
            .iter()
            .map(|segment| SegmentInfo {
                base_offset: segment.base_offset(),
                size_bytes: segment.size_bytes(),
                active: segment.base_offset() == active,
            })
            .collect()
    }

    /// Makes everything appended durable and publishes it: the three steps of a flush in one, for
    /// callers that need not let go of the log in between.
    ///
    /// # Errors
    /// Of the disk; the log directory is offline then.
    pub fn flush(&mut self) -> io::Result<()> {
        if let Some(flush) = self.begin_flush() {
            flush.run()?;
            self.complete_flush(&flush);
        }
        Ok(())
    }

    /// Closes the log cleanly: all of it durable, with a checkpoint at its end, complete indexes and a
    /// producer snapshot, so that the next start has nothing to do. Readers get
    /// [`ReadError::Closed`](super::ReadError::Closed) from then on.
    ///
    /// # Errors
    /// Of the disk. The log is closed all the same, and the next start finds out what is there.
    pub fn close(&mut self) -> io::Result<()> {
        if self.is_closed() {
            return Ok(());
        }
        let closed = self.close_files();
        self.mark_closed();
        closed
    }

    fn close_files(&mut self) -> io::Result<()> {
        if self.checkpoints.frozen {
            return Ok(());
        }
        self.flush()?;
        if let Some(checkpoint) = self.begin_checkpoint_with_snapshot() {
            checkpoint.run()?;
        }
        // An empty segment that the log has rolled to: the next start takes every name for durable.
        let named = self.tail.segment.settle_name();
        named.inspect_err(|error| self.health.poison(format!("sync of {}: {error}", self.dir.path)))?;
        self.tail.trim()?;
        self.reap();
        Ok(())
    }

    /// Stops all use of the log without a word to the disk: the partition is being deleted. Waits for a
    /// checkpoint that is being written; afterwards nothing of the log touches its directory.
    pub fn mark_closed(&mut self) {
        self.checkpoints.file.retire();
        // Relaxed: see `LogReader::bounds`.
        self.shared.closed.store(true, Ordering::Relaxed);
    }

    /// Whether the log takes writes, and why it does not.
    pub(super) fn check_writable(&self) -> Result<(), AppendError> {
        if self.is_closed() {
            return Err(AppendError::Closed);
        }
        if let Some(reason) = self.health.reason() {
            return Err(AppendError::Offline { reason: reason.to_owned() });
        }
        match &*self.shared.corruption.load() {
            Some(corruption) => Err(AppendError::Corrupt(Arc::clone(corruption))),
            None => Ok(()),
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.shared.closed.load(Ordering::Relaxed)
    }

    /// Publishes new bounds to the readers.
    pub(super) fn publish(&mut self, bounds: Bounds) {
        self.bounds = bounds;
        self.shared.published.store(bounds);
    }
}
