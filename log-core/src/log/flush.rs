//! Making the log durable, and noting how far it is: the work is taken along as a value and done
//! without the owner's lock.
//!
//! The order is that of R7: data synced, high watermark published, checkpoint durable, indexes. An
//! index entry or a producer snapshot may be newer than the checkpoint on disk, never the other way
//! round in what it lets recovery conclude: entries past the checkpoint are ignored, and a snapshot
//! past the log's end is removed.

use crate::sync::atomic::{AtomicBool, Ordering};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::sync::Mutex;

use crate::storage::Storage;

use super::aborted_index::AbortedIndex;
use super::append::is_exhaustion;
use super::checkpoint::{Checkpoint, CheckpointFile, LastBatch};
use super::health::DirHealth;
use super::partition_log::PartitionLog;
use super::producer_snapshot::{self, ProducerSnapshot};
use super::segment::{PartitionDir, Segment};
use super::watermarks::{Bounds, LogPosition, Watermarks};

/// Log bytes after which a producer snapshot is due, so that a start has no more than these to read
/// for the producers' sake.
pub(super) const SNAPSHOT_INTERVAL_BYTES: u64 = 64 << 20;

/// Bytes of a segment below which its first reader is left to take the faults: there are few.
const MAP_IN_BYTES_MIN: u64 = 128 << 10;

/// What one flush makes durable: everything appended before it began.
#[derive(Debug)]
pub struct Flush {
    /// The segments to sync, those rolled since the last flush and the active one, and which of their bytes are new.
    segments: Vec<(Arc<Segment>, Range<u64>)>,
    /// Where the high watermark was when it began.
    start_offset: i64,
    end_offset: i64,
    end: LogPosition,
    last_batch: Option<LastBatch>,
    health: Arc<DirHealth>,
    synced: AtomicBool,
}

impl Flush {
    /// Syncs the files. To be called without the partition's lock, on a thread that may block.
    ///
    /// # Errors
    /// If a sync fails, or one has failed before in this directory: it is offline then, and nothing
    /// that was not durable becomes so by trying again.
    pub fn run(&self) -> io::Result<()> {
        for (segment, _) in &self.segments {
            online(&self.health)?;
            let file = &segment.loaded().file;
            file.sync()
                .and_then(|()| segment.settle_name())
                .inspect_err(|error| self.health.poison(format!("sync of {}: {error}", file.path())))?;
        }
        self.finish();
        Ok(())
    }

    /// Does what [`run`](Flush::run) does for each of `flushes`, by one sync of the disk that all of them are of.
    ///
    /// # Errors
    /// As those of `run`; then none of them has become durable.
    pub fn run_together(flushes: &[Flush], storage: &dyn Storage) -> io::Result<()> {
        let Some(first) = flushes.first() else { return Ok(()) };
        sync_everything(&first.health, storage)?;
        flushes.iter().for_each(Flush::finish);
        Ok(())
    }

    /// Notes that the segments are synced.
    fn finish(&self) {
        for (segment, _) in &self.segments {
            segment.note_named();
            // Blocks ahead of a sealed end are given back as soon as that is certain. Recovery knows
            // to take what follows the end for zeros, so it need not be durable.
            if segment.sealed_end().is_some()
                && let Err(error) = segment.loaded().file.trim()
            {
                tracing::warn!(file = segment.loaded().file.path(), %error, "cannot give back blocks");
            }
        }
        // Release: pairs with the acquire in `complete_flush`, which may run on another thread.
        self.synced.store(true, Ordering::Release);
    }

    /// The offset that the high watermark will have after it.
    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    /// Offsets that it makes durable.
    pub fn records(&self) -> u64 {
        self.end_offset.saturating_sub(self.start_offset).max(0) as u64
    }

    /// Bytes of batches that it makes durable.
    pub fn bytes(&self) -> u64 {
        self.segments.iter().map(|(_, bytes)| bytes.end - bytes.start).sum()
    }

    /// Puts what it has made durable into the page table, for the first reader, who would take a fault for every few
    /// pages. After the sync and not before: a page that is in the page table is dearer to write back.
    pub fn map_in(&self) {
        for (segment, bytes) in &self.segments {
            if bytes.end - bytes.start >= MAP_IN_BYTES_MIN {
                segment.loaded().file.map_in(bytes.clone());
            }
        }
    }
}

