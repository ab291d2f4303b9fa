//! Making batches: what producers do, and coordinators for the records they keep.

use bytes::{Bytes, BytesMut};

use super::batch::{
    ATTRIBUTES_AT, Attributes, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, CRC_AT, LAST_OFFSET_DELTA_AT, LENGTH_AT,
    LENGTH_FIELD_END, MAGIC, MAGIC_AT, MAX_TIMESTAMP_AT, OVERHEAD, PRODUCER_EPOCH_AT, PRODUCER_ID_AT,
    RECORD_COUNT_AT, crc32c, put_at, write_prefix,
};
use super::compression::Compression;
use super::record::Header;
use super::varint::{len_i32, len_i64, put_i32, put_i64};

/// No leader epoch: what clients send, and the broker overwrites.
const NO_LEADER_EPOCH: i32 = -1;

/// Who an idempotent or transactional batch is from, and where in its sequence it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// Producer id, -1 for none.
    pub id: i64,
    /// Producer epoch, -1 for none.
    pub epoch: i16,
    /// Sequence number of the first record, -1 for none.
    pub base_sequence: i32,
}

impl ProducerStamp {
    /// The stamp of a producer that is not idempotent.
    pub const NONE: ProducerStamp = ProducerStamp { id: -1, epoch: -1, base_sequence: -1 };
}

/// Why a record did not go into a batch, or a batch could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// A batch has at least one record.
    #[error("a batch needs at least one record")]
    Empty,
    /// Lengths and counts in a batch are 31 bits.
    #[error("batch would be larger than 2 GiB")]
    TooLarge,
    /// The record's time is too far from the first one's to be written as a difference.
    #[error("timestamp is more than 63 bits away from the batch's first")]
    TimestampOutOfRange,
}

/// Collects records and makes a batch of them. Records are encoded as they are added, so that the size
/// is known at any time; compression and the checksum come with [`build`](BatchBuilder::build).
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    attributes: Attributes,
    compression: Compression,
    producer: ProducerStamp,
    leader_epoch: i32,
    /// Replaces the records' own maximum when the broker's clock counts.
    log_append_time: Option<i64>,
    /// Room for the header, then the records, uncompressed.
    buffer: BytesMut,
    record_count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch with this compression, create time and no producer id.
    #[must_use]
    pub fn new(compression: Compression) -> BatchBuilder {
        BatchBuilder {
            attributes: Attributes::default().with_compression(compression),
            compression,
            producer: ProducerStamp::NONE,
            leader_epoch: NO_LEADER_EPOCH,
            log_append_time: None,
            buffer: BytesMut::zeroed(OVERHEAD),
            record_count: 0,
            base_timestamp: -1,
            max_timestamp: -1,
        }
    }

    /// Stamps the batch with an idempotent producer's id, epoch and first sequence.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.set_producer(ProducerStamp { id, epoch, base_sequence });
        self
    }

    /// As [`producer`](BatchBuilder::producer), on a builder that is already being filled: a producer
    /// knows its next sequence only when it sends.
    pub fn set_producer(&mut self, stamp: ProducerStamp) {
        self.producer = stamp;
    }

    /// Marks the batch as part of a transaction.
    #[must_use]
    pub fn transactional(mut self, transactional: bool) -> BatchBuilder {
        self.attributes = self.attributes.with(Attributes::TRANSACTIONAL, transactional);
        self
    }

    /// Marks the batch as holding a control record. Brokers refuse it from clients.
    #[must_use]
    pub fn control(mut self, control: bool) -> BatchBuilder {
        self.attributes = self.attributes.with(Attributes::CONTROL, control);
        self
    }

    /// Gives all records the broker's time, in ms.
    #[must_use]
    pub fn log_append_time(mut self, now_ms: i64) -> BatchBuilder {
        self.attributes = self.attributes.with(Attributes::LOG_APPEND_TIME, true);
        self.log_append_time = Some(now_ms);
        self
    }

    /// Writes a leader epoch into the prefix; brokers overwrite it at append.
    #[must_use]
    pub fn partition_leader_epoch(mut self, leader_epoch: i32) -> BatchBuilder {
        self.leader_epoch = leader_epoch;
        self
    }

    /// Adds a record with a time in ms (-1 for none) and returns its offset delta: 0, 1, 2 ...
    ///
    /// # Errors
    /// [`BuildError::TooLarge`] and [`BuildError::TimestampOutOfRange`]; the batch is as it was then.
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> Result<i32, BuildError> {
        let base_timestamp = if self.record_count == 0 { timestamp_ms } else { self.base_timestamp };
        let timestamp_delta =
            timestamp_ms.checked_sub(base_timestamp).ok_or(BuildError::TimestampOutOfRange)?;
        let offset_delta = self.record_count;
        let body = body_len(timestamp_delta, offset_delta, key, value, headers);
        if self.buffer.len().saturating_add(body).saturating_add(5) > i32::MAX as usize {
            return Err(BuildError::TooLarge);
        }

        let out = &mut self.buffer;
        out.reserve(body + 5);
        put_i32(out, body as i32);
        out.extend_from_slice(&[0]);
        put_i64(out, timestamp_delta);
        put_i32(out, offset_delta);
        put_nullable(out, key);
        put_nullable(out, value);
        put_i32(out, headers.len() as i32);
        for header in headers {
            put_nullable(out, Some(&header.key));
            put_nullable(out, header.value.as_deref());
        }

        self.base_timestamp = base_timestamp;
        self.max_timestamp =
            if self.record_count == 0 { timestamp_ms } else { self.max_timestamp.max(timestamp_ms) };
        self.record_count += 1;
        Ok(offset_delta)
    }

    /// Records added.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Whether nothing has been added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Size of the batch in bytes if it were not compressed: exact for [`Compression::None`], and for
    /// the codecs what they make smaller, but for a few bytes where the data defeats them.
    #[must_use]
    pub fn estimated_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes that the batch would grow by, before compression, with this record added next.
    #[must_use]
    pub fn record_bytes(
        &self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) -> usize {
        let base = if self.record_count == 0 { timestamp_ms } else { self.base_timestamp };
        let body = body_len(timestamp_ms.saturating_sub(base), self.record_count, key, value, headers);
        len_i32(i32::try_from(body).unwrap_or(i32::MAX)) + body
    }

    /// The finished batch. Clients send base offset 0.
    ///
    /// # Errors
    /// [`BuildError::Empty`] without records, [`BuildError::TooLarge`] where incompressible data
    /// grew past 2 GiB.
    pub fn build(self, base_offset: i64) -> Result<Bytes, BuildError> {
        if self.record_count == 0 {
            return Err(BuildError::Empty);
        }
        let attributes = self.attributes;
        let stamp = self.producer;
        let fields = HeaderFields {
            attributes,
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.log_append_time.unwrap_or(self.max_timestamp),
            producer: stamp,
            record_count: self.record_count,
        };
        let mut batch = match self.compression {
            Compression::None => self.buffer,
            codec => {
                let payload = codec.compress(&self.buffer[OVERHEAD..]);
                let mut batch = BytesMut::with_capacity(OVERHEAD + payload.len());
                batch.resize(OVERHEAD, 0);
                batch.extend_from_slice(&payload);
                batch
            }
        };
        write_header(&mut batch, &fields)?;
        write_prefix(&mut batch, base_offset, self.leader_epoch);
        Ok(batch.freeze())
    }
}

