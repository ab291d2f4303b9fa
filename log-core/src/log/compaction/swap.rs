//! Putting a compacted segment in the place of those that it was made of, so that a crash at any point
//! leaves all of the old ones or the new one.
//!
//! ```text
//! 0 ──────── 100 ──────── 200 ────────   segments 0 and 100 become one, 200 stays
//!
//! 0.200.cleaned     written, synced
//! 0.aborted         written anew for both, if transactions were aborted in one of them
//! 0.200.swap        renamed, directory synced: from here on the new one counts
//! 100.log           removed, with 100.aborted and the indexes of both; directory synced
//! 0.log             0.200.swap renamed over it
//! ```
//!
//! A start removes `.cleaned` files and finishes what a `.swap` file says is to be done. Its name says
//! which offsets it covers, so nothing in it has to be read for that. The second sync keeps a segment that
//! was merged into another from coming back after the last trace of the merge is gone. The last renaming
//! need not be durable at once: until it is, the `.swap` file is there.
//!
//! Swaps that a crash leaves behind may overlap. The wider one is then the later one, made of the result
//! of the other, so they are finished by their width.

use std::io;

use super::super::aborted_index::ABORTED_SUFFIX;
use super::super::segment::{LOG_SUFFIX, OFFSET_INDEX_SUFFIX, PartitionDir, TIME_INDEX_SUFFIX};

/// The ending of a compacted segment that does not count yet.
pub(crate) const CLEANED_SUFFIX: &str = ".cleaned";
/// The ending of a compacted segment that counts and is not in its place yet.
const SWAP_SUFFIX: &str = ".swap";

/// The offsets that a compacted segment covers, `[base, end)`: those of the segments that it replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Swap {
    pub(crate) base: i64,
    pub(crate) end: i64,
}

impl Swap {
    /// The compacted segment before it counts.
    pub(crate) fn cleaned_path(&self, dir: &PartitionDir) -> String {
        self.path(dir, CLEANED_SUFFIX)
    }

    /// The compacted segment once it counts.
    pub(crate) fn swap_path(&self, dir: &PartitionDir) -> String {
        self.path(dir, SWAP_SUFFIX)
    }

    fn path(&self, dir: &PartitionDir, suffix: &str) -> String {
        format!("{}/{:020}.{:020}{suffix}", dir.path, self.base, self.end)
    }

    fn parse(name: &str) -> Option<Swap> {
        let (base, end) = name.strip_suffix(SWAP_SUFFIX)?.split_once('.')?;
        let swap = Swap { base: base.parse().ok()?, end: end.parse().ok()? };
        (swap.base < swap.end).then_some(swap)
    }

    /// Makes the compacted segment count, once the directory is synced.
    pub(super) fn rename(&self, dir: &PartitionDir) -> io::Result<()> {
        dir.storage.rename(&self.cleaned_path(dir), &self.swap_path(dir))
    }

    /// Puts a compacted segment that counts, durably, into its place.
    pub(super) fn carry_out(&self, dir: &PartitionDir) -> io::Result<()> {
        for name in dir.storage.list_dir(&dir.path)? {
            if self.replaces(&name) {
                dir.storage.remove_file(&dir.file(&name))?;
            }
        }
        dir.storage.sync_dir(&dir.path)?;
        dir.storage.rename(&self.swap_path(dir), &dir.segment_file(self.base, LOG_SUFFIX))
    }

    /// Whether a file goes before the segment comes into its place: segments merged into it, and all
    /// indexes that speak of positions in the old ones.
    fn replaces(&self, name: &str) -> bool {
        let base_of = |suffix| name.strip_suffix(suffix).and_then(|base: &str| base.parse::<i64>().ok());
        if let Some(base) = base_of(LOG_SUFFIX).or_else(|| base_of(ABORTED_SUFFIX)) {
            return self.base < base && base < self.end;
        }
        base_of(OFFSET_INDEX_SUFFIX)
            .or_else(|| base_of(TIME_INDEX_SUFFIX))
            .is_some_and(|base| self.base <= base && base < self.end)
    }
}

/// The swaps that `names` of a partition's directory speak of, in the order in which they are to be
/// finished.
pub(crate) fn pending(names: &[String]) -> Vec<Swap> {
    let mut swaps: Vec<Swap> = names.iter().filter_map(|name| Swap::parse(name)).collect();
    swaps.sort_unstable_by_key(|swap| swap.end - swap.base);
    swaps
}

/// Finishes what the last process did not: for a start, before anything else is looked at.
///
/// # Errors
/// Of the disk.
pub(crate) fn finish_pending(dir: &PartitionDir) -> io::Result<()> {
    let swaps = pending(&dir.storage.list_dir(&dir.path)?);
    if !swaps.is_empty() {
        // The last process may not have lived to make the names durable, and what they replace goes now.
        dir.storage.sync_dir(&dir.path)?;
    }
    for swap in swaps {
        tracing::info!(partition = &*dir.path, base = swap.base, end = swap.end, "finishing a compaction");
        swap.carry_out(dir)?;
    }
    Ok(())
}