/// A checkpoint to be written, and what is to be written with it.
#[derive(Debug)]
pub struct CheckpointWrite {
    dir: PartitionDir,
    health: Arc<DirHealth>,
    file: Arc<Checkpointer>,
    generation: u64,
    checkpoint: Checkpoint,
    /// The segment that the checkpoint speaks of, if its name may not be durable yet.
    unnamed: Option<Arc<Segment>>,
    /// Segments and the position up to which their index entries may be saved.
    indexes: Vec<(Arc<Segment>, u64)>,
    /// The aborted transactions that the snapshot counts on.
    aborted: Vec<Arc<AbortedIndex>>,
    /// The producers' state and the offset it belongs to.
    snapshot: Option<(i64, Vec<u8>)>,
}

/// The checkpoint file, and the order in which checkpoints may be written to it.
#[derive(Debug)]
pub(super) struct Checkpointer {
    file: CheckpointFile,
    /// The generation of the newest checkpoint written. Guards the order: one that was begun earlier
    /// and comes later must not take a newer one's place, and a log start with it.
    newest: Mutex<u64>,
    /// Whether the log has been closed. Held while a checkpoint and what comes with it are written: what
    /// a closed log leaves its directory for may be the same path in another topic of its name.
    retired: Mutex<bool>,
}

impl Checkpointer {
    pub(super) fn new(file: CheckpointFile) -> Checkpointer {
        Checkpointer { file, newest: Mutex::new(0), retired: Mutex::new(false) }
    }

    /// Waits for the checkpoint that is being written, and has none written from then on.
    pub(super) fn retire(&self) {
        *self.retired.lock() = true;
    }

    fn write(&self, generation: u64, checkpoint: &Checkpoint) -> io::Result<()> {
        let mut newest = self.newest.lock();
        if generation <= *newest {
            // The newer one stands for this one, once it is on disk.
            return self.file.sync_newest();
        }
        self.file.write(checkpoint)?;
        *newest = generation;
        Ok(())
    }

    /// The same without the sync, which has to follow before [`settle`](CheckpointFile::settle). `None` if a newer
    /// one is there.
    fn write_unsynced(&self, generation: u64, checkpoint: &Checkpoint) -> io::Result<Option<u64>> {
        let mut newest = self.newest.lock();
        if generation <= *newest {
            return Ok(None);
        }
        let sequence = self.file.write_unsynced(checkpoint)?;
        *newest = generation;
        Ok(Some(sequence))
    }
}

impl CheckpointWrite {
    /// Writes it, unless the log has been closed since. To be called without the partition's lock, on a
    /// thread that may block.
    ///
    /// # Errors
    /// Of the disk. Room that is lacking is no reason to stop: the checkpoint before counts, and a
    /// start has more to read. Any other error takes the directory offline.
    pub fn run(&self) -> io::Result<()> {
        let retired = self.file.retired.lock();
        if *retired {
            return Ok(());
        }
        online(&self.health)?;
        let written = settle(self.unnamed.as_deref())
            .and_then(|()| self.file.write(self.generation, &self.checkpoint))
            .and_then(|()| self.write_companions());
        self.judge(written)
    }

    /// Does what [`run`](CheckpointWrite::run) does for each of `writes`, by one sync of the disk that all of them
    /// are of, and answers in their order.
    pub fn run_together(writes: &[CheckpointWrite], storage: &dyn Storage) -> Vec<io::Result<()>> {
        // Held until all is written, as `run` holds the one. Whoever closes a log takes no second one.
        let retired: Vec<_> = writes.iter().map(|write| write.file.retired.lock()).collect();
        let unsynced: Vec<io::Result<Option<u64>>> = writes
            .iter()
            .zip(&retired)
            .map(|(write, retired)| {
                if **retired {
                    return Ok(None);
                }
                online(&write.health)?;
                let unsynced = settle(write.unnamed.as_deref())
                    .and_then(|()| write.file.write_unsynced(write.generation, &write.checkpoint));
                write.judge(unsynced)
            })
            .collect();
        let synced = writes.first().map_or(Ok(()), |first| sync_everything(&first.health, storage));
        let done = writes.iter().zip(unsynced).zip(&retired).map(|((write, sequence), retired)| {
            let sequence = sequence?;
            if **retired {
                return Ok(());
            }
            if let Err(error) = &synced {
                return Err(io::Error::new(error.kind(), error.to_string()));
            }
            if let Some(sequence) = sequence {
                write.file.file.settle(sequence);
            }
            write.judge(write.write_companions())
        });
        done.collect()
    }

    /// The partition's directory, for messages.
    pub fn partition(&self) -> &str {
        &self.dir.path
    }

