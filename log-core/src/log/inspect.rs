//! A look at a partition's directory that changes nothing: no lock, no repair, no file written.
//!
//! For `verify` and `dump`, and for anybody with a copy of a directory. Every byte below the log's end
//! is read and checked, by system calls and not through a map. On the directory of a running broker
//! the end may look torn, because it is being written.

use std::io;
use std::sync::Arc;

use crate::record::RecordBatch;
use crate::storage::Storage;

use super::checkpoint::{Checkpoint, CheckpointFile};
use super::leader_epoch::LeaderEpochs;
use super::offset_index::{OffsetEntry, OffsetIndex};
use super::producer_snapshot;
use super::producer_state::ProducerStates;
use super::scan::{BatchScanner, Depth, Step, end_of_data};
use super::segment::{
    CHECKPOINT_FILE, LEADER_EPOCHS_FILE, LOG_SUFFIX, OFFSET_INDEX_SUFFIX, PartitionDir, TIME_INDEX_SUFFIX,
};
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
}

/// A partition's directory as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// What the checkpoint says is durable, if it can be read.
    pub checkpoint: Option<Checkpoint>,
    /// The leader epochs, if they can be read.
    pub epochs: Option<LeaderEpochs>,
    /// The producer snapshots that check: the offset and the state.
    pub snapshots: Vec<(i64, ProducerStates)>,
    /// The segments, oldest first.
    pub segments: Vec<InspectedSegment>,
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
    let mut inspector = Inspector { dir: &dir, findings: Vec::new() };
    let checkpoint = inspector.checkpoint()?;
    let epochs = inspector.epochs()?;
    let mut segments = Vec::new();
    let bases = inspector.bases()?;
    for (index, &base) in bases.iter().enumerate() {
        segments.push(inspector.segment(base, bases.get(index + 1).copied(), checkpoint, visit)?);
    }
    let log_end = segments.last().map_or(0, |segment| segment.next_offset);
    if let Some(checkpoint) = checkpoint {
        inspector.compare(&checkpoint, &segments);
    }
    let snapshots = inspector.snapshots(log_end)?;
    Ok(Inspection { checkpoint, epochs, snapshots, segments, findings: inspector.findings })
}

struct Inspector<'a> {
    dir: &'a PartitionDir,
    findings: Vec<Finding>,
}

