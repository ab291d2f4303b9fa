//! What is consumed.

use std::sync::Arc;

use bytes::Bytes;
use log_core::record::Header;

use crate::topic_partition::TopicPartition;

/// A record and where it lies. Key, value and headers share the memory of the answer that brought
/// them: copy what is kept for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerRecord {
    /// Its topic.
    pub topic: Arc<str>,
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// In ms since the epoch, -1 for none.
    pub timestamp_ms: i64,
    /// The key, `None` for null.
    pub key: Option<Bytes>,
    /// The value, `None` for null.
    pub value: Option<Bytes>,
    /// Headers in the producer's order; names may repeat.
    pub headers: Vec<Header>,
}

impl ConsumerRecord {
    /// The partition it is from.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition { topic: self.topic.clone(), partition: self.partition }
    }
}
