//! What a partition has lost for good, by an operator's decision: `losses.json` in its directory.
//!
//! Written before anything is changed, so that no record is ever missing without a word about it.

use std::io;

use serde::{Deserialize, Serialize};

use crate::storage::Storage;

use super::segment::PartitionDir;

/// The file, in the partition's directory.
pub(crate) const LOSSES_FILE: &str = "losses.json";
const FORMAT: u32 = 1;

/// Records that were damaged and given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The first offset of which there is no record any more.
    pub first_offset: i64,
    /// The last one.
    pub last_offset: i64,
    /// The segment's file, relative to the data directory.
    pub file: String,
    /// The byte of it at which the damage began.
    pub position: u64,
    /// Bytes of it.
    pub bytes: u64,
    /// Where they are kept, relative to the data directory; `None` if there were none.
    pub quarantined: Option<String>,
    /// What was wrong.
    pub reason: String,
    /// When they were given up, in ms since the epoch.
    pub skipped_ms: i64,
    /// Whether the segment has been written without them. If not, a crash has interrupted that, and it is to be
    /// repeated.
    pub done: bool,
}

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    losses: Vec<Loss>,
}

/// Reads what a partition has lost; nothing if there is no file.
///
/// # Errors
/// Of the disk; `InvalidData` if the file is damaged or of a later version.
pub(crate) fn load(dir: &PartitionDir) -> io::Result<Vec<Loss>> {
    let bytes = match dir.storage.read(&dir.file(LOSSES_FILE)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    match serde_json::from_slice::<File>(&bytes) {
        Ok(file) if file.format == FORMAT => Ok(file.losses),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is damaged", dir.file(LOSSES_FILE)))),
    }
}

/// How many offsets a partition has lost. A file that cannot be understood is for `verify` to tell.
///
/// # Errors
/// Of the disk.
pub(super) fn lost_offsets(dir: &PartitionDir) -> io::Result<u64> {
    match load(dir) {
        Ok(losses) => Ok(losses.iter().map(|loss| loss.last_offset.abs_diff(loss.first_offset) + 1).sum()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            tracing::warn!(%error, "what was given up of a partition is not known any more");
            Ok(0)
        }
        Err(error) => Err(error),
    }
}

/// Writes it, durable on return.
///
/// # Errors
/// Of the disk; what was written before is still there.
pub(super) fn save(storage: &dyn Storage, dir: &PartitionDir, losses: &[Loss]) -> io::Result<()> {
    let file = File { format: FORMAT, losses: losses.to_vec() };
    let bytes = serde_json::to_vec_pretty(&file).expect("plain data");
    storage.write_atomic(&dir.file(LOSSES_FILE), &bytes)
}
