//! Opening a partition: what is there, how far it is sound, and what becomes of the rest.
//!
//! The checkpoint divides the log. Below it lies what was durable, and most likely shown or
//! acknowledged: nothing there is ever cut. It is not read either, except for the headers after the
//! last saved index entry and the last batch; what else may be damaged shows when it is read. Above
//! the checkpoint lies what was written since, in an order that only the disk knows: batches are
//! checked one by one, and the first that does not check is where the log ends. What is behind it is
//! a torn tail: copied to `quarantine/`, cut, counted (R9).
//!
//! ```text
//!             checkpoint                 end of the last allocation
//!   ──────────────┼──────────────┼───────────────┤
//!   durable:      │ checked:     │ zeros: the ordinary end
//!   damage here   │ sound ones   │ anything else: torn, quarantined
//!   is corruption │ are kept     │
//! ```
//!
//! What is kept has been read from the page cache and may not be on disk, so it is written again and
//! synced before the high watermark is set to its end.

mod segment;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crate::record::RecordBatch;
use crate::storage::TEMPORARY_SUFFIX;

use super::aborted_index::ABORTED_SUFFIX;
use super::append::{Tail, reserve_bytes};
use super::checkpoint::{Checkpoint, CheckpointFile, LastBatch};
use super::compaction::swap::{self, CLEANED_SUFFIX};
use super::config::LogConfig;
use super::error::{Corruption, OpenError};
use super::flush::SNAPSHOT_INTERVAL_BYTES;
use super::health::DirHealth;
use super::leader_epoch::LeaderEpochs;
use super::producer_state::ProducerStates;
use super::replay::{for_each_header, replay};
use super::segment::{
    CHECKPOINT_FILE, DELETED_SUFFIX, LEADER_EPOCHS_FILE, LOG_SUFFIX, OFFSET_INDEX_SUFFIX, PartitionDir,
    Segment, TIME_INDEX_SUFFIX,
};
use super::segments::Segments;
use super::watermarks::{Bounds, LogPosition, Watermarks};

/// What a start found in one partition's directory and did about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments in the log.
    pub segments: usize,
    /// Bytes past the checkpoint that were read and checked.
    pub scanned_bytes: u64,
    /// Sound batches among them.
    pub scanned_batches: u64,
    /// Bytes of a torn tail that were cut, zeros not counted.
    pub truncated_bytes: u64,
    /// Where they were copied to, relative to the data directory.
    pub quarantined: Vec<String>,
    /// Batches that were read again for the idempotent producers' sake.
    pub replayed_batches: u64,
    /// The first damage that was found below the checkpoint. The partition is read-only then.
    pub corruption: Option<Corruption>,
}

/// A log as recovery leaves it, in parts.
pub(super) struct Recovered {
    pub(super) segments: Segments,
    pub(super) tail: Tail,
    pub(super) bounds: Bounds,
    pub(super) last_batch: Option<LastBatch>,
    pub(super) epochs: LeaderEpochs,
    pub(super) producers: ProducerStates,
    /// How many aborted transactions end in each segment, by base offset.
    pub(super) aborted: BTreeMap<i64, u32>,
    pub(super) last_snapshot: i64,
    pub(super) bytes_since_snapshot: u64,
    pub(super) unindexed: Vec<Arc<Segment>>,
    pub(super) checkpoint_file: CheckpointFile,
    /// High watermark and log start that the checkpoint file says.
    pub(super) checkpointed: (i64, i64),
    pub(super) report: RecoveryReport,
}

/// What is known, before a log is opened, of the names in its directory and of its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// Nothing. The last process may have left them in the page cache and nowhere else, so they are
    /// synced before they are acted on.
    No,
    /// They are on disk: the last process stopped cleanly, or they have been synced since.
    Yes,
    /// The log is a new one in a directory that is synced as a whole before anybody hears of it.
    Later,
}

/// Opens the log in `dir`, or makes an empty one.
pub(super) fn recover(
    dir: &PartitionDir,
    config: &LogConfig,
    health: &DirHealth,
    settled: Settled,
) -> Result<Recovered, OpenError> {
    recover_files(dir, config, health, settled).map_err(OpenError::at(&*dir.path))
}

