//! Fetch (key 1), the request: where each partition is to be read from, and how long to wait.
//!
//! ```text
//! request   replica id i32 ..14 │ max wait i32 │ min bytes i32 │ max bytes i32 │ isolation i8
//!           │ session id i32, epoch i32 7+ │ topics │ forgotten topics 7+ │ rack id 11+
//!   topic      name ..12 / id 13+ │ partitions
//!   partition  index i32 │ current leader epoch i32 9+ │ fetch offset i64 │ last fetched epoch i32 12+
//!              │ log start offset i64 5+ │ max bytes i32
//! ```
//! Flexible from 12. What only replicas send (replica state, directory ids, cluster id) is skipped.
//! The answer is in [`super::fetch_response`].

use bytes::Bytes;
use kafka_wire_core::{DecodeError, EncodeError, StrBytes};

use super::api_key::ApiKey;
use super::primitive::{Reader, Writer};
use super::topic_ref::TopicRef;

/// The version from which the replica id is a tagged field that a consumer leaves out.
const REPLICA_STATE_TAGGED: i16 = 15;

/// Which records a fetch may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IsolationLevel {
    /// Up to the high watermark.
    #[default]
    ReadUncommitted,
    /// Up to the last stable offset, with the list of aborted transactions.
    ReadCommitted,
}

impl IsolationLevel {
    /// The byte on the wire.
    pub const fn code(self) -> i8 {
        match self {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        }
    }

    /// From the byte on the wire, here and in ListOffsets; `None` for a value without a meaning.
    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(IsolationLevel::ReadUncommitted),
            1 => Some(IsolationLevel::ReadCommitted),
            _ => None,
        }
    }
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// How long to wait for `min_bytes`, in milliseconds.
    pub max_wait_ms: i32,
    /// How many bytes of records make an answer worth sending.
    pub min_bytes: i32,
    /// The most bytes of records in the whole answer, the first batch excepted (KIP-74).
    pub max_bytes: i32,
    /// The isolation level's byte, see [`IsolationLevel::from_code`].
    pub isolation_level: i8,
    /// The fetch session (KIP-227), 0 for none; 7 and later.
    pub session_id: i32,
    /// The session's epoch: 0 starts one, -1 wants none; 7 and later.
    pub session_epoch: i32,
    /// By topic. In an incremental fetch only what is new or has changed.
    pub topics: Vec<FetchTopic>,
    /// Partitions to drop from the session; 7 and later.
    pub forgotten_topics: Vec<ForgottenTopic>,
    /// Where the consumer is (KIP-392); 11 and later.
    pub rack_id: StrBytes,
}

impl Default for FetchRequest {
    /// No session, no partitions, no limit on the answer.
    fn default() -> Self {
        Self {
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: i32::MAX,
            isolation_level: 0,
            session_id: 0,
            session_epoch: -1,
            topics: Vec::new(),
            forgotten_topics: Vec::new(),
            rack_id: StrBytes::default(),
        }
    }
}

/// One topic of a [`FetchRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// Which.
    pub topic: TopicRef,
    /// By partition.
    pub partitions: Vec<FetchPartition>,
}

/// One partition of a [`FetchRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchPartition {
    /// The partition's index within its topic.
    pub index: i32,
    /// The leader epoch that the consumer knows, -1 for none; 9 and later.
    pub current_leader_epoch: i32,
    /// The offset to read from.
    pub fetch_offset: i64,
    /// The epoch of the last record that was fetched, -1 for none; 12 and later.
    pub last_fetched_epoch: i32,
    /// A follower's log start offset, -1 from a consumer; 5 and later.
    pub log_start_offset: i64,
    /// The most bytes to answer for this partition.
    pub max_bytes: i32,
}

/// Partitions of one topic to drop from a fetch session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgottenTopic {
    /// Which topic.
    pub topic: TopicRef,
    /// Which partitions.
    pub partitions: Vec<i32>,
}

