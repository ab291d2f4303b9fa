//! What a broker checks of a batch that a producer sends, before any lock is taken.
//!
//! An uncompressed batch is checked to the last record, without allocation: the checksum is most of
//! the work. A compressed one is taken by its header and checksum, and unpacked only where the topic
//! asks for what is inside (keys, for compaction; how old a record may be, which no header says) or
//! for another codec, or to name the records that it is refused for (decision 17). The bytes of the
//! records are never copied; what a topic changes about a batch is all in its 61-byte header.

use bytes::{Buf, Bytes};

use super::batch::{
    ATTRIBUTES_AT, Attributes, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, CRC_AT, LAST_OFFSET_DELTA_AT, LENGTH_AT,
    LENGTH_FIELD_END, MAX_TIMESTAMP_AT, OVERHEAD, PRODUCER_EPOCH_AT, PRODUCER_ID_AT, RECORD_COUNT_AT,
    RecordBatch, TimestampType, crc32c_of_both, i16_at, i32_at, i64_at, put_at, write_prefix,
};
use super::compression::{Compression, CompressionLevels, DecompressLimits};
use super::error::BatchError;

/// Records that a rejection names one by one; the others are rejected with the batch all the same.
pub const RECORD_ERRORS_MAX: usize = 100;

/// A timestamp that means there is none.
const NO_TIMESTAMP: i64 = -1;

/// What a topic demands of the batches it takes.
#[derive(Debug, Clone)]
pub struct ValidateOptions {
    /// `max.message.bytes`: the size of the whole batch, as stored.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// The broker's clock, ms since the epoch.
    pub now_ms: i64,
    /// `message.timestamp.before.max.ms`: how far in the past a producer's timestamp may lie.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far in the future a producer's timestamp may lie.
    pub timestamp_after_max_ms: i64,
    /// Whether every record must have a key, as compaction needs.
    pub compacted: bool,
    /// `compression.type`: `None` keeps the producer's.
    pub target_compression: Option<Compression>,
    /// `compression.gzip.level` and `compression.zstd.level`, where records are compressed anew.
    pub compression_levels: CompressionLevels,
    /// Bounds on what a compressed batch may unpack to, where it has to be unpacked.
    pub decompress_limits: DecompressLimits,
}

impl Default for ValidateOptions {
    /// Kafka's defaults, with the clock at 0: 1 MiB, create time, an hour into the future.
    fn default() -> ValidateOptions {
        ValidateOptions {
            max_message_bytes: (1 << 20) + 12,
            timestamp_type: TimestampType::CreateTime,
            now_ms: 0,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            compacted: false,
            target_compression: None,
            compression_levels: CompressionLevels::default(),
            decompress_limits: DecompressLimits::default(),
        }
    }
}

/// What kind of fault a batch was rejected for. Each has a Kafka error code of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProduceErrorKind {
    /// The batch is above `max.message.bytes` (MESSAGE_TOO_LARGE).
    MessageTooLarge,
    /// Bytes are missing or changed (CORRUPT_MESSAGE).
    Corrupt,
    /// The batch is whole and says something it must not (INVALID_RECORD).
    InvalidRecord,
    /// A timestamp is out of bounds, or is claimed to be the broker's (INVALID_TIMESTAMP).
    InvalidTimestamp,
    /// No such codec (UNSUPPORTED_COMPRESSION_TYPE).
    UnsupportedCompression,
    /// Message format 0 or 1 (UNSUPPORTED_FOR_MESSAGE_FORMAT).
    UnsupportedFormat,
}

/// A record that a batch was rejected for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordError {
    /// Index of the record in its batch, from 0.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: String,
}

/// Why a batch was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ProduceRejection {
    /// The kind of fault, which decides the error code.
    pub kind: ProduceErrorKind,
    /// The fault in words, for the producer.
    pub message: String,
    /// The records at fault, where single records are; [`RECORD_ERRORS_MAX`] at most.
    pub record_errors: Vec<RecordError>,
}

impl ProduceRejection {
    fn new(kind: ProduceErrorKind, message: impl Into<String>) -> ProduceRejection {
        ProduceRejection { kind, message: message.into(), record_errors: Vec::new() }
    }
}

impl From<BatchError> for ProduceRejection {
    fn from(error: BatchError) -> ProduceRejection {
        let kind = match &error {
            BatchError::UnsupportedMagic(_) => ProduceErrorKind::UnsupportedFormat,
            BatchError::Truncated { .. } | BatchError::Corrupt(_) | BatchError::CrcMismatch { .. } => {
                ProduceErrorKind::Corrupt
            }
            BatchError::UnsupportedCompression(_) => ProduceErrorKind::UnsupportedCompression,
            // The checksum was right, so this is what the producer meant to send.
            BatchError::Decompress(_) | BatchError::Record { .. } => ProduceErrorKind::InvalidRecord,
        };
        ProduceRejection::new(kind, error.to_string())
    }
}

