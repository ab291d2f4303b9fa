//! A record batch where it lies: the layout, a checked view of it, and the few writes that a broker
//! makes into one.
//!
//! ```text
//!  0  base offset            i64 ┐ the prefix: rewritten by the broker,
//!  8  batch length           i32 │ counted from byte 12
//! 12  partition leader epoch i32 ┘
//! 16  magic                  i8    2
//! 17  crc                    u32   CRC-32C of byte 21 to the end
//! 21  attributes             i16   bits 0-2 compression, 3 timestamp type, 4 transactional,
//!                                  5 control, 6 delete horizon
//! 23  last offset delta      i32
//! 27  base timestamp         i64   ms
//! 35  max timestamp          i64   ms
//! 43  producer id            i64   -1: none
//! 51  producer epoch         i16
//! 53  base sequence          i32
//! 57  record count           i32
//! 61  records                      compressed as one block, if at all
//! ```
//!
//! The checksum leaves the prefix out, which is what lets a broker assign offsets without touching
//! what the producer signed. It is also why a reader of a log has to check offsets for itself.

use std::borrow::Cow;

use bytes::Bytes;

use super::compression::{Compression, DecompressLimits};
use super::error::BatchError;
use super::record::{RecordRefs, Records};

/// Bytes of a batch before its records.
pub const OVERHEAD: usize = 61;

/// Where the length field ends and what it counts begins.
pub const LENGTH_FIELD_END: usize = 12;

pub(crate) const LENGTH_AT: usize = 8;
pub(crate) const LEADER_EPOCH_AT: usize = 12;
pub(crate) const MAGIC_AT: usize = 16;
pub(crate) const CRC_AT: usize = 17;
pub(crate) const ATTRIBUTES_AT: usize = 21;
pub(crate) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(crate) const BASE_TIMESTAMP_AT: usize = 27;
pub(crate) const MAX_TIMESTAMP_AT: usize = 35;
pub(crate) const PRODUCER_ID_AT: usize = 43;
pub(crate) const PRODUCER_EPOCH_AT: usize = 51;
pub(crate) const BASE_SEQUENCE_AT: usize = 53;
pub(crate) const RECORD_COUNT_AT: usize = 57;

/// The only format that is read and written.
pub(crate) const MAGIC: i8 = 2;

/// CRC-32C (Castagnoli) of `bytes`, with the CPU's instructions where it has them.
#[must_use]
#[inline]
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// CRC-32C of `first` followed by `second`.
pub(crate) fn crc32c_of_both(first: &[u8], second: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(first);
    digest.update(second);
    digest.finalize() as u32
}

/// Whose clock a batch's timestamps are from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TimestampType {
    /// The producer's: each record has its own.
    #[default]
    CreateTime,
    /// The broker's: all records have the batch's max timestamp.
    LogAppendTime,
}

/// The 16 attribute bits of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes(u16);

impl Attributes {
    pub(crate) const COMPRESSION_MASK: u16 = 0b111;
    pub(crate) const LOG_APPEND_TIME: u16 = 1 << 3;
    pub(crate) const TRANSACTIONAL: u16 = 1 << 4;
    pub(crate) const CONTROL: u16 = 1 << 5;
    pub(crate) const DELETE_HORIZON: u16 = 1 << 6;

    /// Attributes of exactly these bits.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Attributes {
        Attributes(bits)
    }

    /// The bits as they are stored.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// How the records are compressed; an error for the ids that Kafka does not define.
    pub fn compression(self) -> Result<Compression, BatchError> {
        let id = (self.0 & Self::COMPRESSION_MASK) as u8;
        Compression::from_id(id).ok_or(BatchError::UnsupportedCompression(id))
    }

    /// Whose clock the timestamps are from.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Whether the batch is part of a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a control record (a transaction's end) instead of a user's data.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time after which compaction may drop tombstones (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    pub(crate) const fn with(self, bit: u16, set: bool) -> Attributes {
        Attributes(if set { self.0 | bit } else { self.0 & !bit })
    }

    pub(crate) const fn with_compression(self, compression: Compression) -> Attributes {
        Attributes((self.0 & !Self::COMPRESSION_MASK) | compression.id() as u16)
    }
}

/// A view of one batch whose header has been checked: all its bytes are there, and its fields do not
/// contradict each other. The checksum and the records are checked by [`verify_crc`] and by reading
/// them.
///
/// [`verify_crc`]: RecordBatch::verify_crc
#[derive(Debug, Clone, Copy)]
pub struct RecordBatch<'a> {
    /// The batch and nothing after it; at least [`OVERHEAD`] bytes.
    bytes: &'a [u8],
}