fn recover_files(
    dir: &PartitionDir,
    config: &LogConfig,
    health: &DirHealth,
    settled: Settled,
) -> io::Result<Recovered> {
    let storage = &*dir.storage;
    let checkpoint_path = dir.file(CHECKPOINT_FILE);
    let opened = match settled {
        Settled::Yes => CheckpointFile::open_settled(storage, &checkpoint_path),
        Settled::No | Settled::Later => CheckpointFile::open(storage, &checkpoint_path),
    };
    let (checkpoint_file, checkpoint) = match opened {
        Ok((file, checkpoint)) => (Some(file), checkpoint),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (None, None),
        Err(error) => {
            poison_unless_exhausted(dir, health, &error);
            return Err(error);
        }
    };
    // The checkpoint's own segment stays even if the log start has passed it: it tells how the next
    // one goes on.
    let keep_from = checkpoint.map_or(0, |checkpoint| checkpoint.log_start.min(checkpoint.segment));
    swap::finish_pending(dir).inspect_err(|error| poison_unless_exhausted(dir, health, error))?;
    let mut bases = tidy(dir, keep_from)?;

    if settled == Settled::No {
        // A segment that the last process created may have a name that it did not live to sync, and what is
        // appended to it hangs on that.
        storage.sync_dir(&dir.path).inspect_err(|error| poison_unless_exhausted(dir, health, error))?;
    }

    let mut walk = Walk::new(dir, config, health, settled, checkpoint, &bases)?;
    if bases.is_empty() {
        walk.create_first()?;
    }
    let scanned = bases.split_off(bases.partition_point(|&base| base < walk.durable.segment));
    walk.keep_closed(&bases)?;
    walk.check_presence(&bases, &scanned);
    if scanned.is_empty() {
        // The segment that the durable end lies in is gone. The one before it becomes the end.
        if let Some(last) = walk.reopen_last()? {
            walk.scan(&[last])?;
        }
    } else {
        walk.scan(&scanned)?;
    }
    walk.finish(checkpoint_file, &checkpoint_path)
}

/// Removes what an interrupted deletion, compaction or a crash left behind, segments that end at or before
/// `keep_from` included, and answers with the base offsets of the segments that stay.
///
/// The checkpoint that `keep_from` is of is on disk by then, so the log start outlives what lies before
/// it (R15).
fn tidy(dir: &PartitionDir, keep_from: i64) -> io::Result<Vec<i64>> {
    let storage = &*dir.storage;
    let mut bases: Vec<i64> = Vec::new();
    let names = storage.list_dir(&dir.path)?;
    for name in &names {
        if [DELETED_SUFFIX, TEMPORARY_SUFFIX, CLEANED_SUFFIX].iter().any(|suffix| name.ends_with(suffix)) {
            storage.remove_file(&dir.file(name))?;
        } else if let Some(base) = name.strip_suffix(LOG_SUFFIX).and_then(|base| base.parse().ok()) {
            bases.push(base);
        }
    }
    bases.sort_unstable();
    let before = bases.partition_point(|&base| base <= keep_from).saturating_sub(1);
    for base in bases.drain(..before) {
        storage.remove_file(&dir.segment_file(base, LOG_SUFFIX))?;
    }
    for name in &names {
        let companions = [OFFSET_INDEX_SUFFIX, TIME_INDEX_SUFFIX, ABORTED_SUFFIX];
        let index = companions.iter().find_map(|suffix| name.strip_suffix(suffix));
        if let Some(base) = index.and_then(|base| base.parse().ok())
            && bases.binary_search(&base).is_err()
        {
            storage.remove_file(&dir.file(name))?;
        }
    }
    Ok(bases)
}

/// The way through the segments from the oldest to the newest.
struct Walk<'a> {
    dir: &'a PartitionDir,
    config: &'a LogConfig,
    health: &'a DirHealth,
    settled: Settled,
    /// Where the durable part ends as far as is known.
    durable: Checkpoint,
    /// Whether there was a checkpoint to read.
    checkpointed: bool,
    /// There was no checkpoint to read, so only the last segment can have a torn tail.
    unknown: bool,
    segments: Vec<Arc<Segment>>,
    unindexed: Vec<Arc<Segment>>,
    /// The newest segment that has been walked.
    newest: Option<Tail>,
    end: LogPosition,
    next_offset: i64,
    epochs: LeaderEpochs,
    epochs_damaged: bool,
    report: RecoveryReport,
}

/// The last batch that a walk over a segment has come by.
#[derive(Clone, Copy, Default)]
struct Seen {
    last: Option<(LastBatch, i64)>,
    batches: u64,
}

