//! The records inside a batch.
//!
//! ```text
//! length           varint   of what follows
//! attributes       i8       unused
//! timestamp delta  varlong  to the batch's base timestamp, ms
//! offset delta     varint   to the batch's base offset
//! key length       varint   -1: null
//! key
//! value length     varint   -1: null
//! value
//! headers          varint   how many, then for each:
//!   key length     varint   0 and up, UTF-8
//!   key
//!   value length   varint   -1: null
//!   value
//! ```
//!
//! Two readers: [`RecordRefs`] borrows and never allocates, [`Records`] gives out [`Bytes`] that
//! outlive the batch. Both demand what the format promises: as many records as the header says,
//! offsets that rise within the batch's range, lengths that add up, nothing after the last.

use std::borrow::Cow;

use bytes::Bytes;

use super::batch::{RecordBatch, TimestampType};
use super::compression::{Compression, DecompressLimits};
use super::error::BatchError;
use super::varint::{take_i32, take_i64};

/// Bytes of the smallest record: a length, five fields of one byte and an empty list of headers.
pub(crate) const RECORD_BYTES_MIN: usize = 7;

/// A header of a record. Keys may repeat, and their order is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The name. UTF-8 by the format, which a broker does not check.
    pub key: Bytes,
    /// The value, `None` for null.
    pub value: Option<Bytes>,
}

impl Header {
    /// A header of this name and value.
    pub fn new(key: impl Into<Bytes>, value: Option<impl Into<Bytes>>) -> Header {
        Header { key: key.into(), value: value.map(Into::into) }
    }

    /// The name as text, with what is not UTF-8 replaced.
    #[must_use]
    pub fn key_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.key)
    }
}

/// One record, sharing the buffer of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Offset in its partition.
    pub offset: i64,
    /// In ms since the epoch, -1 for none; the broker's time if the batch says so.
    pub timestamp: i64,
    /// The key, `None` for null.
    pub key: Option<Bytes>,
    /// The value, `None` for null: a tombstone where the topic is compacted.
    pub value: Option<Bytes>,
    /// Headers in the producer's order, duplicates kept.
    pub headers: Vec<Header>,
}

/// One record where it lies, with offset and timestamp resolved.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'p> {
    /// Offset in its partition.
    pub offset: i64,
    /// In ms since the epoch, -1 for none; the broker's time if the batch says so.
    pub timestamp: i64,
    /// The key, `None` for null.
    pub key: Option<&'p [u8]>,
    /// The value, `None` for null.
    pub value: Option<&'p [u8]>,
    pub(super) header_count: i32,
    /// The headers as they are stored.
    pub(super) headers: &'p [u8],
}

impl<'p> RecordRef<'p> {
    /// How many headers there are.
    #[must_use]
    pub fn header_count(&self) -> usize {
        self.header_count as usize
    }

    /// The headers as (key, value), in the producer's order.
    pub fn headers(&self) -> impl Iterator<Item = (&'p [u8], Option<&'p [u8]>)> + use<'p> {
        let mut rest = self.headers;
        // They were walked when the record was read, so the iterator ends with the count.
        (0..self.header_count).map_while(move |_| take_header(&mut rest).ok())
    }
}

/// Iterator over the records of a decompressed payload. After an error it is at its end.
#[derive(Debug, Clone)]
pub struct RecordRefs<'p> {
    rest: &'p [u8],
    frame: Frame,
}

/// What a batch's header says about its records, and how far a reader has come.
#[derive(Debug, Clone)]
struct Frame {
    base_offset: i64,
    base_timestamp: i64,
    /// The timestamp of all records, where the broker's clock set it.
    log_append_time: Option<i64>,
    last_offset_delta: i32,
    record_count: i32,
    /// Records read.
    index: i32,
    /// Offset delta of the last record read, -1 before the first.
    previous_delta: i32,
}

impl<'p> RecordRefs<'p> {
    pub(crate) fn new(batch: &RecordBatch<'_>, payload: &'p [u8]) -> RecordRefs<'p> {
        RecordRefs { rest: payload, frame: Frame::new(batch) }
    }

    #[cold]
    #[inline(never)]
    fn fail(&mut self, reason: &'static str) -> Option<Result<RecordRef<'p>, BatchError>> {
        let index = self.frame.index;
        self.frame.index = self.frame.record_count;
        self.rest = &[];
        Some(Err(BatchError::Record { index, reason }))
    }
}

impl<'p> Iterator for RecordRefs<'p> {
    type Item = Result<RecordRef<'p>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.frame.index >= self.frame.record_count {
            return if self.rest.is_empty() { None } else { self.fail("bytes after the last record") };
        }
        match take_record(&mut self.rest).and_then(|raw| self.frame.resolve(raw)) {
            Ok(record) => Some(Ok(record)),
            Err(reason) => self.fail(reason),
        }
    }
}

impl Frame {
    fn new(batch: &RecordBatch<'_>) -> Frame {
        Frame {
            base_offset: batch.base_offset(),
            base_timestamp: batch.base_timestamp(),
            log_append_time: match batch.attributes().timestamp_type() {
                TimestampType::CreateTime => None,
                TimestampType::LogAppendTime => Some(batch.max_timestamp()),
            },
            last_offset_delta: batch.last_offset_delta(),
            record_count: batch.record_count(),
            index: 0,
            previous_delta: -1,
        }
    }

