//! Snapshots of the producers' state beside the log: `<offset, 20 digits>.producers`.
//!
//! A snapshot saves reading the log for the producers' sake from its beginning. It may be taken at an
//! offset that is not durable yet, and be worth nothing after a crash; so older ones stay until one at
//! or below the durable end takes their place.

use std::io;

use super::producer_state::ProducerStates;
use super::segment::PartitionDir;

const SUFFIX: &str = ".producers";

/// Writes a snapshot, durably.
pub(super) fn save(dir: &PartitionDir, offset: i64, bytes: &[u8]) -> io::Result<()> {
    dir.storage.write_atomic(&dir.segment_file(offset, SUFFIX), bytes)
}

/// The newest snapshot at or below `log_end` that checks, and its offset; an empty state at 0 if
/// there is none. Those past the log's end are removed, durably: the log may grow over their offset again
/// with other records.
pub(super) fn load(dir: &PartitionDir, log_end: i64) -> io::Result<(ProducerStates, i64)> {
    let mut offsets = offsets(dir)?;
    let past = offsets.split_off(offsets.partition_point(|&offset| offset <= log_end));
    for &offset in &past {
        dir.storage.remove_file(&dir.segment_file(offset, SUFFIX))?;
    }
    if !past.is_empty() {
        dir.storage.sync_dir(&dir.path)?;
    }
    for offset in offsets.into_iter().rev() {
        let path = dir.segment_file(offset, SUFFIX);
        match ProducerStates::decode(&dir.storage.read(&path)?) {
            Some((producers, of)) if of == offset => return Ok((producers, offset)),
            _ => {
                tracing::warn!(
                    file = path,
                    "a producer snapshot is damaged: reading the log from an older one"
                );
                dir.storage.remove_file(&path)?;
            }
        }
    }
    Ok((ProducerStates::default(), 0))
}

/// Removes the snapshots that a newer one at or below the durable end has taken the place of.
pub(super) fn prune(dir: &PartitionDir, durable_end: i64) -> io::Result<()> {
    let offsets = offsets(dir)?;
    let Some(newest) = offsets.iter().rposition(|&offset| offset <= durable_end) else {
        return Ok(());
    };
    for &offset in &offsets[..newest] {
        dir.storage.remove_file(&dir.segment_file(offset, SUFFIX))?;
    }
    Ok(())
}

/// The offsets of all snapshots, rising, and their paths.
pub(super) fn files(dir: &PartitionDir) -> io::Result<Vec<(i64, String)>> {
    Ok(offsets(dir)?.into_iter().map(|offset| (offset, dir.segment_file(offset, SUFFIX))).collect())
}

/// The offsets of all snapshots, rising.
fn offsets(dir: &PartitionDir) -> io::Result<Vec<i64>> {
    let names = dir.storage.list_dir(&dir.path)?;
    let mut offsets: Vec<i64> =
        names.iter().filter_map(|name| name.strip_suffix(SUFFIX)?.parse().ok()).collect();
    offsets.sort_unstable();
    Ok(offsets)
}