impl Seen {
    fn visit(&mut self, position: u64, batch: &RecordBatch<'_>) {
        self.batches += 1;
        self.last = Some((LastBatch { position, crc: batch.crc() }, batch.base_offset()));
    }
}

impl<'a> Walk<'a> {
    fn new(
        dir: &'a PartitionDir,
        config: &'a LogConfig,
        health: &'a DirHealth,
        settled: Settled,
        checkpoint: Option<Checkpoint>,
        bases: &[i64],
    ) -> io::Result<Walk<'a>> {
        let first = bases.first().copied().unwrap_or(0);
        let nothing = Checkpoint {
            log_start: first,
            durable_end: first,
            segment: first,
            position: 0,
            last_batch: None,
        };
        let path = dir.file(LEADER_EPOCHS_FILE);
        let (epochs, epochs_damaged) = match LeaderEpochs::load(&*dir.storage, &path) {
            Ok(epochs) => (epochs, false),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => (LeaderEpochs::default(), true),
            Err(error) => return Err(error),
        };
        let durable = checkpoint.unwrap_or(nothing);
        Ok(Walk {
            dir,
            config,
            health,
            settled,
            durable,
            checkpointed: checkpoint.is_some(),
            unknown: checkpoint.is_none() && bases.len() > 1,
            segments: Vec::new(),
            unindexed: Vec::new(),
            newest: None,
            end: LogPosition { segment: first, position: 0 },
            next_offset: first,
            epochs,
            epochs_damaged,
            report: RecoveryReport::default(),
        })
    }

    /// Makes the first segment of a log that has none.
    fn create_first(&mut self) -> io::Result<()> {
        let base = self.durable.durable_end;
        if self.durable.durable_end > self.durable.log_start {
            self.corrupt_at(base, 0, self.durable.log_start, "all segments are missing".to_owned());
        }
        let reserved = reserve_bytes(self.config.segment_bytes_effective());
        let interval = self.config.index_interval_bytes;
        // Without blocks: a partition that nobody writes to costs no space. The first append brings them.
        let segment = Segment::create(self.dir, base, reserved, 0, interval)
            .inspect_err(|error| self.poison_unless_exhausted(error))?;
        self.newest = Some(Tail::of_new(Arc::clone(&segment), interval, reserved));
        self.segments.push(segment);
        self.end = LogPosition { segment: base, position: 0 };
        self.next_offset = base;
        Ok(())
    }

    /// Takes the segments below the checkpoint's as they are, unopened.
    fn keep_closed(&mut self, bases: &[i64]) -> io::Result<()> {
        for &base in bases {
            let len = self.dir.storage.file_len(&self.dir.segment_file(base, LOG_SUFFIX))?;
            let interval = self.config.index_interval_bytes;
            self.segments.push(Segment::closed(self.dir, base, interval, len));
        }
        Ok(())
    }

    /// Notices that the checkpoint's own segment, or the one that holds the log start, is missing.
    fn check_presence(&mut self, closed: &[i64], scanned: &[i64]) {
        let Some(&first) = closed.first().or(scanned.first()) else { return };
        let durable = self.durable;
        if scanned.first() != Some(&durable.segment) {
            self.corrupt_at(durable.segment, 0, durable.segment, "the segment is missing".to_owned());
        } else if first > durable.log_start {
            self.corrupt_at(durable.log_start, 0, durable.log_start, "the segment is missing".to_owned());
        }
    }

    /// Takes back the newest of the closed segments.
    fn reopen_last(&mut self) -> io::Result<Option<i64>> {
        Ok(self.segments.pop().map(|segment| segment.base_offset()))
    }

    /// Walks the segments from the checkpoint's on.
    fn scan(&mut self, bases: &[i64]) -> io::Result<()> {
        for (index, &base) in bases.iter().enumerate() {
            let following = bases.get(index + 1).copied();
            let torn = self.scan_segment(base, following)?;
            if torn {
                return self.quarantine_segments(&bases[index + 1..]);
            }
        }
        Ok(())
    }

    /// Puts the log together, and reads again what the producers' state needs.
    fn finish(mut self, checkpoint_file: Option<CheckpointFile>, path: &str) -> io::Result<Recovered> {
        let tail = self.newest.take().expect("a log has an active segment, by creation or by scan");
        let segments = Segments::new(std::mem::take(&mut self.segments));
        // With damage the log may end before what is known to have been durable, and goes on past it.
        let log_end = self.next_offset.max(self.durable.durable_end);
        let log_start = self.durable.log_start;
        self.finish_epochs(&segments, log_start, log_end)?;
        let mut replayed = replay(self.dir, &segments, self.end, log_end)
            .inspect_err(|error| self.poison_unless_exhausted(error))?;
        self.report.replayed_batches = replayed.batches;
        if let Some(damage) = replayed.damage {
            self.corrupt(damage);
        }
        // All of it is durable, the ends of transactions too.
        let last_stable = replayed.producers.last_stable(log_end).max(log_start);
        let bounds = Bounds {
            watermarks: Watermarks::new(log_start, last_stable, log_end, log_end),
            high_watermark: self.end,
            log_end: self.end,
        };

        let last_batch = tail.last_batch;
        let (checkpoint_file, checkpointed) = match checkpoint_file {
            Some(file) if self.checkpointed => (file, (self.durable.durable_end, self.durable.log_start)),
            // A damaged one: whatever there is to note is news.
            Some(file) => (file, (-1, -1)),
            None => {
                let first = super::flush::checkpoint_of(&bounds, last_batch);
                let file = match self.settled {
                    Settled::Later => CheckpointFile::create_unsynced(&*self.dir.storage, path, &first),
                    Settled::No | Settled::Yes => CheckpointFile::create(&*self.dir.storage, path, &first),
                };
                let file = file.inspect_err(|error| self.poison_unless_exhausted(error))?;
                // The directory has been synced with the file's name, or is before anybody hears of the log.
                tail.segment.note_named();
                (file, (log_end, log_start))
            }
        };
        self.report.segments = segments.as_slice().len();
        if self.report.scanned_bytes > 0 || self.report.truncated_bytes > 0 {
            tracing::info!(
                partition = &*self.dir.path,
                scanned_bytes = self.report.scanned_bytes,
                truncated_bytes = self.report.truncated_bytes,
                log_start,
                log_end,
                "recovered what was written past the checkpoint"
            );
        }
        Ok(Recovered {
            segments,
            tail,
            bounds,
            last_batch,
            epochs: self.epochs,
            producers: replayed.producers,
            aborted: replayed.aborted,
            last_snapshot: replayed.snapshot,
            // What has been made anew is to be on disk soon.
            bytes_since_snapshot: if replayed.remade { SNAPSHOT_INTERVAL_BYTES } else { 0 },
            unindexed: self.unindexed,
            checkpoint_file,
            checkpointed,
            report: self.report,
        })
    }

    fn finish_epochs(&mut self, segments: &Segments, log_start: i64, log_end: i64) -> io::Result<()> {
        let mut changed = self.epochs_damaged;
        if self.epochs_damaged {
            tracing::warn!(
                partition = &*self.dir.path,
                "leader epochs are damaged and made anew from the log"
            );
            let mut epochs = LeaderEpochs::default();
            for_each_header(segments, log_start, self.end, &mut |_, found| {
                if let Ok((_, batch)) = found {
                    epochs.begin(batch.partition_leader_epoch(), batch.base_offset());
                }
                Ok(())
            })?;
            self.epochs = epochs;
        }
        changed |= self.epochs.truncate_end(log_end);
        changed |= self.epochs.truncate_start(log_start);
        if changed && self.report.corruption.is_none() {
            self.epochs
                .save(&*self.dir.storage, &self.dir.file(LEADER_EPOCHS_FILE))
                .inspect_err(|error| self.poison_unless_exhausted(error))?;
        }
        Ok(())
    }

    /// Notes damage below the checkpoint; the first of it counts.
    fn corrupt_at(&mut self, base: i64, position: u64, offset: i64, reason: String) {
        let file = self.dir.segment_file(base, LOG_SUFFIX);
        self.corrupt(Corruption { file, position, offset, reason });
    }

    fn corrupt(&mut self, corruption: Corruption) {
        tracing::error!(%corruption, "durable data is damaged; nothing is cut");
        self.report.corruption.get_or_insert(corruption);
    }

    fn poison_unless_exhausted(&self, error: &io::Error) {
        poison_unless_exhausted(self.dir, self.health, error);
    }
}

/// A write that failed for anything but room may have been a sync.
fn poison_unless_exhausted(dir: &PartitionDir, health: &DirHealth, error: &io::Error) {
    if !super::append::is_exhaustion(error) {
        health.poison(format!("{}: {error}", dir.path));
    }
}
