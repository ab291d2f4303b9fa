//! A look at a partition's directory that changes nothing: no lock, no repair, no file written.
//!
//! For `verify` and `dump`, and for anybody with a copy of a directory. Every byte below the log's end
//! is read and checked, by system calls and not through a map. On the directory of a running broker
//! the end may look torn, because it is being written.

use std::collections::BTreeMap;
use std::io;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use crate::record::RecordBatch;
use crate::storage::Storage;

use super::aborted_index::{self, ABORTED_SUFFIX, AbortedTransaction};
use super::checkpoint::{Checkpoint, CheckpointFile};
use super::compaction::swap;
use super::leader_epoch::LeaderEpochs;
use super::losses::{self, LOSSES_FILE, Loss};
use super::offset_index::{OffsetEntry, OffsetIndex};
use super::producer_snapshot::{self, ProducerSnapshot};
use super::scan::{BatchScanner, Depth, Step, end_of_data};
use super::segment::{
    CHECKPOINT_FILE, LEADER_EPOCHS_FILE, LOG_SUFFIX, OFFSET_INDEX_SUFFIX, PartitionDir, TIME_INDEX_SUFFIX,
};
use super::survey::{Found, Hole, Span, survey};
use super::time_index::{TimeEntry, TimeIndex};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The next start makes it good by itself and nothing is lost: an index that is behind, say.
    Repairable,
    /// Bytes past the checkpoint that are no batch. The next start cuts them: they had not been
    /// acknowledged as durable.
    Torn,
    /// Something that was durable cannot be read.
    Damage,
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The file, relative to the data directory.
    pub file: String,
    /// Where in the file, in bytes, if that can be said.
    pub position: Option<u64>,
    /// The offsets that cannot be read because of it, if that can be said.
    pub offsets: Option<Range<i64>>,
    /// What is wrong.
    pub what: String,
}

/// A segment as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InspectedSegment {
    /// The offset of its first record.
    pub base_offset: i64,
    /// The offset after its last sound batch.
    pub next_offset: i64,
    /// Bytes of sound batches.
    pub batch_bytes: u64,
    /// Bytes of the file, with what is allocated ahead.
    pub file_bytes: u64,
    /// Sound batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// The largest timestamp of them in ms, `None` if there is none.
    pub largest_timestamp: Option<i64>,
    /// The offset index as it is on disk, as far as it checks.
    pub offset_index: Vec<OffsetEntry>,
    /// The time index as it is on disk, as far as it checks.
    pub time_index: Vec<TimeEntry>,
    /// The aborted transactions that its file names, if that checks.
    pub aborted: Vec<AbortedTransaction>,
}

/// A partition's directory as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What the checkpoint says is durable, if it can be read.
    pub checkpoint: Option<Checkpoint>,
    /// The leader epochs, if they can be read.
    pub epochs: Option<LeaderEpochs>,
    /// The producer snapshots that check.
    pub snapshots: Vec<ProducerSnapshot>,
    /// The segments, oldest first.
    pub segments: Vec<InspectedSegment>,
    /// The holes among it that cost durable records, with the base offset of the segment of each.
    pub holes: Vec<(i64, Hole)>,
    /// What an operator has given up of it before.
    pub losses: Vec<Loss>,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
}

impl Inspection {
    /// Whether nothing that was durable is lost.
    pub fn is_sound(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity < Severity::Damage)
    }
}