impl<'a> RecordBatch<'a> {
    /// The first batch of `bytes`, which may go on after it.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] when more bytes are needed, [`BatchError::UnsupportedMagic`] for the
    /// formats before v2, [`BatchError::Corrupt`] when the header contradicts itself.
    pub fn parse(bytes: &'a [u8]) -> Result<RecordBatch<'a>, BatchError> {
        let have = bytes.len();
        // Old formats are told apart at byte 16 too, and can be shorter than a v2 header.
        if have > MAGIC_AT && bytes[MAGIC_AT] as i8 != MAGIC {
            return Err(match bytes[MAGIC_AT] as i8 {
                magic @ (0 | 1) => BatchError::UnsupportedMagic(magic),
                _ => BatchError::Corrupt("magic is not 0, 1 or 2"),
            });
        }
        if have < OVERHEAD {
            return Err(BatchError::Truncated { needed: OVERHEAD, have });
        }
        let length = i32_at(bytes, LENGTH_AT);
        let needed = match usize::try_from(length) {
            Ok(length) if length >= OVERHEAD - LENGTH_FIELD_END => LENGTH_FIELD_END + length,
            _ => return Err(BatchError::Corrupt("length is below that of a header")),
        };
        if have < needed {
            return Err(BatchError::Truncated { needed, have });
        }
        let batch = RecordBatch { bytes: &bytes[..needed] };
        batch.check_counts()?;
        Ok(batch)
    }

    fn check_counts(&self) -> Result<(), BatchError> {
        if self.base_offset() < 0 {
            return Err(BatchError::Corrupt("base offset is negative"));
        }
        let delta = self.last_offset_delta();
        if delta < 0 {
            return Err(BatchError::Corrupt("last offset delta is negative"));
        }
        // Past the last offset there must be a next one, which has to fit too.
        if self.base_offset() >= i64::MAX - i64::from(delta) {
            return Err(BatchError::Corrupt("offsets overflow"));
        }
        // Compaction takes records out and leaves the offsets: fewer than the range, or none at all.
        let count = self.record_count();
        if count < 0 || i64::from(count) > i64::from(delta) + 1 {
            return Err(BatchError::Corrupt("record count does not fit the offsets"));
        }
        Ok(())
    }

    /// The whole batch, prefix included.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// A copy of the header, prefix included.
    pub(crate) fn header(&self) -> [u8; OVERHEAD] {
        array_at(self.bytes, 0)
    }

    /// Length of the whole batch in bytes, at least [`OVERHEAD`].
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The records as stored, compressed if the batch is.
    #[must_use]
    pub fn records_payload(&self) -> &'a [u8] {
        &self.bytes[OVERHEAD..]
    }

    /// Offset of the first record, or where it was before compaction.
    #[must_use]
    pub fn base_offset(&self) -> i64 {
        i64_at(self.bytes, 0)
    }

    /// Offset of the last record, or where it was before compaction.
    #[must_use]
    pub fn last_offset(&self) -> i64 {
        self.base_offset() + i64::from(self.last_offset_delta())
    }

    /// The offset that follows this batch.
    #[must_use]
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Epoch of the leader that appended the batch; what a client puts here means nothing.
    #[must_use]
    pub fn partition_leader_epoch(&self) -> i32 {
        i32_at(self.bytes, LEADER_EPOCH_AT)
    }

    /// The checksum in the header.
    #[must_use]
    pub fn crc(&self) -> u32 {
        i32_at(self.bytes, CRC_AT) as u32
    }

