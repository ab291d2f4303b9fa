//! Produce (key 0): the request's records are slices of the frame, the answer is small.
//!
//! ```text
//! request   [transactional id 3+] │ acks i16 │ timeout i32 │ topics
//!   topic      name ..12 / id 13+ │ partitions
//!   partition  index i32 │ records
//! response  topics │ throttle i32 1+
//!   partition  index i32 │ error i16 │ base offset i64 │ log append time i64 2+
//!              │ log start offset i64 5+ │ record errors 8+ │ error message 8+
//! ```
//! Flexible from 9. Versions 0 to 2 are parsed, though Kafka 4 has dropped them from its
//! definitions, so that they can be answered with an error per partition; see [`super::ApiKey`].
//! The leader hints that version 10 added as tagged fields belong to clusters and are not written.

use bytes::Bytes;
use kafka_wire_core::{DecodeError, EncodeError, StrBytes};

use super::api_key::ApiKey;
use super::primitive::{Reader, Writer};
use super::topic_ref::TopicRef;

/// Batches to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceRequest {
    /// The producer's transactional id, 3 and later.
    pub transactional_id: Option<StrBytes>,
    /// Who must have the records before the answer: 0 nobody (and no answer), 1 the leader, -1
    /// every in-sync replica, which here means durable storage. Not validated.
    pub acks: i16,
    /// How long the broker may wait for that, in milliseconds.
    pub timeout_ms: i32,
    /// By topic.
    pub topics: Vec<ProduceTopic>,
}

/// One topic of a [`ProduceRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopic {
    /// Which.
    pub topic: TopicRef,
    /// By partition.
    pub partitions: Vec<ProducePartition>,
}

/// One partition of a [`ProduceRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartition {
    /// The partition's index within its topic.
    pub index: i32,
    /// The record batch, unchecked. A slice of the request's frame, so it keeps all of it alive.
    pub records: Option<Bytes>,
}

impl ProduceRequest {
    /// Decodes a whole body.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes, trailing ones included; memory stays within a small factor
    /// of the body.
    pub fn decode(body: Bytes, version: i16) -> Result<ProduceRequest, DecodeError> {
        let mut reader = Reader::new(body, ApiKey::Produce.is_flexible(version));
        let transactional_id = if version >= 3 { reader.nullable_string()? } else { None };
        let acks = reader.i16()?;
        let timeout_ms = reader.i32()?;
        // The least a topic occupies: the lengths of its name, array and tags; a partition has an
        // index as well.
        let topics = reader.vec(3, |reader| {
            let topic = TopicRef::decode(reader, version)?;
            let partitions = reader.vec(6, |reader| {
                let partition = ProducePartition { index: reader.i32()?, records: reader.nullable_bytes()? };
                reader.skip_tags()?;
                Ok(partition)
            })?;
            reader.skip_tags()?;
            Ok(ProduceTopic { topic, partitions })
        })?;
        reader.skip_tags()?;
        reader.finish()?;
        Ok(ProduceRequest { transactional_id, acks, timeout_ms, topics })
    }

    /// Encodes the body as parts, the records among them as they are.
    ///
    /// # Errors
    /// A topic named in the way that `version` does not use; a name past 32,767 bytes.
    pub fn encode(&self, version: i16) -> Result<Vec<Bytes>, EncodeError> {
        let flexible = ApiKey::Produce.is_flexible(version);
        let partitions: usize = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        let mut writer = Writer::new(flexible, 64 + self.topics.len() * 64 + partitions * 12);
        if version >= 3 {
            writer.nullable_string(self.transactional_id.as_deref())?;
        }
        writer.i16(self.acks);
        writer.i32(self.timeout_ms);
        writer.array(&self.topics, |writer, topic| {
            topic.topic.encode(writer, "ProduceRequest", version)?;
            writer.array(&topic.partitions, |writer, partition| {
                writer.i32(partition.index);
                match &partition.records {
                    Some(records) => writer.payload(std::slice::from_ref(records))?,
                    None => writer.length("records", None)?,
                }
                writer.no_tags();
                Ok(())
            })?;
            writer.no_tags();
            Ok(())
        })?;
        writer.no_tags();
        Ok(writer.finish())
    }
}

/// What became of each partition's batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceResponse {
    /// By topic, named as the request named it.
    pub topics: Vec<ProduceTopicResponse>,
    /// How long the client is asked to hold back, in milliseconds.
    pub throttle_time_ms: i32,
}