impl Inspector<'_> {
    fn find(&mut self, severity: Severity, file: String, position: Option<u64>, what: impl Into<String>) {
        self.findings.push(Finding { severity, file, position, what: what.into() });
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

    fn bases(&self) -> io::Result<Vec<i64>> {
        let names = self.dir.storage.list_dir(&self.dir.path)?;
        let mut bases: Vec<i64> =
            names.iter().filter_map(|name| name.strip_suffix(LOG_SUFFIX)?.parse().ok()).collect();
        bases.sort_unstable();
        Ok(bases)
    }

    fn segment(
        &mut self,
        base: i64,
        following: Option<i64>,
        checkpoint: Option<Checkpoint>,
        visit: &mut dyn FnMut(i64, u64, &RecordBatch<'_>),
    ) -> io::Result<InspectedSegment> {
        let path = self.dir.segment_file(base, LOG_SUFFIX);
        let file = self.dir.storage.open_segment(&path, 0, false)?;
        let file_bytes = file.published();
        let (offset_index, time_index) = self.indexes(base, file_bytes)?;
        let mut segment = InspectedSegment {
            base_offset: base,
            file_bytes,
            offset_index,
            time_index,
            ..Default::default()
        };
        let mut unconfirmed = segment.offset_index.iter().peekable();
        let mut strangers = 0;

        let mut scanner = BatchScanner::new(&*file, Depth::Whole, 0, file_bytes, base);
        let bad = loop {
            match scanner.step()? {
                Step::Batch { position, batch } => {
                    segment.batches += 1;
                    segment.records += u64::from(batch.record_count().unsigned_abs());
                    segment.largest_timestamp = segment.largest_timestamp.max(Some(batch.max_timestamp()));
                    while unconfirmed.peek().is_some_and(|entry| u64::from(entry.position) < position) {
                        strangers += 1;
                        unconfirmed.next();
                    }
                    if let Some(entry) = unconfirmed.next_if(|entry| u64::from(entry.position) == position)
                        && base + i64::from(entry.relative_offset) != batch.base_offset()
                    {
                        strangers += 1;
                    }
                    visit(base, position, &batch);
                }
                Step::End => break None,
                Step::Bad { position, reason, .. } => break Some((position, reason)),
            }
        };
        segment.batch_bytes = scanner.position();
        segment.next_offset = scanner.next_offset();
        if strangers > 0 {
            let what = format!("{strangers} entries point at no batch: the next reader makes it anew");
            self.find(Severity::Repairable, self.dir.segment_file(base, OFFSET_INDEX_SUFFIX), None, what);
        }
        let durable = |position: u64| match checkpoint {
            Some(checkpoint) => (base, position) < (checkpoint.segment, checkpoint.position),
            None => following.is_some(),
        };
        if let Some((position, reason)) = bad {
            let data_end = end_of_data(&*file, position, file_bytes)?;
            if durable(position) {
                self.find(Severity::Damage, path, Some(position), reason);
            } else if data_end > position {
                let what =
                    format!("{} bytes past the checkpoint are no batch: {reason}", data_end - position);
                self.find(Severity::Torn, path, Some(position), what);
            }
        } else if let Some(following) = following
            && following != segment.next_offset
            && durable(segment.batch_bytes)
        {
            let what = format!("ends at offset {}, the next begins at {following}", segment.next_offset);
            self.find(Severity::Damage, path, Some(segment.batch_bytes), what);
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

    /// What the checkpoint says against what the segments hold.
    fn compare(&mut self, checkpoint: &Checkpoint, segments: &[InspectedSegment]) {
        let path = self.dir.segment_file(checkpoint.segment, LOG_SUFFIX);
        match segments.iter().find(|segment| segment.base_offset == checkpoint.segment) {
            None => {
                self.find(Severity::Damage, path, None, "the segment that the checkpoint names is missing")
            }
            Some(segment) if segment.file_bytes < checkpoint.position => {
                let what = format!("{} bytes were durable", checkpoint.position);
                self.find(Severity::Damage, path, Some(segment.file_bytes), what);
            }
            Some(_) => {}
        }
        if let Some(first) = segments.first()
            && first.base_offset > checkpoint.log_start
        {
            let path = self.dir.segment_file(checkpoint.log_start, LOG_SUFFIX);
            let what = format!("missing: the log starts at offset {}", checkpoint.log_start);
            self.find(Severity::Damage, path, None, what);
        }
    }

    fn snapshots(&mut self, log_end: i64) -> io::Result<Vec<(i64, ProducerStates)>> {
        let mut snapshots = Vec::new();
        for (offset, path) in producer_snapshot::files(self.dir)? {
            match ProducerStates::decode(&self.dir.storage.read(&path)?) {
                Some((_, of)) if of != offset => {
                    self.find(Severity::Repairable, path, None, format!("holds the state of offset {of}"));
                }
                Some(_) if offset > log_end => {
                    self.find(Severity::Repairable, path, None, "lies past the end of the log");
                }
                Some((producers, _)) => snapshots.push((offset, producers)),
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
mod tests {
    use super::super::testing::{Disk, PARTITION, batch};
    use super::super::{LogConfig, PartitionLog};
    use super::*;

    fn filled(disk: &Disk) -> PartitionLog {
        let config = LogConfig { segment_bytes: 1024, index_interval_bytes: 128, ..LogConfig::default() };
        let (mut log, _) = disk.open(&config);
        for n in 0..50 {
            log.append(&batch(n, &["a value", "another"]), 0, 1).expect("room");
        }
        log
    }

    fn look(disk: &Disk) -> Inspection {
        let before = snapshot(disk);
        let found = inspect(Arc::clone(&disk.storage), PARTITION, &mut |_, _, _| {}).expect("readable");
        assert_eq!(snapshot(disk), before, "a look changes nothing");
        found
    }

    fn snapshot(disk: &Disk) -> Vec<(String, Vec<u8>)> {
        let read = |name: &String| (name.clone(), std::fs::read(disk.path(name)).expect("there"));
        disk.names().iter().map(read).collect()
    }

    #[test]
    fn a_closed_log_is_sound_to_the_last_byte() {
        let disk = Disk::new();
        filled(&disk).close().expect("a healthy disk");
        let mut seen = 0;
        let found =
            inspect(Arc::clone(&disk.storage), PARTITION, &mut |_, _, _| seen += 1).expect("readable");
        assert_eq!((found.findings.len(), seen), (0, 50), "{:?}", found.findings);
        assert_eq!(found.segments.iter().map(|segment| segment.records).sum::<u64>(), 100);
        assert_eq!(found.segments.last().expect("some").next_offset, 100);
        assert!(found.segments[0].offset_index.len() > 2);
        assert_eq!(found.snapshots.last().expect("written at close").0, 100);
    }

    #[test]
    fn damage_and_a_torn_tail_are_told_apart_by_the_checkpoint() {
        let disk = Disk::new();
        let mut log = filled(&disk);
        log.flush().expect("a healthy disk");
        log.write_checkpoint().expect("a healthy disk");
        let durable = log.segments().last().expect("active").clone();
        for n in 50..52 {
            log.append(&batch(n, &["x"]), 0, 1).expect("room");
        }
        assert_eq!(log.segments().last().expect("active").base_offset, durable.base_offset);
        drop(log);
        assert_eq!(look(&disk).findings, []);
        let flip = |at: u64| {
            let path = disk.path(&format!("{:020}.log", durable.base_offset));
            let mut bytes = std::fs::read(&path).expect("there");
            bytes[at as usize] ^= 4;
            std::fs::write(&path, bytes).expect("room");
        };
        flip(durable.size_bytes + 40);
        let torn = look(&disk);
        assert_eq!((torn.findings.len(), torn.findings[0].severity), (1, Severity::Torn));
        assert_eq!(torn.findings[0].position, Some(durable.size_bytes));
        assert!(torn.is_sound());
        flip(40);
        let damaged = look(&disk);
        assert_eq!((damaged.findings[0].severity, damaged.findings[0].position), (Severity::Damage, Some(0)));
        assert!(!damaged.is_sound());
    }

    #[test]
    fn a_missing_segment_is_damage_and_a_bad_snapshot_is_not() {
        let disk = Disk::new();
        let mut log = filled(&disk);
        log.close().expect("a healthy disk");
        let lost = log.segments()[1].base_offset;
        std::fs::remove_file(disk.path(&format!("{lost:020}.log"))).expect("there");
        std::fs::write(disk.path("00000000000000000100.producers"), b"nonsense").expect("room");
        let found = look(&disk);
        let severities: Vec<Severity> = found.findings.iter().map(|finding| finding.severity).collect();
        assert_eq!(severities, [Severity::Damage, Severity::Repairable], "{:?}", found.findings);
    }
}
