//! The damage that made a partition read-only, for the next process to know of: `damage.json` in its directory.
//!
//! A start reads no more than what lies past the checkpoint. Without this a partition would take writes again until
//! somebody came by the damage once more.

use std::io;

use super::error::{Corruption, ReadError};
use super::read::{Isolation, LogReader};
use super::segment::PartitionDir;

/// The file, in the partition's directory.
const DAMAGE_FILE: &str = "damage.json";

/// Writes it. Best effort: without it a start is none the wiser.
pub(super) fn remember(dir: &PartitionDir, corruption: &Corruption) {
    let bytes = serde_json::to_vec_pretty(corruption).expect("plain data");
    if let Err(error) = dir.storage.write_atomic(&dir.file(DAMAGE_FILE), &bytes) {
        tracing::warn!(partition = &*dir.path, %error, "the next start will not know of the damage");
    }
}

/// Reads where an earlier process has found damage, which the reader reports if it is still there. If not, it is
/// forgotten: a file was restored, or the records were given up or deleted.
///
/// # Errors
/// Of the disk.
pub(super) fn look_again(dir: &PartitionDir, reader: &LogReader) -> io::Result<()> {
    let path = dir.file(DAMAGE_FILE);
    let bytes = match dir.storage.read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let Ok(known) = serde_json::from_slice::<Corruption>(&bytes) else {
        return dir.storage.remove_file(&path);
    };
    match reader.read(known.offset, 1, Isolation::LogEnd, true) {
        Err(ReadError::Corrupt(_)) => Ok(()),
        // It cannot even be read any more, and is no sounder for that.
        Err(ReadError::Storage(_)) => {
            reader.shared.report(known);
            Ok(())
        }
        // Not durable before the directory is synced for something else: until then it is looked at again.
        _ => dir.storage.remove_file(&path),
    }
}
