//! What is sent, and what is known of it afterwards.

use std::sync::Arc;

use bytes::Bytes;
use log_core::record::Header;

use crate::topic_partition::TopicPartition;

/// A record to be sent.
#[derive(Clone, Debug)]
pub struct ProducerRecord {
    /// The topic it goes to.
    pub topic: Arc<str>,
    /// The partition, or `None` to have it chosen: by the key's hash as Kafka's Java client does, or
    /// without a key one partition for a batch and then another.
    pub partition: Option<i32>,
    /// The key, `None` for null.
    pub key: Option<Bytes>,
    /// The value, `None` for null: a tombstone where the topic is compacted.
    pub value: Option<Bytes>,
    /// Headers in order; names may repeat.
    pub headers: Vec<Header>,
    /// In ms since the epoch; `None` for the time of sending.
    pub timestamp_ms: Option<i64>,
}

impl ProducerRecord {
    /// An empty record to `topic`.
    pub fn to(topic: impl Into<Arc<str>>) -> ProducerRecord {
        ProducerRecord {
            topic: topic.into(),
            partition: None,
            key: None,
            value: None,
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> ProducerRecord {
        self.key = Some(key.into());
        self
    }

    /// With this value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> ProducerRecord {
        self.value = Some(value.into());
        self
    }

    /// To this partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> ProducerRecord {
        self.partition = Some(partition);
        self
    }

    /// With this time, in ms since the epoch.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> ProducerRecord {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> ProducerRecord {
        self.headers.push(Header { key: name.into(), value: Some(value.into()) });
        self
    }
}

/// Where a record has come to lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset; `None` with acks=0, and where the broker only knew that it had the record already.
    pub offset: Option<i64>,
    /// Its time in ms since the epoch: the broker's, if the topic is set to that.
    pub timestamp_ms: i64,
}
