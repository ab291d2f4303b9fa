//! Producer ids: a number for each idempotent producer, never given out twice, across restarts too.
//!
//! Two producers with one id would have their records taken for each other's duplicates, so the file must be ahead of
//! every id that was given out. It is written once per block of [`BLOCK_IDS`]: a restart skips what is left of the
//! block, which 63 bits can afford.
//!
//! ```text
//! producer-ids.json   { "format": 1, "next": 2000 }      every id below 2000 may have been given out
//! ```

use std::io;
use std::sync::Arc;

use log_core::storage::Storage;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

/// The file in the data directory.
const FILE: &str = "producer-ids.json";

/// The layout that this version writes, and the only one that it reads.
const FORMAT: u32 = 1;

/// Ids that one write reserves.
const BLOCK_IDS: i64 = 1000;

#[derive(Serialize, Deserialize)]
struct Reserved {
    format: u32,
    next: i64,
}

/// Gives out producer ids.
#[derive(Debug)]
pub struct ProducerIds {
    storage: Arc<dyn Storage>,
    /// The block being given out. Held while the next one is reserved on disk, so that two requests do not both
    /// reserve one.
    block: Mutex<std::ops::Range<i64>>,
}

impl ProducerIds {
    /// Reads what earlier runs have given out; a data directory without the file starts at 0.
    ///
    /// # Errors
    /// The disk's, or `InvalidData` for a file that is not ours: guessing could repeat an id.
    pub fn open(storage: Arc<dyn Storage>) -> io::Result<ProducerIds> {
        let next = match storage.read(FILE) {
            Ok(bytes) => decode(&bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        Ok(ProducerIds { storage, block: Mutex::new(next..next) })
    }

    /// The next id. Blocks for a durable write once in [`BLOCK_IDS`] times.
    ///
    /// # Errors
    /// The disk's, while a block is reserved; no id is used up then.
    pub fn allocate(&self) -> io::Result<i64> {
        let mut block = self.block.lock();
        if block.is_empty() {
            let end = block
                .end
                .checked_add(BLOCK_IDS)
                .ok_or_else(|| io::Error::other("all producer ids are used"))?;
            self.storage.write_atomic(FILE, &encode(end))?;
            *block = block.end..end;
        }
        let id = block.start;
        block.start += 1;
        Ok(id)
    }
}

fn encode(next: i64) -> Vec<u8> {
    serde_json::to_vec(&Reserved { format: FORMAT, next }).expect("two numbers always encode")
}

fn decode(bytes: &[u8]) -> io::Result<i64> {
    let invalid = |reason: String| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE}: {reason}"));
    let reserved: Reserved = serde_json::from_slice(bytes).map_err(|error| invalid(error.to_string()))?;
    if reserved.format != FORMAT || reserved.next < 0 {
        return Err(invalid(format!("format {}, next id {}", reserved.format, reserved.next)));
    }
    Ok(reserved.next)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use log_core::storage::{MmapStorage, WriteMode};

    use super::*;

    fn open(dir: &tempfile::TempDir) -> ProducerIds {
        ProducerIds::open(Arc::new(MmapStorage::open(dir.path(), WriteMode::Mapped).unwrap())).unwrap()
    }

    #[test]
    fn ids_are_unique_across_blocks_and_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut seen = HashSet::new();
        for _restart in 0..3 {
            let ids = open(&dir);
            for _ in 0..BLOCK_IDS + 5 {
                assert!(seen.insert(ids.allocate().unwrap()));
            }
        }
        assert!(seen.iter().all(|&id| id >= 0));
    }

    #[test]
    fn a_damaged_file_is_an_error_rather_than_a_guess() {
        let dir = tempfile::tempdir().unwrap();
        open(&dir).allocate().unwrap();
        for damaged in ["", "{}", r#"{"format":2,"next":5}"#, r#"{"format":1,"next":-5}"#] {
            std::fs::write(dir.path().join(FILE), damaged).unwrap();
            let storage = Arc::new(MmapStorage::open(dir.path(), WriteMode::Mapped).unwrap());
            let error = ProducerIds::open(storage).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{damaged:?}");
        }
    }
}
