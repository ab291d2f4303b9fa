//! What can be wrong with the bytes of a batch.

use super::compression::DecompressError;

/// Why a batch, or a record inside one, could not be read. Every variant is a statement about bytes
/// that came from the network or the disk; none is a fault of the reader.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does. At the end of a fetched range this is the ordinary case:
    /// a broker may cut the last batch.
    #[error("batch needs {needed} bytes, only {have} are there")]
    Truncated {
        /// Bytes the batch takes, as far as they are known: the header, or all of it.
        needed: usize,
        /// Bytes at hand.
        have: usize,
    },
    /// Magic 0 or 1: a message set of before Kafka 0.11, which Highwater neither stores nor converts.
    #[error("message format v{0} is not supported, only v2 is")]
    UnsupportedMagic(i8),
    /// A field of the header contradicts the format.
    #[error("corrupt batch: {0}")]
    Corrupt(&'static str),
    /// The bytes are not those the checksum was made of.
    #[error("CRC-32C is {computed:#010x}, the batch says {stored:#010x}")]
    CrcMismatch {
        /// The checksum in the header.
        stored: u32,
        /// The checksum of the bytes.
        computed: u32,
    },
    /// A compression id that Kafka does not define (5 to 7).
    #[error("compression type {0} is unknown")]
    UnsupportedCompression(u8),
    /// The records could not be decompressed within the limits.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// A record inside the batch is malformed.
    #[error("record {index} of the batch: {reason}")]
    Record {
        /// Index of the record in its batch, from 0.
        index: i32,
        /// What is wrong with it.
        reason: &'static str,
    },
}
