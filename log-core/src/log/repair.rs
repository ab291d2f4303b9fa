//! Giving up what is damaged, on an operator's word, so that a partition takes writes again.
//!
//! Each segment with holes is written anew with a batch without records, 61 bytes, in the place of each
//! hole: offsets stay contiguous, as compaction leaves them, and no reader has to know. In this order,
//! each step durable before the next:
//!
//! 1. the damaged bytes are copied to `quarantine/`;
//! 2. `losses.json` says what is given up;
//! 3. the new segment is written beside the old one;
//! 4. the indexes go, which speak of positions in the old one, and the new one takes its name. One that a power cut
//!    brings back costs its readers some searching, since no entry is believed that no batch confirms;
//! 5. the checkpoint follows, if it names that segment;
//! 6. `losses.json` says that it is done.
//!
//! A crash in between leaves the partition as damaged as it was, or whole, or (between 4 and 5) with a
//! checkpoint that does not fit, for which a start takes it for damaged and changes nothing. Repeating
//! the repair finishes it from wherever it was. Nobody may have the directory open meanwhile.

use std::io;
use std::sync::Arc;

use crate::record::filler;
use crate::storage::{RandomFile, ReadAt, Storage, TEMPORARY_SUFFIX};

use super::checkpoint::{Checkpoint, CheckpointFile, LastBatch};
use super::compaction::swap;
use super::inspect::{Inspection, inspect};
use super::losses::{self, Loss};
use super::quarantine;
use super::scan::{BatchScanner, Depth, Step, read_exact_at};
use super::segment::{CHECKPOINT_FILE, LOG_SUFFIX, OFFSET_INDEX_SUFFIX, PartitionDir, TIME_INDEX_SUFFIX};
use super::survey::Hole;

/// Bytes copied at a time.
const COPY_BYTES: u64 = 1 << 20;

/// Skips every hole of the partition in the directory `path`, and finishes what an interrupted repair
/// has left. Answers with what the partition has lost in all, earlier losses included. Damage that is
/// no hole, a missing first segment for one, stays.
///
/// # Errors
/// Of the disk. What was not skipped is as it was, and the repair can be repeated.
pub fn skip_holes(storage: &Arc<dyn Storage>, path: &str, now_ms: i64) -> io::Result<Vec<Loss>> {
    let dir = PartitionDir { storage: Arc::clone(storage), path: path.into() };
    // What compaction has begun comes first: the segments that it replaces are not the log any more.
    swap::finish_pending(&dir)?;
    let mut lost = losses::load(&dir)?;
    finish(&dir, &mut lost)?;
    let found = inspect(Arc::clone(storage), path, &mut |_, _, _| {})?;
    // What was begun and not done is found again, with the same holes.
    lost.retain(|loss| loss.done);
    for holes in found.holes.chunk_by(|(a, _), (b, _)| a == b) {
        let segment = holes[0].0;
        let begun = lost.len();
        for (_, hole) in holes {
            lost.push(Loss {
                first_offset: hole.offsets.start,
                last_offset: hole.offsets.end - 1,
                file: hole.file.clone(),
                position: hole.positions.start,
                bytes: hole.positions.end - hole.positions.start,
                quarantined: keep(&dir, hole)?,
                reason: hole.reason.clone(),
                skipped_ms: now_ms,
                done: false,
            });
        }
        losses::save(&**storage, &dir, &lost)?;
        rewrite(&dir, segment, holes, &found)?;
        adjust_checkpoint(&dir, segment)?;
        lost[begun..].iter_mut().for_each(|loss| loss.done = true);
        losses::save(&**storage, &dir, &lost)?;
    }
    Ok(lost)
}

/// What the partition in the directory `path` has lost by earlier repairs.
///
/// # Errors
/// Of the disk; `InvalidData` if the file that says so is damaged.
pub fn losses(storage: &Arc<dyn Storage>, path: &str) -> io::Result<Vec<Loss>> {
    losses::load(&PartitionDir { storage: Arc::clone(storage), path: path.into() })
}

/// Finishes repairs whose new segment has its place already.
fn finish(dir: &PartitionDir, lost: &mut [Loss]) -> io::Result<()> {
    let mut finished = false;
    for loss in lost.iter_mut().filter(|loss| !loss.done) {
        let name = loss.file.rsplit_once('/').map_or(&*loss.file, |(_, name)| name);
        let Some(base) = name.strip_suffix(LOG_SUFFIX).and_then(|base| base.parse().ok()) else { continue };
        if dir.storage.exists(&loss.file)? && has_filler(dir, base, loss)? {
            // The last process may not have lived to make the name durable.
            dir.storage.sync_dir(&dir.path)?;
            adjust_checkpoint(dir, base)?;
            loss.done = true;
            finished = true;
        }
    }
    if finished { losses::save(&*dir.storage, dir, lost) } else { Ok(()) }
}

