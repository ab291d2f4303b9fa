//! What compaction leaves of a batch: some of its records, or none, over the same offsets.
//!
//! Base offset, last offset and first sequence stay, so that offsets have no holes and an idempotent
//! producer is known by what is left of its batches. Three shapes:
//!
//! * a [`Remnant`] of records: those that stay, stored by the codec that they came in;
//! * an [`empty_batch`]: a producer's batch of which no record stays;
//! * a [`filler`]: nobody's batch, over the offsets of batches that are gone.
//!
//! A batch that holds tombstones gets a delete horizon when it is first compacted (KIP-534): the time
//! from which on they may go takes the place of the base timestamp, bit 6 of the attributes says so, and
//! the records' timestamps are written relative to it.

use bytes::{Bytes, BytesMut};

use super::batch::{Attributes, OVERHEAD, RecordBatch, TimestampType, write_prefix};
use super::builder::{HeaderFields, ProducerStamp, nullable_len, put_nullable, write_header};
use super::compression::Compression;
use super::error::BatchError;
use super::record::RecordRef;
use super::varint::{len_i32, len_i64, put_i32, put_i64};

/// No timestamp: what a batch without records bears.
const NO_TIMESTAMP: i64 = -1;

/// Lengths in a batch are 31 bits.
const TOO_LARGE: BatchError = BatchError::Corrupt("what is left of the batch is larger than 2 GiB");

/// The records of one batch that stay, collected in order.
#[derive(Debug)]
pub struct Remnant<'a> {
    batch: RecordBatch<'a>,
    attributes: Attributes,
    base_timestamp: i64,
    max_timestamp: i64,
    record_count: i32,
    /// Room for the header, then the records, uncompressed.
    buffer: BytesMut,
}

impl<'a> Remnant<'a> {
    /// What is left of `batch`, no record so far. With `delete_horizon_ms` the batch bears that horizon
    /// from now on, else the one that it has, if any.
    #[must_use]
    pub fn of(batch: &RecordBatch<'a>, delete_horizon_ms: Option<i64>) -> Remnant<'a> {
        let attributes = batch.attributes();
        Remnant {
            batch: *batch,
            attributes: match delete_horizon_ms {
                Some(_) => attributes.with(Attributes::DELETE_HORIZON, true),
                None => attributes,
            },
            base_timestamp: delete_horizon_ms.unwrap_or(batch.base_timestamp()),
            max_timestamp: NO_TIMESTAMP,
            record_count: 0,
            buffer: BytesMut::zeroed(OVERHEAD),
        }
    }

    /// Keeps a record of the batch.
    ///
    /// # Errors
    /// [`BatchError::Corrupt`] where the records grow past 2 GiB.
    pub fn keep(&mut self, record: &RecordRef<'_>) -> Result<(), BatchError> {
        // Both come from the batch, which checked them to lie in its range.
        let offset_delta = (record.offset - self.batch.base_offset()) as i32;
        let timestamp_delta = record.timestamp.saturating_sub(self.base_timestamp);
        let body = 1
            + len_i64(timestamp_delta)
            + len_i32(offset_delta)
            + nullable_len(record.key)
            + nullable_len(record.value)
            + len_i32(record.header_count)
            + record.headers.len();
        if self.buffer.len() + body + 5 > i32::MAX as usize {
            return Err(TOO_LARGE);
        }
        let out = &mut self.buffer;
        out.reserve(body + 5);
        put_i32(out, body as i32);
        out.extend_from_slice(&[0]);
        put_i64(out, timestamp_delta);
        put_i32(out, offset_delta);
        put_nullable(out, record.key);
        put_nullable(out, record.value);
        put_i32(out, record.header_count);
        out.extend_from_slice(record.headers);
        self.max_timestamp =
            if self.record_count == 0 { record.timestamp } else { self.max_timestamp.max(record.timestamp) };
        self.record_count += 1;
        Ok(())
    }

    /// Records kept so far.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// The batch with the records that were kept.
    ///
    /// # Errors
    /// An unknown codec; [`BatchError::Corrupt`] where compressed records grow past 2 GiB.
    pub fn build(self) -> Result<Bytes, BatchError> {
        let mut bytes = match self.attributes.compression()? {
            Compression::None => self.buffer,
            codec => {
                let payload = codec.compress(&self.buffer[OVERHEAD..]);
                let mut bytes = BytesMut::with_capacity(OVERHEAD + payload.len());
                bytes.resize(OVERHEAD, 0);
                bytes.extend_from_slice(&payload);
                bytes
            }
        };
        let by_broker = self.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let fields = HeaderFields {
            attributes: self.attributes,
            last_offset_delta: self.batch.last_offset_delta(),
            base_timestamp: self.base_timestamp,
            max_timestamp: if by_broker { self.batch.max_timestamp() } else { self.max_timestamp },
            producer: stamp_of(&self.batch),
            record_count: self.record_count,
        };
        write_header(&mut bytes, &fields).map_err(|_| TOO_LARGE)?;
        write_prefix(&mut bytes, self.batch.base_offset(), self.batch.partition_leader_epoch());
        Ok(bytes.freeze())
    }
}

/// `batch` without its records: who wrote it, which sequences and which offsets.
///
/// The timestamp is kept where it is the broker's, which is what a producer that sends the batch again
/// is answered with.
#[must_use]
pub fn empty_batch(batch: &RecordBatch<'_>) -> [u8; OVERHEAD] {
    let attributes = batch.attributes().with_compression(Compression::None);
    let by_broker = attributes.timestamp_type() == TimestampType::LogAppendTime;
    let fields = HeaderFields {
        attributes: attributes.with(Attributes::DELETE_HORIZON, false),
        last_offset_delta: batch.last_offset_delta(),
        base_timestamp: NO_TIMESTAMP,
        max_timestamp: if by_broker { batch.max_timestamp() } else { NO_TIMESTAMP },
        producer: stamp_of(batch),
        record_count: 0,
    };
    header_alone(batch.base_offset(), batch.partition_leader_epoch(), &fields)
}

/// A batch without records and without a producer over `base_offset` and the `last_offset_delta` offsets
/// after it.
#[must_use]
pub fn filler(base_offset: i64, last_offset_delta: i32, leader_epoch: i32) -> [u8; OVERHEAD] {
    let fields = HeaderFields {
        attributes: Attributes::default(),
        last_offset_delta,
        base_timestamp: NO_TIMESTAMP,
        max_timestamp: NO_TIMESTAMP,
        producer: ProducerStamp::NONE,
        record_count: 0,
    };
    header_alone(base_offset, leader_epoch, &fields)
}

fn header_alone(base_offset: i64, leader_epoch: i32, fields: &HeaderFields) -> [u8; OVERHEAD] {
    let mut bytes = [0; OVERHEAD];
    write_header(&mut bytes, fields).expect("61 bytes are not too large");
    write_prefix(&mut bytes, base_offset, leader_epoch);
    bytes
}

fn stamp_of(batch: &RecordBatch<'_>) -> ProducerStamp {
    ProducerStamp {
        id: batch.producer_id(),
        epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
    }
}
