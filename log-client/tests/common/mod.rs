//! What the integration tests share.

#![allow(dead_code, reason = "each test binary uses some of it")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use log_client::admin::NewTopic;
use log_client::{
    Admin, Client, Consumer, ConsumerRecord, Producer, ProducerConfig, ProducerRecord, TopicPartition,
};
use tokio::time::Instant;

/// How long a test waits for what has to happen. Generous: it bounds a hang, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A client of the broker that the environment names.
///
/// # Panics
/// If it names none: a test that has nothing to run against must not pass.
pub async fn client() -> Client {
    let bootstrap =
        std::env::var("HIGHWATER_TEST_BOOTSTRAP").expect("HIGHWATER_TEST_BOOTSTRAP is HOST:PORT of a broker");
    Client::connect(&bootstrap).await.expect("the broker of HIGHWATER_TEST_BOOTSTRAP answers")
}

/// A name that no other test has.
pub fn unique(test: &str) -> Arc<str> {
    format!("{test}-{:016x}", fastrand::u64(..)).into()
}

/// A new topic, named after the test.
pub async fn unique_topic(client: &Client, test: &str, partitions: i32) -> Arc<str> {
    let topic = unique(test);
    let admin = Admin::new(client);
    // The records are stamped with times long past.
    let new = NewTopic::new(&*topic, partitions).config("retention.ms", "-1");
    admin.create_topic(&new, false).await.expect("the topic is created");
    topic
}

/// Produces `count` records, numbered from 0, spread over the partitions by their number.
pub async fn produce_numbers(
    client: &Client,
    topic: &Arc<str>,
    partitions: i32,
    numbers: std::ops::Range<i32>,
) {
    let producer = Producer::new(client, ProducerConfig::default());
    for number in numbers {
        let record = ProducerRecord::to(topic.clone())
            .partition(number % partitions)
            .key(format!("k{number}"))
            .value(number.to_string())
            .timestamp_ms(1_000_000 + i64::from(number) * 1000)
            .header("n", number.to_string());
        drop(producer.send(record).await.unwrap());
    }
    producer.close().await.unwrap();
}

/// Polls until `count` records have come.
pub async fn consume(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records came", records.len());
        records.extend(consumer.poll(Duration::from_secs(1)).await.unwrap());
    }
    records
}

/// The numbers of records by [`produce_numbers`], by partition in the order in which they came.
pub fn numbers(records: &[ConsumerRecord]) -> BTreeMap<TopicPartition, Vec<i32>> {
    let mut numbers: BTreeMap<_, Vec<i32>> = BTreeMap::new();
    for record in records {
        let value = std::str::from_utf8(record.value.as_deref().unwrap()).unwrap();
        numbers.entry(record.topic_partition()).or_default().push(value.parse().unwrap());
    }
    numbers
}