/// A checked batch, ready to be appended: the header, to be written with the offset it is given, and
/// the records as they came (or recompressed, where the topic wants that).
#[derive(Debug, Clone)]
pub struct ProducedBatch {
    header: [u8; OVERHEAD],
    payload: Bytes,
    internal: bool,
}

/// Checks `records`, the bytes that a Produce request holds for one partition, against what the topic
/// demands.
///
/// # Errors
/// A [`ProduceRejection`] that says which rule was broken, and by which records.
pub fn validate_produced(
    records: Bytes,
    options: &ValidateOptions,
) -> Result<ProducedBatch, ProduceRejection> {
    if records.is_empty() {
        return Err(ProduceRejection::new(ProduceErrorKind::InvalidRecord, "there is no record batch"));
    }
    let batch = RecordBatch::parse(&records)?;
    check_size(batch.size_bytes(), options)?;
    if batch.size_bytes() != records.len() {
        let message = "a partition takes exactly one record batch a request";
        return Err(ProduceRejection::new(ProduceErrorKind::InvalidRecord, message));
    }
    batch.verify_crc()?;
    check_header(&batch)?;

    let codec = batch.attributes().compression()?;
    let target = options.target_compression.unwrap_or(codec);
    let attributes = batch.attributes();
    let header = batch.header();
    let mut max_timestamp = batch.max_timestamp();
    let mut recompressed = None;
    if codec == Compression::None || target != codec || must_be_unpacked(&batch, options) {
        let payload = batch.decompressed_payload(options.decompress_limits)?;
        max_timestamp = check_records(&batch, &payload, options)?;
        if target != codec {
            let bytes = Bytes::from(target.compress_at(options.compression_levels, &payload));
            check_size(OVERHEAD + bytes.len(), options)?;
            recompressed = Some(bytes);
        }
    }

    let broker_time = options.timestamp_type == TimestampType::LogAppendTime;
    if broker_time {
        max_timestamp = options.now_ms;
    }
    let attributes = attributes.with_compression(target).with(Attributes::LOG_APPEND_TIME, broker_time);
    let payload = recompressed.unwrap_or_else(|| payload_of(records));
    let mut produced = ProducedBatch { header, payload, internal: false };
    produced.rewrite(attributes, max_timestamp)?;
    Ok(produced)
}

/// Whether the header of a compressed batch is not enough. It has the first record's timestamp and the
/// largest, so nothing in it tells how old the oldest is; and what it has may be out of bounds, which
/// records then are named for.
fn must_be_unpacked(batch: &RecordBatch<'_>, options: &ValidateOptions) -> bool {
    let producers_time = options.timestamp_type == TimestampType::CreateTime;
    options.compacted
        || producers_time && options.timestamp_before_max_ms != i64::MAX
        || check_timestamp_range(batch.base_timestamp(), batch.max_timestamp(), options).is_err()
}

/// The records of the one batch in `bytes`. Taking them out of the buffer, and not a share of it, spares
/// the counting of shares.
fn payload_of(mut bytes: Bytes) -> Bytes {
    bytes.advance(OVERHEAD);
    bytes
}

fn check_size(size_bytes: usize, options: &ValidateOptions) -> Result<(), ProduceRejection> {
    if size_bytes <= options.max_message_bytes {
        return Ok(());
    }
    let message =
        format!("batch of {size_bytes} bytes is above the topic's maximum of {}", options.max_message_bytes);
    Err(ProduceRejection::new(ProduceErrorKind::MessageTooLarge, message))
}

