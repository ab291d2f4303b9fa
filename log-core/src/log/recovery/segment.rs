//! One segment past the checkpoint: what of it is kept, and what is cut.

use std::io;
use std::sync::Arc;

use crate::storage::{SegmentFile, truncate_segment};

use super::super::aborted_index::ABORTED_SUFFIX;
use super::super::append::{Tail, reserve_bytes};
use super::super::index_tail::{IndexTail, Stop};
use super::super::quarantine;
use super::super::scan::{BatchScanner, Depth, Step, end_of_data, read_exact_at};
use super::super::segment::{
    LOG_SUFFIX, OFFSET_INDEX_SUFFIX, Segment, SegmentData, TIME_INDEX_SUFFIX, load_tail,
};
use super::super::watermarks::LogPosition;
use super::{Seen, Walk};

/// Bytes written at a time where a tail is written again.
const WRITE_BYTES: u64 = 1 << 20;

impl Walk<'_> {
    /// Walks one segment and takes it into the log. Answers whether what follows it must go.
    pub(super) fn scan_segment(&mut self, base: i64, following: Option<i64>) -> io::Result<bool> {
        let storage = &*self.dir.storage;
        let reserved = reserve_bytes(self.config.segment_bytes_effective());
        let path = self.dir.segment_file(base, LOG_SUFFIX);
        let mut file = storage.open_segment(&path, reserved, false)?;
        let len = file.published();
        let start = if base == self.durable.segment { self.durable.position } else { 0 };
        let interval = self.config.index_interval_bytes;
        let mut tail = load_tail(self.dir, base, interval, &*file, start.min(len))?;
        let mut seen = Seen::default();
        if start > 0 {
            self.check_durable(&mut tail, &mut seen, &*file, len)?;
        }

        let before = seen.batches;
        let epochs = &mut self.epochs;
        let stop = tail.walk(&*file, Depth::Whole, len, None, &mut |position, batch| {
            seen.visit(position, batch);
            epochs.begin(batch.partition_leader_epoch(), batch.base_offset());
        })?;
        let (position, next_offset, data_end, reason) = match stop {
            Stop::End { position, next_offset } => (position, next_offset, position, String::new()),
            Stop::Bad { position, next_offset, reason } => {
                (position, next_offset, end_of_data(&*file, position, len)?, reason)
            }
        };
        let scanned = position.saturating_sub(start);
        self.report.scanned_bytes += scanned;
        self.report.scanned_batches += seen.batches - before;

        let torn = data_end > position;
        let joined = following.is_none_or(|following| following == next_offset);
        let mut cut_following = false;
        if (torn || !joined) && (self.report.corruption.is_some() || (self.unknown && following.is_some())) {
            // Nothing is cut from a log that has lost durable data, or may have.
            let reason = if torn { reason } else { "the segment ends before the next begins".to_owned() };
            self.corrupt_at(base, position, next_offset, reason);
        } else if torn || !joined {
            cut_following = true;
            if torn {
                let kept = quarantine::keep(storage, &*file, &path, position, data_end)
                    .inspect_err(|error| self.poison_unless_exhausted(error))?;
                tracing::warn!(
                    file = path,
                    position,
                    bytes = data_end - position,
                    offset = next_offset,
                    reason,
                    kept,
                    "torn tail cut"
                );
                self.report.truncated_bytes += data_end - position;
                self.report.quarantined.push(kept);
            }
        }
        if scanned > 0 || torn {
            file.settle_leftovers();
        }
        if scanned > 0 {
            self.write_again(&*file, &path, start, position)?;
        }
        if self.report.corruption.is_none() && position < len {
            truncate_segment(&mut file, position)?;
        }
        if scanned > 0 || torn {
            // What was read may be in the page cache only, and is about to be called durable.
            file.sync().inspect_err(|error| self.health.poison(format!("sync of {path}: {error}")))?;
        }
        self.take(base, file, tail, &seen, position, reserved, following.is_none() || cut_following)?;
        self.end = LogPosition { segment: base, position };
        self.next_offset = next_offset;
        Ok(cut_following)
    }

    /// Writes the sound bytes past the checkpoint over themselves. If the last process died of a failed
    /// sync, the page cache holds them as clean, and another sync would answer `Ok` without writing
    /// them (R4); only what is written anew, past the cache, is synced anew.
    fn write_again(&self, file: &dyn SegmentFile, path: &str, from: u64, to: u64) -> io::Result<()> {
        let mut buffer = vec![0; WRITE_BYTES.min(to - from) as usize];
        let mut at = from;
        while at < to {
            let chunk = &mut buffer[..WRITE_BYTES.min(to - at) as usize];
            read_exact_at(file, at, chunk)?;
            self.dir.storage.rewrite(path, at, chunk)?;
            at += chunk.len() as u64;
        }
        Ok(())
    }

    /// Walks the headers that lead up to the checkpoint from the last index entry on, and checks the
    /// last batch below it. Leaves `tail` at the checkpoint.
    fn check_durable(
        &mut self,
        tail: &mut IndexTail,
        seen: &mut Seen,
        file: &dyn SegmentFile,
        len: u64,
    ) -> io::Result<()> {
        let durable = self.durable;
        let end = durable.position.min(len);
        let stop = tail.walk(file, Depth::Headers, end, None, &mut |position, batch| {
            seen.visit(position, batch);
        })?;
        let problem = match stop {
            Stop::Bad { position, next_offset, reason } => Some((position, next_offset, reason)),
            Stop::End { position, next_offset } if len < durable.position => Some((
                position,
                next_offset,
                format!("{} bytes were durable, {len} are there", durable.position),
            )),
            Stop::End { position, next_offset } if next_offset != durable.durable_end => Some((
                position,
                next_offset,
                format!("ends at offset {next_offset} instead of {}", durable.durable_end),
            )),
            Stop::End { .. } => self.check_last_batch(seen, file, end)?,
        };
        if let Some((position, offset, reason)) = problem {
            self.corrupt_at(durable.segment, position, offset, reason);
        }
        if durable.position <= len {
            tail.jump(durable.position, durable.durable_end);
        }
        Ok(())
    }

    /// The last durable batch must be the one that the checkpoint speaks of, and whole.
    fn check_last_batch(
        &self,
        seen: &Seen,
        file: &dyn SegmentFile,
        end: u64,
    ) -> io::Result<Option<(u64, i64, String)>> {
        let (Some((last, base_offset)), Some(expected)) = (seen.last, self.durable.last_batch) else {
            return Ok(None);
        };
        if last != expected {
            let reason = "the last batch is not the one that the checkpoint speaks of".to_owned();
            return Ok(Some((last.position, base_offset, reason)));
        }
        let mut scanner = BatchScanner::new(file, Depth::Whole, last.position, end, base_offset);
        Ok(match scanner.step()? {
            Step::Bad { position, next_offset, reason } => Some((position, next_offset, reason)),
            Step::Batch { .. } | Step::End => None,
        })
    }

    /// Takes a walked segment into the log.
    #[expect(clippy::too_many_arguments, reason = "the parts of one segment, on their way into it")]
    fn take(
        &mut self,
        base: i64,
        file: Arc<dyn SegmentFile>,
        tail: IndexTail,
        seen: &Seen,
        end: u64,
        reserved: u64,
        active: bool,
    ) -> io::Result<()> {
        let interval = self.config.index_interval_bytes;
        let rule = tail.rule.clone();
        let mut first = BatchScanner::new(&*file, Depth::Headers, 0, end, base);
        let first_timestamp = match first.step()? {
            Step::Batch { batch, .. } => batch.newest_timestamp(),
            Step::End | Step::Bad { .. } => None,
        };
        let data = SegmentData::new(Arc::clone(&file), tail);
        if !active {
            data.seal(end);
        }
        let segment = Segment::opened(self.dir, base, interval, data, end == 0);
        if !active {
            self.unindexed.push(Arc::clone(&segment));
        }
        self.newest = Some(Tail {
            segment: Arc::clone(&segment),
            file,
            rule,
            reserved_bytes: reserved,
            last_batch: seen.last.map(|(last, _)| last),
            first_timestamp,
            first_append_ms: None,
        });
        self.segments.push(segment);
        Ok(())
    }

    /// Takes segments out of the log that begin past its end: what they were to follow is torn.
    pub(super) fn quarantine_segments(&mut self, bases: &[i64]) -> io::Result<()> {
        let storage = &*self.dir.storage;
        for &base in bases {
            let path = self.dir.segment_file(base, LOG_SUFFIX);
            let file = storage.open_segment(&path, 0, false)?;
            let data_end = end_of_data(&*file, 0, file.published())?;
            if data_end > 0 {
                let kept = quarantine::keep(storage, &*file, &path, 0, data_end)
                    .inspect_err(|error| self.poison_unless_exhausted(error))?;
                tracing::warn!(file = path, bytes = data_end, kept, "segment behind a torn tail removed");
                self.report.truncated_bytes += data_end;
                self.report.quarantined.push(kept);
            }
            storage.remove_file(&path)?;
            for suffix in [OFFSET_INDEX_SUFFIX, TIME_INDEX_SUFFIX, ABORTED_SUFFIX] {
                let index = self.dir.segment_file(base, suffix);
                if storage.exists(&index)? {
                    storage.remove_file(&index)?;
                }
            }
        }
        if !bases.is_empty() {
            // A name that came back after a power cut would stand in the way of a new segment.
            storage.sync_dir(&self.dir.path).inspect_err(|error| self.poison_unless_exhausted(error))?;
        }
        Ok(())
    }
}
