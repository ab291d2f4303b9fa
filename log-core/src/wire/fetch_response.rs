//! Fetch (key 1), the answer: parts that hold the log's own bytes.
//!
//! ```text
//! response  throttle i32 │ error i16, session id i32 7+ │ topics
//!   topic      name ..12 / id 13+ │ partitions
//!   partition  index i32 │ error i16 │ high watermark i64 │ last stable offset i64
//!              │ log start offset i64 5+ │ aborted transactions │ preferred read replica i32 11+
//!              │ records
//! ```
//! Flexible from 12. The broker's answer is a list of parts whose concatenation is the body: the
//! fields of everything up to a partition's records, then those records as the slices that the log
//! gave, and so on. What only replicas read (diverging epochs, snapshots) and the leader hints of
//! clusters are tagged fields and are not written; the client skips them.

use bytes::Bytes;
use kafka_wire_core::{DecodeError, EncodeError};

use super::api_key::ApiKey;
use super::primitive::{Reader, Writer};
use super::topic_ref::TopicRef;

/// Records, by topic and partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FetchResponse {
    /// How long the client is asked to hold back, in milliseconds.
    pub throttle_time_ms: i32,
    /// 0, or what is wrong with the whole request, such as its session; 7 and later.
    pub error_code: i16,
    /// The fetch session, 0 for none; 7 and later.
    pub session_id: i32,
    /// By topic, named as the request named it.
    pub topics: Vec<FetchTopicResponse>,
}

/// One topic of a [`FetchResponse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopicResponse {
    /// Which.
    pub topic: TopicRef,
    /// By partition.
    pub partitions: Vec<FetchPartitionResponse>,
}

/// One partition of a [`FetchResponse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartitionResponse {
    /// The partition's index within its topic.
    pub index: i32,
    /// 0, or why there are no records.
    pub error_code: i16,
    /// The first offset that a consumer may not see yet; -1 with an error.
    pub high_watermark: i64,
    /// The first offset of the oldest open transaction, or the high watermark.
    pub last_stable_offset: i64,
    /// The partition's first offset; 5 and later.
    pub log_start_offset: i64,
    /// Which transactions in these records were aborted, ordered by first offset. Null on the wire
    /// for read_uncommitted, which clients accept in every version.
    pub aborted_transactions: Option<Vec<AbortedTransaction>>,
    /// The replica that the consumer should read from, -1 for this one; 11 and later.
    pub preferred_read_replica: i32,
    /// Record batches in pieces, each a slice of a segment. Decoding gives one piece, or none for
    /// empty or null records; encoding gives empty records for none, since some clients do not
    /// expect null.
    pub records: Vec<Bytes>,
}

/// An aborted transaction that overlaps the fetched records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: i64,
    /// The transaction's first offset.
    pub first_offset: i64,
}

impl FetchPartitionResponse {
    /// A refusal: `error_code`, unknown offsets, no records.
    pub fn error(index: i32, error_code: i16) -> Self {
        Self {
            index,
            error_code,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            aborted_transactions: None,
            preferred_read_replica: -1,
            records: Vec::new(),
        }
    }

    /// Bytes of records.
    pub fn records_bytes(&self) -> usize {
        self.records.iter().map(Bytes::len).sum()
    }
}

impl FetchResponse {
    /// A refusal of the whole request; before version 7 it cannot be told from an empty answer.
    pub fn error(error_code: i16) -> Self {
        Self { error_code, ..Self::default() }
    }

    /// Encodes the body as parts, the records among them as they are. The body's length is the sum
    /// of theirs. Fields that `version` lacks are left out.
    ///
    /// # Errors
    /// A topic named in the way that `version` does not use; records past 2 GiB in one partition.
    pub fn encode(&self, version: i16) -> Result<Vec<Bytes>, EncodeError> {
        let partitions: usize = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        let fields_bytes = 32 + self.topics.len() * 64 + partitions * 56;
        let mut writer = Writer::new(ApiKey::Fetch.is_flexible(version), fields_bytes);
        writer.i32(self.throttle_time_ms);
        if version >= 7 {
            writer.i16(self.error_code);
            writer.i32(self.session_id);
        }
        writer.array(&self.topics, |writer, topic| {
            topic.topic.encode(writer, "FetchResponse", version)?;
            writer.array(&topic.partitions, |writer, partition| partition.encode(writer, version))?;
            writer.no_tags();
            Ok(())
        })?;
        writer.no_tags();
        Ok(writer.finish())
    }

    /// Decodes a whole body; the records are slices of it.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes, trailing ones included.
    pub fn decode(body: Bytes, version: i16) -> Result<FetchResponse, DecodeError> {
        let mut reader = Reader::new(body, ApiKey::Fetch.is_flexible(version));
        let throttle_time_ms = reader.i32()?;
        let error_code = if version >= 7 { reader.i16()? } else { 0 };
        let session_id = if version >= 7 { reader.i32()? } else { 0 };
        let topics = reader.vec(3, |reader| {
            let topic = TopicRef::decode(reader, version)?;
            // Index, error, two offsets, the lengths of an array and of the records.
            let partitions = reader.vec(24, |reader| FetchPartitionResponse::decode(reader, version))?;
            reader.skip_tags()?;
            Ok(FetchTopicResponse { topic, partitions })
        })?;
        reader.skip_tags()?;
        reader.finish()?;
        Ok(FetchResponse { throttle_time_ms, error_code, session_id, topics })
    }
}

impl FetchPartitionResponse {
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        let mut partition = Self::error(reader.i32()?, reader.i16()?);
        partition.high_watermark = reader.i64()?;
        partition.last_stable_offset = reader.i64()?;
        if version >= 5 {
            partition.log_start_offset = reader.i64()?;
        }
        partition.aborted_transactions = reader.nullable_vec(16, |reader| {
            let aborted = AbortedTransaction { producer_id: reader.i64()?, first_offset: reader.i64()? };
            reader.skip_tags()?;
            Ok(aborted)
        })?;
        if version >= 11 {
            partition.preferred_read_replica = reader.i32()?;
        }
        partition.records.extend(reader.nullable_bytes()?.filter(|records| !records.is_empty()));
        reader.skip_tags()?;
        Ok(partition)
    }

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError> {
        writer.i32(self.index);
        writer.i16(self.error_code);
        writer.i64(self.high_watermark);
        writer.i64(self.last_stable_offset);
        if version >= 5 {
            writer.i64(self.log_start_offset);
        }
        match &self.aborted_transactions {
            None => writer.length("array", None)?,
            Some(aborted) => writer.array(aborted, |writer, aborted| {
                writer.i64(aborted.producer_id);
                writer.i64(aborted.first_offset);
                writer.no_tags();
                Ok(())
            })?,
        }
        if version >= 11 {
            writer.i32(self.preferred_read_replica);
        }
        writer.payload(&self.records)?;
        writer.no_tags();
        Ok(())
    }
}
