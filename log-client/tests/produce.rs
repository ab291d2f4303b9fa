//! The producer against the broker that `HIGHWATER_TEST_BOOTSTRAP` names; `tests/test_log_client.py` runs
//! these against Highwater and Apache Kafka.

mod common;

use common::{client, unique_topic};
use log_client::producer::{Acks, ProducerConfig};
use log_client::{Compression, Producer, ProducerRecord};

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn offsets_are_contiguous_within_a_partition() {
    let client = client().await;
    let topic = unique_topic(&client, "offsets", 1).await;
    for (compression, first) in [(Compression::None, 0), (Compression::Zstd, 1000)] {
        let config = ProducerConfig { compression, batch_bytes_max: 2000, ..ProducerConfig::default() };
        let producer = Producer::new(&client, config);
        let mut deliveries = Vec::new();
        for number in 0..1000 {
            let record = ProducerRecord::to(topic.clone()).value(format!("value {number}"));
            deliveries.push(producer.send(record).await.unwrap());
        }
        producer.flush().await.unwrap();
        for (delivery, number) in deliveries.into_iter().zip(0..) {
            assert_eq!(delivery.await.unwrap().offset, Some(first + number));
        }
    }
}

#[tokio::test]
#[ignore = "needs a broker: tests/test_log_client.py"]
async fn every_acks_is_delivered() {
    let client = client().await;
    let topic = unique_topic(&client, "acks", 2).await;
    for acks in [Acks::None, Acks::Leader, Acks::All] {
        let producer = Producer::new(&client, ProducerConfig { acks, ..ProducerConfig::default() });
        for key in 0..100 {
            let record = ProducerRecord::to(topic.clone()).key(format!("key {key}")).value("value");
            let delivery = producer.send(record).await.unwrap();
            if key % 10 == 0 {
                assert_eq!(delivery.await.unwrap().offset.is_some(), acks != Acks::None);
            }
        }
        producer.close().await.unwrap();
    }
}