    #[inline]
    fn resolve<'p>(&mut self, raw: RawRecord<'p>) -> Result<RecordRef<'p>, &'static str> {
        if raw.offset_delta <= self.previous_delta || raw.offset_delta > self.last_offset_delta {
            return Err("offset is out of order");
        }
        self.previous_delta = raw.offset_delta;
        self.index += 1;
        Ok(RecordRef {
            offset: self.base_offset + i64::from(raw.offset_delta),
            // A nonsensical delta makes a nonsensical time, which is no reason to lose the record.
            timestamp: self
                .log_append_time
                .unwrap_or(self.base_timestamp.saturating_add(raw.timestamp_delta)),
            key: raw.key,
            value: raw.value,
            header_count: raw.header_count,
            headers: raw.headers,
        })
    }
}

/// The fields of a record as they are stored.
struct RawRecord<'p> {
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'p [u8]>,
    value: Option<&'p [u8]>,
    header_count: i32,
    headers: &'p [u8],
}

/// Takes one record from the front of `rest`, with every length checked against the bytes at hand.
#[inline]
fn take_record<'p>(rest: &mut &'p [u8]) -> Result<RawRecord<'p>, &'static str> {
    let length = take_i32(rest).ok_or("length is malformed")?;
    let length = usize::try_from(length).map_err(|_| "length is negative")?;
    let (mut body, after) = rest.split_at_checked(length).ok_or("length goes past the batch")?;
    *rest = after;

    let (_attributes, fields) = body.split_first().ok_or("no attributes")?;
    body = fields;
    let timestamp_delta = take_i64(&mut body).ok_or("timestamp delta is malformed")?;
    let offset_delta = take_i32(&mut body).ok_or("offset delta is malformed")?;
    let key = take_nullable(&mut body).ok_or("key length is malformed")?;
    let value = take_nullable(&mut body).ok_or("value length is malformed")?;
    let header_count = take_i32(&mut body).ok_or("header count is malformed")?;
    let headers = body;
    if header_count < 0 {
        return Err("header count is negative");
    }
    for _ in 0..header_count {
        take_header(&mut body)?;
    }
    if !body.is_empty() {
        return Err("length is more than its fields take");
    }
    Ok(RawRecord { timestamp_delta, offset_delta, key, value, header_count, headers })
}

fn take_header<'p>(rest: &mut &'p [u8]) -> Result<(&'p [u8], Option<&'p [u8]>), &'static str> {
    let key = take_nullable(rest).flatten().ok_or("header key is malformed")?;
    let value = take_nullable(rest).ok_or("header value is malformed")?;
    Ok((key, value))
}

/// Takes a length and as many bytes: `Some(None)` for -1, `None` when it is malformed.
#[inline]
fn take_nullable<'p>(rest: &mut &'p [u8]) -> Option<Option<&'p [u8]>> {
    let length = take_i32(rest)?;
    if length == -1 {
        return Some(None);
    }
    let (bytes, after) = rest.split_at_checked(usize::try_from(length).ok()?)?;
    *rest = after;
    Some(Some(bytes))
}

/// Iterator over records whose keys and values are slices of one shared buffer. After an error it is
/// at its end.
#[derive(Debug, Clone)]
pub struct Records {
    payload: Bytes,
    /// Bytes of the payload that have been read.
    position: usize,
    frame: Frame,
}

impl Records {
    /// The records of the first batch in `bytes`. An uncompressed batch is not copied: keys and values
    /// are slices of `bytes` and keep it alive.
    ///
    /// # Errors
    /// A malformed header, an unknown codec, malformed compression or more output than `limits` allow.
    pub fn of(bytes: &Bytes, limits: DecompressLimits) -> Result<Records, BatchError> {
        let batch = RecordBatch::parse(bytes)?;
        let payload = match batch.attributes().compression()? {
            Compression::None => bytes.slice_ref(batch.records_payload()),
            codec => Bytes::from(codec.decompress(batch.records_payload(), limits)?),
        };
        Ok(Records::new(&batch, payload))
    }

    /// Bytes of the records, decompressed.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload.len()
    }

    pub(crate) fn new(batch: &RecordBatch<'_>, payload: Bytes) -> Records {
        Records { payload, position: 0, frame: Frame::new(batch) }
    }

    fn own(&self, record: &RecordRef<'_>) -> Record {
        let slice = |part: &[u8]| self.payload.slice_ref(part);
        Record {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(slice),
            value: record.value.map(slice),
            headers: record
                .headers()
                .map(|(key, value)| Header { key: slice(key), value: value.map(slice) })
                .collect(),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut refs = RecordRefs { rest: &self.payload[self.position..], frame: self.frame.clone() };
        let item = refs.next()?;
        let (rest, frame) = (refs.rest.len(), refs.frame);
        let item = item.map(|record| self.own(&record));
        self.position = self.payload.len() - rest;
        self.frame = frame;
        Some(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The header's word, bounded by what the bytes can hold: safe to reserve by.
        let left = (self.frame.record_count - self.frame.index).max(0) as usize;
        (0, Some(left.min((self.payload.len() - self.position) / RECORD_BYTES_MIN) + 1))
    }
}