    /// What an error means.
    fn judge<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.inspect_err(|error| {
            if !is_exhaustion(error) {
                self.health.poison(format!("checkpoint of {}: {error}", self.dir.path));
            }
        })
    }

    /// Writes what comes with the checkpoint, once that is durable (R7).
    fn write_companions(&self) -> io::Result<()> {
        for (segment, end) in &self.indexes {
            // Not synced: blocks that a power cut takes are missed by their checksums, and made anew.
            segment.save_indexes(*end)?;
        }
        for aborted in &self.aborted {
            aborted.save(&*self.dir.storage)?;
        }
        if let Some((offset, bytes)) = &self.snapshot {
            producer_snapshot::save(&self.dir, *offset, bytes)?;
            producer_snapshot::prune(&self.dir, self.checkpoint.durable_end)?;
        }
        Ok(())
    }
}

impl PartitionLog {
    /// What is to be synced so that everything appended so far is durable; `None` if it is. The three
    /// steps are `begin_flush` under the lock, [`Flush::run`] without it, and
    /// [`complete_flush`](PartitionLog::complete_flush) under it again.
    pub fn begin_flush(&mut self) -> Option<Flush> {
        let watermarks = self.bounds.watermarks;
        if self.is_closed() || watermarks.high_watermark() == watermarks.log_end() {
            return None;
        }
        let durable = self.bounds.high_watermark;
        let segments = self.unsynced.iter().chain([&self.tail.segment]).map(|segment| {
            let end = segment.size_bytes();
            let start = if segment.base_offset() == durable.segment { durable.position.min(end) } else { 0 };
            (Arc::clone(segment), start..end)
        });
        let segments = segments.collect();
        Some(Flush {
            segments,
            start_offset: watermarks.high_watermark(),
            end_offset: watermarks.log_end(),
            end: self.bounds.log_end,
            last_batch: self.tail.last_batch,
            health: Arc::clone(&self.health),
            synced: AtomicBool::new(false),
        })
    }

    /// Moves the high watermark to where the flush began, and shows it to the readers. A flush that
    /// has not run, or has failed, moves nothing, and none does once the directory is offline.
    pub fn complete_flush(&mut self, flush: &Flush) {
        let watermarks = self.bounds.watermarks;
        let durable = flush.synced.load(Ordering::Acquire) && !self.health.is_offline();
        if !durable || flush.end_offset <= watermarks.high_watermark() {
            return;
        }
        // Sealed before the flush began, so all of their bytes were synced.
        let before = |segment: &Arc<Segment>| segment.base_offset() < flush.end.segment;
        self.unindexed.extend(self.unsynced.extract_if(.., |segment| before(segment)));
        // The log may have rolled exactly at the flush's end since. The high watermark lies in the
        // segment of its offset, so that the one before may be deleted.
        let segments = self.shared.segments.load();
        let rolled = segments.floor(flush.end_offset).map(|index| segments.as_slice()[index].base_offset());
        let (high_watermark, last_batch) = if rolled == Some(flush.end_offset) {
            (LogPosition { segment: flush.end_offset, position: 0 }, None)
        } else {
            (flush.end, flush.last_batch)
        };
        drop(segments);
        self.last_durable_batch = last_batch;
        let last_stable = self.producers.last_stable(flush.end_offset).max(watermarks.log_start());
        self.publish(Bounds {
            watermarks: Watermarks::new(
                watermarks.log_start(),
                last_stable,
                flush.end_offset,
                watermarks.log_end(),
            ),
            high_watermark,
            ..self.bounds
        });
    }

    /// The checkpoint of this moment, to be [`run`](CheckpointWrite::run) without the lock; `None` if
    /// the last one says the same.
    ///
    /// To be called within 100 ms of a flush, and after a quiet period not at all: the further the
    /// durable end is past the last checkpoint, the more a start reads, and the more damage it would
    /// take for a torn tail (R9).
    pub fn begin_checkpoint(&mut self) -> Option<CheckpointWrite> {
        let due = self.checkpoints.bytes_since_snapshot >= SNAPSHOT_INTERVAL_BYTES
            || self.tail.segment.base_offset() > self.checkpoints.last_snapshot;
        self.checkpoint(due)
    }

    /// The last checkpoint of a log that is being closed.
    pub(super) fn begin_checkpoint_with_snapshot(&mut self) -> Option<CheckpointWrite> {
        let due = self.bounds.watermarks.log_end() > self.checkpoints.last_snapshot;
        self.checkpoint(due)
    }

    /// Writes a checkpoint at once, under the lock.
    ///
    /// # Errors
    /// See [`CheckpointWrite::run`].
    pub fn write_checkpoint(&mut self) -> io::Result<()> {
        self.begin_checkpoint().map_or(Ok(()), |checkpoint| checkpoint.run())
    }