/// Whether the segment has the batch that stands for a loss.
fn has_filler(dir: &PartitionDir, base: i64, loss: &Loss) -> io::Result<bool> {
    let file = dir.storage.open_direct(&dir.segment_file(base, LOG_SUFFIX))?;
    let mut scanner = BatchScanner::new(&*file, Depth::Whole, 0, file.len(), base);
    while let Step::Batch { batch, .. } = scanner.step()? {
        if batch.base_offset() >= loss.first_offset {
            return Ok(batch.base_offset() == loss.first_offset && batch.record_count() == 0);
        }
    }
    Ok(false)
}

fn keep(dir: &PartitionDir, hole: &Hole) -> io::Result<Option<String>> {
    if hole.positions.is_empty() {
        return Ok(None);
    }
    let file = dir.storage.open_direct(&hole.file)?;
    quarantine::keep(&*dir.storage, &*file, &hole.file, hole.positions.start, hole.positions.end).map(Some)
}

/// Writes a segment anew without its holes, and puts it in its place.
fn rewrite(dir: &PartitionDir, base: i64, holes: &[(i64, Hole)], found: &Inspection) -> io::Result<()> {
    let storage = &*dir.storage;
    let path = dir.segment_file(base, LOG_SUFFIX);
    let temporary = format!("{path}{TEMPORARY_SUFFIX}");
    if storage.exists(&temporary)? {
        storage.remove_file(&temporary)?;
    }
    let old = storage.open_direct(&path)?;
    let mut new = Copy { file: storage.open_random(&temporary, true)?, end: 0 };
    let mut from = 0;
    for (_, hole) in holes {
        new.copy(&*old, from, hole.positions.start)?;
        let epoch = found.epochs.as_ref().and_then(|epochs| epochs.epoch_at(hole.offsets.start));
        let mut offset = hole.offsets.start;
        while offset < hole.offsets.end {
            let last_delta = i32::try_from(hole.offsets.end - 1 - offset).unwrap_or(i32::MAX - 1);
            new.append(&filler(offset, last_delta, epoch.unwrap_or(0)))?;
            offset += i64::from(last_delta) + 1;
        }
        from = hole.positions.end;
    }
    new.copy(&*old, from, old.len())?;
    new.file.sync()?;
    for suffix in [OFFSET_INDEX_SUFFIX, TIME_INDEX_SUFFIX] {
        let index = dir.segment_file(base, suffix);
        if storage.exists(&index)? {
            storage.remove_file(&index)?;
        }
    }
    storage.rename(&temporary, &path)?;
    storage.sync_dir(&dir.path)
}

/// A file that is written from front to back.
struct Copy {
    file: Arc<dyn RandomFile>,
    end: u64,
}

impl Copy {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(self.end, bytes)?;
        self.end += bytes.len() as u64;
        Ok(())
    }

    fn copy(&mut self, from: &dyn ReadAt, start: u64, end: u64) -> io::Result<()> {
        let mut buffer = vec![0; COPY_BYTES.min(end.saturating_sub(start)) as usize];
        let mut at = start;
        while at < end {
            let chunk = &mut buffer[..COPY_BYTES.min(end - at) as usize];
            read_exact_at(from, at, chunk)?;
            self.append(chunk)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }
}

/// Has the checkpoint name the place in a rewritten segment at which its offset lies now.
fn adjust_checkpoint(dir: &PartitionDir, base: i64) -> io::Result<()> {
    let path = dir.file(CHECKPOINT_FILE);
    let (file, before) = match CheckpointFile::open(&*dir.storage, &path) {
        Ok((file, Some(checkpoint))) if checkpoint.segment == base => (file, checkpoint),
        Ok(_) => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let segment = dir.storage.open_direct(&dir.segment_file(base, LOG_SUFFIX))?;
    let mut scanner = BatchScanner::new(&*segment, Depth::Whole, 0, segment.len(), base);
    let mut last_batch = None;
    while scanner.next_offset() < before.durable_end {
        match scanner.step()? {
            Step::Batch { position, batch } => last_batch = Some(LastBatch { position, crc: batch.crc() }),
            Step::End | Step::Bad { .. } => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("{} was damaged again while it was repaired", dir.segment_file(base, LOG_SUFFIX)),
                ));
            }
        }
    }
    let after = Checkpoint { position: scanner.position(), last_batch, ..before };
    if after == before { Ok(()) } else { file.write(&after) }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