/// One topic of a [`ProduceResponse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProduceTopicResponse {
    /// Which.
    pub topic: TopicRef,
    /// By partition.
    pub partitions: Vec<ProducePartitionResponse>,
}

/// One partition of a [`ProduceResponse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducePartitionResponse {
    /// The partition's index within its topic.
    pub index: i32,
    /// 0, or why nothing was appended.
    pub error_code: i16,
    /// The first record's offset; -1 with an error.
    pub base_offset: i64,
    /// The broker's time for the batch in milliseconds, or -1 where the records keep their own.
    pub log_append_time_ms: i64,
    /// The partition's first offset; -1 when unknown.
    pub log_start_offset: i64,
    /// The records at fault, where single ones are (KIP-467).
    pub record_errors: Vec<RecordError>,
    /// A sentence for the producer's log.
    pub error_message: Option<StrBytes>,
}

/// One record that was at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    /// The record's position within the batch, from 0.
    pub batch_index: i32,
    /// What is wrong with it.
    pub message: Option<StrBytes>,
}

impl ProducePartitionResponse {
    /// A refusal: `error_code`, no offsets, no message.
    pub fn error(index: i32, error_code: i16) -> Self {
        Self {
            index,
            error_code,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
        }
    }
}

impl ProduceResponse {
    /// Decodes a whole body.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes, trailing ones included.
    pub fn decode(body: Bytes, version: i16) -> Result<ProduceResponse, DecodeError> {
        let mut reader = Reader::new(body, ApiKey::Produce.is_flexible(version));
        let topics = reader.vec(3, |reader| {
            let topic = TopicRef::decode(reader, version)?;
            let partitions = reader.vec(14, |reader| decode_partition(reader, version))?;
            reader.skip_tags()?;
            Ok(ProduceTopicResponse { topic, partitions })
        })?;
        let throttle_time_ms = if version >= 1 { reader.i32()? } else { 0 };
        reader.skip_tags()?;
        reader.finish()?;
        Ok(ProduceResponse { topics, throttle_time_ms })
    }

    /// Encodes the body. Fields that `version` lacks are left out.
    ///
    /// # Errors
    /// A topic named in the way that `version` does not use; a string past 32,767 bytes.
    pub fn encode(&self, version: i16) -> Result<Vec<Bytes>, EncodeError> {
        let partitions: usize = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        let fields_bytes = 16 + self.topics.len() * 64 + partitions * 48;
        let mut writer = Writer::new(ApiKey::Produce.is_flexible(version), fields_bytes);
        writer.array(&self.topics, |writer, topic| {
            topic.topic.encode(writer, "ProduceResponse", version)?;
            writer
                .array(&topic.partitions, |writer, partition| encode_partition(writer, partition, version))?;
            writer.no_tags();
            Ok(())
        })?;
        if version >= 1 {
            writer.i32(self.throttle_time_ms);
        }
        writer.no_tags();
        Ok(writer.finish())
    }
}

fn decode_partition(reader: &mut Reader, version: i16) -> Result<ProducePartitionResponse, DecodeError> {
    let mut partition = ProducePartitionResponse::error(reader.i32()?, reader.i16()?);
    partition.base_offset = reader.i64()?;
    if version >= 2 {
        partition.log_append_time_ms = reader.i64()?;
    }
    if version >= 5 {
        partition.log_start_offset = reader.i64()?;
    }
    if version >= 8 {
        partition.record_errors = reader.vec(6, |reader| {
            let error = RecordError { batch_index: reader.i32()?, message: reader.nullable_string()? };
            reader.skip_tags()?;
            Ok(error)
        })?;
        partition.error_message = reader.nullable_string()?;
    }
    reader.skip_tags()?;
    Ok(partition)
}

fn encode_partition(
    writer: &mut Writer,
    partition: &ProducePartitionResponse,
    version: i16,
) -> Result<(), EncodeError> {
    writer.i32(partition.index);
    writer.i16(partition.error_code);
    writer.i64(partition.base_offset);
    if version >= 2 {
        writer.i64(partition.log_append_time_ms);
    }
    if version >= 5 {
        writer.i64(partition.log_start_offset);
    }
    if version >= 8 {
        writer.array(&partition.record_errors, |writer, error| {
            writer.i32(error.batch_index);
            writer.nullable_string(error.message.as_deref())?;
            writer.no_tags();
            Ok(())
        })?;
        writer.nullable_string(partition.error_message.as_deref())?;
    }
    writer.no_tags();
    Ok(())
}