    fn checkpoint(&mut self, with_snapshot: bool) -> Option<CheckpointWrite> {
        let watermarks = self.bounds.watermarks;
        let now = (watermarks.high_watermark(), watermarks.log_start());
        let news = now != self.checkpoints.last || !self.unindexed.is_empty() || with_snapshot;
        (news && self.takes_checkpoints()).then(|| self.checkpoint_of_now(with_snapshot))
    }

    fn takes_checkpoints(&self) -> bool {
        !self.is_closed() && !self.checkpoints.frozen
    }

    /// The checkpoint of this moment, whether it says anything new or not: for whoever needs to know that
    /// one is on disk which names no older segment.
    pub(super) fn checkpoint_of_now(&mut self, with_snapshot: bool) -> CheckpointWrite {
        let watermarks = self.bounds.watermarks;
        self.checkpoints.last = (watermarks.high_watermark(), watermarks.log_start());
        self.checkpoints.generation += 1;
        let high_watermark = self.bounds.high_watermark;
        let mut indexes: Vec<(Arc<Segment>, u64)> =
            self.unindexed.drain(..).map(|segment| (segment, u64::MAX)).collect();
        let partial = self.tail.segment.base_offset() == high_watermark.segment;
        if partial {
            indexes.push((Arc::clone(&self.tail.segment), high_watermark.position));
        }
        let snapshot = with_snapshot.then(|| {
            let offset = watermarks.log_end();
            self.checkpoints.last_snapshot = offset;
            self.checkpoints.bytes_since_snapshot = 0;
            (offset, ProducerSnapshot::encode(offset, &self.producers, &self.aborted))
        });
        let aborted = if snapshot.is_some() { self.unsaved_aborted() } else { Vec::new() };
        CheckpointWrite {
            dir: self.dir.clone(),
            health: Arc::clone(&self.health),
            file: Arc::clone(&self.checkpoints.file),
            generation: self.checkpoints.generation,
            unnamed: self.unnamed_segment(),
            checkpoint: checkpoint_of(&self.bounds, self.last_durable_batch),
            indexes,
            aborted,
            snapshot,
        }
    }

    /// The aborted transactions that a snapshot of now counts on, of the segments that have any: which of them
    /// are not in their file is known when that is written.
    fn unsaved_aborted(&self) -> Vec<Arc<AbortedIndex>> {
        let segments = self.shared.segments.load();
        let segments = segments.as_slice().iter().filter(|segment| segment.aborted().len() > 0);
        segments.map(|segment| Arc::clone(segment.aborted())).collect()
    }

    /// The segment of the high watermark, if its name may not be durable: the log has rolled at the high watermark,
    /// and nothing has been flushed since.
    fn unnamed_segment(&self) -> Option<Arc<Segment>> {
        let base_offset = self.bounds.high_watermark.segment;
        let mut young = self.unsynced.iter().chain([&self.tail.segment]);
        young.find(|segment| segment.base_offset() == base_offset && !segment.is_named()).cloned()
    }

    /// Writes a checkpoint of bounds that are going to be published, and nothing else: it is written
    /// in place, so a full disk has room for it.
    pub(super) fn write_bounds(&mut self, bounds: Bounds) -> io::Result<()> {
        online(&self.health)?;
        settle(self.unnamed_segment().as_deref())?;
        self.checkpoints.generation += 1;
        let checkpoint = checkpoint_of(&bounds, self.last_durable_batch);
        self.checkpoints.file.write(self.checkpoints.generation, &checkpoint)
    }
}

/// Makes the name of a segment durable before a checkpoint speaks of it: to a start, a segment that is in the checkpoint
/// and not in the directory is one that was lost.
fn settle(unnamed: Option<&Segment>) -> io::Result<()> {
    unnamed.map_or(Ok(()), Segment::settle_name)
}

/// Syncs the whole disk, unless the directory is offline, which it is from the first such sync on that fails.
fn sync_everything(health: &DirHealth, storage: &dyn Storage) -> io::Result<()> {
    online(health)?;
    storage.sync_all().inspect_err(|error| health.poison(format!("sync of everything: {error}")))
}

/// Where the durable part ends, as the checkpoint file says it.
pub(super) fn checkpoint_of(bounds: &Bounds, last_batch: Option<LastBatch>) -> Checkpoint {
    Checkpoint {
        log_start: bounds.watermarks.log_start(),
        durable_end: bounds.watermarks.high_watermark(),
        segment: bounds.high_watermark.segment,
        position: bounds.high_watermark.position,
        last_batch,
    }
}

fn online(health: &DirHealth) -> io::Result<()> {
    match health.reason() {
        Some(reason) => Err(io::Error::other(format!("the log directory is offline: {reason}"))),
        None => Ok(()),
    }
}