/// Reads the partition in the directory `path` from end to end, and shows every sound batch to `visit`
/// with the base offset of its segment and its position there.
///
/// # Errors
/// Of the disk. Whatever the files hold is a finding.
pub fn inspect(
    storage: Arc<dyn Storage>,
    path: &str,
    visit: &mut dyn FnMut(i64, u64, &RecordBatch<'_>),
) -> io::Result<Inspection> {
    let dir = PartitionDir { storage, path: path.into() };
    let mut inspector = Inspector { dir: &dir, holes: Vec::new(), findings: Vec::new() };
    let checkpoint = inspector.checkpoint()?;
    let epochs = inspector.epochs()?;
    let mut segments = Vec::new();
    let files = inspector.files()?;
    let known = Known { checkpoint, epochs: epochs.clone().unwrap_or_default() };
    for (index, file) in files.iter().enumerate() {
        let following = files.get(index + 1).map(|(base, _)| *base);
        segments.push(inspector.segment(file, following, &known, visit)?);
    }
    let log_end = segments.last().map_or(0, |segment| segment.next_offset);
    if let Some(checkpoint) = checkpoint {
        inspector.compare(&checkpoint, &segments);
    }
    let snapshots = inspector.snapshots(log_end)?;
    if let Some(snapshot) = snapshots.last() {
        inspector.compare_aborted(snapshot, &segments);
    }
    let losses = inspector.losses()?;
    let Inspector { holes, findings, .. } = inspector;
    Ok(Inspection { checkpoint, epochs, snapshots, segments, holes, losses, findings })
}

/// What tells how far the segments were durable, and what has to be in them.
struct Known {
    checkpoint: Option<Checkpoint>,
    epochs: LeaderEpochs,
}

impl Known {
    /// Whether a segment, and not just a part of it, was durable.
    fn is_sealed(&self, base: i64, following: Option<i64>) -> bool {
        match self.checkpoint {
            Some(checkpoint) => base < checkpoint.segment,
            None => following.is_some(),
        }
    }

    /// The part of a segment that was durable.
    fn durable_part(&self, base: i64, following: Option<i64>, file_bytes: u64) -> Option<Span> {
        let span = |end: u64, end_offset: i64| Span { positions: 0..end, offsets: base..end_offset };
        match (self.checkpoint, following) {
            (Some(checkpoint), _) if base == checkpoint.segment => {
                Some(span(checkpoint.position.min(file_bytes), checkpoint.durable_end))
            }
            (Some(checkpoint), None) if base < checkpoint.segment => {
                Some(span(file_bytes, checkpoint.segment))
            }
            (_, Some(following)) if self.is_sealed(base, Some(following)) => {
                Some(span(file_bytes, following))
            }
            _ => None,
        }
    }
}

struct Inspector<'a> {
    dir: &'a PartitionDir,
    holes: Vec<(i64, Hole)>,
    findings: Vec<Finding>,
}

