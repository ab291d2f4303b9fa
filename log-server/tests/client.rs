//! This project's own client against this project's own broker, in one process: what only the two
//! together can show.

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use log_client::admin::NewTopic;
use log_client::consumer::{Assignor, GroupConfig, OffsetReset, StartAt};
use log_client::{
    Admin, Client, Compression, Consumer, ConsumerConfig, ConsumerRecord, OffsetSpec, Producer,
    ProducerConfig, ProducerRecord, TopicPartition,
};
use log_server::{Broker, BrokerConfig};
use support::{PATIENCE, start};

async fn client(broker: &Broker) -> Client {
    Client::connect(&broker.kafka_addr().to_string()).await.expect("the broker answers")
}

/// Reads until `count` records have come.
async fn consume(consumer: &mut Consumer, count: usize) -> Vec<ConsumerRecord> {
    let deadline = Instant::now() + PATIENCE;
    let mut records = Vec::new();
    while records.len() < count {
        assert!(Instant::now() < deadline, "{} of {count} records came", records.len());
        records.extend(consumer.poll(Duration::from_secs(1)).await.expect("no lasting error"));
    }
    records
}

fn number(record: &ConsumerRecord) -> u32 {
    let value = record.value.as_deref().expect("a value");
    std::str::from_utf8(value).expect("text").parse().expect("a number")
}

fn all(topic: &str, partitions: i32) -> Vec<(TopicPartition, StartAt)> {
    let first = StartAt::Log(OffsetSpec::Earliest);
    (0..partitions).map(|number| (TopicPartition::new(topic, number), first)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_a_key_keep_their_order() {
    let rig = start().await;
    let client = client(&rig.broker).await;
    for compression in Compression::ALL {
        let topic = format!("keyed-{compression}");
        Admin::new(&client).create_topic(&NewTopic::new(&topic, 4), false).await.unwrap();
        let config = ProducerConfig { compression, batch_bytes_max: 4096, ..ProducerConfig::default() };
        let producer = Producer::new(&client, config);
        for n in 0..5000u32 {
            let record =
                ProducerRecord::to(topic.as_str()).key(format!("key {}", n % 7)).value(n.to_string());
            drop(producer.send(record).await.unwrap());
        }
        producer.close().await.unwrap();
        let mut consumer = Consumer::new(&client, ConsumerConfig::default());
        consumer.assign(all(&topic, 4));
        let mut by_key: BTreeMap<_, Vec<u32>> = BTreeMap::new();
        for record in consume(&mut consumer, 5000).await {
            by_key.entry(record.key.clone()).or_default().push(number(&record));
        }
        assert_eq!(by_key.len(), 7);
        for (index, (_, numbers)) in by_key.iter().enumerate() {
            let expected: Vec<u32> = (0..5000).filter(|n| n % 7 == index as u32).collect();
            assert_eq!(*numbers, expected, "{compression}");
        }
    }
}

/// The broker goes away and comes back on the same port while records are being sent: the client finds it
/// again, and sequence numbers keep the batches that were sent twice from being there twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_loses_and_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::for_test(dir.path());
    let mut broker = Broker::start(config.clone()).await.unwrap();
    config.listen = broker.kafka_addr().to_string();
    let client = client(&broker).await;
    Admin::new(&client).create_topic(&NewTopic::new("t", 2), false).await.unwrap();
    let producer =
        Producer::new(&client, ProducerConfig { batch_bytes_max: 1000, ..ProducerConfig::default() });
    let sending = {
        let producer = producer.clone();
        tokio::spawn(async move {
            let mut deliveries = Vec::new();
            for n in 0..3000u32 {
                let record = ProducerRecord::to("t").partition((n % 2) as i32).value(n.to_string());
                deliveries.push(producer.send(record).await.expect("there is room"));
                if n % 10 == 0 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            deliveries
        })
    };
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(80)).await;
        broker.shutdown().await;
        broker = Broker::start(config.clone()).await.unwrap();
    }
    let deliveries = sending.await.unwrap();
    producer.flush().await.unwrap();
    for (delivery, n) in deliveries.into_iter().zip(0i64..) {
        assert_eq!(delivery.await.unwrap().offset, Some(n / 2));
    }
    let mut consumer = Consumer::new(&client, ConsumerConfig::default());
    consumer.assign(all("t", 2));
    let records = consume(&mut consumer, 3000).await;
    for record in &records {
        assert_eq!(i64::from(number(record)), record.offset * 2 + i64::from(record.partition));
    }
    assert_eq!(records.len(), 3000);
    assert!(consumer.poll(Duration::from_millis(100)).await.unwrap().is_empty());
    broker.shutdown().await;
}

/// A member that works through a restart of the coordinator keeps its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = BrokerConfig::for_test(dir.path());
    let broker = Broker::start(config.clone()).await.unwrap();
    config.listen = broker.kafka_addr().to_string();
    let client = client(&broker).await;
    Admin::new(&client).create_topic(&NewTopic::new("t", 2), false).await.unwrap();
    let producer = Producer::new(&client, ProducerConfig::default());
    let send = async |numbers: std::ops::Range<u32>| {
        for n in numbers {
            let record = ProducerRecord::to("t").partition((n % 2) as i32).value(n.to_string());
            drop(producer.send(record).await.unwrap());
        }
        producer.flush().await.unwrap();
    };
    send(0..100).await;
    let group = GroupConfig {
        assignors: vec![Assignor::CooperativeSticky],
        heartbeat_interval: Duration::from_millis(50),
        ..GroupConfig::new("workers")
    };
    let config_of_member = ConsumerConfig {
        group: Some(group),
        offset_reset: OffsetReset::Earliest,
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(&client, config_of_member);
    consumer.subscribe(["t"]).unwrap();
    let mut seen: Vec<u32> = consume(&mut consumer, 100).await.iter().map(number).collect();
    consumer.commit().await.unwrap();

    broker.shutdown().await;
    let broker = Broker::start(config).await.unwrap();
    send(100..200).await;
    seen.extend(consume(&mut consumer, 100).await.iter().map(number));
    seen.sort_unstable();
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
    consumer.commit().await.unwrap();
    let offsets = Admin::new(&client).group_offsets("workers").await.unwrap();
    assert_eq!(offsets.iter().map(|(_, committed)| committed.offset).collect::<Vec<_>>(), [100, 100]);
    consumer.close().await.unwrap();
    broker.shutdown().await;
}
