//! Async client for Highwater and Apache Kafka 3.0 and later: producer, consumer, groups, admin.
//!
//! ```no_run
//! use log_client::{Client, Producer, ProducerConfig, ProducerRecord};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect("127.0.0.1:9092").await?;
//! let producer = Producer::new(&client, ProducerConfig::default());
//! let delivery = producer.send(ProducerRecord::to("orders").key("42").value("paid")).await?;
//! println!("at offset {:?}", delivery.await?.offset);
//! # Ok(())
//! # }
//! ```

pub mod admin;
mod backoff;
mod client;
mod connection;
pub mod consumer;
mod error;
#[cfg(test)]
mod fake_broker;
mod metadata;
mod offsets;
mod parts;
pub mod producer;
mod topic_partition;
mod versions;

pub use admin::Admin;
pub use backoff::Backoff;
pub use client::{Client, ClientConfig};
pub use consumer::{Consumer, ConsumerConfig, ConsumerRecord, GroupMember};
pub use error::ClientError;
pub use log_core::record::{Compression, Header};
pub use log_core::wire::{ErrorCode, IsolationLevel};
pub use metadata::{Broker, Metadata, Partition, Topic};
pub use offsets::{CommittedOffset, ListedOffset, OffsetSpec};
pub use producer::{Producer, ProducerConfig, ProducerRecord, TransactionError};
pub use topic_partition::TopicPartition;
