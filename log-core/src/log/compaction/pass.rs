//! One pass over a log: the map of the dirty part, then group after group of segments written anew.

use std::collections::HashSet;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use crate::record::{DecompressLimits, Marker, RecordBatch};
use crate::storage::SegmentFile;

use super::super::aborted_index::AbortedTransaction;
use super::super::error::{AppendError, Corruption};
use super::super::flush::CheckpointWrite;
use super::super::health::DirHealth;
use super::super::offset_index::OffsetIndex;
use super::super::scan::{BatchScanner, Depth, Step};
use super::super::segment::Segment;
use super::super::time_index::TimeIndex;
use super::candidate::Compactable;
use super::error::CompactionError;
use super::hint;
use super::offset_map::OffsetMap;
use super::rules::{Fate, Rules};
use super::swap::Swap;
use super::transactions::Transactions;
use super::writer::{CleanedFile, SegmentWriter};

/// What a pass has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Bytes of segments that were read to be written anew.
    pub read_bytes: u64,
    /// Bytes of the segments that took the place of others.
    pub written_bytes: u64,
    /// Bytes of the segments whose place they took.
    pub replaced_bytes: u64,
    /// Different keys in the dirty part that was looked at.
    pub keys: u64,
    /// Batches that could not be decoded, and stay as they are.
    pub undecodable_batches: u64,
    /// The offset up to which the log is compacted now.
    pub first_dirty: i64,
}

/// A pass that is under way.
#[derive(Debug)]
pub struct Compaction {
    log: Compactable,
    health: Arc<DirHealth>,
    /// To be written before anything changes: from then on no checkpoint names a segment that may go.
    checkpoint: Option<CheckpointWrite>,
    /// The log's end when the producers' batches were noted that are to stay.
    settled_from: i64,
    rules: Rules,
    /// The first segment of the next group, and where the last group ends.
    next: usize,
    end: usize,
    report: CompactionReport,
}

/// A compacted segment that is on disk and not in its place yet. Its file goes with it if it never gets
/// there.
#[derive(Debug)]
pub struct Cleaned {
    pub(super) file: CleanedFile,
    pub(super) sources: Vec<Arc<Segment>>,
    pub(super) offsets: OffsetIndex,
    pub(super) times: TimeIndex,
    /// The aborted transactions whose end has stayed in it.
    pub(super) aborted: Vec<AbortedTransaction>,
    pub(super) size_bytes: u64,
}

/// A segment that is read from its beginning to `end`.
struct Source {
    segment: Arc<Segment>,
    file: Arc<dyn SegmentFile>,
    end: u64,
}

/// Is told of bytes that were read or written, and may take its time, which throttles the pass. Answers
/// whether to go on.
pub type Pace<'a> = &'a mut dyn FnMut(u64) -> bool;

impl Compaction {
    pub(super) fn new(
        log: Compactable,
        health: Arc<DirHealth>,
        checkpoint: CheckpointWrite,
        remembered: HashSet<i64>,
        settled_from: i64,
    ) -> Compaction {
        let map_start = log.first_dirty.max(log.bounds.watermarks.log_start());
        Compaction {
            rules: Rules {
                map: OffsetMap::new(0, 0),
                map_start,
                map_end: map_start,
                now_ms: log.now_ms,
                delete_retention_ms: log.config.delete_retention_ms,
                remembered,
                transactions: Transactions::default(),
                unfinished: HashSet::new(),
                undecodable: 0,
                stays: Vec::new(),
            },
            log,
            health,
            checkpoint: Some(checkpoint),
            settled_from,
            next: 0,
            end: 0,
            report: CompactionReport::default(),
        }
    }

    /// Reads the keys of the dirty segments into a map of `budget_bytes` at most, and stops where it is
    /// full.
    ///
    /// # Errors
    /// See [`CompactionError`].
    pub fn prepare(&mut self, budget_bytes: usize, pace: Pace<'_>) -> Result<(), CompactionError> {
        if let Some(checkpoint) = self.checkpoint.take() {
            checkpoint.run()?;
        }
        let cleanable = self.log.cleanable()?;
        let dirty = self.log.first_dirty_segment()..cleanable;
        let Some(end) = dirty.clone().last().and_then(|last| self.log.segments.end_offset(last)) else {
            return Ok(());
        };
        let first = self.log.segments.as_slice()[dirty.start].base_offset();
        let offsets = u64::try_from(end - first).unwrap_or(0);
        self.rules.map = OffsetMap::new(budget_bytes, offsets);
        let mut transactions_read = false;
        for index in dirty {
            self.end = index + 1;
            if !self.map_segment(index, &mut transactions_read, pace)? {
                break;
            }
        }
        if self.rules.map_end == self.rules.map_start {
            // The first batch is of a transaction whose end is not known, or has more keys than there is room.
            self.end = 0;
            if !self.rules.map.is_empty() {
                return Err(CompactionError::MapTooSmall);
            }
        }
        self.report.keys = self.rules.map.len() as u64;
        self.report.first_dirty = self.rules.map_end;
        Ok(())
    }