    /// Compression, timestamp type and the kind of batch.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes(i16_at(self.bytes, ATTRIBUTES_AT) as u16)
    }

    /// Last offset less base offset.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32_at(self.bytes, LAST_OFFSET_DELTA_AT)
    }

    /// What the records' timestamps are relative to, in ms since the epoch; or a delete horizon.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        i64_at(self.bytes, BASE_TIMESTAMP_AT)
    }

    /// Largest timestamp of the records in ms since the epoch, -1 if they have none.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        i64_at(self.bytes, MAX_TIMESTAMP_AT)
    }

    /// Largest timestamp of the records, `None` if there are no records: compaction leaves batches whose
    /// header speaks of a time and that hold nothing.
    #[must_use]
    pub fn newest_timestamp(&self) -> Option<i64> {
        (self.record_count() > 0).then(|| self.max_timestamp())
    }

    /// The idempotent producer's id, -1 for none.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        i64_at(self.bytes, PRODUCER_ID_AT)
    }

    /// The idempotent producer's epoch, -1 for none.
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        i16_at(self.bytes, PRODUCER_EPOCH_AT)
    }

    /// Sequence number of the first record, -1 for none.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        i32_at(self.bytes, BASE_SEQUENCE_AT)
    }

    /// Sequence number of the last record, -1 for none. Sequences run from 0 to 2³¹-1 and then from 0
    /// again.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            base if base < 0 => -1,
            base => base.wrapping_add(self.last_offset_delta()) & i32::MAX,
        }
    }

    /// Records in the batch; fewer than its offsets after compaction, and never negative.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        i32_at(self.bytes, RECORD_COUNT_AT)
    }

    /// Checks the checksum over byte 21 to the end.
    ///
    /// # Errors
    /// [`BatchError::CrcMismatch`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c(&self.bytes[ATTRIBUTES_AT..]);
        let stored = self.crc();
        if computed == stored { Ok(()) } else { Err(BatchError::CrcMismatch { stored, computed }) }
    }

    /// The records' bytes after decompression: borrowed where there is no compression.
    ///
    /// # Errors
    /// An unknown codec, malformed input, or more output than `limits` allow.
    pub fn decompressed_payload(&self, limits: DecompressLimits) -> Result<Cow<'a, [u8]>, BatchError> {
        match self.attributes().compression()? {
            Compression::None => Ok(Cow::Borrowed(self.records_payload())),
            codec => Ok(Cow::Owned(codec.decompress(self.records_payload(), limits)?)),
        }
    }

    /// Reads the records out of a payload that [`decompressed_payload`] gave, without allocation.
    ///
    /// [`decompressed_payload`]: RecordBatch::decompressed_payload
    #[must_use]
    pub fn record_refs<'p>(&self, payload: &'p [u8]) -> RecordRefs<'p> {
        RecordRefs::new(self, payload)
    }

    /// The records with keys and values of their own: slices of one buffer, which is a copy of the
    /// payload or what it decompresses to. [`Records::of`] does without the copy.
    ///
    /// # Errors
    /// As [`decompressed_payload`](RecordBatch::decompressed_payload); errors inside a record come
    /// from the iterator.
    pub fn records(&self, limits: DecompressLimits) -> Result<Records, BatchError> {
        let payload = match self.decompressed_payload(limits)? {
            Cow::Borrowed(bytes) => Bytes::copy_from_slice(bytes),
            Cow::Owned(bytes) => Bytes::from(bytes),
        };
        Ok(Records::new(self, payload))
    }
}

/// The batches of `bytes`, one after the other. After an error (a batch cut at the end included) the
/// iterator is at its end.
#[must_use]
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { rest: bytes }
}

/// Iterator that [`batches`] returns.
#[derive(Debug, Clone)]
pub struct Batches<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<RecordBatch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let parsed = RecordBatch::parse(self.rest);
        self.rest = match &parsed {
            Ok(batch) => &self.rest[batch.size_bytes()..],
            Err(_) => &[],
        };
        Some(parsed)
    }
}

/// Writes what the broker assigns into the first 16 bytes of a batch, all outside the checksum.
///
/// # Panics
/// When `batch` is shorter than 16 bytes.
pub fn write_prefix(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    put_at(batch, 0, &base_offset.to_be_bytes());
    put_at(batch, LEADER_EPOCH_AT, &leader_epoch.to_be_bytes());
}

/// Gives all records of the batch in `batch` the broker's time, as `message.timestamp.type` of
/// `LogAppendTime` asks, and makes the checksum anew. The records stay as they are: readers take the
/// max timestamp for each.
///
/// # Errors
/// Those of [`RecordBatch::parse`]; nothing has been written then.
pub fn set_log_append_time(batch: &mut [u8], now_ms: i64) -> Result<(), BatchError> {
    let view = RecordBatch::parse(batch)?;
    let size = view.size_bytes();
    let attributes = view.attributes().with(Attributes::LOG_APPEND_TIME, true);
    put_at(batch, ATTRIBUTES_AT, &attributes.bits().to_be_bytes());
    put_at(batch, MAX_TIMESTAMP_AT, &now_ms.to_be_bytes());
    let crc = crc32c(&batch[ATTRIBUTES_AT..size]);
    put_at(batch, CRC_AT, &crc.to_be_bytes());
    Ok(())
}

pub(crate) fn put_at<const N: usize>(bytes: &mut [u8], at: usize, value: &[u8; N]) {
    bytes[at..at + N].copy_from_slice(value);
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}

pub(crate) fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(array_at(bytes, at))
}

pub(crate) fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(array_at(bytes, at))
}

pub(crate) fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(array_at(bytes, at))
}