/// The rules for a header whose checksum is right: what a producer may say.
fn check_header(batch: &RecordBatch<'_>) -> Result<(), ProduceRejection> {
    let attributes = batch.attributes();
    let broken = if batch.base_offset() != 0 {
        "base offset of a batch that is produced is not 0"
    } else if batch.record_count() == 0 {
        "batch has no records"
    } else if i64::from(batch.record_count()) != i64::from(batch.last_offset_delta()) + 1 {
        "record count is not the last offset delta and one"
    } else if attributes.is_control() {
        "clients may not write control records"
    } else if attributes.has_delete_horizon() {
        "clients may not set a delete horizon"
    } else if batch.producer_id() < -1 {
        "producer id is malformed"
    } else if batch.producer_id() >= 0 && batch.producer_epoch() < 0 {
        "batch has a producer id and no producer epoch"
    } else if batch.producer_id() >= 0 && batch.base_sequence() < 0 {
        "batch has a producer id and no sequence"
    } else if attributes.is_transactional() && batch.producer_id() < 0 {
        "transactional batch has no producer id"
    } else if attributes.timestamp_type() == TimestampType::LogAppendTime {
        let message = "producers may not set the timestamp type to LogAppendTime";
        return Err(ProduceRejection::new(ProduceErrorKind::InvalidTimestamp, message));
    } else {
        return Ok(());
    };
    Err(ProduceRejection::new(ProduceErrorKind::InvalidRecord, broken))
}

/// Walks the records, which also checks their lengths, count and offsets, and returns the largest
/// timestamp. That offsets rise, within a range of as many as there are records, makes them
/// consecutive.
fn check_records(
    batch: &RecordBatch<'_>,
    payload: &[u8],
    options: &ValidateOptions,
) -> Result<i64, ProduceRejection> {
    let mut earliest = i64::MAX;
    let mut latest = i64::MIN;
    let mut keyless = false;
    for record in batch.record_refs(payload) {
        let record = record?;
        earliest = earliest.min(record.timestamp);
        latest = latest.max(record.timestamp);
        keyless |= record.key.is_none();
    }
    if keyless && options.compacted {
        return Err(reject_records(batch, payload, ProduceErrorKind::InvalidRecord, |key, _| {
            key.is_none().then(|| "a compacted topic takes no record without a key".to_owned())
        }));
    }
    if check_timestamp_range(earliest, latest, options).is_err() {
        return Err(reject_records(batch, payload, ProduceErrorKind::InvalidTimestamp, |_, timestamp| {
            check_timestamp_range(timestamp, timestamp, options).err()
        }));
    }
    Ok(latest)
}

/// Whether all from `earliest` to `latest` are acceptable as producers' timestamps.
fn check_timestamp_range(earliest: i64, latest: i64, options: &ValidateOptions) -> Result<(), String> {
    if options.timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let from = options.now_ms.saturating_sub(options.timestamp_before_max_ms).max(NO_TIMESTAMP);
    let to = options.now_ms.saturating_add(options.timestamp_after_max_ms);
    let in_range = |timestamp| timestamp == NO_TIMESTAMP || (from..=to).contains(&timestamp);
    match [earliest, latest].into_iter().find(|&timestamp| !in_range(timestamp)) {
        None => Ok(()),
        Some(timestamp) => {
            Err(format!("timestamp {timestamp} is out of range: the topic takes {from} to {to}"))
        }
    }
}

/// The second walk, for a batch that is refused anyway: which records are at fault.
fn reject_records(
    batch: &RecordBatch<'_>,
    payload: &[u8],
    kind: ProduceErrorKind,
    fault: impl Fn(Option<&[u8]>, i64) -> Option<String>,
) -> ProduceRejection {
    let record_errors: Vec<RecordError> = (0..)
        .zip(batch.record_refs(payload).map_while(Result::ok))
        .filter_map(|(batch_index, record)| {
            fault(record.key, record.timestamp).map(|message| RecordError { batch_index, message })
        })
        .take(RECORD_ERRORS_MAX)
        .collect();
    let message = record_errors.first().map_or_else(String::new, |first| first.message.clone());
    ProduceRejection { kind, message, record_errors }
}

impl ProducedBatch {
    /// Takes a batch that the broker made itself: a coordinator's records, or a transaction's end. The
    /// rules for clients do not apply; bytes and checksum are those of [`BatchBuilder`].
    ///
    /// # Errors
    /// What [`RecordBatch::parse`] says, an unknown codec, and [`BatchError::Corrupt`] unless it is
    /// exactly one batch with a record for every offset.
    ///
    /// [`BatchBuilder`]: super::BatchBuilder
    pub fn internal(bytes: Bytes) -> Result<ProducedBatch, BatchError> {
        let batch = RecordBatch::parse(&bytes)?;
        if batch.size_bytes() != bytes.len() {
            return Err(BatchError::Corrupt("bytes after the batch"));
        }
        if i64::from(batch.record_count()) != i64::from(batch.last_offset_delta()) + 1 {
            return Err(BatchError::Corrupt("offsets are missing"));
        }
        batch.attributes().compression()?;
        Ok(ProducedBatch { header: batch.header(), payload: payload_of(bytes), internal: true })
    }

