//! How far a log is compacted: `compaction` in the partition's directory.
//!
//! ```text
//!  0  magic         u32  "HWCL"            all numbers big-endian
//!  4  version       u32  1
//!  8  first dirty   i64  offset: every key's older records are gone from what lies below
//! 16  checksum      u32  CRC-32C of 0..16
//! ```
//! It is a hint: without it the next pass looks at the whole log once more, and changes nothing that is
//! compacted already.

use std::io;

use crate::record::crc32c;

use super::super::segment::PartitionDir;

const MAGIC: u32 = u32::from_be_bytes(*b"HWCL");
const VERSION: u32 = 1;
const FILE: &str = "compaction";

/// Writes the hint, durably.
pub(super) fn save(dir: &PartitionDir, first_dirty: i64) -> io::Result<()> {
    dir.storage.write_atomic(&dir.file(FILE), &encode(first_dirty))
}

/// The hint of the last pass; 0 if there is none that can be read.
///
/// # Errors
/// Of the disk.
pub(crate) fn load(dir: &PartitionDir) -> io::Result<i64> {
    match dir.storage.read(&dir.file(FILE)) {
        Ok(bytes) => Ok(decode(&bytes).unwrap_or(0)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

fn encode(first_dirty: i64) -> [u8; 20] {
    let mut bytes = [0; 20];
    bytes[0..4].copy_from_slice(&MAGIC.to_be_bytes());
    bytes[4..8].copy_from_slice(&VERSION.to_be_bytes());
    bytes[8..16].copy_from_slice(&first_dirty.to_be_bytes());
    let checksum = crc32c(&bytes[..16]);
    bytes[16..20].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<i64> {
    let first_dirty = i64::from_be_bytes(bytes.get(8..16)?.try_into().ok()?);
    (first_dirty >= 0 && bytes == encode(first_dirty)).then_some(first_dirty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_whole_says_nothing() {
        let bytes = encode(77);
        assert_eq!(decode(&bytes), Some(77));
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&flipped), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), None, "cut to {len}");
        }
        assert_eq!(decode(&encode(-1)), None);
    }
}