    /// Whether everything is durable that had been appended when the pass began; nothing is written
    /// before it is.
    pub fn is_settled(&self) -> bool {
        self.log.shared.published.load().watermarks.high_watermark() >= self.settled_from
    }

    /// Writes the next group of segments as one. `None` when there is none left; a group that would stay as
    /// it is is passed over.
    ///
    /// # Errors
    /// See [`CompactionError`].
    pub fn next(&mut self, pace: Pace<'_>) -> Result<Option<Cleaned>, CompactionError> {
        if !self.is_settled() {
            return Err(CompactionError::Unsettled);
        }
        while self.next < self.end {
            let group = self.group_from(self.next);
            self.next = group.end;
            if let Some(cleaned) = self.clean(group, pace)? {
                return Ok(Some(cleaned));
            }
        }
        Ok(None)
    }

    /// Notes on disk how far the log is compacted, once [`next`](Compaction::next) has answered `None`.
    ///
    /// # Errors
    /// Of the disk. The pass has done its work all the same.
    pub fn finish(&self) -> io::Result<CompactionReport> {
        if self.report.first_dirty > self.log.first_dirty {
            hint::save(&self.log.dir, self.report.first_dirty).inspect_err(|error| {
                if !super::super::append::is_exhaustion(error) {
                    self.health.poison(format!("hint of {}: {error}", self.log.dir.path));
                }
            })?;
        }
        Ok(self.report())
    }

    /// What has been done so far.
    pub fn report(&self) -> CompactionReport {
        CompactionReport { undecodable_batches: self.rules.undecodable, ..self.report }
    }

    /// Reads one dirty segment into the map. Answers whether all of it went in.
    fn map_segment(
        &mut self,
        index: usize,
        transactions_read: &mut bool,
        pace: Pace<'_>,
    ) -> Result<bool, CompactionError> {
        let Source { segment, file, end } = self.open(index)?;
        let mut scanner = BatchScanner::new(&*file, Depth::Whole, 0, end, segment.base_offset());
        loop {
            let batch = match scanner.step()? {
                Step::Batch { batch, .. } => batch,
                Step::End => break,
                Step::Bad { position, next_offset, reason } => {
                    return Err(damaged(&self.log, &segment, position, next_offset, reason));
                }
            };
            if batch.last_offset() < self.rules.map_start {
                continue;
            }
            if batch.attributes().is_transactional()
                && !batch.attributes().is_control()
                && !*transactions_read
            {
                let (segments, end) = (&self.log.segments, self.log.bounds.high_watermark);
                self.rules.transactions = Transactions::read(segments, index, end)?;
                *transactions_read = true;
            }
            if !self.rules.note_keys(&batch) {
                return Ok(false);
            }
            self.rules.map_end = batch.next_offset();
            proceed(pace, batch.size_bytes() as u64)?;
        }
        Ok(true)
    }

    /// The segments from `first` on that become one: as many as `segment.bytes` holds of what they are now,
    /// with offsets that fit 31 bits; at least the first.
    fn group_from(&self, first: usize) -> Range<usize> {
        let list = self.log.segments.as_slice();
        let limit = self.log.config.segment_bytes_effective();
        let mut bytes = list[first].size_bytes();
        let mut last = first;
        while last + 1 < self.end {
            bytes += list[last + 1].size_bytes();
            let end_offset = self.log.segments.end_offset(last + 1).unwrap_or(i64::MAX);
            if bytes > limit || end_offset - list[first].base_offset() > i64::from(i32::MAX) {
                break;
            }
            last += 1;
        }
        first..last + 1
    }

    fn clean(&mut self, group: Range<usize>, pace: Pace<'_>) -> Result<Option<Cleaned>, CompactionError> {
        let sources = self.log.segments.as_slice()[group.clone()].to_vec();
        let source_bytes: u64 = sources.iter().map(|segment| segment.size_bytes()).sum();
        self.check_room(source_bytes)?;
        let end_offset = self.log.segments.end_offset(group.end - 1);
        let swap = Swap {
            base: sources[0].base_offset(),
            end: end_offset.expect("the active segment is never compacted"),
        };
        let mut writer = SegmentWriter::create(&self.log.dir, swap, self.log.config.index_interval_bytes)?;
        let mut changed = group.len() > 1;
        let mut aborted = Vec::new();
        for index in group {
            let mut ends_gone = Vec::new();
            changed |= self.clean_segment(index, &mut writer, &mut ends_gone, pace)?;
            // Whoever is told of a transaction waits for its end. Where that is gone, so are its records, by an
            // earlier pass.
            let entries = self.log.segments.as_slice()[index].aborted().all(&*self.log.dir.storage)?;
            let stays = |entry: &AbortedTransaction| ends_gone.binary_search(&entry.last_offset).is_err();
            aborted.extend(entries.into_iter().filter(stays));
        }
        self.report.read_bytes += source_bytes;
        if !changed {
            return Ok(None);
        }
        writer.sync().inspect_err(|error| {
            if let CompactionError::Sync(error) = error {
                self.health.poison(format!("sync of {}: {error}", swap.cleaned_path(&self.log.dir)));
            }
        })?;
        let size_bytes = writer.size_bytes();
        self.report.written_bytes += size_bytes;
        self.report.replaced_bytes += source_bytes;
        let SegmentWriter { cleaned: file, offsets, times, .. } = writer;
        Ok(Some(Cleaned { file, sources, offsets, times, aborted, size_bytes }))
    }