impl FetchRequest {
    /// Decodes a whole body.
    ///
    /// # Errors
    /// Whatever is wrong with the bytes, trailing ones included; memory stays within a small factor
    /// of the body.
    pub fn decode(body: Bytes, version: i16) -> Result<FetchRequest, DecodeError> {
        let mut reader = Reader::new(body, ApiKey::Fetch.is_flexible(version));
        if version < REPLICA_STATE_TAGGED {
            reader.i32()?;
        }
        let mut request = FetchRequest {
            max_wait_ms: reader.i32()?,
            min_bytes: reader.i32()?,
            max_bytes: reader.i32()?,
            isolation_level: reader.i8()?,
            ..FetchRequest::default()
        };
        if version >= 7 {
            request.session_id = reader.i32()?;
            request.session_epoch = reader.i32()?;
        }
        request.topics = reader.vec(3, |reader| {
            let topic = TopicRef::decode(reader, version)?;
            let partitions = reader.vec(16, |reader| FetchPartition::decode(reader, version))?;
            reader.skip_tags()?;
            Ok(FetchTopic { topic, partitions })
        })?;
        if version >= 7 {
            request.forgotten_topics = reader.vec(3, |reader| {
                let topic = TopicRef::decode(reader, version)?;
                let partitions = reader.vec(4, Reader::i32)?;
                reader.skip_tags()?;
                Ok(ForgottenTopic { topic, partitions })
            })?;
        }
        if version >= 11 {
            request.rack_id = reader.string()?;
        }
        reader.skip_tags()?;
        reader.finish()?;
        Ok(request)
    }

    /// Encodes a consumer's request. Fields that `version` lacks are left out.
    ///
    /// # Errors
    /// A topic named in the way that `version` does not use; a string past 32,767 bytes.
    pub fn encode(&self, version: i16) -> Result<Bytes, EncodeError> {
        let partitions: usize = self.topics.iter().map(|topic| topic.partitions.len()).sum();
        let fields_bytes = 64 + self.topics.len() * 64 + partitions * 40;
        let mut writer = Writer::new(ApiKey::Fetch.is_flexible(version), fields_bytes);
        if version < REPLICA_STATE_TAGGED {
            writer.i32(-1);
        }
        writer.i32(self.max_wait_ms);
        writer.i32(self.min_bytes);
        writer.i32(self.max_bytes);
        writer.i8(self.isolation_level);
        if version >= 7 {
            writer.i32(self.session_id);
            writer.i32(self.session_epoch);
        }
        writer.array(&self.topics, |writer, topic| {
            topic.topic.encode(writer, "FetchRequest", version)?;
            writer.array(&topic.partitions, |writer, partition| {
                partition.encode(writer, version);
                Ok(())
            })?;
            writer.no_tags();
            Ok(())
        })?;
        if version >= 7 {
            writer.array(&self.forgotten_topics, |writer, topic| {
                topic.topic.encode(writer, "FetchRequest", version)?;
                writer.array(&topic.partitions, |writer, &index| {
                    writer.i32(index);
                    Ok(())
                })?;
                writer.no_tags();
                Ok(())
            })?;
        }
        if version >= 11 {
            writer.string(&self.rack_id)?;
        }
        writer.no_tags();
        Ok(writer.finish_single())
    }
}

impl FetchPartition {
    fn decode(reader: &mut Reader, version: i16) -> Result<FetchPartition, DecodeError> {
        let index = reader.i32()?;
        let current_leader_epoch = if version >= 9 { reader.i32()? } else { -1 };
        let fetch_offset = reader.i64()?;
        let last_fetched_epoch = if version >= 12 { reader.i32()? } else { -1 };
        let log_start_offset = if version >= 5 { reader.i64()? } else { -1 };
        let max_bytes = reader.i32()?;
        reader.skip_tags()?;
        Ok(FetchPartition {
            index,
            current_leader_epoch,
            fetch_offset,
            last_fetched_epoch,
            log_start_offset,
            max_bytes,
        })
    }

    fn encode(&self, writer: &mut Writer, version: i16) {
        writer.i32(self.index);
        if version >= 9 {
            writer.i32(self.current_leader_epoch);
        }
        writer.i64(self.fetch_offset);
        if version >= 12 {
            writer.i32(self.last_fetched_epoch);
        }
        if version >= 5 {
            writer.i64(self.log_start_offset);
        }
        writer.i32(self.max_bytes);
        writer.no_tags();
    }
}