impl Inspector<'_> {
    fn find(&mut self, severity: Severity, file: String, position: Option<u64>, what: impl Into<String>) {
        self.findings.push(Finding { severity, file, position, offsets: None, what: what.into() });
    }

    fn find_hole(&mut self, base: i64, hole: Hole, log_start: i64) {
        if hole.offsets.end > log_start {
            self.holes.push((base, hole.clone()));
        }
        let (bytes, offsets) = (hole.positions.end - hole.positions.start, hole.offsets);
        // What was deleted cannot be lost: it goes with its segment.
        let deleted = offsets.end <= log_start;
        self.findings.push(Finding {
            severity: if deleted { Severity::Repairable } else { Severity::Damage },
            file: hole.file,
            position: Some(hole.positions.start),
            what: format!(
                "offsets {} to {} are lost in {bytes} bytes: {}",
                offsets.start,
                offsets.end - 1,
                hole.reason
            ),
            offsets: Some(offsets),
        });
    }

    fn checkpoint(&mut self) -> io::Result<Option<Checkpoint>> {
        let path = self.dir.file(CHECKPOINT_FILE);
        let checkpoint = match CheckpointFile::peek(&*self.dir.storage, &path) {
            Ok(checkpoint) => checkpoint,
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        if checkpoint.is_none() {
            let what = "no checkpoint can be read: the next start reads the whole log";
            self.find(Severity::Repairable, path, None, what);
        }
        Ok(checkpoint)
    }

    fn epochs(&mut self) -> io::Result<Option<LeaderEpochs>> {
        let path = self.dir.file(LEADER_EPOCHS_FILE);
        match LeaderEpochs::load(&*self.dir.storage, &path) {
            Ok(epochs) => Ok(Some(epochs)),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.find(Severity::Repairable, path, None, "damaged: the next start makes it anew");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn losses(&mut self) -> io::Result<Vec<Loss>> {
        match losses::load(self.dir) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let what = "damaged: what was given up earlier is not known any more";
                self.find(Severity::Repairable, self.dir.file(LOSSES_FILE), None, what);
                Ok(Vec::new())
            }
            losses => losses,
        }
    }

    /// The base offset and the file of each segment, as the next start will find them: one that compaction
    /// has written and not yet put in its place counts for those that it replaces.
    fn files(&self) -> io::Result<Vec<(i64, String)>> {
        let names = self.dir.storage.list_dir(&self.dir.path)?;
        let base_of = |name: &String| name.strip_suffix(LOG_SUFFIX)?.parse().ok();
        let mut files: BTreeMap<i64, String> = names
            .iter()
            .filter_map(base_of)
            .map(|base| (base, self.dir.segment_file(base, LOG_SUFFIX)))
            .collect();
        for swap in swap::pending(&names) {
            files.retain(|base, _| !(swap.base..swap.end).contains(base));
            files.insert(swap.base, swap.swap_path(self.dir));
        }
        Ok(files.into_iter().collect())
    }

    fn segment(
        &mut self,
        (base, path): &(i64, String),
        following: Option<i64>,
        known: &Known,
        visit: &mut dyn FnMut(i64, u64, &RecordBatch<'_>),
    ) -> io::Result<InspectedSegment> {
        let (base, path) = (*base, path.clone());
        let file = self.dir.storage.open_segment(&path, 0, false)?;
        let file_bytes = file.published();
        let (offset_index, time_index) = self.indexes(base, file_bytes)?;
        let aborted = self.aborted(base)?;
        let mut segment = InspectedSegment {
            base_offset: base,
            next_offset: base,
            file_bytes,
            offset_index,
            time_index,
            aborted,
            ..Default::default()
        };
        let mut unconfirmed = std::mem::take(&mut segment.offset_index).into_iter().peekable();
        let offset_index = unconfirmed.clone();
        let mut strangers = 0;
        let mut note = |position: u64, batch: &RecordBatch<'_>| {
            segment.batches += 1;
            segment.records += u64::from(batch.record_count().unsigned_abs());
            segment.batch_bytes += batch.size_bytes() as u64;
            segment.next_offset = batch.next_offset();
            segment.largest_timestamp = segment.largest_timestamp.max(batch.newest_timestamp());
            while unconfirmed.next_if(|entry| u64::from(entry.position) < position).is_some() {
                strangers += 1;
            }
            if let Some(entry) = unconfirmed.next_if(|entry| u64::from(entry.position) == position)
                && base + i64::from(entry.relative_offset) != batch.base_offset()
            {
                strangers += 1;
            }
            visit(base, position, batch);
        };

        let durable = known.durable_part(base, following, file_bytes);
        let mut holes = Vec::new();
        if let Some(span) = &durable {
            let _ = survey(&*file, &path, span, &known.epochs, &mut |found| {
                match found {
                    Found::Batch { position, batch } => note(position, &batch),
                    Found::Hole(hole) => holes.push(hole),
                }
                ControlFlow::Continue(())
            })?;
        }
        let mut torn = None;
        if !known.is_sealed(base, following) {
            let (from, offset) = durable.map_or((0, base), |span| (span.positions.end, span.offsets.end));
            let mut scanner = BatchScanner::new(&*file, Depth::Whole, from, file_bytes, offset);
            torn = loop {
                match scanner.step()? {
                    Step::Batch { position, batch } => note(position, &batch),
                    Step::End => break None,
                    Step::Bad { position, reason, .. } => break Some((position, reason)),
                }
            };
        }
        segment.offset_index = offset_index.collect();
        if strangers > 0 {
            let what = format!("{strangers} entries point at no batch: the next reader makes it anew");
            self.find(Severity::Repairable, self.dir.segment_file(base, OFFSET_INDEX_SUFFIX), None, what);
        }
        let log_start = known.checkpoint.map_or(0, |checkpoint| checkpoint.log_start);
        holes.into_iter().for_each(|hole| self.find_hole(base, hole, log_start));
        if let Some((position, reason)) = torn {
            let data_end = end_of_data(&*file, position, file_bytes)?;
            if data_end > position {
                let what =
                    format!("{} bytes past the checkpoint are no batch: {reason}", data_end - position);
                self.find(Severity::Torn, path, Some(position), what);
            }
        }
        Ok(segment)
    }

    fn indexes(&self, base: i64, end: u64) -> io::Result<(Vec<OffsetEntry>, Vec<TimeEntry>)> {
        let storage = &*self.dir.storage;
        let path = self.dir.segment_file(base, OFFSET_INDEX_SUFFIX);
        let offsets = OffsetIndex::load(storage, path, base, end, usize::MAX)?;
        let path = self.dir.segment_file(base, TIME_INDEX_SUFFIX);
        let times = TimeIndex::load(storage, path, base, usize::MAX)?;
        Ok((
            (0..offsets.len()).map(|index| offsets.get(index)).collect(),
            (0..times.len()).map(|index| times.get(index)).collect(),
        ))
    }

    fn aborted(&mut self, base: i64) -> io::Result<Vec<AbortedTransaction>> {
        let path = self.dir.segment_file(base, ABORTED_SUFFIX);
        let found = aborted_index::load(&*self.dir.storage, &path, base)?;
        if found.is_none() && self.dir.storage.exists(&path)? {
            self.find(Severity::Repairable, path, None, "damaged: the next start makes it anew");
        }
        Ok(found.unwrap_or_default())
    }

    /// What the newest snapshot says of aborted transactions against what their files hold. The next start
    /// reads the whole log for a file that is not what it should be.
    fn compare_aborted(&mut self, snapshot: &ProducerSnapshot, segments: &[InspectedSegment]) {
        let first = segments.first().map_or(0, |segment| segment.base_offset);
        for (&base, &count) in snapshot.aborted.range(first..) {
            let segment = segments.iter().find(|segment| segment.base_offset == base);
            let entries = segment.map_or(&[][..], |segment| &segment.aborted);
            let below = entries.iter().filter(|aborted| aborted.last_offset < snapshot.offset).count();
            if below != count as usize {
                let what = format!(
                    "holds {below} aborted transactions below offset {} instead of {count}: the next start makes it anew",
                    snapshot.offset
                );
                self.find(Severity::Repairable, self.dir.segment_file(base, ABORTED_SUFFIX), None, what);
            }
        }
    }

    /// What the checkpoint says against what the segments hold.
    fn compare(&mut self, checkpoint: &Checkpoint, segments: &[InspectedSegment]) {
        let path = self.dir.segment_file(checkpoint.segment, LOG_SUFFIX);
        if !segments.iter().any(|segment| segment.base_offset == checkpoint.segment) {
            self.find(Severity::Damage, path, None, "the segment that the checkpoint names is missing");
        }
        if let Some(first) = segments.first()
            && first.base_offset > checkpoint.log_start
        {
            let path = self.dir.segment_file(checkpoint.log_start, LOG_SUFFIX);
            let what = format!("missing: the log starts at offset {}", checkpoint.log_start);
            self.find(Severity::Damage, path, None, what);
        }
    }

    fn snapshots(&mut self, log_end: i64) -> io::Result<Vec<ProducerSnapshot>> {
        let mut snapshots = Vec::new();
        for (offset, path) in producer_snapshot::files(self.dir)? {
            match ProducerSnapshot::decode(&self.dir.storage.read(&path)?) {
                Some(snapshot) if snapshot.offset != offset => {
                    let what = format!("holds the state of offset {}", snapshot.offset);
                    self.find(Severity::Repairable, path, None, what);
                }
                Some(_) if offset > log_end => {
                    self.find(Severity::Repairable, path, None, "lies past the end of the log");
                }
                Some(snapshot) => snapshots.push(snapshot),
                None => {
                    let what = "damaged: the next start reads the log instead";
                    self.find(Severity::Repairable, path, None, what);
                }
            }
        }
        Ok(snapshots)
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