    /// Writes one segment anew. Answers whether anything in it changed, and adds to `ends_gone` the offsets of
    /// the control batches that it leaves out.
    fn clean_segment(
        &mut self,
        index: usize,
        writer: &mut SegmentWriter,
        ends_gone: &mut Vec<i64>,
        pace: Pace<'_>,
    ) -> Result<bool, CompactionError> {
        let Source { segment, file, end } = self.open(index)?;
        let mut scanner = BatchScanner::new(&*file, Depth::Whole, 0, end, segment.base_offset());
        let mut changed = false;
        loop {
            let batch = match scanner.step()? {
                Step::Batch { batch, .. } => batch,
                Step::End => return Ok(changed),
                Step::Bad { position, next_offset, reason } => {
                    return Err(damaged(&self.log, &segment, position, next_offset, reason));
                }
            };
            let before = writer.size_bytes();
            match self.rules.fate(&batch).map_err(|_| CompactionError::Outgrown)? {
                Fate::Stays => writer.put(&batch)?,
                Fate::Becomes(bytes) => {
                    changed = true;
                    let left = RecordBatch::parse(&bytes).map_err(|_| CompactionError::Outgrown)?;
                    writer.put(&left)?;
                }
                Fate::Goes => {
                    // What is a filler already and stays one by itself is no change.
                    changed |= batch.record_count() > 0 || batch.producer_id() >= 0 || writer.has_gap();
                    if batch.attributes().is_control() {
                        ends_gone.push(batch.base_offset());
                    }
                    writer.skip(&batch)?;
                }
            }
            proceed(pace, batch.size_bytes() as u64 + (writer.size_bytes() - before))?;
        }
    }

    fn open(&self, index: usize) -> Result<Source, CompactionError> {
        if self.log.shared.closed.load(crate::sync::atomic::Ordering::Relaxed) {
            return Err(CompactionError::Unwritable(AppendError::Closed));
        }
        let segment = Arc::clone(&self.log.segments.as_slice()[index]);
        let data = segment.load(self.log.segments.end_offset(index))?;
        if let Some(damage) = &data.damage {
            return Err(CompactionError::Corrupt(self.log.shared.report(damage.clone())));
        }
        let end = data.sealed_end().expect("the active segment is never compacted");
        let file = Arc::clone(&data.file);
        Ok(Source { segment, file, end })
    }

    /// What is kept free for other things is not for compaction to fill up.
    fn check_room(&self, bytes: u64) -> Result<(), CompactionError> {
        let reserve = self.health.reserve_bytes();
        if reserve > 0 && self.log.dir.storage.free_bytes()? < bytes.saturating_add(reserve) {
            let why = format!("{bytes} bytes would reach into the {reserve} that are reserved");
            return Err(io::Error::new(io::ErrorKind::StorageFull, why).into());
        }
        Ok(())
    }
}

impl Rules {
    /// Takes the keys of a batch into the map. Answers whether the map may go on past it.
    fn note_keys(&mut self, batch: &RecordBatch<'_>) -> bool {
        let attributes = batch.attributes();
        if attributes.is_control() || batch.record_count() == 0 {
            return true;
        }
        if attributes.is_transactional() {
            match self.transactions.outcome(batch) {
                Some(Marker::Commit) => {}
                Some(Marker::Abort) => return true,
                None => return false,
            }
        }
        let Ok(payload) = batch.decompressed_payload(DecompressLimits::default()) else { return true };
        if batch.record_refs(&payload).any(|record| record.is_err()) {
            // It stays as it is, and stands for nothing that a consumer could miss.
            return true;
        }
        batch
            .record_refs(&payload)
            .flatten()
            .all(|record| record.key.is_none_or(|key| self.map.insert(key, record.offset).is_ok()))
    }
}

fn proceed(pace: Pace<'_>, bytes: u64) -> Result<(), CompactionError> {
    if pace(bytes) { Ok(()) } else { Err(CompactionError::Stopped) }
}

fn damaged(
    log: &Compactable,
    segment: &Segment,
    position: u64,
    offset: i64,
    reason: String,
) -> CompactionError {
    let corruption: Corruption = segment.damage(position, offset, reason);
    CompactionError::Corrupt(log.shared.report(corruption))
}