impl Default for BatchBuilder {
    fn default() -> BatchBuilder {
        BatchBuilder::new(Compression::None)
    }
}

/// Gives a finished batch a producer id, epoch and base sequence, and the checksum that goes with them:
/// for a producer that has to number a batch anew after the one before it was lost.
///
/// # Panics
/// When `batch` is shorter than a header.
pub fn set_producer_stamp(batch: &mut [u8], stamp: ProducerStamp) {
    put_at(batch, PRODUCER_ID_AT, &stamp.id.to_be_bytes());
    put_at(batch, PRODUCER_EPOCH_AT, &stamp.epoch.to_be_bytes());
    put_at(batch, BASE_SEQUENCE_AT, &stamp.base_sequence.to_be_bytes());
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    put_at(batch, CRC_AT, &crc.to_be_bytes());
}

/// The fields of a header under the checksum.
pub(super) struct HeaderFields {
    pub(super) attributes: Attributes,
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) producer: ProducerStamp,
    pub(super) record_count: i32,
}

/// Writes length, magic, the fields and the checksum over a batch whose records are in place.
pub(super) fn write_header(batch: &mut [u8], fields: &HeaderFields) -> Result<(), BuildError> {
    let length = i32::try_from(batch.len() - LENGTH_FIELD_END).map_err(|_| BuildError::TooLarge)?;
    put_at(batch, LENGTH_AT, &length.to_be_bytes());
    put_at(batch, MAGIC_AT, &MAGIC.to_be_bytes());
    put_at(batch, ATTRIBUTES_AT, &fields.attributes.bits().to_be_bytes());
    put_at(batch, LAST_OFFSET_DELTA_AT, &fields.last_offset_delta.to_be_bytes());
    put_at(batch, BASE_TIMESTAMP_AT, &fields.base_timestamp.to_be_bytes());
    put_at(batch, MAX_TIMESTAMP_AT, &fields.max_timestamp.to_be_bytes());
    put_at(batch, PRODUCER_ID_AT, &fields.producer.id.to_be_bytes());
    put_at(batch, PRODUCER_EPOCH_AT, &fields.producer.epoch.to_be_bytes());
    put_at(batch, BASE_SEQUENCE_AT, &fields.producer.base_sequence.to_be_bytes());
    put_at(batch, RECORD_COUNT_AT, &fields.record_count.to_be_bytes());
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    put_at(batch, CRC_AT, &crc.to_be_bytes());
    Ok(())
}

/// Bytes of a record after its length field.
fn body_len(
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[Header],
) -> usize {
    let fixed = 1 + len_i64(timestamp_delta) + len_i32(offset_delta);
    let headers_len = headers.iter().fold(len_i32(clamp(headers.len())), |sum, header| {
        sum.saturating_add(nullable_len(Some(&header.key)))
            .saturating_add(nullable_len(header.value.as_deref()))
    });
    fixed.saturating_add(nullable_len(key)).saturating_add(nullable_len(value)).saturating_add(headers_len)
}

pub(super) fn nullable_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => 1,
        Some(bytes) => len_i32(clamp(bytes.len())).saturating_add(bytes.len()),
    }
}

pub(super) fn put_nullable(out: &mut BytesMut, bytes: Option<&[u8]>) {
    match bytes {
        None => put_i32(out, -1),
        Some(bytes) => {
            put_i32(out, clamp(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

/// A length as the format has it. What does not fit is refused by its sum before it is written.
fn clamp(len: usize) -> i32 {
    i32::try_from(len).unwrap_or(i32::MAX)
}
