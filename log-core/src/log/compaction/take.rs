//! The log's side of a pass: what is done under its lock.

use std::io;
use std::sync::Arc;

use crate::sync::atomic::Ordering;

use super::super::append::is_exhaustion;
use super::super::flush::SNAPSHOT_INTERVAL_BYTES;
use super::super::partition_log::PartitionLog;
use super::super::segment::Segment;
use super::candidate::Compactable;
use super::error::CompactionError;
use super::pass::{Cleaned, Compaction, CompactionReport};
use super::swap::Swap;

impl PartitionLog {
    /// Begins a pass over the log as `view` has seen it. One at a time.
    pub fn begin_compaction(&mut self, view: Compactable) -> Compaction {
        let remembered = self
            .producers
            .iter()
            .flat_map(|(_, producer)| producer.batches().iter().map(|batch| batch.base_offset))
            .collect();
        let checkpoint = self.checkpoint_of_now(false);
        let log_end = self.bounds.watermarks.log_end();
        Compaction::new(view, Arc::clone(&self.health), checkpoint, remembered, log_end)
    }

    /// Puts a compacted segment in the place of those that it was made of. Three renamings or removals and
    /// two syncs of the directory; readers of the old ones go on with them.
    ///
    /// # Errors
    /// [`CompactionError::Overtaken`] if some of them are gone since; if the log takes no writes; of the
    /// disk. The log is as it was then; it is offline if it is not certain what the disk has of it.
    pub fn take_cleaned(&mut self, cleaned: Cleaned) -> Result<(), CompactionError> {
        self.check_writable().map_err(CompactionError::Unwritable)?;
        let Cleaned { mut file, sources, offsets, times, aborted, size_bytes } = cleaned;
        let swap = file.swap;
        let interval_bytes = self.config.index_interval_bytes;
        let segment = Segment::closed(&self.dir, swap.base, interval_bytes, size_bytes);
        let segments = self.shared.segments.load_full();
        let index = Arc::clone(segment.aborted());
        let segments = segments.replaced(&sources, segment).ok_or(CompactionError::Overtaken)?;

        if sources.iter().any(|source| source.aborted().len() > 0) {
            // Before the new segment counts: a reader who is told of a transaction whose end is gone would pass
            // over all that its producer has written since. To be told of one whose records are gone is no harm.
            for source in &sources {
                source.aborted().give_up_name(&*self.dir.storage)?;
            }
            index.restore(aborted, 0);
            index.write(&*self.dir.storage).inspect_err(|error| self.poison_unless_exhausted(error))?;
            index.forget();
            // The last snapshot counts on what the old files held.
            self.checkpoints.bytes_since_snapshot = SNAPSHOT_INTERVAL_BYTES;
        }
        swap.rename(&self.dir).inspect_err(|error| self.poison_unless_exhausted(error))?;
        file.committed = true;
        // From here on a start may find the new one, and would finish what it finds.
        self.carry_out(&swap, &sources).inspect_err(|error| self.poison(error))?;
        self.shared.segments.store(Arc::new(segments));
        // Release: pairs with the acquire in `LogReader::compactions`, whose reader then sees the new list.
        self.shared.compactions.fetch_add(1, Ordering::Release);
        for source in &sources {
            self.aborted.remove(&source.base_offset());
        }
        if index.len() > 0 {
            self.aborted.insert(swap.base, index.len() as u32);
        }
        let gone = |other: &Arc<Segment>| sources.iter().any(|source| Arc::ptr_eq(source, other));
        self.unsynced.retain(|other| !gone(other));
        self.unindexed.retain(|other| !gone(other));
        let saved = offsets
            .save(&*self.dir.storage, u64::MAX)
            .and_then(|saved| times.save(&*self.dir.storage, saved));
        if let Err(error) = saved {
            tracing::warn!(partition = &*self.dir.path, %error, "a compacted segment's indexes are made anew");
        }
        Ok(())
    }

    fn carry_out(&self, swap: &Swap, sources: &[Arc<Segment>]) -> io::Result<()> {
        self.dir.storage.sync_dir(&self.dir.path)?;
        sources.iter().for_each(|source| source.give_up_names());
        swap.carry_out(&self.dir)
    }

    fn poison(&self, error: &io::Error) {
        self.health.poison(format!("compaction of {}: {error}", self.dir.path));
    }

    fn poison_unless_exhausted(&self, error: &io::Error) {
        if !is_exhaustion(error) {
            self.poison(error);
        }
    }

    /// Takes note of how far a pass has come.
    pub fn finish_compaction(&mut self, report: &CompactionReport) {
        self.first_dirty = self.first_dirty.max(report.first_dirty);
    }

    /// A flush and the steps of a pass in one, if one is due, for callers that need not let go of the log in
    /// between. `budget_bytes` is for the map of keys.
    ///
    /// # Errors
    /// See [`CompactionError`].
    pub fn compact(
        &mut self,
        now_ms: i64,
        budget_bytes: usize,
    ) -> Result<Option<CompactionReport>, CompactionError> {
        self.flush()?;
        let Some(view) = self.compactable(now_ms) else { return Ok(None) };
        if !view.dirtiness()?.is_due() {
            return Ok(None);
        }
        let mut pass = self.begin_compaction(view);
        let unhurried = &mut |_: u64| true;
        pass.prepare(budget_bytes, unhurried)?;
        while let Some(cleaned) = pass.next(unhurried)? {
            self.take_cleaned(cleaned)?;
        }
        let report = pass.finish()?;
        self.finish_compaction(&report);
        Ok(Some(report))
    }
}