    /// Whether the broker made it itself. What it has to remember may use the last of the disk.
    pub fn is_internal(&self) -> bool {
        self.internal
    }

    /// Makes length, attributes and max timestamp what they are to be, and the checksum with them.
    fn rewrite(&mut self, attributes: Attributes, max_timestamp: i64) -> Result<(), ProduceRejection> {
        let length = i32::try_from(OVERHEAD - LENGTH_FIELD_END + self.payload.len()).map_err(|_| {
            ProduceRejection::new(ProduceErrorKind::MessageTooLarge, "batch is larger than 2 GiB")
        })?;
        if attributes == self.attributes()
            && max_timestamp == self.max_timestamp()
            && length == i32_at(&self.header, LENGTH_AT)
        {
            return Ok(());
        }
        put_at(&mut self.header, LENGTH_AT, &length.to_be_bytes());
        put_at(&mut self.header, ATTRIBUTES_AT, &attributes.bits().to_be_bytes());
        put_at(&mut self.header, MAX_TIMESTAMP_AT, &max_timestamp.to_be_bytes());
        let crc = crc32c_of_both(&self.header[ATTRIBUTES_AT..], &self.payload);
        put_at(&mut self.header, CRC_AT, &crc.to_be_bytes());
        Ok(())
    }

    /// The header as it is to be stored at `base_offset` by the leader of `leader_epoch`. The
    /// [`payload`](ProducedBatch::payload) follows it.
    #[must_use]
    pub fn header(&self, base_offset: i64, leader_epoch: i32) -> [u8; OVERHEAD] {
        let mut header = self.header;
        write_prefix(&mut header, base_offset, leader_epoch);
        header
    }

    /// The records as they are to be stored.
    #[must_use]
    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Header and records in one piece, copied: for tests and for tools.
    #[must_use]
    pub fn to_bytes(&self, base_offset: i64, leader_epoch: i32) -> Bytes {
        [&self.header(base_offset, leader_epoch), &self.payload[..]].concat().into()
    }

    /// Length of the whole batch in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> usize {
        OVERHEAD + self.payload.len()
    }

    /// Records in the batch, at least one; offsets are as many.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        i32_at(&self.header, RECORD_COUNT_AT)
    }

    /// Last offset less base offset.
    #[must_use]
    pub fn last_offset_delta(&self) -> i32 {
        i32_at(&self.header, LAST_OFFSET_DELTA_AT)
    }

    /// The checksum as it is to be stored.
    #[must_use]
    pub fn crc(&self) -> u32 {
        i32_at(&self.header, CRC_AT) as u32
    }

    /// Compression, timestamp type and the kind of batch.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        Attributes::from_bits(i16_at(&self.header, ATTRIBUTES_AT) as u16)
    }

    /// How the records are compressed as stored.
    #[must_use]
    pub fn compression(&self) -> Compression {
        // Both constructors have seen the codec, so the fallback is never taken.
        self.attributes().compression().unwrap_or_default()
    }

    /// What the records' timestamps are relative to, ms since the epoch.
    #[must_use]
    pub fn base_timestamp(&self) -> i64 {
        i64_at(&self.header, BASE_TIMESTAMP_AT)
    }

    /// Largest timestamp of the records in ms since the epoch, -1 if they have none.
    #[must_use]
    pub fn max_timestamp(&self) -> i64 {
        i64_at(&self.header, MAX_TIMESTAMP_AT)
    }

    /// The time that the broker gave the records, -1 when they keep the producer's: what the answer to
    /// Produce says.
    #[must_use]
    pub fn log_append_time_ms(&self) -> i64 {
        match self.attributes().timestamp_type() {
            TimestampType::CreateTime => NO_TIMESTAMP,
            TimestampType::LogAppendTime => self.max_timestamp(),
        }
    }

    /// The idempotent producer's id, -1 for none.
    #[must_use]
    pub fn producer_id(&self) -> i64 {
        i64_at(&self.header, PRODUCER_ID_AT)
    }

    /// The idempotent producer's epoch, -1 for none.
    #[must_use]
    pub fn producer_epoch(&self) -> i16 {
        i16_at(&self.header, PRODUCER_EPOCH_AT)
    }

    /// Sequence number of the first record, -1 for none.
    #[must_use]
    pub fn base_sequence(&self) -> i32 {
        i32_at(&self.header, BASE_SEQUENCE_AT)
    }

    /// Sequence number of the last record, -1 for none. Sequences wrap from 2³¹-1 to 0.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            base if base < 0 => -1,
            base => base.wrapping_add(self.last_offset_delta()) & i32::MAX,
        }
    }
}
